//! Whatever is done to the file, `verify` finds it and names the entry, and never panics.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use paramedic_journal::{Expected, Hash, Head, Journal, JournalError, SqliteJournal, verify_against};
use proptest::prelude::*;
use rusqlite::params;

use crate::support::{block_on, draft, intrude, named, read_all, verify, write_journal};

const ENTRIES: u64 = 60;

/// A closed journal of `ENTRIES` entries, as bytes: every case spoils a copy of its own.
fn copy_in(folder: &Path) -> PathBuf {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let bytes = BYTES.get_or_init(|| std::fs::read(write_journal(tempfile::tempdir().unwrap().path(), ENTRIES)).unwrap());
    let path = folder.join("journal.db");
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Does something to the rows with SQL and checks that exactly `expect` is named and described.
fn check(spoil: &str, expect: &[(i64, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let path = copy_in(folder.path());
    assert!(verify(&path).sound());
    intrude(&path).execute_batch(spoil).expect(spoil);
    let found = verify(&path);
    let told: Vec<_> = found.problems.iter().map(|problem| (problem.seq.unwrap_or(0), problem.what.as_str())).collect();
    assert_eq!(
        told.iter().map(|told| told.0).collect::<Vec<_>>(),
        expect.iter().map(|told| told.0).collect::<Vec<_>>(),
        "{spoil}: {told:?}"
    );
    for (told, expect) in told.iter().zip(expect) {
        assert!(told.1.contains(expect.1), "{spoil}: {told:?} should say {expect:?}");
    }
}

#[test]
fn each_kind_of_tampering_is_named() {
    check("UPDATE entries SET payload = '{}' WHERE seq = 7", &[(7, "entry 7 was altered")]);
    check("UPDATE entries SET at = at + 1 WHERE seq = 1", &[(1, "altered")]);
    check("UPDATE entries SET actor = 'somebody' WHERE seq = 60", &[(60, "altered")]);
    check("UPDATE entries SET kind = kind || 'x', subject = '' WHERE seq IN (3, 5)", &[(3, "altered"), (5, "altered")]);
    check("UPDATE entries SET hash = zeroblob(32) WHERE seq = 9", &[(9, "altered")]);
    check("UPDATE entries SET hash = x'00' WHERE seq = 9", &[(9, "altered")]);
    check("UPDATE entries SET prev_hash = zeroblob(32) WHERE seq = 9", &[(9, "altered")]);
    check("DELETE FROM entries WHERE seq = 20", &[(20, "entry 20 is missing")]);
    check("DELETE FROM entries WHERE seq BETWEEN 20 AND 24", &[(20, "entries 20 to 24 are missing (5 in all)")]);
    check("DELETE FROM entries WHERE seq = 1", &[(1, "entry 1 is missing")]);
    check("DELETE FROM entries WHERE seq = 60", &[(60, "entry 60 is missing")]);
    check("DELETE FROM entries WHERE seq > 57", &[(58, "entries 58 to 60 are missing")]);
    check("DELETE FROM entries", &[(1, "entries 1 to 60 are missing")]);
    check("DELETE FROM head", &[(0, "head record is missing")]);
    check("UPDATE head SET seq = 0, hash = zeroblob(32); DELETE FROM entries WHERE seq > 1", &[(1, "was added")]);
    check("UPDATE head SET hash = zeroblob(32)", &[(60, "head record")]);
    check(
        "INSERT INTO entries SELECT 0, at, kind, subject, actor, payload, prev_hash, hash FROM entries WHERE seq = 5",
        &[(0, "entry 0 was added")],
    );
    check("UPDATE entries SET seq = -seq WHERE seq = 30", &[(-30, "added"), (30, "missing")]);
    check(
        "INSERT INTO entries SELECT 61, at, kind, subject, actor, payload, prev_hash, hash FROM entries WHERE seq = 60",
        &[(61, "replaced: it holds what was written as entry 60"), (61, "entry 61 was added")],
    );
    check(
        "UPDATE entries SET seq = -1 WHERE seq = 10; UPDATE entries SET seq = 10 WHERE seq = 40; UPDATE entries SET seq = 40 WHERE seq = -1",
        &[(10, "holds what was written as entry 40"), (40, "holds what was written as entry 10")],
    );
}

/// A forger who also makes the hash of the changed entry fit: the next entry, or the head record, gives it away.
#[test]
fn a_fitting_hash_does_not_hide_a_change() {
    for seq in [1u64, 30, 60] {
        let folder = tempfile::tempdir().unwrap();
        let path = copy_in(folder.path());
        let other = folder.path().join("other");
        std::fs::create_dir(&other).unwrap();
        // The same history with another entry in that place gives an entry with a fitting hash.
        let forged = SqliteJournal::open(&other.join("forged.db")).unwrap();
        let drafts = (0..seq).map(|n| draft(if n + 1 == seq { "forged" } else { ["a", "b", "c"][(n % 3) as usize] }, n)).collect();
        let entry = block_on(forged.append(drafts, Expected::Any)).unwrap().pop().unwrap();
        intrude(&path)
            .execute("UPDATE entries SET subject = 'forged', hash = ?1 WHERE seq = ?2", params![entry.hash.0, seq as i64])
            .unwrap();
        let found = verify(&path);
        assert_eq!(named(&found), [seq as i64], "{:?}", found.problems);
    }
}

#[test]
fn a_cut_tail_with_a_fitting_head_is_found_by_a_snapshot_or_a_noted_head() {
    let cut = "DELETE FROM entries WHERE seq > 50; UPDATE head SET seq = 50, hash = (SELECT hash FROM entries WHERE seq = 50)";
    let folder = tempfile::tempdir().unwrap();
    let path = copy_in(folder.path());
    let noted = verify(&path).head.unwrap();
    intrude(&path).execute_batch(cut).unwrap();
    assert!(verify(&path).sound(), "nothing in the file contradicts it: this is the documented limit");
    let found = verify_against(&path, &[noted], &mut |_, _| {}).unwrap();
    assert_eq!(named(&found), [51], "{:?}", found.problems);
    let found = verify_against(&path, &[Head { seq: 50, hash: Hash::ZERO }], &mut |_, _| {}).unwrap();
    assert_eq!(named(&found), [50], "{:?}", found.problems);

    let folder = tempfile::tempdir().unwrap();
    let path = copy_in(folder.path());
    let journal = SqliteJournal::open(&path).unwrap();
    block_on(journal.save_snapshot("state", 1, 55, vec![1])).unwrap();
    journal.close();
    assert!(verify(&path).sound());
    intrude(&path).execute_batch(cut).unwrap();
    assert_eq!(named(&verify(&path)), [55]);
}

#[test]
fn a_spoiled_snapshot_is_ignored() {
    for spoil in [
        "UPDATE snapshots SET bytes = x'0102'",
        "UPDATE snapshots SET entry_hash = zeroblob(32)",
        "UPDATE snapshots SET seq = 70",
        "UPDATE snapshots SET bytes_hash = x''",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = copy_in(folder.path());
        let journal = SqliteJournal::open(&path).unwrap();
        block_on(async {
            journal.save_snapshot("state", 1, 60, vec![1]).await.unwrap();
            assert_eq!(journal.load_snapshot("state", 1).await.unwrap(), Some((60, vec![1])));
            intrude(&path).execute_batch(spoil).unwrap();
            assert_eq!(journal.load_snapshot("state", 1).await.unwrap(), None, "{spoil}");
        });
    }
}

#[test]
fn entries_cannot_be_changed_by_accident() {
    let folder = tempfile::tempdir().unwrap();
    let db = rusqlite::Connection::open(copy_in(folder.path())).unwrap();
    assert!(db.execute("DELETE FROM entries WHERE seq = 3", []).unwrap_err().to_string().contains("never removed"));
    assert!(db.execute("UPDATE entries SET kind = 'x' WHERE seq = 3", []).unwrap_err().to_string().contains("never change"));
}

#[test]
fn a_cut_tail_stays_visible_after_writing_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy_in(folder.path());
    intrude(&path).execute_batch("DELETE FROM entries WHERE seq > 58").unwrap();
    let journal = SqliteJournal::open(&path).unwrap();
    let next = block_on(journal.append(vec![draft("a", 1)], Expected::Any)).unwrap();
    assert_eq!(next[0].seq, 61, "a number is never given twice");
    journal.close();
    assert_eq!(named(&verify(&path)), [59]);
}

/// The log holds what was not yet moved into the file. Without it the file is whole and sound, only older.
#[test]
fn a_lost_or_damaged_log_is_found() {
    for spoil in ["delete", "cut", "flip"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let copy = folder.path().join("copy.db");
        let journal = SqliteJournal::open(&path).unwrap();
        for number in 0..20 {
            block_on(journal.append(vec![draft("a", number)], Expected::Any)).unwrap();
        }
        // As a kill leaves it: the log is not moved into the file.
        for end in ["", "-wal", "-head"] {
            std::fs::copy(folder.path().join(format!("journal.db{end}")), folder.path().join(format!("copy.db{end}"))).unwrap();
        }
        let log = folder.path().join("copy.db-wal");
        let mut bytes = std::fs::read(&log).unwrap();
        let near_the_end = bytes.len() - 5_000;
        match spoil {
            "cut" => bytes.truncate(near_the_end),
            _ => bytes[near_the_end] ^= 1,
        }
        std::fs::write(&log, bytes).unwrap();
        if spoil == "delete" {
            std::fs::remove_file(&log).unwrap();
        }
        let found = verify(&copy);
        let last = found.entries;
        assert!(if spoil == "delete" { last == 0 } else { last > 15 && last < 20 }, "{spoil}: {found:?}");
        assert_eq!(named(&found), [last as i64 + 1], "{spoil}: {found:?}");
        assert!(found.problems[0].what.contains("missing") && found.problems[0].what.contains("20"), "{found:?}");
        let again = SqliteJournal::open(&copy).unwrap();
        assert_eq!(block_on(again.append(vec![draft("a", 1)], Expected::Any)).unwrap()[0].seq, 21, "no number is given twice");
        again.close();
        assert_eq!(named(&verify(&copy)), [last as i64 + 1], "the gap stays visible");
    }
}

#[test]
fn entries_behind_the_head_are_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy_in(folder.path());
    intrude(&path)
        .execute_batch("INSERT INTO entries SELECT 61, at, kind, subject, actor, payload, prev_hash, hash FROM entries WHERE seq = 60")
        .unwrap();
    let error = SqliteJournal::open(&path).unwrap_err();
    assert!(error.to_string().contains("entry 61 was added"), "{error}");
    assert!(error.to_string().contains("journal.db"), "{error}");
}

#[test]
fn an_altered_payload_is_an_error_when_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy_in(folder.path());
    intrude(&path).execute_batch("UPDATE entries SET payload = '{\"number' WHERE seq = 5").unwrap();
    let journal = SqliteJournal::open(&path).unwrap();
    let error = block_on(journal.read(0, 100)).unwrap_err();
    assert!(matches!(&error, JournalError::Corrupt { what, .. } if what.contains("entry 5")), "{error}");
    assert_eq!(block_on(journal.read(5, 100)).unwrap().len(), 55, "the others can still be read");
}

