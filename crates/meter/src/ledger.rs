//! The numbers: every series of every metric, and what of it has been written.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use paramedic_promql::labels::{BUCKET, Label, METRIC_NAME};
use paramedic_promql::number::stale;
use paramedic_promql::{Labels, SampleValue};
use paramedic_samples::{AppendReport, Key, Metadata, Sample, SampleSink, SamplesError};

use crate::catalogue::{CATALOGUE, Description, Kind, Metric};

/// Between the label values in a series' key; label values have no control characters.
const SEPARATOR: char = '\u{1f}';
/// Samples in one append.
const BATCH_MAX: usize = 10_000;

/// What one write did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    pub series: u64,
    pub samples: u64,
    /// Samples that the sink's limits refused.
    pub refused: u64,
}

impl Written {
    fn add(&mut self, samples: usize, report: &AppendReport) {
        self.samples += samples as u64;
        self.refused += report.limited + report.too_old + report.in_future + report.conflicts + report.unknown_series;
    }
}

/// What one series holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Data {
    Number(f64),
    /// Observations per bucket, the last of them above all bounds.
    Histogram {
        counts: Box<[u64]>,
        sum: f64,
    },
}

#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) data: Data,
    /// Milliseconds since 1970 of the last change.
    pub(crate) touched_ms: i64,
    /// Its first samples, the zeros before them included, are in the store.
    pub(crate) introduced: Cell<bool>,
    /// Changed since it was last written.
    changed: Cell<bool>,
    /// Of a gauge that is set anew each time: it was set this time.
    seen: bool,
    /// The label sets of its samples: one, or one per bucket, then the sum and the count.
    labels: Vec<Labels>,
}

/// All series by metric.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) families: Vec<HashMap<Box<str>, Series>>,
    ended: Vec<Labels>,
    is_described: bool,
    key: String,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { families: CATALOGUE.iter().map(|_| HashMap::new()).collect(), ended: Vec::new(), is_described: false, key: String::new() }
    }
}

