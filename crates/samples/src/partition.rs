//! One partition: an SQLite file with the chunks of some hours or days.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use paramedic_promql::{Labels, Matcher, Samples as Decoded};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use crate::bits::ByteReader;
use crate::chunk::ChunkView;
use crate::crc::crc32c;
use crate::error::SamplesError;
use crate::index::Index;
use crate::metrics::Metrics;
use crate::record::{put_labels, read_labels};

const VERSION: i64 = 1;

const SCHEMA: &str = "
create table meta (name text primary key, value integer not null) without rowid;
create table series (id integer primary key, metric text not null, labels blob not null);
create table chunks (series integer not null, start_ms integer not null, end_ms integer not null, samples integer not null,
    crc32c integer not null, data blob not null);
create unique index chunks_by_series on chunks (series, start_ms, end_ms, samples);
insert into meta values ('samples', 0), ('newest_ms', -9223372036854775808);
";

/// The chunks of one series in one block of two hours, on their way to a partition.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) id: u64,
    pub(crate) labels: Labels,
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) samples: u64,
    /// Chunks one after the other.
    pub(crate) data: Vec<u8>,
}

/// Connections that wait for the next reader.
const READERS_MAX: usize = 4;

pub(crate) struct Partition {
    pub(crate) path: PathBuf,
    /// Samples of this time on, in milliseconds, and before `until`.
    pub(crate) from: i64,
    pub(crate) until: i64,
    writer: Mutex<Option<Connection>>,
    readers: Mutex<Vec<Connection>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    samples: u64,
    newest: i64,
    index: Option<Arc<Loaded>>,
}

/// A partition's series and their index, in memory.
struct Loaded {
    index: Index,
    series: Vec<(i64, Labels)>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Partition {
    /// Opens or creates a file.
    pub(crate) fn open(path: &Path, from: i64, until: i64) -> Result<Self, SamplesError> {
        let sqlite = |err| SamplesError::sqlite(path, err);
        let connection = Connection::open(path).map_err(sqlite)?;
        connection.execute_batch("pragma journal_mode = wal; pragma synchronous = full; pragma cache_size = -8192;").map_err(sqlite)?;
        let version: i64 = connection.query_row("pragma user_version", [], |row| row.get(0)).map_err(sqlite)?;
        match version {
            0 => {
                connection.execute_batch(&format!("begin immediate; {SCHEMA} pragma user_version = {VERSION}; commit;")).map_err(sqlite)?
            }
            VERSION => {}
            found => return Err(SamplesError::NewerFormat { file: path.to_owned(), found, known: VERSION }),
        }
        let meta = |name: &str| connection.query_row("select value from meta where name = ?1", [name], |row| row.get::<_, i64>(0));
        let samples = meta("samples").map_err(sqlite)?.unsigned_abs();
        let newest = meta("newest_ms").map_err(sqlite)?;
        Ok(Self {
            path: path.to_owned(),
            from,
            until,
            writer: Mutex::new(Some(connection)),
            readers: Mutex::default(),
            state: Mutex::new(State { samples, newest, index: None }),
        })
    }

    pub(crate) fn samples(&self) -> u64 {
        lock(&self.state).samples
    }

    /// Whether it may have samples between two times.
    pub(crate) fn overlaps(&self, from: i64, to: i64) -> bool {
        self.from <= to && lock(&self.state).newest >= from
    }

    pub(crate) fn has_index(&self) -> bool {
        lock(&self.state).index.is_some()
    }

    pub(crate) fn forget_index(&self) {
        lock(&self.state).index = None;
    }

    /// The highest number of a series in the file.
    pub(crate) fn last_series(&self) -> Result<u64, SamplesError> {
        let last =
            self.with_reader(|connection| connection.query_row("select max(id) from series", [], |row| row.get::<_, Option<i64>>(0)))?;
        Ok(last.map_or(0, i64::unsigned_abs))
    }

    /// Makes chunks durable. Those that are there already stay as they are.
    pub(crate) fn store(&self, rows: &[Row]) -> Result<(), SamplesError> {
        let sqlite = |err| SamplesError::sqlite(&self.path, err);
        let mut writer = lock(&self.writer);
        let connection = match &mut *writer {
            Some(connection) => connection,
            closed => closed.insert(Connection::open(&self.path).map_err(sqlite)?),
        };
        let stored = insert_rows(connection, rows).map_err(sqlite)?;
        let mut state = lock(&self.state);
        state.samples += stored;
        state.newest = rows.iter().map(|row| row.end).fold(state.newest, i64::max);
        state.index = None;
        Ok(())
    }

    /// Moves SQLite's own log into the file.
    pub(crate) fn settle(&self) {
        if let Some(connection) = &*lock(&self.writer)
            && let Err(err) = connection.query_row("pragma wal_checkpoint(truncate)", [], |_| Ok(()))
        {
            tracing::debug!(file = %self.path.display(), error = %err, "the partition's log stays for now");
        }
    }

    fn with_reader<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, SamplesError> {
        let sqlite = |err| SamplesError::sqlite(&self.path, err);
        let waiting = lock(&self.readers).pop();
        let connection = match waiting {
            Some(connection) => connection,
            None => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let connection = Connection::open_with_flags(&self.path, flags).map_err(sqlite)?;
                connection.execute_batch("pragma mmap_size = 268435456; pragma cache_size = -4096;").map_err(sqlite)?;
                connection
            }
        };
        let answer = read(&connection).map_err(sqlite)?;
        let mut readers = lock(&self.readers);
        if readers.len() < READERS_MAX {
            readers.push(connection);
        }
        Ok(answer)
    }

