//! An answer on its way to the client: passed on frame by frame, looked at, and ended early where it must be.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use serde_json::json;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::body::Cut;
use super::upstream::Answer;
use super::watchdog::Watchdog;
use crate::fault::Injection;

/// Frames smaller than this that have come already are passed on together, up to [`TOGETHER_BYTES_MAX`]: each frame costs
/// the connection a microsecond. Nothing is waited for.
const SMALL_BYTES: usize = 2 << 10;
const TOGETHER_BYTES_MAX: usize = 16 << 10;

/// Which time limit was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    BetweenFrames,
    Total,
}

/// How an answer's way to the client ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The upstream ended it, and all of it was passed on.
    Complete,
    UpstreamCut,
    ClientGone,
    TimedOut(Which),
    BrokenOff,
    /// The client did not take it.
    TooSlow,
    /// A drill's fault cut it.
    Injected,
}

/// Looks at an answer while it passes. A panic in it stops the looking, not the answer.
pub trait Tap: Send {
    /// Bytes of the body, in order, cut anywhere.
    fn frame(&mut self, bytes: &[u8]);
    /// Called once, at the end.
    fn end(&mut self, end: End);
}

/// What an event stream says last when it is ended before its end. Nothing: it is cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Farewell {
    pub timed_out: Option<Bytes>,
    pub broken_off: Option<Bytes>,
    pub upstream_cut: Option<Bytes>,
}

impl Farewell {
    /// What clients understand: an error event when a time limit is over or a switch breaks the answer off. An answer
    /// that the upstream cut is cut.
    #[must_use]
    pub fn usual() -> Self {
        Self {
            timed_out: Some(Self::event("timeout_error", "Paramedic ended this answer: its time limit was over")),
            broken_off: Some(Self::event("api_error", "Paramedic broke this answer off: an operator's switch asks for it")),
            upstream_cut: None,
        }
    }

    /// An error event in the API's shape.
    #[must_use]
    pub fn event(error_type: &str, message: &str) -> Bytes {
        let data = json!({"type": "error", "error": {"type": error_type, "message": message}});
        Bytes::from(format!("event: error\ndata: {data}\n\n"))
    }

    fn says(&self, end: End) -> Option<Bytes> {
        match end {
            End::TimedOut(_) => self.timed_out.clone(),
            End::BrokenOff => self.broken_off.clone(),
            End::UpstreamCut => self.upstream_cut.clone(),
            End::Complete | End::ClientGone | End::TooSlow | End::Injected => None,
        }
    }
}

/// What may end an answer before its end.
#[derive(Debug, Clone, Default)]
pub struct RelayLimits {
    /// The longest silence.
    pub between_frames: Option<Duration>,
    /// From now to the end.
    pub total: Option<Duration>,
    pub break_off: Option<CancellationToken>,
    pub farewell: Option<Arc<Farewell>>,
    /// A drill's fault in the answer.
    pub fault: Option<Injection>,
}

/// What comes after the frame that was given last.
#[derive(Debug)]
enum Next {
    Pass,
    /// One frame of ours, then on.
    Insert(Bytes),
    Cut,
    Done,
}

/// The body of an answer that passes.
pub struct Relay {
    source: Option<Answer>,
    tap: Option<Box<dyn Tap>>,
    deaf: bool,
    watchdog: Watchdog,
    break_off: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Only for an event stream that can be read, and added to, as it is.
    farewell: Option<Arc<Farewell>>,
    fault: Option<Injection>,
    tail: Tail,
    unflushed: bool,
    next: Next,
    /// What came of the upstream after the frame that was given last.
    held: Option<Frame<Bytes>>,
    /// The upstream cut the answer after the frame that was given last.
    source_cut: bool,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("next", &self.next).finish_non_exhaustive()
    }
}

/// The last bytes that were passed on.
#[derive(Debug, Clone, Copy, Default)]
struct Tail {
    bytes: [u8; 4],
    len: usize,
}

