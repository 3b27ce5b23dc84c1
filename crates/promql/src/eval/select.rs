//! Selectors: which samples an expression reads.

use std::sync::Arc;

use super::extended::smoothed_at;
use super::series::Series;
use super::stream::reduced;
use super::window::{RangeSeries, RangeSource, Windows};
use super::{Evaluated, Evaluator, Grid};
use crate::error::QueryError;
use crate::histogram::{Histogram, ResetHint};
use crate::number::is_stale;
use crate::parse::{At, BinaryOp, Expr, ExprKind, Extent, Selector, Span};
use crate::storage::{Need, Samples, StoredSeries};

impl Evaluator<'_> {
    pub(super) fn resolve_at(&self, at: Option<At>) -> Option<i64> {
        at.map(|at| match at {
            At::Ms(ms) => ms,
            At::Start => self.query.start,
            At::End => self.query.end,
        })
    }

    /// The first and the last moment a selector refers to.
    pub(super) fn bounds(&self, selector: &Selector, grid: Grid) -> (i64, i64) {
        let offset = selector.offset.ms();
        let pinned = self.resolve_at(selector.at);
        (pinned.unwrap_or(grid.start).saturating_sub(offset), pinned.unwrap_or(grid.end()).saturating_sub(offset))
    }

    fn select(&mut self, selector: &Selector, from: i64, to: i64) -> Evaluated<Vec<StoredSeries>> {
        self.budget.check()?;
        Ok(self.storage.select(&selector.matchers, from, to)?)
    }

    /// The newest sample of every series at every step, if it is not too old.
    pub(super) fn select_instant(&mut self, selector: &Selector, grid: Grid) -> Evaluated<Vec<Series>> {
        if selector.extent == Extent::Smoothed {
            return self.select_smoothed(selector, grid);
        }
        self.collect(|this, consume| this.stream_instant(selector, grid, |_, value| value, consume), grid)
    }

    fn select_smoothed(&mut self, selector: &Selector, grid: Grid) -> Evaluated<Vec<Series>> {
        let (first, last) = self.bounds(selector, grid);
        let lookback = self.options.lookback_ms;
        let (from, to) = (first.saturating_sub(lookback), last.saturating_add(lookback));
        let mut vector = Vec::new();
        for entry in self.select(selector, from.saturating_add(1), to)? {
            self.budget.check()?;
            let found = RangeSeries::within(entry.labels, entry.samples, from, to);
            let mut series = Series::absent(found.labels.clone(), false, grid.steps);
            for step in 0..grid.steps {
                let at = if selector.at.is_some() { first } else { first + grid.step * step as i64 };
                if let Some(value) = smoothed_at(&found.samples, at, lookback)? {
                    series.set_float(step, value);
                }
            }
            self.budget.charge(grid.steps)?;
            vector.push(series);
        }
        vector.retain(|series| !series.is_empty());
        Ok(vector)
    }

    /// As `select_instant`, but the times of the samples, in seconds, instead of their values.
    pub(super) fn select_timestamps(&mut self, selector: &Selector, grid: Grid) -> Evaluated<Vec<Series>> {
        self.collect(|this, consume| this.stream_instant(selector, grid, |time, _| time as f64 / 1e3, consume), grid)
    }

    /// The raw samples below a range selector or a subquery.
    pub(super) fn range_source(&mut self, expr: &Expr, grid: Grid) -> Evaluated<RangeSource> {
        match &expr.unwrapped().kind {
            ExprKind::Matrix { selector, range } => self.matrix_source(selector, range.ms(), grid),
            ExprKind::Subquery { expr: inner, range, step, offset, at } => {
                let step = step.as_ref().map_or(self.options.subquery_step_ms, Span::ms);
                let at = self.resolve_at(*at);
                self.subquery_source(inner, (range.ms(), step.max(1), offset.ms(), at), grid)
            }
            _ => Err(QueryError::execution("expected a range vector")),
        }
    }

    fn matrix_source(&mut self, selector: &Selector, range_ms: i64, grid: Grid) -> Evaluated<RangeSource> {
        let (first, last) = self.bounds(selector, grid);
        let lookback_ms = self.options.lookback_ms;
        let (before, after) = match selector.extent {
            Extent::Plain => (0, 0),
            Extent::Anchored => (lookback_ms, 0),
            Extent::Smoothed => (lookback_ms, lookback_ms),
        };
        let from = first.saturating_sub(range_ms).saturating_sub(before).saturating_add(1);
        let last = last.saturating_add(after);
        let mut series = Vec::new();
        // One after the other: what is too much is noticed before all of it is in memory.
        self.walk(selector, (from, last), Need::Range, &mut |_, budget, labels, samples| {
            let samples = reduced(selector, samples, from - 1).into_owned();
            let found = RangeSeries::within(labels.clone(), Arc::new(samples), from - 1, last);
            let weight = found.reach().weight();
            budget.spend(weight)?;
            budget.charge(weight)?;
            series.push(found);
            Ok(())
        })?;
        let (offset_ms, at) = (selector.offset.ms(), self.resolve_at(selector.at));
        Ok(RangeSource { series, windows: Windows { range_ms, offset_ms, at, extent: selector.extent, lookback_ms } })
    }

    fn subquery_source(&mut self, inner: &Expr, span: (i64, i64, i64, Option<i64>), grid: Grid) -> Evaluated<RangeSource> {
        let (range_ms, step, offset_ms, at) = span;
        let earliest = at.unwrap_or(grid.start).saturating_sub(offset_ms).saturating_sub(range_ms);
        let end = at.unwrap_or(grid.end()).saturating_sub(offset_ms);
        // The first multiple of the step after the (open) start of the first window.
        let start = earliest.div_euclid(step).saturating_add(1).saturating_mul(step);
        let inner_grid = Grid::new(start, end, step);
        if inner_grid.steps > self.options.samples_max {
            return Err(QueryError::TooManySamples);
        }
        self.budget.charge(inner_grid.steps)?;
        let vector = if inner_grid.steps == 0 || grid.steps == 0 { Vec::new() } else { self.vector(inner, inner_grid)? };
        let series = vector.into_iter().map(|series| as_samples(series, inner_grid)).collect();
        Ok(RangeSource { series, windows: Windows { range_ms, offset_ms, at, extent: Extent::Plain, lookback_ms: 0 } })
    }
}

