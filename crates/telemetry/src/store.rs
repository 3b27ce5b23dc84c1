//! The store's face: what every other crate calls.

use std::fs::File;
use std::ops::RangeInclusive;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use paramedic_model::{Clock, Event, SystemClock, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::config::Settings;
use crate::error::{InFile, StoreError};
use crate::index::{self, Wake};
use crate::metrics::Metrics;
use crate::partition::{self, Partition};
use crate::reader::Readers;
use crate::search::{Search, SearchPage};
use crate::writer::{self, Append, Command};
use crate::{schema, search};

/// How far a file that is being tailed was read, committed together with the events that were read from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offset {
    pub file: String,
    /// Bytes read.
    pub position: u64,
    /// Hash of device, inode and first bytes: tells a new file under an old name.
    pub identity: u64,
    /// Lines read.
    pub lines: u64,
}

/// An event with its place in the order of arrival.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredEvent {
    pub seq: u64,
    pub event: Event,
}

/// What the store holds and has done since it was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Stats {
    pub events: u64,
    pub bytes: u64,
    pub partitions: usize,
    pub last_seq: u64,
    pub first_event_at: Option<Timestamp>,
    pub last_event_at: Option<Timestamp>,
    /// Rows that are not in the index yet; searches read them one by one.
    pub index_lag: u64,
    pub appended_events: u64,
    pub appended_batches: u64,
    pub append_errors: u64,
    pub dropped_events: u64,
    pub dropped_partitions: u64,
    /// Files that were set aside because they were damaged.
    pub damaged: Vec<PathBuf>,
}

/// What retention took away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Dropped {
    pub partitions: u64,
    pub events: u64,
    pub bytes: u64,
}

/// What the threads of one store share.
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) writable: bool,
    /// In order of `first_seq`. The last one is being written.
    pub(crate) partitions: RwLock<Vec<Arc<Partition>>>,
    pub(crate) readers: Readers,
    pub(crate) last_seq: AtomicU64,
    pub(crate) damaged: Mutex<Vec<PathBuf>>,
    pub(crate) wake: Wake,
    pub(crate) closing: AtomicBool,
}

impl Shared {
    pub(crate) fn partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remove(&self, partition: &Partition) -> bool {
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        let before = partitions.len();
        partitions.retain(|one| one.file != partition.file);
        self.readers.forget(&partition.file);
        partitions.len() < before
    }

    pub(crate) fn push(&self, partition: Arc<Partition>) {
        self.partitions.write().unwrap_or_else(PoisonError::into_inner).push(partition);
    }

    pub(crate) fn lag(&self) -> u64 {
        self.partitions().iter().map(|one| one.lag()).sum()
    }

    /// Takes a damaged partition out of use and names it. Whoever finds the damage calls this; only the first wins.
    pub(crate) fn set_aside(&self, partition: &Partition, error: &StoreError) {
        if !self.remove(partition) {
            return;
        }
        let name = if self.writable { partition.set_aside() } else { Ok(partition.file.clone()) };
        self.note_damage(name.unwrap_or_else(|_| partition.file.clone()), error);
    }

    /// An empty partition that a new one replaces leaves nothing behind.
    pub(crate) fn forget_empty(&self, partition: &Partition) {
        if self.remove(partition) {
            let _ = partition.delete();
        }
    }

    fn note_damage(&self, file: PathBuf, error: &StoreError) {
        tracing::error!(file = %file.display(), %error, "event partition is damaged and was set aside");
        self.metrics.damaged_partitions.inc();
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).push(file);
    }

    /// Drops whole partitions that are too old, then the oldest ones until the size fits. Never the active one.
    pub(crate) fn enforce_retention(&self, now: Timestamp) -> Result<Dropped, StoreError> {
        let mut dropped = Dropped::default();
        let mut kept = self.partitions();
        let Some(active) = kept.pop() else { return Ok(dropped) };
        let oldest_day = now.before(Duration::from_secs(self.settings.retention_days.saturating_mul(86_400))).date();
        let mut bytes: u64 = kept.iter().map(|one| one.bytes()).sum::<u64>() + active.bytes();
        for partition in kept {
            if partition.day >= oldest_day && bytes <= self.settings.bytes_max {
                continue;
            }
            let partition_bytes = partition.bytes();
            if self.remove(&partition) {
                partition.delete()?;
                dropped.partitions += 1;
                dropped.events += partition.summary().events;
                dropped.bytes += partition_bytes;
            }
            bytes = bytes.saturating_sub(partition_bytes);
        }
        self.metrics.dropped_partitions.inc_by(dropped.partitions);
        self.metrics.dropped_events.inc_by(dropped.events);
        if dropped.partitions > 0 {
            tracing::info!(partitions = dropped.partitions, events = dropped.events, bytes = dropped.bytes, "retention dropped events");
        }
        Ok(dropped)
    }
}

