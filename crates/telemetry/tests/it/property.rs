//! Whatever was appended is found exactly: the search agrees with a filter over a plain list.

use std::sync::Arc;

use paramedic_model::{Event, Fact, Level, Source, SystemClock, Timestamp};
use paramedic_telemetry::{Search, Store, StoredEvent};
use proptest::prelude::*;
use proptest::sample::select;

use crate::story::{all_pages, tiny};

const AGENTS: &[&str] = &["a", "a/1", "a/2", "ab", "b/1"];
const SESSIONS: &[&str] = &["a", "ab", "b"];
const NAMES: &[&str] = &["log", "a", "PreToolUse"];
const WORDS: &[&str] = &["error", "Error!", "err", "time-out", "time out", "Über", "x", "529", "out_time"];
const QUERIES: &[&str] =
    &["error", "err*", "\"time out\"", "time_out", "out time", "\"out time\"", "über", "x*", "529", "ERROR über", "\"", "e* x", "absent"];

fn event() -> impl Strategy<Value = Event> {
    let who = (prop::option::of(select(AGENTS)), prop::option::of(select(SESSIONS)), select(NAMES));
    let what = (select(Level::ALL), select(Source::ALL), 0..3usize, prop::option::of(select(SESSIONS)));
    let words = (prop::collection::vec(select(WORDS), 0..4), prop::collection::vec(select(WORDS), 0..3));
    (0..100i64, who, what, words).prop_map(|(at, (agent, session, name), (level, source, fact, trace), (text, attributes))| {
        let mut event = Event::new(Timestamp::from_secs(at), source, name);
        event.level = level;
        event.agent = agent.map(Into::into);
        event.session = session.map(Into::into);
        event.fact = [Fact::Record, Fact::Prompt, Fact::ToolProgress { id: None }][fact].clone();
        event.correlation.trace = trace.map(Into::into);
        event.text = text.join(" ").into();
        for (i, word) in attributes.into_iter().enumerate() {
            event.attributes.insert(i.to_string(), if i == 0 { word.into() } else { serde_json::json!({ "deep": [word, 529] }) });
        }
        event
    })
}

fn search() -> impl Strategy<Value = Search> {
    let rarely = |values: &'static [&'static str]| prop::option::weighted(0.2, select(values).prop_map(str::to_owned));
    let who = (rarely(&["a", "a/1", "a/*", "ab", "b/*", "nobody"]), rarely(SESSIONS), rarely(NAMES));
    let what = (
        rarely(&["record", "prompt", "tool-progress", "span"]),
        rarely(&["log", "hook", "otlp-span"]),
        prop::option::weighted(0.2, select(Level::ALL)),
        rarely(SESSIONS),
    );
    let text = prop::option::weighted(0.5, select(QUERIES).prop_map(str::to_owned));
    let bounds = (prop::option::weighted(0.2, 0..100i64), prop::option::weighted(0.2, 0..100i64), prop::option::weighted(0.2, 0..600u64));
    (who, what, text, bounds, 1..80usize, any::<bool>()).prop_map(
        |((agent, session, name), (kind, source, level_min, trace), text, (from, to, bound), limit, oldest_first)| Search {
            from: from.map(Timestamp::from_secs),
            to: to.map(Timestamp::from_secs),
            agent,
            session,
            kind,
            source,
            name,
            level_min,
            text,
            trace,
            before_seq: bound.filter(|_| !oldest_first),
            after_seq: bound.filter(|_| oldest_first),
            limit,
            oldest_first,
            ..Search::default()
        },
    )
}

/// Words in lower case, written independently of the store: every field as `| word word |`.
fn plain_words(text: &str) -> String {
    let blank: String = text.chars().map(|c| if c.is_alphanumeric() { c } else { ' ' }).collect();
    blank.to_lowercase().split_whitespace().map(|word| format!(" {word}")).collect::<String>() + " "
}

fn fields(value: &serde_json::Value, out: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => out.push(plain_words(text)),
        serde_json::Value::Number(number) => out.push(plain_words(&number.to_string())),
        serde_json::Value::Array(items) => items.iter().for_each(|item| fields(item, out)),
        serde_json::Value::Object(entries) => entries.values().for_each(|item| fields(item, out)),
        _ => {}
    }
}

fn text_holds(event: &Event, query: &str) -> bool {
    let mut haystack = vec![plain_words(&event.text)];
    event.attributes.values().for_each(|value| fields(value, &mut haystack));
    let terms: Vec<&str> = match query.strip_prefix('"') {
        Some(phrase) => vec![phrase.trim_end_matches('"')],
        None => query.split(' ').collect(),
    };
    terms.into_iter().all(|term| {
        let words = plain_words(term);
        let wanted = if term.ends_with('*') { words.trim_end() } else { &words };
        words.trim().is_empty() || haystack.iter().any(|field| field.contains(wanted))
    })
}

fn holds(stored: &StoredEvent, search: &Search) -> bool {
    let event = &stored.event;
    let is = |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|wanted| Some(wanted) == found);
    let agent = event.agent.as_ref().map(|agent| agent.as_str());
    let agent_holds = match search.agent.as_deref().and_then(|wanted| wanted.strip_suffix('*')) {
        Some(prefix) => agent.is_some_and(|agent| agent.starts_with(prefix)),
        None => is(&search.agent, agent),
    };
    agent_holds
        && search.from.is_none_or(|from| event.at >= from)
        && search.to.is_none_or(|to| event.at <= to)
        && is(&search.session, event.session.as_ref().map(|session| session.as_str()))
        && is(&search.kind, Some(event.kind()))
        && is(&search.source, Some(event.source.as_str()))
        && is(&search.name, Some(&event.name))
        && is(&search.trace, event.correlation.trace.as_deref())
        && search.level_min.is_none_or(|least| event.level >= least)
        && search.before_seq.is_none_or(|seq| stored.seq < seq)
        && search.after_seq.is_none_or(|seq| stored.seq > seq)
        && search.text.as_deref().is_none_or(|query| text_holds(event, query))
}

fn check(batches: &[Vec<Event>], searches: &[Search], wait_for_index: bool) {
    let dir = tempfile::tempdir().expect("folder");
    let store = Store::open(dir.path(), tiny(), Arc::new(SystemClock)).expect("opens");
    let mut all = Vec::new();
    for batch in batches {
        store.append_blocking(batch.clone(), vec![]).expect("appends");
        for event in batch {
            all.push(StoredEvent { seq: all.len() as u64 + 1, event: event.clone() });
        }
    }
    if wait_for_index {
        // All but the active partition gets indexed.
        std::thread::sleep(std::time::Duration::from_millis(60));
    }
    for search in searches {
        let mut expect: Vec<&StoredEvent> = all.iter().filter(|stored| holds(stored, search)).collect();
        if !search.oldest_first {
            expect.reverse();
        }
        let found = all_pages(&store, search);
        let seqs = |events: &[&StoredEvent]| events.iter().map(|stored| stored.seq).collect::<Vec<_>>();
        assert_eq!(seqs(&found.iter().collect::<Vec<_>>()), seqs(&expect), "{search:?} on {:?}", store.stats());
        assert!(found.iter().zip(expect).all(|(found, expect)| found == expect));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_search_is_the_naive_filter(
        batches in prop::collection::vec(prop::collection::vec(event(), 1..150), 1..10),
        searches in prop::collection::vec(search(), 40),
        wait_for_index in any::<bool>(),
    ) {
        check(&batches, &searches, wait_for_index);
    }
}
