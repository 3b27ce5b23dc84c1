//! Full disks, read-only places, locks, back-pressure and what the journal counts about itself.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use paramedic_journal::{Draft, Entry, Expected, Fold, Journal, JournalError, SqliteJournal, Tail, limit, rebuild};
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::support::{block_on, draft, read_all, verify, write_journal};

/// A small file system of our own, gone with the value.
struct SmallDisk(PathBuf, tempfile::TempDir);

impl SmallDisk {
    /// `None`, said on standard error, where we may not mount.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(folder.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(folder.path().to_path_buf(), folder)),
            Ok(output) => skipped(&String::from_utf8_lossy(&output.stderr)),
            Err(error) => skipped(&error.to_string()),
        }
    }

    fn remount(&self, options: &str) {
        assert!(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("-l").arg(&self.0).status();
        _ = &self.1;
    }
}

fn skipped<T>(why: &str) -> Option<T> {
    eprintln!("skipped: cannot mount a small file system here: {}", why.trim());
    None
}

fn large(number: u64) -> Draft {
    Draft { payload: json!({ "number": number, "filling": "x".repeat(10_000) }), ..draft("a", number) }
}

#[test]
fn a_full_disk_is_said_and_survived() {
    let Some(disk) = SmallDisk::mount() else { return };
    let path = disk.0.join("journal.db");
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, vec![1; 400_000]).unwrap();
    let journal = Arc::new(SqliteJournal::open(&path).unwrap());
    let written = block_on(async {
        let mut tail = Tail::new(Arc::clone(&journal) as Arc<dyn Journal>, 0);
        let mut written = 0u64;
        let error = loop {
            match journal.append(vec![large(written)], Expected::Head(written)).await {
                Ok(_) => written += 1,
                Err(error) => break error,
            }
            assert!(written < 200, "a disk of 1 MB must fill");
        };
        assert!(matches!(error, JournalError::DiskFull { .. }), "{error:?}");
        assert!(error.to_string().contains("journal.db") && error.to_string().contains("disk is full"), "{error}");
        assert!(written > 5);
        // Still full, still the same answer, and reading still works.
        let again = journal.append(vec![large(0); 20], Expected::Any).await.unwrap_err();
        assert!(matches!(again, JournalError::DiskFull { .. }), "{again:?}");
        assert_eq!(journal.head().await.unwrap(), written);

        std::fs::remove_file(&ballast).unwrap();
        let entries = journal.append(vec![large(written)], Expected::Head(written)).await.unwrap();
        assert_eq!(entries[0].seq, written + 1, "appends work again");
        for seq in 1..=written + 1 {
            assert_eq!(tail.next().await.unwrap().unwrap().seq, seq, "subscribers were told only what is durable");
        }
        written + 1
    });
    assert!(journal.metrics().failed_commits.get() >= 2);
    drop(journal);
    let found = verify(&path);
    assert!(found.sound() && found.entries == written, "{found:?}");
}

#[test]
fn a_read_only_place_is_said_and_can_be_read() {
    let Some(disk) = SmallDisk::mount() else { return };
    let path = write_journal(&disk.0, 10);
    let nothing = disk.0.join("new.db");
    disk.remount("ro");
    let error = SqliteJournal::open(&nothing).unwrap_err();
    assert!(error.to_string().contains("new.db") && error.to_string().contains("read-only"), "{error}");
    let refused = SqliteJournal::open(&path).and_then(|journal| block_on(journal.append(vec![draft("a", 1)], Expected::Any)));
    let error = refused.unwrap_err();
    assert!(matches!(error, JournalError::ReadOnly { .. }), "{error:?}");
    assert!(error.to_string().contains("journal.db") && error.to_string().contains("read-only"), "{error}");
    assert_eq!(read_all(&path).len(), 10);
    assert!(verify(&path).sound());
    disk.remount("rw");
}

#[test]
fn opened_read_only_nothing_can_be_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_journal(folder.path(), 10);
    let journal: Arc<dyn Journal> = Arc::new(SqliteJournal::open_read_only(&path).unwrap());
    block_on(async {
        assert!(matches!(journal.append(vec![draft("a", 1)], Expected::Any).await, Err(JournalError::ReadOnly { .. })));
        assert!(matches!(journal.save_snapshot("s", 1, 1, Vec::new()).await, Err(JournalError::ReadOnly { .. })));
        assert_eq!(journal.head().await.unwrap(), 10);
        let mut tail = Tail::new(Arc::clone(&journal), 8);
        assert_eq!(tail.next().await.unwrap().unwrap().seq, 9);
        assert_eq!(tail.next().await.unwrap().unwrap().seq, 10);
        assert_eq!(tail.next().await.unwrap(), None, "nothing more will come");
    });
}

