//! One client's connection: what it is doing, and how it is told to end.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use hyper::body::Incoming;
use hyper::service::Service;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::{Body, Cut};
use super::listen::Shared;
use super::stream::Stream;
use super::{Answering, Peer};
use crate::refuse::Refusal;

const PHASE_HEAD: u8 = 0;
const PHASE_CALL: u8 = 1;
const PHASE_IDLE: u8 = 2;

const ORDER_NONE: u8 = 0;
const ORDER_FINISH: u8 = 1;
const ORDER_CUT: u8 = 2;

/// What a connection is doing, in ticks of its listener. It is looked at now and then by one task for all connections,
/// so that no connection needs a timer.
#[derive(Debug)]
pub(super) struct Watch {
    tick: Arc<AtomicU32>,
    phase: AtomicU8,
    since: AtomicU32,
    calls: AtomicU32,
    /// The tick at which the client stopped taking what is sent to it, and 1; 0 while it takes it.
    stuck: AtomicU32,
    http2: AtomicBool,
    too_slow: AtomicBool,
    order: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

/// For how many ticks a connection may do what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub head: u32,
    pub idle: u32,
    pub stuck: u32,
}

/// Why a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooLong {
    Head,
    Idle,
    Stuck,
}

impl Watch {
    pub(super) fn new(tick: Arc<AtomicU32>) -> Self {
        let now = tick.load(Ordering::Relaxed);
        Self {
            tick,
            phase: AtomicU8::new(PHASE_HEAD),
            since: AtomicU32::new(now),
            calls: AtomicU32::new(0),
            stuck: AtomicU32::new(0),
            http2: AtomicBool::new(false),
            too_slow: AtomicBool::new(false),
            order: AtomicU8::new(ORDER_NONE),
            waker: Mutex::new(None),
        }
    }

    fn enter(&self, phase: u8) {
        self.since.store(self.tick.load(Ordering::Relaxed), Ordering::Relaxed);
        self.phase.store(phase, Ordering::Relaxed);
    }

