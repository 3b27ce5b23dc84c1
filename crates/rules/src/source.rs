//! Who answers the rules' expressions: the seam, and the engine of this process behind it.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use paramedic_model::Timestamp;
use paramedic_promql::labels::{METRIC_NAME, MatchOp};
use paramedic_promql::number::is_stale;
use paramedic_promql::parse::{Expr, ExprKind};
use paramedic_promql::{
    Answer, Engine, InstantSample, Labels, Matcher, MemoryStorage, Point, QueryError, Storage, StorageError, StoredSeries, Value,
};
use paramedic_samples::Samples;

/// A future in a box.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryFailure {
    /// The expression cannot be evaluated.
    #[error("{0}")]
    Refused(String),
    #[error("query timed out in expression evaluation")]
    TimedOut,
    /// Whoever should answer cannot be reached.
    #[error("{0}")]
    Unavailable(String),
}

impl From<QueryError> for QueryFailure {
    fn from(err: QueryError) -> Self {
        match err {
            QueryError::Timeout => Self::TimedOut,
            QueryError::Storage(err) => Self::Unavailable(err.to_string()),
            other => Self::Refused(other.to_string()),
        }
    }
}

/// An expression as text, for engines elsewhere, and parsed, for ours.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub text: &'a str,
    pub expr: &'a Expr,
}

/// The last sample that a series had in some time.
#[derive(Debug, Clone, PartialEq)]
pub struct LastSample {
    pub labels: Labels,
    /// Milliseconds.
    pub time: i64,
    /// May be the staleness marker, where the source knows of it.
    pub value: f64,
}

/// Answers expressions.
pub trait QuerySource: Send + Sync {
    /// Evaluates at one moment.
    fn instant<'a>(&'a self, question: Question<'a>, at: Timestamp) -> BoxFuture<'a, Result<Answer, QueryFailure>>;

    /// Whether a selector has any sample in some time.
    fn any_series<'a>(&'a self, matchers: &'a [Matcher], from: Timestamp, to: Timestamp) -> BoxFuture<'a, Result<bool, QueryFailure>> {
        Box::pin(async move {
            let text = format!("count(last_over_time({}[{}s]))", selector_text(matchers), to.since(from).as_secs().max(1));
            match ask(self, &text, to).await?.value {
                Value::Vector(found) => Ok(!found.is_empty()),
                _ => Ok(false),
            }
        })
    }

    /// The last sample of each series in some time.
    fn last_samples<'a>(
        &'a self,
        matchers: &'a [Matcher],
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'a, Result<Vec<LastSample>, QueryFailure>> {
        Box::pin(async move {
            let text = format!("{}[{}s]", selector_text(matchers), to.since(from).as_secs().max(1));
            let Value::Matrix(series) = ask(self, &text, to).await?.value else { return Ok(Vec::new()) };
            let last = |series: paramedic_promql::MatrixSeries| {
                series.floats.last().map(|(time, value)| LastSample { labels: series.labels.clone(), time: *time, value: *value })
            };
            Ok(series.into_iter().filter_map(last).collect())
        })
    }

    /// A source for the evaluation of one group at one moment, which may share work between its rules.
    fn for_group(&self, _group: &Repeated) -> Option<Box<dyn QuerySource + '_>> {
        None
    }
}

async fn ask<S: QuerySource + ?Sized>(source: &S, text: &str, at: Timestamp) -> Result<Answer, QueryFailure> {
    let expr = Engine::default().parse(text).map_err(|err| QueryFailure::Refused(err.to_string()))?;
    source.instant(Question { text, expr: &expr }, at).await
}

/// Matchers as a selector.
pub(crate) fn selector_text(matchers: &[Matcher]) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
    let mut parts = Vec::new();
    for matcher in matchers {
        let name = if crate::names::is_plain_label(&matcher.name) { matcher.name.to_string() } else { quoted(&matcher.name) };
        parts.push(format!("{name}{}{}", matcher.op_text(), quoted(&matcher.value)));
    }
    format!("{{{}}}", parts.join(","))
}

/// The elements of an answer that is a vector or a scalar.
pub(crate) fn elements(answer: Answer) -> Result<Vec<InstantSample>, String> {
    match answer.value {
        Value::Vector(elements) => Ok(elements),
        Value::Scalar(value) => Ok(vec![InstantSample { labels: Labels::empty(), value: Point::Float(value) }]),
        _ => Err("rule result is not a vector or scalar".to_owned()),
    }
}

/// A store of which can be asked cheaply whether a series exists.
pub trait SeriesStore: Storage {
    fn any_series(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Result<bool, StorageError>;
}

impl SeriesStore for Samples {
    fn any_series(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Result<bool, StorageError> {
        let found = self.series(&[matchers.to_vec()], from_ms, to_ms, 1).map_err(|err| StorageError(err.to_string()))?;
        Ok(!found.is_empty())
    }
}

impl SeriesStore for MemoryStorage {
    fn any_series(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Result<bool, StorageError> {
        Ok(!self.select(matchers, from_ms, to_ms)?.is_empty())
    }
}

/// The engine of this process over a store of this process.
#[derive(Clone)]
pub struct LocalSource {
    engine: Engine,
    store: Arc<dyn SeriesStore>,
}

impl LocalSource {
    pub fn new(engine: Engine, store: Arc<dyn SeriesStore>) -> Self {
        Self { engine, store }
    }
}

impl QuerySource for LocalSource {
    fn instant<'a>(&'a self, question: Question<'a>, at: Timestamp) -> BoxFuture<'a, Result<Answer, QueryFailure>> {
        Box::pin(async move { Ok(self.engine.instant_expr(&self.store, question.expr, at.as_millis(), None)?) })
    }

