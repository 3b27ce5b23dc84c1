//! An external store behind the seams of our own: queries of people and questions of rules.

use std::time::Duration;

use paramedic_api::query::{Answered, Asked, Found, Limits, Query, QueryRefusal, RefusalKind, Selection};
use paramedic_model::Timestamp;
use paramedic_promql::{Answer, Labels, Range};
use paramedic_remote::engine::{self, Listed, Reply};
use paramedic_remote::{EngineError, ExternalEngine};
use paramedic_rules::{BoxFuture, QueryFailure, QuerySource, Question};
use paramedic_samples::Metadata;
use tokio::time::Instant;

/// The external engine for pages, verbs and the API. It keeps its own limits; a caller's time limit is kept here.
pub(crate) struct ExternalQuery {
    pub(crate) engine: ExternalEngine,
    pub(crate) lookback: Duration,
}

impl ExternalQuery {
    async fn ask(limits: Limits, work: impl Future<Output = Result<Reply, EngineError>>) -> Result<Answered, QueryRefusal> {
        let began = Instant::now();
        let timed = match limits.timeout {
            Some(timeout) => tokio::time::timeout(timeout, work).await.unwrap_or(Err(EngineError::Timeout(timeout.as_secs()))),
            None => work.await,
        };
        let reply = timed.map_err(refusal)?;
        Ok(Answered {
            value: reply.answer.value,
            warnings: reply.warnings,
            infos: reply.infos,
            samples_peak: 0,
            queued: Duration::ZERO,
            evaluated: began.elapsed(),
        })
    }
}

fn refusal(error: EngineError) -> QueryRefusal {
    let kind = match &error {
        EngineError::BadQuery(_) => RefusalKind::BadData,
        EngineError::Execution(_) | EngineError::TooLarge(_) => RefusalKind::Execution,
        EngineError::Timeout(_) => RefusalKind::Timeout,
        EngineError::Unreachable(_) | EngineError::Status { .. } | EngineError::Answer(_) => RefusalKind::Unavailable,
    };
    QueryRefusal::new(kind, format!("the external store gave no answer: {error}"))
}

fn listed<T>((list, warnings): Listed<T>, limit: usize) -> Found<T> {
    Found { list: list.into_iter().take(limit).collect(), warnings }
}

const fn selection(asked: &Selection) -> engine::Selection<'_> {
    engine::Selection { selectors: asked.selectors.as_slice(), from_ms: asked.from_ms, to_ms: asked.to_ms, limit: asked.limit }
}

impl Query for ExternalQuery {
    fn instant(&self, query: &str, at_ms: i64, limits: Limits) -> Asked<'_, Answered> {
        let query = query.to_owned();
        Box::pin(async move { Self::ask(limits, self.engine.instant(&query, Timestamp::from_millis(at_ms))).await })
    }

    fn range(&self, query: &str, range: Range, limits: Limits) -> Asked<'_, Answered> {
        let query = query.to_owned();
        Box::pin(async move {
            let (from, to) = (Timestamp::from_millis(range.start_ms), Timestamp::from_millis(range.end_ms));
            let step = Duration::from_millis(u64::try_from(range.step_ms).unwrap_or(1).max(1));
            Self::ask(limits, self.engine.range(&query, from, to, step)).await
        })
    }

    fn series(&self, asked: Selection) -> Asked<'_, Found<Labels>> {
        Box::pin(async move { Ok(listed(self.engine.series(selection(&asked)).await.map_err(refusal)?, asked.limit)) })
    }

    fn label_names(&self, asked: Selection) -> Asked<'_, Found<String>> {
        Box::pin(async move { Ok(listed(self.engine.label_names(selection(&asked)).await.map_err(refusal)?, asked.limit)) })
    }

    fn label_values(&self, name: &str, asked: Selection) -> Asked<'_, Found<String>> {
        let name = name.to_owned();
        Box::pin(async move { Ok(listed(self.engine.label_values(&name, selection(&asked)).await.map_err(refusal)?, asked.limit)) })
    }

    fn metadata(&self, metric: Option<&str>, limit: usize) -> Asked<'_, Vec<(String, Metadata)>> {
        let metric = metric.map(str::to_owned);
        Box::pin(async move { self.engine.metadata(metric.as_deref(), limit).await.map_err(refusal) })
    }

    fn lookback(&self) -> Duration {
        self.lookback
    }
}

/// The external engine for rules.
pub(crate) struct ExternalSource(pub(crate) ExternalEngine);

impl QuerySource for ExternalSource {
    fn instant<'a>(&'a self, question: Question<'a>, at: Timestamp) -> BoxFuture<'a, Result<Answer, QueryFailure>> {
        Box::pin(async move {
            let reply = self.0.instant(question.text, at).await.map_err(|error| {
                let text = error.to_string();
                match error {
                    EngineError::Timeout(_) => QueryFailure::TimedOut,
                    _ if error.is_temporary() => QueryFailure::Unavailable(text),
                    _ => QueryFailure::Refused(text),
                }
            })?;
            Ok(reply.answer)
        })
    }
}