/// Owns the threads; the last clone of the store ends them.
struct Inner {
    shared: Arc<Shared>,
    queue: Option<mpsc::Sender<Command>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Locked as long as this process writes here.
    _lock: Option<File>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue = None;
        self.shared.closing.store(true, Ordering::Release);
        self.shared.wake.notify();
        for thread in self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the event store panicked");
            }
        }
    }
}

/// The events store. Cheap to clone; the files are closed when the last clone is gone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.0.shared.dir).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the folder for writing, making it when it is missing. Damaged partitions are set aside and counted;
    /// one of a newer format is refused.
    pub fn open(dir: &Path, settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        // What agents did is nobody else's business.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).in_file(dir)?;
        let lock = lock(dir)?;
        let listing = partition::list(dir)?;
        for file in &listing.unfinished {
            let _ = std::fs::remove_file(file);
        }
        let shared = Arc::new(shared(dir, settings, clock, true));
        let next_seq = open_partitions(&shared, listing)?;
        for partition in shared.partitions() {
            index::resume(&partition);
        }
        let (queue, commands) = mpsc::channel(shared.settings.queue_batches_max.max(1));
        let writer = writer::start(shared.clone(), next_seq, commands)?;
        let indexer = index::start(shared.clone())?;
        let threads = Mutex::new(vec![writer, indexer]);
        Ok(Self(Arc::new(Inner { shared, queue: Some(queue), threads, _lock: Some(lock) })))
    }

    /// Opens the folder for reading, also while another process writes there.
    pub fn open_read_only(dir: &Path) -> Result<Self, StoreError> {
        let nothing = || StoreError::NothingRecorded { dir: dir.to_owned() };
        if !dir.is_dir() {
            return Err(nothing());
        }
        let shared = Arc::new(shared(dir, Settings::default(), Arc::new(SystemClock), false));
        refresh(&shared)?;
        if shared.partitions().is_empty() && shared.damaged.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return Err(nothing());
        }
        Ok(Self(Arc::new(Inner { shared, queue: None, threads: Mutex::default(), _lock: None })))
    }

    /// Makes the events and offsets durable in one transaction and returns the seqs they got (`None` without events).
    /// Many callers at once share a transaction. Waits while the queue is full. Takes a `Vec` or, when the caller
    /// goes on using the events, an `Arc` of one.
    pub async fn append(
        &self,
        events: impl Into<Arc<Vec<Event>>>,
        offsets: Vec<Offset>,
    ) -> Result<Option<RangeInclusive<u64>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let events = events.into();
        let command = Command::Append(Append { events: events.clone(), offsets, reply });
        self.queue()?.send(command).await.map_err(|_| StoreError::Closed)?;
        let answer = answer.await.map_err(|_| StoreError::Closed)?;
        drop(events);
        answer
    }

    /// The same for a thread outside the async runtime. Must not be called from async code.
    pub fn append_blocking(
        &self,
        events: impl Into<Arc<Vec<Event>>>,
        offsets: Vec<Offset>,
    ) -> Result<Option<RangeInclusive<u64>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let events = events.into();
        let command = Command::Append(Append { events: events.clone(), offsets, reply });
        self.queue()?.blocking_send(command).map_err(|_| StoreError::Closed)?;
        let answer = answer.blocking_recv().map_err(|_| StoreError::Closed)?;
        drop(events);
        answer
    }

    fn queue(&self) -> Result<&mpsc::Sender<Command>, StoreError> {
        self.0.queue.as_ref().ok_or(StoreError::OpenedReadOnly)
    }

    /// Finds events, newest first unless asked otherwise. Blocks; takes no longer than the settings allow.
    pub fn search(&self, search: &Search) -> Result<SearchPage, StoreError> {
        let shared = self.fresh()?;
        let began = shared.clock.now();
        let page = search::run(shared, search);
        shared.metrics.searches.inc();
        shared.metrics.search_seconds.observe(shared.clock.now().since(began).as_secs_f64());
        page
    }

    /// Hands every event after `after_seq` to `f`, in order, and returns the last seq that was handed over (or
    /// `after_seq`). Memory is bounded; no read transaction stays open for long.
    pub fn replay(&self, after_seq: u64, f: &mut dyn FnMut(StoredEvent)) -> Result<u64, StoreError> {
        search::replay(self.fresh()?, after_seq, f)
    }

    /// The read offsets as of the last commit.
    pub fn offsets(&self) -> Result<Vec<Offset>, StoreError> {
        let shared = self.fresh()?;
        let Some(active) = shared.partitions().pop() else { return Ok(Vec::new()) };
        let conn = schema::open_reader(&active.file).in_file(&active.file)?;
        partition::read_offsets(&conn).in_file(&active.file)
    }

    /// The seq of the newest event; 0 when there never was one.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        let _ = self.fresh();
        self.0.shared.last_seq.load(Ordering::Acquire)
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.shared.metrics
    }

    /// Counts what is there; also sets the gauges.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let _ = self.fresh();
        let shared = &self.0.shared;
        let mut stats = Stats { last_seq: shared.last_seq.load(Ordering::Acquire), ..Stats::default() };
        let (mut at_min, mut at_max) = (i64::MAX, i64::MIN);
        for partition in shared.partitions() {
            let summary = partition.summary();
            stats.events += summary.events;
            stats.bytes += partition.bytes();
            stats.partitions += 1;
            stats.index_lag += partition.lag();
            at_min = at_min.min(summary.at_min);
            at_max = at_max.max(summary.at_max);
        }
        stats.first_event_at = (stats.events > 0).then(|| Timestamp::from_micros(at_min));
        stats.last_event_at = (stats.events > 0).then(|| Timestamp::from_micros(at_max));
        let metrics = &shared.metrics;
        stats.appended_events = metrics.appended_events.get();
        stats.appended_batches = metrics.appended_batches.get();
        stats.append_errors = metrics.append_errors.get();
        stats.dropped_events = metrics.dropped_events.get();
        stats.dropped_partitions = metrics.dropped_partitions.get();
        stats.damaged.clone_from(&shared.damaged.lock().unwrap_or_else(PoisonError::into_inner));
        metrics.events.set(stats.events.cast_signed());
        metrics.bytes.set(stats.bytes.cast_signed());
        metrics.partitions.set(i64::try_from(stats.partitions).unwrap_or(i64::MAX));
        metrics.index_lag_rows.set(stats.index_lag.cast_signed());
        stats
    }

    /// Drops what is too old or too much, in whole files. An active partition that is itself too old is closed
    /// first, which happens on the writer's thread; it goes with the next call.
    pub fn enforce_retention(&self, now: Timestamp) -> Result<Dropped, StoreError> {
        let queue = self.queue()?;
        let shared = &self.0.shared;
        let oldest_day = now.before(Duration::from_secs(shared.settings.retention_days.saturating_mul(86_400))).date();
        if shared.partitions().last().is_some_and(|active| active.day < oldest_day && active.summary().events > 0) {
            // A full queue means that appends are coming, and they close the partition as well.
            let _ = queue.try_send(Command::Roll);
        }
        shared.enforce_retention(now)
    }

    /// A reader sees what another process has written since.
    fn fresh(&self) -> Result<&Shared, StoreError> {
        if !self.0.shared.writable {
            refresh(&self.0.shared)?;
        }
        Ok(&self.0.shared)
    }
}

