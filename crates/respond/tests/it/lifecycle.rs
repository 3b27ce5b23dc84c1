//! What people do with incidents beyond moving them: roles, corrections, two from one.

use paramedic_model::{AgentId, Fingerprint, IncidentKind, IncidentState, MitigatedBy, Moment, Role, Severity};
use paramedic_respond::Command;
use paramedic_respond::command::CommandError;
use paramedic_respond::timeline::describe_record;

use crate::script::{Stage, ends, fires, id, minute};

fn text(error: &CommandError) -> String {
    error.to_string()
}

#[test]
fn who_acknowledges_responds_and_leads_where_nobody_does() {
    let mut stage = Stage::with(&[fires("a", 0.0, 1.0, Severity::Sev2, 3)]);
    assert_eq!(stage.one().holders(Role::Scribe), ["paramedic"]);
    stage.at(2.0).ok("ann", Command::Acknowledge { incident: id(1) });
    assert_eq!((stage.one().holders(Role::Commander), stage.one().holders(Role::Responder)), (&["ann".into()][..], &["ann".into()][..]));
    assert_eq!(stage.one().role_changes, 2);
    let mut led = Stage::with(&[fires("a", 0.0, 1.0, Severity::Sev2, 3)]);
    led.ok("cy", Command::AssignRole { incident: id(1), role: Role::Commander, person: " eve ".into() });
    led.ok("ann", Command::Acknowledge { incident: id(1) });
    assert_eq!((led.one().holders(Role::Commander), led.one().holders(Role::Responder)), (&["eve".into()][..], &["ann".into()][..]));
}

#[test]
fn a_role_that_is_held_is_handed_over_and_both_are_on_record() {
    let mut stage = Stage::with(&[fires("a", 0.0, 1.0, Severity::Sev2, 3)]);
    stage.ok("ann", Command::Acknowledge { incident: id(1) });
    let taken = Command::AssignRole { incident: id(1), role: Role::Commander, person: "bob".into() };
    assert!(text(&stage.refused("bob", taken)).contains("commander is held by ann: hand it over"));
    let over = Command::HandOver { incident: id(1), role: Role::Commander, to: "bob".into(), note: "end of shift".into() };
    let records = stage.ok("ann", over);
    assert_eq!(describe_record(&records[0], minute(0.0)).1, "ann handed commander over to bob: end of shift");
    assert_eq!(stage.one().holders(Role::Commander), ["bob"]);
    for to in ["", "  ", "\n", "bob"] {
        let command = Command::HandOver { incident: id(1), role: Role::Commander, to: to.into(), note: String::new() };
        assert!(text(&stage.refused("ann", command)).starts_with("to "), "{to:?}");
    }
    let nobody = Command::HandOver { incident: id(1), role: Role::Communications, to: "bob".into(), note: String::new() };
    assert!(text(&stage.refused("ann", nobody)).contains("held by nobody"));
}

#[test]
fn a_released_role_is_free_and_the_scribe_is_paramedic_again() {
    let mut stage = Stage::with(&[fires("a", 0.0, 1.0, Severity::Sev2, 3)]);
    stage.ok("ann", Command::AssignRole { incident: id(1), role: Role::Scribe, person: "eve".into() });
    assert_eq!(stage.one().holders(Role::Scribe), ["eve"]);
    stage.ok("ann", Command::ReleaseRole { incident: id(1), role: Role::Scribe, person: "eve".into() });
    assert_eq!(stage.one().holders(Role::Scribe), ["paramedic"]);
    stage.refused("ann", Command::ReleaseRole { incident: id(1), role: Role::Commander, person: "eve".into() });
    for person in ["bob", "cy", "bob"] {
        stage.ok("ann", Command::AssignRole { incident: id(1), role: Role::Responder, person: person.into() });
    }
    assert_eq!(stage.one().holders(Role::Responder), ["bob", "cy"]);
    stage.ok("bob", Command::HandOver { incident: id(1), role: Role::Responder, to: "dan".into(), note: String::new() });
    assert_eq!(stage.one().holders(Role::Responder), ["cy", "dan"]);
}

