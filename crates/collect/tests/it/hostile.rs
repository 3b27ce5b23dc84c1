//! Arbitrary damage to every line format: a parser may say no, but never panic.

use std::path::Path;

use paramedic_collect::transcript::{ParseOptions, Parser};
use paramedic_collect::{hook, stream_json};
use paramedic_model::Timestamp;

const SEEDS: &[&str] = &[
    r#"{"parentUuid":null,"isSidechain":true,"agentId":"a1","cwd":"/r","sessionId":"s1","version":"2","type":"user","message":{"role":"user","content":[{"tool_use_id":"t","type":"tool_result","content":"Exit \"code\" 1\n","is_error":true}]},"uuid":"u","timestamp":"2026-01-14T10:41:23.622Z","toolUseResult":{"a":[1,2]}}"#,
    r#"{"type":"assistant","sessionId":"s1","requestId":"r","message":{"model":"m","id":"i","content":[{"type":"text","text":"\ud83d\ude00 \\ \u00e9"},{"type":"tool_use","id":"t","name":"Bash","input":{"command":"ls \"x\"","description":"d"}}],"usage":{"input_tokens":18446744073709551615,"output_tokens":18446744073709551615,"cache_creation":{"ephemeral_1h_input_tokens":9}}},"uuid":"u","timestamp":"2026-01-14T10:41:23.622Z"}"#,
    r#"{"type":"system","subtype":"api_error","error":{"status":529,"headers":{"request-id":"q"},"error":{"error":{"type":"overloaded_error"}}},"retryInMs":1e308,"retryAttempt":99999999999,"maxRetries":10,"timestamp":"9999-12-31T23:59:59Z","uuid":"u"}"#,
    r#"{"type":"assistant","message":{"model":"<synthetic>","content":[{"type":"text","text":"You've hit your session limit · resets Feb 29 at 9:50pm (America/Los_Angeles)"}]},"error":"rate_limit","isApiErrorMessage":true,"timestamp":"-9999-01-01T00:00:00Z","uuid":"u"}"#,
    r#"{"type":"progress","data":{"type":"agent_progress","agentId":"a","message":{"type":"assistant","message":{"id":"x","usage":{"input_tokens":1},"content":[]},"uuid":"n"}},"parentToolUseID":"t","timestamp":"2026-01-14T10:41:23.622Z"}"#,
    r#"{"session_id":"s","hook_event_name":"PostToolUseFailure","tool_name":"Bash","tool_use_id":"t","tool_input":{"command":"x"},"error":"Exit 1","duration_ms":99999999999999999999}"#,
    r#"{"session_id":"s","hook_event_name":"StopFailure","error":"rate_limit","last_assistant_message":"Claude AI usage limit reached|99999999999999"}"#,
    r#"{"type":"result","is_error":true,"api_error_status":99999,"duration_ms":-5,"result":"x","session_id":"s"}"#,
    r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":9223372036854775807,"utilization":"x"},"session_id":"s"}"#,
    r#"{"type":"tool_progress","tool_use_id":"t","subagent_retry":{"attempt":-1,"retry_delay_ms":-1e300},"session_id":"s"}"#,
];

/// Fragments that break parsers.
const SPICE: &[&[u8]] = &[
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\0",
    b"\xff\xfe",
    b"null",
    b"-",
    b"1e999",
    b"\\u",
    b"\\ud800",
    b"\n",
    b" ",
    b"true",
];

/// A small generator: the same run every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides.max(1)
    }
}

fn damage(line: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(line.len() + 1);
        match dice.roll(6) {
            0 => line.truncate(at),
            1 if at < line.len() => line[at] = dice.roll(256) as u8,
            2 => {
                let spice = SPICE[dice.roll(SPICE.len())];
                line.splice(at..at, spice.iter().copied());
            }
            3 if at < line.len() => {
                let end = (at + dice.roll(20)).min(line.len());
                line.drain(at..end);
            }
            4 => {
                let other = SEEDS[dice.roll(SEEDS.len())].as_bytes();
                let from = dice.roll(other.len());
                line.splice(at..at, other[from..].iter().copied().take(60));
            }
            _ => line.splice(at..at, std::iter::repeat_n(b'[', dice.roll(2_000))).for_each(drop),
        }
    }
}

fn feed(line: &[u8]) {
    let now = Timestamp::from_secs(1_700_000_000);
    for path in ["/p/s1.jsonl", "/p/s1/subagents/agent-a1.jsonl", "/p/s1/subagents/workflows/wf/journal.jsonl"] {
        for capture_text in [false, true] {
            let mut events = Vec::new();
            let mut parser = Parser::new(ParseOptions { capture_text }, Path::new(path));
            parser.parse(line, &mut events);
            parser.finish(&mut events);
        }
    }
    let mut events = Vec::new();
    stream_json::Parser::new(ParseOptions::default()).parse(line, now, &mut events);
    let _ = hook::parse(line, now);
}

#[test]
fn damaged_lines_never_panic() {
    let mut dice = Dice(7);
    for round in 0..20_000 {
        let mut line = SEEDS[round % SEEDS.len()].as_bytes().to_vec();
        if round >= SEEDS.len() {
            damage(&mut line, &mut dice);
        }
        feed(&line);
    }
}

#[test]
fn deep_nesting_takes_no_stack() {
    let deep = format!("{{\"type\":\"user\",\"x\":{}{}}}", "[".repeat(2_000_000), "]".repeat(2_000_000));
    feed(deep.as_bytes());
    feed("[".repeat(2_000_000).as_bytes());
    feed(
        format!("{{\"type\":\"assistant\",\"message\":{{\"content\":[{{\"type\":\"tool_use\",\"input\":{}", "{\"a\":".repeat(500_000))
            .as_bytes(),
    );
}
