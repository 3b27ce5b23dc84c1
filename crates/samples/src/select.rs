//! Reading: series with their samples, names and values of labels.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use paramedic_promql::{Labels, Matcher, Need, Samples as Decoded, Storage, StorageError, StoredSeries, Visitor};

use crate::error::SamplesError;
use crate::head::{SeriesRef, read};
use crate::series::tidy;
use crate::store::Samples;

/// Answers up to this size are sorted by labels; sorting a big one would take longer than finding it.
const SORTED_MAX: usize = 5_000;

/// Series whose samples are read from partitions together.
const WALKED_AT_ONCE: usize = 16;

impl Samples {
    /// The series that pass every matcher and have samples between two times (both included), with these samples.
    pub fn select(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Result<Vec<StoredSeries>, SamplesError> {
        let inner = &*self.inner;
        let begun = Instant::now();
        let mut found: Vec<StoredSeries> = Vec::new();
        let stay = read(&inner.head.leaving);
        let in_memory = inner.partitions.overlapping(from_ms, to_ms).is_empty();
        if in_memory {
            inner.head.select(matchers, from_ms, to_ms, |labels, samples| found.push(StoredSeries { labels, samples: Arc::new(samples) }));
        }
        drop(stay);
        if !in_memory {
            self.walk_partitions(matchers, (from_ms, to_ms), &mut |labels, samples| {
                found.push(StoredSeries { labels: labels.clone(), samples: Arc::new(samples.clone()) });
                ControlFlow::Continue(())
            })?;
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

/// A series of a walk and the numbers it has had: it may have left the memory and come back.
struct Walked {
    labels: Labels,
    ids: Vec<u64>,
}

fn note(found: &mut Vec<Walked>, known: &mut HashMap<Labels, usize>, labels: &Labels, id: u64) {
    let at = *known.entry(labels.clone()).or_insert_with(|| {
        found.push(Walked { labels: labels.clone(), ids: Vec::with_capacity(1) });
        found.len() - 1
    });
    if let Some(walked) = found.get_mut(at).filter(|walked| !walked.ids.contains(&id)) {
        walked.ids.push(id);
    }
}

impl Samples {
    /// Visits series of which samples are in partitions. Only those of a few series are in memory at a time.
    fn walk_partitions(&self, matchers: &[Matcher], (from, to): (i64, i64), visit: &mut Visitor<'_>) -> Result<(), SamplesError> {
        let inner = &*self.inner;
        let (mut found, mut known) = (Vec::new(), HashMap::new());
        // The memory first: what moves to a partition meanwhile is then seen twice rather than never.
        let stay = read(&inner.head.leaving);
        inner.head.visit(&inner.head.matching(matchers), |series| note(&mut found, &mut known, &series.labels, series.id));
        drop(stay);
        for partition in inner.partitions.overlapping(from, to) {
            partition.series(matchers)?.iter().for_each(|(id, labels)| note(&mut found, &mut known, labels, id.unsigned_abs()));
        }
        drop(known);
        if found.len() <= SORTED_MAX {
            found.sort_unstable_by(|a, b| by_labels(&a.labels, &b.labels));
        }
        let mut buffer = Vec::new();
        for walked in found.chunks(WALKED_AT_ONCE) {
            let mut newest: Vec<Decoded> = vec![Decoded::default(); walked.len()];
            let mut samples = newest.clone();
            let stay = read(&inner.head.leaving);
            for (series, newest) in walked.iter().zip(&mut newest) {
                for id in &series.ids {
                    inner.head.visit(&[SeriesRef(*id).place()], |series| {
                        if series.id == *id {
                            series.read(from, to, newest, &mut buffer);
                        }
                    });
                }
            }
            drop(stay);
            // Asked anew: what has left the memory since is there under the number it had.
            for partition in inner.partitions.overlapping(from, to) {
                partition.read(walked.iter().map(|series| &*series.ids).zip(&mut samples), (from, to), &inner.metrics)?;
            }
            for ((series, newest), mut samples) in walked.iter().zip(newest).zip(samples) {
                samples.times.extend(newest.times);
                samples.values.extend(newest.values);
                samples.histograms.extend(newest.histograms);
                tidy(&mut samples);
                if !samples.is_empty() && visit(&series.labels, &samples).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

impl Storage for Samples {
    fn select(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64) -> Result<Vec<StoredSeries>, StorageError> {
        Samples::select(self, matchers, from_ms, to_ms).map_err(|err| StorageError(err.to_string()))
    }

    fn walk(&self, matchers: &[Matcher], from_ms: i64, to_ms: i64, need: Need, visit: &mut Visitor<'_>) -> Result<(), StorageError> {
        let inner = &*self.inner;
        let begun = Instant::now();
        // Nothing leaves the memory before the walk is over, so what is in no partition now is in the memory.
        let stay = read(&inner.head.leaving);
        if !inner.partitions.overlapping(from_ms, to_ms).is_empty() {
            drop(stay);
            self.walk_partitions(matchers, (from_ms, to_ms), visit).map_err(|err| StorageError(err.to_string()))?;
        } else {
            inner.head.walk(matchers, from_ms, to_ms, need, visit);
            drop(stay);
        }
        inner.metrics.selects.inc();
        inner.metrics.select_seconds.observe(begun.elapsed().as_secs_f64());
        Ok(())
    }
}
