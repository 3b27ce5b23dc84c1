//! The provider's limits as they were last told, for each key and class of models, and what was used of them in the last
//! minute.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use paramedic_model::limit::ID_BYTES_MAX;
use paramedic_model::{Timestamp, Usage, text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limits::{Bucket, BucketName, Limits, UnifiedWindow, share};

/// Keys and classes that are kept; the one that was silent for longest gives way.
pub(super) const ENTRIES_MAX: usize = 512;
const MINUTE_S: i64 = 60;
/// Of the name of a model that is none of the known ones.
const CLASS_BYTES_MAX: usize = 64;

/// What is asked of the provider in a minute.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rates {
    pub calls: f64,
    /// Those read from the provider's cache left out: they are not limited.
    pub input_tokens: f64,
    pub output_tokens: f64,
}

impl Rates {
    const fn of(self, name: BucketName) -> f64 {
        use BucketName as Name;
        match name {
            Name::Requests | Name::PriorityRequests | Name::FastRequests => self.calls,
            Name::Tokens | Name::PriorityTokens | Name::FastTokens => self.input_tokens + self.output_tokens,
            Name::InputTokens | Name::PriorityInputTokens | Name::FastInputTokens => self.input_tokens,
            Name::OutputTokens | Name::PriorityOutputTokens | Name::FastOutputTokens => self.output_tokens,
        }
    }
}

/// One key's limits for one class of models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LimitView {
    /// A keyed hash, or the name that the settings give.
    pub key: String,
    /// Models that share limits: `opus-4`, `sonnet-5-5`.
    pub model_class: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// When an answer last told of limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told_at: Option<Timestamp>,
    pub calls_last_minute: u64,
    pub input_tokens_last_minute: u64,
    pub output_tokens_last_minute: u64,
    /// The provider asked for a wait that is not over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_s: Option<u64>,
    pub buckets: Vec<BucketView>,
    /// `allowed`, `allowed_warning`, `rejected`: of a subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub windows: Vec<WindowView>,
    /// When the first limit is reached if calls go on as in the last minute; none when that is never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exhausted_in_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exhausted_first: Option<BucketName>,
}

/// One limit now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BucketView {
    pub name: BucketName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// As it was told, and what came back since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_to_reset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exhausted_in_s: Option<u64>,
}

/// One window of a subscription.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WindowView {
    /// `5h`, `7d`, `overage`.
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_to_reset: Option<u64>,
}

/// The latest limits of each key and class of models.
#[derive(Debug, Default)]
pub struct LimitBook {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: Vec<Entry>,
    /// Where each entry is, by key and class.
    places: HashMap<Box<str>, usize>,
    /// The name that is looked for, put together without a new allocation.
    name: String,
    dropped: u64,
}

#[derive(Debug)]
struct Entry {
    key: Box<str>,
    model_class: Box<str>,
    touched_at: Timestamp,
    limits: Option<Limits>,
    minute: Minute,
}

/// What was used, second by second.
#[derive(Debug)]
struct Minute {
    seconds: [Second; MINUTE_S as usize],
}

#[derive(Debug, Clone, Copy, Default)]
struct Second {
    at: i64,
    calls: u64,
    input_tokens: u64,
    output_tokens: u64,
}

impl LimitBook {
    /// An answer began: what its headers say replaces what was known.
    pub fn answered(&self, key: &str, model: &str, limits: Option<Limits>, now: Timestamp) {
        let mut inner = self.lock();
        let entry = inner.entry(key, model_class(model), now);
        entry.minute.second(now).calls += 1;
        match (limits, &mut entry.limits) {
            // A refusal that only asks for a wait takes nothing away from what is known of the limits.
            (Some(told), Some(known)) if told.buckets.is_empty() && told.unified.is_none() => {
                known.retry_after = told.retry_after.map(|wait| now.after(wait).since(known.at));
            }
            (Some(told), known) => *known = Some(told),
            (None, _) => {}
        }
    }

