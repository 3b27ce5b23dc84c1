//! What there is outside of a runbook: actions, alerts, metrics. The program itself knows its actions, its detectors and the
//! rules of the settings; a running instance knows its rules and which samples there are.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use paramedic_action::{Spec, catalogue};
use paramedic_api::operations::rules::RuleList;
use paramedic_api::rules::RuleKind as Kind;
use paramedic_rules::{RuleFile, RuleKind, check, expand_paths, pack};
use paramedic_runbook::lint::{Known, KnownAction};
use serde_json::json;

use super::source;
use crate::args::Common;
use crate::exit::message;
use crate::face;

/// What is known without samples: of those nobody but an instance can say which there are.
pub(super) async fn known(common: &Common, offline: bool) -> Result<Known> {
    let mut known = Known { actions: catalogue::all().into_iter().map(action).collect(), ..Known::default() };
    known.alerts.extend(paramedic_detect::CATALOGUE.iter().map(|detector| detector.name.to_owned()));
    for file in rules_of_settings(common)? {
        known.alerts.extend(alerts_of(&file).map(|(alert, ..)| alert));
    }
    let Some(face) = (if offline { None } else { source::instance(common).await? }) else { return Ok(known) };
    if let Ok((rules, _)) = face.get::<RuleList>("rule.list", &json!({})).await {
        let rules = rules.groups.into_iter().flat_map(|group| group.rules);
        known.alerts.extend(rules.filter(|rule| rule.kind == Kind::Alerting).map(|rule| rule.name));
    }
    if let Ok(answer) = face.prometheus("/api/v1/label/__name__/values", &[]).await {
        let names = answer["data"].as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned));
        known.metrics = names.collect();
    }
    Ok(known)
}

fn action(spec: &Spec) -> KnownAction {
    let names = |required: bool| -> Vec<&str> {
        spec.arguments.iter().filter(|argument| argument.required == required).map(|argument| argument.name).collect()
    };
    KnownAction::new(spec.name, &names(true), &names(false))
}

/// The embedded rules, and the rule files that the settings name, as an instance would load them.
pub(super) fn rules_of_settings(common: &Common) -> Result<Vec<RuleFile>> {
    let settings = face::settings(common)?.rules;
    let mut files = Vec::new();
    for (name, text) in if settings.pack { pack::texts(&settings) } else { Vec::new() } {
        let mut file = check(&text, &name).file.with_context(|| format!("failed to read {name}"))?;
        for group in &mut file.groups {
            group.rules.retain(|rule| !settings.pack_disabled.contains(&rule.name));
        }
        files.push(file);
    }
    for pattern in &settings.files {
        match expand_paths(pattern).map_err(|why| anyhow::anyhow!(why)).and_then(|paths| rule_files(&paths)) {
            Ok(read) => files.extend(read),
            Err(error) => message(&format!("{error:#}")),
        }
    }
    Ok(files)
}

/// Rule files that can be read; one that cannot is an error.
pub(super) fn rule_files(paths: &[PathBuf]) -> Result<Vec<RuleFile>> {
    let read = |path: &PathBuf| {
        let name = path.display().to_string();
        let checked = check(&crate::verb::rules::read(path)?, &name);
        let why = checked.errors().next().map(|problem| format!("line {}: {}", problem.line, problem.message)).unwrap_or_default();
        checked.file.with_context(|| format!("failed to read the rules of {name}: {why}"))
    };
    paths.iter().map(read).collect()
}

/// Alerts of a rule file with the runbooks that they name, and their lines.
pub(super) fn alerts_of(file: &RuleFile) -> impl Iterator<Item = (String, Option<String>, usize)> {
    let rules = file.groups.iter().flat_map(|group| &group.rules).filter(|rule| rule.kind == RuleKind::Alerting);
    rules.map(|rule| {
        let named = rule.annotations.get("runbook").or_else(|| rule.annotations.get("runbook_url"));
        (rule.name.clone(), named.cloned(), rule.line)
    })
}
