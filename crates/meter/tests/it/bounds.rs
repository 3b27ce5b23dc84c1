//! Whatever comes in: bounded series, clean labels, no panic.

use std::time::Duration;

use paramedic_meter::{Meter, Novelty, Settings};
use paramedic_model::{AgentId, Event, Fact, Source, Timestamp, ToolOutcome, Usage};
use paramedic_promql::number::is_stale;
use proptest::prelude::*;

use crate::stage::{Stage, usage, working};

#[test]
fn ten_thousand_agents_users_tools_and_models_make_no_more_series_than_allowed() {
    let settings =
        Settings { agents_max: 20, users_max: 5, tools_max: 5, models_max: 3, followed_max: 500, calls_max: 100, ..Settings::default() };
    let mut stage = Stage::new(settings);
    stage.intervals(1);
    let mut true_cost = 0.0;
    for number in 0..10_000u32 {
        let name: &'static str = Box::leak(format!("agent-{number}").into_boxed_str());
        (stage.agent, stage.user, stage.model) = (name, Some(name), name);
        stage.call(usage(1, 1, 0), 0.5);
        true_cost += 0.5;
        stage.tool(name, 0.0, ToolOutcome::Success);
        stage.turn_ended();
    }
    stage.interval();
    assert!(stage.ask("count({__name__=~\".+\"})")[0].1 < 6_000.0);
    assert_eq!(stage.value("count(count by (agent_id) (agent_cost_dollars_total))"), 21.0);
    assert_eq!(stage.value("count(count by (model) (llm_cost_usd_total))"), 4.0);
    assert_eq!(stage.value("sum(agent_cost_dollars_total)"), true_cost, "nothing is lost in other");
    assert_eq!(stage.value("sum(tool_calls_total)"), 10_000.0);
    assert_eq!(stage.value("sum(agent_requests_total)"), 10_000.0);
}

#[test]
fn an_agent_that_was_silent_for_hours_leaves_with_a_marker_and_makes_room() {
    let mut stage = Stage::new(Settings { agents_max: 1, ..Settings::default() });
    stage.call(usage(1, 1, 0), 0.5);
    stage.interval();
    stage.agent = "s2";
    stage.call(usage(1, 1, 0), 0.5);
    stage.interval();
    assert_eq!(stage.ask("agent_cost_dollars_total{agent_id=\"other\"}").len(), 1);
    stage.now = stage.now.after(Duration::from_secs(7 * 3_600));
    stage.interval();
    assert!(stage.ask("agent_cost_dollars_total").is_empty());
    let stales = stage.store.log.lock().unwrap().iter().filter(|(_, _, value)| is_stale(*value)).count();
    assert!(stales > 20, "{stales}");
    stage.agent = "s3";
    stage.call(usage(1, 1, 0), 0.5);
    stage.interval();
    assert_eq!(stage.value("agent_cost_dollars_total{agent_id=\"s3\"}"), 0.5);
    assert!(stage.value("increase(llm_cost_usd_total[8h])") >= 1.4, "long-lived ones go on");
}

#[test]
fn no_secret_becomes_a_label() {
    let mut stage = Stage::new(Settings::default());
    let key = "sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789";
    (stage.agent, stage.user, stage.model) = (key, Some(key), key);
    stage.prompt();
    stage.call(usage(1, 1, 0), 0.5);
    stage.tool(key, 1.0, ToolOutcome::Error);
    stage.tool("mcp__postgres://u:hunter22@h/db__q", 1.0, ToolOutcome::Error);
    stage.look(&[working(key, stage.now)]);
    stage.interval();
    let text: String = stage.store.log.lock().unwrap().iter().map(|(labels, ..)| labels.to_string()).collect();
    assert!(!text.contains("ghijkl") && !text.contains("hunter22"), "{text}");
    assert!(text.contains("sk-ant-"));
}

