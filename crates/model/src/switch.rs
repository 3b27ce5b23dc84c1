//! Switches: mitigations of the gateway, each with a value, whom it is for, and until when.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::text;
use crate::time::Timestamp;

/// Bytes of the name in a scope, and of the part of a switch's name after its colon.
const NAME_BYTES_MAX: usize = 200;
const TEXT_BYTES_MAX: usize = 256;
/// Larger numbers are a mistake of somebody.
const COUNT_MAX: u64 = 1_000_000_000;
/// The end of a switch that holds until somebody clears it: the first second of the year 9999.
const NEVER_S: i64 = 253_370_764_800;

/// What a switch is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ValueKind {
    /// `true`, or `false` to take somebody out of a wider one.
    Flag,
    /// A whole number, at least 1.
    Count,
    /// A number above 0.
    Amount,
    /// A name.
    Text,
    /// One of a few words.
    Word,
}

/// A switch that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Known {
    /// With a colon at its end a name follows: `blocked_user:ana`.
    pub name: &'static str,
    pub kind: ValueKind,
    /// The words it can be set to, where it takes words.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub words: &'static [&'static str],
    pub what: &'static str,
    /// It may be set without an end: a budget is no mitigation of an hour.
    pub lasting: bool,
}

const fn known(name: &'static str, kind: ValueKind, what: &'static str) -> Known {
    Known { name, kind, words: &[], what, lasting: false }
}

