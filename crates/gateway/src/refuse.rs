//! Answers of our own: errors in the API's shape, with the signal that makes clients behave.
//!
//! What a client does with an error is decided by its status and two headers, more than by its words. A plain 429 or 503
//! makes an agent ask ten times more, for three minutes; `x-should-retry: false` ends it at the first, and the agent shows
//! our message; a `retry-after` of up to 60 seconds is waited for, a longer one ends the call at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{HeaderMap, Response, StatusCode};
use paramedic_model::Timestamp;
use serde_json::json;

use crate::policy::Window;
use crate::proxy::Body;

/// Clients wait at most so long when they are told to; what takes longer is final.
pub const WAIT_MAX: Duration = Duration::from_secs(60);
/// Says that the gateway acted, and by which switch.
pub const ACTED: HeaderName = HeaderName::from_static("x-paramedic");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
/// Bytes of a message, and of a switch's name in a header.
const MESSAGE_BYTES_MAX: usize = 1024;
const SWITCH_BYTES_MAX: usize = 256;

/// An error instead of an upstream's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    pub status: StatusCode,
    /// `permission_error`
    pub error_type: &'static str,
    pub message: String,
    pub retry_after: Option<Duration>,
    /// Said as `x-should-retry`, where it is said.
    pub should_retry: Option<bool>,
    /// The switch that refused: `blocked_user:ana@all`.
    pub switch: Option<String>,
    /// Added to the answer's. In a box, since refusals are passed about as errors.
    pub headers: Box<HeaderMap>,
}

fn word(window: Window) -> &'static str {
    match window {
        Window::Day => "daily",
        Window::Week => "weekly",
        Window::Month => "monthly",
    }
}

const TOO_MANY_REQUESTS: StatusCode = StatusCode::TOO_MANY_REQUESTS;
const UNAVAILABLE: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

