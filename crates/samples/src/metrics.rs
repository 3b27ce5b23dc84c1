//! What the store tells about itself.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::error::Limit;

/// Why a sample was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    Duplicate,
    Conflict,
    TooOld,
    InFuture,
    UnknownSeries,
    Limit(Limit),
}

impl EncodeLabelValue for Refusal {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        let text = match self {
            Self::Duplicate => "duplicate",
            Self::Conflict => "conflict",
            Self::TooOld => "too_old",
            Self::InFuture => "in_future",
            Self::UnknownSeries => "unknown_series",
            Self::Limit(limit) => limit.name(),
        };
        EncodeLabelValue::encode(&text, encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByReason {
    pub reason: Refusal,
}

/// Cheap to clone: all clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub appended_samples: Counter,
    /// Accepted although earlier than the latest sample of their series.
    pub late_samples: Counter,
    pub refused_samples: Family<ByReason, Counter>,
    pub created_series: Counter,
    pub removed_series: Counter,
    pub series: Gauge,
    pub chunks: Gauge,
    pub head_bytes: Gauge,
    pub wal_bytes: Gauge,
    pub wal_errors: Counter,
    pub fsync_seconds: Histogram,
    /// Samples that the log gave back at start.
    pub recovered_samples: Counter,
    /// Stretches of the log or of a checkpoint that could not be read.
    pub damaged_stretches: Counter,
    pub torn_tails: Counter,
    pub spilled_chunks: Counter,
    pub swapped_chunks: Counter,
    pub checkpoint_seconds: Histogram,
    pub partitions: Gauge,
    pub partition_bytes: Gauge,
    pub dropped_samples: Counter,
    pub dropped_partitions: Counter,
    pub damaged_partitions: Counter,
    pub damaged_chunks: Counter,
    pub selects: Counter,
    pub select_seconds: Histogram,
}

const SECONDS: [f64; 12] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

impl Default for Metrics {
    fn default() -> Self {
        Self {
            appended_samples: Counter::default(),
            late_samples: Counter::default(),
            refused_samples: Family::default(),
            created_series: Counter::default(),
            removed_series: Counter::default(),
            series: Gauge::default(),
            chunks: Gauge::default(),
            head_bytes: Gauge::default(),
            wal_bytes: Gauge::default(),
            wal_errors: Counter::default(),
            fsync_seconds: Histogram::new(SECONDS),
            recovered_samples: Counter::default(),
            damaged_stretches: Counter::default(),
            torn_tails: Counter::default(),
            spilled_chunks: Counter::default(),
            swapped_chunks: Counter::default(),
            checkpoint_seconds: Histogram::new(SECONDS),
            partitions: Gauge::default(),
            partition_bytes: Gauge::default(),
            dropped_samples: Counter::default(),
            dropped_partitions: Counter::default(),
            damaged_partitions: Counter::default(),
            damaged_chunks: Counter::default(),
            selects: Counter::default(),
            select_seconds: Histogram::new(SECONDS),
        }
    }
}

impl Metrics {
    pub(crate) fn refuse(&self, reason: Refusal, count: u64) {
        if count > 0 {
            self.refused_samples.get_or_create(&ByReason { reason }).inc_by(count);
        }
    }

    pub fn register(&self, registry: &mut Registry) {
        let own = registry.sub_registry_with_prefix("paramedic_samples");
        own.register("appended_samples", "Samples accepted", self.appended_samples.clone());
        own.register("late_samples", "Samples accepted out of order", self.late_samples.clone());
        own.register("refused_samples", "Samples refused, by reason", self.refused_samples.clone());
        own.register("created_series", "Series that began", self.created_series.clone());
        own.register("removed_series", "Series that left the memory", self.removed_series.clone());
        own.register("series", "Series in memory", self.series.clone());
        own.register("chunks", "Chunks in memory", self.chunks.clone());
        own.register("head_bytes", "Bytes of samples and labels in memory, about", self.head_bytes.clone());
        own.register("wal_bytes", "Bytes of the write-ahead log", self.wal_bytes.clone());
        own.register("wal_errors", "Appends that the write-ahead log refused", self.wal_errors.clone());
        own.register("fsync_seconds", "Time to force the log to the disk", self.fsync_seconds.clone());
        own.register("recovered_samples", "Samples given back by the log at start", self.recovered_samples.clone());
        own.register("damaged_stretches", "Stretches of the log that could not be read", self.damaged_stretches.clone());
        own.register("torn_tails", "Unfinished ends of the log that were cut", self.torn_tails.clone());
        own.register("swapped_chunks", "Chunks moved to the disk while their block stays in the head", self.swapped_chunks.clone());
        own.register("spilled_chunks", "Chunks moved from memory to partitions", self.spilled_chunks.clone());
        own.register("checkpoint_seconds", "Time to save the memory as a whole", self.checkpoint_seconds.clone());
        own.register("partitions", "Partition files", self.partitions.clone());
        own.register("partition_bytes", "Bytes of all partition files", self.partition_bytes.clone());
        own.register("dropped_samples", "Samples dropped by retention or size", self.dropped_samples.clone());
        own.register("dropped_partitions", "Partitions dropped by retention or size", self.dropped_partitions.clone());
        own.register("damaged_partitions", "Partitions set aside because they were damaged", self.damaged_partitions.clone());
        own.register("damaged_chunks", "Chunks in partitions that could not be read back", self.damaged_chunks.clone());
        own.register("selects", "Selections answered", self.selects.clone());
        own.register("select_seconds", "Time a selection took", self.select_seconds.clone());
    }
}
