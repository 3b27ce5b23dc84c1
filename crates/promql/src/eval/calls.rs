//! Calls of functions: which one, and those that give or take scalars and strings.

use super::range::absent_series;
use super::series::{At, Value, merge_equal};
use super::{Evaluated, Evaluator, Grid, Series};
use crate::error::QueryError;
use crate::labels::{METRIC_NAME, anchored, is_label_name, quote};
use crate::number::stale;
use crate::parse::{Expr, ExprKind, ValueType};

impl Evaluator<'_> {
    pub(super) fn call(&mut self, expr: &Expr, grid: Grid) -> Evaluated<Value> {
        let ExprKind::Call { function, args } = &expr.kind else { return Err(QueryError::execution("expected a call")) };
        // Whatever the function makes, it makes at least one value for each step.
        self.budget.charge(grid.steps)?;
        if args.iter().any(|arg| arg.value_type() == ValueType::Matrix) {
            return Ok(Value::Vector(self.range_call(expr, function, args, grid)?));
        }
        if function.returns == ValueType::Scalar {
            return Ok(Value::Scalar(self.scalar_call(function.name, args, grid)?));
        }
        let vector = match function.name {
            "vector" => {
                let mut series = Series::absent(crate::Labels::empty(), false, grid.steps);
                for (step, value) in self.scalar(&args[0], grid)?.into_iter().enumerate() {
                    series.set_float(step, value);
                }
                vec![series]
            }
            "absent" => {
                let vector = self.vector(&args[0], grid)?;
                let absent: Vec<bool> = (0..grid.steps).map(|step| !vector.iter().any(|series| series.has(step))).collect();
                absent_series(&args[0], &absent, grid.steps).into_iter().collect()
            }
            "timestamp" => self.timestamp(&args[0], grid)?,
            "label_replace" => self.label_replace(args, grid)?,
            "label_join" => self.label_join(args, grid)?,
            "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => self.sort(function.name, expr, args, grid)?,
            name if name.starts_with("histogram_") => self.histogram_call(name, args, grid)?,
            name => self.instant_call(name, args, grid)?,
        };
        Ok(Value::Vector(vector))
    }

    fn scalar_call(&mut self, name: &str, args: &[Expr], grid: Grid) -> Evaluated<Vec<f64>> {
        let everywhere = |value: f64| Ok(vec![value; grid.steps]);
        let query = self.query;
        match name {
            "time" => Ok(grid.times().map(|time| time as f64 / 1e3).collect()),
            "pi" => everywhere(std::f64::consts::PI),
            "start" => everywhere(query.start as f64 / 1e3),
            "end" => everywhere(query.end as f64 / 1e3),
            "step" => everywhere(query.step as f64 / 1e3),
            "range" => everywhere((query.end - query.start) as f64 / 1e3),
            "scalar" => {
                let vector = self.vector(&args[0], grid)?;
                Ok((0..grid.steps).map(|step| only_float(&vector, step)).collect())
            }
            "min_of" | "max_of" => {
                let (left, right) = (self.scalar(&args[0], grid)?, self.scalar(&args[1], grid)?);
                let pick = if name == "min_of" { super::instant::min } else { super::instant::max };
                Ok(left.into_iter().zip(right).map(|(a, b)| pick(a, b)).collect())
            }
            _ => Err(QueryError::Unsupported(format!("function {name:?}"))),
        }
    }

    fn timestamp(&mut self, arg: &Expr, grid: Grid) -> Evaluated<Vec<Series>> {
        if let ExprKind::Selector(selector) = &arg.unwrapped().kind {
            return self.select_timestamps(selector, grid);
        }
        let mut vector = self.vector(arg, grid)?;
        for series in &mut vector {
            series.drop_name = true;
            series.floats = (0..grid.steps).map(|step| if series.has(step) { grid.at(step) as f64 / 1e3 } else { stale() }).collect();
            series.histograms = None;
        }
        Ok(vector)
    }

    fn label_replace(&mut self, args: &[Expr], grid: Grid) -> Evaluated<Vec<Series>> {
        let [target, replacement, source, pattern] = [1, 2, 3, 4].map(|i| text(&args[i]));
        let regex =
            anchored(pattern).map_err(|_| QueryError::execution(format!("invalid regular expression in label_replace(): {pattern}")))?;
        check_label("label_replace", "destination", target)?;
        let mut vector = self.vector(&args[0], grid)?;
        let replacement = braced(replacement);
        for series in &mut vector {
            let Some(captures) = regex.captures(series.labels.get(source)) else { continue };
            let mut value = String::new();
            captures.expand(&replacement, &mut value);
            set_label(series, target, &value);
        }
        merge_equal(vector)
    }

    fn label_join(&mut self, args: &[Expr], grid: Grid) -> Evaluated<Vec<Series>> {
        let (target, separator) = (text(&args[1]), text(&args[2]));
        let sources: Vec<&str> = args[3..].iter().map(text).collect();
        for source in &sources {
            check_label("label_join", "source", source)?;
        }
        check_label("label_join", "destination", target)?;
        let mut vector = self.vector(&args[0], grid)?;
        for series in &mut vector {
            let values: Vec<&str> = sources.iter().map(|source| series.labels.get(source)).collect();
            let value = values.join(separator);
            set_label(series, target, &value);
        }
        merge_equal(vector)
    }

    fn sort(&mut self, name: &str, call: &Expr, args: &[Expr], grid: Grid) -> Evaluated<Vec<Series>> {
        let mut vector = self.vector(&args[0], grid)?;
        let by_label = name.starts_with("sort_by_label");
        if !by_label {
            vector.iter_mut().for_each(|series| series.histograms = None);
            vector.retain(|series| !series.is_empty());
        }
        if grid.steps != 1 {
            if self.query.start != self.query.end {
                self.annotations.sort_in_range(call.start);
            }
            return Ok(vector);
        }
        let descending = name.ends_with("desc");
        if by_label {
            let labels: Vec<&str> = args[1..].iter().map(text).collect();
            vector.sort_by(|a, b| {
                let by_given = labels.iter().map(|label| super::topk::natural_order(a.labels.get(label), b.labels.get(label)));
                let order = by_given.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then).then_with(|| a.labels.cmp(&b.labels));
                if descending { order.reverse() } else { order }
            });
        } else {
            vector.sort_by(|a, b| super::topk::value_order(a.floats[0], b.floats[0], descending));
        }
        Ok(vector)
    }
}

