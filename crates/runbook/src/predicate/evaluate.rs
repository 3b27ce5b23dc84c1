//! What a condition says about facts: it holds, it fails, or it cannot be known, each with the reason.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Comparison, Tree};
use crate::plan::masked;

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Value {
    Flag(bool),
    Number(f64),
    Text(String),
}

/// What is known, by names as conditions use them: `value`, `exit`, `errs.top`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Facts {
    pub values: BTreeMap<String, Value>,
    /// Answers that were JSON, by step; the one of the step at hand under the empty name.
    pub documents: BTreeMap<String, serde_json::Value>,
}

/// The answer of a condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "truth", content = "why", rename_all = "lowercase")]
pub enum Truth {
    Holds,
    /// With what was found instead.
    Fails(String),
    /// With what is missing.
    Unknown(String),
}

impl Truth {
    #[must_use]
    pub const fn holds(&self) -> bool {
        matches!(self, Self::Holds)
    }

    #[must_use]
    pub fn why(&self) -> &str {
        match self {
            Self::Holds => "",
            Self::Fails(why) | Self::Unknown(why) => why,
        }
    }

    fn of(holds: bool, why: impl FnOnce() -> String) -> Self {
        if holds { Self::Holds } else { Self::Fails(why()) }
    }
}

impl Facts {
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        self.values.insert(name.into(), value.into());
    }

    /// Several facts together; the second one's win.
    pub fn extend(&mut self, other: Self) {
        self.values.extend(other.values);
        self.documents.extend(other.documents);
    }
}

impl Facts {
    /// The same facts without the secrets that inputs are and those that look like some.
    #[must_use]
    pub(crate) fn masked(&self, secrets: &[String]) -> Self {
        let text = |value: &Value| match value {
            Value::Text(text) => Value::Text(masked(text, secrets)),
            other => other.clone(),
        };
        let values = self.values.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        let documents = self.documents.iter().map(|(name, json)| (name.clone(), without_secrets(json, secrets))).collect();
        Self { values, documents }
    }
}

fn without_secrets(json: &serde_json::Value, secrets: &[String]) -> serde_json::Value {
    match json {
        serde_json::Value::String(text) => masked(text, secrets).into(),
        serde_json::Value::Array(items) => items.iter().map(|item| without_secrets(item, secrets)).collect(),
        serde_json::Value::Object(map) => {
            serde_json::Value::Object(map.iter().map(|(name, value)| (name.clone(), without_secrets(value, secrets))).collect())
        }
        other => other.clone(),
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl Value {
    fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Flag(flag) => Some(f64::from(u8::from(*flag))),
        }
    }

    /// As a person reads it, short.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Flag(flag) => flag.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => format!("'{}'", paramedic_model::text::capped(text.trim(), 80)),
        }
    }

    /// A leaf of JSON; objects and lists are their text.
    #[must_use]
    pub fn of_json(json: &serde_json::Value) -> Option<Self> {
        Some(match json {
            serde_json::Value::Null => return None,
            serde_json::Value::Bool(flag) => Self::Flag(*flag),
            serde_json::Value::Number(number) => Self::Number(number.as_f64()?),
            serde_json::Value::String(text) => Self::Text(text.clone()),
            other => Self::Text(other.to_string()),
        })
    }
}

pub(super) fn judge(tree: &Tree, facts: &Facts) -> Truth {
    match tree {
        Tree::All(parts) => {
            let mut unknown = None;
            for part in parts {
                match judge(part, facts) {
                    Truth::Holds => {}
                    Truth::Unknown(why) => unknown = unknown.or(Some(why)),
                    fails @ Truth::Fails(_) => return fails,
                }
            }
            unknown.map_or(Truth::Holds, Truth::Unknown)
        }
        Tree::Any(parts) => {
            let (mut unknown, mut fails) = (None, Vec::new());
            for part in parts {
                match judge(part, facts) {
                    Truth::Holds => return Truth::Holds,
                    Truth::Unknown(why) => unknown = unknown.or(Some(why)),
                    Truth::Fails(why) => fails.push(why),
                }
            }
            unknown.map_or_else(|| Truth::Fails(fails.join(", ")), Truth::Unknown)
        }
        Tree::Not(inner) => match judge(inner, facts) {
            Truth::Holds => Truth::Fails("what must not be, is".to_owned()),
            Truth::Fails(_) => Truth::Holds,
            unknown => unknown,
        },
        Tree::Compare(comparison, left, right) => match (value(left, facts), value(right, facts)) {
            (Ok(left), Ok(right)) => compare(*comparison, &left, &right),
            (Err(why), _) | (_, Err(why)) => Truth::Unknown(why),
        },
        Tree::Matches { subject, pattern, negated } => match value(subject, facts) {
            Ok(subject) => {
                let text = match &subject {
                    Value::Text(text) => text.clone(),
                    other => other.shown(),
                };
                Truth::of(pattern.is_match(&text) != *negated, || format!("found {}", subject.shown()))
            }
            Err(why) => Truth::Unknown(why),
        },
        plain => match value(plain, facts) {
            Ok(found) => flag(&found),
            Err(why) => Truth::Unknown(why),
        },
    }
}

