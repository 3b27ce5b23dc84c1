//! Classic histograms: series that differ only in their `le` label.

use std::collections::HashMap;

use super::Grid;
use super::series::{At, Series};
use crate::annotations::Annotations;
use crate::labels::{BUCKET, Labels};
use crate::number::{almost_equal, parse_float};

/// One cumulative bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClassicBucket {
    upper: f64,
    count: f64,
}

/// The series of one classic histogram, sorted by bound.
pub(super) struct ClassicGroup {
    /// The labels without `le`.
    pub(super) labels: Labels,
    /// Bound and index of the series.
    members: Vec<(f64, usize)>,
    /// The steps at which a native histogram has the same labels, if there are any.
    mixed: Option<Vec<bool>>,
}

/// The classic histograms of a vector.
pub(super) struct ClassicGroups {
    pub(super) groups: Vec<ClassicGroup>,
    /// For each series with native histograms that shares its labels with a classic one: which.
    partners: HashMap<usize, usize>,
}

impl ClassicGroups {
    pub(super) fn new(vector: &[Series], grid: Grid, position: usize, annotations: &mut Annotations) -> Self {
        let mut groups: Vec<ClassicGroup> = Vec::new();
        let mut known: HashMap<Labels, usize> = HashMap::new();
        for (at, series) in vector.iter().enumerate() {
            if !(0..grid.steps).any(|step| matches!(series.at(step), At::Float(_))) {
                continue;
            }
            let le = series.labels.get(BUCKET);
            let Some(upper) = parse_float(le) else {
                annotations.bad_bucket_label(position, series.labels.metric_name(), le);
                continue;
            };
            let labels = series.labels.filtered(|name| name != BUCKET);
            let group = *known.entry(labels.clone()).or_insert_with(|| {
                groups.push(ClassicGroup { labels, members: Vec::new(), mixed: None });
                groups.len() - 1
            });
            groups[group].members.push((upper, at));
        }
        for group in &mut groups {
            group.members.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        let mut partners = HashMap::new();
        for (at, series) in vector.iter().enumerate().filter(|(_, series)| series.has_histograms()) {
            let Some(group) = known.get(&series.labels) else { continue };
            let mixed: Vec<bool> =
                (0..grid.steps).map(|step| series.histogram(step).is_some() && !groups[*group].buckets(vector, step).is_empty()).collect();
            if mixed.contains(&true) {
                annotations.mixed_classic_native(position, series.labels.metric_name());
                groups[*group].mixed = Some(mixed);
                partners.insert(at, *group);
            }
        }
        Self { groups, partners }
    }

    /// Whether a native series has a classic partner at a step, so that neither can be used.
    pub(super) fn is_mixed(&self, series: usize, step: usize) -> bool {
        self.partners.get(&series).is_some_and(|group| self.groups[*group].is_mixed(step))
    }
}

impl ClassicGroup {
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    fn is_mixed(&self, step: usize) -> bool {
        self.mixed.as_ref().is_some_and(|mixed| mixed[step])
    }

    /// The buckets that have a count at a step, sorted by bound, each bound once.
    pub(super) fn buckets(&self, vector: &[Series], step: usize) -> Vec<ClassicBucket> {
        let mut buckets: Vec<ClassicBucket> = Vec::with_capacity(self.members.len());
        if self.is_mixed(step) {
            return buckets;
        }
        for (upper, at) in &self.members {
            let At::Float(count) = vector[*at].at(step) else { continue };
            match buckets.last_mut() {
                Some(last) if last.upper == *upper => last.count += count,
                _ => buckets.push(ClassicBucket { upper: *upper, count }),
            }
        }
        buckets
    }
}

/// The bounds between which counts were corrected, and the largest correction.
type Correction = Option<((f64, f64), f64)>;

/// Makes counts grow from bucket to bucket; differences as small as rounding errors are not worth a remark.
fn make_monotonic(buckets: &mut [ClassicBucket]) -> Correction {
    const ROUNDING: f64 = 1e-12;
    let mut correction: Correction = None;
    let mut before = buckets.first()?.count;
    for bucket in &mut buckets[1..] {
        if bucket.count == before {
            continue;
        }
        if almost_equal(before, bucket.count, ROUNDING) {
            bucket.count = before;
        } else if bucket.count < before {
            let difference = before - bucket.count;
            let ((low, high), largest) = correction.unwrap_or(((bucket.upper, bucket.upper), 0.0));
            correction = Some(((low.min(bucket.upper), high.max(bucket.upper)), difference.max(largest)));
            bucket.count = before;
        } else {
            before = bucket.count;
        }
    }
    correction
}

/// The quantile by linear interpolation within a bucket, and what had to be corrected.
pub(super) fn quantile(q: f64, buckets: &mut [ClassicBucket]) -> (f64, Correction) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if buckets.last().is_none_or(|last| last.upper != f64::INFINITY) {
        return (f64::NAN, None);
    }
    let correction = make_monotonic(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if last == 0 || observations == 0.0 {
        return (f64::NAN, correction);
    }
    let mut rank = q * observations;
    let at = buckets[..last].partition_point(|bucket| bucket.count < rank || bucket.count.is_nan());
    if at == last {
        return (buckets[last - 1].upper, correction);
    }
    let ClassicBucket { upper, mut count } = buckets[at];
    if at == 0 && upper <= 0.0 {
        return (upper, correction);
    }
    let mut lower = 0.0;
    if at > 0 {
        lower = buckets[at - 1].upper;
        count -= buckets[at - 1].count;
        rank -= buckets[at - 1].count;
    }
    (lower + (upper - lower) * (rank / count), correction)
}

/// The fraction of the observations between two values by linear interpolation.
pub(super) fn fraction(lower: f64, upper: f64, buckets: &[ClassicBucket]) -> f64 {
    let Some(last) = buckets.last().filter(|last| last.upper == f64::INFINITY) else { return f64::NAN };
    let total = last.count;
    if total == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let mut rank = 0.0;
    let mut bound = if buckets[0].upper <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
    let (mut lower_rank, mut upper_rank) = (None, None);
    for bucket in buckets {
        for (value, found) in [(lower, &mut lower_rank), (upper, &mut upper_rank)] {
            if found.is_none() && bound >= value {
                *found = Some(rank);
            }
            if found.is_none() && bound < value && bucket.upper > value {
                *found = Some(if bound == f64::NEG_INFINITY {
                    bucket.count
                } else {
                    rank + (bucket.count - rank) * (value - bound) / (bucket.upper - bound)
                });
            }
        }
        rank = bucket.count;
        bound = bucket.upper;
    }
    let settle = |rank: Option<f64>| rank.filter(|rank| *rank <= total).unwrap_or(total);
    (settle(upper_rank) - settle(lower_rank)) / total
}
