//! Every switch: without effect before it is set, in force at once, for those alone whom it is for, and over when it ends;
//! all of that while two hundred streams run.

mod effects;
mod load;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use paramedic_model::switch::{KNOWN, ValueKind};
use serde_json::{Value, json};

use crate::model_api::{Call, Does, Whole, named};
use crate::proxy::eventually;
use crate::upstream::RawClient;
use effects::{cases, dark};
use load::Load;

/// An effect is there so soon after its switch was set, and gone so soon after its end.
const SOON: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// Who makes the calls that show an effect or none.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    pub(crate) user: String,
    pub(crate) session: String,
    pub(crate) model: String,
}

impl Who {
    fn new(user: String, model: &str) -> Self {
        Self { session: format!("session-of-{user}"), user, model: model.to_owned() }
    }

    pub(crate) fn call(&self) -> Call {
        Call::of(&self.user).session(&self.session).model(&self.model)
    }
}

/// A switch, and how its effect is seen.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) value: Value,
}

impl Case {
    fn plain(&self) -> &'static str {
        self.name.trim_end_matches(':')
    }

    /// The switch as it is set for somebody, and its scope.
    fn of(&self, who: &Who, whole: &Whole) -> (String, String) {
        let target = match self.plain() {
            "blocked_key" => whole.records(&who.user)[0].caller.key.as_deref().unwrap().to_owned(),
            "blocked_user" => who.user.clone(),
            "blocked_agent" | "blocked_session" => who.session.clone(),
            "blocked_model" => who.model.clone(),
            "breaker" => format!("fake/{}", who.model),
            _ => return (self.name.to_owned(), format!("user:{}", who.user)),
        };
        (format!("{}{target}", self.name), "all".to_owned())
    }
}

async fn whole() -> (Whole, std::net::TcpListener, Vec<std::net::TcpStream>) {
    let (listener, filling) = dark();
    let dark = format!("http://{}", listener.local_addr().unwrap());
    let whole = Whole::with(|settings| {
        settings.rate_limit_per_minute = 120;
        settings.connect_timeout_s = 2;
        settings.retry.back_off_ms = 20;
        let mut other = settings.upstreams[0].clone();
        (other.name, other.url, other.models) = ("dark".to_owned(), dark, vec!["dark*".to_owned()]);
        settings.upstreams.insert(0, other);
    })
    .await;
    (whole, listener, filling)
}

#[test]
fn no_switch_is_left_out() {
    let tested: HashSet<&str> = cases().iter().map(|case| case.name).collect();
    let known: HashSet<&str> = KNOWN.iter().map(|known| known.name).collect();
    assert_eq!(tested, known);
}

/// Before, set, effect, others, end, after: of all switches at the same time, each for a user of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_switch_acts_at_once_for_those_whom_it_is_for_and_until_its_end() {
    let (whole, _listener, _filling) = whole().await;
    let whole = Arc::new(whole);
    let load = Load::start(whole.address, 200).await;
    let tasks: Vec<_> = cases().into_iter().map(|case| (case.name, tokio::spawn(shown(Arc::clone(&whole), case)))).collect();
    let mut failed = Vec::new();
    for (name, task) in tasks {
        match task.await {
            Ok((after_set, after_end)) => println!("{name}: effect after {after_set} ms, gone {after_end} ms after its end"),
            Err(error) => failed.push(format!("{name}: {error}")),
        }
    }
    let (calls, most) = load.end().await;
    println!("{calls} calls of {most} streams at the same time");
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(most > 150 && calls > 200, "the load was none: {calls} {most}");
    whole.is_clean().await;
}

