//! What counts, and how often.

use paramedic_meter::{Meter, Novelty, RequestDuration, Settings};
use paramedic_model::{ApiErrorClass, Fact, Source, Temporality, Timestamp, ToolOutcome};

use crate::stage::{Stage, usage};

fn stage() -> Stage {
    let mut stage = Stage::new(Settings::default());
    stage.intervals(2);
    stage
}

/// The label sets differ (status and error_type), so the plain quotient finds no partner and the sums do.
#[test]
fn half_of_the_requests_fail_and_the_rule_with_sums_says_one_half() {
    let mut stage = stage();
    for number in 0..40 {
        stage.user = Some(["ada", "bob"][number % 2]);
        for fails in [false, true] {
            stage.prompt();
            stage.wait(2.0);
            if fails { stage.fails(ApiErrorClass::Overloaded, Some(529)) } else { stage.turn_ended() }
        }
        stage.interval();
    }
    let ratio = "sum(rate(agent_errors_total[5m])) / sum(rate(agent_requests_total[5m]))";
    assert!((stage.value(ratio) - 0.5).abs() < 1e-9, "{}", stage.value(ratio));
    assert!(stage.ask("rate(agent_errors_total[5m]) / rate(agent_requests_total[5m])").is_empty());
    assert_eq!(stage.ask("agent_errors_total").len(), 2);
    assert_eq!(stage.value("sum(agent_requests_total)"), 80.0);
    let labels: Vec<String> = stage.ask("agent_requests_total").into_iter().map(|(labels, _)| labels).collect();
    assert!(labels.contains(&"{__name__=\"agent_requests_total\", status=\"error\", user_id=\"ada\"}".to_owned()), "{labels:?}");
    assert_eq!(stage.value("sum(agent_errors_total{error_type=\"overloaded\"})"), 40.0);
}

#[test]
fn the_first_event_of_a_new_series_is_an_increase() {
    let mut stage = stage();
    stage.intervals(100);
    stage.fails(ApiErrorClass::Timeout, None);
    stage.interval();
    for expression in [
        "increase(agent_errors_total[5m])",
        "increase(llm_errors_total[5m])",
        "increase(agent_requests_total{status=\"error\"}[5m])",
        "increase(agent_timeouts_total[5m])",
        "increase(agent_anthropic_api_errors_total[5m])",
    ] {
        assert!(stage.value(expression) >= 1.0, "{expression}: {}", stage.value(expression));
    }
    let log = stage.store.log.lock().unwrap();
    let of_errors: Vec<f64> =
        log.iter().filter(|(labels, ..)| labels.metric_name() == "agent_errors_total").map(|(_, _, value)| *value).collect();
    assert_eq!(of_errors, [0.0, 1.0], "zero one interval before, then the first");
}

#[test]
fn the_first_observation_of_a_histogram_is_seen() {
    let mut stage = stage();
    stage.prompt();
    stage.wait(12.0);
    stage.call(usage(10, 10, 0), 0.0);
    stage.interval();
    let p95 = stage.value("histogram_quantile(0.95, sum by (le) (rate(agent_response_seconds_bucket[5m])))");
    assert!((10.0..=30.0).contains(&p95), "{p95}");
    assert_eq!(stage.value("agent_request_duration_seconds_sum"), 12.0);
    assert_eq!(stage.value("agent_request_duration_seconds_bucket{le=\"10.0\"}"), 0.0);
    assert_eq!(stage.value("agent_request_duration_seconds_bucket{le=\"+Inf\"}"), 1.0);
    assert_eq!(stage.value("agent_anthropic_api_duration_seconds_sum"), 12.0);
}

