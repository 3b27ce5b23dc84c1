//! A step of a run that is over is taken back by a run of its own, which holds only its way back.

use std::collections::BTreeMap;
use std::sync::Arc;

use paramedic_model::{secret, text};

use super::driving::Origin;
use super::view::RunView;
use super::{DeskError, RunDesk, StartRun, locked, refused};
use crate::document::{Executor, Runbook, SectionKind, Step};
use crate::front::Input;
use crate::gate::{Mode, Person};
use crate::plan::{masked, plan_step, sha256};
use crate::render::{Given, Values};
use crate::run::{Record, Run, StepOf};

const WHAT: &str = "take the step back";
/// Attributes that speak of other steps, or of when a step is somebody's way back; alone it is neither.
const NOT_ALONE: [&str; 5] = ["only", "rollback", "needs", "verify", "auto"];

impl RunDesk {
    /// Starts a run of the step that takes another one back. It waits until somebody agrees to it.
    pub(super) async fn start_way_back(self: &Arc<Self>, run: &str, step: &str, by: Person, why: &str) -> Result<RunView, DeskError> {
        let entries = self.entries(run).await?;
        let run = Run::fold(&entries).map_err(|error| DeskError::Journal(error.to_string()))?;
        let runbook = self.runbook_of(&entries).map_err(|why| refused(WHAT, format!("{why}, and with it the way back of {step}")))?;
        let name = runbook.steps.iter().find(|one| one.name == step).and_then(|one| one.attributes.get("rollback"));
        let back = name.and_then(|name| runbook.steps.iter().find(|one| one.name == *name));
        let back = back.ok_or_else(|| refused(WHAT, "nothing is known that takes it back"))?;
        let of = StepOf { run: run.id.clone(), step: step.to_owned() };
        if let Some(other) = self.under_way_for(&of) {
            return Err(refused(WHAT, format!("{other} takes it back already")));
        }
        let (inputs, declared) = known(&runbook, &run.given);
        let text = alone(&runbook, back, &declared, &format!("takes back {step} of {}: {}", run.id, secret::mask(why)));
        let read = text.as_deref().and_then(|text| read_back(text, back, &declared)).zip(text.clone());
        let Some((mut alone, text)) = read else {
            let values = Values::resolve(&runbook, &run.given);
            let planned = plan_step(&runbook, back, &values);
            // What cannot be rendered is said as it is written.
            let argv = if planned.work.is_some() { planned.argv(values.secrets()) } else { vec![masked(&back.text, values.secrets())] };
            return Err(refused(WHAT, format!("its way back cannot run by itself after the end; do it by hand: {}", argv.join(" "))));
        };
        alone.id = format!("action/undo-{}", runbook.id);
        let document = sha256(text.as_bytes());
        let start = StartRun {
            runbook: alone.id.clone(),
            mode: Mode::Step,
            target: run.target.clone(),
            incident: run.incident.clone(),
            by,
            inputs,
            observed: Vec::new(),
        };
        self.begin(Origin { runbook: Arc::new(alone), document, text: Some(text), takes_back: Some(of) }, start).await
    }

    /// The run that has not ended and takes this step back.
    fn under_way_for(&self, of: &StepOf) -> Option<String> {
        let runs = locked(&self.runs);
        let found = runs.open().find(|(_, entries)| {
            matches!(entries.first().map(|entry| &entry.record), Some(Record::Started { takes_back: Some(back), .. }) if back == of)
        });
        found.map(|(number, _)| format!("RUN-{number}"))
    }
}

/// What the run knew, as inputs of another one, and what these have to be. What a record hides is to be given again.
fn known(runbook: &Runbook, given: &Given) -> (BTreeMap<String, String>, BTreeMap<String, Input>) {
    let mut declared = runbook.inputs.clone();
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    let mut inputs = given.captured.clone();
    inputs.extend(given.inputs.iter().map(|(name, value)| (name.clone(), value.clone())));
    inputs.retain(|name, value| is_name(name) && !value.contains("***"));
    for name in inputs.keys().chain(given.captured.keys()).filter(|name| is_name(name)) {
        declared.entry(name.clone()).or_default();
    }
    (inputs, declared)
}

/// The document of one step. Nothing that is known stands in it: values are inputs, as they were.
fn alone(runbook: &Runbook, back: &Step, declared: &BTreeMap<String, Input>, why: &str) -> Option<String> {
    // What it depends on was found by a run that is over.
    if back.attributes.contains_key("if") {
        return None;
    }
    let front = serde_json::json!({ "inputs": declared, "limits": runbook.limits, "services": runbook.services });
    let attributes: Vec<String> =
        attributes(back).iter().map(|(name, value)| format!("\"{}\":\"{}\"", escaped(name), escaped(value))).collect();
    let longest = back.text.split(|letter| letter != '~').map(str::len).max().unwrap_or(0);
    let (fence, executor) = ("~".repeat(longest.max(3) + 1), serde_json::to_value(back.executor).ok()?);
    let language = executor.as_str()?;
    let plain = |text: &str| text::one_line(text).replace(['#', '`', '<', '~', '{', '}'], " ");
    let title = plain(&runbook.title);
    Some(format!(
        "---\n{}\n---\n# {title}: {}\n\n{}\n\n## Resolution\n\n{fence}{language} {{{}}}\n{}\n{fence}\n",
        inner(&front)?,
        plain(&back.name),
        plain(why),
        attributes.join(","),
        back.text
    ))
}

/// An object's lines of YAML, which JSON is.
fn inner(object: &serde_json::Value) -> Option<String> {
    let lines: Vec<String> = object.as_object()?.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    Some(lines.join("\n"))
}

/// Its attributes; somebody has to agree, since who agreed to the step agreed to its way back then and not now.
fn attributes(back: &Step) -> BTreeMap<String, String> {
    let mut attributes = back.attributes.clone();
    attributes.retain(|name, _| !NOT_ALONE.contains(&name.as_str()));
    attributes.insert("name".to_owned(), back.name.clone());
    attributes.entry("mode".to_owned()).or_insert_with(|| "write".to_owned());
    if attributes.get("approve").is_some_and(|approve| approve == "none") {
        attributes.insert("approve".to_owned(), "any".to_owned());
    }
    attributes
}

/// Letters that mean nothing to Markdown stay; all others are escapes of JSON.
fn escaped(text: &str) -> String {
    let mut all = String::new();
    for letter in text.chars() {
        if letter.is_ascii_alphanumeric() || " .,=".contains(letter) {
            all.push(letter);
        } else {
            letter.encode_utf16(&mut [0; 2]).iter().for_each(|unit| all.push_str(&format!("\\u{unit:04x}")));
        }
    }
    all
}

/// The runbook of a document, if it says exactly what the step said.
fn read_back(text: &str, back: &Step, declared: &BTreeMap<String, Input>) -> Option<Runbook> {
    let parsed = crate::parse(text, "journal");
    let [runbook] = <[Runbook; 1]>::try_from(parsed.runbooks).ok()?;
    let [step] = runbook.steps.as_slice() else { return None };
    let same = step.text == back.text
        && step.executor == back.executor
        && step.name == back.name
        && step.attributes == attributes(back)
        && step.section == SectionKind::Resolution
        && runbook.inputs == *declared;
    (same && parsed.problems.is_empty() && back.executor != Executor::Manual).then_some(runbook)
}
