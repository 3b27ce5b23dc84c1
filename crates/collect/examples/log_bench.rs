//! How many megabytes of bracket logs one CPU second reads: `cargo run --release -p paramedic-collect --example log_bench`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement")]

use paramedic_collect::log::{Options, Parser, TimeZone};
use paramedic_model::Timestamp;

const RECORD: &str = "\
[2025-12-24T14:35:22.123Z] [ERROR] [agent:code-review] Rate limit exceeded
  conversationId: abc-123-def
  userId: user-456
  errorCode: 429
  retryAfter: 12
  stack: Error: Rate limit exceeded
    at callClaude (/app/src/api.ts:45:11)
[2025-12-24T14:35:23.456Z] [INFO] [agent:code-review] Started task review of pull request with 14 files
";

/// CPU seconds of this process, from `/proc/self/stat` (100 ticks a second).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn main() {
    let named = RECORD.repeat(3_000);
    let local = named.replace("Z]", "]");
    for (text, capture_text, zone) in [(&named, true, "Z"), (&named, false, "Z"), (&local, true, "none"), (&local, false, "none")] {
        let time_zone: TimeZone = "Europe/Berlin".parse().unwrap();
        let (mut bytes, mut records) = (0, 0);
        let started = cpu_seconds();
        while cpu_seconds() - started < 1.5 {
            for _ in 0..3 {
                let mut parser = Parser::new(Options { capture_text, time_zone: time_zone.clone(), ..Options::default() });
                let mut events = Vec::new();
                let mut start = 0;
                for end in memchr::memchr_iter(b'\n', text.as_bytes()) {
                    parser.feed(&text.as_bytes()[start..end], Timestamp::EPOCH, &mut events);
                    start = end + 1;
                    if events.len() >= 256 {
                        records += events.len();
                        events.clear();
                    }
                }
                bytes += text.len();
            }
        }
        let spent = cpu_seconds() - started;
        println!(
            "text kept: {capture_text:5} zone: {zone:4} {:>6.0} MB and {:>9.0} records per CPU second",
            bytes as f64 / spent / 1e6,
            records as f64 / spent
        );
    }
}
