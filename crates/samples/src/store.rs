//! The store: opening it, what it knows about itself, and closing it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use paramedic_model::Clock;
use paramedic_promql::histogram::Histogram;

use crate::checkpoint::{Recovery, recover};
use crate::config::Settings;
use crate::error::SamplesError;
use crate::head::{Head, read, write};
use crate::limits::{Offender, Offenders};
use crate::metrics::Metrics;
use crate::partitions::Partitions;
use crate::record;
use crate::swap::Swaps;
use crate::upkeep;
use crate::wal::Wal;

/// What is known about a metric, as its exporter says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// `counter`, `gauge`, `histogram`, `summary`, ...
    pub kind: String,
    pub help: String,
    pub unit: String,
}

/// Metadata by metric; bounded.
#[derive(Debug, Default)]
pub(crate) struct MetadataTable {
    all: BTreeMap<String, Metadata>,
    max: usize,
}

/// Bytes of each text of metadata that are kept.
const METADATA_BYTES_MAX: usize = 4_096;

impl MetadataTable {
    pub(crate) fn set(&mut self, metric: &str, metadata: Metadata) {
        if self.all.len() < self.max || self.all.contains_key(metric) {
            self.all.insert(metric.to_owned(), metadata);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Metadata)> {
        self.all.iter()
    }
}

/// The log and what appends need beside it; one appender at a time.
pub(crate) struct Writer {
    pub(crate) wal: Wal,
    /// Series that ever were.
    pub(crate) created: u64,
    pub(crate) floats: Vec<(u32, i64, f64)>,
    pub(crate) histograms: Vec<(u32, i64, Arc<Histogram>)>,
    pub(crate) buffer: Vec<u8>,
}

pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) dir: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) head: Head,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) partitions: Partitions,
    pub(crate) swaps: Swaps,
    pub(crate) offenders: Offenders,
    pub(crate) metadata: RwLock<MetadataTable>,
    pub(crate) metrics: Metrics,
    recovery: Recovery,
    /// One round of upkeep at a time.
    pub(crate) upkeep: Mutex<()>,
    /// Whether the log has something that was not forced to the disk.
    pub(crate) unsynced: AtomicBool,
    pub(crate) syncing: Mutex<()>,
    /// Locked for as long as the store is open.
    _lock: File,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The store. Cloning is cheap and gives the same store; the last clone that goes closes it.
#[derive(Clone)]
pub struct Samples {
    /// Goes first, and waits for its threads, so that the store is closed when the last clone is gone.
    _background: Arc<upkeep::Background>,
    pub(crate) inner: Arc<Inner>,
}

/// Numbers about the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    pub series: u64,
    /// Names and values of labels in memory.
    pub label_words: u64,
    pub head_chunks: u64,
    /// Bytes of samples in memory, without labels and index.
    pub head_sample_bytes: u64,
    pub wal_bytes: u64,
    pub partitions: u64,
    pub partition_bytes: u64,
    pub partition_samples: u64,
    /// The latest sample, in milliseconds.
    pub newest_ms: Option<i64>,
}

/// How often the folder's lock is tried, ten milliseconds apart.
const LOCK_ATTEMPTS: u32 = 50;

fn lock_dir(dir: &Path) -> Result<File, SamplesError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(|err| SamplesError::io(&path, err))?;
    // A child process that is just being started holds a copy of the lock until it runs its own program.
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(std::time::Duration::from_millis(10)),
            Err(std::fs::TryLockError::Error(err)) => return Err(SamplesError::io(&path, err)),
        }
    }
    Err(SamplesError::Busy { dir: dir.to_owned() })
}

