//! The file: its tables, how it is opened, and the head record.

use std::fmt::Write as _;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::note;
use crate::entry::{Hash, Head};
use crate::error::JournalError;
use crate::limit;

/// The format that this program writes. Every version has a fixture in `tests/fixtures`.
pub const FORMAT_VERSION: u32 = 1;

/// "Prmd" in the file's header, so that another program's database is never taken for a journal.
const APPLICATION_ID: i64 = 0x5072_6d64;

/// Entries cannot be changed or removed by accident, not even with a database shell: the triggers refuse it.
///
/// `head` is written in the same transaction as the entries it covers. It makes a tail that was cut off visible,
/// and keeps the next number from being given twice.
const SCHEMA: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT;
CREATE TABLE entries (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    actor TEXT NOT NULL,
    payload TEXT NOT NULL,
    prev_hash BLOB NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE INDEX entries_by_subject ON entries (subject, seq);
CREATE TRIGGER entries_stay BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'journal entries are never removed'); END;
CREATE TRIGGER entries_stay_as_they_are BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'journal entries never change'); END;
CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE TABLE snapshots (
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    entry_hash BLOB NOT NULL,
    bytes BLOB NOT NULL,
    bytes_hash BLOB NOT NULL,
    PRIMARY KEY (name, version)
) STRICT;
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    granted_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
";

/// Opens for writing, creating the tables in an empty or new file.
pub(crate) fn open(path: &Path) -> Result<Connection, JournalError> {
    let failed = |source| JournalError::from_sqlite("open", path, source);
    let is_new = !path.exists();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db =
        Connection::open_with_flags(path, flags).map_err(|source| if is_new { not_created(path, source) } else { failed(source) })?;
    // The engine falls back to reading when it may not write; we would find out only at the first append.
    if db.is_readonly("main").map_err(failed)? {
        return Err(JournalError::ReadOnly { file: path.to_path_buf() });
    }
    db.busy_timeout(limit::LOCK_WAIT).map_err(failed)?;
    let fresh = check_format(&db, path)?;
    let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        let why = format!("the file system does not support write-ahead logging (mode {mode:?})");
        return Err(JournalError::Open { file: path.to_path_buf(), why });
    }
    db.execute_batch("PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 16777216; PRAGMA trusted_schema = OFF;").map_err(failed)?;
    if fresh {
        create(&mut db, path)?;
        // The tables are moved into the file at once, so that it says what it is even without its log.
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(failed)?;
    }
    if is_new {
        sync_directory(path);
    }
    Ok(db)
}

/// The engine does not say why it could not create a file, so we ask the system ourselves.
fn not_created(path: &Path, source: rusqlite::Error) -> JournalError {
    match std::fs::File::create_new(path) {
        Err(error) if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem => JournalError::ReadOnly { file: path.to_path_buf() },
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            JournalError::Open { file: path.to_path_buf(), why: error.to_string() }
        }
        _ => JournalError::from_sqlite("create", path, source),
    }
}

/// Opens for reading; falls back to "nobody writes here" on a read-only file system, where the shared memory of
/// the write-ahead log cannot be made.
pub(crate) fn open_read_only(path: &Path) -> Result<Connection, JournalError> {
    let failed = |source| JournalError::from_sqlite("open", path, source);
    let try_open = |parameters: &str| {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let db = Connection::open_with_flags(uri(path, parameters), flags)?;
        db.busy_timeout(limit::LOCK_WAIT)?;
        db.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")?;
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(db)
    };
    let db = match try_open("") {
        Err(error) if writes_are_impossible(&error) && !has_log(path) => try_open("?immutable=1"),
        other => other,
    }
    .map_err(failed)?;
    if check_format(&db, path)? {
        return Err(JournalError::NotAJournal { file: path.to_path_buf(), why: "it is empty".into() });
    }
    Ok(db)
}

fn writes_are_impossible(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::CannotOpen | rusqlite::ErrorCode::ReadOnly))
}

fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).is_ok_and(|data| data.len() > 0)
}

/// A path as the engine's URI. Bytes that are not plain are escaped.
fn uri(path: &Path, parameters: &str) -> String {
    let mut uri = String::from("file:");
    for &byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(char::from(byte)),
            _ => _ = write!(uri, "%{byte:02X}"),
        }
    }
    uri + parameters
}