/// How long after it was set a switch had its effect, and after its end none, in milliseconds.
async fn shown(whole: Arc<Whole>, case: Case) -> (u128, u128) {
    let model = if case.plain() == "connect_timeout_s" { "dark".to_owned() } else { format!("m-{}", case.plain()) };
    let who = Who::new(format!("user-{}", case.plain()), &model);
    let narrow = matches!(case.plain(), "blocked_model" | "breaker");
    let other = Who::new(format!("other-{}", case.plain()), if narrow { "m-other" } else { &model });
    for who in [&who, &other] {
        effects::prepare(&whole, case.plain(), who).await;
    }
    let shows = async |who: &Who| effects::shows(&whole, case.plain(), who).await;
    assert!(!shows(&who).await, "an effect before it was set: {:?}", whole.records(&who.user)[0]);

    let (name, scope) = case.of(&who, &whole);
    let set_at = Instant::now();
    whole.set(&name, case.value.clone(), &scope, HOUR);
    let mut begun = set_at;
    while !shows(&who).await {
        begun = Instant::now();
        assert!(set_at.elapsed() < SOON * 5, "no effect: {:?}", whole.records(&who.user)[0]);
    }
    let after_set = begun - set_at;
    assert!(after_set < SOON, "an effect only after {after_set:?}");
    assert!(!shows(&other).await, "somebody else was concerned: {:?}", whole.records(&other.user)[0]);
    if let (Some(on), false) = (case.value.as_bool(), case.name.ends_with(':')) {
        let exempt = Who { session: format!("exempt-{}", who.session), ..who.clone() };
        let id = whole.set(case.name, json!(!on), &format!("session:{}", exempt.session), HOUR);
        assert!(!shows(&exempt).await, "who was taken out was concerned: {:?}", whole.records(&who.user)[0]);
        whole.clear(&id);
    }

    whole.set(&name, case.value.clone(), &scope, Duration::from_millis(300));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let ended_at = Instant::now();
    let mut begun = ended_at;
    while shows(&who).await {
        begun = Instant::now();
        assert!(ended_at.elapsed() < SOON * 5, "an effect after its end: {:?}", whole.records(&who.user)[0]);
    }
    assert!(begun - ended_at < SOON, "an effect {:?} after its end", begun - ended_at);
    (after_set.as_millis(), (begun - ended_at).as_millis())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn break_off_ends_running_streams_with_an_error_event() {
    let whole = Whole::start().await;
    let mut clients = Vec::new();
    for user in ["ana", "bo"] {
        let mut client = RawClient::connect(whole.address).await;
        client.send(&Call::of(user).stream(15, 100).bytes()).await;
        client.head().await.unwrap();
        client.read_until(b"content_block_start").await.unwrap();
        clients.push(client);
    }
    let set_at = Instant::now();
    whole.set("break_off", json!(true), "user:ana", HOUR);
    let ana = String::from_utf8(clients[0].read_until(b"\r\n0\r\n\r\n").await.unwrap()).unwrap();
    let after = set_at.elapsed();
    assert!(after < SOON, "{after:?}");
    println!("a running stream was broken off {} ms after the switch was set", after.as_millis());
    assert!(ana.contains("event: error\ndata: {") && ana.contains("broke this answer off"), "{ana}");
    assert!(!ana.contains("message_stop"));
    let bo = String::from_utf8(clients[1].read_until(b"\r\n0\r\n\r\n").await.unwrap()).unwrap();
    assert!(bo.contains("message_stop"), "{bo}");
    let record = whole.record("ana").await;
    assert_eq!(record.outcome, paramedic_gateway::Outcome::BrokenOff);
    assert_eq!(&*record.acted[0].switch, "break_off@user:ana");
    eventually("the upstream sees that it may stop", || !whole.api.upstream.left().is_empty()).await;
    whole.is_clean().await;
}

/// A call in a queue hears of a block, of a kill switch and of a limit that is lifted, not only when its turn comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_wait_hear_of_switches() {
    for (name, value, status) in [("blocked", json!(true), 403), ("break_off", json!(true), 403), ("rate_limiting", json!(false), 200)] {
        let whole = Arc::new(Whole::start().await);
        whole.set("rate_limit_per_minute", json!(2), "user:ana", HOUR);
        assert_eq!(whole.ask(&Call::of("ana")).await.status(), 200);
        let waits = tokio::spawn({
            let whole = Arc::clone(&whole);
            async move { whole.ask(&Call::of("ana")).await }
        });
        eventually("it waits", || whole.gateway.limiter().waiting() == 1).await;
        let set_at = Instant::now();
        whole.set(name, value, "user:ana", HOUR);
        let got = waits.await.unwrap();
        assert_eq!(got.status(), status, "{name}: {}", String::from_utf8_lossy(&got.body));
        assert!(set_at.elapsed() < SOON, "{name}: {:?}", set_at.elapsed());
        whole.is_clean().await;
    }
}

#[tokio::test]
async fn a_blocked_sub_agent_leaves_the_main_agent_alone() {
    let whole = Whole::start().await;
    let main = Call::of("ana").session("s1");
    let sub = main.clone().header("x-claude-code-agent-id", "a9").header("x-claude-code-parent-agent-id", "s1");
    for (name, scope) in [("blocked_agent:a9", "all"), ("blocked", "agent:a9"), ("blocked", "agent:s1/a9"), ("break_off", "agent:a9")] {
        let id = whole.set(name, json!(true), scope, HOUR);
        let (of_sub, of_main) = (whole.ask(&sub).await, whole.ask(&main).await);
        assert_eq!((of_sub.status(), of_main.status()), (403, 200), "{name} {scope}");
        assert_eq!(of_sub.header("x-should-retry"), Some("false"));
        assert!(named(&of_sub).ends_with(&format!("switch={id}")), "{}", named(&of_sub));
        whole.clear(&id);
    }
    // And the other way round: all of a session but one of its agents.
    whole.set("blocked", json!(true), "session:s1", HOUR);
    whole.set("blocked", json!(false), "agent:a9", HOUR);
    assert_eq!((whole.ask(&sub).await.status(), whole.ask(&main).await.status()), (200, 403));
}