#[test]
fn what_a_call_costs_more_when_it_is_told_again_is_all_that_is_added() {
    let mut stage = stage();
    for (novelty, input, output, cost) in
        [(Novelty::New, 10, 1, 0.01), (Novelty::Update, 10, 200, 0.05), (Novelty::Update, 10, 150, 0.04), (Novelty::Update, 10, 200, 0.05)]
    {
        let event = stage.call_event("msg_one", usage(input, output, 0), None);
        stage.meter.observe(&event, novelty, Some(cost), stage.now);
    }
    let unknown = stage.call_event("msg_unknown", usage(1_000, 1_000, 0), None);
    stage.meter.observe(&unknown, Novelty::Update, Some(9.0), stage.now);
    stage.interval();
    assert_eq!(stage.value("agent_tokens_used_total{token_type=\"output\"}"), 200.0);
    assert_eq!(stage.value("llm_tokens_total{token_type=\"input\"}"), 10.0);
    assert!((stage.value("agent_cost_dollars_total") - 0.05).abs() < 1e-12);
    assert_eq!(stage.value("llm_requests_total{status=\"success\"}"), 1.0);
}

#[test]
fn history_is_followed_but_not_counted_and_costs_today_if_it_is_of_today() {
    let mut stage = Stage::new(Settings::default());
    let start = stage.now;
    for (hours_before_noon, cost) in [(13.0, 100.0), (6.0, 2.0), (0.0, 3.0)] {
        stage.now =
            start.after(std::time::Duration::from_secs(12 * 3600)).before(std::time::Duration::from_secs_f64(hours_before_noon * 3600.0));
        let event = stage.call_event(&format!("msg_{hours_before_noon}"), usage(10, 10, 0), Some("end_turn"));
        let noon = start.after(std::time::Duration::from_secs(12 * 3600));
        stage.meter.observe(&event, Novelty::New, Some(cost), noon);
        stage.now = noon;
    }
    stage.interval();
    assert_eq!(stage.value("agent_cost_today_dollars"), 5.0);
    assert_eq!(stage.value("agent_cost_dollars_total"), 3.0);
    assert_eq!(stage.value("agent_requests_total"), 1.0);
}

/// What happens to an agent, and how its requests end.
#[test]
fn requests_end_once_and_as_they_ended() {
    type Play = fn(&mut Stage);
    type Ends = &'static [(&'static str, f64)];
    let cases: &[(&str, Play, Ends)] = &[
        (
            "a turn told by its last answer, then by its record",
            |s| {
                s.prompt();
                let event = s.call_event("msg_a", usage(1, 1, 0), Some("end_turn"));
                s.meter.observe(&event, Novelty::New, None, s.now);
                s.wait(1.0);
                s.turn_ended();
            },
            &[("success", 1.0)],
        ),
        (
            "a person stops it",
            |s| {
                s.prompt();
                let mut event = s.event(Source::Transcript, "user/interrupted", Fact::TurnEnded { duration: None });
                event.attributes.insert("interrupted".to_owned(), true.into());
                s.meter.observe(&event, Novelty::New, None, s.now);
            },
            &[("cancelled", 1.0)],
        ),
        (
            "the session ends before an answer",
            |s| {
                s.prompt();
                s.tell(Fact::SessionEnded { reason: Some("exit".into()) });
            },
            &[("cancelled", 1.0)],
        ),
        (
            "a prompt after an answered one",
            |s| {
                s.prompt();
                s.call(usage(1, 1, 0), 0.0);
                s.wait(9.0);
                s.prompt();
            },
            &[("success", 1.0)],
        ),
        (
            "retries and then the error",
            |s| {
                s.prompt();
                s.retries(ApiErrorClass::Overloaded, Some(529));
                s.retries(ApiErrorClass::Overloaded, Some(529));
                s.fails(ApiErrorClass::Overloaded, Some(529));
            },
            &[("error", 1.0)],
        ),
        (
            "work that nobody announced",
            |s| {
                s.tool("Bash", 1.0, ToolOutcome::Success);
                s.turn_ended();
                s.turn_ended();
            },
            &[("success", 1.0)],
        ),
        (
            "a sub-agent's work is its main agent's",
            |s| {
                s.prompt();
                s.agent = "s1/a1";
                s.prompt();
                s.call(usage(1, 1, 0), 0.0);
                s.turn_ended();
                s.agent = "s1";
                s.turn_ended();
            },
            &[("success", 1.0)],
        ),
        (
            "a log's rate limit is no failed request, its timed-out run is",
            |s| {
                s.agent = "worker";
                for (class, status) in [(ApiErrorClass::RateLimit, Some(429)), (ApiErrorClass::Timeout, None)] {
                    let fact = Fact::ModelError { class, status, attempts: None, retries_exhausted: false, duration: None };
                    let event = s.event(Source::Log, "log", fact);
                    s.meter.observe(&event, Novelty::New, None, s.now);
                }
            },
            &[("error", 1.0)],
        ),
        (
            "spans of requests",
            |s| {
                for failed in [true, false, false] {
                    let fact = Fact::Span { duration: std::time::Duration::from_secs(3), failed };
                    let event = s.event(Source::OtlpSpan, "agent.execute", fact.clone());
                    s.meter.observe(&event, Novelty::New, None, s.now);
                    let other = s.event(Source::OtlpSpan, "db.query", fact);
                    s.meter.observe(&other, Novelty::New, None, s.now);
                }
            },
            &[("error", 1.0), ("success", 2.0)],
        ),
    ];
    for (what, play, expected) in cases {
        let mut stage = stage();
        play(&mut stage);
        stage.interval();
        let mut found: Vec<(String, f64)> = stage.ask("sum by (status) (agent_requests_total)");
        found.sort_by(|one, other| one.0.cmp(&other.0));
        let found: Vec<(&str, f64)> = found.iter().map(|(labels, count)| (labels.split('"').nth(1).unwrap(), *count)).collect();
        assert_eq!(found, *expected, "{what}");
        let errors: f64 = stage.ask("sum(agent_errors_total)").iter().map(|(_, count)| count).sum();
        assert_eq!(errors, expected.iter().filter(|(status, _)| *status == "error").map(|(_, count)| count).sum::<f64>(), "{what}");
    }
}

