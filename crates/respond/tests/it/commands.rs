use paramedic_model::{IncidentId, IncidentKind, IncidentState, IncidentType, Severity, Timestamp};
use paramedic_respond::command::{Command, CommandError, Decided, decide_command};
use paramedic_respond::{Incidents, Settings, decide_alert};

use crate::script::{ends, fires, minute, play, take};

fn id(number: u64) -> IncidentId {
    IncidentId(format!("INC-{number}"))
}

fn decide(incidents: &Incidents, command: &Command, now: Timestamp) -> Decided {
    decide_command(incidents, command, "ann", now, &Settings::default())
}

fn run(incidents: &mut Incidents, command: Command) -> Result<(), CommandError> {
    let (_, records) = decide_command(incidents, &command, "ann", minute(60.0), &Settings::default())?;
    take(incidents, minute(60.0), &records);
    Ok(())
}

fn move_to(state: IncidentState) -> Command {
    Command::SetState { incident: id(1), state, reason: String::new() }
}

#[test]
fn every_move_is_allowed_or_refused_with_a_reason() {
    use IncidentState::{Cancelled, Closed, Identified, Investigating, Merged, Mitigated, Resolved, Triage};
    let allowed = [
        (Triage, Investigating),
        (Triage, Identified),
        (Triage, Mitigated),
        (Triage, Resolved),
        (Triage, Cancelled),
        (Investigating, Identified),
        (Investigating, Mitigated),
        (Investigating, Resolved),
        (Investigating, Cancelled),
        (Identified, Investigating),
        (Identified, Mitigated),
        (Identified, Resolved),
        (Identified, Cancelled),
        (Mitigated, Investigating),
        (Mitigated, Identified),
        (Mitigated, Resolved),
        (Mitigated, Cancelled),
        (Resolved, Investigating),
        (Resolved, Closed),
        (Resolved, Cancelled),
        (Closed, Investigating),
        (Cancelled, Investigating),
    ];
    for from in IncidentState::ALL {
        for to in IncidentState::ALL {
            let mut incidents = play(&[fires("a", 0.0, 0.0, Severity::Sev3, 3), fires("b", 0.0, 0.0, Severity::Sev3, 3)]);
            run(
                &mut incidents,
                Command::Open {
                    title: "other".into(),
                    incident_type: IncidentType::Timeout,
                    severity: Severity::Sev4,
                    agents: vec![],
                    started_at: None,
                    kind: IncidentKind::Real,
                },
            )
            .unwrap();
            reach(&mut incidents, *from);
            let outcome = run(&mut incidents, move_to(*to));
            let expected = from == to || allowed.contains(&(*from, *to));
            assert_eq!(outcome.is_ok(), expected, "{from} -> {to}: {outcome:?}");
            if let Err(error) = outcome {
                assert!(matches!(error, CommandError::IllegalMove { .. }), "{error}");
                assert!(error.to_string().contains("because "), "{error}");
            }
        }
    }
    fn reach(incidents: &mut Incidents, state: IncidentState) {
        match state {
            Triage => {}
            Closed => {
                run(incidents, move_to(Resolved)).unwrap();
                run(incidents, move_to(Closed)).unwrap();
            }
            Merged => run(incidents, Command::Merge { incident: id(1), into: id(2) }).unwrap(),
            state => run(incidents, move_to(state)).unwrap(),
        }
        assert_eq!(incidents.get(&id(1)).unwrap().state, state);
    }
}

#[test]
fn acknowledging_is_a_time_and_starts_the_investigation() {
    let mut incidents = play(&[fires("a", 0.0, 0.0, Severity::Sev3, 3)]);
    run(&mut incidents, Command::Acknowledge { incident: id(1) }).unwrap();
    let incident = incidents.get(&id(1)).unwrap();
    assert_eq!((incident.acknowledged_at, incident.state), (Some(minute(60.0)), IncidentState::Investigating));
    let (_, again) = decide(&incidents, &Command::Acknowledge { incident: id(1) }, minute(61.0)).unwrap();
    assert_eq!(again, [], "a second acknowledgement changes nothing");
}

