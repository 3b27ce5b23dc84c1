//! A request as a call describes it, checked before anything is sent.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use paramedic_model::{secret, text};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde_json::Value;

use super::Settings;
use crate::call::Call;
use crate::error::ActionError;
use crate::spec::Effect;

/// Bytes of a body, sent or received.
pub(super) const BODY_BYTES_MAX: usize = 256 * 1024;
const URL_BYTES_MAX: usize = 4_096;
const HEADERS_MAX: usize = 50;
const SHOWN_BYTES_MAX: usize = 400;
/// A part of a path that looks like a key is not shown from here on.
const KEY_BYTES_MIN: usize = 20;

/// Headers that belong to the connection, not to the caller.
const OURS: &[&str] = &[
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
];

pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) host: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<String>,
    pub(super) expect: Expect,
}

impl Request {
    pub(super) fn read(settings: &Settings, call: &Call) -> Result<Self, ActionError> {
        let method = call.text("method")?.to_ascii_uppercase();
        let method = match method.as_str() {
            "GET" => Method::GET,
            "HEAD" => Method::HEAD,
            "OPTIONS" => Method::OPTIONS,
            "POST" => Method::POST,
            "PUT" => Method::PUT,
            "PATCH" => Method::PATCH,
            "DELETE" => Method::DELETE,
            _ => return Err(call.fault("method", format!("{:?} is no method that may be used", text::head(&method, 20)))),
        };
        let url = call.text("url")?;
        if url.len() > URL_BYTES_MAX || url.contains(|letter: char| letter.is_control() || letter.is_whitespace()) {
            return Err(call.fault("url", "it is too long, or holds blanks or control characters"));
        }
        let url = Url::parse(&url).map_err(|error| call.fault("url", format!("it is not an address: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(call.fault("url", format!("{} is neither http nor https", url.scheme())));
        }
        let host = url.host_str().ok_or_else(|| call.fault("url", "it names no host"))?.trim_end_matches('.').to_ascii_lowercase();
        may_be_asked(&host, &settings.hosts).map_err(|why| ActionError::Refused { action: call.action.clone(), why })?;
        let mut headers = headers(call)?;
        let body = body(call, &mut headers)?;
        if body.is_some() && matches!(method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Err(call.fault("body", format!("{method} has none")));
        }
        let expect = Expect::parse(call.text_or_none("expect")?.as_deref().unwrap_or("2xx")).map_err(|why| call.fault("expect", why))?;
        Ok(Self { method, url, host, headers, body, expect })
    }

    pub(super) fn effect(&self) -> Effect {
        match self.method {
            Method::GET | Method::HEAD | Method::OPTIONS => Effect::Read,
            Method::DELETE => Effect::Destroy,
            _ => Effect::Write,
        }
    }

    /// What somebody types before something is deleted.
    pub(super) fn phrase(&self) -> String {
        format!("{} {}{}", self.method, self.host, shown_path(self.url.path()))
    }

    /// The method and the address without what is nobody's business.
    pub(super) fn shown(&self) -> String {
        format!("{} {}", self.method, shown_url(&self.url))
    }

    pub(super) fn is_plain(&self) -> bool {
        let is_here = self.host == "localhost" || address(&self.host).is_some_and(|address| address.is_loopback());
        self.url.scheme() == "http" && !is_here
    }

    pub(super) fn exact(&self) -> Vec<String> {
        let mut lines = vec![self.shown()];
        for (name, value) in &self.headers {
            lines.push(format!("{name}: {}", shown_header(name.as_str(), value)));
        }
        if let Some(body) = &self.body {
            lines.push(text::capped(&secret::mask(body), SHOWN_BYTES_MAX).into_owned());
        }
        lines
    }
}

/// The status codes of success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expect {
    words: String,
    ranges: Vec<RangeInclusive<u16>>,
}

impl Expect {
    fn parse(words: &str) -> Result<Self, String> {
        let range = |word: &str| -> Option<RangeInclusive<u16>> {
            if let Some(class) = word.strip_suffix("xx") {
                let class: u16 = class.parse().ok().filter(|class| (1..=5).contains(class))?;
                return Some(class * 100..=class * 100 + 99);
            }
            let code: u16 = word.parse().ok().filter(|code| (100..=599).contains(code))?;
            Some(code..=code)
        };
        let parts = words.split(',').map(str::trim);
        let ranges: Option<Vec<_>> = parts.map(|word| range(&word.to_ascii_lowercase())).collect();
        let ranges = ranges.ok_or_else(|| format!("{:?} is not like `200,204` or `2xx`", text::head(words, 60)))?;
        Ok(Self { words: words.to_owned(), ranges })
    }

