//! What the receivers count about themselves.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
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
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            accepted: Family::default(),
            rejected: Family::default(),
            bytes: Family::default(),
            attributes_dropped: Counter::default(),
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
    }
}
