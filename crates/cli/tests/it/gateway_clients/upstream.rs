//! A model API that a test scripts, and that remembers each request as it came: every header, every byte.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, Response, Uri};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::fake_api::events;

/// Dollars for a million tokens: read, written, read from the cache, written to the cache. As the program knows them.
const PRICES: [(&str, [u64; 4]); 2] = [("claude-opus-5-5", [4_000, 20_000, 200, 5_000]), ("claude-haiku-4-5", [1_000, 5_000, 100, 1_250])];

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// Counts up from 1, over requests of all kinds.
    pub number: u64,
    pub method: String,
    /// With its query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn is_inference(&self) -> bool {
        self.method == "POST" && self.path.split('?').next() == Some("/v1/messages")
    }

    /// A sub-agent of Claude Code's makes it.
    pub fn is_sub_agents(&self) -> bool {
        self.header("x-claude-code-agent-id").is_some()
    }

    pub fn has_tool_result(&self) -> bool {
        self.json()["messages"].to_string().contains("\"tool_result\"")
    }
}

/// What a test wants to be answered.
pub enum Reply {
    /// A whole message of these blocks.
    Blocks(Vec<Value>),
    /// The beginning of such a message; then the connection ends.
    Cut(Vec<Value>),
    /// The same beginning; then the stream itself says that it failed.
    Broken(Vec<Value>),
    /// Such a message after a while.
    Late(Duration, Vec<Value>),
    Error {
        status: u16,
        kind: &'static str,
        message: String,
        headers: Vec<(&'static str, &'static str)>,
    },
    /// An answer that is no message.
    Plain(Value),
}

pub fn text(words: &str) -> Reply {
    Reply::Blocks(vec![json!({"type": "text", "text": words})])
}

pub fn tool(name: &str, input: Value) -> Reply {
    Reply::Blocks(vec![json!({"type": "tool_use", "id": format!("toolu_{name}"), "name": name, "input": input})])
}

pub fn error(status: u16, kind: &'static str, headers: &[(&'static str, &'static str)]) -> Reply {
    Reply::Error { status, kind, message: format!("the fake says {status}"), headers: headers.to_vec() }
}

type Script = dyn Fn(&Request) -> Reply + Send + Sync;

struct Api {
    script: Box<Script>,
    requests: Mutex<Vec<Request>>,
    /// Model and usage of each message that was given whole.
    given: Mutex<Vec<(String, [u64; 4])>>,
}