#[test]
fn moving_it_by_hand_acknowledges_it() {
    let mut stage = Stage::with(&[fires("a", 0.0, 1.0, Severity::Sev2, 3)]);
    stage.at(4.0).ok("ann", Command::SetState { incident: id(1), state: IncidentState::Mitigated, reason: "restarted".into() });
    let incident = stage.one();
    assert_eq!((incident.acknowledged_at, incident.acknowledged_by.as_deref()), (Some(minute(4.0)), Some("ann")));
    assert_eq!((incident.mitigated_at, incident.mitigated_by), (Some(minute(4.0)), Some(MitigatedBy::Person)));
    let mut false_alarm = Stage::with(&[fires("a", 0.0, 1.0, Severity::Sev2, 3)]);
    false_alarm.ok("ann", Command::Cancel { incident: id(1), reason: String::new() });
    assert_eq!(false_alarm.one().acknowledged_at, None);
}

#[test]
fn an_incident_is_closed_after_it_was_resolved_and_can_be_opened_again() {
    let mut stage = Stage::with(&[fires("a", 0.0, 1.0, Severity::Sev2, 3), ends("a", 0.0, 2.0, Some(Severity::Sev2), 3)]);
    let close = Command::Close { incident: id(1), reason: "postmortem is out".into() };
    assert!(text(&stage.at(3.0).refused("ann", close.clone())).ends_with("only a resolved incident can be closed"));
    stage.ok("ann", Command::Resolve { incident: id(1), reason: String::new() });
    stage.at(90.0).ok("ann", close);
    assert_eq!((stage.one().state, stage.one().closed_at), (IncidentState::Closed, Some(minute(90.0))));
    stage.at(95.0).ok("bob", Command::Reopen { incident: id(1), reason: "again".into() });
    let incident = stage.one();
    assert_eq!(
        (incident.state, incident.closed_at, incident.resolved_at, incident.reopened),
        (IncidentState::Investigating, None, None, 1)
    );
    assert_eq!((incident.round.number, incident.round.acknowledged_at), (1, Some(minute(95.0))), "bob is there already");
    assert_eq!(incident.acknowledged_by.as_deref(), Some("ann"), "who was first stays");
}

#[test]
fn a_clock_that_lags_keeps_nobody_from_resolving() {
    let mut stage = Stage::with(&[fires("a", 0.0, 10.0, Severity::Sev2, 3)]);
    stage.at(2.0).ok("ann", Command::Resolve { incident: id(1), reason: String::new() });
    let incident = stage.one();
    assert_eq!((incident.resolved_at, incident.times().check()), (Some(minute(10.0)), Ok(())));
}

#[test]
fn times_are_corrected_within_their_order_and_on_record() {
    let mut stage = Stage::with(&[fires("a", 10.0, 12.0, Severity::Sev2, 3)]);
    stage.at(15.0).ok("ann", Command::Acknowledge { incident: id(1) });
    stage.at(20.0).ok("ann", Command::SetState { incident: id(1), state: IncidentState::Mitigated, reason: String::new() });
    stage.at(40.0).ok("ann", Command::Resolve { incident: id(1), reason: String::new() });
    let to = |what, at: f64, reason: &str| Command::BackDate { incident: id(1), what, to: minute(at), reason: reason.into() };
    stage.at(50.0);
    for (what, at, why) in [
        (Moment::Started, 13.0, "detected at"),
        (Moment::Detected, 16.0, "acknowledged at"),
        (Moment::Detected, 9.0, "before started"),
        (Moment::Mitigated, 14.0, "before acknowledged"),
        (Moment::Mitigated, 41.0, "resolved at"),
        (Moment::Resolved, 19.0, "before mitigated"),
        (Moment::Resolved, 51.0, "future"),
    ] {
        let said = text(&stage.refused("ann", to(what, at, "guess")));
        assert!(said.starts_with("to ") && said.contains(why), "{what} {at}: {said}");
    }
    assert!(text(&stage.refused("ann", to(Moment::Started, 5.0, " "))).starts_with("reason is empty"));
    let records = stage.ok("ann", to(Moment::Started, 5.0, "a user wrote at that time"));
    let said = describe_record(&records[0], minute(50.0)).1;
    assert!(said.starts_with(&format!("back-dated: started was {}, is now {}", minute(10.0), minute(5.0))), "{said}");
    stage.ok("ann", to(Moment::Resolved, 30.0, "it was over"));
    let incident = stage.one();
    assert_eq!((incident.started_at, incident.resolved_at), (minute(5.0), Some(minute(30.0))));
    assert!(incident.back_dated.contains(&Moment::Started) && incident.back_dated.contains(&Moment::Resolved));
}

#[test]
fn an_alert_does_not_move_an_onset_that_a_person_set() {
    let mut stage = Stage::with(&[fires("a", 0.0, 5.0, Severity::Sev2, 3)]);
    let fix = Command::BackDate { incident: id(1), what: Moment::Started, to: minute(3.0), reason: "the first minutes were a test".into() };
    stage.at(6.0).ok("ann", fix);
    stage.alert(&fires("a", 0.0, 7.0, Severity::Sev2, 9));
    assert_eq!(stage.one().started_at, minute(3.0));
}

