//! Why an alert fires or not: the parts of its expression with their values now.

use std::collections::BTreeMap;

use paramedic_model::Timestamp;
use paramedic_promql::parse::{Expr, ExprKind};
use paramedic_promql::{Answer, Point, Value};
use schemars::JsonSchema;
use serde::Serialize;

use crate::source::{QuerySource, Question};

/// Series shown of each part.
pub const SERIES_MAX: usize = 20;
/// Parts shown of one expression.
pub const PARTS_MAX: usize = 40;

/// One rule and the parts of its expression.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Why {
    pub group: String,
    pub file: String,
    pub rule: crate::view::RuleView,
    pub at: Timestamp,
    /// The whole expression first, then its parts, each before the parts of its own.
    pub parts: Vec<Part>,
}

/// One part of an expression.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Part {
    pub expression: String,
    /// 0 is the whole expression.
    pub depth: usize,
    /// `selector`, `range`, `function`, `aggregation`, `comparison`, `operation`, `number` …
    pub kind: &'static str,
    /// How many series it has now.
    pub series_count: usize,
    /// The first of them.
    pub series: Vec<PartSeries>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A series of a part and its value now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PartSeries {
    pub labels: BTreeMap<String, String>,
    /// As it is printed; of a range, its last value and the number of its samples.
    pub value: String,
}

fn kind(expr: &Expr) -> &'static str {
    match &expr.kind {
        ExprKind::Number(_) => "number",
        ExprKind::String(_) => "text",
        ExprKind::Paren(inner) => kind(inner),
        ExprKind::Unary { .. } => "operation",
        ExprKind::Selector(_) => "selector",
        ExprKind::Matrix { .. } => "range",
        ExprKind::Subquery { .. } => "subquery",
        ExprKind::Call { .. } => "function",
        ExprKind::Aggregate { .. } => "aggregation",
        ExprKind::Binary { op, .. } if op.is_comparison() => "comparison",
        ExprKind::Binary { .. } => "operation",
    }
}

/// The parts that are worth a line, each with its depth: not numbers, not texts, not mere parentheses.
fn parts(expr: &Expr) -> Vec<(usize, &Expr)> {
    let mut found = Vec::new();
    let mut open = vec![(0usize, expr)];
    while let Some((depth, expr)) = open.pop() {
        if found.len() >= PARTS_MAX {
            break;
        }
        let worth = depth == 0 || !matches!(expr.kind, ExprKind::Number(_) | ExprKind::String(_) | ExprKind::Paren(_));
        if worth {
            found.push((depth, expr));
        }
        open.extend(expr.children().into_iter().rev().map(|child| (depth + usize::from(worth), child)));
    }
    found
}

/// Evaluates every part of an expression.
pub(crate) async fn explain(text: &str, expr: &Expr, source: &dyn QuerySource, at: Timestamp) -> Vec<Part> {
    let mut explained = Vec::new();
    for (depth, part) in parts(expr) {
        // A part's place in the text is known; the whole is printed where it is not.
        let written = text.get(part.start..part.end).map_or_else(|| part.to_string(), |text| text.trim().to_owned());
        let mut shown = Part { expression: written, depth, kind: kind(part), series_count: 0, series: Vec::new(), error: None };
        let printed = part.to_string();
        match source.instant(Question { text: &printed, expr: part }, at).await {
            Ok(answer) => fill(&mut shown, answer),
            Err(err) => shown.error = Some(err.to_string()),
        }
        explained.push(shown);
    }
    explained
}

fn fill(part: &mut Part, answer: Answer) {
    let pairs = |labels: &paramedic_promql::Labels| labels.iter().map(|label| (label.name.to_string(), label.value.to_string())).collect();
    let shown = |value: &Point| match value {
        Point::Float(value) => paramedic_promql::number::format_general(*value),
        Point::Histogram(value) => value.to_string(),
    };
    match answer.value {
        Value::Scalar(value) => {
            part.series_count = 1;
            part.series = vec![PartSeries { labels: BTreeMap::new(), value: shown(&Point::Float(value)) }];
        }
        Value::String(text) => part.series = vec![PartSeries { labels: BTreeMap::new(), value: text }],
        Value::Vector(found) => {
            part.series_count = found.len();
            let first = found.iter().take(SERIES_MAX);
            part.series = first.map(|element| PartSeries { labels: pairs(&element.labels), value: shown(&element.value) }).collect();
        }
        Value::Matrix(found) => {
            part.series_count = found.len();
            let last = |series: &paramedic_promql::MatrixSeries| {
                let float = series.floats.last().map(|(time, value)| (*time, Point::Float(*value)));
                let histogram = series.histograms.last().map(|(time, value)| (*time, Point::Histogram(value.clone())));
                let samples = series.floats.len() + series.histograms.len();
                let last = float.into_iter().chain(histogram).max_by_key(|(time, _)| *time).map(|(_, value)| shown(&value));
                format!("{} ({samples} samples)", last.unwrap_or_default())
            };
            part.series =
                found.iter().take(SERIES_MAX).map(|series| PartSeries { labels: pairs(&series.labels), value: last(series) }).collect();
        }
    }
}
