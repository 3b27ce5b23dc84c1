//! One run of a runbook: everything that happened is a record, and the run is what its records add up to.
//!
//! A record is written, durably, before what it announces is done; so after a restart a step that began and never ended is
//! known to be in doubt. What only looked is looked at again; what changed something waits for a person.

mod causes;
mod drive;
mod next;
mod rehearse;

use std::collections::BTreeMap;

use paramedic_model::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::classify::Effect;
use crate::document::Runbook;
use crate::gate::{APPROVAL_AGE_MAX_MS, Agreed, Authority, Count, Decision, Mode, Person};
use crate::outcome::Outcome;
use crate::plan::{PlannedStep, masked};
use crate::predicate::{Facts, Predicate, Truth, Value};
use crate::render::{Given, Values};

pub use causes::{Ranked, rank};
pub use drive::{Journal, Policies, Stage, drive, stopped_by};
pub use next::{Circumstances, LOOKS_MAX, Next};
pub use rehearse::{Expect, Fixture, Rehearsed, Stub, rehearse};

/// Bytes of an output that a record holds; its hash is of all that was kept.
const SHOWN_BYTES_MAX: usize = 16 * 1024;
/// Lines of what was seen elsewhere that a run keeps, the newest.
pub const EVIDENCE_MAX: usize = 1_000;

/// One line of the record of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub version: u32,
    pub run: String,
    pub at: Timestamp,
    pub record: Record,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Record {
    Started {
        runbook: String,
        title: String,
        /// SHA-256 of the document.
        document: String,
        mode: Mode,
        /// What is acted on.
        target: String,
        incident: Option<String>,
        by: Person,
        /// Secrets are `***`.
        inputs: BTreeMap<String, String>,
        /// The document itself, where it is no file: a single action that somebody asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// The step of another run that this one takes back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        takes_back: Option<StepOf>,
    },
    /// Somebody gave what was missing. Secrets are `***`.
    Given {
        by: Person,
        inputs: BTreeMap<String, String>,
    },
    /// What was seen elsewhere: alerts, events, log lines. It is text, and only ever compared with patterns.
    Observed {
        lines: Vec<String>,
    },
    /// Causes, the likeliest first.
    Ranked {
        causes: Vec<Ranked>,
    },
    Agreed {
        agreed: Agreed,
    },
    /// Somebody wants this step to run.
    Chosen {
        step: String,
        by: Person,
    },
    /// What only looks is looked at again: time passed, or something new was seen, and nothing was done yet.
    LookAgain {
        steps: Vec<String>,
        why: String,
    },
    /// Somebody wants a step to run once more.
    Again {
        step: String,
        by: Person,
    },
    /// Somebody wants what a step changed to be taken back.
    TakeBack {
        step: String,
        by: Person,
        why: String,
    },
    /// A step does not run now, and why.
    Held {
        step: String,
        decision: Decision,
    },
    Begun {
        step: String,
        attempt: u32,
        hash: String,
        effect: Effect,
        /// Exact, but for secrets.
        argv: Vec<String>,
        authority: Authority,
        /// Only tried, to see or to count.
        dry: bool,
        /// The step that this one takes back.
        takes_back: Option<String>,
    },
    /// An action was planned, a moment before it is carried out: what takes it back, should nobody live to say what it did.
    Foreseen {
        step: String,
        what: String,
        inverse: serde_json::Value,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reverts_after_s: Option<u64>,
    },
    Done {
        step: String,
        dry: bool,
        done: Done,
    },
    Skipped {
        step: String,
        why: String,
    },
    /// It began, and nobody knows how it ended.
    Interrupted {
        step: String,
        /// Processes of it that lived on: number, program, start.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        still_running: Vec<String>,
    },
    /// A person changed their mind about a step that waits for them.
    LeftOut {
        step: String,
        by: Person,
        why: String,
    },
    /// The time of what a step changed is over, and its way back begins.
    Reverting {
        step: String,
        attempt: u32,
        call: serde_json::Value,
    },
    /// The way back ended.
    Reverted {
        step: String,
        done: Done,
    },
    /// What verifies a step came true, or did not.
    Verified {
        step: String,
        met: bool,
        why: String,
    },
    Ended {
        outcome: Ending,
        why: String,
    },
}

