//! What the API counts. Labels are operation ids and status classes, both closed lists.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// An operation's id, `page`, or the name of a fixed route.
    pub operation: &'static str,
    /// `2xx` … `5xx`.
    pub status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OperationLabels {
    pub operation: &'static str,
}

#[derive(Debug, Clone)]
pub struct Metrics {
    pub requests: Family<RequestLabels, Counter>,
    pub duration: Family<OperationLabels, Histogram>,
    pub refused_cross_site: Counter,
    pub live_clients: Gauge,
    pub live_missed: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new([0.001, 0.005, 0.025, 0.1, 0.5, 2.5])),
            refused_cross_site: Counter::default(),
            live_clients: Gauge::default(),
            live_missed: Counter::default(),
        }
    }
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("paramedic_api_requests", "Requests answered, by operation and status class", self.requests.clone());
        registry.register("paramedic_api_request_duration_seconds", "Time to answer, by operation", self.duration.clone());
        registry.register(
            "paramedic_api_refused_cross_site",
            "Requests refused because they came from another site",
            self.refused_cross_site.clone(),
        );
        registry.register("paramedic_api_live_clients", "Clients of the live stream", self.live_clients.clone());
        registry.register("paramedic_api_live_missed_messages", "Live messages that slow clients missed", self.live_missed.clone());
    }

    pub fn count(&self, operation: &'static str, status: u16, took: std::time::Duration) {
        let class = match status {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.requests.get_or_create(&RequestLabels { operation, status: class }).inc();
        self.duration.get_or_create(&OperationLabels { operation }).observe(took.as_secs_f64());
    }
}
