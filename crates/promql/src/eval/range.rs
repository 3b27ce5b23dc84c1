//! Functions over range vectors.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use super::average::{FloatAverage, HistogramAverage};
use super::extended;
use super::rate::{Change, change_over_windows, last_change};
use super::stream::is_streamable;
use super::window::{RangeSource, Reach, View, Windows, slide};
use super::{Budget, Evaluated, Evaluator, Grid, Series};
use crate::annotations::{Annotations, Operation};
use crate::engine::Point;
use crate::error::QueryError;
use crate::histogram::{Combined, Histogram, IncompatibleSchemas, KahanHistogram, ResetHint};
use crate::labels::{Labels, METRIC_NAME, MatchOp, Matcher};
use crate::number::{kahan_add, stale};
use crate::parse::{Expr, ExprKind, Extent, Function, ValueType};

/// Where remarks about one series go.
pub(super) struct Remarks<'a> {
    pub(super) annotations: &'a mut Annotations,
    pub(super) position: usize,
    pub(super) labels: &'a Labels,
}

impl Remarks<'_> {
    pub(super) fn mixed(&mut self) {
        self.annotations.mixed_floats_histograms(self.position, self.labels.metric_name());
    }

    pub(super) fn mixed_schemas(&mut self) {
        self.annotations.mixed_schemas(self.position, self.labels.metric_name());
    }

    pub(super) fn not_a_counter(&mut self) {
        self.annotations.not_a_counter(self.position, self.labels.metric_name());
    }

    pub(super) fn not_a_gauge(&mut self) {
        self.annotations.not_a_gauge(self.position, self.labels.metric_name());
    }

    pub(super) fn reconciled(&mut self, combined: Combined, operation: Operation) {
        if combined.bounds_reconciled {
            self.annotations.bounds_reconciled(self.position, operation);
        }
    }

    /// What is treated as a counter should be called like one. `known` is the name that this was said about last.
    fn counter_name(&mut self, result: &Series, known: &RefCell<String>) {
        let name = self.labels.metric_name();
        if *known.borrow() == name {
            return;
        }
        let usual = ["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| name.ends_with(suffix));
        if !name.is_empty() && !usual && result.floats.iter().any(|value| !crate::number::is_stale(*value)) {
            self.annotations.possibly_not_a_counter(self.position, name);
            name.clone_into(&mut known.borrow_mut());
        }
    }

    fn ignored(&mut self) {
        self.annotations.ignored_in_range(self.position, self.labels.metric_name());
    }
}

/// The scalar arguments of one step.
type Params<'a> = &'a [f64];
/// Turns a window into a point.
type Kernel = fn(&View<'_>, Params<'_>, &mut Remarks<'_>) -> Option<Point>;

/// A function of range vectors, with all that is the same for every series.
pub(super) struct RangeFunction {
    function: &'static Function,
    /// The scalar arguments at every step.
    params: Vec<Vec<f64>>,
    change: Option<Change>,
    kernel: Option<Kernel>,
    position: usize,
    remarked: RefCell<String>,
}

impl Evaluator<'_> {
    /// Evaluates a function with a range vector among its arguments.
    pub(super) fn range_call(&mut self, call: &Expr, function: &'static Function, args: &[Expr], grid: Grid) -> Evaluated<Vec<Series>> {
        if is_streamable(call, grid) {
            return self.collect(|this, consume| this.stream(call, grid, consume), grid);
        }
        let range = self.range_function(function, args, grid)?;
        let at = args.iter().position(|arg| arg.value_type() == ValueType::Matrix);
        let range_arg = &args[at.ok_or_else(|| QueryError::execution("expected a range vector"))?];
        let source = self.range_source(range_arg, grid)?;
        extended::check_function(source.windows.extent, function)?;
        if function.name == "absent_over_time" {
            return Ok(absent_over_time(&source, range_arg, grid, &self.budget)?.into_iter().collect());
        }
        let mut vector = Vec::with_capacity(source.series.len());
        for (count, series) in source.series.iter().enumerate() {
            if count % 256 == 255 {
                self.budget.check()?;
            }
            let mut result = Series::absent(series.labels.clone(), range.drops_name() || series.drop_name, grid.steps);
            range.apply(&source.windows, &series.labels, &series.reach(), grid, (&mut self.annotations, &self.budget), &mut result)?;
            if result.is_empty() {
                continue;
            }
            self.budget.charge(grid.steps)?;
            vector.push(result);
        }
        Ok(vector)
    }

    pub(super) fn range_function(&mut self, function: &'static Function, args: &[Expr], grid: Grid) -> Evaluated<RangeFunction> {
        let mut params = Vec::with_capacity(args.len() - 1);
        for arg in args.iter().filter(|arg| arg.value_type() != ValueType::Matrix) {
            params.push(self.scalar(arg, grid)?);
        }
        check_parameters(function, &params)?;
        let change = |counter, per_second| Some(Change { counter, per_second });
        let change = match function.name {
            "rate" => change(true, true),
            "increase" => change(true, false),
            "delta" => change(false, false),
            _ => None,
        };
        Ok(RangeFunction { function, params, change, kernel: kernel(function.name), position: args[0].start, remarked: RefCell::default() })
    }
}

