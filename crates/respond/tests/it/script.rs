//! Alert changes written as short lines, played into the pure decisions.

use std::time::Duration;

use paramedic_model::alert::AlertCounts;
use paramedic_model::{AlertChange, AlertState, Evidence, Fingerprint, IncidentId, IncidentType, Severity, Timestamp};
use paramedic_respond::command::{Command, CommandError, decide_command};
use paramedic_respond::record::SYSTEM_ACTOR;
use paramedic_respond::{Incident, Incidents, Record, Settings, decide_alert, decide_due};

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

pub(crate) fn id(number: u64) -> IncidentId {
    IncidentId(format!("INC-{number}"))
}

/// Pure decisions with a clock that the test sets.
pub(crate) struct Stage {
    pub(crate) incidents: Incidents,
    pub(crate) now: Timestamp,
}

impl Stage {
    pub(crate) fn with(changes: &[AlertChange]) -> Self {
        let now = changes.last().map_or(minute(0.0), |change| change.at);
        Self { incidents: play(changes), now }
    }

    pub(crate) fn at(&mut self, minutes: f64) -> &mut Self {
        self.now = minute(minutes);
        self
    }

    pub(crate) fn alert(&mut self, change: &AlertChange) {
        self.now = change.at;
        let records = decide_alert(&self.incidents, change, change.at, &Settings::default());
        take(&mut self.incidents, change.at, &records);
    }

    pub(crate) fn command(&mut self, actor: &str, command: &Command) -> Result<Vec<Record>, CommandError> {
        let (_, records) = decide_command(&self.incidents, command, actor, self.now, &Settings::default())?;
        for record in &records {
            self.incidents.apply_record(0, self.now, actor, record);
        }
        Ok(records)
    }

    pub(crate) fn ok(&mut self, actor: &str, command: Command) -> Vec<Record> {
        self.command(actor, &command).unwrap()
    }

    pub(crate) fn refused(&mut self, actor: &str, command: Command) -> CommandError {
        self.command(actor, &command).unwrap_err()
    }

    pub(crate) fn get(&self, number: u64) -> &Incident {
        self.incidents.get(&id(number)).unwrap()
    }

    pub(crate) fn one(&self) -> &Incident {
        self.get(1)
    }

    pub(crate) fn count(&self) -> usize {
        self.incidents.list().count()
    }
}
