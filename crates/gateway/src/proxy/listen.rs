//! Takes connections and serves them, until it is told to hand its listener over or to end.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connection::{self, Patience, TooLong, Watch};
use super::stream::Stream;
use super::{Handler, Peer};
use crate::refuse::Refusal;

/// How often connections are looked at for having done something for too long.
const TICK: Duration = Duration::from_millis(250);
/// The wait after an accept that failed, doubled each time up to the second one.
const ACCEPT_WAIT_MIN: Duration = Duration::from_millis(5);
const ACCEPT_WAIT_MAX: Duration = Duration::from_secs(1);
/// So many connections that are one too many are told so at the same time; others are closed without a word.
const TURNED_AWAY_MAX: i64 = 256;
const TURNED_AWAY_READ_BYTES_MAX: usize = 64 << 10;
const TURNED_AWAY_WAIT: Duration = Duration::from_secs(1);
/// In a drain, a connection whose request has not come whole may wait so long for it.
const DRAIN_HEAD_WAIT: Duration = Duration::from_secs(1);
const HTTP2_STREAMS_MAX: u32 = 256;
/// What a stream of HTTP/2 holds for a client that does not read.
const HTTP2_SEND_BYTES_MAX: usize = 64 << 10;
const HTTP2_WINDOW_BYTES: u32 = 256 << 10;
const HTTP2_PING: Duration = Duration::from_secs(30);

/// How connections are taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Connections at the same time. One more is told to come again (503). Default 4096.
    pub connections_max: usize,
    /// Bytes of a request's first line and headers together, at least 8192. Default 65536.
    pub head_bytes_max: usize,
    /// Milliseconds from a request's first byte, or from connecting, to the end of its headers. Default 30000.
    pub head_wait_ms: u64,
    /// Milliseconds that a connection may be open without a request. Default 630000, more than clients keep theirs.
    pub idle_ms: u64,
    /// Milliseconds for which a client may take nothing of what is sent to it. Default 120000.
    pub stuck_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { connections_max: 4096, head_bytes_max: 64 << 10, head_wait_ms: 30_000, idle_ms: 630_000, stuck_ms: 120_000 }
    }
}

/// What is counted about connections of clients.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub connections: Gauge,
    pub accepted: Counter,
    pub turned_away: Counter,
    pub accept_errors: Counter,
    pub cut_head: Counter,
    pub cut_idle: Counter,
    pub cut_stuck: Counter,
    pub cut_drain: Counter,
    pub panics: Counter,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        let mut add = |name: &str, help: &str, counter: &Counter| {
            registry.register(format!("paramedic_gateway_{name}"), help, counter.clone());
        };
        add("connections_accepted", "Connections of clients that were taken", &self.accepted);
        add("connections_turned_away", "Connections beyond the most that are served at a time", &self.turned_away);
        add("accept_errors", "Connections that could not be taken", &self.accept_errors);
        add("connections_cut_head", "Connections cut since a request's headers took too long", &self.cut_head);
        add("connections_cut_idle", "Connections closed since nothing was asked for long", &self.cut_idle);
        add("connections_cut_stuck", "Connections cut since the client did not take its answer", &self.cut_stuck);
        add("connections_cut_drain", "Connections cut at the end of a drain", &self.cut_drain);
        add("handler_panics", "Calls that were answered 500 since the gateway failed", &self.panics);
        registry.register("paramedic_gateway_connections_count", "Connections of clients that are open", self.connections.clone());
    }
}

/// Where clients come in.
#[derive(Debug)]
pub enum Listener {
    Tcp(std::net::TcpListener),
    Unix(StdUnixListener),
}

impl Listener {
    /// The same listener once more, for another thread.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(tcp) => Self::Tcp(tcp.try_clone()?),
            Self::Unix(unix) => Self::Unix(unix.try_clone()?),
        })
    }
}

enum Accepting {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Accepting {
    fn new(listener: Listener) -> io::Result<Self> {
        Ok(match listener {
            Listener::Tcp(tcp) => {
                tcp.set_nonblocking(true)?;
                Self::Tcp(TcpListener::from_std(tcp)?)
            }
            Listener::Unix(unix) => {
                unix.set_nonblocking(true)?;
                Self::Unix(UnixListener::from_std(unix)?)
            }
        })
    }

    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(tcp) => {
                let (stream, address) = tcp.accept().await?;
                // Frames are to go out at once; a socket that cannot be told so is served all the same.
                let _ = stream.set_nodelay(true);
                Ok((Stream::Tcp(stream), Peer { address: Some(address) }))
            }
            Self::Unix(unix) => unix.accept().await.map(|(stream, _)| (Stream::Unix(stream), Peer { address: None })),
        }
    }

    fn into_listener(self) -> io::Result<Listener> {
        Ok(match self {
            Self::Tcp(tcp) => Listener::Tcp(tcp.into_std()?),
            Self::Unix(unix) => Listener::Unix(unix.into_std()?),
        })
    }
}

