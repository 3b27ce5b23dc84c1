//! What the headers of an answer say about the provider's limits
//! (<https://docs.claude.com/en/api/rate-limits#response-headers>).
//!
//! A value that cannot be understood counts as absent: headers are hints.

use std::borrow::Cow;
use std::time::Duration;

use hyper::HeaderMap;
use paramedic_model::limit::ID_BYTES_MAX;
use paramedic_model::{Timestamp, text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Windows of a subscription that are kept of one answer.
const WINDOWS_MAX: usize = 8;
const WINDOW_NAME_BYTES_MAX: usize = 24;
const WORD_BYTES_MAX: usize = 64;
/// A longer wait, or a later reset, is a mistake of somebody.
const WAIT_MAX: Duration = Duration::from_secs(366 * 86_400);
/// Larger numbers are milliseconds, not seconds.
const UNIX_SECONDS_MAX: f64 = 1e11;

macro_rules! buckets {
    ($($name:ident = $text:literal),* $(,)?) => {
        /// What a limit counts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "kebab-case")]
        pub enum BucketName { $($name),* }

        impl BucketName {
            pub const ALL: &[Self] = &[$(Self::$name),*];

            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            fn of(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)* _ => None }
            }
        }
    };
}

buckets! {
    Requests = "requests",
    Tokens = "tokens",
    InputTokens = "input-tokens",
    OutputTokens = "output-tokens",
    PriorityRequests = "priority-requests",
    PriorityTokens = "priority-tokens",
    PriorityInputTokens = "priority-input-tokens",
    PriorityOutputTokens = "priority-output-tokens",
    FastRequests = "fast-requests",
    FastTokens = "fast-tokens",
    FastInputTokens = "fast-input-tokens",
    FastOutputTokens = "fast-output-tokens",
}

/// One limit of the provider, as the answer's headers told it: so many in a minute, given back bit by bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    pub name: BucketName,
    pub limit: Option<u64>,
    pub remaining: Option<u64>,
    /// When all of it is there again, if nothing is used until then.
    pub resets_at: Option<Timestamp>,
}

impl Bucket {
    /// What is there at `now` of what was told at `at`, if nothing was used since.
    #[must_use]
    pub fn remaining_at(&self, at: Timestamp, now: Timestamp) -> Option<u64> {
        let remaining = self.remaining?;
        let (Some(limit), Some(resets_at)) = (self.limit, self.resets_at) else { return Some(remaining) };
        let (whole, left) = (resets_at.since(at).as_secs_f64(), resets_at.since(now).as_secs_f64());
        if left <= 0.0 {
            return Some(limit.max(remaining));
        }
        let missing = limit.saturating_sub(remaining);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share of a count")]
        let still_missing = (missing as f64 * (left / whole).min(1.0)).ceil() as u64;
        Some(limit.saturating_sub(still_missing).max(remaining))
    }

    /// The part that is used, 0 to 1.
    #[must_use]
    pub fn used_share(&self) -> Option<f64> {
        share(self.limit?, self.remaining?)
    }
}

/// The part of `limit` that does not remain.
#[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
pub(super) fn share(limit: u64, remaining: u64) -> Option<f64> {
    (limit > 0).then(|| 1.0 - remaining.min(limit) as f64 / limit as f64)
}

/// The limits of a subscription.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UnifiedLimits {
    /// `allowed`, `allowed_warning`, `rejected`.
    pub status: Option<Box<str>>,
    pub resets_at: Option<Timestamp>,
    /// The window that decides: `five_hour`, `overage`.
    pub claim: Option<Box<str>>,
    /// Why nothing above the subscription may be used: `org_spend_cap_reached`.
    pub overage_disabled_reason: Option<Box<str>>,
    pub windows: Vec<UnifiedWindow>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct UnifiedWindow {
    /// `5h`, `7d`, `overage`.
    pub name: Box<str>,
    pub status: Option<Box<str>>,
    /// The part that is used; above 1 where more was used than there was.
    pub utilization: Option<f64>,
    pub resets_at: Option<Timestamp>,
}

/// All that the headers of one answer say.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    pub at: Timestamp,
    pub organization: Option<Box<str>>,
    pub buckets: Vec<Bucket>,
    pub unified: Option<Box<UnifiedLimits>>,
    pub retry_after: Option<Duration>,
}

/// The limit of which the largest part is used.
#[derive(Debug, Clone, PartialEq)]
pub struct MostUsed {
    /// `input-tokens`, `unified-5h`.
    pub name: Cow<'static, str>,
    pub share: f64,
    pub resets_at: Option<Timestamp>,
}

impl Limits {
    /// None when the headers say nothing of limits.
    #[must_use]
    pub fn read(headers: &HeaderMap, now: Timestamp) -> Option<Self> {
        let mut limits = Self { at: now, organization: None, buckets: Vec::new(), unified: None, retry_after: retry_after(headers, now) };
        for (name, value) in headers {
            let Some(name) = name.as_str().strip_prefix("anthropic-") else { continue };
            let Ok(value) = value.to_str() else { continue };
            limits.take(name, value.trim());
        }
        let says_something = !limits.buckets.is_empty() || limits.unified.is_some() || limits.retry_after.is_some();
        says_something.then_some(limits)
    }

