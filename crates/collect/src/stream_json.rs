//! The output of `claude -p --output-format stream-json --verbose`, as it is piped into us.
//!
//! **Takes** lines of that output. **Gives** events; messages are read by the transcript's rules. **Never** interprets
//! partial messages (`stream_event`): they are counted, since the whole message follows.
//!
//! Most lines carry no time, so an event happened `now`: when its line arrived.
//!
//! Three things are told elsewhere than where they happen. The prompt has no line of its own, so `system/init` begins
//! the turn. Messages carry placeholders for their output tokens, and only `result` knows the sums: it gives a
//! [`MODEL_USAGE`] record for each model, and whoever counts makes up the difference. Lines of a sub-agent name the
//! tool call that started it; `system/task_started` says which agent that is.

mod account;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use paramedic_model::event::Correlation;
use paramedic_model::{AgentId, ApiErrorClass, Event, Fact, Level, SessionId, Source, Timestamp, limit, secret, text};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use crate::api_error::{self, Signs};
use crate::json::Text;
use crate::transcript::{Context, Line, ParseOptions, assistant, compaction, id, retry_sentence, user};
use account::Accounts;

/// The record of what a model used in all calls of a run since the record before: attributes `model` and the names of
/// [`Usage`](paramedic_model::Usage)'s members.
pub const MODEL_USAGE: &str = "result/model_usage";

/// Sub-agents whose names are remembered.
const SUBAGENTS_MAX: usize = 4_096;
/// Servers told of at the start of a session.
const MCP_SERVERS_MAX: usize = 64;
const UNKNOWN_TYPES_MAX: usize = 64;

/// What a parser has met so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamCounts {
    pub lines: u64,
    pub events: u64,
    /// Lines that are not one JSON object.
    pub bad: u64,
    /// Partial messages, which make no events.
    pub partial: u64,
    pub unknown: BTreeMap<Box<str>, u64>,
}

/// Turns the lines of one run into events.
#[derive(Debug)]
pub struct Parser {
    pub counts: StreamCounts,
    options: ParseOptions,
    session: Option<SessionId>,
    last_retry: Option<(u32, Option<u32>)>,
    /// The turn's failure has been told already, by its own line.
    is_failure_told: bool,
    turn: Turn,
    /// Which sub-agent a tool call started.
    subagents: HashMap<Box<str>, Box<str>>,
    accounts: Accounts,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Closed,
    /// Begun by `system/init`: a prompt that is told after it is the same one.
    Begun,
    Prompted,
}

impl Parser {
    #[must_use]
    pub fn new(options: ParseOptions) -> Self {
        Self {
            counts: StreamCounts::default(),
            options,
            session: None,
            last_retry: None,
            is_failure_told: false,
            turn: Turn::Closed,
            subagents: HashMap::new(),
            accounts: Accounts::default(),
        }
    }

    /// Reads one line without its newline and appends what it says to `out`.
    pub fn parse(&mut self, line: &[u8], now: Timestamp, out: &mut Vec<Event>) {
        self.counts.lines += 1;
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        let before = out.len();
        match Line::read(line) {
            Some(read) => self.interpret(&read, line, now, out),
            None => self.counts.bad += 1,
        }
        self.counts.events += (out.len() - before) as u64;
    }

    /// The stream ended: so did the session.
    pub fn finish(&mut self, now: Timestamp, out: &mut Vec<Event>) {
        if let Some(session) = self.session.take() {
            let mut event = Event::new(now, Source::StreamJson, "end");
            event.agent = Some(AgentId::of_session(&session));
            event.session = Some(session);
            event.fact = Fact::SessionEnded { reason: Some("end of output".into()) };
            out.push(event);
        }
    }