/// What all connections of a listener have in common.
pub(super) struct Shared {
    pub(super) handler: Arc<dyn Handler>,
    pub(super) http1: http1::Builder,
    pub(super) http2: http2::Builder<TokioExecutor>,
    metrics: Metrics,
    connections_max: usize,
    patience: Patience,
    tick: Arc<AtomicU32>,
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Watch>>>,
    closed: Notify,
    turned_away: Gauge,
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Watch>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn panicked(&self) -> Refusal {
        self.metrics.panics.inc();
        tracing::error!("a call was answered 500: the gateway failed in it");
        Refusal::internal()
    }

    fn check(&self) {
        self.tick.fetch_add(1, Ordering::Relaxed);
        let long: Vec<TooLong> = self.open().values().filter_map(|watch| watch.check(self.patience)).collect();
        for why in long {
            match why {
                TooLong::Head => self.metrics.cut_head.inc(),
                TooLong::Idle => self.metrics.cut_idle.inc(),
                TooLong::Stuck => self.metrics.cut_stuck.inc(),
            };
        }
    }
}

/// Takes its connection out of those that are open, whatever ends it.
struct Open {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = self.shared.open();
        open.remove(&self.id);
        self.shared.metrics.connections.dec();
        if open.is_empty() {
            self.shared.closed.notify_waiters();
        }
    }
}

fn http1_builder(settings: &Settings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .half_close(false)
        .preserve_header_case(true)
        .auto_date_header(false)
        .header_read_timeout(None)
        .max_header_size(settings.head_bytes_max.max(8192))
        .max_buf_size(READ_BYTES_MAX.max(settings.head_bytes_max));
    builder
}

/// So much of a body is read at once, and so much of an answer kept for a client that is slow.
const READ_BYTES_MAX: usize = 128 << 10;

fn http2_builder(settings: &Settings) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_send_buf_size(HTTP2_SEND_BYTES_MAX)
        .initial_stream_window_size(HTTP2_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_WINDOW_BYTES * 4)
        .keep_alive_interval(HTTP2_PING)
        .max_header_list_size(u32::try_from(settings.head_bytes_max).unwrap_or(u32::MAX));
    builder
}

fn ticks(ms: u64) -> u32 {
    u32::try_from(Duration::from_millis(ms).as_millis().div_ceil(TICK.as_millis())).unwrap_or(u32::MAX / 2).max(1)
}

/// A listener that is being served.
pub struct Serving {
    shared: Arc<Shared>,
    address: Option<SocketAddr>,
    stop: CancellationToken,
    accepting: Option<JoinHandle<Accepting>>,
    checking: JoinHandle<()>,
}

/// How a drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that ended by themselves.
    pub finished: usize,
    /// Connections that were cut at the deadline, those in a call.
    pub cut: usize,
}

/// Serves what comes in on `listener`, on the runtime that this is called on, until the result is drained or dropped.
///
/// # Errors
/// When the listener cannot be used.
///
/// # Panics
/// Outside of a runtime.
pub fn serve(listener: Listener, handler: Arc<dyn Handler>, settings: &Settings, metrics: Metrics) -> io::Result<Serving> {
    let address = match &listener {
        Listener::Tcp(tcp) => Some(tcp.local_addr()?),
        Listener::Unix(_) => None,
    };
    let accepting = Accepting::new(listener)?;
    let shared = Arc::new(Shared {
        handler,
        http1: http1_builder(settings),
        http2: http2_builder(settings),
        metrics,
        connections_max: settings.connections_max,
        patience: Patience { head: ticks(settings.head_wait_ms), idle: ticks(settings.idle_ms), stuck: ticks(settings.stuck_ms) },
        tick: Arc::default(),
        next: AtomicU64::new(0),
        open: Mutex::default(),
        closed: Notify::new(),
        turned_away: Gauge::default(),
    });
    let stop = CancellationToken::new();
    let accepting = tokio::spawn(take(accepting, Arc::clone(&shared), stop.clone()));
    let checking = tokio::spawn(check(Arc::clone(&shared)));
    Ok(Serving { shared, address, stop, accepting: Some(accepting), checking })
}

async fn check(shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        shared.check();
    }
}

