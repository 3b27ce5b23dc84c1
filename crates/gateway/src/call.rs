//! One call: who makes it, what kind it is, and what became of it.

use std::time::Duration;

use paramedic_model::{Scope, Timestamp, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a request is for the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `POST /v1/messages`: the one kind that is limited and charged.
    Inference,
    /// `POST /v1/messages/count_tokens`: free, and sent many at a time.
    CountTokens,
    /// Everything else: passed through. Only blocks, breakers and time limits are for it.
    Other,
}

/// Who makes a call, as far as its headers and its metadata say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Caller {
    /// Names the key without telling it: the first 16 hexadecimal digits of a keyed hash, or the name in the settings.
    pub key: Option<Box<str>>,
    pub user: Option<Box<str>>,
    pub team: Option<Box<str>>,
    /// A sub-agent's own id, else that of its session's main agent.
    pub agent: Option<Box<str>>,
    pub parent_agent: Option<Box<str>>,
    pub session: Option<Box<str>>,
    pub plugin: Option<Box<str>>,
    pub prompt: Option<Box<str>>,
    /// `main`, `subagent`.
    pub request_class: Option<Box<str>>,
    pub agent_type: Option<Box<str>>,
    /// The program that calls, such as `claude-cli/2.1.330`.
    pub client: Option<Box<str>>,
    /// Which try this is, by the client's own count; 1 for the first.
    pub attempt: u32,
}

impl Caller {
    /// Whether a scope means this caller, who asks for this model. A sub-agent may be named without its session.
    #[must_use]
    pub fn is_in(&self, scope: &Scope, model: Option<&str>) -> bool {
        let is = |mine: &Option<Box<str>>, name: &str| mine.as_deref() == Some(name);
        match scope {
            Scope::All => true,
            Scope::Key(name) => is(&self.key, name),
            Scope::User(name) => is(&self.user, name),
            Scope::Team(name) => is(&self.team, name),
            Scope::Agent(name) => is(&self.agent, name) || self.own_agent() == Some(name),
            Scope::Session(name) => is(&self.session, name),
            Scope::Model(name) => model == Some(name),
            Scope::Plugin(name) => is(&self.plugin, name),
        }
    }

    /// A sub-agent's id without its session's.
    #[must_use]
    pub fn own_agent(&self) -> Option<&str> {
        self.agent.as_deref()?.split_once('/').map(|(_, own)| own)
    }
}

/// What a switch did to a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Acted {
    /// `max_history_tokens@all`.
    pub switch: Box<str>,
    /// `left out 12 messages, about 3400 tokens`.
    pub what: Box<str>,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The upstream answered, and its answer was passed on whole. Its status may tell of an error.
    Answered,
    /// The upstream's answer ended before its end.
    Cut,
    /// The client went away.
    ClientGone,
    /// A time limit was over.
    TimedOut,
    /// The upstream could not be reached, or said nothing that can be understood.
    Unreachable,
    /// A switch, a limit, a budget or a breaker refused it; the upstream was not asked.
    Refused,
    /// A switch broke it off while it was being answered.
    BrokenOff,
    /// Answered by the gateway itself, in degraded mode.
    Degraded,
}

/// One call as it was: what the traffic page shows, and what events and samples are made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// Counts up within a gateway's life.
    pub id: u64,
    pub at: Timestamp,
    pub kind: Kind,
    pub caller: Caller,
    pub method: Box<str>,
    /// Without its query.
    pub path: Box<str>,
    pub upstream: Box<str>,
    /// As it was asked for.
    pub model: Option<Box<str>>,
    /// As the answer names it.
    pub served_model: Option<Box<str>>,
    pub stream: bool,
    pub outcome: Outcome,
    /// What the client got.
    pub status: u16,
    /// `overloaded_error`, as the answer or the stream's error event said it.
    pub error_type: Option<Box<str>>,
    /// What the answer's `request-id` header said.
    pub request_id: Option<Box<str>>,
    /// `msg_…`
    pub message_id: Option<Box<str>>,
    pub usage: Usage,
    /// Picodollars (10⁻¹² US dollars), by the served model's price; none when the price is not known.
    pub cost_pico: Option<u64>,
    pub stop_reason: Option<Box<str>>,
    /// How many times the upstream was asked for this one call.
    pub tries: u32,
    /// Waited for a limit, a budget or the next try.
    pub waited: Duration,
    pub first_byte: Option<Duration>,
    pub first_token: Option<Duration>,
    pub duration: Duration,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// The part of the request, 0 to 1, that the call before in this conversation began with too.
    pub repeated_share: Option<f32>,
    /// Which switches did something, in the order in which they did.
    pub acted: Vec<Acted>,
}

/// What the gateway asks of whoever knows prices.
pub trait Pricing: Send + Sync {
    /// What `usage`, as one call of this model, costs in picodollars; none when the model has no price.
    fn call(&self, model: &str, usage: &Usage) -> Option<u64>;
}