    /// The limit that is nearest to its end.
    #[must_use]
    pub fn most_used(&self) -> Option<MostUsed> {
        let of_bucket = |bucket: &Bucket| {
            Some(MostUsed { name: bucket.name.as_str().into(), share: bucket.used_share()?, resets_at: bucket.resets_at })
        };
        let of_window = |window: &UnifiedWindow| {
            let rejected = window.status.as_deref() == Some("rejected");
            let share = window.utilization.or(rejected.then_some(1.0))?;
            Some(MostUsed { name: format!("unified-{}", window.name).into(), share, resets_at: window.resets_at })
        };
        let windows = self.unified.iter().flat_map(|unified| &unified.windows).filter_map(of_window);
        // Of equals the first: the order of the headers is the provider's.
        let larger = |most: MostUsed, next: MostUsed| if next.share > most.share { next } else { most };
        self.buckets.iter().filter_map(of_bucket).chain(windows).reduce(larger)
    }

    fn take(&mut self, name: &str, value: &str) {
        if name == "organization-id" {
            self.organization = Some(text::head(value, ID_BYTES_MAX).into());
            return;
        }
        let limited = name.strip_prefix("ratelimit-");
        if let Some(unified) = limited.and_then(|name| name.strip_prefix("unified-")) {
            return self.take_unified(unified, value);
        }
        let Some((bucket, field)) = limited.unwrap_or(name).rsplit_once('-') else { return };
        let Some(name) = BucketName::of(bucket) else { return };
        let (mut limit, mut remaining, mut resets_at) = (None, None, None);
        match field {
            "limit" => limit = count(value),
            "remaining" => remaining = count(value),
            "reset" => resets_at = moment(value, self.at),
            _ => return,
        }
        if limit.is_none() && remaining.is_none() && resets_at.is_none() {
            return;
        }
        let known = self.buckets.iter().position(|bucket| bucket.name == name).unwrap_or_else(|| {
            self.buckets.push(Bucket { name, limit: None, remaining: None, resets_at: None });
            self.buckets.len() - 1
        });
        let bucket = &mut self.buckets[known];
        bucket.limit = limit.or(bucket.limit);
        bucket.remaining = remaining.or(bucket.remaining);
        bucket.resets_at = resets_at.or(bucket.resets_at);
    }

    fn take_unified(&mut self, name: &str, value: &str) {
        let at = self.at;
        let unified = self.unified.get_or_insert_default();
        match name {
            "status" => unified.status = word(value),
            "reset" => unified.resets_at = moment(value, at),
            "representative-claim" => unified.claim = word(value),
            "overage-disabled-reason" => unified.overage_disabled_reason = word(value),
            _ => {
                let Some((window, field)) = name.rsplit_once('-') else { return };
                if !matches!(field, "status" | "utilization" | "reset") {
                    return;
                }
                let Some(window) = unified.window(window) else { return };
                match field {
                    "status" => window.status = word(value),
                    "utilization" => window.utilization = amount(value),
                    _ => window.resets_at = moment(value, at),
                }
            }
        }
    }
}

impl UnifiedLimits {
    fn window(&mut self, name: &str) -> Option<&mut UnifiedWindow> {
        let known = self.windows.iter().position(|window| &*window.name == name);
        if known.is_none() {
            if self.windows.len() == WINDOWS_MAX || name.len() > WINDOW_NAME_BYTES_MAX {
                return None;
            }
            self.windows.push(UnifiedWindow { name: name.into(), status: None, utilization: None, resets_at: None });
        }
        let last = self.windows.len() - 1;
        self.windows.get_mut(known.unwrap_or(last))
    }
}

/// `retry-after-ms`, else `retry-after` in seconds or as a date.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let of = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let wait = |seconds: f64| Duration::try_from_secs_f64(seconds).ok().filter(|wait| *wait <= WAIT_MAX);
    if let Some(wait) = of("retry-after-ms").and_then(amount).and_then(|millis| wait(millis / 1e3)) {
        return Some(wait);
    }
    let told = of("retry-after")?;
    if let Some(seconds) = amount(told) {
        return wait(seconds);
    }
    let date = httpdate::parse_http_date(told).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    let date = Timestamp::from_secs(i64::try_from(date.as_secs()).ok()?);
    Some(date.since(now)).filter(|wait| *wait <= WAIT_MAX)
}

fn amount(value: &str) -> Option<f64> {
    value.parse().ok().filter(|amount: &f64| amount.is_finite() && *amount >= 0.0)
}

fn count(value: &str) -> Option<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "such a cast saturates")]
    value.parse().ok().or_else(|| amount(value).map(|amount| amount as u64))
}

fn word(value: &str) -> Option<Box<str>> {
    (!value.is_empty()).then(|| text::head(value, WORD_BYTES_MAX).into())
}

/// RFC 3339, or seconds since 1970.
fn moment(value: &str, now: Timestamp) -> Option<Timestamp> {
    let unix = |number: f64| if number > UNIX_SECONDS_MAX { number / 1e3 } else { number };
    #[expect(clippy::cast_possible_truncation, reason = "such a cast saturates")]
    let moment = Timestamp::parse(value).or_else(|| amount(value).map(|number| Timestamp::from_micros((unix(number) * 1e6) as i64)))?;
    (moment.since(now) <= WAIT_MAX && now.since(moment) <= WAIT_MAX).then_some(moment)
}

#[cfg(test)]
mod tests;