async fn take(accepting: Accepting, shared: Arc<Shared>, stop: CancellationToken) -> Accepting {
    let mut wait = ACCEPT_WAIT_MIN;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return accepting,
            accepted = accepting.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                wait = ACCEPT_WAIT_MIN;
                open(&shared, stream, peer);
            }
            // A connection that was closed before it was taken is its client's affair; with no descriptors left, some
            // must be given back first.
            Err(error) => {
                shared.metrics.accept_errors.inc();
                if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted) {
                    tracing::warn!(%error, "could not take a connection");
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = stop.cancelled() => return accepting,
                    }
                    wait = (wait * 2).min(ACCEPT_WAIT_MAX);
                }
            }
        }
    }
}

fn open(shared: &Arc<Shared>, stream: Stream, peer: Peer) {
    shared.metrics.accepted.inc();
    let watch = Arc::new(Watch::new(Arc::clone(&shared.tick)));
    let id = shared.next.fetch_add(1, Ordering::Relaxed);
    {
        let mut open = shared.open();
        if open.len() >= shared.connections_max {
            drop(open);
            return turn_away(shared, stream);
        }
        open.insert(id, Arc::clone(&watch));
    }
    shared.metrics.connections.inc();
    let guard = Open { shared: Arc::clone(shared), id };
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let guard = guard;
        connection::serve(stream, shared, watch, peer).await;
        drop(guard);
    });
}

/// Says that there are too many connections, and reads on for a moment so that the client gets to see it.
fn turn_away(shared: &Arc<Shared>, mut stream: Stream) {
    shared.metrics.turned_away.inc();
    if shared.turned_away.inc() >= TURNED_AWAY_MAX {
        shared.turned_away.dec();
        return;
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let said = Refusal::too_many_connections().raw();
        let talk = async {
            stream.write_all(&said).await?;
            stream.shutdown().await?;
            let mut read = 0;
            let mut buffer = [0; 4096];
            while read < TURNED_AWAY_READ_BYTES_MAX {
                match stream.read(&mut buffer).await? {
                    0 => break,
                    some => read += some,
                }
            }
            io::Result::Ok(())
        };
        let _ = tokio::time::timeout(TURNED_AWAY_WAIT, talk).await;
        shared.turned_away.dec();
    });
}

impl Serving {
    /// Where it listens, if by TCP.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.open().len()
    }

    /// Stops taking connections and gives the listener back, to be served by another. Those that wait in it are lost to
    /// nobody; connections that are open are served on.
    pub async fn take_listener(&mut self) -> Option<Listener> {
        self.stop.cancel();
        self.accepting.take()?.await.ok()?.into_listener().ok()
    }

    /// Stops taking connections, closes those without a call, waits for the calls that run, and cuts what is left at the
    /// deadline. Connections that wait in the listener are served too, unless it was taken before.
    pub async fn drain(mut self, deadline: Duration) -> Drained {
        let until = Instant::now() + deadline;
        if let Some(accepting) = self.accepting.take() {
            self.stop.cancel();
            if let Ok(accepting) = accepting.await {
                // What waits in the listener would be reset with it. A time of zero asks for what is there already.
                while let Ok(Ok((stream, peer))) = tokio::time::timeout(Duration::ZERO, accepting.accept()).await {
                    open(&self.shared, stream, peer);
                }
            }
        }
        let before = self.shared.open().len();
        let begun = Instant::now();
        loop {
            let closed = self.shared.closed.notified();
            tokio::pin!(closed);
            closed.as_mut().enable();
            let open: Vec<Arc<Watch>> = self.shared.open().values().cloned().collect();
            let now = Instant::now();
            if open.is_empty() {
                return Drained { finished: before, cut: 0 };
            }
            if now >= until {
                let cut = open.iter().filter(|watch| watch.is_in_call()).count();
                self.shared.metrics.cut_drain.inc_by(cut as u64);
                self.cut_all().await;
                return Drained { finished: before.saturating_sub(cut), cut };
            }
            for watch in &open {
                watch.finish();
                if watch.is_in_head() && now - begun >= DRAIN_HEAD_WAIT {
                    watch.cut();
                }
            }
            let _ = tokio::time::timeout_at(until.min(now + TICK), closed).await;
        }
    }

    async fn cut_all(&self) {
        let closed = self.shared.closed.notified();
        tokio::pin!(closed);
        closed.as_mut().enable();
        let open: Vec<Arc<Watch>> = self.shared.open().values().cloned().collect();
        for watch in &open {
            watch.cut();
        }
        if !open.is_empty() {
            let _ = tokio::time::timeout(TURNED_AWAY_WAIT, closed).await;
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.cancel();
        self.checking.abort();
        for watch in self.shared.open().values() {
            watch.cut();
        }
    }
}
