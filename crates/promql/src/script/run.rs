//! Running the commands of a file.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::command::{CommandKind, Eval, Load, When, commands};
use super::compare::{check_annotations, check_value, describe};
use crate::engine::{Answer, Engine, InstantSample, Options, Point, Range, Value};
use crate::error::QueryError;
use crate::histogram::{CUSTOM_BUCKETS, Histogram};
use crate::labels::{BUCKET, Labels, METRIC_NAME};
use crate::number::{is_stale, parse_float};
use crate::parse::{At, Expr, ExprKind};
use crate::storage::{MemoryStorage, SampleValue};

/// A statement that did not do what it should.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The line (from 1) on which the statement begins.
    pub line: usize,
    pub expr: String,
    pub message: String,
}

/// What came of a file. Only evaluations are counted.
#[derive(Clone, Debug, Default)]
pub struct FileReport {
    pub name: String,
    pub passed: usize,
    pub failed: usize,
    /// Evaluations that need something experimental that is not implemented.
    pub unsupported: usize,
    pub failures: Vec<Failure>,
    /// What was not supported, by line.
    pub unsupported_parts: Vec<Failure>,
}

/// Runs a test file. Experimental parts of the language are allowed, as in the project's own tests.
pub fn run_test_file(text: &str, name: &str) -> FileReport {
    let engine = Engine::new(Options { experimental: true, samples_max: 5_000_000, ..Options::default() });
    let storage = MemoryStorage::new();
    let mut report = FileReport { name: name.to_owned(), ..FileReport::default() };
    // Data that could not be loaded makes everything after it meaningless, until it is cleared.
    let mut lost: Option<String> = None;
    for command in commands(text) {
        let (expr, outcome) = match command.kind {
            CommandKind::Clear => {
                storage.clear();
                lost = None;
                continue;
            }
            CommandKind::Load(load) => {
                store(&storage, &load);
                continue;
            }
            CommandKind::Broken(message) => (String::new(), Err(Problem::Wrong(message))),
            CommandKind::Unsupported(what) => {
                lost = Some(what);
                continue;
            }
            CommandKind::Eval(eval) => {
                let outcome = match &lost {
                    Some(what) => Err(Problem::Unsupported(what.clone())),
                    None => evaluate(&engine, &storage, &eval),
                };
                (eval.expr, outcome)
            }
        };
        match outcome {
            Ok(()) => report.passed += 1,
            Err(Problem::Wrong(message)) => {
                report.failed += 1;
                report.failures.push(Failure { line: command.line, expr, message });
            }
            Err(Problem::Unsupported(message)) => {
                report.unsupported += 1;
                report.unsupported_parts.push(Failure { line: command.line, expr, message });
            }
        }
    }
    report
}

enum Problem {
    Wrong(String),
    Unsupported(String),
}

impl From<String> for Problem {
    fn from(message: String) -> Self {
        Self::Wrong(message)
    }
}

fn store(storage: &MemoryStorage, load: &Load) {
    // Of two lines with the same labels the last counts.
    let mut lines: BTreeMap<Labels, Vec<(i64, SampleValue)>> = BTreeMap::new();
    for (labels, values) in &load.series {
        let samples = values.iter().enumerate().filter_map(|(i, value)| Some((load.step_ms * i as i64, value.sample()?)));
        lines.insert(labels.clone(), samples.collect());
    }
    if load.with_nhcb {
        for (labels, samples) in custom_histograms(&lines) {
            storage.append(&labels, samples);
        }
    }
    for (labels, samples) in lines {
        storage.append(&labels, samples);
    }
}

