//! An expression as text again, in the form `/api/v1/format_query` gives.

use std::fmt;

use super::ast::{At, Cardinality, Expr, ExprKind, Extent, Grouping, Matching, Selector, Span};
use crate::labels::{METRIC_NAME, MatchOp, is_plain_name, quote};
use crate::number::{format_duration, format_general};

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            // A sign would be read as an operator of its own.
            ExprKind::Number(value) => f.write_str(format_general(*value).trim_start_matches('+')),
            ExprKind::String(text) => f.write_str(&quote(text)),
            ExprKind::Paren(inner) => write!(f, "({inner})"),
            ExprKind::Unary { negative, expr } => write!(f, "{}{expr}", if *negative { "-" } else { "+" }),
            ExprKind::Selector(selector) => {
                write_series(f, selector)?;
                write_extent(f, selector)?;
                write_modifiers(f, &selector.offset, selector.at)
            }
            ExprKind::Matrix { selector, range } => {
                write_series(f, selector)?;
                write!(f, "[{}]", span(range))?;
                write_extent(f, selector)?;
                write_modifiers(f, &selector.offset, selector.at)
            }
            ExprKind::Subquery { expr, range, step, offset, at } => {
                write!(f, "{expr}[{}:{}]", span(range), step.as_ref().map(span).unwrap_or_default())?;
                write_modifiers(f, offset, *at)
            }
            ExprKind::Call { function, args } => {
                write!(f, "{}(", function.name)?;
                write_list(f, args)?;
                f.write_str(")")
            }
            ExprKind::Aggregate { op, expr, param, grouping } => {
                write!(f, "{}{}(", op.name(), Grouped(grouping))?;
                if let Some(param) = param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{expr})")
            }
            ExprKind::Binary { op, left, right, returns_bool, matching } => {
                let returns_bool = if *returns_bool { " bool" } else { "" };
                write!(f, "{left} {}{returns_bool}", op.text())?;
                if let Some(matching) = matching {
                    write_matching(f, matching)?;
                }
                write!(f, " {right}")
            }
        }
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, exprs: &[Expr]) -> fmt::Result {
    for (i, expr) in exprs.iter().enumerate() {
        write!(f, "{}{expr}", if i > 0 { ", " } else { "" })?;
    }
    Ok(())
}

fn span(span: &Span) -> String {
    match span {
        Span::Ms(ms) => format_duration(*ms),
        Span::Computed(_) => "<computed>".to_owned(),
    }
}

fn is_plain_metric(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

fn write_series(f: &mut fmt::Formatter<'_>, selector: &Selector) -> fmt::Result {
    let mut parts = Vec::new();
    let mut name_seen = false;
    match &selector.name {
        Some(name) if is_plain_metric(name) => f.write_str(name)?,
        Some(name) => parts.push(quote(name)),
        None => {}
    }
    for matcher in selector.matchers.iter() {
        let is_name = &*matcher.name == METRIC_NAME && matches!(matcher.op, MatchOp::Equal) && selector.name.is_some();
        if is_name && !name_seen {
            name_seen = true;
            continue;
        }
        let name = if is_plain_name(&matcher.name) { matcher.name.to_string() } else { quote(&matcher.name) };
        parts.push(format!("{name}{}{}", matcher.op_text(), quote(&matcher.value)));
    }
    if !parts.is_empty() {
        write!(f, "{{{}}}", parts.join(","))?;
    }
    Ok(())
}

fn write_extent(f: &mut fmt::Formatter<'_>, selector: &Selector) -> fmt::Result {
    f.write_str(match selector.extent {
        Extent::Plain => "",
        Extent::Anchored => " anchored",
        Extent::Smoothed => " smoothed",
    })
}

fn write_modifiers(f: &mut fmt::Formatter<'_>, offset: &Span, at: Option<At>) -> fmt::Result {
    match at {
        Some(At::Ms(ms)) => write!(f, " @ {}.{:03}", ms / 1000, ms.rem_euclid(1000))?,
        Some(At::Start) => f.write_str(" @ start()")?,
        Some(At::End) => f.write_str(" @ end()")?,
        None => {}
    }
    match offset {
        Span::Ms(0) => Ok(()),
        other => write!(f, " offset {}", span(other)),
    }
}

struct Grouped<'a>(&'a Grouping);

