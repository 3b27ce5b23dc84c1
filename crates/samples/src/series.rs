//! One series in the head: its closed chunks, the one being written, and what becomes of a new sample.

use std::sync::Arc;

use paramedic_promql::histogram::Histogram;
use paramedic_promql::{Labels, SampleValue as Value, Samples as Decoded};

use crate::chunk::float::{FloatWriter, Mark};
use crate::chunk::histogram::HistogramWriter;
use crate::chunk::{Chunk, ChunkView, HISTOGRAM, same};

/// Samples after which a chunk is closed.
pub(crate) const CHUNK_SAMPLES: u16 = 120;
/// A chunk that late samples made this long is cut in two.
const CHUNK_SAMPLES_MAX: usize = 240;
/// Samples between two marks: what five minutes hold at the usual pace is behind the older one.
const MARK_SAMPLES: u16 = 24;
/// Bytes after which a chunk of histograms is closed.
const HISTOGRAM_BYTES: usize = 16 * 1024;
/// No chunk leaves its block, so that chunks fall into partitions whole.
pub(crate) const BLOCK_MS: i64 = 2 * 3_600_000;

/// What became of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Appended,
    /// Accepted, earlier than the latest sample of its series.
    Late,
    /// The very same sample was there.
    Duplicate,
    /// Another value was there for this time.
    Conflict,
    TooOld,
}

#[derive(Debug, Default, Clone)]
pub(crate) enum Open {
    #[default]
    Nothing,
    Float(FloatWriter),
    Histogram(Box<HistogramWriter>),
}

impl Open {
    fn start(&self) -> Option<i64> {
        match self {
            Self::Nothing => None,
            Self::Float(writer) => Some(writer.start()),
            Self::Histogram(writer) => Some(writer.start()),
        }
    }

    fn last(&self) -> Option<i64> {
        match self {
            Self::Nothing => None,
            Self::Float(writer) => Some(writer.last()),
            Self::Histogram(writer) => Some(writer.last()),
        }
    }

    /// Calls with the chunk as it is now.
    pub(crate) fn view<T>(&self, buffer: &mut Vec<u8>, each: impl FnOnce(ChunkView<'_>) -> T) -> Option<T> {
        let view = match self {
            Self::Nothing => return None,
            Self::Float(writer) => {
                writer.bits().copy_to(buffer);
                let (start, end, encoding) = (writer.start(), writer.last(), writer.encoding());
                ChunkView { start, end, count: writer.count(), encoding, data: buffer }
            }
            Self::Histogram(writer) => {
                ChunkView { start: writer.start(), end: writer.last(), count: writer.count(), encoding: HISTOGRAM, data: writer.bytes() }
            }
        };
        Some(each(view))
    }

    fn from_samples(samples: &[(i64, Value)]) -> Self {
        let Some(((time, value), rest)) = samples.split_first() else { return Self::Nothing };
        match value {
            Value::Float(value) => {
                let mut writer = FloatWriter::new(*time, *value);
                for (time, value) in rest {
                    if let Value::Float(value) = value {
                        writer.push(*time, *value);
                    }
                }
                Self::Float(writer)
            }
            Value::Histogram(value) => {
                let mut writer = HistogramWriter::new(*time, value);
                for (time, value) in rest {
                    if let Value::Histogram(value) = value {
                        writer.push(*time, value);
                    }
                }
                Self::Histogram(Box::new(writer))
            }
        }
    }

    fn into_chunk(self) -> Option<Chunk> {
        self.view(&mut Vec::new(), |view| view.to_chunk())
    }
}

/// One series.
#[derive(Debug)]
pub(crate) struct Series {
    /// Never used again for another series; see [`crate::SeriesRef`]. Zero: this place is free.
    pub(crate) id: u64,
    pub(crate) labels: Labels,
    /// The latest sample, also when its chunk has left the head.
    pub(crate) last: i64,
    pub(crate) closed: Vec<Chunk>,
    pub(crate) open: Open,
    /// Where the latest samples are found without decoding all before them: two points in the last two chunks, the older
    /// one first. What changes a chunk other than by appending forgets them.
    marks: [Mark; 2],
}

fn block(time: i64) -> i64 {
    time.div_euclid(BLOCK_MS)
}

impl Series {
    pub(crate) fn new(id: u64, labels: Labels) -> Self {
        Self { id, labels, last: i64::MIN, closed: Vec::new(), open: Open::Nothing, marks: [Mark::NONE; 2] }
    }

