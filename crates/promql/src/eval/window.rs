//! Series as they are under a range selector, and the window that slides over them.

use std::ops::Range;
use std::sync::Arc;

use super::{Budget, Evaluated, Grid};
use crate::histogram::Histogram;
use crate::labels::Labels;
use crate::number::is_stale;
use crate::parse::Extent;
use crate::storage::{Samples, any_stale};

/// What a range selector or a subquery gives: raw samples, and where the window of a step lies.
pub(crate) struct RangeSource {
    pub(crate) series: Vec<RangeSeries>,
    pub(crate) windows: Windows,
}

/// Where the window of a step lies.
#[derive(Clone, Copy)]
pub(crate) struct Windows {
    pub(crate) range_ms: i64,
    pub(super) offset_ms: i64,
    /// The moment an `@` pinned the selector to.
    pub(super) at: Option<i64>,
    pub(super) extent: Extent,
    pub(super) lookback_ms: i64,
}

/// One series under a range selector; without staleness markers.
pub(crate) struct RangeSeries {
    pub(crate) labels: Labels,
    pub(crate) drop_name: bool,
    pub(crate) samples: Arc<Samples>,
    /// The floats and the histograms that any window can reach.
    pub(crate) floats: Range<usize>,
    pub(crate) histograms: Range<usize>,
}

/// The samples of one series that windows can reach, wherever they are kept.
#[derive(Clone)]
pub(crate) struct Reach<'a> {
    pub(crate) samples: &'a Samples,
    pub(crate) floats: Range<usize>,
    pub(crate) histograms: Range<usize>,
}

impl<'a> Reach<'a> {
    /// The samples after `after` and until `to`.
    pub(super) fn within(samples: &'a Samples, after: i64, to: i64) -> Self {
        let between = |low: usize, high: usize| low..high.max(low);
        let (times, others) = (&samples.times, &samples.histograms);
        let floats = between(times.partition_point(|time| *time <= after), times.partition_point(|time| *time <= to));
        let histograms = between(others.partition_point(|(time, _)| *time <= after), others.partition_point(|(time, _)| *time <= to));
        Self { samples, floats, histograms }
    }

    pub(super) fn has_stale(&self) -> bool {
        let stale_histogram = || self.samples.histograms[self.histograms.clone()].iter().any(|(_, histogram)| histogram.is_stale());
        any_stale(&self.samples.values[self.floats.clone()]) || stale_histogram()
    }

    /// A copy of what is in reach, without staleness markers.
    pub(super) fn without_stale(&self) -> Samples {
        let times = &self.samples.times[self.floats.clone()];
        let floats = times.iter().zip(&self.samples.values[self.floats.clone()]).filter(|(_, value)| !is_stale(**value));
        let (times, values) = floats.map(|(time, value)| (*time, *value)).unzip();
        let histograms = self.samples.histograms[self.histograms.clone()].iter();
        Samples { times, values, histograms: histograms.filter(|(_, histogram)| !histogram.is_stale()).cloned().collect() }
    }

    /// How much memory the samples in reach count for, in float samples.
    pub(super) fn weight(&self) -> usize {
        let histograms = &self.samples.histograms[self.histograms.clone()];
        self.floats.len() + histograms.iter().map(|(_, histogram)| histogram.weight()).sum::<usize>()
    }
}

/// A span of time, open at the start and closed at the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) start: i64,
    pub(crate) end: i64,
}

impl Windows {
    pub(crate) fn window(&self, grid: Grid, step: usize) -> Window {
        let end = self.at.unwrap_or_else(|| grid.at(step)).saturating_sub(self.offset_ms);
        let start = end.saturating_sub(self.range_ms);
        match self.extent {
            Extent::Plain => Window { start, end },
            Extent::Anchored => Window { start: start.saturating_sub(self.lookback_ms), end },
            Extent::Smoothed => Window { start: start.saturating_sub(self.lookback_ms), end: end.saturating_add(self.lookback_ms) },
        }
    }

    /// The range itself, of a window that reaches beyond it.
    pub(super) fn range_of(&self, window: Window) -> Window {
        let end = if self.extent == Extent::Smoothed { window.end.saturating_sub(self.lookback_ms) } else { window.end };
        Window { start: end.saturating_sub(self.range_ms), end }
    }
}

impl RangeSeries {
    /// A series of which all samples can be reached.
    pub(super) fn whole(labels: Labels, drop_name: bool, samples: Arc<Samples>) -> Self {
        let (floats, histograms) = (0..samples.times.len(), 0..samples.histograms.len());
        Self { labels, drop_name, samples, floats, histograms }
    }

    /// A series whose windows begin after `after` and end at `to`; staleness markers are left out.
    pub(super) fn within(labels: Labels, samples: Arc<Samples>, after: i64, to: i64) -> Self {
        let reach = Reach::within(&samples, after, to);
        if reach.has_stale() {
            return Self::whole(labels, false, Arc::new(reach.without_stale()));
        }
        let (floats, histograms) = (reach.floats, reach.histograms);
        Self { labels, drop_name: false, samples, floats, histograms }
    }

    pub(super) fn reach(&self) -> Reach<'_> {
        Reach { samples: &self.samples, floats: self.floats.clone(), histograms: self.histograms.clone() }
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

/// What looking at a histogram counts for, in floats.
const HISTOGRAM_WORK: usize = 32;

/// Two ends that only move forward.
struct Slider {
    low: usize,
    high: usize,
}

impl Slider {
    fn new(reach: &Range<usize>) -> Self {
        Self { low: reach.start, high: reach.start }
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
///
/// One series can keep a processor busy for minutes (a long window at many steps), so the time limit is watched in here.
pub(crate) fn slide(
    windows: &Windows,
    series: &Reach<'_>,
    grid: Grid,
    budget: &Budget,
    mut visit: impl FnMut(usize, &View<'_>),
) -> Evaluated<()> {
    let Samples { times, values, histograms } = series.samples;
    let (mut floats, mut others) = (Slider::new(&series.floats), Slider::new(&series.histograms));
    for step in 0..grid.steps {
        let window = windows.window(grid, step);
        floats.advance(series.floats.end, |i| times[i], window);
        others.advance(series.histograms.end, |i| histograms[i].0, window);
        let (floats_here, others_here) = (floats.high - floats.low, others.high - others.low);
        budget.spend(1 + floats_here + HISTOGRAM_WORK * others_here)?;
        if floats_here + others_here == 0 {
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
    Ok(())
}
