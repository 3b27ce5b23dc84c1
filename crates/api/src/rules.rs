//! Alerting and recording rules as the faces show them, and the seam to whatever evaluates them.

mod book;

pub use paramedic_rules::view::{AlertView, GroupView, MissingSeries, PACK_FOLDER, RuleHealth, RuleKind, RuleState, RuleView};
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
