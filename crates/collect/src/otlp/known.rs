//! The attributes that mean something to us, found in one pass.

use std::borrow::Cow;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};

use super::value;

macro_rules! known {
    ($($(#[$doc:meta])* $key:ident = $($name:literal)|+),+ $(,)?) => {
        /// One meaning; several spellings may carry it.
        #[derive(Clone, Copy)]
        pub(super) enum Key { $($(#[$doc])* $key),+ }

        impl Key {
            const COUNT: usize = [$(Self::$key),+].len();

            fn of(name: &str) -> Option<Self> {
                Some(match name { $($($name)|+ => Self::$key,)+ _ => return None })
            }
        }
    };
}

known! {
    ServiceName = "service.name",
    ServiceInstance = "service.instance.id",
    ServiceVersion = "service.version",
    HostName = "host.name",
    Session = "session.id" | "session_id",
    Conversation = "gen_ai.conversation.id" | "conversation.id" | "conversation_id" | "conversationId",
    Agent = "agent.id" | "agent_id",
    UserAccount = "user.account_uuid",
    User = "user.id" | "user_id" | "userId" | "enduser.id",
    UserEmail = "user.email",
    Prompt = "prompt.id" | "prompt_id",
    Request = "request_id" | "request.id" | "requestId",
    RequestHeader = "http.request.header.x-request-id" | "x-request-id" | "X-Request-ID",
    CorrelationId = "correlation_id" | "correlation.id" | "correlationId" | "http.request.header.x-correlation-id",
    EventName = "event.name",
    EventTime = "event.timestamp",
    EventSequence = "event.sequence",
    Model = "model" | "gen_ai.request.model",
    CostUsd = "cost_usd",
    CostMicros = "cost_usd_micros",
    DurationMs = "duration_ms" | "total_retry_duration_ms",
    FirstTokenMs = "ttft_ms",
    InputTokens = "input_tokens",
    OutputTokens = "output_tokens",
    CacheReadTokens = "cache_read_tokens",
    CacheCreationTokens = "cache_creation_tokens",
    StopReason = "stop_reason",
    Error = "error" | "error.message",
    ErrorType = "error_type" | "error.type",
    ErrorCode = "error_code",
    ErrorName = "error_name",
    StatusCode = "status_code" | "http.response.status_code",
    Attempt = "attempt" | "total_attempts",
    Tool = "tool_name",
    ToolUse = "tool_use_id",
    Success = "success",
    Decision = "decision" | "decision_type",
    DecisionSource = "decision_source" | "source",
    Trigger = "trigger",
    TokensBefore = "pre_tokens",
    TokensAfter = "post_tokens",
    Server = "server_name" | "mcp_server.name",
    Status = "status",
    PromptText = "prompt",
    Response = "response",
    Blocking = "num_blocking",
    HookErrors = "num_non_blocking_error",
    HookName = "hook_name" | "hook_event",
    ExceptionType = "exception.type",
    ExceptionMessage = "exception.message",
    ExceptionStack = "exception.stacktrace",
}

/// What a record says, and behind it what its resource says.
#[derive(Clone, Copy)]
pub(super) struct Known<'a>([Option<&'a AnyValue>; Key::COUNT]);

impl<'a> Known<'a> {
    pub(super) const fn new() -> Self {
        Self([None; Key::COUNT])
    }

    pub(super) fn scan(&mut self, attributes: &'a [KeyValue]) {
        for attribute in attributes {
            if let (Some(key), Some(value)) = (Key::of(&attribute.key), &attribute.value) {
                self.0[key as usize] = Some(value);
            }
        }
    }

    pub(super) fn text(&self, key: Key) -> Option<Cow<'a, str>> {
        value::as_text(self.0[key as usize]?)
    }

    pub(super) fn first_text(&self, keys: &[Key]) -> Option<Cow<'a, str>> {
        keys.iter().find_map(|key| self.text(*key))
    }

    pub(super) fn id(&self, keys: &[Key]) -> Option<Box<str>> {
        self.first_text(keys).map(|text| super::clean::id(&text))
    }

    pub(super) fn integer(&self, key: Key) -> Option<i64> {
        value::as_integer(self.0[key as usize]?)
    }

    pub(super) fn count(&self, key: Key) -> Option<u64> {
        self.integer(key).and_then(|number| u64::try_from(number).ok())
    }

    pub(super) fn float(&self, key: Key) -> Option<f64> {
        value::as_float(self.0[key as usize]?)
    }

    pub(super) fn flag(&self, key: Key) -> Option<bool> {
        value::as_bool(self.0[key as usize]?)
    }

    pub(super) fn millis(&self, key: Key) -> Option<Duration> {
        let millis = self.float(key).filter(|millis| (0.0..1.0e13).contains(millis))?;
        Some(Duration::from_secs_f64(millis / 1_000.0))
    }
}
