//! A headless run that delegates to a sub-agent, as each source really tells it, read by the real readers.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use paramedic_collect::otlp::{Encoding, Signal, decode};
use paramedic_collect::transcript::{ParseOptions, discover, read_file};
use paramedic_collect::{hook, stream_json};
use paramedic_fleet::{Fleet, Novelty};
use paramedic_model::{Event, Fact, Timestamp, Usage};

use crate::told::{fleet, tokens};

const MAIN: &str = "0d1e6a7e-0000-4000-8000-00000000de1e";
const HELPER: &str = "0d1e6a7e-0000-4000-8000-00000000de1e/ab5ce11a90d3f0c7e";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/delegated").join(name)
}

/// Lines without a time happened when they came: a few milliseconds apart, after the run's beginning.
fn arrivals() -> impl Iterator<Item = Timestamp> {
    let start = Timestamp::parse("2026-03-04T09:00:00.010Z").unwrap();
    (0..).map(move |number| start.after(std::time::Duration::from_millis(number * 20)))
}

fn transcripts() -> Vec<Event> {
    let mut out = Vec::new();
    for file in discover(&fixture("config")).unwrap() {
        read_file(&file.path, ParseOptions::default(), &mut |events| out.append(events)).unwrap();
    }
    out
}

fn stream() -> Vec<Event> {
    let mut parser = stream_json::Parser::new(ParseOptions::default());
    let mut out = Vec::new();
    for (line, now) in std::fs::read_to_string(fixture("stream.jsonl")).unwrap().lines().zip(arrivals()) {
        parser.parse(line.as_bytes(), now, &mut out);
    }
    out
}

fn hooks() -> Vec<Event> {
    let text = std::fs::read_to_string(fixture("hooks.jsonl")).unwrap();
    text.lines().zip(arrivals()).flat_map(|(line, now)| hook::parse(line.as_bytes(), now).unwrap()).collect()
}

fn telemetry() -> Vec<Event> {
    let body = std::fs::read(fixture("otlp-logs.json")).unwrap();
    decode(Signal::Logs, Encoding::Json, &body, Timestamp::EPOCH, 10_000).unwrap().events
}

/// Every order of the sources, one after another.
fn orders<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let mut out = Vec::new();
    for i in 0..items.len() {
        let mut rest = items.to_vec();
        let first = rest.remove(i);
        out.extend(orders(&rest).into_iter().map(|mut order| {
            order.insert(0, first.clone());
            order
        }));
    }
    out
}

fn observed<'a>(events: impl IntoIterator<Item = &'a Event>) -> Fleet {
    let mut fleet = fleet();
    events.into_iter().for_each(|event| _ = fleet.observe(event));
    fleet
}

fn agents(fleet: &Fleet) -> BTreeSet<&str> {
    fleet.agents().map(|agent| agent.id()).collect()
}

/// Turns, tool calls and usage of one agent.
fn work(fleet: &Fleet, id: &str) -> (u32, u32, Usage) {
    let view = fleet.agent(&id.into()).unwrap();
    (view.turns, view.tool_calls, view.usage)
}

fn check_whole(fleet: &Fleet, what: &str) {
    assert_eq!(agents(fleet), BTreeSet::from([MAIN, HELPER]), "{what}");
    assert_eq!((fleet.totals().calls, fleet.totals().usage), (4, tokens(44, 28, 132, 88)), "{what}");
    assert_eq!(work(fleet, MAIN), (1, 1, tokens(22, 14, 66, 44)), "{what}");
    assert_eq!(work(fleet, HELPER), (1, 1, tokens(22, 14, 66, 44)), "{what}");
    let helper = fleet.agent(&HELPER.into()).unwrap();
    assert_eq!((helper.agent_type.as_deref(), helper.parent.as_ref().map(|id| id.as_str())), (Some("Explore"), Some(MAIN)), "{what}");
}

#[test]
fn all_sources_in_any_order_are_one_agent_and_one_sub_agent() {
    let told = [("transcript", transcripts()), ("stream", stream()), ("hooks", hooks()), ("telemetry", telemetry())];
    for count in 1..=4 {
        for order in orders(&told).iter().map(|order| &order[..count]).filter(|order| order.iter().any(|(name, _)| *name == "transcript")) {
            let names: Vec<&str> = order.iter().map(|(name, _)| *name).collect();
            check_whole(&observed(order.iter().flat_map(|(_, events)| events)), &format!("{names:?}"));
        }
    }
}

#[test]
fn as_it_happens_every_fact_is_news_once() {
    let mut all = [transcripts(), stream(), hooks(), telemetry()].concat();
    all.sort_by_key(|event| event.at);
    let mut fleet = fleet();
    let mut news = std::collections::BTreeMap::new();
    for event in &all {
        if fleet.observe(event) == Novelty::New && !matches!(event.fact, Fact::Record) {
            *news.entry(event.kind()).or_insert(0) += 1;
        }
    }
    check_whole(&fleet, "as it happens");
    let expect = [("model-call", 4), ("prompt", 2), ("subagent-ended", 1), ("subagent-started", 1), ("tool-call", 2), ("tool-result", 2)];
    for (kind, count) in expect {
        assert_eq!(news.get(kind), Some(&count), "{kind} of {news:?}");
    }
}

/// Without the transcript the sums are the same; whose they are is known as far as the sources tell.
#[test]
fn without_the_transcript_nothing_is_lost_or_doubled() {
    let sums = |fleet: &Fleet| (fleet.totals().calls, fleet.totals().usage);
    let whole = (4, tokens(44, 28, 132, 88));
    for order in orders(&[stream(), hooks(), telemetry()]) {
        check_whole(&observed(order.iter().flatten()), "three sources");
        for pair in [&order[..2], &order[..1]] {
            let fleet = observed(pair.iter().flatten());
            if fleet.totals().calls > 0 {
                assert_eq!(sums(&fleet), whole);
            }
            assert!(agents(&fleet).is_subset(&BTreeSet::from([MAIN, HELPER])));
        }
    }
    let fleet = observed(&stream());
    assert_eq!(work(&fleet, MAIN).0, 1);
    assert_eq!(agents(&fleet).len(), 2);
}
