//! Functions over histograms, native and classic.

use std::sync::Arc;

use super::calls::text;
use super::classic::{ClassicGroup, ClassicGroups};
use super::{Evaluated, Evaluator, Grid, Series};
use crate::annotations::MonotonicityFix;
use crate::error::QueryError;
use crate::histogram::{self, Histogram, NanObservations};
use crate::labels::Labels;
use crate::number::{format_open_metrics, kahan_add};
use crate::parse::Expr;

/// What is asked of a histogram.
#[derive(Clone, Copy)]
enum Ask {
    /// The quantile, and the positions of the arguments that remarks are about.
    Quantile(f64),
    Fraction(f64, f64),
}

/// The parts of a call that remarks are about.
#[derive(Clone, Copy)]
struct Places {
    /// The first argument.
    first: usize,
    /// The vector.
    vector: usize,
    /// Where a correction of classic buckets is remarked.
    correction: usize,
}

impl Evaluator<'_> {
    pub(super) fn histogram_call(&mut self, name: &str, args: &[Expr], grid: Grid) -> Evaluated<Vec<Series>> {
        let simple: fn(&Histogram) -> f64 = match name {
            "histogram_count" => |histogram| histogram.count,
            "histogram_sum" => |histogram| histogram.sum,
            "histogram_avg" => |histogram| histogram.sum / histogram.count,
            "histogram_stddev" => |histogram| variance(histogram).sqrt(),
            "histogram_stdvar" => variance,
            "histogram_quantile" => return self.histogram_quantile(args, grid),
            "histogram_quantiles" => return self.histogram_quantiles(args, grid),
            "histogram_fraction" => return self.histogram_fraction(args, grid),
            _ => return Err(QueryError::Unsupported(format!("function {name:?}"))),
        };
        let mut vector = self.vector(&args[0], grid)?;
        vector.retain(Series::has_histograms);
        for series in &mut vector {
            let histograms = series.histograms.take();
            let mut result = Series::absent(series.labels.clone(), true, grid.steps);
            for (step, histogram) in histograms.into_iter().flatten().enumerate() {
                if let Some(histogram) = histogram {
                    result.set_float(step, simple(&histogram));
                }
            }
            *series = result;
        }
        Ok(vector)
    }

    fn histogram_quantile(&mut self, args: &[Expr], grid: Grid) -> Evaluated<Vec<Series>> {
        let quantiles = self.scalar(&args[0], grid)?;
        self.check_quantiles(&quantiles, args[0].start);
        let vector = self.vector(&args[1], grid)?;
        let places = Places { first: args[0].start, vector: args[1].start, correction: args[1].start };
        let groups = ClassicGroups::new(&vector, grid, places.vector, &mut self.annotations);
        let asks: Vec<Ask> = quantiles.into_iter().map(Ask::Quantile).collect();
        self.ask_histograms(&vector, &groups, &asks, (places, grid), |labels| labels.clone())
    }

    fn histogram_quantiles(&mut self, args: &[Expr], grid: Grid) -> Evaluated<Vec<Series>> {
        let label = text(&args[1]).to_owned();
        let mut all = Vec::new();
        for arg in &args[2..] {
            let quantiles = self.scalar(arg, grid)?;
            self.check_quantiles(&quantiles, arg.start);
            all.push(quantiles);
        }
        let vector = self.vector(&args[0], grid)?;
        let places = Places { first: args[0].start, vector: args[0].start, correction: args[0].start };
        let groups = ClassicGroups::new(&vector, grid, places.vector, &mut self.annotations);
        let mut results = Vec::new();
        for quantiles in all {
            // A quantile is nearly always the same at every step; each value it has makes a series of its own.
            let mut distinct: Vec<f64> = Vec::new();
            for q in &quantiles {
                if !distinct.iter().any(|known| known.to_bits() == q.to_bits()) {
                    distinct.push(*q);
                }
            }
            let asks: Vec<Ask> = quantiles.iter().copied().map(Ask::Quantile).collect();
            for q in distinct {
                let mut part = self.ask_histograms(&vector, &groups, &asks, (places, grid), |labels| {
                    let mut builder = labels.builder();
                    builder.set(&label, &format_open_metrics(q));
                    builder.build()
                })?;
                for series in &mut part {
                    (0..grid.steps).filter(|step| quantiles[*step].to_bits() != q.to_bits()).for_each(|step| series.clear(step));
                }
                results.extend(part);
            }
        }
        super::series::merge_equal(results)
    }

    fn histogram_fraction(&mut self, args: &[Expr], grid: Grid) -> Evaluated<Vec<Series>> {
        let (lower, upper) = (self.scalar(&args[0], grid)?, self.scalar(&args[1], grid)?);
        let vector = self.vector(&args[2], grid)?;
        let places = Places { first: args[0].start, vector: args[2].start, correction: args[2].start };
        let groups = ClassicGroups::new(&vector, grid, places.vector, &mut self.annotations);
        let asks: Vec<Ask> = lower.into_iter().zip(upper).map(|(lower, upper)| Ask::Fraction(lower, upper)).collect();
        self.ask_histograms(&vector, &groups, &asks, (places, grid), |labels| labels.clone())
    }

    fn check_quantiles(&mut self, quantiles: &[f64], position: usize) {
        for q in quantiles.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
            self.annotations.invalid_quantile(position, *q);
        }
    }

    /// Asks every histogram of a vector at every step.
    fn ask_histograms(
        &mut self,
        vector: &[Series],
        groups: &ClassicGroups,
        asks: &[Ask],
        (places, grid): (Places, Grid),
        relabel: impl Fn(&Labels) -> Labels,
    ) -> Evaluated<Vec<Series>> {
        let mut results = Vec::new();
        for (at, series) in vector.iter().enumerate().filter(|(_, series)| series.has_histograms()) {
            let mut result = Series::absent(relabel(&series.labels), true, grid.steps);
            self.budget.spend(32 * grid.steps)?;
            for (step, ask) in asks.iter().enumerate() {
                if let Some(histogram) = series.histogram(step)
                    && !groups.is_mixed(at, step)
                {
                    result.set_float(step, self.ask_native(*ask, histogram, &series.labels, places));
                }
            }
            results.push(result);
        }
        for group in &groups.groups {
            let mut result = Series::absent(relabel(&group.labels), true, grid.steps);
            for (step, ask) in asks.iter().enumerate() {
                self.budget.spend(group.len())?;
                if let Some(value) = self.ask_classic(*ask, group, vector, (step, grid.at(step)), places) {
                    result.set_float(step, value);
                }
            }
            results.push(result);
        }
        results.retain(|series| !series.is_empty());
        Ok(results)
    }

    fn ask_native(&mut self, ask: Ask, histogram: &Arc<Histogram>, labels: &Labels, places: Places) -> f64 {
        match ask {
            Ask::Quantile(q) => {
                let (value, nan) = histogram::quantile(q, histogram);
                match nan {
                    NanObservations::None => {}
                    NanObservations::Result => self.annotations.quantile_is_nan(places.first, labels.metric_name()),
                    NanObservations::Skew => self.annotations.quantile_is_skewed(places.first, labels.metric_name()),
                }
                value
            }
            Ask::Fraction(lower, upper) => {
                let (value, without_nan) = histogram::fraction(lower, upper, histogram);
                if without_nan {
                    self.annotations.fraction_without_nan(places.first, labels.metric_name());
                }
                value
            }
        }
    }

    fn ask_classic(
        &mut self,
        ask: Ask,
        group: &ClassicGroup,
        vector: &[Series],
        (step, time): (usize, i64),
        places: Places,
    ) -> Option<f64> {
        let mut buckets = group.buckets(vector, step);
        if buckets.is_empty() {
            return None;
        }
        match ask {
            Ask::Fraction(lower, upper) => Some(super::classic::fraction(lower, upper, &buckets)),
            Ask::Quantile(q) => {
                let (value, corrected) = super::classic::quantile(q, &mut buckets);
                if let Some((bounds, difference)) = corrected {
                    let fix = MonotonicityFix { at_ms: (time, time), bounds, difference, samples: 1 };
                    self.annotations.forced_monotonicity(places.correction, group.labels.metric_name(), fix);
                }
                Some(value)
            }
        }
    }
}

/// The variance, as if every observation were in the middle of its bucket.
fn variance(histogram: &Histogram) -> f64 {
    let mean = histogram.sum / histogram.count;
    let (mut sum, mut lost) = (0.0, 0.0);
    for bucket in histogram.buckets().into_iter().filter(|bucket| bucket.count != 0.0) {
        let middle = if histogram.uses_custom_buckets() {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            let middle = (bucket.upper * bucket.lower).sqrt();
            if bucket.upper < 0.0 { -middle } else { middle }
        };
        let delta = middle - mean;
        (sum, lost) = kahan_add(bucket.count * delta * delta, sum, lost);
    }
    (sum + lost) / histogram.count
}
