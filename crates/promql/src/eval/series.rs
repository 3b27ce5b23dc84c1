//! Values during evaluation, and their final form.

use std::collections::HashMap;
use std::sync::Arc;

use super::window::{RangeSeries, Window};
use crate::engine::{InstantSample, MatrixSeries, Point};
use crate::error::QueryError;
use crate::histogram::Histogram;
use crate::labels::Labels;
use crate::number::{is_stale, stale};

/// The moments at which an expression is evaluated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    pub(crate) start: i64,
    pub(crate) step: i64,
    pub(crate) steps: usize,
}

impl Grid {
    pub(crate) fn instant(at: i64) -> Self {
        Self { start: at, step: 1, steps: 1 }
    }

    /// `step` is positive; no steps when the end is before the start.
    pub(crate) fn new(start: i64, end: i64, step: i64) -> Self {
        let steps = if end < start { 0 } else { usize::try_from(end.saturating_sub(start) / step).unwrap_or(usize::MAX).saturating_add(1) };
        Self { start, step, steps }
    }

    pub(crate) fn at(&self, step: usize) -> i64 {
        self.start.saturating_add(self.step.saturating_mul(step as i64))
    }

    pub(crate) fn end(&self) -> i64 {
        self.at(self.steps.saturating_sub(1))
    }

    pub(crate) fn times(self) -> impl Iterator<Item = i64> {
        (0..self.steps).map(move |step| self.at(step))
    }
}

/// A value at every step.
pub(crate) enum Value {
    Scalar(Vec<f64>),
    String(String),
    Vector(Vec<Series>),
}

/// The histograms of a series by step, if it has any.
pub(crate) type Histograms = Option<Vec<Option<Arc<Histogram>>>>;

/// One series over all steps.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    /// Whether the name goes at the end of the query.
    pub(crate) drop_name: bool,
    /// The staleness marker where there is no float.
    pub(crate) floats: Vec<f64>,
    pub(crate) histograms: Histograms,
}

/// What a series has at a step.
#[derive(Clone, Copy)]
pub(crate) enum At<'a> {
    Nothing,
    Float(f64),
    Histogram(&'a Arc<Histogram>),
}

impl Series {
    /// A series without samples.
    pub(crate) fn absent(labels: Labels, drop_name: bool, steps: usize) -> Self {
        Self { labels, drop_name, floats: vec![stale(); steps], histograms: None }
    }

    pub(crate) fn histogram(&self, step: usize) -> Option<&Arc<Histogram>> {
        self.histograms.as_ref().and_then(|all| all[step].as_ref())
    }

    #[inline]
    pub(crate) fn at(&self, step: usize) -> At<'_> {
        let float = self.floats[step];
        if !is_stale(float) {
            return At::Float(float);
        }
        self.histogram(step).map_or(At::Nothing, At::Histogram)
    }

    #[inline]
    pub(crate) fn has(&self, step: usize) -> bool {
        !is_stale(self.floats[step]) || self.histogram(step).is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.floats.iter().all(|value| is_stale(*value)) && !self.has_histograms()
    }

    pub(crate) fn has_histograms(&self) -> bool {
        self.histograms.as_ref().is_some_and(|all| all.iter().any(Option::is_some))
    }

    pub(crate) fn set_float(&mut self, step: usize, value: f64) {
        // A computed NaN may have any bits; the marker's must stay free.
        self.floats[step] = if is_stale(value) { f64::NAN } else { value };
    }

    pub(crate) fn set_histogram(&mut self, step: usize, histogram: Arc<Histogram>) {
        let steps = self.floats.len();
        self.histograms.get_or_insert_with(|| vec![None; steps])[step] = Some(histogram);
    }

    pub(crate) fn set(&mut self, step: usize, point: Point) {
        match point {
            Point::Float(value) => self.set_float(step, value),
            Point::Histogram(histogram) => self.set_histogram(step, histogram),
        }
    }

    pub(crate) fn clear(&mut self, step: usize) {
        self.floats[step] = stale();
        if let Some(all) = &mut self.histograms {
            all[step] = None;
        }
    }

    /// Changes every float in place.
    #[inline]
    pub(crate) fn map_floats(&mut self, change: impl Fn(f64) -> f64) {
        for value in &mut self.floats {
            if !is_stale(*value) {
                let changed = change(*value);
                *value = if is_stale(changed) { f64::NAN } else { changed };
            }
        }
    }

    pub(crate) fn map_histograms(&mut self, change: impl Fn(&mut Histogram)) {
        for histogram in self.histograms.iter_mut().flatten().flatten() {
            change(Arc::make_mut(histogram));
        }
    }

    /// Forgets all values, to be filled anew.
    pub(crate) fn reset(&mut self) {
        self.floats.fill(stale());
        self.histograms = None;
    }

    pub(crate) fn repeated(mut self, steps: usize) -> Self {
        let float = self.floats.first().copied().unwrap_or(stale());
        self.floats = vec![float; steps];
        self.histograms = self.histograms.map(|all| vec![all.into_iter().next().flatten(); steps]);
        self
    }
}

