//! The same session told by several sources, in every order, is one session.

use paramedic_fleet::Fleet;
use paramedic_model::{AgentId, Event, Fact, Source, ToolOutcome, Usage};
use proptest::prelude::*;

use crate::told::{call, event_of, fleet, request, tokens, tool_call, tool_result};

const MODELS: [&str; 3] = ["claude-opus-4-5-20251101", "claude-haiku-4-5", "mystery-1"];

/// What really happened in one turn.
#[derive(Debug, Clone)]
struct Turn {
    calls: Vec<(Usage, usize, bool)>,
    tools: Vec<(bool, bool)>,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let usage = (0..50u64, 1..2_000u64, 0..100_000u64, 0..5_000u64).prop_map(|(a, b, c, d)| tokens(a, b, c, d));
    let calls = prop::collection::vec((usage, 0..MODELS.len(), any::<bool>()), 1..4);
    let tools = prop::collection::vec((any::<bool>(), any::<bool>()), 0..3);
    prop::collection::vec((calls, tools).prop_map(|(calls, tools)| Turn { calls, tools }), 1..6)
}

/// What each source tells of it, with its own delay. Turns are a minute apart.
fn tell(turns: &[Turn], source: Source) -> Vec<Event> {
    let delay = match source {
        Source::Transcript => 0,
        Source::StreamJson => 7,
        Source::Gateway => 20,
        Source::Hook => 40,
        _ => 300,
    };
    let mut out = Vec::new();
    for (t, turn) in turns.iter().enumerate() {
        let start = i64::try_from(t).unwrap() * 60_000 + delay;
        if source != Source::Gateway {
            out.push(event_of(source, "s", "s", start, Fact::Prompt));
        }
        for (i, (usage, model, sub)) in turn.calls.iter().enumerate() {
            let at = start + 3_000 + i64::try_from(i).unwrap() * 100;
            tell_call(source, at, &format!("{t:08}{i:08}"), *usage, MODELS[*model], *sub, &mut out);
        }
        if source == Source::Gateway {
            continue;
        }
        for (i, (failed, sub)) in turn.tools.iter().enumerate() {
            let at = start + 6_000 + i64::try_from(i).unwrap() * 100;
            tell_tool(source, at, &format!("toolu_{t:08}{i:08}"), *failed, *sub, &mut out);
        }
        if source == Source::StreamJson {
            account(turn, start + 8_900, &mut out);
        }
        out.push(event_of(source, "s", "s", start + 9_000, Fact::TurnEnded { duration: None }));
    }
    out
}

/// The run's own account: what each model used in the turn.
fn account(turn: &Turn, at: i64, out: &mut Vec<Event>) {
    for (number, model) in MODELS.iter().enumerate() {
        let used = turn.calls.iter().filter(|call| call.1 == number).fold(Usage::default(), |sum, call| sum.plus(call.0));
        let mut event = event_of(Source::StreamJson, "s", "s", at, Fact::Record);
        event.name = "result/model_usage".into();
        event.attributes.insert("model".to_owned(), format!("{model}[1m]").into());
        if let serde_json::Value::Object(counts) = serde_json::to_value(used).unwrap() {
            event.attributes.extend(counts);
        }
        out.push(event);
    }
}

fn tell_call(source: Source, at: i64, id: &str, usage: Usage, model: &str, sub: bool, out: &mut Vec<Event>) {
    let (message, req) = (format!("msg_{id}"), format!("req_{id}"));
    let agent = if sub { "s/a" } else { "s" };
    let early = Usage { output_tokens: 1, ..usage };
    match source {
        Source::Transcript => {
            for (at, usage) in [(at, early), (at + 10, usage)] {
                out.push(request(event_of(source, "s", agent, at, call(Some(&message), model, usage)), &req));
            }
        }
        // Once, at its end.
        Source::Gateway => out.push(request(event_of(source, "s", agent, at, call(Some(&message), model, usage)), &req)),
        // Only the run's account knows how many tokens came out.
        Source::StreamJson => out.push(event_of(source, "s", agent, at, call(Some(&message), model, early))),
        Source::OtlpLog => out.push(request(event_of(source, "s", "s", at, call(None, model, usage)), &req)),
        _ => {}
    }
}

