//! How a verb reaches the data: a running instance over its local socket or a URL, or the data folder itself.
//!
//! All three answer the same operations of the same registry, so a verb does not know which one it talks to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use paramedic_api::registry::Input;
use paramedic_api::{Caller, Method, Operation, operations};
use paramedic_server::{Settings, instance, offline};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};

use crate::args::Common;
use crate::exit::{Exit, Failure};

/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Who answers.
pub(crate) enum Face {
    Socket(PathBuf),
    Url {
        host: String,
    },
    /// Nothing is running: the data folder is read as it lies there.
    Folder(Arc<paramedic_api::Context>),
}

/// The settings with the common options on top.
pub(crate) fn settings(common: &Common) -> Result<Settings> {
    let mut settings = Settings::load(common.config.as_deref()).map_err(|error| anyhow::anyhow!("failed to {error}"))?;
    if let Some(data) = &common.data {
        settings.data.dir = data.to_string_lossy().into_owned();
    }
    if !common.claude_dirs.is_empty() {
        settings.claude.dirs = common.claude_dirs.iter().map(|dir| dir.to_string_lossy().into_owned()).collect();
    }
    Ok(settings)
}

impl Face {
    /// The instance named with `--server`, else the one running on the data folder, else the folder itself.
    pub(crate) async fn open(common: &Common) -> Result<Self> {
        if let Some(url) = &common.server {
            return Self::url(url);
        }
        let settings = settings(common)?;
        let dir = settings.data_dir().map_err(|error| anyhow::anyhow!("failed to {error}"))?;
        if instance::is_running(&dir) {
            return Ok(Self::Socket(dir.join(instance::SOCKET_FILE)));
        }
        let context = offline::context(&dir, &settings)
            .await
            .with_context(|| format!("nothing runs on {} and it could not be read", dir.display()))?;
        match context {
            Some(context) => Ok(Self::Folder(Arc::new(context))),
            None => Err(Failure::new(
                Exit::Unreachable,
                format!("nothing was ever recorded in {} and no paramedic is running on it", dir.display()),
                "start it with: paramedic up   (or name a running one with --server URL or --data DIR)",
            )
            .into()),
        }
    }

    /// As [`Self::open`], for verbs that make no sense without a running instance.
    pub(crate) async fn open_running(common: &Common) -> Result<Self> {
        match Self::open(common).await {
            Ok(Self::Folder(_)) => Err(Failure::new(
                Exit::Unreachable,
                "no paramedic is running on this data folder",
                "start it with: paramedic up   (or name one with --server URL)",
            )
            .into()),
            other => other,
        }
    }

    fn url(url: &str) -> Result<Self> {
        let wrong = |why: &str| Failure::new(Exit::Failed, format!("--server {url}: {why}"), "use a URL like http://127.0.0.1:3333");
        let Some(rest) = url.strip_prefix("http://") else {
            let why = if url.starts_with("https://") { "only http:// is supported by this client; use an SSH tunnel" } else { "not a URL" };
            return Err(wrong(why).into());
        };
        let host = rest.trim_end_matches('/');
        if host.is_empty() || host.contains('/') {
            return Err(wrong("give only the address, without a path").into());
        }
        Ok(Self::Url { host: if host.contains(':') { host.to_owned() } else { format!("{host}:80") } })
    }

    /// Reads: an operation with its query.
    pub(crate) async fn get<O: DeserializeOwned>(&self, id: &str, query: &impl Serialize) -> Result<(O, Value)> {
        self.call(id, serde_json::to_value(query)?).await
    }

    /// Writes: an operation with its JSON input.
    pub(crate) async fn post<O: DeserializeOwned>(&self, id: &str, input: &impl Serialize) -> Result<(O, Value)> {
        self.call(id, serde_json::to_value(input)?).await
    }

    async fn call<O: DeserializeOwned>(&self, id: &str, input: Value) -> Result<(O, Value)> {
        let operation =
            operations().into_iter().find(|operation| operation.id == id).with_context(|| format!("there is no operation {id}"))?;
        let answer = match self {
            Self::Folder(context) => in_process(context, &operation, input).await?,
            Self::Socket(_) | Self::Url { .. } => self.over_http(&operation, input).await?,
        };
        let value: Value = serde_json::from_slice(&answer).context("the answer is not JSON")?;
        let typed =
            O::deserialize(&value).context("the answer has another shape than this program expects; are both of the same version?")?;
        Ok((typed, value))
    }