impl Refusal {
    #[must_use]
    pub fn new(status: StatusCode, error_type: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, error_type, message, retry_after: None, should_retry: None, switch: None, headers: Box::default() }
    }

    fn finally(mut self) -> Self {
        self.should_retry = Some(false);
        self
    }

    #[must_use]
    pub fn by(mut self, switch: impl Into<String>) -> Self {
        self.switch = Some(switch.into());
        self
    }

    /// Somebody is blocked. Agents end at once with 403; that it is final is said for the others.
    #[must_use]
    pub fn blocked(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "permission_error", message).finally()
    }

    /// The money is spent until `reset`. The headers are those by which agents know a spending limit from a rate limit;
    /// two more would make them say their own words in place of ours, and are left out.
    #[must_use]
    pub fn budget(message: impl Into<String>, window: Window, reset: Timestamp, now: Timestamp) -> Self {
        let mut refusal = Self::new(TOO_MANY_REQUESTS, "billing_error", message).finally();
        refusal.retry_after = Some(reset.since(now));
        let reset = HeaderValue::from(reset.as_secs());
        let fixed = HeaderValue::from_static;
        for (name, value) in [
            ("anthropic-ratelimit-unified-status", fixed("rejected")),
            ("anthropic-ratelimit-unified-reset", reset.clone()),
            ("anthropic-ratelimit-unified-overage-reset", reset),
            ("anthropic-ratelimit-unified-overage-utilization", fixed("1")),
            ("anthropic-ratelimit-unified-overage-surpassed-threshold", fixed("1")),
            ("anthropic-ratelimit-unified-overage-period", fixed(word(window))),
            ("anthropic-ratelimit-unified-overage-disabled-reason", fixed("org_spend_cap_reached")),
        ] {
            refusal.headers.insert(HeaderName::from_static(name), value);
        }
        refusal
    }

    /// There is a limit on rates, and room again after a while. Up to a minute clients wait; a longer wait is final.
    #[must_use]
    pub fn wait(message: impl Into<String>, after: Duration) -> Self {
        Self::later(TOO_MANY_REQUESTS, "rate_limit_error", message, Some(after))
    }

    /// The upstream's breaker is open. 503, not 529: of a 529 agents ask three times within three seconds whatever is
    /// said; at a 503 they wait for the time that they are told, or end at once.
    #[must_use]
    pub fn breaker_open(message: impl Into<String>, opens_after: Option<Duration>) -> Self {
        Self::later(UNAVAILABLE, "overloaded_error", message, opens_after)
    }

    /// A call that cannot be served soon: it ends at once.
    #[must_use]
    pub fn fast_fail(message: impl Into<String>) -> Self {
        Self::later(UNAVAILABLE, "overloaded_error", message, None)
    }

    fn later(status: StatusCode, error_type: &'static str, message: impl Into<String>, after: Option<Duration>) -> Self {
        let mut refusal = Self::new(status, error_type, message);
        refusal.retry_after = after;
        refusal.should_retry = Some(after.is_some_and(|after| after <= WAIT_MAX));
        refusal
    }

    #[must_use]
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message).finally()
    }

    /// Agents know these words, and make their conversation shorter.
    #[must_use]
    pub fn prompt_too_long(tokens: u64, tokens_max: u64) -> Self {
        Self::invalid(format!("prompt is too long: {tokens} tokens > {tokens_max} maximum"))
    }

    /// Agents take other words at a 400 for a sign that a field is not known, and ask up to six times with fewer.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message).finally()
    }

    #[must_use]
    pub fn model_not_allowed(model: &str) -> Self {
        Self::invalid(format!("the model {model:?} is not allowed here"))
    }

    #[must_use]
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout_error", message)
    }

    #[must_use]
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "api_error", message)
    }

    /// The gateway itself failed.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "api_error", "Paramedic's gateway failed in this call")
    }

    /// More connections than are served at a time.
    #[must_use]
    pub fn too_many_connections() -> Self {
        let mut refusal = Self::new(UNAVAILABLE, "overloaded_error", "Paramedic's gateway has too many connections");
        refusal.retry_after = Some(Duration::from_secs(1));
        refusal.should_retry = Some(true);
        refusal
    }

    fn body(&self, id: &str) -> Bytes {
        let message = capped(&self.message, MESSAGE_BYTES_MAX);
        let body = json!({"type": "error", "error": {"type": self.error_type, "message": message}, "request_id": id});
        Bytes::from(body.to_string())
    }

    fn all_headers(&self, id: &str) -> HeaderMap {
        let mut headers = self.headers.as_ref().clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Ok(id) = HeaderValue::from_str(id) {
            headers.insert(REQUEST_ID, id);
        }
        if let Some(after) = self.retry_after {
            // Rounded up, so that nobody comes too early.
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs() + u64::from(after.subsec_nanos() > 0)));
        }
        if let Some(should) = self.should_retry {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static(if should { "true" } else { "false" }));
        }
        headers.insert(ACTED, acted("refused", self.switch.as_deref()));
        headers
    }

    /// The answer to a client. It is never an event stream, since nothing was streamed yet.
    #[must_use]
    pub fn answer(&self) -> Response<Body> {
        let id = request_id();
        let mut answer = Response::new(Body::whole(self.body(&id)));
        *answer.status_mut() = self.status;
        *answer.headers_mut() = self.all_headers(&id);
        answer
    }

    /// The answer as bytes of HTTP/1.1, after which the connection is closed.
    pub(crate) fn raw(&self) -> Vec<u8> {
        let id = request_id();
        let body = self.body(&id);
        let reason = self.status.canonical_reason().unwrap_or_default();
        let mut raw =
            format!("HTTP/1.1 {} {reason}\r\nconnection: close\r\ncontent-length: {}\r\n", self.status.as_u16(), body.len()).into_bytes();
        for (name, value) in &self.all_headers(&id) {
            raw.extend_from_slice(name.as_str().as_bytes());
            raw.extend_from_slice(b": ");
            raw.extend_from_slice(value.as_bytes());
            raw.extend_from_slice(b"\r\n");
        }
        raw.extend_from_slice(b"\r\n");
        raw.extend_from_slice(&body);
        raw
    }
}

