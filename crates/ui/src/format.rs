//! Numbers, times and names as people read them.

use std::time::Duration;

use maud::{Markup, html};
use paramedic_model::{AgentId, IncidentState, Severity, Timestamp, text};

/// The longest text of an agent that a list shows, in bytes.
pub(crate) const LINE_BYTES_MAX: usize = 240;

/// One line, capped: what a list shows of untrusted text.
pub(crate) fn line(text: &str) -> String {
    short(text, LINE_BYTES_MAX)
}

/// One line of at most `bytes_max` bytes, with a mark where it was cut.
pub(crate) fn short(text: &str, bytes_max: usize) -> String {
    let one = text::one_line(text);
    if one.len() <= bytes_max { one.into_owned() } else { format!("{}…", text::head(&one, bytes_max)) }
}

/// `3 min`, `1 h 12 min`, `2 d 3 h`.
pub(crate) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 if duration.as_millis() > 0 => format!("{} ms", duration.as_millis()),
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => two((seconds / 3_600, "h"), (seconds / 60 % 60, "min")),
        _ => two((seconds / 86_400, "d"), (seconds / 3_600 % 24, "h")),
    }
}

fn two((big, big_unit): (u64, &str), (small, small_unit): (u64, &str)) -> String {
    if small == 0 { format!("{big} {big_unit}") } else { format!("{big} {big_unit} {small} {small_unit}") }
}

/// How long a call took: `240 ms`, `3.2 s`, `4 min`.
pub(crate) fn took(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0 => "<1 ms".to_owned(),
        1..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{:.1} s", duration.as_secs_f64()),
        _ => span(duration),
    }
}

/// `2026-01-14 10:41:23 UTC`.
pub(crate) fn absolute(at: Timestamp) -> String {
    format!("{} {} UTC", at.date(), at.time_of_day())
}

/// "3 min ago", with the absolute time as title; the script keeps it true.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> Markup {
    let words = if at > now { format!("in {}", span(at.since(now))) } else { format!("{} ago", span(now.since(at))) };
    html! { time datetime=(at) title=(absolute(at)) data-rel="ago" { (words) } }
}

/// How long since, as a running clock: "12 min".
pub(crate) fn running(since: Timestamp, now: Timestamp) -> Markup {
    html! { time datetime=(since) title=(format!("since {}", absolute(since))) data-rel="for" { (span(now.since(since))) } }
}

/// A deadline: "in 4 min" or "3 min overdue".
pub(crate) fn due(at: Timestamp, now: Timestamp) -> Markup {
    let words = if at >= now { format!("in {}", span(at.since(now))) } else { format!("{} overdue", span(now.since(at))) };
    html! { time datetime=(at) title=(absolute(at)) data-rel="due" { (words) } }
}

/// The time of day, with the date before it when it is another day's.
pub(crate) fn clock(at: Timestamp, now: Timestamp) -> Markup {
    let words = if at.date() == now.date() { at.time_of_day() } else { format!("{} {}", &at.date()[5..], at.time_of_day()) };
    html! { time datetime=(at) title=(absolute(at)) { (words) } }
}

/// `$0.42`, `$1,234.50`, `$0.0031`.
pub(crate) fn money(usd: f64) -> String {
    if usd != 0.0 && usd.abs() < 0.01 {
        return format!("${usd:.4}");
    }
    let text = format!("{usd:.2}");
    let (whole, cents) = text.split_once('.').unwrap_or((&text, "00"));
    format!("${}.{cents}", grouped(whole))
}

/// `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    grouped(&number.to_string())
}

fn grouped(digits: &str) -> String {
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) && digit.is_ascii_digit() && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `842`, `12.3 k`, `4.57 M`.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn tokens(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        1_000..100_000 => format!("{:.1} k", number as f64 / 1e3),
        100_000..1_000_000 => format!("{:.0} k", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} M", number as f64 / 1e6),
        _ => format!("{:.2} G", number as f64 / 1e9),
    }
}

/// `1 agent`, `3 agents`.
pub(crate) fn many(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{} {one}s", count(number)) }
}

pub(crate) fn percent(rate: f64) -> String {
    let percent = rate * 100.0;
    if percent > 0.0 && percent < 1.0 { "<1 %".to_owned() } else { format!("{percent:.0} %") }
}

/// The severity, as colour and word.
pub(crate) fn severity(severity: Option<Severity>) -> Markup {
    match severity {
        Some(one) => html! { span class=(format!("sev sev{}", one.number())) { (one) } },
        None => html! { span class="sev note" { "note" } },
    }
}

/// An incident's state in the words of people.
pub(crate) fn incident_state(state: IncidentState, firing: bool) -> &'static str {
    match state {
        IncidentState::Mitigated if !firing => "Monitoring, quiet so far",
        other => other.title(),
    }
}

/// The page of an agent. Slashes stay, everything else that is not plain is encoded.
pub(crate) fn agent_path(id: &AgentId) -> String {
    let mut path = String::from("/agents/");
    encode_into(id.as_str(), true, &mut path);
    path
}

/// A value inside a query.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::new();
    encode_into(text, false, &mut out);
    out
}

fn encode_into(text: &str, slashes: bool, out: &mut String) {
    for (i, part) in text.split('/').enumerate() {
        if i > 0 {
            out.push_str(if slashes { "/" } else { "%2F" });
        }
        paramedic_api::http::encode_component(part, out);
    }
}

/// An agent's id for lists: the readable end of a sub-agent, the start of a session's UUID.
pub(crate) fn agent_name(id: &AgentId) -> String {
    match id.subagent() {
        Some(subagent) => format!("{}/{}", uuid_head(id.as_str().split('/').next().unwrap_or("")), short(subagent, 40)),
        None => uuid_head(id.as_str()),
    }
}

fn uuid_head(text: &str) -> String {
    let uuid = text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| if matches!(i, 8 | 13 | 18 | 23) { b == b'-' } else { b.is_ascii_hexdigit() });
    if uuid { text[..8].to_owned() } else { short(text, 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (usd, shown) in [(0.0, "$0.00"), (0.0031, "$0.0031"), (0.42, "$0.42"), (1234.5, "$1,234.50"), (-1234.5, "$-1,234.50")] {
            assert_eq!(money(usd), shown);
        }
        for (number, shown) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), shown);
        }
        for (number, shown) in [(842, "842"), (12_345, "12.3 k"), (456_789, "457 k"), (4_567_890, "4.57 M")] {
            assert_eq!(tokens(number), shown);
        }
        for (seconds, shown) in [(0, "0 s"), (59, "59 s"), (61, "1 min"), (4_320, "1 h 12 min"), (7_200, "2 h"), (187_200, "2 d 4 h")] {
            assert_eq!(span(Duration::from_secs(seconds)), shown);
        }
        for (ms, shown) in [(0, "<1 ms"), (7, "7 ms"), (1_240, "1.2 s"), (59_000, "59.0 s"), (150_000, "2 min")] {
            assert_eq!(took(Duration::from_millis(ms)), shown);
        }
    }

    #[test]
    fn ids_make_safe_paths_and_short_names() {
        assert_eq!(agent_path(&AgentId::from("s/a b<\"")), "/agents/s/a%20b%3C%22");
        assert_eq!(agent_name(&AgentId::from("7abd8468-dcbf-473e-9d3e-0123456789ab")), "7abd8468");
        assert_eq!(agent_name(&AgentId::from("checkout@web-1")), "checkout@web-1");
    }
}
