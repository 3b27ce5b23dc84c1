//! The envelope of every answer, and how errors look.

use std::io::{self, Write};

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Answer;
use crate::query::{QueryRefusal, RefusalKind};

/// Bytes that are sent at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that may wait for a slow client; the writer waits then.
const CHUNKS_MAX: usize = 4;

const fn status_of(kind: RefusalKind) -> u16 {
    match kind {
        RefusalKind::BadData => 400,
        RefusalKind::Execution => 422,
        RefusalKind::Canceled => 499,
        RefusalKind::Timeout | RefusalKind::Unavailable => 503,
        RefusalKind::NotFound => 404,
        RefusalKind::Internal => 500,
    }
}

/// An error in Prometheus's form.
pub(super) fn refuse(refusal: QueryRefusal) -> Response {
    let status = StatusCode::from_u16(status_of(refusal.kind)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = json!({ "status": "error", "errorType": refusal.kind.as_str(), "error": refusal.message });
    (status, headers(), body.to_string()).into_response()
}

const fn headers() -> [(header::HeaderName, &'static str); 2] {
    [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")]
}

/// A small answer.
pub(super) fn data(data: &Value) -> Answer {
    data_and(data, &[], &[])
}

/// A small answer with remarks.
pub(super) fn data_and(data: &Value, warnings: &[String], infos: &[String]) -> Answer {
    let mut body = json!({ "status": "success", "data": data });
    for (name, remarks) in [("warnings", warnings), ("infos", infos)] {
        if !remarks.is_empty() {
            body[name] = remarks.into();
        }
    }
    Ok((headers(), body.to_string()).into_response())
}

/// An answer of any size: `write` writes the data on another thread, and waits while the client is slow.
pub(super) fn stream(
    warnings: Vec<String>,
    infos: Vec<String>,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
) -> Response {
    let body = streamed(move |out| {
        out.write_all(b"{\"status\":\"success\",\"data\":")?;
        write(out)?;
        for (name, remarks) in [("warnings", warnings), ("infos", infos)] {
            if !remarks.is_empty() {
                write!(out, ",\"{name}\":{}", Value::from(remarks))?;
            }
        }
        out.write_all(b"}")
    });
    (headers(), body).into_response()
}

/// A body that is written on another thread while it is sent.
pub(super) fn streamed(write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) -> Body {
    let (sender, receiver) = mpsc::channel::<Bytes>(CHUNKS_MAX);
    tokio::task::spawn_blocking(move || {
        let mut out = Chunks { sender, chunk: Vec::with_capacity(CHUNK_BYTES) };
        // It fails only when the client is gone; there is nobody left to tell.
        let _ = write(&mut out).and_then(|()| out.flush());
    });
    Body::from_stream(futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|chunk| (Ok::<_, io::Error>(chunk), receiver))
    }))
}

struct Chunks {
    sender: mpsc::Sender<Bytes>,
    chunk: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        self.sender.blocking_send(chunk.into()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
