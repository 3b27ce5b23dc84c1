//! Groups of series by some of their labels.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

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
    shortcut: Shortcut,
}

impl Groups {
    /// The number of a series' group; computed once per series, however many steps there are.
    pub(super) fn number(&mut self, labels: &Labels, key: &Key<'_>) -> usize {
        if key.only && key.labels.is_empty() {
            self.known.entry(Box::default()).or_insert(0);
            return 0;
        }
        if let Some(number) = self.shortcut.find(labels, key) {
            return number;
        }
        self.buffer.clear();
        labels.signature(&mut self.buffer, |name| key.keeps(name));
        let number = match self.known.get(&*self.buffer) {
            Some(number) => *number,
            None => {
                let number = self.known.len();
                self.known.insert(self.buffer.as_slice().into(), number);
                number
            }
        };
        self.shortcut.learn(labels, number);
        number
    }

    pub(super) fn numbers(&mut self, vector: &[Series], key: &Key<'_>) -> Vec<usize> {
        vector.iter().map(|series| self.number(&series.labels, key)).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}

/// Finds groups by the addresses of the words of a key: a store shares the text of names and values between its series,
/// and equal addresses are equal words. Different addresses say nothing.
#[derive(Default)]
struct Shortcut {
    known: HashMap<Box<[usize]>, usize, BuildHasherDefault<AddressHash>>,
    /// Keeps the words alive, so that no other word gets their address.
    seen: Vec<Labels>,
    addresses: Vec<usize>,
    lookups: usize,
}

impl Shortcut {
    fn find(&mut self, labels: &Labels, key: &Key<'_>) -> Option<usize> {
        // Where hardly any group has two members, remembering them is only work.
        if self.lookups > 256 && self.seen.len() > self.lookups / 2 {
            self.addresses.clear();
            return None;
        }
        self.lookups += 1;
        self.addresses.clear();
        for label in labels.iter().filter(|label| key.keeps(&label.name)) {
            self.addresses.extend([label.name.as_ptr().addr(), label.value.as_ptr().addr()]);
        }
        self.known.get(&*self.addresses).copied()
    }

    fn learn(&mut self, labels: &Labels, number: usize) {
        if !self.addresses.is_empty() {
            self.known.insert(self.addresses.as_slice().into(), number);
            self.seen.push(labels.clone());
        }
    }
}

/// Addresses of our own words need no protection from those who would make hashes collide.
#[derive(Default)]
struct AddressHash(u64);

impl AddressHash {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for AddressHash {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_words_at_different_addresses_are_one_group() {
        let keys = ["x".to_owned()];
        let key = Key::new(&keys, true);
        let mut groups = Groups::default();
        let of = |x: &str, y: &str| Labels::from_pairs(&[("x", x), ("y", y)]);
        let (first, again, other) = (of("1", "a"), of("1", "b"), of("2", "a"));
        let numbers: Vec<usize> =
            [&first, &again, &other, &first, &again, &Labels::empty(), &other].map(|labels| groups.number(labels, &key)).to_vec();
        assert_eq!(numbers, [0, 0, 1, 0, 0, 2, 1]);
        assert_eq!(groups.len(), 3);
        let without = Key::new(&keys, false);
        let mut groups = Groups::default();
        assert_eq!([&first, &other, &again].map(|labels| groups.number(labels, &without)), [0, 0, 1]);
        // Many groups of one member each: the shortcut gives up, the numbers stay right.
        let mut groups = Groups::default();
        for i in 0..2_000 {
            assert_eq!(groups.number(&of(&i.to_string(), ""), &key), i);
        }
        assert_eq!(groups.number(&of("1999", "z"), &key), 1_999);
    }
}