/// A step of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StepOf {
    pub run: String,
    pub step: String,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    pub verdict: Verdict,
    /// What was not as expected.
    pub why: String,
    pub exit: Option<i32>,
    pub signal: Option<i32>,
    pub ms: u64,
    /// SHA-256 of the output that was kept.
    pub output_hash: String,
    pub output_bytes: u64,
    /// The output's beginning.
    pub shown: String,
    pub found: BTreeMap<String, Value>,
    pub captured: BTreeMap<String, String>,
    pub affected: Option<u64>,
    /// Of how many, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// The call of an action that takes it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inverse: Option<serde_json::Value>,
    /// Seconds after which the inverse is to run by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverts_after_s: Option<u64>,
}

/// Whether an outcome is what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// It ended, and not as expected.
    Unexpected,
    /// It did not come to an end of its own.
    Failed,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// All that was to be done is done and verified.
    Done,
    /// A step was taken back.
    TakenBack,
    /// A gate stopped it, or a step failed.
    Stopped,
    CalledOff,
}

/// Where a step stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum StepState {
    #[default]
    Pending,
    Held {
        decision: Decision,
    },
    Running,
    Ok,
    /// It ran, and what was expected is not so.
    Unexpected {
        why: String,
    },
    Failed {
        why: String,
    },
    /// Not run. This is not success.
    Skipped {
        why: String,
    },
    Interrupted,
    /// It changed something, and what verifies it is being watched.
    Verifying,
    Verified,
    TakenBack {
        why: String,
    },
}

/// A run as its records add up.
#[derive(Debug, Clone, Default)]
pub struct Run {
    pub id: String,
    pub mode: Mode,
    pub runbook: String,
    pub document: String,
    pub target: String,
    pub incident: Option<String>,
    pub steps: BTreeMap<String, StepState>,
    pub attempts: BTreeMap<String, u32>,
    pub given: Given,
    pub facts: Facts,
    /// What is said elsewhere: logs, events, alerts. It is only ever compared with patterns.
    pub evidence: Vec<String>,
    pub ranked: Option<Vec<Ranked>>,
    pub agreed: Vec<Agreed>,
    pub chosen: BTreeMap<String, Person>,
    pub counts: BTreeMap<String, Count>,
    pub ended: Option<(Ending, String)>,
    /// How each step's last attempt ended.
    pub last: BTreeMap<String, Done>,
    /// Steps that were seen to have helped, and how many there were when each step ended last.
    verified: u32,
    judged: BTreeMap<String, u32>,
    /// Times that everything was looked at again.
    pub looks: u32,
    /// The ways back that plans named, for steps that began.
    foreseen: BTreeMap<String, serde_json::Value>,
    /// What dry runs said, with the hash of the step that was tried.
    pub tried: BTreeMap<String, (String, String)>,
    /// What lived on of steps in doubt when that was found.
    pub still_running: BTreeMap<String, Vec<String>>,
    outputs: BTreeMap<String, String>,
    /// Steps that changed something, or were to.
    changed: std::collections::BTreeSet<String>,
    begun: Option<Begun>,
    taking_back: Option<(String, String)>,
    /// Steps whose time was over, and that were taken back for it.
    reverted: std::collections::BTreeSet<String>,
    /// What happened and could not be written down yet. Nothing else is done before it is.
    unwritten: Option<Record>,
    /// Why somebody calls it off.
    calling_off: Option<String>,
    /// What is given, checked, as long as it stays the same.
    values: Option<(Given, std::sync::Arc<Values>)>,
    watching: Option<next::Watching>,
    clock_ms: u64,
}

/// An attempt that is under way.
#[derive(Debug, Clone)]
struct Begun {
    step: String,
    effect: Effect,
    dry: bool,
    hash: String,
    takes_back: bool,
}