pub(crate) fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// Adds to a counter. Values come in the order of the metric's labels; an empty one leaves its label out.
    pub(crate) fn add(&mut self, metric: Metric, values: &[&str], by: f64, now_ms: i64) {
        self.change(metric, values, now_ms, |series| {
            if let Data::Number(number) = &mut series.data
                && by > 0.0
            {
                *number += by;
                series.changed.set(true);
            }
        });
    }

    pub(crate) fn inc(&mut self, metric: Metric, values: &[&str], now_ms: i64) {
        self.add(metric, values, 1.0, now_ms);
    }

    /// Sets a gauge.
    pub(crate) fn set(&mut self, metric: Metric, values: &[&str], to: f64, now_ms: i64) {
        self.change(metric, values, now_ms, |series| {
            series.seen = true;
            if series.data != Data::Number(to) {
                series.changed.set(true);
                series.data = Data::Number(to);
            }
        });
    }

    pub(crate) fn observe(&mut self, metric: Metric, values: &[&str], seconds: f64, now_ms: i64) {
        let Kind::Histogram(bounds) = metric.description().kind else { return };
        if !seconds.is_finite() {
            return;
        }
        let seconds = seconds.max(0.0);
        self.change(metric, values, now_ms, |series| {
            if let Data::Histogram { counts, sum } = &mut series.data {
                counts[bounds.partition_point(|bound| *bound < seconds)] += 1;
                *sum += seconds;
                series.changed.set(true);
            }
        });
    }

    /// Changes a series, which begins with that when it is new.
    fn change(&mut self, metric: Metric, values: &[&str], now_ms: i64, change: impl FnOnce(&mut Series)) {
        let Self { families, key, .. } = self;
        key.clear();
        for (place, value) in values.iter().enumerate() {
            if place > 0 {
                key.push(SEPARATOR);
            }
            key.push_str(value);
        }
        let family = &mut families[metric as usize];
        if let Some(series) = family.get_mut(key.as_str()) {
            series.touched_ms = series.touched_ms.max(now_ms);
            return change(series);
        }
        let mut series = Series::new(metric.description(), key);
        series.touched_ms = now_ms;
        change(&mut series);
        family.insert(key.as_str().into(), series);
    }

    /// Before gauges are set anew: those that are not set until [`Self::sweep`] end there.
    pub(crate) fn begin(&mut self, metrics: &[Metric]) {
        for metric in metrics {
            for series in self.families[*metric as usize].values_mut() {
                series.seen = false;
            }
        }
    }

    pub(crate) fn sweep(&mut self, metrics: &[Metric]) {
        let Self { families, ended, .. } = self;
        for metric in metrics {
            families[*metric as usize].retain(|_, series| series.seen || series.end(ended));
        }
    }

    /// Sets every series of a gauge to zero: those that hold are counted anew.
    pub(crate) fn zero(&mut self, metric: Metric) {
        for series in self.families[metric as usize].values_mut() {
            if series.data != Data::Number(0.0) {
                series.data = Data::Number(0.0);
                series.changed.set(true);
            }
        }
    }

    /// Ends labelled series that nothing changed for too long.
    pub(crate) fn forget(&mut self, agents_before_ms: i64, others_before_ms: i64) {
        let Self { families, ended, .. } = self;
        for (family, described) in families.iter_mut().zip(CATALOGUE) {
            if described.labels.is_empty() {
                continue;
            }
            let before = if described.is_per_agent() { agents_before_ms } else { others_before_ms };
            family.retain(|_, series| series.touched_ms >= before || series.end(ended));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.families.iter().map(HashMap::len).sum()
    }

    /// Writes all series, or those that changed, and the ends of series. What the sink did not take is tried again.
    pub(crate) fn write(&mut self, which: Which<'_>, now_ms: i64, zero_ms: i64, sink: &dyn SampleSink) -> Result<Written, SamplesError> {
        self.describe(sink)?;
        for (place, described) in CATALOGUE.iter().enumerate().filter(|(_, described)| described.is_preset()) {
            self.families[place].entry("".into()).or_insert_with(|| Series::new(described, ""));
        }
        let mut written = Written::default();
        let mut batch = Vec::with_capacity(BATCH_MAX.min(4_096));
        let mut told: Vec<&Series> = Vec::new();
        for (place, family) in self.families.iter().enumerate().filter(|(place, _)| which.has(*place)) {
            let is_counting = CATALOGUE[place].kind != Kind::Gauge;
            for series in family.values() {
                if which.is_changes() && !series.changed.get() {
                    continue;
                }
                if is_counting && !series.introduced.get() && !series.is_zero() {
                    series.push(&mut batch, zero_ms, true);
                }
                series.push(&mut batch, now_ms, false);
                told.push(series);
                if batch.len() >= BATCH_MAX {
                    flush(&mut batch, &mut told, &mut written, sink)?;
                }
            }
        }
        flush(&mut batch, &mut told, &mut written, sink)?;
        for ends in self.ended.chunks(BATCH_MAX) {
            batch.extend(ends.iter().map(|labels| sample(labels, now_ms, stale())));
            flush(&mut batch, &mut told, &mut written, sink)?;
        }
        drop((batch, told));
        self.ended.clear();
        Ok(written)
    }

    fn describe(&mut self, sink: &dyn SampleSink) -> Result<(), SamplesError> {
        if self.is_described {
            return Ok(());
        }
        for described in CATALOGUE {
            let metadata =
                Metadata { kind: described.kind.as_str().to_owned(), help: described.help.to_owned(), unit: described.unit.to_owned() };
            sink.set_metadata(described.name, metadata)?;
        }
        self.is_described = true;
        Ok(())
    }
}

/// Which series are written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which<'a> {
    All,
    /// Those of these metrics that changed since they were written.
    Changes(&'a [Metric]),
}

impl Which<'_> {
    fn has(&self, place: usize) -> bool {
        match self {
            Self::All => true,
            Self::Changes(metrics) => metrics.iter().any(|metric| *metric as usize == place),
        }
    }

    const fn is_changes(&self) -> bool {
        matches!(self, Self::Changes(_))
    }
}

