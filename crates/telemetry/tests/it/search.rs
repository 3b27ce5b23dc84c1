//! Searching by every field, in both orders, with hostile text.

use std::sync::Arc;

use paramedic_model::{Clock, Event, Fact, Level, ManualClock, Source, Timestamp};
use paramedic_telemetry::{Search, Settings, Store};

use crate::story::{NOON, event, events, open, tiny, wait_until};

fn record() -> Vec<Event> {
    let mut record: Vec<Event> = (0..8).map(|i| event(i * 1000, "steady as she goes")).collect();
    record[1].session = Some("other".into());
    record[1].agent = Some("other/sub1".into());
    record[2].agent = Some("other/sub2".into());
    record[3].agent = Some("other2/sub1".into());
    record[4].level = Level::Error;
    record[4].text = "API error: 529 Overloaded, request req_9 failed".into();
    record[5].source = Source::Hook;
    record[5].name = "PreToolUse".into();
    record[5].fact = Fact::Prompt;
    record[6].correlation.prompt = Some("p1".into());
    record[6].correlation.request = Some("r1".into());
    record[7].correlation.trace = Some("t1".into());
    record[7].correlation.user = Some("u1".into());
    record[7].level = Level::Warn;
    record
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// The numbers of the record's events that each search finds, newest first.
fn cases() -> Vec<(Search, Vec<u64>)> {
    let at = |i: i64| Some(Timestamp::from_secs(NOON + i));
    let all = Search::default;
    vec![
        (all(), vec![7, 6, 5, 4, 3, 2, 1, 0]),
        (Search { from: at(2), to: at(4), ..all() }, vec![4, 3, 2]),
        (Search { agent: some("worker"), to: at(4), ..all() }, vec![4, 0]),
        (Search { agent: some("other/*"), ..all() }, vec![2, 1]),
        (Search { agent: some("other"), ..all() }, vec![]),
        (Search { agent: some("other/sub1"), ..all() }, vec![1]),
        (Search { session: some("other"), ..all() }, vec![1]),
        (Search { session: some("nobody"), ..all() }, vec![]),
        (Search { kind: some("prompt"), ..all() }, vec![5]),
        (Search { kind: some("no such kind"), ..all() }, vec![]),
        (Search { source: some("hook"), ..all() }, vec![5]),
        (Search { name: some("PreToolUse"), ..all() }, vec![5]),
        (Search { level_min: Some(Level::Warn), ..all() }, vec![7, 4]),
        (Search { level_min: Some(Level::Error), ..all() }, vec![4]),
        (Search { text: some("overloaded"), ..all() }, vec![4]),
        (Search { text: some("\"api ERROR\" 529"), ..all() }, vec![4]),
        (Search { text: some("\"error api\""), ..all() }, vec![]),
        (Search { text: some("over*"), ..all() }, vec![4]),
        (Search { text: some("req_9"), ..all() }, vec![4]),
        (Search { text: some("3000"), ..all() }, vec![3]),
        (Search { prompt: some("p1"), ..all() }, vec![6]),
        (Search { request: some("r1"), ..all() }, vec![6]),
        (Search { request: some("p1"), ..all() }, vec![]),
        (Search { trace: some("t1"), user: some("u1"), ..all() }, vec![7]),
        (Search { trace: some("t1"), user: some("u2"), ..all() }, vec![]),
        (Search { before_seq: Some(4), after_seq: Some(1), ..all() }, vec![2, 1]),
    ]
}

fn numbers(store: &Store, search: &Search) -> Vec<u64> {
    let page = store.search(search).expect("searches");
    page.events.iter().map(|stored| stored.event.attributes["i"].as_u64().expect("a number") / 1000).collect()
}

fn check_cases(store: &Store, state: &str) {
    for (search, expect) in cases() {
        assert_eq!(numbers(store, &search), expect, "{state}: {search:?}");
        let (search, expect) = (Search { oldest_first: true, ..search }, expect.into_iter().rev().collect::<Vec<_>>());
        assert_eq!(numbers(store, &search), expect, "{state}: {search:?}");
    }
}

#[test]
fn every_field_finds_the_same_with_and_without_the_index() {
    let dir = tempfile::tempdir().expect("folder");
    let store = open(dir.path(), Settings::default());
    store.append_blocking(record(), vec![]).expect("appends");
    assert_eq!(store.stats().index_lag, 8);
    check_cases(&store, "not indexed");
    // Rows that no case finds fill the block, so that the record gets indexed.
    let dir = tempfile::tempdir().expect("folder");
    let store = open(dir.path(), Settings::default());
    store.append_blocking(record(), vec![]).expect("appends");
    let mut filler = events(0..2000);
    for event in &mut filler {
        event.text = "".into();
        event.at = Timestamp::from_secs(NOON - 1_000_000);
        event.attributes["i"] = u64::MAX.into();
        (event.agent, event.session, event.level, event.name) = (None, None, Level::Debug, "filler".into());
    }
    store.append_blocking(filler, vec![]).expect("appends");
    wait_until("the index has caught up", || store.stats().index_lag < 1024);
    for (search, expect) in cases() {
        let search = Search { before_seq: Some(search.before_seq.unwrap_or(9)), ..search };
        assert_eq!(numbers(&store, &search), expect, "indexed: {search:?}");
    }
}

#[test]
fn pages_and_limits() {
    let dir = tempfile::tempdir().expect("folder");
    let store = open(dir.path(), tiny());
    store.append_blocking(events(0..1000), vec![]).expect("appends");
    for oldest_first in [false, true] {
        for limit in [0, 1, 7, 999, 1000, 1001, usize::MAX] {
            let page = store.search(&Search { limit, oldest_first, ..Search::default() }).expect("searches");
            let expect = if limit == 0 { 100 } else { limit.min(1000) };
            assert_eq!((page.events.len(), page.more), (expect, expect < 1000), "limit {limit}");
            assert_eq!(page.next, page.more.then(|| if oldest_first { expect as u64 } else { 1001 - expect as u64 }));
        }
    }
}

#[test]
fn partitions_without_a_match_are_not_opened() {
    let dir = tempfile::tempdir().expect("folder");
    let store = open(dir.path(), tiny());
    for i in 0..20 {
        store.append_blocking(events(i * 100..i * 100 + 100), vec![]).expect("appends");
    }
    let partitions = store.stats().partitions;
    assert!(partitions > 4, "{partitions}");
    let early = Search { to: Some(Timestamp::from_secs(NOON)), ..Search::default() };
    let page = store.search(&early).expect("searches");
    assert_eq!((page.events.len(), page.scanned_partitions), (1, 1));
}

#[test]
fn no_text_is_an_error() {
    let dir = tempfile::tempdir().expect("folder");
    let store = open(dir.path(), tiny());
    for i in 0..10 {
        store.append_blocking(events(i * 100..i * 100 + 100), vec![]).expect("appends");
    }
    wait_until("older partitions are indexed", || store.stats().index_lag < 400);
    let long = "\"".repeat(100_000);
    let many = "a* ".repeat(50_000);
    for text in [
        "\"",
        "\"\"",
        "*",
        "\"*\"",
        "^",
        "-",
        "+",
        "a -b",
        "NOT x",
        "AND",
        "OR OR",
        "NEAR(",
        "text:",
        "{a b}:c",
        "(",
        ")",
        "'; drop table events; --",
        "\0",
        "a\0b",
        "\u{E000}a1",
        "\u{FEFF}",
        "💥",
        "ﷺ",
        "%",
        "_",
        "\\",
        "1e999",
        &long,
        &many,
    ] {
        for oldest_first in [false, true] {
            store
                .search(&Search { text: some(text), oldest_first, ..Search::default() })
                .unwrap_or_else(|error| panic!("{text:?}: {error}"));
        }
    }
    let odd = Some("\0'\"*/".repeat(1000));
    let search = Search {
        agent: odd.clone(),
        session: odd.clone(),
        kind: odd.clone(),
        name: odd.clone(),
        prompt: odd.clone(),
        user: odd,
        before_seq: Some(u64::MAX),
        after_seq: Some(u64::MAX),
        ..Search::default()
    };
    assert!(store.search(&search).expect("searches").events.is_empty());
}

/// Every look at this clock takes a second.
struct HurryingClock(ManualClock);

impl Clock for HurryingClock {
    fn now(&self) -> Timestamp {
        self.0.advance(std::time::Duration::from_secs(1));
        self.0.now()
    }
}

#[test]
fn a_search_that_takes_too_long_returns_what_it_has_and_can_go_on() {
    let dir = tempfile::tempdir().expect("folder");
    let clock = Arc::new(HurryingClock(ManualClock::at(Timestamp::from_secs(NOON))));
    let store = Store::open(dir.path(), Settings { search_time_max_ms: 1, ..tiny() }, clock).expect("opens");
    for i in 0..20 {
        store.append_blocking(events(i * 100..i * 100 + 100), vec![]).expect("appends");
    }
    for oldest_first in [false, true] {
        let mut search = Search { name: some("log"), limit: 5000, oldest_first, ..Search::default() };
        let (mut found, mut pages) = (0, 0);
        loop {
            let page = store.search(&search).expect("searches");
            found += page.events.len();
            pages += 1;
            if !page.more {
                break;
            }
            assert!(page.timed_out && page.next.is_some());
            *(if oldest_first { &mut search.after_seq } else { &mut search.before_seq }) = page.next;
        }
        assert_eq!(found, 2000);
        assert!(pages >= 7, "{pages}");
    }
}

#[test]
fn metrics_are_told() {
    let dir = tempfile::tempdir().expect("folder");
    let store = open(dir.path(), Settings::default());
    store.append_blocking(events(0..5), vec![]).expect("appends");
    store.search(&Search::default()).expect("searches");
    let _ = store.stats();
    let mut registry = prometheus_client::registry::Registry::default();
    store.metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
    for line in [
        "paramedic_telemetry_appended_events_total 5",
        "paramedic_telemetry_append_seconds_count 1",
        "paramedic_telemetry_stored_events 5",
        "paramedic_telemetry_index_lag_rows 5",
        "paramedic_telemetry_searches_total 1",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} in {text}");
    }
}