impl RangeFunction {
    pub(super) fn drops_name(&self) -> bool {
        !matches!(self.function.name, "last_over_time" | "first_over_time")
    }

    /// Fills `result`, which is empty, for every window of one series.
    pub(super) fn apply(
        &self,
        windows: &Windows,
        labels: &Labels,
        reach: &Reach<'_>,
        grid: Grid,
        (annotations, budget): (&mut Annotations, &Budget),
        result: &mut Series,
    ) -> Evaluated<()> {
        let mut remarks = Remarks { annotations, position: self.position, labels };
        match (self.change, self.kernel) {
            _ if windows.extent != Extent::Plain => extended::over_windows(windows, reach, (grid, budget), self.function, result)?,
            (Some(change), _) => change_over_windows(windows, reach, (grid, budget), change, &mut remarks, result)?,
            (None, _) if matches!(self.function.name, "min_over_time" | "max_over_time") => {
                extremes_over_windows(windows, reach, (grid, budget), self.function.name == "max_over_time", &mut remarks, result)?;
            }
            (None, Some(kernel)) => {
                let mut at_step = vec![0.0; self.params.len()];
                slide(windows, reach, grid, budget, |step, view| {
                    at_step.iter_mut().zip(&self.params).for_each(|(slot, values)| *slot = values[step]);
                    if let Some(point) = kernel(view, &at_step, &mut remarks) {
                        result.set(step, point);
                    }
                })?;
            }
            (None, None) => return Err(QueryError::Unsupported(format!("function {:?}", self.function.name))),
        }
        if self.change.is_some_and(|change| change.counter) {
            remarks.counter_name(result, &self.remarked);
        }
        Ok(())
    }
}

fn kernel(name: &str) -> Option<Kernel> {
    Some(match name {
        "irate" => |view, _, remarks| last_change(view, true, remarks),
        "idelta" => |view, _, remarks| last_change(view, false, remarks),
        "count_over_time" => |view, _, _| float(view.len() as f64),
        "present_over_time" => |_, _, _| float(1.0),
        "last_over_time" => |view, _, _| edge(view, true),
        "first_over_time" => |view, _, _| edge(view, false),
        "sum_over_time" => sum_over_time,
        "avg_over_time" => avg_over_time,
        "ts_of_min_over_time" => |view, _, remarks| floats_only(view, remarks, |v| extreme(v, |a, b| a <= b).1),
        "ts_of_max_over_time" => |view, _, remarks| floats_only(view, remarks, |v| extreme(v, |a, b| a >= b).1),
        "ts_of_first_over_time" => |view, _, _| float(times(view).min().unwrap_or(0) as f64 / 1e3),
        "ts_of_last_over_time" => |view, _, _| float(times(view).max().unwrap_or(0) as f64 / 1e3),
        "stddev_over_time" => |view, _, remarks| floats_only(view, remarks, |v| variance(v.values).sqrt()),
        "stdvar_over_time" => |view, _, remarks| floats_only(view, remarks, |v| variance(v.values)),
        "quantile_over_time" => quantile_over_time,
        "mad_over_time" => |view, _, remarks| floats_only(view, remarks, |v| median_deviation(v.values)),
        "changes" => |view, _, _| float(count_changes(view)),
        "resets" => |view, _, _| float(count_resets(view)),
        "deriv" => |view, _, remarks| two_floats(view, remarks, |v| regression(v, v.times[0]).0),
        "predict_linear" => |view, params, remarks| {
            two_floats(view, remarks, |v| {
                let (slope, intercept) = regression(v, v.now);
                slope * params[0] + intercept
            })
        },
        "double_exponential_smoothing" => |view, params, remarks| two_floats(view, remarks, |v| smooth(v.values, params[0], params[1])),
        _ => return None,
    })
}

