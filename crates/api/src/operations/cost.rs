//! What it cost, by day, model and agent. Unknown prices are named, never counted as nothing.

use std::sync::Arc;

use paramedic_fleet::CostReport;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::ApiError;
use crate::operations::limit_of;
use crate::registry::{Caller, Method, Operation, Permission};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CostQuery {
    /// Agents named, 1 to 1000, the dearest first. Default 100.
    pub limit: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CostAnswer {
    pub report: CostReport,
    /// Agents with any cost; the report names the dearest of them.
    pub agents_total: usize,
}

pub async fn report(context: Arc<Context>, _: Caller, query: CostQuery) -> Result<CostAnswer, ApiError> {
    let limit = limit_of(query.limit)?;
    let mut report = context.fleet().cost_report();
    let agents_total = report.by_agent.len();
    report.by_agent.truncate(limit);
    Ok(CostAnswer { report, agents_total })
}

pub(crate) fn register(all: &mut Vec<Operation>) {
    all.push(Operation::new(
        "cost.report",
        (Method::Get, "/api/v1/cost"),
        "Report cost by day, model and agent.",
        Permission::Read,
        report,
    ));
}
