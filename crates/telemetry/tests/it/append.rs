//! Appending: seqs, group commit, offsets, partitions, clocks.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use paramedic_model::{Fact, ToolOutcome};
use paramedic_telemetry::{Search, Settings, Store, StoreError};

use crate::story::{clock, event, events, offset, open, replayed, tiny, wait_until};

#[test]
fn what_was_appended_comes_back_whole() {
    let dir = tempfile::tempdir().expect("folder");
    let mut full = event(1, "é \"quoted\" \u{1}\n漢");
    full.uid = Some(u64::MAX);
    full.fact = Fact::ToolResult {
        id: Some("toolu_1".into()),
        tool: None,
        outcome: ToolOutcome::SiblingError,
        result_hash: Some(u64::MAX),
        duration: Some(Duration::from_millis(1500)),
    };
    full.correlation.trace = Some("0af7651916cd43dd8448eb211c80319c".into());
    full.attributes.insert("deep".to_owned(), serde_json::json!({"a": [1, -2, 0.5, null, true, "x\"y"]}));
    let mut bare = event(2, "");
    (bare.agent, bare.session) = (None, None);
    bare.attributes.clear();
    let before = vec![full, bare];
    {
        let store = open(dir.path(), Settings::default());
        assert_eq!(store.append_blocking(before.clone(), vec![]).expect("appends"), Some(1..=2));
    }
    let store = open(dir.path(), Settings::default());
    let after: Vec<_> = replayed(&store, 0).into_iter().map(|stored| stored.event).collect();
    assert_eq!(after, before);
    assert_eq!(store.stats().first_event_at, Some(before[0].at));
    assert_eq!(store.append_blocking(events(0..1), vec![]).expect("appends"), Some(3..=3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_share_transactions_and_every_seq_is_given_once() {
    let dir = tempfile::tempdir().expect("folder");
    let store = open(dir.path(), tiny());
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..8u64 {
        let store = store.clone();
        tasks.spawn(async move {
            let mut ranges = Vec::new();
            for i in 0..40 {
                let batch = Arc::new(events(caller * 1000 + i..caller * 1000 + i + 1 + i % 3));
                ranges.push((store.append(batch.clone(), vec![]).await.expect("appends").expect("a range"), batch));
            }
            ranges
        });
    }
    let mut seqs = HashSet::new();
    let mut count = 0;
    while let Some(ranges) = tasks.join_next().await {
        let ranges = ranges.expect("no panic");
        assert!(ranges.windows(2).all(|pair| pair[0].0.end() < pair[1].0.start()), "one caller's order is kept");
        for (range, batch) in ranges {
            assert_eq!(range.clone().count(), batch.len());
            count += batch.len();
            seqs.extend(range);
        }
    }
    assert_eq!(seqs.len(), count);
    assert_eq!(store.last_seq(), count as u64, "seqs have no holes");
    assert_eq!(replayed(&store, 0).len(), count);
    assert!(store.stats().partitions > 2, "{:?}", store.stats());
}

#[test]
fn offsets_come_along_into_new_partitions() {
    let dir = tempfile::tempdir().expect("folder");
    {
        let store = open(dir.path(), tiny());
        assert_eq!(store.append_blocking(vec![], vec![offset("idle", 7)]).expect("appends"), None);
        for i in 0..30 {
            store.append_blocking(events(i * 20..i * 20 + 20), vec![offset("busy", i)]).expect("appends");
        }
        assert!(store.stats().partitions >= 3);
        assert_eq!(store.offsets().expect("offsets"), [offset("busy", 29), offset("idle", 7)]);
    }
    assert_eq!(open(dir.path(), tiny()).offsets().expect("offsets"), [offset("busy", 29), offset("idle", 7)]);
}

#[test]
fn a_new_day_is_a_new_partition_and_a_clock_that_steps_back_is_not() {
    let dir = tempfile::tempdir().expect("folder");
    let clock = clock();
    let store = Store::open(dir.path(), Settings::default(), clock.clone()).expect("opens");
    let mut seqs = Vec::new();
    let now = paramedic_model::Clock::now(&*clock);
    // Hours from the start and the partitions there must be.
    for (hours, partitions) in [(0i64, 1), (1, 1), (14, 2), (13, 2), (10, 2), (38, 3), (-400, 4), (-399, 4), (39, 5)] {
        clock.set(paramedic_model::Timestamp::from_secs(now.as_secs() + hours * 3600));
        seqs.push(*store.append_blocking(events(0..3), vec![]).expect("appends").expect("range").start());
        assert_eq!(store.stats().partitions, partitions, "after {hours} hours");
    }
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 3), "{seqs:?}");
    drop(store);
    assert_eq!(open(dir.path(), Settings::default()).last_seq(), 27);
}

#[test]
fn the_index_lag_is_bounded_and_visible() {
    let dir = tempfile::tempdir().expect("folder");
    let store = open(dir.path(), Settings { index_lag_rows_max: 4_000, ..Settings::default() });
    for i in 0..30 {
        store.append_blocking(events(i * 1000..i * 1000 + 1000), vec![]).expect("appends");
        assert!(store.stats().index_lag <= 5_000, "{:?}", store.stats());
    }
    wait_until("the index has caught up", || store.stats().index_lag < 1024);
    assert_eq!(store.stats().appended_events, 30_000);
}

#[test]
fn a_second_writer_is_refused_and_a_reader_is_not() {
    let dir = tempfile::tempdir().expect("folder");
    assert!(matches!(Store::open_read_only(dir.path()), Err(StoreError::NothingRecorded { .. })));
    assert!(matches!(Store::open_read_only(&dir.path().join("absent")), Err(StoreError::NothingRecorded { .. })));
    let store = open(dir.path(), tiny());
    assert!(matches!(Store::open(dir.path(), tiny(), clock()), Err(StoreError::Busy { .. })));
    let reader = Store::open_read_only(dir.path()).expect("opens");
    for i in 1..=10 {
        store.append_blocking(events(0..100), vec![offset("f", i)]).expect("appends");
        assert_eq!(reader.last_seq(), i * 100);
        assert_eq!(reader.search(&Search { limit: 5000, ..Search::default() }).expect("searches").events.len(), i as usize * 100);
        assert_eq!(reader.offsets().expect("offsets"), [offset("f", i)]);
        assert_eq!(reader.stats().events, i * 100);
    }
    assert!(matches!(reader.append_blocking(events(0..1), vec![]), Err(StoreError::OpenedReadOnly)));
    drop(store);
    assert_eq!(replayed(&reader, 990).len(), 10);
}
