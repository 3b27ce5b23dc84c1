//! Quantiles and fractions of native histograms.

use super::{Bucket, Histogram};

/// What NaN observations did to an estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NanObservations {
    None,
    /// The result is NaN because the rank falls among them.
    Result,
    /// The result is higher than it would be without them.
    Skew,
}

/// The value below which the fraction `q` of the observations lies.
///
/// Exponential buckets are interpolated on a logarithmic scale, custom ones and the zero bucket linearly.
pub fn quantile(q: f64, histogram: &Histogram) -> (f64, NanObservations) {
    if q < 0.0 {
        return (f64::NEG_INFINITY, NanObservations::None);
    }
    if q > 1.0 {
        return (f64::INFINITY, NanObservations::None);
    }
    if histogram.count == 0.0 || q.is_nan() {
        return (f64::NAN, NanObservations::None);
    }
    let mut buckets = histogram.buckets();
    // NaN observations raise the count without filling a bucket, so only the walk from below finds the right rank.
    let forward = histogram.sum.is_nan() || q < 0.5;
    let mut rank = if forward { q * histogram.count } else { (1.0 - q) * histogram.count };
    if !forward {
        buckets.reverse();
    }
    let (mut count, mut last) = (0.0, 0);
    for (i, bucket) in buckets.iter().enumerate() {
        last = i;
        if bucket.count == 0.0 {
            continue;
        }
        count += bucket.count;
        if count >= rank {
            break;
        }
    }
    let Some(mut bucket) = buckets.get(last).copied() else { return (f64::NAN, NanObservations::None) };
    if let Some(edge) = natural_edges(histogram, &mut bucket) {
        return (edge, NanObservations::None);
    }
    count = count.min(histogram.count);
    if count < rank {
        return if histogram.sum.is_nan() { (f64::NAN, NanObservations::Result) } else { (bucket.upper, NanObservations::None) };
    }
    rank = if forward { rank - (count - bucket.count) } else { count - rank };
    let mut nan = NanObservations::None;
    if histogram.sum.is_nan() && count + buckets[last + 1..].iter().map(|b| b.count).sum::<f64>() < histogram.count {
        nan = NanObservations::Skew;
    }
    (interpolate(histogram, bucket, rank / bucket.count), nan)
}

/// Gives the outermost buckets their natural edges; `Some` when the answer is an edge.
fn natural_edges(histogram: &Histogram, bucket: &mut Bucket) -> Option<f64> {
    if histogram.uses_custom_buckets() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return Some(bucket.upper);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return Some(bucket.lower);
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        bias_zero_bucket(histogram, bucket);
    }
    None
}

/// The zero bucket of a histogram with observations on one side only reaches to zero, not beyond.
pub(super) fn bias_zero_bucket(histogram: &Histogram, bucket: &mut Bucket) {
    match (histogram.negative.is_empty(), histogram.positive.is_empty()) {
        (true, false) => bucket.lower = 0.0,
        (false, true) => bucket.upper = 0.0,
        _ => {}
    }
}

fn interpolate(histogram: &Histogram, bucket: Bucket, fraction: f64) -> f64 {
    if histogram.uses_custom_buckets() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return bucket.lower + (bucket.upper - bucket.lower) * fraction;
    }
    let (log_lower, log_upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
    if bucket.lower > 0.0 {
        (log_lower + (log_upper - log_lower) * fraction).exp2()
    } else {
        -(log_upper + (log_lower - log_upper) * (1.0 - fraction)).exp2()
    }
}

/// The fraction of the observations between two values, and whether NaN observations were left out.
pub fn fraction(lower: f64, upper: f64, histogram: &Histogram) -> (f64, bool) {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, false);
    }
    if lower >= upper {
        return (0.0, false);
    }
    let buckets = histogram.buckets();
    let (mut rank, mut lower_rank, mut upper_rank) = (0.0, None, None);
    for bucket in &buckets {
        let mut bucket = *bucket;
        let zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
        if zero {
            bias_zero_bucket(histogram, &mut bucket);
        }
        let linear = histogram.uses_custom_buckets() || zero;
        for (value, found) in [(lower, &mut lower_rank), (upper, &mut upper_rank)] {
            if found.is_none() && bucket.lower >= value {
                *found = Some(rank);
            }
            if found.is_none() && bucket.lower < value && bucket.upper > value {
                *found = Some(rank_within(bucket, rank, value, linear));
            }
        }
        if lower_rank.is_some() && upper_rank.is_some() {
            break;
        }
        rank += bucket.count;
    }
    let (mut count, mut left_out) = (histogram.count, false);
    if histogram.sum.is_nan() {
        count = buckets.iter().map(|bucket| bucket.count).sum();
        left_out = count < histogram.count;
    }
    let settle = |rank: Option<f64>| rank.filter(|rank| *rank <= count).unwrap_or(count);
    ((settle(upper_rank) - settle(lower_rank)) / histogram.count, left_out)
}

/// How many observations lie below `value`, which is inside `bucket`; `rank` lie below the bucket.
fn rank_within(bucket: Bucket, rank: f64, value: f64, linear: bool) -> f64 {
    if linear {
        // An infinitely wide bucket tells nothing about where in it the observations are.
        if bucket.lower == f64::NEG_INFINITY {
            return bucket.count;
        }
        return rank + bucket.count * (value - bucket.lower) / (bucket.upper - bucket.lower);
    }
    rank + bucket.count * exponential_fraction(bucket, value)
}

/// How far `value` is into an exponential bucket, on a logarithmic scale.
pub(super) fn exponential_fraction(bucket: Bucket, value: f64) -> f64 {
    let (log_lower, log_upper, log_value) = (bucket.lower.abs().log2(), bucket.upper.abs().log2(), value.abs().log2());
    if value > 0.0 { (log_value - log_lower) / (log_upper - log_lower) } else { 1.0 - (log_value - log_upper) / (log_lower - log_upper) }
}
