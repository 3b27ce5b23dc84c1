//! A runbook proven without anything real: outcomes come from a fixture, time passes as it is told.

use std::collections::BTreeMap;

use paramedic_model::Timestamp;
use serde::Deserialize;

use super::{Circumstances, Next, Record, Run, Start, StepState, drive};
use crate::brake::{Brakes, Moment};
use crate::document::Runbook;
use crate::gate::{Mode, Person};
use crate::outcome::{Kept, Outcome};
use crate::predicate::Value;

/// Turns after which a rehearsal is going in circles.
const TURNS_MAX: usize = 20_000;

/// What is known, what each step answers, which steps somebody chooses, and what has to come of it.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fixture {
    pub runbook: String,
    pub inputs: BTreeMap<String, String>,
    /// Texts found elsewhere.
    pub evidence: Vec<String>,
    /// The answers of each step in turn; the last one stays.
    pub steps: BTreeMap<String, Vec<Stub>>,
    /// Steps that a person starts, in this order.
    pub choose: Vec<String>,
    pub expect: Expect,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// The likeliest cause.
    pub cause: Option<String>,
    /// `done`, `taken-back`, `stopped`; none when it is left open.
    pub ending: Option<String>,
    /// States of steps by their names in JSON: `ok`, `verified`, `skipped` …
    pub steps: BTreeMap<String, String>,
}

/// What a step answers.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stub {
    pub exit: Option<i32>,
    pub status: Option<u16>,
    pub value: Option<f64>,
    pub rows: Option<u64>,
    pub stdout: String,
    pub stderr: String,
    pub ms: u64,
    pub json: Option<serde_json::Value>,
    pub fields: BTreeMap<String, serde_json::Value>,
    pub affected: Option<u64>,
    pub fault: Option<String>,
}

/// What came of a rehearsal.
#[derive(Debug, Clone, Default)]
pub struct Rehearsed {
    pub records: Vec<Record>,
    pub states: BTreeMap<String, StepState>,
    /// Steps in the order in which they were carried out.
    pub order: Vec<String>,
    pub cause: Option<String>,
    pub ending: Option<String>,
    /// What is not as the fixture expects; empty is success.
    pub problems: Vec<String>,
}

impl Fixture {
    /// Reads YAML.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_saphyr::from_str(text).map_err(|error| format!("read the fixture: {error}"))
    }
}

impl Stub {
    fn outcome(&self) -> Outcome {
        let kept = |text: &str| Kept { text: text.to_owned(), bytes: text.len() as u64, cut: false };
        let mut outcome = Outcome {
            exit: self.exit,
            status: self.status,
            ms: self.ms,
            stdout: kept(&self.stdout),
            stderr: kept(&self.stderr),
            value: self.value,
            rows: self.rows,
            json: self.json.clone(),
            fields: self.fields.iter().filter_map(|(name, value)| Some((name.clone(), Value::of_json(value)?))).collect(),
            affected: self.affected,
            fault: self.fault.clone(),
            ..Outcome::default()
        };
        outcome.understand();
        outcome
    }
}

/// Plays a runbook through.
#[must_use]
pub fn rehearse(runbook: &Runbook, fixture: &Fixture) -> Rehearsed {
    let by = Person::human("rehearsal");
    let start = Start { mode: Mode::Test, target: "rehearsal".to_owned(), incident: None, by: by.clone(), inputs: fixture.inputs.clone() };
    let mut run = Run { id: "rehearsal".to_owned(), evidence: fixture.evidence.clone(), ..Run::default() };
    let mut all = Rehearsed::default();
    take(&mut run, &mut all, Record::start(runbook, "", &start));
    run.given.inputs.clone_from(&fixture.inputs);
    let mut brakes = Brakes::default();
    let mut moment = Moment { wall: Timestamp::from_secs(1_800_000_000), uptime_ms: 1_000, boot: "rehearsal".to_owned() };
    let mut choose = fixture.choose.iter();
    for _ in 0..TURNS_MAX {
        let mut now = Circumstances { runbook, brakes: &mut brakes, policies: &[], journal_ready: true, moment: moment.clone() };
        match run.next(&mut now) {
            Next::Write(record) => take(&mut run, &mut all, record),
            Next::Wait { ms, .. } => moment.uptime_ms += ms,
            Next::Carry { begun, step, .. } => {
                let dry = matches!(*begun, Record::Begun { dry: true, .. });
                let turn = all.order.iter().filter(|name| **name == step.name).count();
                all.order.push(step.name.clone());
                let stubs = fixture.steps.get(&step.name).map(Vec::as_slice).unwrap_or_default();
                if stubs.is_empty() {
                    all.problems.push(format!("the fixture does not say what {} answers", step.name));
                }
                let outcome = stubs
                    .get(turn.min(stubs.len().saturating_sub(1)))
                    .map_or_else(|| Outcome::fault("no answer in the fixture"), Stub::outcome);
                take(&mut run, &mut all, *begun);
                let done = drive::done_of(&step, outcome, dry, &[]);
                take(&mut run, &mut all, Record::Done { step: step.name.clone(), dry, done });
            }
            Next::Idle => match choose.next() {
                Some(step) => take(&mut run, &mut all, Record::Chosen { step: step.clone(), by: by.clone() }),
                None => break,
            },
            Next::Ended => break,
        }
    }
    finish(&run, runbook, fixture, &mut all);
    all
}

fn take(run: &mut Run, all: &mut Rehearsed, record: Record) {
    run.apply(&record);
    all.records.push(record);
}

/// A name as it stands in JSON.
fn tag(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(other) => other.get("state").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned(),
        Err(_) => String::new(),
    }
}

fn finish(run: &Run, runbook: &Runbook, fixture: &Fixture, all: &mut Rehearsed) {
    all.cause = run.ranked.as_ref().and_then(|ranked| ranked.first()).filter(|first| first.score > 0.0).map(|first| first.cause.clone());
    all.ending = run.ended.as_ref().map(|(ending, _)| tag(ending));
    all.states = runbook.steps.iter().map(|step| (step.name.clone(), run.state(&step.name).clone())).collect();
    let expect = &fixture.expect;
    if expect.cause.is_some() && expect.cause != all.cause {
        all.problems.push(format!("the likeliest cause is {:?} instead of {:?}", all.cause, expect.cause));
    }
    if expect.ending.is_some() && expect.ending != all.ending {
        all.problems.push(format!("it ended {:?} instead of {:?}: {:?}", all.ending, expect.ending, run.ended));
    }
    for (step, state) in &expect.steps {
        let found = all.states.get(step).map(tag);
        if found.as_ref() != Some(state) {
            all.problems.push(format!("{step} is {found:?} instead of {state}: {:?}", all.states.get(step)));
        }
    }
    let known = |name: &String| runbook.steps.iter().any(|step| step.name == *name);
    for name in fixture.steps.keys().chain(&fixture.choose).filter(|name| !known(name)) {
        all.problems.push(format!("there is no step {name}"));
    }
}
