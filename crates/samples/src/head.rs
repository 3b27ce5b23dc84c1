//! The samples in memory: pages of series, the catalogue that finds them, and what becomes of appended samples.
//!
//! Locks are taken in this order: upkeep's round, the guard of series that leave, the log, the catalogue, a page. A page is locked for as long as its
//! thousand series take, so that neither a big selection nor a big append makes the other wait.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use paramedic_promql::histogram::Histogram;
use paramedic_promql::{Label, Labels, Matcher, Need, Samples as Decoded, Visitor};

use crate::chunk::ChunkView;
use crate::index::Index;
use crate::selections::Selections;
use crate::series::{Fate, Series, tidy};

pub(crate) const PAGE: usize = 1024;
const PLACE_BITS: u32 = 24;
/// Series that can be in memory at all, because a place has 24 bits.
pub(crate) const PLACES_MAX: usize = 1 << PLACE_BITS;

/// Names a series for fast appends. It stays valid until the series has left the memory, and never names another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesRef(pub(crate) u64);

impl SeriesRef {
    pub(crate) fn new(created: u64, place: u32) -> Self {
        Self(created << PLACE_BITS | u64::from(place))
    }

    pub(crate) fn place(self) -> u32 {
        (self.0 & (PLACES_MAX as u64 - 1)) as u32
    }

    /// How many series there were before it, ever.
    pub(crate) fn created(self) -> u64 {
        self.0 >> PLACE_BITS
    }
}

/// Keys that are good hashes already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Hashes of label sets. The seed is secret, so that nobody can send label sets that collide.
#[derive(Debug)]
pub(crate) struct LabelHash {
    seed: u64,
}

impl Default for LabelHash {
    fn default() -> Self {
        Self { seed: std::hash::RandomState::new().hash_one(0u8) }
    }
}

impl LabelHash {
    pub(crate) fn of<'a>(&self, labels: impl Iterator<Item = (&'a str, &'a str)>, buffer: &mut Vec<u8>) -> u64 {
        buffer.clear();
        for (name, value) in labels {
            buffer.extend_from_slice(name.as_bytes());
            buffer.push(0xff);
            buffer.extend_from_slice(value.as_bytes());
            buffer.push(0xfe);
        }
        xxhash_rust::xxh3::xxh3_64_with_seed(buffer, self.seed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    pub(crate) index: Index,
    /// How often a series came or went.
    version: u64,
    places: HashMap<u64, u32, BuildHasherDefault<AsIs>>,
    /// Places whose hash another series had first.
    collided: Vec<(u64, u32)>,
    /// The series at each place; zero where it is free.
    pub(crate) ids: Vec<u64>,
    free: Vec<u32>,
}

impl Catalogue {
    /// The place that the next series gets.
    pub(crate) fn next_place(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.ids.len() as u32)
    }

    pub(crate) fn id_at(&self, place: u32) -> Option<u64> {
        self.ids.get(place as usize).copied().filter(|id| *id != 0)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) hash: LabelHash,
    pub(crate) catalogue: RwLock<Catalogue>,
    pages: RwLock<Vec<Arc<RwLock<Vec<Series>>>>>,
    /// Taken for writing only while series leave.
    pub(crate) leaving: RwLock<()>,
    selections: Selections,
    newest: AtomicI64,
}

pub(crate) fn read<T: ?Sized>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T: ?Sized>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// How many samples met which fate.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fates {
    pub(crate) appended: u64,
    pub(crate) late: u64,
    pub(crate) duplicates: u64,
    pub(crate) conflicts: u64,
    pub(crate) too_old: u64,
}

impl Fates {
    #[inline]
    fn count(&mut self, fate: Fate) {
        match fate {
            Fate::Appended => self.appended += 1,
            Fate::Late => self.late += 1,
            Fate::Duplicate => self.duplicates += 1,
            Fate::Conflict => self.conflicts += 1,
            Fate::TooOld => self.too_old += 1,
        }
    }
}

impl Head {
    pub(crate) fn new() -> Self {
        Self { newest: AtomicI64::new(i64::MIN), ..Self::default() }
    }

    /// The latest sample of all.
    pub(crate) fn newest(&self) -> i64 {
        self.newest.load(Ordering::Relaxed)
    }

    pub(crate) fn pages(&self) -> Vec<Arc<RwLock<Vec<Series>>>> {
        read(&self.pages).clone()
    }

