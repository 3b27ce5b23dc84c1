//! What happens in the background: forcing the log to the disk, moving old blocks to partitions, saving the memory,
//! forgetting idle series, and retention.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::checkpoint::save;
use crate::chunk::Chunk;
use crate::error::SamplesError;
use crate::head::{PAGE, read, write};
use crate::partition::Row;
use crate::series::{BLOCK_MS, Series};
use crate::store::{Inner, Samples, lock};

/// Pages whose chunks go to the partitions in one transaction: some megabytes.
const PAGES_AT_ONCE: usize = 4;
/// Marks a series without samples that upkeep has seen once: whoever asked for it may be about to append.
const SEEN_EMPTY: i64 = i64::MIN + 1;

type Closing = Arc<(Mutex<bool>, Condvar)>;

/// The threads of an open store; dropping it ends them.
pub(crate) struct Background {
    closing: Closing,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Background {
    fn drop(&mut self) {
        *lock(&self.closing.0) = true;
        self.closing.1.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a background thread of the store of samples panicked");
            }
        }
    }
}

/// Calls once per interval until the store closes.
fn every(interval: Duration, closing: &Closing, mut work: impl FnMut()) {
    loop {
        let closed = lock(&closing.0);
        let (closed, _) = closing.1.wait_timeout_while(closed, interval, |closed| !*closed).unwrap_or_else(PoisonError::into_inner);
        if *closed {
            return;
        }
        drop(closed);
        work();
    }
}

pub(crate) fn start(inner: &Arc<Inner>) -> Arc<Background> {
    let closing = Closing::default();
    let mut threads = Vec::new();
    let mut spawn = |name: &str, interval: Duration, work: fn(&Inner) -> Result<(), SamplesError>| {
        let (inner, closing) = (Arc::clone(inner), Arc::clone(&closing));
        let run = move || {
            every(interval, &closing, || {
                if let Err(err) = work(&inner) {
                    tracing::error!(error = %err, "upkeep of the samples failed; it is tried again");
                }
            });
        };
        match std::thread::Builder::new().name(name.to_owned()).spawn(run) {
            Ok(thread) => threads.push(thread),
            Err(err) => tracing::error!(error = %err, name, "a background thread cannot be started"),
        }
    };
    if inner.settings.fsync_interval_ms > 0 {
        spawn("samples-fsync", Duration::from_millis(inner.settings.fsync_interval_ms), Inner::sync);
    }
    if inner.settings.upkeep_interval_s > 0 {
        spawn("samples-upkeep", Duration::from_secs(inner.settings.upkeep_interval_s), Inner::keep_up);
    }
    Arc::new(Background { closing, threads })
}

impl Samples {
    /// One round of upkeep now.
    pub fn upkeep(&self) -> Result<(), SamplesError> {
        self.inner.keep_up()
    }

    /// Saves the memory as a whole and begins the log anew.
    pub fn checkpoint(&self) -> Result<(), SamplesError> {
        let _round = lock(&self.inner.upkeep);
        self.inner.checkpoint()
    }
}

impl Inner {
    pub(crate) fn keep_up(&self) -> Result<(), SamplesError> {
        let _round = lock(&self.upkeep);
        let relieved = self.relieve_memory();
        // Also when that failed: a full disk needs retention most.
        let oldest = self.clock.now().as_millis().saturating_sub(self.settings.retention_ms());
        self.partitions.retain(oldest, self.settings.bytes_max, &self.metrics)?;
        self.partitions.trim_indexes(self.settings.partition_indexes_max);
        self.measure();
        relieved
    }

