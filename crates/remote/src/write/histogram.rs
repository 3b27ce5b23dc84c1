//! Native histograms on the wire: spans of buckets with deltas (integers) or counts (floats). 1.0 and 2.0 agree on them.

use std::sync::Arc;

use paramedic_promql::Histogram;
use paramedic_promql::histogram::{Buckets, CUSTOM_BUCKETS, ResetHint};
use paramedic_promql::number::is_stale;

use crate::error::Malformed;
use crate::wire::{Fields, Value, each_double, each_varint, zigzag};

/// One side of a histogram as it is written.
#[derive(Debug, Default)]
struct Side {
    /// Gap to the span before (or index of the first bucket), and number of buckets.
    spans: Vec<(i32, u32)>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

impl Side {
    fn span(&mut self, message: &[u8], buckets_max: usize) -> Result<(), Malformed> {
        if self.spans.len() >= buckets_max {
            return Err(Malformed::Histogram("has too many spans"));
        }
        let (mut offset, mut length) = (0, 0);
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => offset = value.sint32()?,
                2 => length = value.low32()?,
                _ => {}
            }
        }
        self.spans.push((offset, length));
        Ok(())
    }

    fn delta(&mut self, value: Value<'_>, buckets_max: usize) -> Result<(), Malformed> {
        each_varint(value, |wire| push(&mut self.deltas, zigzag(wire), buckets_max))
    }

    fn count(&mut self, value: Value<'_>, buckets_max: usize) -> Result<(), Malformed> {
        each_double(value, |count| push(&mut self.counts, count, buckets_max))
    }

    /// Sorted pairs of index and count.
    fn buckets(self, is_float: bool) -> Result<Buckets, Malformed> {
        let total = if is_float { self.counts.len() } else { self.deltas.len() };
        let mut buckets = Buckets::with_capacity(total);
        let (mut index, mut running) = (0i32, 0i64);
        for (i, (offset, length)) in self.spans.into_iter().enumerate() {
            if i > 0 && offset < 0 {
                return Err(Malformed::Histogram("has spans that overlap"));
            }
            index = index.checked_add(offset).ok_or(Malformed::Histogram("has a bucket out of range"))?;
            if length as usize > total - buckets.len() {
                return Err(Malformed::Histogram("has spans that need more buckets than it has"));
            }
            for _ in 0..length {
                let at = buckets.len();
                let count = if is_float {
                    self.counts[at]
                } else {
                    running = running.checked_add(self.deltas[at]).ok_or(Malformed::Histogram("has a count out of range"))?;
                    running as f64
                };
                if count < 0.0 {
                    return Err(Malformed::Histogram("has a negative count"));
                }
                buckets.push((index, count));
                index = index.checked_add(1).ok_or(Malformed::Histogram("has a bucket out of range"))?;
            }
        }
        if buckets.len() == total { Ok(buckets) } else { Err(Malformed::Histogram("has more buckets than its spans")) }
    }
}

fn push<T>(all: &mut Vec<T>, value: T, max: usize) -> Result<(), Malformed> {
    if all.len() >= max {
        return Err(Malformed::Histogram("has too many buckets"));
    }
    all.push(value);
    Ok(())
}

/// Reads a histogram and its time in milliseconds.
pub(crate) fn read(message: &[u8], buckets_max: usize) -> Result<(i64, Histogram), Malformed> {
    let mut histogram = Histogram::default();
    let (mut negative, mut positive) = (Side::default(), Side::default());
    let (mut time, mut is_float) = (0, false);
    let mut custom_values = Vec::new();
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => histogram.count = value.varint()? as f64,
            2 => (histogram.count, is_float) = (value.double()?, true),
            3 => histogram.sum = value.double()?,
            4 => histogram.schema = value.sint32()?,
            5 => histogram.zero_threshold = value.double()?,
            6 => histogram.zero_count = value.varint()? as f64,
            7 => histogram.zero_count = value.double()?,
            8 => negative.span(value.bytes()?, buckets_max)?,
            9 => negative.delta(value, buckets_max)?,
            10 => negative.count(value, buckets_max)?,
            11 => positive.span(value.bytes()?, buckets_max)?,
            12 => positive.delta(value, buckets_max)?,
            13 => positive.count(value, buckets_max)?,
            14 => histogram.hint = hint(value.varint()?),
            15 => time = value.int64()?,
            16 => each_double(value, |bound| push(&mut custom_values, bound, buckets_max))?,
            _ => {}
        }
    }
    histogram.negative = negative.buckets(is_float)?;
    histogram.positive = positive.buckets(is_float)?;
    histogram.custom_values = Arc::from(custom_values);
    check(&histogram, is_float)?;
    Ok((time, histogram))
}

const fn hint(number: u64) -> ResetHint {
    match number {
        1 => ResetHint::Reset,
        2 => ResetHint::NotReset,
        3 => ResetHint::Gauge,
        _ => ResetHint::Unknown,
    }
}

/// The conditions that a store of Prometheus puts.
fn check(histogram: &Histogram, is_float: bool) -> Result<(), Malformed> {
    if is_stale(histogram.sum) {
        return Ok(());
    }
    let wrong = |what| Err(Malformed::Histogram(what));
    if histogram.schema == CUSTOM_BUCKETS {
        if !histogram.negative.is_empty() || histogram.zero_count != 0.0 || histogram.zero_threshold != 0.0 {
            return wrong("with custom buckets has a zero bucket or negative buckets");
        }
        if !histogram.custom_values.is_sorted_by(|a, b| a < b) || histogram.custom_values.iter().any(|bound| !bound.is_finite()) {
            return wrong("has custom bounds that do not ascend");
        }
        let last = histogram.positive.last().map_or(0, |bucket| bucket.0);
        if histogram.positive.first().is_some_and(|bucket| bucket.0 < 0) || last as usize > histogram.custom_values.len() {
            return wrong("has buckets without custom bounds");
        }
    } else if !(-4..=8).contains(&histogram.schema) {
        return wrong("has a schema that is not known");
    } else if !histogram.custom_values.is_empty() {
        return wrong("has custom bounds but an exponential schema");
    }
    if histogram.zero_count < 0.0 || histogram.count < 0.0 || histogram.zero_threshold.is_nan() || histogram.zero_threshold < 0.0 {
        return wrong("has a negative count");
    }
    // Floats add up to about the count; integers exactly, or to less when NaN was observed.
    let filled: f64 = histogram.positive.iter().chain(&histogram.negative).map(|bucket| bucket.1).sum::<f64>() + histogram.zero_count;
    if !is_float && (filled > histogram.count || (!histogram.sum.is_nan() && filled != histogram.count)) {
        return wrong("has a count that is not the sum of its buckets");
    }
    Ok(())
}
