//! Series recognised by the bytes of their labels: bounded, and forgetful about those that no longer come.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use paramedic_samples::SeriesRef;

/// Keys that are good hashes already.
#[derive(Default)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}

type Table = HashMap<u128, SeriesRef, BuildHasherDefault<AsIs>>;

/// Two generations: what is found in the old one moves to the young one; a full young one becomes the old one.
#[derive(Debug, Default)]
pub(crate) struct Refs {
    young: Table,
    old: Table,
    max: usize,
}

impl Refs {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, ..Self::default() }
    }

    #[inline]
    pub(crate) fn get(&mut self, key: u128) -> Option<SeriesRef> {
        if let Some(found) = self.young.get(&key) {
            return Some(*found);
        }
        let found = *self.old.get(&key)?;
        self.insert(key, found);
        Some(found)
    }

    pub(crate) fn insert(&mut self, key: u128, series: SeriesRef) {
        if self.max == 0 {
            return;
        }
        if self.young.len() >= self.max.div_ceil(2) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, series);
    }

    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}
