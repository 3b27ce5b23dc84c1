//! Whether an answer is the one expected.

use super::SequenceValue;
use super::command::{Expected, Wanted, When};
use crate::engine::{Answer, InstantSample, MatrixSeries, Point, Value};
use crate::histogram::Histogram;
use crate::labels::Labels;
use crate::number::almost_equal;

/// How far a number may be off, relatively.
const TOLERANCE: f64 = 1e-6;

/// Checks warnings and infos.
pub(super) fn check_annotations(answer: &Answer, expected: &Expected, query: &str) -> Result<(), String> {
    let kinds = [
        ("warn", answer.annotations.warnings(query), &expected.warn, expected.no_warn),
        ("info", answer.annotations.infos(query), &expected.info, expected.no_info),
    ];
    for (kind, found, wanted, none) in kinds {
        if none && !found.is_empty() {
            return Err(format!("unexpected {kind} annotations: {found:?}"));
        }
        if wanted.is_empty() {
            continue;
        }
        if let Some(missing) = wanted.iter().find(|wanted| !found.iter().any(|text| wanted.accepts(text))) {
            return Err(format!("expected {kind} annotation {} but found {found:?}", describe(missing)));
        }
        if let Some(extra) = found.iter().find(|text| !wanted.iter().any(|wanted| wanted.accepts(text))) {
            return Err(format!("unexpected {kind} annotation {extra:?}"));
        }
    }
    Ok(())
}

pub(super) fn describe(wanted: &Wanted) -> String {
    match wanted {
        Wanted::Any => "of any text".to_owned(),
        Wanted::Exactly(text) => format!("{text:?}"),
        Wanted::Pattern(regex) => format!("matching {:?}", regex.as_str()),
    }
}

/// Checks the value of an answer.
pub(super) fn check_value(value: &Value, expected: &Expected, when: When) -> Result<(), String> {
    match value {
        Value::Scalar(found) => match expected.scalar {
            Some(wanted) if almost_equal(wanted, *found, TOLERANCE) => Ok(()),
            Some(wanted) => Err(format!("expected scalar {wanted}, got {found}")),
            None => Err(format!("expected another kind of result, got scalar {found}")),
        },
        Value::String(found) => match &expected.string {
            Some(wanted) if wanted == found => Ok(()),
            wanted => Err(format!("expected {wanted:?}, got string {found:?}")),
        },
        Value::Vector(_) | Value::Matrix(_) if expected.scalar.is_some() => Err("expected a scalar, got series".to_owned()),
        Value::Vector(found) => check_vector(found, expected),
        Value::Matrix(found) => {
            let (start, end, step) = match (when, expected.matrix) {
                (_, Some(range)) => range,
                (When::Range { start, end, step }, None) => (start, end, step),
                (When::Instant(at), None) => (at, at, 1),
            };
            if expected.ordered {
                return Err("expected ordered result, but query returned a matrix".to_owned());
            }
            check_matrix(found, expected, (start, end, step))
        }
    }
}

fn wanted_series<'a>(expected: &'a Expected, labels: &Labels) -> Option<(usize, &'a [SequenceValue])> {
    // The last of two lines with the same labels counts.
    let at = expected.series.iter().rposition(|(known, _)| known == labels)?;
    Some((at, &expected.series[at].1))
}

fn check_vector(found: &[InstantSample], expected: &Expected) -> Result<(), String> {
    for (position, sample) in found.iter().enumerate() {
        let Some((at, wanted)) = wanted_series(expected, &sample.labels) else {
            return Err(format!("unexpected metric {} with {}", sample.labels, show(&sample.value)));
        };
        if expected.ordered && at != position {
            return Err(format!("expected metric {} at position {at} but it was at {position}", sample.labels));
        }
        let Some(wanted) = wanted.first() else { return Err(format!("no value expected for {}", sample.labels)) };
        if !same_point(wanted, &sample.value) {
            return Err(format!("expected {wanted:?} for {}, got {}", sample.labels, show(&sample.value)));
        }
    }
    match expected.series.iter().find(|(labels, _)| !found.iter().any(|sample| sample.labels == *labels)) {
        Some((labels, values)) => Err(format!("expected metric {labels} with {values:?} not found")),
        None => Ok(()),
    }
}

fn check_matrix(found: &[MatrixSeries], expected: &Expected, (start, end, step): (i64, i64, i64)) -> Result<(), String> {
    for series in found {
        let Some((_, wanted)) = wanted_series(expected, &series.labels) else {
            return Err(format!("unexpected metric {} in result, has {:?}", series.labels, series.floats));
        };
        let (mut floats, mut histograms) = (series.floats.iter(), series.histograms.iter());
        for (i, wanted) in wanted.iter().enumerate() {
            let time = start + step * i as i64;
            if time > end {
                return Err(format!("expected {} points for {}, but the range cannot have as many", i + 1, series.labels));
            }
            let (at, point) = match wanted {
                SequenceValue::Omitted => continue,
                SequenceValue::Float(_) => match floats.next() {
                    Some((at, value)) => (*at, Point::Float(*value)),
                    None => return Err(format!("expected {wanted:?} at {time} for {}, got nothing", series.labels)),
                },
                SequenceValue::Histogram(..) => match histograms.next() {
                    Some((at, histogram)) => (*at, Point::Histogram(histogram.clone())),
                    None => return Err(format!("expected {wanted:?} at {time} for {}, got no histogram", series.labels)),
                },
            };
            if at != time || !same_point(wanted, &point) {
                return Err(format!("expected {wanted:?} at {time} for {}, got {} at {at}", series.labels, show(&point)));
            }
        }
        if floats.next().is_some() || histograms.next().is_some() {
            return Err(format!("more points than expected for {}: {:?}", series.labels, series.floats));
        }
    }
    match expected.series.iter().find(|(labels, _)| !found.iter().any(|series| series.labels == *labels)) {
        Some((labels, values)) => Err(format!("expected metric {labels} with {values:?} not found")),
        None => Ok(()),
    }
}

fn same_point(wanted: &SequenceValue, found: &Point) -> bool {
    match (wanted, found) {
        (SequenceValue::Float(wanted), Point::Float(found)) => almost_equal(*wanted, *found, TOLERANCE),
        (SequenceValue::Histogram(wanted, hint), Point::Histogram(found)) => same_histogram(wanted, found, *hint),
        _ => false,
    }
}

fn same_histogram(wanted: &Histogram, found: &Histogram, with_hint: bool) -> bool {
    found.almost_same(wanted, TOLERANCE) && (!with_hint || wanted.hint == found.hint)
}

fn show(point: &Point) -> String {
    match point {
        Point::Float(value) => value.to_string(),
        Point::Histogram(histogram) => format!("{histogram:?}"),
    }
}
