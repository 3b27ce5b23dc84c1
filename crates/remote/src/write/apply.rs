//! From a read request into the store: find the series, append, say what became of the samples.

use std::sync::{Arc, PoisonError};

use paramedic_promql::SampleValue;
use paramedic_samples::{AppendReport, Key, Metadata, Sample, SamplesError, SeriesRef};

use super::Receiver;
use super::decode::{BadLabels, Decoded};
use crate::metrics::ByReason;

/// What became of a request.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Floats that are in the store now.
    pub(crate) floats: u64,
    pub(crate) histograms: u64,
    pub(crate) exemplars: u64,
    /// Refused samples, by reason.
    refused: Vec<(&'static str, u64)>,
    /// What was wrong first, in words.
    first: Option<String>,
    /// The store cannot write: everything shall come again.
    pub(crate) failure: Option<String>,
}

impl Outcome {
    fn refuse(&mut self, reason: &'static str, count: u64, why: impl FnOnce() -> String) {
        if count == 0 {
            return;
        }
        match self.refused.iter_mut().find(|known| known.0 == reason) {
            Some(known) => known.1 += count,
            None => self.refused.push((reason, count)),
        }
        if self.first.is_none() {
            self.first = Some(why());
        }
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.iter().map(|known| known.1).sum()
    }

    pub(crate) fn text(&self) -> String {
        let parts: Vec<String> = self.refused.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let stored = self.floats + self.histograms;
        let first = self.first.as_deref().unwrap_or("");
        format!("{} of {} samples refused ({}): {first}", self.refused(), stored + self.refused(), parts.join(", "))
    }

    fn report(&mut self, report: &AppendReport) {
        self.refuse("conflict", report.conflicts, || "duplicate sample for timestamp with another value".to_owned());
        self.refuse("too_old", report.too_old, || "out of order sample: older than the out-of-order window".to_owned());
        self.refuse("in_future", report.in_future, || "out of bounds: too far in the future".to_owned());
        self.refuse("limit", report.limited, || report.first_limit.as_ref().map(ToString::to_string).unwrap_or_default());
        self.refuse("unknown_series", report.unknown_series, || "the series left the memory in this moment".to_owned());
    }

    fn fail(&mut self, err: &SamplesError) {
        self.failure.get_or_insert_with(|| format!("failed to {err}"));
    }
}

/// The series of a request as far as they are good.
struct Resolved {
    series: Vec<Option<SeriesRef>>,
}

impl Receiver {
    pub(super) fn apply(&self, decoded: &Decoded<'_>) -> Outcome {
        let mut outcome = Outcome { exemplars: decoded.exemplars, ..Outcome::default() };
        outcome.refuse("bad_histogram", decoded.bad_histograms, || {
            decoded.first_bad_histogram.as_ref().map(ToString::to_string).unwrap_or_default()
        });
        let resolved = self.resolve(decoded, &mut outcome);
        if outcome.failure.is_some() {
            return outcome;
        }
        if self.settings.created_zeros {
            self.append_zeros(decoded, &resolved);
        }
        self.append_floats(decoded, resolved, &mut outcome);
        if outcome.failure.is_none() && !decoded.metadata.is_empty() {
            self.remember(decoded);
        }
        if outcome.failure.is_none() {
            self.hand_on(decoded);
        }
        for (reason, count) in &outcome.refused {
            self.metrics.refused_samples.get_or_create(&ByReason { reason }).inc_by(*count);
        }
        outcome
    }

    /// Finds every series: by the bytes of its labels, else by its labels, which may begin it.
    fn resolve(&self, decoded: &Decoded<'_>, outcome: &mut Outcome) -> Resolved {
        let mut series = Vec::with_capacity(decoded.series.len());
        let mut unknown = 0;
        {
            let mut refs = self.refs.lock().unwrap_or_else(PoisonError::into_inner);
            for labels in &decoded.series {
                let found = refs.get(labels.key);
                unknown += u64::from(found.is_none());
                series.push(found);
            }
        }
        if unknown > 0 {
            self.metrics.label_reads.inc_by(unknown);
            self.look_up(decoded, &mut series, outcome);
        }
        Resolved { series }
    }

