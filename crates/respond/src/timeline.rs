//! Journal entries as lines for people.

use paramedic_journal::Entry;
use paramedic_model::{AlertChange, AlertState, IncidentState, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::Record;

/// One line of an incident's timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TimelineItem {
    /// Journal position.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
    /// When it was written down.
    pub recorded_at: Timestamp,
    pub actor: String,
    pub kind: String,
    pub text: String,
}

/// The line for an entry; none for entries of other stages.
#[must_use]
pub fn describe(entry: &Entry) -> Option<TimelineItem> {
    let record = match Record::from_entry(entry) {
        Ok(record) => record?,
        Err(error) => return Some(item(entry, entry.at, format!("this entry cannot be shown: {error}"))),
    };
    let (at, text) = describe_record(&record, entry.at);
    Some(item(entry, at, text))
}

fn item(entry: &Entry, at: Timestamp, text: String) -> TimelineItem {
    TimelineItem { seq: entry.seq, at, recorded_at: entry.at, actor: entry.actor.clone(), kind: entry.kind.clone(), text }
}

/// When a record's fact happened, and the sentence for it.
#[must_use]
pub fn describe_record(record: &Record, recorded_at: Timestamp) -> (Timestamp, String) {
    match record {
        Record::AlertChanged { alert, .. } | Record::AlertAdopted { alert, .. } => (alert.at, alert_line(alert)),
        Record::IncidentOpened { severity, title, started_at, detected_at, .. } => {
            (*detected_at, format!("opened as {severity}: {title} (since {})", started_at.time_of_day()))
        }
        Record::SeverityChanged { from, to, at, reason, by_hand, .. } => {
            let verb = if to > from { "raised" } else { "lowered" };
            let how = if *by_hand { " by hand" } else { "" };
            let reason = if reason == "by hand" { String::new() } else { format!(": {reason}") };
            (*at, format!("severity {verb}{how} from {from} to {to}{reason}"))
        }
        Record::TitleChanged { to, .. } => (recorded_at, format!("renamed: {to}")),
        Record::StateChanged { from, to, at, reason, .. } => {
            let what = match to {
                IncidentState::Investigating
                    if matches!(from, IncidentState::Resolved | IncidentState::Closed | IncidentState::Cancelled) =>
                {
                    "re-opened"
                }
                IncidentState::Mitigated => "monitoring",
                other => other.as_str(),
            };
            (*at, format!("{what}: {reason}"))
        }
        Record::Acknowledged { at, .. } => (*at, "acknowledged".to_owned()),
        Record::Noted { text, .. } => (recorded_at, text.clone()),
        Record::Merged { into, .. } => (recorded_at, format!("merged into {into}")),
        Record::MergedFrom { from, .. } => (recorded_at, format!("{from} was merged into this incident")),
    }
}

fn alert_line(alert: &AlertChange) -> String {
    let what = match (alert.state, alert.severity) {
        (AlertState::Firing, Some(_)) => "alert",
        (AlertState::Firing, None) => "note",
        (AlertState::Resolved, _) => "ended",
    };
    let name = alert.rule.as_ref().map_or(&*alert.detector, |rule| &rule.name);
    match &alert.agent {
        Some(agent) => format!("{what} {name} on {agent}: {}", alert.reason),
        None => format!("{what} {name}: {}", alert.reason),
    }
}