const fn worded(name: &'static str, words: &'static [&'static str], what: &'static str) -> Known {
    Known { name, kind: ValueKind::Word, words, what, lasting: false }
}

const fn lasting(name: &'static str, kind: ValueKind, what: &'static str) -> Known {
    Known { name, kind, words: &[], what, lasting: true }
}

use ValueKind::{Amount, Count, Flag, Text};

/// All switches, in the order in which they are shown.
pub static KNOWN: &[Known] = &[
    known("blocked", Flag, "every call of the scope is refused"),
    known("blocked_key:", Flag, "every call with this key is refused"),
    known("blocked_user:", Flag, "every call of this user is refused"),
    known("blocked_agent:", Flag, "every call of this agent is refused"),
    known("blocked_session:", Flag, "every call of this session is refused"),
    known("blocked_model:", Flag, "every call of this model is refused"),
    known("break_off", Flag, "answers that are being given are broken off, and no new ones begin"),
    known("rate_limiting", Flag, "the limits of the settings hold where no other limit is set; false: no limit on rates holds"),
    known("rate_limit_per_minute", Count, "calls a minute, of all in the scope together"),
    known("rate_limit_per_user", Count, "calls a minute of each user"),
    known("rate_limit_per_agent", Count, "calls a minute of each agent"),
    known("tokens_per_minute", Count, "tokens a minute, read and written, of all in the scope together"),
    known("input_tokens_per_minute", Count, "tokens read a minute, those from the cache left out, of all in the scope together"),
    known("output_tokens_per_minute", Count, "tokens written a minute, of all in the scope together"),
    known("max_concurrent_requests", Count, "calls at the same time"),
    known("max_concurrent_agents", Count, "agents that may call at the same time"),
    known("queue_wait_s", Count, "a call that must wait is refused after so many seconds"),
    known("provider_pacing", Flag, "calls wait before the provider's own limits are reached"),
    known("adaptive_concurrency", Flag, "calls at the same time are halved after a 429, and grow again while all goes well"),
    known("retry_attempts", Count, "a call that failed before its answer began is tried so many times in all"),
    known("circuit_breaker", Flag, "an upstream that fails again and again is left alone for a while"),
    worded("breaker:", &["open", "closed"], "this circuit breaker is held open, or held closed"),
    known("connect_timeout_s", Count, "connecting is given up after so many seconds"),
    known("first_byte_timeout_s", Count, "a call whose answer did not begin after so many seconds is given up"),
    known("between_tokens_timeout_s", Count, "a stream that says nothing for so many seconds is broken off"),
    known("request_timeout_s", Count, "a call is broken off after so many seconds"),
    known("fast_fail", Flag, "a call that cannot be served soon fails at once, and is not repeated"),
    lasting("enforce_budget", Flag, "false: budgets are counted and told, and refuse nothing"),
    lasting("daily_budget_dollars", Amount, "what calls may cost in a day (UTC)"),
    lasting("weekly_budget_dollars", Amount, "what calls may cost in a week (UTC, from Monday)"),
    lasting("monthly_budget_dollars", Amount, "what calls may cost in a month (UTC)"),
    worded("budget_action", &["deny", "pause", "cheaper"], "what happens at the cap: calls are refused, wait, or go to the cheaper model"),
    known("degraded_mode", Flag, "calls go to the cheaper model, or get a kept or fixed answer, as the settings say"),
    known("model_routing", Flag, "simple calls go to the cheaper model"),
    known("route_to_model", Text, "calls go to this model instead"),
    known("fallback_model", Text, "calls go to this model while their own is overloaded or its breaker is open"),
    known("max_output_tokens", Count, "answers have at most so many tokens"),
    known("max_input_bytes", Count, "a larger request is refused"),
    known("max_input_tokens", Count, "a request of more tokens is refused"),
    known("max_growth_tokens", Count, "a request that is so many tokens longer than the one before in its conversation is refused"),
    known("max_history_messages", Count, "longer histories are shortened to so many messages"),
    known("max_history_tokens", Count, "longer histories are shortened to so many tokens"),
    known("summarization", Flag, "what is taken out of a history leaves a short list of what it was"),
    known("prompt_caching", Flag, "repeated beginnings of prompts are marked for the provider's cache"),
];

/// Names under which people know switches from their own configuration, and the switch that each stands for.
pub static FLAG_NAMES: &[(&str, &str)] = &[
    ("ENABLE_RATE_LIMITING", "rate_limiting"),
    ("ENABLE_RATE_LIMITER", "rate_limiting"),
    ("ENABLE_RATE_LIMIT", "rate_limiting"),
    ("RATE_LIMIT_PER_MINUTE", "rate_limit_per_minute"),
    ("RATE_LIMIT_PER_USER", "rate_limit_per_user"),
    ("ENABLE_DEGRADED_MODE", "degraded_mode"),
    ("API_TIMEOUT", "request_timeout_s"),
    ("REQUEST_TIMEOUT", "request_timeout_s"),
    ("ENABLE_FAST_FAIL", "fast_fail"),
    ("MAX_HISTORY_LENGTH", "max_history_messages"),
    ("MAX_HISTORY_TOKENS", "max_history_tokens"),
    ("ENABLE_SUMMARIZATION", "summarization"),
    ("ENABLE_PROMPT_CACHING", "prompt_caching"),
    ("ENABLE_MODEL_ROUTING", "model_routing"),
    ("DEFAULT_MODEL", "route_to_model"),
    ("DAILY_BUDGET_DOLLARS", "daily_budget_dollars"),
    ("ENFORCE_BUDGET", "enforce_budget"),
    ("CIRCUIT_BREAKER_ENABLED", "circuit_breaker"),
    ("MAX_RETRIES", "retry_attempts"),
    ("TOKEN_BUDGET_PER_REQUEST", "max_input_tokens"),
];

/// Why a name, a value or a scope is none. Each completes "failed to …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SwitchFault {
    #[error("find the switch {name:?}: there is none of that name; there are {}", names())]
    Unknown { name: String },
    #[error("read the value of the switch {name}: {why}")]
    Value { name: String, why: String },
    #[error("read the scope {0:?}: it must be all, or key, user, team, agent, session, model or plugin, a colon and a name")]
    Scope(String),
}

