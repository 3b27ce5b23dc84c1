//! What is sent and what answers: requests as agents make them, and an upstream that costs next to nothing.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::process::Guarded;

use super::peers;

/// The models name the upstream: one answers whole, one as a stream, one as a slow stream.
pub(super) const WHOLE: &str = "claude-sonnet-4-5";
pub(super) const STREAM: &str = "claude-opus-4-5";
pub(super) const SLOW: &str = "claude-haiku-4-5";
/// Bytes a second of the slow stream: it lasts for more than a minute.
const SLOW_BYTES_S: usize = 180;
/// Pieces of text in a stream.
const DELTAS: usize = 98;
/// What clients bring as a key.
pub(super) const KEY: &str = "sk-bench-0123456789";

/// A size of request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    Small,
    Usual,
    Large,
}

impl Size {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Small => "98 B",
            Self::Usual => "40 kB",
            Self::Large => "300 kB",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Small => 98,
            Self::Usual => 40_000,
            Self::Large => 300_000,
        }
    }
}

/// Text that looks like text, so many bytes of it.
fn prose(bytes: usize) -> String {
    const WORDS: [&str; 16] = [
        "the",
        "file",
        "reads",
        "agent",
        "\"quoted\"",
        "src/main.rs",
        "returns",
        "a",
        "list\nof",
        "results",
        "that",
        "must",
        "not",
        "change",
        "during",
        "review.",
    ];
    let (mut text, mut state) = (String::with_capacity(bytes + 16), 7_u32);
    while text.len() < bytes {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.push_str(WORDS[(state >> 28) as usize]);
        text.push(' ');
    }
    text
}

fn tools() -> Vec<Value> {
    let names = ["Bash", "Read", "Edit", "Write", "Glob", "Grep", "Task", "WebFetch", "WebSearch", "TodoWrite", "NotebookEdit", "Skill"];
    let tool = |name: &&str| {
        json!({"name": name, "description": prose(700), "input_schema": {"type": "object", "additionalProperties": false,
            "properties": {"path": {"type": "string", "description": prose(80)}, "limit": {"type": "number", "description": prose(60)}},
            "required": ["path"]}})
    };
    names.iter().map(tool).collect()
}

/// A request as Claude Code makes it: a long system prompt, twelve tools, and a history that fills the rest.
pub(super) fn body(size: Size, model: &str, stream: bool) -> String {
    if size == Size::Small {
        let mut small = json!({"model": model, "max_tokens": 64, "messages": [{"role": "user", "content": "Say: hello."}]});
        if stream {
            small["stream"] = true.into();
        }
        return small.to_string();
    }
    let mark = json!({"type": "ephemeral", "ttl": "1h"});
    let mut messages = vec![json!({"role": "user", "content": [{"type": "text", "text": prose(1_500)}]})];
    let request = |messages: &[Value]| {
        json!({"model": model, "max_tokens": 32_000, "stream": stream, "thinking": {"type": "adaptive"}, "tools": tools(),
            "metadata": {"user_id": "{\"device_id\":\"d0\",\"account_uuid\":\"7c9e6679-7425-40de-944b-e07fc1f90ae7\",\"session_id\":\"s-0\"}"},
            "system": [{"type": "text", "text": "You are Claude Code."}, {"type": "text", "text": prose(14_000), "cache_control": mark}],
            "messages": messages})
    };
    let mut turn = 0;
    loop {
        let text = request(&messages).to_string();
        if text.len() >= size.bytes() {
            return text;
        }
        let left = size.bytes() - text.len();
        let id = format!("toolu_{turn:024}");
        messages.push(json!({"role": "assistant", "content": [{"type": "text", "text": prose(200)},
            {"type": "tool_use", "id": id, "name": "Read", "input": {"path": format!("src/part_{turn}.rs"), "limit": 200}}]}));
        let mut result = json!({"type": "tool_result", "tool_use_id": id, "content": prose(left.saturating_sub(700).clamp(100, 4_000))});
        if left < 4_700 {
            result["cache_control"] = mark.clone();
        }
        messages.push(json!({"role": "user", "content": [result]}));
        turn += 1;
    }
}

/// The headers of a call, those of its session left out.
pub(super) fn headers() -> Vec<(&'static str, String)> {
    [
        ("x-api-key", KEY),
        ("content-type", "application/json"),
        ("accept", "application/json"),
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27"),
        ("user-agent", "claude-cli/2.1.330 (external, cli)"),
        ("x-app", "cli"),
        ("x-user-id", "ana"),
        ("x-team-id", "search"),
        ("x-stainless-lang", "js"),
        ("x-stainless-retry-count", "0"),
        ("x-stainless-timeout", "600"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .to_vec()
}

fn answer(model: &str) -> String {
    let text = prose(190);
    json!({"id": "msg_013Zva2CMHLNnXjNJJKqJ2EF", "type": "message", "role": "assistant", "model": model,
        "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": {"input_tokens": 12, "cache_creation_input_tokens": 120, "cache_read_input_tokens": 9_000,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 120}, "output_tokens": 48,
            "service_tier": "standard"}})
    .to_string()
}

fn stream(model: &str) -> String {
    let usage = json!({"input_tokens": 12, "cache_creation_input_tokens": 120, "cache_read_input_tokens": 9_000, "output_tokens": 1});
    let message = json!({"id": "msg_013Zva2CMHLNnXjNJJKqJ2EF", "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage});
    let mut events = vec![
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "ping"}),
    ];
    for _ in 0..DELTAS {
        events.push(json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " a few more words"}}));
    }
    events.push(json!({"type": "content_block_stop", "index": 0}));
    events.push(
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": 401}}),
    );
    events.push(json!({"type": "message_stop"}));
    let mut text = String::new();
    for event in events {
        let _ = write!(text, "event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
    }
    text
}

