//! What a run's result says that its models used, and how much of it is this run's.
//!
//! **Takes** the calls as they are told, and `result` lines. **Gives** what each model used since the result before.
//! **Never** credits what may belong to an earlier run: a client that resumes a session may begin with the sums of its
//! last run. Tokens that went in are told exactly with each call, so at the first result they must agree with the
//! account; where they do not, the sums of the conversation itself are taken, which no client brings along.

use std::collections::HashMap;

use paramedic_model::{Event, Fact, Usage, limit, text};
use serde_json::Value;

/// Models told apart in one run.
const MODELS_MAX: usize = 64;
/// Calls remembered between two results; of a longer run the account is not checked, and so not believed.
const CALLS_MAX: usize = 16_384;

#[derive(Debug, Default)]
pub(super) struct Accounts {
    /// What each model had used at the last result.
    used: Vec<(Box<str>, Usage)>,
    /// The calls since the last result: their model, whether the conversation itself made them, the tokens that went in.
    calls: HashMap<Box<str>, (Box<str>, bool, u64)>,
    has_result: bool,
}

impl Accounts {
    /// Notes the calls that a line told.
    pub(super) fn see(&mut self, events: &[Event]) {
        for event in events {
            let Fact::ModelCall { message: Some(message), model: Some(model), usage, .. } = &event.fact else { continue };
            if self.calls.len() < CALLS_MAX || self.calls.contains_key(message) {
                let is_main = event.agent.as_ref().is_none_or(|agent| agent.subagent().is_none());
                self.calls.insert(message.clone(), (plain(model).into(), is_main, usage.context_tokens()));
            }
        }
    }

    /// What each model used since the result before.
    pub(super) fn settle(&mut self, result: &Value) -> Vec<(Box<str>, Usage)> {
        let mut grown = Vec::new();
        for (model, sum) in result.get("modelUsage").and_then(Value::as_object).into_iter().flatten().take(MODELS_MAX) {
            let model = plain(text::head(model, limit::ID_BYTES_MAX));
            grown.push((Box::from(model), self.grown(model, by_model(sum))));
        }
        let is_first = !std::mem::replace(&mut self.has_result, true);
        let calls = std::mem::take(&mut self.calls);
        let told = |model: &str| calls.values().filter(|call| *call.0 == *model).map(|call| call.2).sum::<u64>();
        if is_first {
            let agrees = |(model, usage): &(Box<str>, Usage)| usage.context_tokens() == told(model);
            let is_doubtful = grown.iter().any(|one| told(&one.0) > 0 && !agrees(one));
            grown.retain(agrees);
            if is_doubtful || result.get("modelUsage").is_none_or(|sums| !sums.is_object()) {
                grown = conversation(result, &calls).into_iter().collect();
            }
        }
        grown.retain(|(_, usage)| !usage.is_zero());
        grown
    }

    fn grown(&mut self, model: &str, sum: Usage) -> Usage {
        let place = match self.used.iter().position(|(name, _)| **name == *model) {
            Some(place) => place,
            None if self.used.len() >= MODELS_MAX => return Usage::default(),
            None => {
                self.used.push((model.into(), Usage::default()));
                self.used.len() - 1
            }
        };
        let before = std::mem::replace(&mut self.used[place].1, sum);
        // Smaller sums are those of a new process.
        if before.largest(sum) == sum { sum.minus(before) } else { sum }
    }
}

/// Accounts and counters add the size of the context to a model's name; calls do not.
fn plain(model: &str) -> &str {
    model.strip_suffix("[1m]").unwrap_or(model)
}

/// `usage` of a result: the conversation's own calls, where one model made them all and they agree with what was told.
fn conversation(result: &Value, calls: &HashMap<Box<str>, (Box<str>, bool, u64)>) -> Option<(Box<str>, Usage)> {
    let mut own = calls.values().filter(|call| call.1);
    let model = own.next()?.0.clone();
    let told: u64 = calls.values().filter(|call| call.1).map(|call| call.2).sum();
    let usage = by_name(result.get("usage")?);
    (own.all(|call| call.0 == model) && usage.context_tokens() == told).then_some((model, usage))
}

fn count(sum: &Value, key: &str) -> u64 {
    sum.get(key).and_then(Value::as_u64).unwrap_or(0).min(1 << 48)
}

fn by_model(sum: &Value) -> Usage {
    Usage {
        input_tokens: count(sum, "inputTokens"),
        output_tokens: count(sum, "outputTokens"),
        cache_read_tokens: count(sum, "cacheReadInputTokens"),
        cache_creation_tokens: count(sum, "cacheCreationInputTokens"),
        cache_creation_1h_tokens: 0,
    }
}

fn by_name(sum: &Value) -> Usage {
    Usage {
        input_tokens: count(sum, "input_tokens"),
        output_tokens: count(sum, "output_tokens"),
        cache_read_tokens: count(sum, "cache_read_input_tokens"),
        cache_creation_tokens: count(sum, "cache_creation_input_tokens"),
        cache_creation_1h_tokens: 0,
    }
}
