//! The way of a call through the whole gateway: breakers, retries, other models and upstreams, edits, rates.

mod edits;
mod rates;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use paramedic_gateway::Outcome;
use paramedic_gateway::breaker::State;
use serde_json::json;

use crate::model_api::{Api, Call, Does, Whole, named};
use crate::upstream::RawClient;

const HOUR: Duration = Duration::from_secs(3_600);

fn state(whole: &Whole, name: &str) -> Option<State> {
    let views = whole.gateway.breakers().view(tokio::time::Instant::now(), paramedic_model::Timestamp::EPOCH);
    views.into_iter().find(|view| view.name == name).map(|view| view.state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_breaker_opens_finds_out_and_closes() {
    let whole = Arc::new(
        Whole::with(|settings| {
            settings.breaker.open_s = 1;
            settings.breaker.successes = 2;
        })
        .await,
    );
    let call = Call::of("ana").model("m");
    whole.api.model("m", Does::Fails(500, String::new()));
    let id = whole.set("circuit_breaker", json!(true), "all", HOUR);
    for _ in 0..5 {
        assert_eq!(whole.ask(&call).await.status(), 500, "an upstream's own error passes");
        whole.record("ana").await;
    }
    assert_eq!(state(&whole, "fake/m"), Some(State::Open));
    let got = whole.ask(&call).await;
    assert_eq!((got.status(), named(&got)), (503, format!("refused; switch={id}").as_str()));
    assert_eq!((got.header("retry-after"), got.header("x-should-retry")), (Some("1"), Some("true")));
    assert_eq!(got.json()["error"]["type"], "overloaded_error");
    assert_eq!(whole.api.seen("ana").len(), 5, "it is left alone");
    // With fast_fail it is final.
    let fast = whole.set("fast_fail", json!(true), "all", HOUR);
    let got = whole.ask(&call).await;
    assert_eq!((got.status(), got.header("x-should-retry"), got.header("retry-after")), (503, Some("false"), None));
    whole.clear(&fast);
    // It finds out with one call at a time, and closes after two that went well.
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    whole.api.well("m");
    let slow = call.clone().paced(1, 300);
    let probe = tokio::spawn({
        let whole = Arc::clone(&whole);
        async move { whole.ask(&slow).await }
    });
    crate::proxy::eventually("the probe runs", || whole.api.seen("ana").len() == 6).await;
    assert_eq!(state(&whole, "fake/m"), Some(State::HalfOpen));
    assert_eq!(whole.ask(&call).await.status(), 503, "one at a time");
    assert_eq!(probe.await.unwrap().status(), 200);
    whole.record("ana").await;
    assert_eq!(whole.ask(&call).await.status(), 200);
    whole.record("ana").await;
    assert_eq!(state(&whole, "fake/m"), Some(State::Closed));
    whole.is_clean().await;
}

#[tokio::test]
async fn breakers_are_held_open_and_closed() {
    let whole = Whole::start().await;
    let call = Call::of("ana").model("m");
    for name in ["fake", "fake/m"] {
        let id = whole.set(&format!("breaker:{name}"), json!("open"), "all", HOUR);
        let got = whole.ask(&call).await;
        assert_eq!((got.status(), got.header("retry-after"), got.header("x-should-retry")), (503, None, Some("false")), "{name}");
        assert_eq!(named(&got), format!("refused; switch={id}"));
        whole.clear(&id);
        assert_eq!(whole.ask(&call).await.status(), 200);
    }
    whole.set("circuit_breaker", json!(true), "all", HOUR);
    whole.api.model("m", Does::Fails(500, String::new()));
    for name in ["fake", "fake/m"] {
        whole.set(&format!("breaker:{name}"), json!("closed"), "all", HOUR);
    }
    let key = whole.record("ana").await.caller.key.clone().unwrap();
    whole.set(&format!("breaker:fake/key:{key}"), json!("closed"), "all", HOUR);
    for _ in 0..12 {
        assert_eq!(whole.ask(&call).await.status(), 500, "held closed, it lets all pass");
    }
    whole.is_clean().await;
}

#[tokio::test]
async fn calls_go_around_an_open_breaker() {
    let other = Api::start().await;
    let url = other.upstream.url();
    let whole = Whole::with(|settings| {
        let mut second = settings.upstreams[0].clone();
        (second.name, second.url, second.models) = ("other".to_owned(), url, vec!["none".to_owned()]);
        second.same_key = true;
        settings.upstreams[0].fallback = "other".to_owned();
        settings.upstreams.push(second);
    })
    .await;
    let id = whole.set("breaker:fake", json!("open"), "all", HOUR);
    let got = whole.ask(&Call::of("ana")).await;
    assert_eq!((got.status(), named(&got)), (200, format!("acted; switch={id}").as_str()));
    assert_eq!((other.seen("ana").len(), whole.api.seen("ana").len()), (1, 0));
    let record = whole.record("ana").await;
    assert_eq!((&*record.upstream, record.tries), ("other", 1));
    assert!(record.acted[0].what.contains("went to the upstream other"), "{record:?}");
    // Both are open: there is no other way.
    whole.set("breaker:other", json!("open"), "all", HOUR);
    assert_eq!(whole.ask(&Call::of("ana")).await.status(), 503);
    whole.is_clean().await;
}

#[tokio::test]
async fn an_overloaded_model_is_replaced_and_the_record_names_the_real_one() {
    let whole = Whole::start().await;
    let id = whole.set("fallback_model", json!("m-small"), "all", HOUR);
    for status in [529, 503] {
        whole.api.model("m", Does::Fails(status, String::new()));
        let call = Call::of("ana").model("m").stream(2, 1).output(30);
        let got = whole.ask(&call).await;
        assert_eq!((got.status(), named(&got)), (200, format!("acted; switch={id}").as_str()));
        let record = whole.record("ana").await;
        assert_eq!((record.model.as_deref(), record.served_model.as_deref(), record.tries), (Some("m"), Some("m-small"), 2));
        let sent = whole.api.seen("ana").pop().unwrap();
        assert_eq!(sent.body, call.body.to_string().replace("\"m\"", "\"m-small\"").as_bytes());
    }
    // Other errors are no sign of too much work, and pass.
    whole.api.model("m", Does::Fails(400, String::new()));
    assert_eq!(whole.ask(&Call::of("ana").model("m")).await.status(), 400);
    // The other model is overloaded too: its own error passes, and nobody goes round in circles.
    whole.api.model("m", Does::Fails(529, String::new()));
    whole.api.model("m-small", Does::Fails(529, String::new()));
    let got = whole.ask(&Call::of("ana").model("m")).await;
    assert_eq!((got.status(), got.header("request-id")), (529, Some("req_fake")));
    assert_eq!(whole.record("ana").await.tries, 2);
    // A breaker that is open has the same way around it.
    whole.set("breaker:fake/m", json!("open"), "all", HOUR);
    whole.api.well("m-small");
    let got = whole.ask(&Call::of("ana").model("m")).await;
    assert_eq!((got.status(), got.json()["model"].as_str()), (200, Some("m-small")));
    assert_eq!(whole.record("ana").await.tries, 1);
    whole.is_clean().await;
}

#[tokio::test]
async fn retries_wait_as_long_as_they_are_told_and_are_few_together() {
    let whole = Whole::with(|settings| {
        let retry = &mut settings.retry;
        (retry.back_off_ms, retry.budget_max, retry.budget_per_s, retry.budget_share) = (10, 4.0, 0.0, 0.0);
    })
    .await;
    let id = whole.set("retry_attempts", json!(2), "all", HOUR);
    whole.api.model("m", Does::FailsOnce(429, "retry-after: 1\r\n".to_owned()));
    let at = Instant::now();
    let got = whole.ask(&Call::of("ana").model("m").text("one")).await;
    assert_eq!((got.status(), named(&got)), (200, format!("acted; switch={id}").as_str()));
    assert!((990..1_500).contains(&at.elapsed().as_millis()), "{:?}", at.elapsed());
    let record = whole.record("ana").await;
    assert_eq!((record.tries, record.waited >= Duration::from_secs(1)), (2, true));
    // What takes too long is for the client to wait for, as is what the upstream does not want repeated.
    for headers in ["retry-after: 3600\r\n", "x-should-retry: false\r\n"] {
        whole.api.model("m", Does::FailsOnce(429, headers.to_owned()));
        let got = whole.ask(&Call::of("ana").model("m").text(headers)).await;
        assert_eq!((got.status(), got.header("request-id")), (429, Some("req_fake")), "{headers}");
    }
    // What may have done its work is not repeated.
    whole.api.model("m", Does::FailsOnce(500, String::new()));
    assert_eq!(whole.ask(&Call::of("ana").model("m").text("500")).await.status(), 500);
    // All together have three left, however many calls fail.
    whole.api.model("m", Does::FailsOnce(529, String::new()));
    let mut well = 0;
    for call in 0..10 {
        well += u32::from(whole.ask(&Call::of("ana").model("m").text(&format!("call {call}"))).await.status() == 200);
    }
    assert_eq!(well, 3);
    whole.is_clean().await;
}

#[tokio::test]
async fn fast_fail_repeats_nothing() {
    let whole = Whole::start().await;
    whole.set("retry_attempts", json!(3), "all", HOUR);
    whole.set("fast_fail", json!(true), "all", HOUR);
    whole.api.model("m", Does::FailsOnce(529, String::new()));
    assert_eq!(whole.ask(&Call::of("ana").model("m")).await.status(), 529);
    assert_eq!(whole.record("ana").await.tries, 1);
}

/// A retry that would come after the end of the call is none, and a call waits for its turn no longer than it may take.
#[tokio::test]
async fn no_wait_is_longer_than_the_call_may_take() {
    let whole = Whole::start().await;
    whole.set("request_timeout_s", json!(1), "all", HOUR);
    whole.set("retry_attempts", json!(3), "all", HOUR);
    whole.api.model("m", Does::Fails(529, "retry-after: 5\r\n".to_owned()));
    let at = Instant::now();
    assert_eq!(whole.ask(&Call::of("ana").model("m")).await.status(), 529);
    assert!(at.elapsed() < Duration::from_secs(1), "{:?}", at.elapsed());
    whole.set("rate_limit_per_minute", json!(1), "all", HOUR);
    assert_eq!(whole.ask(&Call::of("ana")).await.status(), 200);
    let at = Instant::now();
    assert_eq!(whole.ask(&Call::of("ana")).await.status(), 429);
    assert!(at.elapsed() < Duration::from_millis(1_500), "{:?}", at.elapsed());
    whole.is_clean().await;
}

/// Calls that end in every way at the same time hold nothing afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_held_after_calls_of_all_ends() {
    let whole = Arc::new(Whole::start().await);
    for (model, does) in [
        ("cuts", Does::Cuts),
        ("hangs", Does::Hangs),
        ("stalls", Does::Stalls(Duration::from_secs(9))),
        ("fails", Does::Fails(500, String::new())),
        ("busy", Does::Fails(429, "retry-after: 0\r\n".to_owned())),
    ] {
        whole.api.model(model, does);
    }
    for (name, value) in [
        ("max_concurrent_requests", json!(30)),
        ("max_concurrent_agents", json!(20)),
        ("rate_limit_per_minute", json!(60_000)),
        ("tokens_per_minute", json!(10_000_000)),
        ("daily_budget_dollars", json!(1_000)),
        ("adaptive_concurrency", json!(true)),
        ("provider_pacing", json!(true)),
        ("circuit_breaker", json!(true)),
        ("retry_attempts", json!(2)),
        ("first_byte_timeout_s", json!(1)),
        ("between_tokens_timeout_s", json!(1)),
        ("queue_wait_s", json!(2)),
    ] {
        whole.set(name, value, "all", HOUR);
    }
    let models = ["claude-x", "cuts", "hangs", "stalls", "fails", "busy", "panics-1", "unpriced-1"];
    let tasks: Vec<_> = (0..240_u64)
        .map(|at| {
            let whole = Arc::clone(&whole);
            let model = models[usize::try_from(at).unwrap() % models.len()];
            let call = Call::of(&format!("u{}", at % 9)).session(&format!("s{at}")).model(model).stream(5, 10).text(&at.to_string());
            tokio::spawn(async move {
                let mut client = RawClient::connect(whole.address).await;
                client.send(&call.bytes()).await;
                // A third goes away, at some moment.
                if at % 3 == 0 {
                    let _ = client.rest_for(Duration::from_millis(200 + at * 7 % 400)).await;
                } else {
                    let _ = client.answer().await;
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    whole.set("break_off", json!(true), "user:u3", HOUR);
    for task in tasks {
        task.await.unwrap();
    }
    whole.is_clean().await;
    let all = whole.gateway.traffic().recent(|_| true, usize::MAX);
    // One record of each call, but of clients that went away before they were read.
    for at in 0..240 {
        let session = format!("s{at}");
        let count = all.iter().filter(|record| record.caller.session.as_deref() == Some(&session)).count();
        assert!(count == 1 || count == 0 && at % 3 == 0, "{session}: {count}");
    }
    for outcome in [Outcome::Answered, Outcome::Cut, Outcome::TimedOut, Outcome::ClientGone, Outcome::BrokenOff] {
        assert!(all.iter().any(|record| record.outcome == outcome), "{outcome:?}");
    }
}

/// Neither a provider's own limit, nor an operator's time limit, nor another path is a failure of a model.
#[tokio::test]
async fn what_is_no_failure_of_the_upstream_opens_no_breaker() {
    let whole = Whole::start().await;
    whole.set("circuit_breaker", json!(true), "all", HOUR);
    whole.set("retry_attempts", json!(2), "all", HOUR);
    whole.set("request_timeout_s", json!(1), "user:slow", HOUR);
    whole.api.model("busy", Does::Fails(429, "retry-after: 0\r\n".to_owned()));
    whole.api.model("/v1/files", Does::Fails(500, String::new()));
    for _ in 0..7 {
        assert_eq!(whole.ask(&Call::of("ana").model("busy")).await.status(), 429);
        let mut other = Call::of("ana");
        other.path = "/v1/files".to_owned();
        assert_eq!(whole.ask(&other).await.status(), 500);
    }
    let slow = Call::of("slow").model("m").stream(8, 200);
    let all = futures_of(7, || whole.ask(&slow)).await;
    assert!(all.iter().all(|got| String::from_utf8_lossy(&got.body).contains("timeout_error")));
    whole.record("slow").await;
    for name in ["fake", "fake/busy", "fake/m"] {
        assert_eq!(state(&whole, name), Some(State::Closed), "{name}");
    }
    whole.is_clean().await;
}

/// So many of a future at the same time.
async fn futures_of<F: Future>(count: usize, future: impl Fn() -> F) -> Vec<F::Output> {
    let mut all: Vec<_> = (0..count).map(|_| (Box::pin(future()), None)).collect();
    std::future::poll_fn(|cx| {
        for (future, done) in all.iter_mut().filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(output) = future.as_mut().poll(cx) {
                *done = Some(output);
            }
        }
        if all.iter().all(|(_, done)| done.is_some()) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    all.into_iter().filter_map(|(_, done)| done).collect()
}

#[tokio::test]
async fn degraded_mode_answers_without_the_upstream() {
    use paramedic_gateway::config::DegradedWay;
    let whole = Whole::with(|settings| {
        settings.degraded.way = DegradedWay::FixedAnswer;
        settings.degraded.answer = "Come again.".to_owned();
    })
    .await;
    let id = whole.set("degraded_mode", json!(true), "all", HOUR);
    for stream in [false, true] {
        let got = whole.ask(&Call::of("ana").with("stream", json!(stream))).await;
        assert_eq!((got.status(), named(&got)), (200, format!("acted; switch={id}").as_str()));
        let body = String::from_utf8_lossy(&got.body).into_owned();
        assert!(body.contains("Come again.") && body.contains("event: message_stop") == stream, "{body}");
        assert_eq!(whole.record("ana").await.outcome, Outcome::Degraded);
    }
    assert!(whole.api.seen("ana").is_empty());

    let whole = Whole::with(|settings| settings.degraded.way = DegradedWay::Cached).await;
    let safe = Call::of("ana").header("x-paramedic-cache", "safe").text("the same");
    let first = whole.ask(&safe).await;
    whole.record("ana").await;
    let id = whole.set("degraded_mode", json!(true), "all", HOUR);
    let again = whole.ask(&safe).await;
    assert_eq!((again.status(), named(&again)), (200, format!("acted; switch={id}").as_str()));
    assert_eq!(again.body, first.body);
    assert_eq!(whole.api.seen("ana").len(), 1);
    // Another key, another body, and one that does not say that it is safe, are asked.
    for other in [Call::of("bo").header("x-paramedic-cache", "safe").text("the same"), Call::of("ana").text("the same")] {
        assert_eq!(whole.ask(&other).await.json()["model"], "claude-haiku-5-5");
    }
    whole.is_clean().await;
}

#[tokio::test]
async fn each_scope_means_those_whom_it_names() {
    let whole = Whole::start().await;
    let call = |who: &str| {
        let named = |kind: &str| format!("{kind}-{who}");
        let call = Call::of(&named("user")).session(&named("session")).model(&named("model"));
        call.header("x-team-id", &named("team")).header("x-paramedic-plugin", &named("plugin"))
    };
    let (one, other) = (call("one"), call("other"));
    assert_eq!((whole.ask(&one).await.status(), whole.ask(&other).await.status()), (200, 200));
    let key = whole.record("user-one").await.caller.key.clone().unwrap();
    for scope in [
        format!("key:{key}"),
        "user:user-one".to_owned(),
        "team:team-one".to_owned(),
        "agent:session-one".to_owned(),
        "session:session-one".to_owned(),
        "model:model-one".to_owned(),
        "plugin:plugin-one".to_owned(),
    ] {
        let id = whole.set("blocked", json!(true), &scope, HOUR);
        assert_eq!((whole.ask(&one).await.status(), whole.ask(&other).await.status()), (403, 200), "{scope}");
        whole.clear(&id);
        whole.set("blocked", json!(true), "all", HOUR);
        let out = whole.set("blocked", json!(false), &scope, HOUR);
        assert_eq!((whole.ask(&one).await.status(), whole.ask(&other).await.status()), (200, 403), "{scope}");
        whole.clear(&out);
        whole.clear("blocked@all");
    }
}
