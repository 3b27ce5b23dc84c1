//! What is stored is a contract: files of every written version stay readable, newer ones are refused.

use std::path::{Path, PathBuf};

use paramedic_model::{Event, Fact, Level, Source, Timestamp, Usage};
use paramedic_telemetry::{Search, Settings, Store, StoreError};
use rusqlite::Connection;

use crate::story::{clock, events, offset, open, replayed};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

fn fixture_events() -> Vec<Event> {
    let mut first = Event::new(Timestamp::from_millis(1_768_384_800_123), Source::Transcript, "assistant");
    first.agent = Some("s-1/helper".into());
    first.session = Some("s-1".into());
    first.text = "Ran the tests: 3 failed".into();
    first.uid = Some(u64::MAX - 1);
    first.fact = Fact::ModelCall {
        message: Some("msg_1".into()),
        model: Some("claude-test".into()),
        usage: Usage { input_tokens: 10, output_tokens: 20, ..Usage::default() },
        cost_usd: None,
        duration: None,
        time_to_first_token: None,
        stop_reason: Some("end_turn".into()),
        text_hash: Some(7),
    };
    first.correlation.request = Some("req_1".into());
    let mut second = Event::new(Timestamp::from_millis(1_768_384_801_000), Source::OtlpLog, "api_error");
    second.level = Level::Error;
    second.text = "overloaded".into();
    second.attributes.insert("status_code".to_owned(), 529.into());
    vec![first, second]
}

/// Writes the fixture of the current version. Run by hand when a new version begins, never over an old one.
#[test]
#[ignore = "writes the fixture"]
fn write_fixture() {
    let store = open(&fixture(), Settings::default());
    store.append_blocking(fixture_events(), vec![offset("/var/log/agent.log", 4711)]).expect("appends");
}

#[test]
fn version_1_is_read() {
    let dir = tempfile::tempdir().expect("folder");
    for entry in std::fs::read_dir(fixture()).expect("fixture") {
        let entry = entry.expect("entry");
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).expect("copies");
    }
    let reader = Store::open_read_only(dir.path()).expect("opens");
    assert_eq!(replayed(&reader, 0).into_iter().map(|one| one.event).collect::<Vec<_>>(), fixture_events());
    drop(reader);
    let store = open(dir.path(), Settings::default());
    assert_eq!(replayed(&store, 0).into_iter().map(|one| one.event).collect::<Vec<_>>(), fixture_events());
    assert_eq!(store.offsets().expect("offsets"), [offset("/var/log/agent.log", 4711)]);
    assert_eq!(store.append_blocking(events(0..1), vec![]).expect("appends"), Some(3..=3));
    let found = store.search(&Search { text: Some("529".into()), ..Search::default() }).expect("searches");
    assert_eq!(found.events[0].event.name.as_ref(), "api_error");
}

fn only_partition(dir: &Path) -> PathBuf {
    let names = std::fs::read_dir(dir).expect("folder").map(|entry| entry.expect("entry").path());
    names.into_iter().find(|path| path.to_string_lossy().contains("/events-")).expect("a partition")
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("folder");
    open(dir.path(), Settings::default()).append_blocking(events(0..3), vec![]).expect("appends");
    let file = only_partition(dir.path());
    Connection::open(&file).expect("opens").execute("update partition set version = 2", []).expect("updates");
    for result in [Store::open(dir.path(), Settings::default(), clock()), Store::open_read_only(dir.path())] {
        let Err(StoreError::NewerFormat { file: named, found: 2, known: 1 }) = result else { panic!("{result:?}") };
        assert_eq!(named, file);
    }
    assert!(file.exists(), "it is refused, not set aside");
}

#[test]
fn a_person_can_read_the_file() {
    let dir = tempfile::tempdir().expect("folder");
    open(dir.path(), Settings::default()).append_blocking(fixture_events(), vec![]).expect("appends");
    let conn = Connection::open(only_partition(dir.path())).expect("opens");
    let line: String = conn
        .query_row("select at || ' ' || kind || ' ' || level || ' ' || source || ' ' || agent || ' ' || name from readable", [], |row| {
            row.get(0)
        })
        .expect("reads");
    assert_eq!(line, "2026-01-14T10:00:00.123Z model-call info transcript s-1/helper assistant");
    let status: i64 =
        conn.query_row("select attributes ->> 'status_code' from readable where seq = 2", [], |row| row.get(0)).expect("json");
    assert_eq!(status, 529);
}