    fn interpret(&mut self, line: &Line<'_>, bytes: &[u8], now: Timestamp, out: &mut Vec<Event>) {
        if let Some(session) = id(line.session).filter(|session| !session.is_empty())
            && self.session.as_ref().is_none_or(|held| *held.as_str() != *session)
        {
            self.session = Some(SessionId::new(session));
        }
        let context = self.context(line, bytes, now);
        let first_new = out.len();
        match line.kind.map_or(&b""[..], Text::raw) {
            b"stream_event" => self.counts.partial += 1,
            b"assistant" => {
                assistant(&context, line, out);
                self.accounts.see(&out[first_new..]);
                self.follow_retries(&mut out[first_new..]);
            }
            b"user" => {
                user(&context, line, out);
                self.follow_prompts(&mut out[first_new..]);
            }
            kind => {
                let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
                    self.counts.bad += 1;
                    return;
                };
                match kind {
                    b"system" => self.system(&context, line, &value, out),
                    b"tool_progress" => tool_progress(&context, &value, |session, tool| self.subagent(session, tool), out),
                    b"rate_limit_event" => out.push(rate_limit(&context, &value)),
                    b"result" => self.result(&context, &value, out),
                    _ => out.push(self.record(&context, &value)),
                }
            }
        }
    }

    fn context(&self, line: &Line<'_>, bytes: &[u8], now: Timestamp) -> Context {
        let told_at = line.timestamp.and_then(|found| Timestamp::parse(std::str::from_utf8(found.raw()).ok()?));
        let agent = self.session.as_ref().map(|session| match id(line.parent_tool) {
            Some(tool) => self.subagent(session, &tool),
            None => AgentId::of_session(session),
        });
        Context {
            at: told_at.unwrap_or(now),
            source: Source::StreamJson,
            session: self.session.clone(),
            agent,
            identity: xxh3_64(line.uuid.map_or(bytes, Text::raw)),
            correlation: Correlation { request: id(line.request), prompt: id(line.prompt), ..Correlation::default() },
            capture_text: self.options.capture_text,
        }
    }

    /// The sub-agent that a tool call started, under the name that all sources know it by.
    fn subagent(&self, session: &SessionId, tool: &str) -> AgentId {
        AgentId::of_subagent(session, self.subagents.get(tool).map_or(tool, |name| name))
    }

    /// A person's prompt is told once: by its own line, or by the beginning of the run.
    fn follow_prompts(&mut self, events: &mut [Event]) {
        for event in events.iter_mut().filter(|event| event.fact == Fact::Prompt) {
            if event.agent.as_ref().is_some_and(|agent| agent.subagent().is_some()) {
                continue;
            }
            if self.turn == Turn::Begun {
                event.fact = Fact::Record;
            }
            self.turn = Turn::Prompted;
        }
    }

    fn follow_retries(&mut self, events: &mut [Event]) {
        for event in events {
            match &mut event.fact {
                Fact::ModelError { attempts, retries_exhausted, .. } => {
                    self.is_failure_told = true;
                    if let Some((attempt, max)) = self.last_retry.take() {
                        *attempts = Some(attempt.saturating_add(1));
                        *retries_exhausted |= max.is_some_and(|max| attempt >= max);
                    }
                }
                Fact::ModelCall { .. } => (self.last_retry, self.is_failure_told) = (None, false),
                _ => {}
            }
        }
    }

    fn system(&mut self, context: &Context, line: &Line<'_>, value: &Value, out: &mut Vec<Event>) {
        let subtype = value.get("subtype").and_then(Value::as_str).unwrap_or_default();
        let name = format!("system/{}", text::head(subtype, limit::ID_BYTES_MAX));
        match subtype {
            "init" => {
                init(context, &name, value, out);
                if self.turn == Turn::Closed {
                    self.turn = Turn::Begun;
                    out.push(context.event("system/init/prompt", MCP_SERVERS_MAX + 1, Fact::Prompt));
                }
            }
            "task_started" | "task_notification" if self.task(context, &name, value, out) => {}
            "api_retry" => {
                let event = retry(context, &name, value);
                if let Fact::ModelRetry { attempt, attempts_max, .. } = event.fact {
                    self.last_retry = Some((attempt, attempts_max));
                }
                out.push(event);
            }
            "compact_boundary" => out.push(context.event(&name, 0, compaction(line.compact_metadata.unwrap_or_default()))),
            _ => {
                let mut event = context.event(&name, 0, Fact::Record);
                event.level = value.get("level").and_then(Value::as_str).and_then(Level::from_text).unwrap_or(Level::Info);
                keep(value, &mut event);
                out.push(event);
            }
        }
    }

    /// A sub-agent begins or ends. False: the line is about another kind of task.
    fn task(&mut self, context: &Context, name: &str, value: &Value, out: &mut Vec<Event>) -> bool {
        let said = |key: &str| -> Option<Box<str>> {
            let found = value.get(key).and_then(Value::as_str).filter(|found| !found.is_empty())?;
            Some(text::head(found, limit::ID_BYTES_MAX).into())
        };
        let (Some(session), Some(task)) = (&context.session, said("task_id")) else {
            return false;
        };
        let fact = if name == "system/task_started" {
            if said("task_type").is_some_and(|kind| &*kind != "local_agent") {
                return false;
            }
            if let Some(tool) = said("tool_use_id").filter(|_| self.subagents.len() < SUBAGENTS_MAX) {
                self.subagents.insert(tool, task.clone());
            }
            Fact::SubagentStarted { agent_type: said("subagent_type") }
        } else {
            if said("tool_use_id").is_none_or(|tool| self.subagents.get(&tool).is_none_or(|known| *known != task)) {
                return false;
            }
            Fact::SubagentEnded { completed: said("status").is_none_or(|status| &*status != "failed") }
        };
        let mut event = context.event(name, 0, fact);
        event.agent = Some(AgentId::of_subagent(session, &task));
        if context.capture_text {
            event.text = capped(value.get("description").or_else(|| value.get("summary")).and_then(Value::as_str).unwrap_or_default());
        }
        keep(value, &mut event);
        out.push(event);
        true
    }

    /// One record for each model that the result accounts for.
    fn model_usage(&mut self, context: &Context, value: &Value, out: &mut Vec<Event>) {
        for (index, (model, usage)) in self.accounts.settle(value).into_iter().enumerate() {
            let mut event = context.event(MODEL_USAGE, index + 2, Fact::Record);
            event.attributes.insert("model".to_owned(), model.into_string().into());
            if let Ok(Value::Object(counts)) = serde_json::to_value(usage) {
                event.attributes.extend(counts);
            }
            out.push(event);
        }
    }

    /// The end of a turn, with the run's own account of it.
    fn result(&mut self, context: &Context, value: &Value, out: &mut Vec<Event>) {
        let is_error = value.get("is_error").and_then(Value::as_bool).unwrap_or(false);
        let status = value.get("api_error_status").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok());
        let sentence = capped(value.get("result").and_then(Value::as_str).unwrap_or_default());
        let terminal = value.get("terminal_reason").and_then(Value::as_str).unwrap_or_default();
        let is_model_failure = status.is_some() || matches!(terminal, "api_error" | "model_error" | "prompt_too_long" | "blocking_limit");
        if is_error && is_model_failure && !self.is_failure_told {
            let kind = (terminal == "prompt_too_long").then_some("request_too_large");
            let (class, status) = api_error::classify(Signs { kind, status, text: &sentence });
            let mut failure = [context.event(
                "result/api_error",
                1,
                Fact::ModelError { class, status, attempts: None, retries_exhausted: api_error::gave_up(&sentence), duration: None },
            )];
            self.follow_retries(&mut failure);
            let [mut event] = failure;
            event.level = Level::Error;
            event.text.clone_from(&sentence);
            out.push(event);
        }
        self.is_failure_told = false;
        self.turn = Turn::Closed;
        self.model_usage(context, value, out);
        let duration = value.get("duration_ms").and_then(Value::as_u64).map(Duration::from_millis);
        let mut event = context.event("result", 0, Fact::TurnEnded { duration });
        event.level = if is_error { Level::Error } else { Level::Info };
        keep(value, &mut event);
        if context.capture_text || is_error {
            event.text = sentence;
        }
        out.push(event);
    }

    fn record(&mut self, context: &Context, value: &Value) -> Event {
        let kind = value.get("type").and_then(Value::as_str).unwrap_or("untyped");
        let kind = text::head(kind, limit::ID_BYTES_MAX);
        if !matches!(kind, "auth_status" | "tool_use_summary" | "control_request" | "control_response" | "keep_alive") {
            let counted =
                if self.counts.unknown.len() < UNKNOWN_TYPES_MAX || self.counts.unknown.contains_key(kind) { kind } else { "other" };
            *self.counts.unknown.entry(counted.into()).or_default() += 1;
        }
        let mut event = context.event(kind, 0, Fact::Record);
        if kind == "auth_status" && value.get("error").is_some_and(Value::is_string) {
            event.level = Level::Warn;
        }
        keep(value, &mut event);
        event
    }
}

