//! OTLP over HTTP (the OTLP specification, section "OTLP/HTTP").

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use prost::Message;
use tokio::time::Instant;

use super::receiver::{Inner, Partial, Receiver, Refusal};
use super::{Encoding, Signal};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// `google.rpc.Status`, as the specification wants errors to be told.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// `Export…PartialSuccess` inside `Export…Response`: the three signals have the same numbers.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub(super) rejected: i64,
    #[prost(string, tag = "2")]
    pub(super) error_message: String,
}

impl ExportResponse {
    pub(super) fn new(partial: Partial) -> Self {
        let partial_success = partial.reason.map(|reason| PartialSuccess {
            rejected: i64::try_from(partial.rejected).unwrap_or(i64::MAX),
            error_message: reason.to_owned(),
        });
        Self { partial_success }
    }
}

impl Receiver {
    /// Routes for OTLP over HTTP. Any other method or path is left to the router that this is merged into.
    pub fn http_router(&self) -> axum::Router {
        let route = |signal: Signal| {
            let inner = self.inner.clone();
            post(move |request: Request| answer(inner.clone(), signal, request))
        };
        axum::Router::new()
            .route("/v1/logs", route(Signal::Logs))
            .route("/v1/metrics", route(Signal::Metrics))
            .route("/v1/traces", route(Signal::Traces))
    }
}

async fn answer(inner: Arc<Inner>, signal: Signal, request: Request) -> Response {
    let encoding = match media_type(request.headers()) {
        Ok(encoding) => encoding,
        Err(refusal) => {
            let answer = Err(refusal);
            inner.answered(signal, Encoding::Protobuf, &answer, Instant::now());
            return written(&inner, signal, Encoding::Json, answer);
        }
    };
    let answer = receive(&inner, signal, encoding, request).await;
    written(&inner, signal, encoding, answer)
}

async fn receive(inner: &Inner, signal: Signal, encoding: Encoding, request: Request) -> Result<Partial, Refusal> {
    let mut started = Instant::now();
    let handled = async {
        let _place = inner.admit()?;
        let compression = compression(request.headers())?;
        let body = read_body(inner, request).await?;
        started = Instant::now();
        let body = match compression {
            Compression::None => body,
            Compression::Gzip => inflate(flate2::read::MultiGzDecoder::new(&*body), inner.settings.decoded_bytes_max)?,
            Compression::Deflate => inflate(flate2::read::ZlibDecoder::new(&*body), inner.settings.decoded_bytes_max)?,
        };
        inner.take(signal, encoding, body).await
    }
    .await;
    inner.answered(signal, encoding, &handled, started);
    handled
}

fn media_type(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    let named = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let bare = named.split(';').next().unwrap_or_default().trim();
    if bare.eq_ignore_ascii_case(PROTOBUF) || bare.eq_ignore_ascii_case("application/protobuf") {
        Ok(Encoding::Protobuf)
    } else if bare.eq_ignore_ascii_case(JSON) {
        Ok(Encoding::Json)
    } else {
        Err(Refusal::Unsupported(format!("send {PROTOBUF} or {JSON} as the content type")))
    }
}

enum Compression {
    None,
    Gzip,
    Deflate,
}

fn compression(headers: &HeaderMap) -> Result<Compression, Refusal> {
    let named = headers.get(CONTENT_ENCODING).map_or("", |value| value.to_str().unwrap_or("?")).trim();
    match named.to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Compression::None),
        "gzip" | "x-gzip" => Ok(Compression::Gzip),
        "deflate" => Ok(Compression::Deflate),
        _ => Err(Refusal::Unsupported("compress with gzip or not at all".to_owned())),
    }
}

/// The body as sent, with a length or in chunks.
async fn read_body(inner: &Inner, request: Request) -> Result<Bytes, Refusal> {
    let bytes_max = inner.settings.body_bytes_max;
    let told = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if told.is_some_and(|told| told > bytes_max as u64) {
        return Err(Refusal::TooLarge(bytes_max));
    }
    let wait = Duration::from_secs(inner.settings.body_timeout_s.max(1));
    let collected = tokio::time::timeout(wait, Limited::new(request.into_body(), bytes_max).collect());
    match collected.await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge(bytes_max)),
        Ok(Err(_)) => Err(Refusal::Malformed("the body ended too early".to_owned())),
        Err(_) => Err(Refusal::Slow),
    }
}

/// Never writes more than `bytes_max`: a few kilobytes can unpack to gigabytes.
fn inflate(packed: impl Read, bytes_max: usize) -> Result<Bytes, Refusal> {
    let mut body = Vec::new();
    let read = packed.take(bytes_max as u64 + 1).read_to_end(&mut body);
    if body.len() > bytes_max {
        return Err(Refusal::TooLarge(bytes_max));
    }
    read.map_err(|error| Refusal::Malformed(format!("the compressed body is damaged: {error}")))?;
    Ok(body.into())
}

fn written(inner: &Inner, signal: Signal, encoding: Encoding, answer: Result<Partial, Refusal>) -> Response {
    let (status, body) = match &answer {
        Ok(partial) => (StatusCode::OK, success(signal, encoding, *partial)),
        Err(refusal) => {
            let (status, code) = codes(refusal);
            (status, failure(encoding, code, &refusal.message()))
        }
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let media_type = if encoding == Encoding::Json { JSON } else { PROTOBUF };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    if matches!(answer, Err(Refusal::Busy | Refusal::Unavailable(_))) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(inner.settings.retry_after_s));
    }
    response
}

/// HTTP status and `google.rpc.Code`. A busy receiver says 503 and not 429, because exporters exist that try again
/// after the one but not after the other (the Python exporter is one).
const fn codes(refusal: &Refusal) -> (StatusCode, i32) {
    match refusal {
        Refusal::Malformed(_) => (StatusCode::BAD_REQUEST, 3),
        Refusal::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, 3),
        Refusal::Unsupported(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, 3),
        Refusal::Busy | Refusal::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, 14),
        Refusal::Slow => (StatusCode::REQUEST_TIMEOUT, 4),
    }
}

fn success(signal: Signal, encoding: Encoding, partial: Partial) -> Vec<u8> {
    if encoding != Encoding::Json {
        return ExportResponse::new(partial).encode_to_vec();
    }
    let Some(reason) = partial.reason else { return b"{}".to_vec() };
    let rejected = match signal {
        Signal::Logs => "rejectedLogRecords",
        Signal::Metrics => "rejectedDataPoints",
        Signal::Traces => "rejectedSpans",
    };
    serde_json::json!({"partialSuccess": {rejected: partial.rejected.to_string(), "errorMessage": reason}}).to_string().into_bytes()
}

fn failure(encoding: Encoding, code: i32, message: &str) -> Vec<u8> {
    if encoding == Encoding::Json {
        return serde_json::json!({"code": code, "message": message}).to_string().into_bytes();
    }
    Status { code, message: message.to_owned() }.encode_to_vec()
}
