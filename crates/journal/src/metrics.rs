//! What the journal counts about itself.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub appends: Counter,
    pub entries: Counter,
    pub refused: Counter,
    pub failed_commits: Counter,
    pub batch_appends: Histogram,
    pub commit_seconds: Histogram,
    pub queue_length: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            appends: Counter::default(),
            entries: Counter::default(),
            refused: Counter::default(),
            failed_commits: Counter::default(),
            batch_appends: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            commit_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            queue_length: Gauge::default(),
        }
    }
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("paramedic_journal_appends", "Appends made durable", self.appends.clone());
        registry.register("paramedic_journal_entries", "Entries made durable", self.entries.clone());
        registry.register("paramedic_journal_refused", "Appends refused because their expectation or size was wrong", self.refused.clone());
        registry.register("paramedic_journal_failed_commits", "Group commits that failed and wrote nothing", self.failed_commits.clone());
        registry.register("paramedic_journal_batch_appends", "Requests made durable by one commit", self.batch_appends.clone());
        let help = "Time to make one group durable";
        registry.register_with_unit("paramedic_journal_commit", help, Unit::Seconds, self.commit_seconds.clone());
        registry.register("paramedic_journal_queue_length", "Requests waiting for the journal's writer", self.queue_length.clone());
    }
}
