//! What an expression's values are measured in, as far as its metrics' names tell; and numbers as people read them.

use paramedic_promql::parse::{BinaryOp, Expr, ExprKind, parse};

/// A unit that the name of a metric can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// A number without a unit, or one that nothing tells.
    #[default]
    Plain,
    Seconds,
    Bytes,
    /// 0 to 1.
    Ratio,
    Dollars,
    PerSecond,
    BytesPerSecond,
}

/// The unit of an expression's values.
#[must_use]
pub fn unit_of(expression: &str) -> Unit {
    parse(expression, true).map(|expr| of(&expr)).unwrap_or_default()
}

fn of(expr: &Expr) -> Unit {
    match &expr.unwrapped().kind {
        ExprKind::Selector(selector) | ExprKind::Matrix { selector, .. } => of_name(selector.name.as_deref().unwrap_or("")),
        ExprKind::Subquery { expr, .. } | ExprKind::Unary { expr, .. } => of(expr),
        ExprKind::Aggregate { op, expr, .. } => match op.name() {
            "count" | "group" | "count_values" | "stdvar" => Unit::Plain,
            _ => of(expr),
        },
        ExprKind::Call { function, args } => of_call(function.name, args),
        ExprKind::Binary { op, left, right, .. } => match op {
            BinaryOp::Add | BinaryOp::Sub => of(left),
            BinaryOp::Div => of_quotient(of(left), of(right)),
            op if op.is_comparison() || op.is_set() => of(left),
            _ => Unit::Plain,
        },
        _ => Unit::Plain,
    }
}

/// Rates per second of two like things give a share; seconds a second is one too.
fn of_quotient(left: Unit, right: Unit) -> Unit {
    match (left, right) {
        (Unit::PerSecond, Unit::PerSecond) | (Unit::Bytes, Unit::Bytes) | (Unit::BytesPerSecond, Unit::BytesPerSecond) => Unit::Ratio,
        (Unit::Seconds | Unit::Bytes | Unit::Dollars, Unit::Plain) => left,
        _ => Unit::Plain,
    }
}

fn of_call(name: &str, args: &[Expr]) -> Unit {
    let inner = |at: usize| args.get(at).map(of).unwrap_or_default();
    match name {
        "rate" | "irate" | "deriv" => match inner(0) {
            Unit::Bytes => Unit::BytesPerSecond,
            Unit::Seconds => Unit::Ratio,
            _ => Unit::PerSecond,
        },
        "time" => Unit::Plain,
        "histogram_quantile" => args.get(1).map(of_observed).unwrap_or_default(),
        "histogram_avg" | "histogram_stddev" => args.first().map(of_observed).unwrap_or_default(),
        "histogram_fraction" => Unit::Ratio,
        "quantile_over_time" => inner(1),
        "count_over_time" | "changes" | "resets" | "absent" | "absent_over_time" | "histogram_count" | "timestamp" | "scalar" | "sgn" => {
            Unit::Plain
        }
        _ => inner(0),
    }
}

/// The unit of what a histogram observed, whatever was done to its buckets.
fn of_observed(expr: &Expr) -> Unit {
    expr.selectors().first().map(|selector| of_name(selector.name.as_deref().unwrap_or(""))).unwrap_or_default()
}

fn of_name(name: &str) -> Unit {
    let base = ["_total", "_sum", "_bucket"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
    if base.ends_with("_timestamp_seconds") || base.ends_with("_start_time_seconds") {
        return Unit::Plain;
    }
    let units = [
        ("_seconds", Unit::Seconds),
        ("_bytes", Unit::Bytes),
        ("_ratio", Unit::Ratio),
        ("_dollars", Unit::Dollars),
        ("_usd", Unit::Dollars),
    ];
    units.into_iter().find(|(ending, _)| base.ends_with(ending)).map(|(_, unit)| unit).unwrap_or_default()
}

impl Unit {
    /// A value for people: three to four digits and the unit.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        if !value.is_finite() {
            return crate::prometheus::float_text(value);
        }
        match self {
            Self::Plain => scaled(value, &[(1e12, " T"), (1e9, " G"), (1e6, " M"), (1e5, " k")], ""),
            Self::PerSecond => format!("{}/s", scaled(value, &[(1e9, " G"), (1e6, " M"), (1e5, " k")], "")),
            Self::Bytes => scaled(value, BYTES, " B"),
            Self::BytesPerSecond => format!("{}/s", scaled(value, BYTES, " B")),
            Self::Ratio => format!("{} %", digits(value * 100.0)),
            Self::Dollars => format!("${}", digits(value)),
            Self::Seconds => seconds(value),
        }
    }
}