    async fn over_http(&self, operation: &Operation, input: Value) -> Result<Vec<u8>> {
        let fields = match input {
            Value::Object(fields) => fields,
            _ => serde_json::Map::new(),
        };
        let (path, rest) = fill_path(operation, fields);
        let (target, body) = match operation.method {
            Method::Get => (format!("{path}?{}", to_query(&rest)), Vec::new()),
            Method::Post => (path, serde_json::to_vec(&rest)?),
        };
        let method = if operation.method == Method::Get { "GET" } else { "POST" };
        self.send(method, &target, "application/json", Full::new(bytes::Bytes::from(body)).boxed()).await
    }

    /// Whether an instance answers, and not just a folder.
    pub(crate) const fn is_running(&self) -> bool {
        !matches!(self, Self::Folder(_))
    }

    /// Asks Prometheus's API: the whole answer.
    pub(crate) async fn prometheus(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let pairs = parameters.iter().map(|(name, value)| format!("{}={}", escape(name, b""), escape(value, b"")));
        let form = pairs.collect::<Vec<_>>().join("&");
        let body = Full::new(bytes::Bytes::from(form)).boxed();
        let answer = self.send("POST", path, "application/x-www-form-urlencoded", body).await?;
        serde_json::from_slice(&answer).context("the answer is not JSON")
    }

    /// Posts a body that is still being made.
    pub(crate) async fn stream(&self, target: &str, chunks: tokio::sync::mpsc::Receiver<bytes::Bytes>) -> Result<Vec<u8>> {
        self.send("POST", target, "application/octet-stream", Chunks(chunks).boxed()).await
    }

    /// One request, one connection.
    async fn send(&self, method: &str, target: &str, content_type: &str, body: Body) -> Result<Vec<u8>> {
        let (status, bytes) = match self {
            Self::Socket(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| unreachable_at(&path.display().to_string(), &error))?;
                exchange(TokioIo::new(stream), "localhost", method, target, content_type, body).await?
            }
            Self::Url { host } => {
                let stream = TcpStream::connect(host.as_str()).await.map_err(|error| unreachable_at(host, &error))?;
                exchange(TokioIo::new(stream), host, method, target, content_type, body).await?
            }
            Self::Folder(_) => {
                return Err(
                    Failure::new(Exit::Unreachable, "no paramedic is running on this data folder", "start it with: paramedic up").into()
                );
            }
        };
        if (200..300).contains(&status) { Ok(bytes) } else { Err(refusal(status, &bytes).into()) }
    }
}

type Body = http_body_util::combinators::BoxBody<bytes::Bytes, std::convert::Infallible>;

/// A request body whose parts come over a channel.
struct Chunks(tokio::sync::mpsc::Receiver<bytes::Bytes>);

impl hyper::body::Body for Chunks {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok(hyper::body::Frame::data(chunk))))
    }
}

fn unreachable_at(place: &str, error: &std::io::Error) -> Failure {
    Failure::new(
        Exit::Unreachable,
        format!("no paramedic answers at {place}: {error}"),
        "start it with: paramedic up   (paramedic doctor looks for the reason)",
    )
}

async fn exchange<S>(stream: TokioIo<S>, host: &str, method: &str, target: &str, content_type: &str, body: Body) -> Result<(u16, Vec<u8>)>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let driver = tokio::spawn(connection);
    let request = hyper::Request::builder()
        .method(method)
        .uri(target)
        .header("host", host)
        .header("content-type", content_type)
        .header("x-paramedic-actor", actor())
        .body(body)?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX);
    let bytes = body.collect().await.map_err(|error| anyhow::anyhow!("the answer could not be read: {error}"))?.to_bytes();
    driver.abort();
    Ok((status, bytes.to_vec()))
}

/// Who asks: written into the journal with every change. Nobody is a name that may not approve anything.
pub(crate) fn actor() -> String {
    let named = ["PARAMEDIC_ACTOR", "USER", "LOGNAME"].into_iter().filter_map(|name| std::env::var(name).ok());
    let plain = |name: String| name.chars().filter(char::is_ascii_graphic).take(64).collect::<String>();
    named.map(plain).find(|name| !name.is_empty()).unwrap_or_else(|| "anonymous".to_owned())
}

