//! What the probes count about themselves.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByResult {
    /// `host`, `process`, `postgres` …
    pub kind: &'static str,
    /// `up`, `down` or `cut`.
    pub result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByKind {
    pub kind: &'static str,
}

/// Cheap to clone: all clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub targets: Gauge<i64, AtomicI64>,
    pub looks: Family<ByResult, Counter>,
    pub look_seconds: Family<ByKind, Histogram>,
    /// Looks whose time came while the one before was still under way.
    pub missed_looks: Counter,
    pub samples: Counter,
    /// Samples beyond the limit of one look, given twice, or refused by the store.
    pub dropped_samples: Counter,
    /// Times the store did not take a look's samples at all.
    pub store_errors: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            targets: Gauge::default(),
            looks: Family::default(),
            look_seconds: Family::new_with_constructor(|| {
                Histogram::new([0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
            }),
            missed_looks: Counter::default(),
            samples: Counter::default(),
            dropped_samples: Counter::default(),
            store_errors: Counter::default(),
        }
    }
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("paramedic_probe_targets", "Targets that are probed", self.targets.clone());
        registry.register("paramedic_probe_looks", "Looks at targets by what they found", self.looks.clone());
        registry.register("paramedic_probe_look_seconds", "How long looks took", self.look_seconds.clone());
        registry.register("paramedic_probe_missed_looks", "Looks left out because the one before took too long", self.missed_looks.clone());
        registry.register("paramedic_probe_samples", "Samples that probes gave", self.samples.clone());
        registry.register(
            "paramedic_probe_dropped_samples",
            "Samples beyond the limit of a look, given twice, or refused by the store",
            self.dropped_samples.clone(),
        );
        registry.register("paramedic_probe_store_errors", "Looks whose samples the store did not take", self.store_errors.clone());
    }
}
