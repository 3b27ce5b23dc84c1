//! A request's body, read whole where it is small enough.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::HeaderMap;
use hyper::body::{Body, Frame, Incoming};

use super::Which;
use super::watchdog::Watchdog;

/// So much is reserved at once on the word of a `content-length`; more only when it came.
const RESERVED_BYTES_MAX: usize = 1 << 20;

/// How long a client may take to send a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    pub between: Option<Duration>,
    pub total: Option<Duration>,
}

/// A body as far as it was read.
#[derive(Debug)]
pub enum Collected {
    Whole {
        bytes: Bytes,
        trailers: Option<Box<HeaderMap>>,
    },
    /// What was read when it became clear, and the rest, which can be passed on without being held.
    TooLarge {
        head: Vec<Bytes>,
        rest: Incoming,
    },
}

/// Why a body has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CollectError {
    /// The client closed the connection, or what it sent is no body.
    #[error("read the request's body: the connection was closed, or it is malformed")]
    Cut,
    #[error("read the request's body: the client sends it too slowly")]
    TooSlow(Which),
}

/// Reads a body of at most `bytes_max` bytes. One that came in one piece is not copied.
///
/// # Errors
/// When the client goes away before the body's end, or takes too long.
pub async fn collect(mut body: Incoming, bytes_max: usize, wait: Wait) -> Result<Collected, CollectError> {
    let said = body.size_hint().lower();
    if said > bytes_max as u64 {
        return Ok(Collected::TooLarge { head: Vec::new(), rest: body });
    }
    let whole = |bytes| Ok(Collected::Whole { bytes, trailers: None });
    if body.is_end_stream() {
        return whole(Bytes::new());
    }
    let mut watchdog = Watchdog::new(wait.between, wait.total);
    let mut first = Bytes::new();
    let mut more = BytesMut::new();
    while let Some(frame) = next(&mut body, &mut watchdog).await? {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                let bytes = if more.is_empty() { first } else { more.freeze() };
                return Ok(Collected::Whole { bytes, trailers: frame.into_trailers().ok().map(Box::new) });
            }
        };
        if first.len().max(more.len()) + data.len() > bytes_max {
            let read = if more.is_empty() { first } else { more.freeze() };
            return Ok(Collected::TooLarge { head: vec![read, data].into_iter().filter(|part| !part.is_empty()).collect(), rest: body });
        }
        if first.is_empty() {
            first = data;
        } else {
            if more.is_empty() {
                let expected =
                    usize::try_from(said).unwrap_or(0).clamp(first.len() + data.len(), RESERVED_BYTES_MAX.max(first.len() + data.len()));
                more.reserve(expected);
                more.extend_from_slice(&first);
            }
            more.extend_from_slice(&data);
        }
        if body.is_end_stream() {
            break;
        }
    }
    whole(if more.is_empty() { first } else { more.freeze() })
}

async fn next(body: &mut Incoming, watchdog: &mut Watchdog) -> Result<Option<Frame<Bytes>>, CollectError> {
    poll_fn(|cx| match Pin::new(&mut *body).poll_frame(cx) {
        Poll::Ready(frame) => {
            watchdog.saw();
            Poll::Ready(if watchdog.is_over() {
                Err(CollectError::TooSlow(Which::Total))
            } else {
                frame.transpose().map_err(|_| CollectError::Cut)
            })
        }
        Poll::Pending => watchdog.poll(cx).map(|which| Err(CollectError::TooSlow(which))),
    })
    .await
}
