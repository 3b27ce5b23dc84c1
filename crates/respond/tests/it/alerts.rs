use paramedic_model::{AlertState, IncidentKind, IncidentState, Severity};
use paramedic_respond::{Settings, decide_alert};

use crate::script::{change, ends, fires, minute, play, quiet, rest, take};

#[test]
fn an_alert_opens_an_incident_that_begins_at_its_onset() {
    let incidents = play(&[fires("a", 0.0, 2.0, Severity::Sev3, 3)]);
    let incident = incidents.list().next().unwrap();
    assert_eq!(incident.id.0, "INC-1");
    assert_eq!((incident.started_at, incident.detected_at), (minute(0.0), minute(2.0)));
    assert_eq!((incident.severity, incident.state), (Severity::Sev3, IncidentState::Triage));
    assert_eq!((incident.counts.retries, incident.counts.agents, incident.counts.users), (3, 1, 1));
    assert_eq!(incident.counts.error_rate, Some(0.75));
}

#[test]
fn a_note_alone_opens_nothing_but_is_remembered() {
    let incidents = play(&[change("a", AlertState::Firing, 0.0, 0.0, None, 1, 0), ends("a", 0.0, 0.5, None, 1)]);
    assert_eq!(incidents.list().count(), 0);
    let alerts = incidents.alerts();
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0].0.ended_at, Some(minute(0.5)));
}

#[test]
fn a_note_that_grows_into_an_alert_moves_into_the_incident() {
    let incidents = play(&[
        change("a", AlertState::Firing, 0.0, 0.0, None, 1, 0),
        fires("a", 0.0, 1.0, Severity::Sev3, 3),
        ends("a", 0.0, 2.0, Some(Severity::Sev3), 4),
    ]);
    assert_eq!(incidents.list().count(), 1);
    let incident = incidents.list().next().unwrap();
    assert_eq!((incident.started_at, incident.counts.retries, incident.counts.episodes), (minute(0.0), 4, 1));
    assert_eq!(incidents.alerts().len(), 1, "the note is not kept a second time");
}

#[test]
fn earlier_notes_of_the_same_cause_are_adopted_and_move_the_onset() {
    let incidents = play(&[
        change("b", AlertState::Firing, 0.0, 0.0, None, 1, 0),
        ends("b", 0.0, 1.0, None, 1),
        fires("a", 5.0, 6.0, Severity::Sev3, 3),
    ]);
    let incident = incidents.list().next().unwrap();
    assert_eq!((incident.started_at, incident.counts.episodes, incident.counts.retries), (minute(0.0), 2, 4));
}

#[test]
fn six_bursts_are_one_incident_that_flapped_five_times() {
    let mut story = Vec::new();
    for (onset, retries) in [(0.0, 3), (6.0, 10), (10.0, 4), (14.0, 7), (22.0, 3), (28.0, 2)] {
        story.push(fires("a", onset, onset + 0.5, Severity::Sev3, retries));
        story.push(ends("a", onset, onset + 1.0, Some(Severity::Sev3), retries));
    }
    let mut incidents = play(&story);
    rest(&mut incidents, minute(600.0));
    assert_eq!(incidents.list().count(), 1);
    let incident = incidents.list().next().unwrap();
    assert_eq!((incident.counts.retries, incident.counts.episodes, incident.counts.flaps), (29, 6, 5));
    assert_eq!(incident.state, IncidentState::Resolved);
    assert_eq!(incident.mitigated_at, Some(minute(29.0)));
    assert_eq!(incident.resolved_at, Some(minute(29.0).after(quiet())));
    assert_eq!(incident.reopened, 0, "it was never resolved in between");
}

#[test]
fn the_same_cause_soon_after_reopens_and_much_later_opens_anew() {
    let burst = |onset: f64| [fires("a", onset, onset, Severity::Sev3, 3), ends("a", onset, onset + 1.0, Some(Severity::Sev3), 3)];
    let mut incidents = play(&[burst(0.0), burst(30.0)].concat());
    assert_eq!(incidents.list().count(), 1);
    rest(&mut incidents, minute(600.0));
    assert_eq!(incidents.list().next().unwrap().reopened, 1);

    let incidents = play(&[burst(0.0), burst(120.0)].concat());
    assert_eq!(incidents.list().count(), 2);
}

#[test]
fn another_cause_is_another_incident() {
    let mut loops = fires("a", 1.0, 1.0, Severity::Sev3, 0);
    loops.cause = "stuck:a".to_owned();
    loops.detector = "repeat-exact".into();
    loops.fingerprint = paramedic_model::Fingerprint::new("repeat-exact", "a", "");
    let incidents = play(&[fires("a", 0.0, 0.0, Severity::Sev3, 3), loops]);
    assert_eq!(incidents.list().count(), 2);
}

