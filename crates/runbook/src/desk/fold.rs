//! What the journal's entries about runs add up to.

use std::collections::{BTreeMap, BTreeSet};

use paramedic_journal::{Draft, Fold};
use paramedic_model::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::brake::Brakes;
use crate::gate::{Authority, Decision, Mode};
use crate::run::{Ending, Entry, Record, Verdict};

/// Ended runs that are kept as lines; the journal has them all.
const LINES_MAX: usize = 10_000;
/// Times that a way back is tried by itself.
pub(super) const REVERTS_MAX: u32 = 10;
/// The subject of the brakes' entries.
pub(super) const BRAKES_SUBJECT: &str = "brakes";
pub(super) const BRAKES_KIND: &str = "brakes-changed";

/// A run as a line of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunLine {
    /// `RUN-7`.
    pub id: String,
    pub number: u64,
    pub runbook: String,
    pub title: String,
    pub mode: Mode,
    pub target: String,
    pub incident: Option<String>,
    pub by: String,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub ending: Option<Ending>,
    /// Why it ended.
    pub why: String,
    /// The likeliest cause with its score.
    pub cause: Option<(String, f64)>,
    /// Steps that wait for people to agree.
    pub asking: BTreeSet<String>,
    /// Attempts to change something.
    pub changes: u32,
}

/// Something that is to be taken back when its time is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Revert {
    pub run: String,
    pub step: String,
    /// The action's call.
    pub call: serde_json::Value,
    pub due_at: Timestamp,
    pub attempts: u32,
    /// Why the last attempt failed.
    pub failed: Option<String>,
}

/// All runs, the brakes, and what is to be taken back.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Runs {
    next_number: u64,
    lines: BTreeMap<u64, RunLine>,
    /// The entries of runs that have not ended.
    open: BTreeMap<u64, Vec<Entry>>,
    reverts: BTreeMap<String, Revert>,
    brakes: Option<Brakes>,
    unreadable: u64,
}

/// `RUN-7`, or just `7`.
#[must_use]
pub fn number_of(id: &str) -> Option<u64> {
    id.strip_prefix("RUN-").or_else(|| id.strip_prefix("run-")).unwrap_or(id).parse().ok()
}

pub(super) fn subject(run: &str) -> String {
    format!("run/{run}")
}

impl Runs {
    pub(super) const fn next_number(&self) -> u64 {
        self.next_number + 1
    }

    pub(super) fn is_open(&self, number: u64) -> bool {
        self.open.contains_key(&number)
    }

