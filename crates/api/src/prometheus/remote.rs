//! The ends of the remote protocols: the body goes to whoever takes it, as it came.

use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use crate::context::Context;
use crate::instruments::RemoteEnd;

/// The largest compressed body, in bytes.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

pub(super) async fn write(State(context): State<Arc<Context>>, request: Request) -> Response {
    let end = context.instruments.remote_write.clone();
    pass_on(&context, end, "prometheus.write", "remote write", request).await
}

pub(super) async fn read(State(context): State<Arc<Context>>, request: Request) -> Response {
    let end = context.instruments.remote_read.clone();
    pass_on(&context, end, "prometheus.read", "remote read", request).await
}

async fn pass_on(context: &Context, end: Option<Arc<dyn RemoteEnd>>, name: &'static str, what: &str, request: Request) -> Response {
    let began = Instant::now();
    let response = match end {
        None => (StatusCode::NOT_FOUND, format!("{what} is not enabled here\n")).into_response(),
        Some(end) => {
            let (head, body) = request.into_parts();
            match to_bytes(body, BODY_BYTES_MAX).await {
                Ok(body) => end.handle(head.headers, body).await,
                Err(_) => (StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {BODY_BYTES_MAX} bytes\n")).into_response(),
            }
        }
    };
    context.metrics.count(name, response.status().as_u16(), began.elapsed());
    response
}
