//! `rate`, `increase`, `delta`, `irate` and `idelta`.

use std::sync::Arc;

use super::range::Remarks;
use super::window::{Reach, View, Windows, slide};
use super::{Budget, Evaluated, Grid, Series};
use crate::annotations::Operation;
use crate::engine::Point;
use crate::histogram::{Histogram, ResetHint};

/// What is asked of the change over a window.
#[derive(Clone, Copy)]
pub(super) struct Change {
    /// Resets are corrected and the value is never extrapolated below zero.
    pub(super) counter: bool,
    pub(super) per_second: bool,
}

/// The extrapolated change of a series over each window.
pub(super) fn change_over_windows(
    windows: &Windows,
    series: &Reach<'_>,
    (grid, budget): (Grid, &Budget),
    change: Change,
    remarks: &mut Remarks<'_>,
    result: &mut Series,
) -> Evaluated<()> {
    let resets = if change.counter { resets_within(series) } else { Vec::new() };
    let values = &series.samples.values;
    slide(windows, series, grid, budget, |step, view| {
        let point = if view.is_mixed() {
            remarks.mixed();
            None
        } else if view.values.len() > 1 {
            let from = resets.partition_point(|at| *at <= view.first);
            let to = resets.partition_point(|at| *at < view.first + view.values.len());
            let lost = resets[from..to].iter().map(|at| values[at - 1]);
            Some(Point::Float(float_change(view, lost, windows.range_ms, change)))
        } else if view.histograms.len() > 1 {
            histogram_change(view, windows.range_ms, change, remarks).map(|histogram| Point::Histogram(Arc::new(histogram)))
        } else {
            None
        };
        if let Some(point) = point {
            result.set(step, point);
        }
    })
}

/// Where a counter fell, in reach of any window.
///
/// They are found once for the series; most have none, and then a window costs the same however long it is.
fn resets_within(series: &Reach<'_>) -> Vec<usize> {
    let values = &series.samples.values;
    (series.floats.start + 1..series.floats.end).filter(|i| values[*i] < values[i - 1]).collect()
}

fn float_change(view: &View<'_>, lost: impl Iterator<Item = f64>, range_ms: i64, change: Change) -> f64 {
    let (first, last) = (view.values[0], view.values[view.values.len() - 1]);
    let difference = lost.fold(last - first, |sum, value| sum + value);
    let ends = (view.times[0], view.times[view.times.len() - 1]);
    let from_zero = (change.counter && difference > 0.0 && first >= 0.0).then(|| first / difference);
    difference * extrapolation(view, ends, view.values.len(), from_zero, range_ms, change)
}

