//! The provider's limits as events: only when something changed that somebody would want to know.

use std::collections::HashMap;
use std::time::Duration;

use paramedic_model::{Event, Fact, Level, Source, Timestamp};
use xxhash_rust::xxh3::Xxh3Default;

use crate::answer::{Limits, MostUsed};
use crate::call::Caller;

use super::introduce;

/// Used shares at which it is news.
const STEPS: [f64; 4] = [0.5, 0.8, 0.9, 0.95];
/// From this step on it is a warning.
const WARNING: u8 = 2;
const REJECTED: u8 = STEPS.len() as u8 + 1;
/// At most one event of one limit of one key in this time.
const APART: Duration = Duration::from_secs(10);
/// Limits of keys that are remembered; the one that was told of longest ago gives way.
const KNOWN_MAX: usize = 1_000;

#[derive(Debug, Clone, Copy)]
struct Known {
    /// How many steps were passed when it was last told.
    step: u8,
    told_at: Option<Timestamp>,
    heard_at: Timestamp,
}

/// What was told of each key's limits.
#[derive(Debug, Default)]
pub struct LimitNews {
    known: HashMap<(Box<str>, Box<str>), Known>,
}

impl LimitNews {
    /// The events that an answer's limits are. `refused` says that the answer was a refusal because of them.
    pub fn told(&mut self, caller: &Caller, limits: &Limits, refused: bool, now: Timestamp) -> Vec<Event> {
        let most = limits.most_used();
        let of_bucket = |bucket: &crate::answer::Bucket| {
            let share = bucket.used_share()?;
            Some((bucket.name.as_str(), share, bucket.remaining, bucket.resets_at))
        };
        let mut events = Vec::new();
        for (limit, share, remaining, resets_at) in limits.buckets.iter().filter_map(of_bucket) {
            let is_refused = refused && is(most.as_ref(), limit);
            events.extend(self.one(caller, &Report { limit, share, remaining, resets_at, refused: is_refused }, now));
        }
        for window in limits.unified.iter().flat_map(|unified| &unified.windows) {
            let limit = format!("unified-{}", window.name);
            let is_refused = window.status.as_deref() == Some("rejected") || (refused && is(most.as_ref(), &limit));
            let Some(share) = window.utilization.or(is_refused.then_some(1.0)) else { continue };
            let report = Report { limit: &limit, share, remaining: None, resets_at: window.resets_at, refused: is_refused };
            events.extend(self.one(caller, &report, now));
        }
        events
    }

    fn one(&mut self, caller: &Caller, report: &Report<'_>, now: Timestamp) -> Option<Event> {
        let step = report.step();
        let key: &str = caller.key.as_deref().unwrap_or_default();
        let id = (Box::from(key), Box::from(report.limit));
        let before = self.known.get(&id).copied();
        if before.is_none() {
            self.make_room();
        }
        let Known { step: told, told_at, .. } = before.unwrap_or(Known { step: 0, told_at: None, heard_at: now });
        let is_early = told_at.is_some_and(|told_at| now.since(told_at) < APART);
        // That one limit has room again is no news while another one of the key has not.
        let others = self.known.iter().any(|(other, known)| *other.0 == *key && *other.1 != *report.limit && known.step >= WARNING);
        let is_news = step != told && !is_early && (step >= WARNING || !others);
        let known = if is_news { Known { step, told_at: Some(now), heard_at: now } } else { Known { step: told, told_at, heard_at: now } };
        self.known.insert(id, known);
        is_news.then(|| report.event(caller, step, now))
    }

    fn make_room(&mut self) {
        if self.known.len() < KNOWN_MAX {
            return;
        }
        let oldest = self.known.iter().min_by_key(|(_, known)| known.heard_at).map(|(id, _)| id.clone());
        if let Some(oldest) = oldest {
            self.known.remove(&oldest);
        }
    }
}

fn is(most: Option<&MostUsed>, limit: &str) -> bool {
    most.is_some_and(|most| *most.name == *limit)
}

struct Report<'a> {
    limit: &'a str,
    share: f64,
    remaining: Option<u64>,
    resets_at: Option<Timestamp>,
    refused: bool,
}

impl Report<'_> {
    fn step(&self) -> u8 {
        let passed = STEPS.iter().take_while(|step| self.share >= **step).count();
        if self.refused { REJECTED } else { u8::try_from(passed).unwrap_or(0) }
    }

    fn event(&self, caller: &Caller, step: u8, now: Timestamp) -> Event {
        let limit = self.limit.replace('-', "_");
        let (status, level) = match step {
            REJECTED => ("rejected", Level::Warn),
            WARNING.. => ("allowed_warning", Level::Warn),
            _ => ("allowed", Level::Info),
        };
        let mut event = Event::new(now, Source::Gateway, "gateway/rate_limit");
        introduce(&mut event, caller);
        event.level = level;
        let resets = self.resets_at.map(|at| format!(", all of it is back at {at}")).unwrap_or_default();
        let refused = if self.refused { ", and a call was refused" } else { "" };
        event.text = format!("{:.0} % of the limit {limit} is used{refused}{resets}", self.share * 100.0).into();
        let mut hash = Xxh3Default::new();
        hash.update(&now.as_micros().to_le_bytes());
        for part in [caller.key.as_deref().unwrap_or_default(), self.limit] {
            hash.update(part.as_bytes());
            hash.update(&[0xff]);
        }
        event.uid = Some(hash.digest());
        if let Some(key) = &caller.key {
            event.attributes.insert("key".to_owned(), key.as_ref().into());
        }
        event.fact = Fact::RateLimit {
            status: status.into(),
            limit: Some(limit.into()),
            utilization: Some(self.share),
            remaining: self.remaining,
            resets_at: self.resets_at,
        };
        event
    }
}
