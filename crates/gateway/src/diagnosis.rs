//! Why calls cost what they do: the causes of a spike, each with its numbers and the switch that stops it.
//!
//! **Takes** what was spent by whom, hour by hour, the calls that are remembered, and what was changed lately. **Gives**
//! findings, or that nothing stands out. **Never** decides by one number alone what two must show: a share without calls is a
//! quiet morning, calls without others beside them are somebody's only agent.

mod spender;

mod prompts;

mod models;

mod step;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use paramedic_model::{Timestamp, Usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::budget::{Hour, Period, Spender, dollars};
use crate::call::{Kind, Outcome, Pricing, Record};
use crate::traffic::Step;

/// Fewer remembered calls say nothing of prompts and models.
const CALLS_MIN: usize = 10;
/// A saving below this share of what is spent is not worth a switch.
const SAVING_SHARE_MIN: f64 = 0.1;

/// What a diagnosis is made from.
pub struct Material<'a> {
    pub now: Timestamp,
    /// The window that `all` and the spenders are of.
    pub period: Period,
    pub all: Option<&'a Spender>,
    /// The dearest first, as are the next two.
    pub users: &'a [Spender],
    pub keys: &'a [Spender],
    pub agents: &'a [Spender],
    /// What all spent, hour by hour, the hour that runs last.
    pub hours: &'a [Hour],
    /// The same by minute, as far as it is known.
    pub minutes: &'a [Step],
    /// The calls that are remembered.
    pub calls: &'a [Arc<Record>],
    pub changes: &'a [Change],
    pub routing: Routing<'a>,
    pub pricing: &'a dyn Pricing,
}

/// What the switch `model_routing` takes for a simple call, and where it sends it.
#[derive(Debug, Clone, Copy)]
pub struct Routing<'a> {
    pub cheaper: &'a str,
    pub input_tokens_max: u64,
    pub output_tokens_max: u64,
}

/// Something that somebody changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    pub at: Timestamp,
    /// `switch-set switch/fast_fail@all`.
    pub what: String,
    pub by: String,
    /// The command that takes it back, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// One user, key or agent has a large part of all.
    OneSpender,
    /// Prompts are long, and their repeated beginnings are paid for in full each time.
    Prompts,
    /// Expensive models do what a cheaper one does as well.
    Models,
    /// From some moment on an hour costs much more than before.
    StepChange,
}

/// One cause, as far as the numbers show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    pub cause: Cause,
    /// One or two sentences.
    pub what: String,
    /// What it rests on.
    pub numbers: BTreeMap<String, f64>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// What was changed nearest to that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// Of what is spent in the window, by an estimate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saving_dollars: Option<f64>,
    /// What stops it, the narrowest first.
    pub commands: Vec<String>,
}

/// All that stands out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnosis {
    pub period: Period,
    /// Spent in the window.
    pub dollars: f64,
    pub calls: u64,
    /// Calls that prompts and models were looked at of.
    pub calls_looked_at: usize,
    pub findings: Vec<Finding>,
    /// It in one sentence.
    pub says: String,
}

/// Looks for all causes.
#[must_use]
pub fn diagnose(material: &Material<'_>) -> Diagnosis {
    let (spent, calls) = material.all.map_or((0.0, 0), |all| (all.dollars, all.calls));
    let told: Vec<&Record> = material.calls.iter().map(AsRef::as_ref).filter(|record| is_whole(record)).collect();
    let findings: Vec<Finding> =
        [spender::find(material), prompts::find(material, &told, spent), models::find(material, &told, spent), step::find(material)]
            .into_iter()
            .flatten()
            .collect();
    let says = match (calls, findings.len()) {
        (0, 0) => "nothing was spent through the gateway in this window".to_owned(),
        (_, 0) => format!("nothing stands out: ${spent:.2} by {calls} calls, nobody with too large a part, no step in what an hour costs"),
        (_, 1) => "one thing stands out".to_owned(),
        (_, count) => format!("{count} things stand out"),
    };
    Diagnosis { period: material.period, dollars: spent, calls, calls_looked_at: told.len(), findings, says }
}

/// Answered as it should be, and something is known of what it used.
fn is_whole(record: &Record) -> bool {
    record.kind == Kind::Inference && record.outcome == Outcome::Answered && record.status < 400 && !record.usage.is_zero()
}

fn model_of(record: &Record) -> Option<&str> {
    record.served_model.as_deref().or(record.model.as_deref())
}

/// What this usage costs with this model, in dollars.
fn price(pricing: &dyn Pricing, model: &str, usage: &Usage) -> Option<f64> {
    pricing.call(model, usage).map(dollars)
}

#[expect(clippy::cast_precision_loss, reason = "a mean is read by people")]
fn mean(sum: u64, count: usize) -> f64 {
    if count == 0 { 0.0 } else { sum as f64 / count as f64 }
}

fn numbers<const N: usize>(all: [(&str, f64); N]) -> BTreeMap<String, f64> {
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// `100 %`: of all.
fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.,:/@=+".contains(&byte));
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}
