//! Adding, subtracting and comparing histograms of different shapes.

use std::sync::Arc;

use super::{Buckets, Histogram, ResetHint, exponential_bound, same_bounds};
use crate::number::kahan_add;

/// An exponential and a custom histogram cannot be combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncompatibleSchemas;

/// What had to be settled to combine two histograms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Combined {
    /// One said there was a counter reset, the other said there was none.
    pub reset_collision: bool,
    /// Custom bounds differed and only the common ones were kept.
    pub bounds_reconciled: bool,
}

impl Histogram {
    /// Adds another histogram, widening the zero bucket and coarsening the buckets as far as needed.
    pub fn add(&mut self, other: &Self) -> Result<Combined, IncompatibleSchemas> {
        self.combine(other, 1.0)
    }

    /// Subtracts another histogram in the same way.
    pub fn subtract(&mut self, other: &Self) -> Result<Combined, IncompatibleSchemas> {
        self.combine(other, -1.0)
    }

    fn combine(&mut self, other: &Self, sign: f64) -> Result<Combined, IncompatibleSchemas> {
        let mut aligned = None;
        let bounds_reconciled = self.align(other, &mut aligned)?;
        let other = aligned.as_ref().unwrap_or(other);
        let reset_collision = self.settle_hint(other.hint);
        self.zero_count += sign * other.zero_count;
        self.count += sign * other.count;
        self.sum += sign * other.sum;
        self.positive = merge(&self.positive, &other.positive, |a, b| a + sign * b);
        self.negative = merge(&self.negative, &other.negative, |a, b| a + sign * b);
        Ok(Combined { reset_collision, bounds_reconciled })
    }

    /// Brings both to the same schema, bounds and zero bucket. `aligned` gets the other's changed copy, if it had to change.
    fn align(&mut self, other: &Self, aligned: &mut Option<Self>) -> Result<bool, IncompatibleSchemas> {
        if self.uses_custom_buckets() != other.uses_custom_buckets() {
            return Err(IncompatibleSchemas);
        }
        if self.uses_custom_buckets() {
            if same_bounds(&self.custom_values, &other.custom_values) {
                return Ok(false);
            }
            let common = common_bounds(&self.custom_values, &other.custom_values);
            let mut copy = other.clone();
            self.rebound(&common);
            copy.rebound(&common);
            *aligned = Some(copy);
            return Ok(true);
        }
        if self.schema == other.schema && self.zero_threshold == other.zero_threshold {
            return Ok(false);
        }
        let mut copy = other.clone();
        while self.zero_threshold != copy.zero_threshold {
            if self.zero_threshold > copy.zero_threshold {
                copy.widen_zero(self.zero_threshold);
            }
            if copy.zero_threshold > self.zero_threshold {
                self.widen_zero(copy.zero_threshold);
            }
        }
        let schema = self.schema.min(copy.schema);
        self.reduce(schema);
        copy.reduce(schema);
        *aligned = Some(copy);
        Ok(false)
    }

    /// The hint of a combination; true when the two contradict each other.
    fn settle_hint(&mut self, other: ResetHint) -> bool {
        match (self.hint, other) {
            (a, b) if a == b => false,
            (ResetHint::Gauge, _) => false,
            (_, ResetHint::Gauge) => {
                self.hint = ResetHint::Gauge;
                false
            }
            (a, b) => {
                self.hint = ResetHint::Unknown;
                a != ResetHint::Unknown && b != ResetHint::Unknown
            }
        }
    }

    /// Lowers the resolution of an exponential histogram.
    pub(crate) fn reduce(&mut self, schema: i32) {
        if schema >= self.schema || self.uses_custom_buckets() {
            return;
        }
        let shift = self.schema - schema;
        let coarser = |index: i32| ((index - 1) >> shift) + 1;
        self.positive = regroup(&self.positive, coarser);
        self.negative = regroup(&self.negative, coarser);
        self.schema = schema;
    }

    /// Moves the buckets of a custom histogram to bounds of which it has every one.
    fn rebound(&mut self, bounds: &Arc<[f64]>) {
        let old = self.custom_values.clone();
        self.positive = regroup(&self.positive, |index| {
            let upper = usize::try_from(index).ok().and_then(|i| old.get(i)).copied().unwrap_or(f64::INFINITY);
            bounds.partition_point(|bound| *bound < upper) as i32
        });
        self.custom_values = bounds.clone();
    }

    /// Widens the zero bucket to at least `threshold`; a filled bucket on the edge is taken in whole.
    fn widen_zero(&mut self, threshold: f64) {
        let (count, threshold) = self.zero_count_for(threshold);
        self.zero_count = count;
        self.zero_threshold = threshold;
        let schema = self.schema;
        let outside = |pair: &(i32, f64)| exponential_bound(pair.0 - 1, schema) >= threshold;
        self.positive.retain(outside);
        self.negative.retain(outside);
    }

