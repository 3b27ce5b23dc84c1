//! What passes, and how soon.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use paramedic_gateway::proxy::{End, Listener, Metrics, Settings, UpstreamSettings, serve};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;

use super::{Knobs, Proxy, eventually, get, post};
use crate::upstream::{FakeUpstream, Got, RawClient, STREAM_HEAD, Seen, Step, answer, chunk, events, json};

fn gzipped(text: &str) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn script(seen: &Seen) -> Vec<Step> {
    let path = seen.path().split('?').next().unwrap_or_default();
    match path {
        "/v1/stream" => events(&["event: a\ndata: 1\n\n", "event: b\nda", "ta: 2\n\n", ": ping\n\n"], Duration::from_millis(2)),
        "/v1/zip" => answer("200 OK", "Content-Type: text/event-stream\r\nContent-Encoding: gzip\r\n", &gzipped("data: x\n\n")),
        "/v1/429" => answer(
            "429 Too Many Requests",
            "Retry-After: 7\r\nanthropic-ratelimit-requests-remaining: 0\r\nRequest-ID: req_9\r\nX-Should-Retry: true\r\n",
            br#"{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}"#,
        ),
        "/v1/529" => answer("529 Overloaded Here", "Set-Cookie: a=1\r\nX-A: 1\r\nset-cookie: b=2\r\n", b"{\"type\":\"error\" , }"),
        "/v1/none" => vec![Step::Send(b"HTTP/1.1 204 No Content\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nX-Y: z\r\n\r\n".to_vec())],
        "/v1/lines" => answer("200 Fine", "X-Empty:\r\nX-Latin: caf\u{e9}\r\nX-Many: 1\r\nx-many: 2\r\nX-MANY: 3\r\n", b"{}"),
        _ if seen.head.starts_with("HEAD") => vec![Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nServer: fake\r\n\r\n".to_vec())],
        _ => json(r#"{"id":"msg_1",  "x":"\u00e9é"}"#),
    }
}

/// The lines of a head that are not one hop's own, with one blank after the colon and none at the end: those are no part
/// of a value.
fn lines(head: &str) -> Vec<String> {
    let own = ["connection:", "host:", "transfer-encoding:", "keep-alive:"];
    head.split("\r\n")
        .filter(|line| !own.iter().any(|own| line.to_ascii_lowercase().starts_with(own)))
        .map(|line| {
            line.split_once(':')
                .filter(|(name, _)| !name.contains(' '))
                .map_or(line.to_owned(), |(name, value)| format!("{name}: {}", value.trim()))
        })
        .collect()
}

/// Header names once each in their order, and the values of each: the same name's lines may come together.
fn grouped(head: &str) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for line in lines(head) {
        let key = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        match groups.iter_mut().find(|(name, _)| *name == key) {
            Some((_, lines)) => lines.push(line),
            None => groups.push((key, vec![line])),
        }
    }
    groups
}

fn requests() -> Vec<Vec<u8>> {
    let agent = "POST /v1/messages?beta=true&q=%2F%c3%A9+x&&=#  HTTP/1.1".replace('#', "%23").replace("  ", " ");
    let agent = format!(
        "{agent}\r\nHost: here\r\nConnection: keep-alive\r\nAccept: application/json\r\nX-Stainless-Lang: js\r\nx-STAINLESS-os: Linux\r\n\
         anthropic-beta: a-1,b-2\r\nanthropic-version: 2023-06-01\r\nX-Api-Key: sk-1\r\nAuthorization: Bearer t\r\nAnthropic-Beta: c-3\r\n\
         X-Odd:  two  blanks \r\nX-Empty:\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nUser-Agent: claude-cli/2.1.330 (external, sdk-cli)\r\n\
         Content-Type: application/json\r\nContent-Length: 17\r\n\r\n{{\"a\" : 1 , \"a\":2}}"
    );
    let mut all = vec![
        agent.into_bytes(),
        post("/v1/stream", "{}"),
        post("/v1/zip", "{}"),
        post("/v1/429", ""),
        post("/v1/529", "not json \u{0}\u{1}"),
        post("/v1/lines", "{}"),
        get("/v1/none"),
        get("/v1/models?limit=1000"),
        get("//double//slash/../dots/%2e%2E/?"),
        b"HEAD /api/hello HTTP/1.1\r\nHost: here\r\nUser-Agent: Bun/1.4.4\r\n\r\n".to_vec(),
        b"OPTIONS * HTTP/1.1\r\nHost: here\r\n\r\n".to_vec(),
        b"OPTIONS /v1/x HTTP/1.1\r\nHost: here\r\nOrigin: o\r\n\r\n".to_vec(),
        b"DELETE /v1/files/f_1 HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\n{}".to_vec(),
        b"PURGE /x HTTP/1.1\r\nHost: here\r\n\r\n".to_vec(),
        b"PATCH /x HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n".to_vec(),
    ];
    all.push(post("/v1/messages", &"x".repeat(300_000)));
    all
}

#[tokio::test]
async fn bytes_pass_unchanged_both_ways() {
    let upstream = FakeUpstream::start(script).await;
    let proxy = Proxy::before(&upstream).await;
    let mut direct = RawClient::connect(upstream.address).await;
    let mut through = RawClient::connect(proxy.address).await;
    for request in requests() {
        let name = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        let want: Got = direct.ask(&request).await.expect(&name);
        let want_seen = upstream.last();
        let got = through.ask(&request).await.expect(&name);
        let got_seen = upstream.last();
        assert_eq!(upstream.seen().len() % 2, 0, "{name}: asked once");

        assert_eq!(want_seen.head.lines().next(), got_seen.head.lines().next(), "{name}");
        assert_eq!(grouped(&want_seen.head), grouped(&got_seen.head), "{name}");
        assert_eq!(want_seen.body, got_seen.body, "{name}");
        assert_eq!(got_seen.header("host"), Some(upstream.address.to_string().as_str()), "{name}");

        assert_eq!(want.head.lines().next(), got.head.lines().next(), "{name}");
        assert_eq!(grouped(&want.head), grouped(&got.head), "{name}");
        assert_eq!(want.body, got.body, "{name}");
    }
    // All of it went over one connection to the upstream.
    assert_eq!(upstream.last().connection, 1);
    assert!(proxy.ends().iter().all(|end| *end == End::Complete), "{:?}", proxy.ends());
}

#[tokio::test]
async fn a_frame_does_not_wait_for_the_next() {
    let go = Arc::new(Notify::new());
    let upstream = FakeUpstream::start({
        let go = Arc::clone(&go);
        move |_| {
            let mut steps = vec![Step::Send(STREAM_HEAD.into())];
            for index in 0..20 {
                steps.push(Step::Send(chunk(format!("data: {index}\n\n").as_bytes())));
                steps.push(Step::WaitFor(Arc::clone(&go)));
            }
            steps.push(Step::Send(b"0\r\n\r\n".to_vec()));
            steps
        }
    })
    .await;
    let proxy = Proxy::before(&upstream).await;
    let mut client = RawClient::connect(proxy.address).await;
    client.send(&post("/v1/messages", "{}")).await;
    let mut slowest = Duration::ZERO;
    for index in 0..20 {
        let begun = Instant::now();
        let event = format!("data: {index}\n\n");
        let read = client.read_until(event.as_bytes());
        tokio::time::timeout(Duration::from_secs(5), read).await.expect("the frame comes alone").unwrap();
        slowest = slowest.max(begun.elapsed());
        go.notify_one();
    }
    assert!(slowest < Duration::from_millis(250), "{slowest:?}");
    client.read_until(b"0\r\n\r\n").await.unwrap();
}

#[tokio::test]
async fn http2_comes_in_on_the_same_port() {
    let upstream = FakeUpstream::start(script).await;
    let proxy = Proxy::before(&upstream).await;
    let stream = TcpStream::connect(proxy.address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut calls = Vec::new();
    for index in 0..20 {
        let mut sender = sender.clone();
        calls.push(tokio::spawn(async move {
            let path = if index % 2 == 0 { "/v1/messages" } else { "/v1/stream" };
            let request = hyper::Request::post(format!("http://here{path}?n={index}"))
                .header("anthropic-beta", "x")
                .header("cookie", "a=1")
                .header("cookie", "b=2")
                .body(Full::new(Bytes::from(format!("{{\"n\":{index}}}"))))
                .unwrap();
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!(answer.status(), 200);
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(if index % 2 == 0 { body.starts_with(b"{\"id\"") } else { body.ends_with(b": ping\n\n") }, "{body:?}");
        }));
    }
    for call in calls {
        call.await.unwrap();
    }
    let seen = upstream.seen();
    assert_eq!(seen.len(), 20);
    for one in seen {
        assert_eq!(one.header("host"), Some(upstream.address.to_string().as_str()));
        assert_eq!((one.header("cookie"), one.header("anthropic-beta")), (Some("a=1; b=2"), Some("x")));
        assert!(one.path().starts_with("/v1/") && one.body.starts_with(b"{\"n\":"), "{}", one.head);
    }
}

#[tokio::test]
async fn a_unix_socket_and_a_prefix() {
    let upstream = FakeUpstream::start(script).await;
    let url = format!("{}/base/", upstream.url());
    let proxy = Proxy::to(&url, &UpstreamSettings::default(), Knobs::default(), &Settings::default()).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gateway.sock");
    let listener = Listener::Unix(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let _serving = serve(listener, proxy.handler(), &Settings::default(), Metrics::default()).unwrap();
    let mut client = RawClient { stream: UnixStream::connect(&path).await.unwrap(), buffer: Vec::new() };
    for (asked, expect) in [("/v1/messages?beta=true", "/base/v1/messages?beta=true"), ("/", "/base/"), ("/%7e?", "/base/%7e?")] {
        assert_eq!(client.ask(&post(asked, "{}")).await.unwrap().status(), 200);
        assert_eq!(upstream.last().path(), expect);
    }
    // What a client of a forward proxy sends: the path counts, not the host.
    client.ask(&get("http://elsewhere/v1/x?y")).await.unwrap();
    assert_eq!(upstream.last().path(), "/base/v1/x?y");
}

#[tokio::test]
async fn a_body_is_waited_for_where_the_client_asks_whether_to_send_it() {
    let upstream = FakeUpstream::start(script).await;
    let proxy = Proxy::before(&upstream).await;
    let mut client = RawClient::connect(proxy.address).await;
    client.send(b"POST /v1/messages HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    client.read_until(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    let got = client.ask(b"hello").await.unwrap();
    assert_eq!((got.status(), upstream.last().body.as_slice()), (200, b"hello".as_slice()));
    assert_eq!(upstream.last().header("expect"), None);
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let upstream = FakeUpstream::start(|_| {
        let head = "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 12\r\n\r\n";
        vec![Step::Send(head.into())]
    })
    .await;
    let proxy = Proxy::before(&upstream).await;
    let mut client = RawClient::connect(proxy.address).await;
    client.send(b"POST /x HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nTrailer: X-Mine\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Mine: 7\r\n\r\n").await;
    let answer = String::from_utf8(client.read_until(b"12\r\n\r\n").await.unwrap()).unwrap();
    assert!(answer.contains("hello") && answer.to_lowercase().contains("\r\nx-sum: "), "{answer}");
    let seen = upstream.last();
    assert_eq!((seen.body.as_slice(), seen.header("te"), seen.header("trailer")), (b"abc".as_slice(), Some("trailers"), Some("X-Mine")));
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_not_used_and_a_call_is_never_doubled() {
    let upstream = FakeUpstream::start(|seen| match seen.path() {
        "/close" => [json("{}"), vec![Step::Close]].concat(),
        "/die" => vec![Step::Close],
        _ => json("{}"),
    })
    .await;
    let proxy = Proxy::before(&upstream).await;
    let mut client = RawClient::connect(proxy.address).await;
    for _ in 0..20 {
        assert_eq!(client.ask(&post("/close", "{}")).await.unwrap().status(), 200);
        eventually("closed", || upstream.open() == 0).await;
        assert_eq!(client.ask(&post("/v1/messages", "{}")).await.unwrap().status(), 200);
        assert_eq!(proxy.upstream().idle_connections(), 1);
    }
    assert_eq!(upstream.seen().len(), 40);
    assert!(proxy.errors().is_empty(), "{:?}", proxy.errors());

    // A request that was read and not answered may have been processed: it is reported, and not sent again.
    let got = client.ask(&post("/die", "{}")).await.unwrap();
    assert_eq!((got.status(), got.json()["error"]["type"].as_str()), (502, Some("api_error")));
    assert_eq!(upstream.seen().len(), 41);
    assert_eq!(proxy.errors().len(), 1);
    assert!(proxy.errors()[0].1, "may have been sent");
}
