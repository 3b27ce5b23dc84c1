//! One partition: a file of events that arrived on one day, its index beside it, and what is known of both.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, params};

use crate::error::{InFile, StoreError};
use crate::schema;
use crate::store::Offset;

/// What the partition remembers about its events: enough to skip it in a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    /// One less than the first seq when the partition is empty.
    pub(crate) last_seq: u64,
    pub(crate) events: u64,
    pub(crate) at_min: i64,
    pub(crate) at_max: i64,
}

#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) first_seq: u64,
    /// The UTC day of arrival, `2026-01-14`.
    pub(crate) day: String,
    pub(crate) file: PathBuf,
    pub(crate) index_file: PathBuf,
    summary: Mutex<Summary>,
    /// The last seq in the index.
    pub(crate) indexed_to: AtomicU64,
    /// A search found the index damaged; the index thread deletes it and builds it anew.
    pub(crate) index_broken: AtomicBool,
}

pub(crate) fn file_name(first_seq: u64, day: &str) -> String {
    format!("events-{first_seq:020}-{day}.sqlite")
}

/// Reads `events-<first seq>-<day>.sqlite<rest>`.
fn parse_name(name: &str) -> Option<(u64, &str, &str)> {
    let (seq, rest) = name.strip_prefix("events-")?.split_at_checked(20)?;
    let (day, rest) = rest.strip_prefix('-')?.split_once(".sqlite")?;
    Some((seq.parse().ok()?, day, rest))
}

/// More events than one partition ever holds.
pub(crate) const LOST_SEQS_MAX: u64 = 1 << 32;

/// What lies in the folder.
#[derive(Default)]
pub(crate) struct Listing {
    /// First seq, day and file, in order.
    pub(crate) partitions: Vec<(u64, String, PathBuf)>,
    /// The lowest seq that is certainly not taken by a file that was set aside.
    pub(crate) seq_floor: u64,
    /// Partitions whose creation was interrupted.
    pub(crate) unfinished: Vec<PathBuf>,
}

pub(crate) fn list(dir: &Path) -> Result<Listing, StoreError> {
    let mut listing = Listing::default();
    for entry in std::fs::read_dir(dir).in_file(dir)? {
        let entry = entry.in_file(dir)?;
        let name = entry.file_name();
        let Some((first_seq, day, rest)) = name.to_str().and_then(parse_name) else { continue };
        match rest {
            "" => listing.partitions.push((first_seq, day.to_owned(), entry.path())),
            ".new" | ".new-journal" => listing.unfinished.push(entry.path()),
            // How many seqs a damaged file gave away is unknown, so the count goes on far beyond them.
            _ if rest.starts_with(".corrupt-") => listing.seq_floor = listing.seq_floor.max(first_seq.saturating_add(LOST_SEQS_MAX)),
            _ => {}
        }
    }
    listing.partitions.sort();
    Ok(listing)
}

impl Partition {
    pub(crate) fn known(first_seq: u64, day: String, file: PathBuf, summary: Summary) -> Self {
        let index_file = file.with_file_name(format!("index-{first_seq:020}-{day}.sqlite"));
        Self {
            first_seq,
            day,
            file,
            index_file,
            summary: Mutex::new(summary),
            indexed_to: AtomicU64::new(0),
            index_broken: AtomicBool::new(false),
        }
    }

    /// Makes a new file complete under another name first, so that a partition under its final name is always whole.
    pub(crate) fn create(dir: &Path, first_seq: u64, day: &str, offsets: &[Offset]) -> Result<(Self, Connection), StoreError> {
        let file = dir.join(file_name(first_seq, day));
        let unfinished = dir.join(format!("{}.new", file_name(first_seq, day)));
        let _ = std::fs::remove_file(&unfinished);
        let summary = Summary { last_seq: first_seq.saturating_sub(1), events: 0, at_min: i64::MAX, at_max: i64::MIN };
        let result = write_new(&unfinished, first_seq, day, &summary, offsets)
            .in_file(&file)
            .and_then(|()| std::fs::rename(&unfinished, &file).in_file(&file))
            // The name must be durable before events in it are.
            .and_then(|()| std::fs::File::open(dir).and_then(|dir| dir.sync_all()).in_file(dir));
        if let Err(error) = result {
            let _ = std::fs::remove_file(&unfinished);
            return Err(error);
        }
        let conn = schema::open_writer(&file).in_file(&file)?;
        Ok((Self::known(first_seq, day.to_owned(), file, summary), conn))
    }

    /// Opens an existing file and looks whether it is whole, as far as that is cheap.
    pub(crate) fn open(first_seq: u64, day: String, file: PathBuf) -> Result<Self, StoreError> {
        let summary = check(&file)?;
        Ok(Self::known(first_seq, day, file, summary))
    }

