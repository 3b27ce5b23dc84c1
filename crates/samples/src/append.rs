//! Appending: log first, then memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use paramedic_promql::histogram::Histogram;
use paramedic_promql::{Labels, SampleValue};

use crate::error::{Limit, LimitHit, SamplesError};
use crate::head::{Fates, PLACES_MAX, SeriesRef, read, write};
use crate::limits;
use crate::metrics::Refusal;
use crate::record;
use crate::store::{Inner, Samples, Writer, lock};

/// The years 1 to 9999: times that have a date.
const TIMES_MS: std::ops::RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;
/// Queued introductions of series after which they are written although no sample came.
const PENDING_BYTES_MAX: usize = 256 * 1024;

/// Which series a sample belongs to.
#[derive(Debug, Clone, Copy)]
pub enum Key<'a> {
    Ref(SeriesRef),
    Labels(&'a Labels),
    /// Names and values, in any order.
    Pairs(&'a [(&'a str, &'a str)]),
}

/// One sample on its way in.
#[derive(Debug, Clone)]
pub struct Sample<'a> {
    pub series: Key<'a>,
    /// Milliseconds since 1970.
    pub time: i64,
    pub value: SampleValue,
}

/// What became of a batch.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct AppendReport {
    /// Stored in order of time.
    pub appended: u64,
    /// Stored, although earlier than the latest sample of their series.
    pub late: u64,
    /// Not stored again: the very same sample is there.
    pub duplicates: u64,
    /// Refused: another value is there for that time.
    pub conflicts: u64,
    /// Refused: older than the out-of-order window or the retention.
    pub too_old: u64,
    pub in_future: u64,
    /// Refused: the reference names a series that has left the memory; ask for a new one.
    pub unknown_series: u64,
    /// Refused by a limit of the settings.
    pub limited: u64,
    /// The first limit that bit.
    pub first_limit: Option<LimitHit>,
}

impl AppendReport {
    fn add(&mut self, fates: Fates) {
        self.appended += fates.appended;
        self.late += fates.late;
        self.duplicates += fates.duplicates;
        self.conflicts += fates.conflicts;
        self.too_old += fates.too_old;
    }

    /// Samples that are in the store because of this batch.
    #[must_use]
    pub const fn stored(&self) -> u64 {
        self.appended + self.late
    }
}

impl Samples {
    /// The reference of a series, which begins with this when it is new.
    pub fn series_ref(&self, labels: &Labels) -> Result<SeriesRef, SamplesError> {
        self.reference(labels.iter().map(|label| (&*label.name, &*label.value)))
    }

    /// The same from names and values in any order.
    pub fn series_ref_of(&self, pairs: &[(&str, &str)]) -> Result<SeriesRef, SamplesError> {
        if is_canonical(pairs) {
            return self.reference(pairs.iter().copied());
        }
        let sorted = canonical(pairs);
        self.reference(sorted.iter().copied())
    }

    fn reference<'a>(&self, labels: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Result<SeriesRef, SamplesError> {
        let inner = &*self.inner;
        let hash = inner.head.hash.of(labels.clone(), &mut Vec::with_capacity(256));
        let known = inner.head.find(&read(&inner.head.catalogue), hash, labels.clone());
        if let Some(known) = known {
            return Ok(known);
        }
        let mut writer = lock(&inner.writer);
        let found = inner.find_or_begin(&mut writer, labels)?;
        if writer.wal.pending_bytes() > PENDING_BYTES_MAX {
            let undo = writer.wal.pending_bytes();
            inner.log(&mut writer, undo)?;
        }
        Ok(found)
    }

    /// Appends floats whose series are known: the fast path. All of the batch is in the log before this returns.
    pub fn append_refs(&self, samples: &[(SeriesRef, i64, f64)]) -> Result<AppendReport, SamplesError> {
        let inner = &*self.inner;
        inner.check_batch(samples.len())?;
        let mut report = AppendReport::default();
        let bounds = inner.bounds();
        let mut writer = lock(&inner.writer);
        writer.floats.clear();
        writer.histograms.clear();
        {
            let catalogue = read(&inner.head.catalogue);
            for (series, time, value) in samples {
                if !bounds.admit(*time, &mut report) {
                    continue;
                }
                if catalogue.id_at(series.place()) == Some(series.0) {
                    writer.floats.push((series.place(), *time, *value));
                } else {
                    report.unknown_series += 1;
                }
            }
        }
        inner.commit(writer, report)
    }

    /// Appends samples of any kind.
    pub fn append(&self, batch: &[Sample<'_>]) -> Result<AppendReport, SamplesError> {
        let inner = &*self.inner;
        inner.check_batch(batch.len())?;
        let mut report = AppendReport::default();
        let bounds = inner.bounds();
        let mut writer = lock(&inner.writer);
        writer.floats.clear();
        writer.histograms.clear();
        for sample in batch {
            if !bounds.admit(sample.time, &mut report) {
                continue;
            }
            let place = match inner.resolve(&mut writer, sample) {
                Ok(Some(series)) => series.place(),
                Ok(None) => {
                    report.unknown_series += 1;
                    continue;
                }
                Err(hit) => {
                    report.limited += 1;
                    report.first_limit.get_or_insert(hit);
                    continue;
                }
            };
            match &sample.value {
                SampleValue::Float(value) => writer.floats.push((place, sample.time, *value)),
                SampleValue::Histogram(value) => writer.histograms.push((place, sample.time, Arc::clone(value))),
            }
        }
        inner.commit(writer, report)
    }

    /// Forces what was appended to the disk.
    pub fn sync(&self) -> Result<(), SamplesError> {
        self.inner.sync()
    }
}

