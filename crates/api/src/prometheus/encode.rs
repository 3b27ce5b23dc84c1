//! Values as JSON in the shapes and number formats of Prometheus.

use std::io::{self, Write};

use paramedic_promql::{Histogram, InstantSample, Labels, MatrixSeries, Point, Value};

/// A float as Prometheus writes it between quotes: shortest, with an exponent only for the very small and the very large.
#[must_use]
pub fn float_text(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else if size != 0.0 && !(1e-6..1e21).contains(&size) {
        with_exponent(value)
    } else {
        format!("{value}")
    }
}

/// Shortest with an exponent of at least two digits.
pub(super) fn with_exponent(value: f64) -> String {
    if !value.is_finite() {
        return float_text(value);
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// A time in seconds with up to three decimals.
#[must_use]
pub fn time_text(ms: i64) -> String {
    let (sign, ms) = if ms < 0 { ("-", ms.unsigned_abs()) } else { ("", ms.unsigned_abs()) };
    match ms % 1_000 {
        0 => format!("{sign}{}", ms / 1_000),
        rest => format!("{sign}{}.{rest:03}", ms / 1_000).trim_end_matches('0').to_owned(),
    }
}

/// `{"resultType":…,"result":…` without the closing brace. `at_ms` is the moment of an instant query.
pub(super) fn write_value(out: &mut dyn Write, value: &Value, at_ms: i64) -> io::Result<()> {
    match value {
        Value::Scalar(number) => write!(out, "{{\"resultType\":\"scalar\",\"result\":[{},\"{}\"]", time_text(at_ms), float_text(*number)),
        Value::String(text) => {
            write!(out, "{{\"resultType\":\"string\",\"result\":[{},", time_text(at_ms))?;
            write_text(out, text)?;
            out.write_all(b"]")
        }
        Value::Vector(samples) => {
            out.write_all(b"{\"resultType\":\"vector\",\"result\":")?;
            write_list(out, samples, |out, sample| write_sample(out, sample, at_ms))
        }
        Value::Matrix(series) => {
            out.write_all(b"{\"resultType\":\"matrix\",\"result\":")?;
            write_list(out, series, write_series)
        }
    }
}

pub(super) fn write_list<T>(out: &mut dyn Write, list: &[T], mut each: impl FnMut(&mut dyn Write, &T) -> io::Result<()>) -> io::Result<()> {
    out.write_all(b"[")?;
    for (i, item) in list.iter().enumerate() {
        if i > 0 {
            out.write_all(b",")?;
        }
        each(out, item)?;
    }
    out.write_all(b"]")
}

pub(super) fn write_text(out: &mut dyn Write, text: &str) -> io::Result<()> {
    serde_json::to_writer(out, text).map_err(io::Error::from)
}

/// A label set as an object.
pub(super) fn write_labels(out: &mut dyn Write, labels: &Labels) -> io::Result<()> {
    out.write_all(b"{")?;
    for (i, label) in labels.iter().enumerate() {
        if i > 0 {
            out.write_all(b",")?;
        }
        write_text(out, &label.name)?;
        out.write_all(b":")?;
        write_text(out, &label.value)?;
    }
    out.write_all(b"}")
}

fn write_sample(out: &mut dyn Write, sample: &InstantSample, at_ms: i64) -> io::Result<()> {
    out.write_all(b"{\"metric\":")?;
    write_labels(out, &sample.labels)?;
    match &sample.value {
        Point::Float(value) => write!(out, ",\"value\":[{},\"{}\"]}}", time_text(at_ms), float_text(*value)),
        Point::Histogram(histogram) => {
            out.write_all(b",\"histogram\":")?;
            write_histogram_point(out, at_ms, histogram)?;
            out.write_all(b"}")
        }
    }
}

fn write_series(out: &mut dyn Write, series: &MatrixSeries) -> io::Result<()> {
    out.write_all(b"{\"metric\":")?;
    write_labels(out, &series.labels)?;
    if !series.floats.is_empty() {
        out.write_all(b",\"values\":")?;
        write_list(out, &series.floats, |out, (ms, value)| write!(out, "[{},\"{}\"]", time_text(*ms), float_text(*value)))?;
    }
    if !series.histograms.is_empty() {
        out.write_all(b",\"histograms\":")?;
        write_list(out, &series.histograms, |out, (ms, histogram)| write_histogram_point(out, *ms, histogram))?;
    }
    out.write_all(b"}")
}

fn write_histogram_point(out: &mut dyn Write, ms: i64, histogram: &Histogram) -> io::Result<()> {
    write!(out, "[{},{{\"count\":\"{}\",\"sum\":\"{}\"", time_text(ms), float_text(histogram.count), float_text(histogram.sum))?;
    let filled: Vec<_> = histogram.buckets().into_iter().filter(|bucket| bucket.count != 0.0).collect();
    if !filled.is_empty() {
        out.write_all(b",\"buckets\":")?;
        let custom = histogram.uses_custom_buckets();
        write_list(out, &filled, |out, bucket| {
            let (lower, upper) = (float_text(bucket.lower), float_text(bucket.upper));
            write!(out, "[{},\"{lower}\",\"{upper}\",\"{}\"]", boundaries(bucket, custom), float_text(bucket.count))
        })?;
    }
    out.write_all(b"}]")
}

/// Which bounds belong to a bucket: 0 the upper, 1 the lower, 2 none, 3 both.
fn boundaries(bucket: &paramedic_promql::histogram::Bucket, custom: bool) -> u8 {
    let (lower, upper) = if custom {
        (bucket.lower == f64::NEG_INFINITY, true)
    } else {
        let zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
        (zero || bucket.lower < 0.0, zero || bucket.upper > 0.0)
    };
    match (lower, upper) {
        (false, true) => 0,
        (true, false) => 1,
        (false, false) => 2,
        (true, true) => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_prometheus_does() {
        for (value, text) in [
            (1.0, "1"),
            (-0.0, "-0"),
            (0.1, "0.1"),
            (1e-6, "0.000001"),
            (1e-7, "1e-07"),
            (1e20, "100000000000000000000"),
            (1.5e21, "1.5e+21"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(float_text(value), text);
        }
        for (ms, text) in [(0, "0"), (1_435_781_451_781, "1435781451.781"), (1_500, "1.5"), (-250, "-0.25"), (1_050, "1.05")] {
            assert_eq!(time_text(ms), text);
        }
        assert_eq!(with_exponent(1.0), "1e+00");
        assert_eq!(with_exponent(123.5), "1.235e+02");
    }
}
