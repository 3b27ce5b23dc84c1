//! A series and its points as they are written in tests: `name{label="x"} 1 2+1x3 _ stale {{schema:1 count:3}}`.

use std::sync::Arc;

use crate::histogram::{CUSTOM_BUCKETS, Histogram, ResetHint};
use crate::labels::{Label, Labels, METRIC_NAME};
use crate::number::{parse_float, stale};
use crate::parse::unquote;
use crate::storage::SampleValue;

/// One place of a sequence.
#[derive(Clone, Debug)]
pub enum SequenceValue {
    Omitted,
    Float(f64),
    /// A histogram, and whether its reset hint was written out.
    Histogram(Histogram, bool),
}

impl SequenceValue {
    /// The sample that stands here, if one does.
    #[must_use]
    pub fn sample(&self) -> Option<SampleValue> {
        match self {
            Self::Omitted => None,
            Self::Float(value) => Some(SampleValue::Float(*value)),
            Self::Histogram(histogram, _) => Some(SampleValue::Histogram(Arc::new(histogram.clone()))),
        }
    }
}

/// The most points a repetition may make.
const REPEAT_MAX: usize = 1_000_000;
/// The most points of one series.
const POINTS_MAX: usize = 5_000_000;

/// Reads a line of a series and its points.
pub(crate) fn parse_series(line: &str) -> Result<(Labels, Vec<SequenceValue>), String> {
    let mut rest = line.trim();
    let name_length = rest.find(|c: char| c.is_whitespace() || c == '{').unwrap_or(rest.len());
    let mut labels = Vec::new();
    if name_length > 0 {
        labels.push(label(METRIC_NAME, &rest[..name_length]));
        rest = &rest[name_length..];
    }
    if rest.starts_with('{') && !rest.starts_with("{{") {
        rest = parse_labels(&rest[1..], &mut labels)?;
    }
    let values = parse_points(rest)?;
    Ok((Labels::new(labels), values))
}

fn label(name: &str, value: &str) -> Label {
    Label { name: name.into(), value: value.into() }
}

/// Reads up to the closing brace and gives what follows.
fn parse_labels<'a>(mut rest: &'a str, labels: &mut Vec<Label>) -> Result<&'a str, String> {
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        let (name, after, quoted) = if rest.starts_with(['"', '\'', '`']) {
            let (text, after) = take_string(rest)?;
            (text, after, true)
        } else {
            let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            (rest[..length].to_owned(), &rest[length..], false)
        };
        rest = after.trim_start();
        if let Some(after) = rest.strip_prefix('=') {
            let (value, after) = take_string(after.trim_start())?;
            labels.push(label(&name, &value));
            rest = after.trim_start();
        } else if quoted {
            labels.push(label(METRIC_NAME, &name));
        } else {
            return Err(format!("expected \"=\" after label {name:?}"));
        }
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return Err(format!("expected \",\" or \"}}\" in label set, got {rest:?}")),
        }
    }
}

