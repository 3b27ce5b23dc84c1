//! What is sent: bytes of our own, and bytes that pass by.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

use super::collect::Wait;
use super::connection::InCall;
use super::relay::{End, Relay};
use super::upstream::Answer;
use super::watchdog::Watchdog;

/// A message that ends here, before its end: the connection is closed, or the stream reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("pass on the message to its end")]
pub struct Cut;

/// The body of an answer to a client.
#[derive(Debug)]
pub struct Body {
    kind: Kind,
    /// While it is there, its connection is busy.
    call: Option<InCall>,
}

#[derive(Debug)]
enum Kind {
    Whole(Bytes),
    Relay(Box<Relay>),
    Plain(Box<Answer>),
}

impl Body {
    #[must_use]
    pub fn empty() -> Self {
        Self::whole(Bytes::new())
    }

    #[must_use]
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self { kind: Kind::Whole(bytes.into()), call: None }
    }

    pub(super) fn in_call(mut self, call: InCall) -> Self {
        self.call = Some(call);
        self
    }
}

impl From<Relay> for Body {
    fn from(relay: Relay) -> Self {
        Self { kind: Kind::Relay(Box::new(relay)), call: None }
    }
}

/// An answer that nobody looks at.
impl From<Answer> for Body {
    fn from(answer: Answer) -> Self {
        Self { kind: Kind::Plain(Box::new(answer)), call: None }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let (Kind::Relay(relay), Some(call)) = (&mut self.kind, &self.call)
            && call.was_too_slow()
        {
            relay.ended(End::TooSlow);
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut self.kind {
            Kind::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Kind::Relay(relay) => Pin::new(relay.as_mut()).poll_frame(cx),
            Kind::Plain(answer) => Pin::new(answer.as_mut()).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(|_| Cut))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) => bytes.is_empty(),
            Kind::Relay(relay) => relay.is_end_stream(),
            Kind::Plain(answer) => answer.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Relay(relay) => relay.size_hint(),
            Kind::Plain(answer) => answer.size_hint(),
        }
    }
}

/// The body of a request to an upstream.
#[derive(Debug)]
pub struct SendBody(Sending);

#[derive(Debug)]
enum Sending {
    Whole { bytes: Bytes, trailers: Option<Box<HeaderMap>> },
    Passing(Box<Passing>),
}

#[derive(Debug)]
struct Passing {
    head: VecDeque<Bytes>,
    rest: Incoming,
    watchdog: Watchdog,
    /// It was read to its end.
    sent: Arc<AtomicBool>,
    /// Bytes of it that were read.
    passed: Arc<AtomicU64>,
    /// When more come it is cut.
    bytes_max: u64,
}

impl Passing {
    fn count(&self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Cut> {
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        let passed = self.passed.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if passed > self.bytes_max { Err(Cut) } else { Ok(frame) }
    }
}

impl SendBody {
    #[must_use]
    pub fn empty() -> Self {
        Self::whole(Bytes::new(), None)
    }

    #[must_use]
    pub fn whole(bytes: Bytes, trailers: Option<Box<HeaderMap>>) -> Self {
        Self(Sending::Whole { bytes, trailers })
    }

    /// What was read of a request already, and what is still to come from its client.
    #[must_use]
    pub fn passing(head: Vec<Bytes>, rest: Incoming, wait: Wait) -> Self {
        Self(Sending::Passing(Box::new(Passing {
            head: head.into(),
            rest,
            watchdog: Watchdog::new(wait.between, wait.total),
            sent: Arc::default(),
            passed: Arc::default(),
            bytes_max: u64::MAX,
        })))
    }

    /// Counts the bytes of a body that is still coming from its client, and cuts it when there are more than so many. None
    /// for one that is here already.
    pub(crate) fn counted(&mut self, bytes_max: Option<u64>) -> Option<Arc<AtomicU64>> {
        let Sending::Passing(passing) = &mut self.0 else { return None };
        passing.bytes_max = bytes_max.unwrap_or(u64::MAX);
        Some(Arc::clone(&passing.passed))
    }

    /// How long it is, where it is known before it is sent.
    pub(super) fn length(&self) -> Option<u64> {
        self.size_hint().exact()
    }

    /// For a body that comes from a client that may take its time: whether all of it was sent.
    pub(super) fn sent(&self) -> Option<Arc<AtomicBool>> {
        match &self.0 {
            Sending::Whole { .. } => None,
            Sending::Passing(passing) => Some(Arc::clone(&passing.sent)),
        }
    }
}

impl HttpBody for SendBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let passing = match &mut self.0 {
            Sending::Whole { bytes, trailers } => {
                let bytes = std::mem::take(bytes);
                let data = (!bytes.is_empty()).then(|| Frame::data(bytes));
                return Poll::Ready(data.or_else(|| trailers.take().map(|trailers| Frame::trailers(*trailers))).map(Ok));
            }
            Sending::Passing(passing) => passing,
        };
        if let Some(bytes) = passing.head.pop_front() {
            return Poll::Ready(Some(passing.count(Frame::data(bytes))));
        }
        match Pin::new(&mut passing.rest).poll_frame(cx) {
            Poll::Ready(frame) => {
                passing.watchdog.saw();
                if frame.is_none() || passing.rest.is_end_stream() {
                    passing.sent.store(true, Ordering::Relaxed);
                }
                Poll::Ready(frame.map(|frame| passing.count(frame.map_err(|_| Cut)?)))
            }
            Poll::Pending => {
                ready!(passing.watchdog.poll(cx));
                Poll::Ready(Some(Err(Cut)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Sending::Whole { bytes, trailers } => bytes.is_empty() && trailers.is_none(),
            Sending::Passing(passing) => passing.head.is_empty() && passing.rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Sending::Whole { bytes, trailers: None } => SizeHint::with_exact(bytes.len() as u64),
            Sending::Whole { .. } => SizeHint::default(),
            Sending::Passing(passing) => {
                let read: u64 = passing.head.iter().map(|bytes| bytes.len() as u64).sum();
                passing.rest.size_hint().exact().map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest + read))
            }
        }
    }
}
