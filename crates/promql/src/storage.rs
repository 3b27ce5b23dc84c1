//! Where samples come from: the seam to a store, and a store in memory.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, RwLock};

use crate::error::StorageError;
use crate::histogram::{Histogram, ResetHint};
use crate::labels::{Labels, Matcher};
use crate::number::is_stale;

/// The samples of one series in time order. Floats and histograms are apart; a moment has one or the other.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Milliseconds since 1970, ascending.
    pub times: Vec<i64>,
    /// As many as `times`; the staleness marker is the NaN with the bits `0x7ff0000000000002`.
    pub values: Vec<f64>,
    /// Native histograms, ascending in time; a staleness marker has that NaN as its sum.
    pub histograms: Vec<(i64, Arc<Histogram>)>,
}

impl Samples {
    pub fn is_empty(&self) -> bool {
        self.times.is_empty() && self.histograms.is_empty()
    }
}

/// One series of a selection. Cloning shares the data.
#[derive(Clone, Debug)]
pub struct StoredSeries {
    pub labels: Labels,
    pub samples: Arc<Samples>,
}

/// What a walk needs of each series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Every sample between the two times.
    Range,
    /// The newest sample between the two times, which a store may have at hand; others do no harm.
    Newest,
}

/// Takes one series of a walk; a break ends the walk.
pub type Visitor<'a> = dyn FnMut(&Labels, &Samples) -> ControlFlow<()> + 'a;

/// A store of samples.
pub trait Storage: Send + Sync {
    /// The series that pass every matcher and have samples between two times (both included, in milliseconds).
    ///
    /// Samples outside the range may be in the answer: the evaluator cuts. Label sets are unique in it. A better answer is
    /// sorted by labels, because sums of floats depend on their order in the last digits.
    fn select(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Result<Vec<StoredSeries>, StorageError>;

    /// The same series, one after the other, for those who keep none of them: a store need not hold them all at once.
    ///
    /// The visitor must not call the store.
    fn walk(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64, need: Need, visit: &mut Visitor<'_>) -> Result<(), StorageError> {
        let _ = need;
        for series in self.select(matchers, from_ms, to_ms)? {
            if visit(&series.labels, &series.samples).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl<S: Storage + ?Sized> Storage for Arc<S> {
    fn select(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Result<Vec<StoredSeries>, StorageError> {
        (**self).select(matchers, from_ms, to_ms)
    }

    fn walk(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64, need: Need, visit: &mut Visitor<'_>) -> Result<(), StorageError> {
        (**self).walk(matchers, from_ms, to_ms, need, visit)
    }
}

/// Series in memory, for tests and for expressions over data that is at hand.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    series: RwLock<BTreeMap<Labels, Arc<Samples>>>,
}

/// One sample to append.
#[derive(Clone, Debug)]
pub enum SampleValue {
    Float(f64),
    Histogram(Arc<Histogram>),
}

impl MemoryStorage {
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends samples to a series. A sample for a moment that already has one is dropped, as is the order of arrival.
    pub fn append(&self, labels: &Labels, samples: impl IntoIterator<Item = (i64, SampleValue)>) {
        let mut all = self.series.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let entry = all.entry(labels.clone()).or_default();
        let stored = Arc::make_mut(entry);
        let mut changed_from = usize::MAX;
        for (time, value) in samples {
            let float_at = stored.times.binary_search(&time);
            let histogram_at = stored.histograms.binary_search_by_key(&time, |pair| pair.0);
            match (float_at, histogram_at, value) {
                (Err(at), Err(_), SampleValue::Float(value)) => {
                    stored.times.insert(at, time);
                    stored.values.insert(at, value);
                }
                (Err(_), Err(at), SampleValue::Histogram(histogram)) => {
                    stored.histograms.insert(at, (time, histogram));
                    changed_from = changed_from.min(at);
                }
                _ => {}
            }
        }
        mark_resets(stored, changed_from);
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.series.write().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }
}

impl Storage for MemoryStorage {
    fn select(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Result<Vec<StoredSeries>, StorageError> {
        let all = self.series.read().map_err(|_| StorageError("the store in memory is broken".to_owned()))?;
        let in_range = |samples: &Samples| {
            let float = samples.times.partition_point(|time| *time < from_ms);
            let histogram = samples.histograms.partition_point(|pair| pair.0 < from_ms);
            samples.times.get(float).is_some_and(|time| *time <= to_ms)
                || samples.histograms.get(histogram).is_some_and(|pair| pair.0 <= to_ms)
        };
        let found = all
            .iter()
            .filter(|(labels, _)| matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name))))
            .filter(|(_, samples)| in_range(samples))
            .map(|(labels, samples)| StoredSeries { labels: labels.clone(), samples: samples.clone() })
            .collect();
        Ok(found)
    }
}

/// Gives histograms the hints they would have after being stored in chunks: the first of a chunk knows nothing, the others
/// are known not to be resets. A chunk ends at a float, a staleness marker, a reset, or a change of the buckets' layout.
fn mark_resets(samples: &mut Samples, changed_from: usize) {
    for i in changed_from..samples.histograms.len() {
        let (time, histogram) = &samples.histograms[i];
        if histogram.is_stale() {
            continue;
        }
        let before = i.checked_sub(1).map(|at| &samples.histograms[at]).filter(|(_, before)| !before.is_stale());
        let interrupted = |since: i64| {
            let at = samples.times.partition_point(|time| *time <= since);
            samples.times.get(at).is_some_and(|float| float < time)
        };
        let hint = match before {
            _ if histogram.hint == ResetHint::Gauge => ResetHint::Gauge,
            Some((since, before)) if !interrupted(*since) && continues(before, histogram) => ResetHint::NotReset,
            _ => ResetHint::Unknown,
        };
        if hint != histogram.hint {
            samples.histograms[i].1 = Arc::new(Histogram { hint, ..(**histogram).clone() });
        }
    }
}

fn continues(before: &Histogram, now: &Histogram) -> bool {
    let mut unmarked = now.clone();
    if now.hint == ResetHint::Reset || before.hint == ResetHint::Gauge {
        return false;
    }
    unmarked.hint = ResetHint::Unknown;
    before.schema == now.schema
        && before.zero_threshold == now.zero_threshold
        && crate::histogram::same_bounds(&before.custom_values, &now.custom_values)
        && !unmarked.detect_reset(before)
}

/// Whether a float series holds any staleness marker between two indexes.
pub(crate) fn any_stale(values: &[f64]) -> bool {
    values.iter().any(|value| is_stale(*value))
}
