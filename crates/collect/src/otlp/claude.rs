//! What Claude Code's own log events mean (its monitoring documentation lists them).

use std::borrow::Cow;

use paramedic_model::{Fact, Level, ToolOutcome, Usage};

use super::clean;
use super::known::{Key, Known};
use crate::api_error::{Signs, classify, gave_up};

/// Claude Code tries a call once and again ten times; an error at this attempt means that it gave up.
const ATTEMPTS_MAX: u32 = 11;

/// What an event means, how loud it is, and what a person reads of it.
pub(super) struct Meaning<'a> {
    pub(super) fact: Fact,
    pub(super) level: Level,
    pub(super) text: Cow<'a, str>,
}

impl<'a> Meaning<'a> {
    fn record(level: Level, text: Option<Cow<'a, str>>) -> Self {
        Self { fact: Fact::Record, level, text: text.unwrap_or_default() }
    }
}

/// `event` is the name without its `claude_code.` prefix.
pub(super) fn meaning<'a>(event: &str, known: &Known<'a>, has_subagent: bool) -> Meaning<'a> {
    match event {
        "user_prompt" => Meaning { fact: Fact::Prompt, level: Level::Info, text: known.text(Key::PromptText).unwrap_or_default() },
        "assistant_response" => Meaning::record(Level::Info, known.text(Key::Response)),
        "api_request" => api_request(known),
        "api_error" => model_error(known, false),
        "api_retries_exhausted" => model_error(known, true),
        "api_refusal" => Meaning::record(Level::Warn, Some("the model refused to answer".into())),
        "tool_result" => tool_result(known),
        "tool_decision" => tool_decision(known),
        "compaction" => compaction(known),
        // Without an id it is not known which sub-agent ended; the session itself has not.
        "subagent_completed" if has_subagent => {
            Meaning { fact: Fact::SubagentEnded { completed: true }, level: Level::Info, text: "sub-agent completed".into() }
        }
        "subagent_completed" => Meaning::record(Level::Info, Some("sub-agent completed".into())),
        "mcp_server_connection" => mcp_server(known),
        "internal_error" => Meaning::record(Level::Warn, joined(known, &[Key::ErrorName, Key::ErrorCode])),
        "auth" | "at_mention" | "retention_sweep" if known.flag(Key::Success) == Some(false) => {
            Meaning::record(Level::Warn, joined(known, &[Key::ErrorType, Key::StatusCode]))
        }
        "hook_execution_complete" => {
            let trouble = known.count(Key::Blocking).unwrap_or(0) + known.count(Key::HookErrors).unwrap_or(0) > 0;
            Meaning::record(if trouble { Level::Warn } else { Level::Info }, known.text(Key::HookName))
        }
        _ => Meaning::record(Level::Info, None),
    }
}

fn joined<'a>(known: &Known<'a>, keys: &[Key]) -> Option<Cow<'a, str>> {
    keys.iter().filter_map(|key| known.text(*key)).reduce(|all, next| Cow::Owned(format!("{all} {next}")))
}

fn api_request<'a>(known: &Known<'a>) -> Meaning<'a> {
    let usage = usage(known);
    let model = known.text(Key::Model);
    let micros = || known.float(Key::CostMicros).map(|micros| micros / 1.0e6);
    Meaning {
        fact: Fact::ModelCall {
            message: None,
            model: model.as_deref().map(clean::id),
            usage,
            cost_usd: known.float(Key::CostUsd).or_else(micros),
            duration: known.millis(Key::DurationMs),
            time_to_first_token: known.millis(Key::FirstTokenMs),
            stop_reason: known.id(&[Key::StopReason]),
            text_hash: None,
        },
        level: Level::Info,
        text: model.unwrap_or_default(),
    }
}

fn usage(known: &Known<'_>) -> Usage {
    // A hostile count must not overflow sums later.
    let count = |key| known.count(key).unwrap_or(0).min(1 << 48);
    Usage {
        input_tokens: count(Key::InputTokens),
        output_tokens: count(Key::OutputTokens),
        cache_read_tokens: count(Key::CacheReadTokens),
        cache_creation_tokens: count(Key::CacheCreationTokens),
        cache_creation_1h_tokens: 0,
    }
}

