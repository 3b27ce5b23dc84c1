//! Series and their points as tests write them: `name{label="x"}` and `1 2+1x3 _ stale {{schema:1 count:3}}`.

use std::sync::Arc;

use paramedic_promql::labels::{METRIC_NAME, MatchOp};
use paramedic_promql::parse::ExprKind;
use paramedic_promql::script::{SequenceValue, parse_points};
use paramedic_promql::{Engine, Histogram, Label, Labels, SampleValue};

/// One place of a sequence; `None` has no sample.
pub(super) type Point = Option<SampleValue>;

/// Reads the labels of a series, written as a selector with nothing but equality.
pub(super) fn labels(text: &str) -> Result<Labels, String> {
    let text = text.trim();
    if text.is_empty() || text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).is_some_and(|inner| inner.trim().is_empty()) {
        return Ok(Labels::empty());
    }
    // A selector needs a condition that does not match everything, which an expected sample without a name may lack.
    let probe = match text.strip_prefix('{') {
        Some(rest) => format!("{{__probe__=\"x\",{rest}"),
        None => text.to_owned(),
    };
    let expr = Engine::default().parse(&probe).map_err(|err| err.to_string())?;
    let ExprKind::Selector(selector) = &expr.kind else { return Err(format!("{text:?} is not a series")) };
    let mut found = Vec::new();
    for matcher in selector.matchers.iter().filter(|matcher| &*matcher.name != "__probe__") {
        if !matches!(matcher.op, MatchOp::Equal) {
            return Err(format!("{text:?} is not a series: only \"=\" is allowed"));
        }
        found.push(Label { name: Arc::clone(&matcher.name), value: Arc::clone(&matcher.value) });
    }
    if selector.offset.ms() != 0 || selector.at.is_some() {
        return Err(format!("{text:?} is not a series"));
    }
    if let Some(name) = &selector.name {
        found.push(Label { name: METRIC_NAME.into(), value: name.as_str().into() });
    }
    Ok(Labels::new(found))
}

/// Reads a sequence of points.
pub(super) fn points(text: &str) -> Result<Vec<Point>, String> {
    Ok(parse_points(text)?.iter().map(SequenceValue::sample).collect())
}

/// Reads a single histogram.
pub(super) fn one_histogram(text: &str) -> Result<Histogram, String> {
    match points(text)?.as_slice() {
        [Some(SampleValue::Histogram(histogram))] => Ok((**histogram).clone()),
        other => Err(format!("expected one histogram, got {} values", other.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let point = |point: Point| match point {
            None => "_".to_owned(),
            Some(SampleValue::Float(value)) if paramedic_promql::number::is_stale(value) => "stale".to_owned(),
            Some(SampleValue::Float(value)) => value.to_string(),
            Some(SampleValue::Histogram(histogram)) => histogram.to_string(),
        };
        points(text).map_or_else(|err| err, |values| values.into_iter().map(point).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn sequences_expand() {
        for (text, expected) in [
            ("1 2+3x2 _ 0x2 5-2x1", "1 2 5 8 _ 0 0 0 5 3"),
            ("-1.5e+3 Inf stale NaN _x2", "-1500 inf stale NaN _ _"),
            (
                "{{schema:0 count:1 sum:2 buckets:[1]}}+{{schema:0 count:1 sum:2 buckets:[1]}}x1",
                "{count:1, sum:2, (0.5,1]:1} {count:2, sum:4, (0.5,1]:2}",
            ),
        ] {
            assert_eq!(shown(text), expected);
        }
        for bad in ["1y", "x5", "{{schema:99}}", "{{", "1x99999999999", "1,2", "{{schema:0}}y"] {
            assert!(points(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_are_read() {
        for (text, expected) in [
            ("up", r#"{__name__="up"}"#),
            ("up{job=\"a\", x=\"}\"}", r#"{__name__="up", job="a", x="}"}"#),
            ("{job=\"a\"}", r#"{job="a"}"#),
            ("{\"my name\", job=\"a\"}", r#"{__name__="my name", job="a"}"#),
            ("{}", "{}"),
            ("", "{}"),
        ] {
            assert_eq!(labels(text).map(|labels| labels.to_string()).as_deref(), Ok(expected), "{text}");
        }
        for bad in ["up{job=~\"a\"}", "sum(up)", "up offset 5m", "up{"] {
            assert!(labels(bad).is_err(), "{bad}");
        }
    }
}
