//! What a good response does in each phase, ticked by itself where there is evidence. Pure.

use std::time::Duration;

use paramedic_model::{IncidentKind, IncidentState, Moment, Phase, Role, Severity, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clocks::span;
use crate::incident::Incident;

/// What is known from elsewhere: mostly the time when something was done, if it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// As of when the checklist is asked for.
    pub now: Timestamp,
    /// How long it has to stay quiet.
    pub quiet_window: Duration,
    /// Those who have to know were told for the first time.
    pub first_message_at: Option<Timestamp>,
    /// They were told how it goes on.
    pub update_message_at: Option<Timestamp>,
    /// They were told that it is over.
    pub final_message_at: Option<Timestamp>,
    /// Somebody, or the diagnosis, looked at what was changed before the onset.
    pub changes_reviewed_at: Option<Timestamp>,
    pub postmortem_drafted_at: Option<Timestamp>,
    pub postmortem_published_at: Option<Timestamp>,
    /// The follow-up work has owners and dates.
    pub actions_assigned_at: Option<Timestamp>,
}

impl Evidence {
    /// Nothing but the time, and how long it has to stay quiet.
    #[must_use]
    pub const fn at(now: Timestamp, quiet_window: Duration) -> Self {
        Self {
            now,
            quiet_window,
            first_message_at: None,
            update_message_at: None,
            final_message_at: None,
            changes_reviewed_at: None,
            postmortem_drafted_at: None,
            postmortem_published_at: None,
            actions_assigned_at: None,
        }
    }
}

