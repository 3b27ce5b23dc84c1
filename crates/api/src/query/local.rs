//! The engine of this process over its own store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use paramedic_promql::parse::parse_matchers;
use paramedic_promql::{Answer, Engine, Labels, Matcher, ParseError, QueryError, Range};
use paramedic_samples::{Metadata, Samples, SamplesError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::{Answered, Asked, Found, Limits, Query, QueryRefusal, RefusalKind, Selection};
use crate::metrics::{Outcome, QueryMetrics};

/// Evaluates off the asynchronous threads, a bounded number at a time.
pub struct LocalQuery {
    engine: Arc<Engine>,
    samples: Samples,
    turns: Arc<Semaphore>,
    metrics: QueryMetrics,
}

/// Ends the evaluation when whoever waits for it is gone.
struct EndOnDrop(Arc<AtomicBool>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl LocalQuery {
    /// `concurrency_max` queries are evaluated at once; others wait for their turn, at most as long as they may take.
    #[must_use]
    pub fn new(engine: Arc<Engine>, samples: Samples, concurrency_max: usize, metrics: QueryMetrics) -> Self {
        Self { engine, samples, turns: Arc::new(Semaphore::new(concurrency_max.max(1))), metrics }
    }

    fn engine_within(&self, limits: Limits) -> Engine {
        let mut options = self.engine.options().clone();
        options.timeout = limits.timeout.map_or(options.timeout, |timeout| timeout.min(options.timeout));
        // Prometheus allows so many steps between points, which is one point more.
        options.steps_max = options.steps_max.saturating_add(1);
        options.lookback_ms = limits.lookback_ms.unwrap_or(options.lookback_ms);
        Engine::new(options)
    }

    /// Waits for a turn, then works on another thread; counted, and ended when the caller leaves.
    async fn run<T: Send + 'static>(
        &self,
        timeout: Duration,
        work: impl FnOnce(Samples, Arc<AtomicBool>) -> Result<T, QueryRefusal> + Send + 'static,
    ) -> Result<(T, Duration, Duration), QueryRefusal> {
        let mut counted = self.metrics.begin();
        let asked = Instant::now();
        let turn = self.turn(timeout).await.inspect_err(|refusal| counted.end(Outcome::of(refusal.kind)))?;
        let queued = asked.elapsed();
        let began = Instant::now();
        let left = EndOnDrop(Arc::new(AtomicBool::new(false)));
        let (samples, cancel) = (self.samples.clone(), Arc::clone(&left.0));
        let work = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(samples, cancel)
        });
        let done =
            work.await.unwrap_or_else(|error| Err(QueryRefusal::new(RefusalKind::Internal, format!("the evaluation ended: {error}"))));
        let took = began.elapsed();
        counted.end(done.as_ref().err().map_or(Outcome::Ok, |refusal| Outcome::of(refusal.kind)));
        done.map(|value| (value, queued, took))
    }

    async fn turn(&self, timeout: Duration) -> Result<OwnedSemaphorePermit, QueryRefusal> {
        match tokio::time::timeout(timeout, Arc::clone(&self.turns).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) => Err(QueryRefusal::new(RefusalKind::Unavailable, "the query engine is closed")),
            Err(_) => Err(QueryRefusal::new(RefusalKind::Timeout, "query timed out in query queue")),
        }
    }

    async fn answer(
        &self,
        query: &str,
        limits: Limits,
        evaluate: impl FnOnce(&Engine, &Samples, &str, Arc<AtomicBool>) -> Result<Answer, QueryError> + Send + 'static,
    ) -> Result<Answered, QueryRefusal> {
        let (engine, query) = (self.engine_within(limits), query.to_owned());
        let timeout = engine.options().timeout;
        let work = move |samples: Samples, cancel| {
            let answer = evaluate(&engine, &samples, &query, cancel).map_err(refusal)?;
            let (warnings, infos) = (answer.annotations.warnings(&query), answer.annotations.infos(&query));
            Ok((answer, warnings, infos))
        };
        let ((answer, warnings, infos), queued, evaluated) = self.run(timeout, work).await?;
        self.metrics.samples_peak.observe(number(answer.samples_peak));
        Ok(Answered { value: answer.value, warnings, infos, samples_peak: answer.samples_peak, queued, evaluated })
    }

    async fn find<T: Send + 'static>(
        &self,
        selection: Selection,
        find: impl FnOnce(&Samples, &[Vec<Matcher>], i64, i64, usize) -> Result<Vec<T>, SamplesError> + Send + 'static,
    ) -> Result<Found<T>, QueryRefusal> {
        let any_of = selection.selectors.iter().map(|text| matchers_of(text)).collect::<Result<Vec<_>, _>>()?;
        // One more than wanted tells that there are more.
        let asked = selection.limit.saturating_add(1);
        let work = move |samples: Samples, _| {
            find(&samples, &any_of, selection.from_ms, selection.to_ms, asked)
                .map_err(|error| QueryRefusal::new(RefusalKind::Execution, error.to_string()))
        };
        let (mut list, ..) = self.run(self.engine.options().timeout, work).await?;
        let mut warnings = Vec::new();
        if list.len() > selection.limit {
            list.truncate(selection.limit);
            warnings.push("results truncated due to limit".to_owned());
        }
        Ok(Found { list, warnings })
    }
}