fn float(value: f64) -> Option<Point> {
    Some(Point::Float(value))
}

fn times<'a>(view: &'a View<'_>) -> impl Iterator<Item = i64> + 'a {
    view.times.iter().copied().chain(view.histograms.iter().map(|(time, _)| *time))
}

/// For functions that leave histograms out.
fn floats_only(view: &View<'_>, remarks: &mut Remarks<'_>, compute: impl Fn(&View<'_>) -> f64) -> Option<Point> {
    if view.values.is_empty() {
        return None;
    }
    if view.is_mixed() {
        remarks.ignored();
    }
    float(compute(view))
}

/// For functions that need two floats and leave histograms out.
fn two_floats(view: &View<'_>, remarks: &mut Remarks<'_>, compute: impl Fn(&View<'_>) -> f64) -> Option<Point> {
    if view.is_mixed() {
        remarks.ignored();
    }
    if view.values.len() < 2 { None } else { float(compute(view)) }
}

/// The last or the first sample of a window.
fn edge(view: &View<'_>, last: bool) -> Option<Point> {
    let (f, h) = if last {
        (view.times.last().zip(view.values.last()), view.histograms.last())
    } else {
        (view.times.first().zip(view.values.first()), view.histograms.first())
    };
    match (f, h) {
        (Some((time, value)), Some((at, _))) if (last && at < time) || (!last && time < at) => float(*value),
        (_, Some((_, histogram))) => Some(Point::Histogram(histogram.clone())),
        (Some((_, value)), None) => float(*value),
        (None, None) => None,
    }
}

fn sum_over_time(view: &View<'_>, _: Params<'_>, remarks: &mut Remarks<'_>) -> Option<Point> {
    if view.is_mixed() {
        remarks.mixed();
        return None;
    }
    if view.values.is_empty() {
        let sum = combine_histograms(view, remarks, |histograms| {
            let mut sum = KahanHistogram::new(histograms.0);
            let mut reconciled = false;
            for histogram in histograms.1 {
                reconciled |= sum.add(histogram)?;
            }
            Ok((sum.finish(), reconciled))
        });
        return sum;
    }
    let (sum, c) = view.values.iter().fold((0.0, 0.0), |(sum, c), value| kahan_add(*value, sum, c));
    float(if f64::is_infinite(sum) { sum } else { sum + c })
}

fn avg_over_time(view: &View<'_>, _: Params<'_>, remarks: &mut Remarks<'_>) -> Option<Point> {
    if view.is_mixed() {
        remarks.mixed();
        return None;
    }
    if view.values.is_empty() {
        return combine_histograms(view, remarks, |(first, rest)| {
            let mut average = HistogramAverage::new(first);
            let mut reconciled = false;
            for histogram in rest {
                reconciled |= average.add(histogram)?;
            }
            Ok((average.finish(), reconciled))
        });
    }
    let mut average = FloatAverage::new(view.values[0]);
    view.values[1..].iter().for_each(|value| average.add(*value));
    float(average.finish())
}

type FirstAndRest<'a> = (Histogram, Vec<&'a Histogram>);

/// Combines the histograms of a window, with the remarks that go with it.
fn combine_histograms<'v>(
    view: &'v View<'_>,
    remarks: &mut Remarks<'_>,
    combine: impl Fn(FirstAndRest<'v>) -> Result<(Histogram, bool), IncompatibleSchemas>,
) -> Option<Point> {
    let first = (*view.histograms.first()?.1).clone();
    let hints = |wanted: ResetHint| view.histograms.iter().any(|(_, histogram)| histogram.hint == wanted);
    let collision = hints(ResetHint::Reset) && hints(ResetHint::NotReset);
    let rest = view.histograms[1..].iter().map(|(_, histogram)| &**histogram).collect();
    let Ok((histogram, reconciled)) = combine((first, rest)) else {
        remarks.mixed_schemas();
        return None;
    };
    if collision {
        remarks.annotations.reset_collision(remarks.position, Operation::Aggregation);
    }
    if reconciled {
        remarks.annotations.bounds_reconciled(remarks.position, Operation::Aggregation);
    }
    Some(Point::Histogram(Arc::new(histogram)))
}

/// The smallest or largest value of each window, in one walk: a value that a later one beats can never be the answer again.
fn extremes_over_windows(
    windows: &Windows,
    series: &Reach<'_>,
    (grid, budget): (Grid, &Budget),
    largest: bool,
    remarks: &mut Remarks<'_>,
    result: &mut Series,
) -> Evaluated<()> {
    let values = &series.samples.values;
    let beats = |a: f64, b: f64| if largest { a >= b } else { a <= b };
    let mut candidates: VecDeque<usize> = VecDeque::new();
    let mut next = 0;
    slide(windows, series, grid, budget, |step, view| {
        if view.values.is_empty() {
            return;
        }
        if view.is_mixed() {
            remarks.ignored();
        }
        let end = view.first + view.values.len();
        for at in next.max(view.first)..end {
            // NaN loses against every number.
            if !values[at].is_nan() {
                while candidates.back().is_some_and(|last| beats(values[at], values[*last])) {
                    candidates.pop_back();
                }
                candidates.push_back(at);
            }
        }
        next = end.max(next);
        while candidates.front().is_some_and(|first| *first < view.first) {
            candidates.pop_front();
        }
        result.set_float(step, candidates.front().map_or(f64::NAN, |at| values[*at]));
    })
}

/// The smallest or largest value and its time in seconds; NaN loses against every number.
fn extreme(view: &View<'_>, better: impl Fn(f64, f64) -> bool) -> (f64, f64) {
    let (mut best, mut time) = (view.values[0], view.times[0]);
    for (value, at) in view.values.iter().zip(view.times) {
        if better(*value, best) || best.is_nan() {
            (best, time) = (*value, *at);
        }
    }
    (best, time as f64 / 1e3)
}

fn variance(values: &[f64]) -> f64 {
    let (mut count, mut mean, mut squares) = (0.0, (0.0, 0.0), (0.0, 0.0));
    for value in values {
        count += 1.0;
        let delta = value - (mean.0 + mean.1);
        mean = kahan_add(delta / count, mean.0, mean.1);
        squares = kahan_add(delta * (value - (mean.0 + mean.1)), squares.0, squares.1);
    }
    (squares.0 + squares.1) / count
}

/// The quantile of some values; NaN sorts before every number. Puts the values in another order.
pub(super) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let order = |a: &f64, b: &f64| b.is_nan().cmp(&a.is_nan()).then(a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    let last = values.len() - 1;
    let rank = q * last as f64;
    let lower = (rank.floor().max(0.0) as usize).min(last);
    let weight = rank - rank.floor();
    // Only two places of the order are asked for: the rest need not be sorted.
    let (_, low, above) = values.select_nth_unstable_by(lower, order);
    let low = *low;
    let high = above.iter().copied().min_by(order).unwrap_or(low);
    low * (1.0 - weight) + high * weight
}

fn quantile_over_time(view: &View<'_>, params: Params<'_>, remarks: &mut Remarks<'_>) -> Option<Point> {
    let q = params[0];
    if view.values.is_empty() {
        return None;
    }
    if !(0.0..=1.0).contains(&q) {
        remarks.annotations.invalid_quantile(remarks.position, q);
    }
    floats_only(view, remarks, |view| quantile(q, &mut view.values.to_vec()))
}

fn median_deviation(values: &[f64]) -> f64 {
    let median = quantile(0.5, &mut values.to_vec());
    quantile(0.5, &mut values.iter().map(|value| (value - median).abs()).collect::<Vec<_>>())
}

fn is_change(before: &Point, now: &Point) -> bool {
    match (before, now) {
        (Point::Float(a), Point::Float(b)) => a != b && !(a.is_nan() && b.is_nan()),
        (Point::Histogram(a), Point::Histogram(b)) => !b.same_data(a),
        _ => true,
    }
}

fn is_reset(before: &Point, now: &Point) -> bool {
    match (before, now) {
        (Point::Float(a), Point::Float(b)) => b < a,
        (Point::Histogram(a), Point::Histogram(b)) => b.detect_reset(a),
        _ => true,
    }
}

pub(super) fn count_changes(view: &View<'_>) -> f64 {
    count_pairs(view, is_change)
}

pub(super) fn count_resets(view: &View<'_>) -> f64 {
    count_pairs(view, is_reset)
}

/// Counts neighbours in time for which `test` holds.
fn count_pairs(view: &View<'_>, test: fn(&Point, &Point) -> bool) -> f64 {
    let (mut floats, mut histograms) = (view.times.iter().zip(view.values).peekable(), view.histograms.iter().peekable());
    let mut before: Option<Point> = None;
    let mut count = 0;
    loop {
        let float_first = match (floats.peek(), histograms.peek()) {
            (None, None) => return f64::from(count),
            (Some((time, _)), Some((at, _))) => *time < at,
            (float, _) => float.is_some(),
        };
        let point = if float_first {
            floats.next().map(|(_, value)| Point::Float(*value))
        } else {
            histograms.next().map(|(_, histogram)| Point::Histogram(histogram.clone()))
        };
        let Some(point) = point else { return f64::from(count) };
        if before.as_ref().is_some_and(|before| test(before, &point)) {
            count += 1;
        }
        before = Some(point);
    }
}

/// Slope per second and value at `intercept_at` of the line through the floats (least squares).
fn regression(view: &View<'_>, intercept_at: i64) -> (f64, f64) {
    let first = view.values[0];
    if view.values.iter().all(|value| *value == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let (mut x_sum, mut y_sum, mut xy_sum, mut xx_sum) = ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0));
    for (time, y) in view.times.iter().zip(view.values) {
        let x = (time - intercept_at) as f64 / 1e3;
        x_sum = kahan_add(x, x_sum.0, x_sum.1);
        y_sum = kahan_add(*y, y_sum.0, y_sum.1);
        xy_sum = kahan_add(x * y, xy_sum.0, xy_sum.1);
        xx_sum = kahan_add(x * x, xx_sum.0, xx_sum.1);
    }
    let n = view.values.len() as f64;
    let [x, y, xy, xx] = [x_sum, y_sum, xy_sum, xx_sum].map(|(sum, c)| sum + c);
    let slope = (xy - x * y / n) / (xx - x * x / n);
    (slope, y / n - slope * x / n)
}

