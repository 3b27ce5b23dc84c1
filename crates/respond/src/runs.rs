//! What runs of runbooks tell an incident, and which moves follow. Pure.

use paramedic_model::{IncidentId, IncidentState, Timestamp, secret, text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::command::{CommandError, acknowledgement, find};
use crate::incident::Incident;
use crate::incidents::Incidents;
use crate::record::Record;
use crate::roles;
use crate::transition::next;

/// Runs that an incident lists; the oldest are left to the journal beyond that.
pub const RUNS_MAX: usize = 50;
const DETAIL_BYTES_MAX: usize = 2_000;
const NAME_BYTES_MAX: usize = 200;

/// How far a run is, as far as it matters to its incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RunStage {
    Started,
    /// The read steps are done.
    Investigated,
    /// The likeliest cause is known.
    CauseNamed,
    /// The first step that changes something was begun.
    FixBegun,
    /// The verification held.
    Verified,
    /// The fix was undone.
    TakenBack,
    Ended,
}

/// One stage of one run, told by whoever runs it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunNote {
    pub incident: IncidentId,
    pub run: String,
    pub runbook: String,
    pub what: RunStage,
    /// The cause's name, the fix's step, the outcome: one line for people. Untrusted.
    pub detail: String,
    /// How sure the cause is; only above 0 it counts as named. Of no meaning for other stages.
    pub score: f64,
    /// No person had to approve what it changed.
    pub unattended: bool,
    /// Who made the run do it; [`crate::record::SYSTEM_ACTOR`] or a policy (`policy:night`) where no person did.
    pub by: String,
}

/// What the incident knows of one run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RunLine {
    pub run: String,
    pub runbook: String,
    pub started_at: Timestamp,
    pub investigated_at: Option<Timestamp>,
    pub cause: Option<String>,
    pub cause_named_at: Option<Timestamp>,
    pub fix_begun_at: Option<Timestamp>,
    pub verified_at: Option<Timestamp>,
    pub taken_back_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub unattended: bool,
    /// Who started it.
    pub by: String,
}

/// The record of a note, and the move that it leads to.
pub(crate) fn decide_run(incidents: &Incidents, note: &RunNote, now: Timestamp) -> Result<(IncidentId, Vec<Record>), CommandError> {
    // A run outlives a merge: what it finds belongs to the incident that stayed.
    let incident = incidents.follow_merges(find(incidents, &note.incident)?);
    let detail = text::capped(&secret::mask(&text::one_line(note.detail.trim())), DETAIL_BYTES_MAX).into_owned();
    let named = note.score > 0.0 || note.what != RunStage::CauseNamed;
    let mut records = Vec::new();
    if !roles::is_machine(&note.by) || (note.what == RunStage::FixBegun && !note.unattended) {
        // Whoever starts a run or approves a fix works on the incident.
        records.extend(acknowledgement(incident, &note.by, now).into_iter().filter(|_| incident.state.is_open()));
    }
    records.push(Record::RunNoted {
        incident: incident.id.clone(),
        run: name(&note.run),
        runbook: name(&note.runbook),
        what: note.what,
        detail: if named { detail } else { String::new() },
        unattended: note.unattended,
        at: now,
    });
    records.extend(moved(incident, note, named, now));
    Ok((incident.id.clone(), records))
}

fn moved(incident: &Incident, note: &RunNote, named: bool, now: Timestamp) -> Option<Record> {
    use IncidentState::{Identified, Investigating, Mitigated, Triage};
    let runbook = name(&note.runbook);
    let (to, reason) = match (note.what, incident.state) {
        (RunStage::Investigated, Triage) => (Investigating, format!("the read steps of {runbook} are done")),
        (RunStage::CauseNamed, Triage | Investigating) if named => (Identified, format!("{runbook} named the cause")),
        (RunStage::FixBegun, Triage | Investigating) => (Identified, format!("a fix of {runbook} was begun")),
        (RunStage::Verified, state) if state.is_active() && incident.firing().next().is_none() => {
            (Mitigated, format!("the verification of {runbook} held and no alert is active"))
        }
        _ => return None,
    };
    let at = now.max(incident.times().latest());
    next(incident.state, to, &incident.facts(at)).ok()?;
    Some(Record::StateChanged { incident: incident.id.clone(), from: incident.state, to, at, reason })
}

/// Adds a note up.
pub(crate) fn take(runs: &mut Vec<RunLine>, run: &str, runbook: &str, unattended: bool, actor: &str, at: Timestamp) -> usize {
    if let Some(known) = runs.iter().position(|line| line.run == run) {
        return known;
    }
    if runs.len() >= RUNS_MAX {
        runs.remove(0);
    }
    runs.push(RunLine {
        run: run.to_owned(),
        runbook: runbook.to_owned(),
        started_at: at,
        unattended,
        by: actor.to_owned(),
        ..RunLine::default()
    });
    runs.len() - 1
}

impl RunLine {
    pub(crate) fn mark(&mut self, what: RunStage, detail: &str, unattended: bool, at: Timestamp) {
        match what {
            RunStage::Started => {}
            RunStage::Investigated => self.investigated_at = Some(at),
            // A cause that nothing speaks for is written without its name.
            RunStage::CauseNamed if detail.is_empty() => {}
            RunStage::CauseNamed => (self.cause, self.cause_named_at) = (Some(detail.to_owned()), Some(at)),
            RunStage::FixBegun => (self.fix_begun_at, self.taken_back_at, self.unattended) = (Some(at), None, unattended),
            RunStage::Verified => self.verified_at = Some(at),
            RunStage::TakenBack => (self.taken_back_at, self.verified_at) = (Some(at), None),
            RunStage::Ended => self.ended_at = Some(at),
        }
    }
}

fn name(given: &str) -> String {
    text::head(&secret::mask(&text::one_line(given.trim())), NAME_BYTES_MAX).to_owned()
}
