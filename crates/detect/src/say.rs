//! Words for people: durations, counts, calls.

use std::time::Duration;

use paramedic_model::{ApiErrorClass, secret, text};

/// Bytes shown of what a tool was asked to do, or of an event's text.
const SHOWN_BYTES_MAX: usize = 160;

/// `45 s`, `3 min 24 s`, `2 h 5 min`.
pub(crate) fn duration(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => "under 1 s".to_owned(),
        1..=59 => format!("{seconds} s"),
        60..=3599 if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ if (seconds / 60).is_multiple_of(60) => format!("{} h", seconds / 3600),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// `1 retry`, `3 retries`.
pub(crate) fn retries(count: u64) -> String {
    if count == 1 { "1 retry".to_owned() } else { format!("{count} retries") }
}

/// `model API overloaded (529)`.
pub(crate) fn failure(class: ApiErrorClass, status: Option<u16>) -> String {
    status.map_or_else(|| class.title().to_owned(), |status| format!("{} ({status})", class.title()))
}

/// Untrusted text made fit to stand in a sentence: masked, on one line, capped.
pub(crate) fn shown(untrusted: &str) -> String {
    let masked = secret::mask(text::head(untrusted, SHOWN_BYTES_MAX * 4)).into_owned();
    let line = text::one_line(&masked);
    let cut = text::head(&line, SHOWN_BYTES_MAX);
    if cut.len() < line.len() { format!("{cut} …") } else { cut.to_owned() }
}

/// A call as a person would name it: ``Bash `make test` ``.
pub(crate) fn call(tool: &str, summary: &str) -> String {
    let summary = shown(summary.strip_prefix(tool).unwrap_or(summary).trim_matches([' ', ':', '`']));
    let tool = shown(tool);
    if summary.is_empty() { tool } else { format!("{tool} `{summary}`") }
}

/// `$12.34`.
pub(crate) fn usd(micros: u64) -> String {
    format!("${}.{:02}", micros / 1_000_000, micros / 10_000 % 100)
}

/// Worth another change: every one of the first sixteen, then at every doubling, so that no count can flood the journal.
pub(crate) const fn worth_telling(count: u64) -> bool {
    count <= 16 || count.is_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_like_speech() {
        for (seconds, words) in [(0, "under 1 s"), (59, "59 s"), (60, "1 min"), (204, "3 min 24 s"), (3600, "1 h"), (7500, "2 h 5 min")] {
            assert_eq!(duration(Duration::from_secs(seconds)), words);
        }
    }

    #[test]
    fn calls_are_named_without_saying_the_tool_twice() {
        for (tool, summary, words) in [
            ("Bash", "Bash: make test", "Bash `make test`"),
            ("Bash", "make\ntest", "Bash `make test`"),
            ("Read", "", "Read"),
            ("Bash", "export API_KEY=abcdefghijklmnop", "Bash `export API_KEY=***`"),
        ] {
            assert_eq!(call(tool, summary), words);
        }
        assert!(call("Bash", &"é".repeat(9_999)).len() < 200);
    }
}
