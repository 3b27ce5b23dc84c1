//! A real server: answers, redirects, silence, and more than anybody wants to read.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{any, get};
use paramedic_action::http::{Requests, SecretHeader, Settings};
use paramedic_action::metrics::Metrics;
use paramedic_action::{ActionError, Actions, Call, Done, Effect};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// What the server was asked: method, path, headers, body.
type Seen = Arc<Mutex<Vec<(String, String, HeaderMap, String)>>>;

async fn record(State(seen): State<Seen>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let path = parts.uri.to_string();
    let said = String::from_utf8_lossy(&body).into_owned();
    seen.lock().unwrap().push((parts.method.to_string(), path.clone(), parts.headers, said));
    match path.as_str() {
        "/flag" => axum::Json(json!({ "key": "checkout", "enabled": false, "api_key": "sk-ant-REDACTED", "tokens": 5 })).into_response(),
        "/no" => (StatusCode::CONFLICT, "no, password=hunter22 is wrong").into_response(),
        "/moved" => Redirect::temporary("/flag").into_response(),
        "/away" => Redirect::temporary("http://other.invalid/secret-path").into_response(),
        "/loop" => Redirect::temporary("/loop").into_response(),
        "/slow" => {
            tokio::time::sleep(Duration::from_secs(20)).await;
            StatusCode::OK.into_response()
        }
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn endless() -> Response {
    let chunks = futures_chunks();
    axum::body::Body::from_stream(chunks).into_response()
}

fn futures_chunks() -> impl futures_util::Stream<Item = Result<Vec<u8>, std::io::Error>> {
    futures_util::stream::repeat_with(|| Ok(vec![b'x'; 64 * 1024]))
}

async fn server() -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().route("/endless", get(endless)).fallback(any(record)).with_state(Arc::clone(&seen));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, seen)
}

fn actions(settings: Settings) -> Actions {
    Actions::new(vec![Arc::new(Requests::new(settings))], Metrics::default())
}

fn call(method: &str, address: SocketAddr, path: &str) -> Call {
    Call::new("http.request").with("method", method).with("url", format!("http://{address}{path}"))
}

async fn execute(call: &Call) -> Result<Done, ActionError> {
    actions(Settings { timeout_s: 5, ..Settings::default() }).execute(call, &CancellationToken::new()).await.map(|(_, done)| done)
}

#[tokio::test]
async fn a_look_is_a_read_and_a_plan_sends_nothing() {
    let (address, seen) = server().await;
    let call = call("GET", address, "/flag");
    let plan = actions(Settings::default()).plan(&call).await.unwrap();
    assert_eq!((plan.effect, plan.affected), (Effect::Read, 0));
    assert!(seen.lock().unwrap().is_empty());
    let done = execute(&call).await.unwrap();
    assert!(done.verified.holds);
    assert_eq!((&done.answer["status"], &done.answer["body"]["key"]), (&200.into(), &"checkout".into()));
    assert_eq!((&done.answer["body"]["api_key"], &done.answer["body"]["tokens"]), (&"***".into(), &5.into()));
}

