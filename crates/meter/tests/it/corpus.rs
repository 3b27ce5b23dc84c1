//! Real transcripts.

use std::path::Path;

use paramedic_collect::transcript::{ParseOptions, discover, read_file};
use paramedic_fleet::{Fleet, Prices};
use paramedic_meter::{Meter, Novelty, Settings};
use paramedic_model::{Event, Fact, Timestamp};

use crate::stage::Stage;

/// Reads everything as the server does: the fleet says what is news, its prices say what it costs.
fn replay(stage: &mut Stage, root: &Path) -> (Fleet, usize) {
    let mut fleet = Fleet::new(Prices::embedded(), paramedic_fleet::Settings::default());
    let mut count = 0;
    let files = discover(root).unwrap();
    for file in files {
        let mut events: Vec<Event> = Vec::new();
        read_file(&file.path, ParseOptions::default(), &mut |group| events.append(group)).unwrap();
        for event in &events {
            let novelty = match fleet.observe(event) {
                paramedic_fleet::Novelty::New => Novelty::New,
                paramedic_fleet::Novelty::Update => Novelty::Update,
                paramedic_fleet::Novelty::Duplicate => {
                    // The last telling of a call says that it hands the turn back; it adds no count.
                    if !matches!(&event.fact, Fact::ModelCall { stop_reason: Some(_), .. }) {
                        continue;
                    }
                    Novelty::Update
                }
            };
            let cost = match &event.fact {
                Fact::ModelCall { model: Some(model), usage, cost_usd, .. } => fleet_cost(model, usage).or(*cost_usd),
                _ => None,
            };
            stage.meter.observe(event, novelty, cost, stage.now);
            count += 1;
        }
    }
    (fleet, count)
}

fn fleet_cost(model: &str, usage: &paramedic_model::Usage) -> Option<f64> {
    use std::sync::LazyLock;
    static PRICES: LazyLock<Prices> = LazyLock::new(Prices::embedded);
    PRICES.cost(model, usage)
}

#[test]
fn the_corpus_has_its_known_token_totals_and_the_fleets_cost() {
    let data = std::env::var_os("PARAMEDIC_SHARED_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), Into::into);
    let root = data.join("transcripts/projects");
    if !root.is_dir() {
        eprintln!("skipped: no recorded sessions at {} (set PARAMEDIC_SHARED_DATA)", root.display());
        return;
    }
    let settings = Settings { count_history: true, forget_agents_after_s: u64::MAX / 2, ..Settings::default() };
    let mut stage = Stage::with(Meter::new(settings));
    stage.now = Timestamp::parse("2026-03-01T00:00:00Z").unwrap();
    let began = std::time::Instant::now();
    let (fleet, count) = replay(&mut stage, &root);
    let took = began.elapsed();
    stage.interval();
    for (kind, expected) in [("input", 42_613.0), ("output", 239_297.0), ("cache_read", 139_422_844.0), ("cache_creation", 7_972_454.0)] {
        assert_eq!(stage.value(&format!("sum(agent_tokens_used_total{{token_type=\"{kind}\"}})")), expected, "{kind}");
    }
    let totals = fleet.totals();
    let cost = stage.value("sum(agent_cost_dollars_total)");
    assert!((cost - totals.cost.usd_known()).abs() < 0.005, "{cost} and {}", totals.cost.usd_known());
    assert_eq!(stage.value("sum(tool_calls_total)"), stage.value("sum(stream_turn_total)"));
    let requests = stage.value("sum(agent_requests_total)");
    let errors = stage.value("sum(agent_errors_total)");
    assert!(errors >= 2.0 && errors / requests < 0.2, "{errors} of {requests}");
    assert_eq!(stage.value("agent_retries_total"), 30.0, "29 of the outage, one of the network");
    let p95 = stage.value("histogram_quantile(0.95, sum by (le) (agent_request_duration_seconds_bucket))");
    println!("{count} events in {took:?}: {requests} requests, {errors} errors, {cost:.2} dollars, p95 to the answer {p95:.1} s");
    for (labels, value) in stage.ask("sum by (status) (agent_requests_total) or sum by (error_type) (agent_errors_total)") {
        println!("{labels} {value}");
    }
}

#[test]
fn the_same_corpus_read_at_the_first_start_is_history() {
    let data = std::env::var_os("PARAMEDIC_SHARED_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), Into::into);
    let root = data.join("transcripts/projects");
    if !root.is_dir() {
        eprintln!("skipped: no recorded sessions at {} (set PARAMEDIC_SHARED_DATA)", root.display());
        return;
    }
    let mut stage = Stage::new(Settings::default());
    stage.now = Timestamp::parse("2026-03-01T00:00:00Z").unwrap();
    replay(&mut stage, &root);
    stage.interval();
    for quiet in ["agent_tokens_used_total", "agent_requests_total", "agent_errors_total", "stream_events_total"] {
        assert!(stage.ask(quiet).is_empty(), "{quiet}");
    }
    assert_eq!(stage.value("agent_cost_today_dollars"), 0.0);
}
