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
/// Keys whose limits are remembered; the one that was heard of longest ago gives way.
const KEYS_MAX: usize = 200;
/// Limits of a key.
const LIMITS_MAX: usize = 32;

/// From this share on a limit counts as used up; what remains is rounded in the headers.
const USED_UP: f64 = 0.95;

#[derive(Debug)]
struct Known {
    limit: Box<str>,
    /// How many steps were passed when it was last told.
    step: u8,
    told_at: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Key {
    heard_at: Timestamp,
    limits: Vec<Known>,
}

/// What was told of each key's limits.
#[derive(Debug, Default)]
pub struct LimitNews {
    keys: HashMap<Box<str>, Key>,
}

impl LimitNews {
    /// The events that an answer's limits are. `refused` says that the answer was a refusal because of them.
    pub fn told(&mut self, caller: &Caller, limits: &Limits, refused: bool, now: Timestamp) -> Vec<Event> {
        let most = refused.then(|| limits.most_used()).flatten();
        let of_bucket = |bucket: &crate::answer::Bucket| {
            let share = bucket.used_share()?;
            Some((bucket.name.as_str(), share, bucket.remaining, bucket.resets_at))
        };
        let mut events = Vec::new();
        let key = self.key(caller.key.as_deref().unwrap_or_default(), now);
        for (limit, share, remaining, resets_at) in limits.buckets.iter().filter_map(of_bucket) {
            // A refusal is this limit's only where it is used up; of others the headers do not tell.
            let is_refused = refused && is(most.as_ref(), limit) && share >= USED_UP;
            events.extend(key.one(caller, &Report { limit, share, remaining, resets_at, refused: is_refused }, now));
        }
        for window in limits.unified.iter().flat_map(|unified| &unified.windows) {
            let limit = format!("unified-{}", window.name);
            let is_used_up = window.utilization.is_some_and(|share| share >= USED_UP);
            let is_refused = window.status.as_deref() == Some("rejected") || (refused && is(most.as_ref(), &limit) && is_used_up);
            let Some(share) = window.utilization.or(is_refused.then_some(1.0)) else { continue };
            let report = Report { limit: &limit, share, remaining: None, resets_at: window.resets_at, refused: is_refused };
            events.extend(key.one(caller, &report, now));
        }
        events
    }

    fn key(&mut self, key: &str, now: Timestamp) -> &mut Key {
        if self.keys.len() >= KEYS_MAX
            && !self.keys.contains_key(key)
            && let Some(oldest) = self.keys.iter().min_by_key(|(_, known)| known.heard_at).map(|(key, _)| key.clone())
        {
            self.keys.remove(&oldest);
        }
        let known = self.keys.entry(key.into()).or_default();
        known.heard_at = now;
        known
    }
}

impl Key {
    fn one(&mut self, caller: &Caller, report: &Report<'_>, now: Timestamp) -> Option<Event> {
        let step = report.step();
        let i = match self.limits.iter().position(|known| *known.limit == *report.limit) {
            Some(i) => i,
            None if self.limits.len() >= LIMITS_MAX => return None,
            None => {
                self.limits.push(Known { limit: report.limit.into(), step: 0, told_at: None });
                self.limits.len() - 1
            }
        };
        let known = &self.limits[i];
        let is_early = known.told_at.is_some_and(|told_at| now.since(told_at) < APART);
        if step == known.step || is_early {
            return None;
        }
        // That one limit has room again is no news while another one of the key has not.
        let has_room = || self.limits.iter().enumerate().all(|(other, known)| other == i || known.step < WARNING);
        if step < WARNING && !has_room() {
            self.limits[i].step = step;
            return None;
        }
        let known = &mut self.limits[i];
        (known.step, known.told_at) = (step, Some(now));
        Some(report.event(caller, step, now))
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
