//! A whole gateway, before a Messages API that answers each model as a test tells it.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use paramedic_gateway::proxy::{Listener, Serving};
use paramedic_gateway::{Gateway, Parts, Pricing, Record, Settings};
use paramedic_model::{Clock, Switch, SystemClock, Timestamp, Usage};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::upstream::{FakeUpstream, Got, RawClient, STREAM_HEAD, Seen, Step, answer, chunk};

/// Picodollars of a token that is read, and of one that is written: 1 and 5 dollars for a million.
pub(crate) const INPUT_PICO: u64 = 1_000_000;
pub(crate) const OUTPUT_PICO: u64 = 5_000_000;

/// What the API does with calls of a model.
#[derive(Debug, Clone)]
pub(crate) enum Does {
    /// An error of this status, with these headers.
    Fails(u16, String),
    /// The same so much later.
    FailsLate(u16, Duration),
    /// The same, for each body the first time only.
    FailsOnce(u16, String),
    /// The answer begins so much later.
    Late(Duration),
    /// A stream falls silent for so long in its middle.
    Stalls(Duration),
    /// Nothing comes.
    Hangs,
    /// The stream ends in its middle.
    Cuts,
    /// The answer has these headers; `{soon}` is in a second.
    Says(String),
}

#[derive(Default)]
struct Told {
    by_model: Mutex<HashMap<String, Does>>,
    once: Mutex<HashSet<Vec<u8>>>,
}

/// The API.
pub(crate) struct Api {
    pub(crate) upstream: FakeUpstream,
    told: Arc<Told>,
}

impl Api {
    pub(crate) async fn start() -> Self {
        let told = Arc::new(Told::default());
        let upstream = FakeUpstream::start({
            let told = Arc::clone(&told);
            move |seen| told.steps(seen)
        });
        Self { upstream: upstream.await, told }
    }

    /// Of a model; or of another path, which can fail only.
    pub(crate) fn model(&self, model: &str, does: Does) {
        self.told.by_model.lock().unwrap().insert(model.to_owned(), does);
    }

    pub(crate) fn well(&self, model: &str) {
        self.told.by_model.lock().unwrap().remove(model);
    }

    /// What came for this user, the latest last.
    pub(crate) fn seen(&self, user: &str) -> Vec<Seen> {
        self.upstream.seen().into_iter().filter(|seen| seen.header("x-user-id") == Some(user)).collect()
    }
}

impl Told {
    fn steps(&self, seen: &Seen) -> Vec<Step> {
        if !seen.path().starts_with("/v1/messages") || seen.path().contains("count_tokens") {
            if let Some(Does::Fails(status, headers)) = self.by_model.lock().unwrap().get(seen.path()) {
                return failure(*status, headers, "api_error");
            }
            return answer(
                "200 OK",
                "Content-Type: application/json\r\n",
                json!({"input_tokens": seen.body.len() / 4}).to_string().as_bytes(),
            );
        }
        let Ok(body) = serde_json::from_slice::<Value>(&seen.body) else {
            return failure(400, "", "invalid_request_error");
        };
        let model = body["model"].as_str().unwrap_or_default().to_owned();
        let does = self.by_model.lock().unwrap().get(&model).cloned();
        let number = |name: &str, default: u64| seen.header(name).and_then(|text| text.parse().ok()).unwrap_or(default);
        let max_tokens = body["max_tokens"].as_u64().unwrap_or(0);
        let mut said = Said {
            model,
            input: seen.body.len() as u64 / 4,
            output: number("x-test-output", 20).min(max_tokens),
            cache: (number("x-test-cache-read", 0), number("x-test-cache-write", 0)),
            steps: number("x-test-steps", 4),
            pause: Duration::from_millis(number("x-test-pause-ms", 0)),
            headers: String::new(),
            stall: None,
            cut: false,
        };
        let mut before = Vec::new();
        match does {
            Some(Does::Fails(status, headers)) => return failure(status, &headers, "api_error"),
            Some(Does::FailsLate(status, late)) => {
                let mut steps = vec![Step::Wait(late)];
                steps.extend(failure(status, "", "api_error"));
                return steps;
            }
            Some(Does::FailsOnce(status, headers)) if self.once.lock().unwrap().insert(seen.body.clone()) => {
                return failure(status, &headers, "api_error");
            }
            Some(Does::Late(late)) => before.push(Step::Wait(late)),
            Some(Does::Stalls(stall)) => said.stall = Some(stall),
            Some(Does::Hangs) => return vec![Step::Hang],
            Some(Does::Cuts) => said.cut = true,
            None | Some(Does::FailsOnce(..)) => {}
            Some(Does::Says(headers)) => {
                let soon = SystemClock.now().after(Duration::from_secs(1));
                said.headers = headers.replace("{soon}", &soon.to_string());
            }
        }
        before.extend(if body["stream"] == true { said.stream() } else { said.whole() });
        before
    }
}

