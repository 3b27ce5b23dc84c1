//! Many calls at the same time against a small budget: how many times the cap is spent.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::peers;
use super::scene::{self, WHOLE};
use crate::bench::http::Connection;

const CALLS: usize = 50;
const CAP_DOLLARS: f64 = 0.02;
/// What a call uses, and what it costs at 3 and 15 dollars a million tokens.
const INPUT_TOKENS: u64 = 120;
const OUTPUT_TOKENS: u64 = 353;
const CALL_DOLLARS: f64 = (INPUT_TOKENS as f64 * 3.0 + OUTPUT_TOKENS as f64 * 15.0) / 1e6;
/// A model takes its time; meanwhile all others come.
const TAKES: Duration = Duration::from_millis(300);

/// An upstream that counts what it answers; it ends with the program.
fn upstream() -> Result<(u16, Arc<AtomicUsize>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (port, answered) = (listener.local_addr()?.port(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&answered);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(std::result::Result::ok) {
            let count = Arc::clone(&count);
            thread::spawn(move || answer(stream, &count));
        }
    });
    Ok((port, answered))
}

/// Answers one call after the other on a connection.
fn answer(mut stream: TcpStream, count: &AtomicUsize) -> Option<()> {
    let body = json!({"id": "msg_race", "type": "message", "role": "assistant", "model": WHOLE, "content": [{"type": "text", "text": "x"}],
        "stop_reason": "end_turn", "stop_sequence": null, "usage": {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS}})
    .to_string();
    let mut seen = Vec::new();
    let mut chunk = [0; 16 * 1_024];
    loop {
        let end = seen.windows(4).position(|window| window == b"\r\n\r\n");
        let length = end.map(|end| {
            let head = String::from_utf8_lossy(&seen[..end]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
            end + 4 + length.unwrap_or(0)
        });
        if let Some(length) = length.filter(|length| seen.len() >= *length) {
            seen.drain(..length);
            thread::sleep(TAKES);
            count.fetch_add(1, Ordering::Relaxed);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).ok()?;
            stream.write_all(body.as_bytes()).ok()?;
            continue;
        }
        match stream.read(&mut chunk).ok()? {
            0 => return None,
            read => seen.extend_from_slice(&chunk[..read]),
        }
    }
}

/// So many calls at once; their statuses.
fn rush(port: u16) -> Vec<u16> {
    let body = json!({"model": WHOLE, "max_tokens": 400, "messages": [{"role": "user", "content": "x".repeat(400)}]}).to_string();
    let lines: Vec<String> = scene::headers().iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let (lines, barrier) = (lines.join("\r\n"), Arc::new(Barrier::new(CALLS)));
    let call = |_| {
        let (body, lines, barrier) = (body.clone(), lines.clone(), Arc::clone(&barrier));
        thread::spawn(move || {
            let connection = Connection::open(&format!("127.0.0.1:{port}"));
            barrier.wait();
            connection
                .and_then(|mut connection| connection.post_with("/v1/messages", &lines, body.as_bytes()))
                .map_or(0, |(status, _)| status)
        })
    };
    let threads: Vec<_> = (0..CALLS).map(call).collect();
    threads.into_iter().map(|thread| thread.join().unwrap_or(0)).collect()
}

pub(super) fn run(program: &Path, root: &Path, with_peers: bool) -> Result<String> {
    let root = root.join("race");
    let mut table = format!(
        "\n{CALLS} calls of ${CALL_DOLLARS:.5} at the same time against a cap of ${CAP_DOLLARS} a day, and {CALLS} more afterwards:\n\n\
         | gateway | passed on | refused | spent | times the cap | then passed on |\n|---|---|---|---|---|---|\n"
    );
    let mut race = |name: &str, port: u16, answered: &AtomicUsize| {
        let statuses = rush(port);
        let passed = answered.load(Ordering::Relaxed);
        let refused = statuses.iter().filter(|status| **status != 200).count();
        rush(port);
        let spent = passed as f64 * CALL_DOLLARS;
        let then = answered.load(Ordering::Relaxed) - passed;
        let _ = writeln!(table, "| {name} | {passed} | {refused} | ${spent:.4} | {:.2} | {then} |", spent / CAP_DOLLARS);
    };
    let (port, answered) = upstream()?;
    let cap = CAP_DOLLARS.to_string();
    let (_child, own) =
        peers::start_paramedic(program, &root.join("paramedic"), [port; 3], false, &[("daily_budget_dollars", &cap, "all")])?;
    race("`paramedic gateway`", own, &answered);
    if with_peers {
        let (port, answered) = upstream()?;
        let program = peers::litellm_program().context("LiteLLM")?;
        let peer = peers::litellm(
            &program,
            &root,
            [port; 3],
            &format!("litellm_settings:\n  max_budget: {CAP_DOLLARS}\n  budget_duration: 1d\n"),
        )?;
        race(peer.name, peer.ports[0], &answered);
    }
    Ok(table)
}
