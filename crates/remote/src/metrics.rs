//! What this crate tells about itself.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByReason {
    pub reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByStatus {
    pub status: u16,
}

const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// The receiver of remote_write.
#[derive(Debug, Clone)]
pub struct ReceiveMetrics {
    pub requests: Family<ByStatus, Counter>,
    pub body_bytes: Counter,
    pub samples: Counter,
    pub histograms: Counter,
    /// Exemplars are counted and not kept.
    pub ignored_exemplars: Counter,
    pub refused_samples: Family<ByReason, Counter>,
    pub request_seconds: Histogram,
    /// Series whose labels had to be read.
    pub label_reads: Counter,
    pub known_series: Gauge,
    pub tap_errors: Counter,
}

impl Default for ReceiveMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            body_bytes: Counter::default(),
            samples: Counter::default(),
            histograms: Counter::default(),
            ignored_exemplars: Counter::default(),
            refused_samples: Family::default(),
            request_seconds: Histogram::new(SECONDS),
            label_reads: Counter::default(),
            known_series: Gauge::default(),
            tap_errors: Counter::default(),
        }
    }
}

/// The way to another store.
#[derive(Debug, Clone)]
pub struct ForwardMetrics {
    pub queued_samples: Counter,
    pub sent_samples: Counter,
    pub sent_bytes: Counter,
    /// Lost for the other store, by reason: `refused` by it, `spool_full`, `spool_error`, `spool_damaged`, `no_labels`.
    pub dropped_samples: Family<ByReason, Counter>,
    /// Requests that were tried again, by reason: `unreachable`, `busy` (429 or 5xx).
    pub retries: Family<ByReason, Counter>,
    pub request_seconds: Histogram,
    pub pending_samples: Gauge,
    pub spool_bytes: Gauge,
    pub spool_files: Gauge,
    /// One while the store takes what it is sent.
    pub up: Gauge,
    /// Latest time that was queued and that was sent, in milliseconds: their difference is how far the store lags.
    pub queued_time_ms: Gauge,
    pub sent_time_ms: Gauge,
}

impl Default for ForwardMetrics {
    fn default() -> Self {
        Self {
            queued_samples: Counter::default(),
            sent_samples: Counter::default(),
            sent_bytes: Counter::default(),
            dropped_samples: Family::default(),
            retries: Family::default(),
            request_seconds: Histogram::new(SECONDS),
            pending_samples: Gauge::default(),
            spool_bytes: Gauge::default(),
            spool_files: Gauge::default(),
            up: Gauge::default(),
            queued_time_ms: Gauge::default(),
            sent_time_ms: Gauge::default(),
        }
    }
}

impl ForwardMetrics {
    pub(crate) fn drop_samples(&self, reason: &'static str, count: u64) {
        if count > 0 {
            self.dropped_samples.get_or_create(&ByReason { reason }).inc_by(count);
        }
    }
}

/// Remote read, and queries to another store.
#[derive(Debug, Clone)]
pub struct QueryMetrics {
    pub reads: Family<ByStatus, Counter>,
    pub read_samples: Counter,
    pub queries: Counter,
    pub failed_queries: Family<ByReason, Counter>,
    pub query_seconds: Histogram,
}

impl Default for QueryMetrics {
    fn default() -> Self {
        Self {
            reads: Family::default(),
            read_samples: Counter::default(),
            queries: Counter::default(),
            failed_queries: Family::default(),
            query_seconds: Histogram::new(SECONDS),
        }
    }
}

/// All of it; cheap to clone, clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub receive: ReceiveMetrics,
    pub forward: ForwardMetrics,
    pub query: QueryMetrics,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        let own = registry.sub_registry_with_prefix("paramedic_remote");
        self.receive.register(own);
        self.forward.register(own);
        self.query.register(own);
    }
}

impl ReceiveMetrics {
    fn register(&self, own: &mut Registry) {
        own.register("write_requests", "Requests of remote_write answered, by status", self.requests.clone());
        own.register("write_body_bytes", "Bytes of compressed bodies received", self.body_bytes.clone());
        own.register("write_samples", "Floats received and stored", self.samples.clone());
        own.register("write_histograms", "Native histograms received and stored", self.histograms.clone());
        own.register("write_ignored_exemplars", "Exemplars received; they are not kept", self.ignored_exemplars.clone());
        own.register("write_refused_samples", "Samples received and not stored, by reason", self.refused_samples.clone());
        own.register("write_request_seconds", "Time to take one request", self.request_seconds.clone());
        own.register("write_label_reads", "Series whose labels had to be read", self.label_reads.clone());
        own.register("write_known_series", "Series recognised by the bytes of their labels", self.known_series.clone());
        own.register("write_tap_errors", "Batches that could not be handed on", self.tap_errors.clone());
    }
}

impl ForwardMetrics {
    fn register(&self, own: &mut Registry) {
        own.register("forward_queued_samples", "Samples taken for the external store", self.queued_samples.clone());
        own.register("forward_sent_samples", "Samples that the external store has taken", self.sent_samples.clone());
        own.register("forward_sent_bytes", "Bytes of bodies that the external store has taken", self.sent_bytes.clone());
        own.register("forward_dropped_samples", "Samples lost for the external store, by reason", self.dropped_samples.clone());
        own.register("forward_retries", "Requests tried again, by reason", self.retries.clone());
        own.register("forward_request_seconds", "Time of one request to the external store", self.request_seconds.clone());
        own.register("forward_pending_samples", "Samples that wait for the external store", self.pending_samples.clone());
        own.register("forward_spool_bytes", "Bytes of samples that wait on the disk", self.spool_bytes.clone());
        own.register("forward_spool_files", "Files of samples that wait on the disk", self.spool_files.clone());
        own.register("forward_up", "Whether the external store takes what it is sent", self.up.clone());
        own.register("forward_queued_time_ms", "Latest time of a sample that was queued", self.queued_time_ms.clone());
        own.register("forward_sent_time_ms", "Latest time of a sample that was sent", self.sent_time_ms.clone());
    }
}

impl QueryMetrics {
    fn register(&self, own: &mut Registry) {
        own.register("reads", "Requests of remote read answered, by status", self.reads.clone());
        own.register("read_samples", "Samples given to remote read", self.read_samples.clone());
        own.register("queries", "Queries to the external store", self.queries.clone());
        own.register("failed_queries", "Queries that the external store did not answer, by reason", self.failed_queries.clone());
        own.register("query_seconds", "Time of a query to the external store", self.query_seconds.clone());
    }
}
