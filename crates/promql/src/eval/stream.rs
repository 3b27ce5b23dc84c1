//! Selectors, and functions of ranges over them, one series at a time.
//!
//! Whoever needs each series only once (an aggregation, mostly) takes it from the store's own buffer, and nothing is kept
//! of it: a selection of a hundred thousand series then costs no allocation for each.

use std::borrow::Cow;
use std::ops::ControlFlow;

use super::range::RangeFunction;
use super::select::{Cursor, Newest, with_stats_only};
use super::series::Series;
use super::window::{Reach, Windows};
use super::{Budget, Evaluated, Evaluator, Grid};
use crate::annotations::Annotations;
use crate::labels::Labels;
use crate::parse::{Expr, ExprKind, Extent, Selector, ValueType};
use crate::storage::{Need, Samples};

/// Takes one series: its labels, and its values at every step. The series itself has no labels; it is used again.
pub(super) type Consumer<'c> = dyn FnMut(&mut Annotations, &mut Budget, &Labels, &mut Series) -> Evaluated<()> + 'c;

/// Selections up to this size are collected in the order of their labels.
const SORTED_MAX: usize = 5_000;

/// Whether an expression can be given series by series.
pub(super) fn is_streamable(expr: &Expr, grid: Grid) -> bool {
    let plain = |selector: &Selector| selector.extent == Extent::Plain && (grid.steps == 1 || selector.at.is_none());
    match &expr.unwrapped().kind {
        ExprKind::Selector(selector) => plain(selector),
        ExprKind::Call { function, args } if function.name != "absent_over_time" => {
            let range = args.iter().find(|arg| arg.value_type() == ValueType::Matrix);
            matches!(range.map(|arg| &arg.unwrapped().kind), Some(ExprKind::Matrix { selector, .. }) if plain(selector))
        }
        _ => false,
    }
}

