//! Connections to one upstream, kept for the next call.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::body::SendBody;
use super::stream::Stream;

/// How often idle connections are looked at: those that the upstream closed, or that are too old, are closed here too.
const SWEEP: Duration = Duration::from_secs(1);
/// Streams on one connection of HTTP/2; more calls open another.
const HTTP2_STREAMS_MAX: usize = 100;

/// A connection of HTTP/1.1. It moves only while somebody polls it: the call that uses it, or the sweep.
pub(super) struct Wire {
    pub(super) sender: http1::SendRequest<SendBody>,
    pub(super) connection: http1::Connection<TokioIo<Stream>, SendBody>,
    idle_since: Instant,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

/// A request that was not answered.
pub(super) struct Unanswered {
    pub(super) error: hyper::Error,
    /// The request as it was, if not a byte of it was sent.
    pub(super) unsent: Option<Box<Request<SendBody>>>,
}

impl Wire {
    pub(super) fn new(sender: http1::SendRequest<SendBody>, connection: http1::Connection<TokioIo<Stream>, SendBody>) -> Box<Self> {
        Box::new(Self { sender, connection, idle_since: Instant::now() })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Pin::new(&mut self.connection).poll(cx)
    }

    /// Whether it can take a request, having looked at what came from the upstream.
    fn is_good(&mut self, cx: &mut Context<'_>) -> bool {
        self.poll(cx).is_pending() && self.sender.is_ready()
    }
}

/// Sends a request and drives the connection until the answer's headers are there.
pub(super) async fn exchange(
    mut wire: Box<Wire>,
    request: Request<SendBody>,
) -> Result<(Response<Incoming>, Option<Box<Wire>>), Unanswered> {
    let mut answer = std::pin::pin!(wire.sender.try_send_request(request));
    let mut wire = Some(wire);
    let answer = poll_fn(|cx| {
        if let Some(open) = &mut wire
            && open.poll(cx).is_ready()
        {
            // Dropping it tells the waiting answer that there is none, if there is none.
            wire = None;
        }
        answer.as_mut().poll(cx)
    })
    .await;
    match answer {
        Ok(answer) => Ok((answer, wire)),
        Err(mut unanswered) => Err(Unanswered { unsent: unanswered.take_message().map(Box::new), error: unanswered.into_error() }),
    }
}

/// A connection of HTTP/2, which many calls use at the same time. A task of its own drives it.
#[derive(Clone)]
pub(super) struct Trunk {
    pub(super) sender: http2::SendRequest<SendBody>,
    calls: Arc<AtomicUsize>,
}

/// One call on a connection of HTTP/2.
#[derive(Debug)]
pub(super) struct OnTrunk(Arc<AtomicUsize>);

impl Drop for OnTrunk {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Trunk {
    pub(super) fn new(sender: http2::SendRequest<SendBody>) -> Self {
        Self { sender, calls: Arc::default() }
    }

    pub(super) fn call(&self) -> OnTrunk {
        self.calls.fetch_add(1, Ordering::Relaxed);
        OnTrunk(Arc::clone(&self.calls))
    }
}

#[expect(clippy::vec_box, reason = "a connection is large, and moves from here to the call that uses it and back")]
pub(super) struct Pool {
    wires: Mutex<Vec<Box<Wire>>>,
    trunks: Mutex<Vec<Trunk>>,
    sweeping: AtomicBool,
    idle_max: usize,
    idle: Duration,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub(super) fn new(idle_max: usize, idle: Duration) -> Arc<Self> {
        Arc::new(Self { wires: Mutex::default(), trunks: Mutex::default(), sweeping: AtomicBool::new(false), idle_max, idle })
    }

    /// The connection that was used last and is still good.
    pub(super) async fn take(&self) -> Option<Box<Wire>> {
        loop {
            let mut wire = lock(&self.wires).pop()?;
            if wire.idle_since.elapsed() < self.idle && poll_fn(|cx| Poll::Ready(wire.is_good(cx))).await {
                return Some(wire);
            }
        }
    }

    /// Keeps a connection whose answer was read to its end, if it can take another request.
    pub(super) fn put(self: &Arc<Self>, mut wire: Box<Wire>, cx: &mut Context<'_>) {
        if !wire.is_good(cx) {
            return;
        }
        wire.idle_since = Instant::now();
        let mut wires = lock(&self.wires);
        if wires.len() < self.idle_max {
            wires.push(wire);
            drop(wires);
            if !self.sweeping.swap(true, Ordering::AcqRel) {
                tokio::spawn(sweep(Arc::downgrade(self)));
            }
        }
    }

    pub(super) fn trunk(&self) -> Option<(Trunk, OnTrunk)> {
        let mut trunks = lock(&self.trunks);
        trunks.retain(|trunk| !trunk.sender.is_closed());
        let free = |trunk: &&Trunk| trunk.calls.load(Ordering::Relaxed) < HTTP2_STREAMS_MAX;
        trunks.iter().find(free).map(|trunk| (trunk.clone(), trunk.call()))
    }

    pub(super) fn put_trunk(&self, trunk: Trunk) {
        lock(&self.trunks).push(trunk);
    }

    /// How many connections wait for a call.
    pub(super) fn idle(&self) -> usize {
        lock(&self.wires).len()
    }

    fn sweep(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let mut wires = lock(&self.wires);
        wires.retain_mut(|wire| wire.idle_since.elapsed() < self.idle && wire.is_good(&mut cx));
        wires.is_empty()
    }
}

async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(pool) = pool.upgrade() else { return };
        if pool.sweep() {
            pool.sweeping.store(false, Ordering::Release);
            // One that came in between is swept by whoever comes next; at the latest it is looked at when it is used.
            return;
        }
    }
}
