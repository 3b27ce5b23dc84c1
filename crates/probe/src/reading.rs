//! What one look measured.

use std::collections::{BTreeMap, HashSet};

use paramedic_model::text;
use paramedic_promql::labels::{Label, Labels};

/// Longest label value; the store takes more, but nobody reads more.
const VALUE_BYTES_MAX: usize = 512;

/// The samples of one look. What is beyond the limit is dropped and counted.
#[derive(Debug, Default)]
pub struct Reading {
    common: Vec<(String, String)>,
    samples: Vec<(Labels, f64)>,
    seen: HashSet<Labels>,
    samples_max: usize,
    dropped: u64,
}

impl Reading {
    /// An empty reading whose samples all carry the target's labels.
    #[must_use]
    pub fn new(common: &BTreeMap<String, String>, samples_max: usize) -> Self {
        let common = common.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        Self { common, samples_max, ..Self::default() }
    }

    /// An empty reading for the same target, to be filled elsewhere and taken in by [`Self::absorb`].
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self { common: self.common.clone(), samples_max: self.samples_max, ..Self::default() }
    }

    /// Takes in what was filled elsewhere.
    pub fn absorb(&mut self, other: Self) {
        self.dropped += other.dropped;
        for (labels, value) in other.samples {
            self.put(labels, value);
        }
    }

    /// Adds a sample. Labels given here win over the target's; an empty one takes the target's away.
    pub fn add(&mut self, metric: &str, labels: &[(&str, &str)], value: f64) {
        let mut all: Vec<Label> = Vec::with_capacity(self.common.len() + labels.len() + 1);
        let label = |name: &str, value: &str| Label { name: name.into(), value: text::head(value, VALUE_BYTES_MAX).into() };
        all.extend(self.common.iter().map(|(name, value)| label(name, value)));
        all.extend(labels.iter().map(|(name, value)| label(name, value)));
        all.push(label("__name__", metric));
        self.put(Labels::new(all), value);
    }

    fn put(&mut self, labels: Labels, value: f64) {
        if self.samples.len() < self.samples_max && self.seen.insert(labels.clone()) {
            self.samples.push((labels, value));
        } else {
            self.dropped += 1;
        }
    }

    /// Adds a sample without labels of its own.
    pub fn gauge(&mut self, metric: &str, value: f64) {
        self.add(metric, &[], value);
    }

    #[must_use]
    pub fn samples(&self) -> &[(Labels, f64)] {
        &self.samples
    }

    /// Samples beyond the limit, or given twice.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The value of the first sample of a metric whose labels are as given.
    #[must_use]
    pub fn get(&self, metric: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.samples
            .iter()
            .find(|(series, _)| series.metric_name() == metric && labels.iter().all(|(name, value)| series.get(name) == *value))
            .map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_labels_win_and_an_empty_one_removes() {
        let common = BTreeMap::from([("job".to_owned(), "j".to_owned()), ("instance".to_owned(), "i".to_owned())]);
        let mut reading = Reading::new(&common, 2);
        reading.add("a", &[("instance", ""), ("server", "s")], 1.0);
        reading.gauge("a", 2.0);
        reading.gauge("a", 3.0);
        reading.gauge("b", 4.0);
        assert_eq!(reading.get("a", &[("server", "s"), ("instance", ""), ("job", "j")]), Some(1.0));
        assert_eq!(reading.get("a", &[("instance", "i")]), Some(2.0));
        assert_eq!((reading.samples().len(), reading.dropped()), (2, 2));
    }
}
