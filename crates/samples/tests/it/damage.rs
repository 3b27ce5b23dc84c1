//! Logs, checkpoints and partitions that are not whole.

use std::fs;
use std::path::{Path, PathBuf};

use paramedic_promql::Labels;
use paramedic_samples::Settings;
use proptest::prelude::*;

use crate::story::{HOUR, START, all, append, open, quiet};

fn files(dir: &Path, kind: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(kind)));
    files.sort();
    files
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().expect("folder");
    for file in files(from, "") {
        fs::copy(&file, to.path().join(file.file_name().expect("a name"))).expect("copies");
    }
    to
}

fn m() -> Labels {
    Labels::from_pairs(&[("__name__", "m")])
}

#[test]
fn a_log_torn_at_every_byte_keeps_every_whole_append() {
    let dir = tempfile::tempdir().expect("folder");
    let store = open(dir.path(), quiet());
    let log = files(dir.path(), "wal").pop().expect("a segment");
    let mut lengths = Vec::new();
    for i in 0..12 {
        append(&store, &m(), &[(START + i * 1_000, i as f64), (START + i * 1_000 + 500, 0.5)]);
        lengths.push(fs::metadata(&log).expect("a file").len());
    }
    drop(store);
    for cut in 0..=*lengths.last().expect("some") {
        let torn = copy(dir.path());
        let log = files(torn.path(), "wal").pop().expect("a segment");
        fs::OpenOptions::new().write(true).open(&log).and_then(|file| file.set_len(cut)).expect("cut");
        let store = open(torn.path(), quiet());
        let whole = lengths.iter().filter(|length| **length <= cut).count();
        let found = all(&store);
        assert_eq!(found.first().map_or(0, |series| series.1.len()), whole * 2, "cut at {cut}");
        assert!(store.recovery().damages.is_empty());
        // What is appended now stands behind a clean end.
        append(&store, &m(), &[(START + HOUR, 7.0)]);
        drop(store);
        let store = open(torn.path(), quiet());
        assert_eq!(all(&store)[0].1.len(), whole * 2 + 1, "cut at {cut}, appended, opened again");
        assert_eq!(store.recovery().torn_bytes, 0);
    }
}

#[test]
fn a_damaged_middle_is_named_and_the_rest_comes_back() {
    let dir = tempfile::tempdir().expect("folder");
    let store = open(dir.path(), quiet());
    let log = files(dir.path(), "wal").pop().expect("a segment");
    append(&store, &m(), &[(START, 0.0)]);
    let from = fs::metadata(&log).expect("a file").len();
    append(&store, &m(), &[(START + 1, 1.0)]);
    let to = fs::metadata(&log).expect("a file").len();
    append(&store, &m(), &[(START + 2, 2.0)]);
    drop(store);
    let mut bytes = fs::read(&log).expect("reads");
    bytes[usize::try_from(from).expect("small") + 14] ^= 1;
    fs::write(&log, bytes).expect("writes");
    let store = open(dir.path(), quiet());
    assert_eq!(all(&store)[0].1.iter().map(|pair| pair.0 - START).collect::<Vec<_>>(), [0, 2]);
    let damages = &store.recovery().damages;
    assert_eq!((damages.len(), &damages[0].file, damages[0].from_byte, damages[0].to_byte), (1, &log, from, to));
    assert_eq!(store.metrics().damaged_stretches.get(), 1);
}

#[test]
fn a_damaged_checkpoint_costs_some_series_not_the_store() {
    let dir = tempfile::tempdir().expect("folder");
    let store = open(dir.path(), quiet());
    for i in 0..1_000 {
        append(&store, &Labels::from_pairs(&[("__name__", "m"), ("i", &i.to_string())]), &[(START, 1.0)]);
    }
    store.checkpoint().expect("saves");
    drop(store);
    let checkpoint = files(dir.path(), "checkpoint").pop().expect("a checkpoint");
    let mut bytes = fs::read(&checkpoint).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&checkpoint, bytes).expect("writes");
    let store = open(dir.path(), quiet());
    let left = all(&store).len();
    assert!((700..1_000).contains(&left), "{left}");
    assert_eq!(store.recovery().damages.len(), 1);
}

#[test]
fn a_checkpoint_that_was_not_finished_is_ignored() {
    let dir = tempfile::tempdir().expect("folder");
    let store = open(dir.path(), quiet());
    append(&store, &m(), &[(START, 1.0)]);
    drop(store);
    fs::write(dir.path().join("checkpoint.new"), b"half").expect("writes");
    assert_eq!(all(&open(dir.path(), quiet())).len(), 1);
}

#[test]
fn a_partition_that_is_no_database_is_set_aside() {
    let dir = tempfile::tempdir().expect("folder");
    let store = open(dir.path(), Settings { partition_h: 2, ..quiet() });
    append(&store, &m(), &[(START, 1.0), (START + 3 * HOUR, 2.0), (START + 8 * HOUR, 3.0)]);
    store.upkeep().expect("keeps up");
    drop(store);
    let partition = files(dir.path(), "samples").into_iter().find(|path| path.extension().is_some_and(|end| end == "sqlite")).expect("one");
    fs::write(&partition, vec![7; 10_000]).expect("writes");
    let store = open(dir.path(), quiet());
    assert_eq!(store.metrics().damaged_partitions.get(), 1);
    assert_eq!(all(&store)[0].1.len(), 2, "the rest is there");
    assert!(partition.with_extension("sqlite.damaged").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Bytes changed anywhere in the log and the checkpoint: the store opens, and what is left is right.
    #[test]
    fn changed_bytes_never_stop_the_store(changes in prop::collection::vec((any::<u16>(), any::<u8>()), 1..6)) {
        let dir = tempfile::tempdir().expect("folder");
        let store = open(dir.path(), quiet());
        for i in 0..30 {
            append(&store, &m(), &[(START + i * 1_000, i as f64)]);
            if i == 15 {
                store.checkpoint().expect("saves");
            }
        }
        drop(store);
        for kind in ["wal", "checkpoint"] {
            for file in files(dir.path(), kind) {
                let mut bytes = fs::read(&file).expect("reads");
                for (at, byte) in &changes {
                    if let Some(at) = usize::from(*at).checked_rem(bytes.len()) {
                        bytes[at] = *byte;
                    }
                }
                fs::write(&file, bytes).expect("writes");
            }
        }
        let store = open(dir.path(), quiet());
        for (time, bits) in all(&store).first().map_or(&[][..], |series| &series.1) {
            prop_assert_eq!(f64::from_bits(*bits), ((time - START) / 1_000) as f64);
        }
        append(&store, &m(), &[(START + HOUR, 3.0)]);
        drop(store);
        prop_assert!(!all(&open(dir.path(), quiet())).is_empty());
    }
}
