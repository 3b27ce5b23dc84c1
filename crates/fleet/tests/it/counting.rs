//! Calls, tools and costs: each counted once, and unknown is never zero.

use paramedic_fleet::{Novelty, PricedBy};
use paramedic_model::{Event, Source, Temporality, ToolOutcome, Usage};

use crate::told::{call, counter, event, event_of, fleet, request, tokens, tool_call, tool_result, with_cost};

const OPUS: &str = "claude-opus-4-5-20251101";
const MESSAGE: &str = "msg_0123456789abcdef";
const REQUEST: &str = "req_0123456789abcdef";

fn transcript(at_ms: i64, usage: Usage) -> Event {
    request(event(Source::Transcript, at_ms, call(Some(MESSAGE), OPUS, usage)), REQUEST)
}

fn api_request(at_ms: i64, usage: Usage) -> Event {
    request(event(Source::OtlpLog, at_ms, call(None, OPUS, usage)), REQUEST)
}

/// Observes all and compares each novelty.
fn check(told: &[(Event, Novelty)]) -> paramedic_fleet::Fleet {
    let mut fleet = fleet();
    for (i, (event, novelty)) in told.iter().enumerate() {
        assert_eq!(fleet.observe(event), *novelty, "number {i}: {event:?}");
    }
    fleet
}

#[test]
fn a_call_grows_to_its_largest_counts() {
    let fleet = check(&[
        (transcript(0, tokens(3, 1, 1_000, 200)), Novelty::New),
        (transcript(50, tokens(3, 1, 1_000, 200)), Novelty::Duplicate),
        (transcript(90, tokens(3, 500, 1_000, 200)), Novelty::Update),
        (transcript(99, tokens(3, 1, 1_000, 200)), Novelty::Duplicate),
        (api_request(2_000, tokens(3, 500, 1_000, 200)), Novelty::Duplicate),
    ]);
    let totals = fleet.totals();
    assert_eq!((totals.calls, totals.usage), (1, tokens(3, 500, 1_000, 200)));
    // 3 × 5 + 500 × 25 + 1000 × 0.5 + 200 × 6.25 dollars per million.
    assert_eq!(totals.cost.usd, Some(0.014_265));
    assert_eq!(totals.cost.priced_by, PricedBy::Prices);
}

#[test]
fn two_halves_of_a_call_become_one_when_a_source_knows_both_ids() {
    let mut fleet = check(&[
        (api_request(0, tokens(3, 500, 0, 0)), Novelty::New),
        (event(Source::StreamJson, 10, call(Some(MESSAGE), OPUS, tokens(3, 1, 0, 0))), Novelty::New),
    ]);
    fleet.observe(&transcript(20, tokens(3, 500, 0, 0)));
    assert_eq!((fleet.totals().calls, fleet.totals().usage), (1, tokens(3, 500, 0, 0)));
}

#[test]
fn the_same_message_id_under_two_requests_is_two_calls() {
    let one = request(event(Source::Transcript, 0, call(Some("msg_1"), OPUS, tokens(1, 1, 0, 0))), "r1");
    let two = request(event(Source::Transcript, 9, call(Some("msg_1"), OPUS, tokens(1, 1, 0, 0))), "r2");
    let elsewhere = request(event_of(Source::Transcript, "t", "t", 9, call(Some("msg_1"), OPUS, tokens(1, 1, 0, 0))), "r1");
    let fleet = check(&[(one, Novelty::New), (two, Novelty::New), (elsewhere, Novelty::New)]);
    assert_eq!(fleet.totals().calls, 3);
}

#[test]
fn a_resumed_session_does_not_count_its_copied_lines() {
    let mut told = Vec::new();
    for (session, novelty) in [("s", Novelty::New), ("resumed", Novelty::Duplicate)] {
        let mut line = transcript(0, tokens(3, 4, 5, 6));
        line.session = Some(session.into());
        line.agent = Some(session.into());
        line.uid = (session == "s").then_some(1);
        told.push((line, novelty));
        let mut prompt = event_of(Source::Transcript, session, session, 0, paramedic_model::Fact::Prompt);
        prompt.uid = Some(2);
        told.push((prompt, novelty));
    }
    let fleet = check(&told);
    assert_eq!((fleet.totals().calls, fleet.totals().turns), (1, 1));
}

