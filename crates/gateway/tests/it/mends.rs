//! What a call costs and counts for, however it is written and whatever changes while it waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use paramedic_gateway::breaker::State;
use paramedic_gateway::config::UpstreamSettings;
use paramedic_gateway::{Gateway, Kind, Outcome, Settings};
use serde_json::{Value, json};

use crate::model_api::{Api, Call, Does, INPUT_PICO, OUTPUT_PICO, Whole, named, parts, raw, send};
use crate::upstream::{FakeUpstream, RawClient};

const HOUR: Duration = Duration::from_secs(3_600);

fn is_closed(whole: &Whole, name: &str) -> bool {
    let views = whole.gateway.breakers().view(tokio::time::Instant::now(), paramedic_model::Timestamp::EPOCH);
    views.iter().any(|view| view.name == name && view.state == State::Closed)
}

/// A gateway before an upstream that answers everything with this message.
async fn answering(usage: Value) -> (FakeUpstream, Whole) {
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": [],
        "stop_reason": "end_turn", "usage": usage});
    let upstream = FakeUpstream::start(move |_| crate::upstream::json(&message.to_string())).await;
    let url = upstream.url();
    let whole = Whole::with(|settings| settings.upstreams[0].url = url).await;
    (upstream, whole)
}

#[tokio::test]
async fn what_has_a_price_of_its_own_is_charged() {
    let base = 1_000 * INPUT_PICO + 100 * OUTPUT_PICO;
    for (more, cost) in [
        (json!({}), base),
        (json!({"speed": "fast"}), base * 2),
        (json!({"inference_geo": "us"}), base * 11 / 10),
        (json!({"server_tool_use": {"web_search_requests": 2}}), base + 20_000_000_000),
    ] {
        let mut usage = json!({"input_tokens": 1_000, "output_tokens": 100});
        usage.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (_upstream, whole) = answering(usage).await;
        whole.set("daily_budget_dollars", json!(10), "all", HOUR);
        assert_eq!(whole.ask(&Call::of("ana")).await.status(), 200);
        assert_eq!(whole.record("ana").await.cost_pico, Some(cost), "{more}");
        let budget = whole.gateway.ledger().budgets().remove(0);
        assert!((budget.spent_dollars - cost as f64 / 1e12).abs() < 1e-9, "{more}: {budget:?}");
    }
}

/// Who goes away before an answer begins may have cost money all the same.
#[tokio::test]
async fn a_call_that_is_left_before_its_answer_is_paid_for() {
    let whole = Whole::start().await;
    whole.set("daily_budget_dollars", json!(10), "all", HOUR);
    whole.api.model("claude-x", Does::Hangs);
    let mut client = RawClient::connect(whole.address).await;
    client.send(&Call::of("ana").bytes()).await;
    crate::proxy::eventually("it is asked", || !whole.api.seen("ana").is_empty()).await;
    drop(client);
    assert_eq!(whole.record("ana").await.outcome, Outcome::ClientGone);
    assert!(whole.gateway.ledger().budgets()[0].spent_dollars > 0.0);
    whole.is_clean().await;
}