/// Which times are accepted now.
struct Bounds {
    from: i64,
    to: i64,
}

impl Bounds {
    #[inline]
    fn admit(&self, time: i64, report: &mut AppendReport) -> bool {
        if time < self.from {
            report.too_old += 1;
        } else if time > self.to {
            report.in_future += 1;
        } else {
            return true;
        }
        false
    }
}

impl Inner {
    fn bounds(&self) -> Bounds {
        let now = self.clock.now().as_millis();
        let from = now.saturating_sub(self.settings.retention_ms()).max(*TIMES_MS.start());
        let to = self.settings.future_ms().map_or(i64::MAX, |future| now.saturating_add(future)).min(*TIMES_MS.end());
        Bounds { from, to }
    }

    fn check_batch(&self, samples: usize) -> Result<(), SamplesError> {
        let allowed = self.settings.samples_per_append_max;
        if samples <= allowed {
            return Ok(());
        }
        let hit = limits::hit(Limit::SamplesPerAppendMax, "", samples, allowed);
        self.limited(&hit, samples as u64);
        Err(hit.into())
    }

    fn limited(&self, hit: &LimitHit, samples: u64) {
        self.metrics.refuse(Refusal::Limit(hit.limit), samples);
        self.offenders.add(hit, self.clock.now());
    }

    /// The series of a sample; `None` when its reference is no longer known.
    fn resolve(&self, writer: &mut Writer, sample: &Sample<'_>) -> Result<Option<SeriesRef>, LimitHit> {
        let series = match sample.series {
            Key::Ref(series) => Ok(Some(series).filter(|series| read(&self.head.catalogue).id_at(series.place()) == Some(series.0))),
            Key::Labels(labels) => self.find_or_begin(writer, labels.iter().map(|label| (&*label.name, &*label.value))).map(Some),
            Key::Pairs(pairs) if is_canonical(pairs) => self.find_or_begin(writer, pairs.iter().copied()).map(Some),
            Key::Pairs(pairs) => self.find_or_begin(writer, canonical(pairs).iter().copied()).map(Some),
        }?;
        if let SampleValue::Histogram(histogram) = &sample.value {
            self.check_histogram(series, histogram)?;
        }
        Ok(series)
    }

    fn check_histogram(&self, series: Option<SeriesRef>, histogram: &Histogram) -> Result<(), LimitHit> {
        let buckets = histogram.positive.len() + histogram.negative.len() + histogram.custom_values.len();
        let allowed = self.settings.histogram_buckets_max;
        if buckets <= allowed {
            return Ok(());
        }
        let labels = series.and_then(|series| self.head.labels_at(series.place())).unwrap_or_else(Labels::empty);
        let hit = limits::hit(Limit::HistogramBucketsMax, labels.metric_name(), buckets, allowed);
        self.limited(&hit, 1);
        Err(hit)
    }