#[test]
fn an_index_that_hides_an_entry_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy_in(folder.path());
    let db = intrude(&path);
    // An index with a condition in place of the whole one, told to the engine as if it were whole.
    db.execute_batch(
        "DROP INDEX entries_by_subject; CREATE INDEX entries_by_subject ON entries (subject, seq) WHERE seq <> 7; \
         PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE INDEX entries_by_subject ON entries (subject, seq)' \
         WHERE name = 'entries_by_subject'; PRAGMA writable_schema = RESET;",
    )
    .unwrap();
    drop(db);
    let found = verify(&path);
    assert!(found.problems.iter().any(|problem| problem.what.contains("entries_by_subject")), "{:?}", found.problems);
}

#[test]
fn verifies_while_another_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy_in(folder.path());
    let journal = SqliteJournal::open(&path).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            block_on(async {
                for number in 0..300 {
                    journal.append(vec![draft("a", number); 5], Expected::Any).await.unwrap();
                }
            });
            done.store(true, std::sync::atomic::Ordering::SeqCst);
        });
        let mut before = 0;
        while !done.load(std::sync::atomic::Ordering::SeqCst) {
            let mut told = (0, 0);
            let found = paramedic_journal::verify(&path, &mut |done, total| told = (done, total)).unwrap();
            assert!(found.sound(), "{:?}", found.problems);
            assert!(found.entries >= before && told == (found.entries, found.entries));
            before = found.entries;
        }
    });
    assert_eq!(verify(&path).entries, ENTRIES + 1500);
}

