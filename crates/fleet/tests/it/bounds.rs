//! Nothing grows without end, whatever comes in.

use paramedic_fleet::{Fleet, Novelty, Prices, Settings};
use paramedic_model::{Fact, Source, Temporality};

use crate::told::{at, call, counter, event, event_of, request, tokens, tool_call};

/// Memory of its own: pages of the program's file come and go with whatever else ran on the machine.
fn resident_kb() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).unwrap_or(0)
}

/// In a process of its own, because other tests run beside this one.
#[test]
fn a_million_ids_take_little_memory() {
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "bounds::a_million_ids_alone"])
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
}

#[test]
#[ignore = "run by a_million_ids_take_little_memory"]
fn a_million_ids_alone() {
    let before = resident_kb();
    let mut fleet = Fleet::new(Prices::embedded(), Settings::default());
    for i in 0..500_000i64 {
        let mut told = request(
            event(Source::Transcript, i, call(Some(&format!("msg_{i:020}")), "claude-opus-4-6", tokens(1, 1, 0, 0))),
            &format!("req_{i:020}"),
        );
        told.uid = Some(i.unsigned_abs() + 1);
        assert_eq!(fleet.observe(&told), Novelty::New);
        fleet.observe(&event(Source::Hook, i, tool_call(Some(&format!("toolu_{i:020}")), "Bash")));
    }
    assert_eq!(fleet.totals().calls, 500_000);
    assert_eq!(fleet.totals().tool_calls, 500_000);
    let grown = resident_kb() - before;
    println!("{grown} kB");
    assert!(grown < 20_000, "{grown} kB");
    let recent = request(
        event(Source::Transcript, 0, call(Some(&format!("msg_{:020}", 450_000)), "claude-opus-4-6", tokens(1, 1, 0, 0))),
        &format!("req_{:020}", 450_000),
    );
    assert_eq!(fleet.observe(&recent), Novelty::Duplicate, "closed, but remembered");
    assert!(fleet.save().len() < 12 << 20);
}

#[test]
fn the_oldest_finished_agents_make_room_and_their_cost_stays() {
    let settings = Settings { agents_max: 100, ..Settings::default() };
    let mut fleet = Fleet::new(Prices::embedded(), settings);
    fleet.observe(&event_of(Source::Transcript, "busy", "busy", 0, Fact::Prompt));
    for i in 0..1_000i64 {
        let id = format!("agent-{i}");
        let told = call(Some("msg_1"), "claude-opus-4-6", tokens(1_000_000, 0, 0, 0));
        fleet.observe(&event_of(Source::Transcript, &id, &id, i * 1_000, told));
        fleet.observe(&event_of(Source::Transcript, &id, &id, i * 1_000 + 1, Fact::SessionEnded { reason: None }));
        assert!(fleet.agents().count() <= 100);
    }
    assert!(fleet.get(&"busy".into()).is_some(), "an agent at work stays while finished ones can go");
    let (totals, report) = (fleet.totals(), fleet.cost_report());
    assert_eq!((totals.agents + totals.agents_dropped, totals.calls, totals.cost.usd), (1_001, 1_000, Some(5_000.0)));
    let kept: u64 = report.by_agent.iter().map(|agent| agent.sum.calls).sum();
    assert_eq!(kept + report.dropped_agents.unwrap().calls, 1_000);
    assert_eq!(report.totals.calls, 1_000);
}

#[test]
fn hostile_names_days_and_models_stay_within_limits() {
    let settings = Settings { agents_max: 50, ids_max: 1_000, open_max: 64, ..Settings::default() };
    let mut fleet = Fleet::new(Prices::embedded(), settings);
    let long = "x".repeat(100_000);
    for i in 0..30_000i64 {
        let day = i * 86_400_000 * 37;
        let model = format!("model-{i}-{long:.9}");
        let mut told = event(Source::OtlpLog, day, call(None, &model, tokens(1, 1, 0, 0)));
        if i % 2 == 0 {
            told = request(told, &format!("r{i}"));
        }
        fleet.observe(&told);
        fleet.observe(&counter("claude_code.token.usage", day, 5.0, Temporality::Cumulative, &[("type", "input"), ("model", &model)]));
        fleet.observe(&event(Source::Transcript, day, tool_call(Some(&format!("t{i}")), &model)));
    }
    let mut huge = event(Source::Log, i64::MAX / 1_000_000, Fact::Record);
    huge.text = long.as_str().into();
    fleet.observe(&huge);
    fleet.tick(at(i64::MAX / 10_000));
    let view = fleet.agent(&"s".into()).unwrap();
    assert!(view.last_event.len() <= 400 && view.models.len() <= 16);
    let report = fleet.cost_report();
    assert!(report.by_model.len() <= 1_001 && report.by_day.len() <= 20_001);
    assert_eq!(report.totals.calls, 30_000);
    assert!(fleet.save().len() < 8 << 20);
}

/// The busiest second of a big fleet stays far below a second.
#[test]
fn ten_thousand_agents_are_listed_and_ticked() {
    let mut fleet = Fleet::new(Prices::embedded(), Settings::default());
    for i in 0..10_000i64 {
        let id = format!("agent-{i}");
        fleet.observe(&event_of(Source::Hook, &id, &id, i, Fact::Prompt));
    }
    assert_eq!(fleet.tick(at(20_000)).len(), 10_000);
    assert_eq!(fleet.views().len(), 10_000);
    assert_eq!(fleet.totals().by_state["working"], 10_000);
}