    fn zero_count_for(&self, mut threshold: f64) -> (f64, f64) {
        loop {
            let mut count = self.zero_count;
            let mut grown = false;
            for (side, buckets) in [&self.positive, &self.negative].into_iter().enumerate() {
                for (index, filled) in buckets {
                    if exponential_bound(index - 1, self.schema) >= threshold {
                        break;
                    }
                    count += filled;
                    let upper = exponential_bound(*index, self.schema);
                    if upper > threshold && *filled != 0.0 {
                        threshold = upper;
                        // What was counted on the positive side no longer holds.
                        grown = side == 1;
                        break;
                    }
                }
            }
            if !grown {
                return (count, threshold);
            }
        }
    }

    /// Whether a counter was reset between `previous` and this histogram.
    pub fn detect_reset(&self, previous: &Self) -> bool {
        match self.hint {
            ResetHint::Reset => return true,
            ResetHint::NotReset => return false,
            ResetHint::Unknown | ResetHint::Gauge => {}
        }
        if self.count < previous.count {
            return true;
        }
        if self.uses_custom_buckets() {
            if !previous.uses_custom_buckets() {
                return true;
            }
            if !same_bounds(&self.custom_values, &previous.custom_values) {
                let common = common_bounds(&self.custom_values, &previous.custom_values);
                let (mut current, mut before) = (self.clone(), previous.clone());
                current.rebound(&common);
                before.rebound(&common);
                return lost_counts(&current.positive, &before.positive);
            }
        }
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        if previous.schema == self.schema && previous.zero_threshold == self.zero_threshold {
            return self.zero_count < previous.zero_count
                || lost_counts(&self.positive, &previous.positive)
                || lost_counts(&self.negative, &previous.negative);
        }
        if previous.uses_custom_buckets() {
            return true;
        }
        let mut before = previous.clone();
        before.widen_zero(self.zero_threshold);
        if before.zero_threshold != self.zero_threshold {
            return true;
        }
        before.reduce(self.schema);
        self.zero_count < before.zero_count
            || lost_counts(&self.positive, &before.positive)
            || lost_counts(&self.negative, &before.negative)
    }
}

/// Whether a filled bucket of `previous` is missing or smaller in `current`.
fn lost_counts(current: &Buckets, previous: &Buckets) -> bool {
    let mut rest = current.iter().peekable();
    previous.iter().any(|(index, before)| {
        while rest.next_if(|(at, _)| at < index).is_some() {}
        match rest.peek() {
            Some((at, now)) if at == index => now < before,
            _ => *before != 0.0,
        }
    })
}

/// Walks two bucket lists together; what one does not have counts as zero.
fn merge(left: &Buckets, right: &Buckets, join: impl Fn(f64, f64) -> f64) -> Buckets {
    let mut merged = Vec::with_capacity(left.len().max(right.len()));
    let (mut l, mut r) = (left.iter().copied().peekable(), right.iter().copied().peekable());
    loop {
        let next = match (l.peek(), r.peek()) {
            (None, None) => return merged,
            (Some(a), None) => a.0,
            (None, Some(b)) => b.0,
            (Some(a), Some(b)) => a.0.min(b.0),
        };
        let a = l.next_if(|pair| pair.0 == next).map_or(0.0, |pair| pair.1);
        let b = r.next_if(|pair| pair.0 == next).map_or(0.0, |pair| pair.1);
        merged.push((next, join(a, b)));
    }
}

/// Renumbers buckets with a function that keeps their order, and sums those that fall together.
fn regroup(buckets: &Buckets, index: impl Fn(i32) -> i32) -> Buckets {
    let mut grouped: Buckets = Vec::with_capacity(buckets.len());
    for (at, count) in buckets {
        let at = index(*at);
        match grouped.last_mut() {
            Some(last) if last.0 == at => last.1 += count,
            _ => grouped.push((at, *count)),
        }
    }
    grouped
}

fn common_bounds(a: &[f64], b: &[f64]) -> Arc<[f64]> {
    a.iter().copied().filter(|bound| b.contains(bound)).collect()
}

/// A sum of histograms with a compensation for what rounding lost.
#[derive(Clone, Debug)]
pub(crate) struct KahanHistogram {
    pub(crate) sum: Histogram,
    lost: Histogram,
}

impl KahanHistogram {
    pub(crate) fn new(first: Histogram) -> Self {
        let lost = Histogram {
            schema: first.schema,
            zero_threshold: first.zero_threshold,
            custom_values: first.custom_values.clone(),
            ..Histogram::default()
        };
        Self { sum: first, lost }
    }

