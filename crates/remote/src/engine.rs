//! Asking another Prometheus-compatible store to evaluate an expression.
//!
//! The answer has the shape of our own engine's. Remarks (warnings and infos) come as the texts the store made of them.

mod catalogue;
mod histogram;
mod json;

pub use catalogue::{Listed, Selection};

use std::time::Duration;

use paramedic_model::Timestamp;
use paramedic_promql::Answer;
use tokio::time::Instant;

use crate::config::QuerySettings;
use crate::error::{EngineError, RemoteError};
use crate::http::{BodyError, Store, body_of, cause, quote};
use crate::metrics::{ByReason, QueryMetrics};

/// An answer, and what the store remarks about it.
#[derive(Debug, Clone)]
pub struct Reply {
    pub answer: Answer,
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
}

/// The query API of another store (Prometheus, VictoriaMetrics, Mimir, Thanos). Cheap to clone.
#[derive(Clone)]
pub struct ExternalEngine {
    store: Store,
    timeout_s: u64,
    answer_bytes_max: usize,
    metrics: QueryMetrics,
}

impl ExternalEngine {
    pub fn new(settings: &QuerySettings, metrics: QueryMetrics) -> Result<Self, RemoteError> {
        let timeout_s = settings.timeout_s.max(1);
        let store = Store::new(&settings.store, Duration::from_secs(timeout_s))?;
        Ok(Self { store, timeout_s, answer_bytes_max: settings.answer_bytes_max, metrics })
    }

    /// Evaluates at one moment.
    pub async fn instant(&self, expression: &str, at: Timestamp) -> Result<Reply, EngineError> {
        let time = seconds(at.as_millis());
        self.ask("/api/v1/query", &[("query", expression), ("time", &time)]).await
    }

    /// Evaluates at every step of a range.
    pub async fn range(&self, expression: &str, from: Timestamp, to: Timestamp, step: Duration) -> Result<Reply, EngineError> {
        let (from, to) = (seconds(from.as_millis()), seconds(to.as_millis()));
        let step = seconds(i64::try_from(step.as_millis()).unwrap_or(i64::MAX).max(1));
        self.ask("/api/v1/query_range", &[("query", expression), ("start", &from), ("end", &to), ("step", &step)]).await
    }

    async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Reply, EngineError> {
        let begun = Instant::now();
        self.metrics.queries.inc();
        let timeout = format!("{}s", self.timeout_s);
        let mut form = form_of(parameters);
        form.push_str(&form_of(&[("timeout", &timeout)]));
        let fetched = self.within_time(self.request(path, form, true)).await;
        let reply = fetched.and_then(|(status, body)| json::read(status, &body));
        self.metrics.query_seconds.observe(begun.elapsed().as_secs_f64());
        if let Err(err) = &reply {
            self.metrics.failed_queries.get_or_create(&ByReason { reason: reason(err) }).inc();
        }
        reply
    }

    async fn within_time<T>(&self, work: impl Future<Output = Result<T, EngineError>>) -> Result<T, EngineError> {
        let answered = tokio::time::timeout(Duration::from_secs(self.timeout_s), work).await;
        answered.unwrap_or(Err(EngineError::Timeout(self.timeout_s)))
    }

    /// A status and a body, whatever they say.
    async fn request(&self, path: &str, form: String, post: bool) -> Result<(u16, Vec<u8>), EngineError> {
        let unreachable = |err: std::io::Error| EngineError::Unreachable(err.to_string());
        let request = if post {
            let request = self.store.post(path).await.map_err(unreachable)?;
            request.header("Content-Type", "application/x-www-form-urlencoded").body(form)
        } else {
            self.store.get(path, &form).await.map_err(unreachable)?
        };
        let response = request.header("Accept", "application/json").send().await.map_err(|err| self.unreachable(&err))?;
        let status = response.status().as_u16();
        match body_of(response, self.answer_bytes_max).await {
            Ok(body) => Ok((status, body)),
            Err(BodyError::TooLarge) => Err(EngineError::TooLarge(self.answer_bytes_max)),
            Err(BodyError::Failed(err)) => Err(self.unreachable(&err)),
        }
    }

    fn unreachable(&self, err: &reqwest::Error) -> EngineError {
        if err.is_timeout() { EngineError::Timeout(self.timeout_s) } else { EngineError::Unreachable(cause(err)) }
    }
}

const fn reason(err: &EngineError) -> &'static str {
    match err {
        EngineError::BadQuery(_) => "bad_query",
        EngineError::Execution(_) => "execution",
        EngineError::Timeout(_) => "timeout",
        EngineError::Unreachable(_) => "unreachable",
        EngineError::Status { .. } => "status",
        EngineError::TooLarge(_) => "too_large",
        EngineError::Answer(_) => "answer",
    }
}

/// Unix seconds with milliseconds.
fn seconds(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    format!("{sign}{}.{:03}", ms / 1_000, ms % 1_000)
}

/// Parameters as a form writes them, each with a `&` behind it.
fn form_of(parameters: &[(&str, &str)]) -> String {
    let mut form = String::new();
    for (name, value) in parameters {
        form.push_str(name);
        form.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => form.push(char::from(byte)),
                _ => form.push_str(&format!("%{byte:02X}")),
            }
        }
        form.push('&');
    }
    form
}

/// Words of the store for a person.
fn words(text: &str) -> String {
    quote(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_escaped() {
        assert_eq!(form_of(&[("query", "a{b=\"ü\"} + 1")]), "query=a%7Bb%3D%22%C3%BC%22%7D%20%2B%201&");
        assert_eq!((seconds(1_500), seconds(-1_500), seconds(7)), ("1.500".into(), "-1.500".into(), "0.007".into()));
    }
}
