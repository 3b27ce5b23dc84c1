//! The routes: one per operation, and the fixed ones (health, metrics, live stream, documents).

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{RawPathParams, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, on};
use paramedic_model::text;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::context::Context;
use crate::error::{ApiError, Code};
use crate::health::Phase;
use crate::registry::{Caller, Input, Method, Operation, Permission, operations};
use crate::{compat, guard, openapi, ws};

/// The largest body of most operations, in bytes: room for the longest note and its JSON.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// The longest name of an actor that is kept, in bytes.
const ACTOR_BYTES_MAX: usize = 64;

/// Everything for programs, behind the cross-site check.
pub fn router(context: Arc<Context>) -> Router {
    let mut routes: Router<Arc<Context>> = Router::new();
    for operation in operations() {
        routes = routes.route(operation.path, route_of(operation));
    }
    // After all operations: two of them may share a path, and a path has one answer for other methods.
    let routes = routes.merge(crate::prometheus::routes()).method_not_allowed_fallback(wrong_method);
    let routes = routes
        .route("/api/openapi.json", get(document))
        .route("/api/status", get(compat::status))
        .route("/api/sessions", get(compat::sessions))
        .route("/api/{*rest}", axum::routing::any(unknown))
        .route("/health", get(health))
        .route("/healthz", get(health_checks))
        .route("/health/live", get(live))
        .route("/health/ready", get(health_checks))
        .route("/health/startup", get(startup))
        .route("/metrics", get(metrics))
        .route("/ws", get(ws::serve))
        .with_state(Arc::clone(&context));
    guard::protect(routes, context)
}

fn route_of(operation: Operation) -> MethodRouter<Arc<Context>> {
    let filter = match operation.method {
        Method::Get => axum::routing::MethodFilter::GET,
        Method::Post => axum::routing::MethodFilter::POST,
    };
    let handler = async move |State(context): State<Arc<Context>>, parameters: RawPathParams, request: Request| {
        let began = Instant::now();
        let metrics = context.metrics.clone();
        let response = match answer(&operation, context, &parameters, request).await {
            Ok(body) => json_response(StatusCode::OK, body),
            Err(error) => error.into_response(),
        };
        metrics.count(operation.id, response.status().as_u16(), began.elapsed());
        response
    };
    on(filter, handler)
}

async fn wrong_method() -> ApiError {
    ApiError::new(Code::MethodNotAllowed, "this path does not take that method", "see /api/openapi.json")
}

async fn unknown() -> ApiError {
    ApiError::new(Code::NotFound, "there is no such path in the API", "see /api/openapi.json for all paths")
}

async fn answer(operation: &Operation, context: Arc<Context>, parameters: &RawPathParams, request: Request) -> Result<Vec<u8>, ApiError> {
    let caller = Caller { actor: actor(request.headers()) };
    let input = match operation.method {
        Method::Get => Input::Query(query_of(parameters, request.uri().query().unwrap_or(""))),
        Method::Post => Input::Json(body_of(operation, parameters, request).await?),
    };
    operation.call(context, caller, input).await
}

/// Path parameters go first, so that the same key in the query is refused as told twice.
fn query_of(parameters: &RawPathParams, query: &str) -> String {
    let mut all = String::new();
    for (name, value) in parameters {
        all.push_str(name);
        all.push('=');
        encode_component(value, &mut all);
        all.push('&');
    }
    all.push_str(query);
    if all.ends_with('&') {
        all.pop();
    }
    all
}

/// Percent-encodes everything but unreserved characters (RFC 3986, 2.3).
pub fn encode_component(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for nibble in [byte >> 4, byte & 15] {
                out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase());
            }
        }
    }
}

