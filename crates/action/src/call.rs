//! What is asked of an action, and what it answers.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::ActionError;
use crate::spec::Effect;

/// Objects that a plan or a record names one by one; further ones are only counted.
pub const OBJECTS_MAX: usize = 100;

/// A duration that is longer is a slip, and could not be added to a time.
pub const DURATION_DAYS_MAX: u64 = 366;

/// An action with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Call {
    pub action: String,
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// Who wants it, for what keeps a record of its own (flags, switches).
    #[serde(default)]
    pub by: String,
    /// Why, in words.
    #[serde(default)]
    pub reason: String,
}

/// One thing that an action touches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Object {
    /// `process`, `key`, `deployment`.
    pub kind: String,
    /// Its name, with what it lies in: `shop/web`, `4711`.
    pub name: String,
    /// What a person wants to know of it before it is touched.
    pub detail: String,
}

/// What an action would do, found out by looking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    pub action: String,
    /// One sentence: `scale the deployment shop/web from 2 to 5 replicas`.
    pub what: String,
    pub effect: Effect,
    /// The first [`OBJECTS_MAX`] of what it touches.
    pub objects: Vec<Object>,
    /// How many it touches.
    pub affected: u64,
    /// Of how many, where that is known.
    pub of: Option<u64>,
    /// The requests, commands or signals, exactly, in order.
    pub exact: Vec<String>,
    /// What takes it back; none where nothing does.
    pub inverse: Option<Call>,
    /// After this time the inverse is to run by itself.
    pub reverts_after_s: Option<u64>,
    /// What a person should know before they agree.
    pub warnings: Vec<String>,
    /// A short text that says what the plan stands on (a start time, a resource version); it is compared before anything is done.
    pub stands_on: String,
}

/// What an action did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    /// One sentence in the past.
    pub what: String,
    /// How many were changed in fact.
    pub affected: u64,
    pub before: Value,
    pub after: Value,
    /// What it found, for actions that look.
    pub answer: Value,
    pub inverse: Option<Call>,
    pub reverts_after_s: Option<u64>,
    pub verified: Verified,
}

/// Whether what was done was then seen to be so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verified {
    pub holds: bool,
    /// What was looked at, and what was seen.
    pub how: String,
}

impl Plan {
    /// A plan that touches nothing yet.
    #[must_use]
    pub fn new(call: &Call, effect: Effect, what: impl Into<String>) -> Self {
        Self {
            action: call.action.clone(),
            what: what.into(),
            effect,
            objects: Vec::new(),
            affected: 0,
            of: None,
            exact: Vec::new(),
            inverse: None,
            reverts_after_s: None,
            warnings: Vec::new(),
            stands_on: String::new(),
        }
    }
}

impl Done {
    /// A deed with nothing known of it but its words.
    #[must_use]
    pub fn new(what: impl Into<String>, verified: Verified) -> Self {
        Self {
            what: what.into(),
            affected: 0,
            before: Value::Null,
            after: Value::Null,
            answer: Value::Null,
            inverse: None,
            reverts_after_s: None,
            verified,
        }
    }

    /// What an action that only looks has found.
    #[must_use]
    pub fn looked(what: impl Into<String>, answer: Value) -> Self {
        Self { answer, ..Self::new(what, Verified::seen("it only looked")) }
    }
}

impl Verified {
    #[must_use]
    pub fn seen(how: impl Into<String>) -> Self {
        Self { holds: true, how: how.into() }
    }

    #[must_use]
    pub fn missed(how: impl Into<String>) -> Self {
        Self { holds: false, how: how.into() }
    }
}

impl Call {
    #[must_use]
    pub fn new(action: &str) -> Self {
        Self { action: action.to_owned(), arguments: Map::new(), by: String::new(), reason: String::new() }
    }