    /// Adds a histogram; true when custom bounds had to be reconciled.
    pub(crate) fn add(&mut self, other: &Histogram) -> Result<bool, IncompatibleSchemas> {
        let mut aligned = None;
        let reconciled = self.sum.align(other, &mut aligned)?;
        let other = aligned.as_ref().unwrap_or(other);
        if aligned_shape_changed(&self.sum, &self.lost) {
            if self.sum.uses_custom_buckets() {
                self.lost.rebound(&self.sum.custom_values);
            } else {
                self.lost.widen_zero(self.sum.zero_threshold);
                self.lost.zero_threshold = self.sum.zero_threshold;
                self.lost.reduce(self.sum.schema);
            }
        }
        self.sum.settle_hint(other.hint);
        let (sum, lost) = (&mut self.sum, &mut self.lost);
        (sum.count, lost.count) = kahan_add(other.count, sum.count, lost.count);
        (sum.sum, lost.sum) = kahan_add(other.sum, sum.sum, lost.sum);
        (sum.zero_count, lost.zero_count) = kahan_add(other.zero_count, sum.zero_count, lost.zero_count);
        kahan_buckets(&mut sum.positive, &mut lost.positive, &other.positive);
        kahan_buckets(&mut sum.negative, &mut lost.negative, &other.negative);
        Ok(reconciled)
    }

    pub(crate) fn scale(&mut self, factor: f64) {
        self.sum.each(|value| value * factor);
        self.lost.each(|value| value * factor);
    }

    pub(crate) fn shrink(&mut self, divisor: f64) {
        self.sum.each(|value| value / divisor);
        self.lost.each(|value| value / divisor);
    }

    pub(crate) fn finish(mut self) -> Histogram {
        let (sum, lost) = (&mut self.sum, &self.lost);
        sum.count += lost.count;
        sum.sum += lost.sum;
        sum.zero_count += lost.zero_count;
        sum.positive = merge(&sum.positive, &lost.positive, |a, b| a + b);
        sum.negative = merge(&sum.negative, &lost.negative, |a, b| a + b);
        self.sum
    }
}

fn aligned_shape_changed(sum: &Histogram, lost: &Histogram) -> bool {
    sum.schema != lost.schema || sum.zero_threshold != lost.zero_threshold || !same_bounds(&sum.custom_values, &lost.custom_values)
}

fn kahan_buckets(sum: &mut Buckets, lost: &mut Buckets, other: &Buckets) {
    let union = merge(sum, other, |_, _| 0.0);
    let (mut s, mut l, mut o) = (sum.iter().peekable(), lost.iter().peekable(), other.iter().peekable());
    let (mut new_sum, mut new_lost) = (Vec::with_capacity(union.len()), Vec::with_capacity(union.len()));
    for (index, _) in &union {
        while l.next_if(|pair| pair.0 < *index).is_some() {}
        let a = s.next_if(|pair| pair.0 == *index).map_or(0.0, |pair| pair.1);
        let c = l.next_if(|pair| pair.0 == *index).map_or(0.0, |pair| pair.1);
        let b = o.next_if(|pair| pair.0 == *index).map_or(0.0, |pair| pair.1);
        let (total, rest) = kahan_add(b, a, c);
        new_sum.push((*index, total));
        new_lost.push((*index, rest));
    }
    *sum = new_sum;
    *lost = new_lost;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exponential(schema: i32, positive: Buckets) -> Histogram {
        let count = positive.iter().map(|pair| pair.1).sum();
        Histogram { schema, count, positive, ..Histogram::default() }
    }

    #[test]
    fn addition_coarsens_the_finer_one() {
        let mut coarse = exponential(-1, vec![(1, 1.0)]);
        coarse.add(&exponential(0, vec![(1, 2.0), (2, 2.0)])).unwrap();
        assert_eq!(coarse.positive, vec![(1, 5.0)]);
    }

    #[test]
    fn custom_bounds_shrink_to_the_common_ones() {
        let custom = |bounds: &[f64], positive| Histogram { schema: -53, custom_values: bounds.into(), positive, ..Histogram::default() };
        let mut left = custom(&[5.0, 10.0], vec![(0, 1.0)]);
        let combined = left.add(&custom(&[10.0], vec![(0, 1.0), (1, 2.0)])).unwrap();
        assert!(combined.bounds_reconciled);
        assert_eq!(left.positive, vec![(0, 2.0), (1, 2.0)]);
        assert!(left.add(&exponential(0, vec![])).is_err());
    }

    #[test]
    fn resets_are_seen_in_any_bucket() {
        let before = exponential(0, vec![(0, 1.0), (1, 2.0)]);
        assert!(!exponential(0, vec![(0, 1.0), (1, 2.0)]).detect_reset(&before));
        assert!(exponential(0, vec![(0, 3.0), (1, 1.0)]).detect_reset(&before));
        assert!(exponential(0, vec![(0, 9.0)]).detect_reset(&before));
        assert!(exponential(1, vec![(0, 9.0)]).detect_reset(&before));
    }

    #[test]
    fn the_zero_bucket_swallows_what_it_overlaps() {
        let mut narrow = exponential(0, vec![(-1, 1.0), (3, 1.0)]);
        narrow.add(&Histogram { zero_threshold: 0.3, zero_count: 2.0, count: 2.0, ..Histogram::default() }).unwrap();
        assert_eq!((narrow.zero_threshold, narrow.zero_count), (0.5, 3.0));
        assert_eq!(narrow.positive, vec![(3, 1.0)]);
    }
}
