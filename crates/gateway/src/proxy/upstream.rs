//! An upstream: where it is, and sending requests to it.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::client::conn::{http1, http2};
use hyper::header::{CONTENT_LENGTH, COOKIE, HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::{Authority, PathAndQuery, Scheme, Uri};
use hyper::{Method, Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::body::SendBody;
use super::headers;
use super::pool::{OnTrunk, Pool, Trunk, Unanswered, Wire, exchange};
use super::stream::Stream;
use super::tls::Tls;

const HEAD_BYTES_MAX: usize = 64 << 10;
/// So much of an answer is read at once, and so much of a request written.
const READ_BYTES_MAX: usize = 64 << 10;
const HTTP2_PING: Duration = Duration::from_secs(30);
/// As good as no limit, and small enough to be added to a moment.
const WAIT_MAX: Duration = Duration::from_secs(365 * 86_400);

/// When HTTP/2 is spoken to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Http2 {
    /// Over TLS, when the upstream chooses it.
    #[default]
    Offered,
    Never,
    /// Without TLS too. The upstream is known to speak it.
    Always,
}

/// How connections to an upstream are made and kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamSettings {
    /// Connections that are kept without a call. Default 512.
    pub idle_max: usize,
    /// Milliseconds for which one is kept. Default 60000, less than upstreams keep theirs.
    pub idle_ms: u64,
    /// `offered` (over TLS, the default), `never`, or `always` (without TLS too).
    pub http2: Http2,
    /// A file of certificates (PEM) of authorities to trust beside the machine's own. Default none.
    pub authorities_file: Option<PathBuf>,
}

impl Default for UpstreamSettings {
    fn default() -> Self {
        Self { idle_max: 512, idle_ms: 60_000, http2: Http2::Offered, authorities_file: None }
    }
}

/// Where an upstream is: `https://api.example`, `http://127.0.0.1:8080/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    authority: Authority,
    secure: bool,
    /// Without a slash at its end; empty when there is none.
    prefix: Box<str>,
}

/// Why an address is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read the upstream's address: {0}")]
pub struct AddressFault(&'static str);

impl FromStr for Address {
    type Err = AddressFault;

    fn from_str(text: &str) -> Result<Self, AddressFault> {
        let uri: Uri = text.parse().map_err(|_| AddressFault("it is no URL"))?;
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(AddressFault("it must begin with http:// or https://")),
        };
        let authority = uri.authority().cloned().ok_or(AddressFault("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(AddressFault("it must not hold a user or a password"));
        }
        if uri.query().is_some() {
            return Err(AddressFault("it must not have a query"));
        }
        Ok(Self { authority, secure, prefix: uri.path().trim_end_matches('/').into() })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", if self.secure { "https" } else { "http" }, self.authority, self.prefix)
    }
}

impl Address {
    fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(if self.secure { 443 } else { 80 })
    }

    /// What is asked for at the upstream: the same path and query, byte for byte, after the prefix.
    fn path(&self, uri: &Uri) -> Option<PathAndQuery> {
        let asked = uri.path_and_query()?;
        if self.prefix.is_empty() || asked.as_str() == "*" {
            return Some(asked.clone());
        }
        PathAndQuery::from_maybe_shared(Bytes::from(format!("{}{asked}", self.prefix))).ok()
    }
}

/// How long to wait for what; zero is for as long as it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub connect: Duration,
    /// To the answer's headers. A body that is still coming from its client has them waited for up to twice as long
    /// after its end.
    pub first_byte: Duration,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("reach the upstream")]
    Connect(#[source] io::Error),
    #[error("reach the upstream in time")]
    ConnectTimeout,
    /// The connection was closed or reset, or what came back is no HTTP.
    #[error("get an answer from the upstream")]
    BeforeAnswer {
        #[source]
        error: hyper::Error,
        sent: bool,
    },
    #[error("get an answer from the upstream in time")]
    FirstByteTimeout,
    #[error("send the request: its path cannot be sent")]
    Path,
}

impl SendError {
    /// Whether the upstream may have read any of the request. If not, it may be sent once more without any doubt.
    #[must_use]
    pub fn sent(&self) -> bool {
        match self {
            Self::Connect(_) | Self::ConnectTimeout | Self::Path => false,
            Self::BeforeAnswer { sent, .. } => *sent,
            Self::FirstByteTimeout => true,
        }
    }
}