/// Where answers come from.
pub(super) struct Upstream {
    _child: Guarded,
    /// Answers whole, as a stream, as a slow stream.
    pub(super) ports: [u16; 3],
}

/// The lines of nginx's settings that all its servers here share.
pub(super) const NGINX_HEAD: &str = "daemon off;\nmaster_process off;\nworker_rlimit_nofile 8192;\nerror_log error.log warn;\npid nginx.pid;\n\
    events { worker_connections 8000; }\n";

/// Limits as the provider says them; what remains never comes near the end.
fn limit_headers() -> String {
    let mut lines = String::from("add_header request-id req_011CSHoEeqs5C35K2UUqR7Fy always;\n");
    for name in ["requests", "input-tokens", "output-tokens"] {
        let _ = write!(
            lines,
            "add_header anthropic-ratelimit-{name}-limit 4000000000 always;\nadd_header anthropic-ratelimit-{name}-remaining 3999000000 \
             always;\nadd_header anthropic-ratelimit-{name}-reset $time_iso8601 always;\n"
        );
    }
    lines
}

impl Upstream {
    /// nginx, with files on the processor of the load.
    pub(super) fn start(nginx: &Path, folder: &Path) -> Result<Self> {
        let folder = folder.join("upstream");
        fs::create_dir_all(folder.join("temp"))?;
        fs::write(folder.join("answer.json"), answer(WHOLE))?;
        fs::write(folder.join("answer.sse"), stream(STREAM))?;
        let ports = [peers::free_port()?, peers::free_port()?, peers::free_port()?];
        let server = |port: u16, file: &str, more: &str| {
            format!(
                "server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ error_page 405 =200 /{file}; return 405; }}\n\
                 location = /{file} {{ {more}\n{} }} }}\n",
                limit_headers()
            )
        };
        let temp = peers::nginx_temp_folders();
        let conf = format!(
            "{NGINX_HEAD}http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600s; client_max_body_size 64m;\n\
             client_body_buffer_size 1m; sendfile on; types {{ application/json json; text/event-stream sse; }}\n{temp}root {};\n{}{}{} }}\n",
            folder.display(),
            server(ports[0], "answer.json", ""),
            server(ports[1], "answer.sse", ""),
            server(ports[2], "answer.sse", &format!("limit_rate {SLOW_BYTES_S};")),
        );
        let child = peers::start_nginx(nginx, &folder, &conf, peers::LOAD_CPU)?;
        for port in ports {
            peers::wait_for_port(port).context("the upstream")?;
        }
        Ok(Self { _child: child, ports })
    }
}

/// The load's script: sixteen sessions in turn, and what came of it in one line.
pub(super) fn script(folder: &Path, body: &str, headers: &[(String, String)]) -> Result<PathBuf> {
    let (script, data) = (folder.join("load.lua"), folder.join("body.json"));
    fs::write(&data, body)?;
    let mut lines = String::new();
    for (name, value) in headers {
        let _ = writeln!(lines, "headers[{name:?}] = {value:?}");
    }
    let text = format!(
        r#"local file = io.open({data:?}, "rb")
local body = file:read("*a")
file:close()
local headers = {{}}
{lines}
local requests, at = {{}}, 0
init = function()
  for i = 1, 16 do
    headers["x-claude-code-session-id"] = string.format("6ba7b810-9dad-11d1-80b4-00c04fd430%02d", i)
    requests[i] = wrk.format("POST", "/v1/messages?beta=true", headers, body)
  end
end
request = function()
  at = at % 16 + 1
  return requests[at]
end
done = function(summary, latency)
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format("RESULT %d %d %d %d %d %d\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), errors.status, broken))
end
"#
    );
    fs::write(&script, text)?;
    Ok(script)
}

/// What came of a load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Came {
    pub(super) calls: u64,
    pub(super) per_s: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// Not answered, or with a status of 400 and more.
    pub(super) bad: u64,
}

pub(super) fn load(wrk: &Path, script: &Path, port: u16, connections: u32, seconds: u64) -> Result<Came> {
    let mut command = Command::new("taskset");
    command.args(["-c", peers::LOAD_CPU]).arg(wrk).args(["-t1", "--timeout", "20s"]);
    command.arg(format!("-c{connections}")).arg(format!("-d{seconds}s")).arg("-s").arg(script).arg(format!("http://127.0.0.1:{port}/"));
    let said = crate::process::output(&mut command)?;
    let line = said.lines().find_map(|line| line.strip_prefix("RESULT ")).with_context(|| format!("wrk said nothing: {said}"))?;
    let numbers: Vec<f64> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let &[calls, micros, p50, p99, status, broken] = numbers.as_slice() else { anyhow::bail!("wrk said {line}") };
    Ok(Came {
        calls: calls as u64,
        per_s: calls / (micros / 1e6).max(1e-6),
        p50_ms: p50 / 1e3,
        p99_ms: p99 / 1e3,
        bad: (status + broken) as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_their_size_and_can_be_read() {
        for size in [Size::Small, Size::Usual, Size::Large] {
            let text = body(size, WHOLE, true);
            let read: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(read["stream"], true);
            assert!(text.len() >= size.bytes() && text.len() < size.bytes() + 5_000, "{} {}", size.name(), text.len());
        }
        assert_eq!(body(Size::Small, WHOLE, false).len(), 98);
    }
}
