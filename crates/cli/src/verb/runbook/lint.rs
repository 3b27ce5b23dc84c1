//! `paramedic runbook lint`: what is dangerous or wrong, with what a running instance knows of actions, alerts and metrics.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Result;
use paramedic_api::operations::rules::RuleList;
use paramedic_runbook::Finding;
use paramedic_runbook::lint::{Known, KnownAction, Weight, lint_with};
use serde::Deserialize;
use serde_json::json;

use crate::args::Common;
use crate::exit::{Exit, message};
use crate::face::Face;
use crate::show;

pub(super) async fn lint_files(common: &Common, files: &[PathBuf], offline: bool) -> Result<Exit> {
    let world = match super::source::instance(common).await? {
        Some(face) if !offline => known(&face).await,
        _ => Known::default(),
    };
    let mut all = Vec::new();
    for file in files {
        let document = super::read(file)?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let findings = lint_with(&document, &Known { base: Some(folder.to_owned()), ..world.clone() });
        all.push((document, findings));
    }
    let errors = all.iter().flat_map(|(_, findings)| findings).filter(|finding| finding.weight == Weight::Error).count();
    if common.json {
        let told: Vec<_> = all.iter().map(|(document, findings)| json!({"file": document.file, "findings": findings})).collect();
        show::json(&json!({ "files": told, "errors": errors }))?;
    } else {
        for (document, findings) in &all {
            findings.iter().try_for_each(|finding| tell(&document.file, finding))?;
            if document.runbooks.is_empty() {
                message(&format!(
                    "{}: no runbook in it: no heading with symptoms, investigation or resolution, and no command",
                    document.file
                ));
            }
        }
        let findings: usize = all.iter().map(|(_, findings)| findings.len()).sum();
        let runbooks: usize = all.iter().map(|(document, _)| document.runbooks.len()).sum();
        message(&format!("{runbooks} runbooks in {} files: {findings} findings, {errors} of them errors", files.len()));
    }
    Ok(if errors > 0 { Exit::FoundProblems } else { Exit::Done })
}

pub(super) fn tell(file: &str, finding: &Finding) -> Result<()> {
    let weight = match finding.weight {
        Weight::Error => "error",
        Weight::Warning => "warning",
        Weight::Note => "note",
    };
    show::line(&format!("{}:{}: {weight}: {} [{}]", file, finding.line, finding.why, finding.rule))?;
    for text in finding.text.lines() {
        show::line(&format!("    {text}"))?;
    }
    if !finding.instead.is_empty() {
        show::line(&format!("    instead: {}", finding.instead))?;
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
struct Actions {
    actions: Vec<Spec>,
}

#[derive(Debug, Deserialize)]
struct Spec {
    name: String,
    arguments: Vec<Argument>,
}

#[derive(Debug, Deserialize)]
struct Argument {
    name: String,
    required: bool,
}

/// What the instance knows. What it does not answer is not judged.
async fn known(face: &Face) -> Known {
    let mut known = Known::default();
    if let Ok((all, _)) = face.get::<Actions>("action.list", &json!({})).await {
        known.actions = all.actions.iter().map(action).collect();
    }
    let mut alerts = BTreeSet::new();
    if let Ok((rules, _)) = face.get::<RuleList>("rule.list", &json!({})).await {
        let rules = rules.groups.iter().flat_map(|group| &group.rules);
        alerts.extend(rules.filter(|rule| rule.kind == paramedic_api::rules::RuleKind::Alerting).map(|rule| rule.name.clone()));
    }
    if let Ok((catalogue, _)) = face.get::<paramedic_api::operations::alerts::Catalogue>("detector.list", &json!({})).await {
        alerts.extend(catalogue.detectors.into_iter().map(|detector| detector.name));
    }
    known.alerts = alerts;
    if let Ok(answer) = face.prometheus("/api/v1/label/__name__/values", &[]).await {
        let names = answer["data"].as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned));
        known.metrics = names.collect();
    }
    known
}

fn action(spec: &Spec) -> KnownAction {
    let names = |required: bool| -> Vec<&str> {
        spec.arguments.iter().filter(|argument| argument.required == required).map(|argument| argument.name.as_str()).collect()
    };
    KnownAction::new(&spec.name, &names(true), &names(false))
}
