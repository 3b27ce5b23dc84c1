//! Reads, each on a connection of its own, never in the writer's way.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use paramedic_model::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::sync::Semaphore;

use super::file;
use crate::entry::{Entry, Hash};
use crate::error::JournalError;
use crate::journal::Snapshot;
use crate::limit;

/// Connections that wait for the next read.
pub(crate) struct Readers {
    file: PathBuf,
    room: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(crate) fn new(path: &Path) -> Arc<Self> {
        Arc::new(Self { file: path.to_path_buf(), room: Arc::new(Semaphore::new(limit::READERS_MAX)), idle: Mutex::default() })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn give_back(&self, db: Connection) {
        self.idle().push(db);
    }

    pub(crate) fn close(&self) {
        self.room.close();
        self.idle().clear();
    }

    /// Runs a read on a thread that may block. A connection that failed is not used again.
    pub(crate) async fn with<T, F>(readers: &Arc<Self>, read: F) -> Result<T, JournalError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &Path) -> Result<T, JournalError> + Send + 'static,
    {
        let closed = || JournalError::Closed { file: readers.file.clone() };
        let room = Arc::clone(&readers.room).acquire_owned().await.map_err(|_| closed())?;
        let readers_there = Arc::clone(readers);
        let reading = tokio::task::spawn_blocking(move || {
            let _room = room;
            let idle = readers_there.idle().pop();
            let db = idle.map_or_else(|| file::open_read_only(&readers_there.file), Ok)?;
            let found = read(&db, &readers_there.file)?;
            if !readers_there.room.is_closed() {
                readers_there.give_back(db);
            }
            Ok(found)
        });
        reading.await.map_err(|_| closed())?
    }
}

const READ: &str = "SELECT seq, at, kind, subject, actor, payload, prev_hash, hash FROM entries WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const READ_SUBJECT: &str = "SELECT seq, at, kind, subject, actor, payload, prev_hash, hash FROM entries \
     WHERE seq > ?1 AND subject = ?3 ORDER BY seq LIMIT ?2";

/// One page, bounded in entries and in bytes.
pub(crate) fn read(db: &Connection, file: &Path, subject: Option<&str>, after: u64, limit: usize) -> Result<Vec<Entry>, JournalError> {
    let failed = |source| JournalError::from_sqlite("read", file, source);
    let limit = limit.min(limit::READ_ENTRIES_MAX);
    let (after_seq, limit_rows) = (file::seq_to(after), i64::try_from(limit).unwrap_or(i64::MAX));
    let mut statement = db.prepare_cached(if subject.is_some() { READ_SUBJECT } else { READ }).map_err(failed)?;
    let mut rows = match subject {
        Some(subject) => statement.query(params![after_seq, limit_rows, subject]),
        None => statement.query(params![after_seq, limit_rows]),
    }
    .map_err(failed)?;
    let mut entries = Vec::with_capacity(limit.min(256));
    let mut bytes = 0;
    while let Some(row) = rows.next().map_err(failed)? {
        let entry = entry(row, &mut bytes).map_err(|error| match error {
            Unreadable::Row(source) if source.sqlite_error_code().is_some() => failed(source),
            Unreadable::Row(source) => corrupt(file, row, &source),
            Unreadable::Payload(source) => corrupt(file, row, &source),
        })?;
        // A damaged page can give rows out of order; whoever reads page after page would never come to an end.
        if entry.seq <= entries.last().map_or(after, |last: &Entry| last.seq) {
            return Err(JournalError::Corrupt { file: file.to_path_buf(), what: format!("entry {} is out of order", entry.seq) });
        }
        entries.push(entry);
        if bytes >= limit::READ_BYTES_MAX {
            break;
        }
    }
    Ok(entries)
}

enum Unreadable {
    Row(rusqlite::Error),
    Payload(serde_json::Error),
}

impl From<rusqlite::Error> for Unreadable {
    fn from(error: rusqlite::Error) -> Self {
        Self::Row(error)
    }
}

fn corrupt(file: &Path, row: &Row<'_>, error: &dyn std::error::Error) -> JournalError {
    let seq: i64 = row.get(0).unwrap_or_default();
    JournalError::Corrupt { file: file.to_path_buf(), what: format!("entry {seq} was altered ({error})") }
}

fn entry(row: &Row<'_>, bytes: &mut usize) -> Result<Entry, Unreadable> {
    let text = |column: usize| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
    let payload = text(5)?;
    *bytes += payload.len();
    Ok(Entry {
        seq: file::seq_from(row.get(0)?),
        at: Timestamp::from_micros(row.get(1)?),
        kind: text(2)?.to_owned(),
        subject: text(3)?.to_owned(),
        actor: text(4)?.to_owned(),
        payload: serde_json::from_str(payload).map_err(Unreadable::Payload)?,
        prev_hash: Hash(row.get(6)?),
        hash: Hash(row.get(7)?),
    })
}

/// The snapshot, unless it is damaged or stands on an entry that the chain does not have.
pub(crate) fn load_snapshot(db: &Connection, file: &Path, name: &str, version: u32) -> Result<Option<Snapshot>, JournalError> {
    let failed = |source| JournalError::from_sqlite("read", file, source);
    // One statement, so that the snapshot and its entry are of the same moment.
    let found = db
        .prepare_cached(
            "SELECT snapshots.seq, entry_hash, bytes, bytes_hash, hash FROM snapshots \
             LEFT JOIN entries ON entries.seq = snapshots.seq WHERE name = ?1 AND version = ?2",
        )
        .and_then(|mut statement| {
            statement
                .query_row(params![name, version], |row| {
                    let anchor = row.get::<_, Option<[u8; 32]>>(4)?.map_or(Hash::ZERO, Hash);
                    Ok((row.get::<_, i64>(0)?, Hash(row.get(1)?), row.get::<_, Vec<u8>>(2)?, Hash(row.get(3)?), anchor))
                })
                .optional()
        });
    let ignored = |why: &str| tracing::warn!(snapshot = name, version, "snapshot ignored: {why}");
    let (seq, entry_hash, bytes, bytes_hash, anchor) = match found {
        Ok(Some(found)) => found,
        Ok(None) => {
            warn_about_other_versions(db, name, version).map_err(failed)?;
            return Ok(None);
        }
        Err(error) if error.sqlite_error_code().is_some() => return Err(failed(error)),
        Err(_) => {
            ignored("its record is damaged");
            return Ok(None);
        }
    };
    if Hash::of(&bytes) != bytes_hash {
        ignored("its bytes are damaged");
        return Ok(None);
    }
    if entry_hash != anchor || seq < 0 || (seq > 0 && anchor == Hash::ZERO) {
        ignored("the entry it stands on was altered or is missing");
        return Ok(None);
    }
    Ok(Some((file::seq_from(seq), bytes)))
}

fn warn_about_other_versions(db: &Connection, name: &str, version: u32) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached("SELECT version FROM snapshots WHERE name = ?1 ORDER BY version DESC LIMIT 1")?;
    if let Some(found) = statement.query_row([name], |row| row.get::<_, i64>(0)).optional()? {
        tracing::warn!(snapshot = name, version, found, "snapshot of another version ignored, folding from the beginning");
    }
    Ok(())
}