fn flag(value: &Value) -> Truth {
    let found = match value {
        Value::Flag(flag) => Some(*flag),
        Value::Number(number) => Some(*number != 0.0),
        Value::Text(text) => match text.trim() {
            "true" | "yes" | "1" => Some(true),
            "false" | "no" | "0" | "" => Some(false),
            _ => None,
        },
    };
    match found {
        Some(holds) => Truth::of(holds, || format!("found {}", value.shown())),
        None => Truth::Unknown(format!("{} is neither true nor false", value.shown())),
    }
}

fn compare(comparison: Comparison, left: &Value, right: &Value) -> Truth {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let texts = matches!((left, right), (Value::Text(_), Value::Text(_)));
    let order = if texts {
        let (Value::Text(left), Value::Text(right)) = (left, right) else { return Truth::Unknown(String::new()) };
        match (left.trim().parse::<f64>(), right.trim().parse::<f64>()) {
            (Ok(left), Ok(right)) => left.partial_cmp(&right),
            _ => Some(left.trim().cmp(right.trim())),
        }
    } else {
        match (left.number(), right.number()) {
            (Some(left), Some(right)) => left.partial_cmp(&right),
            // A text that is no number is at least unequal to every number.
            _ if comparison == Comparison::Equal => return Truth::Fails(format!("found {}", left.shown())),
            _ if comparison == Comparison::Unequal => return Truth::Holds,
            _ => return Truth::Unknown(format!("{} and {} have no order", left.shown(), right.shown())),
        }
    };
    let Some(order) = order else { return Truth::Unknown(format!("{} is not a number", left.shown())) };
    let holds = match comparison {
        Comparison::Equal => order == Equal,
        Comparison::Unequal => order != Equal,
        Comparison::Less => order == Less,
        Comparison::LessEqual => order != Greater,
        Comparison::Greater => order == Greater,
        Comparison::GreaterEqual => order != Less,
    };
    Truth::of(holds, || format!("found {}", left.shown()))
}

fn value(tree: &Tree, facts: &Facts) -> Result<Value, String> {
    match tree {
        Tree::Number(number) => Ok(Value::Number(*number)),
        Tree::Text(text) => Ok(Value::Text(text.clone())),
        Tree::Flag(flag) => Ok(Value::Flag(*flag)),
        Tree::Name(name) => match facts.values.get(name) {
            Some(Value::Number(number)) if number.is_nan() => Err(format!("{name} is not a number")),
            Some(found) => Ok(found.clone()),
            None => Err(format!("{name} is not known")),
        },
        Tree::Json { of, pointer } => {
            let document = facts.documents.get(of.as_deref().unwrap_or_default());
            let found = document.ok_or_else(|| "the answer is not JSON".to_owned())?.pointer(pointer);
            found.and_then(Value::of_json).ok_or_else(|| format!("there is nothing at {pointer}"))
        }
        Tree::Minus(inner) => number(inner, facts).map(|number| Value::Number(-number)),
        Tree::Arithmetic(mark, left, right) => {
            let (left, right) = (number(left, facts)?, number(right, facts)?);
            let result = match mark {
                '+' => left + right,
                '-' => left - right,
                '*' => left * right,
                _ => left / right,
            };
            if result.is_finite() { Ok(Value::Number(result)) } else { Err(format!("{left} {mark} {right} is not a number")) }
        }
        condition => match judge(condition, facts) {
            Truth::Holds => Ok(Value::Flag(true)),
            Truth::Fails(_) => Ok(Value::Flag(false)),
            Truth::Unknown(why) => Err(why),
        },
    }
}

fn number(tree: &Tree, facts: &Facts) -> Result<f64, String> {
    let found = value(tree, facts)?;
    found.number().filter(|number| !number.is_nan()).ok_or_else(|| format!("{} is not a number", found.shown()))
}
