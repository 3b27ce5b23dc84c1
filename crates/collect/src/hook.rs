//! Claude Code hooks: the client posts one JSON object for each thing it is about to do or has done.
//!
//! **Takes** the body of one post. **Gives** events; texts are masked and capped. **Never** answers anything but yes:
//! an agent must not wait for us, so a body that cannot be read is an error of ours to count, not of the agent's.
//!
//! Hooks carry no time, so an event happened `now`: when it arrived.

use std::collections::BTreeMap;
use std::time::Duration;

use paramedic_model::event::{Attributes, Correlation};
use paramedic_model::{AgentId, ApiErrorClass, Event, Fact, Level, SessionId, Source, Timestamp, ToolOutcome, WaitReason, limit, text};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64;

use crate::api_error::{self, Signs};
use crate::json::{Text, number};
use crate::tool_input::{tool_input_hash, tool_input_summary};
use crate::transcript::{outcome_of, shown};

/// Every event that the client knows; another name is kept as a record and is not in [`is_known`].
pub const EVENTS: &[&str] = &[
    "SessionStart",
    "SessionEnd",
    "Setup",
    "InstructionsLoaded",
    "UserPromptSubmit",
    "UserPromptExpansion",
    "PreToolUse",
    "PermissionRequest",
    "PermissionDenied",
    "PostToolUse",
    "PostToolUseFailure",
    "PostToolBatch",
    "Notification",
    "MessageDisplay",
    "SubagentStart",
    "SubagentStop",
    "TaskCreated",
    "TaskCompleted",
    "TeammateIdle",
    "Stop",
    "StopFailure",
    "PreCompact",
    "PostCompact",
    "PreModelSwitch",
    "PostModelSwitch",
    "ConfigChange",
    "CwdChanged",
    "DirectoryAdded",
    "FileChanged",
    "WorktreeCreate",
    "WorktreeRemove",
    "Elicitation",
    "ElicitationResult",
];

/// Members that are told elsewhere in the event, or are too large and too private to keep.
const NOT_ATTRIBUTES: &[&str] = &[
    "hook_event_name",
    "session_id",
    "prompt_id",
    "agent_id",
    "tool_input",
    "tool_response",
    "tool_calls",
    "prompt",
    "message",
    "last_assistant_message",
    "error_details",
    "tool_use_id",
    "tool_name",
];

#[derive(Debug, thiserror::Error)]
pub enum HookError {
    #[error("read hook body: not a JSON object: {0}")]
    NotAnObject(#[source] serde_json::Error),
    #[error("read hook body: hook_event_name is missing")]
    NoEventName,
}

/// Whether this version knows the event by name.
#[must_use]
pub fn is_known(name: &str) -> bool {
    EVENTS.contains(&name)
}

/// Reads one posted body.
pub fn parse(body: &[u8], now: Timestamp) -> Result<Vec<Event>, HookError> {
    let body = Body { members: serde_json::from_slice(body).map_err(HookError::NotAnObject)? };
    let name = body.text("hook_event_name", limit::ID_BYTES_MAX).filter(|name| !name.is_empty()).ok_or(HookError::NoEventName)?;
    let mut events = Vec::with_capacity(2);
    let mut event = body.event(&name, now);
    event.fact = body.fact(&name);
    event.text = body.sentence(&name, &event.fact);
    event.level = level_of(&event.fact);
    if &*name == "PermissionDenied" {
        event.level = Level::Warn;
    }
    let notice = body.limit_notice(&event);
    events.push(event);
    events.extend(notice);
    Ok(events)
}

fn level_of(fact: &Fact) -> Level {
    match fact {
        Fact::ModelError { .. } => Level::Error,
        Fact::ToolResult { outcome, .. } if *outcome != ToolOutcome::Success => Level::Warn,
        _ => Level::Info,
    }
}

struct Body<'a> {
    members: BTreeMap<String, &'a RawValue>,
}