impl Samples {
    /// Opens or creates the store in a folder; only one process may have it open. Reads back what the log tells.
    pub fn open(dir: &Path, settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, SamplesError> {
        std::fs::create_dir_all(dir).map_err(|err| SamplesError::io(dir, err))?;
        let dir_lock = lock_dir(dir)?;
        let metrics = Metrics::default();
        let partitions = Partitions::open(dir, settings.partition_ms(), &metrics)?;
        let head = Head::new();
        let mut metadata = MetadataTable { max: settings.metadata_max, ..MetadataTable::default() };
        let recovery = recover(dir, &head, &mut metadata, settings.window_ms(), &metrics)?;
        let mut created = recovery.created;
        for partition in partitions.list() {
            // Also when the log was lost, no number of a series may come twice.
            created = created.max(crate::head::SeriesRef(partition.last_series()?).created() + 1);
        }
        let wal = Wal::create(dir, recovery.next_segment, recovery.wal_bytes)?;
        let writer = Writer { wal, created: created.max(1), floats: Vec::new(), histograms: Vec::new(), buffer: Vec::new() };
        let inner = Arc::new(Inner {
            dir: dir.to_owned(),
            clock,
            head,
            writer: Mutex::new(writer),
            partitions,
            swaps: Swaps::default(),
            offenders: Offenders::default(),
            metadata: RwLock::new(metadata),
            metrics,
            recovery,
            upkeep: Mutex::new(()),
            unsynced: AtomicBool::new(false),
            syncing: Mutex::new(()),
            _lock: dir_lock,
            settings,
        });
        let store = Self { _background: upkeep::start(&inner), inner };
        store.inner.measure();
        Ok(store)
    }

    /// What the log gave back when the store was opened.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.inner.recovery
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The metrics that met a limit, the most frequent first.
    #[must_use]
    pub fn offenders(&self) -> Vec<Offender> {
        self.inner.offenders.list()
    }

    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.measure()
    }

    /// Remembers what an exporter says about a metric.
    pub fn set_metadata(&self, metric: &str, metadata: Metadata) -> Result<(), SamplesError> {
        let cut = |text: String| text[..text.floor_char_boundary(METADATA_BYTES_MAX.min(text.len()))].to_owned();
        let metadata = Metadata { kind: cut(metadata.kind), help: cut(metadata.help), unit: cut(metadata.unit) };
        let inner = &*self.inner;
        if metric.len() > inner.settings.label_value_bytes_max || read(&inner.metadata).all.get(metric) == Some(&metadata) {
            return Ok(());
        }
        let mut writer = lock(&inner.writer);
        let undo = writer.wal.pending_bytes();
        writer.wal.queue(|out| record::put_metadata(out, metric, &metadata));
        inner.log(&mut writer, undo)?;
        write(&inner.metadata).set(metric, metadata);
        Ok(())
    }

    /// Metadata of one metric or of all, in order of names.
    #[must_use]
    pub fn metadata(&self, metric: Option<&str>, limit: usize) -> Vec<(String, Metadata)> {
        let table = read(&self.inner.metadata);
        match metric {
            Some(metric) => table.all.get(metric).map(|found| (metric.to_owned(), found.clone())).into_iter().collect(),
            None => table.iter().take(limit).map(|(metric, found)| (metric.clone(), found.clone())).collect(),
        }
    }
}

impl Inner {
    /// Counts everything, and sets the gauges.
    pub(crate) fn measure(&self) -> Stats {
        let mut stats = Stats::default();
        for page in self.head.pages() {
            for series in read(&page).iter().filter(|series| series.id != 0) {
                stats.series += 1;
                stats.head_chunks += series.chunks() as u64;
                stats.head_sample_bytes += series.sample_bytes() as u64;
            }
        }
        stats.label_words = read(&self.head.catalogue).index.words() as u64;
        stats.wal_bytes = lock(&self.writer).wal.total();
        for partition in self.partitions.list() {
            stats.partitions += 1;
            stats.partition_bytes += partition.bytes();
            stats.partition_samples += partition.samples();
        }
        stats.newest_ms = Some(self.head.newest()).filter(|newest| *newest != i64::MIN);
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let labels = stats.series * size_of::<crate::series::Series>() as u64;
        self.metrics.series.set(gauge(stats.series));
        self.metrics.chunks.set(gauge(stats.head_chunks));
        self.metrics.head_bytes.set(gauge(stats.head_sample_bytes + labels));
        self.metrics.wal_bytes.set(gauge(stats.wal_bytes));
        self.metrics.partitions.set(gauge(stats.partitions));
        self.metrics.partition_bytes.set(gauge(stats.partition_bytes));
        stats
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Err(err) = writer.wal.write(0).and_then(|()| {
            let (file, path) = writer.wal.file();
            file.sync_all().map_err(|err| SamplesError::io(&path, err))
        }) {
            tracing::error!(error = %err, "the last samples may not be on the disk");
        }
    }
}
