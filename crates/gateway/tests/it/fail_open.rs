//! Whatever of ours fails lets the call pass; a block that is known holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use paramedic_gateway::limit::shared::{Ask, BoxFuture, Shared, SharedFault, Taken};
use serde_json::json;

use crate::model_api::{Call, Whole, raw, send};
use crate::upstream::{Got, RawClient};

const HOUR: Duration = Duration::from_secs(3_600);

/// All that looks at bodies or changes them, with room enough.
fn set_all(whole: &Whole) {
    for (name, value) in [
        ("rate_limit_per_minute", json!(1_000_000)),
        ("tokens_per_minute", json!(1_000_000_000)),
        ("max_concurrent_requests", json!(1_000)),
        ("daily_budget_dollars", json!(1_000)),
        ("provider_pacing", json!(true)),
        ("adaptive_concurrency", json!(true)),
        ("circuit_breaker", json!(true)),
        ("retry_attempts", json!(2)),
        ("max_output_tokens", json!(1_000)),
        ("max_input_tokens", json!(1_000_000)),
        ("max_growth_tokens", json!(1_000_000)),
        ("max_history_messages", json!(100)),
        ("max_history_tokens", json!(1_000_000)),
        ("summarization", json!(true)),
        ("prompt_caching", json!(true)),
        ("fallback_model", json!("m-fallback")),
    ] {
        whole.set(name, value, "all", HOUR);
    }
}

/// It passed, and the upstream got these bytes.
fn passed(whole: &Whole, got: &Got, body: &[u8], what: &str) {
    assert_eq!(got.header("x-paramedic"), None, "{what}: {}", got.head);
    assert_eq!(whole.api.upstream.last().body, body, "{what}");
}

