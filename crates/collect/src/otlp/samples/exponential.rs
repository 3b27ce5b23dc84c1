//! Exponential histograms as native histograms.
//!
//! OTLP's bucket `i` holds values above `base^i` up to `base^(i+1)`; a native histogram names the same bucket by its upper
//! bound, `i + 1`. Both bases are `2^(2^-scale)`, so only the numbering differs.

use opentelemetry_proto::tonic::metrics::v1::ExponentialHistogramDataPoint;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets as Written;
use paramedic_promql::histogram::Histogram;
use paramedic_promql::number::stale;

/// Scales that native histograms have.
const SCHEMA_MIN: i32 = -4;
const SCHEMA_MAX: i32 = 8;
/// What is taken for zero, as Prometheus does it.
const ZERO_THRESHOLD: f64 = 1e-128;
/// Filled buckets of one side; more of them are joined by halving the resolution.
const BUCKETS_MAX: usize = 320;

/// A point as a native histogram; none when its scale or its indexes cannot be expressed.
#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 do not occur")]
pub(super) fn native(point: &ExponentialHistogramDataPoint, is_ended: bool) -> Option<Histogram> {
    if point.scale < SCHEMA_MIN {
        return None;
    }
    let (positive, negative) = (filled(point.positive.as_ref()), filled(point.negative.as_ref()));
    let mut schema = point.scale.min(SCHEMA_MAX);
    let (mut up, mut down) = (at(&positive, point.scale, schema)?, at(&negative, point.scale, schema)?);
    while up.len().max(down.len()) > BUCKETS_MAX && schema > SCHEMA_MIN {
        schema -= 1;
        (up, down) = (at(&positive, point.scale, schema)?, at(&negative, point.scale, schema)?);
    }
    let sum = if is_ended { stale() } else { point.sum.unwrap_or_default() };
    Some(Histogram {
        schema,
        zero_threshold: ZERO_THRESHOLD,
        zero_count: point.zero_count as f64,
        count: point.count as f64,
        sum,
        positive: up,
        negative: down,
        ..Histogram::default()
    })
}

/// Filled buckets by their index in the scale of the sender.
fn filled(buckets: Option<&Written>) -> Vec<(i64, u64)> {
    let Some(buckets) = buckets else { return Vec::new() };
    let numbered = (i64::from(buckets.offset)..).zip(&buckets.bucket_counts);
    numbered.filter(|(_, count)| **count != 0).map(|(index, count)| (index, *count)).collect()
}

/// The same buckets at a lower resolution: each step down joins two neighbours.
#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 do not occur")]
fn at(buckets: &[(i64, u64)], scale: i32, schema: i32) -> Option<Vec<(i32, f64)>> {
    // Beyond 62 steps all of one sign are one bucket anyway.
    let steps = u32::try_from(i64::from(scale) - i64::from(schema)).ok()?.min(62);
    let mut joined: Vec<(i32, f64)> = Vec::new();
    for (index, count) in buckets {
        let index = i32::try_from((index >> steps) + 1).ok()?;
        match joined.last_mut() {
            Some((last, sum)) if *last == index => *sum += *count as f64,
            _ => joined.push((index, *count as f64)),
        }
    }
    Some(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(scale: i32, offset: i32, bucket_counts: Vec<u64>) -> ExponentialHistogramDataPoint {
        let count = bucket_counts.iter().sum();
        let positive = Some(Written { offset, bucket_counts });
        ExponentialHistogramDataPoint { scale, count, sum: Some(1.0), positive, ..ExponentialHistogramDataPoint::default() }
    }

    #[test]
    fn buckets_keep_their_bounds() {
        // Whatever the scale, the filled buckets must hold the value that fills them.
        for scale in -4..=20 {
            for value in [1e-9_f64, 0.3, 1.0, 1.5, 2.0, 1000.0, 1e12] {
                let index = (value.log2() * f64::from(scale).exp2()).ceil() - 1.0;
                let histogram = native(&point(scale, index as i32, vec![1]), false).unwrap();
                assert_eq!(histogram.schema, scale.min(8));
                let bucket = histogram.buckets()[0];
                let slack = 1e-9 * value;
                assert!(bucket.lower < value + slack && value <= bucket.upper + slack, "{value} at scale {scale}: {bucket:?}");
            }
        }
    }

    #[test]
    fn resolution_falls_until_it_fits() {
        for (scale, offset, counts, schema, positive) in [
            (0, 0, vec![1, 2], 0, vec![(1, 1.0), (2, 2.0)]),
            (0, -1, vec![1, 0, 2], 0, vec![(0, 1.0), (2, 2.0)]),
            (9, 0, vec![1, 2, 3], 8, vec![(1, 3.0), (2, 3.0)]),
            (10, -5, vec![1, 1, 1, 1, 1, 1], 8, vec![(-1, 1.0), (0, 4.0), (1, 1.0)]),
            (i32::MAX, 5, vec![1], 8, vec![(1, 1.0)]),
        ] {
            let histogram = native(&point(scale, offset, counts), false).unwrap();
            assert_eq!((histogram.schema, histogram.positive), (schema, positive), "{scale} {offset}");
        }
        let wide = native(&point(5, 0, vec![1; 1_000]), false).unwrap();
        assert_eq!((wide.schema, wide.positive.len()), (3, 250));
        assert_eq!(native(&point(-5, 0, vec![1]), false), None);
        assert_eq!(native(&point(0, i32::MAX, vec![1]), false), None);
    }
}