fn names() -> String {
    let each: Vec<String> =
        KNOWN.iter().map(|known| if known.name.ends_with(':') { format!("{}…", known.name) } else { known.name.to_owned() }).collect();
    each.join(", ")
}

fn plain(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(|letter| letter.is_control() || letter.is_whitespace())
}

/// The switch's own name for what somebody wrote: `RATE_LIMIT_PER_USER` is `rate_limit_per_user`. Other names stay.
#[must_use]
pub fn own_name(name: &str) -> &str {
    FLAG_NAMES.iter().find(|(flag, _)| *flag == name).map_or(name, |(_, switch)| switch)
}

/// The switch of this name, and the value as it is kept.
///
/// # Errors
/// When there is no such switch, or it takes no such value.
pub fn checked(name: &str, value: &Value) -> Result<Value, SwitchFault> {
    let known = find(name)?;
    let wrong = |why: String| SwitchFault::Value { name: text::capped(name, NAME_BYTES_MAX).into_owned(), why };
    let words = value.as_str().map(str::trim);
    match known.kind {
        Flag => {
            let flag = value.as_bool().or_else(|| words?.parse().ok());
            flag.map(Value::from).ok_or_else(|| wrong("it must be true or false".to_owned()))
        }
        Count => {
            let count = value.as_u64().or_else(|| words?.parse().ok()).filter(|count| (1..=COUNT_MAX).contains(count));
            count.map(Value::from).ok_or_else(|| wrong("it must be a whole number from 1 to 1000000000".to_owned()))
        }
        Amount => {
            let amount = value.as_f64().or_else(|| words?.parse().ok()).filter(|amount: &f64| *amount > 0.0 && *amount <= 1e9);
            amount.map(Value::from).ok_or_else(|| wrong("it must be a number above 0".to_owned()))
        }
        Text => {
            let text = words.filter(|text| plain(text) && text.len() <= TEXT_BYTES_MAX);
            text.map(Value::from).ok_or_else(|| wrong("it must be a name without blanks".to_owned()))
        }
        ValueKind::Word => {
            let word = words.filter(|word| known.words.contains(word));
            word.map(Value::from).ok_or_else(|| wrong(format!("it must be {}", known.words.join(" or "))))
        }
    }
}

/// What is known of the switch of this name.
///
/// # Errors
/// When there is none.
pub fn find(name: &str) -> Result<&'static Known, SwitchFault> {
    let is = |known: &&Known| match name.strip_prefix(known.name) {
        Some("") => !known.name.ends_with(':'),
        Some(rest) => known.name.ends_with(':') && plain(rest),
        None => false,
    };
    KNOWN.iter().find(is).ok_or_else(|| SwitchFault::Unknown { name: text::capped(name, NAME_BYTES_MAX).into_owned() })
}

/// A switch that holds, or held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Switch {
    /// `fast_fail@all`: its name and whom it is for. There is one of each.
    pub id: String,
    pub switch: String,
    pub value: Value,
    #[schemars(with = "String")]
    pub scope: Scope,
    pub by: String,
    pub why: String,
    pub set_at: Timestamp,
    /// A year of 9999 says: until somebody clears it.
    pub expires_at: Timestamp,
    /// The journal's entry that says so; 0 where it is in no journal.
    pub seq: u64,
}

impl Switch {
    /// It holds until somebody clears it.
    #[must_use]
    pub fn lasts(&self) -> bool {
        self.expires_at >= never()
    }
}

/// The end of a switch that has none.
#[must_use]
pub fn never() -> Timestamp {
    Timestamp::from_secs(NEVER_S)
}

/// Whom a switch is for. Written as `all` or `user:ana`; `user=ana` is read too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    All,
    /// The name of a key: a keyed hash, or the name that the settings give to it.
    Key(String),
    User(String),
    Team(String),
    Agent(String),
    Session(String),
    Model(String),
    Plugin(String),
}

