//! The index beside each partition and the thread that builds it, following behind the writer.
//!
//! An index file holds the tokens of every event (an FTS5 table without content or positions) and, per block of rows, the
//! span of event times and the kinds, sources and levels that occur. Names and correlation ids are tokens too, written
//! behind a character that no text token contains. All of it can be deleted and is then built anew.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use paramedic_model::event::Correlation;
use rusqlite::{Connection, params};

use crate::error::{InFile, StoreError};
use crate::partition::Partition;
use crate::row::{self, Class};
use crate::schema;
use crate::store::Shared;
use crate::tokens::{each_field, each_token};

/// Rows that share a line in the table of blocks. The active partition is indexed in whole blocks only: fewer rows are
/// read one by one as fast as they would be looked up.
pub(crate) const BLOCK_ROWS: u64 = 1024;
/// Blocks in one transaction.
const BATCH_BLOCKS: u64 = 8;
/// More rows than these in this time, and the writer is left alone as long as the lag allows it.
const POLITE_WAIT: Duration = Duration::from_millis(20);
const POLITE_ROWS: u64 = 500;
/// Levels from this code on (warnings) have a token.
pub(crate) const LEVEL_TOKEN_MIN: i64 = 2;
/// After a failure, a full disk for instance.
const RETRY_WAIT: Duration = Duration::from_secs(2);

/// A private-use character: never part of a word, so names cannot be mistaken for text.
const NAME_MARK: char = '\u{E000}';

/// The token for a word of the partition in a role: `a` agent, `s` session, `n` name; or for a code: `k` kind, `l` level.
pub(crate) fn word_token(role: char, id: i64) -> String {
    format!("{NAME_MARK}{role}{id}")
}

/// The token for a correlation id: `p` prompt, `r` request, `t` trace, `u` user.
pub(crate) fn correlation_token(role: char, id: &str) -> String {
    format!("{NAME_MARK}{role}{:012x}", xxhash_rust::xxh3::xxh3_64(id.as_bytes()) >> 16)
}

/// How the writer and the index thread wait for one another.
#[derive(Default)]
pub(crate) struct Wake {
    appended: Mutex<bool>,
    on_append: Condvar,
    on_progress: Condvar,
    failing: AtomicBool,
}

impl Wake {
    pub(crate) fn notify(&self) {
        *self.appended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.on_append.notify_one();
    }

    /// Until something was appended, or the time is over.
    fn wait(&self, at_most: Option<Duration>) {
        let guard = self.appended.lock().unwrap_or_else(PoisonError::into_inner);
        let mut guard = match at_most {
            None => self.on_append.wait_while(guard, |appended| !*appended).unwrap_or_else(PoisonError::into_inner),
            Some(at_most) => self.on_append.wait_timeout(guard, at_most).unwrap_or_else(PoisonError::into_inner).0,
        };
        *guard = false;
    }

    fn progressed(&self) {
        self.failing.store(false, Ordering::Release);
        self.on_progress.notify_all();
    }

    pub(crate) fn wait_for_progress(&self, at_most: Duration) {
        let guard = self.appended.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.on_progress.wait_timeout(guard, at_most));
    }

    pub(crate) fn is_healthy(&self) -> bool {
        !self.failing.load(Ordering::Acquire)
    }
}

/// Finds out how far the index reached. One that knows more than its partition (a power loss took the partition's last
/// rows) or that cannot be read is deleted.
pub(crate) fn resume(partition: &Partition) {
    if !look(partition) {
        partition.delete_index();
    }
}

/// The same without touching anything.
pub(crate) fn look(partition: &Partition) -> bool {
    if !partition.index_file.exists() {
        return true;
    }
    match schema::open_reader(&partition.index_file).and_then(|conn| read_progress(&conn)) {
        Ok(indexed_to) if indexed_to <= partition.summary().last_seq => {
            partition.indexed_to.store(indexed_to, Ordering::Release);
            true
        }
        _ => false,
    }
}

pub(crate) fn read_progress(conn: &Connection) -> rusqlite::Result<u64> {
    conn.prepare_cached("select indexed_to from progress where version = ?1")?
        .query_row([schema::INDEX_VERSION], |row| row.get::<_, i64>(0).map(i64::cast_unsigned))
}

pub(crate) fn start(shared: Arc<Shared>) -> Result<JoinHandle<()>, StoreError> {
    std::thread::Builder::new()
        .name("telemetry-index".to_owned())
        .spawn(move || run(&shared))
        .map_err(|source| StoreError::Io { file: "a thread".into(), source })
}

fn run(shared: &Shared) {
    let mut builder = None;
    let mut quiet_at = None;
    while !shared.closing.load(Ordering::Acquire) {
        let Some((partition, last)) = next_work(shared) else {
            // The connections of an idle store hold no memory.
            builder = None;
            shared.wake.wait(None);
            continue;
        };
        if is_writer_busy(shared, &mut quiet_at) {
            continue;
        }
        if let Err(error) = build(shared, &mut builder, &partition, last) {
            builder = None;
            fail(shared, &partition, &error);
        } else {
            shared.wake.progressed();
        }
    }
}