    pub(crate) fn append(&mut self, time: i64, value: f64, window_ms: i64) -> Fate {
        if time <= self.last {
            return self.append_late(time, &Value::Float(value), window_ms);
        }
        self.last = time;
        match &mut self.open {
            Open::Float(writer) if writer.count() < CHUNK_SAMPLES && block(writer.start()) == block(time) => {
                writer.push(time, value);
                if writer.count().is_multiple_of(MARK_SAMPLES) {
                    self.marks = [self.marks[1], writer.mark()];
                }
            }
            _ => {
                self.close();
                self.open = Open::Float(FloatWriter::new(time, value));
            }
        }
        Fate::Appended
    }

    pub(crate) fn append_histogram(&mut self, time: i64, value: &Arc<Histogram>, window_ms: i64) -> Fate {
        if time <= self.last {
            return self.append_late(time, &Value::Histogram(Arc::clone(value)), window_ms);
        }
        self.last = time;
        match &mut self.open {
            Open::Histogram(writer)
                if writer.count() < CHUNK_SAMPLES && writer.bytes().len() < HISTOGRAM_BYTES && block(writer.start()) == block(time) =>
            {
                writer.push(time, value);
            }
            _ => {
                self.close();
                self.open = Open::Histogram(Box::new(HistogramWriter::new(time, value)));
            }
        }
        Fate::Appended
    }

    pub(crate) fn close(&mut self) {
        let Some(chunk) = std::mem::take(&mut self.open).into_chunk() else { return };
        let at = self.closed.partition_point(|other| other.start <= chunk.start);
        // Marks lead into the open chunk and into the last one that is closed.
        self.marks = self.marks.map(if at == self.closed.len() { Mark::close } else { |_| Mark::NONE });
        // A chunk is closed every half hour or so: room for just one more, not for four.
        self.closed.reserve_exact(1);
        self.closed.insert(at, chunk);
    }

    #[cold]
    fn append_late(&mut self, time: i64, value: &Value, window_ms: i64) -> Fate {
        if let Some(there) = self.at(time) {
            return if same(&there, value) { Fate::Duplicate } else { Fate::Conflict };
        }
        if time < self.last.saturating_sub(window_ms) {
            return Fate::TooOld;
        }
        self.forget_marks();
        let is_histogram = matches!(value, Value::Histogram(_));
        let in_open = matches!(&self.open, Open::Histogram(_)) == is_histogram
            && self.open.start().is_some_and(|start| start <= time && block(start) == block(time));
        if in_open {
            let samples = insert(self.open.view(&mut Vec::new(), samples_of).unwrap_or_default(), time, value);
            self.open = Open::from_samples(&samples);
            if samples.len() >= CHUNK_SAMPLES_MAX {
                self.close();
            }
            return Fate::Late;
        }
        let before = self.closed.partition_point(|chunk| chunk.start <= time);
        let fits = |chunk: &Chunk| (chunk.encoding == HISTOGRAM) == is_histogram && block(chunk.start) == block(time);
        if let Some(at) = before.checked_sub(1).filter(|at| fits(&self.closed[*at])) {
            // What cannot be read back must not be replaced by less.
            let mut buffer = Vec::new();
            let Ok(bytes) = self.closed[at].bytes(&mut buffer) else { return Fate::TooOld };
            let samples = insert(samples_of(self.closed[at].view_of(bytes)), time, value);
            let parts = if samples.len() >= CHUNK_SAMPLES_MAX { samples.len() / 2 } else { samples.len() };
            let chunks = samples.chunks(parts.max(1)).filter_map(|part| Open::from_samples(part).into_chunk());
            self.closed.splice(at..=at, chunks.collect::<Vec<_>>());
        } else if let Some(chunk) = Open::from_samples(&[(time, value.clone())]).into_chunk() {
            self.closed.insert(before, chunk);
        }
        Fate::Late
    }

    pub(crate) fn forget_marks(&mut self) {
        self.marks = [Mark::NONE; 2];
    }

    /// The latest mark that leads into a chunk before a time.
    fn mark(&self, closed: bool, encoding: u8, start: i64, from: i64) -> Option<&Mark> {
        self.marks.iter().rev().find(|mark| mark.leads(closed, encoding, start, from))
    }

    /// The sample at a time, if the head has one.
    fn at(&self, time: i64) -> Option<Value> {
        let mut found = Decoded::default();
        self.read(time, time, &mut found, &mut Vec::new());
        let float = found.values.first().map(|value| Value::Float(*value));
        float.or_else(|| found.histograms.pop().map(|(_, histogram)| Value::Histogram(histogram)))
    }

