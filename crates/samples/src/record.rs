//! What the frames of the log and of a checkpoint say.

use std::sync::Arc;

use paramedic_promql::Labels;
use paramedic_promql::histogram::Histogram;

use crate::bits::{ByteReader, put_bytes, put_signed, put_varint};
use crate::chunk::ChunkView;
use crate::chunk::histogram::{put_histogram, read_histogram};
use crate::series::Series;
use crate::store::Metadata;

const SERIES: u8 = 1;
const FLOATS: u8 = 2;
const HISTOGRAMS: u8 = 3;
const METADATA: u8 = 4;
const CHECKPOINT: u8 = 5;
const STATES: u8 = 6;
const END: u8 = 7;

/// The version of the format, in the first frame of a checkpoint.
const VERSION: u64 = 1;

/// One thing that a frame tells.
pub(crate) enum Told<'a> {
    Series {
        id: u64,
        labels: Vec<(&'a str, &'a str)>,
    },
    Float {
        place: u32,
        time: i64,
        value: f64,
    },
    Histogram {
        place: u32,
        time: i64,
        value: Arc<Histogram>,
    },
    Metadata {
        metric: &'a str,
        metadata: Metadata,
    },
    /// The beginning of a checkpoint: how many series there ever were.
    Checkpoint {
        created: u64,
    },
    State {
        id: u64,
        labels: Vec<(&'a str, &'a str)>,
        last: i64,
        closed: Vec<ChunkView<'a>>,
        open: Option<ChunkView<'a>>,
    },
    /// The end of a checkpoint.
    End,
}

pub(crate) fn put_labels(out: &mut Vec<u8>, labels: &Labels) {
    put_varint(out, labels.len() as u64);
    for label in labels.iter() {
        put_bytes(out, label.name.as_bytes());
        put_bytes(out, label.value.as_bytes());
    }
}

pub(crate) fn read_labels<'a>(reader: &mut ByteReader<'a>) -> Option<Vec<(&'a str, &'a str)>> {
    let count = reader.count()?;
    (0..count).map(|_| Some((reader.text()?, reader.text()?))).collect()
}

pub(crate) fn put_series(out: &mut Vec<u8>, id: u64, labels: &[(&str, &str)]) {
    out.push(SERIES);
    put_varint(out, id);
    put_varint(out, labels.len() as u64);
    for (name, value) in labels {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value.as_bytes());
    }
}

/// Samples as `(place, time, value)`.
pub(crate) fn put_floats(out: &mut Vec<u8>, samples: &[(u32, i64, f64)]) {
    out.push(FLOATS);
    out.reserve(samples.len() * 12 + 16);
    let (mut place_before, mut time_before) = (0i64, 0i64);
    for (place, time, value) in samples {
        let place = i64::from(*place);
        put_signed(out, place - place_before);
        put_signed(out, time.wrapping_sub(time_before));
        out.extend_from_slice(&value.to_bits().to_le_bytes());
        (place_before, time_before) = (place, *time);
    }
}

pub(crate) fn put_histograms(out: &mut Vec<u8>, samples: &[(u32, i64, Arc<Histogram>)]) {
    out.push(HISTOGRAMS);
    for (place, time, value) in samples {
        put_varint(out, u64::from(*place));
        put_signed(out, *time);
        put_histogram(out, value, None);
    }
}

pub(crate) fn put_metadata(out: &mut Vec<u8>, metric: &str, metadata: &Metadata) {
    out.push(METADATA);
    for text in [metric, &metadata.kind, &metadata.help, &metadata.unit] {
        put_bytes(out, text.as_bytes());
    }
}

pub(crate) fn put_checkpoint(out: &mut Vec<u8>, created: u64) {
    out.push(CHECKPOINT);
    put_varint(out, VERSION);
    put_varint(out, created);
}

pub(crate) fn put_states_head(out: &mut Vec<u8>) {
    out.push(STATES);
}