/// The newest partition first: that is where people look.
fn next_work(shared: &Shared) -> Option<(Arc<Partition>, u64)> {
    let partitions = shared.partitions();
    partitions.iter().rev().enumerate().find_map(|(age, partition)| {
        if partition.index_broken.swap(false, Ordering::AcqRel) {
            shared.readers.forget(&partition.file);
            partition.delete_index();
        }
        let rows = if age == 0 { partition.lag() / BLOCK_ROWS * BLOCK_ROWS } else { partition.lag() };
        let rows = rows.min(BLOCK_ROWS * BATCH_BLOCKS);
        (rows > 0).then(|| {
            let from = partition.indexed_to.load(Ordering::Acquire).max(partition.first_seq - 1);
            (partition.clone(), from + rows)
        })
    })
}

/// While events pour in, their storing comes first, until the lag is half of what is allowed. `quiet_at` is the seq at
/// which the writer was last found quiet.
fn is_writer_busy(shared: &Shared, quiet_at: &mut Option<u64>) -> bool {
    let before = shared.last_seq.load(Ordering::Acquire);
    if *quiet_at == Some(before) || shared.lag() > shared.settings.index_lag_rows_max / 2 {
        return false;
    }
    std::thread::sleep(POLITE_WAIT);
    let after = shared.last_seq.load(Ordering::Acquire);
    let busy = after - before > POLITE_ROWS;
    *quiet_at = (!busy).then_some(after);
    busy
}

fn fail(shared: &Shared, partition: &Partition, error: &StoreError) {
    if shared.partitions().iter().all(|one| one.file != partition.file) {
        return; // Dropped by retention meanwhile.
    }
    match error {
        StoreError::Damaged { file, .. } if *file == partition.file => shared.set_aside(partition, error),
        StoreError::Damaged { .. } => {
            tracing::warn!(%error, "the index of an event partition is damaged and is built anew");
            shared.readers.forget(&partition.file);
            partition.delete_index();
        }
        _ => {
            tracing::warn!(%error, "events could not be indexed; trying again");
            shared.wake.failing.store(true, Ordering::Release);
            shared.wake.wait(Some(RETRY_WAIT));
        }
    }
}

/// The open files of the partition that is being indexed, and buffers.
struct Builder {
    partition: Arc<Partition>,
    events: Connection,
    index: Connection,
    body: String,
    token: String,
}

/// What occurs in one block of rows.
#[derive(Clone, Copy)]
struct Block {
    first_seq: i64,
    last_seq: i64,
    at_min: i64,
    at_max: i64,
    kinds: i64,
    sources: i64,
    levels: i64,
}

fn build(shared: &Shared, builder: &mut Option<Builder>, partition: &Arc<Partition>, last_seq: u64) -> Result<(), StoreError> {
    if builder.as_ref().is_none_or(|one| one.partition.file != partition.file) {
        *builder = Some(Builder::open(partition)?);
    }
    let Some(builder) = builder else { return Ok(()) };
    let from = partition.indexed_to.load(Ordering::Acquire).max(partition.first_seq - 1);
    let result = builder.index_rows(from, last_seq);
    if result.is_err() && !builder.index.is_autocommit() {
        let _ = builder.index.execute_batch("rollback");
    }
    result?;
    partition.indexed_to.store(last_seq, Ordering::Release);
    shared.metrics.indexed_events.inc_by(last_seq - from);
    Ok(())
}

/// Makes a new index complete under another name first. A search must never hold a file that is then replaced under its name: two
/// files would share one piece of shared memory, which the second one cuts off under the first.
fn create(file: &Path) -> Result<(), StoreError> {
    let unfinished = file.with_extension("sqlite.new");
    let _ = std::fs::remove_file(&unfinished);
    let made = Connection::open(&unfinished).and_then(|mut index| {
        index.execute_batch("pragma page_size = 8192;")?;
        let whole = index.transaction()?;
        schema::create_index(&whole)?;
        whole.commit()
    });
    made.in_file(&unfinished)?;
    std::fs::rename(&unfinished, file).in_file(file)
}

impl Builder {
    fn open(partition: &Arc<Partition>) -> Result<Self, StoreError> {
        let file = &partition.index_file;
        let events = schema::open_reader(&partition.file).in_file(&partition.file)?;
        let usable = || schema::open_writer(file).and_then(|index| read_progress(&index).map(|_| index));
        let index = match file.exists().then(usable) {
            Some(Ok(index)) => index,
            _ => {
                partition.delete_index();
                create(file)?;
                schema::open_writer(file).in_file(file)?
            }
        };
        Ok(Self { partition: partition.clone(), events, index, body: String::new(), token: String::new() })
    }