#[test]
fn what_is_not_a_journal_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("thing.db");
    let check = |part: &str| {
        for error in [paramedic_journal::verify(&path, &mut |_, _| {}).unwrap_err(), SqliteJournal::open_read_only(&path).unwrap_err()] {
            let error = error.to_string();
            assert!(error.contains("thing.db") && error.contains(part), "{error:?} should say {part:?}");
        }
    };
    check("does not exist");
    std::fs::write(&path, b"").unwrap();
    check("it is empty");
    std::fs::write(&path, "not a database at all, but long enough to have a header\n".repeat(100)).unwrap();
    check("not an SQLite database");
    assert!(SqliteJournal::open(&path).unwrap_err().to_string().contains("thing.db"));
    std::fs::remove_file(&path).unwrap();
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE dogs (name)").unwrap();
    check("another program");
    assert!(matches!(SqliteJournal::open(&path), Err(JournalError::NotAJournal { .. })));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    check("thing.db");
    assert!(SqliteJournal::open(&path).unwrap_err().to_string().contains("it is a directory"));
    let nowhere = folder.path().join("nowhere").join("journal.db");
    let error = SqliteJournal::open(&nowhere).unwrap_err().to_string();
    assert!(error.contains("nowhere does not exist") && error.contains("journal.db"), "{error}");
}