/// A computed series as raw samples. Reset hints are forgotten: they were about other neighbours.
fn as_samples(series: Series, grid: Grid) -> RangeSeries {
    let mut samples = Samples::default();
    for (time, value) in grid.times().zip(&series.floats).filter(|(_, value)| !is_stale(**value)) {
        samples.times.push(time);
        samples.values.push(*value);
    }
    for (time, histogram) in grid.times().zip(series.histograms.into_iter().flatten()) {
        let Some(mut histogram) = histogram else { continue };
        if matches!(histogram.hint, ResetHint::Reset | ResetHint::NotReset) {
            Arc::make_mut(&mut histogram).hint = ResetHint::Unknown;
        }
        samples.histograms.push((time, histogram));
    }
    RangeSeries::whole(series.labels, series.drop_name, Arc::new(samples))
}

/// Histograms reduced to count and sum, with resets detected between neighbours later than `after`.
pub(super) fn with_stats_only(samples: &Samples, after: i64) -> Samples {
    let mut histograms = Vec::with_capacity(samples.histograms.len());
    let mut before: Option<&Histogram> = None;
    for (time, histogram) in samples.histograms.iter().filter(|(time, _)| *time > after) {
        let hint = match (histogram.hint, before) {
            (ResetHint::Unknown, Some(before)) if histogram.detect_reset(before) => ResetHint::Reset,
            (ResetHint::Unknown, Some(_)) => ResetHint::NotReset,
            (hint, _) => hint,
        };
        let stats = Histogram { hint, schema: histogram.schema, count: histogram.count, sum: histogram.sum, ..Histogram::default() };
        histograms.push((*time, Arc::new(stats)));
        if !histogram.is_stale() {
            before = Some(histogram);
        }
    }
    Samples { times: samples.times.clone(), values: samples.values.clone(), histograms }
}

pub(super) enum Newest<'a> {
    Float(i64, f64),
    Histogram(i64, &'a Arc<Histogram>),
}

/// Walks forward through the samples of a series.
pub(super) struct Cursor<'a> {
    samples: &'a Samples,
    /// The first float and the first histogram after the last reference.
    float: usize,
    histogram: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(samples: &'a Samples, reference: i64) -> Self {
        let float = samples.times.partition_point(|time| *time <= reference);
        let histogram = samples.histograms.partition_point(|(time, _)| *time <= reference);
        Self { samples, float, histogram }
    }

    /// The newest sample at or before `reference` and after `reference - lookback`, if it is not a staleness marker.
    #[inline]
    pub(super) fn newest(&mut self, reference: i64, lookback: i64) -> Option<Newest<'a>> {
        let Samples { times, values, histograms } = self.samples;
        while self.float < times.len() && times[self.float] <= reference {
            self.float += 1;
        }
        while self.histogram < histograms.len() && histograms[self.histogram].0 <= reference {
            self.histogram += 1;
        }
        let float = self.float.checked_sub(1).map(|i| (times[i], values[i]));
        let histogram = self.histogram.checked_sub(1).map(|i| &histograms[i]);
        let oldest = reference.saturating_sub(lookback);
        match (float, histogram) {
            (float, Some((time, histogram))) if float.is_none_or(|(at, _)| at < *time) => {
                (*time > oldest && !histogram.is_stale()).then_some(Newest::Histogram(*time, histogram))
            }
            (Some((time, value)), _) => (time > oldest && !is_stale(value)).then_some(Newest::Float(time, value)),
            _ => None,
        }
    }
}

/// Marks the selectors of which only count and sum of histograms are used.
///
/// Besides being cheaper this decides what is known about counter resets: without the buckets at hand, resets are detected
/// between neighbouring samples when they are read.
pub(crate) fn mark_stats_only(expr: &mut Expr) {
    mark(expr, false);
}

fn mark(expr: &mut Expr, stats_only: bool) {
    match &mut expr.kind {
        ExprKind::Selector(selector) | ExprKind::Matrix { selector, .. } => selector.stats_only = stats_only,
        ExprKind::Call { function, args } => {
            let wanted = match function.name {
                "histogram_count" | "histogram_sum" | "histogram_avg" => true,
                "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => false,
                "histogram_stddev" | "histogram_stdvar" => false,
                _ => stats_only,
            };
            args.iter_mut().for_each(|arg| mark(arg, wanted));
        }
        // A subquery detects resets itself, and cutting needs the buckets.
        ExprKind::Subquery { expr, .. } => mark(expr, false),
        ExprKind::Binary { op: BinaryOp::TrimLower | BinaryOp::TrimUpper, left, right, .. } => {
            mark(left, false);
            mark(right, false);
        }
        _ => expr.children_mut().into_iter().for_each(|child| mark(child, stats_only)),
    }
}