async fn body_of(operation: &Operation, parameters: &RawPathParams, request: Request) -> Result<Value, ApiError> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let max = operation.body_bytes_max;
    let bytes = to_bytes(request.into_body(), max)
        .await
        .map_err(|_| ApiError::new(Code::TooLarge, format!("the body is larger than {max} bytes"), "send less text"))?;
    if operation.permission == Permission::Write && !bytes.is_empty() && !content_type.starts_with("application/json") {
        return Err(ApiError::new(
            Code::UnsupportedMediaType,
            format!("the body must be application/json, not {:?}", text::head(&content_type, 100)),
            "set the header content-type: application/json",
        ));
    }
    let mut value: Value = if bytes.is_empty() {
        json!({})
    } else {
        serde_json::from_slice(&bytes)
            .map_err(|error| ApiError::new(Code::BadRequest, format!("the body is not valid JSON: {error}"), "send one JSON object"))?
    };
    let Some(object) = value.as_object_mut() else {
        return Err(ApiError::new(Code::BadRequest, "the body is not a JSON object", "send one JSON object"));
    };
    for (name, value) in parameters {
        object.insert(name.to_owned(), Value::String(value.to_owned()));
    }
    Ok(value)
}

/// Who the caller says to be. It is a claim for the record, not a proof.
fn actor(headers: &HeaderMap) -> String {
    let values: Vec<&str> = headers.get_all("x-paramedic-actor").iter().map(|value| value.to_str().unwrap_or("")).collect();
    // Two names are a list, as proxies write it, and a list is no person.
    let claimed = values.join(", ");
    let claimed = claimed.trim();
    text::one_line(text::head(if claimed.is_empty() { "http" } else { claimed }, ACTOR_BYTES_MAX)).into_owned()
}

pub(crate) fn json_response(status: StatusCode, body: impl Into<Body>) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body.into()).into_response()
}

async fn document(State(context): State<Arc<Context>>) -> Response {
    json_response(StatusCode::OK, openapi::document(&context.about.version).to_string())
}

/// For humans and old monitors: 200 while it is alive at all and not told to stop.
async fn health(State(context): State<Arc<Context>>) -> Response {
    let now = context.now();
    let (status, word) = match context.health.phase() {
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        Phase::Starting => (StatusCode::OK, "starting"),
        Phase::Ready if !context.health.is_ready() => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        Phase::Ready if context.health.is_degraded() => (StatusCode::OK, "degraded"),
        Phase::Ready => (StatusCode::OK, "ok"),
    };
    let body = json!({
        "status": word,
        "timestamp": now,
        "uptime": now.since(context.about.started_at).as_secs_f64(),
        "version": context.about.version,
        "checks": context.health.checks(),
    });
    json_response(status, body.to_string())
}

/// Should traffic be sent here? 503 while starting, draining, or when an essential check fails.
async fn health_checks(State(context): State<Arc<Context>>) -> Response {
    let status = if context.health.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = match (status, context.health.phase()) {
        (StatusCode::OK, _) if context.health.is_degraded() => "degraded",
        (StatusCode::OK, _) => "ok",
        (_, Phase::Starting) => "starting",
        (_, Phase::Draining) => "draining",
        (_, Phase::Ready) => "unavailable",
    };
    json_response(status, json!({ "status": word, "checks": context.health.checks() }).to_string())
}

/// Should the process be restarted? Answering at all is the proof of life.
async fn live() -> Response {
    json_response(StatusCode::OK, json!({ "status": "ok" }).to_string())
}

/// Has it started? 503 until it has, 200 ever after.
async fn startup(State(context): State<Arc<Context>>) -> Response {
    let started = context.health.phase() != Phase::Starting;
    let status = if started { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_response(status, json!({ "status": if started { "ok" } else { "starting" } }).to_string())
}

/// The metrics, in OpenMetrics for whoever says to know it, else in the older text format.
async fn metrics(State(context): State<Arc<Context>>, headers: HeaderMap) -> Response {
    // The store sets its gauges when it counts itself.
    let _ = context.store.stats();
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &context.registry) {
        Ok(()) if crate::exposition::wants_open_metrics(&headers) => {
            ([(header::CONTENT_TYPE, crate::exposition::OPEN_METRICS)], text).into_response()
        }
        Ok(()) => ([(header::CONTENT_TYPE, crate::exposition::TEXT)], crate::exposition::text_of(&text)).into_response(),
        Err(_) => ApiError::new(Code::Internal, "failed to write the metrics", "this is a defect").into_response(),
    }
}