/// Blocks of zeros and of ones over every part of the file: each ends with a verdict, and soon.
#[test]
fn damaged_blocks_end_in_a_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy_in(folder.path());
    let clean = std::fs::read(&path).unwrap();
    let whole = read_all(&path);
    for place in (0..clean.len()).step_by(256) {
        for (fill, size) in [(0x00, 16), (0x00, 300), (0xff, 8), (0x01, 120)] {
            let mut bytes = clean.clone();
            let end = (place + size).min(clean.len());
            bytes[place..end].fill(fill);
            std::fs::write(&path, bytes).unwrap();
            let (tell, told) = std::sync::mpsc::channel();
            let spoiled = path.clone();
            std::thread::spawn(move || {
                let found = paramedic_journal::verify(&spoiled, &mut |_, _| {});
                let entries = SqliteJournal::open_read_only(&spoiled).and_then(|journal| {
                    block_on(async {
                        let mut all: Vec<paramedic_journal::Entry> = Vec::new();
                        loop {
                            let page = journal.read(all.last().map_or(0, |last| last.seq), 7).await?;
                            if page.is_empty() {
                                return Ok(all);
                            }
                            all.extend(page);
                        }
                    })
                });
                tell.send((found, entries)).unwrap();
            });
            let (found, entries) = told
                .recv_timeout(std::time::Duration::from_secs(30))
                .unwrap_or_else(|_| panic!("no verdict for {size} bytes of {fill:#04x} at {place}"));
            if found.is_ok_and(|found| found.sound()) {
                assert_eq!(entries.unwrap(), whole, "{size} bytes of {fill:#04x} at {place} verified");
            }
        }
    }
}

/// One change to the rows, and the numbers of which at least one must be named.
#[derive(Debug, Clone)]
enum Change {
    Alter { seq: u64, column: usize },
    Delete { seq: u64 },
    Swap { one: u64, other: u64 },
    InsertBefore { seq: u64 },
    AppendCopy { of: u64 },
}

fn change() -> impl Strategy<Value = Change> {
    let seq = 1..=ENTRIES;
    prop_oneof![
        (seq.clone(), 0..7usize).prop_map(|(seq, column)| Change::Alter { seq, column }),
        seq.clone().prop_map(|seq| Change::Delete { seq }),
        (seq.clone(), 1..ENTRIES).prop_map(|(one, step)| Change::Swap { one, other: (one + step - 1) % ENTRIES + 1 }),
        seq.clone().prop_map(|seq| Change::InsertBefore { seq }),
        seq.prop_map(|of| Change::AppendCopy { of }),
    ]
}