/// Why records do not add up to a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    #[error("read the record of a run: it is of version {0}, which is newer than this program")]
    Version(u32),
    #[error("read the record of a run: its first record is not its start")]
    NoStart,
    #[error("read the record of a run: an entry belongs to the run {0}")]
    Foreign(String),
}

impl Entry {
    /// Version 1 knew neither ways back nor inputs that are given later.
    pub const VERSION: u32 = 2;

    #[must_use]
    pub fn new(run: &str, at: Timestamp, record: Record) -> Self {
        Self { version: Self::VERSION, run: run.to_owned(), at, record }
    }
}

impl Record {
    /// The first record of a run.
    #[must_use]
    pub fn start(runbook: &Runbook, document: &str, start: &Start) -> Self {
        Self::Started {
            runbook: runbook.id.clone(),
            title: runbook.title.clone(),
            document: document.to_owned(),
            mode: start.mode,
            target: start.target.clone(),
            incident: start.incident.clone(),
            by: start.by.clone(),
            inputs: shown_inputs(runbook, &start.inputs),
            text: None,
            takes_back: None,
        }
    }
}

/// Inputs as a record may hold them.
#[must_use]
pub fn shown_inputs(runbook: &Runbook, inputs: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_secret = |name: &String| runbook.inputs.get(name).is_some_and(|input| input.kind.as_deref() == Some("secret"));
    let shown = |(name, value): (&String, &String)| {
        // A value that is shown in part could be taken for the whole one after a restart.
        let hidden = is_secret(name) || masked(value, &[]) != *value;
        (name.clone(), if hidden { "***".to_owned() } else { value.clone() })
    };
    inputs.iter().map(shown).collect()
}

/// What a run begins with.
#[derive(Debug, Clone)]
pub struct Start {
    pub mode: Mode,
    pub target: String,
    pub incident: Option<String>,
    pub by: Person,
    pub inputs: BTreeMap<String, String>,
}

impl Run {
    /// Adds records up. A run that did not end goes on from where it stood; secrets are to be given again.
    pub fn fold(entries: &[Entry]) -> Result<Self, RunError> {
        let Some(Entry { record: Record::Started { .. }, run, .. }) = entries.first() else { return Err(RunError::NoStart) };
        let mut all = Self { id: run.clone(), ..Self::default() };
        for entry in entries {
            if entry.version > Entry::VERSION {
                return Err(RunError::Version(entry.version));
            }
            if entry.run != *run {
                return Err(RunError::Foreign(entry.run.clone()));
            }
            all.apply(&entry.record);
        }
        Ok(all)
    }

    /// What was under way when the process ended, as the record that says so.
    #[must_use]
    pub fn in_doubt(&self) -> Option<Record> {
        self.begun.as_ref().map(|begun| Record::Interrupted { step: begun.step.clone(), still_running: Vec::new() })
    }

    #[must_use]
    pub fn state(&self, step: &str) -> &StepState {
        static PENDING: StepState = StepState::Pending;
        self.steps.get(step).unwrap_or(&PENDING)
    }

    fn set(&mut self, step: &str, state: StepState) {
        self.steps.insert(step.to_owned(), state);
    }

