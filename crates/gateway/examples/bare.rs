//! The proxy alone, without any switch: what its transport costs per call.
//!
//! `bare bench [SECONDS]` starts an upstream, the proxy (on the first core) and a load (with the upstream on the second),
//! and prints the proxy's processor time per call for bodies of several sizes. `bare proxy ADDRESS UPSTREAM`,
//! `bare upstream ADDRESS` and `bare load ADDRESS CONNECTIONS SECONDS BODY_BYTES` run one part.

#![allow(clippy::unwrap_used)]

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Request, Response};
use paramedic_gateway::proxy::{
    Answering, Body, Collected, Handler, Limits, Listener, Metrics, Peer, Relay, RelayLimits, SendBody, Settings, Tap, Upstream,
    UpstreamSettings, Wait, collect, serve,
};
use paramedic_gateway::refuse::Refusal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

struct Pass {
    upstream: Arc<Upstream>,
}

struct Count(u64);

impl Tap for Count {
    fn frame(&mut self, bytes: &[u8]) {
        self.0 += bytes.len() as u64;
    }

    fn end(&mut self, _: paramedic_gateway::proxy::End) {}
}

impl Handler for Pass {
    fn call(&self, request: Request<Incoming>, _: Peer) -> Answering {
        Box::pin(pass(Arc::clone(&self.upstream), request))
    }
}

async fn pass(upstream: Arc<Upstream>, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let wait = Wait { between: Some(Duration::from_secs(30)), total: Some(Duration::from_secs(300)) };
    let body = match collect(body, 32 << 20, wait).await {
        Ok(Collected::Whole { bytes, trailers }) => SendBody::whole(bytes, trailers),
        Ok(Collected::TooLarge { head, rest }) => SendBody::passing(head, rest, wait),
        Err(error) => return Refusal::invalid(error.to_string()).answer(),
    };
    let limits = Limits { connect: Duration::from_secs(5), first_byte: Duration::from_secs(600) };
    match upstream.send(parts, body, limits).await {
        Ok(answer) => {
            let (parts, body) = answer.into_parts();
            let limits = RelayLimits {
                between_frames: Some(Duration::from_secs(300)),
                total: Some(Duration::from_secs(900)),
                break_off: Some(tokio_util::sync::CancellationToken::new()),
                ..RelayLimits::default()
            };
            let relay = Relay::new(body, &parts.headers, Some(Box::new(Count(0))), limits);
            Response::from_parts(parts, relay.into())
        }
        Err(error) => Refusal::unreachable(error.to_string()).answer(),
    }
}

async fn proxy(address: &str, upstream: &str) {
    let upstream = Upstream::new("bench", upstream.parse().unwrap(), &UpstreamSettings::default()).unwrap();
    let listener = Listener::Tcp(std::net::TcpListener::bind(address).unwrap());
    let handler = Arc::new(Pass { upstream: Arc::new(upstream) });
    let _serving = serve(listener, handler, &Settings::default(), Metrics::default()).unwrap();
    std::future::pending::<()>().await;
}

