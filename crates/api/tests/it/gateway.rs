//! The gateway as operators see it: calls, budgets, breakers, faults; and that each change is in the journal.

use std::time::Duration;

use paramedic_gateway::budget::{Ask, Purses};
use paramedic_gateway::traffic::{RunningCall, RunningState};
use paramedic_gateway::{Acted, Caller, Gateway, Kind, Outcome, Record};
use paramedic_model::Usage;
use serde_json::{Value, json};

use crate::client::Server;
use crate::responders::responding;
use crate::stage::{self, Stage};

fn caller(user: &str, agent: &str) -> Caller {
    Caller { user: Some(user.into()), agent: Some(agent.into()), session: Some("s1".into()), key: Some("k1".into()), ..Caller::default() }
}

fn record(id: u64, user: &str, agent: &str) -> Record {
    Record {
        id,
        at: stage::ago(1),
        kind: Kind::Inference,
        caller: caller(user, agent),
        method: "POST".into(),
        path: "/v1/messages".into(),
        upstream: "anthropic".into(),
        model: Some("claude-opus-5-5".into()),
        served_model: None,
        stream: true,
        outcome: Outcome::Answered,
        status: 200,
        error_type: None,
        request_id: None,
        message_id: None,
        usage: Usage { input_tokens: 900, output_tokens: 100, ..Usage::default() },
        cost_pico: Some(1_000_000_000),
        stop_reason: Some("end_turn".into()),
        tries: 1,
        waited: Duration::from_millis(40),
        first_byte: Some(Duration::from_millis(2_040)),
        first_token: None,
        duration: Duration::from_millis(3_000),
        request_bytes: 1,
        response_bytes: 1,
        repeated_share: None,
        acted: Vec::new(),
    }
}

fn gateway(stage: &Stage) -> &Gateway {
    stage.context.gateway.as_ref().unwrap()
}

/// Six calls: of two users, one sub-agent, answered, limited and refused.
fn calls(stage: &Stage) {
    let refused = Record {
        outcome: Outcome::Refused,
        status: 429,
        acted: vec![Acted { switch: "rate_limit_per_user@user:bo".into(), what: "refused".into() }],
        ..record(4, "bo", "s1")
    };
    let all = [
        record(1, "ana", "s1"),
        Record { served_model: Some("claude-haiku-4-5".into()), ..record(2, "ana", "s1/a9") },
        Record { status: 429, error_type: Some("rate_limit_error".into()), ..record(3, "bo", "s1") },
        refused,
        Record { status: 529, ..record(5, "bo", "s1") },
        Record { kind: Kind::CountTokens, ..record(6, "ana", "s1") },
    ];
    for record in all {
        gateway(stage).traffic().ended(record, stage::now());
    }
}

/// Lets somebody spend so many dollars with so many calls.
async fn spend(stage: &Stage, user: &str, calls: u64, dollars: f64) {
    for _ in 0..calls {
        let who = caller(user, "s1");
        let purses = Purses::of(&who, Some("claude-opus-5-5"));
        let ask = Ask { caps: &[], purses, likely: 1, at_most: 1, wait: Duration::ZERO, pause: false };
        let reservation = gateway(stage).ledger().reserve(ask).await.unwrap();
        reservation.settle((dollars / calls as f64 * 1e12) as u64, &Usage { input_tokens: 10, output_tokens: 5, ..Usage::default() });
    }
}

