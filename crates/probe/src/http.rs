//! HTTP endpoints, with the phases really measured: resolve, connect, TLS, processing, transfer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri, Version, body::Incoming};
use hyper_util::rt::TokioIo;
use paramedic_model::Timestamp;
use regex::Regex;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::{HttpSettings, StatusPattern};
use crate::error::{Failure, ProbeError};
use crate::plan::{Identity, Looking, Opened, Probe, from_env};
use crate::reading::Reading;
use crate::tls::{self, Trust};
use crate::wire::{self, Driver, Place};

/// Bytes of a connection's buffer, and so of an answer's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const PHASES: [&str; 5] = ["resolve", "connect", "tls", "processing", "transfer"];

pub(crate) fn open(settings: &HttpSettings) -> Result<Opened, ProbeError> {
    let mut shown: String = settings.url.chars().take_while(|c| !matches!(c, '?' | '#')).collect();
    if shown.contains('@') {
        shown = "with a user in its URL".to_owned();
    }
    let target = || format!("http target {shown}");
    let wrong = |key, reason: &dyn std::fmt::Display| ProbeError::setting(target(), key, reason);
    let url = read_url(&settings.url).map_err(|reason| wrong("url", &reason))?;
    let method = Method::from_bytes(settings.method.as_bytes()).map_err(|err| wrong("method", &err))?;
    let mut headers = HeaderMap::new();
    for (name, value) in &settings.headers {
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|err| wrong("headers", &format_args!("{name:?}: {err}")))?;
        let value = HeaderValue::from_str(&value.0).map_err(|err| wrong("headers", &format_args!("{name:?}: {err}")))?;
        headers.insert(header, value);
    }
    if let Some(variable) = &settings.bearer_env {
        let token = from_env(&target(), "bearer_env", variable)?;
        let value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|err| wrong("bearer_env", &err))?;
        headers.insert(hyper::header::AUTHORIZATION, value);
    }
    if let Some(pattern) = settings.expect_status.iter().find(|pattern| !pattern.is_valid()) {
        return Err(wrong("expect_status", &format_args!("{pattern:?} is neither a status nor a class such as \"2xx\"")));
    }
    let regex = |key, text: &Option<String>| text.as_deref().map(Regex::new).transpose().map_err(|err| wrong(key, &err));
    let expect_body = regex("expect_body", &settings.expect_body)?;
    let refuse_body = regex("refuse_body", &settings.refuse_body)?;
    let trust = Trust::of(settings.ca_file.as_deref(), settings.insecure).map_err(|reason| wrong("ca_file", &reason))?;
    let body = settings.body.as_ref().map_or_else(Bytes::new, |body| Bytes::from(body.0.clone()));
    let (body_bytes_max, redirects_max) = (settings.body_bytes_max, settings.redirects_max);
    let client = Client { body, body_bytes_max, redirects_max, ..Client::new(trust, method, headers) };
    let identity = Identity { instance: shown.clone(), address: shown.clone() };
    Ok((identity, Box::new(Http { url, client, expect_status: settings.expect_status.clone(), expect_body, refuse_body })))
}

pub(crate) fn read_url(text: &str) -> Result<Uri, String> {
    let url: Uri = text.parse().map_err(|err| format!("is not a URL: {err}"))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none_or(str::is_empty) {
        return Err("must begin with `http://` or `https://` and a host".to_owned());
    }
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("holds a user; use `headers` or `bearer_env`".to_owned());
    }
    Ok(url)
}

struct Http {
    url: Uri,
    client: Client,
    expect_status: Vec<StatusPattern>,
    expect_body: Option<Regex>,
    refuse_body: Option<Regex>,
}

impl Probe for Http {
    fn look<'a>(&'a mut self, _now: Timestamp, reading: &'a mut Reading) -> Looking<'a> {
        Box::pin(async move {
            let answer = self.client.fetch(&self.url, reading).await?;
            let is_right = match self.expect_status.as_slice() {
                [] => (200..300).contains(&answer.status),
                wanted => wanted.iter().any(|pattern| pattern.matches(answer.status)),
            };
            let text = String::from_utf8_lossy(&answer.body);
            let is_missing = self.expect_body.as_ref().is_some_and(|wanted| !wanted.is_match(&text));
            let is_refused = self.refuse_body.as_ref().is_some_and(|refused| refused.is_match(&text));
            if self.expect_body.is_some() || self.refuse_body.is_some() {
                reading.gauge("probe_failed_due_to_regex", f64::from(u8::from(is_missing || is_refused)));
            }
            if !is_right {
                return Err(Failure::new(format_args!("status {} is not expected", answer.status)));
            }
            if is_missing {
                return Err(Failure::new("the body does not match `expect_body`"));
            }
            if is_refused {
                return Err(Failure::new("the body matches `refuse_body`"));
            }
            Ok(())
        })
    }