    pub(super) fn holds(&self, status: u16) -> bool {
        self.ranges.iter().any(|range| range.contains(&status))
    }

    pub(super) fn shown(&self) -> &str {
        &self.words
    }
}

fn headers(call: &Call) -> Result<HeaderMap, ActionError> {
    let mut headers = HeaderMap::new();
    let given = match call.json_or_none("headers")? {
        None => return Ok(headers),
        Some(Value::Object(given)) if given.len() <= HEADERS_MAX => given,
        Some(_) => return Err(call.fault("headers", format!("it must be an object of at most {HEADERS_MAX} names and texts"))),
    };
    for (name, value) in given {
        let wrong = |why: &str| call.fault("headers", format!("{:?} {why}", text::head(&name, 60)));
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong("is not a name of a header"))?;
        if OURS.contains(&key.as_str()) {
            return Err(wrong("is set by the connection itself"));
        }
        let value = match value {
            Value::String(value) => value,
            Value::Number(value) => value.to_string(),
            _ => return Err(wrong("must be a text")),
        };
        let mut value = HeaderValue::from_str(&value).map_err(|_| wrong("holds what no header may hold"))?;
        value.set_sensitive(is_secret(key.as_str()));
        headers.insert(key, value);
    }
    Ok(headers)
}

fn body(call: &Call, headers: &mut HeaderMap) -> Result<Option<String>, ActionError> {
    let (body, kind) = match call.arguments.get("body") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(body)) if serde_json::from_str::<serde::de::IgnoredAny>(body).is_ok() => (body.clone(), "application/json"),
        Some(Value::String(body)) => (body.clone(), "text/plain; charset=utf-8"),
        Some(body) => (body.to_string(), "application/json"),
    };
    if body.len() > BODY_BYTES_MAX {
        return Err(call.fault("body", format!("it has {} bytes, more than {BODY_BYTES_MAX}", body.len())));
    }
    headers.entry(reqwest::header::CONTENT_TYPE).or_insert(HeaderValue::from_static(kind));
    Ok(Some(body))
}

pub(crate) fn is_secret(name: &str) -> bool {
    const WORDS: &[&str] = &["auth", "cookie", "token", "key", "secret", "password", "signature", "credential"];
    let name = name.to_ascii_lowercase();
    WORDS.iter().any(|word| name.contains(word))
}

fn shown_header(name: &str, value: &HeaderValue) -> String {
    if is_secret(name) {
        return "***".to_owned();
    }
    let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
    text::capped(&secret::mask(&value), SHOWN_BYTES_MAX).into_owned()
}

/// An address without user, password, and what looks like a key in its path or query. Hooks have their secret there.
pub(super) fn shown_url(url: &Url) -> String {
    let mut shown = url.clone();
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_fragment(None);
    shown.set_query(None);
    let origin = shown.origin().ascii_serialization();
    let user = if url.username().is_empty() && url.password().is_none() { "" } else { "(as a user) " };
    let query: Vec<String> = url
        .query_pairs()
        .map(|(name, value)| if is_secret(&name) || is_key(&value) { format!("{name}=***") } else { format!("{name}={value}") })
        .collect();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let line = format!("{user}{origin}{}{query}", shown_path(url.path()));
    text::one_line(&text::capped(&secret::mask(&line), SHOWN_BYTES_MAX)).into_owned()
}

fn shown_path(path: &str) -> String {
    let parts: Vec<String> =
        path.split('/').map(|part| if is_key(part) { format!("{}***", text::head(part, 4)) } else { part.to_owned() }).collect();
    parts.join("/")
}

/// Long, with small and big letters and digits: nobody gives such a name.
fn is_key(part: &str) -> bool {
    part.len() >= KEY_BYTES_MIN
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'~' | b'='))
        && part.bytes().any(|byte| byte.is_ascii_lowercase())
        && part.bytes().any(|byte| byte.is_ascii_uppercase())
        && part.bytes().any(|byte| byte.is_ascii_digit())
}

/// The address that a host is, where it is one.
pub(super) fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Machines in a cloud answer there with their own credentials.
pub(super) fn is_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => {
            let (first, second) = (address.segments()[0], address.segments()[1]);
            address.is_unicast_link_local()
                || (first == 0xfd00 && second == 0x0ec2)
                || address.to_ipv4_mapped().is_some_and(|address| address.is_link_local())
        }
    }
}

