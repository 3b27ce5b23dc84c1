//! Experimental: durations that are computed, such as `[5m + step()]`.

use super::ast::{Expr, ExprKind, Span};

#[derive(Clone, Debug)]
pub enum DurationExpr {
    Seconds(f64),
    Step,
    Range,
    Negate(Box<DurationExpr>),
    Binary(char, Box<DurationExpr>, Box<DurationExpr>),
    Smaller(Box<DurationExpr>, Box<DurationExpr>),
    Larger(Box<DurationExpr>, Box<DurationExpr>),
}

/// The step and the range of the query, in seconds.
#[derive(Clone, Copy)]
struct Context {
    step: f64,
    range: f64,
}

impl DurationExpr {
    fn seconds(&self, context: Context) -> Result<f64, String> {
        Ok(match self {
            Self::Seconds(seconds) => *seconds,
            Self::Step => context.step,
            Self::Range => context.range,
            Self::Negate(inner) => -inner.seconds(context)?,
            Self::Smaller(a, b) => a.seconds(context)?.min(b.seconds(context)?),
            Self::Larger(a, b) => a.seconds(context)?.max(b.seconds(context)?),
            Self::Binary(op, a, b) => {
                let (a, b) = (a.seconds(context)?, b.seconds(context)?);
                match op {
                    '+' => a + b,
                    '-' => a - b,
                    '*' => a * b,
                    '^' => a.powf(b),
                    '/' if b == 0.0 => return Err("division by zero".to_owned()),
                    '%' if b == 0.0 => return Err("modulo by zero".to_owned()),
                    '/' => a / b,
                    _ => a % b,
                }
            }
        })
    }
}

/// Replaces every computed span of an expression by its milliseconds.
pub(crate) fn resolve(expr: &mut Expr, step_ms: i64, range_ms: i64) -> Result<(), String> {
    let context = Context { step: step_ms as f64 / 1e3, range: range_ms as f64 / 1e3 };
    resolve_in(expr, context)
}

fn resolve_in(expr: &mut Expr, context: Context) -> Result<(), String> {
    match &mut expr.kind {
        ExprKind::Selector(selector) => settle(&mut selector.offset, context, true)?,
        ExprKind::Matrix { selector, range } => {
            settle(&mut selector.offset, context, true)?;
            settle(range, context, false)?;
        }
        ExprKind::Subquery { range, step, offset, .. } => {
            settle(offset, context, true)?;
            settle(range, context, false)?;
            if let Some(step) = step {
                settle(step, context, false)?;
            }
        }
        _ => {}
    }
    expr.children_mut().into_iter().try_for_each(|child| resolve_in(child, context))
}

fn settle(span: &mut Span, context: Context, may_be_negative: bool) -> Result<(), String> {
    let Span::Computed(computed) = span else { return Ok(()) };
    let seconds = computed.seconds(context)?;
    if !seconds.is_finite() || seconds.abs() > i64::MAX as f64 / 1e9 {
        return Err("duration out of range".to_owned());
    }
    if seconds <= 0.0 && !may_be_negative {
        return Err("duration must be greater than 0".to_owned());
    }
    *span = Span::Ms((seconds * 1e3).round() as i64);
    Ok(())
}