    fn cut(&mut self, reading: &mut Reading) -> Option<&'static str> {
        self.client.cut(reading)
    }
}

/// How requests are made.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) trust: Trust,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) body_bytes_max: usize,
    pub(crate) redirects_max: u32,
    progress: Progress,
}

/// An answer, after all redirects.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// At most the bytes that the settings allow.
    pub(crate) body: Bytes,
    location: Option<String>,
}

/// How far a request has come: seconds of each phase over all redirects, and what was learnt of the last server asked.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    phases: [Duration; 5],
    under_way: Option<(usize, Instant)>,
    facts: BTreeMap<&'static str, f64>,
}

impl Progress {
    fn begin(&mut self, phase: usize) {
        self.end();
        self.under_way = Some((phase, Instant::now()));
    }

    fn end(&mut self) {
        if let Some((phase, begun)) = self.under_way.take() {
            self.phases[phase] += begun.elapsed();
        }
    }

    fn learn(&mut self, metric: &'static str, value: f64) {
        self.facts.insert(metric, value);
    }

    /// Tells the phases and facts, and gives the name of the phase that did not end.
    fn tell(&mut self, reading: &mut Reading) -> Option<&'static str> {
        let unfinished = self.under_way.map(|(phase, _)| PHASES[phase]);
        self.end();
        for (phase, took) in PHASES.iter().zip(self.phases) {
            reading.add("probe_http_duration_seconds", &[("phase", phase)], took.as_secs_f64());
        }
        for (metric, value) in &self.facts {
            reading.gauge(metric, *value);
        }
        unfinished
    }
}

impl Client {
    pub(crate) fn new(trust: Trust, method: Method, headers: HeaderMap) -> Self {
        let progress = Progress::default();
        Self { trust, method, headers, body: Bytes::new(), body_bytes_max: 64 * 1024, redirects_max: 0, progress }
    }

    /// Requests the URL and what it redirects to. The phases are told even when it fails on the way.
    pub(crate) async fn fetch(&mut self, url: &Uri, reading: &mut Reading) -> Result<Answer, Failure> {
        self.progress = Progress::default();
        let fetched = self.follow(url).await;
        self.progress.tell(reading);
        fetched
    }