    pub(super) fn open_entries(&self, number: u64) -> &[Entry] {
        self.open.get(&number).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn open_lines(&self) -> impl Iterator<Item = &RunLine> {
        self.open.keys().filter_map(|number| self.lines.get(number))
    }

    #[must_use]
    pub const fn brakes(&self) -> Option<&Brakes> {
        self.brakes.as_ref()
    }

    pub(super) fn set_brakes(&mut self, brakes: Brakes) {
        self.brakes = Some(brakes);
    }

    #[must_use]
    pub fn line(&self, number: u64) -> Option<&RunLine> {
        self.lines.get(&number)
    }

    /// The line of a run that is not kept any more, from its records.
    pub(super) fn line_of(entries: &[Entry]) -> Option<RunLine> {
        let mut alone = Self::default();
        entries.iter().for_each(|entry| alone.take(entry));
        alone.lines.into_values().next()
    }

    /// The latest first.
    pub fn lines(&self) -> impl Iterator<Item = &RunLine> {
        self.lines.values().rev()
    }

    pub fn reverts(&self) -> impl Iterator<Item = &Revert> {
        self.reverts.values()
    }

    pub(super) fn open(&self) -> impl Iterator<Item = (u64, &[Entry])> {
        self.open.iter().map(|(number, entries)| (*number, entries.as_slice()))
    }

    pub(super) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Adds one entry of a run.
    pub(super) fn take(&mut self, entry: &Entry) {
        let Some(number) = number_of(&entry.run) else { return };
        self.next_number = self.next_number.max(number);
        if let Record::Started { runbook, title, mode, target, incident, by, .. } = &entry.record {
            let line = RunLine {
                id: entry.run.clone(),
                number,
                runbook: runbook.clone(),
                title: title.clone(),
                mode: *mode,
                target: target.clone(),
                incident: incident.clone(),
                by: by.name.clone(),
                started_at: entry.at,
                ended_at: None,
                ending: None,
                why: String::new(),
                cause: None,
                asking: BTreeSet::new(),
                changes: 0,
            };
            self.lines.insert(number, line);
            self.open.insert(number, Vec::new());
            self.forget_oldest();
        }
        if let Some(entries) = self.open.get_mut(&number) {
            entries.push(entry.clone());
        }
        if let Some(line) = self.lines.get_mut(&number) {
            line.take(entry);
        }
        self.take_revert(entry);
        if matches!(entry.record, Record::Ended { .. }) {
            self.open.remove(&number);
        }
    }

    fn take_revert(&mut self, entry: &Entry) {
        match &entry.record {
            Record::Foreseen { step, inverse, reverts_after_s: Some(seconds), .. } => self.revert_after(entry, step, inverse, *seconds),
            Record::Done { step, dry: false, done } => {
                // Whatever the verdict: where there is a way back, something was changed. A step that ended and names none needs none;
                // of one that failed, what its plan foresaw stands.
                match (&done.inverse, done.reverts_after_s) {
                    (Some(call), Some(seconds)) => self.revert_after(entry, step, call, seconds),
                    _ if done.verdict != Verdict::Failed => drop(self.reverts.remove(&format!("{}/{step}", entry.run))),
                    _ => {}
                }
                // Somebody took it back with a run of its own.
                let number = number_of(&entry.run).unwrap_or(0);
                let first = self.open_entries(number).first().map(|first| &first.record);
                if let (Some(Record::Started { takes_back: Some(of), .. }), Verdict::Ok) = (first, done.verdict) {
                    let key = format!("{}/{}", of.run, of.step);
                    self.reverts.remove(&key);
                }
            }
            Record::Begun { takes_back: Some(of), .. } => {
                // It is taken back by hand or because it did not help.
                self.reverts.remove(&format!("{}/{of}", entry.run));
            }
            Record::Reverting { step, attempt, .. } => {
                if let Some(revert) = self.reverts.get_mut(&format!("{}/{step}", entry.run)) {
                    revert.attempts = *attempt;
                    // A minute for the next try; ten minutes after the fifth.
                    let wait = if *attempt < 5 { 60 } else { 600 };
                    revert.due_at = entry.at.after(std::time::Duration::from_secs(wait));
                }
            }
            Record::Reverted { step, done } => {
                let key = format!("{}/{step}", entry.run);
                if done.verdict == Verdict::Ok {
                    self.reverts.remove(&key);
                } else if let Some(revert) = self.reverts.get_mut(&key) {
                    revert.failed = Some(done.why.clone());
                }
            }
            _ => {}
        }
    }

    fn revert_after(&mut self, entry: &Entry, step: &str, call: &serde_json::Value, seconds: u64) {
        let due_at = entry.at.after(std::time::Duration::from_secs(seconds));
        let revert = Revert { run: entry.run.clone(), step: step.to_owned(), call: call.clone(), due_at, attempts: 0, failed: None };
        self.reverts.insert(format!("{}/{step}", entry.run), revert);
    }

    fn forget_oldest(&mut self) {
        if self.lines.len() > LINES_MAX
            && let Some(number) = self.lines.values().find(|line| line.ended_at.is_some()).map(|line| line.number)
        {
            self.lines.remove(&number);
        }
    }
}

impl RunLine {
    fn take(&mut self, entry: &Entry) {
        match &entry.record {
            Record::Ranked { causes } => {
                self.cause = causes.first().filter(|first| first.score > 0.0).map(|first| (first.cause.clone(), first.score));
            }
            Record::Held { step, decision: Decision::Ask { .. } } => drop(self.asking.insert(step.clone())),
            Record::Held { step, .. } | Record::Skipped { step, .. } | Record::LeftOut { step, .. } => drop(self.asking.remove(step)),
            Record::Begun { step, effect, dry: false, .. } => {
                self.asking.remove(step);
                self.changes += u32::from(*effect > crate::classify::Effect::Read);
            }
            Record::Ended { outcome, why } => {
                self.ended_at = Some(entry.at);
                self.ending = Some(*outcome);
                self.why.clone_from(why);
                self.asking.clear();
            }
            _ => {}
        }
    }
}

impl Fold for Runs {
    const NAME: &'static str = "runs";
    const VERSION: u32 = 1;