impl<'a> Body<'a> {
    fn raw(&self, key: &str) -> Option<&'a [u8]> {
        self.members.get(key).map(|raw| raw.get().as_bytes())
    }

    fn found(&self, key: &str) -> Option<Text<'a>> {
        self.raw(key).and_then(Text::of_value)
    }

    /// A text for people.
    fn text(&self, key: &str, bytes_max: usize) -> Option<Box<str>> {
        self.found(key).map(|found| shown(found, bytes_max))
    }

    /// An identifier: as it came, since it must equal the same one from other sources.
    fn id(&self, key: &str) -> Option<Box<str>> {
        let decoded = self.found(key)?.decode_head(limit::ID_BYTES_MAX);
        (!decoded.is_empty()).then(|| text::head(&decoded, limit::ID_BYTES_MAX).into())
    }

    fn event(&self, name: &str, now: Timestamp) -> Event {
        let mut event = Event::new(now, Source::Hook, name);
        let session = self.id("session_id").map(SessionId::new);
        event.agent = session.as_ref().map(|session| match self.id("agent_id") {
            Some(subagent) => AgentId::of_subagent(session, &subagent),
            None => AgentId::of_session(session),
        });
        event.session = session;
        event.correlation = Correlation { prompt: self.id("prompt_id"), ..Correlation::default() };
        event.uid = self.uid(name);
        event.attributes = self.attributes();
        event
    }

    /// The same hook configured twice posts the same thing twice. Only what happens once has an identity: one tool
    /// call, one prompt, one end of a prompt.
    fn uid(&self, name: &str) -> Option<u64> {
        let id = match name {
            "PreToolUse" | "PostToolUse" | "PostToolUseFailure" | "PermissionDenied" => self.id("tool_use_id")?,
            "UserPromptSubmit" => self.id("prompt_id")?,
            _ => return None,
        };
        let session = self.id("session_id").unwrap_or_default();
        Some(xxh3_64(format!("{name}\n{session}\n{id}").as_bytes()))
    }

    fn attributes(&self) -> Attributes {
        let mut attributes = Attributes::new();
        for (key, raw) in self.members.iter().filter(|(key, _)| !NOT_ATTRIBUTES.contains(&key.as_str())).take(limit::ATTRIBUTES_MAX) {
            let value = match Text::of_value(raw.get().as_bytes()) {
                Some(found) => shown(found, limit::ATTRIBUTE_BYTES_MAX).into_string().into(),
                None if raw.get().len() <= limit::ATTRIBUTE_BYTES_MAX => {
                    let masked = paramedic_model::secret::mask(raw.get());
                    serde_json::from_str(&masked).unwrap_or_else(|_| masked.into_owned().into())
                }
                None => continue,
            };
            attributes.insert(text::head(key, limit::ID_BYTES_MAX).to_owned(), value);
        }
        if let Some(summary) = self.raw("tool_input").and_then(tool_input_summary) {
            attributes.insert("input".to_owned(), summary.into());
        }
        attributes
    }

    fn fact(&self, name: &str) -> Fact {
        let is_agent_known = self.id("agent_id").is_some();
        match name {
            "SessionStart" => {
                Fact::SessionStarted { how: self.id("source"), model: self.id("model"), cwd: self.id("cwd"), version: self.id("version") }
            }
            "SessionEnd" => Fact::SessionEnded { reason: self.id("reason") },
            "UserPromptSubmit" => Fact::Prompt,
            "PreToolUse" => Fact::ToolCall {
                id: self.id("tool_use_id"),
                tool: self.id("tool_name").unwrap_or_else(|| "unknown".into()),
                input_hash: self.raw("tool_input").map(tool_input_hash),
            },
            "PostToolUse" => self.tool_result(ToolOutcome::Success, "tool_response"),
            "PostToolUseFailure" => self.tool_result(self.failure(), "error"),
            "PermissionDenied" => self.tool_result(ToolOutcome::Rejected, "reason"),
            "PermissionRequest" => Fact::Waiting { reason: WaitReason::Permission },
            "Elicitation" => Fact::Waiting { reason: WaitReason::Input },
            "Notification" => self.notification(),
            "Stop" => Fact::TurnEnded { duration: None },
            "StopFailure" => self.model_error(),
            "SubagentStart" if is_agent_known => Fact::SubagentStarted { agent_type: self.id("agent_type") },
            "SubagentStop" if is_agent_known => Fact::SubagentEnded { completed: true },
            // `PreCompact` says that it is about to happen; one of the two must carry the fact.
            "PostCompact" => Fact::Compaction {
                trigger: self.id("trigger"),
                tokens_before: self.raw("pre_tokens").and_then(number),
                tokens_after: self.raw("post_tokens").and_then(number),
            },
            _ => Fact::Record,
        }
    }

    fn tool_result(&self, outcome: ToolOutcome, content: &str) -> Fact {
        Fact::ToolResult {
            id: self.id("tool_use_id"),
            tool: self.id("tool_name"),
            outcome,
            result_hash: self.raw(content).map(xxh3_64),
            duration: self.raw("duration_ms").and_then(number).map(Duration::from_millis),
        }
    }

    fn failure(&self) -> ToolOutcome {
        if self.raw("is_interrupt") == Some(b"true") {
            return ToolOutcome::Interrupted;
        }
        outcome_of(true, self.raw("error").unwrap_or_default())
    }

    /// Old versions gave no type, only a sentence.
    fn notification(&self) -> Fact {
        let sentence = self.text("message", limit::ATTRIBUTE_BYTES_MAX).unwrap_or_default();
        let reason = match self.id("notification_type").as_deref() {
            Some("permission_prompt" | "worker_permission_prompt") => WaitReason::Permission,
            Some("idle_prompt") => WaitReason::Idle,
            Some("agent_needs_input" | "elicitation_dialog") => WaitReason::Input,
            None if sentence.contains("permission") => WaitReason::Permission,
            None if sentence.contains("waiting for your input") => WaitReason::Idle,
            _ => return Fact::Record,
        };
        Fact::Waiting { reason }
    }

    fn model_error(&self) -> Fact {
        let kind = self.id("error");
        let sentence = self.failure_sentence();
        let (class, status) = api_error::classify(Signs { kind: kind.as_deref(), status: None, text: &sentence });
        Fact::ModelError { class, status, attempts: None, retries_exhausted: api_error::gave_up(&sentence), duration: None }
    }

    fn failure_sentence(&self) -> Box<str> {
        let details = self.text("error_details", limit::EVENT_TEXT_BYTES_MAX).unwrap_or_default();
        let message = self.text("last_assistant_message", limit::EVENT_TEXT_BYTES_MAX).unwrap_or_default();
        if details.is_empty() || message.contains(&*details) { message } else { format!("{details} {message}").trim().into() }
    }

    /// What a failed turn's sentence says about a limit and its reset.
    fn limit_notice(&self, event: &Event) -> Option<Event> {
        if !matches!(event.fact, Fact::ModelError { class: ApiErrorClass::RateLimit, .. }) {
            return None;
        }
        let notice = api_error::limit_notice(&self.failure_sentence(), event.at)?;
        let mut second = Event { uid: None, level: Level::Warn, ..event.clone() };
        second.fact = Fact::RateLimit {
            status: "rejected".into(),
            limit: notice.limit.map(Into::into),
            utilization: None,
            remaining: None,
            resets_at: notice.resets_at,
        };
        Some(second)
    }

    /// What a person reads.
    fn sentence(&self, name: &str, fact: &Fact) -> Box<str> {
        let said = |key: &str| self.text(key, limit::EVENT_TEXT_BYTES_MAX);
        let tool = self.id("tool_name").unwrap_or_default();
        match (name, fact) {
            (_, Fact::ModelError { .. }) => self.failure_sentence(),
            ("PreToolUse" | "PermissionRequest", _) => {
                let input = self.raw("tool_input").and_then(tool_input_summary).unwrap_or_default();
                if input.is_empty() { tool } else { format!("{tool}: {input}").into() }
            }
            ("PostToolUse", _) => tool,
            ("PostToolUseFailure", _) => format!("{tool}: {}", said("error").unwrap_or_default()).into(),
            ("PermissionDenied", _) => format!("{tool}: {}", said("reason").unwrap_or_default()).into(),
            _ => said("prompt").or_else(|| said("message")).or_else(|| said("last_assistant_message")).unwrap_or_default(),
        }
    }
}