    /// Tells how far the request came that was cut, and gives the phase it was in.
    pub(crate) fn cut(&mut self, reading: &mut Reading) -> Option<&'static str> {
        std::mem::take(&mut self.progress).tell(reading)
    }

    async fn follow(&mut self, url: &Uri) -> Result<Answer, Failure> {
        let mut here = url.clone();
        let mut redirects = 0;
        loop {
            self.progress.learn("probe_http_redirects", f64::from(redirects));
            let is_home = here.authority() == url.authority() && here.scheme() == url.scheme();
            let answer = self.request(&here, is_home).await?;
            let next = answer.location.as_deref().filter(|_| matches!(answer.status, 301 | 302 | 303 | 307 | 308));
            let Some(next) = next.filter(|_| redirects < self.redirects_max) else { return Ok(answer) };
            here = redirected(&here, next)?;
            redirects += 1;
        }
    }

    async fn request(&mut self, url: &Uri, is_home: bool) -> Result<Answer, Failure> {
        let is_encrypted = url.scheme_str() == Some("https");
        let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = url.port_u16().unwrap_or(if is_encrypted { 443 } else { 80 });
        self.progress.begin(0);
        let (addresses, took) = wire::resolve(&host, port).await?;
        self.progress.learn("probe_dns_lookup_time_seconds", took.as_secs_f64());
        self.progress.begin(1);
        let (stream, address, _) = wire::connect(&addresses).await?;
        self.progress.learn("probe_ip_protocol", if address.is_ipv6() { 6.0 } else { 4.0 });
        self.progress.learn("probe_http_ssl", f64::from(u8::from(is_encrypted)));
        if !is_encrypted {
            return self.exchange(stream, url, is_home).await;
        }
        self.progress.begin(2);
        let (greeted, shown) = tls::greet(&self.trust, &host, stream).await;
        if let Some(expiry) = shown.earliest_expiry {
            self.progress.learn("probe_ssl_earliest_cert_expiry", expiry.as_secs() as f64);
        }
        self.exchange(greeted?, url, is_home).await
    }

    async fn exchange<S>(&mut self, stream: S, url: &Uri, is_home: bool) -> Result<Answer, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.progress.begin(3);
        let doing = |err: hyper::Error| Failure::of("get an answer", &err);
        let mut builder = hyper::client::conn::http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(doing)?;
        // The connection ends with this request; its own errors reach the request.
        let _driver = Driver::spawn(async move { drop(connection.await) });
        let response = sender.send_request(self.write_request(url, is_home)?).await.map_err(doing)?;
        self.progress.begin(4);
        let status = response.status().as_u16();
        self.progress.learn("probe_http_status_code", f64::from(status));
        self.progress.learn("probe_http_version", if response.version() == Version::HTTP_10 { 1.0 } else { 1.1 });
        let header = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let length = header(hyper::header::CONTENT_LENGTH).and_then(|value| value.parse::<u64>().ok());
        self.progress.learn("probe_http_content_length", length.map_or(-1.0, |length| length as f64));
        let location = header(hyper::header::LOCATION).map(str::to_owned);
        let body = read_body(response.into_body(), self.body_bytes_max).await?;
        self.progress.end();
        self.progress.learn("probe_http_uncompressed_body_length", body.len() as f64);
        Ok(Answer { status, body, location })
    }

    fn write_request(&self, url: &Uri, is_home: bool) -> Result<Request<Full<Bytes>>, Failure> {
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let authority = url.authority().map_or("", |authority| authority.as_str());
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(path)
            .header(hyper::header::HOST, authority)
            .header(hyper::header::USER_AGENT, concat!("paramedic/", env!("CARGO_PKG_VERSION")))
            .header(hyper::header::ACCEPT, "*/*")
            .body(Full::new(self.body.clone()))
            .map_err(|err| Failure::of("write the request", &err))?;
        // Keys and tokens are for the server that they were given for.
        if is_home {
            for (name, value) in &self.headers {
                request.headers_mut().insert(name.clone(), value.clone());
            }
        }
        Ok(request)
    }
}

/// Reads a body up to a limit; the rest is left with the connection, which ends.
async fn read_body(mut body: Incoming, bytes_max: usize) -> Result<Bytes, Failure> {
    let mut read = Vec::new();
    while read.len() < bytes_max
        && let Some(frame) = body.frame().await
    {
        let frame = frame.map_err(|err| Failure::of("read the body", &err))?;
        if let Some(data) = frame.data_ref() {
            read.extend_from_slice(&data[..data.len().min(bytes_max - read.len())]);
        }
    }
    Ok(read.into())
}

/// Where a redirect leads: a whole URL, a path, or a path beside the present one.
fn redirected(here: &Uri, location: &str) -> Result<Uri, Failure> {
    let (scheme, authority) = (here.scheme_str().unwrap_or("http"), here.authority().map_or("", |authority| authority.as_str()));
    let location = location.split('#').next().unwrap_or_default();
    let whole = if location.contains("://") {
        location.to_owned()
    } else if let Some(other) = location.strip_prefix("//") {
        format!("{scheme}://{other}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let folder = here.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    read_url(&whole).map_err(|reason| Failure::new(format_args!("follow a redirect: its place {reason}")))
}

/// Host and port of a URL, for labels.
pub(crate) fn place_of(url: &Uri) -> Option<Place> {
    Place::parse(url.authority()?.as_str(), Some(if url.scheme_str() == Some("https") { 443 } else { 80 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_followed_as_they_are_written() {
        let here: Uri = "https://a.example:8443/x/y?z=1".parse().unwrap();
        for (location, expected) in [
            ("http://b.example/", Some("http://b.example/")),
            ("//b.example/c", Some("https://b.example/c")),
            ("/c?d=1#e", Some("https://a.example:8443/c?d=1")),
            ("c", Some("https://a.example:8443/x/c")),
            ("file:///etc/passwd", None),
            ("https://user:secret@b.example/", None),
        ] {
            assert_eq!(redirected(&here, location).ok().map(|url| url.to_string()).as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn statuses_match_alone_or_as_a_class() {
        let class = |text: &str| StatusPattern::Class(text.to_owned());
        assert!(class("4xx").matches(404) && !class("4xx").matches(500) && class("404").matches(404));
        assert!(StatusPattern::Code(204).matches(204) && !StatusPattern::Code(204).matches(200));
        assert!(!class("axx").is_valid() && !class("").is_valid() && !StatusPattern::Code(7).is_valid());
    }
}