fn failure(status: u16, headers: &str, kind: &str) -> Vec<Step> {
    let kind = match status {
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        _ => kind,
    };
    let body = json!({"type": "error", "error": {"type": kind, "message": "as it was asked"}, "request_id": "req_fake"}).to_string();
    answer(&format!("{status} Failed"), &format!("Content-Type: application/json\r\nrequest-id: req_fake\r\n{headers}"), body.as_bytes())
}

struct Said {
    model: String,
    input: u64,
    output: u64,
    /// Tokens that were read from the cache, and written to it.
    cache: (u64, u64),
    steps: u64,
    pause: Duration,
    headers: String,
    stall: Option<Duration>,
    cut: bool,
}

impl Said {
    fn message(&self, content: Value, output: u64) -> Value {
        json!({"id": "msg_fake", "type": "message", "role": "assistant", "model": self.model, "content": content,
            "stop_reason": "end_turn", "stop_sequence": null, "usage": {"input_tokens": self.input, "output_tokens": output,
            "cache_read_input_tokens": self.cache.0, "cache_creation_input_tokens": self.cache.1}})
    }

    fn whole(&self) -> Vec<Step> {
        let body = self.message(json!([{"type": "text", "text": "well"}]), self.output).to_string();
        let mut steps = vec![Step::Wait(self.pause * u32::try_from(self.steps).unwrap())];
        let headers = format!("Content-Type: application/json\r\nrequest-id: req_fake\r\n{}", self.headers);
        steps.extend(answer("200 OK", &headers, body.as_bytes()));
        steps
    }

    fn stream(&self) -> Vec<Step> {
        let event = |data: Value| chunk(format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap()).as_bytes());
        let head = STREAM_HEAD.replace("\r\n\r\n", &format!("\r\n{}\r\n", self.headers));
        let mut first = head.into_bytes();
        first.extend(event(json!({"type": "message_start", "message": self.message(json!([]), 1)})));
        first.extend(event(json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})));
        let mut steps = vec![Step::Send(first)];
        let word = "word ".repeat(usize::try_from(self.output / self.steps.max(1)).unwrap());
        for step in 0..self.steps {
            steps.push(Step::Wait(self.pause));
            if let Some(stall) = self.stall.filter(|_| step == self.steps / 2) {
                steps.push(Step::Wait(stall));
            }
            if self.cut && step == self.steps / 2 {
                steps.push(Step::Close);
            }
            steps
                .push(Step::Send(event(json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}))));
        }
        let mut last = event(json!({"type": "content_block_stop", "index": 0}));
        last.extend(event(
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": self.output}}),
        ));
        last.extend(event(json!({"type": "message_stop"})));
        last.extend_from_slice(b"0\r\n\r\n");
        steps.push(Step::Send(last));
        steps
    }
}

/// Prices of all models but those called `unpriced…`; of `panics…` it falls over.
pub(crate) struct Prices;

impl Pricing for Prices {
    fn call(&self, model: &str, usage: &Usage) -> Option<u64> {
        assert!(!model.starts_with("panics"), "as it was asked");
        let priced = !model.starts_with("unpriced");
        priced.then(|| usage.context_tokens() * INPUT_PICO + usage.output_tokens * OUTPUT_PICO)
    }
}

/// A gateway before the API, and the switches that are set by hand.
pub(crate) struct Whole {
    pub(crate) api: Api,
    pub(crate) gateway: Gateway,
    pub(crate) address: SocketAddr,
    switches: Mutex<Vec<Switch>>,
    keeper: JoinHandle<()>,
    _serving: Serving,
}

impl Drop for Whole {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

pub(crate) fn parts(settings: Settings) -> Parts {
    Parts { settings, clock: Arc::new(SystemClock), pricing: Arc::new(Prices), data_dir: None, salt: [7; 32], shared: None }
}

impl Whole {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::made(change, |_| {}).await
    }

    pub(crate) async fn made(change: impl FnOnce(&mut Settings), other: impl FnOnce(&mut Parts)) -> Self {
        let api = Api::start().await;
        let mut settings = Settings { calls_kept: 50_000, ..Settings::default() };
        settings.upstreams[0].name = "fake".to_owned();
        settings.upstreams[0].url = api.upstream.url();
        change(&mut settings);
        let mut parts = parts(settings);
        other(&mut parts);
        let gateway = Gateway::open(parts).unwrap();
        let serving = gateway.serve(Listener::Tcp(std::net::TcpListener::bind("127.0.0.1:0").unwrap())).unwrap();
        let address = serving.address().unwrap();
        let keeper = tokio::spawn({
            let gateway = gateway.clone();
            async move { gateway.keep_time().await }
        });
        Self { api, gateway, address, switches: Mutex::default(), keeper, _serving: serving }
    }

