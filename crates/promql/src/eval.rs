//! Evaluation of a whole grid of steps at once.
//!
//! An instant vector is a list of [`Series`], each with one place for every step of the [`Grid`]. Where a series has no
//! sample at a step, the place holds the staleness marker, which no computation can produce.

mod aggregate;
mod average;
mod binary;
mod budget;
mod calls;
mod classic;
mod extended;
mod histograms;
mod instant;
mod matching;
mod range;
mod rate;
mod select;
mod series;
mod stream;
mod topk;
mod window;

pub(crate) use budget::Budget;
pub(crate) use select::mark_stats_only;
pub(crate) use series::{Grid, Series, Value, finish_instant, finish_range};

use crate::annotations::Annotations;
use crate::engine::{Answer, MatrixSeries, Options};
use crate::error::QueryError;
use crate::parse::{Expr, ExprKind, Extent};
use crate::storage::Storage;

/// The range of the query as it was asked; an instant query has no step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueryRange {
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) step: i64,
}

/// Evaluates one prepared expression.
pub(crate) struct Evaluator<'a> {
    storage: &'a dyn Storage,
    options: &'a Options,
    query: QueryRange,
    annotations: Annotations,
    budget: Budget,
}

type Evaluated<T> = Result<T, QueryError>;

impl<'a> Evaluator<'a> {
    pub(crate) fn new(storage: &'a dyn Storage, options: &'a Options, query: QueryRange, budget: Budget) -> Self {
        Self { storage, options, query, annotations: Annotations::default(), budget }
    }

    pub(crate) fn answer(self, value: crate::engine::Value) -> Answer {
        Answer { value, annotations: self.annotations, samples_peak: self.budget.peak() }
    }

    /// The value of an expression at every step.
    pub(crate) fn eval(&mut self, expr: &Expr, grid: Grid) -> Evaluated<Value> {
        self.budget.check()?;
        if grid.steps > 1 && !is_literal(expr) && is_step_invariant(expr) {
            let once = self.eval_node(expr, Grid::instant(grid.start))?;
            return self.repeat(once, grid);
        }
        self.eval_node(expr, grid)
    }

    fn eval_node(&mut self, expr: &Expr, grid: Grid) -> Evaluated<Value> {
        match &expr.kind {
            ExprKind::Number(value) => {
                self.budget.charge(grid.steps)?;
                Ok(Value::Scalar(vec![*value; grid.steps]))
            }
            ExprKind::String(text) => Ok(Value::String(text.clone())),
            ExprKind::Paren(inner) => self.eval(inner, grid),
            ExprKind::Unary { negative, expr } => self.unary(*negative, expr, grid),
            ExprKind::Selector(selector) => Ok(Value::Vector(self.select_instant(selector, grid)?)),
            ExprKind::Matrix { .. } | ExprKind::Subquery { .. } => {
                Err(QueryError::execution("a range vector is only allowed as the argument of a function"))
            }
            ExprKind::Call { .. } => self.call(expr, grid),
            ExprKind::Aggregate { .. } => Ok(Value::Vector(self.aggregate(expr, grid)?)),
            ExprKind::Binary { .. } => self.binary(expr, grid),
        }
    }

    fn unary(&mut self, negative: bool, expr: &Expr, grid: Grid) -> Evaluated<Value> {
        let mut value = self.eval(expr, grid)?;
        if !negative {
            return Ok(value);
        }
        match &mut value {
            Value::Scalar(values) => values.iter_mut().for_each(|value| *value = -*value),
            Value::Vector(vector) => {
                for series in vector {
                    series.drop_name = true;
                    series.map_floats(|value| -value);
                    series.map_histograms(|histogram| histogram.multiply(-1.0));
                }
            }
            Value::String(_) => {}
        }
        Ok(value)
    }

    /// A value that was evaluated for one step, for all of them.
    fn repeat(&mut self, value: Value, grid: Grid) -> Evaluated<Value> {
        Ok(match value {
            Value::Scalar(values) => Value::Scalar(vec![values.first().copied().unwrap_or(f64::NAN); grid.steps]),
            Value::String(text) => Value::String(text),
            Value::Vector(vector) => {
                self.budget.charge(vector.len() * (grid.steps - 1))?;
                Value::Vector(vector.into_iter().map(|series| series.repeated(grid.steps)).collect())
            }
        })
    }

    fn vector(&mut self, expr: &Expr, grid: Grid) -> Evaluated<Vec<Series>> {
        match self.eval(expr, grid)? {
            Value::Vector(vector) => Ok(vector),
            _ => Err(QueryError::execution(format!("expected an instant vector, got another value for {expr}"))),
        }
    }

    fn scalar(&mut self, expr: &Expr, grid: Grid) -> Evaluated<Vec<f64>> {
        match self.eval(expr, grid)? {
            Value::Scalar(values) => Ok(values),
            _ => Err(QueryError::execution(format!("expected a scalar, got another value for {expr}"))),
        }
    }

    /// The samples of a range selector or a subquery at the one step of `grid`.
    pub(crate) fn matrix(&mut self, expr: &Expr, grid: Grid) -> Evaluated<Vec<MatrixSeries>> {
        let source = self.range_source(expr, grid)?;
        if source.windows.extent != Extent::Plain {
            return Err(QueryError::Unsupported("range vector of an anchored or smoothed selector".to_owned()));
        }
        let mut matrix: Vec<MatrixSeries> = Vec::new();
        for series in &source.series {
            series::collect_window(series, source.windows.window(grid, 0), &mut matrix);
        }
        matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(matrix)
    }
}

fn is_literal(expr: &Expr) -> bool {
    matches!(expr.unwrapped().kind, ExprKind::Number(_) | ExprKind::String(_))
}

/// Functions whose result depends on the time of the evaluation even when their arguments do not.
const TIME_DEPENDENT: [&str; 11] = [
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "time",
    "timestamp",
    "year",
];

/// Whether an expression has the same value at every step, so that once is enough.
fn is_step_invariant(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) => true,
        ExprKind::Selector(selector) | ExprKind::Matrix { selector, .. } => selector.at.is_some(),
        ExprKind::Subquery { at, .. } => at.is_some(),
        ExprKind::Call { function, .. } if TIME_DEPENDENT.contains(&function.name) => false,
        _ => expr.children().into_iter().all(is_step_invariant),
    }
}