/// Counting tokens and everything that is no inference is never limited, charged or refused for money; a block holds.
#[tokio::test]
async fn what_is_no_inference_is_only_blocked() {
    let whole = Whole::start().await;
    assert_eq!(whole.ask(&Call::of("ana")).await.status(), 200);
    for (name, value) in [
        ("rate_limit_per_minute", json!(1)),
        ("rate_limiting", json!(true)),
        ("tokens_per_minute", json!(1)),
        ("max_concurrent_requests", json!(1)),
        ("daily_budget_dollars", json!(0.000_000_1)),
        ("queue_wait_s", json!(1)),
        ("fast_fail", json!(true)),
        ("max_input_bytes", json!(10)),
        ("max_input_tokens", json!(1)),
        ("degraded_mode", json!(true)),
        ("route_to_model", json!("m-routed")),
        ("max_output_tokens", json!(1)),
        ("provider_pacing", json!(true)),
        ("adaptive_concurrency", json!(true)),
    ] {
        whole.set(name, value, "user:ana", HOUR);
    }
    let mut others = Vec::new();
    for path in
        ["/v1/messages/count_tokens", "/v1/messages/count_tokens?beta=true", "/v1/messages/batches", "/v1/files", "/api/event_logging"]
    {
        let mut call = Call::of("ana");
        call.path = path.to_owned();
        others.push(call);
    }
    let spent = || whole.gateway.ledger().top(paramedic_gateway::budget::Whose::User, paramedic_gateway::budget::Period::Day, 9);
    let before = (spent()[0].calls, spent()[0].dollars);
    for call in &others {
        for _ in 0..5 {
            let at = Instant::now();
            let got = whole.ask(call).await;
            assert_eq!((got.status(), got.header("x-paramedic")), (200, None), "{}", call.path);
            assert!(at.elapsed() < SOON);
            let sent = whole.api.seen("ana").pop().unwrap();
            assert_eq!(sent.body, call.body.to_string().as_bytes(), "{}", call.path);
        }
    }
    assert_eq!((spent()[0].calls, spent()[0].dollars), before);
    assert_eq!(whole.ask(&Call::of("ana").text(&"x".repeat(100))).await.status(), 413);
    whole.set("blocked", json!(true), "user:ana", HOUR);
    for call in &others {
        assert_eq!(whole.ask(call).await.status(), 403, "{}", call.path);
    }
    whole.is_clean().await;
}

/// What a switch of each kind is set to in the settings holds from the start, and by hand it is taken out for a while.
#[tokio::test]
async fn switches_of_the_settings_come_back_after_one_by_hand() {
    let whole = Whole::with(|settings| {
        let base = serde_json::from_value(json!({"switch": "DEFAULT_MODEL", "value": "m-of-settings"})).unwrap();
        settings.switches = vec![base];
    })
    .await;
    let model = async || whole.ask(&Call::of("ana")).await.json()["model"].as_str().unwrap_or_default().to_owned();
    assert_eq!(model().await, "m-of-settings");
    whole.set("route_to_model", json!("m-by-hand"), "all", Duration::from_millis(300));
    assert_eq!(model().await, "m-by-hand");
    tokio::time::sleep(Duration::from_millis(350)).await;
    assert_eq!(model().await, "m-of-settings");
}

/// Two changes at the same time: the end of one switch takes nothing back that somebody sets in that moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_loses_no_switch_that_is_set_in_the_same_moment() {
    let whole = Whole::start().await;
    for round in 0..60_u64 {
        whole.set("fast_fail", json!(true), "user:a", Duration::from_millis(10));
        tokio::time::sleep(Duration::from_millis(10 + round % 8)).await;
        whole.set("blocked", json!(true), &format!("user:u{round}"), HOUR);
        tokio::time::sleep(Duration::from_millis(8)).await;
        assert_eq!(whole.ask(&Call::of(&format!("u{round}"))).await.status(), 403, "{round}");
    }
}

#[test]
fn values_are_of_the_kind_that_their_switch_takes() {
    for case in cases() {
        let known = KNOWN.iter().find(|known| known.name == case.name).unwrap();
        assert_eq!(case.value.is_boolean(), known.kind == ValueKind::Flag, "{}", case.name);
    }
    let _ = Does::Hangs;
}