#[tokio::test]
async fn a_change_is_sent_as_it_is_described() {
    let (address, seen) = server().await;
    let call = call("post", address, "/flags/x/disable")
        .with("body", json!({ "by": "on call" }))
        .with("headers", json!({ "X-Request-Id": "r1", "Authorization": "Bearer abcdefghijkl" }));
    let plan = actions(Settings::default()).plan(&call).await.unwrap();
    assert_eq!((plan.effect, plan.affected, plan.inverse), (Effect::Write, 1, None));
    assert!(!plan.exact.join(" ").contains("abcdefghijkl"), "{:?}", plan.exact);
    assert!(execute(&call).await.unwrap().verified.holds);
    let seen = seen.lock().unwrap();
    let (method, path, headers, body) = &seen[0];
    assert_eq!((method.as_str(), path.as_str(), body.as_str(), seen.len()), ("POST", "/flags/x/disable", r#"{"by":"on call"}"#, 1));
    assert_eq!(
        (&headers["content-type"], &headers["x-request-id"], &headers["authorization"]),
        (&"application/json".parse().unwrap(), &"r1".parse().unwrap(), &"Bearer abcdefghijkl".parse().unwrap())
    );
}

#[tokio::test]
async fn another_answer_than_the_expected_one_is_told() {
    let (address, _) = server().await;
    for (path, expect, holds) in [("/no", "2xx", false), ("/no", "409", true), ("/x", "200", false), ("/x", "200,204", true)] {
        let done = execute(&call("PUT", address, path).with("expect", expect)).await.unwrap();
        assert_eq!((done.verified.holds, done.affected), (holds, u64::from(holds)), "{path} {expect}: {}", done.verified.how);
        assert!(!done.answer.to_string().contains("hunter22"));
    }
}

#[tokio::test]
async fn a_change_is_never_led_on_and_a_look_only_within_its_host() {
    let (address, seen) = server().await;
    let done = execute(&call("POST", address, "/moved").with("body", "x")).await.unwrap();
    assert!(!done.verified.holds && done.answer["status"] == 307, "{}", done.answer);
    assert_eq!(seen.lock().unwrap().len(), 1);
    assert!(execute(&call("GET", address, "/moved")).await.unwrap().verified.holds);
    let done = execute(&call("GET", address, "/away")).await.unwrap();
    assert_eq!((&done.answer["status"], &done.answer["location"]), (&307.into(), &"http://other.invalid/secret-path".into()));
    let done = execute(&call("GET", address, "/loop")).await.unwrap();
    assert!(!done.verified.holds && seen.lock().unwrap().len() < 15);
}

#[tokio::test]
async fn silence_and_floods_end() {
    let (address, _) = server().await;
    let slow = actions(Settings { timeout_s: 1, ..Settings::default() });
    let begun = Instant::now();
    let error = slow.execute(&call("POST", address, "/slow"), &CancellationToken::new()).await.unwrap_err().to_string();
    assert!(error.contains("took too long") && error.contains("not known"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    let done = execute(&call("GET", address, "/endless")).await.unwrap();
    assert_eq!((&done.answer["truncated"], &done.answer["bytes"]), (&true.into(), &(256 * 1024).into()));
    let cancel = CancellationToken::new();
    let later = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        later.cancel();
    });
    let answer = actions(Settings::default()).execute(&call("POST", address, "/slow"), &cancel).await;
    assert!(matches!(answer, Err(ActionError::CalledOff { .. })), "{answer:?}");
}

#[tokio::test]
async fn nobody_there_is_told_without_doubt() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = execute(&call("POST", free, "/")).await.unwrap_err().to_string();
    assert!(error.contains("gives no answer") && !error.contains("not known"), "{error}");
}

#[tokio::test]
async fn what_is_deleted_is_typed_first() {
    let (address, seen) = server().await;
    let call = call("DELETE", address, "/keys/7");
    let Err(ActionError::Confirm { phrase, .. }) = execute(&call).await else { panic!("it must be typed") };
    assert_eq!(phrase, "DELETE 127.0.0.1/keys/7");
    assert!(execute(&call.clone().with("confirm", "yes")).await.is_err());
    assert!(seen.lock().unwrap().is_empty());
    let confirmed = call.with("confirm", phrase);
    assert_eq!(actions(Settings::default()).plan(&confirmed).await.unwrap().effect, Effect::Destroy);
    assert!(execute(&confirmed).await.unwrap().verified.holds);
}

#[tokio::test]
async fn a_request_is_taken_back_by_the_one_that_is_named() {
    let (address, seen) = server().await;
    let forth = call("POST", address, "/maintenance").with("body", json!({"on": true})).with("headers", json!({"X-Team": "a"}));
    let forth = forth.with("undo_method", "DELETE").with("undo_url", format!("http://{address}/maintenance/1"));
    let done = execute(&forth).await.unwrap();
    let back = done.inverse.unwrap();
    assert!(execute(&back).await.unwrap().verified.holds, "{back:?}");
    let seen = seen.lock().unwrap().clone();
    assert_eq!((seen[1].0.as_str(), seen[1].1.as_str(), &seen[1].2["x-team"]), ("DELETE", "/maintenance/1", &"a".parse().unwrap()));
    assert!(execute(&call("POST", address, "/x").with("undo_url", "http://x/")).await.is_err());
    assert!(execute(&call("POST", address, "/x").with("undo_method", "SPELL")).await.is_err());
    let failed = execute(&call("POST", address, "/no").with("undo_method", "PUT")).await.unwrap();
    assert_eq!(failed.inverse, None, "what was refused needs no way back");
}

#[tokio::test]
async fn a_way_back_with_a_secret_in_it_is_not_kept() {
    let (address, seen) = server().await;
    let forth = call("POST", address, "/maintenance").with("undo_method", "PUT");
    for (name, value) in [("PRIVATE-TOKEN", "s3cr3t"), ("Cookie", "a=s3cr3t"), ("Authorization", "s3cr3t"), ("X-Note", "password=s3cr3t")] {
        let forth = forth.clone().with("headers", json!({ name: value, "X-Team": "a" }));
        let (plan, done) = actions(Settings::default()).execute(&forth, &CancellationToken::new()).await.unwrap();
        assert!(done.verified.holds && done.inverse.is_none() && plan.inverse.is_none(), "{name}");
        assert!(plan.warnings.iter().any(|warning| warning.contains("is not kept")), "{:?}", plan.warnings);
        assert!(!serde_json::to_string(&(plan, done)).unwrap().contains("s3cr3t"), "{name}");
    }
    for secret in ["/x?access_token=s3cr3t", "/x?sig=1&X-Amz-Signature=s3cr3t"] {
        let done = execute(&forth.clone().with("undo_url", format!("http://{address}{secret}"))).await.unwrap();
        assert!(done.verified.holds && done.inverse.is_none(), "{secret}");
    }
    assert_eq!(seen.lock().unwrap().len(), 6, "they were all sent as they were asked for");
    assert!(execute(&forth.with("headers", json!({ "Cookie": "", "X-Team": "a" }))).await.unwrap().inverse.is_some());
}

#[tokio::test]
async fn a_secret_comes_from_its_file_and_goes_to_its_host_only() {
    let (address, seen) = server().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "Bearer s3cr3t-s3cr3t\n").unwrap();
    let secret = |host: &str| SecretHeader { host: host.to_owned(), header: "Authorization".to_owned(), file: file.clone() };
    let actions = actions(Settings { secrets: vec![secret("127.0.0.1"), secret("other.example")], ..Settings::default() });
    let (plan, done) = actions.execute(&call("POST", address, "/x"), &CancellationToken::new()).await.unwrap();
    assert!(done.verified.holds && !format!("{plan:?}{done:?}").contains("s3cr3t"));
    assert_eq!(seen.lock().unwrap()[0].2["authorization"], "Bearer s3cr3t-s3cr3t");
    std::fs::remove_file(&file).unwrap();
    assert!(actions.execute(&call("POST", address, "/x"), &CancellationToken::new()).await.is_err(), "it is not sent without");
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn only_allowed_hosts_are_asked() {
    let (address, seen) = server().await;
    let actions = actions(Settings { hosts: vec!["flags.example".to_owned()], ..Settings::default() });
    let error = actions.execute(&call("GET", address, "/"), &CancellationToken::new()).await.unwrap_err().to_string();
    assert!(error.contains("setting action.http.hosts"), "{error}");
    assert!(seen.lock().unwrap().is_empty());
}