fn smooth(values: &[f64], smoothing: f64, trend: f64) -> f64 {
    let (mut before, mut level) = (0.0, values[0]);
    let mut slope = values[1] - values[0];
    for (i, value) in values.iter().enumerate().skip(1) {
        if i > 1 {
            slope = trend * (level - before) + (1.0 - trend) * slope;
        }
        (before, level) = (level, smoothing * value + (1.0 - smoothing) * (level + slope));
    }
    level
}

fn check_parameters(function: &Function, params: &[Vec<f64>]) -> Evaluated<()> {
    if function.name != "double_exponential_smoothing" {
        return Ok(());
    }
    for (values, (word, short)) in params.iter().zip([("smoothing", "sf"), ("trend", "tf")]) {
        if let Some(bad) = values.iter().find(|value| !(**value > 0.0 && **value < 1.0)) {
            return Err(QueryError::execution(format!("invalid {word} factor. Expected: 0 < {short} < 1, got: {bad:.6}")));
        }
    }
    Ok(())
}

fn absent_over_time(source: &RangeSource, arg: &Expr, grid: Grid, budget: &Budget) -> Evaluated<Option<Series>> {
    let mut absent = vec![true; grid.steps];
    for series in &source.series {
        slide(&source.windows, &series.reach(), grid, budget, |step, _| absent[step] = false)?;
    }
    Ok(absent_series(arg, &absent, grid.steps))
}

/// The series that says where nothing was: 1 at each such step, with the labels the selector asked for.
pub(super) fn absent_series(arg: &Expr, absent: &[bool], steps: usize) -> Option<Series> {
    if !absent.contains(&true) {
        return None;
    }
    let mut series = Series::absent(absent_labels(arg), false, steps);
    series.floats = absent.iter().map(|absent| if *absent { 1.0 } else { stale() }).collect();
    Some(series)
}

fn absent_labels(arg: &Expr) -> Labels {
    let (ExprKind::Selector(selector) | ExprKind::Matrix { selector, .. }) = &arg.kind else { return Labels::empty() };
    let mut builder = Labels::empty().builder();
    let mut seen: Vec<&str> = Vec::new();
    for Matcher { name, value, op } in selector.matchers.iter().filter(|matcher| &*matcher.name != METRIC_NAME) {
        // A label that is asked for twice, or not for equality, is not certain.
        if matches!(op, MatchOp::Equal) && !seen.contains(&&**name) {
            builder.set(name, value);
            seen.push(name);
        } else {
            builder.set(name, "");
        }
    }
    builder.build()
}