impl Tail {
    fn saw(&mut self, bytes: &[u8]) {
        let take = bytes.len().min(self.bytes.len());
        self.bytes.rotate_left(take);
        self.bytes[4 - take..].copy_from_slice(&bytes[bytes.len() - take..]);
        self.len = (self.len + take).min(4);
    }

    /// Nothing was passed on, or an event ended.
    fn at_border(self) -> bool {
        let seen = &self.bytes[4 - self.len..];
        seen.is_empty() || seen.ends_with(b"\n\n") || seen.ends_with(b"\r\n\r\n") || seen.ends_with(b"\r\r")
    }
}

/// Whether frames can be added to an answer with these headers.
fn is_open_event_stream(headers: &HeaderMap) -> bool {
    let events = headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().get(..17).is_some_and(|start| start.eq_ignore_ascii_case(b"text/event-stream")));
    events && !headers.contains_key(CONTENT_ENCODING) && !headers.contains_key(CONTENT_LENGTH)
}

impl Relay {
    /// `headers` are those of the answer.
    #[must_use]
    pub fn new(answer: Answer, headers: &HeaderMap, tap: Option<Box<dyn Tap>>, limits: RelayLimits) -> Self {
        let open = is_open_event_stream(headers);
        let fault = limits.fault.filter(|fault| open || !matches!(fault, Injection::Malformed));
        Self {
            source: Some(answer),
            tap,
            deaf: false,
            watchdog: Watchdog::new(limits.between_frames, limits.total),
            break_off: limits.break_off.map(|token| Box::pin(token.cancelled_owned())),
            farewell: limits.farewell.filter(|_| open),
            fault,
            tail: Tail::default(),
            unflushed: false,
            next: Next::Pass,
            held: None,
            source_cut: false,
        }
    }

    /// A frame, and the small ones that have come after it.
    fn together(&mut self, first: Bytes, cx: &mut Context<'_>) -> Bytes {
        let mut all = BytesMut::new();
        let mut len = first.len();
        while len < TOGETHER_BYTES_MAX
            && let Some(source) = &mut self.source
            && let Poll::Ready(next) = Pin::new(source).poll_frame(cx)
        {
            match next {
                Some(Ok(frame)) if frame.data_ref().is_some_and(|data| data.len() < SMALL_BYTES) => {
                    if all.is_empty() {
                        all.reserve(TOGETHER_BYTES_MAX + SMALL_BYTES);
                        all.extend_from_slice(&first);
                    }
                    all.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
                    len = all.len();
                }
                Some(Ok(frame)) => {
                    self.held = Some(frame);
                    break;
                }
                Some(Err(_)) => {
                    self.source_cut = true;
                    break;
                }
                None => {
                    self.next = Next::Done;
                    break;
                }
            }
        }
        if all.is_empty() { first } else { all.freeze() }
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(frame) = self.held.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if self.source_cut {
            return Poll::Ready(Some(Err(Cut)));
        }
        match &mut self.source {
            Some(source) => Pin::new(source).poll_frame(cx).map_err(|_| Cut),
            None => Poll::Ready(None),
        }
    }