    /// Takes one record in.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Started { runbook, document, mode, target, incident, inputs, .. } => {
                self.runbook.clone_from(runbook);
                self.document.clone_from(document);
                self.mode = *mode;
                self.target.clone_from(target);
                self.incident.clone_from(incident);
                self.give(inputs);
            }
            Record::Given { inputs, .. } => {
                self.give(inputs);
                // Who wanted a step wanted it as it stood.
                self.chosen.clear();
                self.reconsider();
            }
            Record::Observed { lines } => {
                self.evidence.extend(lines.iter().cloned());
                self.evidence.drain(..self.evidence.len().saturating_sub(EVIDENCE_MAX));
                // Causes are named again with what is known now, as long as nothing was done about them.
                if self.changed.is_empty() {
                    self.ranked = None;
                }
            }
            Record::Ranked { causes } => self.ranked = Some(causes.clone()),
            Record::Agreed { agreed } => self.agreed.push(agreed.clone()),
            Record::Chosen { step, by } => {
                self.chosen.insert(step.clone(), by.clone());
            }
            Record::Held { step, decision } => self.set(step, StepState::Held { decision: decision.clone() }),
            Record::Begun { step, hash, effect, dry, takes_back, .. } => self.begin(step, hash, *effect, *dry, takes_back.as_deref()),
            Record::Foreseen { step, inverse, .. } => drop(self.foreseen.insert(step.clone(), inverse.clone())),
            Record::Done { step, dry, done } => self.end(step, *dry, done),
            Record::Skipped { step, why } => self.set(step, StepState::Skipped { why: why.clone() }),
            Record::Interrupted { step, still_running } => {
                self.still_running.insert(step.clone(), still_running.clone());
                self.interrupt(step);
            }
            Record::LeftOut { step, by, why } => {
                self.chosen.remove(step);
                self.agreed.retain(|agreed| agreed.step != *step || agreed.used);
                self.set(step, StepState::Skipped { why: format!("{} left it out: {why}", by.name) });
            }
            Record::LookAgain { steps, .. } => {
                self.looks += 1;
                steps.iter().for_each(|step| self.once_more(step));
            }
            Record::Again { step, .. } => self.once_more(step),
            Record::TakeBack { step, by, why } => {
                self.watching = None;
                self.set(step, StepState::Failed { why: format!("{} takes it back: {why}", by.name) });
                self.taking_back = Some((step.clone(), format!("{} asked for it: {why}", by.name)));
            }
            Record::Reverting { .. } => {}
            Record::Reverted { step, done } => {
                if done.verdict == Verdict::Ok {
                    self.watching = self.watching.take().filter(|watching| watching.step != *step);
                    self.reverted.insert(step.clone());
                    self.set(step, StepState::TakenBack { why: "its time was over".to_owned() });
                }
            }
            Record::Verified { step, met, why } => {
                self.watching = None;
                if *met {
                    self.verified += 1;
                    self.set(step, StepState::Verified);
                } else {
                    self.set(step, StepState::Failed { why: format!("it did not help: {why}") });
                    self.taking_back = Some((step.clone(), why.clone()));
                }
            }
            Record::Ended { outcome, why } => self.ended = Some((*outcome, why.clone())),
        }
    }

    fn give(&mut self, inputs: &BTreeMap<String, String>) {
        for (name, value) in inputs {
            // A value that is not shown takes the place of one that was.
            if value == "***" {
                self.given.inputs.remove(name);
            } else {
                self.given.inputs.insert(name.clone(), value.clone());
            }
        }
    }

    /// The call that takes back what a step did, or may have done.
    #[must_use]
    pub fn way_back(&self, step: &str) -> Option<&serde_json::Value> {
        let done = self.last.get(step).and_then(|done| done.inverse.as_ref());
        // A step that ended well and names no way back has none; what its plan foresaw is for the others.
        let in_doubt = !matches!(self.state(step), StepState::Ok | StepState::Verifying | StepState::Verified);
        done.or_else(|| self.foreseen.get(step).filter(|_| in_doubt))
    }

    /// The step that takes another one back just now; people may have to agree to it, or to do it.
    #[must_use]
    pub fn rollback_now(&self, runbook: &Runbook) -> Option<String> {
        let (of, _) = self.taking_back.as_ref()?;
        runbook.steps.iter().find(|step| step.name == *of)?.attributes.get("rollback").cloned()
    }

    /// Secrets are given to the run, not to its record.
    pub fn give_secrets(&mut self, inputs: &BTreeMap<String, String>) {
        self.given.inputs.extend(inputs.iter().map(|(name, value)| (name.clone(), value.clone())));
    }

    fn once_more(&mut self, step: &str) {
        self.changed.remove(step);
        self.reverted.remove(step);
        self.set(step, StepState::Pending);
        if self.changed.is_empty() {
            self.ranked = None;
        }
    }

    /// The steps that are to be looked at again; none once something was done, agreed to or left to people.
    #[must_use]
    pub fn to_look_at_again(&self, runbook: &Runbook) -> Vec<String> {
        let busy = self.ranked.is_none() || self.ended.is_some() || self.begun.is_some() || self.taking_back.is_some();
        let wanted = !self.chosen.is_empty() || self.agreed.iter().any(|agreed| !agreed.used);
        if busy || wanted || !self.changed.is_empty() || !matches!(self.mode, Mode::Step | Mode::Auto) {
            return Vec::new();
        }
        let over = |step: &&crate::document::Step| {
            matches!(
                self.state(&step.name),
                StepState::Ok | StepState::Unexpected { .. } | StepState::Failed { .. } | StepState::Skipped { .. }
            )
        };
        let looks = runbook.steps.iter().filter(|step| next::is_looking(step)).filter(over);
        looks.map(|step| step.name.clone()).collect()
    }

    /// What was refused or left out for want of something is looked at again.
    fn reconsider(&mut self) {
        let held = |state: &StepState| matches!(state, StepState::Held { .. });
        self.steps.retain(|_, state| !held(state));
        if self.changed.is_empty() {
            self.ranked = None;
        }
    }

    /// Says why it is called off, for the record of its end.
    pub(crate) fn call_off(&mut self, why: String) {
        self.calling_off = Some(why);
    }

    /// Milliseconds until the first agreement that was not used is too old; none when there is none.
    pub(crate) fn expires_in(&self) -> Option<u64> {
        let ends = self.agreed.iter().filter(|agreed| !agreed.used).map(|agreed| agreed.at_ms.saturating_add(APPROVAL_AGE_MAX_MS));
        ends.filter(|end| *end >= self.clock_ms).map(|end| end - self.clock_ms + 1).min()
    }

    fn begin(&mut self, step: &str, hash: &str, effect: Effect, dry: bool, takes_back: Option<&str>) {
        self.begun = Some(Begun { step: step.to_owned(), effect, dry, hash: hash.to_owned(), takes_back: takes_back.is_some() });
        if dry {
            return;
        }
        *self.attempts.entry(step.to_owned()).or_default() += 1;
        if effect > Effect::Read {
            self.changed.insert(step.to_owned());
            self.reverted.remove(step);
            // An agreement is for one attempt.
            self.agreed.iter_mut().filter(|agreed| agreed.step == step && agreed.hash == hash).for_each(|agreed| agreed.used = true);
            self.chosen.remove(step);
            self.counts.remove(step);
        }
        if takes_back.is_none() && !matches!(self.state(step), StepState::Verifying) {
            self.set(step, StepState::Running);
        }
    }

    fn end(&mut self, step: &str, dry: bool, done: &Done) {
        let begun = self.begun.take();
        let takes_back = begun.as_ref().is_some_and(|begun| begun.takes_back);
        let (effect, hash) = begun.map_or((Effect::Read, String::new()), |begun| (begun.effect, begun.hash));
        if dry {
            if let Some(affected) = done.affected.filter(|_| done.verdict == Verdict::Ok) {
                self.tried.insert(step.to_owned(), (hash.clone(), done.shown.clone()));
                self.counts.insert(step.to_owned(), Count { hash, affected, of: done.of, at_ms: self.clock_ms });
            } else {
                self.set(step, StepState::Failed { why: format!("the dry run did not count anything: {}", done.why) });
            }
            return;
        }
        self.learn(step, done);
        self.last.insert(step.to_owned(), done.clone());
        self.judged.insert(step.to_owned(), self.verified);
        // Somebody may have asked for a way back while another step was under way; that one takes nothing back.
        if let Some((of, why)) = self.taking_back.take_if(|_| takes_back) {
            let (of_state, own) = match done.verdict {
                Verdict::Ok => (StepState::TakenBack { why }, StepState::Ok),
                _ => {
                    let failed = StepState::Failed { why: format!("{why}, and taking it back failed: {}", done.why) };
                    (failed.clone(), failed)
                }
            };
            self.set(&of, of_state);
            self.set(step, own);
            return;
        }
        // What was found speaks for or against causes, as long as nothing was done about them.
        if self.changed.is_empty() {
            self.ranked = None;
        }
        // A step that is watched itself is read again and again; the watching says what became of it.
        if effect == Effect::Read && matches!(self.state(step), StepState::Verifying) {
            return;
        }
        let state = match done.verdict {
            Verdict::Ok if effect > Effect::Read => StepState::Verifying,
            Verdict::Ok => StepState::Ok,
            Verdict::Unexpected => StepState::Unexpected { why: done.why.clone() },
            Verdict::Failed => StepState::Failed { why: done.why.clone() },
        };
        self.set(step, state);
    }

    /// What later conditions know of a step.
    fn learn(&mut self, step: &str, done: &Done) {
        // What it found before is not true any more.
        let names = [step.to_owned(), step.replace('-', "_")];
        for name in &names {
            let dotted = format!("{name}.");
            self.facts.values.retain(|known, _| known != name && !known.starts_with(&dotted));
            for (field, value) in &done.found {
                self.facts.values.insert(format!("{dotted}{field}"), value.clone());
            }
            self.facts.set(format!("{dotted}stdout"), done.shown.as_str());
            for (variable, value) in &done.captured {
                self.facts.set(format!("{dotted}{variable}"), value.as_str());
            }
            if let Some(value) = done.found.get("value") {
                self.facts.values.insert(name.clone(), value.clone());
            }
        }
        for (variable, value) in &done.captured {
            self.facts.set(variable.as_str(), value.as_str());
            self.given.captured.insert(variable.clone(), value.clone());
        }
        self.outputs.insert(step.to_owned(), done.shown.clone());
    }

    fn interrupt(&mut self, step: &str) {
        let changes = self.begun.take().is_some_and(|begun| begun.effect > Effect::Read && !begun.dry);
        self.taking_back = None;
        self.set(step, if changes { StepState::Interrupted } else { StepState::Pending });
    }
}