/// The matchers of a `match[]` parameter.
fn matchers_of(text: &str) -> Result<Vec<Matcher>, QueryRefusal> {
    parse_matchers(text).map_err(|error| QueryRefusal { position: Some(error.position), ..QueryRefusal::parameter("match[]", error) })
}

#[expect(clippy::cast_precision_loss, reason = "a number for a histogram")]
fn number(count: usize) -> f64 {
    count as f64
}

fn refusal(error: QueryError) -> QueryRefusal {
    let kind = match &error {
        QueryError::Parse(_) => RefusalKind::BadData,
        QueryError::Execution(_) | QueryError::Unsupported(_) | QueryError::TooManySamples => RefusalKind::Execution,
        QueryError::Timeout => RefusalKind::Timeout,
        QueryError::Cancelled => RefusalKind::Canceled,
        QueryError::Storage(_) => RefusalKind::Internal,
    };
    let position = match &error {
        QueryError::Parse(ParseError { position, .. }) => Some(*position),
        _ => None,
    };
    QueryRefusal { kind, message: error.to_string(), position }
}

impl Query for LocalQuery {
    fn instant(&self, query: &str, at_ms: i64, limits: Limits) -> Asked<'_, Answered> {
        let query = query.to_owned();
        Box::pin(async move {
            let evaluate = move |engine: &Engine, samples: &Samples, query: &str, cancel| {
                engine.instant_expr(samples, &engine.parse(query)?, at_ms, Some(cancel))
            };
            self.answer(&query, limits, evaluate).await
        })
    }

    fn range(&self, query: &str, range: Range, limits: Limits) -> Asked<'_, Answered> {
        let query = query.to_owned();
        Box::pin(async move {
            let evaluate = move |engine: &Engine, samples: &Samples, query: &str, cancel| {
                engine.range_expr(samples, &engine.parse(query)?, range, Some(cancel))
            };
            self.answer(&query, limits, evaluate).await
        })
    }

    fn series(&self, selection: Selection) -> Asked<'_, Found<Labels>> {
        Box::pin(self.find(selection, |samples, any_of, from, to, limit| samples.series(any_of, from, to, limit)))
    }

    fn label_names(&self, selection: Selection) -> Asked<'_, Found<String>> {
        Box::pin(self.find(selection, |samples, any_of, from, to, limit| {
            Ok(samples.label_names(any_of, from, to, limit)?.iter().map(|name| name.to_string()).collect())
        }))
    }

    fn label_values(&self, name: &str, selection: Selection) -> Asked<'_, Found<String>> {
        let name = name.to_owned();
        Box::pin(self.find(selection, move |samples, any_of, from, to, limit| {
            Ok(samples.label_values(&name, any_of, from, to, limit)?.iter().map(|value| value.to_string()).collect())
        }))
    }

    fn metadata(&self, metric: Option<&str>, limit: usize) -> Asked<'_, Vec<(String, Metadata)>> {
        let metric = metric.map(str::to_owned);
        Box::pin(async move { Ok(self.samples.metadata(metric.as_deref(), limit)) })
    }

    fn lookback(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.engine.options().lookback_ms).unwrap_or(0))
    }
}