    fn loaded(&self) -> Result<Arc<Loaded>, SamplesError> {
        if let Some(loaded) = &lock(&self.state).index {
            return Ok(Arc::clone(loaded));
        }
        let mut loaded = Loaded { index: Index::default(), series: Vec::new() };
        self.with_reader(|connection| {
            let mut statement = connection.prepare_cached("select id, labels from series order by id")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let id: i64 = row.get(0)?;
                let Some(pairs) = read_labels(&mut ByteReader::new(row.get_ref(1)?.as_blob()?)) else { continue };
                let labels = loaded.index.insert(loaded.series.len() as u32, pairs.into_iter());
                loaded.series.push((id, labels));
            }
            Ok(())
        })?;
        let loaded = Arc::new(loaded);
        lock(&self.state).index = Some(Arc::clone(&loaded));
        Ok(loaded)
    }

    /// The label sets that pass every matcher.
    pub(crate) fn series(&self, matchers: &[Matcher]) -> Result<Vec<(i64, Labels)>, SamplesError> {
        let loaded = self.loaded()?;
        let labels_of = |place: u32| loaded.series.get(place as usize).map(|(_, labels)| labels.clone());
        let places = loaded.index.select(matchers, &labels_of);
        Ok(places.into_iter().filter_map(|place| loaded.series.get(place as usize).cloned()).collect())
    }

    /// Appends the samples between two times of series, each under all numbers that it has had.
    pub(crate) fn read<'a>(
        &self,
        wanted: impl Iterator<Item = (&'a [u64], &'a mut Decoded)>,
        (from, to): (i64, i64),
        metrics: &Metrics,
    ) -> Result<(), SamplesError> {
        let damaged = self.with_reader(|connection| {
            let mut damaged = 0u64;
            let mut statement = connection.prepare_cached(
                "select crc32c, data from chunks where series = ?1 and start_ms <= ?3 and end_ms >= ?2 order by start_ms, end_ms, samples",
            )?;
            for (ids, samples) in wanted {
                for id in ids {
                    let mut rows = statement.query(params![*id as i64, from, to])?;
                    while let Some(row) = rows.next()? {
                        let data = row.get_ref(1)?.as_blob()?;
                        let whole = row.get::<_, i64>(0)? == i64::from(crc32c(data));
                        damaged += u64::from(!whole || !decode(data, from, to, samples));
                    }
                }
            }
            Ok(damaged)
        })?;
        if damaged > 0 {
            metrics.damaged_chunks.inc_by(damaged);
            tracing::warn!(file = %self.path.display(), damaged, "chunks cannot be read back and are left out");
        }
        Ok(())
    }

    /// Removes the files from the disk; gives the samples that went with them.
    pub(crate) fn delete(&self) -> Result<u64, SamplesError> {
        lock(&self.readers).clear();
        *lock(&self.writer) = None;
        for path in self.files() {
            match std::fs::remove_file(&path) {
                Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(SamplesError::io(&path, err)),
                _ => {}
            }
        }
        Ok(self.samples())
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.files().iter().map(|path| std::fs::metadata(path).map_or(0, |meta| meta.len())).sum()
    }

    fn files(&self) -> [PathBuf; 3] {
        ["", "-wal", "-shm"].map(|suffix| {
            let mut name = self.path.clone().into_os_string();
            name.push(suffix);
            name.into()
        })
    }
}

/// Gives the number of samples that are new.
fn insert_rows(connection: &mut Connection, rows: &[Row]) -> rusqlite::Result<u64> {
    let mut stored = 0u64;
    let transaction = connection.transaction()?;
    {
        let mut series = transaction.prepare_cached("insert or ignore into series values (?1, ?2, ?3)")?;
        let mut chunks = transaction.prepare_cached("insert or ignore into chunks values (?1, ?2, ?3, ?4, ?5, ?6)")?;
        let mut labels = Vec::new();
        for row in rows {
            labels.clear();
            put_labels(&mut labels, &row.labels);
            let id = row.id as i64;
            series.execute(params![id, row.labels.metric_name(), labels])?;
            let samples = i64::try_from(row.samples).unwrap_or(i64::MAX);
            let new = chunks.execute(params![id, row.start, row.end, samples, i64::from(crc32c(&row.data)), row.data])?;
            stored += if new > 0 { row.samples } else { 0 };
        }
        let newest = rows.iter().map(|row| row.end).max().unwrap_or(i64::MIN);
        transaction.execute("update meta set value = value + ?1 where name = 'samples'", [stored as i64])?;
        transaction.execute("update meta set value = max(value, ?1) where name = 'newest_ms'", [newest])?;
    }
    transaction.commit()?;
    Ok(stored)
}

fn decode(data: &[u8], from: i64, to: i64, out: &mut Decoded) -> bool {
    let mut reader = ByteReader::new(data);
    while !reader.is_empty() {
        let Some(chunk) = ChunkView::read(&mut reader) else { return false };
        if chunk.start <= to && chunk.end >= from && !chunk.decode(from, to, out) {
            return false;
        }
    }
    true
}

/// Whether a file is an intact database, as far as a quick look tells.
pub(crate) fn looks_intact(path: &Path) -> bool {
    let look = || {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.query_row("select name from sqlite_master limit 1", [], |_| Ok(())).optional()
    };
    look().is_ok()
}