    fn any_series<'a>(&'a self, matchers: &'a [Matcher], from: Timestamp, to: Timestamp) -> BoxFuture<'a, Result<bool, QueryFailure>> {
        Box::pin(async move {
            let found = self.store.any_series(matchers, from.as_millis(), to.as_millis());
            found.map_err(|err| QueryFailure::Unavailable(err.to_string()))
        })
    }

    fn last_samples<'a>(
        &'a self,
        matchers: &'a [Matcher],
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'a, Result<Vec<LastSample>, QueryFailure>> {
        Box::pin(async move {
            let (from, to) = (from.as_millis(), to.as_millis());
            let series = self.store.select(matchers, from, to).map_err(|err| QueryFailure::Unavailable(err.to_string()))?;
            let last = |series: StoredSeries| {
                let at = series.samples.times.partition_point(|time| *time <= to).checked_sub(1)?;
                let time = series.samples.times[at];
                (time >= from).then(|| LastSample { labels: series.labels.clone(), time, value: series.samples.values[at] })
            };
            Ok(series.into_iter().filter_map(last).collect())
        })
    }

    fn for_group(&self, group: &Repeated) -> Option<Box<dyn QuerySource + '_>> {
        if group.0.is_empty() {
            return None;
        }
        let shared = Shared { store: &*self.store, repeated: group.0.clone(), kept: Mutex::default() };
        Some(Box::new(GroupSource { local: self, shared }))
    }
}

/// The selectors that more than one rule of a group reads and that no rule of it writes.
#[derive(Debug, Clone, Default)]
pub struct Repeated(BTreeSet<String>);

impl Repeated {
    /// Finds them among the expressions of a group; `written` are the names of metrics that the group's rules make.
    pub(crate) fn find<'a>(expressions: impl Iterator<Item = &'a Expr>, written: &BTreeSet<&str>) -> Self {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for expr in expressions {
            for selector in expr.selectors() {
                let name = selector.matchers.iter().find(|matcher| &*matcher.name == METRIC_NAME && matches!(matcher.op, MatchOp::Equal));
                if name.is_some_and(|name| !written.contains(&*name.value)) {
                    *counts.entry(selector_text(&selector.matchers)).or_default() += 1;
                }
            }
        }
        Self(counts.into_iter().filter(|(_, count)| *count > 1).map(|(key, _)| key).collect())
    }
}

/// The most samples that one evaluation of a group keeps for its later rules (64 MiB).
const KEPT_SAMPLES_MAX: usize = 4 * 1024 * 1024;

/// A selection and the times it covers.
type Kept = (i64, i64, Vec<StoredSeries>);

/// A store that remembers the selections of repeated selectors.
struct Shared<'a> {
    store: &'a dyn SeriesStore,
    repeated: BTreeSet<String>,
    kept: Mutex<(usize, HashMap<String, Kept>)>,
}

impl Storage for Shared<'_> {
    fn select(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Result<Vec<StoredSeries>, StorageError> {
        let key = selector_text(matchers);
        if !self.repeated.contains(&key) {
            return self.store.select(matchers, from_ms, to_ms);
        }
        if let Some((from, to, series)) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).1.get(&key)
            && *from <= from_ms
            && *to >= to_ms
        {
            return Ok(series.clone());
        }
        let series = self.store.select(matchers, from_ms, to_ms)?;
        let size = series.iter().map(|series| 8 + series.samples.times.len() + series.samples.histograms.len() * 64).sum::<usize>();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0 + size <= KEPT_SAMPLES_MAX {
            kept.0 += size;
            kept.1.insert(key, (from_ms, to_ms, series.clone()));
        }
        Ok(series)
    }
}

struct GroupSource<'a> {
    local: &'a LocalSource,
    shared: Shared<'a>,
}

impl QuerySource for GroupSource<'_> {
    fn instant<'a>(&'a self, question: Question<'a>, at: Timestamp) -> BoxFuture<'a, Result<Answer, QueryFailure>> {
        Box::pin(async move { Ok(self.local.engine.instant_expr(&self.shared, question.expr, at.as_millis(), None)?) })
    }
}

/// Whether a selector's samples may lie before the last day: then nothing can be said about their absence.
pub(crate) fn looks_far_back(expr: &Expr) -> bool {
    const DAY_MS: i64 = 86_400_000;
    let far = |span: &paramedic_promql::parse::Span| span.ms().abs() > DAY_MS;
    match &expr.kind {
        ExprKind::Selector(selector) => far(&selector.offset) || selector.at.is_some(),
        ExprKind::Matrix { selector, range } => far(&selector.offset) || selector.at.is_some() || far(range),
        ExprKind::Subquery { range, offset, at, .. } => far(range) || far(offset) || at.is_some(),
        _ => false,
    }
}

/// Whether the last sample says that its series had not ended.
pub(crate) fn is_live(sample: &LastSample) -> bool {
    !is_stale(sample.value)
}
