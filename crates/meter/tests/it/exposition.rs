//! `/metrics` shows what the store has.

use paramedic_meter::Settings;
use paramedic_model::{ApiErrorClass, ToolOutcome};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::stage::{Stage, alive, usage, working};

#[test]
fn a_scrape_sees_the_same_numbers() {
    let mut stage = Stage::new(Settings::default());
    let mut registry = Registry::default();
    registry.register_collector(Box::new(stage.meter.exposition()));
    stage.meter.metrics().register(&mut registry);
    stage.prompt();
    stage.wait(0.75);
    stage.call(usage(10, 20, 30), 0.125);
    stage.tool("Bash", 2.0, ToolOutcome::Success);
    stage.fails(ApiErrorClass::Overloaded, Some(529));
    let now = stage.now;
    stage.look(&[alive(working("s1", now), now)]);
    stage.interval();
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    for line in [
        "# TYPE agent_requests counter",
        "agent_requests_total{status=\"error\",user_id=\"ada\"} 1.0",
        "agent_cost_dollars_total{model=\"claude-sonnet-4-5\",user_id=\"ada\",agent_id=\"s1\"} 0.125",
        "agent_request_duration_seconds_bucket{le=\"1.0\",status=\"success\"} 1",
        "agent_request_duration_seconds_bucket{le=\"+Inf\",status=\"success\"} 1",
        "agent_request_duration_seconds_sum{status=\"success\"} 0.75",
        "agent_retries_total 0.0",
        "agent_up{agent_id=\"s1\"} 1.0",
        "sessions_active_count 1.0",
        "paramedic_meter_writes_total 1",
        "paramedic_meter_followed_agents 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains("\nup{") && !text.contains("process_resident"), "a scrape gives these names to the program itself");
    // Each line of the scrape is what the store says.
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("paramedic_")) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        assert_eq!(stage.value(series), value.parse::<f64>().unwrap(), "{line}");
    }
}
