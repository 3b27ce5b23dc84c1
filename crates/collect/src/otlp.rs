//! OpenTelemetry: logs, metrics and traces over gRPC and HTTP, in protobuf and JSON.
//!
//! **Takes** OTLP export requests from Claude Code and from any service. **Gives** one event per log record, data
//! point and span; Claude Code's own records come with their meaning as a [`Fact`](paramedic_model::Fact). **Never**
//! answers before the events are stored, never fails a request for one bad record (it is rejected in the answer),
//! never lets a small body become a large amount of memory.
//!
//! Whatever the transport and the encoding, a request becomes the same tree of records (`wire` and `json`) and goes
//! through the same conversion (`logs`, `measurements`, `spans`), so the same telemetry gives the same events.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use paramedic_model::{Clock, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::sink::Sink;
use convert::Bounds;
use samples::Tap;

mod config;
mod receiver;

mod http;

mod grpc;

mod wire;

mod json;

mod convert;

mod logs;

mod claude;

mod measurements;

mod samples;

mod spans;

mod resource;

mod known;

mod value;

pub(crate) mod clean;

mod base64;

mod meter;

pub use config::{SampleSettings, Settings};
pub use convert::Converted;
pub use grpc::ServeError;
pub use meter::{AnswerLabels, Labels, Metrics};
pub use receiver::Receiver;
pub use samples::naming;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Logs,
    Metrics,
    Traces,
}

impl Signal {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Metrics => "metrics",
            Self::Traces => "traces",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Grpc,
    Protobuf,
    Json,
}

impl Encoding {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Protobuf => "http-protobuf",
            Self::Json => "http-json",
        }
    }
}

/// Why a body is not an export request. Nothing of it was taken.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error(transparent)]
    Protobuf(#[from] wire::Malformed),
    #[error("decode JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// One export request as events. `now` stands in for records without a time; records beyond `records_max` are
/// rejected and counted.
pub fn decode(signal: Signal, encoding: Encoding, body: &[u8], now: Timestamp, records_max: usize) -> Result<Converted, DecodeError> {
    decode_beside(signal, encoding, body, Bounds { now, records_max }, None)
}

/// The same, and the metrics of the request go to the tap too.
fn decode_beside(
    signal: Signal,
    encoding: Encoding,
    body: &[u8],
    bounds: Bounds,
    tap: Option<&mut Tap<'_>>,
) -> Result<Converted, DecodeError> {
    let mut converted = match (signal, encoding) {
        (Signal::Logs, Encoding::Json) => convert::groups(json::decode::<LogRecord>(body)?, bounds, None),
        (Signal::Metrics, Encoding::Json) => convert::groups(json::decode::<Metric>(body)?, bounds, tap),
        (Signal::Traces, Encoding::Json) => convert::groups(json::decode::<Span>(body)?, bounds, None),
        (Signal::Logs, _) => wire::convert::<LogRecord>(body, bounds, None)?,
        (Signal::Metrics, _) => wire::convert::<Metric>(body, bounds, tap)?,
        (Signal::Traces, _) => wire::convert::<Span>(body, bounds, None)?,
    };
    if signal == Signal::Logs {
        logs::join_exhausted(&mut converted.events);
    }
    Ok(converted)
}

/// The same for a request that is already decoded.
#[must_use]
pub fn logs_to_events(request: ExportLogsServiceRequest, now: Timestamp) -> Converted {
    let groups = request.resource_logs.into_iter().map(|group| convert::Group {
        resource: group.resource.unwrap_or_default().attributes,
        scopes: group.scope_logs.into_iter().map(|scope| (scope.scope.unwrap_or_default(), scope.log_records)).collect(),
    });
    let mut converted = convert::groups(groups.collect(), Bounds { now, records_max: usize::MAX }, None);
    logs::join_exhausted(&mut converted.events);
    converted
}

#[must_use]
pub fn metrics_to_events(request: ExportMetricsServiceRequest, now: Timestamp) -> Converted {
    let groups = request.resource_metrics.into_iter().map(|group| convert::Group {
        resource: group.resource.unwrap_or_default().attributes,
        scopes: group.scope_metrics.into_iter().map(|scope| (scope.scope.unwrap_or_default(), scope.metrics)).collect(),
    });
    convert::groups(groups.collect(), Bounds { now, records_max: usize::MAX }, None)
}

#[must_use]
pub fn traces_to_events(request: ExportTraceServiceRequest, now: Timestamp) -> Converted {
    let groups = request.resource_spans.into_iter().map(|group| convert::Group {
        resource: group.resource.unwrap_or_default().attributes,
        scopes: group.scope_spans.into_iter().map(|scope| (scope.scope.unwrap_or_default(), scope.spans)).collect(),
    });
    convert::groups(groups.collect(), Bounds { now, records_max: usize::MAX }, None)
}

/// Routes for OTLP over HTTP: `POST /v1/logs`, `/v1/metrics` and `/v1/traces`. A [`Receiver`] gives its metrics too.
pub fn http_router(sink: Arc<dyn Sink>, clock: Arc<dyn Clock>, settings: Settings) -> axum::Router {
    Receiver::new(sink, clock, settings).http_router()
}

/// Serves OTLP over gRPC until `shutdown` is cancelled and the requests under way are answered.
pub async fn serve_grpc(
    listener: tokio::net::TcpListener,
    sink: Arc<dyn Sink>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    Receiver::new(sink, clock, settings).serve_grpc(listener, shutdown).await
}