pub(crate) fn put_state(out: &mut Vec<u8>, series: &Series, buffer: &mut Vec<u8>) -> std::io::Result<()> {
    put_varint(out, series.id);
    put_labels(out, &series.labels);
    put_signed(out, series.last);
    put_varint(out, series.closed.len() as u64);
    for chunk in &series.closed {
        chunk.view_of(chunk.bytes(buffer)?).put(out);
    }
    let flag = out.len();
    out.push(0);
    if series.open.view(buffer, |view| view.put(out)).is_some() {
        out[flag] = 1;
    }
    Ok(())
}

pub(crate) fn put_end(out: &mut Vec<u8>) {
    out.push(END);
}

/// Calls with everything that a frame tells; `false` when it makes no sense behind some point.
pub(crate) fn read(payload: &[u8], each: &mut dyn FnMut(Told<'_>)) -> bool {
    read_all(payload, each).is_some()
}

fn read_all<'a>(payload: &'a [u8], each: &mut dyn FnMut(Told<'a>)) -> Option<()> {
    let mut reader = ByteReader::new(payload);
    match reader.byte()? {
        SERIES => each(Told::Series { id: reader.varint()?, labels: read_labels(&mut reader)? }),
        FLOATS => {
            let (mut place, mut time) = (0i64, 0i64);
            while !reader.is_empty() {
                place = place.checked_add(reader.signed()?)?;
                time = time.wrapping_add(reader.signed()?);
                each(Told::Float { place: u32::try_from(place).ok()?, time, value: reader.float()? });
            }
        }
        HISTOGRAMS => {
            while !reader.is_empty() {
                let place = u32::try_from(reader.varint()?).ok()?;
                let time = reader.signed()?;
                let value = Arc::new(read_histogram(&mut reader, None)?);
                each(Told::Histogram { place, time, value });
            }
        }
        METADATA => {
            let metric = reader.text()?;
            let mut text = || reader.text().map(str::to_owned);
            each(Told::Metadata { metric, metadata: Metadata { kind: text()?, help: text()?, unit: text()? } });
        }
        CHECKPOINT => {
            (reader.varint()? <= VERSION).then_some(())?;
            each(Told::Checkpoint { created: reader.varint()? });
        }
        STATES => {
            while !reader.is_empty() {
                each(read_state(&mut reader)?);
            }
        }
        END => each(Told::End),
        _ => return None,
    }
    Some(())
}

fn read_state<'a>(reader: &mut ByteReader<'a>) -> Option<Told<'a>> {
    let id = reader.varint()?;
    let labels = read_labels(reader)?;
    let last = reader.signed()?;
    let count = reader.count()?;
    let closed = (0..count).map(|_| ChunkView::read(reader)).collect::<Option<Vec<_>>>()?;
    let open = if reader.byte()? == 1 { Some(ChunkView::read(reader)?) } else { None };
    Some(Told::State { id, labels, last, closed, open })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn nonsense_never_panics(kind in 0u8..9, rest in prop::collection::vec(any::<u8>(), 0..120)) {
            let mut payload = vec![kind];
            payload.extend(rest);
            read(&payload, &mut |_| {});
        }

        #[test]
        fn samples_come_back(samples in prop::collection::vec((any::<u32>(), any::<i64>(), any::<u64>()), 0..50)) {
            let samples: Vec<(u32, i64, f64)> = samples.into_iter().map(|(place, time, bits)| (place, time, f64::from_bits(bits))).collect();
            let mut payload = Vec::new();
            put_floats(&mut payload, &samples);
            let mut found = Vec::new();
            let whole = read(&payload, &mut |told| {
                if let Told::Float { place, time, value } = told {
                    found.push((place, time, value.to_bits()));
                }
            });
            prop_assert!(whole);
            prop_assert_eq!(found, samples.iter().map(|(place, time, value)| (*place, *time, value.to_bits())).collect::<Vec<_>>());
        }
    }
}
