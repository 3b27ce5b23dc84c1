//! What several tests here need: drafts, a source of chance, and a file to spoil.

use std::path::{Path, PathBuf};

use paramedic_journal::{Draft, Entry, Expected, Journal, SqliteJournal, Verification};
use paramedic_model::Timestamp;
use serde_json::json;

pub(crate) fn draft(subject: &str, number: u64) -> Draft {
    Draft {
        at: Timestamp::from_millis(1_700_000_000_000 + i64::try_from(number).unwrap()),
        kind: "note".into(),
        subject: subject.into(),
        actor: "test".into(),
        payload: json!({ "number": number }),
    }
}

/// Runs a future on a runtime of its own.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(future)
}

/// A closed journal with entries 1 to `count` about three subjects.
pub(crate) fn write_journal(folder: &Path, count: u64) -> PathBuf {
    let path = folder.join("journal.db");
    let journal = SqliteJournal::open(&path).unwrap();
    block_on(async {
        for first in (0..count).step_by(500) {
            let drafts = (first..count.min(first + 500)).map(|number| draft(["a", "b", "c"][(number % 3) as usize], number)).collect();
            journal.append(drafts, Expected::Any).await.unwrap();
        }
    });
    journal.close();
    path
}

pub(crate) fn read_all(path: &Path) -> Vec<Entry> {
    let journal = SqliteJournal::open_read_only(path).unwrap();
    block_on(async {
        let mut all: Vec<Entry> = Vec::new();
        loop {
            let page = journal.read(all.last().map_or(0, |last| last.seq), 10_000).await.unwrap();
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    })
}

pub(crate) fn verify(path: &Path) -> Verification {
    paramedic_journal::verify(path, &mut |_, _| {}).unwrap()
}

/// The numbers that a verification names.
pub(crate) fn named(found: &Verification) -> Vec<i64> {
    found.problems.iter().filter_map(|problem| problem.seq).collect()
}

/// A connection as an intruder has it: without the triggers.
pub(crate) fn intrude(path: &Path) -> rusqlite::Connection {
    let db = rusqlite::Connection::open(path).unwrap();
    db.execute_batch("DROP TRIGGER entries_stay; DROP TRIGGER entries_stay_as_they_are;").unwrap();
    db
}

/// SplitMix64: small, and the same everywhere for the same seed.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
