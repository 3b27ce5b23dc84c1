//! An upstream that does what a test tells it, byte by byte: answers, errors, streams with pauses, cuts, silence.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// A request as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// The first line and the headers, byte for byte, without the empty line.
    pub(crate) head: String,
    /// Without its chunks; nothing of a body that is larger than [`KEPT_BYTES_MAX`].
    pub(crate) body: Vec<u8>,
    pub(crate) body_bytes: usize,
    /// Counts connections from 0.
    pub(crate) connection: usize,
}

pub(crate) const KEPT_BYTES_MAX: usize = 1 << 20;

impl Seen {
    pub(crate) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// The first header of this name in a head.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// What is done for a request, one after another.
#[derive(Clone)]
pub(crate) enum Step {
    Send(Vec<u8>),
    Wait(Duration),
    /// Until the test says so.
    WaitFor(Arc<Notify>),
    /// Sends this again and again, as fast as it is taken.
    Forever(Vec<u8>),
    /// Until the peer goes away.
    Hang,
    Close,
}

/// What a script does for a request.
pub(crate) type Script = dyn Fn(&Seen) -> Vec<Step> + Send + Sync;

/// An answer with a length.
pub(crate) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<Step> {
    let mut bytes = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    vec![Step::Send(bytes)]
}

pub(crate) fn json(body: &str) -> Vec<Step> {
    answer("200 OK", "Content-Type: application/json\r\n", body.as_bytes())
}

pub(crate) const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";

pub(crate) fn chunk(data: &[u8]) -> Vec<u8> {
    let mut chunk = format!("{:x}\r\n", data.len()).into_bytes();
    chunk.extend_from_slice(data);
    chunk.extend_from_slice(b"\r\n");
    chunk
}

/// An event stream: its head, each of these as one chunk with a pause before it, and its end.
pub(crate) fn events(events: &[&str], pause: Duration) -> Vec<Step> {
    let mut steps = vec![Step::Send(STREAM_HEAD.into())];
    for event in events {
        steps.push(Step::Wait(pause));
        steps.push(Step::Send(chunk(event.as_bytes())));
    }
    steps.push(Step::Send(b"0\r\n\r\n".to_vec()));
    steps
}

struct State {
    script: Box<Script>,
    seen: Mutex<Vec<Seen>>,
    /// When a peer went away before its answer was whole.
    left: Mutex<Vec<Instant>>,
    connections: AtomicUsize,
    open: AtomicUsize,
}

/// Ends with the test.
pub(crate) struct FakeUpstream {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Drop for FakeUpstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FakeUpstream {
    pub(crate) async fn start(script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            script: Box::new(script),
            seen: Mutex::default(),
            left: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
        });
        let task = tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    stream.set_nodelay(true).unwrap();
                    tokio::spawn(serve(stream, Arc::clone(&state)));
                }
            }
        });
        Self { address, state, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("a request")
    }

    pub(crate) fn left(&self) -> Vec<Instant> {
        self.state.left.lock().unwrap().clone()
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let connection = state.connections.fetch_add(1, Ordering::SeqCst);
    state.open.fetch_add(1, Ordering::SeqCst);
    let mut buffer = Vec::new();
    while let Some(mut seen) = read_request(&mut stream, &mut buffer).await {
        seen.connection = connection;
        let steps = (state.script)(&seen);
        state.seen.lock().unwrap().push(seen);
        if !play(&mut stream, steps, &state).await {
            break;
        }
    }
    state.open.fetch_sub(1, Ordering::SeqCst);
}

/// Whether the connection goes on.
async fn play(stream: &mut TcpStream, steps: Vec<Step>, state: &State) -> bool {
    let left = || state.left.lock().unwrap().push(Instant::now());
    for step in steps {
        let mut gone = [0; 1];
        match step {
            Step::Send(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    left();
                    return false;
                }
            }
            Step::Wait(time) => tokio::time::sleep(time).await,
            Step::WaitFor(notify) => {
                tokio::select! {
                    () = notify.notified() => {}
                    _ = stream.peek(&mut gone) => {
                        left();
                        return false;
                    }
                }
            }
            Step::Forever(bytes) => {
                while stream.write_all(&bytes).await.is_ok() {}
                left();
                return false;
            }
            Step::Hang => {
                let _ = stream.peek(&mut gone).await;
                left();
                return false;
            }
            Step::Close => return false,
        }
    }
    true
}

async fn fill<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> Option<()> {
    buffer.reserve(1 << 16);
    (stream.read_buf(buffer).await.ok()? > 0).then_some(())
}