    fn look_up(&self, decoded: &Decoded<'_>, series: &mut [Option<SeriesRef>], outcome: &mut Outcome) {
        let mut pairs = Vec::with_capacity(32);
        let mut found = Vec::new();
        let mut bad: Vec<(u32, BadSeries)> = Vec::new();
        for (i, labels) in decoded.series.iter().enumerate().filter(|(i, _)| series[*i].is_none()).collect::<Vec<_>>() {
            if let Err(err) = decoded.labels(*labels, &mut pairs) {
                bad.push((i as u32, BadSeries::Labels(err)));
                continue;
            }
            match self.samples.series_ref_of(&pairs) {
                Ok(reference) => {
                    series[i] = Some(reference);
                    found.push((labels.key, reference));
                }
                Err(SamplesError::Limit(hit)) => bad.push((i as u32, BadSeries::Limit(hit.to_string()))),
                Err(err) => return outcome.fail(&err),
            }
        }
        {
            let mut refs = self.refs.lock().unwrap_or_else(PoisonError::into_inner);
            found.into_iter().for_each(|(key, reference)| refs.insert(key, reference));
            self.metrics.known_series.set(refs.len() as i64);
        }
        refuse_series(decoded, &bad, outcome);
    }

    fn append_floats(&self, decoded: &Decoded<'_>, resolved: Resolved, outcome: &mut Outcome) {
        let mut resolved = resolved;
        for attempt in 0..2 {
            let (floats, histograms) = match self.append_all(decoded, &resolved) {
                Ok(reports) => reports,
                Err(err) => return outcome.fail(&err),
            };
            let gone = floats.unknown_series + histograms.unknown_series;
            if gone > 0 && attempt == 0 {
                // Some series left the memory: begin them again. What is stored already comes back as a duplicate.
                tracing::debug!(gone, "series of a request have left the memory");
                self.refs.lock().unwrap_or_else(PoisonError::into_inner).clear();
                let mut again = Outcome::default();
                resolved = self.resolve(decoded, &mut again);
                if let Some(failure) = again.failure {
                    outcome.failure = Some(failure);
                    return;
                }
                continue;
            }
            // The very same sample being there is as good as storing it.
            outcome.floats = floats.stored() + floats.duplicates;
            outcome.histograms = histograms.stored() + histograms.duplicates;
            outcome.report(&floats);
            outcome.report(&histograms);
            return;
        }
    }

    fn append_all(&self, decoded: &Decoded<'_>, resolved: &Resolved) -> Result<(AppendReport, AppendReport), SamplesError> {
        let per_append = self.samples.settings().samples_per_append_max.max(1);
        let series = &resolved.series;
        let known = |at: u32| series.get(at as usize).copied().flatten();
        let batch: Vec<(SeriesRef, i64, f64)> =
            decoded.floats.iter().filter_map(|(at, time, value)| Some((known(*at)?, *time, *value))).collect();
        let mut floats = AppendReport::default();
        for part in batch.chunks(per_append) {
            add(&mut floats, self.samples.append_refs(part)?);
        }
        let mut histograms = AppendReport::default();
        let sample = |(at, time, value): &(u32, i64, paramedic_promql::Histogram)| {
            let value = SampleValue::Histogram(Arc::new(value.clone()));
            Some(Sample { series: Key::Ref(known(*at)?), time: *time, value })
        };
        let batch: Vec<Sample<'_>> = decoded.histograms.iter().filter_map(sample).collect();
        for part in batch.chunks(per_append) {
            add(&mut histograms, self.samples.append(part)?);
        }
        Ok((floats, histograms))
    }