#[test]
fn severity_follows_the_measured_impact_and_never_falls_by_itself() {
    let two = play(&[fires("a", 0.0, 0.0, Severity::Sev3, 3), fires("b", 0.5, 0.5, Severity::Sev3, 3)]);
    assert_eq!(two.list().next().unwrap().severity, Severity::Sev3);
    let three = play(&[
        fires("a", 0.0, 0.0, Severity::Sev3, 3),
        fires("b", 0.5, 0.5, Severity::Sev3, 3),
        fires("c", 0.6, 0.6, Severity::Sev3, 3),
        ends("c", 0.6, 0.9, Some(Severity::Sev3), 3),
    ]);
    assert_eq!(three.list().next().unwrap().severity, Severity::Sev2);
    let failed: Vec<_> = (0..5).map(|i| change(&format!("agent-{i}"), AlertState::Firing, 0.0, 1.0, Some(Severity::Sev2), 10, 1)).collect();
    let five = play(&failed);
    assert_eq!((five.list().next().unwrap().severity, five.list().count()), (Severity::Sev1, 1));
}

#[test]
fn what_is_told_again_changes_nothing() {
    let story = [fires("a", 0.0, 1.0, Severity::Sev3, 3), ends("a", 0.0, 2.0, Some(Severity::Sev3), 4)];
    let incidents = play(&story);
    for change in &story {
        assert_eq!(decide_alert(&incidents, change, change.at, &Settings::default()), []);
    }
}

#[test]
fn an_old_onset_is_kept_as_history() {
    let mut incidents = paramedic_respond::Incidents::default();
    let change = fires("a", 0.0, 0.0, Severity::Sev3, 3);
    let records = decide_alert(&incidents, &change, minute(24.0 * 60.0), &Settings::default());
    take(&mut incidents, minute(24.0 * 60.0), &records);
    assert_eq!(incidents.list().next().unwrap().kind, IncidentKind::Backfill);
}

#[test]
fn history_read_in_any_order_of_files_gives_the_same_incident() {
    // Two agents' records, read one after the other instead of as they happened.
    let a = [fires("a", 5.0, 5.0, Severity::Sev3, 3), ends("a", 5.0, 8.0, Some(Severity::Sev3), 3)];
    let b = [fires("b", 0.0, 0.0, Severity::Sev3, 3), ends("b", 0.0, 7.0, Some(Severity::Sev3), 3)];
    let incidents = play(&[a, b].concat());
    assert_eq!(incidents.list().count(), 1);
    assert_eq!(incidents.list().next().unwrap().started_at, minute(0.0));
}

/// The same moment seen by a rule.
fn rule_fires(name: &str, cause: &str, onset: f64, at: f64) -> paramedic_model::AlertChange {
    let mut alert = fires("a", onset, at, Severity::Sev2, 0);
    alert.fingerprint = paramedic_model::Fingerprint(format!("rule:{name}:1"));
    alert.agent = None;
    alert.cause = if cause.is_empty() { format!("rule:{name}") } else { cause.to_owned() };
    alert.rule = Some(Box::new(paramedic_model::RuleAlert { name: name.to_owned(), ..Default::default() }));
    alert
}

#[test]
fn a_rule_s_alert_joins_the_open_incident_of_its_cause() {
    let story = [fires("a", 0.0, 1.0, Severity::Sev3, 3), rule_fires("HighErrorRate", "api_failure", 0.5, 5.5)];
    let incidents = play(&story);
    assert_eq!(incidents.list().count(), 1);
    let incident = incidents.list().next().unwrap();
    assert_eq!((incident.counts.episodes, incident.counts.agents, incident.severity), (2, 1, Severity::Sev2));
}

#[test]
fn a_rule_s_alert_of_another_cause_opens_its_own_incident_under_its_name() {
    for cause in ["", "rate_limit"] {
        let incidents = play(&[fires("a", 0.0, 1.0, Severity::Sev3, 3), rule_fires("HighErrorRate", cause, 0.5, 5.5)]);
        assert_eq!(incidents.list().count(), 2, "{cause:?}");
        assert!(incidents.list().any(|incident| incident.title.starts_with("HighErrorRate: ")));
    }
}

#[test]
fn alerts_of_rules_that_are_active_are_known_after_a_restart() {
    let mut note = rule_fires("Watchdog", "", 1.0, 1.0);
    note.severity = None;
    let mut over = rule_fires("Over", "", 0.0, 1.0);
    let mut story = vec![fires("a", 0.0, 1.0, Severity::Sev3, 3), rule_fires("Slow", "", 0.5, 5.5), note, over.clone()];
    over.state = AlertState::Resolved;
    over.at = minute(6.0);
    story.push(over);
    let firing = play(&story).firing_rules();
    let names: Vec<_> = firing.iter().map(|change| (change.rule.as_ref().unwrap().name.as_str(), change.started_at)).collect();
    assert_eq!(names, [("Slow", minute(0.5)), ("Watchdog", minute(1.0))]);
}
