//! Sending a request and reading its answer.

use std::error::Error as _;
use std::net::SocketAddr;
use std::time::Duration;

use paramedic_model::{secret, text};
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use serde_json::Value;

use super::Settings;
use super::request::{BODY_BYTES_MAX, Request, address, is_metadata, shown_url};
use crate::spec::Effect;

const REDIRECTS_MAX: usize = 5;
const SECRET_BYTES_MAX: u64 = 16 * 1024;
const HEADER_BYTES_MAX: usize = 200;

/// What a server answered, fit to be kept.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: Option<String>,
    pub(super) location: Option<String>,
    /// JSON where it is whole JSON, else text.
    pub(super) body: Value,
    pub(super) bytes: usize,
    pub(super) is_truncated: bool,
}

/// Why there is no answer.
pub(super) struct Fault {
    pub(super) why: String,
    pub(super) may_have_arrived: bool,
}

impl Fault {
    fn before(why: impl Into<String>) -> Self {
        Self { why: why.into(), may_have_arrived: false }
    }
}

pub(super) async fn send(settings: &Settings, request: &Request) -> Result<Answer, Fault> {
    let client = client(settings, request).await?;
    let mut builder = client.request(request.method.clone(), request.url.clone()).headers(request.headers.clone());
    for (name, value) in secrets(settings, &request.host)? {
        builder = builder.header(name, value);
    }
    if let Some(body) = &request.body {
        builder = builder.body(body.clone());
    }
    let mut response = builder.send().await.map_err(|error| Fault {
        why: format!("{} gives no answer: {}", request.host, reason(&error)),
        may_have_arrived: !error.is_connect() && !error.is_builder(),
    })?;
    let status = response.status().as_u16();
    let header = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let content_type = header(reqwest::header::CONTENT_TYPE).map(|kind| text::head(&kind, HEADER_BYTES_MAX).to_owned());
    let location = header(reqwest::header::LOCATION)
        .map(|location| response.url().join(&location).map_or_else(|_| "an address that is none".to_owned(), |url| shown_url(&url)));
    let mut body = Vec::new();
    let mut is_truncated = false;
    // An answer that breaks off was still given: its status tells what was done.
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = BODY_BYTES_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            is_truncated = true;
            break;
        }
    }
    Ok(Answer { status, content_type, location, bytes: body.len(), body: shown(&body), is_truncated })
}

async fn client(settings: &Settings, request: &Request) -> Result<Client, Fault> {
    // Whoever comes first installs it; all install the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let timeout = Duration::from_secs(settings.timeout_s.max(1));
    let mut builder = Client::builder()
        .user_agent(concat!("paramedic/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(timeout.min(Duration::from_secs(10)))
        .timeout(timeout)
        .redirect(redirects(request));
    let is_here = request.host == "localhost" || address(&request.host).is_some_and(|address| address.is_loopback());
    if is_here {
        builder = builder.no_proxy();
    }
    // The name is looked up once, here: what was checked is what is asked. Where a proxy looks names up, ours may not be known.
    if address(&request.host).is_none() {
        let port = request.url.port_or_known_default().unwrap_or(443);
        let found = tokio::time::timeout(timeout, tokio::net::lookup_host((request.host.as_str(), port))).await;
        let found: Vec<SocketAddr> = found.ok().and_then(Result::ok).map(Iterator::collect).unwrap_or_default();
        if found.iter().any(|found| is_metadata(found.ip())) && !settings.hosts.contains(&request.host) {
            return Err(Fault::before(format!("{} leads to an address that gives this machine's own credentials away", request.host)));
        }
        if !found.is_empty() {
            builder = builder.resolve_to_addrs(request.url.host_str().unwrap_or(&request.host), &found);
        }
    }
    builder.build().map_err(|error| Fault::before(format!("no client: {}", reason(&error))))
}

/// A look may be led on within the same host, never to less secrecy; a change is never led on.
fn redirects(request: &Request) -> Policy {
    if request.effect() > Effect::Read {
        return Policy::none();
    }
    let first = request.url.clone();
    Policy::custom(move |attempt| {
        if attempt.previous().len() > REDIRECTS_MAX || !is_same_place(&first, attempt.url()) {
            return attempt.stop();
        }
        attempt.follow()
    })
}

fn is_same_place(first: &Url, next: &Url) -> bool {
    first.host_str() == next.host_str() && first.port_or_known_default() == next.port_or_known_default() && first.scheme() == next.scheme()
}

fn secrets(settings: &Settings, host: &str) -> Result<Vec<(HeaderName, HeaderValue)>, Fault> {
    let mut headers = Vec::new();
    for secret in settings.secrets.iter().filter(|secret| secret.host.eq_ignore_ascii_case(host)) {
        let wrong =
            |why: &dyn std::fmt::Display| Fault::before(format!("the secret header {} in {}: {why}", secret.header, secret.file.display()));
        let size = std::fs::metadata(&secret.file).map_err(|error| wrong(&error))?.len();
        if size > SECRET_BYTES_MAX {
            return Err(wrong(&"the file is too long"));
        }
        let value = std::fs::read_to_string(&secret.file).map_err(|error| wrong(&error))?;
        let name = HeaderName::from_bytes(secret.header.as_bytes()).map_err(|_| wrong(&"that is not a name of a header"))?;
        let mut value = HeaderValue::from_str(value.trim_end()).map_err(|_| wrong(&"it holds what no header may hold"))?;
        value.set_sensitive(true);
        headers.push((name, value));
    }
    Ok(headers)
}

/// JSON with its texts masked one by one, so that it stays JSON; anything else as text.
fn shown(body: &[u8]) -> Value {
    match serde_json::from_slice::<Value>(body) {
        Ok(mut value) => {
            mask(&mut value);
            value
        }
        Err(_) if body.is_empty() => Value::Null,
        Err(_) => Value::String(secret::mask(&String::from_utf8_lossy(body)).into_owned()),
    }
}

/// A flag's `key` is none.
fn names_secret(name: &str) -> bool {
    const ENDINGS: &[&str] = &["password", "passwd", "secret", "api_key", "apikey", "token", "private_key", "authorization", "credential"];
    let name = name.to_ascii_lowercase().replace('-', "_");
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

fn mask(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let std::borrow::Cow::Owned(masked) = secret::mask(text) {
                *text = masked;
            }
        }
        Value::Array(list) => list.iter_mut().for_each(mask),
        Value::Object(map) => {
            for (name, value) in map.iter_mut() {
                if value.is_string() && names_secret(name) {
                    *value = Value::String("***".to_owned());
                } else {
                    mask(value);
                }
            }
        }
        _ => {}
    }
}

/// The innermost cause, which is the one a person can act on.
fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it took too long".to_owned();
    }
    let mut inner = error.source();
    while let Some(source) = inner.and_then(std::error::Error::source) {
        inner = Some(source);
    }
    inner.map_or_else(|| "the request failed".to_owned(), |inner| crate::address::shown(&inner.to_string(), None))
}