fn tell_tool(source: Source, at: i64, id: &str, failed: bool, sub: bool, out: &mut Vec<Event>) {
    let agent = if sub && source != Source::OtlpLog { "s/a" } else { "s" };
    let outcome = if failed { ToolOutcome::Error } else { ToolOutcome::Success };
    if source != Source::OtlpLog {
        out.push(event_of(source, "s", agent, at, tool_call(Some(id), "Bash")));
    }
    out.push(event_of(source, "s", agent, at + 50, tool_result(Some(id), outcome, (source == Source::OtlpLog).then_some(50))));
}

/// Each source's events stay in their order; which source comes next is chosen.
fn interleave(mut told: Vec<Vec<Event>>, choices: &[usize]) -> Vec<Event> {
    told.iter_mut().for_each(|events| events.reverse());
    let mut out = Vec::new();
    let mut i = 0;
    loop {
        told.retain(|events| !events.is_empty());
        if told.is_empty() {
            return out;
        }
        let choice = choices.get(i % choices.len().max(1)).copied().unwrap_or(0) % told.len();
        out.extend(told[choice].pop());
        i += 1;
    }
}

/// What a person sees of the counts.
fn shown(fleet: &Fleet) -> String {
    let mut lines = vec![format!("{:?}", (fleet.totals().calls, fleet.totals().usage, fleet.totals().cost))];
    for id in ["s", "s/a"] {
        if let Some(view) = fleet.agent(&AgentId::from(id)) {
            lines.push(format!("{id} {:?}", (view.turns, view.model_calls, view.usage, view.cost.usd, view.tool_calls, view.tool_errors)));
        }
    }
    lines.join("\n")
}

fn observed(events: &[Event]) -> Fleet {
    let mut fleet = fleet();
    events.iter().for_each(|event| _ = fleet.observe(event));
    fleet
}