    /// Appends the samples between two times, both included; `false` when they are not in order of time.
    pub(crate) fn read(&self, from: i64, to: i64, out: &mut Decoded, buffer: &mut Vec<u8>) -> bool {
        let mut end = i64::MIN;
        let mut ordered = true;
        let overlaps = |start: i64, last: i64| start <= to && last >= from;
        for (at, chunk) in self.closed.iter().enumerate().filter(|(_, chunk)| overlaps(chunk.start, chunk.end())) {
            ordered &= chunk.start > end;
            end = end.max(chunk.end());
            let is_last = at + 1 == self.closed.len();
            let mark = self.mark(true, chunk.encoding, chunk.start, from).filter(|_| is_last);
            let whole = chunk.view(buffer);
            match mark {
                Some(mark) => {
                    let behind = ChunkView { data: whole.data.get(mark.byte()..).unwrap_or_default(), ..whole };
                    behind.decode_from(mark, from, to, out);
                }
                None => {
                    whole.decode(from, to, out);
                }
            }
        }
        if let (Some(start), Some(last)) = (self.open.start(), self.open.last())
            && overlaps(start, last)
        {
            ordered &= start > end;
            let writer = if let Open::Float(writer) = &self.open { Some(writer) } else { None };
            let found = writer.and_then(|writer| Some((writer, self.mark(false, writer.encoding(), start, from)?)));
            if let Some((writer, mark)) = found {
                writer.bits().copy_from(mark.byte(), buffer);
                let view = ChunkView { start, end: last, count: writer.count(), encoding: writer.encoding(), data: buffer };
                view.decode_from(mark, from, to, out);
            } else {
                self.open.view(buffer, |view| view.decode(from, to, out));
            }
        }
        ordered
    }

    /// Gives the latest sample without reading a chunk, where that is the one asked for; `false` where it is not known.
    pub(crate) fn newest(&self, from: i64, to: i64, out: &mut Decoded) -> bool {
        match &self.open {
            Open::Float(writer) if writer.last() == self.last && self.last <= to => {
                if self.last >= from {
                    let Some(value) = writer.last_value() else { return false };
                    out.times.push(self.last);
                    out.values.push(value);
                }
                true
            }
            _ => false,
        }
    }

    /// Whether any chunk may have samples between two times.
    pub(crate) fn overlaps(&self, from: i64, to: i64) -> bool {
        let open = self.open.start().zip(self.open.last());
        let mut all = self.closed.iter().map(|chunk| (chunk.start, chunk.end())).chain(open);
        all.any(|(start, end)| start <= to && end >= from)
    }

    /// Closes the open chunk when its whole block lies before `time`.
    pub(crate) fn close_before(&mut self, time: i64) {
        if self.open.start().is_some_and(|start| (block(start) + 1).saturating_mul(BLOCK_MS) <= time) {
            self.close();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.closed.is_empty() && matches!(self.open, Open::Nothing)
    }

    /// Puts back a chunk that was saved while it was open.
    pub(crate) fn reopen(&mut self, view: ChunkView<'_>) {
        self.open = Open::from_samples(&samples_of(view));
    }

    pub(crate) fn chunks(&self) -> usize {
        self.closed.len() + usize::from(!matches!(self.open, Open::Nothing))
    }

    /// Bytes on the heap that samples take.
    pub(crate) fn sample_bytes(&self) -> usize {
        let closed = self.closed.capacity() * size_of::<Chunk>() + self.closed.iter().map(Chunk::memory).sum::<usize>();
        closed
            + match &self.open {
                Open::Nothing => 0,
                Open::Float(writer) => writer.bits().capacity(),
                Open::Histogram(writer) => writer.bytes().len() + size_of::<HistogramWriter>(),
            }
    }
}

fn samples_of(view: ChunkView<'_>) -> Vec<(i64, Value)> {
    let mut found = Decoded::default();
    view.decode(i64::MIN, i64::MAX, &mut found);
    let floats = found.times.into_iter().zip(found.values).map(|(time, value)| (time, Value::Float(value)));
    floats.chain(found.histograms.into_iter().map(|(time, histogram)| (time, Value::Histogram(histogram)))).collect()
}

fn insert(mut samples: Vec<(i64, Value)>, time: i64, value: &Value) -> Vec<(i64, Value)> {
    let at = samples.partition_point(|sample| sample.0 < time);
    samples.insert(at, (time, value.clone()));
    samples
}

/// Puts samples that came from overlapping chunks in order; of several at one time the first stays.
pub(crate) fn tidy(samples: &mut Decoded) {
    if !samples.times.is_sorted_by(|a, b| a < b) {
        let mut pairs: Vec<(i64, f64)> = samples.times.iter().copied().zip(samples.values.iter().copied()).collect();
        pairs.sort_by_key(|pair| pair.0);
        pairs.dedup_by_key(|pair| pair.0);
        (samples.times, samples.values) = pairs.into_iter().unzip();
    }
    if !samples.histograms.is_sorted_by(|a, b| a.0 < b.0) {
        samples.histograms.sort_by_key(|pair| pair.0);
        samples.histograms.dedup_by_key(|pair| pair.0);
    }
}

#[cfg(test)]
mod tests;
