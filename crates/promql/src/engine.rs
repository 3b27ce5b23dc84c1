//! Running a query: limits, preparation, and the answer in the form that leaves this crate.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::annotations::Annotations;
use crate::error::{ParseError, QueryError};
use crate::eval::{self, Budget, Evaluator, Grid, QueryRange};
use crate::histogram::Histogram;
use crate::labels::Labels;
use crate::parse::{Expr, ExprKind, ValueType, parse};
use crate::storage::Storage;

/// How queries are evaluated and what they may cost.
#[derive(Clone, Debug)]
pub struct Options {
    /// How far back an instant selector looks for a sample, in milliseconds. Default 5 minutes.
    pub lookback_ms: i64,
    /// The step of a subquery that names none, in milliseconds. Default 1 minute.
    pub subquery_step_ms: i64,
    /// How many samples a query may hold in memory at once. Default 50 million.
    pub samples_max: usize,
    /// How many steps a range query may have. Default 11,000, as in Prometheus.
    pub steps_max: usize,
    /// How long a query may take. Default 2 minutes.
    pub timeout: Duration,
    /// Whether experimental functions and syntax are allowed. Default no.
    pub experimental: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lookback_ms: 300_000,
            subquery_step_ms: 60_000,
            samples_max: 50_000_000,
            steps_max: 11_000,
            timeout: Duration::from_secs(120),
            experimental: false,
        }
    }
}

/// A float or a histogram.
#[derive(Clone, Debug, PartialEq)]
pub enum Point {
    Float(f64),
    Histogram(Arc<Histogram>),
}

/// One element of an instant vector.
#[derive(Clone, Debug)]
pub struct InstantSample {
    pub labels: Labels,
    pub value: Point,
}

/// One series of a matrix, in time order (milliseconds).
#[derive(Clone, Debug)]
pub struct MatrixSeries {
    pub labels: Labels,
    pub floats: Vec<(i64, f64)>,
    pub histograms: Vec<(i64, Arc<Histogram>)>,
}

/// What a query evaluates to.
#[derive(Clone, Debug)]
pub enum Value {
    Scalar(f64),
    String(String),
    /// In the order of the query, which is meaningful after `sort` or `topk`.
    Vector(Vec<InstantSample>),
    /// Sorted by labels.
    Matrix(Vec<MatrixSeries>),
}

/// The value of a query and what is to be remarked about it.
#[derive(Clone, Debug)]
pub struct Answer {
    pub value: Value,
    pub annotations: Annotations,
    /// The most samples held at once.
    pub samples_peak: usize,
}

/// Evaluates queries. Cheap to make; holds no state between queries.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    options: Options,
}

impl Engine {
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Parses an expression under this engine's options, to evaluate it more than once.
    pub fn parse(&self, query: &str) -> Result<Expr, ParseError> {
        parse(query, self.options.experimental)
    }

    /// Evaluates at one moment (milliseconds).
    pub fn instant(&self, storage: &dyn Storage, query: &str, at_ms: i64) -> Result<Answer, QueryError> {
        self.instant_expr(storage, &self.parse(query)?, at_ms, None)
    }

    /// Evaluates at every step from `start_ms` to `end_ms`.
    pub fn range(&self, storage: &dyn Storage, query: &str, start_ms: i64, end_ms: i64, step_ms: i64) -> Result<Answer, QueryError> {
        self.range_expr(storage, &self.parse(query)?, Range { start_ms, end_ms, step_ms }, None)
    }

    /// Evaluates a parsed expression at one moment; setting `cancel` ends it early.
    pub fn instant_expr(
        &self,
        storage: &dyn Storage,
        expr: &Expr,
        at_ms: i64,
        cancel: Option<Arc<AtomicBool>>,
    ) -> Result<Answer, QueryError> {
        let query = QueryRange { start: at_ms, end: at_ms, step: 0 };
        let expr = prepare(expr, query)?;
        let mut evaluator = self.evaluator(storage, query, cancel);
        let value = match &expr.unwrapped().kind {
            ExprKind::Matrix { .. } | ExprKind::Subquery { .. } => Value::Matrix(evaluator.matrix(expr.unwrapped(), Grid::instant(at_ms))?),
            _ => match evaluator.eval(&expr, Grid::instant(at_ms))? {
                eval::Value::Scalar(values) => Value::Scalar(values.first().copied().unwrap_or(f64::NAN)),
                eval::Value::String(text) => Value::String(text),
                eval::Value::Vector(series) => Value::Vector(eval::finish_instant(series)?),
            },
        };
        Ok(evaluator.answer(value))
    }

    /// Evaluates a parsed expression over a range; setting `cancel` ends it early.
    pub fn range_expr(
        &self,
        storage: &dyn Storage,
        expr: &Expr,
        range: Range,
        cancel: Option<Arc<AtomicBool>>,
    ) -> Result<Answer, QueryError> {
        let kind = expr.value_type();
        if kind != ValueType::Scalar && kind != ValueType::Vector {
            let message = format!("invalid expression type {:?} for range query, must be Scalar or instant Vector", kind.text());
            return Err(QueryError::Parse(ParseError::new(expr.start, message)));
        }
        let grid = range.grid(self.options.steps_max)?;
        let query = QueryRange { start: range.start_ms, end: range.end_ms, step: range.step_ms };
        let expr = prepare(expr, query)?;
        let mut evaluator = self.evaluator(storage, query, cancel);
        let value = evaluator.eval(&expr, grid)?;
        let matrix = eval::finish_range(value, grid)?;
        Ok(evaluator.answer(Value::Matrix(matrix)))
    }

    fn evaluator<'a>(&'a self, storage: &'a dyn Storage, query: QueryRange, cancel: Option<Arc<AtomicBool>>) -> Evaluator<'a> {
        let budget = Budget::new(self.options.samples_max, self.options.timeout, cancel);
        Evaluator::new(storage, &self.options, query, budget)
    }
}

/// The moments of a range query, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub start_ms: i64,
    pub end_ms: i64,
    pub step_ms: i64,
}

impl Range {
    fn grid(self, steps_max: usize) -> Result<Grid, QueryError> {
        if self.step_ms <= 0 {
            let message = "zero or negative query resolution step widths are not accepted. Try a positive integer";
            return Err(QueryError::execution(message));
        }
        if self.end_ms < self.start_ms {
            return Err(QueryError::execution("end timestamp must not be before start time"));
        }
        let grid = Grid::new(self.start_ms, self.end_ms, self.step_ms);
        if grid.steps > steps_max {
            let message = format!(
                "exceeded maximum resolution of {steps_max} points per timeseries. \
                 Try decreasing the query resolution (?step=XX)"
            );
            return Err(QueryError::execution(message));
        }
        Ok(grid)
    }
}

/// A copy of the expression in which everything that depends on the query's range is settled.
fn prepare(expr: &Expr, query: QueryRange) -> Result<Expr, QueryError> {
    let mut expr = expr.clone();
    crate::parse::resolve(&mut expr, query.step, query.end - query.start).map_err(QueryError::execution)?;
    eval::mark_stats_only(&mut expr);
    Ok(expr)
}
