//! What scraping counts about itself.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FailureLabels {
    /// `connect`, `timeout`, `status`, `body`, `content-type`, `parse`, `limit`, `labels`, `store`, `credentials`.
    pub reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LimitLabels {
    /// The name of the setting that bit.
    pub limit: &'static str,
}

/// Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub looks: Counter,
    pub failures: Family<FailureLabels, Counter>,
    pub limits: Family<LimitLabels, Counter>,
    pub samples: Counter,
    pub refused_samples: Counter,
    pub exemplars: Counter,
    pub ended_series: Counter,
    pub body_bytes: Counter,
    /// Looks that were left out because the one before took too long.
    pub missed_looks: Counter,
    pub discovery_errors: Counter,
    pub bad_targets: Counter,
    pub targets: Gauge<i64, AtomicI64>,
    pub targets_left_out: Gauge<i64, AtomicI64>,
    pub seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            looks: Counter::default(),
            failures: Family::default(),
            limits: Family::default(),
            samples: Counter::default(),
            refused_samples: Counter::default(),
            exemplars: Counter::default(),
            ended_series: Counter::default(),
            body_bytes: Counter::default(),
            missed_looks: Counter::default(),
            discovery_errors: Counter::default(),
            bad_targets: Counter::default(),
            targets: Gauge::default(),
            targets_left_out: Gauge::default(),
            seconds: Histogram::new([0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0]),
        }
    }
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("paramedic_collect_scrape_looks", "Looks at targets", self.looks.clone());
        registry.register("paramedic_collect_scrape_failures", "Looks that failed, by reason", self.failures.clone());
        registry.register("paramedic_collect_scrape_limit_hits", "Looks that failed at a limit, by its name", self.limits.clone());
        registry.register("paramedic_collect_scrape_samples", "Samples taken from targets", self.samples.clone());
        registry.register("paramedic_collect_scrape_refused_samples", "Samples that the store refused", self.refused_samples.clone());
        registry.register("paramedic_collect_scrape_exemplars", "Exemplars left out", self.exemplars.clone());
        registry.register("paramedic_collect_scrape_ended_series", "Series marked as ended", self.ended_series.clone());
        registry.register("paramedic_collect_scrape_body_bytes", "Bytes of bodies after decompression", self.body_bytes.clone());
        registry.register("paramedic_collect_scrape_missed_looks", "Looks left out because time had passed", self.missed_looks.clone());
        registry.register(
            "paramedic_collect_scrape_discovery_errors",
            "Discovery files that could not be read",
            self.discovery_errors.clone(),
        );
        registry.register("paramedic_collect_scrape_bad_targets", "Targets whose labels make no URL", self.bad_targets.clone());
        registry.register("paramedic_collect_scrape_targets", "Targets looked at", self.targets.clone());
        registry.register("paramedic_collect_scrape_targets_left_out", "Targets beyond a limit", self.targets_left_out.clone());
        registry.register("paramedic_collect_scrape_look_seconds", "Time that a look takes", self.seconds.clone());
    }
}
