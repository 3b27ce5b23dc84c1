//! Writing the messages of remote_write and remote read.
//!
//! A 1.0 message may be written one series at a time, and two messages one after the other are one message: that is what
//! the spool relies on. A 2.0 message is built as a whole, because its symbols come first.

use std::collections::HashMap;

use paramedic_promql::histogram::{Buckets, CUSTOM_BUCKETS, ResetHint};
use paramedic_promql::{Histogram, SampleValue};
use paramedic_samples::Metadata;

use crate::write::decode::KINDS;

/// Appends a varint.
pub(crate) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

const fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        varint(out, u64::from(field) << 3);
        varint(out, value);
    }
}

/// A double; zero is left out, negative zero is not.
fn double(out: &mut Vec<u8>, field: u32, value: f64) {
    if value.to_bits() != 0 {
        varint(out, u64::from(field) << 3 | 1);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

pub(crate) fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    varint(out, u64::from(field) << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Appends a message whose length is not known before it is written.
pub(crate) fn message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    varint(out, u64::from(field) << 3 | 2);
    let begin = out.len();
    write(out);
    let length = out.len() - begin;
    // The length comes first: turn it to the front.
    varint(out, length as u64);
    let prefix = out.len() - begin - length;
    out[begin..].rotate_right(prefix);
}

fn label(out: &mut Vec<u8>, name: &str, value: &str) {
    let part = |text: &str| 1 + varint_len(text.len() as u64) + text.len();
    out.push(1 << 3 | 2);
    varint(out, (part(name) + part(value)) as u64);
    bytes(out, 1, name.as_bytes());
    bytes(out, 2, value.as_bytes());
}

/// `prometheus.Sample` and `io.prometheus.write.v2.Sample`, which are alike.
fn sample(out: &mut Vec<u8>, field: u32, time: i64, value: f64) {
    let value_len = if value.to_bits() == 0 { 0 } else { 9 };
    let time_len = if time == 0 { 0 } else { 1 + varint_len(time.cast_unsigned()) };
    varint(out, u64::from(field) << 3 | 2);
    varint(out, (value_len + time_len) as u64);
    double(out, 1, value);
    number(out, 2, time.cast_unsigned());
}

/// Appends one series of a `prometheus.WriteRequest` (field 1) or of a `QueryResult` (also field 1).
pub fn v1_series<'a>(
    out: &mut Vec<u8>,
    labels: impl Iterator<Item = (&'a str, &'a str)>,
    samples: impl Iterator<Item = (i64, SampleValue)>,
) {
    message(out, 1, |out| {
        labels.for_each(|(name, value)| label(out, name, value));
        for (time, value) in samples {
            match value {
                SampleValue::Float(value) => sample(out, 2, time, value),
                SampleValue::Histogram(value) => message(out, 4, |out| histogram(out, time, &value)),
            }
        }
    });
}

/// Appends one metric's metadata to a `prometheus.WriteRequest`.
pub fn v1_metadata(out: &mut Vec<u8>, metric: &str, metadata: &Metadata) {
    message(out, 3, |out| {
        number(out, 1, kind_number(&metadata.kind));
        bytes(out, 2, metric.as_bytes());
        bytes(out, 4, metadata.help.as_bytes());
        bytes(out, 5, metadata.unit.as_bytes());
    });
}

fn kind_number(kind: &str) -> u64 {
    KINDS.iter().position(|known| *known == kind).unwrap_or(0) as u64
}

/// A native histogram: as integers when its counts are whole, else as floats.
fn histogram(out: &mut Vec<u8>, time: i64, histogram: &Histogram) {
    let counts = histogram.positive.iter().chain(&histogram.negative).map(|bucket| bucket.1);
    // A gauge may lose observations in ways that integers do not allow.
    let whole = |value: f64| value >= 0.0 && value <= (1u64 << 53) as f64 && value.fract() == 0.0;
    let total: f64 = counts.clone().sum::<f64>() + histogram.zero_count;
    let adds_up = total == histogram.count || histogram.sum.is_nan() && total <= histogram.count;
    let is_integer = adds_up && counts.chain([histogram.zero_count, histogram.count]).all(whole);
    if is_integer {
        // Presence tells integers from floats, also when the count is zero.
        varint(out, 1 << 3);
        varint(out, histogram.count as u64);
    } else {
        varint(out, 2 << 3 | 1);
        out.extend_from_slice(&histogram.count.to_le_bytes());
    }
    double(out, 3, histogram.sum);
    number(out, 4, u64::from(zigzag(i64::from(histogram.schema)) as u32));
    double(out, 5, histogram.zero_threshold);
    if is_integer {
        varint(out, 6 << 3);
        varint(out, histogram.zero_count as u64);
    } else {
        varint(out, 7 << 3 | 1);
        out.extend_from_slice(&histogram.zero_count.to_le_bytes());
    }
    side(out, 8, &histogram.negative, is_integer);
    side(out, 11, &histogram.positive, is_integer);
    let hint = match histogram.hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    };
    number(out, 14, hint);
    number(out, 15, time.cast_unsigned());
    if histogram.schema == CUSTOM_BUCKETS {
        message(out, 16, |out| histogram.custom_values.iter().for_each(|bound| out.extend_from_slice(&bound.to_le_bytes())));
    }
}

