//! The cost of a day, to the cent.

use std::time::Duration;

use paramedic_meter::Settings;
use paramedic_model::Timestamp;

use crate::stage::{MIDNIGHT, Stage, usage};

fn settings() -> Settings {
    Settings { daily_budget_dollars: 100.0, ..Settings::default() }
}

/// A call every 97 seconds for a day, by two agents, with a cost that is no round number.
fn a_day(stage: &mut Stage) -> f64 {
    let mut sum = 0.0;
    let mut next = 0u64;
    for interval in 0..5_760u64 {
        while next < (interval + 1) * 15 {
            stage.now = Timestamp::from_secs(MIDNIGHT).after(Duration::from_millis(next * 1_000 + 137));
            stage.agent = ["s1", "s2"][(next % 2) as usize];
            stage.model = ["claude-sonnet-4-5", "claude-opus-4-5"][(next / 97 % 2) as usize];
            let cost = 0.073_131 + 0.000_011 * (next % 1_009) as f64;
            stage.call(usage(1_000, 300, 0), cost);
            sum += cost;
            next += 97;
        }
        stage.interval();
    }
    sum
}

#[test]
fn a_synthetic_day_costs_what_it_costs() {
    let mut stage = Stage::new(settings());
    stage.now = Timestamp::from_secs(MIDNIGHT - 600);
    stage.intervals(40);
    let true_cost = a_day(&mut stage);
    assert_eq!(stage.now, Timestamp::from_secs(MIDNIGHT + 86_400));
    let is_right = |found: f64| (found - true_cost).abs() < 0.005;

    // A moment before midnight the exact gauge has the whole day, and after it nothing.
    let at = |seconds: i64| Timestamp::from_secs(MIDNIGHT + 86_400 + seconds);
    let today = crate::stage::ask(&stage.store.storage, "agent_cost_today_dollars", at(-15))[0].1;
    assert!(true_cost - today < 0.2 && today <= true_cost + 1e-9, "{today} of {true_cost}");
    assert_eq!(stage.value("agent_cost_today_dollars"), 0.0);

    let found = stage.value("sum(increase(agent_cost_dollars_total[24h]))");
    assert!(is_right(found), "{found} instead of {true_cost}");
    let found = stage.value("sum(increase(llm_cost_usd_total[24h]))");
    assert!(is_right(found), "{found} instead of {true_cost}");
    let near_budget = stage.ask("sum(increase(agent_cost_dollars_total[24h])) / sum(agent_daily_budget_dollars) > 0.6");
    assert_eq!(near_budget.len(), 1);

    // The documents' formula, which forgets that a rate is per second, is off by 3600.
    let published = stage.value("sum(rate(agent_cost_dollars_total[1h])) * 24");
    let corrected = stage.value("sum(rate(agent_cost_dollars_total[1h])) * 86400");
    assert!((corrected / true_cost - 1.0).abs() < 0.05, "{corrected} instead of {true_cost}");
    assert!((corrected / published - 3_600.0).abs() < 1e-6);
}

#[test]
fn the_day_begins_at_midnight_and_history_of_today_is_in_it() {
    let mut stage = Stage::new(settings());
    stage.now = Timestamp::from_secs(MIDNIGHT + 8 * 3_600);
    let read = stage.now.after(Duration::from_secs(6 * 3_600));
    let event = stage.call_event("msg_early", usage(1, 1, 0), None);
    stage.meter.observe(&event, paramedic_meter::Novelty::New, Some(1.25), read);
    stage.now = read;
    stage.call(usage(1, 1, 0), 0.5);
    stage.interval();
    assert_eq!(stage.value("agent_cost_today_dollars"), 1.75);
    assert_eq!(stage.value("agent_daily_budget_dollars"), 100.0);
    stage.now = Timestamp::from_secs(MIDNIGHT + 86_400);
    stage.interval();
    assert_eq!(stage.value("agent_cost_today_dollars"), 0.0);
    assert_eq!(stage.value("llm_cost_usd_total"), 0.5);
}

#[test]
fn without_a_budget_there_is_no_budget_metric_and_it_can_go() {
    let mut stage = Stage::new(Settings::default());
    stage.interval();
    assert!(stage.ask("agent_daily_budget_dollars").is_empty());
    stage.meter.set_settings(settings());
    stage.interval();
    assert_eq!(stage.value("agent_daily_budget_dollars"), 100.0);
    stage.meter.set_settings(Settings::default());
    stage.interval();
    assert!(stage.ask("agent_daily_budget_dollars").is_empty());
}
