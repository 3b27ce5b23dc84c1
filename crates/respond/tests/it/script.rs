//! Alert changes written as short lines, played into the pure decisions.

use std::time::Duration;

use paramedic_model::alert::AlertCounts;
use paramedic_model::{AlertChange, AlertState, Evidence, Fingerprint, IncidentType, Severity, Timestamp};
use paramedic_respond::record::SYSTEM_ACTOR;
use paramedic_respond::{Incidents, Record, Settings, decide_alert, decide_due};

/// Minutes after the start of the story.
pub(crate) fn minute(minutes: f64) -> Timestamp {
    #[expect(clippy::cast_possible_truncation, reason = "small numbers")]
    let micros = (minutes * 60e6) as i64;
    Timestamp::from_micros(1_768_000_000_000_000 + micros)
}

/// A change of an API alert: agent, onset and time in minutes, severity (none: a note), retries, failures.
pub(crate) fn change(
    agent: &str,
    state: AlertState,
    onset: f64,
    at: f64,
    severity: Option<Severity>,
    retries: u64,
    failures: u64,
) -> AlertChange {
    AlertChange {
        fingerprint: Fingerprint::new("api-overload", agent, ""),
        detector: "api-overload".into(),
        agent: Some(agent.into()),
        session: Some(agent.into()),
        user: Some("someone".to_owned()),
        started_at: minute(onset),
        at: minute(at),
        state,
        severity,
        incident_type: IncidentType::ApiFailure,
        cause: "api_failure".to_owned(),
        reason: format!("model API overloaded (529): {retries} retries"),
        evidence: vec![Evidence { at: minute(onset), text: "529".to_owned() }],
        counts: AlertCounts {
            retries,
            terminal_failures: failures,
            successes: 1,
            terminal_at: (failures > 0).then(|| minute(at)),
            ..AlertCounts::default()
        },
        rule: None,
    }
}

pub(crate) fn fires(agent: &str, onset: f64, at: f64, severity: Severity, retries: u64) -> AlertChange {
    change(agent, AlertState::Firing, onset, at, Some(severity), retries, 0)
}

pub(crate) fn ends(agent: &str, onset: f64, at: f64, severity: Option<Severity>, retries: u64) -> AlertChange {
    change(agent, AlertState::Resolved, onset, at, severity, retries, 0)
}

/// Plays changes in order, each at its own time.
pub(crate) fn play(changes: &[AlertChange]) -> Incidents {
    let mut incidents = Incidents::default();
    for change in changes {
        let due = decide_due(&incidents, change.at, &|_| true, &Settings::default());
        take(&mut incidents, change.at, &due);
        let records = decide_alert(&incidents, change, change.at, &Settings::default());
        take(&mut incidents, change.at, &records);
    }
    incidents
}

pub(crate) fn rest(incidents: &mut Incidents, until: Timestamp) {
    let due = decide_due(incidents, until, &|_| true, &Settings::default());
    take(incidents, until, &due);
}

pub(crate) fn take(incidents: &mut Incidents, now: Timestamp, records: &[Record]) {
    for record in records {
        incidents.apply_record(0, now, SYSTEM_ACTOR, record);
    }
}

/// The quiet window of the default settings.
pub(crate) fn quiet() -> Duration {
    Settings::default().quiet_window()
}