fn shared(dir: &Path, settings: Settings, clock: Arc<dyn Clock>, writable: bool) -> Shared {
    Shared {
        dir: dir.to_owned(),
        settings,
        clock,
        metrics: Metrics::default(),
        writable,
        partitions: RwLock::default(),
        readers: Readers::default(),
        last_seq: AtomicU64::new(0),
        damaged: Mutex::default(),
        wake: Wake::default(),
        closing: AtomicBool::new(false),
    }
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let file = dir.join("lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&file).in_file(&file)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::Busy { dir: dir.to_owned() }),
        Err(std::fs::TryLockError::Error(error)) => Err(StoreError::io(&file, error)),
    }
}

/// Opens what can be opened and returns the next free seq.
fn open_partitions(shared: &Shared, listing: partition::Listing) -> Result<u64, StoreError> {
    let mut next_seq = listing.seq_floor.max(1);
    for (first_seq, day, file) in listing.partitions {
        match Partition::open(first_seq, day, file.clone()) {
            Ok(partition) => {
                next_seq = next_seq.max(partition.summary().last_seq + 1);
                shared.push(Arc::new(partition));
            }
            Err(error) if error.is_damage() => {
                let aside = partition::set_aside(&file)?;
                next_seq = next_seq.max(first_seq.saturating_add(partition::LOST_SEQS_MAX));
                shared.note_damage(aside, &error);
            }
            Err(error) => return Err(error),
        }
    }
    shared.last_seq.store(next_seq - 1, Ordering::Release);
    Ok(next_seq)
}

/// Reads the folder and the summaries anew.
fn refresh(shared: &Shared) -> Result<(), StoreError> {
    let mut partitions = Vec::new();
    for (first_seq, day, file) in partition::list(&shared.dir)?.partitions {
        match Partition::open(first_seq, day, file.clone()) {
            Ok(partition) => partitions.push(Arc::new(partition)),
            Err(error) if error.is_damage() => {
                let known = shared.damaged.lock().unwrap_or_else(PoisonError::into_inner).contains(&file);
                if !known {
                    shared.note_damage(file, &error);
                }
            }
            // Dropped by the writer since the folder was read.
            Err(_) if !file.exists() => {}
            Err(error) => return Err(error),
        }
    }
    for partition in &partitions {
        index::look(partition);
    }
    shared.last_seq.store(partitions.iter().map(|one| one.summary().last_seq).max().unwrap_or(0), Ordering::Release);
    *shared.partitions.write().unwrap_or_else(PoisonError::into_inner) = partitions;
    Ok(())
}
