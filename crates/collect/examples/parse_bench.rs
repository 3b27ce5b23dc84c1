//! Reads and parses all transcripts under a folder once, on one thread, and says what that cost.
//!
//! `cargo run --release -p paramedic-collect --example parse_bench -- DIR [--text]`

use std::collections::HashMap;
use std::path::Path;

use paramedic_collect::transcript::{ParseOptions, discover, read_file};
use paramedic_model::{Fact, Usage};

#[expect(clippy::unwrap_used, reason = "a measuring tool may stop at the first problem")]
fn main() {
    let folder = std::env::args().nth(1).unwrap();
    let options = ParseOptions { capture_text: std::env::args().any(|argument| argument == "--text") };
    let (mut bytes, mut lines, mut events, mut bad) = (0, 0, 0, 0);
    let mut calls: HashMap<u64, Usage> = HashMap::new();
    let start = cpu_seconds();
    for file in discover(Path::new(&folder)).unwrap() {
        let counts = read_file(&file.path, options, &mut |group| {
            for event in group.iter() {
                if let Fact::ModelCall { message: Some(message), usage, .. } = &event.fact {
                    let key = xxhash_rust::xxh3::xxh3_64(format!("{message} {:?}", event.correlation.request).as_bytes());
                    let held = calls.entry(key).or_default();
                    *held = held.largest(*usage);
                }
            }
        })
        .unwrap();
        bytes += counts.bytes;
        lines += counts.counts.lines;
        events += counts.counts.events;
        bad += counts.counts.bad;
    }
    let total = calls.values().fold(Usage::default(), |sum, usage| sum.plus(*usage));
    let (user, system) = cpu_seconds();
    let _ = std::io::Write::write_all(
        &mut std::io::stdout(),
        format!(
            "{bytes} bytes, {lines} lines ({bad} bad), {events} events, {} calls {total:?}\n{:.2} s user + {:.2} s system, {} kB resident at most\n",
            calls.len(),
            user - start.0,
            system - start.1,
            resident_max_kb()
        )
        .as_bytes(),
    );
}

/// User and system time of this process, from its own accounting.
#[expect(clippy::unwrap_used, reason = "a measuring tool")]
fn cpu_seconds() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap() / 100.0;
    (ticks(11), ticks(12))
}

#[expect(clippy::unwrap_used, reason = "a measuring tool")]
fn resident_max_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or(0)
}
