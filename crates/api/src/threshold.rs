//! The number an alert's value is compared with.

use paramedic_promql::parse::{BinaryOp, Expr, ExprKind, parse};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `value > 0.05` at the top of an expression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Threshold {
    /// `>`, `>=`, `<`, `<=`, `==` or `!=`, with the value on its left.
    pub op: String,
    pub value: f64,
    /// What is compared: an expression that has a value also while the alert does not fire.
    pub measured: String,
}

/// Finds the comparison with a number at the top of an expression; under `and`, `unless` and `or` the one on the left.
#[must_use]
pub fn threshold_of(expression: &str) -> Option<Threshold> {
    let expr = parse(expression, true).ok()?;
    search(expression, &expr)
}

fn search(text: &str, expr: &Expr) -> Option<Threshold> {
    let ExprKind::Binary { op, left, right, .. } = &expr.unwrapped().kind else { return None };
    if op.is_set() {
        return search(text, left).or_else(|| if *op == BinaryOp::Unless { None } else { search(text, right) });
    }
    if !op.is_comparison() {
        return None;
    }
    let part = |expr: &Expr| text.get(expr.start..expr.end).map(|part| part.trim().to_owned());
    match (number(left), number(right)) {
        (None, Some(value)) => Some(Threshold { op: op.text().to_owned(), value, measured: part(left)? }),
        (Some(value), None) => Some(Threshold { op: mirrored(*op).to_owned(), value, measured: part(right)? }),
        _ => None,
    }
}

const fn mirrored(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Greater => "<",
        BinaryOp::Less => ">",
        BinaryOp::GreaterEqual => "<=",
        BinaryOp::LessEqual => ">=",
        BinaryOp::NotEqual => "!=",
        _ => "==",
    }
}

/// The value of an expression of numbers alone.
fn number(expr: &Expr) -> Option<f64> {
    match &expr.unwrapped().kind {
        ExprKind::Number(value) => Some(*value),
        ExprKind::Unary { negative, expr } => number(expr).map(|value| if *negative { -value } else { value }),
        ExprKind::Binary { op, left, right, .. } => {
            let (left, right) = (number(left)?, number(right)?);
            match op {
                BinaryOp::Add => Some(left + right),
                BinaryOp::Sub => Some(left - right),
                BinaryOp::Mul => Some(left * right),
                BinaryOp::Div => Some(left / right),
                BinaryOp::Pow => Some(left.powf(right)),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_comparison_at_the_top_is_found() {
        for (text, expect) in [
            ("rate(x[5m]) > 0.05", Some(("rate(x[5m])", ">", 0.05))),
            ("(sum(a) / sum(b)) * 100 >= 2 * 50", Some(("(sum(a) / sum(b)) * 100", ">=", 100.0))),
            ("0 == up", Some(("up", "==", 0.0))),
            ("1e9 > free_bytes", Some(("free_bytes", "<", 1e9))),
            ("(a > 5) and on(x) (b > 1)", Some(("a", ">", 5.0))),
            ("absent(x)", None),
            ("a > b", None),
            ("not an expression", None),
        ] {
            let found = threshold_of(text);
            let found = found.as_ref().map(|found| (found.measured.as_str(), found.op.as_str(), found.value));
            assert_eq!(found, expect, "{text}");
        }
    }
}
