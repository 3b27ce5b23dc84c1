//! Aggregations: many series become one per group.

use std::collections::HashMap;
use std::sync::Arc;

use super::average::{FloatAverage, HistogramAverage};
use super::matching::{Groups, Key};
use super::range::quantile;
use super::series::{At, Series};
use super::stream::is_streamable;
use super::{Budget, Evaluated, Evaluator, Grid};
use crate::annotations::{Annotations, Operation};
use crate::error::QueryError;
use crate::histogram::{Histogram, IncompatibleSchemas, KahanHistogram, ResetHint};
use crate::labels::Labels;
use crate::number::{format_plain, is_stale, kahan_add};
use crate::parse::{AggregateOp, Expr, ExprKind, Grouping};

impl Evaluator<'_> {
    pub(super) fn aggregate(&mut self, aggregate: &Expr, grid: Grid) -> Evaluated<Vec<Series>> {
        let ExprKind::Aggregate { op, expr, param, grouping } = &aggregate.kind else {
            return Err(QueryError::execution("expected an aggregation"));
        };
        let key = Key::new(&grouping.labels, !grouping.without);
        if *op == AggregateOp::CountValues {
            let label = param.as_deref().map_or("", super::calls::text).to_owned();
            let vector = self.vector(expr, grid)?;
            return self.count_values(&vector, &label, grouping, grid);
        }
        let params = match param {
            Some(param) => self.scalar(param, grid)?,
            None => Vec::new(),
        };
        let param_start = param.as_ref().map_or(0, |param| param.start);
        match op {
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk | AggregateOp::LimitRatio => {
                let vector = self.vector(expr, grid)?;
                self.select_few(*op, vector, &params, &key, (aggregate.start, param_start))
            }
            AggregateOp::Quantile => {
                for q in params.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
                    self.annotations.invalid_quantile(param_start, *q);
                }
                let vector = self.vector(expr, grid)?;
                self.quantiles(&vector, &params, &key, (expr.start, grid))
            }
            op => self.fold(*op, expr, &key, grid),
        }
    }

    /// Sum, average, minimum and the like: one pass over the series, all steps at a time.
    fn fold(&mut self, op: AggregateOp, expr: &Expr, key: &Key<'_>, grid: Grid) -> Evaluated<Vec<Series>> {
        let mut folding = Folding { op, key, position: expr.start, steps: grid.steps, groups: Groups::default(), folds: Vec::new() };
        if is_streamable(expr, grid) {
            self.stream(expr, grid, &mut |annotations, budget, labels, series| folding.add(annotations, budget, labels, series))?;
        } else {
            for series in &self.vector(expr, grid)? {
                folding.add(&mut self.annotations, &mut self.budget, &series.labels, series)?;
            }
        }
        let results = folding.folds.into_iter().map(|fold| fold.finish(op, expr.start, &mut self.annotations));
        Ok(results.filter(|result| !result.is_empty()).collect())
    }

    fn quantiles(&mut self, vector: &[Series], params: &[f64], key: &Key<'_>, (position, grid): (usize, Grid)) -> Evaluated<Vec<Series>> {
        let mut groups = Groups::default();
        let numbers = groups.numbers(vector, key);
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); groups.len()];
        numbers.iter().enumerate().for_each(|(at, number)| members[*number].push(at));
        let mut results = Vec::new();
        for members in members {
            let drop_name = members.iter().any(|at| vector[*at].drop_name);
            let mut result = Series::absent(key.of(&vector[members[0]].labels), drop_name, grid.steps);
            let mut values = Vec::with_capacity(members.len());
            for (step, q) in params.iter().enumerate() {
                self.budget.spend(members.len())?;
                values.clear();
                for at in &members {
                    match vector[*at].at(step) {
                        At::Float(value) => values.push(value),
                        At::Histogram(_) => self.annotations.ignored_in_aggregation(position, "quantile"),
                        At::Nothing => {}
                    }
                }
                if !values.is_empty() {
                    result.set_float(step, quantile(*q, &mut values));
                }
            }
            if !result.is_empty() {
                results.push(result);
            }
        }
        Ok(results)
    }

    fn count_values(&mut self, vector: &[Series], label: &str, grouping: &Grouping, grid: Grid) -> Evaluated<Vec<Series>> {
        if !crate::labels::is_label_name(label) {
            return Err(QueryError::execution(format!("invalid label name {}", crate::labels::quote(label))));
        }
        let mut labels = grouping.labels.clone();
        if !grouping.without {
            labels.push(label.to_owned());
        }
        let key = Key::new(&labels, !grouping.without);
        let mut known: HashMap<Labels, usize> = HashMap::new();
        let mut results: Vec<Series> = Vec::new();
        for series in vector {
            self.budget.spend(8 * grid.steps)?;
            // A series often keeps its value for many steps.
            let mut last: Option<(u64, usize)> = None;
            for step in 0..grid.steps {
                let (bits, value) = match series.at(step) {
                    At::Nothing => continue,
                    At::Float(value) => (value.to_bits(), None),
                    At::Histogram(histogram) => (0, Some(histogram.to_string())),
                };
                let number = match last {
                    Some((known_bits, number)) if known_bits == bits && value.is_none() => number,
                    _ => {
                        let mut builder = series.labels.builder();
                        builder.set(label, &value.clone().unwrap_or_else(|| format_plain(f64::from_bits(bits))));
                        builder.retain(|name| key.keeps(name));
                        let labels = builder.build();
                        let next = results.len();
                        let number = *known.entry(labels.clone()).or_insert(next);
                        if number == next {
                            self.budget.charge(grid.steps)?;
                            results.push(Series::absent(labels, false, grid.steps));
                        }
                        number
                    }
                };
                results[number].drop_name |= series.drop_name;
                last = value.is_none().then_some((bits, number));
                let count = results[number].floats[step];
                results[number].floats[step] = if is_stale(count) { 1.0 } else { count + 1.0 };
            }
        }
        Ok(results)
    }
}