    fn waker(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn order(&self, order: u8) {
        self.order.fetch_max(order, Ordering::AcqRel);
        if let Some(waker) = &*self.waker() {
            waker.wake_by_ref();
        }
    }

    /// Ends it once the call that runs, if any, is answered.
    pub(super) fn finish(&self) {
        self.order(ORDER_FINISH);
    }

    pub(super) fn cut(&self) {
        self.order(ORDER_CUT);
    }

    pub(super) fn is_http2(&self) {
        self.http2.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_in_call(&self) -> bool {
        self.calls.load(Ordering::Relaxed) > 0
    }

    /// It waits for a request, or reads one, since it was opened or since the request's first byte.
    pub(super) fn is_in_head(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == PHASE_HEAD
    }

    /// Cuts the connection if it does something for too long.
    pub(super) fn check(&self, patience: Patience) -> Option<TooLong> {
        let now = self.tick.load(Ordering::Relaxed);
        let stuck = self.stuck.load(Ordering::Relaxed);
        let over = |limit: u32| now.wrapping_sub(self.since.load(Ordering::Relaxed)) > limit;
        let why = if stuck != 0 && now.wrapping_add(1).wrapping_sub(stuck) > patience.stuck {
            self.too_slow.store(true, Ordering::Relaxed);
            TooLong::Stuck
        } else {
            match self.phase.load(Ordering::Relaxed) {
                PHASE_HEAD if over(patience.head) => TooLong::Head,
                PHASE_IDLE if over(patience.idle) => TooLong::Idle,
                _ => return None,
            }
        };
        if why == TooLong::Idle {
            self.finish()
        } else {
            self.cut()
        }
        Some(why)
    }
}

/// While it is there, a call runs on its connection.
#[derive(Debug)]
pub(super) struct InCall(Arc<Watch>);

impl InCall {
    fn new(watch: &Arc<Watch>) -> Self {
        watch.calls.fetch_add(1, Ordering::Relaxed);
        watch.enter(PHASE_CALL);
        Self(Arc::clone(watch))
    }

    pub(super) fn was_too_slow(&self) -> bool {
        self.0.too_slow.load(Ordering::Relaxed)
    }
}

impl Drop for InCall {
    fn drop(&mut self) {
        if self.0.calls.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.enter(PHASE_IDLE);
        }
    }
}

/// A stream that tells its watch when bytes come, and when none can go.
#[derive(Debug)]
pub(super) struct Watched {
    stream: Stream,
    watch: Arc<Watch>,
}

impl Watched {
    fn note<T>(&self, written: &Poll<io::Result<T>>) {
        let stuck = &self.watch.stuck;
        match written {
            Poll::Pending if stuck.load(Ordering::Relaxed) == 0 => {
                let tick = self.watch.tick.load(Ordering::Relaxed).wrapping_add(1);
                stuck.store(tick.max(1), Ordering::Relaxed);
            }
            Poll::Ready(_) if stuck.load(Ordering::Relaxed) != 0 => stuck.store(0, Ordering::Relaxed),
            _ => {}
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before
            && self.watch.phase.load(Ordering::Relaxed) == PHASE_IDLE
            && !self.watch.http2.load(Ordering::Relaxed)
        {
            self.watch.enter(PHASE_HEAD);
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(&written);
        written
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What a connection gives its requests to.
pub(super) struct Calls {
    shared: Arc<Shared>,
    watch: Arc<Watch>,
    peer: Peer,
}

impl Service<Request<Incoming>> for Calls {
    type Response = Response<Body>;
    type Error = Cut;
    type Future = Call;

    fn call(&self, request: Request<Incoming>) -> Call {
        let guard = InCall::new(&self.watch);
        let inner = if request.method() == Method::CONNECT {
            Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request_error", "this gateway is no tunnel"))
        } else {
            catch_unwind(AssertUnwindSafe(|| self.shared.handler.call(request, self.peer))).map_err(|_| self.shared.panicked())
        };
        let inner = inner.map_err(|refusal| Some(Box::new(refusal)));
        Call { inner, guard: Some(guard), shared: Arc::clone(&self.shared) }
    }
}

/// A call that is being answered. A panic becomes an answer too.
pub(super) struct Call {
    inner: Result<Answering, Option<Box<Refusal>>>,
    guard: Option<InCall>,
    shared: Arc<Shared>,
}

impl Future for Call {
    type Output = Result<Response<Body>, Cut>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = match &mut self.inner {
            Ok(answering) => match catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(answer)) => answer,
                Err(_) => {
                    let refusal = self.shared.panicked();
                    // What is left of it must not be looked at again, and dropping it may panic again.
                    let rest = std::mem::replace(&mut self.inner, Err(None));
                    drop(catch_unwind(AssertUnwindSafe(|| drop(rest))));
                    refusal.answer()
                }
            },
            Err(refusal) => refusal.take().ok_or(Cut)?.answer(),
        };
        let guard = self.guard.take();
        Poll::Ready(Ok(answer.map(|body| match guard {
            Some(guard) => body.in_call(guard),
            None => body,
        })))
    }
}

/// A connection of either version.
trait Ending: Future {
    fn end(self: Pin<&mut Self>);
}

impl Ending for hyper::server::conn::http1::Connection<TokioIo<Watched>, Calls> {
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl Ending for hyper::server::conn::http2::Connection<TokioIo<Watched>, Calls, TokioExecutor> {
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Drives a connection until it ends, or is told to.
struct Driven<C> {
    connection: Pin<Box<C>>,
    watch: Arc<Watch>,
    known: bool,
    ending: bool,
}

impl<C: Ending> Future for Driven<C> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if !this.known {
            this.known = true;
            *this.watch.waker() = Some(cx.waker().clone());
        }
        if this.watch.order.load(Ordering::Acquire) == ORDER_CUT {
            return Poll::Ready(());
        }
        // First what has come, so that a request that is here already is answered still; and one that has begun to
        // come is waited for.
        if this.connection.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !this.ending && this.watch.order.load(Ordering::Acquire) == ORDER_FINISH && !this.watch.is_in_head() {
            this.ending = true;
            this.connection.as_mut().end();
            return this.connection.as_mut().poll(cx).map(|_| ());
        }
        Poll::Pending
    }
}

/// Serves one connection to its end.
pub(super) async fn serve(stream: Stream, shared: Arc<Shared>, watch: Arc<Watch>, peer: Peer) {
    *watch.waker() = std::future::poll_fn(|cx| Poll::Ready(Some(cx.waker().clone()))).await;
    let Ok(http2) = begins_http2(&stream, &watch).await else { return };
    let io = TokioIo::new(Watched { stream, watch: Arc::clone(&watch) });
    let calls = Calls { shared: Arc::clone(&shared), watch: Arc::clone(&watch), peer };
    if http2 {
        watch.is_http2();
        let connection = Box::pin(shared.http2.serve_connection(io, calls));
        Driven { connection, watch, known: false, ending: false }.await;
    } else {
        let connection = Box::pin(shared.http1.serve_connection(io, calls));
        Driven { connection, watch, known: false, ending: false }.await;
    }
}

/// Waits for the first bytes, unless the connection is cut.
async fn begins_http2(stream: &Stream, watch: &Watch) -> io::Result<bool> {
    let mut begins = std::pin::pin!(stream.begins_http2());
    std::future::poll_fn(|cx| match begins.as_mut().poll(cx) {
        Poll::Pending if watch.order.load(Ordering::Acquire) == ORDER_CUT => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        other => other,
    })
    .await
}