    pub(crate) fn summary(&self) -> Summary {
        *self.summary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_summary(&self, summary: Summary) {
        *self.summary.lock().unwrap_or_else(PoisonError::into_inner) = summary;
    }

    /// Rows that are not in the index.
    pub(crate) fn lag(&self) -> u64 {
        let summary = self.summary();
        let indexed_to = self.indexed_to.load(Ordering::Acquire).max(self.first_seq.saturating_sub(1));
        summary.last_seq.saturating_sub(indexed_to)
    }

    /// All files that belong to it.
    pub(crate) fn files(&self) -> [PathBuf; 6] {
        [
            self.file.clone(),
            schema::wal_of(&self.file),
            schema::shm_of(&self.file),
            self.index_file.clone(),
            schema::wal_of(&self.index_file),
            schema::shm_of(&self.index_file),
        ]
    }

    pub(crate) fn bytes(&self) -> u64 {
        let [events, events_wal, _, index, index_wal, _] = self.files();
        [events, events_wal, index, index_wal].iter().filter_map(|file| std::fs::metadata(file).ok()).map(|meta| meta.len()).sum()
    }

    pub(crate) fn delete(&self) -> Result<(), StoreError> {
        for file in self.files() {
            match std::fs::remove_file(&file) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::io(&file, error)),
            }
        }
        Ok(())
    }

    pub(crate) fn delete_index(&self) {
        for file in &self.files()[3..] {
            let _ = std::fs::remove_file(file);
        }
        self.indexed_to.store(0, Ordering::Release);
    }

    /// Renames a damaged file out of the way: nothing is deleted that a person might still rescue.
    pub(crate) fn set_aside(&self) -> Result<PathBuf, StoreError> {
        self.delete_index();
        set_aside(&self.file)
    }
}

pub(crate) fn set_aside(file: &Path) -> Result<PathBuf, StoreError> {
    let target = |n: u32, rest: &str| {
        let mut name = file.as_os_str().to_owned();
        name.push(format!(".corrupt-{n}{rest}"));
        PathBuf::from(name)
    };
    let n = (1..10_000).find(|n| !target(*n, "").exists()).unwrap_or(10_000);
    std::fs::rename(file, target(n, "")).in_file(file)?;
    let _ = std::fs::rename(schema::wal_of(file), target(n, "-wal"));
    let _ = std::fs::remove_file(schema::shm_of(file));
    Ok(target(n, ""))
}

fn write_new(file: &Path, first_seq: u64, day: &str, summary: &Summary, offsets: &[Offset]) -> rusqlite::Result<()> {
    let mut conn = Connection::open(file)?;
    conn.execute_batch("pragma page_size = 8192; pragma journal_mode = delete; pragma synchronous = normal;")?;
    let transaction = conn.transaction()?;
    schema::create_partition(&transaction)?;
    transaction.execute(
        "insert into partition values(?1, ?2, ?3, ?4, 0, ?5, ?6)",
        params![schema::VERSION, first_seq.cast_signed(), day, summary.last_seq.cast_signed(), summary.at_min, summary.at_max],
    )?;
    write_offsets(&transaction, offsets)?;
    transaction.commit()?;
    conn.close().map_err(|(_, error)| error)
}

pub(crate) fn write_offsets<'a>(conn: &Connection, offsets: impl IntoIterator<Item = &'a Offset>) -> rusqlite::Result<()> {
    let mut insert = conn.prepare_cached("insert or replace into offsets values(?1, ?2, ?3, ?4)")?;
    for offset in offsets {
        insert.execute(params![offset.file, offset.position.cast_signed(), offset.identity.cast_signed(), offset.lines.cast_signed()])?;
    }
    Ok(())
}

pub(crate) fn read_offsets(conn: &Connection) -> rusqlite::Result<Vec<Offset>> {
    conn.prepare("select file, position, identity, lines from offsets order by file")?
        .query_map([], |row| {
            Ok(Offset {
                file: row.get(0)?,
                position: row.get::<_, i64>(1)?.cast_unsigned(),
                identity: row.get::<_, i64>(2)?.cast_unsigned(),
                lines: row.get::<_, i64>(3)?.cast_unsigned(),
            })
        })?
        .collect()
}

pub(crate) fn read_summary(conn: &Connection) -> rusqlite::Result<Summary> {
    conn.prepare_cached("select last_seq, events, at_min, at_max from partition")?.query_row([], |row| {
        Ok(Summary {
            last_seq: row.get::<_, i64>(0)?.cast_unsigned(),
            events: row.get::<_, i64>(1)?.cast_unsigned(),
            at_min: row.get(2)?,
            at_max: row.get(3)?,
        })
    })
}

/// Reads the header, the version and the summary. A file that is shorter than its header says was cut off.
fn check(file: &Path) -> Result<Summary, StoreError> {
    let damaged = |what: &str| StoreError::Damaged { file: file.to_owned(), what: what.to_owned() };
    let conn = schema::open_reader(file).in_file(file)?;
    let version: i64 = match conn.query_row("select version from partition", [], |row| row.get(0)) {
        Ok(version) => version,
        Err(rusqlite::Error::QueryReturnedNoRows) => return Err(damaged("its description is missing")),
        Err(error) if error.to_string().contains("no such") => return Err(damaged("its tables are missing")),
        Err(error) => return Err(StoreError::sqlite(file, error)),
    };
    if version > schema::VERSION {
        return Err(StoreError::NewerFormat { file: file.to_owned(), found: version, known: schema::VERSION });
    }
    let pages: i64 = conn.query_row("pragma page_count", [], |row| row.get(0)).in_file(file)?;
    let page_bytes: i64 = conn.query_row("pragma page_size", [], |row| row.get(0)).in_file(file)?;
    let wal_bytes = std::fs::metadata(schema::wal_of(file)).map_or(0, |meta| meta.len());
    let bytes = std::fs::metadata(file).in_file(file)?.len();
    if wal_bytes == 0 && bytes < (pages * page_bytes).cast_unsigned() {
        return Err(damaged("it was cut off"));
    }
    read_summary(&conn).in_file(file)
}
