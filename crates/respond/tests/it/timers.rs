//! The clocks of incidents, on a desk with a journal and a clock that the test sets.

use std::sync::Arc;

use paramedic_journal::{Journal, SqliteJournal};
use paramedic_model::{IncidentKind, IncidentState, IncidentType, Phase, Role, Severity};
use paramedic_respond::desk::Desk;
use paramedic_respond::metrics::Metrics;
use paramedic_respond::timeline::describe;
use paramedic_respond::{Command, Incident, Record, Settings, Timer, time_boxes};

use crate::script::{change, ends, fires, id, minute};

struct Ward {
    _dir: tempfile::TempDir,
    journal: Arc<dyn Journal>,
    desk: Desk,
}

impl Ward {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal: Arc<dyn Journal> = Arc::new(SqliteJournal::open(&dir.path().join("journal.sqlite")).unwrap());
        let desk = Desk::open(journal.clone(), Settings::default(), Metrics::default()).await.unwrap();
        Self { _dir: dir, journal, desk }
    }

    async fn incident(severity: Severity, kind: IncidentKind) -> Self {
        let ward = Self::open().await;
        ward.command(0.0, open(severity, kind, "one")).await;
        ward
    }

    async fn restart(&mut self) {
        self.desk = Desk::open(self.journal.clone(), Settings::default(), Metrics::default()).await.unwrap();
    }

    async fn command(&self, minutes: f64, command: Command) -> Incident {
        self.desk.command("ann", &command, minute(minutes)).await.unwrap()
    }

    /// The timers that fired until then, shortly.
    async fn tick(&self, minutes: f64) -> Vec<String> {
        let records = self.desk.tick(minute(minutes)).await.unwrap();
        records.iter().map(said).collect()
    }

    async fn one(&self) -> Incident {
        self.desk.incidents().await.get(&id(1)).unwrap().clone()
    }
}

fn said(record: &Record) -> String {
    match record {
        Record::Escalated { level, who, drill, .. } => format!("level {level} {who}{}", if *drill { " (drill)" } else { "" }),
        Record::SeverityChanged { to, .. } => format!("{to}"),
        Record::Warned { timer, .. } => format!("warned {timer:?}"),
        Record::Overran { phase, .. } => format!("overran {phase}"),
        Record::StateChanged { to, .. } => format!("{to}"),
        other => other.kind().to_owned(),
    }
}

fn open(severity: Severity, kind: IncidentKind, title: &str) -> Command {
    let (incident_type, title) = (IncidentType::Timeout, title.to_owned());
    Command::Open { title, incident_type, severity, agents: vec![], started_at: None, kind }
}

const REAL: IncidentKind = IncidentKind::Real;

#[tokio::test]
async fn each_severity_has_its_time_to_acknowledge() {
    for (severity, minutes) in [(Severity::Sev1, 5.0), (Severity::Sev2, 15.0), (Severity::Sev3, 60.0), (Severity::Sev4, 1440.0)] {
        let ward = Ward::incident(severity, REAL).await;
        let called = |said: Vec<String>| said.contains(&"level 1 on call".to_owned());
        assert!(!called(ward.tick(minutes - 0.01).await), "{severity}");
        assert!(called(ward.tick(minutes).await), "{severity}");
        assert!(!called(ward.tick(minutes + 1.0).await), "{severity}: once");
        assert_eq!(ward.one().await.escalations.iter().filter(|one| one.timer == Timer::Acknowledge).count(), 1);
    }
}

#[tokio::test]
async fn an_acknowledged_incident_calls_nobody_for_acknowledgement() {
    let ward = Ward::incident(Severity::Sev1, REAL).await;
    ward.command(4.0, Command::Acknowledge { incident: id(1) }).await;
    assert_eq!(ward.tick(6.0).await, Vec::<String>::new());
}

#[tokio::test]
async fn without_mitigation_the_secondary_is_called_and_a_sev2_becomes_a_sev1() {
    let ward = Ward::incident(Severity::Sev2, REAL).await;
    ward.command(1.0, Command::Acknowledge { incident: id(1) }).await;
    assert_eq!(ward.tick(14.9).await, ["overran investigation"]);
    assert_eq!(ward.tick(15.0).await, ["level 2 secondary"]);
    assert_eq!(ward.tick(29.9).await, Vec::<String>::new());
    assert_eq!(ward.tick(30.0).await, ["SEV1"]);
    assert_eq!(ward.tick(31.0).await, Vec::<String>::new());
    let entries = ward.journal.read_subject("incident/INC-1", 0, 100).await.unwrap();
    let lines: Vec<String> = entries.iter().filter_map(describe).map(|item| item.text).collect();
    for line in [
        "escalated to level 2 (secondary): this SEV2 is not mitigated after 15 min",
        "severity raised from SEV2 to SEV1: not mitigated after 30 min",
        "investigation takes longer than 10 min",
    ] {
        assert!(lines.iter().any(|one| one == line), "{line}: {lines:#?}");
    }
}

