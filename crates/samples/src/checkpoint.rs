//! Saving the memory as a whole, and what start finds: the last checkpoint and the log behind it.
//!
//! A checkpoint is written while appends go on, a page at a time. That it may hold samples which the log behind it tells
//! again does no harm: a sample that is there already is not appended twice.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::SamplesError;
use crate::head::{Head, SeriesRef, read, write};
use crate::metrics::Metrics;
use crate::record::{self, Told};
use crate::store::MetadataTable;
use crate::wal::{numbered, put_frame, remove_before, scan, sync_dir};

/// Series in one frame of a checkpoint.
const FRAME_SERIES: usize = 256;

/// What start had to leave out, for a person to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub file: PathBuf,
    pub from_byte: u64,
    pub to_byte: u64,
    pub what: &'static str,
}

/// What start found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Recovery {
    pub series: u64,
    /// Samples that the log told again, those that the checkpoint had too included.
    pub samples: u64,
    /// Samples of series that no readable frame introduced.
    pub orphans: u64,
    /// Bytes cut from an unfinished end.
    pub torn_bytes: u64,
    pub damages: Vec<Damage>,
    pub(crate) created: u64,
    pub(crate) next_segment: u64,
    pub(crate) wal_bytes: u64,
}

/// Damages that are named; more are counted only.
const DAMAGES_MAX: usize = 100;

impl Recovery {
    fn damage(&mut self, metrics: &Metrics, file: &Path, from: usize, to: usize, what: &'static str) {
        tracing::warn!(file = %file.display(), from, to, what, "part of the samples' log cannot be read and is left out");
        metrics.damaged_stretches.inc();
        if self.damages.len() < DAMAGES_MAX {
            self.damages.push(Damage { file: file.to_owned(), from_byte: from as u64, to_byte: to as u64, what });
        }
    }
}

/// Writes everything in memory to a checkpoint that stands for all segments before `segment`.
pub(crate) fn save(dir: &Path, segment: u64, created: u64, head: &Head, metadata: &MetadataTable) -> Result<(), SamplesError> {
    let unfinished = dir.join("checkpoint.new");
    let io = |err| SamplesError::io(&unfinished, err);
    let mut file = BufWriter::with_capacity(256 * 1024, File::create(&unfinished).map_err(io)?);
    let mut frame = Vec::new();
    let mut buffer = Vec::new();
    put_frame(&mut frame, |out| record::put_checkpoint(out, created));
    for (metric, one) in metadata.iter() {
        put_frame(&mut frame, |out| record::put_metadata(out, metric, one));
    }
    file.write_all(&frame).map_err(io)?;
    for page in head.pages() {
        let mut at = 0;
        loop {
            frame.clear();
            let page = read(&page);
            let Some(part) = page.get(at..).filter(|part| !part.is_empty()) else { break };
            let part = &part[..part.len().min(FRAME_SERIES)];
            at += part.len();
            let mut put = Ok(());
            put_frame(&mut frame, |out| {
                record::put_states_head(out);
                let mut live = part.iter().filter(|series| series.id != 0);
                put = live.try_for_each(|series| record::put_state(out, series, &mut buffer));
            });
            drop(page);
            // Without all of it the checkpoint would be worse than the log that it stands for.
            put.map_err(io)?;
            file.write_all(&frame).map_err(io)?;
        }
    }
    frame.clear();
    put_frame(&mut frame, record::put_end);
    file.write_all(&frame).map_err(io)?;
    file.into_inner().map_err(|err| io(err.into_error()))?.sync_all().map_err(io)?;
    let finished = dir.join(format!("checkpoint-{segment:010}"));
    fs::rename(&unfinished, &finished).map_err(|err| SamplesError::io(&finished, err))?;
    sync_dir(dir)?;
    remove_before(dir, "checkpoint", segment)
}

/// Fills an empty head with what the folder tells.
pub(crate) fn recover(
    dir: &Path,
    head: &Head,
    metadata: &mut MetadataTable,
    window_ms: i64,
    metrics: &Metrics,
) -> Result<Recovery, SamplesError> {
    let mut reader = Reader { head, metadata, window_ms, found: Recovery::default(), buffer: Vec::new(), floats: Vec::new() };
    let first = match numbered(dir, "checkpoint")?.pop() {
        Some((number, path)) => {
            reader.read_checkpoint(&path, metrics)?;
            number
        }
        None => 0,
    };
    reader.found.next_segment = first;
    let segments = numbered(dir, "wal")?;
    let last = segments.last().map(|(number, _)| *number);
    for (number, path) in segments {
        reader.found.next_segment = reader.found.next_segment.max(number + 1);
        if number < first {
            // The process ended between a checkpoint and the deletion of what it stands for.
            fs::remove_file(&path).map_err(|err| SamplesError::io(&path, err))?;
            continue;
        }
        let size = reader.read_segment(&path, Some(number) == last, metrics)?;
        reader.found.wal_bytes += size;
    }
    let mut found = reader.found;
    found.series = read(&head.catalogue).index.len() as u64;
    metrics.recovered_samples.inc_by(found.samples);
    Ok(found)
}

