//! The traffic page over a gateway that real calls go through, to an upstream on this machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use paramedic_action::switch::SwitchReader as _;
use paramedic_gateway::config::{BaseSwitch, Settings, UpstreamSettings};
use paramedic_gateway::proxy::{Listener, Serving};
use paramedic_gateway::traffic::{RunningCall, RunningState};
use paramedic_gateway::{Acted, Caller, Gateway, Kind, Outcome, Parts, Pricing, Record};
use paramedic_model::{Timestamp, Usage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::client::{Answer, Server};
use crate::pages::assert_safe;
use crate::respond::Acting;
use crate::served;
use crate::stage::{self, Stage};

const HOSTILE: &str = "<script>alert(1)</script>\"'&";
const PAGE_BYTES_MAX: usize = 60_000;

/// A dollar for a million tokens of anything.
struct Flat;

impl Pricing for Flat {
    fn call(&self, model: &str, usage: &Usage) -> Option<u64> {
        model.starts_with("claude").then(|| (usage.context_tokens() + usage.output_tokens) * 1_000_000)
    }
}

/// Answers every call after its kind: a model called `slow` waits for its client, one called `busy` is overloaded.
async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let body = loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            if body.len() >= length {
                break body.to_owned();
            }
        }
    };
    let request: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    let model = request["model"].as_str().unwrap_or_default();
    if model.contains("slow") {
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    let (status, body) = if model.contains("busy") {
        ("529 Overloaded", serde_json::json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}))
    } else {
        let usage = serde_json::json!({"input_tokens": 400_000, "output_tokens": 7_000});
        (
            "200 OK",
            serde_json::json!({"id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": [], "stop_reason": "end_turn", "usage": usage}),
        )
    };
    let body = body.to_string();
    let limits = "anthropic-ratelimit-requests-limit: 1000\r\nanthropic-ratelimit-requests-remaining: 40\r\nanthropic-ratelimit-requests-reset: 2026-03-10T15:00:50Z\r\n";
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{limits}connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await
}

/// An instance with a gateway in front of a made-up upstream.
pub struct Passing {
    pub acting: Acting,
    gateway: Gateway,
    at: Server,
    _serving: Serving,
}

