//! Folders that were written once: every format that was ever written must still be read.

use std::path::{Path, PathBuf};

use paramedic_promql::Labels;

use crate::story::{HOUR, MINUTE, START, all, append, open, quiet};

/// Version 1 of the log, the saved memory and the partitions, in one folder.
fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/v1")
}

/// What the folder holds: two series in a partition and in the saved memory, and one sample that is only in the log.
fn fill(store: &paramedic_samples::Samples) {
    for i in 0..2 {
        let labels = Labels::from_pairs(&[("__name__", "m"), ("i", &i.to_string())]);
        let points: Vec<(i64, f64)> = (0..20).map(|n| (START + n * MINUTE, n as f64 + f64::from(i) / 2.0)).collect();
        append(store, &labels, &points);
        append(store, &labels, &[(START + 4 * HOUR, 7.5)]);
    }
    store.upkeep().expect("moves what is old to a partition");
    store.checkpoint().expect("saves the memory");
    append(store, &Labels::from_pairs(&[("__name__", "late")]), &[(START + 4 * HOUR, f64::from_bits(0x7ff0_0000_0000_0002))]);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("lists").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() { copy(&entry.path(), &target) } else { std::fs::copy(entry.path(), target).map(drop).expect("copies") }
    }
}

#[test]
fn a_folder_of_version_1_is_read() {
    let (old, new) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
    copy(&fixture(), old.path());
    let expect = open(new.path(), quiet());
    fill(&expect);
    let read = open(old.path(), quiet());
    assert!(read.recovery().damages.is_empty(), "{:?}", read.recovery());
    assert!(read.stats().partition_samples == 40 && read.recovery().samples == 1, "{:?} {:?}", read.stats(), read.recovery());
    assert_eq!(all(&read), all(&expect));
}

/// Run by hand after a new format, into a folder of its own.
#[test]
#[ignore = "writes the fixture of the current formats"]
fn write_the_fixture() {
    let dir = tempfile::tempdir().expect("folder");
    {
        let store = open(dir.path(), quiet());
        fill(&store);
    }
    let _ = std::fs::remove_dir_all(fixture());
    copy(dir.path(), &fixture());
}
