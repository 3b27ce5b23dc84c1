//! Series and their points as tests write them: `name{label="x"}` and `1 2+1x3 _ stale {{schema:1 count:3}}`.

use std::sync::Arc;

use paramedic_promql::histogram::{CUSTOM_BUCKETS, ResetHint};
use paramedic_promql::labels::METRIC_NAME;
use paramedic_promql::labels::MatchOp;
use paramedic_promql::number::{parse_float, stale};
use paramedic_promql::parse::ExprKind;
use paramedic_promql::{Engine, Histogram, Label, Labels, SampleValue};

/// The most points a repetition may make.
const REPEAT_MAX: usize = 1_000_000;
/// The most points of one series.
const POINTS_MAX: usize = 5_000_000;

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
    let mut values = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let after = if rest.starts_with("{{") { histograms(rest, &mut values)? } else { floats(rest, &mut values)? };
        if !after.is_empty() && !after.starts_with(char::is_whitespace) {
            return Err(format!("unexpected {:?} in series values", paramedic_model::text::head(after, 40)));
        }
        if values.len() > POINTS_MAX {
            return Err(format!("more than {POINTS_MAX} values"));
        }
        rest = after.trim_start();
    }
    Ok(values)
}

/// Reads a single histogram.
pub(super) fn one_histogram(text: &str) -> Result<Histogram, String> {
    match points(text)?.as_slice() {
        [Some(SampleValue::Histogram(histogram))] => Ok((**histogram).clone()),
        other => Err(format!("expected one histogram, got {} values", other.len())),
    }
}

/// `xN`: how many more; `None` when it is not there.
fn repetition(text: &str) -> Result<(Option<usize>, &str), String> {
    let Some(rest) = text.strip_prefix('x') else { return Ok((None, text)) };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let count = rest[..digits].parse().ok().filter(|count| *count <= REPEAT_MAX);
    count
        .map(|count| (Some(count), &rest[digits..]))
        .ok_or_else(|| format!("invalid repetition in series values: {:?}", paramedic_model::text::head(text, 40)))
}

fn floats<'a>(text: &'a str, values: &mut Vec<Point>) -> Result<&'a str, String> {
    if let Some(rest) = text.strip_prefix('_') {
        let (count, rest) = repetition(rest)?;
        values.extend(std::iter::repeat_n(None, count.unwrap_or(1)));
        return Ok(rest);
    }
    let (mut value, rest) = number(text)?;
    let (step, rest) = if rest.starts_with(['+', '-']) { number(rest)? } else { (0.0, rest) };
    let (count, rest) = repetition(rest)?;
    for _ in 0..=count.unwrap_or(0) {
        values.push(Some(SampleValue::Float(value)));
        // Adding zero would change the bits of a staleness marker.
        if step != 0.0 {
            value += step;
        }
    }
    Ok(rest)
}

/// A number at the start of a text; `0x10` is a zero repeated, not a hexadecimal number.
fn number(text: &str) -> Result<(f64, &str), String> {
    let bad = || format!("bad number {:?} in series values", paramedic_model::text::head(text, 40));
    let bytes = text.as_bytes();
    let sign = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    let word = bytes[sign..].iter().take_while(|byte| byte.is_ascii_alphabetic() && **byte != b'x').count();
    let mut end = sign + word;
    if word == 0 {
        while let Some(byte) = bytes.get(end) {
            let after_e = end > 0 && bytes[end - 1].eq_ignore_ascii_case(&b'e') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
            if !(byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E') || matches!(byte, b'+' | b'-') && after_e) {
                break;
            }
            end += 1;
        }
    } else if &text[..end] == "stale" {
        return Ok((stale(), &text[end..]));
    }
    parse_float(&text[..end]).map(|value| (value, &text[end..])).ok_or_else(bad)
}

fn histograms<'a>(text: &'a str, values: &mut Vec<Point>) -> Result<&'a str, String> {
    let (mut current, rest) = histogram(text)?;
    let sign = rest.chars().next().filter(|sign| matches!(sign, '+' | '-') && rest[1..].starts_with("{{"));
    let (step, rest) = match sign {
        Some(_) => histogram(&rest[1..]).map(|(step, rest)| (Some(step), rest))?,
        None => (None, rest),
    };
    let (count, rest) = repetition(rest)?;
    for i in 0..=count.unwrap_or(0) {
        if let (1.., Some(step)) = (i, &step) {
            let combined = if sign == Some('+') { current.add(step) } else { current.subtract(step) };
            combined.map_err(|_| "histograms with exponential and custom buckets cannot be combined".to_owned())?;
        }
        values.push(Some(SampleValue::Histogram(Arc::new(current.clone()))));
    }
    Ok(rest)
}

/// `{{schema:0 count:3 buckets:[1 2]}}`.
fn histogram(text: &str) -> Result<(Histogram, &str), String> {
    let inner = text.strip_prefix("{{").unwrap_or(text);
    let end = inner.find("}}").ok_or("unterminated histogram in series values")?;
    let mut result = Histogram::default();
    let (mut offsets, mut counts) = ((0, 0), (Vec::new(), Vec::new()));
    let mut rest = inner[..end].trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once(':').ok_or_else(|| format!("expected \"key:value\" in a histogram, got {rest:?}"))?;
        let length = if after.starts_with('[') { after.find(']').map(|at| at + 1) } else { after.find(char::is_whitespace) };
        let (value, after) = after.split_at(length.unwrap_or(after.len()));
        let single = || parse_float(value).ok_or_else(|| format!("bad number {value:?} in a histogram"));
        let list = || -> Result<Vec<f64>, String> {
            let inner = value
                .strip_prefix('[')
                .and_then(|value| value.strip_suffix(']'))
                .ok_or_else(|| format!("expected a list, got {value:?}"))?;
            inner.split_whitespace().map(|value| parse_float(value).ok_or_else(|| format!("bad number {value:?} in a histogram"))).collect()
        };
        match key.trim() {
            "schema" => result.schema = single()? as i32,
            "sum" => result.sum = single()?,
            "count" => result.count = single()?,
            "z_bucket" => result.zero_count = single()?,
            "z_bucket_w" => result.zero_threshold = single()?,
            "buckets" => counts.0 = list()?,
            "n_buckets" => counts.1 = list()?,
            "offset" => offsets.0 = single()? as i32,
            "n_offset" => offsets.1 = single()? as i32,
            "custom_values" => result.custom_values = list()?.into(),
            "counter_reset_hint" => result.hint = hint(value)?,
            other => return Err(format!("unknown key {other:?} in a histogram")),
        }
        rest = after.trim_start();
    }
    if result.schema != CUSTOM_BUCKETS && !(-4..=8).contains(&result.schema) {
        return Err(format!("invalid schema {} of a histogram", result.schema));
    }
    result.positive = (offsets.0..).zip(counts.0).collect();
    result.negative = (offsets.1..).zip(counts.1).collect();
    Ok((result, &inner[end + 2..]))
}

fn hint(text: &str) -> Result<ResetHint, String> {
    match text {
        "unknown" => Ok(ResetHint::Unknown),
        "reset" => Ok(ResetHint::Reset),
        "not_reset" => Ok(ResetHint::NotReset),
        "gauge" => Ok(ResetHint::Gauge),
        other => Err(format!("unknown counter_reset_hint {other:?}")),
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
