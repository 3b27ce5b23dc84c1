//! Alerting and recording rules as the faces show them, and the seam to whatever evaluates them.

mod book;

use std::collections::BTreeMap;

use paramedic_model::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::instruments::Work;
use crate::threshold::Threshold;

/// The rules of this instance.
pub trait RuleBook: Send + Sync {
    /// All groups, in the order of their files.
    fn groups(&self) -> Vec<GroupView>;

    /// The rules of an alert's name, their expressions taken apart, each part with its values now.
    fn why(&self, alert: &str) -> Work<'_, Vec<RuleParts>>;
}

/// A group of rules and how its last evaluation went.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GroupView {
    pub name: String,
    pub file: String,
    pub interval_s: f64,
    /// The most alerts or series that one rule may give; 0: no bound.
    pub limit: u64,
    pub rules: Vec<RuleView>,
    pub last_at: Option<Timestamp>,
    pub evaluation_s: f64,
    /// Evaluations that did not happen because the one before took too long.
    pub missed_evaluations: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuleKind {
    #[default]
    Alerting,
    Recording,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuleHealth {
    /// Not evaluated yet.
    #[default]
    Unknown,
    Ok,
    Err,
}

impl RuleHealth {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ok => "ok",
            Self::Err => "err",
        }
    }
}

/// What an alerting rule, or one of its alerts, is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuleState {
    /// Not evaluated yet.
    #[default]
    Unknown,
    Inactive,
    Pending,
    Firing,
}

impl RuleState {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// One rule and how its last evaluation went.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RuleView {
    pub kind: RuleKind,
    /// The alert's name, or the name of the recorded metric.
    pub name: String,
    pub query: String,
    /// `for`.
    pub duration_s: f64,
    pub keep_firing_for_s: f64,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub health: RuleHealth,
    pub last_error: Option<String>,
    pub last_at: Option<Timestamp>,
    pub evaluation_s: f64,
    pub state: RuleState,
    pub alerts: Vec<AlertView>,
    /// Selectors of the expression that never had a series: such a rule can never fire, or fires for ever.
    pub missing: Vec<MissingSeries>,
}

/// Where the embedded rules say they are from.
pub const PACK_FOLDER: &str = "pack/";

impl GroupView {
    /// Whether a rule of this group is an embedded one that only waits for metrics that nobody sends.
    #[must_use]
    pub fn waits(&self, rule: &RuleView) -> bool {
        let active = matches!(rule.state, RuleState::Firing | RuleState::Pending) || rule.health == RuleHealth::Err;
        self.file.starts_with(PACK_FOLDER) && !rule.missing.is_empty() && !active
    }
}

/// An alert that is pending or firing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AlertView {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub state: RuleState,
    pub active_at: Option<Timestamp>,
    /// None when it is not a finite number.
    pub value: Option<f64>,
    /// Since when it fires only because of `keep_firing_for`.
    pub keep_firing_since: Option<Timestamp>,
}

/// A selector for which there is no series.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MissingSeries {
    pub selector: String,
    /// Empty where the selector names no metric.
    pub metric: String,
    /// The group whose rule records this metric, if there is one: then that rule's expression gave nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded_by: Option<String>,
}

/// A rule and the parts of its expression, the whole first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RuleParts {
    pub group: String,
    pub rule: RuleView,
    /// The number that a value is compared with at the top of the expression.
    pub threshold: Option<Threshold>,
    pub parts: Vec<WhyView>,
}

/// A part of an expression with its values.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WhyView {
    pub expression: String,
    /// How deep in the expression: 0 is the whole.
    pub depth: usize,
    pub samples: Vec<WhySample>,
    /// How many samples there are in all; the list may be cut.
    pub total: usize,
    /// Why there is no value.
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct WhySample {
    /// As the query language writes them.
    pub labels: String,
    /// As text: a number, a histogram, or how many points a range has.
    pub value: String,
}
