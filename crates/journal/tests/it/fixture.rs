//! Every format version that was ever written is still read: one file per version in `tests/fixtures`.
//!
//! After a change of the format: raise `FORMAT_VERSION`, keep the old files, and make the new one with
//! `cargo test -p paramedic-journal --test it write_the_fixture -- --ignored`.

use std::path::PathBuf;

use paramedic_journal::{Draft, Entry, Expected, FORMAT_VERSION, Journal, SqliteJournal};
use paramedic_model::Timestamp;
use serde_json::json;

use crate::support::{block_on, read_all, verify};

fn fixture(version: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/journal-v{version}.db"))
}

/// What is in every fixture.
fn drafts() -> Vec<Draft> {
    let draft = |secs: i64, kind: &str, subject: &str, actor: &str, payload| Draft {
        at: Timestamp::from_micros(secs * 1_000_000 + 123_456),
        kind: kind.into(),
        subject: subject.into(),
        actor: actor.into(),
        payload,
    };
    vec![
        draft(1_768_387_283, "alert-firing", "api-overload:fixture", "detect", json!({ "reason": "4 retries in 60 s", "share": 0.25 })),
        draft(1_768_387_290, "incident-opened", "INC-1", "respond", json!({ "title": "Model API überlastet \"529\"", "severity": 2 })),
        draft(1_768_387_400, "note", "INC-1", "ana", json!({ "text": "line one\nline two\u{0}", "list": [1, -2, null, true] })),
        draft(-1, "note", "", "", json!(null)),
    ]
}

#[test]
fn every_format_version_loads_and_verifies() {
    for version in 1..=FORMAT_VERSION {
        let path = fixture(version);
        assert!(path.is_file(), "there is no fixture for format {version}: {} is missing", path.display());
        // A copy, because opening makes files beside it.
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("journal.db");
        std::fs::copy(&path, &copy).unwrap();
        let found = verify(&copy);
        assert!(found.sound() && found.entries == 4, "format {version}: {found:?}");
        let known = include_str!("../fixtures/head-v1.txt").trim();
        if version == 1 {
            assert_eq!(found.head.unwrap().hash.to_string(), known, "the hash of format 1 never changes");
        }
        let entries = read_all(&copy);
        let contents =
            entries.into_iter().map(|Entry { at, kind, subject, actor, payload, .. }| Draft { at, kind, subject, actor, payload });
        assert_eq!(contents.collect::<Vec<_>>(), drafts(), "format {version}");
        let journal = SqliteJournal::open(&copy).unwrap();
        block_on(async {
            assert_eq!(journal.load_snapshot("fixture", 1).await.unwrap(), Some((3, b"{\"entries\":3}".to_vec())));
            assert_eq!(journal.append(drafts(), Expected::Head(4)).await.unwrap()[0].seq, 5, "and it can be continued");
        });
    }
}

/// The same drafts give the same hashes today: the encoding has not changed unnoticed.
#[test]
fn the_chain_of_this_format_is_the_recorded_one() {
    let folder = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(&folder.path().join("journal.db")).unwrap();
    let last = block_on(journal.append(drafts(), Expected::Any)).unwrap().pop().unwrap();
    assert_eq!(last.hash.to_string(), include_str!("../fixtures/head-v1.txt").trim());
}

#[test]
fn a_newer_format_is_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    SqliteJournal::open(&path).unwrap().close();
    rusqlite::Connection::open(&path).unwrap().execute("UPDATE meta SET value = 99", []).unwrap();
    for error in [SqliteJournal::open(&path).unwrap_err(), SqliteJournal::open_read_only(&path).unwrap_err()] {
        assert!(error.to_string().contains("it has format 99, this program knows up to 1"), "{error}");
    }
}

#[test]
#[ignore = "writes the fixture of the current format; run it by hand after a change of the format"]
fn write_the_fixture() {
    let path = fixture(FORMAT_VERSION);
    assert!(!path.exists(), "a fixture is never written over: {}", path.display());
    let journal = SqliteJournal::open(&path).unwrap();
    let head = block_on(async {
        let entries = journal.append(drafts(), Expected::Any).await.unwrap();
        journal.save_snapshot("fixture", 1, 3, b"{\"entries\":3}".to_vec()).await.unwrap();
        journal.acquire_lease("timers", "fixture", Timestamp::from_secs(1_768_387_283), std::time::Duration::from_secs(30)).await.unwrap();
        entries.last().unwrap().hash
    });
    journal.close();
    std::fs::write(path.with_file_name(format!("head-v{FORMAT_VERSION}.txt")), format!("{head}\n")).unwrap();
}