fn init(context: &Context, name: &str, value: &Value, out: &mut Vec<Event>) {
    let said = |key: &str| value.get(key).and_then(Value::as_str).map(|found| Box::from(text::head(found, limit::ID_BYTES_MAX)));
    let fact = Fact::SessionStarted { how: said("source"), model: said("model"), cwd: said("cwd"), version: said("claude_code_version") };
    let mut event = context.event(name, 0, fact);
    for key in ["cwd", "permissionMode", "apiKeySource"] {
        if let Some(found) = said(key) {
            event.attributes.insert(key.to_owned(), found.into_string().into());
        }
    }
    out.push(event);
    let servers = value.get("mcp_servers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (index, server) in servers.iter().take(MCP_SERVERS_MAX).enumerate() {
        let Some(status) = server.get("status").and_then(Value::as_str) else { continue };
        let server = server.get("name").and_then(Value::as_str).map(|found| Box::from(text::head(found, limit::ID_BYTES_MAX)));
        let fact = Fact::McpServer { server, status: text::head(status, limit::ID_BYTES_MAX).into() };
        let mut event = context.event("system/init/mcp_server", index + 1, fact);
        event.level = if status == "failed" { Level::Warn } else { Level::Info };
        out.push(event);
    }
}

/// `system/api_retry`, and the same members inside a sub-agent's `tool_progress`.
fn retry(context: &Context, name: &str, value: &Value) -> Event {
    let count = |key: &str| value.get(key).and_then(Value::as_u64).map(|count| u32::try_from(count).unwrap_or(u32::MAX));
    let status = value.get("error_status").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok());
    let kind = value.get("error").or_else(|| value.get("error_category")).and_then(Value::as_str);
    let (class, status) = api_error::classify(Signs { kind, status, text: "" });
    // A request that got no answer has no status.
    let class = if class == ApiErrorClass::Unknown && status.is_none() { ApiErrorClass::Network } else { class };
    let attempt = count("attempt").unwrap_or(1);
    let attempts_max = count("max_retries");
    let delay = value.get("retry_delay_ms").and_then(Value::as_f64).and_then(|millis| Duration::try_from_secs_f64(millis / 1000.0).ok());
    let mut event = context.event(name, 0, Fact::ModelRetry { class, status, attempt, attempts_max, delay });
    event.level = Level::Warn;
    event.text = retry_sentence(class, status, attempt, attempts_max, delay);
    event
}