#[test]
fn an_unknown_model_costs_an_unknown_sum_not_nothing() {
    let mut fleet = check(&[(event(Source::Transcript, 0, call(Some("msg_1"), "mystery-1", tokens(10, 20, 0, 0))), Novelty::New)]);
    let cost = fleet.totals().cost;
    assert_eq!((cost.usd, cost.priced_by, cost.unpriced_calls, cost.unpriced_tokens), (None, PricedBy::Unknown, 1, 30));
    assert_eq!(cost.unpriced_models, ["mystery-1"]);
    assert!(!cost.is_complete());
    fleet.observe(&transcript(5, tokens(1_000_000, 0, 0, 0)));
    let cost = fleet.totals().cost;
    assert_eq!((cost.usd, cost.unpriced_tokens), (Some(5.0), 30));
    let report = fleet.cost_report();
    assert_eq!(report.unpriced.len(), 1);
    assert_eq!(report.by_model[1].sum.cost.usd, None);
    assert_eq!(report.by_day[0].day, "2026-01-01");
    assert!(serde_json::to_string(&report).unwrap().contains("\"usd\":null"));
}

#[test]
fn a_sources_own_cost_is_used_where_we_have_no_price_and_said() {
    let reported = with_cost(call(None, "mystery-1", tokens(10, 20, 0, 0)), 0.25);
    let known = with_cost(call(None, OPUS, tokens(1_000_000, 0, 0, 0)), 99.0);
    let mut fleet = check(&[(request(event(Source::OtlpLog, 0, reported), "r1"), Novelty::New)]);
    assert_eq!((fleet.totals().cost.usd, fleet.totals().cost.priced_by), (Some(0.25), PricedBy::Source));
    fleet.observe(&request(event(Source::OtlpLog, 9, known), "r2"));
    assert_eq!((fleet.totals().cost.usd, fleet.totals().cost.priced_by), (Some(5.25), PricedBy::Mixed));
}

#[test]
fn absurd_numbers_do_not_drown_the_sums() {
    let mut fleet = fleet();
    let absurd = Usage { input_tokens: u64::MAX / 4, ..Usage::default() };
    for (i, usd) in [f64::NAN, -1.0, f64::INFINITY, 1e300].into_iter().enumerate() {
        let fact = with_cost(call(None, "mystery-1", absurd), usd);
        fleet.observe(&request(event(Source::OtlpLog, 0, fact), &format!("r{i}")));
    }
    assert!(fleet.totals().usage.input_tokens <= 400_000_000);
    assert_eq!(fleet.totals().cost.usd, Some(10_000.0));
}

#[test]
fn a_call_without_any_id_counts_until_the_session_is_told_better() {
    let anonymous = |at_ms| event(Source::OtlpLog, at_ms, call(None, OPUS, tokens(10, 10, 0, 0)));
    let mut fleet = check(&[(anonymous(0), Novelty::New), (anonymous(60_000), Novelty::New)]);
    assert_eq!(fleet.totals().calls, 2);
    fleet.observe(&transcript(0, tokens(10, 10, 0, 0)));
    assert_eq!((fleet.totals().calls, fleet.totals().usage), (1, tokens(10, 10, 0, 0)));
    assert_eq!(fleet.observe(&anonymous(90_000)), Novelty::Duplicate);
    assert_eq!(fleet.totals().calls, 1);
}

#[test]
fn counters_count_only_where_nobody_tells_the_calls() {
    let labels = |kind| [("type", kind), ("model", OPUS)];
    let name = "claude_code.token.usage";
    let mut fleet = fleet();
    fleet.observe(&counter(name, 0, 1_000.0, Temporality::Delta, &labels("input")));
    fleet.observe(&counter(name, 1, 100.0, Temporality::Cumulative, &labels("output")));
    fleet.observe(&counter(name, 2, 150.0, Temporality::Cumulative, &labels("output")));
    fleet.observe(&counter(name, 3, 30.0, Temporality::Cumulative, &labels("output")));
    fleet.observe(&counter("claude_code.cost.usage", 4, 77.0, Temporality::Delta, &[("model", OPUS)]));
    assert_eq!(fleet.totals().usage, tokens(1_000, 180, 0, 0));
    assert_eq!(fleet.totals().cost.usd, Some(0.0095));
    fleet.observe(&transcript(9, tokens(1, 2, 3, 4)));
    assert_eq!(fleet.totals().usage, tokens(1, 2, 3, 4));
    fleet.observe(&counter(name, 10, 5_000.0, Temporality::Delta, &labels("input")));
    assert_eq!(fleet.totals().usage, tokens(1, 2, 3, 4));
}