#[test]
fn drill_and_real_can_be_exchanged_with_a_reason_and_history_cannot() {
    let mut stage = Stage::with(&[fires("a", 0.0, 1.0, Severity::Sev2, 3)]);
    let kind = |kind, reason: &str| Command::SetKind { incident: id(1), kind, reason: reason.into() };
    stage.refused("ann", kind(IncidentKind::Drill, ""));
    stage.ok("ann", kind(IncidentKind::Drill, "planned"));
    assert_eq!(stage.one().kind, IncidentKind::Drill);
    stage.refused("ann", kind(IncidentKind::Backfill, "old"));
}

#[test]
fn a_split_takes_its_alerts_along_now_and_later() {
    let story = [fires("a", 0.0, 1.0, Severity::Sev3, 3), fires("b", 2.0, 3.0, Severity::Sev2, 5), fires("c", 2.0, 3.0, Severity::Sev3, 1)];
    let mut stage = Stage::with(&story);
    let split = Command::Split { incident: id(1), alerts: vec![], agents: vec![AgentId::new("b")], title: "b is another matter".into() };
    stage.at(5.0).ok("ann", split);
    let new = stage.get(2);
    assert_eq!((new.severity, new.started_at, new.counts.retries), (Severity::Sev2, minute(2.0), 5));
    assert_eq!((new.split_from.clone(), new.agents.len(), new.acknowledged_by.as_deref()), (Some(id(1)), 1, Some("ann")));
    let old = stage.one();
    assert_eq!((old.split_into.clone(), old.agents.len(), old.counts.retries, old.counts.episodes), (vec![id(2)], 2, 4, 2));

    stage.alert(&fires("b", 2.0, 6.0, Severity::Sev2, 50));
    stage.alert(&ends("b", 2.0, 7.0, Some(Severity::Sev2), 51));
    stage.alert(&fires("b", 8.0, 8.0, Severity::Sev2, 1));
    stage.alert(&fires("d", 8.0, 8.0, Severity::Sev3, 1));
    assert_eq!((stage.get(2).counts.retries, stage.get(2).counts.episodes), (52, 2), "the same alert, and a later one of its fingerprint");
    assert_eq!(
        (stage.one().counts.retries, stage.one().agents.len(), stage.count()),
        (5, 3, 2),
        "what is new of the old cause stays there"
    );
}

#[test]
fn a_split_of_nothing_or_of_all_is_refused() {
    let mut stage = Stage::with(&[fires("a", 0.0, 1.0, Severity::Sev3, 3), fires("b", 2.0, 3.0, Severity::Sev2, 5)]);
    let split = |alerts: &[&str], agents: &[&str]| Command::Split {
        incident: id(1),
        alerts: alerts.iter().map(|one| Fingerprint((*one).to_owned())).collect(),
        agents: agents.iter().map(|one| AgentId::new(*one)).collect(),
        title: "x".into(),
    };
    for (command, why) in [
        (split(&[], &[]), "alerts is empty"),
        (split(&["nothing:a"], &[]), "alerts names an alert that INC-1 does not have"),
        (split(&[], &["z"]), "agents names an agent without an alert"),
        (split(&["api-overload:a"], &["b"]), "alerts names all alerts"),
    ] {
        assert!(text(&stage.refused("ann", command)).starts_with(why), "{why}");
    }
    stage.at(4.0).ok("ann", Command::Resolve { incident: id(1), reason: String::new() });
    assert!(text(&stage.refused("ann", split(&[], &["a"]))).contains("re-open it first"));
}

#[test]
fn a_split_part_whose_alerts_have_ended_is_quiet() {
    let story =
        [fires("a", 0.0, 1.0, Severity::Sev3, 3), fires("b", 0.0, 1.0, Severity::Sev3, 3), ends("b", 0.0, 2.0, Some(Severity::Sev3), 3)];
    let mut stage = Stage::with(&story);
    let split = Command::Split { incident: id(1), alerts: vec![], agents: vec![AgentId::new("b")], title: "b".into() };
    stage.at(5.0).ok("ann", split);
    assert_eq!((stage.one().state, stage.get(2).state), (IncidentState::Triage, IncidentState::Mitigated));
    stage.get(2).times().check().unwrap();
}