pub struct Upstream {
    address: SocketAddr,
    api: Arc<Api>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Upstream {
    pub fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let api = Arc::new(Api { script: Box::new(script), requests: Mutex::default(), given: Mutex::default() });
        let (stop, stopped) = oneshot::channel();
        let (ready, address) = std::sync::mpsc::channel();
        let served = Arc::clone(&api);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                ready.send(listener.local_addr().unwrap()).unwrap();
                let router = Router::new().fallback(answer).with_state(served);
                tokio::select! {
                    result = axum::serve(listener, router) => result.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        Self { address: address.recv().unwrap(), api, stop: Some(stop), thread: Some(thread) }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.api.requests.lock().unwrap().clone()
    }

    /// The calls for answers of the model.
    pub fn inference(&self) -> Vec<Request> {
        self.requests().into_iter().filter(Request::is_inference).collect()
    }

    /// Tokens of all whole messages: read, written, read from the cache, written to the cache.
    pub fn tokens(&self) -> [u64; 4] {
        self.api.given.lock().unwrap().iter().fold([0; 4], |sum, (_, tokens)| std::array::from_fn(|i| sum[i] + tokens[i]))
    }

    /// What all whole messages cost, in billionths of a dollar.
    pub fn nanodollars(&self) -> u64 {
        self.api.given.lock().unwrap().iter().map(|(model, tokens)| nanodollars(model, *tokens)).sum()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub fn nanodollars(model: &str, tokens: [u64; 4]) -> u64 {
    let (_, prices) = PRICES.iter().find(|(name, _)| *name == model).unwrap_or_else(|| panic!("no price of {model}"));
    prices.iter().zip(tokens).map(|(price, tokens)| price * tokens).sum()
}

/// No two messages have the same usage: what is left out or counted twice does not add up.
pub fn tokens_of(number: u64) -> [u64; 4] {
    [1 << (number % 20), 7 + number, 30 * number, 20 + 3 * number]
}

async fn answer(State(api): State<Arc<Api>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let path = uri.path_and_query().map(|path| path.to_string()).unwrap_or_default();
    let request = {
        let mut requests = api.requests.lock().unwrap();
        let request = Request { number: requests.len() as u64 + 1, method: method.to_string(), path, headers, body };
        requests.push(request.clone());
        request
    };
    let request_id = format!("req_fake{:04}", request.number);
    let reply = if request.is_inference() { (api.script)(&request) } else { other(&request, &api) };
    match reply {
        Reply::Blocks(blocks) => whole(&api, &request, &request_id, &blocks),
        Reply::Late(wait, blocks) => {
            tokio::time::sleep(wait).await;
            whole(&api, &request, &request_id, &blocks)
        }
        Reply::Cut(blocks) => begun(&message(&request, &blocks), &request_id, Err(std::io::Error::other("cut"))),
        Reply::Broken(blocks) => {
            let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
            begun(&message(&request, &blocks), &request_id, Ok(format!("event: error\ndata: {error}\n\n").into()))
        }
        Reply::Plain(body) => json_answer(200, &request_id, &body),
        Reply::Error { status, kind, message, headers } => {
            let body = json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id});
            let mut answer = json_answer(status, &request_id, &body);
            for (name, value) in headers {
                answer.headers_mut().insert(name, HeaderValue::from_static(value));
            }
            answer
        }
    }
}

/// What the API answers besides messages.
fn other(request: &Request, api: &Api) -> Reply {
    let path = request.path.split('?').next().unwrap_or_default();
    match (request.method.as_str(), path) {
        ("POST", "/v1/messages/count_tokens") => Reply::Plain(json!({"input_tokens": 42})),
        ("GET", "/v1/models") => {
            let model = json!({"type": "model", "id": "claude-opus-5-5", "display_name": "Opus", "created_at": "2026-01-01T00:00:00Z"});
            Reply::Plain(json!({"data": [model], "has_more": false, "first_id": "claude-opus-5-5", "last_id": "claude-opus-5-5"}))
        }
        ("POST", "/v1/messages/batches") => Reply::Plain(json!({
            "id": "msgbatch_fake", "type": "message_batch", "processing_status": "in_progress", "created_at": "2026-01-01T00:00:00Z",
            "expires_at": "2026-01-02T00:00:00Z", "ended_at": null, "archived_at": null, "cancel_initiated_at": null, "results_url": null,
            "request_counts": {"processing": 1, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
        })),
        ("HEAD", _) => Reply::Plain(Value::Null),
        _ => (api.script)(request),
    }
}

fn message(request: &Request, blocks: &[Value]) -> Value {
    let asked = request.json()["model"].as_str().unwrap_or_default().to_owned();
    let [input, output, cache_read, cache_creation] = tokens_of(request.number);
    let calls_tool = blocks.iter().any(|block| block["type"] == "tool_use");
    let mut blocks = blocks.to_vec();
    for block in &mut blocks {
        if let Some(id) = block["id"].as_str() {
            block["id"] = format!("{id}_{}", request.number).into();
        }
    }
    json!({
        "id": format!("msg_fake{:04}", request.number), "type": "message", "role": "assistant", "model": asked, "content": blocks,
        "stop_reason": if calls_tool { "tool_use" } else { "end_turn" }, "stop_sequence": null,
        "usage": {"input_tokens": input, "output_tokens": output, "cache_read_input_tokens": cache_read, "cache_creation_input_tokens": cache_creation}
    })
}

fn whole(api: &Api, request: &Request, request_id: &str, blocks: &[Value]) -> Response<Body> {
    let message = message(request, blocks);
    api.given.lock().unwrap().push((message["model"].as_str().unwrap_or_default().to_owned(), tokens_of(request.number)));
    if request.json()["stream"] != true {
        return json_answer(200, request_id, &message);
    }
    let mut answer = json_answer(200, request_id, &Value::Null);
    answer.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream; charset=utf-8"));
    *answer.body_mut() = Body::from(events(&message));
    answer
}

/// The beginning of a stream, until after some words; then this: more bytes, or the end of the connection as if the upstream
/// had died.
fn begun(message: &Value, request_id: &str, then: std::io::Result<Bytes>) -> Response<Body> {
    let all = events(message);
    let end = all.find("event: content_block_stop").unwrap();
    let begin: std::io::Result<Bytes> = Ok(Bytes::from(all[..end].to_owned()));
    let mut answer = json_answer(200, request_id, &Value::Null);
    answer.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream; charset=utf-8"));
    // What was written must be on its way before the connection ends.
    let then = stream::once(async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        then
    });
    *answer.body_mut() = Body::from_stream(futures_util::StreamExt::chain(stream::iter([begin]), then));
    answer
}

fn json_answer(status: u16, request_id: &str, body: &Value) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .header("request-id", request_id)
        .header("anthropic-organization-id", "org-of-the-fake")
        .header("anthropic-ratelimit-requests-limit", "50")
        .header("anthropic-ratelimit-requests-remaining", "49")
        .header("anthropic-ratelimit-requests-reset", "2030-01-01T00:00:00Z")
        .header("x-new-header-of-the-api", "as it is")
        .body(Body::from(body.to_string()))
        .unwrap()
}
