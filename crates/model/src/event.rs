//! One event is one thing that happened to one agent, whoever told us about it.
//!
//! Collectors turn every foreign format into [`Event`]s. What the format means for an agent is in [`Fact`], a
//! closed list that the fleet and the detectors work on; everything else that the format said is kept in
//! `attributes` and can be searched. An event is complete: the fleet and every detector can be rebuilt from stored
//! events alone.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{AgentId, SessionId};
use crate::incident::named;
use crate::time::Timestamp;
use crate::usage::Usage;

/// The attribute bag: foreign keys as they came, values as JSON.
pub type Attributes = serde_json::Map<String, serde_json::Value>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened, by the clock of whoever told us.
    pub at: Timestamp,
    pub source: Source,
    /// The name in the source's own vocabulary: `assistant`, `system/api_error`, `claude_code.api_request`,
    /// `PreToolUse`, `log`.
    pub name: Box<str>,
    pub level: Level,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub agent: Option<AgentId>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<SessionId>,
    #[serde(skip_serializing_if = "Correlation::is_empty", default)]
    pub correlation: Correlation,
    /// What a person reads: capped and masked.
    pub text: Box<str>,
    pub fact: Fact,
    #[serde(skip_serializing_if = "Attributes::is_empty", default)]
    pub attributes: Attributes,
    /// Identity within the source (a hash of a line's uuid, say): the same record read twice has the same one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u64>,
}

impl Event {
    /// An event with a time, a source and a name; the rest empty.
    #[must_use]
    pub fn new(at: Timestamp, source: Source, name: impl Into<Box<str>>) -> Self {
        Self {
            at,
            source,
            name: name.into(),
            level: Level::Info,
            agent: None,
            session: None,
            correlation: Correlation::default(),
            text: "".into(),
            fact: Fact::Record,
            attributes: Attributes::new(),
            uid: None,
        }
    }

    /// The kind that people filter by.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.fact.kind()
    }
}

/// Ids that join events of different sources.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Correlation {
    /// Claude Code's prompt id, the same in hooks and telemetry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Box<str>>,
    /// The model API's request id, or an `X-Request-ID` / correlation id of a service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Box<str>>,
    /// 32 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<Box<str>>,
    /// 16 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_span: Option<Box<str>>,
    /// The person or account on whose behalf the agent works; counted for "affected users".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Box<str>>,
}

impl Correlation {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

named! {
    /// Who told us.
    Source {
        Transcript = "transcript" / "Claude Code transcript",
        StreamJson = "stream-json" / "stream-json output",
        Hook = "hook" / "Claude Code hook",
        OtlpLog = "otlp-log" / "OTLP log record",
        OtlpMetric = "otlp-metric" / "OTLP metric",
        OtlpSpan = "otlp-span" / "OTLP span",
        Log = "log" / "Log line",
        Process = "process" / "Process table",
        Gateway = "gateway" / "Gateway",
    }
}

named! {
    /// How loud the record is, least first.
    Level {
        Debug = "debug" / "Debug",
        Info = "info" / "Info",
        Warn = "warn" / "Warning",
        Error = "error" / "Error",
    }
}

impl Level {
    /// Reads every spelling that loggers use: `WARNING`, `fatal`, pino's numbers, OTLP's severity numbers excepted.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Some(match text.trim().to_ascii_lowercase().as_str() {
            "trace" | "verbose" | "silly" | "debug" | "10" | "20" => Self::Debug,
            "info" | "information" | "notice" | "log" | "http" | "30" => Self::Info,
            "warn" | "warning" | "40" => Self::Warn,
            "error" | "err" | "fatal" | "critical" | "crit" | "alert" | "emerg" | "panic" | "50" | "60" => Self::Error,
            _ => return None,
        })
    }
}

