//! Native histograms: each sample says what changed since the one before it.

use std::sync::Arc;

use paramedic_promql::histogram::{Buckets, Histogram, ResetHint};

use crate::bits::{ByteReader, put_signed, put_varint};

const SAME_LAYOUT: u8 = 1 << 2;
const INTEGERS: u8 = 1 << 3;
const SINCE_BEFORE: u8 = 1 << 4;

/// One chunk being written.
#[derive(Debug, Clone)]
pub(crate) struct HistogramWriter {
    bytes: Vec<u8>,
    start: i64,
    last: i64,
    step: i64,
    count: u16,
    before: Arc<Histogram>,
}

impl HistogramWriter {
    pub(crate) fn new(time: i64, histogram: &Arc<Histogram>) -> Self {
        let mut bytes = Vec::new();
        put_histogram(&mut bytes, histogram, None);
        Self { bytes, start: time, last: time, step: 0, count: 1, before: Arc::clone(histogram) }
    }

    pub(crate) fn push(&mut self, time: i64, histogram: &Arc<Histogram>) {
        let step = time.wrapping_sub(self.last);
        put_signed(&mut self.bytes, step.wrapping_sub(self.step));
        put_histogram(&mut self.bytes, histogram, Some(&self.before));
        (self.last, self.step, self.before) = (time, step, Arc::clone(histogram));
        self.count += 1;
    }

    pub(crate) fn start(&self) -> i64 {
        self.start
    }

    pub(crate) fn last(&self) -> i64 {
        self.last
    }

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Gives every sample in order of time; `false` when the bytes are not a chunk of that many samples.
pub(crate) fn decode(start: i64, count: u16, bytes: &[u8], mut each: impl FnMut(i64, Arc<Histogram>)) -> bool {
    let mut reader = ByteReader::new(bytes);
    let (mut time, mut step, mut before) = (start, 0i64, None::<Arc<Histogram>>);
    for i in 0..count {
        if i > 0 {
            let Some(change) = reader.signed() else { return false };
            step = step.wrapping_add(change);
            time = time.wrapping_add(step);
        }
        let Some(histogram) = read_histogram(&mut reader, before.as_deref()) else { return false };
        let histogram = Arc::new(histogram);
        each(time, Arc::clone(&histogram));
        before = Some(histogram);
    }
    true
}

/// The zero count, the count and the buckets, in the order in which they are written.
fn counts(histogram: &Histogram) -> impl Iterator<Item = f64> {
    let buckets = histogram.positive.iter().chain(&histogram.negative).map(|pair| pair.1);
    [histogram.zero_count, histogram.count].into_iter().chain(buckets)
}

fn as_integer(value: f64) -> Option<i64> {
    let integer = value as i64;
    (value.abs() <= 9_007_199_254_740_992.0 && (integer as f64).to_bits() == value.to_bits()).then_some(integer)
}

fn all_integers(histogram: &Histogram) -> bool {
    counts(histogram).all(|value| as_integer(value).is_some())
}

fn same_layout(a: &Histogram, b: &Histogram) -> bool {
    let same_indexes = |a: &Buckets, b: &Buckets| a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.0 == y.0);
    let same_floats = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits());
    a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && same_indexes(&a.positive, &b.positive)
        && same_indexes(&a.negative, &b.negative)
        && same_floats(&a.custom_values, &b.custom_values)
}

/// Appends one histogram, as changes of the one before where that is shorter.
pub(crate) fn put_histogram(out: &mut Vec<u8>, histogram: &Histogram, before: Option<&Histogram>) {
    let before = before.filter(|before| same_layout(before, histogram));
    let integers = all_integers(histogram);
    let base = before.filter(|before| integers && all_integers(before));
    let hint = match histogram.hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    };
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    out.push(hint | flag(before.is_some(), SAME_LAYOUT) | flag(integers, INTEGERS) | flag(base.is_some(), SINCE_BEFORE));
    if before.is_none() {
        put_layout(out, histogram);
    }
    out.extend_from_slice(&histogram.sum.to_bits().to_le_bytes());
    if !integers {
        for value in counts(histogram) {
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
    } else if let Some(base) = base {
        for (value, before) in counts(histogram).zip(counts(base)) {
            put_signed(out, value as i64 - before as i64);
        }
    } else {
        for value in counts(histogram) {
            put_signed(out, value as i64);
        }
    }
}

fn put_layout(out: &mut Vec<u8>, histogram: &Histogram) {
    put_signed(out, i64::from(histogram.schema));
    out.extend_from_slice(&histogram.zero_threshold.to_bits().to_le_bytes());
    for buckets in [&histogram.positive, &histogram.negative] {
        put_varint(out, buckets.len() as u64);
        let mut last = 0i64;
        for (index, _) in buckets {
            put_signed(out, i64::from(*index) - last);
            last = i64::from(*index);
        }
    }
    put_varint(out, histogram.custom_values.len() as u64);
    for bound in histogram.custom_values.iter() {
        out.extend_from_slice(&bound.to_bits().to_le_bytes());
    }
}

fn read_layout(reader: &mut ByteReader<'_>) -> Option<Histogram> {
    let schema = i32::try_from(reader.signed()?).ok()?;
    let zero_threshold = reader.float()?;
    let mut sides = [Vec::new(), Vec::new()];
    for side in &mut sides {
        let count = reader.count()?;
        side.reserve_exact(count);
        let mut last = 0i64;
        for _ in 0..count {
            last = last.checked_add(reader.signed()?)?;
            side.push((i32::try_from(last).ok()?, 0.0));
        }
    }
    let count = reader.count()?;
    let custom_values = (0..count).map(|_| reader.float()).collect::<Option<Vec<f64>>>()?;
    let [positive, negative] = sides;
    Some(Histogram { schema, zero_threshold, positive, negative, custom_values: custom_values.into(), ..Histogram::default() })
}

/// Reads one histogram that [`put_histogram`] wrote after `before`.
pub(crate) fn read_histogram(reader: &mut ByteReader<'_>, before: Option<&Histogram>) -> Option<Histogram> {
    let flags = reader.byte()?;
    let mut histogram = if flags & SAME_LAYOUT != 0 { before?.clone() } else { read_layout(reader)? };
    histogram.hint = match flags & 3 {
        0 => ResetHint::Unknown,
        1 => ResetHint::Reset,
        2 => ResetHint::NotReset,
        _ => ResetHint::Gauge,
    };
    histogram.sum = reader.float()?;
    let integers = flags & INTEGERS != 0;
    let since_before = flags & SINCE_BEFORE != 0;
    let Histogram { zero_count, count, positive, negative, .. } = &mut histogram;
    let buckets = positive.iter_mut().chain(negative).map(|pair| &mut pair.1);
    for value in [zero_count, count].into_iter().chain(buckets) {
        *value = match (integers, since_before) {
            (false, _) => reader.float()?,
            (true, false) => reader.signed()? as f64,
            (true, true) => (*value as i64).checked_add(reader.signed()?)? as f64,
        };
    }
    Some(histogram)
}