    /// Zeros where counters began. Most are there already or too old, which nobody needs to be told.
    fn append_zeros(&self, decoded: &Decoded<'_>, resolved: &Resolved) {
        let zero = |(at, time): &(u32, i64)| {
            let is_histogram = decoded.histograms.binary_search_by_key(at, |sample| sample.0).is_ok();
            let reference = resolved.series.get(*at as usize).copied().flatten()?;
            (*time > 0 && !is_histogram).then_some((reference, *time, 0.0))
        };
        let zeros: Vec<(SeriesRef, i64, f64)> = decoded.created.iter().filter_map(zero).collect();
        for part in zeros.chunks(self.samples.settings().samples_per_append_max.max(1)) {
            if let Err(err) = self.samples.append_refs(part) {
                tracing::debug!(error = %err, "created timestamps could not be stored");
            }
        }
    }

    fn remember(&self, decoded: &Decoded<'_>) {
        let mut last = None;
        for row in &decoded.metadata {
            if row.metric.is_empty() || last == Some(row) {
                continue;
            }
            last = Some(row);
            let metadata = Metadata { kind: row.kind.to_owned(), help: row.help.to_owned(), unit: row.unit.to_owned() };
            let told = self.tap.as_ref().map_or(Ok(()), |tap| tap.set_metadata(row.metric, metadata.clone()));
            if let Err(err) = self.samples.set_metadata(row.metric, metadata).and(told) {
                tracing::debug!(error = %err, "metadata of a metric could not be stored");
                return;
            }
        }
    }

    /// Hands everything whose series is good to the tap.
    fn hand_on(&self, decoded: &Decoded<'_>) {
        let Some(tap) = &self.tap else { return };
        let mut pairs = Vec::with_capacity(32);
        let mut batch_pairs: Vec<(&str, &str)> = Vec::with_capacity(decoded.series.len() * 12);
        let mut ranges = Vec::with_capacity(decoded.series.len());
        for labels in &decoded.series {
            let begin = batch_pairs.len();
            if decoded.labels(*labels, &mut pairs).is_ok() {
                batch_pairs.extend_from_slice(&pairs);
            }
            ranges.push(begin..batch_pairs.len());
        }
        let key = |at: u32| ranges.get(at as usize).filter(|range| !range.is_empty()).map(|range| Key::Pairs(&batch_pairs[range.clone()]));
        let floats = decoded.floats.iter().map(|(at, time, value)| (*at, *time, SampleValue::Float(*value)));
        let histograms = decoded.histograms.iter().map(|(at, time, value)| (*at, *time, SampleValue::Histogram(Arc::new(value.clone()))));
        let batch: Vec<Sample<'_>> =
            floats.chain(histograms).filter_map(|(at, time, value)| Some(Sample { series: key(at)?, time, value })).collect();
        if let Err(err) = tap.append(&batch) {
            self.metrics.tap_errors.inc();
            tracing::warn!(error = %err, "samples that were stored could not be handed on");
        }
    }
}

/// Why a whole series is refused.
enum BadSeries {
    Labels(BadLabels),
    Limit(String),
}

/// Counts the samples of bad series; a bad series without samples counts as one, so that its sender hears of it.
fn refuse_series(decoded: &Decoded<'_>, bad: &[(u32, BadSeries)], outcome: &mut Outcome) {
    if bad.is_empty() {
        return;
    }
    let mut samples = vec![0u64; decoded.series.len()];
    let places = decoded.floats.iter().map(|sample| sample.0).chain(decoded.histograms.iter().map(|sample| sample.0));
    places.for_each(|at| samples[at as usize] += 1);
    for (at, why) in bad {
        let count = samples[*at as usize].max(1);
        match why {
            BadSeries::Labels(err) => outcome.refuse("bad_labels", count, || err.to_string()),
            BadSeries::Limit(hit) => outcome.refuse("limit", count, || hit.clone()),
        }
    }
}

fn add(total: &mut AppendReport, part: AppendReport) {
    total.appended += part.appended;
    total.late += part.late;
    total.duplicates += part.duplicates;
    total.conflicts += part.conflicts;
    total.too_old += part.too_old;
    total.in_future += part.in_future;
    total.unknown_series += part.unknown_series;
    total.limited += part.limited;
    total.first_limit = total.first_limit.take().or(part.first_limit);
}