#[test]
fn a_severity_set_by_hand_is_not_raised_again() {
    let mut incidents = play(&[fires("a", 0.0, 0.0, Severity::Sev2, 3)]);
    run(&mut incidents, Command::SetSeverity { incident: id(1), severity: Severity::Sev4, reason: "only the test fleet".into() }).unwrap();
    for agent in ["b", "c", "d"] {
        let change = fires(agent, 1.0, 1.0, Severity::Sev2, 5);
        let records = decide_alert(&incidents, &change, change.at, &Settings::default());
        take(&mut incidents, change.at, &records);
    }
    assert_eq!(incidents.get(&id(1)).unwrap().severity, Severity::Sev4);
}

#[test]
fn a_merged_incidents_alerts_go_to_the_one_that_stays() {
    let mut loops = fires("a", 1.0, 1.0, Severity::Sev3, 0);
    loops.cause = "stuck:a".to_owned();
    loops.fingerprint = paramedic_model::Fingerprint::new("repeat-exact", "a", "");
    let mut incidents = play(&[fires("a", 0.0, 0.0, Severity::Sev3, 3), loops.clone()]);
    run(&mut incidents, Command::Merge { incident: id(2), into: id(1) }).unwrap();
    assert_eq!(incidents.get(&id(1)).unwrap().counts.episodes, 2);
    assert_eq!(incidents.get(&id(2)).unwrap().merged_into, Some(id(1)));

    let mut ended = loops;
    ended.state = paramedic_model::AlertState::Resolved;
    ended.at = minute(2.0);
    let records = decide_alert(&incidents, &ended, ended.at, &Settings::default());
    take(&mut incidents, ended.at, &records);
    assert_eq!(incidents.get(&id(1)).unwrap().firing().count(), 1, "only the API alert is still active");
    assert!(matches!(run(&mut incidents, Command::Merge { incident: id(1), into: id(1) }), Err(CommandError::Invalid { .. })));
}

#[test]
fn a_cancelled_incident_does_not_swallow_the_next_alert() {
    let mut incidents = play(&[fires("a", 0.0, 0.0, Severity::Sev3, 3), ends("a", 0.0, 1.0, Some(Severity::Sev3), 3)]);
    run(&mut incidents, Command::Cancel { incident: id(1), reason: "a rehearsal".into() }).unwrap();
    let change = fires("a", 2.0, 2.0, Severity::Sev3, 3);
    let records = decide_alert(&incidents, &change, change.at, &Settings::default());
    take(&mut incidents, change.at, &records);
    assert_eq!(incidents.list().count(), 2);
}

#[test]
fn wrong_input_is_named() {
    let incidents = Incidents::default();
    let missing = decide(&incidents, &Command::Acknowledge { incident: id(9) }, minute(0.0));
    assert_eq!(missing.unwrap_err().to_string(), "there is no incident INC-9");
    let open = |title: &str, started_at| Command::Open {
        title: title.into(),
        incident_type: IncidentType::Timeout,
        severity: Severity::Sev2,
        agents: vec![],
        started_at,
        kind: IncidentKind::Real,
    };
    assert!(decide(&incidents, &open(" ", None), minute(0.0)).unwrap_err().to_string().starts_with("title is empty"));
    assert!(decide(&incidents, &open("x", Some(minute(5.0))), minute(0.0)).unwrap_err().to_string().contains("future"));
    assert!(decide(&incidents, &open(&"x".repeat(500), None), minute(0.0)).unwrap_err().to_string().contains("500 bytes"));
}

#[test]
fn secrets_in_notes_are_masked() {
    let mut incidents = play(&[fires("a", 0.0, 0.0, Severity::Sev3, 3)]);
    let note = Command::Note { incident: id(1), text: "key sk-ant-api03-abcdefgh12345678".into() };
    let (_, records) = decide(&incidents, &note, minute(1.0)).unwrap();
    assert!(format!("{records:?}").contains("sk-ant-***"));
    run(&mut incidents, note).unwrap();
    assert_eq!(incidents.get(&id(1)).unwrap().notes, 1);
}