#[test]
fn a_counter_of_dollars_prices_an_unknown_model() {
    let labels = [("type", "input"), ("model", "mystery-1")];
    let mut fleet = fleet();
    fleet.observe(&counter("claude_code.token.usage", 0, 1_000.0, Temporality::Delta, &labels));
    assert_eq!((fleet.totals().cost.usd, fleet.totals().cost.unpriced_tokens), (None, 1_000));
    fleet.observe(&counter("claude_code.cost.usage", 1, 0.5, Temporality::Delta, &[("model", "mystery-1")]));
    fleet.observe(&counter("claude_code.token.usage", 2, 1_000.0, Temporality::Delta, &labels));
    let cost = fleet.totals().cost;
    assert_eq!((cost.usd, cost.priced_by, cost.unpriced_tokens), (Some(0.5), PricedBy::Source, 0));
}

#[test]
fn a_tool_is_counted_once_and_its_details_are_gathered() {
    let id = Some("toolu_0123456789");
    let fleet = check(&[
        (event(Source::Hook, 0, tool_call(id, "Bash")), Novelty::New),
        (event(Source::Transcript, 5, tool_call(id, "Bash")), Novelty::Duplicate),
        (event(Source::Transcript, 900, tool_result(id, ToolOutcome::Error, None)), Novelty::New),
        (event(Source::OtlpLog, 905, tool_result(id, ToolOutcome::Error, Some(880))), Novelty::Update),
        (event(Source::Hook, 906, tool_result(id, ToolOutcome::Error, Some(880))), Novelty::Duplicate),
    ]);
    let agent = fleet.agent(&"s".into()).unwrap();
    assert_eq!((agent.tool_calls, agent.tool_errors), (1, 1));
    assert_eq!(agent.current_tool, None);
}

#[test]
fn a_result_without_its_call_counts_the_call() {
    let fleet = check(&[
        (event(Source::OtlpLog, 0, tool_result(Some("toolu_0123456789"), ToolOutcome::Error, Some(5))), Novelty::New),
        (event(Source::Transcript, 0, tool_call(Some("toolu_0123456789"), "Bash")), Novelty::New),
        (event(Source::Transcript, 1, tool_result(Some("toolu_0123456789"), ToolOutcome::Rejected, None)), Novelty::Update),
    ]);
    let agent = fleet.agent(&"s".into()).unwrap();
    assert_eq!((agent.tool_calls, agent.tool_errors, agent.current_tool), (1, 0, None), "rejected by a person is no failure");
}

#[test]
fn without_ids_the_source_that_told_most_is_believed() {
    let mut fleet = fleet();
    for i in 0..3 {
        fleet.observe(&event(Source::Transcript, i, tool_call(Some(&format!("toolu_000000000{i}")), "Bash")));
    }
    for i in 0..5 {
        let novelty = fleet.observe(&event(Source::OtlpLog, i, tool_result(None, ToolOutcome::Error, None)));
        assert_eq!(novelty == Novelty::New, i >= 3, "{i}");
    }
    let agent = fleet.agent(&"s".into()).unwrap();
    assert_eq!((agent.tool_calls, agent.tool_errors), (5, 5));
}

#[test]
fn a_subagents_call_moves_to_it_when_a_source_knows_better() {
    let sub = request(event_of(Source::Transcript, "s", "s/a", 5, call(Some(MESSAGE), OPUS, tokens(1, 2, 3, 4))), REQUEST);
    for order in [[api_request(0, tokens(1, 2, 3, 4)), sub.clone()], [sub, api_request(0, tokens(1, 2, 3, 4))]] {
        let mut fleet = fleet();
        order.iter().for_each(|event| _ = fleet.observe(event));
        let view = |id: &str| fleet.agent(&id.into()).unwrap();
        assert_eq!((view("s").usage, view("s/a").usage), (Usage::default(), tokens(1, 2, 3, 4)));
        assert_eq!(view("s/a").parent.unwrap().as_str(), "s");
        assert_eq!(view("s").subagents.total, 1);
        assert_eq!(fleet.totals().calls, 1);
    }
}
