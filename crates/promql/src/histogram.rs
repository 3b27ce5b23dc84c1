//! Native histograms: exponential buckets (schemas -4 to 8) and custom bounds (schema -53).
//!
//! Buckets are kept as sorted pairs of index and count, so that a histogram with few filled buckets is small and two
//! histograms combine in one walk. The arithmetic lives in [`combine`], the estimates in [`estimate`], cutting in
//! [`trim`].

mod combine;
mod estimate;
mod trim;

use std::fmt;
use std::sync::Arc;

pub(crate) use combine::KahanHistogram;
pub use combine::{Combined, IncompatibleSchemas};
pub use estimate::{NanObservations, fraction, quantile};

use crate::number::{almost_equal, format_general, is_stale};

/// The schema of a histogram whose bounds are written out.
pub const CUSTOM_BUCKETS: i32 = -53;

/// What is known about a counter reset between this sample and the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResetHint {
    /// Nothing is known: compare the buckets.
    #[default]
    Unknown,
    Reset,
    NotReset,
    /// A gauge: resets have no meaning.
    Gauge,
}

/// Sorted pairs of bucket index and count.
pub type Buckets = Vec<(i32, f64)>;

/// One native histogram sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    pub hint: ResetHint,
    pub schema: i32,
    /// Half the width of the zero bucket.
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    pub sum: f64,
    pub positive: Buckets,
    pub negative: Buckets,
    /// Upper bounds of the buckets of a custom histogram, without the last (+Inf).
    pub custom_values: Arc<[f64]>,
}

/// One bucket with its bounds; `upper` belongs to it, `lower` does not (mirrored below zero).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    pub lower: f64,
    pub upper: f64,
    pub count: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            hint: ResetHint::Unknown,
            schema: 0,
            zero_threshold: 0.0,
            zero_count: 0.0,
            count: 0.0,
            sum: 0.0,
            positive: Vec::new(),
            negative: Vec::new(),
            custom_values: Arc::from([]),
        }
    }
}

/// Upper bound of the exponential bucket `index`.
pub(crate) fn exponential_bound(index: i32, schema: i32) -> f64 {
    let (exponent, fraction) = if schema < 0 {
        (i64::from(index) << -schema, 0.0)
    } else {
        let per_octave = 1i64 << schema;
        let within = i64::from(index).rem_euclid(per_octave);
        (i64::from(index).div_euclid(per_octave), within as f64 / per_octave as f64)
    };
    if exponent == 1024 && fraction == 0.0 {
        // The bucket before the one for infinities ends at the largest finite number.
        return f64::MAX;
    }
    fraction.exp2() * (exponent as f64).exp2()
}

