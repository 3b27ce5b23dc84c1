//! Numbers for people, as the template functions of Prometheus write them.

/// `%.4g`.
pub(super) fn four_digits(value: f64) -> String {
    general(value, 4)
}

fn with_exponent(mantissa: &str, exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

/// `%.<digits>g`.
fn general(value: f64, digits: i32) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.to_owned();
    }
    let scientific = format!("{value:.*e}", (digits - 1) as usize);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed =
        |text: &str| if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() };
    if exponent < -4 || exponent >= digits {
        return with_exponent(&trimmed(mantissa), exponent);
    }
    trimmed(&format!("{value:.*}", (digits - 1 - exponent).max(0) as usize))
}

const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];

fn small(mut value: f64, unit: &str) -> String {
    let mut prefix = "";
    for next in SMALL {
        if value.abs() >= 1.0 {
            break;
        }
        prefix = next;
        value *= 1000.0;
    }
    format!("{}{prefix}{unit}", four_digits(value))
}

fn large(mut value: f64, prefixes: [&str; 8], base: f64) -> String {
    let mut prefix = "";
    for next in prefixes {
        if value.abs() < base {
            break;
        }
        prefix = next;
        value /= base;
    }
    format!("{}{prefix}", four_digits(value))
}

/// With a metric prefix.
pub(super) fn humanize(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return four_digits(value);
    }
    if value.abs() >= 1.0 {
        return large(value, ["k", "M", "G", "T", "P", "E", "Z", "Y"], 1000.0);
    }
    small(value, "")
}

/// With a binary prefix.
pub(super) fn humanize_1024(value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        return four_digits(value);
    }
    large(value, ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"], 1024.0)
}

/// Seconds as days, hours, minutes and seconds.
pub(super) fn humanize_duration(value: f64) -> String {
    if !value.is_finite() {
        return four_digits(value);
    }
    if value == 0.0 {
        return format!("{}s", four_digits(value));
    }
    if value.abs() < 1.0 {
        return small(value, "s");
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let value = value.abs();
    let whole = value as i64;
    let (seconds, minutes, hours, days) = (whole % 60, whole / 60 % 60, whole / 3_600 % 24, whole / 86_400);
    if days != 0 {
        format!("{sign}{days}d {hours}h {minutes}m {seconds}s")
    } else if hours != 0 {
        format!("{sign}{hours}h {minutes}m {seconds}s")
    } else if minutes != 0 {
        format!("{sign}{minutes}m {seconds}s")
    } else {
        format!("{sign}{}s", four_digits(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        for (value, shown) in [
            (0.0, "0"),
            (1.0, "1"),
            (1234567.0, "1.235M"),
            (0.12, "120m"),
            (-0.0012, "-1.2m"),
            (999.99, "1000"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(humanize(value), shown, "{value}");
        }
        for (value, shown) in [(1024.0, "1ki"), (1_048_576.0, "1Mi"), (0.5, "0.5"), (1e30, "8.272e+05Yi")] {
            assert_eq!(humanize_1024(value), shown, "{value}");
        }
        for (value, shown) in [
            (0.0, "0s"),
            (1.0, "1s"),
            (12345.0, "3h 25m 45s"),
            (12345678.0, "142d 21h 21m 18s"),
            (-60.0, "-1m 0s"),
            (0.1, "100ms"),
            (1e-4, "100us"),
            (1.2345, "1.234s"),
        ] {
            assert_eq!(humanize_duration(value), shown, "{value}");
        }
    }
}