    /// The call with one more argument.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.arguments.insert(name.to_owned(), value.into());
        self
    }

    /// An argument that cannot be used.
    #[must_use]
    pub fn fault(&self, argument: &str, why: impl Into<String>) -> ActionError {
        ActionError::Argument { action: self.action.clone(), argument: argument.to_owned(), why: why.into() }
    }

    /// A text, a number or a flag as text; none when it is not given or empty.
    pub fn text_or_none(&self, name: &str) -> Result<Option<String>, ActionError> {
        match self.arguments.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(Some(value.to_string())),
            Some(_) => Err(self.fault(name, "it must be a text")),
        }
    }

    pub fn text(&self, name: &str) -> Result<String, ActionError> {
        self.text_or_none(name)?.ok_or_else(|| self.fault(name, "it is not given"))
    }

    pub fn count_or_none(&self, name: &str) -> Result<Option<u64>, ActionError> {
        let text = self.text_or_none(name)?;
        text.map(|text| text.trim().parse().map_err(|_| self.fault(name, format!("{text:?} is not a whole number")))).transpose()
    }

    pub fn count(&self, name: &str) -> Result<u64, ActionError> {
        self.count_or_none(name)?.ok_or_else(|| self.fault(name, "it is not given"))
    }

    pub fn duration_or_none(&self, name: &str) -> Result<Option<Duration>, ActionError> {
        let Some(text) = self.text_or_none(name)? else { return Ok(None) };
        let wrong =
            || self.fault(name, format!("{text:?} is not a duration like 90s, 10m, 1h30m or 2d, of at most {DURATION_DAYS_MAX} days"));
        duration(&text).map(Some).ok_or_else(wrong)
    }

    pub fn duration(&self, name: &str) -> Result<Duration, ActionError> {
        self.duration_or_none(name)?.ok_or_else(|| self.fault(name, "it is not given"))
    }

    pub fn flag_or(&self, name: &str, default: bool) -> Result<bool, ActionError> {
        match self.text_or_none(name)?.as_deref() {
            None => Ok(default),
            Some("true" | "yes" | "on" | "1") => Ok(true),
            Some("false" | "no" | "off" | "0") => Ok(false),
            Some(other) => Err(self.fault(name, format!("{other:?} is neither true nor false"))),
        }
    }

    /// Any JSON; a text that is JSON is read as such.
    pub fn json_or_none(&self, name: &str) -> Result<Option<Value>, ActionError> {
        match self.arguments.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => {
                serde_json::from_str(text).map(Some).map_err(|error| self.fault(name, format!("it is not JSON: {error}")))
            }
            Some(other) => Ok(Some(other.clone())),
        }
    }
}

/// `90s`, `10m` or `10min`, `1h30m`, `250ms`, `2d`; a plain number is seconds. At most [`DURATION_DAYS_MAX`].
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let is_plain = !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    let mut sum = if is_plain { std::mem::take(&mut rest).parse::<u64>().ok()?.checked_mul(1_000)? } else { 0 };
    if rest.is_empty() && !is_plain {
        return None;
    }
    while !rest.is_empty() {
        let (number, behind) = rest.split_at(rest.find(|letter: char| !letter.is_ascii_digit())?);
        let (unit, behind) = behind.split_at(behind.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(behind.len()));
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(factor)?)?;
        rest = behind;
    }
    (sum <= DURATION_DAYS_MAX * 86_400_000).then(|| Duration::from_millis(sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_from_json_and_from_text() {
        let call = Call::new("x").with("count", 7).with("text", "12").with("flag", "on").with("patch", "{\"a\":1}").with("minus", -1);
        assert_eq!((call.count("count"), call.count("text")), (Ok(7), Ok(12)));
        assert_eq!(call.flag_or("flag", false), Ok(true));
        assert_eq!(call.json_or_none("patch"), Ok(Some(serde_json::json!({"a": 1}))));
        assert!(call.count("minus").unwrap_err().to_string().contains("minus of x"));
        assert!(call.text("nothing").unwrap_err().to_string().contains("it is not given"));
    }

    #[test]
    fn durations_have_units() {
        let read = |text: &str| Call::new("x").with("ttl", text).duration("ttl").ok().map(|found| found.as_millis());
        let cases = [("90", Some(90_000)), ("90s", Some(90_000)), ("10m", Some(600_000)), ("250ms", Some(250)), ("2d", Some(172_800_000))];
        let longer = [("1h30m", Some(5_400_000)), ("10min", Some(600_000)), ("366d", Some(31_622_400_000)), ("0", Some(0))];
        for (text, expect) in cases.into_iter().chain(longer) {
            assert_eq!(read(text), expect, "{text}");
        }
        let too_long = ["366d1ms", "18446744073709551615", "31622401", "99999999999999999999d", "300d300d"];
        for text in ["m", "1w", "-1s", "1.5h", "1h30", "30 s", "s1", "١s"].into_iter().chain(too_long) {
            assert_eq!(read(text), None, "{text}");
        }
        let said = Call::new("x").with("ttl", "367d").duration("ttl").unwrap_err().to_string();
        assert!(said.contains("at most 366 days"), "{said}");
    }
}
