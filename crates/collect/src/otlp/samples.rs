//! OTLP metrics as samples, beside the events that they become.
//!
//! **Takes** the metrics of a request while they are walked. **Gives** samples with the names and labels that Prometheus
//! gives them, `target_info` with what a resource says about itself, and metadata. **Never** stores a sample whose request
//! was refused, never keeps more running totals than the settings allow.
//!
//! What came as a difference (delta) becomes a running total, because rules and dashboards count in totals. Claude Code
//! sends differences unless it is told otherwise.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use paramedic_model::Timestamp;
use paramedic_promql::{Labels, SampleValue};
use paramedic_samples::{Key, Metadata, Sample, SampleSink};

use super::config::SampleSettings;
use super::meter::Metrics;

mod exponential;
pub mod naming;
mod points;
mod totals;

pub(super) use points::Tap;

use totals::{Totals, Went};

/// Samples that are handed on at once.
const BATCH_SAMPLES: usize = 20_000;
/// Metrics whose description was told and need not be told again.
const TOLD_MAX: usize = 10_000;

/// A value on its way: as it is, or as what is added to a total.
#[derive(Debug, Clone)]
pub(super) enum Reading {
    Value(SampleValue),
    Added(SampleValue),
}

/// One sample of a request.
#[derive(Debug, Clone)]
pub(super) struct Point {
    pub(super) labels: Labels,
    /// Milliseconds.
    pub(super) time: i64,
    /// When counting began, in milliseconds; 0 when it is not told.
    pub(super) start: i64,
    /// Start and end in nanoseconds: the same twice means that a request came twice.
    pub(super) window: (u64, u64),
    pub(super) reading: Reading,
}

/// What one request's metrics give.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) points: Vec<Point>,
    pub(super) about: Vec<(String, Metadata)>,
    /// Data points that no sample can be made of.
    pub(super) unusable: u64,
}

/// Puts samples into the store.
pub(super) struct Samples {
    sink: Arc<dyn SampleSink>,
    settings: SampleSettings,
    totals: Mutex<Totals>,
    told: Mutex<BTreeMap<String, Metadata>>,
}

impl Samples {
    pub(super) fn new(sink: Arc<dyn SampleSink>, settings: SampleSettings) -> Self {
        Self { sink, totals: Mutex::new(Totals::new(&settings)), settings, told: Mutex::default() }
    }

    /// What takes the metrics of one request.
    pub(super) fn tap(&self) -> Tap<'_> {
        Tap::new(&self.settings)
    }

    /// Stores what a request gave. The events of the request are stored already, so nothing is told to the sender.
    pub(super) fn store(&self, batch: Batch, now: Timestamp, metrics: &Metrics) {
        metrics.unusable_points.inc_by(batch.unusable);
        for (metric, about) in batch.about {
            self.tell(metric, about);
        }
        let mut ready: Vec<(Labels, i64, SampleValue)> = Vec::with_capacity(batch.points.len());
        {
            let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
            for point in batch.points {
                match point.reading {
                    Reading::Value(value) => ready.push((point.labels, point.time, value)),
                    Reading::Added(_) => match totals.add(point, now, &mut ready) {
                        Went::Added => {}
                        Went::Repeated => drop(metrics.repeated_deltas.inc()),
                        Went::NoRoom => drop(metrics.dropped_deltas.inc()),
                        Went::Unlike => drop(metrics.unusable_points.inc()),
                    },
                }
            }
            metrics.totals.set(i64::try_from(totals.len()).unwrap_or(i64::MAX));
        }
        for part in ready.chunks(BATCH_SAMPLES) {
            let samples: Vec<Sample<'_>> = part
                .iter()
                .map(|(labels, time, value)| Sample { series: Key::Labels(labels), time: *time, value: value.clone() })
                .collect();
            match self.sink.append(&samples) {
                Ok(report) => {
                    metrics.samples.inc_by(report.stored());
                    metrics.refused_samples.inc_by(report.conflicts + report.too_old + report.in_future + report.limited);
                }
                Err(error) => {
                    metrics.refused_samples.inc_by(part.len() as u64);
                    tracing::warn!(error = %error, "samples of OTLP metrics cannot be stored");
                }
            }
        }
    }

    fn tell(&self, metric: String, about: Metadata) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&metric) == Some(&about) || (told.len() >= TOLD_MAX && !told.contains_key(&metric)) {
            return;
        }
        // Failing to tell a description is no reason to lose samples.
        let _ = self.sink.set_metadata(&metric, about.clone());
        told.insert(metric, about);
    }
}