impl Evaluator<'_> {
    /// Gives every series of an expression that [`is_streamable`].
    pub(super) fn stream(&mut self, expr: &Expr, grid: Grid, consume: &mut Consumer<'_>) -> Evaluated<()> {
        match &expr.unwrapped().kind {
            ExprKind::Call { function, args } => {
                self.budget.charge(grid.steps)?;
                let function = self.range_function(function, args, grid)?;
                let range = args.iter().find(|arg| arg.value_type() == ValueType::Matrix).map(|arg| &arg.unwrapped().kind);
                let Some(ExprKind::Matrix { selector, range }) = range else { return Ok(()) };
                self.stream_range(&function, selector, range.ms(), grid, consume)
            }
            ExprKind::Selector(selector) => self.stream_instant(selector, grid, |_, value| value, consume),
            _ => Ok(()),
        }
    }

    /// The same as a vector; a small one is in the order of labels.
    pub(super) fn collect(
        &mut self,
        stream: impl FnOnce(&mut Self, &mut Consumer<'_>) -> Evaluated<()>,
        grid: Grid,
    ) -> Evaluated<Vec<Series>> {
        let mut vector: Vec<Series> = Vec::new();
        stream(self, &mut |_, _, labels, series| {
            let next = Series::absent(Labels::empty(), false, grid.steps);
            let mut found = std::mem::replace(series, next);
            found.labels = labels.clone();
            vector.push(found);
            Ok(())
        })?;
        if vector.len() <= SORTED_MAX {
            vector.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        Ok(vector)
    }

    pub(super) fn walk(&mut self, selector: &Selector, (from, to): (i64, i64), need: Need, visit: &mut WalkVisitor<'_>) -> Evaluated<()> {
        let Self { storage, annotations, budget, .. } = self;
        budget.check()?;
        let mut outcome = Ok(());
        storage.walk(&selector.matchers, from, to, need, &mut |labels, samples| {
            // Reading a series costs more than its samples: looking at the clock is paid for by 256 of them.
            outcome = budget
                .spend(256 + samples.times.len() + 32 * samples.histograms.len())
                .and_then(|()| visit(annotations, budget, labels, samples));
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        outcome
    }

    fn stream_range(
        &mut self,
        function: &RangeFunction,
        selector: &Selector,
        range_ms: i64,
        grid: Grid,
        consume: &mut Consumer<'_>,
    ) -> Evaluated<()> {
        let (first, last) = self.bounds(selector, grid);
        let after = first.saturating_sub(range_ms);
        let windows = Windows {
            range_ms,
            offset_ms: selector.offset.ms(),
            at: self.resolve_at(selector.at),
            extent: Extent::Plain,
            lookback_ms: self.options.lookback_ms,
        };
        let mut scratch = Series::absent(Labels::empty(), function.drops_name(), grid.steps);
        self.walk(selector, (after.saturating_add(1), last), Need::Range, &mut |annotations, budget, labels, samples| {
            let samples = reduced(selector, samples, after);
            let mut reach = Reach::within(&samples, after, last);
            let kept;
            if reach.has_stale() {
                kept = reach.without_stale();
                reach = Reach { samples: &kept, floats: 0..kept.times.len(), histograms: 0..kept.histograms.len() };
            }
            budget.charge(reach.weight())?;
            scratch.reset();
            scratch.drop_name = function.drops_name();
            function.apply(&windows, labels, &reach, grid, (annotations, budget), &mut scratch)?;
            if scratch.is_empty() {
                return Ok(());
            }
            budget.charge(grid.steps)?;
            consume(annotations, budget, labels, &mut scratch)
        })
    }

    /// The newest sample of every series at every step, if it is not too old, as `value_of` sees it.
    pub(super) fn stream_instant(
        &mut self,
        selector: &Selector,
        grid: Grid,
        value_of: fn(i64, f64) -> f64,
        consume: &mut Consumer<'_>,
    ) -> Evaluated<()> {
        let (first, last) = self.bounds(selector, grid);
        let lookback = self.options.lookback_ms;
        let pinned = selector.at.is_some();
        // Only `timestamp` asks for something other than the value, and it treats histograms like floats.
        let want_values = value_of(1_000, 7.0) == 7.0;
        let after = first.saturating_sub(lookback);
        let need = if first == last && !selector.stats_only { Need::Newest } else { Need::Range };
        let mut scratch = Series::absent(Labels::empty(), false, grid.steps);
        self.walk(selector, (after.saturating_add(1), last), need, &mut |annotations, budget, labels, samples| {
            let samples = reduced(selector, samples, after);
            scratch.reset();
            scratch.drop_name = !want_values;
            let mut cursor = Cursor::new(&samples, first);
            let mut found = 0;
            for step in 0..grid.steps {
                budget.spend(1)?;
                let reference = if pinned { first } else { first + grid.step * step as i64 };
                match cursor.newest(reference, lookback) {
                    Some(Newest::Float(time, value)) => scratch.set_float(step, value_of(time, value)),
                    Some(Newest::Histogram(_, histogram)) if want_values => scratch.set_histogram(step, histogram.clone()),
                    Some(Newest::Histogram(time, _)) => scratch.set_float(step, value_of(time, 0.0)),
                    None => continue,
                }
                found += 1;
            }
            if found == 0 {
                return Ok(());
            }
            // Every step takes its place, whether there is a sample or not.
            budget.charge(grid.steps.max(found))?;
            consume(annotations, budget, labels, &mut scratch)
        })
    }
}

pub(super) type WalkVisitor<'v> = dyn FnMut(&mut Annotations, &mut Budget, &Labels, &Samples) -> Evaluated<()> + 'v;

pub(super) fn reduced<'s>(selector: &Selector, samples: &'s Samples, after: i64) -> Cow<'s, Samples> {
    if selector.stats_only && !samples.histograms.is_empty() { Cow::Owned(with_stats_only(samples, after)) } else { Cow::Borrowed(samples) }
}