fn take_string(text: &str) -> Result<(String, &str), String> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\'' | '`')).ok_or_else(|| format!("expected a string, got {text:?}"))?;
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' if quote != '`' => escaped = true,
            c if c == quote => {
                let literal = &text[..=i];
                let value = unquote(literal).ok_or_else(|| format!("malformed string {literal}"))?;
                return Ok((value, &text[i + 1..]));
            }
            _ => {}
        }
    }
    Err(format!("unterminated string {text:?}"))
}

/// Reads a sequence of points.
///
/// # Errors
/// What is wrong, and where.
pub fn parse_points(text: &str) -> Result<Vec<SequenceValue>, String> {
    let mut values = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let after = if rest.starts_with("{{") { histogram_item(rest, &mut values)? } else { float_item(rest, &mut values)? };
        if !after.is_empty() && !after.starts_with(char::is_whitespace) {
            return Err(format!("unexpected {:?} in series values", head(after)));
        }
        if values.len() > POINTS_MAX {
            return Err(format!("more than {POINTS_MAX} values"));
        }
        rest = after.trim_start();
    }
    Ok(values)
}

/// `xN`: how many more; `None` when it is not there.
fn repetition(text: &str) -> Result<(Option<usize>, &str), String> {
    let Some(rest) = text.strip_prefix('x') else { return Ok((None, text)) };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let count: usize = rest[..digits].parse().map_err(|_| format!("invalid repetition in series values: {:?}", head(text)))?;
    if count > REPEAT_MAX {
        return Err(format!("repetition of more than {REPEAT_MAX} in series values"));
    }
    Ok((Some(count), &rest[digits..]))
}

fn float_item<'a>(text: &'a str, values: &mut Vec<SequenceValue>) -> Result<&'a str, String> {
    if let Some(rest) = text.strip_prefix('_') {
        let (count, rest) = repetition(rest)?;
        values.extend(std::iter::repeat_n(SequenceValue::Omitted, count.unwrap_or(1)));
        return Ok(rest);
    }
    let (mut value, rest) = number(text)?;
    let (step, rest) = if rest.starts_with(['+', '-']) { number(rest)? } else { (0.0, rest) };
    let stepped = rest.len() < text.len() && step != 0.0;
    let (count, rest) = repetition(rest)?;
    for _ in 0..=count.unwrap_or(0) {
        values.push(SequenceValue::Float(value));
        if stepped {
            value += step;
        }
    }
    Ok(rest)
}

/// A number at the start of a text; `0x10` is a zero repeated, not a hexadecimal number.
fn number(text: &str) -> Result<(f64, &str), String> {
    let bytes = text.as_bytes();
    let mut end = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    let word = text[end..].bytes().take_while(|b| b.is_ascii_alphabetic() && *b != b'x').count();
    if word > 0 {
        let end = end + word;
        if &text[..end] == "stale" {
            return Ok((stale(), &text[end..]));
        }
        return parse_float(&text[..end]).map(|value| (value, &text[end..])).ok_or_else(|| format!("bad number {:?}", head(text)));
    }
    while let Some(byte) = bytes.get(end) {
        let exponent_sign =
            matches!(byte, b'+' | b'-') && bytes[end - 1].eq_ignore_ascii_case(&b'e') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
        if !(byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E') || exponent_sign && end > 0) {
            break;
        }
        end += 1;
    }
    parse_float(&text[..end]).map(|value| (value, &text[end..])).ok_or_else(|| format!("bad number {:?} in series values", head(text)))
}

fn histogram_item<'a>(text: &'a str, values: &mut Vec<SequenceValue>) -> Result<&'a str, String> {
    let ((base, base_hint), rest) = histogram(text)?;
    let sign = rest.chars().next().filter(|c| matches!(c, '+' | '-')).filter(|_| rest[1..].starts_with("{{"));
    let (step, rest) = match sign {
        Some(sign) => {
            let (step, rest) = histogram(&rest[1..])?;
            (Some((sign, step)), rest)
        }
        None => (None, rest),
    };
    let (count, rest) = repetition(rest)?;
    let mut current = base;
    let hint_written = base_hint || step.as_ref().is_some_and(|(_, (_, written))| *written);
    for i in 0..=count.unwrap_or(0) {
        if let (1.., Some((sign, (step, _)))) = (i, &step) {
            let combined = if *sign == '+' { current.add(step) } else { current.subtract(step) };
            combined.map_err(|_| "cannot combine exponential and custom histograms".to_owned())?;
        }
        values.push(SequenceValue::Histogram(current.clone(), hint_written));
    }
    Ok(rest)
}

/// `{{schema:0 count:3 buckets:[1 2]}}` and whether it has a reset hint.
fn histogram(text: &str) -> Result<((Histogram, bool), &str), String> {
    let inner = text.strip_prefix("{{").ok_or_else(|| format!("expected a histogram, got {:?}", head(text)))?;
    let end = inner.find("}}").ok_or_else(|| format!("unterminated histogram {:?}", head(text)))?;
    let mut result = Histogram::default();
    let mut hint_written = false;
    let (mut offset, mut negative_offset) = (0, 0);
    let (mut buckets, mut negative_buckets) = (Vec::new(), Vec::new());
    let mut rest = inner[..end].trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once(':').ok_or_else(|| format!("expected \"key:value\" in histogram, got {rest:?}"))?;
        let length = if after.starts_with('[') { after.find(']').map(|at| at + 1) } else { after.find(char::is_whitespace) };
        let (value, after) = after.split_at(length.unwrap_or(after.len()));
        let single = || parse_float(value).ok_or_else(|| format!("bad number {value:?} in histogram"));
        let list = || -> Result<Vec<f64>, String> {
            let inner =
                value.strip_prefix('[').and_then(|v| v.strip_suffix(']')).ok_or_else(|| format!("expected a list, got {value:?}"))?;
            inner.split_whitespace().map(|v| parse_float(v).ok_or_else(|| format!("bad number {v:?} in histogram"))).collect()
        };
        match key.trim() {
            "schema" => result.schema = single()? as i32,
            "sum" => result.sum = single()?,
            "count" => result.count = single()?,
            "z_bucket" => result.zero_count = single()?,
            "z_bucket_w" => result.zero_threshold = single()?,
            "buckets" => buckets = list()?,
            "n_buckets" => negative_buckets = list()?,
            "offset" => offset = single()? as i32,
            "n_offset" => negative_offset = single()? as i32,
            "custom_values" => result.custom_values = list()?.into(),
            "counter_reset_hint" => {
                hint_written = true;
                result.hint = hint(value)?;
            }
            other => return Err(format!("unknown key {other:?} in histogram")),
        }
        rest = after.trim_start();
    }
    if result.schema != CUSTOM_BUCKETS && !(-4..=8).contains(&result.schema) {
        return Err(format!("invalid schema {} in histogram", result.schema));
    }
    result.positive = (offset..).zip(buckets).collect();
    result.negative = (negative_offset..).zip(negative_buckets).collect();
    Ok(((result, hint_written), &inner[end + 2..]))
}

/// The beginning of a text, which may be long.
fn head(text: &str) -> String {
    text.chars().take(40).collect()
}

fn hint(text: &str) -> Result<ResetHint, String> {
    Ok(match text {
        "unknown" => ResetHint::Unknown,
        "reset" => ResetHint::Reset,
        "not_reset" => ResetHint::NotReset,
        "gauge" => ResetHint::Gauge,
        other => return Err(format!("unknown counter_reset_hint {other:?}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(line: &str) -> Vec<Option<f64>> {
        let (_, values) = parse_series(line).unwrap();
        values.into_iter().map(|value| if let SequenceValue::Float(value) = value { Some(value) } else { None }).collect()
    }

    #[test]
    fn sequences_expand() {
        assert_eq!(floats("a 1 2+3x2 _ 0x2 5-2x1"), [1.0, 2.0, 5.0, 8.0, -1.0, 0.0, 0.0, 0.0, 5.0, 3.0].map(|v| (v >= 0.0).then_some(v)));
        assert_eq!(floats("a -1.5e+3 Inf -inf"), [Some(-1500.0), Some(f64::INFINITY), Some(f64::NEG_INFINITY)]);
        assert_eq!(floats("a{b=\"}\"} _x2 1e10").len(), 3);
        for bad in ["a 1y", "a x5", "a{b} 1", "a {{schema:99}}", "a {{", "a 1x99999999999", "a{b=\"c} 1"] {
            assert!(parse_series(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn histograms_are_read() {
        let (labels, values) =
            parse_series("{\"my name\"} {{schema:1 count:3 sum:-2 buckets:[1 2] offset:-1}}+{{count:1 schema:1}}x2").unwrap();
        assert_eq!(labels.metric_name(), "my name");
        let SequenceValue::Histogram(last, _) = &values[2] else { panic!("expected a histogram") };
        assert_eq!((last.count, last.positive.as_slice()), (5.0, [(-1, 1.0), (0, 2.0)].as_slice()));
    }
}