/// An upstream and the connections to it. It belongs to the runtime on which it is used: each has its own.
pub struct Upstream {
    name: Box<str>,
    address: Address,
    host: HeaderValue,
    http2: Http2,
    tls: Option<Tls>,
    pool: Arc<Pool>,
    http1: http1::Builder,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("name", &self.name).field("address", &self.address).finish_non_exhaustive()
    }
}

enum Connected {
    Wire(Box<Wire>),
    Trunk(Trunk, OnTrunk),
}

impl Upstream {
    /// # Errors
    /// When the address's host can be no name.
    pub fn new(name: &str, address: Address, settings: &UpstreamSettings) -> Result<Self, AddressFault> {
        let host = HeaderValue::from_str(address.authority.as_str()).map_err(|_| AddressFault("its host is no name"))?;
        let tls = if address.secure {
            let name = ServerName::try_from(address.host().to_owned()).map_err(|_| AddressFault("its host is no name"))?;
            Some(Tls::new(name, settings.authorities_file.clone(), settings.http2 != Http2::Never))
        } else {
            None
        };
        let mut http1 = http1::Builder::new();
        http1.preserve_header_case(true).max_buf_size(READ_BYTES_MAX).max_header_size(HEAD_BYTES_MAX);
        let pool = Pool::new(settings.idle_max, Duration::from_millis(settings.idle_ms));
        Ok(Self { name: name.into(), address, host, http2: settings.http2, tls, pool, http1 })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// How many connections wait for a call.
    #[must_use]
    pub fn idle_connections(&self) -> usize {
        self.pool.idle()
    }

    /// Sends a request, and gives the answer once its headers are there. The request is passed as it is, but for what is
    /// a hop's own affair. It is sent once: only where a kept connection turns out to be closed before a byte of it was
    /// written, it goes to the next.
    ///
    /// Dropping this, or the answer, closes the connection (or resets the stream) at once.
    ///
    /// # Errors
    /// When there is no answer; [`SendError::sent`] says whether the upstream may have seen the request.
    pub async fn send(&self, parts: Parts, body: SendBody, limits: Limits) -> Result<Response<Answer>, SendError> {
        let connect_wait = Some(limits.connect).filter(|wait| !wait.is_zero()).unwrap_or(WAIT_MAX);
        let connect_until = Instant::now() + connect_wait.min(WAIT_MAX);
        let sent = body.sent();
        let mut request = Box::new(self.request(parts, body)?);
        loop {
            let (connected, kept) = match self.kept().await {
                Some(kept) => (kept, true),
                None => match timeout_at(connect_until, self.connect()).await {
                    Ok(connected) => (connected.map_err(SendError::Connect)?, false),
                    Err(_) => return Err(SendError::ConnectTimeout),
                },
            };
            let mut asking = std::pin::pin!(self.ask(connected, *request));
            let first_byte = Some(limits.first_byte).filter(|wait| !wait.is_zero()).unwrap_or(WAIT_MAX);
            let answer = loop {
                let answer = tokio::time::timeout(first_byte, asking.as_mut()).await;
                // While the request is still coming from its client, the upstream is not late.
                if answer.is_ok() || sent.as_ref().is_none_or(|sent| sent.load(Ordering::Relaxed)) {
                    break answer;
                }
            };
            match answer {
                Ok(Ok(mut answer)) => {
                    headers::for_client(answer.headers_mut());
                    return Ok(answer);
                }
                Ok(Err(Unanswered { unsent: Some(unsent), .. })) if kept => request = unsent,
                Ok(Err(Unanswered { error, unsent })) => return Err(SendError::BeforeAnswer { error, sent: unsent.is_none() }),
                Err(_) => return Err(SendError::FirstByteTimeout),
            }
        }
    }

    fn request(&self, mut parts: Parts, body: SendBody) -> Result<Request<SendBody>, SendError> {
        if self.address.prefix.is_empty() && parts.uri.authority().is_none() && parts.uri.path_and_query().is_some() {
            // As it came.
        } else {
            let path = self.address.path(&parts.uri).ok_or(SendError::Path)?;
            parts.uri = Uri::from(path);
        }
        if parts.version == Version::HTTP_2 {
            join_cookies(&mut parts);
        }
        parts.version = Version::HTTP_11;
        headers::for_upstream(&mut parts.headers, &self.host);
        match body.length() {
            // A GET without a body has no length, and gets none.
            Some(0) if !parts.headers.contains_key(CONTENT_LENGTH) && !says_length(&parts.method) => {}
            Some(length) => {
                let same = parts.headers.get(CONTENT_LENGTH).is_some_and(|said| said.to_str().is_ok_and(|said| said.parse() == Ok(length)));
                if !same {
                    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
                }
            }
            None => {
                parts.headers.remove(CONTENT_LENGTH);
            }
        }
        Ok(Request::from_parts(parts, body))
    }

    async fn kept(&self) -> Option<Connected> {
        if (self.tls.is_some() && self.http2 != Http2::Never || self.http2 == Http2::Always)
            && let Some((trunk, call)) = self.pool.trunk()
        {
            return Some(Connected::Trunk(trunk, call));
        }
        self.pool.take().await.map(Connected::Wire)
    }

    async fn connect(&self) -> io::Result<Connected> {
        let tcp = dial(self.address.host(), self.address.port()).await?;
        let (stream, http2) = match &self.tls {
            Some(tls) => {
                let (stream, http2) = tls.connect(tcp).await?;
                (Stream::Tls(Box::new(stream)), http2)
            }
            None => (Stream::Tcp(tcp), self.http2 == Http2::Always),
        };
        let io = TokioIo::new(stream);
        if http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.timer(TokioTimer::new()).keep_alive_interval(HTTP2_PING);
            let (sender, connection) = builder.handshake(io).await.map_err(io::Error::other)?;
            tokio::spawn(connection);
            let trunk = Trunk::new(sender);
            let call = trunk.call();
            self.pool.put_trunk(trunk.clone());
            return Ok(Connected::Trunk(trunk, call));
        }
        let (sender, connection) = self.http1.handshake(io).await.map_err(io::Error::other)?;
        Ok(Connected::Wire(Wire::new(sender, connection)))
    }

