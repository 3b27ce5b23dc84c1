//! Functions that change each float of an instant vector by itself.

use super::{Evaluated, Evaluator, Grid, Series};
use crate::Labels;
use crate::error::QueryError;
use crate::number::is_stale;
use crate::parse::Expr;
use crate::time::Civil;

/// The larger of two numbers; NaN if one is.
pub(super) fn max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// The smaller of two numbers; NaN if one is.
pub(super) fn min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

impl Evaluator<'_> {
    pub(super) fn instant_call(&mut self, name: &str, args: &[Expr], grid: Grid) -> Evaluated<Vec<Series>> {
        if let Some(part) = calendar(name) {
            return self.calendar_call(part, args, grid);
        }
        let mut vector = self.vector(&args[0], grid)?;
        let mut params = Vec::with_capacity(args.len() - 1);
        for arg in &args[1..] {
            params.push(self.scalar(arg, grid)?);
        }
        for series in &mut vector {
            self.budget.spend(grid.steps)?;
            series.drop_name = true;
            series.histograms = None;
            if let Some(change) = simple(name) {
                series.map_floats(change);
                continue;
            }
            for step in 0..grid.steps {
                let value = series.floats[step];
                if is_stale(value) {
                    continue;
                }
                let at = |i: usize, otherwise: f64| params.get(i).map_or(otherwise, |values: &Vec<f64>| values[step]);
                let bounds = match name {
                    "round" => {
                        series.set_float(step, round(value, at(0, 1.0)));
                        continue;
                    }
                    "clamp" => (at(0, f64::NAN), at(1, f64::NAN)),
                    "clamp_min" => (at(0, f64::NAN), f64::INFINITY),
                    "clamp_max" => (f64::NEG_INFINITY, at(0, f64::NAN)),
                    _ => return Err(QueryError::Unsupported(format!("function {name:?}"))),
                };
                if bounds.1 < bounds.0 {
                    series.clear(step);
                } else {
                    series.set_float(step, max(bounds.0, min(bounds.1, value)));
                }
            }
        }
        vector.retain(|series| !series.is_empty());
        Ok(vector)
    }

    fn calendar_call(&mut self, part: fn(&Civil) -> i64, args: &[Expr], grid: Grid) -> Evaluated<Vec<Series>> {
        let Some(arg) = args.first() else {
            let mut series = Series::absent(Labels::empty(), false, grid.steps);
            for (step, time) in grid.times().enumerate() {
                series.set_float(step, part(&Civil::from_seconds(time / 1_000)) as f64);
            }
            return Ok(vec![series]);
        };
        let mut vector = self.vector(arg, grid)?;
        for series in &mut vector {
            self.budget.spend(grid.steps)?;
            series.drop_name = true;
            series.histograms = None;
            series.map_floats(|value| part(&Civil::from_seconds(value as i64)) as f64);
        }
        vector.retain(|series| !series.is_empty());
        Ok(vector)
    }
}

fn calendar(name: &str) -> Option<fn(&Civil) -> i64> {
    Some(match name {
        "year" => |civil| civil.year,
        "month" => |civil| civil.month,
        "day_of_month" => |civil| civil.day,
        "day_of_week" => Civil::weekday,
        "day_of_year" => Civil::day_of_year,
        "days_in_month" => Civil::days_in_month,
        "hour" => |civil| civil.hour,
        "minute" => |civil| civil.minute,
        _ => return None,
    })
}

fn simple(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "ceil" => f64::ceil,
        "floor" => f64::floor,
        "exp" => f64::exp,
        "sqrt" => f64::sqrt,
        "ln" => f64::ln,
        "log2" => f64::log2,
        "log10" => f64::log10,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        "asin" => f64::asin,
        "acos" => f64::acos,
        "atan" => f64::atan,
        "sinh" => f64::sinh,
        "cosh" => f64::cosh,
        "tanh" => f64::tanh,
        "asinh" => f64::asinh,
        "acosh" => f64::acosh,
        "atanh" => f64::atanh,
        "rad" => |value| value * std::f64::consts::PI / 180.0,
        "deg" => |value| value * 180.0 / std::f64::consts::PI,
        "sgn" => |value| {
            if value > 0.0 {
                1.0
            } else if value < 0.0 {
                -1.0
            } else {
                value
            }
        },
        _ => return None,
    })
}

/// Rounds to a multiple; halves go up. Dividing by the inverse keeps decimal multiples exact more often.
fn round(value: f64, multiple: f64) -> f64 {
    let inverse = 1.0 / multiple;
    (value * inverse + 0.5).floor() / inverse
}