/// A tick, or one taken back, by a person; it outweighs the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HandTick {
    pub done: bool,
    pub by: String,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChecklistItem {
    pub id: String,
    pub phase: Phase,
    pub text: String,
    /// A good response may do without it.
    pub optional: bool,
    pub state: ItemState,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum ItemState {
    Open,
    TickedBySystem { why: String, at: Timestamp },
    TickedByHand { by: String, at: Timestamp },
}

impl ItemState {
    #[must_use]
    pub const fn is_done(&self) -> bool {
        !matches!(self, Self::Open)
    }
}

struct Item {
    id: &'static str,
    phase: Phase,
    text: &'static str,
    optional: bool,
}

const fn must(id: &'static str, phase: Phase, text: &'static str) -> Item {
    Item { id, phase, text, optional: false }
}

const fn may(id: &'static str, phase: Phase, text: &'static str) -> Item {
    Item { id, phase, text, optional: true }
}

/// The checklist of every incident, in the order in which it is worked through.
const ITEMS: &[Item] = &[
    must("acknowledged", Phase::Detection, "Somebody has acknowledged it"),
    must("commander", Phase::Detection, "One person leads the response"),
    must("severity", Phase::Detection, "The severity fits who and how many are hit"),
    must("onset", Phase::Detection, "It is known since when it has been going on"),
    must("first-message", Phase::Detection, "Those who have to know have been told"),
    must("symptoms", Phase::Investigation, "What is wrong is written down"),
    must("runbook", Phase::Investigation, "The runbook is open and running"),
    must("reads", Phase::Investigation, "Its read steps are done: logs, metrics, dependencies"),
    must("changes", Phase::Investigation, "What was changed before the onset has been looked at"),
    must("cause", Phase::Investigation, "The likeliest cause is named"),
    must("fix", Phase::Mitigation, "A first fix has been begun"),
    may("secondary", Phase::Mitigation, "It takes long: a second person has been called"),
    must("cleared", Phase::Mitigation, "No alert is active any more"),
    must("update-message", Phase::Mitigation, "Those who are hit know what is being done and when they hear more"),
    must("verified", Phase::Resolution, "The verification of the fix held"),
    must("quiet", Phase::Resolution, "It has stayed quiet for the quiet window"),
    must("lasting", Phase::Resolution, "The fix will last, or what replaces it is planned"),
    must("final-message", Phase::Resolution, "Those who were told know that it is over"),
    must("timeline", Phase::Postmortem, "The timeline tells the whole story"),
    must("postmortem-draft", Phase::Postmortem, "The postmortem is drafted"),
    must("root-cause", Phase::Postmortem, "The cause, and what let it happen, is understood"),
    must("actions", Phase::Postmortem, "The work that follows has owners and dates"),
    must("review", Phase::Postmortem, "The review has a date"),
    may("runbook-updated", Phase::Postmortem, "The runbook says what was learned"),
    must("postmortem", Phase::Postmortem, "The postmortem is published"),
];

/// Whether the checklist has an item of this id.
#[must_use]
pub fn is_item(id: &str) -> bool {
    ITEMS.iter().any(|item| item.id == id)
}

/// The ids of all items, for messages.
pub(crate) fn item_ids() -> String {
    ITEMS.iter().map(|item| item.id).collect::<Vec<_>>().join(", ")
}

/// The checklist as it stands: a person's tick first, then the evidence.
#[must_use]
pub fn checklist(incident: &Incident, evidence: &Evidence) -> Vec<ChecklistItem> {
    // A postmortem is owed for what was severe; otherwise it is a good habit. A rehearsal tells nobody outside.
    let owed = incident.severity >= Severity::Sev2;
    let told = incident.kind == IncidentKind::Real;
    ITEMS
        .iter()
        .map(|item| ChecklistItem {
            id: item.id.to_owned(),
            phase: item.phase,
            text: item.text.to_owned(),
            optional: item.optional || (item.phase == Phase::Postmortem && !owed) || (item.id.ends_with("-message") && !told),
            state: state_of(incident, item.id, evidence),
        })
        .collect()
}

fn state_of(incident: &Incident, id: &str, evidence: &Evidence) -> ItemState {
    match incident.ticks.get(id) {
        Some(tick) if tick.done => ItemState::TickedByHand { by: tick.by.clone(), at: tick.at },
        Some(_) => ItemState::Open,
        None => by_system(incident, id, evidence).map_or(ItemState::Open, |(why, at)| ItemState::TickedBySystem { why, at }),
    }
}

/// The evidence for an item: what it is, and since when.
fn by_system(incident: &Incident, id: &str, evidence: &Evidence) -> Option<(String, Timestamp)> {
    let told = |at: Option<Timestamp>, why: &str| at.map(|at| (why.to_owned(), at));
    match id {
        "acknowledged" => Some((format!("by {}", incident.acknowledged_by.as_ref()?), incident.acknowledged_at?)),
        "commander" => Some((incident.holders(Role::Commander).first()?.clone(), incident.commander_at?)),
        "severity" => severity(incident),
        "onset" => onset(incident),
        "first-message" => told(evidence.first_message_at, "a message was sent"),
        "symptoms" => {
            let first = incident.episodes.iter().min_by_key(|episode| episode.started_at)?;
            Some((format!("{}: {}", first.name(), first.reason), first.started_at.max(incident.detected_at)))
        }
        "changes" => told(evidence.changes_reviewed_at, "the changes before the onset are listed"),
        "secondary" => incident.escalations.iter().find(|one| one.level >= 2).map(|one| (format!("{} was called", one.who), one.at)),
        "cleared" => Some(("no alert is active".to_owned(), incident.mitigated_at.filter(|_| incident.firing().next().is_none())?)),
        "update-message" => told(evidence.update_message_at, "an update was sent"),
        "quiet" => quiet(incident, evidence),
        "final-message" => told(evidence.final_message_at, "the final message was sent"),
        "timeline" => told(incident.resolved_at, "the journal has every step until it was resolved"),
        "postmortem-draft" => told(evidence.postmortem_drafted_at, "a draft exists"),
        "postmortem" => told(evidence.postmortem_published_at, "it is published"),
        "actions" => told(evidence.actions_assigned_at, "every action has an owner and a date"),
        _ => of_runs(incident, id),
    }
}

fn of_runs(incident: &Incident, id: &str) -> Option<(String, Timestamp)> {
    // The latest run that got so far speaks for the incident.
    incident.runs.iter().rev().find_map(|run| match id {
        "runbook" => Some((format!("{} was started by {}", run.runbook, run.by), run.started_at)),
        "reads" => Some((format!("the read steps of {} are done", run.runbook), run.investigated_at?)),
        "cause" => Some((run.cause.clone()?, run.cause_named_at?)),
        "fix" => Some((format!("{} began to change something", run.runbook), run.fix_begun_at.filter(|_| run.taken_back_at.is_none())?)),
        "verified" => Some((format!("the verification of {} held", run.runbook), run.verified_at?)),
        _ => None,
    })
}

/// Resolving by hand does not make it quiet: the window has to pass without an alert.
fn quiet(incident: &Incident, evidence: &Evidence) -> Option<(String, Timestamp)> {
    let since = incident.mitigated_at.filter(|_| incident.firing().next().is_none())?;
    let over = since.after(evidence.quiet_window);
    let known = evidence.now.max(incident.resolved_at.unwrap_or(Timestamp::EPOCH));
    (known >= over).then(|| (format!("no alert for {}", span(evidence.quiet_window.as_secs())), over))
}

fn severity(incident: &Incident) -> Option<(String, Timestamp)> {
    if incident.severity_by_hand {
        return Some((format!("{} was set by hand", incident.severity), incident.severity_at.unwrap_or(incident.detected_at)));
    }
    let counts = &incident.counts;
    if counts.agents == 0 && counts.users == 0 {
        return None;
    }
    Some((format!("{} by what is counted: {} agents, {} users", incident.severity, counts.agents, counts.users), incident.detected_at))
}

fn onset(incident: &Incident) -> Option<(String, Timestamp)> {
    if incident.back_dated.contains(&Moment::Started) {
        return Some((format!("corrected by hand to {}", incident.started_at), incident.last_recorded_at));
    }
    let first = incident.episodes.iter().min_by_key(|episode| episode.started_at)?;
    Some((format!("{} began at {}", first.name(), first.started_at), incident.detected_at))
}

/// How far the checklist is, without what is optional: done, and in all.
#[must_use]
pub fn progress(items: &[ChecklistItem], phase: Option<Phase>) -> (usize, usize) {
    let counted = || items.iter().filter(|item| !item.optional && phase.is_none_or(|phase| item.phase == phase));
    (counted().filter(|item| item.state.is_done()).count(), counted().count())
}

/// The phase that an incident is in, by its state.
#[must_use]
pub fn phase_of(incident: &Incident) -> Phase {
    match incident.state {
        IncidentState::Triage => Phase::Detection,
        IncidentState::Investigating => Phase::Investigation,
        IncidentState::Identified => Phase::Mitigation,
        IncidentState::Mitigated => Phase::Resolution,
        IncidentState::Resolved | IncidentState::Closed | IncidentState::Cancelled | IncidentState::Merged => Phase::Postmortem,
    }
}
