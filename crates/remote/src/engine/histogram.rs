//! Native histograms as the query API writes them: a list of buckets with their bounds, without the schema.
//!
//! The schema is found again from the bounds: those of exponential buckets grow by `2^(2^-schema)`; what fits no schema
//! has custom bounds.

use std::sync::Arc;

use paramedic_promql::Histogram;
use paramedic_promql::histogram::{Buckets, CUSTOM_BUCKETS};
use serde::Deserialize;

use super::json::float;
use crate::error::EngineError;

/// Which bound, lower, upper, count.
type BucketJson = (u8, String, String, String);

#[derive(Deserialize)]
pub(super) struct HistogramJson {
    count: String,
    sum: String,
    #[serde(default)]
    buckets: Vec<BucketJson>,
}

/// Buckets of one histogram.
const BUCKETS_MAX: usize = 10_000;
/// How far an index may be from a whole number, because bounds are printed.
const TOLERANCE: f64 = 1e-6;
/// Both bounds belong to the bucket: only the zero bucket has that.
const BOTH_CLOSED: u8 = 3;

#[derive(Clone, Copy)]
struct Bucket {
    lower: f64,
    upper: f64,
    count: f64,
}

pub(super) fn to_histogram(json: &HistogramJson) -> Result<Histogram, EngineError> {
    if json.buckets.len() > BUCKETS_MAX {
        return Err(EngineError::Answer(format!("a native histogram has more than {BUCKETS_MAX} buckets")));
    }
    let mut histogram = Histogram { count: float(&json.count)?, sum: float(&json.sum)?, ..Histogram::default() };
    let mut buckets = Vec::with_capacity(json.buckets.len());
    for (rule, lower, upper, count) in &json.buckets {
        let bucket = Bucket { lower: float(lower)?, upper: float(upper)?, count: float(count)? };
        if *rule == BOTH_CLOSED && bucket.lower == -bucket.upper {
            (histogram.zero_threshold, histogram.zero_count) = (bucket.upper, bucket.count);
        } else {
            buckets.push(bucket);
        }
    }
    match exponential_schema(&buckets) {
        Some(schema) => {
            histogram.schema = schema;
            for bucket in buckets {
                let is_positive = bucket.upper > 0.0;
                let bound = if is_positive { bucket.upper } else { -bucket.lower };
                let pair = (index(bound, schema), bucket.count);
                if is_positive { histogram.positive.push(pair) } else { histogram.negative.push(pair) }
            }
            histogram.positive.sort_by_key(|pair| pair.0);
            histogram.negative.sort_by_key(|pair| pair.0);
        }
        None => {
            histogram.schema = CUSTOM_BUCKETS;
            (histogram.custom_values, histogram.positive) = custom(&buckets);
        }
    }
    Ok(histogram)
}

/// The coarsest schema in which every bucket is exactly one bucket.
fn exponential_schema(buckets: &[Bucket]) -> Option<i32> {
    if buckets.iter().any(|bucket| bucket.lower < 0.0 && bucket.upper > 0.0 || bucket.lower.is_infinite() && bucket.upper.is_infinite()) {
        return None;
    }
    // A bucket may be cut at the edge of the zero bucket; another one tells the schema then.
    let fits = |schema: i32| {
        buckets.iter().filter(|bucket| bucket.lower != 0.0 && bucket.upper != 0.0).all(|bucket| {
            let (small, big) = if bucket.upper > 0.0 { (bucket.lower, bucket.upper) } else { (-bucket.upper, -bucket.lower) };
            let (low, high) = (place(small, schema), place(big, schema));
            let is_whole = |place: f64| (place - place.round()).abs() < TOLERANCE * place.abs().max(1.0);
            is_whole(high) && (is_whole(low) && (high - low - 1.0).abs() < 0.01 || high.is_infinite())
        })
    };
    if buckets.is_empty() {
        return Some(0);
    }
    let has_bounds = buckets.iter().all(|bucket| bucket.lower.is_finite() && bucket.upper.is_finite());
    has_bounds.then(|| (-4..=8).find(|schema| fits(*schema))).flatten()
}

fn place(bound: f64, schema: i32) -> f64 {
    bound.log2() * f64::from(schema).exp2()
}

fn index(bound: f64, schema: i32) -> i32 {
    place(bound, schema).round() as i32
}

/// Custom bounds are all bounds that were seen; a gap between two buckets is a bucket with nothing in it.
fn custom(buckets: &[Bucket]) -> (Arc<[f64]>, Buckets) {
    let mut bounds: Vec<f64> = buckets.iter().flat_map(|bucket| [bucket.lower, bucket.upper]).filter(|bound| bound.is_finite()).collect();
    bounds.sort_by(f64::total_cmp);
    bounds.dedup();
    let place = |upper: f64| bounds.partition_point(|bound| *bound < upper) as i32;
    let mut pairs: Buckets = buckets.iter().map(|bucket| (place(bucket.upper), bucket.count)).collect();
    pairs.sort_by_key(|pair| pair.0);
    (bounds.into(), pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Histogram {
        to_histogram(&serde_json::from_str(text).unwrap()).unwrap()
    }

    #[test]
    fn the_schema_is_found_again() {
        for schema in -4..=8 {
            let bound = |index: i32| (f64::from(index) / f64::from(schema).exp2()).exp2();
            let (first, second) = ((bound(2), bound(3)), (bound(5), bound(6)));
            let text = format!(
                r#"{{"count":"6","sum":"9","buckets":[[1,"-{}","-{}","1"],[3,"-0.001","0.001","2"],[0,"{}","{}","2"],[0,"{}","{}","1"]]}}"#,
                first.1, first.0, first.0, first.1, second.0, second.1
            );
            let histogram = read(&text);
            assert_eq!((histogram.schema, histogram.zero_count, histogram.zero_threshold), (schema, 2.0, 0.001), "{text}");
            assert_eq!((&*histogram.positive, &*histogram.negative), (&[(3, 2.0), (6, 1.0)][..], &[(3, 1.0)][..]));
        }
    }

    #[test]
    fn other_bounds_are_custom() {
        let histogram = read(r#"{"count":"3","sum":"9","buckets":[[0,"-Inf","5","1"],[0,"5","7.5","1"],[0,"10","+Inf","1"]]}"#);
        assert!(histogram.uses_custom_buckets());
        assert_eq!((&*histogram.custom_values, &*histogram.positive), (&[5.0, 7.5, 10.0][..], &[(0, 1.0), (1, 1.0), (3, 1.0)][..]));
    }
}