/// A classic histogram at one moment.
#[derive(Default)]
struct Classic {
    /// Cumulative, by bound.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

/// Classic histograms as native ones with custom bounds.
fn custom_histograms(lines: &BTreeMap<Labels, Vec<(i64, SampleValue)>>) -> Vec<(Labels, Vec<(i64, SampleValue)>)> {
    let mut found: HashMap<Labels, BTreeMap<i64, Classic>> = HashMap::new();
    for (labels, samples) in lines {
        let name = labels.metric_name();
        let Some((base, suffix)) = ["_bucket", "_count", "_sum"].iter().find_map(|s| Some((name.strip_suffix(s)?, *s))) else { continue };
        let bound = parse_float(labels.get(BUCKET)).filter(|bound| !bound.is_nan());
        if suffix == "_bucket" && bound.is_none() {
            continue;
        }
        let mut builder = labels.builder();
        builder.set(METRIC_NAME, base);
        builder.set(BUCKET, "");
        let moments = found.entry(builder.build()).or_default();
        for (time, value) in samples {
            let SampleValue::Float(value) = value else { continue };
            let classic = moments.entry(*time).or_default();
            match (suffix, bound) {
                ("_bucket", Some(bound)) if !classic.buckets.iter().any(|(known, _)| *known == bound) => {
                    classic.buckets.push((bound, *value));
                }
                ("_count", _) => classic.count = Some(*value),
                ("_sum", _) => classic.sum = *value,
                _ => {}
            }
        }
    }
    let convert = |moments: BTreeMap<i64, Classic>| {
        moments.into_iter().filter_map(|(time, classic)| Some((time, SampleValue::Histogram(Arc::new(classic.convert()?))))).collect()
    };
    found.into_iter().map(|(labels, moments)| (labels, convert(moments))).collect()
}

impl Classic {
    fn convert(mut self) -> Option<Histogram> {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let count = self.count.or_else(|| self.buckets.last().map(|bucket| bucket.1)).filter(|count| !is_stale(*count))?;
        if self.buckets.last().is_none_or(|last| last.0 != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let mut before = 0.0;
        let mut positive = Vec::with_capacity(self.buckets.len());
        for (i, (_, cumulative)) in self.buckets.iter().enumerate() {
            if *cumulative < before || cumulative.is_nan() {
                return None;
            }
            positive.push((i32::try_from(i).ok()?, cumulative - before));
            before = *cumulative;
        }
        let custom_values = self.buckets[..self.buckets.len() - 1].iter().map(|bucket| bucket.0).collect();
        let histogram = Histogram { schema: CUSTOM_BUCKETS, count, sum: self.sum, positive, custom_values, ..Histogram::default() };
        Some(histogram.compacted())
    }
}

fn evaluate(engine: &Engine, storage: &MemoryStorage, eval: &Eval) -> Result<(), Problem> {
    let expr = match engine.parse(&eval.expr) {
        Ok(expr) => expr,
        Err(err) => return check_outcome(Err(err.into()), eval).map(|_| ()),
    };
    match eval.when {
        When::Range { start, end, step } => {
            let range = Range { start_ms: start, end_ms: end, step_ms: step };
            if let Some(answer) = check_outcome(engine.range_expr(storage, &expr, range, None), eval)? {
                check_annotations(&answer, &eval.expected, &eval.expr)?;
                check_value(&answer.value, &eval.expected, eval.when)?;
            }
            Ok(())
        }
        When::Instant(at) => {
            evaluate_instant(engine, storage, eval, &expr, at)?;
            if depends_on_time(&expr) {
                return Ok(());
            }
            let mut pinned = expr.clone();
            pin(&mut pinned, at);
            let others = if at == 0 { vec![-1_000, 0, 1_000] } else { vec![-10 * at, 0, at / 5, at, 10 * at] };
            for other in others {
                evaluate_instant(engine, storage, eval, &pinned, other).map_err(|problem| match problem {
                    Problem::Wrong(message) => Problem::Wrong(format!("pinned with @ and evaluated at {other} ms: {message}")),
                    unsupported => unsupported,
                })?;
            }
            Ok(())
        }
    }
}

/// The answer if there should be one, nothing if the failure is the expected one.
fn check_outcome(outcome: Result<Answer, QueryError>, eval: &Eval) -> Result<Option<Answer>, Problem> {
    match (outcome, &eval.expected.fail) {
        (Err(err), _) if err.unsupported().is_some() => Err(Problem::Unsupported(err.unsupported().unwrap_or_default().to_owned())),
        (Ok(answer), None) => Ok(Some(answer)),
        (Ok(_), Some(_)) => Err(Problem::Wrong("expected a failure, got an answer".to_owned())),
        (Err(err), None) => Err(Problem::Wrong(format!("failed to evaluate: {err}"))),
        (Err(err), Some(wanted)) if wanted.accepts(&err.to_string()) => Ok(None),
        (Err(err), Some(wanted)) => Err(Problem::Wrong(format!("expected failure {}, got {err}", describe(wanted)))),
    }
}

fn evaluate_instant(engine: &Engine, storage: &MemoryStorage, eval: &Eval, expr: &Expr, at: i64) -> Result<(), Problem> {
    let Some(answer) = check_outcome(engine.instant_expr(storage, expr, at, None), eval)? else { return Ok(()) };
    check_annotations(&answer, &eval.expected, &eval.expr)?;
    check_value(&answer.value, &eval.expected, When::Instant(at))?;
    let skip = eval.expected.ordered || eval.expected.string.is_some() || eval.expected.matrix.is_some();
    if skip || matches!(answer.value, Value::Matrix(_)) || depends_on_query(expr) {
        return Ok(());
    }
    let range = Range { start_ms: at - 60_000, end_ms: at + 60_000, step_ms: 60_000 };
    let wrong = |message: String| Problem::Wrong(format!("as the middle of a range: {message}"));
    let ranged = engine.range_expr(storage, expr, range, None).map_err(|err| wrong(err.to_string()))?;
    let Value::Matrix(matrix) = ranged.value else { return Err(wrong("expected a matrix".to_owned())) };
    let middle = matrix.into_iter().filter_map(|series| {
        let float = series.floats.iter().find(|(time, _)| *time == at).map(|(_, value)| Point::Float(*value));
        let histogram = || series.histograms.iter().find(|(time, _)| *time == at).map(|(_, h)| Point::Histogram(h.clone()));
        Some(InstantSample { labels: series.labels.clone(), value: float.or_else(histogram)? })
    });
    let middle: Vec<InstantSample> = middle.collect();
    let value = match (&answer.value, middle.first()) {
        (Value::Scalar(_), Some(InstantSample { value: Point::Float(value), .. })) => Value::Scalar(*value),
        _ => Value::Vector(middle),
    };
    check_value(&value, &eval.expected, When::Instant(at)).map_err(wrong)
}

fn any_call(expr: &Expr, test: fn(&str) -> bool) -> bool {
    let here = matches!(&expr.kind, ExprKind::Call { function, .. } if test(function.name));
    here || expr.children().into_iter().any(|child| any_call(child, test))
}

/// Whether the value changes with the time of evaluation even when all selectors are pinned.
fn depends_on_time(expr: &Expr) -> bool {
    const CALENDAR: [&str; 8] = ["day_of_month", "day_of_week", "day_of_year", "days_in_month", "hour", "minute", "month", "year"];
    any_call(expr, |name| CALENDAR.contains(&name) || matches!(name, "time" | "timestamp" | "predict_linear")) || depends_on_query(expr)
}

fn depends_on_query(expr: &Expr) -> bool {
    let bound = |at: &Option<At>| matches!(at, Some(At::Start | At::End));
    let selectors = expr.selectors().into_iter().any(|selector| bound(&selector.at));
    let here = matches!(&expr.kind, ExprKind::Subquery { at, .. } if bound(at));
    selectors || here || any_call(expr, |name| matches!(name, "start" | "end" | "range" | "step")) || has_computed_span(expr)
}

fn has_computed_span(expr: &Expr) -> bool {
    use crate::parse::Span;
    let computed = |span: &Span| matches!(span, Span::Computed(_));
    let here = match &expr.kind {
        ExprKind::Selector(selector) => computed(&selector.offset),
        ExprKind::Matrix { selector, range } => computed(&selector.offset) || computed(range),
        ExprKind::Subquery { range, step, offset, .. } => computed(range) || computed(offset) || step.as_ref().is_some_and(computed),
        _ => false,
    };
    here || expr.children().into_iter().any(has_computed_span)
}

/// Pins every selector and subquery that is not pinned yet; what is inside a subquery stays.
fn pin(expr: &mut Expr, at: i64) {
    match &mut expr.kind {
        ExprKind::Selector(selector) | ExprKind::Matrix { selector, .. } => {
            selector.at.get_or_insert(At::Ms(at));
        }
        ExprKind::Subquery { at: pinned, .. } => {
            pinned.get_or_insert(At::Ms(at));
        }
        _ => expr.children_mut().into_iter().for_each(|child| pin(child, at)),
    }
}
