//! One request to a target: from a URL to a bounded body.

use std::io::Read;
use std::time::Duration;

use paramedic_model::secret::mask;
use paramedic_model::text::head;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::config::{Job, Secret};
use super::target::Planned;
use crate::exposition::Format;

/// What Prometheus 3 asks for, without the binary format.
const ACCEPTED: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
/// Bytes of a file with a token or certificates.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of an error that are shown.
const ERROR_BYTES_MAX: usize = 500;
/// Connections of one job that stay open without use.
const IDLE_MAX: usize = 2;

/// Why there is no body; the text is masked and bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: &'static str,
    pub(super) what: String,
}

impl Failure {
    pub(super) fn new(reason: &'static str, what: &str) -> Self {
        Self { reason, what: mask(head(what, ERROR_BYTES_MAX)).into_owned() }
    }

    fn of(error: reqwest::Error) -> Self {
        let reason = if error.is_timeout() {
            "timeout"
        } else if error.is_body() || error.is_decode() {
            "body"
        } else {
            "connect"
        };
        let error = error.without_url();
        let mut what = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            what = format!("{what}: {cause}");
            source = cause.source();
        }
        Self::new(reason, &what)
    }
}

/// Builds the client of a job: its targets share connections, certificates and rules about redirects.
pub(super) fn client(job: &Job) -> Result<reqwest::Client, Failure> {
    let redirects = if job.follow_redirects { reqwest::redirect::Policy::limited(10) } else { reqwest::redirect::Policy::none() };
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("paramedic/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(redirects)
        .pool_max_idle_per_host(IDLE_MAX)
        .tls_danger_accept_invalid_certs(job.tls_skip_verify);
    if let Some(path) = &job.tls_ca_file {
        let read = read_file(path).map_err(|what| Failure::new("credentials", &what))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&read).map_err(Failure::of)?;
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(Failure::of)
}

/// Asks a target once; the whole answer must come within its timeout.
pub(super) async fn fetch(client: &reqwest::Client, job: &Job, planned: &Planned) -> Result<(Vec<u8>, Format), Failure> {
    let timeout = Duration::from_millis(planned.timeout_ms.unsigned_abs());
    match tokio::time::timeout(timeout, ask(client, job, planned)).await {
        Ok(answer) => answer,
        Err(_) => Err(Failure::new("timeout", &format!("no whole answer within {} s", timeout.as_secs_f64()))),
    }
}

async fn ask(client: &reqwest::Client, job: &Job, planned: &Planned) -> Result<(Vec<u8>, Format), Failure> {
    let headers = headers(job, planned.timeout_ms)?;
    let mut request = client.get(planned.url.clone()).headers(headers);
    if let Some(auth) = &job.basic_auth {
        let password = match &auth.password_file {
            Some(path) => secret_file(path)?.0,
            None => auth.password.0.clone(),
        };
        request = request.basic_auth(&auth.username, Some(password));
    } else if let Some(token) = token(job)? {
        request = request.bearer_auth(token.0);
    }
    let mut response = request.send().await.map_err(Failure::of)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(Failure::new("status", &format!("the target answered {}", response.status())));
    }
    let named = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default().to_owned();
    let (content_type, encoding) = (named(CONTENT_TYPE), named(CONTENT_ENCODING).to_ascii_lowercase());
    let format = Format::of_content_type(&content_type).map_err(|error| Failure::new("content-type", &error.to_string()))?;
    let allowed = job.body_bytes_max;
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(Failure::of)? {
        body.extend_from_slice(&part);
        if body.len() as u64 > allowed {
            return Err(too_large(allowed));
        }
    }
    match encoding.as_str() {
        "" | "identity" => Ok((body, format)),
        "gzip" | "x-gzip" => Ok((inflate(&body, allowed)?, format)),
        _ => Err(Failure::new("body", &format!("the answer is compressed with {encoding}"))),
    }
}

fn headers(job: &Job, timeout_ms: i64) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    if let Ok(seconds) = HeaderValue::from_str(&(timeout_ms as f64 / 1_000.0).to_string()) {
        headers.insert(HeaderName::from_static("x-prometheus-scrape-timeout-seconds"), seconds);
    }
    for (name, value) in &job.headers {
        let bad = || Failure::new("credentials", &format!("the header {name:?} cannot be sent"));
        let mut value = HeaderValue::from_str(&value.0).map_err(|_| bad())?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?, value);
    }
    Ok(headers)
}

fn token(job: &Job) -> Result<Option<Secret>, Failure> {
    match &job.bearer_token_file {
        Some(path) => secret_file(path).map(Some),
        None => Ok(job.bearer_token.clone()),
    }
}

fn secret_file(path: &str) -> Result<Secret, Failure> {
    let bytes = read_file(path).map_err(|what| Failure::new("credentials", &what))?;
    Ok(Secret(String::from_utf8_lossy(&bytes).trim().to_owned()))
}

fn read_file(path: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    read.map_err(|error| format!("read {path}: {error}"))?;
    Ok(bytes)
}

/// Never writes more than allowed: a few kilobytes can unpack to gigabytes.
fn inflate(packed: &[u8], allowed: u64) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let read = flate2::read::MultiGzDecoder::new(packed).take(allowed.saturating_add(1)).read_to_end(&mut body);
    if body.len() as u64 > allowed {
        return Err(too_large(allowed));
    }
    read.map_err(|error| Failure::new("body", &format!("the compressed answer is damaged: {error}")))?;
    Ok(body)
}

fn too_large(allowed: u64) -> Failure {
    Failure::new("limit", &format!("the answer is larger than body_bytes_max = {allowed}"))
}