    fn relieve_memory(&self) -> Result<(), SamplesError> {
        let spilled = self.spill()?;
        let left = self.forget_idle();
        self.swap()?;
        if spilled > 0 || left > 0 || lock(&self.writer).wal.total() >= self.settings.checkpoint_bytes {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// The time before which blocks leave the memory: whole blocks, at least `head_s` old.
    fn spill_before(&self) -> Option<i64> {
        let newest = Some(self.head.newest()).filter(|newest| *newest != i64::MIN)?;
        Some(newest.saturating_sub(self.settings.head_ms()).div_euclid(BLOCK_MS).saturating_mul(BLOCK_MS))
    }

    /// Moves the chunks of passed blocks to partitions; gives their number.
    fn spill(&self) -> Result<u64, SamplesError> {
        let Some(before) = self.spill_before() else { return Ok(0) };
        let mut spilled = 0;
        let mut buffer = Vec::new();
        for pages in self.head.pages().chunks(PAGES_AT_ONCE) {
            let mut rows = Vec::new();
            for page in pages {
                let old = |series: &Series| series.id != 0 && series.overlaps(i64::MIN, before - 1);
                if !read(page).iter().any(old) {
                    continue;
                }
                for series in write(page).iter_mut().filter(|series| old(series)) {
                    series.close_before(before);
                    rows_of(series, before, &mut rows, &mut buffer);
                }
            }
            if rows.is_empty() {
                continue;
            }
            let stored: Vec<(u64, i64, i64, u64)> = rows.iter().map(|row| (row.id, row.start, row.end, row.samples)).collect();
            self.partitions.store(rows)?;
            spilled += self.evict(pages, before, &stored);
        }
        self.metrics.spilled_chunks.inc_by(spilled);
        if spilled > 0 {
            self.partitions.list().iter().for_each(|partition| partition.settle());
        }
        Ok(spilled)
    }

    /// Takes chunks out of memory that are in partitions as they are now: a late sample may have changed one meanwhile.
    fn evict(&self, pages: &[Arc<std::sync::RwLock<Vec<Series>>>], before: i64, stored: &[(u64, i64, i64, u64)]) -> u64 {
        // Whoever walks through the memory has seen no partition of these.
        let _leaving = write(&self.head.leaving);
        let mut evicted = 0;
        let mut stored = stored.iter().copied().peekable();
        for page in pages {
            for series in write(page).iter_mut().filter(|series| series.id != 0) {
                // Rows were made in the order of places, so those of this series are next.
                let mut mine = Vec::new();
                while let Some(row) = stored.next_if(|row| row.0 == series.id) {
                    mine.push((row.1, row.2, row.3));
                }
                if mine.is_empty() {
                    continue;
                }
                let mut gone = Vec::new();
                for chunks in blocks(&series.closed, before) {
                    if mine.contains(&summary(chunks)) {
                        gone.extend(chunks.iter().map(|chunk| chunk.start));
                    }
                }
                let count = series.closed.len();
                series.closed.retain(|chunk| chunk.start >= before || !gone.contains(&chunk.start));
                series.closed.shrink_to_fit();
                series.forget_marks();
                evicted += (count - series.closed.len()) as u64;
            }
        }
        evicted
    }

    /// Series without chunks in memory leave it; their samples are in partitions.
    fn forget_idle(&self) -> u64 {
        let newest = self.head.newest();
        let idle = |series: &Series| series.is_empty() && series.last < newest.saturating_sub(self.settings.head_ms());
        // Selections end first, then appends stop for a moment.
        let _leaving = write(&self.head.leaving);
        let _writer = lock(&self.writer);
        let mut gone = Vec::new();
        for (number, page) in self.head.pages().iter().enumerate() {
            for (at, series) in write(page).iter_mut().enumerate() {
                if series.id == 0 || !idle(series) {
                    continue;
                }
                if series.last == i64::MIN {
                    series.last = SEEN_EMPTY;
                } else {
                    gone.push((number * PAGE + at) as u32);
                }
            }
        }
        if !gone.is_empty() {
            self.head.remove(&gone);
            self.metrics.removed_series.inc_by(gone.len() as u64);
        }
        gone.len() as u64
    }

    fn checkpoint(&self) -> Result<(), SamplesError> {
        let begun = Instant::now();
        let (segment, created) = {
            let mut writer = lock(&self.writer);
            let undo = writer.wal.pending_bytes();
            if undo > 0 {
                self.log(&mut writer, undo)?;
            }
            writer.wal.rotate()?;
            (writer.wal.number(), writer.created)
        };
        save(&self.dir, segment, created, &self.head, &read(&self.metadata))?;
        lock(&self.writer).wal.forget_before(segment)?;
        self.metrics.checkpoint_seconds.observe(begun.elapsed().as_secs_f64());
        Ok(())
    }
}

/// The chunks of each block that ends before a time.
fn blocks(closed: &[Chunk], before: i64) -> impl Iterator<Item = &[Chunk]> {
    let old = closed.partition_point(|chunk| chunk.start < before);
    closed[..old].chunk_by(|a, b| a.start.div_euclid(BLOCK_MS) == b.start.div_euclid(BLOCK_MS))
}

/// From when to when some chunks are, and how many samples they have.
fn summary(chunks: &[Chunk]) -> (i64, i64, u64) {
    let start = chunks.iter().map(|chunk| chunk.start).min().unwrap_or(0);
    let end = chunks.iter().map(Chunk::end).max().unwrap_or(0);
    (start, end, chunks.iter().map(|chunk| u64::from(chunk.count)).sum())
}

fn rows_of(series: &Series, before: i64, rows: &mut Vec<Row>, buffer: &mut Vec<u8>) {
    for chunks in blocks(&series.closed, before) {
        let (start, end, samples) = summary(chunks);
        let mut data = Vec::new();
        let mut chunks = chunks.iter();
        if let Err(error) = chunks.try_for_each(|chunk| chunk.bytes(buffer).map(|bytes| chunk.view_of(bytes).put(&mut data))) {
            // The log or the last checkpoint still has it; the next start brings it back.
            tracing::error!(%error, "a block stays in memory because it cannot be read back");
            continue;
        }
        rows.push(Row { id: series.id, labels: series.labels.clone(), start, end, samples, data });
    }
}