    async fn ask(&self, connected: Connected, mut request: Request<SendBody>) -> Result<Response<Answer>, Unanswered> {
        match connected {
            Connected::Wire(wire) => {
                let (answer, wire) = exchange(wire, request).await?;
                let wire = wire.map(|wire| (wire, Arc::clone(&self.pool)));
                Ok(answer.map(|body| Answer { body, wire, _call: None }))
            }
            Connected::Trunk(mut trunk, call) => {
                self.absolute(&mut request);
                let answer = trunk.sender.try_send_request(request).await.map_err(|mut unanswered| Unanswered {
                    unsent: unanswered.take_message().map(Box::new),
                    error: unanswered.into_error(),
                })?;
                Ok(answer.map(|body| Answer { body, wire: None, _call: Some(call) }))
            }
        }
    }

    /// HTTP/2 says scheme and host with the path.
    fn absolute(&self, request: &mut Request<SendBody>) {
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(if self.address.secure { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = Some(self.address.authority.clone());
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().remove(HOST);
    }
}

fn says_length(method: &Method) -> bool {
    *method == Method::POST || *method == Method::PUT || *method == Method::PATCH
}

/// HTTP/2 may say cookies one by one, HTTP/1.1 says them in one line.
fn join_cookies(parts: &mut Parts) {
    let cookies: Vec<&[u8]> = parts.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        parts.headers.insert(COOKIE, joined);
    }
}

/// Tries each address that the host has, each for a share of a few seconds, so that one that swallows what is sent to it
/// leaves time for the others.
async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for (index, address) in addresses.iter().enumerate() {
        let connecting = TcpStream::connect(address);
        let connected = if index + 1 < addresses.len() {
            tokio::time::timeout(DIAL_WAIT, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        } else {
            connecting.await
        };
        match connected {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// One of several addresses is waited for so long.
const DIAL_WAIT: Duration = Duration::from_secs(2);

/// The body of an upstream's answer. Reading it drives the connection; read to its end, the connection is kept for the
/// next call; dropped before, it is closed.
#[derive(Debug)]
pub struct Answer {
    body: Incoming,
    wire: Option<(Box<Wire>, Arc<Pool>)>,
    _call: Option<OnTrunk>,
}

impl Answer {
    fn keep(&mut self, cx: &mut Context<'_>) {
        if let Some((wire, pool)) = self.wire.take() {
            pool.put(wire, cx);
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some((wire, _)) = &mut self.wire
            && Pin::new(&mut wire.connection).poll(cx).is_ready()
        {
            self.wire = None;
        }
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) || (frame.is_ready() && self.body.is_end_stream()) {
            self.keep(cx);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // An answer without a body is read to its end before anybody reads it.
        if self.wire.is_some() && self.body.is_end_stream() {
            self.keep(&mut Context::from_waker(std::task::Waker::noop()));
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}
