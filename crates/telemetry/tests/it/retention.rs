//! Old and too many events leave in whole files.

use std::time::Duration;

use paramedic_model::Clock;
use paramedic_telemetry::{Dropped, Settings, Store};

use crate::story::{clock, events, offset, open, replayed, tiny, wait_until};

#[test]
fn old_days_are_dropped_and_offsets_stay() {
    let dir = tempfile::tempdir().expect("folder");
    let clock = clock();
    let settings = Settings { retention_days: 3, ..Settings::default() };
    let store = Store::open(dir.path(), settings, clock.clone()).expect("opens");
    for day in 0..6 {
        store.append_blocking(events(0..10), vec![offset("f", day)]).expect("appends");
        clock.advance(Duration::from_secs(86_400));
    }
    // The writer itself dropped what was too old when each day's partition began.
    assert_eq!(store.stats().dropped_events, 20, "{:?}", store.stats());
    let dropped = store.enforce_retention(clock.now()).expect("drops");
    assert_eq!((dropped.partitions, dropped.events), (1, 10));
    assert!(dropped.bytes > 0);
    assert_eq!(store.enforce_retention(clock.now()).expect("drops"), Dropped::default());
    assert_eq!(replayed(&store, 0).first().map(|event| event.seq), Some(31));
    assert_eq!(store.offsets().expect("offsets"), [offset("f", 5)]);
}

#[test]
fn an_idle_store_lets_go_of_its_last_events_and_keeps_counting() {
    let dir = tempfile::tempdir().expect("folder");
    let clock = clock();
    let store = Store::open(dir.path(), Settings::default(), clock.clone()).expect("opens");
    store.append_blocking(events(0..10), vec![offset("f", 1)]).expect("appends");
    clock.advance(Duration::from_secs(40 * 86_400));
    wait_until("the old partition is gone", || {
        store.enforce_retention(clock.now()).expect("drops");
        store.stats().events == 0
    });
    drop(store);
    let store = Store::open(dir.path(), Settings::default(), clock).expect("opens");
    assert_eq!(store.last_seq(), 10);
    assert_eq!(store.append_blocking(events(0..1), vec![]).expect("appends"), Some(11..=11));
    assert_eq!(store.offsets().expect("offsets"), [offset("f", 1)]);
}

#[test]
fn the_size_is_bounded_whatever_is_appended() {
    let dir = tempfile::tempdir().expect("folder");
    let bytes_max = 1_500_000;
    let store = open(dir.path(), Settings { bytes_max, ..tiny() });
    for i in 0..300 {
        store.append_blocking(events(i * 100..i * 100 + 100), vec![]).expect("appends");
    }
    wait_until("the index has caught up", || store.stats().index_lag < 1024);
    store.enforce_retention(clock().now()).expect("drops");
    let stats = store.stats();
    assert!(stats.bytes <= bytes_max, "{stats:?}");
    assert!(stats.dropped_events > 5_000 && stats.dropped_partitions > 5, "{stats:?}");
    assert_eq!(stats.dropped_events + stats.events, 30_000);
    assert_eq!(replayed(&store, 0).last().map(|event| event.seq), Some(30_000));
    // Nothing of a dropped partition is left behind.
    let files = std::fs::read_dir(dir.path()).expect("folder").count();
    assert!(files <= stats.partitions * 6 + 1, "{files} files for {} partitions", stats.partitions);
}
