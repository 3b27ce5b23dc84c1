//! Type checks after parsing, with the messages users of Prometheus know.

use super::ast::{AggregateOp, BinaryOp, Cardinality, Expr, ExprKind, Matching, ValueType};
use super::functions::Function;
use crate::error::ParseError;

type Checked = Result<(), ParseError>;

fn expect(expr: &Expr, wanted: ValueType, context: &str) -> Checked {
    let found = expr.value_type();
    if found == wanted {
        return Ok(());
    }
    Err(ParseError::new(expr.start, format!("expected type {} in {context}, got {}", wanted.text(), found.text())))
}

/// Checks one node; its children have been checked before.
pub(super) fn check(expr: &Expr) -> Checked {
    match &expr.kind {
        ExprKind::Unary { expr: inner, .. } => match inner.value_type() {
            ValueType::Scalar | ValueType::Vector => Ok(()),
            other => {
                let message = "unary expression only allowed on expressions of type scalar or instant vector";
                Err(ParseError::new(expr.start, format!("{message}, got {:?}", other.text())))
            }
        },
        ExprKind::Subquery { expr: inner, .. } => match inner.value_type() {
            ValueType::Vector => Ok(()),
            other => {
                let message = format!("subquery is only allowed on instant vector, got {} instead", other.text());
                Err(ParseError::new(inner.start, message))
            }
        },
        ExprKind::Aggregate { op, expr: inner, param, .. } => {
            expect(inner, ValueType::Vector, "aggregation expression")?;
            let Some(param) = param else { return Ok(()) };
            let wanted = if *op == AggregateOp::CountValues { ValueType::String } else { ValueType::Scalar };
            expect(param, wanted, "aggregation parameter")
        }
        ExprKind::Call { function, args } => check_call(expr, function, args),
        ExprKind::Binary { op, left, right, returns_bool, matching } => {
            check_binary(expr, *op, (left, right), *returns_bool, matching.as_ref())
        }
        _ => Ok(()),
    }
}

fn check_call(call: &Expr, function: &Function, args: &[Expr]) -> Checked {
    let (least, most) = function.arity();
    let name = function.name;
    let wrong = |words: &str, wanted: usize| {
        let message = format!("expected {words}{wanted} argument(s) in call to {name:?}, got {}", args.len());
        Err(ParseError::new(call.start, message))
    };
    if least == most && args.len() != most {
        return wrong("", most);
    }
    if args.len() < least {
        return wrong("at least ", least);
    }
    if args.len() > most {
        return wrong("at most ", most);
    }
    for (i, arg) in args.iter().enumerate() {
        let Some(wanted) = function.args.get(i).or(function.args.last()) else { continue };
        expect(arg, *wanted, &format!("call to function {name:?}"))?;
        if *wanted == ValueType::String && !matches!(arg.unwrapped().kind, ExprKind::String(_)) {
            return Err(ParseError::new(arg.start, format!("expected a string literal in call to function {name:?}")));
        }
    }
    Ok(())
}

fn check_binary(expr: &Expr, op: BinaryOp, sides: (&Expr, &Expr), returns_bool: bool, matching: Option<&Matching>) -> Checked {
    let (left, right) = (sides.0.value_type(), sides.1.value_type());
    let fail = |message: String| Err(ParseError::new(expr.start, message));
    if returns_bool && !op.is_comparison() {
        return fail("bool modifier can only be used on comparison operators".to_owned());
    }
    if op.is_comparison() && !returns_bool && left == ValueType::Scalar && right == ValueType::Scalar {
        return fail("comparisons between scalars must use BOOL modifier".to_owned());
    }
    for side in [left, right] {
        if side != ValueType::Scalar && side != ValueType::Vector {
            return fail("binary expression must contain only scalar and instant vector types".to_owned());
        }
    }
    let both_vectors = left == ValueType::Vector && right == ValueType::Vector;
    if !both_vectors {
        if matching.is_some_and(|m| m.on || !m.labels.is_empty()) {
            return fail("vector matching only allowed between instant vectors".to_owned());
        }
        if matching.is_some_and(|m| m.fill_left.is_some() || m.fill_right.is_some()) {
            return fail("filling in missing series only allowed between instant vectors".to_owned());
        }
        if op.is_set() {
            return fail(format!("set operator {:?} not allowed in binary scalar expression", op.text()));
        }
        if op.is_trim() && left == ValueType::Scalar {
            return fail(format!("operator {:?} needs an instant vector on its left side", op.text()));
        }
        return Ok(());
    }
    let Some(matching) = matching else { return Ok(()) };
    if op.is_set() {
        if matching.cardinality != Cardinality::ManyToMany {
            return fail(format!("no grouping allowed for {:?} operation", op.text()));
        }
        if matching.fill_left.is_some() || matching.fill_right.is_some() {
            return fail(format!("filling in missing series not allowed for {:?} operation", op.text()));
        }
    }
    if matching.on
        && let Some(label) = matching.include.iter().find(|label| matching.labels.contains(label))
    {
        return fail(format!("label {label:?} must not occur in ON and GROUP clause at once"));
    }
    Ok(())
}