/// Does it, and gives the numbers that must all be named.
fn apply(db: &rusqlite::Connection, change: &Change) -> Vec<u64> {
    let run = |sql: &str, values: &[u64]| {
        let values = values.iter().map(|value| *value as i64);
        db.execute(sql, rusqlite::params_from_iter(values)).unwrap();
    };
    match *change {
        Change::Alter { seq, column } => {
            let set = [
                "at = at - 1",
                "kind = kind || ' '",
                "subject = upper(subject)",
                "actor = ''",
                "payload = replace(payload, ':', ': ')",
                "prev_hash = randomblob(32)",
                "hash = randomblob(32)",
            ][column];
            run(&format!("UPDATE entries SET {set} WHERE seq = ?1"), &[seq]);
            vec![seq]
        }
        Change::Delete { seq } => {
            run("DELETE FROM entries WHERE seq = ?1", &[seq]);
            vec![seq]
        }
        Change::Swap { one, other } => {
            run("UPDATE entries SET seq = -?1 WHERE seq = ?1", &[one]);
            run("UPDATE entries SET seq = ?1 WHERE seq = ?2", &[one, other]);
            run("UPDATE entries SET seq = ?2 WHERE seq = -?1", &[one, other]);
            vec![one, other]
        }
        Change::InsertBefore { seq } => {
            run("UPDATE entries SET seq = -seq - 1 WHERE seq >= ?1", &[seq]);
            run("UPDATE entries SET seq = -seq WHERE seq < 0", &[]);
            run(
                "INSERT INTO entries SELECT ?1, at, 'inserted', subject, actor, payload, prev_hash, hash FROM entries WHERE seq = ?1 + 1",
                &[seq],
            );
            vec![seq]
        }
        Change::AppendCopy { of } => {
            run(
                "INSERT INTO entries SELECT ?2, at, kind, subject, actor, payload, prev_hash, hash FROM entries WHERE seq = ?1",
                &[of, ENTRIES + 1],
            );
            vec![ENTRIES + 1]
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_changed_row_is_found_and_named(change in change()) {
        let folder = tempfile::tempdir().unwrap();
        let path = copy_in(folder.path());
        let touched = apply(&intrude(&path), &change);
        let found = verify(&path);
        for seq in &touched {
            prop_assert!(named(&found).contains(&(*seq as i64)), "{change:?}: {seq} is not named in {:?}", found.problems);
        }
        if matches!(change, Change::Alter { .. } | Change::Delete { .. } | Change::Swap { .. }) {
            prop_assert_eq!(named(&found).len(), touched.len(), "nothing else is accused: {:?}", found.problems);
        }
    }

    /// Random bytes over the file, or the file cut short: no panic, and never a sound verdict over lost or changed entries.
    #[test]
    fn a_damaged_file_never_panics_and_never_passes(at in 0.0..1.0f64, garbage in prop::collection::vec(any::<u8>(), 0..200), cut in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let path = copy_in(folder.path());
        let whole = read_all(&path);
        let mut bytes = std::fs::read(&path).unwrap();
        let place = (bytes.len() as f64 * at) as usize;
        if cut {
            bytes.truncate(place);
        }
        for (index, byte) in garbage.iter().enumerate() {
            if let Some(target) = bytes.get_mut(place + index) {
                *target = *byte;
            }
        }
        for log in ["-wal", "-shm"] {
            _ = std::fs::remove_file(folder.path().join(format!("journal.db{log}")));
        }
        std::fs::write(&path, bytes).unwrap();
        if let Ok(found) = paramedic_journal::verify(&path, &mut |_, _| {}) && found.sound() {
            prop_assert_eq!(read_all(&path), whole, "it verified");
        }
        // Opening and reading such a file must not panic either.
        if let Ok(journal) = SqliteJournal::open(&path) {
            let _ = block_on(journal.read(0, 1000));
            let _ = block_on(journal.append(vec![draft("a", 1)], Expected::Any));
        }
    }
}
