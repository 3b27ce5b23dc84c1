//! Groups of series by some of their labels.

use std::collections::HashMap;

use super::Series;
use crate::labels::{Labels, METRIC_NAME};

/// Which labels decide whether two series belong together.
pub(super) struct Key<'a> {
    labels: &'a [String],
    /// `by`/`on`: only these labels; otherwise all but these and the name.
    only: bool,
}

impl<'a> Key<'a> {
    pub(super) fn new(labels: &'a [String], only: bool) -> Self {
        Self { labels, only }
    }

    pub(super) fn keeps(&self, name: &str) -> bool {
        if self.only {
            self.labels.iter().any(|label| label == name)
        } else {
            name != METRIC_NAME && !self.labels.iter().any(|label| label == name)
        }
    }

    /// The labels of a series that count.
    pub(super) fn of(&self, labels: &Labels) -> Labels {
        if self.only && self.labels.is_empty() { Labels::empty() } else { labels.filtered(|name| self.keeps(name)) }
    }
}

/// Numbers the keys of series in the order in which they are first seen.
#[derive(Default)]
pub(super) struct Groups {
    known: HashMap<Box<[u8]>, usize>,
    buffer: Vec<u8>,
}

impl Groups {
    /// The number of a series' group; computed once per series, however many steps there are.
    pub(super) fn number(&mut self, labels: &Labels, key: &Key<'_>) -> usize {
        self.buffer.clear();
        if !(key.only && key.labels.is_empty()) {
            labels.signature(&mut self.buffer, |name| key.keeps(name));
        }
        if let Some(number) = self.known.get(&*self.buffer) {
            return *number;
        }
        let number = self.known.len();
        self.known.insert(self.buffer.as_slice().into(), number);
        number
    }

    pub(super) fn numbers(&mut self, vector: &[Series], key: &Key<'_>) -> Vec<usize> {
        vector.iter().map(|series| self.number(&series.labels, key)).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}