impl Scope {
    /// `user`, and the name; nothing for all.
    #[must_use]
    pub fn parts(&self) -> Option<(&'static str, &str)> {
        Some(match self {
            Self::All => return None,
            Self::Key(name) => ("key", name),
            Self::User(name) => ("user", name),
            Self::Team(name) => ("team", name),
            Self::Agent(name) => ("agent", name),
            Self::Session(name) => ("session", name),
            Self::Model(name) => ("model", name),
            Self::Plugin(name) => ("plugin", name),
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            None => f.write_str("all"),
            Some((kind, name)) => write!(f, "{kind}:{name}"),
        }
    }
}

impl FromStr for Scope {
    type Err = SwitchFault;

    fn from_str(text: &str) -> Result<Self, SwitchFault> {
        if text == "all" {
            return Ok(Self::All);
        }
        let wrong = || SwitchFault::Scope(text::capped(text, NAME_BYTES_MAX).into_owned());
        let (kind, name) = text.split_once([':', '=']).ok_or_else(wrong)?;
        if !plain(name) {
            return Err(wrong());
        }
        let name = name.to_owned();
        Ok(match kind {
            "key" => Self::Key(name),
            "user" => Self::User(name),
            "team" => Self::Team(name),
            "agent" => Self::Agent(name),
            "session" => Self::Session(name),
            "model" => Self::Model(name),
            "plugin" => Self::Plugin(name),
            _ => return Err(wrong()),
        })
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_and_values_are_checked() {
        let cases = [
            ("fast_fail", json!(true), Some(json!(true))),
            ("fast_fail", json!("false"), Some(json!(false))),
            ("fast_fail", json!(1), None),
            ("rate_limit_per_minute", json!("100"), Some(json!(100))),
            ("rate_limit_per_minute", json!(0), None),
            ("rate_limit_per_minute", json!(-5), None),
            ("rate_limit_per_minute", json!(1.5), None),
            ("daily_budget_dollars", json!("12.5"), Some(json!(12.5))),
            ("daily_budget_dollars", json!("NaN"), None),
            ("daily_budget_dollars", json!("inf"), None),
            ("fallback_model", json!("claude-haiku"), Some(json!("claude-haiku"))),
            ("fallback_model", json!("a b"), None),
            ("budget_action", json!("pause"), Some(json!("pause"))),
            ("budget_action", json!("explode"), None),
            ("breaker:anthropic", json!("open"), Some(json!("open"))),
            ("breaker:", json!("open"), None),
            ("blocked_user:ana@x", json!(true), Some(json!(true))),
            ("blocked_user:", json!(true), None),
            ("blocked_user:a\nb", json!(true), None),
            ("blocked_user", json!(true), None),
            ("nonsense", json!(true), None),
            ("fast_fail:x", json!(true), None),
        ];
        for (name, value, expect) in cases {
            assert_eq!(checked(name, &value).ok(), expect, "{name} {value}");
        }
        let said = checked("nonsense", &json!(1)).unwrap_err().to_string();
        assert!(said.contains("fast_fail") && said.contains("blocked_user:…"), "{said}");
    }

    #[test]
    fn scopes_are_read_as_they_are_written() {
        for text in ["all", "key:k1", "user:ana", "team:blue", "agent:a:b", "session:s", "model:claude-x", "plugin:memory"] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        assert_eq!("user=u-42".parse::<Scope>().unwrap(), Scope::User("u-42".to_owned()));
        for text in ["", "any", "user:", "user", "group:x", "user:a b", "user:a\nb", "All"] {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_flag_name_stands_for_a_switch_that_there_is() {
        for (flag, switch) in FLAG_NAMES {
            assert!(find(switch).is_ok(), "{flag}: {switch}");
            assert_eq!(own_name(flag), *switch);
        }
        assert_eq!(own_name("fast_fail"), "fast_fail");
        assert!(never() > Timestamp::parse("9998-12-31T23:59:59Z").unwrap());
    }
}