#[tokio::test]
async fn tries_that_are_limited_open_no_breaker_and_hold_back_the_next_call() {
    let whole = Arc::new(Whole::with(|settings| (settings.retry.back_off_ms, settings.retry.budget_max) = (1, 100.0)).await);
    whole.set("circuit_breaker", json!(true), "all", HOUR);
    whole.set("retry_attempts", json!(2), "all", HOUR);
    whole.api.model("m", Does::FailsOnce(429, "retry-after: 0\r\n".to_owned()));
    for at in 0..12 {
        let call = Call::of("ana").model("m").text(&format!("limited {at}"));
        assert_eq!(whole.ask(&call).await.status(), 200);
    }
    whole.record("ana").await;
    assert!(is_closed(&whole, "fake") && is_closed(&whole, "fake/m"));
    // What a final answer asked for is waited for by the calls after it.
    whole.clear("retry_attempts@all");
    whole.set("provider_pacing", json!(true), "all", HOUR);
    whole.api.model("m", Does::FailsOnce(429, "retry-after: 2\r\n".to_owned()));
    let call = Call::of("ana").model("m").text("the last");
    assert_eq!(whole.ask(&call).await.status(), 429);
    whole.record("ana").await;
    let at = Instant::now();
    assert_eq!(whole.ask(&call).await.status(), 200);
    assert!(at.elapsed() > Duration::from_millis(1_000), "{:?}", at.elapsed());
    // As is what one asked for that is tried again.
    whole.set("retry_attempts", json!(2), "all", HOUR);
    let tried = tokio::spawn({
        let (whole, call) = (Arc::clone(&whole), call.clone().text("tried again"));
        async move { whole.ask(&call).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    whole.api.well("m");
    let at = Instant::now();
    assert_eq!(whole.ask(&call).await.status(), 200);
    assert!(at.elapsed() > Duration::from_millis(1_000), "{:?}", at.elapsed());
    assert_eq!(tried.await.unwrap().status(), 200);
    whole.is_clean().await;
}

#[tokio::test]
async fn counting_tokens_closes_no_breaker() {
    let whole = Whole::with(|settings| settings.breaker.open_s = 1).await;
    whole.set("circuit_breaker", json!(true), "all", HOUR);
    whole.api.model("m", Does::Fails(500, String::new()));
    for _ in 0..5 {
        assert_eq!(whole.ask(&Call::of("ana").model("m")).await.status(), 500);
        whole.record("ana").await;
    }
    assert!(!is_closed(&whole, "fake"));
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let mut count = Call::of("ana");
    count.path = "/v1/messages/count_tokens".to_owned();
    for _ in 0..4 {
        assert_eq!(whole.ask(&count).await.status(), 200);
        whole.record("ana").await;
    }
    assert!(!is_closed(&whole, "fake"), "only what it is for finds out whether it works");
}

#[tokio::test]
async fn a_model_is_asked_for_no_more_than_it_writes() {
    let whole = Whole::start().await;
    for (model, max) in [("claude-haiku-4-5", 64_000), ("claude-haiku-4-5-20251001", 64_000), ("claude-haiku-5-5", 128_000)] {
        whole.set("route_to_model", json!(model), "all", HOUR);
        assert_eq!(whole.ask(&Call::of("ana").with("max_tokens", json!(128_000))).await.status(), 200);
        let sent: Value = serde_json::from_slice(&whole.api.upstream.last().body).unwrap();
        assert_eq!((&sent["model"], &sent["max_tokens"]), (&json!(model), &json!(max)));
    }
}

#[tokio::test]
async fn however_a_call_is_written_it_is_read() {
    let whole = Whole::start().await;
    whole.set("route_to_model", json!("claude-y"), "all", HOUR);
    let body = Call::of("ana").body.to_string();
    for path in ["//v1/messages", "/v1/%6dessages", "/v1/messages/", "/V1/Messages?beta=true", "/v1/./x/../messages"] {
        let got = send(whole.address, &raw(path, "x-user-id: ana\r\n", body.as_bytes())).await;
        assert_eq!(whole.api.upstream.last().path(), path, "it goes on as it came");
        assert_eq!((got.status(), named(&got)), (200, "acted; switch=route_to_model@all"), "{path}");
        assert_eq!(whole.record("ana").await.kind, Kind::Inference, "{path}");
    }
    for encoding in ["identity", "Identity", ""] {
        let headers = format!("x-user-id: ana\r\ncontent-encoding: {encoding}\r\n");
        let got = send(whole.address, &raw("/v1/messages", &headers, body.as_bytes())).await;
        assert_eq!(named(&got), "acted; switch=route_to_model@all", "{encoding:?}");
    }
    for path in ["/v1/message", "/v1/messages/batches", "/v1/messages%2", "/%"] {
        send(whole.address, &raw(path, "x-user-id: ana\r\n", body.as_bytes())).await;
        assert_eq!(whole.record("ana").await.kind, Kind::Other, "{path}");
    }
}

/// Nobody knows how long a chunked body will be, and one that is packed is not read.
#[tokio::test]
async fn what_passes_unread_is_counted_as_it_passes() {
    let whole = Whole::start().await;
    let id = whole.set("max_input_bytes", json!(100_000), "all", HOUR);
    let chunked = |bytes: usize| {
        let head =
            "POST /v1/messages HTTP/1.1\r\nHost: here\r\nx-user-id: ana\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunk = format!("{:x}\r\n{}\r\n", 10_000, "x".repeat(10_000));
        format!("{head}{}0\r\n\r\n", chunk.repeat(bytes / 10_000)).into_bytes()
    };
    let got = send(whole.address, &chunked(300_000)).await;
    assert_eq!((got.status(), named(&got)), (413, format!("refused; switch={id}").as_str()));
    assert!(whole.record("ana").await.request_bytes > 100_000);
    let got = send(whole.address, &chunked(90_000)).await;
    assert_eq!(got.status(), 400, "it is not JSON: the upstream says so");
    assert_eq!(whole.record("ana").await.request_bytes, 90_000);
    whole.is_clean().await;
}

#[tokio::test]
async fn zero_seconds_are_no_limit() {
    let whole = Whole::with(|settings| (settings.connect_timeout_s, settings.first_byte_timeout_s) = (0, 0)).await;
    whole.api.model("m", Does::Late(Duration::from_millis(300)));
    assert_eq!(whole.ask(&Call::of("ana").model("m")).await.status(), 200);
    let mut client = RawClient::connect(whole.address).await;
    let bytes = raw("/v1/messages", "x-user-id: ana\r\ncontent-encoding: gzip\r\n", &[b'x'; 20_000]);
    client.send(&bytes[..10_000]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.send(&bytes[10_000..]).await;
    assert_eq!(client.answer().await.unwrap().status(), 400);
    whole.is_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_is_edited_as_it_is_asked_for_then() {
    let whole = Arc::new(Whole::start().await);
    whole.set("route_to_model", json!("claude-y"), "all", HOUR);
    let limit = whole.set("max_concurrent_requests", json!(1), "all", HOUR);
    let mut before = RawClient::connect(whole.address).await;
    before.send(&Call::of("ana").paced(1, 1_500).bytes()).await;
    crate::proxy::eventually("another runs", || whole.api.seen("ana").len() == 1).await;
    let waiting = tokio::spawn({
        let whole = Arc::clone(&whole);
        async move { whole.ask(&Call::of("bo").model("claude-x").with("max_tokens", json!(90))).await }
    });
    crate::proxy::eventually("it waits", || whole.running("bo") == 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    whole.clear("route_to_model@all");
    let max = whole.set("max_output_tokens", json!(60), "all", HOUR);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(whole.running("bo"), 1, "it waits still");
    whole.clear(&limit);
    let got = waiting.await.unwrap();
    assert!(named(&got).contains(&max) && !named(&got).contains("route_to_model"), "{}", named(&got));
    assert_eq!(before.answer().await.unwrap().status(), 200);
    let sent: Value = serde_json::from_slice(&whole.api.seen("bo").pop().unwrap().body).unwrap();
    assert_eq!((&sent["model"], &sent["max_tokens"]), (&json!("claude-x"), &json!(60)), "made anew from what its client sent");
    whole.is_clean().await;
}

/// Another upstream stands in, and is shown no key but its own.
#[tokio::test]
async fn an_upstream_that_cannot_be_asked_is_replaced() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (primary, same_key) in [(None, true), (None, false), (Some(529), false), (Some(503), true), (Some(500), true)] {
        let other = Api::start().await;
        let url = other.upstream.url();
        let whole = Whole::with(|settings| {
            let mut second = settings.upstreams[0].clone();
            (second.name, second.url, second.models) = ("other".to_owned(), url, vec!["none".to_owned()]);
            (second.same_key, second.api_key) = (same_key, if same_key { String::new() } else { "key-of-other".to_owned() });
            let first = &mut settings.upstreams[0];
            first.fallback = "other".to_owned();
            if primary.is_none() {
                first.url = format!("http://{free}");
            }
            settings.upstreams.push(second);
        })
        .await;
        if let Some(status) = primary {
            whole.api.model("claude-x", Does::Fails(status, String::new()));
        }
        let call = Call::of("ana").header("authorization", "Bearer of-ana").header("cookie", "a=b");
        let got = whole.ask(&call).await;
        if primary == Some(500) {
            assert_eq!((got.status(), other.seen("ana").len()), (500, 0), "it may have done its work");
            continue;
        }
        assert_eq!((got.status(), named(&got)), (200, "acted; switch=fallback"), "{primary:?}");
        let sent = other.seen("ana").pop().unwrap();
        let shown = (sent.header("x-api-key"), sent.header("authorization"), sent.header("cookie"));
        let own = (Some("key-of-ana"), Some("Bearer of-ana"), Some("a=b"));
        assert_eq!(shown, if same_key { own } else { (Some("key-of-other"), None, None) });
        let record = whole.record("ana").await;
        assert_eq!((&*record.upstream, record.tries), ("other", 2));
        // It is overloaded too: its own error passes, and nobody goes back.
        other.model("claude-x", Does::Fails(529, String::new()));
        assert_eq!(whole.ask(&call).await.status(), 529);
        assert_eq!(whole.record("ana").await.tries, 2);
        whole.is_clean().await;
    }
}

#[tokio::test]
async fn a_fallback_without_a_key_of_its_own_is_no_setting() {
    let mut settings = Settings::default();
    settings.upstreams.push(UpstreamSettings { name: "other".to_owned(), ..UpstreamSettings::default() });
    settings.upstreams[0].fallback = "other".to_owned();
    let error = Gateway::open(parts(settings.clone())).unwrap_err().to_string();
    assert!(error.contains("needs an `api_key`"), "{error}");
    settings.upstreams[1].api_key = "sk-own".to_owned();
    assert!(!format!("{settings:?}").contains("sk-own"));
    assert!(Gateway::open(parts(settings)).is_ok());
}
