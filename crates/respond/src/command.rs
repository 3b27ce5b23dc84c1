//! What a person may do to an incident, and why it may be refused.

mod correct;
mod moves;
mod parts;

use paramedic_model::{AgentId, Fingerprint, IncidentId, IncidentKind, IncidentState, IncidentType, Moment, Role, Severity, Timestamp};
use paramedic_model::{secret, text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attachments::{self, Given};
use crate::checklist;
use crate::config::Settings;
use crate::incident::Incident;
use crate::incidents::Incidents;
use crate::record::Record;
use crate::roles;
use crate::transition::Refusal;

pub(crate) use moves::acknowledgement;

/// Longest note and longest title, in bytes.
pub const NOTE_BYTES_MAX: usize = 16 * 1024;
pub const TITLE_BYTES_MAX: usize = 200;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    Open {
        title: String,
        #[serde(rename = "type")]
        incident_type: IncidentType,
        severity: Severity,
        #[serde(default)]
        agents: Vec<AgentId>,
        /// When it began, if that is known to be earlier than now.
        #[serde(default)]
        started_at: Option<Timestamp>,
        /// A drill is not counted in statistics; one of history calls nobody.
        #[serde(default = "real")]
        kind: IncidentKind,
    },
    Note {
        incident: IncidentId,
        text: String,
    },
    SetSeverity {
        incident: IncidentId,
        severity: Severity,
        #[serde(default)]
        reason: String,
    },
    SetTitle {
        incident: IncidentId,
        title: String,
    },
    /// It was a drill after all, or it became real.
    SetKind {
        incident: IncidentId,
        kind: IncidentKind,
        reason: String,
    },
    Acknowledge {
        incident: IncidentId,
    },
    SetState {
        incident: IncidentId,
        state: IncidentState,
        #[serde(default)]
        reason: String,
    },
    Resolve {
        incident: IncidentId,
        #[serde(default)]
        reason: String,
    },
    Close {
        incident: IncidentId,
        #[serde(default)]
        reason: String,
    },
    Reopen {
        incident: IncidentId,
        #[serde(default)]
        reason: String,
    },
    /// It was a false alarm.
    Cancel {
        incident: IncidentId,
        #[serde(default)]
        reason: String,
    },
    Merge {
        incident: IncidentId,
        into: IncidentId,
    },
    /// Alerts that are another problem go to an incident of their own, the later ones of the same fingerprints too.
    Split {
        incident: IncidentId,
        #[serde(default)]
        alerts: Vec<Fingerprint>,
        /// All alerts of these agents.
        #[serde(default)]
        agents: Vec<AgentId>,
        title: String,
    },
    /// Corrects a time, on record and only within the times around it.
    BackDate {
        incident: IncidentId,
        what: Moment,
        to: Timestamp,
        reason: String,
    },
    AssignRole {
        incident: IncidentId,
        role: Role,
        person: String,
    },
    ReleaseRole {
        incident: IncidentId,
        role: Role,
        person: String,
    },
    HandOver {
        incident: IncidentId,
        role: Role,
        to: String,
        #[serde(default)]
        note: String,
    },
    /// Ticks an item of the checklist, or takes the tick back.
    Tick {
        incident: IncidentId,
        item: String,
        done: bool,
    },
    /// Keeps a piece of evidence: `text`, or `base64` for anything else.
    Attach {
        incident: IncidentId,
        name: String,
        #[serde(default)]
        media_type: String,
        #[serde(default)]
        text: Option<String>,
        #[serde(default)]
        base64: Option<String>,
        /// Where it is from: a query, a command, a link.
        #[serde(default)]
        source: String,
    },
}

const fn real() -> IncidentKind {
    IncidentKind::Real
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("there is no incident {0}")]
    NotFound(IncidentId),
    #[error("{incident} is {from}: it cannot become {to}, because {why}")]
    IllegalMove { incident: IncidentId, from: IncidentState, to: IncidentState, why: Refusal },
    #[error("{incident} is {state}: {why}")]
    NotNow { incident: IncidentId, state: IncidentState, why: Refusal },
    #[error("{key} {why}")]
    Invalid { key: &'static str, why: String },
}

/// What was decided: the incident it is about, and the records it leads to.
pub type Decided = Result<(IncidentId, Vec<Record>), CommandError>;

