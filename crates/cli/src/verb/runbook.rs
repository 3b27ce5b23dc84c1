//! `paramedic runbook list|show|lint|import|plan|run|test`.
//!
//! What only reads files works without an instance; runs need one.

mod lint;

mod source;

mod world;

use std::path::Path;

use anyhow::{Context as _, Result};
use paramedic_api::operations::runbooks::{Rehearsal, RunbookList, RunbookPlan};
use paramedic_runbook::classify::Effect;
use paramedic_runbook::import::{difference, import};
use paramedic_runbook::{Document, Runbook, Shelf};
use serde::Deserialize;
use serde_json::{Value, json};

use super::pairs;
use super::runs::{RunShown, follow, tell_started};
use crate::args::{Common, RunbookVerb};
use crate::exit::{Exit, Failure, message};
use crate::face::Face;
use crate::show;

pub(super) async fn runbook(common: &Common, verb: &RunbookVerb) -> Result<Exit> {
    match verb {
        RunbookVerb::List { text } => list(common, text.as_deref()).await,
        RunbookVerb::Show { which } => show_all(common, which).await,
        RunbookVerb::Lint { files, alerts, offline } => lint::lint_files(common, files, alerts.as_deref(), *offline).await,
        RunbookVerb::Import { file, out, diff } => import_file(common, file, out.as_deref(), *diff),
        RunbookVerb::Plan { which, set } => plan(common, which, set).await,
        RunbookVerb::Run { .. } => run(common, verb).await,
        RunbookVerb::Test { which, fixture } => test(common, which, fixture).await,
    }
}

fn read(file: &Path) -> Result<Document> {
    Ok(paramedic_runbook::parse(&text_of(file)?, &file.display().to_string()))
}

fn text_of(file: &Path) -> Result<String> {
    paramedic_runbook::shelf::read(file).map_err(|why| anyhow::anyhow!("failed to read {}: {why}", file.display()))
}

async fn list(common: &Common, text: Option<&str>) -> Result<Exit> {
    let mut all = match source::instance(common).await? {
        Some(face) => face.get::<RunbookList>("runbook.list", &json!({})).await?.0,
        None => RunbookList::of(&source::shelf(common)?),
    };
    let text = text.unwrap_or_default().to_lowercase();
    let has = |of: &String| of.to_lowercase().contains(&text);
    all.runbooks.retain(|one| has(&one.id) || has(&one.title) || one.alerts.iter().any(has));
    if common.json {
        show::json(&serde_json::to_value(&all)?)?;
        return Ok(Exit::Done);
    }
    show::table(
        &["id", "title", "severity", "from", "causes", "steps", "writes", "findings"],
        all.runbooks.iter().map(|one| {
            let findings = match (one.errors, one.warnings) {
                (0, 0) => String::new(),
                (errors, others) => format!("{errors} errors, {others} others"),
            };
            vec![
                one.id.clone(),
                one.title.clone(),
                one.severity.clone().unwrap_or_default(),
                super::runs::word(&one.origin),
                one.causes.to_string(),
                one.steps.to_string(),
                one.writes.to_string(),
                findings,
            ]
        }),
    )?;
    for untaken in &all.untaken {
        message(&format!("{}: {}", untaken.file, untaken.why));
    }
    Ok(Exit::Done)
}

async fn show_all(common: &Common, which: &[String]) -> Result<Exit> {
    let mut documents = Vec::new();
    let mut details = Vec::new();
    for one in which {
        match source::find(common, one).await? {
            source::Found::File(document) => documents.push(document),
            source::Found::Known(detail) => details.push(*detail),
        }
    }
    if common.json {
        let mut all = serde_json::Map::new();
        if !documents.is_empty() {
            all.insert("documents".to_owned(), serde_json::to_value(&documents)?);
        }
        if !details.is_empty() {
            all.insert("runbooks".to_owned(), serde_json::to_value(&details)?);
        }
        show::json(&Value::Object(all))?;
        return Ok(Exit::Done);
    }
    for document in &documents {
        for problem in &document.problems {
            message(&format!("{}:{}: {}", document.file, problem.line, problem.what));
        }
        document.runbooks.iter().try_for_each(outline)?;
    }
    for detail in &details {
        outline(&detail.runbook)?;
        detail.findings.iter().try_for_each(|finding| lint::tell(&detail.line.file, finding))?;
    }
    Ok(Exit::Done)
}

fn import_file(common: &Common, file: &Path, out: Option<&Path>, diff: bool) -> Result<Exit> {
    let text = text_of(file)?;
    let imported = import(&text, &file.display().to_string());
    if let Some(out) = out {
        std::fs::write(out, &imported.text).with_context(|| format!("failed to write {}", out.display()))?;
    }
    if common.json {
        let difference = difference(&text, &imported.text);
        show::json(&json!({ "imported": imported, "difference": difference }))?;
        return Ok(Exit::Done);
    }
    for change in &imported.changes {
        message(&format!("{}:{}: {}: {}", file.display(), change.line, change.what, change.why));
    }
    message(&format!("{} changes; lint still says {} things of the new text", imported.changes.len(), imported.findings_left.len()));
    let shown = if diff { difference(&text, &imported.text) } else { imported.text };
    if diff || out.is_none() {
        show::line(shown.strip_suffix('\n').unwrap_or(&shown))?;
    }
    Ok(Exit::Done)
}

