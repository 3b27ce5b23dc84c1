//! Numbers and durations as text: what the query language accepts and what its messages print.

/// Compensated (Neumaier) addition of `value` to a running `sum` with compensation `c`.
#[inline]
pub(crate) fn kahan_add(value: f64, sum: f64, c: f64) -> (f64, f64) {
    let total = sum + value;
    let c = if total.is_infinite() {
        0.0
    } else if sum.abs() >= value.abs() {
        c + ((sum - total) + value)
    } else {
        c + ((value - total) + sum)
    };
    (total, c)
}

/// Whether two numbers are equal within a relative tolerance; NaN equals NaN.
pub fn almost_equal(left: f64, right: f64, tolerance: f64) -> bool {
    let (left_stale, right_stale) = (is_stale(left), is_stale(right));
    if left_stale || right_stale {
        return left_stale && right_stale;
    }
    if left.is_nan() && right.is_nan() || left == right {
        return true;
    }
    let sum = left.abs() + right.abs();
    let difference = (left - right).abs();
    if left == 0.0 || right == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < tolerance * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < tolerance
}

/// The NaN that marks the end of a series.
pub const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The staleness marker as a number.
pub const fn stale() -> f64 {
    f64::from_bits(STALE_BITS)
}

/// Whether a sample is the staleness marker.
#[inline]
pub const fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_BITS
}

/// Reads a float with the spellings that label values such as `le` may have.
pub fn parse_float(text: &str) -> Option<f64> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1.0, &text[1..]),
        b'-' => (-1.0, &text[1..]),
        _ => (1.0, text),
    };
    if rest.eq_ignore_ascii_case("inf") || rest.eq_ignore_ascii_case("infinity") {
        return Some(sign * f64::INFINITY);
    }
    if rest.eq_ignore_ascii_case("nan") {
        return Some(f64::NAN);
    }
    if !rest.bytes().next().is_some_and(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    rest.parse::<f64>().ok().map(|value| sign * value)
}

/// A number literal of the language: decimal, exponent, hexadecimal, octal, with `_` between digits, `Inf` or `NaN`.
pub(crate) fn parse_literal(text: &str) -> Option<f64> {
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    let lower = plain.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).ok().map(|value| value as f64);
    }
    if lower.len() > 1 && lower.starts_with('0') && lower.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
        return i64::from_str_radix(&lower, 8).ok().map(|value| value as f64);
    }
    parse_float(&plain)
}

/// Milliseconds of a duration such as `1h30m`, `90s`, `1d12h` or `250ms`; units must come from large to small, each once.
pub fn parse_duration_ms(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 7] =
        [("y", 365 * 86_400_000), ("w", 7 * 86_400_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut total, mut next_unit) = (text, 0i64, 0usize);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = &rest[digits..digits + letters];
        let at = UNITS.iter().position(|(name, _)| *name == unit)?;
        if digits == 0 || at < next_unit {
            return None;
        }
        let count: i64 = rest[..digits].parse().ok()?;
        total = total.checked_add(count.checked_mul(UNITS[at].1)?)?;
        next_unit = at + 1;
        rest = &rest[digits + letters..];
    }
    Some(total)
}

/// Milliseconds as the shortest exact duration text, for printing expressions.
pub(crate) fn format_duration(ms: i64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut rest = ms.unsigned_abs();
    let mut text = String::new();
    if ms < 0 {
        text.push('-');
    }
    let units: [(&str, u64, bool); 7] = [
        ("y", 365 * 86_400_000, true),
        ("w", 7 * 86_400_000, true),
        ("d", 86_400_000, false),
        ("h", 3_600_000, false),
        ("m", 60_000, false),
        ("s", 1_000, false),
        ("ms", 1, false),
    ];
    for (name, size, only_exact) in units {
        if only_exact && !rest.is_multiple_of(size) {
            continue;
        }
        let count = rest / size;
        if count > 0 {
            text.push_str(&format!("{count}{name}"));
            rest -= count * size;
        }
    }
    text
}

/// Shortest text with an exponent for very large and very small numbers, as messages and the API print it.
pub fn format_general(value: f64) -> String {
    if let Some(special) = format_special(value) {
        return special;
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0".to_owned() } else { "0".to_owned() };
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    format!("{value}")
}

/// Shortest text without an exponent, as `count_values` writes it into a label.
pub fn format_plain(value: f64) -> String {
    format_special(value).unwrap_or_else(|| format!("{value}"))
}

/// Text of a quantile for a label: always with a decimal point, as OpenMetrics wants it.
pub(crate) fn format_open_metrics(value: f64) -> String {
    if let Some(special) = format_special(value) {
        return special;
    }
    let text = format_general(value);
    if text.contains(['e', '.']) { text } else { format!("{text}.0") }
}

fn format_special(value: f64) -> Option<String> {
    if value.is_nan() {
        Some("NaN".to_owned())
    } else if value.is_infinite() {
        Some(if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print() {
        for (text, ms) in [("5m", 300_000), ("1h30m", 5_400_000), ("90s", 90_000), ("10s53ms", 10_053), ("1w", 604_800_000), ("0", 0)] {
            assert_eq!(parse_duration_ms(text), Some(ms), "{text}");
        }
        for text in ["", "5", "m", "5m5m", "5s1m", "-5m", "99999999999y", "5x"] {
            assert_eq!(parse_duration_ms(text), None, "{text}");
        }
        assert_eq!(format_duration(5_400_000), "1h30m");
        assert_eq!(format_duration(-90_000), "-1m30s");
    }

    #[test]
    fn numbers_print_as_in_messages() {
        for (value, text) in [
            (1.01, "1.01"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (-1.0, "-1"),
            (1e-7, "1e-07"),
            (1e6, "1e+06"),
            (123456.5, "123456.5"),
        ] {
            assert_eq!(format_general(value), text);
        }
        assert_eq!(format_open_metrics(1.0), "1.0");
        assert_eq!(format_open_metrics(0.25), "0.25");
    }

    #[test]
    fn literals_read() {
        for (text, value) in
            [("1_000", 1000.0), ("0x1F", 31.0), ("017", 15.0), (".5", 0.5), ("2.", 2.0), ("1e3", 1000.0), ("inF", f64::INFINITY)]
        {
            assert_eq!(parse_literal(text), Some(value), "{text}");
        }
    }

    #[test]
    fn closeness_is_relative() {
        assert!(almost_equal(1.0, 1.0 + 1e-9, 1e-6));
        assert!(!almost_equal(1.0, 1.001, 1e-6));
        assert!(almost_equal(f64::NAN, f64::NAN, 1e-6));
        assert!(!almost_equal(stale(), f64::NAN, 1e-6));
    }
}
