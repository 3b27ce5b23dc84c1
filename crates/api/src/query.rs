//! Asking for samples: the seam between the faces and whichever engine answers, ours or an external one.

mod local;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use paramedic_promql::{Labels, Value};
use paramedic_samples::Metadata;

pub use local::LocalQuery;

/// A future that borrows the engine.
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, QueryRefusal>> + Send + 'a>>;

/// An engine for PromQL and the catalogue of its series. Dropping a future ends the work behind it.
pub trait Query: Send + Sync {
    /// Evaluates at one moment (milliseconds).
    fn instant(&self, query: &str, at_ms: i64, limits: Limits) -> Asked<'_, Answered>;

    /// Evaluates at every step of a range.
    fn range(&self, query: &str, range: paramedic_promql::Range, limits: Limits) -> Asked<'_, Answered>;

    /// The label sets of series.
    fn series(&self, selection: Selection) -> Asked<'_, Found<Labels>>;

    /// The names of labels.
    fn label_names(&self, selection: Selection) -> Asked<'_, Found<String>>;

    /// The values of a label.
    fn label_values(&self, name: &str, selection: Selection) -> Asked<'_, Found<String>>;

    /// What exporters say about metrics: one of them, or all up to `limit`.
    fn metadata(&self, metric: Option<&str>, limit: usize) -> Asked<'_, Vec<(String, Metadata)>>;

    /// How far back an instant selector looks where the query does not say.
    fn lookback(&self) -> Duration;
}

/// What a query's sender allows, within the engine's own limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    pub timeout: Option<Duration>,
    pub lookback_ms: Option<i64>,
}

/// Which series are meant: those that pass any of the selectors and have samples in the range (milliseconds, both ends
/// included). No selector means all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    pub selectors: Vec<String>,
    pub from_ms: i64,
    pub to_ms: i64,
    /// The most entries that are wanted.
    pub limit: usize,
}

/// Names, values or label sets, sorted, and what is to be remarked about them.
#[derive(Debug, Clone, Default)]
pub struct Found<T> {
    pub list: Vec<T>,
    pub warnings: Vec<String>,
}

/// A query's answer.
#[derive(Debug, Clone)]
pub struct Answered {
    pub value: Value,
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
    /// The most samples that were held at once; 0 where the engine does not say.
    pub samples_peak: usize,
    /// How long the query waited for its turn.
    pub queued: Duration,
    /// How long its evaluation took.
    pub evaluated: Duration,
}

/// The reasons that Prometheus's API distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalKind {
    BadData,
    Execution,
    Canceled,
    Timeout,
    NotFound,
    Unavailable,
    Internal,
}

impl RefusalKind {
    /// The error type on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadData => "bad_data",
            Self::Execution => "execution",
            Self::Canceled => "canceled",
            Self::Timeout => "timeout",
            Self::NotFound => "not_found",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// Reads an error type; what is not known is `internal`.
    #[must_use]
    pub fn from_wire(text: &str) -> Self {
        let all = [Self::BadData, Self::Execution, Self::Canceled, Self::Timeout, Self::NotFound, Self::Unavailable];
        all.into_iter().find(|kind| kind.as_str() == text).unwrap_or(Self::Internal)
    }
}

/// Why a query gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryRefusal {
    pub kind: RefusalKind,
    pub message: String,
    /// The byte of the expression at which the problem was seen.
    pub position: Option<usize>,
}

impl QueryRefusal {
    #[must_use]
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), position: None }
    }

    /// A parameter that cannot be used, in the words of Prometheus.
    #[must_use]
    pub fn parameter(name: &str, why: impl fmt::Display) -> Self {
        Self::new(RefusalKind::BadData, format!("invalid parameter {name:?}: {why}"))
    }

    /// Nothing here answers queries.
    #[must_use]
    pub fn no_engine() -> Self {
        Self::new(RefusalKind::Unavailable, "this instance keeps no samples")
    }
}

impl fmt::Display for QueryRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for QueryRefusal {}