#[test]
fn every_failed_try_is_a_request_to_the_api() {
    let mut stage = stage();
    stage.call(usage(10, 1, 90), 0.1);
    stage.retries(ApiErrorClass::RateLimit, Some(429));
    stage.retries(ApiErrorClass::Network, None);
    stage.fails(ApiErrorClass::Server, Some(500));
    stage.interval();
    for (expression, expected) in [
        ("agent_anthropic_api_requests_total", 4.0),
        ("agent_anthropic_api_errors_total", 3.0),
        ("agent_anthropic_api_rate_limited_total", 1.0),
        ("agent_retries_total", 2.0),
        ("llm_requests_total{model=\"claude-sonnet-4-5\",status=\"error\"}", 3.0),
        ("anthropic_requests_total{status=\"success\"}", 1.0),
        ("external_api_requests_total{status=\"500\"}", 1.0),
        ("external_api_requests_total{status=\"network\"}", 1.0),
        ("llm_errors_total{error_type=\"rate_limit\"}", 1.0),
        // As App. E writes it: both sides have the same labels.
        ("rate(agent_anthropic_api_errors_total[5m]) / rate(agent_anthropic_api_requests_total[5m])", 0.75),
    ] {
        assert_eq!(stage.value(expression), expected, "{expression}");
    }
    stage.model = "gpt-5";
    stage.call(usage(10, 1, 90), 0.1);
    stage.interval();
    assert_eq!(stage.value("agent_anthropic_api_requests_total"), 4.0, "not Anthropic's");
    assert_eq!(stage.value("external_api_requests_total{api_name=\"model-api\"}"), 1.0);
}

#[test]
fn the_prompt_cache_has_hits_and_misses() {
    let mut stage = stage();
    for cache_read in [0, 900, 900, 900] {
        stage.call(usage(10, 5, cache_read), 0.0);
    }
    stage.interval();
    assert_eq!(stage.value("agent_cache_hits_total"), 3.0);
    assert_eq!(stage.value("agent_cache_misses_total"), 1.0);
    assert_eq!(
        stage.value("rate(agent_cache_hits_total[30m]) / (rate(agent_cache_hits_total[30m]) + rate(agent_cache_misses_total[30m]))"),
        0.75
    );
    assert_eq!(stage.value("rate(cache_hits_total[1h]) / rate(cache_requests_total[1h])"), 0.75);
}