fn tool_progress(context: &Context, value: &Value, subagent: impl Fn(&SessionId, &str) -> AgentId, out: &mut Vec<Event>) {
    let tool: Option<Box<str>> =
        value.get("tool_use_id").and_then(Value::as_str).map(|found| text::head(found, limit::ID_BYTES_MAX).into());
    let mut event = context.event("tool_progress", 0, Fact::ToolProgress { id: tool.clone() });
    keep(value, &mut event);
    out.push(event);
    if let Some(told) = value.get("subagent_retry").filter(|told| told.is_object()) {
        let mut event = retry(context, "tool_progress/subagent_retry", told);
        event.uid = None;
        if let (Some(session), Some(tool)) = (&context.session, tool) {
            event.agent = Some(subagent(session, &tool));
        }
        out.push(event);
    }
}

fn rate_limit(context: &Context, value: &Value) -> Event {
    let info = value.get("rate_limit_info").unwrap_or(value);
    let said = |key: &str| info.get(key).and_then(Value::as_str).map(|found| Box::from(text::head(found, limit::ID_BYTES_MAX)));
    let status = said("status").unwrap_or_else(|| "unknown".into());
    let fact = Fact::RateLimit {
        limit: said("rateLimitType"),
        utilization: info.get("utilization").and_then(Value::as_f64),
        remaining: None,
        resets_at: info.get("resetsAt").and_then(reset_time),
        status: status.clone(),
    };
    let mut event = context.event("rate_limit_event", 0, fact);
    event.level = if &*status == "allowed" { Level::Info } else { Level::Warn };
    keep(info, &mut event);
    event
}

/// Seconds since 1970, or milliseconds where the number is too large for that, or RFC 3339.
fn reset_time(value: &Value) -> Option<Timestamp> {
    match value.as_i64() {
        Some(millis) if millis > 100_000_000_000 => Some(Timestamp::from_millis(millis)),
        Some(secs) => Some(Timestamp::from_secs(secs)),
        None => Timestamp::parse(value.as_str()?),
    }
}

fn capped(found: &str) -> Box<str> {
    let head = text::head(found, limit::EVENT_TEXT_BYTES_MAX * 2);
    text::capped(&secret::mask(head), limit::EVENT_TEXT_BYTES_MAX).into()
}

/// Keeps the members of a line as attributes, capped and masked.
fn keep(value: &Value, event: &mut Event) {
    let Some(members) = value.as_object() else { return };
    for (key, value) in members.iter().take(limit::ATTRIBUTES_MAX) {
        if matches!(key.as_str(), "type" | "subtype" | "uuid" | "session_id" | "parent_tool_use_id" | "result" | "message" | "tools") {
            continue;
        }
        let written = match value {
            Value::String(found) => Value::String(
                text::capped(&secret::mask(text::head(found, limit::EVENT_TEXT_BYTES_MAX)), limit::ATTRIBUTE_BYTES_MAX).into(),
            ),
            Value::Null => continue,
            Value::Bool(_) | Value::Number(_) => value.clone(),
            Value::Array(_) | Value::Object(_) => {
                let written = value.to_string();
                if written.len() > limit::ATTRIBUTE_BYTES_MAX {
                    continue;
                }
                let masked = secret::mask(&written);
                serde_json::from_str(&masked).unwrap_or_else(|_| Value::String(masked.into_owned()))
            }
        };
        event.attributes.insert(text::head(key, limit::ID_BYTES_MAX).to_owned(), written);
    }
}