impl Passing {
    pub async fn with(switches: &[(&str, serde_json::Value)]) -> Self {
        let upstream = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", upstream.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = upstream.accept().await {
                tokio::spawn(answer(stream));
            }
        });
        let switches =
            switches.iter().map(|(switch, value)| BaseSwitch { switch: (*switch).to_owned(), value: value.clone(), scope: "all".into() });
        let settings = Settings {
            upstreams: vec![UpstreamSettings { name: "here".into(), url, models: vec!["*".into()], ..UpstreamSettings::default() }],
            switches: switches.collect(),
            ..Settings::default()
        };
        let open = |stage: &Stage| {
            let parts = Parts {
                settings,
                clock: Arc::clone(&stage.context.clock),
                pricing: Arc::new(Flat),
                data_dir: None,
                salt: [7; 32],
                shared: None,
            };
            Some(Gateway::open(parts).unwrap())
        };
        let acting = Acting::with_gateway(&[], open).await;
        let gateway = acting.stage.context.gateway.clone().unwrap();
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let at: SocketAddr = listener.local_addr().unwrap();
        let serving = gateway.serve(Listener::Tcp(listener)).unwrap();
        Self { acting, gateway, at: Server(at), _serving: serving }
    }

    pub async fn call(&self, user: &str, model: &str) -> Answer {
        let (user, key) = (format!("x-user-id: {user}"), "x-api-key: sk-secret-1");
        let session = format!("x-session-id: {}", stage::agent("stuck"));
        let body =
            serde_json::json!({"model": model, "max_tokens": 10_000, "messages": [{"role": "user", "content": "the secret prompt"}]});
        let headers = ["content-type: application/json", key, &user, &session];
        self.at.send("POST", "/v1/messages", &headers, &body.to_string()).await
    }

    /// What the server does when a switch was set or cleared.
    fn follow(&self) {
        let context = &self.acting.stage.context;
        self.gateway.set_switches(context.responding.as_ref().unwrap().switches.active(context.now()));
    }

    async fn page(&self, path: &str) -> String {
        let answer = self.acting.server.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert_safe(path, &answer);
        assert!(!answer.body.contains("secret"), "a prompt or a key is on {path}: {}", answer.body);
        answer.body
    }

    /// The record of a call is made after its answer.
    pub async fn recorded(&self, calls: usize) {
        let began = Instant::now();
        while self.gateway.traffic().recent(|_| true, usize::MAX).len() < calls {
            assert!(began.elapsed() < Duration::from_secs(20), "{calls} calls are never recorded");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_money_and_limits_are_on_one_page() {
    let passing = Passing::with(&[("daily_budget_dollars", 4.into())]).await;
    for _ in 0..3 {
        assert_eq!(passing.call("ana", "claude-opus-5").await.status, 200);
    }
    assert_eq!(passing.call("bo", "claude-haiku-4-5").await.status, 200);
    assert_eq!(passing.call("bo", "claude-busy").await.status, 529);
    passing.recorded(5).await;
    let slow = passing.call("cy", "claude-slow");
    let looking = async {
        while passing.gateway.traffic().running(|call| call.state == RunningState::Asked, 1).1 == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        passing.page("/traffic").await
    };
    let page = tokio::select! { page = looking => page, answer = slow => panic!("{answer:?}") };
    for words in [
        "5 calls a minute, 1 failed",
        "dollars an hour",
        "Calls a minute",
        "1 call running",
        "claude-slow",
        "asked",
        "Latest calls",
        "claude-haiku-4-5",
        "answered</span> 200",
        "failed</span> 529",
        "overloaded_error",
        "407 k",
        "$0.41",
        "All together",
        "$4.00",
        "a day",
        "Top spenders today",
        "75 %",
        "Block ana",
        "Circuit breakers",
        "here/claude-busy",
        "1 failure, 1 in a row",
        "They only watch",
        "Requests: 40 of 1.0 k left",
        "all of it in 50 s",
        "How long models take",
        "href=\"/agents/",
    ] {
        assert!(page.contains(words), "{words:?} is not on the page:\n{page}");
    }
    assert!(page.contains("aria-current=\"page\">Traffic"), "{page}");
    let link = format!("href=\"/agents/{}\"", stage::agent("stuck"));
    assert!(page.contains(&link), "the agent's page is one step away:\n{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_found_by_user_model_and_end() {
    let passing = Passing::with(&[]).await;
    for (user, model) in [("ana", "claude-opus-5"), ("bo", "claude-haiku-4-5"), ("bo", "claude-busy")] {
        passing.call(user, model).await;
    }
    passing.recorded(3).await;
    for (query, shown, hidden) in [
        ("user=ana", "claude-opus-5", "claude-haiku-4-5"),
        ("model=haiku", "claude-haiku-4-5", "claude-opus-5"),
        ("user=bo&outcome=failed", "claude-busy", "claude-haiku-4-5"),
        ("outcome=answered&by=model", "claude-opus-5", "overloaded_error"),
        ("user=ana&why=cost", "claude-opus-5", "claude-haiku-4-5"),
        ("user=nobody", "None of the calls that are remembered matches", "overloaded_error"),
    ] {
        let page = passing.page(&format!("/traffic?{query}")).await;
        let latest = page.split("id=\"latest\"").nth(1).and_then(|rest| rest.split("id=\"money\"").next()).unwrap();
        assert!(latest.contains(shown), "{query}: {latest}");
        assert!(!latest.contains(hidden), "{query}: {latest}");
    }
    assert!(passing.page("/traffic?why=cost").await.contains("Why it costs this"));
    for query in ["outcome=loud", "color=red"] {
        assert_eq!(passing.acting.server.get(&format!("/traffic?{query}")).await.status, 400, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spender_is_blocked_from_the_page_and_the_board_shows_what_that_did() {
    let passing = Passing::with(&[("fallback_model", "claude-haiku-4-5".into())]).await;
    assert_eq!(passing.call("ana", "claude-opus-5").await.status, 200);
    passing.recorded(1).await;
    let page = passing.page("/traffic").await;
    let form = page.split("action=\"/switches\"").nth(1).and_then(|rest| rest.split("</form>").next()).unwrap();
    for field in [
        "name=\"switch\" value=\"blocked_user:\"",
        "name=\"of\" value=\"ana\"",
        "name=\"value\" value=\"true\"",
        "name=\"for\" value=\"30m\"",
        "name=\"back\" value=\"/traffic\"",
    ] {
        assert!(form.contains(field), "{field}: {form}");
    }
    let fields = "switch=blocked_user%3A&of=ana&scope=all&value=true&back=%2Ftraffic&for=30m&why=spends+too+much";
    let unnamed = passing.acting.server.form("/switches", fields).await;
    assert!(unnamed.body.contains("Who are you?") && unnamed.body.contains("name=\"back\" value=\"/traffic\""), "{}", unnamed.body);
    let set = passing.acting.post("kim", "/switches", fields).await;
    assert_eq!((set.status, set.header("location")), (303, Some("/traffic?done=switch-set")), "{}", set.body);
    let foreign = passing.acting.post("kim", "/switches", &fields.replace("%2Ftraffic", "%2F%2Fevil.example")).await;
    assert_eq!(foreign.header("location"), Some("/switches?done=switch-set"));
    let journal = passing.acting.stage.context.journal.head().await.unwrap();
    assert!(journal > 0, "it is in the journal");
    passing.follow();
    assert_eq!(passing.call("ana", "claude-opus-5").await.status, 403);
    passing.recorded(2).await;
    let page = passing.page("/traffic").await;
    for words in
        ["2 calls a minute, 1 refused", "refused</span> 403", "blocked by kim", "blocked_user:ana", "class=\"refused\"", "set by kim"]
    {
        assert!(page.contains(words), "{words}: {page}");
    }
    let board = passing.page("/switches").await;
    for words in ["Acted on <b>1 call</b>", "all calls before", "by the settings", "claude-haiku-4-5"] {
        assert!(board.contains(words), "{words}: {board}");
    }
    let (_, rest) = board.split_once("id=\"fallback_model\"").unwrap();
    assert!(!rest.split("<details").next().unwrap().contains("Clear"), "what the settings say cannot be cleared here: {rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_is_held_and_reset_from_the_page() {
    let passing = Passing::with(&[]).await;
    assert_eq!(passing.call("ana", "claude-busy").await.status, 529);
    passing.recorded(1).await;
    let fields = "switch=breaker%3A&of=here%2Fclaude-busy&back=%2Ftraffic&for=30m&why=test&value=open";
    assert_eq!(passing.acting.post("kim", "/switches", fields).await.header("location"), Some("/traffic?done=switch-set"));
    passing.follow();
    assert_eq!(passing.call("ana", "claude-busy").await.status, 503);
    passing.recorded(2).await;
    let page = passing.page("/traffic").await;
    for words in ["1 not closed", "held by breaker:here/claude-busy@all", "Reset: let go"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    let before = passing.acting.stage.context.journal.head().await.unwrap();
    let reset = passing.acting.post("kim", "/switches", "do=reset&switch=breaker%3A&of=here%2Fclaude-busy&back=%2Ftraffic").await;
    assert_eq!(reset.header("location"), Some("/traffic?done=breaker-reset"), "{}", reset.body);
    assert!(passing.acting.stage.context.journal.head().await.unwrap() > before, "who reset it is in the journal");
    passing.follow();
    assert!(!passing.page("/traffic?done=breaker-reset").await.contains("not closed"));
    let unknown = passing.acting.post("kim", "/switches", "do=reset&switch=breaker%3A&of=nobody&back=%2Ftraffic").await;
    assert_eq!(unknown.status, 404, "{}", unknown.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_not_is_said_with_the_next_step() {
    let (_stage, server) = served().await;
    let page = server.get("/traffic").await;
    assert!(page.body.contains("No gateway") && page.body.contains("gateway = &quot;127.0.0.1:8484&quot;"), "{}", page.body);
    let passing = Passing::with(&[]).await;
    let page = passing.page("/traffic").await;
    assert!(page.contains("export ANTHROPIC_BASE_URL=http://127.0.0.1:8484"), "{page}");
    assert!(page.contains("No call at the moment") && page.contains("No switch is set"), "{page}");
}

fn hostile(i: usize) -> Caller {
    let name = |kind: &str| Some(format!("{HOSTILE}{kind}{i:04}{}", "\"<&'>".repeat(30)).into());
    Caller { user: name("u"), agent: name("a"), session: name("s"), team: name("t"), key: name("k"), ..Caller::default() }
}

fn record(i: usize, at: Timestamp) -> Record {
    Record {
        id: i as u64,
        at,
        kind: Kind::Inference,
        caller: hostile(i),
        method: "POST".into(),
        path: "/v1/messages".into(),
        upstream: "here".into(),
        model: Some(format!("claude{HOSTILE}").into()),
        served_model: Some(format!("other{HOSTILE}").into()),
        stream: true,
        outcome: Outcome::Answered,
        status: 200,
        error_type: Some(HOSTILE.into()),
        request_id: None,
        message_id: None,
        usage: Usage { input_tokens: 1_000, output_tokens: 10, ..Usage::default() },
        cost_pico: Some(1_000_000_000),
        stop_reason: None,
        tries: 2,
        waited: Duration::from_millis(1_500),
        first_byte: Some(Duration::from_millis(300)),
        first_token: None,
        duration: Duration::from_millis(2_300),
        request_bytes: 1,
        response_bytes: 1,
        repeated_share: None,
        acted: vec![Acted { switch: format!("blocked_user:{HOSTILE}@all").into(), what: HOSTILE.repeat(20).into() }; 5],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_hostile_calls_stay_text_and_the_page_small() {
    let passing = Passing::with(&[]).await;
    let (traffic, now) = (passing.gateway.traffic(), stage::now());
    for i in 0..2_000 {
        traffic.ended(record(i, now.before(Duration::from_secs(i as u64))), now);
    }
    let running = |i| RunningCall {
        id: traffic.next_id(),
        began: now,
        caller: hostile(i),
        model: Some(HOSTILE.into()),
        path: "/v1/messages".into(),
        request_bytes: 1,
        state: RunningState::Waiting,
        output_tokens: 12,
    };
    let _tickets: Vec<_> = (0..1_000).map(|i| traffic.begin(running(i))).collect();
    for path in ["/traffic", "/traffic?user=u00", "/traffic?outcome=failed"] {
        let answer = passing.acting.server.get(path).await;
        assert_safe(path, &answer);
        assert!(answer.body.len() < PAGE_BYTES_MAX, "{path} has {} bytes", answer.body.len());
        assert!(answer.body.contains("&lt;script&gt;alert(1)"), "{path} shows names as text");
        let began = Instant::now();
        passing.acting.server.get(path).await;
        eprintln!("{path}: {} bytes in {:?}", answer.body.len(), began.elapsed());
    }
    let page = passing.acting.server.get("/traffic").await.body;
    assert!(page.contains("1,000 calls running") && page.contains("more are remembered"), "{page}");
    for i in 0..60 {
        let caller = Caller { user: Some(format!("user-{i}").into()), ..Caller::default() };
        traffic.ended(
            Record {
                caller,
                acted: Vec::new(),
                error_type: None,
                model: Some("claude-opus-5".into()),
                served_model: None,
                ..record(i, now)
            },
            now,
        );
    }
    let page = passing.acting.server.get("/traffic?user=user-").await.body;
    assert_eq!(page.matches("claude-opus-5").count().min(50), 50, "fifty usual calls are shown: {}", page.matches("claude-opus-5").count());
    assert!(page.contains("10 more are remembered"), "{page}");
}