#[test]
fn merging_takes_over_people_severity_and_activity() {
    let mut loops = fires("z", 1.0, 1.0, Severity::Sev1, 0);
    loops.cause = "stuck:z".to_owned();
    loops.fingerprint = Fingerprint::new("repeat-exact", "z", "");
    let mut stage = Stage::with(&[fires("a", 0.0, 0.0, Severity::Sev3, 3), ends("a", 0.0, 0.5, Some(Severity::Sev3), 3), loops]);
    assert_eq!(stage.one().state, IncidentState::Mitigated);
    stage.at(2.0).ok("ann", Command::Acknowledge { incident: id(2) });
    stage.at(3.0).ok("bob", Command::Merge { incident: id(2), into: id(1) });
    let incident = stage.one();
    assert_eq!((incident.state, incident.severity), (IncidentState::Investigating, Severity::Sev1));
    assert!(incident.holds(Role::Responder, "ann") && incident.mitigated_at.is_none());
    incident.times().check().unwrap();
    for command in
        [Command::AssignRole { incident: id(2), role: Role::Commander, person: "x".into() }, Command::Acknowledge { incident: id(2) }]
    {
        stage.refused("ann", command);
    }
}

#[test]
fn what_is_open_is_not_merged_into_what_is_over() {
    let mut loops = fires("z", 1.0, 1.0, Severity::Sev2, 0);
    loops.cause = "stuck:z".to_owned();
    loops.fingerprint = Fingerprint::new("repeat-exact", "z", "");
    let mut stage = Stage::with(&[fires("a", 0.0, 0.0, Severity::Sev3, 3), loops]);
    stage.at(2.0).ok("ann", Command::Resolve { incident: id(1), reason: String::new() });
    let said = text(&stage.refused("ann", Command::Merge { incident: id(2), into: id(1) }));
    assert_eq!(said, "INC-1 is resolved: it is resolved; re-open it first");
}

#[test]
fn a_secret_that_lies_across_a_cut_is_not_shown_in_part() {
    let mut stage = Stage::with(&[fires("a", 10.0, 12.0, Severity::Sev2, 3)]);
    stage.at(15.0).ok("ann", Command::Acknowledge { incident: id(1) });
    // Five of its characters would stay before the cut, too few to be taken for a key.
    let across = |cut: usize| format!("{} sk-ant-api03-abcdefgh12345678", "x".repeat(cut - 13));
    for to in ["bob", "carol"] {
        let note = across(16 * 1024);
        let hand_over = Command::HandOver { incident: id(1), role: Role::Commander, to: to.into(), note };
        let written = serde_json::to_string(&stage.ok("ann", hand_over)).unwrap();
        assert!(!written.contains("api03"));
    }
    for cut in [200, 1_000, 16 * 1024] {
        let attach = Command::Attach {
            incident: id(1),
            name: across(cut),
            media_type: "text/plain".into(),
            text: Some("x".into()),
            base64: None,
            source: across(cut),
        };
        for command in [attach, Command::Note { incident: id(1), text: across(cut) }] {
            let written = serde_json::to_string(&stage.ok("ann", command)).unwrap();
            assert!(!written.contains("api03"), "{cut}");
        }
    }
}

#[test]
fn secrets_are_masked_wherever_people_write() {
    let mut stage = Stage::with(&[fires("a", 10.0, 12.0, Severity::Sev2, 3)]);
    let secret = || String::from("sk-ant-api03-abcdefgh12345678");
    stage.at(15.0).ok("ann", Command::Acknowledge { incident: id(1) });
    let commands = [
        Command::HandOver { incident: id(1), role: Role::Commander, to: "bob".into(), note: secret() },
        Command::AssignRole { incident: id(1), role: Role::Responder, person: secret() },
        Command::BackDate { incident: id(1), what: Moment::Started, to: minute(9.0), reason: secret() },
        Command::SetKind { incident: id(1), kind: IncidentKind::Drill, reason: secret() },
        Command::SetState { incident: id(1), state: IncidentState::Identified, reason: secret() },
        Command::Attach {
            incident: id(1),
            name: secret(),
            media_type: "text/html; <script>".into(),
            text: Some(secret()),
            base64: None,
            source: format!("https://ann:{}@host/", secret()),
        },
    ];
    for command in commands {
        let records = stage.ok("ann", command);
        let written = serde_json::to_string(&records).unwrap();
        assert!(!records.is_empty() && !written.contains("abcdefgh") && !written.contains("<script>"), "{written}");
        for record in &records {
            assert!(!describe_record(record, minute(0.0)).1.contains("abcdefgh"));
        }
    }
}
