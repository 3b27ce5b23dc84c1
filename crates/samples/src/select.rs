//! Reading: series with their samples, names and values of labels.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use paramedic_promql::{Labels, Matcher, Need, Samples as Decoded, Storage, StorageError, StoredSeries, Visitor};

use crate::error::SamplesError;
use crate::head::{SeriesRef, read};
use crate::series::tidy;
use crate::store::Samples;

/// Answers up to this size are sorted by labels; sorting a big one would take longer than finding it.
const SORTED_MAX: usize = 5_000;

impl Samples {
    /// The series that pass every matcher and have samples between two times (both included), with these samples.
    pub fn select(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Result<Vec<StoredSeries>, SamplesError> {
        let inner = &*self.inner;
        let begun = Instant::now();
        let mut found: Vec<StoredSeries> = Vec::new();
        // The memory first: what moves to a partition meanwhile is then seen twice rather than never.
        let stay = read(&inner.head.leaving);
        inner.head.select(matchers, from_ms, to_ms, |labels, samples| found.push(StoredSeries { labels, samples: Arc::new(samples) }));
        drop(stay);
        let partitions = inner.partitions.overlapping(from_ms, to_ms);
        if !partitions.is_empty() {
            let mut all: HashMap<Labels, Decoded> = HashMap::with_capacity(found.len());
            for partition in partitions {
                partition.select(matchers, from_ms, to_ms, &inner.metrics, |labels, samples| add(&mut all, labels, samples))?;
            }
            for StoredSeries { labels, samples } in found {
                add(&mut all, labels, Arc::unwrap_or_clone(samples));
            }
            let finish = |(labels, mut samples): (Labels, Decoded)| {
                tidy(&mut samples);
                StoredSeries { labels, samples: Arc::new(samples) }
            };
            found = all.into_iter().map(finish).collect();
        }
        if found.len() <= SORTED_MAX {
            found.sort_unstable_by(|a, b| by_labels(&a.labels, &b.labels));
        }
        inner.metrics.selects.inc();
        inner.metrics.select_seconds.observe(begun.elapsed().as_secs_f64());
        Ok(found)
    }

    /// The labels of a series in memory; none once it has left it.
    pub fn labels(&self, series: SeriesRef) -> Option<Labels> {
        let head = &self.inner.head;
        let _stay = read(&head.leaving);
        let known = read(&head.catalogue).id_at(series.place()) == Some(series.0);
        known.then(|| head.labels_at(series.place())).flatten()
    }

    /// The label sets of series that pass any of the lists of matchers (an empty list of lists means all), sorted.
    pub fn series(&self, any_of: &[Vec<Matcher>], from_ms: i64, to_ms: i64, limit: usize) -> Result<Vec<Labels>, SamplesError> {
        let mut found = BTreeSet::new();
        self.each_labels(any_of, from_ms, to_ms, &mut |labels| {
            found.insert(labels.clone());
        })?;
        Ok(found.into_iter().take(limit).collect())
    }

    /// The names of labels of series that pass, sorted.
    pub fn label_names(&self, any_of: &[Vec<Matcher>], from_ms: i64, to_ms: i64, limit: usize) -> Result<Vec<Arc<str>>, SamplesError> {
        let mut found = BTreeSet::new();
        if self.asks_all_of_head(any_of, from_ms, to_ms) {
            found.extend(read(&self.inner.head.catalogue).index.names().cloned());
        } else {
            self.each_labels(any_of, from_ms, to_ms, &mut |labels| {
                for label in labels.iter().filter(|label| !found.contains(&label.name)).collect::<Vec<_>>() {
                    found.insert(Arc::clone(&label.name));
                }
            })?;
        }
        Ok(found.into_iter().take(limit).collect())
    }

    /// The values of a label of series that pass, sorted.
    pub fn label_values(
        &self,
        name: &str,
        any_of: &[Vec<Matcher>],
        from_ms: i64,
        to_ms: i64,
        limit: usize,
    ) -> Result<Vec<Arc<str>>, SamplesError> {
        if self.asks_all_of_head(any_of, from_ms, to_ms) {
            return Ok(read(&self.inner.head.catalogue).index.values(name).take(limit).cloned().collect());
        }
        let mut found = BTreeSet::new();
        self.each_labels(any_of, from_ms, to_ms, &mut |labels| {
            if let Some(label) = labels.iter().find(|label| &*label.name == name)
                && !found.contains(&label.value)
            {
                found.insert(Arc::clone(&label.value));
            }
        })?;
        Ok(found.into_iter().take(limit).collect())
    }

    /// Whether the index of the memory is the answer: no condition, and nothing but the memory covers the times.
    fn asks_all_of_head(&self, any_of: &[Vec<Matcher>], from_ms: i64, to_ms: i64) -> bool {
        let inner = &*self.inner;
        let recent = to_ms >= inner.head.newest();
        any_of.iter().all(Vec::is_empty) && recent && inner.partitions.overlapping(from_ms, to_ms).is_empty()
    }

    /// Calls with the labels of every series that passes; a partition counts as a whole.
    fn each_labels(&self, any_of: &[Vec<Matcher>], from_ms: i64, to_ms: i64, each: &mut dyn FnMut(&Labels)) -> Result<(), SamplesError> {
        let inner = &*self.inner;
        let everything = [Vec::new()];
        let lists = if any_of.is_empty() { &everything[..] } else { any_of };
        for matchers in lists {
            let stay = read(&inner.head.leaving);
            let places = inner.head.matching(matchers);
            inner.head.visit(&places, |series| {
                if series.overlaps(from_ms, to_ms) {
                    each(&series.labels);
                }
            });
            drop(stay);
            for partition in inner.partitions.overlapping(from_ms, to_ms) {
                partition.series(matchers)?.iter().for_each(|(_, labels)| each(labels));
            }
        }
        Ok(())
    }
}

/// The order of label sets. Most names and values are the same allocation, which tells more quickly than their text.
fn by_labels(a: &Labels, b: &Labels) -> Ordering {
    let words = |a: &Arc<str>, b: &Arc<str>| if Arc::ptr_eq(a, b) { Ordering::Equal } else { a.cmp(b) };
    let pairs = a.iter().zip(b.iter()).map(|(a, b)| words(&a.name, &b.name).then_with(|| words(&a.value, &b.value)));
    pairs.into_iter().find(|order| order.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
}

fn add(all: &mut HashMap<Labels, Decoded>, labels: Labels, samples: Decoded) {
    let known = all.entry(labels).or_default();
    if known.is_empty() {
        *known = samples;
        return;
    }
    known.times.extend(samples.times);
    known.values.extend(samples.values);
    known.histograms.extend(samples.histograms);
}

impl Storage for Samples {
    fn select(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Result<Vec<StoredSeries>, StorageError> {
        Samples::select(self, matchers, from_ms, to_ms).map_err(|err| StorageError(err.to_string()))
    }

    fn walk(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64, need: Need, visit: &mut Visitor<'_>) -> Result<(), StorageError> {
        let inner = &*self.inner;
        // Nothing leaves the memory before the walk is over, so what is in no partition now is in the memory.
        let stay = read(&inner.head.leaving);
        if !inner.partitions.overlapping(from_ms, to_ms).is_empty() {
            drop(stay);
            for series in Storage::select(self, matchers, from_ms, to_ms)? {
                if visit(&series.labels, &series.samples).is_break() {
                    break;
                }
            }
            return Ok(());
        }
        let begun = Instant::now();
        inner.head.walk(matchers, from_ms, to_ms, need, visit);
        drop(stay);
        inner.metrics.selects.inc();
        inner.metrics.select_seconds.observe(begun.elapsed().as_secs_f64());
        Ok(())
    }
}