/// Decides about a command of `actor`. An empty list means that there was nothing to do (acknowledging twice, say).
pub fn decide_command(incidents: &Incidents, command: &Command, actor: &str, now: Timestamp, settings: &Settings) -> Decided {
    let get = |id: &IncidentId| find(incidents, id);
    let about = |incident: &Incident, records: Vec<Record>| Ok((incident.id.clone(), records));
    match command {
        Command::Open { .. } => open(incidents, command, now),
        Command::Note { incident, text } => get(incident).and_then(|found| about(found, vec![note(found, text)?])),
        Command::SetSeverity { incident, severity, reason } => {
            get(incident).and_then(|found| about(found, correct::severity(found, *severity, reason, now)))
        }
        Command::SetTitle { incident, title } => {
            let found = get(incident)?;
            about(found, vec![Record::TitleChanged { incident: found.id.clone(), to: checked_title(title)? }])
        }
        Command::SetKind { incident, kind, reason } => get(incident).and_then(|found| about(found, correct::kind(found, *kind, reason)?)),
        Command::BackDate { incident, what, to, reason } => {
            get(incident).and_then(|found| about(found, correct::back_date(found, *what, *to, reason, now)?))
        }
        Command::Acknowledge { incident } => moves::acknowledge(get(incident)?, actor, now),
        Command::SetState { incident, state, reason } => moves::move_to(get(incident)?, *state, reason, actor, now),
        Command::Resolve { incident, reason } => moves::move_to(get(incident)?, IncidentState::Resolved, reason, actor, now),
        Command::Close { incident, reason } => moves::move_to(get(incident)?, IncidentState::Closed, reason, actor, now),
        Command::Reopen { incident, reason } => moves::reopen(get(incident)?, reason, actor, now),
        Command::Cancel { incident, reason } => moves::move_to(get(incident)?, IncidentState::Cancelled, reason, actor, now),
        Command::Merge { incident, into } => parts::merge(get(incident)?, get(into)?, actor, now, settings),
        Command::Split { incident, alerts, agents, title } => {
            parts::split(incidents, get(incident)?, (alerts, agents), checked_title(title)?, actor, now)
        }
        Command::AssignRole { incident, role, person } => {
            unmerged(get(incident)?).and_then(|found| about(found, roles::assign(found, *role, person, now)?))
        }
        Command::ReleaseRole { incident, role, person } => {
            unmerged(get(incident)?).and_then(|found| about(found, roles::release(found, *role, person, now)?))
        }
        Command::HandOver { incident, role, to, note } => {
            unmerged(get(incident)?).and_then(|found| about(found, roles::hand_over(found, *role, to, note, actor, now)?))
        }
        Command::Tick { incident, item, done } => unmerged(get(incident)?).and_then(|found| about(found, tick(found, item, *done, now)?)),
        Command::Attach { incident, name, media_type, text, base64, source } => {
            let found = get(incident)?;
            let given = Given { name, media_type, text: text.as_deref(), base64: base64.as_deref(), source };
            let (attachment, content) = attachments::prepare(found, given)?;
            about(found, vec![Record::Attached { incident: found.id.clone(), attachment, content }])
        }
    }
}

pub(crate) fn find<'a>(incidents: &'a Incidents, id: &IncidentId) -> Result<&'a Incident, CommandError> {
    incidents.get(id).ok_or_else(|| CommandError::NotFound(id.clone()))
}

/// What is done to an incident that went into another would be lost on those who work on that one.
fn unmerged(incident: &Incident) -> Result<&Incident, CommandError> {
    if incident.state != IncidentState::Merged {
        return Ok(incident);
    }
    Err(CommandError::NotNow { incident: incident.id.clone(), state: incident.state, why: Refusal::Merged })
}

fn open(incidents: &Incidents, command: &Command, now: Timestamp) -> Decided {
    let Command::Open { title, incident_type, severity, agents, started_at, kind } = command else {
        return Err(CommandError::Invalid { key: "command", why: "opens nothing".to_owned() });
    };
    let id = incidents.next_id();
    let started_at = started_at.unwrap_or(now);
    if started_at > now {
        return Err(CommandError::Invalid { key: "started_at", why: format!("lies in the future: {started_at}") });
    }
    let record = Record::IncidentOpened {
        incident: id.clone(),
        incident_type: *incident_type,
        severity: *severity,
        title: checked_title(title)?,
        cause: format!("manual:{id}"),
        kind: *kind,
        started_at,
        detected_at: now,
        agents: agents.clone(),
    };
    Ok((id, vec![record]))
}

fn note(incident: &Incident, text: &str) -> Result<Record, CommandError> {
    if text.trim().is_empty() {
        return Err(CommandError::Invalid { key: "text", why: "is empty: a note needs words".to_owned() });
    }
    let text = text::capped(&secret::mask(text), NOTE_BYTES_MAX).into_owned();
    Ok(Record::Noted { incident: incident.id.clone(), text })
}

fn tick(incident: &Incident, item: &str, done: bool, now: Timestamp) -> Result<Vec<Record>, CommandError> {
    if !checklist::is_item(item) {
        let given = text::head(item, 100);
        let why = format!("is no item of the checklist: {given:?}; the items are {}", checklist::item_ids());
        return Err(CommandError::Invalid { key: "item", why });
    }
    if incident.ticks.get(item).is_some_and(|tick| tick.done == done) {
        return Ok(Vec::new());
    }
    Ok(vec![Record::Ticked { incident: incident.id.clone(), item: item.to_owned(), done, at: now }])
}

fn checked_title(title: &str) -> Result<String, CommandError> {
    let title = text::one_line(title.trim()).into_owned();
    if title.is_empty() {
        return Err(CommandError::Invalid { key: "title", why: "is empty: an incident needs a name".to_owned() });
    }
    if title.len() > TITLE_BYTES_MAX {
        return Err(CommandError::Invalid { key: "title", why: format!("has {} bytes: the most is {TITLE_BYTES_MAX}", title.len()) });
    }
    Ok(secret::mask(&title).into_owned())
}

pub(crate) fn checked_reason(reason: &str) -> String {
    let reason = reason.trim();
    if reason.is_empty() { "by hand".to_owned() } else { text::capped(&secret::mask(reason), NOTE_BYTES_MAX).into_owned() }
}

/// For commands that change what is on record: why is not optional.
fn needed_reason(reason: &str) -> Result<String, CommandError> {
    if reason.trim().is_empty() {
        return Err(CommandError::Invalid { key: "reason", why: "is empty: a correction needs its reason".to_owned() });
    }
    Ok(checked_reason(reason))
}