    /// Finds a series or begins it. The caller has the log, so that nobody else begins the same one.
    fn find_or_begin<'a>(
        &self,
        writer: &mut Writer,
        labels: impl Iterator<Item = (&'a str, &'a str)> + Clone,
    ) -> Result<SeriesRef, LimitHit> {
        let hash = self.head.hash.of(labels.clone(), &mut writer.buffer);
        if let Some(known) = self.head.find(&read(&self.head.catalogue), hash, labels.clone()) {
            return Ok(known);
        }
        let pairs: Vec<(&str, &str)> = labels.collect();
        let mut catalogue = write(&self.head.catalogue);
        let allowed = self.settings.series_max.min(PLACES_MAX);
        let checked = limits::check_labels(&pairs, &self.settings).and_then(|()| {
            let metric = pairs.iter().find(|(name, _)| *name == "__name__").map_or("", |(_, value)| *value);
            let series = catalogue.index.len();
            if series < allowed { Ok(()) } else { Err(limits::hit(Limit::SeriesMax, metric, series + 1, allowed)) }
        });
        if let Err(hit) = checked {
            self.limited(&hit, 1);
            return Err(hit);
        }
        let series = SeriesRef::new(writer.created, catalogue.next_place());
        writer.created += 1;
        writer.wal.queue(|out| record::put_series(out, series.0, &pairs));
        self.head.insert(&mut catalogue, series, hash, pairs.into_iter());
        self.metrics.created_series.inc();
        Ok(series)
    }

    /// Writes what is queued; `undo` is where the frames begin that may be forgotten on failure.
    pub(crate) fn log(&self, writer: &mut Writer, undo: usize) -> Result<(), SamplesError> {
        writer.wal.write(undo).inspect_err(|_| {
            self.metrics.wal_errors.inc();
        })?;
        self.unsynced.store(true, Ordering::Release);
        if let Err(err) = writer.wal.rotate_when_full(self.settings.segment_bytes_max) {
            // What was written is written: the segment only grows longer than it should.
            self.metrics.wal_errors.inc();
            tracing::warn!(error = %err, "a new segment of the samples' log cannot be begun");
        }
        Ok(())
    }

    /// Logs and applies what the writer holds.
    fn commit(&self, mut guard: std::sync::MutexGuard<'_, Writer>, mut report: AppendReport) -> Result<AppendReport, SamplesError> {
        let writer = &mut *guard;
        let Writer { wal, floats, histograms, .. } = writer;
        let undo = wal.pending_bytes();
        if !floats.is_empty() {
            wal.queue(|out| record::put_floats(out, floats));
        }
        if !histograms.is_empty() {
            wal.queue(|out| record::put_histograms(out, histograms));
        }
        if wal.pending_bytes() > 0 {
            self.log(writer, undo)?;
        }
        let window = self.settings.window_ms();
        report.add(self.head.append_floats(&writer.floats, window));
        report.add(self.head.append_histograms(&writer.histograms, window));
        writer.floats.clear();
        writer.histograms.clear();
        drop(guard);
        self.count(&report);
        // Also for duplicates: whoever sent the first one may still be waiting for the disk.
        if self.settings.fsync_interval_ms == 0 {
            self.sync()?;
        }
        Ok(report)
    }

    fn count(&self, report: &AppendReport) {
        self.metrics.appended_samples.inc_by(report.stored());
        self.metrics.late_samples.inc_by(report.late);
        self.metrics.refuse(Refusal::Duplicate, report.duplicates);
        self.metrics.refuse(Refusal::Conflict, report.conflicts);
        self.metrics.refuse(Refusal::TooOld, report.too_old);
        self.metrics.refuse(Refusal::InFuture, report.in_future);
        self.metrics.refuse(Refusal::UnknownSeries, report.unknown_series);
    }

    /// Forces the log to the disk without making appends wait.
    pub(crate) fn sync(&self) -> Result<(), SamplesError> {
        // Whoever waits here finds either that its bytes were covered or that it has to do it itself.
        let _one_at_a_time = lock(&self.syncing);
        if !self.unsynced.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        // Segments before the current one were forced when they were closed.
        let (file, path) = lock(&self.writer).wal.file();
        let begun = Instant::now();
        let synced = file.sync_data();
        self.metrics.fsync_seconds.observe(begun.elapsed().as_secs_f64());
        synced.map_err(|err| {
            self.unsynced.store(true, Ordering::Release);
            SamplesError::io(&path, err)
        })
    }
}

/// Whether names ascend and no value is empty.
fn is_canonical(pairs: &[(&str, &str)]) -> bool {
    pairs.is_sorted_by(|a, b| a.0 < b.0) && pairs.iter().all(|pair| !pair.1.is_empty())
}

/// Sorts by name, keeps the last of a repeated name, and drops empty values.
fn canonical<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut sorted: Vec<(&str, &str)> = pairs.iter().rev().copied().collect();
    sorted.sort_by_key(|pair| pair.0);
    sorted.dedup_by_key(|pair| pair.0);
    sorted.retain(|pair| !pair.1.is_empty());
    sorted
}