async fn until<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>, end: &[u8]) -> Option<Vec<u8>> {
    loop {
        if let Some(at) = memchr::memmem::find(buffer, end) {
            let rest = buffer.split_off(at + end.len());
            let mut found = std::mem::replace(buffer, rest);
            found.truncate(at);
            return Some(found);
        }
        fill(stream, buffer).await?;
    }
}

async fn exactly<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>, mut bytes: usize, body: &mut Vec<u8>) -> Option<()> {
    while bytes > 0 {
        if buffer.is_empty() {
            fill(stream, buffer).await?;
        }
        let take = bytes.min(buffer.len());
        if body.len() < KEPT_BYTES_MAX {
            body.extend_from_slice(&buffer[..take]);
        }
        buffer.drain(..take);
        bytes -= take;
    }
    Some(())
}

/// The body of a message with this head; and how long it was.
async fn read_body<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>, head: &str, to_end: bool) -> Option<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    if header(head, "transfer-encoding").is_some() {
        let mut bytes = 0;
        loop {
            let line = until(stream, buffer, b"\r\n").await?;
            let size = usize::from_str_radix(String::from_utf8_lossy(&line).split(';').next()?.trim(), 16).ok()?;
            if size == 0 {
                while !until(stream, buffer, b"\r\n").await?.is_empty() {}
                return Some((body, bytes));
            }
            exactly(stream, buffer, size, &mut body).await?;
            bytes += size;
            until(stream, buffer, b"\r\n").await?;
        }
    }
    let Some(length) = header(head, "content-length") else {
        if to_end {
            while fill(stream, buffer).await.is_some() {}
            body = std::mem::take(buffer);
        }
        let bytes = body.len();
        return Some((body, bytes));
    };
    let length = length.parse().ok()?;
    exactly(stream, buffer, length, &mut body).await?;
    Some((body, length))
}

async fn read_request<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> Option<Seen> {
    let head = String::from_utf8_lossy(&until(stream, buffer, b"\r\n\r\n").await?).into_owned();
    if header(&head, "expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
    }
    let (body, body_bytes) = read_body(stream, buffer, &head, false).await?;
    Some(Seen { head, body, body_bytes, connection: 0 })
}

/// An answer as a client got it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Got {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Got {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A client that sends bytes and reads answers.
pub(crate) struct RawClient<S = TcpStream> {
    pub(crate) stream: S,
    pub(crate) buffer: Vec<u8>,
}

impl RawClient {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawClient<S> {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        // A server that refuses may close before it has read all.
        let _ = self.stream.write_all(bytes).await;
    }

    pub(crate) async fn head(&mut self) -> Option<String> {
        loop {
            let head = String::from_utf8_lossy(&until(&mut self.stream, &mut self.buffer, b"\r\n\r\n").await?).into_owned();
            if !head.starts_with("HTTP/1.1 100") {
                return Some(head);
            }
        }
    }

    /// The next answer, to a request that was no HEAD; none when it has no end.
    pub(crate) async fn answer(&mut self) -> Option<Got> {
        let head = self.head().await?;
        let bodiless = [" 204 ", " 304 "].iter().any(|status| head[..head.len().min(13)].contains(status));
        let (body, _) = read_body(&mut self.stream, &mut self.buffer, &head, !bodiless).await?;
        Some(Got { head, body })
    }

    pub(crate) async fn ask(&mut self, bytes: &[u8]) -> Option<Got> {
        self.send(bytes).await;
        if bytes.starts_with(b"HEAD") {
            return Some(Got { head: self.head().await?, body: Vec::new() });
        }
        self.answer().await
    }

    /// All that comes until the connection is closed.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while fill(&mut self.stream, &mut self.buffer).await.is_some() {}
        std::mem::take(&mut self.buffer)
    }

    /// Reads until this has come.
    pub(crate) async fn read_until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        until(&mut self.stream, &mut self.buffer, end).await
    }
}

impl RawClient {
    /// How many bytes came next, which are thrown away; none at the end.
    pub(crate) async fn some(&mut self) -> Option<usize> {
        self.buffer.clear();
        self.buffer.reserve(1 << 16);
        fill(&mut self.stream, &mut self.buffer).await?;
        Some(self.buffer.len())
    }

    /// What comes in this time, or until the connection is closed.
    pub(crate) async fn rest_for(&mut self, time: Duration) -> Vec<u8> {
        let _ = tokio::time::timeout(time, async { while fill(&mut self.stream, &mut self.buffer).await.is_some() {} }).await;
        std::mem::take(&mut self.buffer)
    }

    /// Whether the server closes the connection in this time.
    pub(crate) async fn closes_within(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, async { while fill(&mut self.stream, &mut self.buffer).await.is_some() {} }).await.is_ok()
    }
}