    fn apply(&mut self, entry: &paramedic_journal::Entry) {
        if entry.subject == BRAKES_SUBJECT {
            match serde_json::from_value(entry.payload.clone()) {
                Ok(brakes) => self.brakes = Some(brakes),
                Err(error) => self.cannot_read(entry, &error.to_string()),
            }
        } else if entry.subject.starts_with("run/") {
            match serde_json::from_value::<Entry>(entry.payload.clone()) {
                Ok(read) if read.version <= Entry::VERSION => self.take(&read),
                Ok(read) => self.cannot_read(entry, &format!("it is of version {}, newer than this program", read.version)),
                Err(error) => self.cannot_read(entry, &error.to_string()),
            }
        }
    }
}

impl Runs {
    fn cannot_read(&mut self, entry: &paramedic_journal::Entry, why: &str) {
        tracing::warn!(seq = entry.seq, kind = entry.kind, why, "journal entry left out");
        self.unreadable += 1;
    }
}

/// The entry's draft for the journal.
pub(super) fn draft(entry: &Entry) -> Draft {
    Draft {
        at: entry.at,
        kind: kind(&entry.record).to_owned(),
        subject: subject(&entry.run),
        actor: actor(&entry.record),
        payload: serde_json::to_value(entry).unwrap_or_default(),
    }
}

/// The word that the journal's kind says.
pub(super) const fn kind(record: &Record) -> &'static str {
    match record {
        Record::Started { .. } => "run-started",
        Record::Given { .. } => "run-inputs-given",
        Record::Observed { .. } => "run-observed",
        Record::LookAgain { .. } => "run-looks-again",
        Record::Ranked { .. } => "run-causes-ranked",
        Record::Agreed { .. } => "step-approved",
        Record::Chosen { .. } => "step-chosen",
        Record::Again { .. } => "step-again",
        Record::TakeBack { .. } => "step-take-back",
        Record::Held { .. } => "step-held",
        Record::Begun { .. } => "step-begun",
        Record::Foreseen { .. } => "step-foreseen",
        Record::Done { .. } => "step-done",
        Record::Skipped { .. } => "step-skipped",
        Record::Interrupted { .. } => "step-interrupted",
        Record::LeftOut { .. } => "step-left-out",
        Record::Reverting { .. } => "step-reverting",
        Record::Reverted { .. } => "step-reverted",
        Record::Verified { .. } => "step-verified",
        Record::Ended { .. } => "run-ended",
    }
}

/// Who made it happen.
pub(super) fn actor(record: &Record) -> String {
    let name = match record {
        Record::Started { by, .. }
        | Record::Given { by, .. }
        | Record::Chosen { by, .. }
        | Record::Again { by, .. }
        | Record::TakeBack { by, .. }
        | Record::LeftOut { by, .. } => by.name.clone(),
        Record::Agreed { agreed } => agreed.by.name.clone(),
        Record::Begun { authority, .. } => match authority {
            Authority::People { names } => names.join(" and "),
            Authority::Policy { name } => format!("policy:{name}"),
            Authority::Reading | Authority::Rollback { .. } | Authority::Test => "paramedic".to_owned(),
        },
        _ => "paramedic".to_owned(),
    };
    paramedic_model::text::head(&name, 512).to_owned()
}
