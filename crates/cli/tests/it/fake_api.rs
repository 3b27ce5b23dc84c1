//! A stand-in for the model API on the loopback. It speaks the real wire format, does what it is told, and remembers
//! every request.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use axum::routing::{any, post};
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// What the API does with a call that offers tools (a turn of the agent, as opposed to a side question). Everything else
/// is answered with text.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Asks for one shell command, then answers with text.
    Tool { command: String },
    /// Refuses with this status so many times, then answers with text.
    Refuse { status: u16, times: usize },
    /// Refuses with 429 what comes above so many turns within a second.
    Limit { per_second: usize },
}

/// Tokens that every answer reports.
pub const USAGE: [(&str, u64); 4] =
    [("input_tokens", 10), ("output_tokens", 7), ("cache_read_input_tokens", 30), ("cache_creation_input_tokens", 20)];

struct Api {
    behaviour: Behaviour,
    requests: Mutex<Vec<Value>>,
    refused: Mutex<usize>,
    /// When the turns of the last second were taken.
    taken: Mutex<VecDeque<Instant>>,
}

pub struct FakeApi {
    address: SocketAddr,
    api: Arc<Api>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl FakeApi {
    pub fn start(behaviour: Behaviour) -> Self {
        let api = Arc::new(Api { behaviour, requests: Mutex::default(), refused: Mutex::default(), taken: Mutex::default() });
        let (stop, stopped) = oneshot::channel();
        let (ready, address) = std::sync::mpsc::channel();
        let served = Arc::clone(&api);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                ready.send(listener.local_addr().unwrap()).unwrap();
                let router = Router::new()
                    .route("/v1/messages", post(messages))
                    .route("/v1/messages/count_tokens", post(|| async { json_answer(200, "req_count", &json!({"input_tokens": 42})) }))
                    .route("/", any(|| async { "" }))
                    .with_state(served);
                tokio::select! {
                    result = axum::serve(listener, router) => result.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Self { address: address.recv().unwrap(), api, stop: Some(stop), thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Bodies of the calls to `/v1/messages`, in order.
    pub fn requests(&self) -> Vec<Value> {
        self.api.requests.lock().unwrap().clone()
    }

    /// How many turns came, and how many of them were refused.
    pub fn counts(&self) -> (usize, usize) {
        (self.api.requests.lock().unwrap().len(), *self.api.refused.lock().unwrap())
    }
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn messages(State(api): State<Arc<Api>>, _headers: HeaderMap, body: Bytes) -> Response<Body> {
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let number = {
        let mut requests = api.requests.lock().unwrap();
        requests.push(request.clone());
        requests.len()
    };
    let request_id = format!("req_fake{number:04}");
    let is_turn = request["tools"].as_array().is_some_and(|tools| !tools.is_empty());
    let has_result = request["messages"].to_string().contains("tool_result");
    let mut blocks = vec![json!({"type": "text", "text": "hi from the fake"})];
    let mut stop_reason = "end_turn";
    match &api.behaviour {
        Behaviour::Refuse { status, times } if is_turn => {
            let mut refused = api.refused.lock().unwrap();
            if *refused < *times {
                *refused += 1;
                return refusal(*status, &request_id);
            }
        }
        Behaviour::Limit { per_second } if is_turn => {
            let (mut taken, now) = (api.taken.lock().unwrap(), Instant::now());
            while taken.front().is_some_and(|at| now.duration_since(*at) >= Duration::from_secs(1)) {
                taken.pop_front();
            }
            if taken.len() >= *per_second {
                *api.refused.lock().unwrap() += 1;
                return refusal(429, &request_id);
            }
            taken.push_back(now);
        }
        Behaviour::Tool { command } if is_turn && !has_result => {
            let input = json!({"command": command, "description": "Say hi"});
            blocks.push(json!({"type": "tool_use", "id": format!("toolu_fake{number:04}"), "name": "Bash", "input": input}));
            stop_reason = "tool_use";
        }
        _ => {}
    }
    let usage: Value =
        USAGE.iter().map(|(name, tokens)| ((*name).to_owned(), Value::from(*tokens))).collect::<serde_json::Map<_, _>>().into();
    let message = json!({
        "id": format!("msg_fake{number:04}"), "type": "message", "role": "assistant", "model": request["model"], "content": blocks,
        "stop_reason": stop_reason, "stop_sequence": null, "usage": usage
    });
    if request["stream"] == true { stream(&message, &request_id) } else { json_answer(200, &request_id, &message) }
}

fn refusal(status: u16, request_id: &str) -> Response<Body> {
    let (kind, text) = match status {
        529 => ("overloaded_error", "Overloaded"),
        429 => ("rate_limit_error", "This request would exceed the rate limit"),
        401 => ("authentication_error", "invalid x-api-key"),
        _ => ("api_error", "Internal server error"),
    };
    json_answer(status, request_id, &json!({"type": "error", "error": {"type": kind, "message": text}, "request_id": request_id}))
}

fn json_answer(status: u16, request_id: &str, body: &Value) -> Response<Body> {
    let retry = if status == 401 { "false" } else { "true" };
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .header("request-id", request_id)
        .header("x-should-retry", retry)
        .body(Body::from(body.to_string()))
        .unwrap()
}

/// The same message as server-sent events.
fn stream(message: &Value, request_id: &str) -> Response<Body> {
    Response::builder()
        .header("content-type", "text/event-stream")
        .header("request-id", request_id)
        .header("anthropic-ratelimit-requests-limit", "50")
        .header("anthropic-ratelimit-requests-remaining", "49")
        .body(Body::from(events(message)))
        .unwrap()
}

/// A message's beginning, each of its blocks in pieces, and its end with the final counts.
pub fn events(message: &Value) -> String {
    let mut text = String::new();
    let mut event = |name: &str, mut body: Value| {
        body["type"] = name.into();
        text.push_str(&format!("event: {name}\ndata: {body}\n\n"));
    };
    let mut begin = message.clone();
    begin["content"] = json!([]);
    begin["stop_reason"] = Value::Null;
    begin["usage"]["output_tokens"] = 1.into();
    event("message_start", json!({"message": begin}));
    event("ping", json!({}));
    for (index, block) in message["content"].as_array().into_iter().flatten().enumerate() {
        let (empty, delta) = if block["type"] == "text" {
            (json!({"type": "text", "text": ""}), json!({"type": "text_delta", "text": block["text"]}))
        } else {
            let mut empty = block.clone();
            empty["input"] = json!({});
            (empty, json!({"type": "input_json_delta", "partial_json": block["input"].to_string()}))
        };
        event("content_block_start", json!({"index": index, "content_block": empty}));
        event("content_block_delta", json!({"index": index, "delta": delta}));
        event("content_block_stop", json!({"index": index}));
    }
    event("message_delta", json!({"delta": {"stop_reason": message["stop_reason"], "stop_sequence": null}, "usage": message["usage"]}));
    event("message_stop", json!({}));
    text
}