#[test]
fn a_locked_database_is_said_and_survived() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_journal(folder.path(), 1);
    let journal = SqliteJournal::open(&path).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = block_on(journal.append(vec![draft("a", 1)], Expected::Any)).unwrap_err();
    assert!(matches!(error, JournalError::Locked { .. }), "{error:?}");
    assert!(error.transient() && error.to_string().contains("journal.db"), "{error}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(block_on(journal.append(vec![draft("a", 1)], Expected::Head(1))).unwrap()[0].seq, 2);
}

/// A command on the data directory may write while the server runs: neither gives a number twice, and a follower
/// in the other process gets everything.
#[test]
fn two_writers_of_one_file_share_one_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let one = Arc::new(SqliteJournal::open(&path).unwrap());
    let two = Arc::new(SqliteJournal::open(&path).unwrap());
    block_on(async {
        let mut tail = Tail::new(Arc::clone(&one) as Arc<dyn Journal>, 0);
        let write = |journal: Arc<SqliteJournal>| async move {
            for number in 0..50 {
                journal.append(vec![draft("a", number)], Expected::Any).await.unwrap();
            }
        };
        tokio::join!(write(Arc::clone(&one)), write(Arc::clone(&two)));
        // The broadcast tells only of one's own appends; this last one reveals what the other wrote before it.
        one.append(vec![draft("a", 0)], Expected::Head(100)).await.unwrap();
        for seq in 1..=101 {
            assert_eq!(tail.next().await.unwrap().unwrap().seq, seq);
        }
    });
    drop((one, two));
    assert!(verify(&path).sound());
}

#[test]
fn dropping_finishes_what_is_queued() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let journal = Arc::new(SqliteJournal::open(&path).unwrap());
    block_on(async {
        let tasks: Vec<_> = (0..100)
            .map(|number| {
                let journal = Arc::clone(&journal);
                tokio::spawn(async move { journal.append(vec![draft("a", number)], Expected::Any).await })
            })
            .collect();
        drop(journal);
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    });
    assert!(!path.with_file_name("journal.db-wal").exists(), "a clean end leaves one file");
    assert_eq!(verify(&path).entries, 100);
}

/// More than the queue can hold waits outside it; a caller that gives up takes no room.
#[test]
fn a_full_queue_makes_callers_wait() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_journal(folder.path(), 0);
    let journal = Arc::new(SqliteJournal::open(&path).unwrap());
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    block_on(async {
        let callers: Vec<_> = (0..limit::QUEUE_LEN_MAX as u64 * 3)
            .map(|number| {
                let journal = Arc::clone(&journal);
                tokio::spawn(async move { journal.append(vec![draft("a", number)], Expected::Any).await.map(|entries| entries.len()) })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let waiting = journal.metrics().queue_length.get();
        assert!(waiting > 0 && waiting <= limit::QUEUE_LEN_MAX as i64, "{waiting} in the queue");
        callers.iter().step_by(2).for_each(tokio::task::JoinHandle::abort);
        other.execute_batch("ROLLBACK").unwrap();
        for caller in callers.into_iter().skip(1).step_by(2) {
            assert_eq!(caller.await.unwrap().unwrap(), 1);
        }
        assert_eq!(journal.metrics().queue_length.get(), 0);
    });
}

#[test]
fn it_counts_what_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(&folder.path().join("journal.db")).unwrap();
    let mut registry = Registry::default();
    journal.metrics().register(&mut registry);
    block_on(async {
        journal.append(vec![draft("a", 1); 3], Expected::Any).await.unwrap();
        journal.append(vec![draft("a", 1)], Expected::Any).await.unwrap();
        journal.append(vec![draft("a", 1)], Expected::Head(9)).await.unwrap_err();
        journal.append(vec![Draft { kind: String::new(), ..draft("a", 1) }], Expected::Any).await.unwrap_err();
    });
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "paramedic_journal_appends_total 2",
        "paramedic_journal_entries_total 4",
        "paramedic_journal_refused_total 2",
        "paramedic_journal_failed_commits_total 0",
        "paramedic_journal_batch_appends_count 3",
        "paramedic_journal_commit_seconds_count 3",
        "paramedic_journal_queue_length 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Count(u64);

impl Fold for Count {
    const NAME: &'static str = "count";
    const VERSION: u32 = 1;

    fn apply(&mut self, _: &Entry) {
        self.0 += 1;
    }
}

#[test]
fn many_pages_are_folded() {
    let folder = tempfile::tempdir().unwrap();
    let path = write_journal(folder.path(), 25_001);
    let journal = SqliteJournal::open_read_only(&path).unwrap();
    let (count, position) = block_on(rebuild::<Count>(&journal)).unwrap();
    assert_eq!((count.0, position), (25_001, 25_001));
    let mut steps = Vec::new();
    let found = paramedic_journal::verify(&path, &mut |done, total| steps.push((done, total))).unwrap();
    assert!(found.sound());
    assert_eq!(steps, [(10_000, 25_001), (20_000, 25_001), (25_001, 25_001)]);
}