#[test]
fn tools_have_their_time_and_mcp_tools_their_server() {
    let mut stage = stage();
    stage.tool("Bash", 3.0, ToolOutcome::Success);
    stage.tool("mcp__github__create_issue", 12.0, ToolOutcome::Error);
    stage.tool("Edit", 1.0, ToolOutcome::Rejected);
    stage.interval();
    assert_eq!(stage.value("tool_calls_total{tool_name=\"Bash\",status=\"success\"}"), 1.0);
    assert_eq!(stage.value("tool_calls_total{status=\"rejected\"}"), 1.0);
    assert_eq!(stage.value("tool_duration_seconds_sum{tool_name=\"Bash\"}"), 3.0);
    let mcp = "mcp_tool_calls_total{server_name=\"github\",tool_name=\"create_issue\",status=\"error\"}";
    assert_eq!(stage.value(mcp), 1.0);
    assert!(stage.value("increase(mcp_tool_calls_total{status=\"error\"}[5m])") > 0.0);
    assert!(stage.value("histogram_quantile(0.95, rate(mcp_tool_latency_seconds_bucket[5m]))") > 10.0);
    assert_eq!(stage.value("stream_turn_total"), 3.0);
}

#[test]
fn the_length_of_a_request_is_to_its_answer_or_to_its_end() {
    for (request_duration, expected) in [(RequestDuration::Answer, 4.0), (RequestDuration::Turn, 604.0)] {
        let mut stage = Stage::new(Settings { request_duration, ..Settings::default() });
        stage.prompt();
        stage.wait(4.0);
        stage.call(usage(1, 1, 0), 0.0);
        stage.wait(600.0);
        stage.turn_ended();
        stage.interval();
        assert_eq!(stage.value("agent_response_seconds_sum"), expected);
        assert_eq!(stage.value("agent_request_duration_seconds_count"), 1.0);
        assert_eq!(stage.value("agent_turn_duration_seconds_sum"), 604.0);
    }
}

#[test]
fn claude_codes_own_counters_count_only_where_nobody_tells_the_calls() {
    for tells_calls in [false, true] {
        let mut stage = stage();
        if tells_calls {
            stage.call(usage(5, 0, 0), 0.0);
        }
        for (name, kind, value) in [("claude_code.token.usage", Some("input"), 70.0), ("claude_code.cost.usage", None, 0.25)] {
            let fact = Fact::Measurement { value, unit: None, temporality: Temporality::Delta };
            let mut event = stage.event(Source::OtlpMetric, name, fact);
            event.attributes.insert("model".to_owned(), "claude-opus-4-5".into());
            if let Some(kind) = kind {
                event.attributes.insert("type".to_owned(), kind.into());
            }
            stage.meter.observe(&event, Novelty::New, None, stage.now);
        }
        stage.interval();
        assert_eq!(stage.value("sum(agent_tokens_used_total)"), if tells_calls { 5.0 } else { 70.0 });
        assert_eq!(stage.value("agent_cost_today_dollars"), if tells_calls { 0.0 } else { 0.25 });
    }
}

#[test]
fn a_write_that_failed_loses_nothing() {
    let mut stage = stage();
    stage.fails(ApiErrorClass::Overloaded, Some(529));
    *stage.store.failures.lock().unwrap() = 1;
    stage.wait(15.0);
    assert!(stage.meter.write(stage.now, &stage.store).is_err());
    stage.interval();
    assert!(stage.value("increase(agent_errors_total[5m])") >= 1.0);
}

#[test]
fn the_latency_of_events_is_from_their_time_to_now() {
    let mut stage = stage();
    let event = stage.event(Source::Hook, "x", Fact::Prompt);
    stage.wait(0.2);
    stage.meter.observe(&event, Novelty::New, None, stage.now);
    let future = stage.event(Source::Hook, "x", Fact::Prompt);
    let now = Timestamp::from_millis(stage.now.as_millis() - 1_000);
    stage.meter.observe(&future, Novelty::New, None, now);
    stage.interval();
    assert_eq!(stage.value("stream_event_processing_latency_seconds_count{event_type=\"prompt\"}"), 1.0);
    assert!((stage.value("stream_lag_seconds_sum") - 0.2).abs() < 1e-9);
    assert_eq!(stage.value("stream_events_total{agent_id=\"s1\",event_type=\"prompt\",priority=\"low\"}"), 2.0);
    let _ = Meter::new(Settings::default());
}