#[tokio::test]
async fn what_is_mitigated_calls_nobody() {
    let ward = Ward::incident(Severity::Sev2, REAL).await;
    let state = IncidentState::Mitigated;
    ward.command(3.0, Command::SetState { incident: id(1), state, reason: String::new() }).await;
    assert_eq!(ward.tick(17.0).await, Vec::<String>::new(), "nothing before the quiet window is over");
    assert_eq!(ward.tick(40.0).await, ["resolved"]);
}

#[tokio::test]
async fn a_severity_set_by_hand_is_not_raised_but_warned_about_once() {
    let ward = Ward::incident(Severity::Sev1, REAL).await;
    ward.command(1.0, Command::Acknowledge { incident: id(1) }).await;
    let severity = Severity::Sev2;
    ward.command(2.0, Command::SetSeverity { incident: id(1), severity, reason: "only staging".into() }).await;
    assert_eq!(ward.tick(31.0).await, ["level 2 secondary", "warned Severity", "overran investigation"]);
    assert_eq!(ward.tick(32.0).await, Vec::<String>::new());
    assert_eq!(ward.one().await.severity, Severity::Sev2);
}

#[tokio::test]
async fn more_affected_users_raise_the_severity_and_only_warn_against_a_hand() {
    for by_hand in [false, true] {
        let ward = Ward::open().await;
        // Ten users of one agent: the number of agents says nothing.
        for user in 0..10 {
            let mut alert = fires("a", 0.0, 1.0, Severity::Sev3, 3);
            alert.user = Some(format!("user-{user}"));
            alert.fingerprint.0 = format!("api-overload:a:{user}");
            if user == 5 && by_hand {
                let severity = Severity::Sev4;
                ward.command(1.0, Command::SetSeverity { incident: id(1), severity, reason: "known".into() }).await;
            }
            ward.desk.apply(&[alert], minute(1.0)).await.unwrap();
        }
        let expected = if by_hand { Severity::Sev4 } else { Severity::Sev2 };
        assert_eq!(ward.one().await.severity, expected);
        let warned = ward.tick(2.0).await == ["warned Impact"];
        assert_eq!(warned, by_hand);
        assert_eq!(ward.tick(3.0).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn timers_survive_a_restart_in_the_middle() {
    let mut ward = Ward::incident(Severity::Sev1, REAL).await;
    assert_eq!(ward.tick(5.0).await, ["level 1 on call"]);
    ward.restart().await;
    assert_eq!(ward.tick(14.0).await, ["overran detection"], "what has fired is known");
    ward.desk.save_snapshot().await.unwrap();
    ward.restart().await;
    assert_eq!(ward.tick(200.0).await, ["level 2 secondary"], "what ran out meanwhile fires late, not never");
    ward.restart().await;
    assert_eq!(ward.tick(201.0).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_reopened_incident_begins_its_timers_anew() {
    let ward = Ward::open().await;
    let burst = |onset: f64| [fires("a", onset, onset, Severity::Sev1, 3), ends("a", onset, onset + 6.0, Some(Severity::Sev1), 3)];
    ward.desk.apply(&burst(0.0)[..1], minute(0.0)).await.unwrap();
    assert_eq!(ward.tick(5.5).await, ["level 1 on call", "overran detection"]);
    ward.desk.apply(&burst(0.0)[1..], minute(6.0)).await.unwrap();
    assert_eq!(ward.tick(21.0).await, ["resolved"]);
    ward.desk.apply(&burst(30.0)[..1], minute(30.0)).await.unwrap();
    assert_eq!(ward.tick(34.0).await, Vec::<String>::new());
    assert_eq!(ward.one().await.acknowledgement_due(), Some(minute(35.0)));
    assert_eq!(ward.tick(35.0).await, ["level 1 on call"], "whoever was called then is called again now");
    assert_eq!((ward.one().await.round.number, ward.one().await.escalations.len()), (1, 2));
}

#[tokio::test]
async fn history_calls_nobody_and_a_drill_says_that_it_is_one() {
    let past = Ward::incident(Severity::Sev1, IncidentKind::Backfill).await;
    assert_eq!(past.tick(500.0).await, Vec::<String>::new());
    let drill = Ward::incident(Severity::Sev1, IncidentKind::Drill).await;
    assert_eq!(drill.tick(5.0).await, ["level 1 on call (drill)"]);
    let entries = drill.journal.read_subject("incident/INC-1", 0, 100).await.unwrap();
    assert!(entries.iter().filter_map(describe).any(|item| item.text.starts_with("drill: escalated to level 1")));
}

#[tokio::test]
async fn a_late_reading_gives_people_their_whole_time() {
    let ward = Ward::open().await;
    // The alert is from minute 0, but nobody could know before minute 20.
    ward.desk.apply(&[fires("a", 0.0, 0.0, Severity::Sev1, 3)], minute(20.0)).await.unwrap();
    assert_eq!(ward.tick(24.9).await, Vec::<String>::new());
    assert_eq!(ward.tick(25.0).await, ["level 1 on call"]);
}

#[tokio::test]
async fn nine_responders_are_more_than_one_can_lead() {
    let ward = Ward::incident(Severity::Sev4, REAL).await;
    for person in 0..9 {
        assert_eq!(ward.tick(1.0).await, Vec::<String>::new(), "{person}");
        let person = format!("person-{person}");
        ward.command(1.0, Command::AssignRole { incident: id(1), role: Role::Responder, person }).await;
    }
    assert_eq!(ward.tick(1.0).await, ["warned SpanOfControl"]);
    assert_eq!(ward.tick(2.0).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_hundred_incidents_at_once_fire_each_timer_once() {
    let mut ward = Ward::open().await;
    for i in 0..100 {
        ward.command(0.0, open(Severity::Sev2, REAL, &format!("number {i}"))).await;
    }
    let first = ward.tick(16.0).await;
    for (what, times) in [("level 1 on call", 100), ("level 2 secondary", 100), ("overran detection", 100)] {
        assert_eq!(first.iter().filter(|one| *one == what).count(), times, "{what}");
    }
    assert_eq!(first.len(), 300);
    ward.restart().await;
    assert_eq!(ward.tick(17.0).await, Vec::<String>::new());
    assert_eq!(ward.tick(30.0).await.len(), 100, "all become SEV1");
}

#[tokio::test]
async fn phases_are_timed_and_their_overruns_shown() {
    let ward = Ward::incident(Severity::Sev2, REAL).await;
    let settings = Settings::default();
    let state = |state| Command::SetState { incident: id(1), state, reason: String::new() };
    ward.command(2.0, Command::Acknowledge { incident: id(1) }).await;
    ward.command(14.0, state(IncidentState::Identified)).await;
    ward.command(20.0, state(IncidentState::Mitigated)).await;
    let incident = ward.command(55.0, Command::Resolve { incident: id(1), reason: String::new() }).await;
    let boxes = time_boxes(&incident, minute(60.0), &settings);
    let shown: Vec<_> = boxes.iter().map(|one| (one.phase, one.used_s / 60, one.overrun_s / 60, one.ended_at.is_some())).collect();
    assert_eq!(
        shown,
        [
            (Phase::Detection, 2, 0, true),
            (Phase::Investigation, 12, 2, true),
            (Phase::Mitigation, 6, 0, true),
            (Phase::Resolution, 35, 5, true),
            (Phase::Postmortem, 5, 0, false),
        ]
    );
    assert_eq!(ward.tick(60.0 * 24.0 + 56.0).await, ["overran postmortem"]);
    assert_eq!(ward.tick(60.0 * 24.0 + 57.0).await, Vec::<String>::new());
    let closed = ward.command(60.0 * 25.0, Command::Close { incident: id(1), reason: String::new() }).await;
    assert!(time_boxes(&closed, minute(9e5), &settings).iter().all(|one| one.ended_at.is_some()));
}

#[tokio::test]
async fn a_phase_that_is_passed_over_ends_with_the_next_one() {
    let ward = Ward::open().await;
    let alerts = [fires("a", 0.0, 0.0, Severity::Sev2, 3), ends("a", 0.0, 4.0, Some(Severity::Sev2), 3)];
    ward.desk.apply(&alerts[..1], minute(0.0)).await.unwrap();
    ward.desk.apply(&alerts[1..], minute(4.0)).await.unwrap();
    let boxes = time_boxes(&ward.one().await, minute(6.0), &Settings::default());
    let shown: Vec<_> = boxes.iter().map(|one| (one.phase, one.used_s / 60)).collect();
    assert_eq!(shown, [(Phase::Detection, 4), (Phase::Investigation, 0), (Phase::Mitigation, 0), (Phase::Resolution, 2)]);
}

#[tokio::test]
async fn a_note_alone_does_not_raise_what_it_joins() {
    let ward = Ward::open().await;
    let note = |agent: &str| change(agent, paramedic_model::AlertState::Firing, 1.0, 1.0, None, 1, 0);
    let story = [fires("a", 0.0, 1.0, Severity::Sev3, 3), note("b"), note("c"), note("d")];
    ward.desk.apply(&story, minute(1.0)).await.unwrap();
    assert_eq!((ward.one().await.agents.len(), ward.one().await.severity), (4, Severity::Sev3));
}
