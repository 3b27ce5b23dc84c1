//! Forwarding samples to another store by remote_write.
//!
//! Samples that are taken go to a spool on the disk at once ([`Queue`]); one loop ([`Sender`]) reads them from there in
//! order, sends them in batches, and moves on when the store has them. So a store that is away, a restart and a crash are
//! all the same: what is not sent yet is in the spool. It is bounded; what has to go, or what the store does not want, is
//! counted by reason.

mod body;
mod sender;
mod spool;
mod verdict;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use paramedic_promql::Labels;
use paramedic_samples::{AppendReport, Key, Metadata, Sample, SampleSink, SamplesError, SeriesRef};
use tokio::sync::Notify;

use crate::config::ForwardSettings;
use crate::error::RemoteError;
use crate::metrics::ForwardMetrics;

use body::Draft;
pub use sender::Sender;
use spool::Spool;

/// Finds the labels of a series that is only known by its reference.
pub type LabelsOf = Arc<dyn Fn(SeriesRef) -> Option<Labels> + Send + Sync>;

/// Metrics whose metadata is remembered.
const METADATA_MAX: usize = 50_000;
/// Bytes of one record before it is compressed; beyond it, another one is begun.
const RECORD_BYTES: usize = 4 * 1024 * 1024;

pub(crate) struct Shared {
    settings: ForwardSettings,
    metrics: ForwardMetrics,
    spool: Spool,
    labels_of: Option<LabelsOf>,
    metadata: Mutex<HashMap<String, Metadata>>,
    /// Rings when something was queued.
    queued: Notify,
}

/// Where samples wait for another store. Cloning is cheap and gives the same queue.
#[derive(Clone)]
pub struct Queue {
    shared: Arc<Shared>,
}

impl Queue {
    /// Opens the queue with its spool in a folder, and the loop that empties it.
    ///
    /// `labels_of` finds the labels of samples that come with a [`SeriesRef`] only; without it such samples are counted
    /// as dropped (`no_labels`).
    pub fn open(
        settings: ForwardSettings,
        dir: &Path,
        labels_of: Option<LabelsOf>,
        metrics: ForwardMetrics,
    ) -> Result<(Self, Sender), RemoteError> {
        let spool = Spool::open(dir, settings.spool_bytes_max, settings.spool_file_bytes_max)?;
        let metadata = Mutex::new(HashMap::new());
        let shared = Arc::new(Shared { settings, metrics, spool, labels_of, metadata, queued: Notify::new() });
        shared.measure();
        let sender = Sender::new(Arc::clone(&shared))?;
        Ok((Self { shared }, sender))
    }

    /// Samples that wait.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.shared.spool.level().samples
    }

    #[must_use]
    pub fn metrics(&self) -> &ForwardMetrics {
        &self.shared.metrics
    }

    /// Forces what waits to the disk.
    pub fn sync(&self) -> Result<(), RemoteError> {
        self.shared.spool.sync()
    }
}

impl Shared {
    fn measure(&self) {
        let level = self.spool.level();
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.pending_samples.set(gauge(level.samples));
        self.metrics.spool_bytes.set(gauge(level.bytes));
        self.metrics.spool_files.set(gauge(level.files));
    }

    /// Writes a record to the spool, and begins the next one.
    fn flush(&self, draft: &mut Draft) {
        if draft.is_empty() {
            return;
        }
        let written = draft.compressed().map_err(RemoteError::from).and_then(|payload| {
            let dropped = self.spool.append(&payload, draft.samples, draft.newest_ms)?;
            self.metrics.drop_samples("spool_full", dropped);
            Ok(())
        });
        match written {
            Ok(()) => {
                self.metrics.queued_samples.inc_by(draft.samples);
                if draft.samples > 0 {
                    self.metrics.queued_time_ms.set(draft.newest_ms);
                }
            }
            Err(err) => {
                self.metrics.drop_samples("spool_error", draft.samples);
                tracing::error!(error = %err, samples = draft.samples, "samples cannot be queued for the external store");
            }
        }
        draft.clear();
    }
}

