//! OTLP over gRPC.
//!
//! The messages are taken as bytes and walked like an HTTP body: decoding them whole, as generated services do,
//! would cost memory that nobody bounded.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EnabledCompressionEncodings, EncodeBuf, Encoder};
use tonic::codegen::Service;
use tonic::server::Grpc;

use super::http::ExportResponse;
use super::receiver::{Inner, Receiver, Refusal};
use super::{Encoding, Signal};

/// Requests that one connection may have under way.
const STREAMS_MAX: u32 = 64;
const KEEPALIVE_EVERY: Duration = Duration::from_secs(60);

/// Why the server stopped before it was told to.
#[derive(Debug, thiserror::Error)]
#[error("serve OTLP over gRPC: {0}")]
pub struct ServeError(#[from] tonic::transport::Error);

impl Receiver {
    /// Serves until `shutdown` is cancelled and the requests under way are answered.
    pub async fn serve_grpc(&self, listener: TcpListener, shutdown: CancellationToken) -> Result<(), ServeError> {
        let settings = &self.inner.settings;
        tonic::transport::Server::builder()
            .timeout(Duration::from_secs(settings.body_timeout_s.max(1) + settings.store_timeout_s.max(1)))
            .tcp_nodelay(true)
            .max_concurrent_streams(STREAMS_MAX)
            .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
            .add_routes(tonic::service::Routes::from(self.grpc_router()))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), shutdown.cancelled_owned())
            .await?;
        Ok(())
    }

    /// The three export services as routes.
    pub fn grpc_router(&self) -> axum::Router {
        let route = |signal: Signal| {
            let inner = self.inner.clone();
            axum::routing::post(move |request: axum::extract::Request| export(inner.clone(), signal, request))
        };
        axum::Router::new()
            .route("/opentelemetry.proto.collector.logs.v1.LogsService/Export", route(Signal::Logs))
            .route("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", route(Signal::Metrics))
            .route("/opentelemetry.proto.collector.trace.v1.TraceService/Export", route(Signal::Traces))
            .fallback(|| async { Status::unimplemented("only the OTLP export services are served here").into_http::<axum::body::Body>() })
    }
}

async fn export(inner: Arc<Inner>, signal: Signal, request: axum::extract::Request) -> axum::response::Response {
    let _place = match inner.admit() {
        Ok(place) => place,
        Err(refusal) => {
            let status = status(&refusal);
            inner.answered(signal, Encoding::Grpc, &Err(refusal), Instant::now());
            return status.into_http();
        }
    };
    let bytes_max = inner.settings.decoded_bytes_max;
    let mut gzip = EnabledCompressionEncodings::default();
    gzip.enable(CompressionEncoding::Gzip);
    let mut grpc = Grpc::new(RawCodec).apply_compression_config(gzip, gzip).apply_max_message_size_config(Some(bytes_max), None);
    grpc.unary(Export { inner: inner.clone(), signal }, request).await.map(axum::body::Body::new)
}

/// The handler of one signal.
struct Export {
    inner: Arc<Inner>,
    signal: Signal,
}

impl Service<tonic::Request<Bytes>> for Export {
    type Response = tonic::Response<Bytes>;
    type Error = Status;
    type Future = tonic::codegen::BoxFuture<Self::Response, Status>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let (inner, signal) = (self.inner.clone(), self.signal);
        Box::pin(async move {
            let started = Instant::now();
            let answer = inner.take(signal, Encoding::Grpc, request.into_inner()).await;
            inner.answered(signal, Encoding::Grpc, &answer, started);
            match answer {
                Ok(partial) => Ok(tonic::Response::new(ExportResponse::new(partial).encode_to_vec().into())),
                Err(refusal) => Err(status(&refusal)),
            }
        })
    }
}

/// Exporters try again after `UNAVAILABLE` and give up after `INVALID_ARGUMENT`.
fn status(refusal: &Refusal) -> Status {
    let message = refusal.message().into_owned();
    match refusal {
        Refusal::Malformed(_) | Refusal::Unsupported(_) => Status::invalid_argument(message),
        Refusal::TooLarge(_) => Status::out_of_range(message),
        Refusal::Busy | Refusal::Unavailable(_) => Status::unavailable(message),
        Refusal::Slow => Status::deadline_exceeded(message),
    }
}

/// Messages as bytes.
#[derive(Clone, Copy)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}
