//! How answers end before their end, and who is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use paramedic_gateway::fault::Injection;
use paramedic_gateway::proxy::{End, Limits, RelayLimits, Settings, Wait, Which};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Knobs, Proxy, eventually, post};
use crate::upstream::{FakeUpstream, RawClient, STREAM_HEAD, Step, chunk, events, json};

const EVENT: &str = "event: a\ndata: {\"n\":1}\n\n";

fn relay(limits: RelayLimits) -> Knobs {
    let mut knobs = Knobs::default();
    knobs.relay = RelayLimits { farewell: knobs.relay.farewell, ..limits };
    knobs
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_the_upstream_within_100_ms() {
    let upstream = FakeUpstream::start(|seen| match seen.path() {
        "/headers" => vec![Step::Hang],
        _ => vec![Step::Send(STREAM_HEAD.into()), Step::Send(chunk(EVENT.as_bytes())), Step::Hang],
    })
    .await;
    let proxy = Proxy::before(&upstream).await;
    for (index, path) in ["/headers", "/stream", "/headers", "/stream"].into_iter().enumerate() {
        let mut client = RawClient::connect(proxy.address).await;
        client.send(&post(path, "{}")).await;
        if path == "/stream" {
            client.read_until(EVENT.as_bytes()).await.unwrap();
        } else {
            eventually("asked", || upstream.seen().len() == index + 1).await;
        }
        let gone = Instant::now();
        drop(client);
        eventually("cancelled", || upstream.left().len() == index + 1).await;
        let took = upstream.left()[index] - gone;
        assert!(took < Duration::from_millis(100), "{path}: {took:?}");
    }
    eventually("told", || proxy.ends() == [End::ClientGone, End::ClientGone]).await;
    eventually("no connection is left", || upstream.open() == 0 && proxy.serving.connections() == 0).await;
}

#[tokio::test]
async fn an_answer_that_the_upstream_cuts_is_cut_for_the_client() {
    let upstream = FakeUpstream::start(|seen| match seen.path() {
        "/length" => vec![Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc".to_vec()), Step::Close],
        _ => vec![Step::Send(STREAM_HEAD.into()), Step::Send(chunk(EVENT.as_bytes())), Step::Close],
    })
    .await;
    let proxy = Proxy::before(&upstream).await;
    for (path, end) in [("/length", "abc"), ("/stream", EVENT)] {
        let mut client = RawClient::connect(proxy.address).await;
        client.send(&post(path, "{}")).await;
        let all = client.rest().await;
        let all = String::from_utf8(all).unwrap();
        // What came before the cut was passed on; the last chunk, which says that all is well, was not.
        assert!(all.starts_with("HTTP/1.1 200 OK") && all.trim_end().ends_with(end.trim_end()), "{path}: {all}");
    }
    eventually("told", || proxy.ends() == [End::UpstreamCut, End::UpstreamCut]).await;
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_reported() {
    let upstream = FakeUpstream::start(|_| vec![Step::Send(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec()), Step::Close]).await;
    let proxy = Proxy::before(&upstream).await;
    let got = RawClient::connect(proxy.address).await.ask(&post("/", "{}")).await.unwrap();
    assert_eq!((got.status(), proxy.errors().len()), (502, 1));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = Proxy::to(&format!("http://{nobody}"), &Default::default(), Knobs::default(), &Settings::default()).await;
    let got = RawClient::connect(proxy.address).await.ask(&post("/", "{}")).await.unwrap();
    assert_eq!((got.status(), got.header("x-paramedic")), (502, Some("refused")));
    assert_eq!(proxy.errors(), [("reach the upstream".to_owned(), false)]);
}

#[tokio::test]
async fn an_upstream_that_is_slow_is_given_up() {
    let upstream = FakeUpstream::start(|seen| match seen.path() {
        "/headers" => vec![Step::Send(b"HTTP/1.1 200 OK\r\nX-A".to_vec()), Step::Hang],
        "/between" => vec![Step::Send(STREAM_HEAD.into()), Step::Send(chunk(EVENT.as_bytes())), Step::Hang],
        "/inside" => vec![Step::Send(STREAM_HEAD.into()), Step::Send(chunk(b"event: a\nda")), Step::Hang],
        _ => events(&[EVENT; 200], Duration::from_millis(20)),
    })
    .await;
    let mut knobs = relay(RelayLimits {
        between_frames: Some(Duration::from_millis(200)),
        total: Some(Duration::from_millis(600)),
        ..RelayLimits::default()
    });
    knobs.limits = Limits { connect: Duration::from_secs(1), first_byte: Duration::from_millis(200) };
    let proxy = Proxy::with(&upstream, knobs, &Settings::default()).await;
    let mut client = RawClient::connect(proxy.address).await;

    let got = client.ask(&post("/headers", "{}")).await.unwrap();
    assert_eq!((got.status(), got.json()["error"]["type"].as_str()), (504, Some("timeout_error")));
    // A body that is not held is sent on as slowly as it comes, and then the upstream has its time.
    client.send(b"POST /headers HTTP/1.1\r\nHost: h\r\nContent-Length: 2000000\r\n\r\n").await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.send(&vec![b'x'; 500_000]).await;
    }
    let begun = Instant::now();
    assert_eq!(client.answer().await.unwrap().status(), 504);
    assert!((Duration::from_millis(150)..Duration::from_millis(700)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    let mut client = RawClient::connect(proxy.address).await;
    for (path, least) in [("/between", 200), ("/total", 600)] {
        let begun = Instant::now();
        let got = client.ask(&post(path, "{}")).await.expect("the stream ends as it should");
        let said = String::from_utf8(got.body).unwrap();
        let (_, last) = said.trim_end().rsplit_once("\n\n").unwrap();
        assert!(last.starts_with("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"timeout_error\""), "{path}: {last}");
        let took = begun.elapsed();
        assert!((Duration::from_millis(least - 20)..Duration::from_millis(least + 300)).contains(&took), "{path}: {took:?}");
    }
    // In the middle of an event nothing can be said: it is cut.
    assert_eq!(client.ask(&post("/inside", "{}")).await, None);
    let timed_out = [Which::BetweenFrames, Which::Total, Which::BetweenFrames].map(End::TimedOut);
    eventually("told", || proxy.ends() == timed_out).await;
    eventually("the upstream is left", || upstream.open() == 0).await;
}

#[tokio::test]
async fn an_answer_is_broken_off_when_a_switch_says_so() {
    let go = Arc::new(Notify::new());
    let upstream = FakeUpstream::start({
        let go = Arc::clone(&go);
        move |seen| {
            let begun = if seen.path() == "/border" { EVENT } else { "event: a\nda" };
            vec![Step::Send(STREAM_HEAD.into()), Step::Send(chunk(begun.as_bytes())), Step::WaitFor(Arc::clone(&go))]
        }
    })
    .await;
    for (path, ends_well) in [("/border", true), ("/inside", false)] {
        let token = CancellationToken::new();
        let proxy =
            Proxy::with(&upstream, relay(RelayLimits { break_off: Some(token.clone()), ..RelayLimits::default() }), &Settings::default())
                .await;
        let mut client = RawClient::connect(proxy.address).await;
        client.send(&post(path, "{}")).await;
        client.read_until(b"event: a\n").await.unwrap();
        let begun = Instant::now();
        token.cancel();
        let rest = String::from_utf8(client.rest_for(Duration::from_millis(300)).await).unwrap();
        assert_eq!(rest.contains("event: error") && rest.ends_with("0\r\n\r\n"), ends_well, "{path}: {rest}");
        assert!(begun.elapsed() < Duration::from_millis(600));
        eventually("told", || proxy.ends() == [End::BrokenOff]).await;
    }
}

#[tokio::test]
async fn faults_are_done_to_answers_that_pass() {
    let upstream = FakeUpstream::start(|_| events(&[EVENT; 5], Duration::from_millis(1))).await;
    let cut = relay(RelayLimits { fault: Some(Injection::Cut { left: 30 }), ..RelayLimits::default() });
    let proxy = Proxy::with(&upstream, cut, &Settings::default()).await;
    let mut client = RawClient::connect(proxy.address).await;
    client.send(&post("/", "{}")).await;
    let rest = client.rest().await;
    assert!(!rest.ends_with(b"0\r\n\r\n"));
    assert_eq!(proxy.tapped().len(), 30);
    eventually("told", || proxy.ends() == [End::Injected]).await;

    let malformed = relay(RelayLimits { fault: Some(Injection::Malformed), ..RelayLimits::default() });
    let proxy = Proxy::with(&upstream, malformed, &Settings::default()).await;
    let got = RawClient::connect(proxy.address).await.ask(&post("/", "{}")).await.unwrap();
    let text = String::from_utf8(got.body).unwrap();
    assert_eq!(text.matches(EVENT).count(), 5);
    let broken = text
        .split("\n\n")
        .filter_map(|event| event.split_once("data: "))
        .filter(|(_, data)| serde_json::from_str::<serde_json::Value>(data).is_err());
    assert_eq!(broken.count(), 1);
}

#[tokio::test]
async fn a_panic_stops_nothing_but_itself() {
    let upstream = FakeUpstream::start(|seen| match seen.path() {
        "/tap" => events(&["panic in the tap\n\n", EVENT, EVENT], Duration::from_millis(1)),
        _ => json("{}"),
    })
    .await;
    let proxy = Proxy::before(&upstream).await;
    let mut client = RawClient::connect(proxy.address).await;
    let got = client.ask(&post("/panic", "{}")).await.unwrap();
    assert_eq!((got.status(), got.json()["type"].as_str(), got.json()["error"]["type"].as_str()), (500, Some("error"), Some("api_error")));
    assert_eq!(proxy.metrics.panics.get(), 1);
    let mut client = RawClient::connect(proxy.address).await;
    let got = client.ask(&post("/tap", "{}")).await.unwrap();
    assert_eq!(got.body.len(), "panic in the tap\n\n".len() + 2 * EVENT.len());
    assert_eq!(client.ask(&post("/", "{}")).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_client_that_sends_or_takes_too_slowly_is_cut() {
    let upstream = FakeUpstream::start(|_| vec![Step::Send(STREAM_HEAD.into()), Step::Forever(chunk(&[b'x'; 32_000]))]).await;
    let settings = Settings { head_wait_ms: 500, idle_ms: 1500, stuck_ms: 500, ..Settings::default() };
    let knobs = Knobs { wait: Wait { between: Some(Duration::from_millis(300)), total: None }, ..Knobs::default() };
    let proxy = Proxy::with(&upstream, knobs, &settings).await;

    // A head that never ends, though its bytes keep coming; and one that never begins.
    for silent in [false, true] {
        let mut client = RawClient::connect(proxy.address).await;
        let begun = Instant::now();
        if !silent {
            client.send(b"POST / HTTP/1.1\r\n").await;
        }
        while begun.elapsed() < Duration::from_secs(3) {
            if !silent {
                client.send(b"x: y\r\n").await;
            }
            if client.closes_within(Duration::from_millis(50)).await {
                break;
            }
        }
        assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
    }
    assert_eq!(proxy.metrics.cut_head.get(), 2);

    // A body that does not come.
    let mut client = RawClient::connect(proxy.address).await;
    let got = client.ask(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc").await.unwrap();
    assert_eq!(got.status(), 504);
    assert!(upstream.seen().is_empty());

    // An answer that is not taken.
    let mut client = RawClient::connect(proxy.address).await;
    client.send(&post("/", "{}")).await;
    eventually("cut", || proxy.ends() == [End::TooSlow]).await;
    assert_eq!(proxy.metrics.cut_stuck.get(), 1);
    eventually("the upstream is left", || upstream.open() == 0).await;
    drop(client);
}