/// `refused; switch=blocked_user:ana@all`: what the header says that tells who acted.
#[must_use]
pub fn acted(what: &str, switch: Option<&str>) -> HeaderValue {
    let text = switch.map_or_else(|| what.to_owned(), |switch| format!("{what}; switch={}", capped(switch, SWITCH_BYTES_MAX)));
    // Names may hold any letters; a header may not.
    let plain: String = text.chars().map(|letter| if letter == ' ' || letter.is_ascii_graphic() { letter } else { '?' }).collect();
    HeaderValue::try_from(plain).unwrap_or_else(|_| HeaderValue::from_static("acted"))
}

fn capped(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// `req_paramedic_` and a number that this process gives once. Requests that reach an upstream have the upstream's.
fn request_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let seed = u64::from(std::process::id()) << 32 | next;
    format!("req_paramedic_{:016x}{next:08x}", xxhash_rust::xxh3::xxh3_64(&seed.to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_says_what_clients_go_by() {
        let s = Duration::from_secs;
        let now = Timestamp::from_secs(1000);
        let cases = [
            (Refusal::blocked("no"), 403, "permission_error", Some("false"), None),
            (Refusal::budget("spent", Window::Day, Timestamp::from_secs(4600), now), 429, "billing_error", Some("false"), Some("3600")),
            (Refusal::wait("later", Duration::from_millis(1500)), 429, "rate_limit_error", Some("true"), Some("2")),
            (Refusal::wait("later", s(60)), 429, "rate_limit_error", Some("true"), Some("60")),
            (Refusal::wait("later", s(61)), 429, "rate_limit_error", Some("false"), Some("61")),
            (Refusal::breaker_open("open", Some(s(5))), 503, "overloaded_error", Some("true"), Some("5")),
            (Refusal::breaker_open("open", None), 503, "overloaded_error", Some("false"), None),
            (Refusal::fast_fail("slow"), 503, "overloaded_error", Some("false"), None),
            (Refusal::too_large("big"), 413, "request_too_large", Some("false"), None),
            (Refusal::model_not_allowed("m"), 400, "invalid_request_error", Some("false"), None),
            (Refusal::timeout("late"), 504, "timeout_error", None, None),
            (Refusal::unreachable("gone"), 502, "api_error", None, None),
        ];
        for (refusal, status, error_type, should_retry, retry_after) in cases {
            let answer = refusal.answer();
            let said = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap());
            assert_eq!(answer.status(), status);
            assert_eq!((said("x-should-retry"), said("retry-after")), (should_retry, retry_after), "{error_type} {status}");
            assert_eq!(said("x-paramedic"), Some("refused"));
            let body: serde_json::Value = serde_json::from_slice(&refusal.body("req_1")).unwrap();
            assert_eq!(body, json!({"type": "error", "error": {"type": error_type, "message": refusal.message}, "request_id": "req_1"}));
        }
    }

    #[test]
    fn a_spent_budget_has_the_headers_of_the_contract_and_not_the_two_that_hide_our_words() {
        let refusal = Refusal::budget("spent", Window::Month, Timestamp::from_secs(99), Timestamp::from_secs(9));
        let headers = refusal.answer().headers().clone();
        let said = |name: &str| headers.get(format!("anthropic-ratelimit-unified-{name}")).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(said("status").as_deref(), Some("rejected"));
        assert_eq!((said("reset").as_deref(), said("overage-reset").as_deref()), (Some("99"), Some("99")));
        assert_eq!(said("overage-period").as_deref(), Some("monthly"));
        assert_eq!((said("representative-claim"), said("overage-status")), (None, None));
    }

    #[test]
    fn a_switch_is_named_in_plain_letters() {
        assert_eq!(acted("refused", Some("blocked_user:ana@all")), "refused; switch=blocked_user:ana@all");
        assert_eq!(acted("refused", Some("a\r\nx: ü")), "refused; switch=a??x: ?");
        let raw = String::from_utf8(Refusal::blocked("no").by("k\r\nevil: 1").raw()).unwrap();
        assert!(raw.starts_with("HTTP/1.1 403 Forbidden\r\n") && !raw.contains("\nevil"), "{raw}");
        assert_ne!(request_id(), request_id());
    }
}