    /// An answer ended, and this is what it used.
    pub fn used(&self, key: &str, model: &str, usage: &Usage, now: Timestamp) {
        let mut inner = self.lock();
        let second = inner.entry(key, model_class(model), now).minute.second(now);
        let input = usage.input_tokens.saturating_add(usage.cache_creation_tokens);
        second.input_tokens = second.input_tokens.saturating_add(input);
        second.output_tokens = second.output_tokens.saturating_add(usage.output_tokens);
    }

    /// Seconds until the first limit of this key and model is reached at this rate, and which it is; none when none is
    /// known or none is ever reached, for what is used comes back faster.
    #[must_use]
    pub fn forecast(&self, key: &str, model: &str, now: Timestamp, rates: Rates) -> Option<(BucketName, u64)> {
        self.lock().find(key, model_class(model))?.first_exhausted(now, rates)
    }

    /// What the headers last said for this key and model.
    #[must_use]
    pub fn latest(&self, key: &str, model: &str) -> Option<Limits> {
        self.lock().find(key, model_class(model))?.limits.clone()
    }

    /// All keys and classes that were used in the last minute or have limits, by name.
    #[must_use]
    pub fn views(&self, now: Timestamp) -> Vec<LimitView> {
        let mut views: Vec<LimitView> = self.lock().entries.iter().map(|entry| entry.view(now)).collect();
        views.sort_by(|one, other| (&one.key, &one.model_class).cmp(&(&other.key, &other.model_class)));
        views
    }

    /// How many had to give way to others.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// A book that somebody left in the middle of a word is still the best there is.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// The place's name, in `self.name`.
    fn put_name(&mut self, key: &str, class: &str) {
        self.name.clear();
        self.name.push_str(text::head(key, ID_BYTES_MAX));
        self.name.push('\0');
        self.name.push_str(class);
    }

    fn find(&mut self, key: &str, class: &str) -> Option<&Entry> {
        self.put_name(key, class);
        self.entries.get(*self.places.get(self.name.as_str())?)
    }

    fn entry(&mut self, key: &str, class: &str, now: Timestamp) -> &mut Entry {
        self.put_name(key, class);
        let place = match self.places.get(self.name.as_str()) {
            Some(place) => *place,
            None => self.make_entry(key, class, now),
        };
        let entry = &mut self.entries[place];
        entry.touched_at = now;
        entry
    }

    fn make_entry(&mut self, key: &str, class: &str, now: Timestamp) -> usize {
        let entry = Entry {
            key: text::head(key, ID_BYTES_MAX).into(),
            model_class: class.into(),
            touched_at: now,
            limits: None,
            minute: Minute { seconds: [Second::default(); MINUTE_S as usize] },
        };
        let oldest = self.entries.iter().enumerate().min_by_key(|(_, entry)| entry.touched_at).map(|(place, _)| place);
        let place = match oldest {
            Some(oldest) if self.entries.len() >= ENTRIES_MAX => {
                self.places.retain(|_, place| *place != oldest);
                self.entries[oldest] = entry;
                self.dropped += 1;
                oldest
            }
            _ => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
        };
        self.places.insert(self.name.as_str().into(), place);
        place
    }
}