fn any_fact() -> impl Strategy<Value = Fact> {
    let text = proptest::option::of("[a-z_]{0,6}|.{0,40}".prop_map(Into::<Box<str>>::into));
    let seconds = proptest::option::of(any::<u64>().prop_map(Duration::from_nanos));
    prop_oneof![
        Just(Fact::Prompt),
        seconds.clone().prop_map(|duration| Fact::TurnEnded { duration }),
        (text.clone(), text.clone(), any::<[u32; 4]>(), seconds.clone()).prop_map(|(message, model, tokens, duration)| Fact::ModelCall {
            message,
            model,
            usage: Usage {
                input_tokens: tokens[0].into(),
                output_tokens: tokens[1].into(),
                cache_read_tokens: tokens[2].into(),
                cache_creation_tokens: tokens[3].into(),
                ..Usage::default()
            },
            cost_usd: None,
            duration,
            time_to_first_token: None,
            stop_reason: Some("end_turn".into()),
            text_hash: None,
        }),
        (text.clone(), text.clone()).prop_map(|(id, tool)| Fact::ToolCall { id, tool: tool.unwrap_or_default(), input_hash: None }),
        (text.clone(), text.clone(), seconds).prop_map(|(id, tool, duration)| Fact::ToolResult {
            id,
            tool,
            outcome: ToolOutcome::Error,
            result_hash: None,
            duration
        }),
        (text.clone(), "connected|failed|x").prop_map(|(server, status)| Fact::McpServer { server, status: status.into() }),
        text.clone().prop_map(|reason| Fact::SessionEnded { reason }),
        text.clone().prop_map(|trigger| Fact::Compaction { trigger, tokens_before: None, tokens_after: None }),
        (text, any::<f64>()).prop_map(|(limit, share)| Fact::RateLimit {
            status: "x".into(),
            limit,
            utilization: Some(share),
            remaining: None,
            resets_at: None
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    /// Any events in any order, with any times: no panic, counters only grow, and saving and loading changes nothing.
    #[test]
    fn counters_never_fall(events in proptest::collection::vec((any_fact(), "[ab/]{0,4}", -1_000_000i64..1_000_000, any::<bool>(), any::<Option<f64>>()), 1..60)) {
        let settings = Settings { agents_max: 3, users_max: 2, tools_max: 2, followed_max: 3, calls_max: 4, ..Settings::default() };
        let mut stage = Stage::with(Meter::new(settings.clone()));
        stage.interval();
        for (place, (fact, agent, offset_ms, is_new, cost)) in events.into_iter().enumerate() {
            let mut event = Event::new(Timestamp::from_millis(stage.now.as_millis() + offset_ms), Source::Hook, "x");
            event.agent = Some(AgentId::from(agent.as_str()));
            event.session = Some("a".into());
            event.fact = fact;
            stage.meter.observe(&event, if is_new { Novelty::New } else { Novelty::Update }, cost, stage.now);
            if place % 7 == 0 {
                stage.interval();
                let saved = stage.meter.save(stage.now).unwrap();
                stage.meter = Meter::load(&saved, settings.clone()).unwrap();
            }
        }
        stage.interval();
        let log = stage.store.log.lock().unwrap();
        let mut last = std::collections::HashMap::new();
        for (labels, time, value) in log.iter() {
            let name = labels.metric_name();
            if (name.ends_with("_total") || name.ends_with("_bucket") || name.ends_with("_count")) && name != "sessions_active_count" {
                let before = last.insert(labels.clone(), (*time, *value)).unwrap_or((i64::MIN, 0.0));
                prop_assert!(*value >= before.1 && *time > before.0, "{labels}: {value} after {}", before.1);
            }
        }
    }
}

/// The real store takes every sample, the zeros before new series and the ends of old ones included.
#[test]
fn the_store_refuses_nothing() {
    use std::sync::Arc;

    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(paramedic_model::time::ManualClock::at(Timestamp::from_secs(crate::stage::MIDNIGHT)));
    let store = paramedic_samples::Samples::open(dir.path(), paramedic_samples::Settings::default(), clock.clone()).unwrap();
    let mut stage = Stage::new(Settings { forget_agents_after_s: 60, ..Settings::default() });
    for interval in 0..120u32 {
        if interval % 10 < 3 {
            stage.agent = ["s1", "s2"][interval as usize % 2];
            stage.prompt();
            stage.call(usage(10, 10, 0), 0.25);
            stage.tool("Bash", 1.0, ToolOutcome::Success);
            stage.turn_ended();
        }
        let now = stage.now;
        stage.look(&[working(if interval < 60 { "s1" } else { "s2" }, now)]);
        stage.wait(14.0);
        clock.set(stage.now);
        let written = stage.meter.write(stage.now, &store).unwrap();
        assert_eq!(written.refused, 0, "in interval {interval}");
        assert!(written.samples > 0);
    }
    let found = crate::stage::ask(&store, "sum(increase(agent_cost_dollars_total[1h])) and on() vector(1)", stage.now);
    assert!((found[0].1 - 9.0).abs() < 0.5, "{found:?}");
    assert_eq!(store.metadata(Some("agent_requests_total"), 1)[0].1.kind, "counter");
}
