//! Running totals of what comes as differences.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use paramedic_model::Timestamp;
use paramedic_promql::histogram::Histogram;
use paramedic_promql::number::is_stale;
use paramedic_promql::{Labels, SampleValue};

use super::super::config::SampleSettings;
use super::{Point, Reading};

/// How often totals that nobody adds to are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What became of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Went {
    Added,
    /// The same difference came before: a sender that was not answered tried again.
    Repeated,
    /// There are as many totals as may be.
    NoRoom,
    /// It cannot be added to what is there.
    Unlike,
}

struct Total {
    value: SampleValue,
    /// The time of the last sample, in milliseconds.
    last: i64,
    window: (u64, u64),
    touched: Timestamp,
}

/// Totals by series; bounded.
pub(super) struct Totals {
    all: HashMap<Labels, Total>,
    max: usize,
    idle: Duration,
    begins_at_zero: bool,
    looked: Timestamp,
}

impl Totals {
    pub(super) fn new(settings: &SampleSettings) -> Self {
        Self {
            all: HashMap::new(),
            max: settings.delta_series_max,
            idle: Duration::from_secs(settings.delta_idle_s),
            begins_at_zero: settings.delta_begins_at_zero,
            looked: Timestamp::EPOCH,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Adds a difference to its total, and puts the total into `ready`.
    pub(super) fn add(&mut self, point: Point, now: Timestamp, ready: &mut Vec<(Labels, i64, SampleValue)>) -> Went {
        self.forget_idle(now);
        let Point { labels, time, start, window, reading: Reading::Added(added) | Reading::Value(added) } = point;
        if ends(&added) {
            self.all.remove(&labels);
            ready.push((labels, time, added));
            return Went::Added;
        }
        let room = self.all.len() < self.max;
        match self.all.entry(labels) {
            Entry::Vacant(_) if !room => Went::NoRoom,
            Entry::Vacant(entry) => {
                // A total that begins is 0 at first, so that the first difference counts as an increase. It is a
                // millisecond late because the last sample from before a restart may stand at the start itself.
                if self.begins_at_zero && (1..=time).contains(&start) {
                    ready.push((entry.key().clone(), (start + 1).min(time - 1), zero_like(&added)));
                }
                ready.push((entry.key().clone(), time, added.clone()));
                entry.insert(Total { value: added, last: time, window, touched: now });
                Went::Added
            }
            Entry::Occupied(mut entry) => {
                let total = entry.get_mut();
                // Without a start there is nothing to tell a repeated difference from a new one by.
                if total.window == window && window.0 != 0 {
                    return Went::Repeated;
                }
                if !grow(&mut total.value, &added) {
                    return Went::Unlike;
                }
                // One that comes late, or from a second sender of the same series, counts too; times only go forward.
                total.last = if time > total.last { time } else { total.last + 1 };
                (total.window, total.touched) = (window, now);
                let (last, value) = (total.last, total.value.clone());
                ready.push((entry.key().clone(), last, value));
                Went::Added
            }
        }
    }

    fn forget_idle(&mut self, now: Timestamp) {
        if now.since(self.looked) < LOOK_EVERY {
            return;
        }
        self.looked = now;
        let idle = self.idle;
        self.all.retain(|_, total| now.since(total.touched) < idle);
    }
}

fn ends(value: &SampleValue) -> bool {
    match value {
        SampleValue::Float(value) => is_stale(*value),
        SampleValue::Histogram(value) => value.is_stale(),
    }
}

fn zero_like(value: &SampleValue) -> SampleValue {
    match value {
        SampleValue::Float(_) => SampleValue::Float(0.0),
        SampleValue::Histogram(value) => SampleValue::Histogram(Arc::new(Histogram {
            schema: value.schema,
            zero_threshold: value.zero_threshold,
            ..Histogram::default()
        })),
    }
}

fn grow(total: &mut SampleValue, added: &SampleValue) -> bool {
    match (total, added) {
        (SampleValue::Float(total), SampleValue::Float(added)) => {
            *total += added;
            true
        }
        (SampleValue::Histogram(total), SampleValue::Histogram(added)) => Arc::make_mut(total).add(added).is_ok(),
        _ => false,
    }
}
