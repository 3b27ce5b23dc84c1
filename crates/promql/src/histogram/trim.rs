//! Cutting a histogram at a value: the operators `</` (keep what is below) and `>/` (keep what is above).

use super::estimate::{bias_zero_bucket, exponential_fraction};
use super::{Bucket, Histogram};

/// Which side stays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Below,
    Above,
}

/// What stays of one bucket: the count, and the value that stands for it in the sum.
struct Kept {
    count: f64,
    middle: f64,
}

impl Histogram {
    /// Keeps the observations at or below `limit`; the sum is estimated from the middles of the buckets that stay.
    pub fn trim_above(&mut self, limit: f64) {
        self.trim(limit, Keep::Below);
    }

    /// Keeps the observations above `limit`.
    pub fn trim_below(&mut self, limit: f64) {
        self.trim(limit, Keep::Above);
    }

    fn trim(&mut self, limit: f64, keep: Keep) {
        let custom = self.uses_custom_buckets();
        let (mut count, mut sum, mut changed) = (0.0, 0.0, false);
        let mut note = |before: f64, kept: &Kept| {
            count += kept.count;
            if kept.count != 0.0 {
                sum += kept.count * kept.middle;
            }
            changed |= kept.count != before;
        };
        let mut positive = self.positive.clone();
        for pair in &mut positive {
            let bucket = self.positive_bucket(*pair);
            let kept = if custom { keep_custom(bucket, limit, keep) } else { keep_exponential(bucket, limit, keep) };
            note(pair.1, &kept);
            pair.1 = kept.count;
        }
        let mut negative = self.negative.clone();
        for pair in &mut negative {
            let kept = keep_exponential(self.negative_bucket(*pair), limit, keep);
            note(pair.1, &kept);
            pair.1 = kept.count;
        }
        let mut zero_count = self.zero_count;
        if zero_count != 0.0 {
            let mut bucket = self.zero_bucket();
            bias_zero_bucket(self, &mut bucket);
            let kept = keep_linear(bucket, limit, keep);
            note(zero_count, &kept);
            zero_count = kept.count;
        }
        if changed {
            (self.positive, self.negative, self.zero_count) = (positive, negative, zero_count);
            self.count = count;
            self.sum = if count == 0.0 { 0.0 } else { sum };
        }
        self.compact();
    }
}

/// The part of `[lower, upper]` on the side that stays.
fn remaining(bucket: Bucket, limit: f64, keep: Keep) -> (f64, f64) {
    match keep {
        Keep::Below => (bucket.lower, limit.min(bucket.upper)),
        Keep::Above => (limit.max(bucket.lower), bucket.upper),
    }
}

fn keep_linear(bucket: Bucket, limit: f64, keep: Keep) -> Kept {
    let (lower, upper) = remaining(bucket, limit, keep);
    if lower >= upper && bucket.lower < bucket.upper || lower > upper {
        return Kept { count: 0.0, middle: 0.0 };
    }
    let share = if (lower, upper) == (bucket.lower, bucket.upper) { 1.0 } else { (upper - lower) / (bucket.upper - bucket.lower) };
    Kept { count: bucket.count * share, middle: f64::midpoint(lower, upper) }
}

fn keep_exponential(bucket: Bucket, limit: f64, keep: Keep) -> Kept {
    let (lower, upper) = remaining(bucket, limit, keep);
    if lower >= upper {
        return Kept { count: 0.0, middle: 0.0 };
    }
    let inside = bucket.lower < limit && limit < bucket.upper;
    let below = if inside { exponential_fraction(bucket, limit) } else { 1.0 };
    let share = if inside && keep == Keep::Above { 1.0 - below } else { below };
    let middle = (lower.abs() * upper.abs()).sqrt();
    Kept { count: bucket.count * share, middle: if upper > 0.0 { middle } else { -middle } }
}

/// Custom buckets are linear, but the outermost two are infinitely wide and say nothing about where the values lie.
fn keep_custom(bucket: Bucket, limit: f64, keep: Keep) -> Kept {
    let nothing = Kept { count: 0.0, middle: 0.0 };
    let all = |middle: f64| Kept { count: bucket.count, middle };
    let (open_below, open_above) = (bucket.lower == f64::NEG_INFINITY, bucket.upper == f64::INFINITY);
    let everything = match keep {
        Keep::Below => limit == f64::INFINITY,
        Keep::Above => limit == f64::NEG_INFINITY,
    };
    if everything && (open_below || open_above) {
        // The sum is only estimated when something else was cut, which an infinite limit never does.
        return all(0.0);
    }
    match (open_below, open_above, keep) {
        (true, true, _) | (false, true, Keep::Below) => nothing,
        (false, true, Keep::Above) if limit == f64::INFINITY => nothing,
        (false, true, Keep::Above) => all(limit.max(bucket.lower)),
        (true, false, keep) if bucket.upper > 0.0 => {
            if limit < 0.0 {
                return nothing;
            }
            keep_linear(Bucket { lower: 0.0, ..bucket }, limit, keep)
        }
        (true, false, Keep::Below) if limit == f64::NEG_INFINITY => nothing,
        (true, false, Keep::Below) => all(limit.min(bucket.upper)),
        (true, false, Keep::Above) => nothing,
        (false, false, keep) => keep_linear(bucket, limit, keep),
    }
}
