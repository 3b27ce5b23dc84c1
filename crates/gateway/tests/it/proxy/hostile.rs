//! What nobody who means well sends.

use std::time::{Duration, Instant};

use paramedic_gateway::proxy::{End, RelayLimits, Settings};

use super::{Knobs, Proxy, eventually, held, post};
use crate::upstream::{FakeUpstream, RawClient, STREAM_HEAD, Step, chunk, json};

/// Requests of which two readers could think differently where they end. Each hides a second one.
const SMUGGLED: &[(&str, &str)] = &[
    (
        "length and encoding",
        "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    (
        "encoding and length",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n0\r\n\r\n",
    ),
    (
        "two lengths",
        "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 36\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n\r\n",
    ),
    ("a list of lengths", "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0, 36\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n\r\n"),
    ("a signed length", "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: +4\r\n\r\nabcdGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("a negative length", "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"),
    (
        "a huge length",
        "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    (
        "a strange encoding",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    (
        "encodings after chunked",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    (
        "a blank before the colon",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    (
        "a folded line",
        "POST /a HTTP/1.1\r\nHost: h\r\nX: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    (
        "a folded encoding",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    (
        "an encoding in HTTP/1.0",
        "POST /a HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    (
        "a bare CR in a value",
        "POST /a HTTP/1.1\r\nHost: h\r\nX: a\rTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
    ),
    ("a zero byte in a name", "POST /a HTTP/1.1\r\nHost: h\r\nX\0: a\r\nContent-Length: 0\r\n\r\n"),
    (
        "a chunk size that is none",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    ("a chunk size too large", "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
    (
        "a chunk without its end",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
    ),
    (
        "a line break in a chunk's extension",
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"\nGET /smuggled\"\r\nhello\r\n0\r\n\r\n",
    ),
    ("two request lines", "POST /a HTTP/1.1 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"),
    ("a tunnel", "CONNECT inner:22 HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("no HTTP at all", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n"),
];

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused_or_made_plain() {
    for (name, bytes) in SMUGGLED {
        let upstream = FakeUpstream::start(|_| json("{}")).await;
        let proxy = Proxy::before(&upstream).await;
        let mut client = RawClient::connect(proxy.address).await;
        client.send(bytes.as_bytes()).await;
        client.rest_for(Duration::from_millis(100)).await;
        let seen = upstream.seen();
        // A second request of its own is no smuggling where the first's end is plain: the client may send two.
        let first = seen.first();
        for one in &seen {
            let count = |what: &str| one.head.to_ascii_lowercase().matches(what).count();
            let (lengths, encodings) = (count("\r\ncontent-length:"), count("\r\ntransfer-encoding:"));
            assert!(lengths + encodings <= 1, "{name}: {}", one.head);
            assert!(!one.head.contains("\r\n ") && !one.head.contains('\0'), "{name}: {}", one.head);
        }
        let refused = [
            "two lengths",
            "a list",
            "a signed",
            "a negative",
            "a huge",
            "a strange",
            "a zero",
            "a chunk",
            "two request",
            "a tunnel",
            "no HTTP",
            "an encoding in",
            "encodings after",
            "a blank",
        ];
        if refused.iter().any(|start| name.starts_with(start)) {
            assert!(seen.is_empty(), "{name}: {:?}", first.map(|one| &one.head));
        }
        if *name == "encoding and length" {
            assert!(seen.iter().all(|one| one.path() == "/a"), "{name}: what is inside the body is no request");
        }
    }
}

#[tokio::test]
async fn line_feeds_alone_are_made_plain() {
    let upstream = FakeUpstream::start(|_| json("{}")).await;
    let proxy = Proxy::before(&upstream).await;
    let mut client = RawClient::connect(proxy.address).await;
    client.send(b"POST /a HTTP/1.1\nHost: h\nX-A: b\nContent-Length: 2\n\n{}").await;
    client.rest_for(Duration::from_millis(100)).await;
    for seen in upstream.seen() {
        assert_eq!(seen.head.matches('\n').count(), seen.head.matches("\r\n").count(), "{:?}", seen.head);
        assert_eq!((seen.path(), seen.header("x-a"), seen.body.as_slice()), ("/a", Some("b"), b"{}".as_slice()));
    }
}

#[tokio::test]
async fn a_body_shorter_than_it_says_is_not_passed_on_as_whole() {
    let upstream = FakeUpstream::start(|_| json("{}")).await;
    let proxy = Proxy::before(&upstream).await;
    let mut client = RawClient::connect(proxy.address).await;
    client.send(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{}").await;
    drop(client);
    eventually("closed", || proxy.serving.connections() == 0).await;
    assert!(upstream.seen().is_empty());

    // A body longer than it says is the next request, and no good one.
    let mut client = RawClient::connect(proxy.address).await;
    client.send(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}}}}}\r\n\r\n").await;
    client.rest_for(Duration::from_millis(200)).await;
    assert_eq!(upstream.seen().len(), 1);
    assert_eq!(upstream.last().body, b"{}");
}

#[tokio::test]
async fn floods_of_headers_are_refused() {
    let upstream = FakeUpstream::start(|_| json("{}")).await;
    let proxy = Proxy::before(&upstream).await;
    let many = (0..2000).map(|index| format!("X-{index}: y\r\n")).collect::<String>();
    let large = format!("X-Large: {}\r\n", "z".repeat(200_000));
    let long = "a".repeat(100_000);
    for (name, request) in [
        ("many", format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n")),
        ("large", format!("GET / HTTP/1.1\r\nHost: h\r\n{large}\r\n")),
        ("long", format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n")),
    ] {
        let mut client = RawClient::connect(proxy.address).await;
        client.send(request.as_bytes()).await;
        let said = String::from_utf8_lossy(&client.rest().await).into_owned();
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 431") || said.starts_with("HTTP/1.1 414"), "{name}: {said}");
    }
    assert!(upstream.seen().is_empty());
    assert_eq!(RawClient::connect(proxy.address).await.ask(&post("/", "{}")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_body_of_100_mb_passes_without_being_held() {
    let upstream = FakeUpstream::start(|_| json("{}")).await;
    let proxy = Proxy::before(&upstream).await;
    let bytes = 100 << 20;
    let piece = vec![b'x'; 1 << 16];
    for chunked in [false, true] {
        let mut client = RawClient::connect(proxy.address).await;
        let before = held().0;
        let how = if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {bytes}") };
        client.send(format!("POST /big HTTP/1.1\r\nHost: h\r\n{how}\r\n\r\n").as_bytes()).await;
        let mut most = 0;
        for index in 0..bytes / piece.len() {
            client.send(&if chunked { chunk(&piece) } else { piece.clone() }).await;
            if index % 64 == 0 {
                most = most.max(held().0);
            }
        }
        if chunked {
            client.send(b"0\r\n\r\n").await;
        }
        assert_eq!(client.answer().await.unwrap().status(), 200);
        assert_eq!(upstream.last().body_bytes, bytes);
        assert!(most < before + 16, "held {most} MB, {before} MB before");
    }
}

#[tokio::test]
async fn a_stream_without_an_end_is_ended_and_not_held() {
    let upstream = FakeUpstream::start(|_| {
        let data = format!("data: {}\n\n", "x".repeat(16_000));
        vec![Step::Send(STREAM_HEAD.into()), Step::Forever(chunk(data.as_bytes()))]
    })
    .await;
    let mut knobs = Knobs::default();
    knobs.relay = RelayLimits { total: Some(Duration::from_millis(800)), ..knobs.relay };
    let proxy = Proxy::with(&upstream, knobs, &Settings::default()).await;
    let mut client = RawClient::connect(proxy.address).await;
    let before = held().0;
    client.send(&post("/", "{}")).await;
    let begun = Instant::now();
    let (mut bytes, mut most) = (0, 0);
    while let Some(some) = client.some().await {
        bytes += some;
        most = most.max(held().0);
        // At an event's border it is ended as it should be, and the connection stays; else it is cut.
        if client.buffer.ends_with(b"0\r\n\r\n") {
            break;
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(bytes > 10 << 20 && most < before + 16, "{bytes} bytes, held {most} MB, {before} MB before");
    eventually("told", || matches!(proxy.ends()[..], [End::TimedOut(_)])).await;
    eventually("the upstream is left", || upstream.open() == 0).await;
}
