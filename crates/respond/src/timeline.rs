//! Journal entries as lines for people.

use std::cmp::Ordering;

use paramedic_journal::Entry;
use paramedic_model::{AlertChange, AlertState, Fingerprint, IncidentState, Role, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clocks::span;
use crate::record::Record;
use crate::runs::RunStage;

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
            let how = if *by_hand { " by hand" } else { "" };
            let reason = if reason == "by hand" { String::new() } else { format!(": {reason}") };
            let what = match to.cmp(from) {
                Ordering::Greater => format!("raised{how} from {from} to {to}"),
                Ordering::Less => format!("lowered{how} from {from} to {to}"),
                Ordering::Equal => format!("confirmed{how} as {to}"),
            };
            (*at, format!("severity {what}{reason}"))
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
        Record::SplitInto { into, alerts, .. } => (recorded_at, format!("{} split off into {into}", alerts_of(alerts))),
        Record::SplitFrom { from, alerts, .. } => (recorded_at, format!("split off from {from} with {}", alerts_of(alerts))),
        Record::RoleChanged { role, from, to, at, note, .. } => (*at, role_line(*role, from.as_deref(), to.as_deref(), note)),
        Record::KindChanged { from, to, reason, .. } => {
            (recorded_at, format!("kind changed from {} to {}: {reason}", lower(from.title()), lower(to.title())))
        }
        Record::BackDated { what, from, to, reason, .. } => (recorded_at, format!("back-dated: {what} was {from}, is now {to}: {reason}")),
        Record::Escalated { level, who, why, at, drill, .. } => {
            let drill = if *drill { "drill: " } else { "" };
            (*at, format!("{drill}escalated to level {level} ({who}): {why}"))
        }
        Record::Warned { text, at, .. } => (*at, format!("warning: {text}")),
        Record::Overran { phase, limit_s, at, .. } => (*at, format!("{phase} takes longer than {}", span(*limit_s))),
        Record::Ticked { item, done, at, .. } => (*at, if *done { format!("ticked: {item}") } else { format!("tick taken back: {item}") }),
        Record::Attached { attachment, .. } => {
            let from = if attachment.source.is_empty() { String::new() } else { format!(" from {}", attachment.source) };
            let hash = paramedic_model::text::head(&attachment.sha256, 12);
            (recorded_at, format!("attached {} ({} bytes, sha256 {hash}){from}", attachment.name, attachment.bytes))
        }
        Record::RunNoted { runbook, run, what, detail, unattended, at, .. } => (*at, run_line(runbook, run, *what, detail, *unattended)),
    }
}

fn alerts_of(alerts: &[Fingerprint]) -> String {
    match alerts {
        [one] => format!("alert {one}"),
        many => format!("{} alerts", many.len()),
    }
}

fn role_line(role: Role, from: Option<&str>, to: Option<&str>, note: &str) -> String {
    let what = match (from, to) {
        (Some(from), Some(to)) => format!("{from} handed {role} over to {to}"),
        (Some(from), None) => format!("{from} is not {role} any more"),
        (None, Some(to)) => format!("{to} is {role}"),
        (None, None) => format!("{role} is free"),
    };
    if note.is_empty() { what } else { format!("{what}: {note}") }
}

fn run_line(runbook: &str, run: &str, what: RunStage, detail: &str, unattended: bool) -> String {
    let said = match what {
        RunStage::Started => "started",
        RunStage::Investigated => "has done its read steps",
        RunStage::CauseNamed if detail.is_empty() => "found no cause that anything speaks for",
        RunStage::CauseNamed => "names the cause",
        RunStage::FixBegun if unattended => "began a fix by itself",
        RunStage::FixBegun => "began a fix that was approved",
        RunStage::Verified => "verified that the fix held",
        RunStage::TakenBack => "took its fix back",
        RunStage::Ended => "ended",
    };
    let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
    format!("runbook {runbook} (run {run}) {said}{detail}")
}

fn lower(title: &str) -> String {
    title.to_lowercase()
}

fn alert_line(alert: &AlertChange) -> String {
    let what = match (alert.state, alert.severity) {
        (AlertState::Firing, Some(_)) => "alert",
        (AlertState::Firing, None) => "note",
        (AlertState::Resolved, _) => "ended",
    };
    let name = alert.name();
    match &alert.agent {
        Some(agent) => format!("{what} {name} on {agent}: {}", alert.reason),
        None => format!("{what} {name}: {}", alert.reason),
    }
}