impl fmt::Display for Grouped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.without {
            write!(f, " without ({}) ", names(&self.0.labels))
        } else if self.0.labels.is_empty() {
            Ok(())
        } else {
            write!(f, " by ({}) ", names(&self.0.labels))
        }
    }
}

fn names(labels: &[String]) -> String {
    let quoted: Vec<String> = labels.iter().map(|label| if is_plain_name(label) { label.clone() } else { quote(label) }).collect();
    quoted.join(", ")
}

fn write_matching(f: &mut fmt::Formatter<'_>, matching: &Matching) -> fmt::Result {
    if matching.on || !matching.labels.is_empty() {
        write!(f, " {} ({})", if matching.on { "on" } else { "ignoring" }, names(&matching.labels))?;
    }
    match matching.cardinality {
        Cardinality::ManyToOne => write!(f, " group_left ({})", names(&matching.include))?,
        Cardinality::OneToMany => write!(f, " group_right ({})", names(&matching.include))?,
        _ => {}
    }
    match (matching.fill_left, matching.fill_right) {
        (Some(left), Some(right)) if left.to_bits() == right.to_bits() => write!(f, " fill ({})", format_general(left)),
        (left, right) => {
            for (word, value) in [("fill_left", left), ("fill_right", right)] {
                if let Some(value) = value {
                    write!(f, " {word} ({})", format_general(value))?;
                }
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::parse::parse;

    #[test]
    fn expressions_print_as_they_were_meant() {
        for (text, printed) in [
            ("sum by(b,a)(rate(x{y=\"z\"}[5m] offset 1h))", "sum by (a, b) (rate(x{y=\"z\"}[5m] offset 1h))"),
            ("a+b*c^d^-e", "a + b * c ^ d ^ -e"),
            ("SUM(x) WITHOUT ()", "sum without () (x)"),
            ("x @ start() offset -90s", "x @ start() offset -1m30s"),
            ("{\"my.metric\",\"l.b\"=~\"c\"}[1h30m:5m]", "{\"my.metric\",\"l.b\"=~\"c\"}[1h30m:5m]"),
            ("a * on(x) group_left(y) b", "a * on (x) group_left (y) b"),
            ("a and on() (b > bool 1)", "a and on () (b > bool 1)"),
            ("-2^---1*3", "-2 ^ -1 * 3"),
        ] {
            let expr = parse(text, false).unwrap();
            assert_eq!(expr.to_string(), printed);
        }
    }

    #[test]
    fn what_is_not_legal_is_refused() {
        for text in [
            "",
            "foo{",
            "sum(",
            "1 2",
            "rate(x)",
            "x[5m",
            "x[0m]",
            "-\"a\"",
            "1 == 1",
            "a and 1",
            "{}",
            "{x=~\".*\"}",
            "foo(x)",
            "x offset 1m offset 2m",
            "sum(x) offset 1m",
            "a + on(x) group_left(x) b",
            "topk(x)",
            "x[5m][5m]",
            "x{__name__=\"y\"}",
            "count_values(5, x)",
            "abs(x, y)",
            "label_replace(x, y, z, a, b)",
            "a and bool b",
            "x[5m] + 1",
            "#",
            "\"",
        ] {
            assert!(parse(text, false).is_err(), "{text}");
        }
        assert!(parse(&"(".repeat(100_000), false).is_err());
        assert!(parse(&"-".repeat(100_000), false).is_err());
        assert_eq!(parse("limitk(1, x)", false).unwrap_err().unsupported.as_deref(), Some("aggregation \"limitk\""));
    }
}
