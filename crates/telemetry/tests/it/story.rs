//! Shared building blocks of the tests: a store in a folder of its own, and events.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use paramedic_model::{Event, ManualClock, Source, Timestamp};
use paramedic_telemetry::{Offset, Search, Settings, Store, StoredEvent};

/// 2026-01-14T10:00:00Z.
pub(crate) const NOON: i64 = 1_768_384_800;

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_secs(NOON)))
}

pub(crate) fn open(dir: &Path, settings: Settings) -> Store {
    Store::open(dir, settings, clock()).expect("opens")
}

/// Partitions as small as they can be: a few dozen events each.
pub(crate) fn tiny() -> Settings {
    Settings { partition_bytes_max: 60 * 1024, ..Settings::default() }
}

pub(crate) fn event(i: u64, text: &str) -> Event {
    let mut event = Event::new(Timestamp::from_millis(NOON * 1000 + i.cast_signed()), Source::Log, "log");
    event.agent = Some("worker".into());
    event.session = Some("session".into());
    event.text = text.into();
    event.attributes.insert("i".to_owned(), i.into());
    event
}

pub(crate) fn events(range: std::ops::Range<u64>) -> Vec<Event> {
    range.map(|i| event(i, &format!("line number {i}"))).collect()
}

pub(crate) fn offset(file: &str, position: u64) -> Offset {
    Offset { file: file.to_owned(), position, identity: u64::MAX, lines: position / 2 }
}

pub(crate) fn replayed(store: &Store, after: u64) -> Vec<StoredEvent> {
    let mut all = Vec::new();
    store.replay(after, &mut |event| all.push(event)).expect("replays");
    all
}

/// Every page of a search, one after the other.
pub(crate) fn all_pages(store: &Store, search: &Search) -> Vec<StoredEvent> {
    let mut search = search.clone();
    let mut all = Vec::new();
    loop {
        let page = store.search(&search).expect("searches");
        assert!(!page.timed_out);
        all.extend(page.events);
        if !page.more {
            return all;
        }
        if search.oldest_first {
            search.after_seq = page.next;
        } else {
            search.before_seq = page.next;
        }
    }
}

pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
