//! What the receivers count about themselves.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Labels {
    /// `logs`, `metrics`, `traces`.
    pub signal: &'static str,
    /// `grpc`, `http-protobuf`, `http-json`.
    pub protocol: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AnswerLabels {
    pub signal: &'static str,
    pub protocol: &'static str,
    /// `accepted`, `partial`, `malformed`, `too-large`, `unsupported`, `busy`, `unavailable`, `slow`.
    pub answer: &'static str,
}

/// Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub requests: Family<AnswerLabels, Counter>,
    pub accepted: Family<Labels, Counter>,
    pub rejected: Family<Labels, Counter>,
    pub bytes: Family<Labels, Counter>,
    pub attributes_dropped: Counter<u64, AtomicU64>,
    pub seconds: Family<Labels, Histogram>,
    pub samples: Counter<u64, AtomicU64>,
    pub refused_samples: Counter<u64, AtomicU64>,
    pub unusable_points: Counter<u64, AtomicU64>,
    pub repeated_deltas: Counter<u64, AtomicU64>,
    pub dropped_deltas: Counter<u64, AtomicU64>,
    pub totals: Gauge<i64, AtomicI64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            accepted: Family::default(),
            rejected: Family::default(),
            bytes: Family::default(),
            attributes_dropped: Counter::default(),
            samples: Counter::default(),
            refused_samples: Counter::default(),
            unusable_points: Counter::default(),
            repeated_deltas: Counter::default(),
            dropped_deltas: Counter::default(),
            totals: Gauge::default(),
            seconds: Family::new_with_constructor(|| Histogram::new([0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0])),
        }
    }
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("paramedic_collect_otlp_requests", "OTLP requests by their answer", self.requests.clone());
        registry.register("paramedic_collect_otlp_records", "Records, data points and spans taken", self.accepted.clone());
        registry.register("paramedic_collect_otlp_rejected_records", "Records, data points and spans refused", self.rejected.clone());
        registry.register("paramedic_collect_otlp_body_bytes", "Bytes of request bodies after decompression", self.bytes.clone());
        registry.register(
            "paramedic_collect_otlp_dropped_attributes",
            "Attributes for which an event had no room",
            self.attributes_dropped.clone(),
        );
        registry.register("paramedic_collect_otlp_request_seconds", "Time from a whole body to the answer", self.seconds.clone());
        registry.register("paramedic_collect_otlp_samples", "Samples made of metrics", self.samples.clone());
        registry.register("paramedic_collect_otlp_refused_samples", "Samples that the store refused", self.refused_samples.clone());
        registry.register(
            "paramedic_collect_otlp_unusable_points",
            "Data points that no sample can be made of",
            self.unusable_points.clone(),
        );
        registry.register("paramedic_collect_otlp_repeated_deltas", "Differences that came twice", self.repeated_deltas.clone());
        registry.register("paramedic_collect_otlp_dropped_deltas", "Differences without room for a total", self.dropped_deltas.clone());
        registry.register("paramedic_collect_otlp_totals", "Running totals of differences", self.totals.clone());
    }
}