/// By what the change between the first and the last sample is scaled to cover the window.
///
/// The window's edges are reached only if they are no farther than 1.1 times the average distance between samples;
/// otherwise the series is taken to begin or end half that distance beyond its samples. A counter is not extended to before
/// it was zero: `from_zero` is its first value as a fraction of its change.
fn extrapolation(view: &View<'_>, (first, last): (i64, i64), samples: usize, from_zero: Option<f64>, range_ms: i64, change: Change) -> f64 {
    let sampled = (last - first) as f64 / 1e3;
    let average = sampled / (samples - 1) as f64;
    let threshold = average * 1.1;
    let mut to_start = (first - view.window.start) as f64 / 1e3;
    let mut to_end = (view.window.end - last) as f64 / 1e3;
    if to_start >= threshold {
        to_start = average / 2.0;
    }
    if let Some(share) = from_zero {
        let to_zero = sampled * share;
        if to_zero < to_start {
            to_start = to_zero;
        }
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    let factor = (sampled + to_start + to_end) / sampled;
    if change.per_second { factor / (range_ms as f64 / 1e3) } else { factor }
}

fn histogram_change(view: &View<'_>, range_ms: i64, change: Change, remarks: &mut Remarks<'_>) -> Option<Histogram> {
    let points = view.histograms;
    let mut difference = histogram_difference(points, change.counter, remarks)?;
    let first_count = points[0].1.count;
    let from_zero = (change.counter && difference.count > 0.0 && first_count >= 0.0).then(|| first_count / difference.count);
    let ends = (points[0].0, points[points.len() - 1].0);
    difference.multiply(extrapolation(view, ends, points.len(), from_zero, range_ms, change));
    difference.hint = ResetHint::Gauge;
    Some(difference)
}

fn histogram_difference(points: &[(i64, Arc<Histogram>)], counter: bool, remarks: &mut Remarks<'_>) -> Option<Histogram> {
    let (first, last) = (&*points[0].1, &*points[points.len() - 1].1);
    let is_gauge = |histogram: &Histogram| histogram.hint == ResetHint::Gauge;
    if counter && (is_gauge(first) || is_gauge(last)) {
        remarks.not_a_counter();
    }
    let second = &*points[1].1;
    let empty;
    let mut previous = first;
    if counter && second.detect_reset(first) {
        // What the first sample looked like does not matter if the counter began anew after it.
        empty = Histogram { schema: second.schema, custom_values: second.custom_values.clone(), ..Histogram::default() };
        previous = &empty;
    }
    let custom = previous.uses_custom_buckets();
    if last.uses_custom_buckets() != custom {
        remarks.mixed_schemas();
        return None;
    }
    let mut schema = last.schema.min(previous.schema);
    if counter {
        for (_, current) in &points[1..points.len() - 1] {
            if is_gauge(current) {
                remarks.not_a_counter();
            }
            if current.uses_custom_buckets() != custom {
                remarks.mixed_schemas();
                return None;
            }
            schema = schema.min(current.schema);
        }
    }
    let mut difference = last.clone();
    difference.reduce(schema);
    let Ok(combined) = difference.subtract(previous) else {
        remarks.mixed_schemas();
        return None;
    };
    remarks.reconciled(combined, Operation::Subtraction);
    if counter {
        for (_, current) in &points[1..] {
            if current.detect_reset(previous) {
                let Ok(combined) = difference.add(previous) else {
                    remarks.mixed_schemas();
                    return None;
                };
                remarks.reconciled(combined, Operation::Addition);
            }
            previous = current;
        }
    } else if !is_gauge(first) || !is_gauge(last) {
        remarks.not_a_gauge();
    }
    difference.hint = ResetHint::Gauge;
    difference.compact();
    Some(difference)
}

/// The change between the last two samples of a window.
pub(super) fn last_change(view: &View<'_>, per_second: bool, remarks: &mut Remarks<'_>) -> Option<Point> {
    if view.len() < 2 {
        return None;
    }
    let mut recent: Vec<(i64, Point)> = Vec::with_capacity(4);
    let (floats, others) = (view.values.len().saturating_sub(2), view.histograms.len().saturating_sub(2));
    recent.extend((floats..view.values.len()).map(|i| (view.times[i], Point::Float(view.values[i]))));
    recent.extend(view.histograms[others..].iter().map(|(time, h)| (*time, Point::Histogram(h.clone()))));
    recent.sort_by_key(|(time, _)| *time);
    let (end, last) = recent.pop()?;
    let (start, before) = recent.pop()?;
    let seconds = (end - start) as f64 / 1e3;
    if seconds == 0.0 {
        return None;
    }
    match (before, last) {
        (Point::Float(before), Point::Float(last)) => {
            let reset = per_second && last < before;
            let change = if reset { last } else { last - before };
            Some(Point::Float(if per_second { change / seconds } else { change }))
        }
        (Point::Histogram(before), Point::Histogram(last)) => {
            let mut change = last_histogram_change(&before, &last, per_second, remarks)?;
            if per_second {
                change.divide(seconds);
            }
            Some(Point::Histogram(Arc::new(change)))
        }
        _ => {
            remarks.mixed();
            None
        }
    }
}

fn last_histogram_change(before: &Histogram, last: &Histogram, per_second: bool, remarks: &mut Remarks<'_>) -> Option<Histogram> {
    let gauges = [before, last].map(|histogram| histogram.hint == ResetHint::Gauge);
    if per_second && gauges.contains(&true) {
        remarks.not_a_counter();
    }
    if !per_second && gauges.contains(&false) {
        remarks.not_a_gauge();
    }
    let mut change = last.clone();
    if !per_second || !last.detect_reset(before) {
        let Ok(combined) = change.subtract(before) else {
            remarks.mixed_schemas();
            return None;
        };
        remarks.reconciled(combined, Operation::Subtraction);
    }
    change.hint = ResetHint::Gauge;
    change.compact();
    Some(change)
}
