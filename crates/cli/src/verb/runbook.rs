//! `paramedic runbook lint|show`: what runbook files say, and what is dangerous in them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use paramedic_runbook::classify::Effect;
use paramedic_runbook::lint::Weight;
use paramedic_runbook::{Document, Finding, Runbook, lint, parse};
use serde_json::json;

use crate::args::{Common, RunbookVerb};
use crate::exit::{Exit, message};
use crate::show;

/// The largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

pub(super) fn runbook(common: &Common, verb: &RunbookVerb) -> Result<Exit> {
    match verb {
        RunbookVerb::Lint { files } => lint_files(common, files),
        RunbookVerb::Show { files } => show_files(common, files),
    }
}

fn read(file: &Path) -> Result<Document> {
    let named = || format!("failed to read {}", file.display());
    let size = std::fs::metadata(file).with_context(named)?.len();
    anyhow::ensure!(size <= FILE_BYTES_MAX, "failed to read {}: it has {size} bytes, more than {FILE_BYTES_MAX}", file.display());
    let bytes = std::fs::read(file).with_context(named)?;
    Ok(parse(&String::from_utf8_lossy(&bytes), &file.display().to_string()))
}

fn lint_files(common: &Common, files: &[PathBuf]) -> Result<Exit> {
    let mut all = Vec::new();
    for file in files {
        let document = read(file)?;
        let findings = lint(&document);
        all.push((document, findings));
    }
    let errors = all.iter().flat_map(|(_, findings)| findings).filter(|finding| finding.weight == Weight::Error).count();
    if common.json {
        let told: Vec<_> = all.iter().map(|(document, findings)| json!({"file": document.file, "findings": findings})).collect();
        show::json(&json!({ "files": told, "errors": errors }))?;
    } else {
        for (document, findings) in &all {
            findings.iter().try_for_each(|finding| tell(document, finding))?;
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

fn tell(document: &Document, finding: &Finding) -> Result<()> {
    let weight = match finding.weight {
        Weight::Error => "error",
        Weight::Warning => "warning",
        Weight::Note => "note",
    };
    show::line(&format!("{}:{}: {weight}: {} [{}]", document.file, finding.line, finding.why, finding.rule))?;
    for text in finding.text.lines() {
        show::line(&format!("    {text}"))?;
    }
    if !finding.instead.is_empty() {
        show::line(&format!("    instead: {}", finding.instead))?;
    }
    Ok(())
}

fn show_files(common: &Common, files: &[PathBuf]) -> Result<Exit> {
    let documents = files.iter().map(|file| read(file)).collect::<Result<Vec<_>>>()?;
    if common.json {
        show::json(&json!({ "documents": documents }))?;
        return Ok(Exit::Done);
    }
    for document in &documents {
        for problem in &document.problems {
            message(&format!("{}:{}: {}", document.file, problem.line, problem.what));
        }
        document.runbooks.iter().try_for_each(outline)?;
    }
    Ok(Exit::Done)
}

fn outline(runbook: &Runbook) -> Result<()> {
    show::line(&format!("{}  ({})", runbook.title, runbook.id))?;
    if !runbook.alerts.is_empty() {
        show::line(&format!("  answers {}", runbook.alerts.join(", ")))?;
    }
    for cause in &runbook.causes {
        let patterns = if cause.patterns.is_empty() { String::new() } else { format!(": {}", cause.patterns.join(" | ")) };
        show::line(&format!("  cause {}{patterns}", cause.title))?;
    }
    show::table(
        &["line", "effect", "step", "command"],
        runbook.steps.iter().flat_map(|step| {
            step.commands.iter().map(move |command| {
                let verdict = &command.verdict;
                let mut effect = match verdict.effect {
                    Effect::Read => "reads".to_owned(),
                    Effect::Write => "WRITES".to_owned(),
                    Effect::Destroy => "DESTROYS".to_owned(),
                };
                if verdict.never_ends.is_some() {
                    effect.push_str(", never ends");
                }
                if verdict.interactive.is_some() {
                    effect.push_str(", waits for a person");
                }
                vec![command.line.to_string(), effect, step.title.clone(), command.text.replace('\n', " ")]
            })
        }),
    )?;
    show::line("")
}
