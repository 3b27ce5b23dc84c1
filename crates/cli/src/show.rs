//! Tables and sentences for the terminal. Untrusted text is shown without control characters.

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use comfy_table::{Cell, ContentArrangement, Table, presets};
use paramedic_model::{Timestamp, text};
use serde_json::Value;

/// Longest text in a cell.
const CELL_BYTES_MAX: usize = 200;

/// Whoever reads our output (`head`, say) has seen enough. Other pipes that break are errors.
#[derive(Debug)]
pub(crate) struct OutputClosed;

impl std::fmt::Display for OutputClosed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("standard output is closed")
    }
}

impl std::error::Error for OutputClosed {}

/// Standard output takes everything or says why not.
fn put(bytes: &[u8]) -> Result<()> {
    match std::io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        outcome => Ok(outcome?),
    }
}

/// A line of data on standard output.
pub(crate) fn line(text: &str) -> Result<()> {
    put(format!("{text}\n").as_bytes())
}

/// JSON on standard output, one document.
pub(crate) fn json(value: &Value) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    put(&text)
}

/// Rows under a head, as wide as the terminal.
pub(crate) fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<()> {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(head.iter().map(|title| Cell::new(title.to_uppercase())));
    if !std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        // Into a pipe or a file, a row is one line whatever its width.
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    for row in rows {
        table.add_row(row.iter().map(|cell| Cell::new(clean(cell))));
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n");
    line(&lines)
}

/// Columns of the terminal; a hundred where there is none.
pub(crate) fn width() -> usize {
    Table::new().width().map_or(100, usize::from).clamp(40, 200)
}

/// A cell's text: one line, capped.
pub(crate) fn clean(cell: &str) -> String {
    in_order(&text::one_line(&text::capped(cell, CELL_BYTES_MAX)))
}

/// A line that is a whole message: one line, with room for an expression.
pub(crate) fn clean_long(text: &str) -> String {
    in_order(&text::one_line(&text::capped(text, 10 * CELL_BYTES_MAX)))
}

/// Without the letters that let a terminal show a text in another order than it has: what is read is what would run.
fn in_order(text: &str) -> String {
    let turns = |letter: char| matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|letter| if turns(letter) { ' ' } else { letter }).collect()
}

/// A line of somebody else's text, whole, without control characters.
pub(crate) fn plain_line(line: &str) -> String {
    let plain: String = line.chars().map(|letter| if letter.is_control() && letter != '\t' { ' ' } else { letter }).collect();
    in_order(&plain)
}

/// `3 min ago`; `in the future` when clocks differ.
pub(crate) fn ago(at: Timestamp, now: Timestamp) -> String {
    if at > now.after(Duration::from_secs(60)) {
        return "in the future".to_owned();
    }
    let since = now.since(at);
    if since < Duration::from_secs(2) { "now".to_owned() } else { format!("{} ago", span(since)) }
}

/// `2 h 5 min`: the two largest units.
pub(crate) fn span(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        0..=119 => format!("{secs} s"),
        120..=7_199 => format!("{} min", secs / 60),
        7_200..=172_799 => format!("{} h {} min", secs / 3600, secs / 60 % 60),
        _ => format!("{} days", secs / 86_400),
    }
}

/// `12,345`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `$1.23`; small sums with more places.
pub(crate) fn dollars(usd: f64) -> String {
    if usd > 0.0 && usd < 0.01 { format!("${usd:.4}") } else { format!("${usd:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(139_422_844), "139,422,844");
        assert_eq!(dollars(0.0007), "$0.0007");
        assert_eq!(dollars(12.345), "$12.35");
        assert_eq!(span(Duration::from_secs(7_500)), "2 h 5 min");
        assert_eq!(clean("a\x1b[31mb"), "a [31mb");
    }
}
