//! Which switches there are, what values they take, and whom they can be for.

use std::fmt;
use std::str::FromStr;

use paramedic_journal::JournalError;
use paramedic_model::text;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Bytes of the name in a scope, and of the part of a switch's name after its colon.
const NAME_BYTES_MAX: usize = 200;
const TEXT_BYTES_MAX: usize = 256;
/// Larger numbers are a mistake of somebody.
const COUNT_MAX: u64 = 1_000_000_000;

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
}

/// A switch that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Known {
    /// With a colon at its end a name follows: `blocked_user:ana`.
    pub name: &'static str,
    pub kind: ValueKind,
    pub what: &'static str,
}

const fn known(name: &'static str, kind: ValueKind, what: &'static str) -> Known {
    Known { name, kind, what }
}

/// All switches, in the order in which they are shown.
pub static KNOWN: &[Known] = &[
    known("fast_fail", ValueKind::Flag, "a call that cannot be served soon fails at once, and is not repeated"),
    known("degraded_mode", ValueKind::Flag, "only what is needed is called; the rest is told to wait"),
    known("rate_limit_per_minute", ValueKind::Count, "calls a minute, all together"),
    known("rate_limit_per_user", ValueKind::Count, "calls a minute of each user"),
    known("tokens_per_minute", ValueKind::Count, "tokens a minute, all together"),
    known("max_concurrent_agents", ValueKind::Count, "agents that may call at the same time"),
    known("max_concurrent_requests", ValueKind::Count, "calls at the same time"),
    known("max_history_tokens", ValueKind::Count, "longer histories are shortened to so many tokens"),
    known("max_output_tokens", ValueKind::Count, "answers have at most so many tokens"),
    known("request_timeout_s", ValueKind::Count, "a call is broken off after so many seconds"),
    known("daily_budget_dollars", ValueKind::Amount, "calls are refused when so much is spent in a day"),
    known("model_routing", ValueKind::Flag, "simple calls go to a cheaper model"),
    known("fallback_model", ValueKind::Text, "calls go to this model instead"),
    known("break_off", ValueKind::Flag, "answers that are being given are broken off"),
    known("blocked", ValueKind::Flag, "every call of the scope is refused"),
    known("blocked_key:", ValueKind::Flag, "every call with this key is refused"),
    known("blocked_user:", ValueKind::Flag, "every call of this user is refused"),
    known("blocked_agent:", ValueKind::Flag, "every call of this agent is refused"),
    known("blocked_session:", ValueKind::Flag, "every call of this session is refused"),
    known("blocked_model:", ValueKind::Flag, "every call of this model is refused"),
];

/// Each completes "failed to …".
#[derive(Debug, Clone, thiserror::Error)]
pub enum SwitchError {
    #[error("find the switch {name:?}: there is none of that name; there are {}", names())]
    Unknown { name: String },
    #[error("read the value of the switch {name}: {why}")]
    Value { name: String, why: String },
    #[error("read the scope {0:?}: it must be all, or key, user, agent, session, model or plugin, a colon and a name")]
    Scope(String),
    #[error("set the switch {name}: {why}")]
    Time { name: String, why: String },
    #[error("set the switch {name}: {count} switches hold already")]
    TooMany { name: String, count: usize },
    #[error("clear the switch {id}: it is not set")]
    NotSet { id: String },
    #[error("set a switch: {0}")]
    Journal(#[from] JournalError),
}

fn names() -> String {
    let each: Vec<String> =
        KNOWN.iter().map(|known| if known.name.ends_with(':') { format!("{}…", known.name) } else { known.name.to_owned() }).collect();
    each.join(", ")
}

fn plain(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.chars().any(|letter| letter.is_control() || letter.is_whitespace())
}

/// The switch of this name, and the value as it is kept.
pub fn checked(name: &str, value: &Value) -> Result<Value, SwitchError> {
    let known = find(name)?;
    let wrong = |why: &str| SwitchError::Value { name: text::capped(name, NAME_BYTES_MAX).into_owned(), why: why.to_owned() };
    let words = value.as_str().map(str::trim);
    match known.kind {
        ValueKind::Flag => {
            let flag = value.as_bool().or_else(|| words?.parse().ok());
            flag.map(Value::from).ok_or_else(|| wrong("it must be true or false"))
        }
        ValueKind::Count => {
            let count = value.as_u64().or_else(|| words?.parse().ok()).filter(|count| (1..=COUNT_MAX).contains(count));
            count.map(Value::from).ok_or_else(|| wrong("it must be a whole number from 1 to 1000000000"))
        }
        ValueKind::Amount => {
            let amount = value.as_f64().or_else(|| words?.parse().ok()).filter(|amount: &f64| *amount > 0.0 && *amount <= 1e9);
            amount.map(Value::from).ok_or_else(|| wrong("it must be a number above 0"))
        }
        ValueKind::Text => {
            let text = words.filter(|text| plain(text) && text.len() <= TEXT_BYTES_MAX);
            text.map(Value::from).ok_or_else(|| wrong("it must be a name without blanks"))
        }
    }
}

pub(super) fn find(name: &str) -> Result<&'static Known, SwitchError> {
    let is = |known: &&Known| match name.strip_prefix(known.name) {
        Some("") => !known.name.ends_with(':'),
        Some(rest) => known.name.ends_with(':') && plain(rest),
        None => false,
    };
    KNOWN.iter().find(is).ok_or_else(|| SwitchError::Unknown { name: text::capped(name, NAME_BYTES_MAX).into_owned() })
}

/// Whom a switch is for. Written as `all` or `user:ana`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    All,
    Key(String),
    User(String),
    Agent(String),
    Session(String),
    Model(String),
    Plugin(String),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match self {
            Self::All => return f.write_str("all"),
            Self::Key(name) => ("key", name),
            Self::User(name) => ("user", name),
            Self::Agent(name) => ("agent", name),
            Self::Session(name) => ("session", name),
            Self::Model(name) => ("model", name),
            Self::Plugin(name) => ("plugin", name),
        };
        write!(f, "{kind}:{name}")
    }
}

impl FromStr for Scope {
    type Err = SwitchError;

    fn from_str(text: &str) -> Result<Self, SwitchError> {
        if text == "all" {
            return Ok(Self::All);
        }
        let wrong = || SwitchError::Scope(text::capped(text, NAME_BYTES_MAX).into_owned());
        let (kind, name) = text.split_once(':').ok_or_else(wrong)?;
        if !plain(name) {
            return Err(wrong());
        }
        let name = name.to_owned();
        Ok(match kind {
            "key" => Self::Key(name),
            "user" => Self::User(name),
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
        for text in ["all", "key:k1", "user:ana", "agent:a:b", "session:s", "model:claude-x", "plugin:memory"] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        for text in ["", "any", "user:", "user", "team:x", "user:a b", "user:a\nb", "All"] {
            assert!(text.parse::<Scope>().is_err(), "{text}");
        }
    }
}