/// An aggregation under way.
struct Folding<'k> {
    op: AggregateOp,
    key: &'k Key<'k>,
    position: usize,
    steps: usize,
    groups: Groups,
    folds: Vec<Fold>,
}

impl Folding<'_> {
    fn add(&mut self, annotations: &mut Annotations, budget: &mut Budget, labels: &Labels, series: &Series) -> Evaluated<()> {
        budget.spend(self.steps)?;
        let number = self.groups.number(labels, self.key);
        if number == self.folds.len() {
            // A cell is as large as four samples.
            budget.charge(4 * self.steps)?;
            self.folds.push(Fold::new(self.key.of(labels), self.steps));
        }
        let fold = &mut self.folds[number];
        fold.drop_name |= series.drop_name;
        fold.add_floats(self.op, &series.floats);
        for (step, histogram) in series.histograms.iter().flatten().enumerate() {
            if let Some(histogram) = histogram {
                fold.add_histogram(self.op, (step, histogram), labels, self.position, annotations);
            }
        }
        Ok(())
    }
}

/// What has been gathered of one group.
struct Fold {
    labels: Labels,
    drop_name: bool,
    cells: Vec<Cell>,
    histograms: Option<Vec<Option<Box<HistogramFold>>>>,
}

/// What has been gathered of one group at one step; what `first` and `second` are depends on the aggregation.
#[derive(Clone, Copy, Default)]
struct Cell {
    first: f64,
    second: f64,
    count: f64,
    /// An average that has turned incremental.
    incremental: bool,
}

impl Fold {
    fn new(labels: Labels, steps: usize) -> Self {
        Self { labels, drop_name: false, cells: vec![Cell::default(); steps], histograms: None }
    }

    fn add_histogram(
        &mut self,
        op: AggregateOp,
        (step, histogram): (usize, &Arc<Histogram>),
        labels: &Labels,
        position: usize,
        annotations: &mut Annotations,
    ) {
        match op {
            AggregateOp::Count | AggregateOp::Group => self.cells[step].add_one(),
            AggregateOp::Sum | AggregateOp::Avg => {
                let steps = self.cells.len();
                let slot = &mut self.histograms.get_or_insert_with(|| (0..steps).map(|_| None).collect())[step];
                let Some(known) = slot else {
                    *slot = Some(Box::new(HistogramFold::new(op, histogram)));
                    return;
                };
                match known.add(histogram) {
                    Ok(false) => {}
                    Ok(true) => annotations.bounds_reconciled(position, Operation::Aggregation),
                    Err(IncompatibleSchemas) => annotations.mixed_schemas(position, labels.metric_name()),
                }
            }
            _ => annotations.ignored_in_aggregation(position, op.name()),
        }
    }

    fn finish(self, op: AggregateOp, position: usize, annotations: &mut Annotations) -> Series {
        let mut result = Series::absent(self.labels, self.drop_name, self.cells.len());
        let mut histograms = self.histograms.map(Vec::into_iter);
        for (step, cell) in self.cells.into_iter().enumerate() {
            let histogram = histograms.as_mut().and_then(Iterator::next).flatten();
            match (cell.count > 0.0, histogram) {
                (true, Some(_)) => annotations.mixed_in_aggregation(position),
                (true, None) => result.set_float(step, cell.finish(op)),
                (false, Some(histogram)) => {
                    if histogram.reset_seen && histogram.no_reset_seen {
                        annotations.reset_collision(position, Operation::Aggregation);
                    }
                    if let Some(histogram) = histogram.finish() {
                        result.set_histogram(step, Arc::new(histogram));
                    }
                }
                (false, None) => {}
            }
        }
        result
    }