/// One side's spans (`field`), deltas (`field` + 1) or counts (`field` + 2).
fn side(out: &mut Vec<u8>, field: u32, buckets: &Buckets, is_integer: bool) {
    if buckets.is_empty() {
        return;
    }
    let mut next = 0;
    for span in buckets.chunk_by(|a, b| a.0.checked_add(1) == Some(b.0)) {
        let offset = i64::from(span[0].0) - next;
        next = i64::from(span[0].0) + span.len() as i64;
        message(out, field, |out| {
            number(out, 1, zigzag(offset));
            number(out, 2, span.len() as u64);
        });
    }
    if is_integer {
        let mut before = 0;
        message(out, field + 1, |out| {
            for (_, count) in buckets {
                varint(out, zigzag(*count as i64 - before));
                before = *count as i64;
            }
        });
    } else {
        message(out, field + 2, |out| buckets.iter().for_each(|(_, count)| out.extend_from_slice(&count.to_le_bytes())));
    }
}

/// Builds an `io.prometheus.write.v2.Request`.
#[derive(Debug)]
pub struct V2Request {
    symbols: HashMap<String, u32>,
    table: Vec<u8>,
    series: Vec<u8>,
}

impl Default for V2Request {
    fn default() -> Self {
        let mut request = Self { symbols: HashMap::new(), table: Vec::new(), series: Vec::new() };
        // The first symbol is the empty text, so that zero means nothing.
        request.symbol("");
        request
    }
}

impl V2Request {
    fn symbol(&mut self, text: &str) -> u32 {
        if let Some(known) = self.symbols.get(text) {
            return *known;
        }
        let next = self.symbols.len() as u32;
        self.symbols.insert(text.to_owned(), next);
        bytes(&mut self.table, 4, text.as_bytes());
        next
    }

    /// Adds a series with its samples and, where they are known, type, help and unit of its metric.
    pub fn series<'a>(
        &mut self,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        samples: impl Iterator<Item = (i64, SampleValue)>,
        metadata: Option<&Metadata>,
    ) {
        let mut refs = Vec::with_capacity(32);
        for (name, value) in labels {
            refs.push(self.symbol(name));
            refs.push(self.symbol(value));
        }
        let metadata = metadata.map(|metadata| (kind_number(&metadata.kind), self.symbol(&metadata.help), self.symbol(&metadata.unit)));
        message(&mut self.series, 5, |out| {
            message(out, 1, |out| refs.iter().for_each(|reference| varint(out, u64::from(*reference))));
            for (time, value) in samples {
                match value {
                    SampleValue::Float(value) => sample(out, 2, time, value),
                    SampleValue::Histogram(value) => message(out, 3, |out| histogram(out, time, &value)),
                }
            }
            if let Some((kind, help, unit)) = metadata {
                message(out, 5, |out| {
                    number(out, 1, kind);
                    number(out, 3, u64::from(help));
                    number(out, 4, u64::from(unit));
                });
            }
        });
    }

    /// The whole message.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.table.append(&mut self.series);
        self.table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_varints_are_known_beforehand() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
        }
    }
}
