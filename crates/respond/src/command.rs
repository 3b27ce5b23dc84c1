//! What a person may do to an incident, and why it may be refused.

use paramedic_model::{AgentId, IncidentId, IncidentKind, IncidentState, IncidentType, Severity, Timestamp, secret, text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::incident::Incident;
use crate::incidents::Incidents;
use crate::record::Record;

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
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("there is no incident {0}")]
    NotFound(IncidentId),
    #[error("{incident} is {from}: it cannot become {to}, because {why}")]
    IllegalMove { incident: IncidentId, from: IncidentState, to: IncidentState, why: &'static str },
    #[error("{key} {why}")]
    Invalid { key: &'static str, why: String },
}

/// Decides about a command: the records it leads to, and the incident it is about. An empty list means that there
/// was nothing to do (acknowledging twice, say).
pub fn decide_command(incidents: &Incidents, command: &Command, now: Timestamp) -> Result<(IncidentId, Vec<Record>), CommandError> {
    match command {
        Command::Open { title, incident_type, severity, agents, started_at } => {
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
                kind: IncidentKind::Real,
                started_at,
                detected_at: now,
                agents: agents.clone(),
            };
            Ok((id, vec![record]))
        }
        Command::Note { incident, text } => {
            let found = find(incidents, incident)?;
            if text.trim().is_empty() {
                return Err(CommandError::Invalid { key: "text", why: "is empty: a note needs words".to_owned() });
            }
            let text = secret::mask(&text::capped(text, NOTE_BYTES_MAX)).into_owned();
            Ok((found.id.clone(), vec![Record::Noted { incident: found.id.clone(), text }]))
        }
        Command::SetSeverity { incident, severity, reason } => {
            let found = find(incidents, incident)?;
            let record = Record::SeverityChanged {
                incident: found.id.clone(),
                from: found.severity,
                to: *severity,
                at: now,
                reason: checked_reason(reason),
                by_hand: true,
            };
            Ok((found.id.clone(), if found.severity == *severity && found.severity_by_hand { Vec::new() } else { vec![record] }))
        }
        Command::SetTitle { incident, title } => {
            let found = find(incidents, incident)?;
            Ok((found.id.clone(), vec![Record::TitleChanged { incident: found.id.clone(), to: checked_title(title)? }]))
        }
        Command::Acknowledge { incident } => acknowledge(find(incidents, incident)?, now),
        Command::SetState { incident, state, reason } => move_to(find(incidents, incident)?, *state, reason, now),
        Command::Resolve { incident, reason } => move_to(find(incidents, incident)?, IncidentState::Resolved, reason, now),
        Command::Reopen { incident, reason } => reopen(find(incidents, incident)?, reason, now),
        Command::Cancel { incident, reason } => move_to(find(incidents, incident)?, IncidentState::Cancelled, reason, now),
        Command::Merge { incident, into } => merge(find(incidents, incident)?, find(incidents, into)?),
    }
}

fn find<'a>(incidents: &'a Incidents, id: &IncidentId) -> Result<&'a Incident, CommandError> {
    incidents.get(id).ok_or_else(|| CommandError::NotFound(id.clone()))
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

fn checked_reason(reason: &str) -> String {
    let reason = reason.trim();
    if reason.is_empty() { "by hand".to_owned() } else { secret::mask(&text::capped(reason, NOTE_BYTES_MAX)).into_owned() }
}

fn acknowledge(incident: &Incident, now: Timestamp) -> Result<(IncidentId, Vec<Record>), CommandError> {
    if !incident.state.is_open() {
        return Err(CommandError::IllegalMove {
            incident: incident.id.clone(),
            from: incident.state,
            to: IncidentState::Investigating,
            why: "only an open incident can be acknowledged",
        });
    }
    let mut records = Vec::new();
    if incident.acknowledged_at.is_none() {
        records.push(Record::Acknowledged { incident: incident.id.clone(), at: now });
        if incident.state == IncidentState::Triage {
            records.push(Record::StateChanged {
                incident: incident.id.clone(),
                from: incident.state,
                to: IncidentState::Investigating,
                at: now,
                reason: "acknowledged".to_owned(),
            });
        }
    }
    Ok((incident.id.clone(), records))
}

/// Which moves a person may make. `None`: allowed. The reason completes "it cannot become X, because …".
const fn refusal(from: IncidentState, to: IncidentState) -> Option<&'static str> {
    use IncidentState::{Cancelled, Closed, Identified, Investigating, Merged, Mitigated, Resolved, Triage};
    match (from, to) {
        (Merged, _) => Some("it was merged into another incident; work on that one"),
        (_, Merged) => Some("merging needs the incident to merge into"),
        (_, Triage) => Some("triage is only where an incident starts"),
        (Cancelled, Investigating) | (Resolved | Closed, Investigating) => None,
        (Cancelled, _) => Some("it was cancelled; re-open it first"),
        (Closed, _) => Some("it is closed; re-open it first"),
        (Resolved, Closed) => None,
        (Resolved, Identified | Mitigated) => Some("it is resolved; re-open it first"),
        (Triage | Investigating | Identified | Mitigated, Closed) => Some("only a resolved incident can be closed"),
        (_, Investigating | Identified | Mitigated | Resolved | Cancelled) => None,
    }
}

fn move_to(incident: &Incident, to: IncidentState, reason: &str, now: Timestamp) -> Result<(IncidentId, Vec<Record>), CommandError> {
    if incident.state == to {
        return Ok((incident.id.clone(), Vec::new()));
    }
    if let Some(why) = refusal(incident.state, to) {
        return Err(CommandError::IllegalMove { incident: incident.id.clone(), from: incident.state, to, why });
    }
    let record = Record::StateChanged { incident: incident.id.clone(), from: incident.state, to, at: now, reason: checked_reason(reason) };
    Ok((incident.id.clone(), vec![record]))
}

fn reopen(incident: &Incident, reason: &str, now: Timestamp) -> Result<(IncidentId, Vec<Record>), CommandError> {
    if incident.state.is_open() {
        return Err(CommandError::IllegalMove {
            incident: incident.id.clone(),
            from: incident.state,
            to: IncidentState::Investigating,
            why: "it is open already",
        });
    }
    move_to(incident, IncidentState::Investigating, reason, now)
}

fn merge(incident: &Incident, into: &Incident) -> Result<(IncidentId, Vec<Record>), CommandError> {
    if incident.id == into.id {
        return Err(CommandError::Invalid { key: "into", why: "names the incident itself".to_owned() });
    }
    for one in [incident, into] {
        if one.state == IncidentState::Merged {
            return Err(CommandError::IllegalMove {
                incident: one.id.clone(),
                from: one.state,
                to: IncidentState::Merged,
                why: "it was merged already",
            });
        }
    }
    let records = vec![
        Record::Merged { incident: incident.id.clone(), into: into.id.clone() },
        Record::MergedFrom { incident: into.id.clone(), from: incident.id.clone() },
    ];
    Ok((into.id.clone(), records))
}