    fn add_floats(&mut self, op: AggregateOp, floats: &[f64]) {
        let add: fn(&mut Cell, f64) = match op {
            AggregateOp::Sum => {
                // The most frequent aggregation has a loop of its own.
                for (cell, value) in self.cells.iter_mut().zip(floats).filter(|(_, value)| !is_stale(**value)) {
                    cell.count += 1.0;
                    (cell.first, cell.second) = kahan_add(*value, cell.first, cell.second);
                }
                return;
            }
            AggregateOp::Avg => Cell::add_to_average,
            AggregateOp::Min => |cell, value| cell.keep(value, |value, best| value < best),
            AggregateOp::Max => |cell, value| cell.keep(value, |value, best| value > best),
            AggregateOp::Stddev | AggregateOp::Stdvar => Cell::add_to_variance,
            _ => |cell, _| cell.add_one(),
        };
        for (cell, value) in self.cells.iter_mut().zip(floats).filter(|(_, value)| !is_stale(**value)) {
            add(cell, *value);
        }
    }
}

impl Cell {
    fn add_one(&mut self) {
        self.count += 1.0;
    }

    fn average(&self) -> FloatAverage {
        FloatAverage { sum: self.first, lost: self.second, count: self.count, incremental: self.incremental }
    }

    fn add_to_average(&mut self, value: f64) {
        let mut average = self.average();
        if self.count == 0.0 {
            average = FloatAverage::new(value);
        } else {
            average.add(value);
        }
        *self = Self { first: average.sum, second: average.lost, count: average.count, incremental: average.incremental };
    }

    fn keep(&mut self, value: f64, better: impl Fn(f64, f64) -> bool) {
        self.count += 1.0;
        if self.count == 1.0 || better(value, self.first) || self.first.is_nan() {
            self.first = value;
        }
    }

    fn add_to_variance(&mut self, value: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.first = if value.is_finite() { 0.0 } else { f64::NAN };
            self.second = value;
            return;
        }
        let delta = value - self.second;
        self.second += delta / self.count;
        self.first += delta * (value - self.second);
    }

    fn finish(self, op: AggregateOp) -> f64 {
        match op {
            AggregateOp::Sum => self.first + self.second,
            AggregateOp::Avg => self.average().finish(),
            AggregateOp::Min | AggregateOp::Max => self.first,
            AggregateOp::Stddev => (self.first / self.count).sqrt(),
            AggregateOp::Stdvar => self.first / self.count,
            AggregateOp::Group => 1.0,
            _ => self.count,
        }
    }
}

enum Gathered {
    Sum(KahanHistogram),
    Average(HistogramAverage),
    /// Exponential and custom histograms met.
    Incompatible,
}

/// The histograms of one group at one step.
struct HistogramFold {
    gathered: Gathered,
    reset_seen: bool,
    no_reset_seen: bool,
}

impl HistogramFold {
    fn new(op: AggregateOp, first: &Histogram) -> Self {
        let gathered = if op == AggregateOp::Sum {
            Gathered::Sum(KahanHistogram::new(first.clone()))
        } else {
            Gathered::Average(HistogramAverage::new(first.clone()))
        };
        let mut fold = Self { gathered, reset_seen: false, no_reset_seen: false };
        fold.note(first.hint);
        fold
    }

    fn note(&mut self, hint: ResetHint) {
        self.reset_seen |= hint == ResetHint::Reset;
        self.no_reset_seen |= hint == ResetHint::NotReset;
    }

    fn add(&mut self, histogram: &Histogram) -> Result<bool, IncompatibleSchemas> {
        let added = match &mut self.gathered {
            Gathered::Incompatible => return Ok(false),
            Gathered::Sum(sum) => sum.add(histogram),
            Gathered::Average(average) => average.add(histogram),
        };
        self.note(histogram.hint);
        added.inspect_err(|_| self.gathered = Gathered::Incompatible)
    }

    fn finish(self) -> Option<Histogram> {
        match self.gathered {
            Gathered::Incompatible => None,
            Gathered::Sum(sum) => Some(sum.finish().compacted()),
            Gathered::Average(average) => Some(average.finish().compacted()),
        }
    }
}