/// A status that an HTTP server can send; other numbers (exit codes, `0`) tell nothing.
pub(crate) fn http_status(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|status| (100..600).contains(status))
}

/// Claude Code tells an error only after it gave up: this is terminal.
fn model_error<'a>(known: &Known<'a>, exhausted: bool) -> Meaning<'a> {
    let status = known.integer(Key::StatusCode).and_then(http_status);
    let text = known.first_text(&[Key::Error, Key::ErrorType]).unwrap_or_default();
    let kind = known.text(Key::ErrorType);
    let (class, status) = classify(Signs { kind: kind.as_deref(), status, text: &text });
    let attempts = known.count(Key::Attempt).and_then(|count| u32::try_from(count).ok());
    let fact = Fact::ModelError {
        class,
        status,
        attempts,
        retries_exhausted: exhausted || gave_up(&text) || attempts.is_some_and(|attempts| attempts >= ATTEMPTS_MAX),
        duration: known.millis(Key::DurationMs),
    };
    Meaning { fact, level: Level::Error, text }
}

fn tool_result<'a>(known: &Known<'a>) -> Meaning<'a> {
    let tool = known.text(Key::Tool);
    let kind = known.text(Key::ErrorType);
    let is_rejected = known.text(Key::Decision).is_some_and(|decision| decision.starts_with("reject"));
    let is_interrupted = kind.as_deref().is_some_and(|kind| {
        let kind = kind.to_ascii_lowercase();
        kind.contains("abort") || kind.contains("interrupt") || kind.contains("cancel")
    });
    let outcome = match known.flag(Key::Success) {
        Some(false) if is_rejected => ToolOutcome::Rejected,
        Some(false) if is_interrupted => ToolOutcome::Interrupted,
        Some(false) => ToolOutcome::Error,
        Some(true) | None => ToolOutcome::Success,
    };
    let fact = Fact::ToolResult {
        id: known.id(&[Key::ToolUse]),
        tool: tool.as_deref().map(clean::id),
        outcome,
        result_hash: None,
        duration: known.millis(Key::DurationMs),
    };
    let tool = tool.unwrap_or_default();
    if outcome == ToolOutcome::Success {
        return Meaning { fact, level: Level::Info, text: tool };
    }
    let why = known.text(Key::Error).or(kind).unwrap_or("failed".into());
    Meaning { fact, level: Level::Warn, text: format!("{tool}: {why}").into() }
}

fn tool_decision<'a>(known: &Known<'a>) -> Meaning<'a> {
    let tool = known.text(Key::Tool).unwrap_or_default();
    match known.text(Key::Decision) {
        Some(decision) if decision.starts_with("reject") => {
            let source = known.text(Key::DecisionSource).unwrap_or("unknown".into());
            Meaning::record(Level::Warn, Some(format!("{tool} was rejected ({source})").into()))
        }
        _ => Meaning::record(Level::Info, Some(tool)),
    }
}

fn compaction<'a>(known: &Known<'a>) -> Meaning<'a> {
    let failed = known.flag(Key::Success) == Some(false);
    if failed {
        let why = known.text(Key::Error).unwrap_or("no reason given".into());
        return Meaning::record(Level::Warn, Some(format!("compaction failed: {why}").into()));
    }
    let fact = Fact::Compaction {
        trigger: known.id(&[Key::Trigger]),
        tokens_before: known.count(Key::TokensBefore),
        tokens_after: known.count(Key::TokensAfter),
    };
    Meaning { fact, level: Level::Info, text: "context compacted".into() }
}

fn mcp_server<'a>(known: &Known<'a>) -> Meaning<'a> {
    let status = known.text(Key::Status).unwrap_or("unknown".into());
    let level = if status == "failed" { Level::Warn } else { Level::Info };
    let server = known.text(Key::Server);
    let name = server.as_deref().unwrap_or("an MCP server");
    let text = match known.first_text(&[Key::Error, Key::ErrorCode]) {
        Some(why) => format!("{name} {status}: {why}"),
        None => format!("{name} {status}"),
    };
    Meaning { fact: Fact::McpServer { server: server.as_deref().map(clean::id), status: clean::id(&status) }, level, text: text.into() }
}
