//! Counters go on.

use std::time::Duration;

use paramedic_meter::{Meter, Novelty, Settings};
use paramedic_model::{AlertState, ApiErrorClass, Severity};

use crate::alerts::change;
use crate::stage::{Stage, usage};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/fixtures/meter-1.json");

#[test]
fn counters_go_on_after_a_restart_and_see_no_reset() {
    let mut stage = Stage::new(Settings::default());
    for _ in 0..5 {
        stage.prompt();
        stage.wait(0.1);
        stage.call(usage(10, 10, 0), 0.1);
        stage.fails(ApiErrorClass::Overloaded, Some(529));
        stage.interval();
    }
    let stuck = change(&stage, "cycle", "stuck:s1", AlertState::Firing, Some(Severity::Sev2));
    stage.meter.alert(&stuck, stage.now);
    let saved = stage.meter.save(stage.now).unwrap();

    // After the checkpoint more happens and is written; then the process is killed.
    stage.wait(1.0);
    let late = stage.call_event("msg_late", usage(10, 10, 0), None);
    stage.meter.observe(&late, Novelty::New, Some(0.25), stage.now);
    stage.interval();
    let before = stage.value("agent_cost_dollars_total");

    // An hour later: the store tells what came after the checkpoint again.
    stage.now = stage.now.after(Duration::from_secs(3_600));
    stage.meter = Meter::load(&saved, Settings::default()).unwrap();
    stage.meter.replay(&late, Novelty::New, Some(0.25), stage.now);
    stage.interval();
    assert_eq!(stage.value("agent_cost_dollars_total"), before);
    assert_eq!(stage.value("resets(agent_cost_dollars_total[2h])"), 0.0);
    assert_eq!(stage.value("agent_errors_total"), 5.0);
    assert_eq!(stage.value("stream_active_stuck_agents"), 1.0);
    assert_eq!(stage.value("agent_request_duration_seconds_count{status=\"success\"}"), 5.0);
    // A call that was told before the restart is not told anew by its end.
    let again = stage.call_event("msg_late", usage(10, 20, 0), None);
    stage.meter.observe(&again, Novelty::Update, Some(0.30), stage.now);
    stage.interval();
    assert!((stage.value("agent_cost_dollars_total") - before - 0.05).abs() < 1e-9);
    let zeros = stage.store.log.lock().unwrap().iter().filter(|(l, _, v)| l.metric_name() == "agent_errors_total" && *v == 0.0).count();
    assert_eq!(zeros, 1, "introduced once");
}

#[test]
fn without_a_saved_state_what_is_replayed_is_history() {
    let mut stage = Stage::new(Settings::default());
    let old = stage.call_event("msg_old", usage(10, 10, 0), None);
    stage.wait(3_600.0);
    stage.meter.replay(&old, Novelty::New, Some(0.25), stage.now);
    stage.interval();
    assert!(stage.ask("agent_cost_dollars_total").is_empty());
    assert_eq!(stage.value("agent_cost_today_dollars"), 0.25);
}

/// A state that the first version wrote is read for ever.
#[test]
fn the_first_format_is_read() {
    let mut stage = Stage::with(Meter::load(&std::fs::read(FIXTURE).unwrap(), Settings::default()).unwrap());
    stage.wait(60.0);
    stage.interval();
    assert_eq!(stage.value("agent_errors_total{error_type=\"overloaded\",user_id=\"ada\"}"), 1.0);
    assert_eq!(stage.value("agent_cost_dollars_total{agent_id=\"s1\"}"), 0.1);
    assert_eq!(stage.value("agent_request_duration_seconds_count"), 1.0);
    assert_eq!(stage.value("agent_cost_today_dollars"), 0.1);
}

/// `PARAMEDIC_WRITE_FIXTURES=1` writes the fixture of the present format, for the day that it changes.
#[test]
fn the_fixture_can_be_made() {
    let mut stage = Stage::new(Settings::default());
    stage.prompt();
    stage.wait(2.0);
    stage.call(usage(10, 10, 0), 0.1);
    stage.fails(ApiErrorClass::Overloaded, Some(529));
    stage.interval();
    let saved = stage.meter.save(stage.now).unwrap();
    if std::env::var_os("PARAMEDIC_WRITE_FIXTURES").is_some() {
        std::fs::write(FIXTURE, saved).unwrap();
    }
}

#[test]
fn damage_is_an_error_with_a_reason() {
    let saved = Meter::new(Settings::default()).save(paramedic_model::Timestamp::EPOCH).unwrap();
    let text = String::from_utf8(saved.clone()).unwrap();
    for (bytes, says) in [
        (b"".to_vec(), "load the meter's saved state"),
        (saved[..saved.len() - 3].to_vec(), "load the meter's saved state"),
        (text.replace("\"format\":1", "\"format\":9").into_bytes(), "its format is 9"),
    ] {
        let error = Meter::load(&bytes, Settings::default()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
