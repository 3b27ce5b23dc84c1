//! What a failed answer is, and what it says about trying again.

use std::time::Duration;

use hyper::HeaderMap;
use paramedic_model::{ApiErrorClass, Timestamp};

use super::limits;

/// Which kind of failure a status and the error's type are; none for an answer that is no failure.
#[must_use]
pub fn class_of(status: u16, error_type: Option<&str>) -> Option<ApiErrorClass> {
    use ApiErrorClass as Class;
    let by_type = match error_type {
        Some("overloaded_error") => Some(Class::Overloaded),
        Some("rate_limit_error") => Some(Class::RateLimit),
        Some("api_error") => Some(Class::Server),
        Some("timeout_error") => Some(Class::Timeout),
        Some("authentication_error" | "permission_error") => Some(Class::Authentication),
        Some("billing_error") => Some(Class::Billing),
        Some("not_found_error") => Some(Class::ModelNotFound),
        Some("request_too_large") => Some(Class::PromptTooLong),
        Some("invalid_request_error" | "conflict_error") => Some(Class::InvalidRequest),
        Some(_) | None => None,
    };
    let is_failure = status >= 400 || error_type.is_some();
    by_type.or_else(|| is_failure.then(|| Class::from_status(status)))
}

/// The API tells a prompt that is too long from other requests it cannot take by its message alone.
#[must_use]
pub fn is_prompt_too_long(message: &str) -> bool {
    message.starts_with("prompt is too long") || message.contains("exceed context limit")
}

/// What a failed answer says about trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetrySigns {
    /// `x-should-retry`, which goes before everything else.
    pub told: Option<bool>,
    /// `retry-after` or `retry-after-ms`.
    pub wait: Option<Duration>,
    /// The official clients try again after this status when nothing was told.
    pub usual: bool,
}

impl RetrySigns {
    #[must_use]
    pub fn may(&self) -> bool {
        self.told.unwrap_or(self.usual)
    }
}

#[must_use]
pub fn may_retry(status: u16, headers: &HeaderMap, now: Timestamp) -> RetrySigns {
    let told = match headers.get("x-should-retry").map(|value| value.as_bytes().trim_ascii()) {
        Some(b"true") => Some(true),
        Some(b"false") => Some(false),
        _ => None,
    };
    RetrySigns { told, wait: limits::retry_after(headers, now), usual: matches!(status, 408 | 409 | 429) || status >= 500 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_goes_before_the_status() {
        use ApiErrorClass as Class;
        for (status, error_type, class) in [
            (200, None, None),
            (200, Some("overloaded_error"), Some(Class::Overloaded)),
            (200, Some("something_new"), Some(Class::Unknown)),
            (429, Some("billing_error"), Some(Class::Billing)),
            (429, None, Some(Class::RateLimit)),
            (529, None, Some(Class::Overloaded)),
            (500, Some("api_error"), Some(Class::Server)),
            (418, Some("something_new"), Some(Class::InvalidRequest)),
            (413, Some("request_too_large"), Some(Class::PromptTooLong)),
            (304, None, None),
        ] {
            assert_eq!(class_of(status, error_type), class, "{status} {error_type:?}");
        }
    }

    #[test]
    fn what_is_told_goes_before_what_is_usual() {
        let signs = |status, name: &'static str, value: &'static str| {
            may_retry(status, &HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]), Timestamp::EPOCH)
        };
        assert!(!signs(529, "x-should-retry", "false").may());
        assert!(signs(400, "x-should-retry", "true").may());
        assert!(signs(529, "x-should-retry", "perhaps").may());
        assert!(!signs(401, "retry-after", "3").may());
        assert_eq!(signs(429, "retry-after", "3").wait, Some(Duration::from_secs(3)));
        assert_eq!(may_retry(200, &HeaderMap::new(), Timestamp::EPOCH), RetrySigns::default());
    }
}
