//! Requests to the API server, and what its answers mean.

use std::error::Error as _;
use std::time::Duration;

use paramedic_model::{secret, text};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::Settings;
use super::access::{Access, is_loopback};

/// An answer larger than this is not read.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Objects in one page of a list, and pages that are read.
const PAGE: usize = 500;
const PAGES_MAX: usize = 20;

/// Foreign words that are repeated.
const WORDS_BYTES_MAX: usize = 2_000;

/// Why the server did not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rejection {
    /// The status of the answer; 0 where there was none.
    pub(super) status: u16,
    /// The server's own words, without secrets.
    pub(super) why: String,
}

/// How a patch is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PatchType {
    Strategic,
    Merge,
    Json,
}

impl PatchType {
    const fn content_type(self) -> &'static str {
        match self {
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Json => "application/json-patch+json",
        }
    }
}

/// A request that changes one object.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) patch: Option<PatchType>,
    pub(super) body: Value,
}

impl Change {
    pub(super) const fn patch(path: String, patch: PatchType, body: Value) -> Self {
        Self { method: Method::PATCH, path, patch: Some(patch), body }
    }

    /// The request as a person reads it: no secret, one line.
    pub(super) fn exact(&self) -> String {
        let how = match self.patch {
            Some(patch) => format!(" ({})", patch.content_type()),
            None => String::new(),
        };
        masked(&format!("{} {}{how} {}", self.method, self.path, self.body))
    }

    /// The same change, to be refused by the server unless the object is still of this version.
    pub(super) fn only_if(mut self, version: &str) -> Self {
        match (&self.patch, self.body.as_array_mut()) {
            (Some(PatchType::Json), Some(operations)) => {
                operations.push(json!({"op": "add", "path": "/metadata/resourceVersion", "value": version}));
            }
            _ if self.method == Method::DELETE => self.body["preconditions"]["resourceVersion"] = json!(version),
            _ if self.method == Method::POST => {}
            _ => self.body["metadata"]["resourceVersion"] = json!(version),
        }
        self
    }
}

/// A connection to one cluster.
pub(super) struct Api {
    client: Client,
    server: String,
    token: Option<String>,
    pub(super) source: String,
}