impl Histogram {
    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == CUSTOM_BUCKETS
    }

    /// Whether this sample is a staleness marker.
    pub fn is_stale(&self) -> bool {
        is_stale(self.sum)
    }

    /// Upper bound of the positive bucket `index`.
    pub(crate) fn bound(&self, index: i32) -> f64 {
        if !self.uses_custom_buckets() {
            return exponential_bound(index, self.schema);
        }
        match usize::try_from(index) {
            Err(_) => f64::NEG_INFINITY,
            Ok(index) => self.custom_values.get(index).copied().unwrap_or(f64::INFINITY),
        }
    }

    pub(crate) fn positive_bucket(&self, (index, count): (i32, f64)) -> Bucket {
        Bucket { lower: self.bound(index - 1), upper: self.bound(index), count }
    }

    pub(crate) fn negative_bucket(&self, (index, count): (i32, f64)) -> Bucket {
        Bucket { lower: -self.bound(index), upper: -self.bound(index - 1), count }
    }

    pub(crate) fn zero_bucket(&self) -> Bucket {
        Bucket { lower: -self.zero_threshold, upper: self.zero_threshold, count: self.zero_count }
    }

    /// All buckets from the lowest to the highest; the ones that overlap the zero bucket are cut at its edge.
    pub fn buckets(&self) -> Vec<Bucket> {
        let mut all = Vec::with_capacity(self.positive.len() + self.negative.len() + 1);
        all.extend(self.negative.iter().rev().map(|pair| self.negative_bucket(*pair)));
        if self.zero_count > 0.0 {
            all.push(self.zero_bucket());
        }
        all.extend(self.positive.iter().map(|pair| self.positive_bucket(*pair)));
        let edge = self.zero_threshold;
        for bucket in &mut all {
            if bucket.upper < 0.0 && bucket.upper > -edge {
                bucket.upper = -edge;
            } else if bucket.lower > 0.0 && bucket.lower < edge {
                bucket.lower = edge;
            }
        }
        all
    }

    /// Removes empty buckets.
    pub fn compact(&mut self) {
        self.positive.retain(|(_, count)| *count != 0.0);
        self.negative.retain(|(_, count)| *count != 0.0);
    }

    pub fn compacted(mut self) -> Self {
        self.compact();
        self
    }

    /// Scales everything; a negative factor makes it a gauge.
    pub fn multiply(&mut self, factor: f64) {
        self.each(|value| value * factor);
        if factor < 0.0 {
            self.hint = ResetHint::Gauge;
        }
    }

    /// Divides everything; division by zero leaves no buckets, a negative divisor makes it a gauge.
    pub fn divide(&mut self, divisor: f64) {
        self.each(|value| value / divisor);
        if divisor == 0.0 {
            self.positive.clear();
            self.negative.clear();
        } else if divisor < 0.0 {
            self.hint = ResetHint::Gauge;
        }
    }

    fn each(&mut self, change: impl Fn(f64) -> f64) {
        self.zero_count = change(self.zero_count);
        self.count = change(self.count);
        self.sum = change(self.sum);
        for (_, count) in self.positive.iter_mut().chain(self.negative.iter_mut()) {
            *count = change(*count);
        }
    }

    /// Whether any part is infinite.
    pub(crate) fn has_overflow(&self) -> bool {
        self.zero_count.is_infinite()
            || self.count.is_infinite()
            || self.sum.is_infinite()
            || self.positive.iter().chain(&self.negative).any(|(_, count)| count.is_infinite())
    }

    /// Whether both hold the same data, bit by bit; empty buckets and hints do not matter.
    pub fn same_data(&self, other: &Self) -> bool {
        self.matches(other, |a, b| a.to_bits() == b.to_bits())
    }

    /// Whether both hold the same data within a relative tolerance; empty buckets and hints do not matter.
    pub fn almost_same(&self, other: &Self, tolerance: f64) -> bool {
        self.matches(other, |a, b| almost_equal(a, b, tolerance))
    }

    fn matches(&self, other: &Self, equal: impl Fn(f64, f64) -> bool) -> bool {
        let filled = |buckets: &Buckets| -> Buckets { buckets.iter().copied().filter(|(_, count)| *count != 0.0).collect() };
        let same_buckets = |a: &Buckets, b: &Buckets| {
            let (a, b) = (filled(a), filled(b));
            a.len() == b.len() && a.iter().zip(&b).all(|(x, y)| x.0 == y.0 && equal(x.1, y.1))
        };
        self.schema == other.schema
            && equal(self.count, other.count)
            && equal(self.sum, other.sum)
            && (!self.uses_custom_buckets() || same_bounds(&self.custom_values, &other.custom_values))
            && self.zero_threshold == other.zero_threshold
            && equal(self.zero_count, other.zero_count)
            && same_buckets(&self.negative, &other.negative)
            && same_buckets(&self.positive, &other.positive)
    }

    /// How much memory one sample counts for, in float samples.
    pub(crate) fn weight(&self) -> usize {
        8 + self.positive.len() + self.negative.len()
    }
}

pub(crate) fn same_bounds(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits())
}

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", format_general(self.count), format_general(self.sum))?;
        let custom = self.uses_custom_buckets();
        let mut write_bucket = |bucket: Bucket, zero: bool, first: bool| {
            let open = if zero || bucket.lower < 0.0 && !custom || custom && first { '[' } else { '(' };
            let close = if zero || custom || bucket.upper > 0.0 { ']' } else { ')' };
            let (lower, upper) = (format_general(bucket.lower), format_general(bucket.upper));
            write!(f, ", {open}{lower},{upper}{close}:{}", format_general(bucket.count))
        };
        for pair in self.negative.iter().rev().filter(|(_, count)| *count != 0.0) {
            write_bucket(self.negative_bucket(*pair), false, false)?;
        }
        if self.zero_count != 0.0 {
            write_bucket(self.zero_bucket(), true, false)?;
        }
        for pair in self.positive.iter().filter(|(_, count)| *count != 0.0) {
            write_bucket(self.positive_bucket(*pair), false, pair.0 == 0)?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_follow_the_schema() {
        for (index, schema, bound) in [(0, 0, 1.0), (3, 0, 8.0), (-1, 0, 0.5), (1, -1, 4.0), (2, 1, 2.0), (1024, 0, f64::MAX)] {
            assert_eq!(exponential_bound(index, schema), bound, "{index} {schema}");
        }
        assert!(almost_equal(exponential_bound(1, 1), std::f64::consts::SQRT_2, 1e-15));
    }

    #[test]
    fn text_lists_the_filled_buckets() {
        let histogram = Histogram { count: 3.0, sum: 4.5, positive: vec![(0, 1.0), (1, 2.0)], ..Histogram::default() };
        assert_eq!(histogram.to_string(), "{count:3, sum:4.5, (0.5,1]:1, (1,2]:2}");
    }
}
