//! What this server is and holds, in Prometheus's shapes; and whether it is well.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use paramedic_samples::{Samples, SamplesError};
use serde_json::{Value, json};

use super::params::Params;
use super::{Answer, answer};
use crate::context::Context;
use crate::query::{QueryRefusal, RefusalKind};

/// The version of Prometheus whose API this is; Grafana decides by it what it may ask.
const API_VERSION: &str = "3.5.0";
/// Entries of each list of `status/tsdb` where none is asked for, and the most.
const TOP_DEFAULT: usize = 10;
const TOP_MAX: usize = 10_000;
/// Series that `status/tsdb` looks at.
const SERIES_MAX: usize = 5_000_000;

pub(super) async fn alertmanagers(_: Arc<Context>, _: Params) -> Answer {
    answer::data(&json!({ "activeAlertmanagers": [], "droppedAlertmanagers": [] }))
}

pub(super) async fn config(context: Arc<Context>, _: Params) -> Answer {
    answer::data(&json!({ "yaml": context.instruments.settings }))
}

pub(super) async fn flags(context: Arc<Context>, _: Params) -> Answer {
    answer::data(&json!(context.instruments.flags))
}

pub(super) async fn build(context: Arc<Context>, _: Params) -> Answer {
    let version = &context.about.version;
    answer::data(&json!({
        "version": API_VERSION,
        "revision": "",
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
        "application": "Paramedic",
        "applicationVersion": version,
    }))
}

pub(super) async fn runtime(context: Arc<Context>, _: Params) -> Answer {
    let samples = context.instruments.samples.as_ref();
    let retention = samples.map_or_else(String::new, |samples| format!("{}h", samples.settings().retention_h));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let started = context.about.started_at;
    answer::data(&json!({
        "startTime": started,
        "CWD": std::env::current_dir().map(|dir| dir.display().to_string()).unwrap_or_default(),
        "hostname": "",
        "serverTime": context.now(),
        "reloadConfigSuccess": true,
        "lastConfigTime": started,
        "corruptionCount": 0,
        "goroutineCount": 0,
        "GOMAXPROCS": threads,
        "GOMEMLIMIT": 0,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": retention,
    }))
}

pub(super) async fn tsdb(context: Arc<Context>, params: Params) -> Answer {
    let samples = context.instruments.samples.clone().ok_or_else(QueryRefusal::no_engine)?;
    let top = match params.limit("limit")? {
        usize::MAX => TOP_DEFAULT,
        limit => limit.min(TOP_MAX),
    };
    let now_ms = context.now().as_millis();
    let counted = tokio::task::spawn_blocking(move || count(&samples, now_ms, top)).await;
    let counted = counted.map_err(|error| QueryRefusal::new(RefusalKind::Internal, error.to_string()))?;
    answer::data(&counted.map_err(|error| QueryRefusal::new(RefusalKind::Internal, error.to_string()))?)
}

fn count(samples: &Samples, now_ms: i64, top: usize) -> Result<Value, SamplesError> {
    let stats = samples.stats();
    let head_ms = i64::try_from(samples.settings().head_s.saturating_mul(1_000)).unwrap_or(i64::MAX);
    let mut by_metric: BTreeMap<String, u64> = BTreeMap::new();
    let mut by_pair: BTreeMap<String, u64> = BTreeMap::new();
    let mut values: BTreeMap<String, BTreeMap<String, ()>> = BTreeMap::new();
    for labels in samples.series(&[], now_ms.saturating_sub(head_ms), now_ms, SERIES_MAX)? {
        *by_metric.entry(labels.metric_name().to_owned()).or_default() += 1;
        for label in labels.iter() {
            *by_pair.entry(format!("{}={}", label.name, label.value)).or_default() += 1;
            values.entry(label.name.to_string()).or_default().insert(label.value.to_string(), ());
        }
    }
    let size =
        |(name, values): (&String, &BTreeMap<String, ()>)| (name.clone(), values.keys().map(|value| value.len() as u64).sum::<u64>());
    Ok(json!({
        "headStats": {
            "numSeries": stats.series,
            "numLabelPairs": by_pair.len(),
            "chunkCount": stats.head_chunks,
            "minTime": now_ms.saturating_sub(head_ms),
            "maxTime": stats.newest_ms.unwrap_or(0),
        },
        "seriesCountByMetricName": largest(by_metric, top),
        "labelValueCountByLabelName": largest(values.iter().map(|(name, values)| (name.clone(), values.len() as u64)), top),
        "memoryInBytesByLabelName": largest(values.iter().map(size), top),
        "seriesCountByLabelValuePair": largest(by_pair, top),
    }))
}

fn largest(counts: impl IntoIterator<Item = (String, u64)>, top: usize) -> Vec<Value> {
    let mut all: Vec<(String, u64)> = counts.into_iter().collect();
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all.into_iter().take(top).map(|(name, value)| json!({ "name": name, "value": value })).collect()
}

/// The log is read back before the server listens.
pub(super) async fn wal_replay(_: Arc<Context>, _: Params) -> Answer {
    answer::data(&json!({ "min": 0, "max": 0, "current": 0, "state": "done" }))
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

pub(super) async fn healthy() -> Response {
    plain(StatusCode::OK, "Paramedic is Healthy.\n")
}

pub(super) async fn ready(State(context): State<Arc<Context>>) -> Response {
    if context.health.is_ready() {
        plain(StatusCode::OK, "Paramedic is Ready.\n")
    } else {
        plain(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable")
    }
}

pub(super) async fn reload(State(context): State<Arc<Context>>) -> Response {
    let Some(reload) = context.instruments.reload.clone() else {
        return plain(StatusCode::FORBIDDEN, "Lifecycle API is not enabled.");
    };
    match reload.reload().await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {why}\n")).into_response(),
    }
}