/// Reads one message with a `content-length` into `buffer`, and gives what was asked for.
async fn message(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<bool> {
    buffer.clear();
    let head = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
    let length = text.split("content-length: ").nth(1)?.split("\r\n").next()?.parse::<usize>().ok()?;
    let stream_wanted = text.contains("/stream");
    while buffer.len() < head + length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    Some(stream_wanted)
}

async fn upstream(address: &str) {
    let listener = TcpListener::bind(address).await.unwrap();
    let json = format!(r#"{{"id":"msg_1","type":"message","content":"{}"}}"#, "x".repeat(600));
    let json = Bytes::from(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: req_1\r\nanthropic-ratelimit-requests-remaining: 99\r\ncontent-length: {}\r\n\r\n{json}",
        json.len()
    ));
    let event = format!("event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"text\":\"{}\"}}\n\n", "y".repeat(60));
    let mut events = String::from("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
    for _ in 0..105 {
        events.push_str(&format!("{:x}\r\n{event}\r\n", event.len()));
    }
    events.push_str("0\r\n\r\n");
    let events = Bytes::from(events);
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (json, events) = (json.clone(), events.clone());
        tokio::spawn(async move {
            let mut buffer = Vec::with_capacity(1 << 20);
            while let Some(streamed) = message(&mut stream, &mut buffer).await {
                if stream.write_all(if streamed { &events } else { &json }).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn request(body_bytes: usize, path: &str) -> Bytes {
    let headers = "Host: 127.0.0.1\r\nAccept: application/json\r\nAuthorization: Bearer sk-fake\r\nContent-Type: application/json\r\n\
         User-Agent: claude-cli/2.1.330 (external, sdk-cli)\r\nX-Claude-Code-Session-Id: 0c4d1e5e-0000-4000-8000-000000000000\r\n\
         X-Stainless-Arch: x64\r\nX-Stainless-Lang: js\r\nX-Stainless-OS: Linux\r\nX-Stainless-Package-Version: 0.70.0\r\n\
         X-Stainless-Retry-Count: 0\r\nX-Stainless-Runtime: node\r\nX-Stainless-Runtime-Version: v24.3.0\r\nX-Stainless-Timeout: 600\r\n\
         anthropic-beta: claude-code-20250219,interleaved-thinking-2025-05-14\r\nanthropic-dangerous-direct-browser-access: true\r\n\
         anthropic-version: 2023-06-01\r\nx-app: cli\r\nConnection: keep-alive\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n";
    let mut request = format!("POST {path}?beta=true HTTP/1.1\r\n{headers}Content-Length: {body_bytes}\r\n\r\n").into_bytes();
    request.resize(request.len() + body_bytes, b'a');
    Bytes::from(request)
}

async fn load(address: &str, connections: usize, seconds: u64, body_bytes: usize, path: &str) {
    let request = request(body_bytes, path);
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let (request, address, chunked) = (request.clone(), address.to_owned(), path.contains("/stream"));
        tasks.push(tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (mut buffer, mut times) = (Vec::with_capacity(64 << 10), Vec::new());
            while Instant::now() < until {
                let begun = Instant::now();
                stream.write_all(&request).await.unwrap();
                if chunked {
                    buffer.clear();
                    while !buffer.ends_with(b"0\r\n\r\n") {
                        assert!(stream.read_buf(&mut buffer).await.unwrap() > 0);
                    }
                } else {
                    assert!(message(&mut stream, &mut buffer).await.is_some());
                }
                times.push(begun.elapsed().as_micros());
            }
            times
        }));
    }
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    times.sort_unstable();
    println!("{} {} {}", times.len(), times[times.len() / 2], times[times.len() * 99 / 100]);
}

struct Part(Child);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn part(core: &str, words: &[&str]) -> Part {
    let me = std::env::current_exe().unwrap();
    Part(Command::new("taskset").args(["-c", core]).arg(me).args(words).stdout(Stdio::piped()).spawn().unwrap())
}

/// Microseconds of processor time, and kilobytes resident.
fn spent(pid: u32) -> (u64, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = status.lines().find(|line| line.starts_with("VmRSS")).unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    (ticks * 10_000, resident)
}

fn bench(seconds: &str) {
    let _upstream = part("1", &["upstream", "127.0.0.1:18301"]);
    let proxy = part("0", &["proxy", "127.0.0.1:18302", "http://127.0.0.1:18301"]);
    std::thread::sleep(Duration::from_millis(300));
    println!("{:<22} {:>8} {:>9} {:>9} {:>12} {:>9}", "body, connections", "calls/s", "p50 us", "p99 us", "CPU us/call", "RSS kB");
    for (name, bytes, connections, path) in [
        ("98 B, 1", "98", "1", "/v1/messages"),
        ("98 B, 16", "98", "16", "/v1/messages"),
        ("98 B, 64", "98", "64", "/v1/messages"),
        ("40 kB, 1", "40000", "1", "/v1/messages"),
        ("40 kB, 16", "40000", "16", "/v1/messages"),
        ("300 kB, 8", "300000", "8", "/v1/messages"),
        ("98 B, 16, event stream", "98", "16", "/stream"),
    ] {
        let before = spent(proxy.0.id()).0;
        let load = part("1", &["load", "127.0.0.1:18302", connections, seconds, bytes, path]);
        let mut load = load;
        let said = std::io::read_to_string(load.0.stdout.take().unwrap()).unwrap();
        let after = spent(proxy.0.id());
        let numbers: Vec<u64> = said.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let [calls, p50, p99] = numbers[..] else { panic!("{said}") };
        let (rate, cost) = (calls / seconds.parse::<u64>().unwrap(), (after.0 - before) as f64 / calls as f64);
        println!("{name:<22} {rate:>8} {p50:>9} {p99:>9} {cost:>12.1} {:>9}", after.1);
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match words[..] {
        ["bench"] => bench("3"),
        ["bench", seconds] => bench(seconds),
        ["proxy", address, upstream] => runtime.block_on(proxy(address, upstream)),
        ["upstream", address] => runtime.block_on(upstream(address)),
        ["load", address, connections, seconds, bytes, path] => {
            runtime.block_on(load(address, connections.parse().unwrap(), seconds.parse().unwrap(), bytes.parse().unwrap(), path));
        }
        _ => {
            println!("bare bench [SECONDS] | proxy ADDRESS UPSTREAM | upstream ADDRESS | load ADDRESS CONNECTIONS SECONDS BODY_BYTES PATH")
        }
    }
}
