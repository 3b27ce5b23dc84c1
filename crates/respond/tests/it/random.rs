//! Whatever people, alerts, runs and time do in whatever order: times stay in order, nothing panics, and the journal
//! tells the same incidents that were lived.

use std::sync::Arc;

use paramedic_journal::{Journal, SqliteJournal};
use paramedic_model::{AgentId, AlertState, IncidentKind, IncidentState, IncidentType, Moment, Role, Severity, Timestamp};
use paramedic_respond::desk::Desk;
use paramedic_respond::metrics::Metrics;
use paramedic_respond::record::SYSTEM_ACTOR;
use paramedic_respond::{Command, RunNote, RunStage, Settings};
use proptest::prelude::*;

use crate::script::{change, id, minute};

const AGENTS: [&str; 4] = ["a", "b", "c", "d"];
const STAGES: [RunStage; 7] = [
    RunStage::Started,
    RunStage::Investigated,
    RunStage::CauseNamed,
    RunStage::FixBegun,
    RunStage::Verified,
    RunStage::TakenBack,
    RunStage::Ended,
];

/// One thing that happens; the numbers choose which, to whom, and when.
#[derive(Debug, Clone, Copy)]
struct Happening {
    what: u8,
    which: u8,
    incident: u64,
    minutes: f64,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = (0u8..24, any::<u8>(), 1u64..5, -3.0..25.0f64);
    proptest::collection::vec(one.prop_map(|(what, which, incident, minutes)| Happening { what, which, incident, minutes }), 1..60)
}

fn pick<T: Copy>(from: &[T], which: u8) -> T {
    from[usize::from(which) % from.len()]
}

fn command(one: Happening, now: Timestamp) -> Command {
    let (incident, which) = (id(one.incident), one.which);
    let reason = String::from("because");
    let person = pick(&["ann", "bob", "", "paramedic"], which / 5).to_owned();
    let role = pick(Role::ALL, which);
    match one.what {
        8 => Command::Acknowledge { incident },
        9 => Command::Resolve { incident, reason },
        10 => Command::Close { incident, reason },
        11 => Command::Reopen { incident, reason },
        12 => Command::Cancel { incident, reason },
        13 => Command::Merge { incident, into: id(u64::from(which) % 5) },
        14 => Command::Split { incident, alerts: vec![], agents: vec![AgentId::new(pick(&AGENTS, which))], title: "part".into() },
        15 | 16 => Command::BackDate { incident, what: pick(Moment::ALL, which), to: now.before(span(one.minutes)), reason },
        17 => Command::AssignRole { incident, role, person },
        18 => Command::HandOver { incident, role, to: person, note: String::new() },
        19 => Command::ReleaseRole { incident, role, person },
        20 => Command::SetSeverity { incident, severity: pick(&Severity::ALL, which), reason },
        21 => Command::SetKind { incident, kind: pick(IncidentKind::ALL, which), reason },
        22 => Command::Open {
            title: "by hand".into(),
            incident_type: IncidentType::Timeout,
            severity: pick(&Severity::ALL, which),
            agents: vec![],
            started_at: Some(now.before(span(one.minutes))),
            kind: pick(IncidentKind::ALL, which),
        },
        _ => Command::SetState { incident, state: pick(IncidentState::ALL, which), reason },
    }
}

fn span(minutes: f64) -> std::time::Duration {
    std::time::Duration::from_secs_f64(minutes.abs() * 60.0)
}

async fn happens(desk: &Desk, one: Happening, now: &mut Timestamp, minutes: &mut f64) {
    match one.what {
        // Time passes, at times backwards: a clock was set.
        0 | 1 => {
            *minutes += one.minutes;
            *now = minute(*minutes);
            desk.tick(*now).await.unwrap();
        }
        2..=5 => {
            let state = if one.which.is_multiple_of(2) { AlertState::Firing } else { AlertState::Resolved };
            let severity = (!one.which.is_multiple_of(7)).then_some(pick(&Severity::ALL, one.which / 2));
            // Seen late, or by a clock that is ahead.
            let at = *minutes - 2.0 + f64::from(one.which % 5);
            let onset = f64::from(one.which % 3) * 10.0;
            let alert = change(pick(&AGENTS, one.which / 8), state, onset, at.max(onset), severity, u64::from(one.which), 0);
            desk.apply(&[alert], *now).await.unwrap();
        }
        6 | 7 => {
            let note = RunNote {
                incident: id(one.incident),
                run: format!("RUN-{}", one.which % 3),
                runbook: "redis-failure".into(),
                what: pick(&STAGES, one.which),
                detail: "x".into(),
                score: f64::from(one.which % 2),
                unattended: one.which.is_multiple_of(3),
                by: pick(&["ann", SYSTEM_ACTOR, "policy:night", "web"], one.which / 3).to_owned(),
            };
            let _ = desk.note_run(&note, *now).await;
        }
        _ => {
            let actor = pick(&["ann", "bob", SYSTEM_ACTOR, "web"], one.which);
            // Refused or not: what counts is what stands afterwards.
            let _ = desk.command(actor, &command(one, *now), *now).await;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_times_stay_in_order_and_the_journal_tells_it(story in happenings()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let journal: Arc<dyn Journal> = Arc::new(SqliteJournal::open(&dir.path().join("journal.sqlite")).unwrap());
            let desk = Desk::open(journal.clone(), Settings::default(), Metrics::default()).await.unwrap();
            let (mut now, mut minutes) = (minute(20.0), 20.0);
            for one in story {
                happens(&desk, one, &mut now, &mut minutes).await;
                for incident in desk.incidents().await.list() {
                    let order = incident.times().check();
                    assert!(order.is_ok(), "{} after {one:?}: {order:?}\n{incident:#?}", incident.id);
                    assert!(incident.round.fired.len() <= 5);
                }
            }
            let lived = serde_json::to_value(desk.incidents().await.list().collect::<Vec<_>>()).unwrap();
            // From the entries alone, and from a snapshot of them.
            for _ in 0..2 {
                let again = Desk::open(journal.clone(), Settings::default(), Metrics::default()).await.unwrap();
                let read = serde_json::to_value(again.incidents().await.list().collect::<Vec<_>>()).unwrap();
                assert_eq!(read, lived);
                again.save_snapshot().await.unwrap();
            }
        });
    }
}
