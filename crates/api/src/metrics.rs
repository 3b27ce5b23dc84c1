//! What the API counts. Labels are operation ids and status classes, both closed lists.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::query::RefusalKind;

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

/// How a query ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Ok,
    Refused(RefusalKind),
    /// Its client left before it was done.
    Abandoned,
}

impl Outcome {
    #[must_use]
    pub const fn of(kind: RefusalKind) -> Self {
        Self::Refused(kind)
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused(kind) => kind.as_str(),
            Self::Abandoned => "abandoned",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    pub outcome: &'static str,
}

/// What the engine of this process counts about queries.
#[derive(Debug, Clone)]
pub struct QueryMetrics {
    ended: Family<OutcomeLabels, Counter>,
    duration: Histogram,
    running: Gauge,
    pub(crate) samples_peak: Histogram,
}

impl Default for QueryMetrics {
    fn default() -> Self {
        Self {
            ended: Family::default(),
            duration: Histogram::new([0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0]),
            running: Gauge::default(),
            samples_peak: Histogram::new([1e2, 1e3, 1e4, 1e5, 1e6, 1e7]),
        }
    }
}

impl QueryMetrics {
    fn register(&self, registry: &mut Registry) {
        registry.register("paramedic_api_queries", "Queries that ended, by how", self.ended.clone());
        registry.register("paramedic_api_query_duration_seconds", "Time from a query's arrival to its end", self.duration.clone());
        registry.register("paramedic_api_queries_running", "Queries that run or wait for their turn", self.running.clone());
        registry.register("paramedic_api_query_samples", "The most samples that a query held at once", self.samples_peak.clone());
    }

    /// Counts a query from now until it ends or is dropped.
    pub(crate) fn begin(&self) -> CountedQuery<'_> {
        self.running.inc();
        CountedQuery { metrics: self, began: tokio::time::Instant::now(), outcome: Outcome::Abandoned }
    }
}

/// A query that is being counted.
pub(crate) struct CountedQuery<'a> {
    metrics: &'a QueryMetrics,
    began: tokio::time::Instant,
    outcome: Outcome,
}

impl CountedQuery<'_> {
    pub(crate) fn end(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for CountedQuery<'_> {
    fn drop(&mut self) {
        self.metrics.running.dec();
        self.metrics.duration.observe(self.began.elapsed().as_secs_f64());
        self.metrics.ended.get_or_create(&OutcomeLabels { outcome: self.outcome.as_str() }).inc();
    }
}

#[derive(Debug, Clone)]
pub struct Metrics {
    pub requests: Family<RequestLabels, Counter>,
    pub duration: Family<OperationLabels, Histogram>,
    pub refused_cross_site: Counter,
    pub live_clients: Gauge,
    pub live_missed: Counter,
    pub queries: QueryMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new([0.001, 0.005, 0.025, 0.1, 0.5, 2.5])),
            refused_cross_site: Counter::default(),
            live_clients: Gauge::default(),
            live_missed: Counter::default(),
            queries: QueryMetrics::default(),
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
        self.queries.register(registry);
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
