//! `paramedic runbook lint`: what is dangerous or wrong, with what is known of actions, alerts and metrics; and alerts that no
//! runbook answers to.

use std::path::{Path, PathBuf};

use anyhow::Result;
use paramedic_runbook::lint::{Known, Weight, lint_alerts, lint_with};
use paramedic_runbook::{Document, Finding, Runbook};
use serde_json::json;

use super::{source, world};
use crate::args::Common;
use crate::exit::{Exit, message};
use crate::show;

pub(super) async fn lint_files(common: &Common, files: &[PathBuf], alerts: Option<&[PathBuf]>, offline: bool) -> Result<Exit> {
    let world = world::known(common, offline).await?;
    let mut all = Vec::new();
    for file in files {
        let document = super::read(file)?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let findings = lint_with(&document, &Known { base: Some(folder.to_owned()), ..world.clone() });
        all.push((document, findings));
    }
    let unanswered = alerts.map_or_else(|| Ok(Vec::new()), |rules| without_runbook(common, rules, &all))?;
    let findings = all.iter().flat_map(|(_, findings)| findings).chain(unanswered.iter().flat_map(|(_, findings)| findings));
    let errors = findings.filter(|finding| finding.weight == Weight::Error).count();
    if common.json {
        let told: Vec<_> = all.iter().map(|(document, findings)| json!({"file": document.file, "findings": findings})).collect();
        let rules: Vec<_> = unanswered.iter().map(|(file, findings)| json!({"file": file, "findings": findings})).collect();
        show::json(&json!({ "files": told, "rules": rules, "errors": errors }))?;
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
        for (file, findings) in &unanswered {
            findings.iter().try_for_each(|finding| tell(file, finding))?;
        }
        let findings: usize = all.iter().map(|(_, findings)| findings.len()).sum();
        let runbooks: usize = all.iter().map(|(document, _)| document.runbooks.len()).sum();
        if !files.is_empty() {
            message(&format!("{runbooks} runbooks in {} files: {findings} findings", files.len()));
        }
        if alerts.is_some() {
            let without: usize = unanswered.iter().map(|(_, findings)| findings.len()).sum();
            message(&format!("{without} alerts of {} rule files have no runbook", unanswered.len()));
        }
        message(&format!("{errors} errors"));
    }
    Ok(if errors > 0 { Exit::FoundProblems } else { Exit::Done })
}

/// Alerts that neither these files, nor the folders of the settings, nor the library answer to, by rule file.
fn without_runbook(common: &Common, rules: &[PathBuf], linted: &[(Document, Vec<Finding>)]) -> Result<Vec<(String, Vec<Finding>)>> {
    let shelf = source::shelf(common)?;
    let own = linted.iter().flat_map(|(document, _)| &document.runbooks);
    let runbooks: Vec<&Runbook> = own.chain(shelf.all().map(|shelved| shelved.runbook.as_ref())).collect();
    let mut all = Vec::new();
    for file in if rules.is_empty() { world::rules_of_settings(common)? } else { world::rule_files(rules)? } {
        let lines: Vec<_> = world::alerts_of(&file).collect();
        let named: Vec<_> = lines.iter().map(|(alert, runbook, _)| (alert.clone(), runbook.clone())).collect();
        let mut findings = lint_alerts(&named, &runbooks);
        for finding in &mut findings {
            finding.line = lines.iter().find(|(alert, ..)| *alert == finding.text).map_or(0, |(.., line)| *line);
        }
        all.push((file.name, findings));
    }
    Ok(all)
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