    /// Sets a switch for this time, beside the others. Gives its id.
    pub(crate) fn set(&self, name: &str, value: Value, scope: &str, time: Duration) -> String {
        let value = paramedic_model::switch::checked(name, &value).unwrap();
        let (id, now) = (format!("{name}@{scope}"), SystemClock.now());
        let switch = Switch {
            id: id.clone(),
            switch: name.to_owned(),
            value,
            scope: scope.parse().unwrap(),
            by: "ana".to_owned(),
            why: String::new(),
            set_at: now,
            expires_at: now.after(time),
            seq: 1,
        };
        let mut switches = self.switches.lock().unwrap();
        switches.retain(|other| other.id != id && other.expires_at > now);
        switches.push(switch);
        self.gateway.set_switches(switches.clone());
        id
    }

    pub(crate) fn clear(&self, id: &str) {
        let mut switches = self.switches.lock().unwrap();
        switches.retain(|other| other.id != id);
        self.gateway.set_switches(switches.clone());
    }

    pub(crate) async fn ask(&self, call: &Call) -> Got {
        ask(self.address, call).await
    }

    /// The records of a user, the latest first.
    pub(crate) fn records(&self, user: &str) -> Vec<Arc<Record>> {
        self.gateway.traffic().recent(|record| record.caller.user.as_deref() == Some(user), usize::MAX)
    }

    pub(crate) async fn record(&self, user: &str) -> Arc<Record> {
        crate::proxy::eventually("no call of the user runs", || self.running(user) == 0).await;
        self.records(user).into_iter().next().expect("a record")
    }

    pub(crate) fn running(&self, user: &str) -> usize {
        let view = self.gateway.traffic().view(usize::MAX, Timestamp::EPOCH);
        view.running.iter().filter(|call| call.caller.user.as_deref() == Some(user)).count()
    }

    /// Nothing is held any more by calls that are over.
    pub(crate) async fn is_clean(&self) {
        let gateway = &self.gateway;
        crate::proxy::eventually("nothing runs", || gateway.traffic().running_count() == 0).await;
        crate::proxy::eventually("no permit is out", || gateway.limiter().is_quiet()).await;
        for budget in gateway.ledger().budgets() {
            assert_eq!((budget.reserved_dollars, budget.running, budget.waiting), (0.0, 0, 0), "{budget:?}");
        }
    }
}

/// One call as a client makes it.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) headers: String,
    pub(crate) body: Value,
}

impl Call {
    /// A short call, not streamed.
    pub(crate) fn of(user: &str) -> Self {
        let headers = format!("x-user-id: {user}\r\nx-api-key: key-of-{user}\r\n");
        let body = json!({"model": "claude-x", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello."}]});
        Self { path: "/v1/messages".to_owned(), headers, body }
    }

    pub(crate) fn model(mut self, model: &str) -> Self {
        self.body["model"] = model.into();
        self
    }

    pub(crate) fn session(self, session: &str) -> Self {
        self.header("x-claude-code-session-id", session)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers += &format!("{name}: {value}\r\n");
        self
    }

    /// Streamed, in so many steps with a pause before each.
    pub(crate) fn stream(self, steps: u64, pause_ms: u64) -> Self {
        self.paced(steps, pause_ms).with("stream", json!(true))
    }

    pub(crate) fn paced(self, steps: u64, pause_ms: u64) -> Self {
        self.header("x-test-steps", &steps.to_string()).header("x-test-pause-ms", &pause_ms.to_string())
    }

    pub(crate) fn output(self, tokens: u64) -> Self {
        self.header("x-test-output", &tokens.to_string())
    }

    pub(crate) fn with(mut self, field: &str, value: Value) -> Self {
        self.body[field] = value;
        self
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.with("messages", json!([{"role": "user", "content": text}]))
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        raw(&self.path, &self.headers, self.body.to_string().as_bytes())
    }
}

pub(crate) fn raw(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("POST {path} HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n", body.len())
            .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// The answer to a call; of a cut one what came.
pub(crate) async fn ask(address: SocketAddr, call: &Call) -> Got {
    send(address, &call.bytes()).await
}

pub(crate) async fn send(address: SocketAddr, bytes: &[u8]) -> Got {
    let mut client = RawClient::connect(address).await;
    match client.ask(bytes).await {
        Some(got) => got,
        None => Got { head: String::new(), body: client.rest().await },
    }
}

/// The switches that an answer names.
pub(crate) fn named(got: &Got) -> &str {
    got.header("x-paramedic").unwrap_or_default()
}