/// What happened, in words that every source shares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "kebab-case")]
pub enum Fact {
    /// Kept and searchable, but it changes nothing about an agent: a log line, an attachment, an unknown type.
    Record,
    SessionStarted {
        /// `startup`, `resume`, `clear`, `compact`, `fork`.
        how: Option<Box<str>>,
        model: Option<Box<str>>,
        cwd: Option<Box<str>>,
        version: Option<Box<str>>,
    },
    SessionEnded {
        reason: Option<Box<str>>,
    },
    /// Somebody gave the agent work: a turn begins.
    Prompt,
    /// The agent handed the turn back.
    TurnEnded {
        duration: Option<Duration>,
    },
    /// The model answered. One call may be told several times, with growing counts.
    ModelCall {
        /// The API's message id (`msg_…`). The request id is in [`Correlation::request`].
        message: Option<Box<str>>,
        model: Option<Box<str>>,
        usage: Usage,
        /// Cost in US dollars as the source itself computed it.
        cost_usd: Option<f64>,
        duration: Option<Duration>,
        time_to_first_token: Option<Duration>,
        stop_reason: Option<Box<str>>,
        /// Hash of the normalised answer text, when there is text: for monologues.
        text_hash: Option<u64>,
    },
    /// A model call failed and will be tried again.
    ModelRetry {
        class: ApiErrorClass,
        status: Option<u16>,
        /// 1 for the first retry.
        attempt: u32,
        attempts_max: Option<u32>,
        delay: Option<Duration>,
    },
    /// A model call failed for good: the turn stops here.
    ModelError {
        class: ApiErrorClass,
        status: Option<u16>,
        attempts: Option<u32>,
        /// The client gave up after its last retry, as opposed to an error that is never retried.
        retries_exhausted: bool,
        duration: Option<Duration>,
    },
    /// What the API said about a limit.
    RateLimit {
        /// `allowed`, `allowed_warning`, `rejected`.
        status: Box<str>,
        /// `five_hour`, `seven_day`, `requests`, `input_tokens` …
        limit: Option<Box<str>>,
        /// 0 to 1.
        utilization: Option<f64>,
        remaining: Option<u64>,
        resets_at: Option<Timestamp>,
    },
    ToolCall {
        /// `toolu_…`.
        id: Option<Box<str>>,
        tool: Box<str>,
        /// xxh3 of the canonical arguments, volatile fields left out; none where the source hides arguments.
        input_hash: Option<u64>,
    },
    ToolResult {
        id: Option<Box<str>>,
        /// Known to some sources only; the call names the tool.
        tool: Option<Box<str>>,
        outcome: ToolOutcome,
        /// xxh3 of the result's content.
        result_hash: Option<u64>,
        duration: Option<Duration>,
    },
    /// A tool is still running: a sign of life.
    ToolProgress {
        id: Option<Box<str>>,
    },
    /// The agent cannot go on without a person.
    Waiting {
        reason: WaitReason,
    },
    Compaction {
        /// `auto` or `manual`.
        trigger: Option<Box<str>>,
        tokens_before: Option<u64>,
        tokens_after: Option<u64>,
    },
    SubagentStarted {
        agent_type: Option<Box<str>>,
    },
    SubagentEnded {
        /// A workflow's journal said `result`, or the sub-agent stopped by itself.
        completed: bool,
    },
    /// An MCP server connected, failed or left.
    McpServer {
        server: Option<Box<str>>,
        status: Box<str>,
    },
    /// What the operating system or a liveness file says about the agent's process.
    Process {
        pid: u32,
        /// Clock ticks since boot (`/proc/<pid>/stat` field 22): with the pid, it names one process for ever.
        started: Option<u64>,
        alive: bool,
        /// `busy` or `idle`, from the session's liveness file.
        status: Option<Box<str>>,
        rss_bytes: Option<u64>,
    },
    /// One data point of a metric.
    Measurement {
        value: f64,
        unit: Option<Box<str>>,
        temporality: Temporality,
    },
    /// One finished span.
    Span {
        duration: Duration,
        failed: bool,
    },
}

impl Fact {
    /// Every kind there is, by its number.
    pub const KINDS: [&'static str; 20] = [
        "record",
        "session-started",
        "session-ended",
        "prompt",
        "turn-ended",
        "model-call",
        "model-retry",
        "model-error",
        "rate-limit",
        "tool-call",
        "tool-result",
        "tool-progress",
        "waiting",
        "compaction",
        "subagent-started",
        "subagent-ended",
        "mcp-server",
        "process",
        "measurement",
        "span",
    ];

    /// The kind's number: its place in [`Self::KINDS`]. It is stored, so a kind keeps its number and a new one goes to the end.
    #[must_use]
    pub const fn number(&self) -> u8 {
        match self {
            Self::Record => 0,
            Self::SessionStarted { .. } => 1,
            Self::SessionEnded { .. } => 2,
            Self::Prompt => 3,
            Self::TurnEnded { .. } => 4,
            Self::ModelCall { .. } => 5,
            Self::ModelRetry { .. } => 6,
            Self::ModelError { .. } => 7,
            Self::RateLimit { .. } => 8,
            Self::ToolCall { .. } => 9,
            Self::ToolResult { .. } => 10,
            Self::ToolProgress { .. } => 11,
            Self::Waiting { .. } => 12,
            Self::Compaction { .. } => 13,
            Self::SubagentStarted { .. } => 14,
            Self::SubagentEnded { .. } => 15,
            Self::McpServer { .. } => 16,
            Self::Process { .. } => 17,
            Self::Measurement { .. } => 18,
            Self::Span { .. } => 19,
        }
    }