const BYTES: &[(f64, &str)] =
    &[(1024.0 * 1024.0 * 1024.0 * 1024.0, " TiB"), (1024.0 * 1024.0 * 1024.0, " GiB"), (1024.0 * 1024.0, " MiB"), (1024.0, " KiB")];

fn scaled(value: f64, steps: &[(f64, &str)], unit: &str) -> String {
    match steps.iter().find(|(size, _)| value.abs() >= *size) {
        Some((size, name)) => format!("{}{name}", digits(value / size)),
        None => format!("{}{unit}", digits(value)),
    }
}

fn seconds(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        "0 s".to_owned()
    } else if size < 1e-3 {
        format!("{} µs", digits(value * 1e6))
    } else if size < 1.0 {
        format!("{} ms", digits(value * 1e3))
    } else if size < 120.0 {
        format!("{} s", digits(value))
    } else if size < 7_200.0 {
        format!("{} min", digits(value / 60.0))
    } else if size < 172_800.0 {
        format!("{} h", digits(value / 3_600.0))
    } else {
        format!("{} d", digits(value / 86_400.0))
    }
}

/// At most four significant digits, without trailing zeros.
fn digits(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let size = value.abs();
    if !(1e-4..1e15).contains(&size) {
        return format!("{value:.2e}");
    }
    if value == value.trunc() && size < 1e7 {
        return format!("{value}");
    }
    let places = match size {
        s if s >= 1_000.0 => 0,
        s if s >= 100.0 => 1,
        s if s >= 10.0 => 2,
        s if s >= 0.1 => 3,
        s if s >= 0.01 => 4,
        _ => 6,
    };
    let text = format!("{value:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_units() {
        for (expression, unit) in [
            ("up", Unit::Plain),
            ("process_resident_memory_bytes", Unit::Bytes),
            ("max by (job) (avg_over_time(free_bytes[5m]))", Unit::Bytes),
            ("rate(sent_bytes_total[5m])", Unit::BytesPerSecond),
            ("sum(rate(requests_total[5m]))", Unit::PerSecond),
            ("sum(rate(errors_total[5m])) / sum(rate(requests_total[5m])) > 0.05", Unit::Ratio),
            ("histogram_quantile(0.95, sum by (le) (rate(answer_seconds_bucket[5m])))", Unit::Seconds),
            ("rate(process_cpu_seconds_total[1m])", Unit::Ratio),
            ("process_start_time_seconds", Unit::Plain),
            ("count(free_bytes)", Unit::Plain),
            ("increase(cost_dollars_total[1d])", Unit::Dollars),
            ("nonsense(", Unit::Plain),
        ] {
            assert_eq!(unit_of(expression), unit, "{expression}");
        }
    }

    #[test]
    fn values_read_well() {
        for (unit, value, text) in [
            (Unit::Plain, 0.0, "0"),
            (Unit::Plain, 12_345.0, "12345"),
            (Unit::Plain, 0.30000000000000004, "0.3"),
            (Unit::Plain, 1_234_567.0, "1.235 M"),
            (Unit::Plain, f64::NAN, "NaN"),
            (Unit::Bytes, 45.0e9, "41.91 GiB"),
            (Unit::Seconds, 0.0123, "12.3 ms"),
            (Unit::Seconds, 5_400.0, "90 min"),
            (Unit::Ratio, 0.3, "30 %"),
            (Unit::Dollars, 1.25, "$1.25"),
            (Unit::PerSecond, 2.666_666, "2.667/s"),
            (Unit::BytesPerSecond, 2_048.0, "2 KiB/s"),
            (Unit::Plain, 1e-9, "1.00e-9"),
        ] {
            assert_eq!(unit.show(value), text);
        }
    }
}