    fn page(&self, number: usize) -> Option<Arc<RwLock<Vec<Series>>>> {
        read(&self.pages).get(number).cloned()
    }

    pub(crate) fn labels_at(&self, place: u32) -> Option<Labels> {
        let page = self.page(place as usize / PAGE)?;
        let page = read(&page);
        page.get(place as usize % PAGE).filter(|series| series.id != 0).map(|series| series.labels.clone())
    }

    fn has_labels<'a>(&self, place: u32, mut labels: impl Iterator<Item = (&'a str, &'a str)>) -> bool {
        let pages = read(&self.pages);
        let Some(page) = pages.get(place as usize / PAGE) else { return false };
        let page = read(page);
        let Some(series) = page.get(place as usize % PAGE) else { return false };
        let same = |label: &Label| labels.next().is_some_and(|(name, value)| name == &*label.name && value == &*label.value);
        series.labels.iter().all(same) && labels.next().is_none()
    }

    /// Finds a series by its labels, which are in order and without empty values.
    pub(crate) fn find<'a>(
        &self,
        catalogue: &Catalogue,
        hash: u64,
        labels: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Option<SeriesRef> {
        let first = *catalogue.places.get(&hash)?;
        let others = catalogue.collided.iter().filter(|(other, _)| *other == hash).map(|(_, place)| *place);
        let place = std::iter::once(first).chain(others).find(|place| self.has_labels(*place, labels.clone()))?;
        catalogue.id_at(place).map(SeriesRef)
    }

    /// Adds a series at the place that its reference names, in place of whatever was there.
    pub(crate) fn insert<'a>(
        &self,
        catalogue: &mut Catalogue,
        series: SeriesRef,
        hash: u64,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
    ) {
        let place = series.place();
        if catalogue.free.last() == Some(&place) {
            catalogue.free.pop();
        } else {
            catalogue.free.retain(|free| *free != place);
        }
        while catalogue.ids.len() <= place as usize {
            let missing = catalogue.ids.len() as u32;
            catalogue.ids.push(0);
            if missing != place {
                catalogue.free.push(missing);
            }
        }
        catalogue.ids[place as usize] = series.0;
        let labels = catalogue.index.insert(place, labels);
        catalogue.version += 1;
        if let Some(first) = catalogue.places.get(&hash).copied().filter(|first| *first != place) {
            tracing::debug!(first, place, "two label sets have the same hash");
            catalogue.collided.push((hash, place));
        } else {
            catalogue.places.insert(hash, place);
        }
        let number = place as usize / PAGE;
        if read(&self.pages).len() <= number {
            write(&self.pages).resize_with(number + 1, || Arc::new(RwLock::new(Vec::with_capacity(PAGE))));
        }
        let Some(page) = self.page(number) else { return };
        let mut page = write(&page);
        while page.len() <= place as usize % PAGE {
            page.push(Series::new(0, Labels::empty()));
        }
        page[place as usize % PAGE] = Series::new(series.0, labels);
    }

    /// Removes series; only while nobody selects or appends.
    pub(crate) fn remove(&self, places: &[u32]) {
        let mut catalogue = write(&self.catalogue);
        let mut buffer = Vec::new();
        for place in places {
            let Some(page) = self.page(*place as usize / PAGE) else { continue };
            let mut page = write(&page);
            let Some(series) = page.get_mut(*place as usize % PAGE) else { continue };
            let labels = series.labels.iter().map(|label| (&*label.name, &*label.value));
            let hash = self.hash.of(labels, &mut buffer);
            if catalogue.places.get(&hash) == Some(place) {
                match catalogue.collided.iter().position(|(other, _)| *other == hash) {
                    Some(at) => {
                        let (_, next) = catalogue.collided.swap_remove(at);
                        catalogue.places.insert(hash, next);
                    }
                    None => {
                        catalogue.places.remove(&hash);
                    }
                }
            } else {
                catalogue.collided.retain(|(_, other)| other != place);
            }
            *series = Series::new(0, Labels::empty());
            catalogue.ids[*place as usize] = 0;
            catalogue.free.push(*place);
        }
        catalogue.index.remove(places);
        catalogue.version += 1;
    }

    /// Calls with the series of each sample, in order; a page stays locked while the samples stay in it.
    fn each_series<T>(&self, samples: &[T], place_of: impl Fn(&T) -> u32, mut each: impl FnMut(&mut Series, &T)) {
        let mut rest = samples;
        while let Some(first) = rest.first() {
            let number = place_of(first) as usize / PAGE;
            let count = rest.iter().take_while(|sample| place_of(sample) as usize / PAGE == number).count();
            let (here, after) = rest.split_at(count);
            if let Some(page) = self.page(number) {
                let mut page = write(&page);
                for sample in here {
                    if let Some(series) = page.get_mut(place_of(sample) as usize % PAGE).filter(|series| series.id != 0) {
                        each(series, sample);
                    }
                }
            }
            rest = after;
        }
    }

    pub(crate) fn append_floats(&self, samples: &[(u32, i64, f64)], window_ms: i64) -> Fates {
        let mut fates = Fates::default();
        let mut newest = i64::MIN;
        self.each_series(
            samples,
            |sample| sample.0,
            |series, (_, time, value)| {
                newest = newest.max(*time);
                fates.count(series.append(*time, *value, window_ms));
            },
        );
        self.newest.fetch_max(newest, Ordering::Relaxed);
        fates
    }

    pub(crate) fn append_histograms(&self, samples: &[(u32, i64, Arc<Histogram>)], window_ms: i64) -> Fates {
        let mut fates = Fates::default();
        let mut newest = i64::MIN;
        self.each_series(
            samples,
            |sample| sample.0,
            |series, (_, time, value)| {
                newest = newest.max(*time);
                fates.count(series.append_histogram(*time, value, window_ms));
            },
        );
        self.newest.fetch_max(newest, Ordering::Relaxed);
        fates
    }

    /// Gives a series its saved chunks back.
    pub(crate) fn restore(&self, series: SeriesRef, last: i64, closed: &[ChunkView<'_>], open: Option<ChunkView<'_>>) {
        self.each_series(
            &[series],
            |series| series.place(),
            |found, _| {
                found.last = last;
                found.closed = closed.iter().map(|view| view.to_chunk()).collect();
                if let Some(open) = open {
                    found.reopen(open);
                }
            },
        );
        self.newest.fetch_max(last, Ordering::Relaxed);
    }

    /// The places of the series that pass every matcher, ascending.
    pub(crate) fn matching(&self, matchers: &[Matcher]) -> Arc<[u32]> {
        let catalogue = read(&self.catalogue);
        self.selections.get(matchers, catalogue.version, || catalogue.index.select(matchers, &|place| self.labels_at(place)))
    }

    /// Calls with each series at the places, in order.
    pub(crate) fn visit(&self, places: &[u32], mut each: impl FnMut(&Series)) {
        let _ = self.visit_until(places, |series| {
            each(series);
            ControlFlow::Continue(())
        });
    }

    fn visit_until(&self, places: &[u32], mut each: impl FnMut(&Series) -> ControlFlow<()>) -> ControlFlow<()> {
        for here in places.chunk_by(|a, b| *a as usize / PAGE == *b as usize / PAGE) {
            let Some(page) = here.first().and_then(|first| self.page(*first as usize / PAGE)) else { continue };
            let page = read(&page);
            for place in here {
                if let Some(series) = page.get(*place as usize % PAGE).filter(|series| series.id != 0) {
                    each(series)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Calls with the series that pass and their samples between two times; those without any are left out.
    pub(crate) fn select(&self, matchers: &[Matcher], from: i64, to: i64, mut each: impl FnMut(Labels, Decoded)) {
        self.walk(matchers, from, to, Need::Range, &mut |labels, samples| {
            // A copy of the right size costs less than vectors that grow for every series.
            each(labels.clone(), samples.clone());
            ControlFlow::Continue(())
        });
    }

    /// The same without copies: the samples are overwritten with those of the next series.
    pub(crate) fn walk(&self, matchers: &[Matcher], from: i64, to: i64, need: Need, visit: &mut Visitor<'_>) {
        let places = self.matching(matchers);
        let mut scratch = Decoded::default();
        let mut buffer = Vec::new();
        let _ = self.visit_until(&places, |series| {
            scratch.times.clear();
            scratch.values.clear();
            scratch.histograms.clear();
            let at_hand = need == Need::Newest && series.newest(from, to, &mut scratch);
            if !at_hand && !series.read(from, to, &mut scratch, &mut buffer) {
                tidy(&mut scratch);
            }
            if scratch.is_empty() { ControlFlow::Continue(()) } else { visit(&series.labels, &scratch) }
        });
    }
}
