//! An expression as a JSON tree, in the form of Prometheus's `parse_query`.

use paramedic_promql::parse::{At, Cardinality, Expr, ExprKind, Matching, Selector, Span, ValueType};
use serde_json::{Value, json};

use super::encode::float_text;

pub(super) fn tree(expr: &Expr) -> Value {
    match &expr.kind {
        ExprKind::Number(number) => json!({ "type": "numberLiteral", "val": float_text(*number) }),
        ExprKind::String(text) => json!({ "type": "stringLiteral", "val": text }),
        ExprKind::Paren(inner) => json!({ "type": "parenExpr", "expr": tree(inner) }),
        ExprKind::Unary { negative, expr } => json!({ "type": "unaryExpr", "op": if *negative { "-" } else { "+" }, "expr": tree(expr) }),
        ExprKind::Selector(selector) => select("vectorSelector", selector),
        ExprKind::Matrix { selector, range } => {
            let mut node = select("matrixSelector", selector);
            node["range"] = range.ms().into();
            node
        }
        ExprKind::Subquery { expr, range, step, offset, at } => json!({
            "type": "subquery",
            "expr": tree(expr),
            "range": range.ms(),
            "offset": offset.ms(),
            "step": step.as_ref().map_or(0, Span::ms),
            "timestamp": timestamp(*at),
            "startOrEnd": start_or_end(*at),
        }),
        ExprKind::Call { function, args } => json!({
            "type": "call",
            "func": { "name": function.name, "returnType": kind(function.returns) },
            "args": args.iter().map(tree).collect::<Vec<_>>(),
        }),
        ExprKind::Aggregate { op, expr, param, grouping } => json!({
            "type": "aggregation",
            "op": op.name(),
            "expr": tree(expr),
            "param": param.as_ref().map(|param| tree(param)),
            "grouping": grouping.labels,
            "without": grouping.without,
        }),
        ExprKind::Binary { op, left, right, returns_bool, matching } => json!({
            "type": "binaryExpr",
            "op": op.text(),
            "lhs": tree(left),
            "rhs": tree(right),
            "matching": matching.as_ref().map(match_of),
            "bool": returns_bool,
        }),
    }
}

fn select(kind: &str, selector: &Selector) -> Value {
    let matchers: Vec<Value> = selector
        .matchers
        .iter()
        .map(|matcher| json!({ "name": matcher.name.as_ref(), "value": matcher.value.as_ref(), "type": matcher.op_text() }))
        .collect();
    json!({
        "type": kind,
        "name": selector.name.clone().unwrap_or_default(),
        "offset": selector.offset.ms(),
        "matchers": matchers,
        "timestamp": timestamp(selector.at),
        "startOrEnd": start_or_end(selector.at),
    })
}

fn timestamp(at: Option<At>) -> Option<i64> {
    match at {
        Some(At::Ms(ms)) => Some(ms),
        _ => None,
    }
}

fn start_or_end(at: Option<At>) -> Option<&'static str> {
    match at {
        Some(At::Start) => Some("start"),
        Some(At::End) => Some("end"),
        _ => None,
    }
}

const fn kind(kind: ValueType) -> &'static str {
    match kind {
        ValueType::Scalar => "scalar",
        ValueType::String => "string",
        ValueType::Vector => "vector",
        ValueType::Matrix => "matrix",
    }
}

fn match_of(matching: &Matching) -> Value {
    let card = match matching.cardinality {
        Cardinality::OneToOne => "one-to-one",
        Cardinality::ManyToOne => "many-to-one",
        Cardinality::OneToMany => "one-to-many",
        Cardinality::ManyToMany => "many-to-many",
    };
    json!({ "card": card, "labels": matching.labels, "on": matching.on, "include": matching.include })
}