struct Reader<'a> {
    head: &'a Head,
    metadata: &'a mut MetadataTable,
    window_ms: i64,
    found: Recovery,
    buffer: Vec<u8>,
    floats: Vec<(u32, i64, f64)>,
}

impl Reader<'_> {
    fn read_checkpoint(&mut self, path: &Path, metrics: &Metrics) -> Result<(), SamplesError> {
        let bytes = fs::read(path).map_err(|err| SamplesError::io(path, err))?;
        let (mut ended, mut nonsense) = (false, 0);
        let found = scan(&bytes, |payload| {
            let sense = record::read(payload, &mut |told| {
                ended |= matches!(told, Told::End);
                self.take(told);
            });
            nonsense += usize::from(!sense);
        });
        for (from, to) in found.damaged {
            self.found.damage(metrics, path, from, to, "damaged checkpoint");
        }
        if !ended || nonsense > 0 {
            self.found.damage(metrics, path, found.torn_at.unwrap_or(0), bytes.len(), "incomplete checkpoint");
        }
        Ok(())
    }

    /// Gives the bytes of the segment that are kept.
    fn read_segment(&mut self, path: &Path, last: bool, metrics: &Metrics) -> Result<u64, SamplesError> {
        let bytes = fs::read(path).map_err(|err| SamplesError::io(path, err))?;
        let mut nonsense = 0;
        let scan = scan(&bytes, |payload| {
            nonsense += usize::from(!record::read(payload, &mut |told| self.take(told)));
            self.flush();
        });
        for (from, to) in scan.damaged {
            self.found.damage(metrics, path, from, to, "damaged log");
        }
        if nonsense > 0 {
            self.found.damage(metrics, path, 0, bytes.len(), "frames that make no sense");
        }
        let Some(torn_at) = scan.torn_at else { return Ok(bytes.len() as u64) };
        if !last {
            self.found.damage(metrics, path, torn_at, bytes.len(), "damaged end of the log");
            return Ok(bytes.len() as u64);
        }
        // The process ended while it wrote: nobody was told that this was stored.
        metrics.torn_tails.inc();
        self.found.torn_bytes += (bytes.len() - torn_at) as u64;
        let cut = OpenOptions::new().write(true).open(path).and_then(|file| {
            file.set_len(torn_at as u64)?;
            file.sync_all()
        });
        cut.map_err(|err| SamplesError::io(path, err))?;
        Ok(torn_at as u64)
    }

    fn take(&mut self, told: Told<'_>) {
        match told {
            Told::Series { id, labels } => {
                self.flush();
                self.introduce(id, &labels);
            }
            Told::Float { place, time, value } => self.floats.push((place, time, value)),
            Told::Histogram { place, time, value } => {
                self.found.samples += 1;
                let fates = self.head.append_histograms(&[(place, time, value)], self.window_ms);
                self.count_orphans(1, fates);
            }
            Told::Metadata { metric, metadata } => self.metadata.set(metric, metadata),
            Told::Checkpoint { created } => self.found.created = self.found.created.max(created),
            Told::State { id, labels, last, closed, open } => {
                if self.introduce(id, &labels) {
                    self.head.restore(SeriesRef(id), last, &closed, open);
                }
            }
            Told::End => {}
        }
    }

    fn count_orphans(&mut self, told: u64, fates: crate::head::Fates) {
        let met = fates.appended + fates.late + fates.duplicates + fates.conflicts + fates.too_old;
        self.found.orphans += told - met;
    }

    fn flush(&mut self) {
        if self.floats.is_empty() {
            return;
        }
        let floats = std::mem::take(&mut self.floats);
        self.found.samples += floats.len() as u64;
        let fates = self.head.append_floats(&floats, self.window_ms);
        self.count_orphans(floats.len() as u64, fates);
        self.floats = floats;
        self.floats.clear();
    }

    /// Makes room for a series; `false` when it is there already.
    fn introduce(&mut self, id: u64, labels: &[(&str, &str)]) -> bool {
        let series = SeriesRef(id);
        self.found.created = self.found.created.max(series.created() + 1);
        let before = read(&self.head.catalogue).id_at(series.place());
        match before {
            Some(before) if before == id => return false,
            // The series that was here had left the memory, and its samples with it, when this one came.
            Some(_) => self.head.remove(&[series.place()]),
            None => {}
        }
        let hash = self.head.hash.of(labels.iter().copied(), &mut self.buffer);
        self.head.insert(&mut write(&self.head.catalogue), series, hash, labels.iter().copied());
        true
    }
}