/// The words for two series that became the same.
pub(crate) fn same_labels_error() -> QueryError {
    QueryError::execution("vector cannot contain metrics with the same labelset")
}

/// Merges series with equal labels; it is an error if two have a sample at the same step.
pub(crate) fn merge_equal(vector: Vec<Series>) -> Result<Vec<Series>, QueryError> {
    // Series of which only one is to lose its name are different ones.
    let mut known: HashMap<(Labels, bool), usize> = HashMap::with_capacity(vector.len());
    let mut merged: Vec<Series> = Vec::with_capacity(vector.len());
    for series in vector {
        match known.entry((series.labels.clone(), series.drop_name)) {
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(merged.len());
                merged.push(series);
            }
            std::collections::hash_map::Entry::Occupied(entry) => merge_into(&mut merged[*entry.get()], series)?,
        }
    }
    Ok(merged)
}

fn merge_into(target: &mut Series, other: Series) -> Result<(), QueryError> {
    for step in 0..other.floats.len() {
        let point = match other.at(step) {
            At::Nothing => continue,
            At::Float(value) => Point::Float(value),
            At::Histogram(histogram) => Point::Histogram(histogram.clone()),
        };
        if target.has(step) {
            return Err(same_labels_error());
        }
        target.set(step, point);
    }
    Ok(())
}

/// Drops the names that are to go, and merges what became equal.
fn without_dropped_names(mut vector: Vec<Series>) -> Result<Vec<Series>, QueryError> {
    for series in &mut vector {
        if std::mem::take(&mut series.drop_name) {
            series.labels = series.labels.without_name();
        }
    }
    merge_equal(vector)
}

/// The instant vector of a query of one step.
pub(crate) fn finish_instant(vector: Vec<Series>) -> Result<Vec<InstantSample>, QueryError> {
    let vector = without_dropped_names(vector.into_iter().filter(|series| !series.floats.is_empty() && series.has(0)).collect())?;
    let sample = |series: Series| {
        let value = match series.at(0) {
            At::Histogram(histogram) => Point::Histogram(histogram.clone()),
            At::Float(value) => Point::Float(value),
            At::Nothing => return None,
        };
        Some(InstantSample { labels: series.labels, value })
    };
    Ok(vector.into_iter().filter_map(sample).collect())
}

/// The matrix of a range query.
pub(crate) fn finish_range(value: Value, grid: Grid) -> Result<Vec<MatrixSeries>, QueryError> {
    let vector = match value {
        Value::Scalar(floats) => {
            let floats = grid.times().zip(floats).collect();
            return Ok(vec![MatrixSeries { labels: Labels::empty(), floats, histograms: Vec::new() }]);
        }
        Value::String(_) => return Err(QueryError::execution("a string has no range of values")),
        Value::Vector(vector) => without_dropped_names(vector)?,
    };
    let mut matrix: Vec<MatrixSeries> = vector
        .into_iter()
        .map(|series| MatrixSeries {
            labels: series.labels,
            floats: grid.times().zip(series.floats).filter(|(_, value)| !is_stale(*value)).collect(),
            histograms: series.histograms.into_iter().flat_map(|all| grid.times().zip(all)).filter_map(|(at, h)| Some((at, h?))).collect(),
        })
        .filter(|series| !series.floats.is_empty() || !series.histograms.is_empty())
        .collect();
    matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(matrix)
}

/// Adds the samples of one series within a window to a matrix.
pub(crate) fn collect_window(series: &RangeSeries, window: Window, matrix: &mut Vec<MatrixSeries>) {
    let samples = &series.samples;
    let inside = |time: &i64| *time > window.start && *time <= window.end;
    let floats: Vec<(i64, f64)> = samples.times.iter().copied().zip(samples.values.iter().copied()).filter(|(t, _)| inside(t)).collect();
    let histograms: Vec<_> = samples.histograms.iter().filter(|(time, _)| inside(time)).cloned().collect();
    if !floats.is_empty() || !histograms.is_empty() {
        let labels = if series.drop_name { series.labels.without_name() } else { series.labels.clone() };
        matrix.push(MatrixSeries { labels, floats, histograms });
    }
}