    /// Indexes the rows after `from` up to `to` in one transaction.
    fn index_rows(&mut self, from: u64, to: u64) -> Result<(), StoreError> {
        let (events_file, index_file) = (&self.partition.file, &self.partition.index_file);
        self.index.execute_batch("begin immediate").in_file(index_file)?;
        let mut insert = self.index.prepare_cached("insert into tokens(rowid, body) values(?1, ?2)").in_file(index_file)?;
        let mut select = self
            .events
            .prepare_cached(
                "select seq, at, class, agent, session, name, text, attributes, correlation
                 from events where seq > ?1 and seq <= ?2 order by seq",
            )
            .in_file(events_file)?;
        let mut rows = select.query(params![from.cast_signed(), to.cast_signed()]).in_file(events_file)?;
        let mut block: Option<Block> = None;
        while let Some(row) = rows.next().in_file(events_file)? {
            let (seq, at, class): (i64, i64, i64) =
                (row.get(0).in_file(events_file)?, row.get(1).in_file(events_file)?, row.get(2).in_file(events_file)?);
            write_body(row, &mut self.body, &mut self.token).in_file(events_file)?;
            insert.raw_bind_parameter(1, seq).in_file(index_file)?;
            insert.raw_bind_parameter(2, self.body.as_str()).in_file(index_file)?;
            insert.raw_execute().in_file(index_file)?;
            let full = block.as_mut().is_some_and(|block| !block.add(seq, at, Class(class)));
            if block.is_none() || full {
                if let Some(block) = block {
                    block.insert(&self.index).in_file(index_file)?;
                }
                block = Some(Block::new(seq, at, Class(class)));
            }
        }
        if let Some(block) = block {
            block.insert(&self.index).in_file(index_file)?;
        }
        self.index
            .prepare_cached("update progress set indexed_to = ?1")
            .and_then(|mut update| update.execute([to.cast_signed()]))
            .in_file(index_file)?;
        self.index.execute_batch("commit").in_file(index_file)
    }
}

impl Block {
    fn new(seq: i64, at: i64, class: Class) -> Self {
        let mut block = Self { first_seq: seq, last_seq: seq, at_min: at, at_max: at, kinds: 0, sources: 0, levels: 0 };
        block.note(class);
        block
    }

    fn note(&mut self, class: Class) {
        self.kinds |= bit(class.kind());
        self.sources |= bit(class.source());
        self.levels |= bit(class.level());
    }

    /// False when the row belongs into the next block.
    fn add(&mut self, seq: i64, at: i64, class: Class) -> bool {
        if (seq - self.first_seq).cast_unsigned() >= BLOCK_ROWS {
            return false;
        }
        self.last_seq = seq;
        self.at_min = self.at_min.min(at);
        self.at_max = self.at_max.max(at);
        self.note(class);
        true
    }

    fn insert(&self, conn: &Connection) -> rusqlite::Result<()> {
        conn.prepare_cached("insert into blocks values(?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute([
            self.first_seq,
            self.last_seq,
            self.at_min,
            self.at_max,
            self.kinds,
            self.sources,
            self.levels,
        ])?;
        Ok(())
    }
}

/// The bit of a code in a block's mask; codes that do not fit share the last bit.
pub(crate) const fn bit(code: i64) -> i64 {
    1 << if code < 62 { code } else { 62 }
}

/// All tokens of one row, with blanks between them.
fn write_body(row: &rusqlite::Row<'_>, body: &mut String, token: &mut String) -> rusqlite::Result<()> {
    body.clear();
    for (column, role) in [(3, 'a'), (4, 's'), (5, 'n')] {
        if let Some(id) = row.get::<_, Option<i64>>(column)? {
            body.push_str(&word_token(role, id));
            body.push(' ');
        }
    }
    // Plain records and quiet levels are most of all rows: asking for them is no selection.
    let class = Class(row.get(2)?);
    for (role, code, least) in [('k', class.kind(), 1), ('l', class.level(), LEVEL_TOKEN_MIN)] {
        if code >= least {
            body.push_str(&word_token(role, code));
            body.push(' ');
        }
    }
    if let Some(correlation) = row::text(row, 8)?.and_then(|text| serde_json::from_str::<Correlation>(text).ok()) {
        for (role, id) in [('p', correlation.prompt), ('r', correlation.request), ('t', correlation.trace), ('u', correlation.user)] {
            if let Some(id) = id {
                body.push_str(&correlation_token(role, &id));
                body.push(' ');
            }
        }
    }
    each_field(row::text(row, 6)?.unwrap_or_default(), row::text(row, 7)?, &mut |field| {
        each_token(field, token, &mut |token| {
            body.push_str(token);
            body.push(' ');
        });
    });
    Ok(())
}
