//! Chunks: up to a few hundred samples of one series, compressed.

pub(crate) mod float;
pub(crate) mod histogram;

use std::io;
use std::sync::Arc;

use paramedic_promql::histogram::Histogram;
use paramedic_promql::{SampleValue, Samples as Decoded};

use crate::bits::{ByteReader, put_bytes, put_signed, put_varint};
use crate::swap::Place;

/// The code of chunks of histograms; smaller codes are floats.
pub(crate) const HISTOGRAM: u8 = 16;

/// A chunk that is complete.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub(crate) start: i64,
    /// Milliseconds from the first to the last sample; a chunk never leaves its block of two hours.
    pub(crate) span: u32,
    pub(crate) count: u16,
    pub(crate) encoding: u8,
    pub(crate) data: Data,
}

/// The bytes of a complete chunk.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    Memory(Box<[u8]>),
    Swapped(Place),
}

impl Chunk {
    pub(crate) fn end(&self) -> i64 {
        self.start.saturating_add(i64::from(self.span))
    }

    /// Its bytes, in `buffer` where they are on the disk.
    pub(crate) fn bytes<'a>(&'a self, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        match &self.data {
            Data::Memory(bytes) => Ok(bytes),
            Data::Swapped(place) => place.read(buffer),
        }
    }

    /// The same for those who can do without: what cannot be read is empty, and told.
    pub(crate) fn view<'a>(&'a self, buffer: &'a mut Vec<u8>) -> ChunkView<'a> {
        match self.bytes(buffer) {
            Ok(bytes) => self.view_of(bytes),
            Err(error) => {
                tracing::error!(%error, "samples on the disk cannot be read back");
                ChunkView { count: 0, ..self.view_of(&[]) }
            }
        }
    }

    pub(crate) fn view_of<'a>(&self, data: &'a [u8]) -> ChunkView<'a> {
        ChunkView { start: self.start, end: self.end(), count: self.count, encoding: self.encoding, data }
    }

    /// Bytes of it in memory.
    pub(crate) fn memory(&self) -> usize {
        match &self.data {
            Data::Memory(bytes) => bytes.len(),
            Data::Swapped(_) => 0,
        }
    }
}

/// A chunk wherever its bytes are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChunkView<'a> {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) count: u16,
    pub(crate) encoding: u8,
    pub(crate) data: &'a [u8],
}

impl<'a> ChunkView<'a> {
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_signed(out, self.start);
        put_varint(out, self.end.abs_diff(self.start));
        put_varint(out, u64::from(self.count));
        out.push(self.encoding);
        put_bytes(out, self.data);
    }

    pub(crate) fn read(reader: &mut ByteReader<'a>) -> Option<Self> {
        let start = reader.signed()?;
        let span = u32::try_from(reader.varint()?).ok()?;
        let count = u16::try_from(reader.varint()?).ok()?;
        let encoding = reader.byte()?;
        let data = reader.bytes()?;
        Some(Self { start, end: start.checked_add(i64::from(span))?, count, encoding, data })
    }

    pub(crate) fn to_chunk(self) -> Chunk {
        let span = u32::try_from(self.end.saturating_sub(self.start)).unwrap_or(u32::MAX);
        Chunk { start: self.start, span, count: self.count, encoding: self.encoding, data: Data::Memory(self.data.into()) }
    }

    /// Appends the samples between two times, both included, that stand behind a mark; of `data`, only what stands behind
    /// the mark's byte is there.
    pub(crate) fn decode_from(&self, mark: &float::Mark, from: i64, to: i64, out: &mut Decoded) -> bool {
        let count = usize::from(self.count.saturating_sub(mark.count));
        decode_floats(count, from, to, out, |times, values| float::decode_from(mark, self.start, self.data, times, values))
    }

    /// Appends the samples between two times, both included; `false` when the chunk is damaged.
    pub(crate) fn decode(&self, from: i64, to: i64, out: &mut Decoded) -> bool {
        if self.encoding == HISTOGRAM {
            return histogram::decode(self.start, self.count, self.data, |time, histogram| {
                if time >= from && time <= to {
                    out.histograms.push((time, histogram));
                }
            });
        }
        // Every sample has two bits at least: a damaged count asks for no more memory than the bytes can explain.
        let count = usize::from(self.count);
        if count > self.data.len() * 4 {
            return false;
        }
        decode_floats(count, from, to, out, |times, values| float::decode(self.encoding, self.start, self.data, times, values))
    }
}

/// Appends so many samples, and cuts them to what lies between two times.
fn decode_floats(count: usize, from: i64, to: i64, out: &mut Decoded, decode: impl FnOnce(&mut [i64], &mut [f64]) -> bool) -> bool {
    let Decoded { times, values, .. } = out;
    let before = times.len();
    times.resize(before + count, 0);
    values.resize(before + count, 0.0);
    let whole = decode(&mut times[before..], &mut values[before..]);
    let decoded = &times[before..];
    let (first, end) =
        if whole { (decoded.partition_point(|time| *time < from), decoded.partition_point(|time| *time <= to)) } else { (0, 0) };
    times.truncate(before + end);
    values.truncate(before + end);
    times.drain(before..before + first.min(end));
    values.drain(before..before + first.min(end));
    whole
}

/// Whether both values are the same to the last bit.
pub(crate) fn same(one: &SampleValue, other: &SampleValue) -> bool {
    match (one, other) {
        (SampleValue::Float(a), SampleValue::Float(b)) => a.to_bits() == b.to_bits(),
        (SampleValue::Histogram(a), SampleValue::Histogram(b)) => Arc::ptr_eq(a, b) || bits_of(a) == bits_of(b),
        _ => false,
    }
}

fn bits_of(value: &Histogram) -> Vec<u8> {
    let mut bytes = Vec::new();
    histogram::put_histogram(&mut bytes, value, None);
    bytes
}

#[cfg(test)]
mod tests;