    /// Tells the tap, the first time only.
    pub(super) fn ended(&mut self, end: End) {
        if let Some(mut tap) = self.tap.take()
            && catch_unwind(AssertUnwindSafe(move || tap.end(end))).is_err()
        {
            tracing::error!("the end of an answer was not taken note of: the gateway failed in it");
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        if self.deaf {
            return;
        }
        if let Some(tap) = &mut self.tap
            && catch_unwind(AssertUnwindSafe(|| tap.frame(bytes))).is_err()
        {
            self.deaf = true;
            tracing::error!("an answer passes without being looked at: the gateway failed in it");
        }
    }

    fn stop(&mut self, end: End, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.source = None;
        self.ended(end);
        let said = self.farewell.as_ref().filter(|_| self.tail.at_border()).and_then(|farewell| farewell.says(end));
        if let Some(said) = said {
            self.next = Next::Done;
            return Poll::Ready(Some(Ok(Frame::data(said))));
        }
        self.cut(cx)
    }

    fn cut(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.source = None;
        if self.unflushed {
            // What was passed on goes out first: an error drops what the connection has not written yet.
            self.unflushed = false;
            self.next = Next::Cut;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.next = Next::Done;
        Poll::Ready(Some(Err(Cut)))
    }

    /// Nothing is left to come from the upstream, and it ended as it should.
    fn source_is_read(&self) -> bool {
        let ended = matches!(self.next, Next::Done) || self.source.as_ref().is_some_and(Body::is_end_stream);
        ended && self.held.is_none() && !self.source_cut
    }

    fn passed(&mut self, bytes: Bytes, cx: &mut Context<'_>) -> Frame<Bytes> {
        let mut bytes = if bytes.len() < SMALL_BYTES && !self.source.as_ref().is_some_and(Body::is_end_stream) {
            self.together(bytes, cx)
        } else {
            bytes
        };
        if let Some(Injection::Cut { left }) = &mut self.fault {
            if (bytes.len() as u64) < *left {
                *left -= bytes.len() as u64;
            } else {
                bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                self.source = None;
                self.next = Next::Cut;
            }
        }
        self.unflushed = true;
        self.hear(&bytes);
        self.tail.saw(&bytes);
        if matches!(self.fault, Some(Injection::Malformed)) && self.tail.at_border() {
            self.fault = None;
            self.next = Next::Insert(Bytes::from_static(Injection::MALFORMED));
        }
        if matches!(self.next, Next::Cut) {
            self.ended(End::Injected);
        } else if self.source_is_read() {
            self.ended(End::Complete);
        }
        Frame::data(bytes)
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = &mut *self;
        match std::mem::replace(&mut this.next, Next::Pass) {
            Next::Pass => {}
            Next::Insert(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Next::Cut => return this.cut(cx),
            Next::Done => {
                this.next = Next::Done;
                return Poll::Ready(None);
            }
        }
        if this.break_off.as_mut().is_some_and(|token| token.as_mut().poll(cx).is_ready()) {
            this.break_off = None;
            return this.stop(End::BrokenOff, cx);
        }
        match this.poll_source(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.watchdog.saw();
                if this.watchdog.is_over() {
                    return this.stop(End::TimedOut(Which::Total), cx);
                }
                Poll::Ready(Some(Ok(match frame.into_data() {
                    Ok(bytes) => this.passed(bytes, cx),
                    Err(frame) => frame,
                })))
            }
            Poll::Ready(Some(Err(_))) => this.stop(End::UpstreamCut, cx),
            Poll::Ready(None) => {
                this.ended(End::Complete);
                this.next = Next::Done;
                Poll::Ready(None)
            }
            Poll::Pending => {
                this.unflushed = false;
                match this.watchdog.poll(cx) {
                    Poll::Ready(which) => this.stop(End::TimedOut(which), cx),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.next {
            Next::Pass => self.held.is_none() && !self.source_cut && self.source.as_ref().is_none_or(Body::is_end_stream),
            Next::Insert(_) | Next::Cut => false,
            Next::Done => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            // What is added or taken away is not known to the headers either.
            Some(source) => source.size_hint(),
            None => SizeHint::default(),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let end = if self.source_is_read() { End::Complete } else { End::ClientGone };
        self.ended(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_border_is_where_an_event_ended() {
        let cases: &[(&[&str], bool)] = &[
            (&[], true),
            (&["data: x\n\n"], true),
            (&["data: x\n", "\n"], true),
            (&["data: x\r\n", "\r", "\n"], true),
            (&["data: x\r\n"], false),
            (&["\n"], false),
            (&["data: x\n\n", "d"], false),
            (&["data: x\n\n", ""], true),
        ];
        for (frames, expect) in cases {
            let mut tail = Tail::default();
            for frame in *frames {
                tail.saw(frame.as_bytes());
            }
            assert_eq!(tail.at_border(), *expect, "{frames:?}");
        }
    }
}