impl Api {
    pub(super) fn connect(settings: &Settings) -> Result<Self, String> {
        let access = Access::find(settings)?;
        // Whoever comes first installs it; all install the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let timeout = Duration::from_secs(settings.timeout_s.max(1));
        let mut builder = Client::builder()
            .user_agent(concat!("paramedic/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(timeout.min(Duration::from_secs(10)))
            .timeout(timeout);
        if reqwest::Url::parse(&access.server).is_ok_and(|url| is_loopback(&url)) {
            builder = builder.no_proxy();
        }
        if let Some(authorities) = &access.authorities {
            let found = reqwest::Certificate::from_pem_bundle(authorities).unwrap_or_default();
            if found.is_empty() {
                return Err(format!("the certificate authority of {} is not PEM", access.source));
            }
            builder = builder.tls_certs_only(found);
        }
        if let Some(identity) = &access.identity {
            let wrong = |_| format!("the client certificate or key of {} is not PEM", access.source);
            builder = builder.identity(reqwest::Identity::from_pem(identity).map_err(wrong)?);
        }
        let client = builder.build().map_err(|error| format!("no client for {}: {}", access.source, reason(&error)))?;
        Ok(Self { client, server: access.server.trim_end_matches('/').to_owned(), token: access.token, source: access.source })
    }

    async fn ask(&self, method: Method, path: &str, query: &str, content: Option<(&str, &Value)>) -> Result<Value, Rejection> {
        let unheard = |why: String| Rejection { status: 0, why: format!("no answer from the server of {}: {why}", self.source) };
        let mut request = self.client.request(method, format!("{}{path}{query}", self.server)).header("accept", "application/json");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some((kind, body)) = content {
            request = request.header("content-type", kind).body(body.to_string());
        }
        let mut answer = request.send().await.map_err(|error| unheard(reason(&error)))?;
        let status = answer.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| unheard(reason(&error)))? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(unheard(format!("it is larger than {ANSWER_BYTES_MAX} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        let value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status.is_success() {
            return if value.is_object() { Ok(value) } else { Err(unheard("it is not JSON".to_owned())) };
        }
        let said = value["message"].as_str().map_or_else(|| String::from_utf8_lossy(&bytes), Into::into);
        let causes = value["details"]["causes"].as_array().into_iter().flatten().filter_map(|cause| cause["message"].as_str());
        // A disruption budget says which one it is only in the causes.
        let why = causes.filter(|cause| !said.contains(cause)).fold(said.to_string(), |all, cause| format!("{all} {cause}"));
        Err(Rejection { status: status.as_u16(), why: format!("the server answers {}: {}", status.as_u16(), words(&why)) })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Rejection> {
        self.ask(Method::GET, path, "", None).await
    }

    /// The object, or none where there is none.
    pub(super) async fn find(&self, path: &str) -> Result<Option<Value>, Rejection> {
        match self.get(path).await {
            Ok(found) => Ok(Some(found)),
            Err(rejection) if rejection.status == 404 => Ok(None),
            Err(rejection) => Err(rejection),
        }
    }

    /// Everything the selectors choose, page by page. More than can be looked at is refused, not cut off: a count that is too
    /// small would let a change through that is too large.
    pub(super) async fn list(&self, path: &str, selectors: &[(&str, &str)]) -> Result<Vec<Value>, Rejection> {
        let mut items = Vec::new();
        let mut next = String::new();
        for _ in 0..PAGES_MAX {
            let mut query = format!("?limit={PAGE}");
            for (name, value) in selectors.iter().chain([&("continue", next.as_str())]).filter(|(_, value)| !value.is_empty()) {
                query.push_str(&format!("&{name}={}", escaped(value)));
            }
            let mut page = self.ask(Method::GET, path, &query, None).await?;
            if let Value::Array(found) = page["items"].take() {
                items.extend(found);
            }
            page["metadata"]["continue"].as_str().unwrap_or_default().clone_into(&mut next);
            if next.is_empty() {
                return Ok(items);
            }
        }
        Err(Rejection { status: 0, why: format!("there are more than {} of them", PAGE * PAGES_MAX) })
    }

    /// How many there are, without reading them.
    pub(super) async fn count(&self, path: &str) -> Option<u64> {
        let page = self.ask(Method::GET, path, "?limit=1", None).await.ok()?;
        let seen = page["items"].as_array()?.len() as u64;
        Some(seen + page["metadata"]["remainingItemCount"].as_u64().unwrap_or(0))
    }

    /// What the server would make of a change, with all of its checks, and nothing stored.
    pub(super) async fn dry_run(&self, change: &Change) -> Result<Value, Rejection> {
        if change.method != Method::DELETE {
            return self.send(change, "?dryRun=All&fieldManager=paramedic").await;
        }
        // Where a deletion says its options in the body, the server does not look at those of the address.
        let mut trial = change.clone();
        trial.body["dryRun"] = json!(["All"]);
        self.send(&trial, "?dryRun=All").await
    }

    pub(super) async fn make(&self, change: &Change) -> Result<Value, Rejection> {
        let query = if change.method == Method::DELETE { "" } else { "?fieldManager=paramedic" };
        self.send(change, query).await
    }

    async fn send(&self, change: &Change, query: &str) -> Result<Value, Rejection> {
        let kind = change.patch.map_or("application/json", PatchType::content_type);
        self.ask(change.method.clone(), &change.path, query, Some((kind, &change.body))).await
    }
}

fn escaped(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    value.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The innermost cause, which is the one a person can act on.
fn reason(error: &reqwest::Error) -> String {
    let mut inner = error.source();
    while let Some(source) = inner.and_then(std::error::Error::source) {
        inner = Some(source);
    }
    match inner {
        _ if error.is_timeout() => "it took too long".to_owned(),
        Some(inner) => words(&inner.to_string()),
        None => "the request failed".to_owned(),
    }
}

/// Foreign words: without secrets, on one line, short.
pub(super) fn words(said: &str) -> String {
    text::head(&text::one_line(&secret::mask(said)), WORDS_BYTES_MAX).to_owned()
}

pub(super) fn masked(shown: &str) -> String {
    text::capped(&secret::mask(shown), 8 * WORDS_BYTES_MAX).into_owned()
}