/// Whether two samples name their series by the very same words in memory.
fn same_series(a: &Key<'_>, b: &Key<'_>) -> bool {
    match (a, b) {
        (Key::Ref(a), Key::Ref(b)) => a == b,
        (Key::Labels(a), Key::Labels(b)) => a.same(b),
        (Key::Pairs(a), Key::Pairs(b)) => std::ptr::eq(*a, *b),
        _ => false,
    }
}

/// Adds samples of one series to a record; false when its labels are not known.
fn write_series(draft: &mut Draft, key: Key<'_>, labels_of: Option<&LabelsOf>, samples: &[Sample<'_>]) -> bool {
    let values = samples.iter().map(|sample| (sample.time, sample.value.clone()));
    match key {
        Key::Labels(labels) => draft.series(pairs(labels), values),
        Key::Pairs(pairs) if pairs.is_sorted_by(|a, b| a.0 < b.0) => draft.series(pairs.iter().copied(), values),
        Key::Pairs(unsorted) => draft.series(pairs(&Labels::from_pairs(unsorted)), values),
        Key::Ref(series) => match labels_of.and_then(|labels_of| labels_of(series)) {
            Some(labels) => draft.series(pairs(&labels), values),
            None => return false,
        },
    }
    true
}

fn pairs(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    labels.iter().map(|label| (&*label.name, &*label.value))
}

impl SampleSink for Queue {
    /// Queues a batch. It never fails: what cannot be queued is counted, because the samples are in the local store already.
    fn append(&self, batch: &[Sample<'_>]) -> Result<AppendReport, SamplesError> {
        let shared = &*self.shared;
        let mut draft = Draft::default();
        let mut report = AppendReport::default();
        let per_record = shared.settings.samples_per_request_max.max(1);
        for series in batch.chunk_by(|a, b| same_series(&a.series, &b.series)) {
            for part in series.chunks(per_record) {
                let room = draft.samples as usize + part.len() <= per_record && draft.bytes() < RECORD_BYTES;
                if !room {
                    shared.flush(&mut draft);
                }
                let count = part.len() as u64;
                if write_series(&mut draft, part[0].series, shared.labels_of.as_ref(), part) {
                    report.appended += count;
                } else {
                    report.unknown_series += count;
                    shared.metrics.drop_samples("no_labels", count);
                }
            }
        }
        shared.flush(&mut draft);
        shared.measure();
        shared.queued.notify_one();
        Ok(report)
    }

    fn set_metadata(&self, metric: &str, metadata: Metadata) -> Result<(), SamplesError> {
        let shared = &*self.shared;
        if !shared.settings.metadata {
            return Ok(());
        }
        let mut draft = Draft::default();
        {
            let mut known = shared.metadata.lock().unwrap_or_else(PoisonError::into_inner);
            if known.get(metric) == Some(&metadata) || known.len() >= METADATA_MAX {
                return Ok(());
            }
            draft.metadata(metric, &metadata);
            known.insert(metric.to_owned(), metadata);
        }
        shared.flush(&mut draft);
        shared.queued.notify_one();
        Ok(())
    }
}

/// A sink that stores here and forwards what was stored.
pub struct Forwarder {
    inner: Arc<dyn SampleSink>,
    queue: Queue,
}

impl Forwarder {
    pub fn new(inner: Arc<dyn SampleSink>, queue: Queue) -> Self {
        Self { inner, queue }
    }

    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }
}

impl SampleSink for Forwarder {
    fn append(&self, batch: &[Sample<'_>]) -> Result<AppendReport, SamplesError> {
        // A batch that the store here could not take comes again: it is not forwarded twice.
        let report = self.inner.append(batch)?;
        self.queue.append(batch)?;
        Ok(report)
    }

    fn set_metadata(&self, metric: &str, metadata: Metadata) -> Result<(), SamplesError> {
        self.inner.set_metadata(metric, metadata.clone())?;
        self.queue.set_metadata(metric, metadata)
    }
}
