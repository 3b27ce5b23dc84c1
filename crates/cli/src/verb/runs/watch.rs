//! Following a run: each step as it goes, until it waits for a person or ends.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use super::view::{self, RunShown, StepShown};
use crate::args::Common;
use crate::exit::{Exit, message};
use crate::face::Face;
use crate::show;

/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(200);
/// Unchanged for so long with nothing under way, it waits for somebody.
const SETTLED: Duration = Duration::from_millis(1_500);
/// Lines of a step's output that are told.
const LINES: usize = 3;
/// Approvals that `--yes` gives in one run.
const APPROVALS_MAX: usize = 50;

/// Tells of a run as it goes, then shows it. With `yes` the step whose turn it is is approved as it stands.
pub(in crate::verb) async fn follow(common: &Common, face: &Face, run: &str, yes: bool) -> Result<Exit> {
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    let mut before = Value::Null;
    let mut since = Instant::now();
    let mut approved: Vec<String> = Vec::new();
    loop {
        let (now, value) = face.get::<RunShown>("run.get", &json!({"run": run})).await?;
        for step in &now.steps {
            tell(&mut told, step);
        }
        if value != before {
            before = value.clone();
            since = Instant::now();
        }
        let busy = now.steps.iter().any(|step| matches!(step.state.as_str(), "running" | "verifying"));
        if now.ended_at.is_some() {
            return end(common, &now, &value);
        }
        if yes
            && !busy
            && let Some(step) = to_approve(&now, &approved)
        {
            message(&format!("  approving {} as it stands: {}", step.name, view::shown_argv(&step.argv)));
            approved.push(step.hash.clone());
            face.post::<Value>("run.approve", &json!({"run": now.id, "step": step.name, "hash": step.hash})).await?;
            since = Instant::now();
        } else if !busy && since.elapsed() >= SETTLED {
            return end(common, &now, &value);
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// The step whose turn it is, if it can be approved and was not.
fn to_approve<'a>(run: &'a RunShown, approved: &[String]) -> Option<&'a StepShown> {
    let step = run.steps.iter().find(|step| run.next.as_deref() == Some(step.name.as_str()))?;
    (step.may("approve") && !approved.contains(&step.hash) && approved.len() < APPROVALS_MAX).then_some(step)
}

/// One line when a step's state changed, with the last lines of what it said.
fn tell(told: &mut BTreeMap<String, String>, step: &StepShown) {
    let held = step.held().unwrap_or_default();
    let state = format!("{} {held}", step.word);
    let before = told.insert(step.name.clone(), state.clone());
    if before.as_ref() == Some(&state) || (before.is_none() && step.state == "pending") {
        return;
    }
    let held = if held.is_empty() { String::new() } else { format!(": {}", show::clean(held)) };
    message(&format!("  {:<9} {:<24} {}{held}", step.effect(), step.name, step.word));
    let Some(last) = step.last.as_ref().filter(|_| !matches!(step.state.as_str(), "pending" | "held" | "running")) else { return };
    if !last.why.is_empty() {
        message(&format!("            {}", show::clean(&last.why)));
    }
    let lines: Vec<&str> = last.shown.lines().filter(|line| !line.trim().is_empty()).collect();
    for line in &lines[lines.len().saturating_sub(LINES)..] {
        message(&format!("            {}", show::clean(line)));
    }
}

fn end(common: &Common, run: &RunShown, value: &Value) -> Result<Exit> {
    view::print(common, run, value)?;
    Ok(match run.ending.as_deref() {
        None | Some("done") => Exit::Done,
        Some(_) => Exit::FoundProblems,
    })
}