#[tokio::test]
async fn bodies_that_make_no_sense_pass_as_they_are() {
    let whole = Whole::start().await;
    set_all(&whole);
    let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let deep_inside = format!(r#"{{"model":"claude-x","max_tokens":5,"messages":{deep}}}"#);
    let bodies: Vec<(&str, &[u8])> = vec![
        ("nothing", b""),
        ("no JSON", b"hello"),
        ("cut JSON", br#"{"model":"claude-x","messages":[{"role":"us"#),
        ("a list", b"[]"),
        ("a number", b"17"),
        ("null", b"null"),
        ("an empty object", b"{}"),
        ("NUL bytes", b"\0\0\0\0"),
        ("NUL in a name", b"{\"model\":\"cla\0ude\",\"max_tokens\":5}"),
        ("no UTF-8", b"{\"model\":\"\xff\xfe\",\"max_tokens\":5,\"messages\":[]}"),
        ("wrong types", br#"{"model":7,"max_tokens":"many","messages":{"role":[]},"stream":"yes","system":4,"metadata":[]}"#),
        ("wrong types deep", br#"{"model":"m","max_tokens":-5,"messages":[null,7,"x",{"role":7,"content":{"type":[]}}],"tools":"x"}"#),
        ("a huge number", br#"{"model":"m","max_tokens":99999999999999999999999999,"messages":[]}"#),
        ("twice the same", br#"{"model":"a","model":"b","max_tokens":1,"max_tokens":2,"messages":[],"messages":[]}"#),
        ("a lone surrogate", br#"{"model":"\ud800","max_tokens":1,"messages":[],"metadata":{"user_id":"\ud800"}}"#),
        ("deep", deep.as_bytes()),
        ("deep inside", deep_inside.as_bytes()),
        ("a byte-order mark", b"\xef\xbb\xbf{\"model\":\"claude-x\"}"),
        ("an unknown model", br#"{"model":"gpt-of-tomorrow","max_tokens":5,"messages":[]}"#),
    ];
    for (what, body) in bodies {
        let got = send(whole.address, &raw("/v1/messages", "x-user-id: ana\r\n", body)).await;
        assert!([200, 400].contains(&got.status()), "{what}: {}", got.head);
        passed(&whole, &got, body, what);
    }
    // And packed ones, large ones, and those without a length.
    let packed = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xcb, 0x48];
    let got = send(whole.address, &raw("/v1/messages", "Content-Encoding: gzip\r\n", &packed)).await;
    assert_eq!(got.status(), 400);
    passed(&whole, &got, &packed, "gzip");
    let mut client = RawClient::connect(whole.address).await;
    let chunked = b"POST /v1/messages HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    passed(&whole, &client.ask(chunked).await.unwrap(), b"abc", "chunked");
    assert_eq!(whole.gateway.guard_failures(), 0);
    whole.is_clean().await;
}

#[tokio::test]
async fn what_is_larger_than_can_be_read_passes() {
    let whole = Whole::with(|settings| settings.request_bytes_max = 1_000).await;
    set_all(&whole);
    let body = Call::of("ana").text(&"x".repeat(5_000)).body.to_string();
    let got = send(whole.address, &raw("/v1/messages", "x-user-id: ana\r\n", body.as_bytes())).await;
    assert_eq!(got.status(), 200);
    passed(&whole, &got, body.as_bytes(), "large");
    // The limit on its size holds all the same, without a length too.
    whole.set("max_input_bytes", json!(800), "all", HOUR);
    let mut client = RawClient::connect(whole.address).await;
    let head =
        format!("POST /v1/messages HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    assert_eq!(client.ask(head.as_bytes()).await.unwrap().status(), 413);
    whole.is_clean().await;
}

/// Whoever knows prices falls over in every call: budgets go by what is charged for a model without a price.
#[tokio::test]
async fn prices_that_panic_stop_no_call() {
    let whole = Whole::start().await;
    set_all(&whole);
    for stream in [false, true] {
        let call = Call::of("ana").model("panics-1").with("stream", json!(stream)).output(90);
        let got = whole.ask(&call).await;
        assert_eq!((got.status(), got.header("x-paramedic")), (200, None));
        assert!(!got.body.is_empty());
    }
    assert!(whole.gateway.guard_failures() >= 2, "{}", whole.gateway.guard_failures());
    let record = whole.record("ana").await;
    assert_eq!((record.status, record.usage.output_tokens, record.cost_pico), (200, 90, None));
    let budget = &whole.gateway.ledger().budgets()[0];
    assert!(budget.spent_dollars > 0.0, "{budget:?}");
    let mut registry = prometheus_client::registry::Registry::default();
    whole.gateway.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let counted = format!("paramedic_gateway_guard_failures_total {}", whole.gateway.guard_failures());
    assert!(text.contains(&counted), "{counted}");
    // A block that is known holds.
    whole.set("blocked", json!(true), "user:ana", HOUR);
    assert_eq!(whole.ask(&Call::of("ana").model("panics-1")).await.status(), 403);
    whole.is_clean().await;
}

/// A store of limits that falls over, or fails, whenever it is asked.
struct Falls {
    over: bool,
    asked: AtomicUsize,
}

impl Shared for Falls {
    fn take<'a>(&'a self, _: &'a [Ask], _: Duration) -> BoxFuture<'a, Result<Taken, SharedFault>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let over = self.over;
        Box::pin(async move {
            tokio::task::yield_now().await;
            assert!(!over, "as it was asked");
            Err(SharedFault("as it was asked".to_owned()))
        })
    }
}

#[tokio::test]
async fn a_shared_store_that_panics_or_fails_stops_no_call() {
    for over in [true, false] {
        let store = Arc::new(Falls { over, asked: AtomicUsize::new(0) });
        let whole = Whole::made(|_| {}, |parts| parts.shared = Some(store.clone())).await;
        whole.set("rate_limit_per_minute", json!(1_000_000), "all", HOUR);
        whole.set("max_concurrent_requests", json!(2), "all", HOUR);
        for _ in 0..10 {
            let got = whole.ask(&Call::of("ana")).await;
            assert_eq!((got.status(), got.header("x-paramedic")), (200, None));
        }
        assert!(store.asked.load(Ordering::SeqCst) >= 2);
        assert_eq!(whole.gateway.guard_failures() > 0, over);
        whole.set("blocked", json!(true), "all", HOUR);
        assert_eq!(whole.ask(&Call::of("ana")).await.status(), 403);
        whole.is_clean().await;
    }
}

/// A place where nothing can be written, and one where something else is.
#[tokio::test]
async fn a_ledger_that_cannot_be_kept_stops_no_call() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("data");
    std::fs::write(&file, "in the way").unwrap();
    std::fs::create_dir(dir.path().join("spend.log")).unwrap();
    for place in ["/proc/nothing/can/be/here".into(), file, dir.path().to_owned()] {
        let whole = Whole::made(|_| {}, |parts| parts.data_dir = Some(place.clone())).await;
        whole.set("daily_budget_dollars", json!(0.000_01), "user:ana", HOUR);
        assert_eq!(whole.ask(&Call::of("ana")).await.status(), 200, "{place:?}");
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert_eq!(whole.ask(&Call::of("bo")).await.status(), 200, "{place:?}");
        assert_eq!(whole.ask(&Call::of("ana")).await.status(), 429, "the cap holds as far as it is known: {place:?}");
        whole.is_clean().await;
    }
}

#[tokio::test]
async fn who_says_nothing_of_himself_is_served() {
    let whole = Whole::start().await;
    set_all(&whole);
    whole.set("rate_limit_per_user", json!(1_000_000), "all", HOUR);
    whole.set("rate_limit_per_agent", json!(1_000_000), "all", HOUR);
    whole.set("max_concurrent_agents", json!(10), "all", HOUR);
    let body = Call::of("x").body.to_string();
    for request in [
        raw("/v1/messages", "", body.as_bytes()),
        raw("/v1/messages", "x-user-id: \r\nauthorization: \r\nx-api-key: \r\nx-claude-code-session-id: \r\n", body.as_bytes()),
        raw("/v1/messages", "x-user-id: \x01\r\nauthorization: Bearer\r\n", body.as_bytes()),
        raw("/v1/messages", &format!("x-user-id: {}\r\n", "u".repeat(5_000)), body.as_bytes()),
        b"GET /v1/models HTTP/1.1\r\nHost: here\r\n\r\n".to_vec(),
        b"DELETE / HTTP/1.1\r\nHost: here\r\n\r\n".to_vec(),
    ] {
        let got = send(whole.address, &request).await;
        let refused_by_http = got.status() == 400 && request.contains(&1);
        assert!(got.status() == 200 || refused_by_http, "{} {}", String::from_utf8_lossy(&request[..40]), got.head);
    }
    whole.is_clean().await;
}
