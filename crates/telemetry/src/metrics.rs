//! What the store tells about itself.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Cheap to clone: all clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub appended_events: Counter,
    pub appended_batches: Counter,
    pub append_errors: Counter,
    /// From the moment the writer takes a group of batches until it is durable.
    pub append_seconds: Histogram,
    /// Batches waiting for the writer.
    pub queue_batches: Gauge,
    pub events: Gauge,
    pub bytes: Gauge,
    pub partitions: Gauge,
    /// Rows that are not in the index yet.
    pub index_lag_rows: Gauge,
    pub indexed_events: Counter,
    pub dropped_events: Counter,
    pub dropped_partitions: Counter,
    pub damaged_partitions: Counter,
    pub undecodable_rows: Counter,
    pub searches: Counter,
    pub search_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            appended_events: Counter::default(),
            appended_batches: Counter::default(),
            append_errors: Counter::default(),
            append_seconds: Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0]),
            queue_batches: Gauge::default(),
            events: Gauge::default(),
            bytes: Gauge::default(),
            partitions: Gauge::default(),
            index_lag_rows: Gauge::default(),
            indexed_events: Counter::default(),
            dropped_events: Counter::default(),
            dropped_partitions: Counter::default(),
            damaged_partitions: Counter::default(),
            undecodable_rows: Counter::default(),
            searches: Counter::default(),
            search_seconds: Histogram::new([0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0]),
        }
    }
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        let own = registry.sub_registry_with_prefix("paramedic_telemetry");
        own.register("appended_events", "Events made durable", self.appended_events.clone());
        own.register("appended_batches", "Batches made durable", self.appended_batches.clone());
        own.register("append_errors", "Batches refused", self.append_errors.clone());
        own.register("append_seconds", "Time to make a group of batches durable", self.append_seconds.clone());
        own.register("queue_batches", "Batches waiting for the writer", self.queue_batches.clone());
        own.register("stored_events", "Events in the store", self.events.clone());
        own.register("stored_bytes", "Bytes of all files of the store", self.bytes.clone());
        own.register("partitions", "Partition files", self.partitions.clone());
        own.register("index_lag_rows", "Rows that the index lies behind", self.index_lag_rows.clone());
        own.register("indexed_events", "Events written to the index", self.indexed_events.clone());
        own.register("dropped_events", "Events dropped by retention or size", self.dropped_events.clone());
        own.register("dropped_partitions", "Partitions dropped by retention or size", self.dropped_partitions.clone());
        own.register("damaged_partitions", "Partitions set aside because they were damaged", self.damaged_partitions.clone());
        own.register("undecodable_rows", "Rows whose fact or attributes could not be read back", self.undecodable_rows.clone());
        own.register("searches", "Searches answered", self.searches.clone());
        own.register("search_seconds", "Time a search took", self.search_seconds.clone());
    }
}
