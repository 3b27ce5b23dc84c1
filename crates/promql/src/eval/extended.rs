//! Experimental: selectors that look beyond their range. `anchored` takes in the last sample before it, `smoothed`
//! interpolates at both ends.

use super::range::{count_changes, count_resets};
use super::series::Series;
use super::window::{Reach, View, Windows, slide};
use super::{Budget, Evaluated, Grid};
use crate::error::QueryError;
use crate::parse::{Extent, Function};
use crate::storage::Samples;

const NO_HISTOGRAMS: &str = "smoothed and anchored modifiers do not work with native histograms";

/// Which functions an extended selector may be given to.
pub(super) fn check_function(extent: Extent, function: &Function) -> Evaluated<()> {
    let (word, allowed): (&str, &[&str]) = match extent {
        Extent::Plain => return Ok(()),
        Extent::Anchored => ("anchored", &["changes", "delta", "increase", "rate", "resets"]),
        Extent::Smoothed => ("smoothed", &["delta", "increase", "rate"]),
    };
    if allowed.contains(&function.name) {
        return Ok(());
    }
    let message = format!("{word} modifier can only be used with: {} - not with {}", allowed.join(", "), function.name);
    Err(QueryError::execution(message))
}

/// A function over an extended selector.
pub(super) fn over_windows(
    windows: &Windows,
    series: &Reach<'_>,
    (grid, budget): (Grid, &Budget),
    function: &Function,
    result: &mut Series,
) -> Evaluated<()> {
    if !series.histograms.is_empty() {
        return Err(QueryError::execution(NO_HISTOGRAMS));
    }
    slide(windows, series, grid, budget, |step, view| {
        let range = windows.range_of(view.window);
        let value = match function.name {
            "changes" => anchored_part(view, range.start).map(|part| count_changes(&part)),
            "resets" => anchored_part(view, range.start).map(|part| count_resets(&part)),
            name => {
                let change = change(view, (range.start, range.end), windows.extent == Extent::Smoothed, name != "delta");
                let seconds = windows.range_ms as f64 / 1e3;
                change.map(|change| if name == "rate" { change / seconds } else { change })
            }
        };
        if let Some(value) = value {
            result.set_float(step, value);
        }
    })
}

/// The samples within the range and the last one before it.
fn anchored_part<'a>(view: &View<'a>, start: i64) -> Option<View<'a>> {
    if view.times.last().is_none_or(|last| *last <= start) {
        return None;
    }
    let first = view.times.partition_point(|time| *time <= start).saturating_sub(1);
    Some(View { times: &view.times[first..], values: &view.values[first..], ..*view })
}

fn change(view: &View<'_>, (start, end): (i64, i64), smoothed: bool, counter: bool) -> Option<f64> {
    let (times, values) = (view.times, view.values);
    let mut last = times.len().checked_sub(1)?;
    let first = times[..last].partition_point(|time| *time <= start).saturating_sub(1);
    if smoothed {
        last = times[..last].partition_point(|time| *time < end);
    }
    if times[last] <= start || times[first] > end {
        return None;
    }
    let between = |before: usize, at: i64| interpolate(times, values, before, at, counter);
    let left = if smoothed && times[first] < start { between(first, start) } else { values[first] };
    let right = if smoothed && last > 0 && times[last] > end { between(last - 1, end) } else { values[last] };
    let mut change = right - left;
    if counter {
        // The ends have been taken care of; what is left are the samples strictly inside.
        let inside = usize::from(times[first] <= start) + first..(last + 1) - usize::from(times[last] >= end);
        let mut before = left;
        for value in values.get(inside).unwrap_or_default().iter().chain([&right]) {
            if *value < before {
                change += before;
            }
            before = *value;
        }
    }
    Some(change)
}

/// The value at a moment between a sample and the next; a counter that fell began anew from zero.
fn interpolate(times: &[i64], values: &[f64], before: usize, at: i64, counter: bool) -> f64 {
    let (mut from, to) = (values[before], values[before + 1]);
    if counter && to < from {
        from = 0.0;
    }
    from + (to - from) * (at - times[before]) as f64 / (times[before + 1] - times[before]) as f64
}

/// The value of a smoothed instant selector: between the last sample before and the first one after.
pub(super) fn smoothed_at(samples: &Samples, at: i64, lookback: i64) -> Evaluated<Option<f64>> {
    let inside = |time: &i64| *time > at.saturating_sub(lookback) && *time <= at.saturating_add(lookback);
    if samples.histograms.iter().any(|(time, _)| inside(time)) {
        return Err(QueryError::execution(NO_HISTOGRAMS));
    }
    let next = samples.times.partition_point(|time| *time < at);
    let after = samples.times.get(next).filter(|time| inside(time));
    let before = next.checked_sub(1).filter(|i| inside(&samples.times[*i]));
    Ok(match (before, after) {
        (_, Some(time)) if *time == at => Some(samples.values[next]),
        (Some(before), Some(_)) => Some(interpolate(&samples.times, &samples.values, before, at, false)),
        (Some(before), None) => Some(samples.values[before]),
        (None, _) => None,
    })
}