async fn ids(server: &Server, query: &str) -> Vec<u64> {
    let found = server.get(&format!("/api/v1/gateway/calls?{query}")).await.json();
    found["calls"].as_array().unwrap_or_else(|| panic!("{query}: {found}")).iter().map(|call| call["id"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_found_by_who_what_and_how_they_ended() {
    let (stage, server) = responding().await;
    calls(&stage);
    for (query, expect) in [
        ("", vec![6, 5, 4, 3, 2, 1]),
        ("limit=2", vec![6, 5]),
        ("user=ana", vec![6, 2, 1]),
        ("user=nobody", vec![]),
        ("user=", vec![6, 5, 4, 3, 2, 1]),
        ("agent=a9", vec![2]),
        ("agent=s1/a9", vec![2]),
        ("agent=s1", vec![6, 5, 4, 3, 1]),
        ("session=s1&key=k1", vec![6, 5, 4, 3, 2, 1]),
        ("model=claude-haiku-4-5", vec![2]),
        ("model=claude-opus-5-5&user=bo", vec![5, 4, 3]),
        ("outcome=refused", vec![4]),
        ("status=429", vec![4, 3]),
        ("status=5xx", vec![5]),
        ("switch=rate_limit_per_user", vec![4]),
        ("switch=rate_limit_per_user@user:bo", vec![4]),
        ("switch=rate_limit", vec![]),
    ] {
        assert_eq!(ids(&server, query).await, expect, "{query}");
    }
    for wrong in ["status=9xx", "status=nine", "limit=0", "outcome=well", "colour=red"] {
        assert_eq!(server.get(&format!("/api/v1/gateway/calls?{wrong}")).await.status, 400, "{wrong}");
    }
    let counted = server.get("/api/v1/gateway/calls?limit=1&user=bo").await.json();
    assert_eq!((&counted["found"], &counted["remembered"]), (&json!(3), &json!(6)));
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_shows_what_runs_and_where_it_goes_and_latency_says_what_is_slow() {
    let (stage, server) = responding().await;
    calls(&stage);
    let call = RunningCall {
        id: 7,
        began: stage::now(),
        caller: caller("ana", "s1"),
        model: None,
        path: "/v1/messages".into(),
        request_bytes: 3,
        state: RunningState::Waiting,
        output_tokens: 0,
    };
    let _ticket = gateway(&stage).traffic().begin(call);
    let traffic = server.get("/api/v1/gateway/traffic?limit=2").await.json();
    assert_eq!(traffic["upstreams"][0]["name"], "anthropic");
    assert_eq!((&traffic["address"], &traffic["traffic"]["running_count"]), (&json!("127.0.0.1:8484"), &json!(1)));
    assert_eq!(traffic["traffic"]["recent"].as_array().unwrap().len(), 2);
    let minute = &traffic["last_minute"];
    assert_eq!((&minute["calls"], &minute["refused"], &minute["limited"]), (&json!(5), &json!(1), &json!(1)), "{minute:#}");
    let latency = server.get("/api/v1/gateway/latency?by=user").await.json();
    let row = &latency["rows"][0];
    let parts = (&row["name"], &row["calls"], &row["first_byte_p95_ms"], &row["waited_p95_ms"], &row["longest"]);
    assert_eq!(parts, (&json!("ana"), &json!(2), &json!(2_000), &json!(40), &json!("first-byte")));
    assert!(latency["says"].as_str().unwrap().contains("until the model begins to answer"), "{latency:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn budgets_are_shown_before_the_first_call_comes_under_them() {
    let (stage, server) = responding().await;
    spend(&stage, "ana", 1, 3.0).await;
    server.done("kim", "/api/v1/switches", &json!({"switch": "daily_budget_dollars", "value": 12, "scope": "user=ana"})).await;
    server.done("kim", "/api/v1/switches", &json!({"switch": "enforce_budget", "value": false, "scope": "user=ana"})).await;
    server.done("kim", "/api/v1/switches", &json!({"switch": "monthly_budget_dollars", "value": 100})).await;
    let answer = server.get("/api/v1/gateway/budgets").await.json();
    let shown = answer["budgets"].as_array().unwrap().iter().map(|one| {
        let number = |key: &str| one[key].as_f64().unwrap();
        (
            one["purse"].as_str().unwrap(),
            one["period"].as_str().unwrap(),
            number("cap_dollars"),
            number("spent_dollars"),
            number("share"),
            one["enforce"] == true,
        )
    });
    let expect = [("user:ana", "day", 12.0, 3.0, 0.25, false), ("all", "month", 100.0, 3.0, 0.03, true)];
    assert_eq!(shown.collect::<Vec<_>>(), expect, "{answer:#}");
    assert_eq!(answer["spent_today_dollars"], 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_spends_most_is_told_and_why() {
    let (stage, server) = responding().await;
    spend(&stage, "ana", 40, 9.0).await;
    spend(&stage, "bo", 4, 1.0).await;
    let top = server.get("/api/v1/cost/top").await.json();
    let names: Vec<_> =
        top["spenders"].as_array().unwrap().iter().map(|one| (one["name"].as_str().unwrap(), one["calls"].as_u64().unwrap())).collect();
    assert_eq!(names, [("user:ana", 40), ("user:bo", 4)]);
    assert!(
        (top["all"]["dollars"].as_f64().unwrap() - 10.0).abs() < 1e-6 && (top["spenders"][0]["share"].as_f64().unwrap() - 0.9).abs() < 1e-6
    );
    let why = server.get("/api/v1/cost/diagnosis").await.json();
    assert_eq!(why["findings"][0]["cause"], "one-spender", "{why:#}");
    assert!(why["findings"][0]["commands"].to_string().contains("--scope user=ana"), "{why:#}");
    assert_eq!(server.get("/api/v1/cost/top?by=colour").await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_says_what_it_did_before_and_since() {
    let (stage, server) = responding().await;
    server.done("kim", "/api/v1/switches", &json!({"switch": "rate_limit_per_user", "value": 5, "scope": "user=bo", "ttl": "30m"})).await;
    let effect = |list: &Value| list["switches"][0]["effect"].clone();
    assert_eq!(effect(&server.get("/api/v1/switches").await.json())["calls"], 0);
    calls(&stage);
    let effect = effect(&server.get("/api/v1/switches").await.json());
    assert_eq!((&effect["calls"], &effect["last"]), (&json!(1), &json!("refused")));
    assert_eq!((&effect["refused_per_minute_before"], &effect["refused_per_minute_after"]), (&json!(0.0), &json!(1.0)), "{effect:#}");
}

async fn journal(server: &Server, subject: &str) -> Vec<(String, String, String)> {
    let page = server.get(&format!("/api/v1/journal?subject={subject}")).await.json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    page["entries"].as_array().unwrap().iter().map(|one| (text(&one["kind"]), text(&one["actor"]), text(&one["payload"]["why"]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn breakers_are_reset_by_people_and_on_record() {
    let (stage, server) = responding().await;
    let breakers = gateway(&stage).breakers();
    let now = || tokio::time::Instant::now();
    for _ in 0..5 {
        breakers.allow(&["anthropic"], true, now()).unwrap().answered(500, now());
    }
    let state = |list: Value| list["breakers"][0]["state"].as_str().unwrap().to_owned();
    assert_eq!(state(server.get("/api/v1/gateway/breakers").await.json()), "open");
    let reset = "/api/v1/gateway/breakers/reset";
    assert_eq!(server.post(reset, r#"{"name":"anthropic"}"#).await.status, 403, "nobody");
    for (body, status) in [(json!({}), 400), (json!({"name": "anthropic", "all": true}), 400), (json!({"name": "elsewhere"}), 404)] {
        assert_eq!(server.by("kim", reset, &body).await.status, status, "{body}");
    }
    assert_eq!(journal(&server, "breaker/anthropic").await, [], "what was refused is no change");
    let hold = json!({"switch": "breaker:anthropic", "value": "open", "ttl": "5m"});
    server.done("kim", "/api/v1/switches", &hold).await;
    let done = server.done("kim", reset, &json!({"name": "anthropic", "why": "back, key sk-ant-REDACTED"})).await;
    assert_eq!((&done["closed"], &done["cleared"]), (&json!(1), &json!(["breaker:anthropic@all"])));
    assert_eq!(state(server.get("/api/v1/gateway/breakers").await.json()), "closed");
    let entries = journal(&server, "breaker/anthropic").await;
    assert_eq!((entries.len(), entries[0].0.as_str(), entries[0].1.as_str()), (1, "breaker-reset", "kim"));
    assert!(entries[0].2.starts_with("back") && !entries[0].2.contains("0123456789abcdef"), "{entries:?}");
    assert_eq!(server.get("/api/v1/switches").await.json()["switches"], json!([]));
    assert_eq!(server.done("kim", reset, &json!({"all": true})).await["closed"], 0);
    assert_eq!(journal(&server, "breaker/all").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_need_a_person_a_reason_and_an_end_and_are_on_record() {
    let (stage, server) = responding().await;
    let path = "/api/v1/gateway/faults";
    let input = |id: &str, ttl: &str, why: &str, share: f64| json!({"id": id, "fault": {"kind": "overloaded"}, "scope": "user=ana", "share": share, "ttl": ttl, "why": why});
    assert_eq!(server.post(path, &input("d1", "5m", "a drill", 1.0).to_string()).await.status, 403, "nobody");
    for (body, status) in [
        (input("d1", "5m", " ", 1.0), 400),
        (input("d1", "2h", "a drill", 1.0), 400),
        (input("d1", "0s", "a drill", 1.0), 400),
        (input("d1", "soon", "a drill", 1.0), 400),
        (input("d1", "5m", "a drill", 1.5), 400),
        (input("d 1", "5m", "a drill", 1.0), 400),
        (json!({"fault": {"kind": "explode"}, "ttl": "5m", "why": "x"}), 400),
    ] {
        let answer = server.by("kim", path, &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
    }
    assert!(journal(&server, "fault/d1").await.is_empty() && gateway(&stage).faults().lease().is_none());
    let held = server.done("kim", path, &input("d1", "5m", "a drill", 0.5)).await;
    assert_eq!((&held["lease"]["by"], &held["lease"]["scope"]), (&json!("kim"), &json!("user:ana")));
    assert_eq!(server.by("lee", path, &input("d2", "5m", "mine", 1.0)).await.status, 409);
    server.done("kim", path, &input("d1", "10m", "longer", 0.5)).await;
    assert_eq!(server.get(path).await.json()["lease"]["id"], "d1");
    server.done("lee", &format!("{path}/d1/release"), &json!({"why": "enough"})).await;
    assert_eq!(server.get(path).await.json()["lease"], Value::Null);
    assert_eq!(server.by("lee", &format!("{path}/d1/release"), &json!({})).await.status, 404);
    let told = journal(&server, "fault/d1").await;
    let told: Vec<_> = told.iter().map(|(kind, who, why)| (kind.as_str(), who.as_str(), why.as_str())).collect();
    assert_eq!(told, [("fault-leased", "kim", "a drill"), ("fault-leased", "kim", "longer"), ("fault-released", "lee", "enough")]);
    assert!(journal(&server, "fault/d2").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_gateway_it_is_said_what_to_do() {
    let (_stage, server) = crate::served().await;
    for path in [
        "gateway/traffic",
        "gateway/calls",
        "gateway/latency",
        "gateway/limits",
        "gateway/budgets",
        "gateway/breakers",
        "gateway/faults",
        "cost/top",
        "cost/diagnosis",
    ] {
        let answer = server.get(&format!("/api/v1/{path}")).await;
        assert_eq!(answer.status, 503, "{path}: {}", answer.body);
        assert!(answer.json()["error"]["hint"].as_str().unwrap().contains("paramedic up"), "{path}");
    }
}