fn may_be_asked(host: &str, allowed: &[String]) -> Result<(), String> {
    let is_listed = allowed.iter().any(|one| {
        let one = one.to_ascii_lowercase();
        one == host || (one.starts_with('.') && host.ends_with(&one))
    });
    if !allowed.is_empty() && !is_listed {
        return Err(format!("{host} is not in the setting action.http.hosts"));
    }
    let is_metadata = address(host).is_some_and(is_metadata) || host == "metadata.google.internal";
    if is_metadata && !is_listed {
        return Err(format!("{host} gives this machine's own credentials away"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(hosts: &[&str], call: Call) -> Result<Request, ActionError> {
        let settings = Settings { hosts: hosts.iter().map(|host| (*host).to_owned()).collect(), ..Settings::default() };
        Request::read(&settings, &call)
    }

    fn get(url: &str) -> Call {
        Call::new("http.request").with("method", "get").with("url", url)
    }

    #[test]
    fn only_allowed_hosts_are_asked() {
        let check = |hosts: &[&str], url: &str, expect: bool| assert_eq!(read(hosts, get(url)).is_ok(), expect, "{hosts:?} {url}");
        check(&[], "https://any.example/x", true);
        check(&["flags.local", ".corp.example"], "http://FLAGS.local:8080/x", true);
        check(&["flags.local", ".corp.example"], "http://a.corp.example/", true);
        check(&["flags.local", ".corp.example"], "http://corp.example/", false);
        check(&["flags.local", ".corp.example"], "http://evilcorp.example/", false);
        check(&["flags.local"], "http://flags.local@evil.example/", false);
        check(&["flags.local"], "http://flags.local.evil.example/", false);
        for url in [
            "http://169.254.169.254/latest/meta-data/",
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "http://[::ffff:169.254.169.254]/",
            "http://[fd00:ec2::254]/",
            "http://[fe80::1]/",
            "http://metadata.google.internal/",
            "http://metadata.google.internal./",
        ] {
            check(&[], url, false);
        }
        check(&["169.254.169.254"], "http://169.254.169.254/", true);
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for url in ["ftp://x/", "file:///etc/passwd", "x", "", "http://", "http://a b/", "http://x/\r\nX: y", "javascript:alert(1)"] {
            assert!(read(&[], get(url)).is_err(), "{url}");
        }
        let with = |name: &str, value: Value| read(&[], get("http://x/").with(name, value)).is_err();
        assert!(with("method", "CONNECT".into()) && with("method", "GET /".into()) && with("body", "x".into()));
        for headers in
            [r#"{"Host":"y"}"#, r#"{"a b":"y"}"#, r#"{"x":"a\r\nb: c"}"#, r#"{"Transfer-Encoding":"chunked"}"#, "[]", r#"{"x":{}}"#]
        {
            assert!(with("headers", headers.into()), "{headers}");
        }
        for expect in ["", "2x", "6xx", "200-204", "abc", "99", "200,,204"] {
            assert_eq!(with("expect", expect.into()), !expect.is_empty(), "{expect}");
        }
    }

    #[test]
    fn expected_codes_are_lists_and_classes() {
        let check =
            |words: &str, status: u16, expect: bool| assert_eq!(Expect::parse(words).unwrap().holds(status), expect, "{words} {status}");
        check("2xx", 204, true);
        check("2xx", 302, false);
        check("200, 204", 204, true);
        check("200,204", 201, false);
        check("404,2XX", 404, true);
    }

    #[test]
    fn nothing_secret_is_shown() {
        let check = |url: &str, expect: &str| assert_eq!(read(&[], get(url)).unwrap().shown(), expect);
        check("https://me:hunter2@x.example/a?b=c#d", "GET (as a user) https://x.example/a?b=c");
        check("https://hooks.example/services/T0AB/B0CD/aB3dE5fG7hI9jK1lM3nO5pQ7", "GET https://hooks.example/services/T0AB/B0CD/aB3d***");
        check("https://x.example/a?api_key=abc&n=5", "GET https://x.example/a?api_key=***&n=5");
        let call = get("http://x/").with("method", "POST").with("headers", r#"{"X-Api-Key":"abc","Cookie":"s=1","Accept":"*/*"}"#);
        let exact = read(&[], call.with("body", r#"{"password":"hunter22"}"#)).unwrap().exact().join("\n");
        assert!(!exact.contains("abc") && !exact.contains("s=1") && !exact.contains("hunter22") && exact.contains("*/*"), "{exact}");
    }
}