    /// The kind's name: the same word as in the stored form.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        Self::KINDS[self.number() as usize]
    }
}

named! {
    /// Why the model API did not answer.
    ApiErrorClass {
        Overloaded = "overloaded" / "model API overloaded",
        RateLimit = "rate_limit" / "rate limited",
        Server = "server_error" / "model API server error",
        Network = "network" / "network failure",
        Timeout = "timeout" / "timed out",
        Authentication = "authentication_failed" / "authentication failed",
        Billing = "billing_error" / "billing problem",
        InvalidRequest = "invalid_request" / "invalid request",
        PromptTooLong = "prompt_too_long" / "prompt too long",
        ModelNotFound = "model_not_found" / "model not found",
        MaxOutputTokens = "max_output_tokens" / "output limit reached",
        Unknown = "unknown" / "unknown error",
    }
}

impl ApiErrorClass {
    /// From an HTTP status, where nothing better is known.
    #[must_use]
    pub const fn from_status(status: u16) -> Self {
        match status {
            529 | 503 => Self::Overloaded,
            429 => Self::RateLimit,
            401 | 403 => Self::Authentication,
            402 => Self::Billing,
            404 => Self::ModelNotFound,
            408 | 504 => Self::Timeout,
            413 => Self::PromptTooLong,
            400..=499 => Self::InvalidRequest,
            500..=599 => Self::Server,
            _ => Self::Unknown,
        }
    }

    /// The provider's fault, as opposed to the caller's.
    #[must_use]
    pub const fn is_provider(self) -> bool {
        matches!(self, Self::Overloaded | Self::Server | Self::Network | Self::Timeout)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToolOutcome {
    Success,
    Error,
    /// A person said no: not the agent's failure.
    Rejected,
    /// A person stopped it.
    Interrupted,
    /// Another call of the same batch failed and took this one along.
    SiblingError,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitReason {
    Permission,
    Input,
    Idle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Temporality {
    Delta,
    Cumulative,
    Gauge,
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Permission => "permission",
            Self::Input => "an answer",
            Self::Idle => "the next prompt",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was written must be readable for ever: the stored form of every fact, one line each.
    #[test]
    fn the_kind_is_the_word_in_the_stored_form() {
        let facts = [
            Fact::Record,
            Fact::Prompt,
            Fact::TurnEnded { duration: Some(Duration::from_millis(1500)) },
            Fact::ToolProgress { id: None },
            Fact::Waiting { reason: WaitReason::Permission },
            Fact::Measurement { value: 1.5, unit: None, temporality: Temporality::Delta },
        ];
        for fact in facts {
            let stored = serde_json::to_value(&fact).expect("serialises");
            assert_eq!(stored["fact"], fact.kind());
            assert_eq!(serde_json::from_value::<Fact>(stored).expect("reads back"), fact);
        }
    }

    /// A stored fact with what it cannot go without.
    fn least(kind: &str) -> serde_json::Value {
        let mut stored = serde_json::json!({
            "fact": kind, "usage": Usage::default(), "class": "unknown", "attempt": 1, "retries_exhausted": false, "status": "ok",
            "tool": "Bash", "outcome": "success", "reason": "idle", "completed": true, "pid": 7, "alive": true, "value": 1.0,
            "temporality": "gauge", "duration": Duration::from_secs(1), "failed": false,
        });
        if matches!(kind, "model-retry" | "model-error" | "process") {
            stored["status"] = serde_json::Value::Null;
        }
        stored
    }

    #[test]
    fn the_kinds_are_those_of_all_facts() {
        for kind in Fact::KINDS {
            let fact = serde_json::from_value::<Fact>(least(kind)).unwrap_or_else(|error| panic!("{kind}: {error}"));
            assert_eq!(fact.kind(), kind);
        }
        // Reading names all that there are, so a fact without a kind in the list is found.
        let refused = serde_json::from_value::<Fact>(least("nonsense")).expect_err("no such fact").to_string();
        let named: Vec<&str> = refused.split('`').skip(3).step_by(2).collect();
        assert_eq!(named, Fact::KINDS);
    }

    #[test]
    fn an_event_survives_the_round_trip() {
        let mut event = Event::new(Timestamp::from_millis(1_700_000_000_123), Source::Hook, "PreToolUse");
        event.session = Some("s".into());
        event.agent = Some("s/a".into());
        event.fact = Fact::ToolCall { id: Some("toolu_1".into()), tool: "Bash".into(), input_hash: Some(u64::MAX) };
        event.attributes.insert("cwd".to_owned(), "/repo".into());
        let stored = serde_json::to_string(&event).expect("serialises");
        assert_eq!(serde_json::from_str::<Event>(&stored).expect("reads back"), event);
    }
}
