//! The identity and the summary of a tool call's arguments.
//!
//! **Takes** the arguments as raw JSON. **Gives** a hash that is the same for the same call, whoever reports it, and
//! one line for people. **Never** decodes what it only compares.

use paramedic_model::{limit, secret, text};
use xxhash_rust::xxh3::xxh3_64;

use crate::json::{self, Scanner, Text};

/// Members that vary between two runs of the same call: prose for the person who watches, clocks, counters.
const VOLATILE_KEYS: &[&[u8]] = &[b"description", b"task_progress", b"timestamp"];

/// The member that says best what a call does, in order of preference.
const TELLING_KEYS: &[&str] =
    &["command", "file_path", "notebook_path", "path", "pattern", "url", "query", "skill", "subagent_type", "prompt", "description"];

/// Bytes of a summary: one line on a screen.
const SUMMARY_BYTES_MAX: usize = 300;

/// xxh3 of the arguments in compact form, keys in the order given, [volatile members](VOLATILE_KEYS) left out.
/// Blanks between tokens make no difference. Bytes that are not a JSON object are hashed as they are.
#[must_use]
pub fn tool_input_hash(raw: &[u8]) -> u64 {
    let mut canonical = Vec::with_capacity(raw.len());
    match canonical_object(raw, &mut canonical) {
        Some(()) => xxh3_64(&canonical),
        None => xxh3_64(raw),
    }
}

fn canonical_object(raw: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.push(b'{');
    let complete = json::members(raw, |key, value| {
        if VOLATILE_KEYS.contains(&key) {
            return;
        }
        if out.len() > 1 {
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(key);
        out.extend_from_slice(b"\":");
        push_compact(value, out);
    });
    out.push(b'}');
    complete
}

/// Copies a value without the blanks between its tokens.
fn push_compact(value: &[u8], out: &mut Vec<u8>) {
    if value.first() == Some(&b'"') {
        out.extend_from_slice(value);
        return;
    }
    let mut rest = value;
    while let Some(&byte) = rest.first() {
        if byte == b'"' {
            // The value was scanned once already, so its strings end.
            let Some(text) = Scanner::new(rest).text() else { return };
            out.extend_from_slice(text.quoted());
            rest = &rest[text.quoted().len()..];
        } else {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                out.push(byte);
            }
            rest = &rest[1..];
        }
    }
}

/// One line that says what the call does: its command, file, pattern … masked and capped.
#[must_use]
pub fn tool_input_summary(raw: &[u8]) -> Option<String> {
    let mut best: Option<(usize, Text<'_>)> = None;
    json::members(raw, |key, value| {
        let (Some(rank), Some(found)) = (TELLING_KEYS.iter().position(|one| one.as_bytes() == key), Text::of_value(value)) else { return };
        if best.is_none_or(|(held, _)| rank < held) {
            best = Some((rank, found));
        }
    })?;
    let (_, found) = best?;
    let decoded = found.decode_head(limit::ATTRIBUTE_BYTES_MAX);
    let masked = secret::mask(&decoded);
    Some(text::one_line(&text::capped(&masked, SUMMARY_BYTES_MAX)).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_same(one: &str, other: &str, same: bool) {
        assert_eq!(tool_input_hash(one.as_bytes()) == tool_input_hash(other.as_bytes()), same, "{one} / {other}");
    }

    #[test]
    fn the_same_call_has_the_same_hash() {
        check_same(r#"{"command":"ls"}"#, r#"{ "command" : "ls" }"#, true);
        check_same(r#"{"command":"ls","description":"List"}"#, r#"{"command":"ls","description":"Look again"}"#, true);
        check_same(r#"{"description":"List","command":"ls"}"#, r#"{"command":"ls"}"#, true);
        check_same(r#"{"a":[1, {"b": "x y"}]}"#, r#"{"a":[1,{"b":"x y"}]}"#, true);
        check_same(r#"{"command":"ls"}"#, r#"{"command":"ls "}"#, false);
        check_same(r#"{"a":{"description":"x"}}"#, r#"{"a":{"description":"y"}}"#, false);
        check_same("not json", "not  json", false);
    }

    #[test]
    fn the_summary_prefers_what_is_done_and_hides_secrets() {
        assert_eq!(tool_input_summary(br#"{"description":"List files","command":"ls\n-la"}"#).as_deref(), Some("ls -la"));
        assert_eq!(tool_input_summary(br#"{"todos":[]}"#), None);
        let summary =
            tool_input_summary(br#"{"command":"curl -H 'x-api-key: sk-ant-api03-abcdefghijklmnopqrstuvwxyz0123456789'"}"#).unwrap();
        assert!(!summary.contains("abcdefghijklmnopqrstuvwxyz"), "{summary}");
    }
}