async fn plan(common: &Common, which: &str, set: &[String]) -> Result<Exit> {
    let inputs = pairs(set)?;
    let plan = match source::find(common, which).await? {
        source::Found::File(document) => RunbookPlan::of(source::only(&document)?, inputs),
        source::Found::Known(detail) => RunbookPlan::of(&detail.runbook, inputs),
    };
    if common.json {
        show::json(&serde_json::to_value(&plan)?)?;
        return Ok(Exit::Done);
    }
    show::line(&format!("{}  ({})", show::clean(&plan.title), plan.runbook))?;
    if !plan.missing.is_empty() {
        show::line(&format!("missing inputs: {}", plan.missing.join(", ")))?;
    }
    for problem in &plan.problems {
        message(&show::clean_long(problem));
    }
    for step in &plan.steps {
        let mut notes = Vec::new();
        let approval = super::runs::word(&step.approval);
        if step.effect > Effect::Read && approval != "none" {
            notes.push(format!("approval {}", if approval.is_empty() { "by a role" } else { &approval }));
        }
        notes.extend(step.verify.iter().map(|verify| format!("verified by {verify}")));
        notes.extend(step.rollback.iter().map(|rollback| format!("undone by {rollback}")));
        let cause = step.cause.as_deref().map_or_else(String::new, |cause| format!(" for {cause}"));
        let notes = if notes.is_empty() { String::new() } else { format!("  ({})", notes.join("; ")) };
        show::line(&format!("  {:<9} {}{cause}{notes}", effect(step.effect), step.name))?;
        if step.blocked.is_empty() && step.argv.is_empty() {
            show::line(&format!("            {}", show::clean(&step.by_hand)))?;
        } else if step.blocked.is_empty() {
            show::line(&format!("            {}", super::runs::shown_argv(&step.argv)))?;
        }
        step.blocked.iter().try_for_each(|why| show::line(&format!("            blocked: {}", show::clean_long(why))))?;
    }
    Ok(Exit::Done)
}

const fn effect(effect: Effect) -> &'static str {
    match effect {
        Effect::Read => "reads",
        Effect::Write => "WRITES",
        Effect::Destroy => "DESTROYS",
    }
}

async fn run(common: &Common, verb: &RunbookVerb) -> Result<Exit> {
    let RunbookVerb::Run { id, set, incident, mode, target, watch, yes } = verb else { return Ok(Exit::Failed) };
    let face = match Face::open_running(common).await {
        Ok(face) => face,
        Err(error) if error.downcast_ref::<Failure>().is_some_and(|failure| failure.exit == Exit::Unreachable) => {
            let hint = "start it with: paramedic up   (`runbook plan` and `runbook test` work without one)";
            return Err(Failure::new(Exit::Unreachable, "runs need a running instance, which keeps their record", hint).into());
        }
        Err(error) => return Err(error),
    };
    if source::is_file(id) {
        let hint = "put it into a folder of [runbook] folders, reload (kill -HUP), and run it by its id";
        return Err(Failure::new(Exit::Failed, format!("{id} is a file: the instance runs runbooks of its folders"), hint).into());
    }
    let input = json!({
        "id": id, "mode": mode.as_str(), "incident": incident, "target": target.clone().unwrap_or_default(), "inputs": pairs(set)?,
    });
    let (run, value) = face.post::<RunShown>("runbook.run", &input).await?;
    if *watch || *yes {
        message(&format!("{} began", run.id));
        return follow(common, &face, &run.id, *yes).await;
    }
    tell_started(common, &run, &value)
}

#[derive(Debug, Deserialize)]
struct Rehearsed {
    problems: Vec<String>,
    order: Vec<String>,
    cause: Option<String>,
    ending: Option<String>,
}

async fn test(common: &Common, which: &str, fixture: &Path) -> Result<Exit> {
    let runbook = match source::find(common, which).await? {
        source::Found::File(document) => source::only(&document)?.clone(),
        source::Found::Known(detail) => detail.runbook,
    };
    let rehearsed = Rehearsal::of(&runbook, &text_of(fixture)?).map_err(|why| anyhow::anyhow!("failed to {why}"))?;
    let value = serde_json::to_value(&rehearsed)?;
    let told = Rehearsed::deserialize(&value)?;
    if common.json {
        show::json(&value)?;
    } else {
        show::line(&format!("carried out  {}", told.order.join(", ")))?;
        show::line(&format!("cause        {}", told.cause.as_deref().unwrap_or("none")))?;
        show::line(&format!("ending       {}", told.ending.as_deref().unwrap_or("open")))?;
        told.problems.iter().for_each(|problem| message(&show::clean_long(problem)));
    }
    Ok(if told.problems.is_empty() { Exit::Done } else { Exit::FoundProblems })
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
