//! Rules, why an alert fires, and targets.

use std::sync::Arc;

use paramedic_model::Target;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{ApiError, Code};
use crate::operations::alerts::Nothing;
use crate::registry::{Caller, Method, Operation, Permission};
use crate::rules::{GroupView, RuleKind, RuleView, WhyView};
use crate::threshold::{Threshold, threshold_of};

/// All groups of rules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuleList {
    pub groups: Vec<GroupView>,
    /// Whether rules are evaluated here at all.
    pub enabled: bool,
}

pub async fn list(context: Arc<Context>, _: Caller, _: Nothing) -> Result<RuleList, ApiError> {
    let rules = context.instruments.rules.as_ref();
    Ok(RuleList { groups: rules.map(|rules| rules.groups()).unwrap_or_default(), enabled: rules.is_some() })
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhyQuery {
    /// The alert's name.
    pub alert: String,
}

/// An alert's rule, and its expression taken apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Why {
    pub rule: RuleView,
    pub group: String,
    /// The number that a value is compared with at the top of the expression.
    pub threshold: Option<Threshold>,
    /// The parts, the whole first.
    pub parts: Vec<WhyView>,
    /// Why the parts have no values.
    pub error: Option<String>,
}

pub async fn why(context: Arc<Context>, _: Caller, query: WhyQuery) -> Result<Why, ApiError> {
    let unknown =
        || ApiError::new(Code::NotFound, format!("there is no alerting rule {:?}", query.alert), "GET /api/v1/rules/list lists all rules");
    let rules = context.instruments.rules.clone().ok_or_else(unknown)?;
    let named = |rule: &RuleView| rule.kind == RuleKind::Alerting && rule.name == query.alert;
    let found = rules.groups().into_iter().find_map(|group| Some((group.rules.into_iter().find(|rule| named(rule))?, group.name)));
    let (rule, group) = found.ok_or_else(unknown)?;
    let (parts, error) = match rules.why(&query.alert).await {
        Some(Ok(parts)) => (parts, None),
        Some(Err(error)) => (Vec::new(), Some(error)),
        None => return Err(unknown()),
    };
    Ok(Why { threshold: threshold_of(&rule.query), rule, group, parts, error })
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Targets {
    /// By pool and address.
    pub targets: Vec<Target>,
}

pub async fn targets(context: Arc<Context>, _: Caller, _: Nothing) -> Result<Targets, ApiError> {
    Ok(Targets { targets: context.instruments.all_targets() })
}

pub(crate) fn register(all: &mut Vec<Operation>) {
    use Permission::Read;
    all.extend([
        Operation::new(
            "rule.list",
            (Method::Get, "/api/v1/rules/list"),
            "List all rules with their state, and the series that they miss.",
            Read,
            list,
        ),
        Operation::new(
            "rule.why",
            (Method::Get, "/api/v1/rules/why/{*alert}"),
            "Take an alert's expression apart, each part with its values now.",
            Read,
            why,
        ),
        Operation::new(
            "target.list",
            (Method::Get, "/api/v1/targets/list"),
            "List scraped and probed targets with what the last look found.",
            Read,
            targets,
        ),
    ]);
}