/// Whether the file is still without tables; an error when it is somebody else's or newer than we know.
fn check_format(db: &Connection, path: &Path) -> Result<bool, JournalError> {
    let failed = |source| JournalError::from_sqlite("open", path, source);
    let foreign = |why: &str| JournalError::NotAJournal { file: path.to_path_buf(), why: why.into() };
    let application: i64 = db.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(failed)?;
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    if application == 0 && tables == 0 {
        return Ok(true);
    }
    if application != APPLICATION_ID {
        return Err(foreign("it belongs to another program"));
    }
    let format = db.query_row("SELECT value FROM meta WHERE name = 'format_version'", [], |row| match row.get_ref(0)? {
        ValueRef::Integer(version) => Ok(Some(version)),
        _ => Ok(None),
    });
    match format {
        Ok(Some(version)) if version == i64::from(FORMAT_VERSION) => Ok(false),
        Ok(Some(found)) => Err(JournalError::Format { file: path.to_path_buf(), found, known: FORMAT_VERSION }),
        Ok(None) | Err(rusqlite::Error::QueryReturnedNoRows) => Err(foreign("its format version is missing")),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::Unknown) => Err(foreign("its tables are missing")),
        Err(error) => Err(failed(error)),
    }
}

/// All tables at once, so that a process killed here leaves either none or all.
fn create(db: &mut Connection, path: &Path) -> Result<(), JournalError> {
    let failed = |source| JournalError::from_sqlite("create", path, source);
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    // Another process may have been faster.
    if check_format(&tx, path)? {
        tx.execute_batch(SCHEMA).map_err(failed)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
        tx.execute("INSERT INTO meta VALUES ('format_version', ?1)", [FORMAT_VERSION]).map_err(failed)?;
        tx.execute("INSERT INTO head VALUES (1, 0, ?1)", [Hash::ZERO.0]).map_err(failed)?;
    }
    tx.commit().map_err(failed)
}

/// A new file must still be there after a power cut: its name is in the directory. The engine does the same for
/// its log. Some file systems refuse it, which is no reason to refuse the journal.
fn sync_directory(path: &Path) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Err(error) = std::fs::File::open(folder).and_then(|folder| folder.sync_all()) {
        tracing::warn!(folder = %folder.display(), %error, "directory of the journal cannot be synced");
    }
}

pub(crate) fn read_head(db: &Connection) -> rusqlite::Result<Head> {
    db.prepare_cached("SELECT seq, hash FROM head WHERE one = 1")?
        .query_row([], |row| Ok(Head { seq: seq_from(row.get(0)?), hash: Hash(row.get(1)?) }))
}

/// Looks at the end of the journal at start. A lost tail is said loudly but not refused, because an incident
/// must be recorded all the same: new entries continue from the last one that is known to have been written, so
/// its number is not given twice and the gap stays visible for ever. Entries after the head are refused.
pub(crate) fn check_head(db: &Connection, path: &Path) -> Result<(), JournalError> {
    let corrupt = |what: String| JournalError::Corrupt { file: path.to_path_buf(), what };
    let failed = |source| JournalError::from_sqlite("read", path, source);
    let noted = note::read(path);
    let head = read_head(db).map_err(|error| corrupt(format!("its head record cannot be read ({error})")))?;
    let last = db.query_row("SELECT coalesce(max(seq), 0) FROM entries", [], |row| row.get(0)).map(seq_from).map_err(failed)?;
    if last > head.seq {
        return Err(corrupt(format!("entry {last} was added after the last one that was written, {}", head.seq)));
    }
    let known = noted.filter(|noted| noted.seq > head.seq).unwrap_or(head);
    if known != head {
        let set = "UPDATE head SET seq = ?1, hash = ?2 WHERE one = 1 AND seq < ?1";
        db.execute(set, rusqlite::params![seq_to(known.seq), known.hash.0]).map_err(failed)?;
    }
    if last < known.seq {
        let file = path.display();
        tracing::error!(%file, last, written = known.seq, "the last entries of the journal are missing; run `paramedic journal verify`");
    }
    Ok(())
}

/// Numbers are stored as signed integers; ours fit until the sun is cold.
pub(crate) fn seq_to(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

pub(crate) fn seq_from(seq: i64) -> u64 {
    u64::try_from(seq).unwrap_or(0)
}