/// The one float of a step, or NaN.
fn only_float(vector: &[Series], step: usize) -> f64 {
    let mut floats = vector.iter().filter_map(|series| match series.at(step) {
        At::Float(value) => Some(value),
        _ => None,
    });
    match (floats.next(), floats.next()) {
        (Some(value), None) => value,
        _ => f64::NAN,
    }
}

/// The text of a string argument; the parser has checked that it is one.
pub(super) fn text(expr: &Expr) -> &str {
    match &expr.unwrapped().kind {
        ExprKind::String(text) => text,
        _ => "",
    }
}

fn check_label(function: &str, role: &str, name: &str) -> Evaluated<()> {
    if !is_label_name(name) {
        let name = quote(name);
        let name = &name[1..name.len() - 1];
        return Err(QueryError::execution(format!("invalid {role} label name in {function}(): {name}")));
    }
    Ok(())
}

fn set_label(series: &mut Series, name: &str, value: &str) {
    let mut builder = series.labels.builder();
    builder.set(name, value);
    series.labels = builder.build();
    if name == METRIC_NAME {
        series.drop_name = false;
    }
}

/// Puts braces around the group references of a replacement.
///
/// The regex crate reads `$1x` as a group named `1x`, as Go does, but it also takes a `$` that refers to nothing literally;
/// Go drops a reference to a group that does not exist, which the crate does too once it is in braces.
fn braced(replacement: &str) -> String {
    let mut text = String::with_capacity(replacement.len() + 8);
    let mut rest = replacement;
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            text.push_str("$$");
            rest = after;
            continue;
        }
        if rest.starts_with('{') {
            text.push('$');
            continue;
        }
        let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if length == 0 {
            text.push_str("$$");
        } else {
            text.push_str(&format!("${{{}}}", &rest[..length]));
        }
        rest = &rest[length..];
    }
    text.push_str(rest);
    text
}