fn flush(batch: &mut Vec<Sample<'_>>, told: &mut Vec<&Series>, written: &mut Written, sink: &dyn SampleSink) -> Result<(), SamplesError> {
    if batch.is_empty() {
        return Ok(());
    }
    let report = sink.append(batch)?;
    written.add(batch.len(), &report);
    written.series += told.len() as u64;
    batch.clear();
    for series in told.drain(..) {
        series.introduced.set(true);
        series.changed.set(false);
    }
    Ok(())
}

const fn sample(labels: &Labels, time: i64, value: f64) -> Sample<'_> {
    Sample { series: Key::Labels(labels), time, value: SampleValue::Float(value) }
}

impl Series {
    pub(crate) fn new(described: &Description, key: &str) -> Self {
        let data = match described.kind {
            Kind::Histogram(bounds) => Data::Histogram { counts: vec![0; bounds.len() + 1].into(), sum: 0.0 },
            Kind::Counter | Kind::Gauge => Data::Number(0.0),
        };
        let labels = label_sets(described, key);
        Self { data, touched_ms: i64::MIN, introduced: Cell::new(false), changed: Cell::new(true), seen: true, labels }
    }

    fn is_zero(&self) -> bool {
        match &self.data {
            Data::Number(number) => *number == 0.0,
            Data::Histogram { counts, .. } => counts.iter().all(|count| *count == 0),
        }
    }

    /// Its samples at a time, or zeros in their place.
    fn push<'a>(&'a self, batch: &mut Vec<Sample<'a>>, time: i64, zero: bool) {
        match &self.data {
            Data::Number(number) => batch.extend(self.labels.first().map(|labels| sample(labels, time, if zero { 0.0 } else { *number }))),
            Data::Histogram { counts, sum } => {
                let mut below = 0;
                for (labels, count) in self.labels.iter().zip(counts) {
                    below += count;
                    batch.push(sample(labels, time, if zero { 0.0 } else { below as f64 }));
                }
                if let [sum_labels, count_labels] = &self.labels[counts.len()..] {
                    batch.push(sample(sum_labels, time, if zero { 0.0 } else { *sum }));
                    batch.push(sample(count_labels, time, if zero { 0.0 } else { below as f64 }));
                }
            }
        }
    }

    /// Leaves the ledger; the store is told so if it knows the series. Always false, for `retain`.
    fn end(&mut self, ended: &mut Vec<Labels>) -> bool {
        if self.introduced.get() {
            ended.append(&mut self.labels);
        }
        false
    }
}

/// The names and values of a series' labels, those without a value left out.
pub(crate) fn pairs<'a>(described: &Description, key: &'a str) -> impl Iterator<Item = (&'static str, &'a str)> {
    described.labels.iter().copied().zip(key.split(SEPARATOR)).filter(|(_, value)| !value.is_empty())
}

fn label_sets(described: &Description, key: &str) -> Vec<Labels> {
    let set = |name: String, bound: Option<String>| {
        let label = |name: &str, value: &str| Label { name: name.into(), value: value.into() };
        let mut labels = vec![label(METRIC_NAME, &name)];
        labels.extend(pairs(described, key).map(|(name, value)| label(name, value)));
        labels.extend(bound.map(|bound| label(BUCKET, &bound)));
        Labels::new(labels)
    };
    let Kind::Histogram(bounds) = described.kind else { return vec![set(described.name.to_owned(), None)] };
    // `1.0` and not `1`: how Prometheus 3 writes it.
    let bounds = bounds.iter().map(|bound| format!("{bound:?}")).chain(["+Inf".to_owned()]);
    let mut sets: Vec<Labels> = bounds.map(|bound| set(format!("{}_bucket", described.name), Some(bound))).collect();
    sets.extend(["sum", "count"].map(|part| set(format!("{}_{part}", described.name), None)));
    sets
}