async fn in_process(context: &Arc<paramedic_api::Context>, operation: &Operation, input: Value) -> Result<Vec<u8>> {
    let input = match (operation.method, input) {
        (Method::Get, Value::Object(fields)) => Input::Query(to_query(&fields)),
        (Method::Get, _) => Input::Query(String::new()),
        (Method::Post, input) => Input::Json(input),
    };
    operation.call(context.clone(), Caller { actor: actor() }, input).await.map_err(|error| {
        let exit = exit_of(error.code.status().as_u16());
        Failure::new(exit, error.message, in_verbs(&error.hint)).into()
    })
}

fn refusal(status: u16, body: &[u8]) -> Failure {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    if let (Some(kind), Some(what)) = (answer["errorType"].as_str(), answer["error"].as_str()) {
        // An error in Prometheus's form; a query that took too long is no instance that is not there.
        let exit = if kind == "unavailable" { Exit::Unreachable } else { Exit::Failed };
        return Failure::new(exit, what, if kind == "timeout" { "ask for less: a shorter range, a larger step, fewer series" } else { "" });
    }
    let text = |key: &str| answer["error"][key].as_str().unwrap_or_default().to_owned();
    let what = if text("message").is_empty() { format!("the instance answered {status}") } else { text("message") };
    Failure::new(exit_of(status), what, in_verbs(&text("hint")))
}

/// The API's hints speak of its own paths; here the same is done with verbs.
fn in_verbs(hint: &str) -> String {
    hint.replace("GET /api/v1/agents lists", "paramedic agents --all lists")
        .replace("GET /api/v1/incidents lists", "paramedic incidents lists")
        .replace("GET /api/v1/rules/list lists", "paramedic rules list lists")
        .replace("GET /api/v1/runbooks lists", "paramedic runbook list lists")
        .replace("GET /api/v1/runs lists", "paramedic runs lists")
        .replace("GET /api/v1/actions lists the arguments of each action", "paramedic action show NAME lists its arguments")
        .replace("GET /api/v1/actions lists", "paramedic action list lists")
        .replace("GET /api/v1/switches lists all switches with their values", "paramedic switch known lists all switches")
        .replace("GET /api/v1/switches lists", "paramedic switch list lists")
        .replace("GET /api/v1/gateway/breakers lists", "paramedic breaker list lists")
        .replace("GET /api/v1/gateway/faults shows", "paramedic fault show shows")
        .replace("GET /api/v1/brake says", "paramedic brake says")
        .replace("GET /flags lists", "paramedic flag list lists")
        .replace(
            "say who you are with the header x-paramedic-actor (the command line takes $PARAMEDIC_ACTOR, else your user name)",
            "say who you are: set PARAMEDIC_ACTOR to your name",
        )
}

const fn exit_of(status: u16) -> Exit {
    match status {
        404 => Exit::NotFound,
        403 | 409 => Exit::Refused,
        503 => Exit::Unreachable,
        _ => Exit::Failed,
    }
}

/// Moves path parameters from the fields into the path.
fn fill_path(operation: &Operation, mut fields: serde_json::Map<String, Value>) -> (String, serde_json::Map<String, Value>) {
    let mut path = operation.template();
    for name in operation.path_parameters() {
        let value = fields.shift_remove(name).map(|value| plain(&value)).unwrap_or_default();
        // A slash is a part of the name, unless the name takes the rest of the path.
        let takes_slashes = operation.path.contains(&format!("{{*{name}}}"));
        path = path.replace(&format!("{{{name}}}"), &escape(&value, if takes_slashes { b"/" } else { b"" }));
    }
    (path, fields)
}

fn to_query(fields: &serde_json::Map<String, Value>) -> String {
    let pairs = fields.iter().filter(|(_, value)| !value.is_null());
    pairs.map(|(name, value)| format!("{}={}", escape(name, b""), escape(&plain(value), b""))).collect::<Vec<_>>().join("&")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Percent-encoding (RFC 3986) of everything but unreserved characters and `also`.
pub(crate) fn escape(text: &str, also: &[u8]) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || also.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

/// The data folder that verbs about files of it use.
pub(crate) fn data_dir(common: &Common) -> Result<PathBuf> {
    settings(common)?.data_dir().map_err(|error| anyhow::anyhow!("failed to {error}"))
}

/// Whether a path exists, with a clear message if not.
pub(crate) fn must_exist(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    Err(Failure::new(Exit::NotFound, format!("{} does not exist", path.display()), "check the path").into())
}
