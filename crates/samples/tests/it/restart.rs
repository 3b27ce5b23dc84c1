//! What a restart gives back.

use paramedic_promql::Labels;

use crate::story::{HOUR, MINUTE, START, all, append, open, quiet};

fn fill(store: &paramedic_samples::Samples, series: usize, from: i64, to: i64) {
    let labels: Vec<Labels> = (0..series).map(|i| Labels::from_pairs(&[("__name__", "m"), ("i", &i.to_string())])).collect();
    let refs: Vec<_> = labels.iter().map(|labels| store.series_ref(labels).expect("a reference")).collect();
    let mut time = from;
    while time < to {
        let batch: Vec<_> = refs.iter().enumerate().map(|(i, series)| (*series, time, i as f64 + time as f64 / 1e9)).collect();
        assert_eq!(store.append_refs(&batch).expect("appends").appended, batch.len() as u64);
        time += 15_000;
    }
}

#[test]
fn equal_after_restart_with_log_checkpoint_and_partitions() {
    let dir = tempfile::tempdir().expect("folder");
    let store = open(dir.path(), quiet());
    fill(&store, 1_500, START, START + 40 * MINUTE);
    let before = all(&store);
    drop(store);

    let store = open(dir.path(), quiet());
    assert_eq!(store.recovery().samples, 1_500 * 160);
    assert_eq!(all(&store), before);
    store.checkpoint().expect("saves");
    fill(&store, 1_500, START + 40 * MINUTE, START + 42 * MINUTE);
    let before = all(&store);
    drop(store);

    let store = open(dir.path(), quiet());
    assert_eq!(store.recovery().samples, 1_500 * 8, "only what came after the checkpoint is in the log");
    assert_eq!(all(&store), before);
    fill(&store, 1_500, START + 4 * HOUR, START + 4 * HOUR + MINUTE);
    let before = all(&store);
    store.upkeep().expect("keeps up");
    assert_eq!(store.stats().partition_samples, 1_500 * 168);
    assert_eq!(all(&store), before, "the same from partitions");
    drop(store);
    assert_eq!(all(&open(dir.path(), quiet())), before);
}

#[test]
fn a_series_that_left_comes_back_as_the_same() {
    let dir = tempfile::tempdir().expect("folder");
    let store = open(dir.path(), quiet());
    let gone = Labels::from_pairs(&[("__name__", "gone")]);
    let stays = Labels::from_pairs(&[("__name__", "stays")]);
    append(&store, &gone, &[(START, 1.0), (START + MINUTE, 2.0)]);
    let old = store.series_ref(&gone).expect("a reference");
    append(&store, &stays, &[(START, 1.0), (START + 5 * HOUR, 2.0)]);
    store.upkeep().expect("keeps up");
    assert_eq!(store.stats().series, 1);
    let report = store.append_refs(&[(old, START + 5 * HOUR, 3.0)]).expect("appends");
    assert_eq!((report.unknown_series, report.stored()), (1, 0), "the old reference is not mistaken for another series");
    assert!(store.labels(old).is_none(), "nobody else answers to the name of a series that left");
    let other = store.series_ref(&Labels::from_pairs(&[("__name__", "other")])).expect("a reference");
    assert_ne!(other, old);

    append(&store, &gone, &[(START + 5 * HOUR, 3.0)]);
    drop(store);
    let store = open(dir.path(), quiet());
    let found = all(&store);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].1.iter().map(|pair| f64::from_bits(pair.1)).collect::<Vec<_>>(), [1.0, 2.0, 3.0]);
}

#[test]
fn a_reference_that_was_never_used_outlives_one_round_of_upkeep() {
    let dir = tempfile::tempdir().expect("folder");
    let store = open(dir.path(), quiet());
    append(&store, &Labels::from_pairs(&[("__name__", "now")]), &[(START, 1.0)]);
    let waiting = store.series_ref(&Labels::from_pairs(&[("__name__", "waiting")])).expect("a reference");
    store.upkeep().expect("keeps up");
    assert_eq!(store.append_refs(&[(waiting, START, 1.0)]).expect("appends").appended, 1);
}