impl Entry {
    fn first_exhausted(&self, now: Timestamp, rates: Rates) -> Option<(BucketName, u64)> {
        let limits = self.limits.as_ref()?;
        let each = limits.buckets.iter().filter_map(|bucket| Some((bucket.name, exhausted_in_s(bucket, limits.at, now, rates)?)));
        each.min_by_key(|(_, seconds)| *seconds)
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
    fn view(&self, now: Timestamp) -> LimitView {
        let used = self.minute.sum(now);
        let rates = Rates { calls: used.calls as f64, input_tokens: used.input_tokens as f64, output_tokens: used.output_tokens as f64 };
        let first = self.first_exhausted(now, rates);
        let limits = self.limits.as_ref();
        let unified = limits.and_then(|limits| limits.unified.as_deref());
        let wait = limits.and_then(|limits| limits.retry_after.map(|wait| limits.at.after(wait).since(now).as_secs()));
        LimitView {
            key: self.key.to_string(),
            model_class: self.model_class.to_string(),
            organization: limits.and_then(|limits| limits.organization.as_deref()).map(str::to_owned),
            told_at: limits.map(|limits| limits.at),
            calls_last_minute: used.calls,
            input_tokens_last_minute: used.input_tokens,
            output_tokens_last_minute: used.output_tokens,
            wait_s: wait.filter(|wait| *wait > 0),
            buckets: limits
                .map(|limits| limits.buckets.iter().map(|bucket| bucket_view(bucket, limits.at, now, rates)).collect())
                .unwrap_or_default(),
            subscription: unified.and_then(|unified| unified.status.as_deref()).map(str::to_owned),
            windows: unified.map(|unified| unified.windows.iter().map(|window| window_view(window, now)).collect()).unwrap_or_default(),
            exhausted_in_s: first.map(|(_, seconds)| seconds),
            exhausted_first: first.map(|(name, _)| name),
        }
    }
}

fn bucket_view(bucket: &Bucket, at: Timestamp, now: Timestamp, rates: Rates) -> BucketView {
    let remaining = bucket.remaining_at(at, now);
    BucketView {
        name: bucket.name,
        limit: bucket.limit,
        remaining,
        used_share: bucket.limit.zip(remaining).and_then(|(limit, remaining)| share(limit, remaining)),
        seconds_to_reset: bucket.resets_at.map(|resets_at| resets_at.since(now).as_secs()),
        exhausted_in_s: exhausted_in_s(bucket, at, now, rates),
    }
}

fn window_view(window: &UnifiedWindow, now: Timestamp) -> WindowView {
    WindowView {
        name: window.name.to_string(),
        status: window.status.as_deref().map(str::to_owned),
        used_share: window.utilization,
        seconds_to_reset: window.resets_at.map(|resets_at| resets_at.since(now).as_secs()),
    }
}

/// The provider gives back a minute's share bit by bit: only what is used above that takes from what remains.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a forecast is none to the second"
)]
fn exhausted_in_s(bucket: &Bucket, at: Timestamp, now: Timestamp, rates: Rates) -> Option<u64> {
    let remaining = bucket.remaining_at(at, now)?;
    let lost_per_minute = rates.of(bucket.name) - bucket.limit.unwrap_or(0) as f64;
    (lost_per_minute > 0.0).then(|| (remaining as f64 / lost_per_minute * MINUTE_S as f64) as u64)
}

impl Minute {
    fn second(&mut self, now: Timestamp) -> &mut Second {
        let at = now.as_secs();
        let second = &mut self.seconds[at.rem_euclid(MINUTE_S) as usize];
        if second.at != at {
            *second = Second { at, ..Second::default() };
        }
        second
    }

    /// The last sixty seconds, the one that is not over included.
    fn sum(&self, now: Timestamp) -> Second {
        let newest = now.as_secs();
        let mut sum = Second::default();
        for second in self.seconds.iter().filter(|second| second.at > newest - MINUTE_S && second.at <= newest) {
            sum.calls += second.calls;
            sum.input_tokens = sum.input_tokens.saturating_add(second.input_tokens);
            sum.output_tokens = sum.output_tokens.saturating_add(second.output_tokens);
        }
        sum
    }
}

/// Models that share one limit: those of the fourth generation of Opus, and of Sonnet; else each model for itself.
/// Dates and what platforms add to a name are left out.
#[must_use]
pub fn model_class(model: &str) -> &str {
    let name = model.rsplit_once("claude-").map_or(model, |(_, name)| name);
    let name = name.split(['@', ':', '[']).next().unwrap_or(name);
    let name = name.strip_suffix("-latest").unwrap_or(name);
    for shared in ["opus-4", "sonnet-4"] {
        if let Some(rest) = name.strip_prefix(shared)
            && (rest.is_empty() || rest.starts_with('-'))
        {
            return &name[..shared.len()];
        }
    }
    let is_date = |part: &str| part.len() == 8 && part.bytes().all(|byte| byte.is_ascii_digit());
    let dated = name.match_indices('-').find(|(at, _)| is_date(name[at + 1..].split('-').next().unwrap_or("")));
    text::head(dated.map_or(name, |(at, _)| &name[..at]), CLASS_BYTES_MAX)
}

#[cfg(test)]
mod tests;
