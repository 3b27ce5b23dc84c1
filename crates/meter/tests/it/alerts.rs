//! Alerts of detectors as metrics.

use paramedic_meter::Settings;
use paramedic_model::{AgentId, AlertChange, AlertState, Fingerprint, IncidentType, Severity, Timestamp};

use crate::stage::Stage;

pub(crate) fn change(stage: &Stage, detector: &'static str, cause: &str, state: AlertState, severity: Option<Severity>) -> AlertChange {
    AlertChange {
        fingerprint: Fingerprint::new(detector, "s1", ""),
        detector: detector.into(),
        agent: Some(AgentId::from("s1")),
        session: None,
        user: None,
        started_at: Timestamp::from_millis(stage.now.as_millis() - 4_000),
        at: stage.now,
        state,
        severity,
        incident_type: IncidentType::ApiFailure,
        cause: cause.to_owned(),
        reason: String::new(),
        evidence: Vec::new(),
        counts: paramedic_model::alert::AlertCounts::default(),
        rule: None,
    }
}

#[test]
fn an_agent_is_stuck_and_recovers_and_both_are_in_the_store_at_once() {
    let mut stage = Stage::new(Settings::default());
    stage.intervals(3);
    stage.wait(3.7);
    let firing = change(&stage, "repeat-exact", "stuck:s1", AlertState::Firing, Some(Severity::Sev2));
    assert!(stage.meter.alert(&firing, stage.now));
    let written = stage.meter.write_alerts(stage.now, &stage.store).unwrap();
    assert!(written.samples < 40, "only what changed: {}", written.samples);
    assert_eq!(stage.value("agent_stuck{agent_id=\"s1\",reason=\"consecutive_tool\"}"), 1.0);
    assert_eq!(stage.value("stream_active_stuck_agents"), 1.0);
    assert!(stage.value("increase(stream_stuck_detections_total{agent_id=\"s1\",reason=\"consecutive_tool\",priority=\"P1\"}[5m])") >= 1.0);
    assert_eq!(stage.value("stream_stuck_detection_latency_seconds_sum"), 4.0);
    assert_eq!(stage.value("stream_alerts_firing{priority=\"P1\",alert_type=\"stuck_agent\"}"), 1.0);
    assert!(!stage.meter.alert(&firing, stage.now), "told again: nothing new");
    stage.wait(10.0);
    let resolved = change(&stage, "repeat-exact", "stuck:s1", AlertState::Resolved, Some(Severity::Sev2));
    assert!(stage.meter.alert(&resolved, stage.now));
    stage.meter.write_alerts(stage.now, &stage.store).unwrap();
    assert_eq!(stage.value("agent_stuck"), 0.0);
    assert_eq!(stage.value("stream_active_stuck_agents"), 0.0);
    assert_eq!(stage.value("stream_stuck_recoveries_total{agent_id=\"s1\",reason=\"consecutive_tool\"}"), 1.0);
    assert_eq!(stage.value("stream_alerts_firing"), 0.0);
    assert_eq!(stage.value("stream_stuck_detections_total"), 1.0);
}

#[test]
fn a_note_counts_as_an_alert_but_not_as_stuck_and_rules_alerts_are_elsewhere() {
    let mut stage = Stage::new(Settings::default());
    stage.interval();
    let note = change(&stage, "silence", "stuck:s1", AlertState::Firing, None);
    stage.meter.alert(&note, stage.now);
    let mut of_rule = change(&stage, "rule", "rule:HighErrorRate", AlertState::Firing, Some(Severity::Sev1));
    of_rule.rule = Some(Box::default());
    assert!(!stage.meter.alert(&of_rule, stage.now));
    stage.interval();
    assert_eq!(stage.value("stream_active_stuck_agents"), 0.0);
    assert_eq!(stage.value("stream_alerts_total{priority=\"none\",alert_type=\"stuck_agent\"}"), 1.0);
    assert_eq!(stage.value("sum(stream_alerts_total)"), 1.0);
    // It grows worse: now it is one.
    let worse = change(&stage, "silence", "stuck:s1", AlertState::Firing, Some(Severity::Sev3));
    assert!(stage.meter.alert(&worse, stage.now));
    stage.interval();
    assert_eq!(stage.value("agent_stuck{reason=\"no_progress\"}"), 1.0);
}

#[test]
fn an_alert_of_the_past_holds_but_is_not_counted_as_news() {
    let mut stage = Stage::new(Settings::default());
    stage.interval();
    let old = change(&stage, "api-overload", "api_failure", AlertState::Firing, Some(Severity::Sev2));
    stage.wait(3_600.0);
    stage.meter.alert(&old, stage.now);
    stage.interval();
    assert!(stage.ask("stream_alerts_total").is_empty());
    assert_eq!(stage.value("stream_alerts_firing{alert_type=\"api_overload\"}"), 1.0);
}
