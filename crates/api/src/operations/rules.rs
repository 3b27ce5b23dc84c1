//! Rules, why an alert fires, and targets.

use std::sync::Arc;

use paramedic_model::Target;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{ApiError, Code};
use crate::operations::alerts::Nothing;
use crate::registry::{Caller, Method, Operation, Permission};
use crate::rules::{GroupView, RuleParts};

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

/// The rules of an alert's name, their expressions taken apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Why {
    /// More than one where several rules raise alerts of the same name.
    pub rules: Vec<RuleParts>,
}

pub async fn why(context: Arc<Context>, _: Caller, query: WhyQuery) -> Result<Why, ApiError> {
    let rules = match context.instruments.rules.clone() {
        Some(rules) => rules.why(&query.alert).await,
        None => Vec::new(),
    };
    if rules.is_empty() {
        let message = format!("there is no alerting rule {:?}", query.alert);
        return Err(ApiError::new(Code::NotFound, message, "GET /api/v1/rules/list lists all rules"));
    }
    Ok(Why { rules })
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