impl Done {
    /// Judges an outcome as its step asks.
    #[must_use]
    pub fn of(step: &PlannedStep, outcome: &Outcome, secrets: &[String]) -> Self {
        let facts = outcome.facts();
        let expectation = step.demands.expectation(step.executor);
        let judged = match (&outcome.fault, Predicate::parse(expectation)) {
            (Some(fault), _) => (Verdict::Failed, fault.clone()),
            (None, Err(error)) => (Verdict::Failed, error.to_string()),
            (None, Ok(expected)) => match expected.judge(&facts) {
                Truth::Holds => (Verdict::Ok, String::new()),
                Truth::Fails(_) | Truth::Unknown(_) => {
                    // Said about what was found without its secrets, because what is quoted of it is cut.
                    let why = expected.judge(&facts.masked(secrets));
                    (Verdict::Unexpected, format!("`{expectation}`: {}", why.why()))
                }
            },
        };
        let text = if outcome.stdout.text.trim().is_empty() { &outcome.stderr.text } else { &outcome.stdout.text };
        let plain = |(name, value): (String, Value)| match value {
            // JSON has no other numbers.
            Value::Number(number) if !number.is_finite() => None,
            _ if name == "stdout" || name == "stderr" => None,
            Value::Text(text) => Some((name, Value::Text(paramedic_model::text::capped(&masked(&text, secrets), 4 * 1024).into_owned()))),
            other => Some((name, other)),
        };
        Self {
            verdict: judged.0,
            why: masked(&judged.1, secrets),
            exit: outcome.exit,
            signal: outcome.signal,
            ms: outcome.ms,
            output_hash: outcome.output_hash(),
            output_bytes: outcome.stdout.bytes + outcome.stderr.bytes,
            shown: paramedic_model::text::head(&masked(text, secrets), SHOWN_BYTES_MAX).to_owned(),
            found: facts.values.into_iter().filter_map(plain).collect(),
            captured: outcome.capture(&step.demands.captures, secrets),
            affected: outcome.affected,
            of: outcome.of,
            inverse: outcome.inverse.clone(),
            reverts_after_s: outcome.reverts_after_s,
        }
    }
}
