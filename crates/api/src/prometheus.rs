//! Prometheus's HTTP API, as Grafana, promtool and scripts speak it: the paths, parameters, JSON and errors of Prometheus 3.
//!
//! **Takes** GET requests, and POST requests with a form. **Gives** `{"status","data","errorType","error","warnings",
//! "infos"}`. **Never** deletes series, never takes alerts of others, never shows a secret.
//!
//! Start reading at [`routes`], then `queries`.

mod answer;

mod params;

mod encode;

mod escaping;

mod queries;

mod tree;

mod catalogue;

mod federate;

mod rules;

mod targets;

mod status;

mod remote;

use std::sync::Arc;

use axum::Router;
use axum::extract::{RawPathParams, Request, State};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, get, on, post};
use tokio::time::Instant;

use crate::context::Context;
use crate::query::QueryRefusal;
use params::Params;

pub use encode::{float_text, time_text};
pub use params::{parse_duration_ms, parse_time_ms};

/// The paths, in the order of Prometheus's documentation.
pub(crate) fn routes() -> Router<Arc<Context>> {
    Router::new()
        .route("/api/v1/query", form("prometheus.query", queries::instant))
        .route("/api/v1/query_range", form("prometheus.query_range", queries::range))
        .route("/api/v1/query_exemplars", form("prometheus.query_exemplars", catalogue::exemplars))
        .route("/api/v1/format_query", form("prometheus.format_query", queries::format))
        .route("/api/v1/parse_query", form("prometheus.parse_query", queries::parse))
        .route("/api/v1/series", form("prometheus.series", catalogue::series))
        .route("/api/v1/labels", form("prometheus.labels", catalogue::labels))
        .route("/api/v1/label/{name}/values", form("prometheus.label_values", catalogue::label_values))
        .route("/api/v1/metadata", form("prometheus.metadata", catalogue::metadata))
        .route("/api/v1/rules", form("prometheus.rules", rules::rules))
        .route("/api/v1/alerts", form("prometheus.alerts", rules::alerts))
        .route("/api/v1/targets", form("prometheus.targets", targets::targets))
        .route("/api/v1/targets/metadata", form("prometheus.targets_metadata", targets::metadata))
        .route("/api/v1/scrape_pools", form("prometheus.scrape_pools", targets::pools))
        .route("/api/v1/alertmanagers", form("prometheus.alertmanagers", status::alertmanagers))
        .route("/api/v1/status/config", form("prometheus.status", status::config))
        .route("/api/v1/status/flags", form("prometheus.status", status::flags))
        .route("/api/v1/status/runtimeinfo", form("prometheus.status", status::runtime))
        .route("/api/v1/status/buildinfo", form("prometheus.status", status::build))
        .route("/api/v1/status/tsdb", form("prometheus.status", status::tsdb))
        .route("/api/v1/status/walreplay", form("prometheus.status", status::wal_replay))
        .route("/federate", form("prometheus.federate", federate::federate))
        .route("/api/v1/read", post(remote::read))
        .route("/api/v1/write", post(remote::write))
        .route("/-/healthy", get(status::healthy).head(status::healthy))
        .route("/-/ready", get(status::ready).head(status::ready))
        .route("/-/reload", post(status::reload).put(status::reload))
}

type Answer = Result<Response, QueryRefusal>;

/// A path that takes its parameters from the query, or from a form.
fn form<F, R>(name: &'static str, handler: F) -> MethodRouter<Arc<Context>>
where
    F: Fn(Arc<Context>, Params) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    let answer = move |State(context): State<Arc<Context>>, path: RawPathParams, request: Request| {
        let handler = handler.clone();
        async move {
            let began = Instant::now();
            let metrics = context.metrics.clone();
            let answered = match Params::of(&path, request).await {
                Ok(params) => handler(context, params).await,
                Err(refusal) => Err(refusal),
            };
            let response = answered.unwrap_or_else(answer::refuse);
            metrics.count(name, response.status().as_u16(), began.elapsed());
            response
        }
    };
    on(MethodFilter::GET.or(MethodFilter::POST), answer)
}
