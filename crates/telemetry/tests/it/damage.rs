//! Damaged files, full disks and folders that cannot be written: a clear answer, and the rest goes on.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use paramedic_telemetry::{Search, Settings, Store, StoreError};

use crate::story::{all_pages, clock, events, offset, open, replayed, tiny, wait_until};

fn files(dir: &Path, beginning: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("folder")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.file_name().expect("name").to_string_lossy().starts_with(beginning))
        .filter(|path| path.extension().is_some_and(|extension| extension == "sqlite"))
        .collect();
    files.sort();
    files
}

/// Several closed partitions with their indexes.
fn filled(dir: &Path) -> Vec<PathBuf> {
    let store = open(dir, tiny());
    for i in 0..20 {
        store.append_blocking(events(i * 100..i * 100 + 100), vec![offset("f", i)]).expect("appends");
    }
    wait_until("the index has caught up", || store.stats().index_lag < 1024);
    files(dir, "events-")
}

fn truncate(file: &Path, bytes: u64) {
    std::fs::File::options().write(true).open(file).expect("opens").set_len(bytes).expect("cuts");
}

fn scribble(file: &Path, from: usize) {
    let mut bytes = std::fs::read(file).expect("reads");
    bytes[from..].fill(0xA5);
    std::fs::File::create(file).and_then(|mut out| out.write_all(&bytes)).expect("writes");
}

fn check(what: &str, hurt: impl Fn(&Path), newest: bool) {
    let dir = tempfile::tempdir().expect("folder");
    let partitions = filled(dir.path());
    assert!(partitions.len() >= 4, "{}", partitions.len());
    let victim = if newest { partitions.last() } else { partitions.get(1) }.expect("a partition");
    let index = PathBuf::from(victim.to_string_lossy().replace("/events-", "/index-"));
    let _ = std::fs::remove_file(index);
    hurt(victim);
    let store = open(dir.path(), tiny());
    // Whoever reads first finds it, if opening did not.
    let found = all_pages(&store, &Search { text: Some("line".to_owned()), ..Search::default() }).len();
    let again = replayed(&store, 0).len();
    assert!(found > 1000 && found < 2000, "{what}: {found}");
    assert_eq!(found, again, "{what}");
    let damaged = store.stats().damaged;
    assert_eq!(damaged.len(), 1, "{what}");
    assert!(damaged[0].to_string_lossy().contains(".sqlite.corrupt-1"), "{what}: {damaged:?}");
    assert!(damaged[0].exists() && !victim.exists(), "{what}");
    let range = store.append_blocking(events(0..5), vec![]).expect("appends").expect("range");
    assert!(*range.start() > 2000, "{what}: a seq is never given twice, {range:?}");
    let offsets = store.offsets().expect("offsets");
    assert!(if newest { offsets[0].position < 19 } else { offsets[0].position == 19 }, "{what}: lost lines are read again: {offsets:?}");
}

#[test]
fn damaged_partitions_are_set_aside_and_the_rest_goes_on() {
    for newest in [false, true] {
        check("empty", |file| truncate(file, 0), newest);
        check("cut in the header", |file| truncate(file, 50), newest);
        check("cut to half", |file| truncate(file, std::fs::metadata(file).expect("there").len() / 2), newest);
        check("garbage from the start", |file| scribble(file, 0), newest);
    }
    check("garbage in the rows", |file| scribble(file, 40_000), false);
}

#[test]
fn a_damaged_index_costs_no_results() {
    let search = Search { text: Some("line".to_owned()), ..Search::default() };
    for (what, hurt) in [
        ("gone", (|file: &Path| std::fs::remove_file(file).expect("removes")) as fn(&Path)),
        ("empty", |file| truncate(file, 0)),
        ("cut", |file| truncate(file, 9000)),
        ("garbage", |file| scribble(file, 0)),
        ("garbage inside", |file| scribble(file, 8192)),
    ] {
        let dir = tempfile::tempdir().expect("folder");
        filled(dir.path());
        for index in files(dir.path(), "index-") {
            hurt(&index);
        }
        let store = open(dir.path(), tiny());
        assert_eq!(all_pages(&store, &search).len(), 2000, "{what}");
        wait_until("the index is built anew", || store.stats().index_lag < 1024);
        assert_eq!(all_pages(&store, &search).len(), 2000, "{what}");
        assert_eq!(store.stats().damaged, Vec::<PathBuf>::new(), "{what}");
    }
}

/// A file system of its own, unmounted at the end. `None` where that is not permitted.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("folder");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(dir.path()).output();
        done.is_ok_and(|output| output.status.success()).then_some(Self(dir))
    }

    fn remount(&self, options: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.0.path()).status();
        assert!(done.expect("mount").success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_named_nothing_is_half_stored_and_it_goes_on_when_there_is_room() {
    let Some(mount) = Mount::new("size=2m") else {
        eprintln!("skipped: mounting a tmpfs is not permitted");
        return;
    };
    let dir = mount.0.path().join("events");
    let store = open(&dir, Settings::default());
    let mut stored = 0;
    let error = loop {
        match store.append_blocking(events(stored..stored + 200), vec![offset("f", stored + 200)]) {
            Ok(_) => stored += 200,
            Err(error) => break error,
        }
        assert!(stored < 100_000, "two megabytes never filled up");
    };
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    assert!(error.to_string().contains("events-0000"), "{error}");
    assert!(stored > 0);
    assert_eq!(store.last_seq(), stored);
    assert_eq!(replayed(&store, 0).len() as u64, stored);
    assert_eq!(store.offsets().expect("offsets"), [offset("f", stored)]);
    mount.remount("size=20m");
    assert_eq!(store.append_blocking(events(0..200), vec![]).expect("appends"), Some(stored + 1..=stored + 200));
    drop(store);
    let store = open(&dir, Settings::default());
    assert_eq!(replayed(&store, 0).len() as u64, stored + 200);
    assert!(store.stats().damaged.is_empty());
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let Some(mount) = Mount::new("size=4m") else {
        eprintln!("skipped: mounting a tmpfs is not permitted");
        return;
    };
    let dir = mount.0.path().join("events");
    open(&dir, tiny()).append_blocking(events(0..50), vec![]).expect("appends");
    mount.remount("ro");
    let error = Store::open(&dir, tiny(), clock()).expect_err("cannot be written");
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
    assert!(error.to_string().contains("events"), "{error}");
    let reader = Store::open_read_only(&dir).expect("can be read");
    assert_eq!(reader.search(&Search { text: Some("number".to_owned()), ..Search::default() }).expect("searches").events.len(), 50);
}
