//! The transport: bytes pass as they are, nothing waits that need not, and every end is seen by both sides.

mod ends;
mod hostile;
mod life;
mod passing;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response};
use paramedic_gateway::proxy::{
    Answering, Body, Collected, End, Farewell, Handler, Limits, Listener, Metrics, Peer, Relay, RelayLimits, SendBody, SendError, Serving,
    Settings, Tap, Upstream, UpstreamSettings, Wait, collect, serve,
};
use paramedic_gateway::refuse::Refusal;

use crate::upstream::FakeUpstream;

/// What the trivial handler does besides passing on.
pub(crate) struct Knobs {
    pub(crate) collect_bytes_max: usize,
    pub(crate) wait: Wait,
    pub(crate) limits: Limits,
    pub(crate) relay: RelayLimits,
    /// A path that panics in the handler.
    pub(crate) panics: &'static str,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            collect_bytes_max: 1 << 20,
            wait: Wait { between: Some(Duration::from_secs(5)), total: None },
            limits: Limits { connect: Duration::from_secs(2), first_byte: Duration::from_secs(20) },
            relay: RelayLimits { farewell: Some(Arc::new(Farewell::usual())), ..RelayLimits::default() },
            panics: "/panic",
        }
    }
}

/// What the taps of all answers saw.
#[derive(Debug, Default)]
pub(crate) struct Tapped {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ends: Vec<End>,
}

struct Recorder(Arc<Mutex<Tapped>>);

impl Tap for Recorder {
    fn frame(&mut self, bytes: &[u8]) {
        let mut tapped = self.0.lock().unwrap();
        if tapped.bytes.len() < 1 << 20 {
            tapped.bytes.extend_from_slice(bytes);
        }
        drop(tapped);
        assert!(!bytes.starts_with(b"panic in the tap"), "as it was asked");
    }

    fn end(&mut self, end: End) {
        self.0.lock().unwrap().ends.push(end);
    }
}

struct Pass {
    upstream: Upstream,
    knobs: Knobs,
    tapped: Arc<Mutex<Tapped>>,
    errors: Arc<Mutex<Vec<(String, bool)>>>,
}

struct Passing(Arc<Pass>);

impl Handler for Passing {
    fn call(&self, request: Request<Incoming>, _: Peer) -> Answering {
        let pass = Arc::clone(&self.0);
        Box::pin(async move { pass.answer(request).await })
    }
}

impl Pass {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        assert!(request.uri().path() != self.knobs.panics, "as it was asked");
        let (parts, body) = request.into_parts();
        let body = match collect(body, self.knobs.collect_bytes_max, self.knobs.wait).await {
            Ok(Collected::Whole { bytes, trailers }) => SendBody::whole(bytes, trailers),
            Ok(Collected::TooLarge { head, rest }) => SendBody::passing(head, rest, self.knobs.wait),
            Err(error) => return Refusal::timeout(error.to_string()).answer(),
        };
        match self.upstream.send(parts, body, self.knobs.limits).await {
            Ok(answer) => {
                let (parts, body) = answer.into_parts();
                let tap = Box::new(Recorder(Arc::clone(&self.tapped)));
                let relay = Relay::new(body, &parts.headers, Some(tap), self.knobs.relay.clone());
                Response::from_parts(parts, relay.into())
            }
            Err(error) => {
                self.errors.lock().unwrap().push((error.to_string(), error.sent()));
                match error {
                    SendError::FirstByteTimeout | SendError::ConnectTimeout => Refusal::timeout(error.to_string()).answer(),
                    _ => Refusal::unreachable(error.to_string()).answer(),
                }
            }
        }
    }
}

/// A proxy with the trivial handler before one upstream.
pub(crate) struct Proxy {
    pub(crate) serving: Serving,
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Metrics,
    handler: Arc<Passing>,
}

impl Proxy {
    pub(crate) async fn before(upstream: &FakeUpstream) -> Self {
        Self::with(upstream, Knobs::default(), &Settings::default()).await
    }

    pub(crate) async fn with(upstream: &FakeUpstream, knobs: Knobs, settings: &Settings) -> Self {
        Self::to(&upstream.url(), &UpstreamSettings::default(), knobs, settings).await
    }

    pub(crate) async fn to(url: &str, upstream: &UpstreamSettings, knobs: Knobs, settings: &Settings) -> Self {
        let upstream = Upstream::new("fake", url.parse().unwrap(), upstream).unwrap();
        let pass = Pass { upstream, knobs, tapped: Arc::default(), errors: Arc::default() };
        let handler = Arc::new(Passing(Arc::new(pass)));
        let listener = Listener::Tcp(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let metrics = Metrics::default();
        let serving = serve(listener, handler.clone(), settings, metrics.clone()).unwrap();
        let address = serving.address().unwrap();
        Self { serving, address, metrics, handler }
    }

    pub(crate) fn handler(&self) -> Arc<dyn Handler> {
        self.handler.clone()
    }

    pub(crate) fn ends(&self) -> Vec<End> {
        self.handler.0.tapped.lock().unwrap().ends.clone()
    }

    pub(crate) fn tapped(&self) -> Vec<u8> {
        self.handler.0.tapped.lock().unwrap().bytes.clone()
    }

    /// What the upstream's calls failed with, and whether the upstream may have read any of them.
    pub(crate) fn errors(&self) -> Vec<(String, bool)> {
        self.handler.0.errors.lock().unwrap().clone()
    }

    pub(crate) fn upstream(&self) -> &Upstream {
        &self.handler.0.upstream
    }
}

/// Waits until this is so, for at most five seconds.
pub(crate) async fn eventually(what: &str, so: impl Fn() -> bool) {
    let until = std::time::Instant::now() + Duration::from_secs(5);
    while !so() {
        assert!(std::time::Instant::now() < until, "not within five seconds: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) fn post(path: &str, body: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n").into_bytes()
}

/// What this process holds of the machine's memory, in megabytes, and how many descriptors.
pub(crate) fn held() -> (usize, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    let kilobytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    (kilobytes / 1024, std::fs::read_dir("/proc/self/fd").unwrap().count())
}
