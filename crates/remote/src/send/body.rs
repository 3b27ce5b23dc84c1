//! Bodies of requests, made of what the spool holds.

use std::collections::HashMap;
use std::sync::Arc;

use paramedic_promql::SampleValue;
use paramedic_samples::Metadata;

use crate::encode::{self, V2Request};
use crate::error::Malformed;
use crate::snappy;
use crate::wire::Fields;
use crate::write::decode::{Bounds, Decoded};

/// Bytes that one record may have when it is decompressed; they are ours.
pub(crate) const RECORD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One `prometheus.WriteRequest`, decompressed: what is sent, and what is cut in halves when a store does not like it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Body {
    pub(crate) message: Vec<u8>,
}

impl Body {
    /// Adds a record: two messages one after the other are one message.
    pub(crate) fn add(&mut self, record: &[u8]) -> Result<(), Malformed> {
        let bytes = snappy::decompress(record, RECORD_BYTES_MAX)?;
        self.message.extend_from_slice(&bytes);
        Ok(())
    }

    pub(crate) fn v1(&self) -> Result<Vec<u8>, Malformed> {
        snappy::compress(&self.message)
    }

    /// The same as `io.prometheus.write.v2.Request`.
    pub(crate) fn v2(&self, metadata: &HashMap<String, Metadata>) -> Result<Vec<u8>, Malformed> {
        let unbounded = Bounds { series: usize::MAX, samples: usize::MAX, histogram_buckets: usize::MAX };
        let decoded = Decoded::v1(&self.message, unbounded, 0)?;
        let mut request = V2Request::default();
        let mut floats = decoded.floats.into_iter().peekable();
        let mut histograms = decoded.histograms.into_iter().peekable();
        let mut pairs = Vec::new();
        for (at, series) in decoded.series.iter().enumerate() {
            let at = at as u32;
            let mut samples = Vec::new();
            while let Some((_, time, value)) = floats.next_if(|sample| sample.0 == at) {
                samples.push((time, SampleValue::Float(value)));
            }
            while let Some((_, time, value)) = histograms.next_if(|sample| sample.0 == at) {
                samples.push((time, SampleValue::Histogram(Arc::new(value))));
            }
            pairs.clear();
            if series.labels_v1(&mut pairs).is_err() {
                continue;
            }
            let name = pairs.iter().find(|pair| pair.0 == "__name__").map_or("", |pair| pair.1);
            request.series(pairs.iter().copied(), samples.into_iter(), metadata.get(name));
        }
        snappy::compress(&request.finish())
    }

    /// Both halves, in order; `None` when there is only one series.
    pub(crate) fn halves(&self) -> Option<(Self, Self)> {
        let parts = self.parts();
        if parts.len() < 2 {
            return None;
        }
        let (left, right) = parts.split_at(parts.len() / 2);
        let body = |parts: &[&[u8]]| Self { message: parts.concat() };
        Some((body(left), body(right)))
    }

    /// Each series, and each metric's metadata, with its tag.
    fn parts(&self) -> Vec<&[u8]> {
        let mut fields = Fields::new(&self.message);
        let mut parts = Vec::new();
        let mut begin = 0;
        while let Ok(Some(_)) = fields.next() {
            let end = self.message.len() - fields.left();
            parts.push(&self.message[begin..end]);
            begin = end;
        }
        parts
    }

    /// Floats and histograms in it.
    pub(crate) fn samples(&self) -> u64 {
        let mut count = 0;
        let mut fields = Fields::new(&self.message);
        while let Ok(Some((number, value))) = fields.next() {
            let Ok(bytes) = value.bytes() else { continue };
            let mut series = Fields::new(bytes);
            while let Ok(Some((inner, _))) = series.next() {
                count += u64::from(number == 1 && (inner == 2 || inner == 4));
            }
        }
        count
    }
}

/// One record being written: series with their samples, and metadata.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    message: Vec<u8>,
    pub(crate) samples: u64,
    pub(crate) newest_ms: i64,
}

impl Draft {
    pub(crate) fn series<'a>(
        &mut self,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        samples: impl Iterator<Item = (i64, SampleValue)>,
    ) {
        let (mut count, mut newest) = (0, self.newest_ms);
        let samples = samples.inspect(|(time, _)| {
            count += 1;
            newest = newest.max(*time);
        });
        encode::v1_series(&mut self.message, labels, samples);
        self.samples += count;
        self.newest_ms = newest;
    }

    pub(crate) fn metadata(&mut self, metric: &str, metadata: &Metadata) {
        encode::v1_metadata(&mut self.message, metric, metadata);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.message.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.message.is_empty()
    }

    pub(crate) fn compressed(&self) -> Result<Vec<u8>, Malformed> {
        snappy::compress(&self.message)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self { message: std::mem::take(&mut self.message), ..Self::default() };
        self.message.clear();
    }
}
