//! Series as they are under a range selector, and the window that slides over them.

use std::sync::Arc;

use super::Grid;
use crate::histogram::Histogram;
use crate::labels::Labels;
use crate::storage::Samples;

/// What a range selector or a subquery gives: raw samples, and where the window of a step lies.
pub(crate) struct RangeSource {
    pub(crate) series: Vec<RangeSeries>,
    pub(crate) range_ms: i64,
    pub(super) offset_ms: i64,
    /// The moment an `@` pinned the selector to.
    pub(super) at: Option<i64>,
}

/// One series under a range selector; without staleness markers.
pub(crate) struct RangeSeries {
    pub(crate) labels: Labels,
    pub(crate) drop_name: bool,
    pub(crate) samples: Arc<Samples>,
}

/// A span of time, open at the start and closed at the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) start: i64,
    pub(crate) end: i64,
}

impl RangeSource {
    pub(crate) fn window(&self, grid: Grid, step: usize) -> Window {
        let end = self.at.unwrap_or_else(|| grid.at(step)).saturating_sub(self.offset_ms);
        Window { start: end.saturating_sub(self.range_ms), end }
    }
}

/// The samples of a series within the window of one step.
pub(crate) struct View<'a> {
    pub(crate) times: &'a [i64],
    pub(crate) values: &'a [f64],
    pub(crate) histograms: &'a [(i64, Arc<Histogram>)],
    pub(crate) window: Window,
    /// The moment of the evaluation.
    pub(crate) now: i64,
    /// Where `values` begins in the series.
    pub(crate) first: usize,
}

impl View<'_> {
    pub(crate) fn is_mixed(&self) -> bool {
        !self.values.is_empty() && !self.histograms.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len() + self.histograms.len()
    }
}

/// Two ends that only move forward.
struct Slider {
    low: usize,
    high: usize,
}

impl Slider {
    fn new(len: usize, time: impl Fn(usize) -> i64, window: Window) -> Self {
        let first_after = |limit: i64| {
            let (mut low, mut high) = (0, len);
            while low < high {
                let middle = low.midpoint(high);
                if time(middle) <= limit { low = middle + 1 } else { high = middle }
            }
            low
        };
        Self { low: first_after(window.start), high: first_after(window.end) }
    }

    #[inline]
    fn advance(&mut self, len: usize, time: impl Fn(usize) -> i64, window: Window) {
        while self.high < len && time(self.high) <= window.end {
            self.high += 1;
        }
        while self.low < self.high && time(self.low) <= window.start {
            self.low += 1;
        }
    }
}

/// Slides the window over one series and calls `visit` for every step at which it holds a sample.
pub(crate) fn slide(source: &RangeSource, series: &RangeSeries, grid: Grid, mut visit: impl FnMut(usize, &View<'_>)) {
    let Samples { times, values, histograms } = &*series.samples;
    let first = source.window(grid, 0);
    let float_time = |i: usize| times[i];
    let histogram_time = |i: usize| histograms[i].0;
    let mut floats = Slider::new(times.len(), float_time, first);
    let mut others = Slider::new(histograms.len(), histogram_time, first);
    for step in 0..grid.steps {
        let window = source.window(grid, step);
        floats.advance(times.len(), float_time, window);
        others.advance(histograms.len(), histogram_time, window);
        if floats.low == floats.high && others.low == others.high {
            continue;
        }
        let view = View {
            times: &times[floats.low..floats.high],
            values: &values[floats.low..floats.high],
            histograms: &histograms[others.low..others.high],
            window,
            now: grid.at(step),
            first: floats.low,
        };
        visit(step, &view);
    }
}