fn agents_of(turns: &[Turn]) -> bool {
    turns.iter().any(|turn| turn.calls.iter().any(|call| call.2) || turn.tools.iter().any(|tool| tool.1))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn three_sources_in_any_order_are_one_session(turns in turns(), choices in prop::collection::vec(0..4usize, 1..200)) {
        let alone = observed(&tell(&turns, Source::Transcript));
        let sources = [Source::Transcript, Source::OtlpLog, Source::Hook];
        let together = observed(&interleave(sources.map(|source| tell(&turns, source)).into(), &choices));
        prop_assert_eq!(shown(&together), shown(&alone));
        prop_assert_eq!(together.agents().count(), 1 + usize::from(agents_of(&turns)));
    }

    #[test]
    fn four_sources_in_any_order_are_one_session(turns in turns(), choices in prop::collection::vec(0..4usize, 1..200)) {
        let alone = observed(&tell(&turns, Source::Transcript));
        let sources = [Source::StreamJson, Source::OtlpLog, Source::Hook, Source::Transcript];
        let together = observed(&interleave(sources.map(|source| tell(&turns, source)).into(), &choices));
        prop_assert_eq!(shown(&together), shown(&alone));
    }

    #[test]
    fn five_sources_in_any_order_are_one_session(turns in turns(), choices in prop::collection::vec(0..5usize, 1..200)) {
        let alone = observed(&tell(&turns, Source::Transcript));
        let sources = [Source::Gateway, Source::StreamJson, Source::OtlpLog, Source::Hook, Source::Transcript];
        let together = observed(&interleave(sources.map(|source| tell(&turns, source)).into(), &choices));
        prop_assert_eq!(shown(&together), shown(&alone));
    }

    /// The gateway knows the ids of both, so that the two can be matched.
    #[test]
    fn the_gateway_joins_stream_json_and_telemetry(turns in turns(), choices in prop::collection::vec(0..3usize, 1..200)) {
        let sums = |fleet: &Fleet| (fleet.totals().calls, fleet.totals().usage, fleet.totals().cost);
        let alone = observed(&tell(&turns, Source::Gateway));
        let sources = [Source::Gateway, Source::StreamJson, Source::OtlpLog];
        let together = observed(&interleave(sources.map(|source| tell(&turns, source)).into(), &choices));
        prop_assert_eq!(sums(&together), sums(&alone));
        prop_assert_eq!(together.cost_report().by_model, alone.cost_report().by_model);
    }

    /// Without a transcript the two cannot be matched by id; the record of the conversation is believed.
    #[test]
    fn stream_json_and_telemetry_are_one_session(turns in turns(), choices in prop::collection::vec(0..4usize, 1..200)) {
        let alone = observed(&tell(&turns, Source::StreamJson));
        let together = observed(&interleave(vec![tell(&turns, Source::StreamJson), tell(&turns, Source::OtlpLog)], &choices));
        prop_assert_eq!(shown(&together), shown(&alone));
    }

    /// The account makes up for the placeholders, and goes on making up for what is not yet told better.
    #[test]
    fn stream_json_alone_has_the_transcripts_totals(turns in turns(), choices in prop::collection::vec(0..4usize, 1..200)) {
        let alone = observed(&tell(&turns, Source::Transcript));
        let mut fleet = observed(&tell(&turns, Source::StreamJson));
        let sums = |fleet: &Fleet| (fleet.totals().calls, fleet.totals().usage, fleet.totals().cost);
        prop_assert_eq!(sums(&fleet), sums(&alone));
        prop_assert_eq!(fleet.cost_report().by_model, alone.cost_report().by_model);
        for event in interleave(vec![tell(&turns, Source::Transcript), tell(&turns, Source::OtlpLog)], &choices) {
            fleet.observe(&event);
            prop_assert_eq!(sums(&fleet).1, sums(&alone).1);
        }
        prop_assert_eq!(shown(&fleet), shown(&alone));
    }

    /// A checkpoint between any two events changes nothing.
    #[test]
    fn an_account_survives_a_checkpoint(turns in turns(), cut in 0..40usize) {
        let events = interleave(vec![tell(&turns, Source::StreamJson), tell(&turns, Source::Transcript)], &[0, 1, 1]);
        let cut = cut.min(events.len());
        let before = observed(&events[..cut]);
        let settings = paramedic_fleet::Settings::default();
        let mut after = Fleet::load(&before.save(), paramedic_fleet::Prices::embedded(), settings).unwrap();
        events[cut..].iter().for_each(|event| _ = after.observe(event));
        prop_assert_eq!(shown(&after), shown(&observed(&events)));
    }

    /// However the sources mix, the detectors are told each tool call and each result exactly once.
    #[test]
    fn every_tool_is_news_once(turns in turns(), choices in prop::collection::vec(0..4usize, 1..200)) {
        let sources = [Source::Transcript, Source::OtlpLog, Source::Hook];
        let mut fleet = fleet();
        let mut news = (0, 0);
        for event in interleave(sources.map(|source| tell(&turns, source)).into(), &choices) {
            let new = fleet.observe(&event) == paramedic_fleet::Novelty::New;
            news.0 += usize::from(new && matches!(event.fact, Fact::ToolCall { .. }));
            news.1 += usize::from(new && matches!(event.fact, Fact::ToolResult { .. }));
        }
        let tools = turns.iter().map(|turn| turn.tools.len()).sum::<usize>();
        prop_assert_eq!(news, (tools, tools));
    }

    /// When sources are told as they happen, the detectors hear of each prompt, call and end of turn exactly once.
    #[test]
    fn every_fact_is_news_once_when_told_live(turns in turns()) {
        let sources = [Source::Transcript, Source::OtlpLog, Source::Hook];
        let mut events: Vec<Event> = sources.iter().flat_map(|source| tell(&turns, *source)).collect();
        events.sort_by_key(|event| event.at);
        let mut fleet = fleet();
        let mut news = (0, 0, 0);
        for event in events {
            let new = usize::from(fleet.observe(&event) == paramedic_fleet::Novelty::New);
            match event.fact {
                Fact::Prompt => news.0 += new,
                Fact::ModelCall { .. } => news.1 += new,
                Fact::TurnEnded { .. } => news.2 += new,
                _ => {}
            }
        }
        let calls = turns.iter().map(|turn| turn.calls.len()).sum::<usize>();
        prop_assert_eq!(news, (turns.len(), calls, turns.len()));
    }
}
