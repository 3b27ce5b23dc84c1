//! Recent alert episodes, and the detectors that raise them.

use std::sync::Arc;

use paramedic_model::{AgentId, IncidentId};
use paramedic_respond::Episode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::{Context, DetectorLine};
use crate::error::ApiError;
use crate::operations::limit_of;
use crate::registry::{Caller, Method, Operation, Permission};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlertsQuery {
    /// Only alerts of this detector.
    pub detector: Option<String>,
    /// Only alerts on this agent.
    pub agent: Option<AgentId>,
    /// Only alerts that are active now (true) or have ended (false).
    pub firing: Option<bool>,
    /// Only notes, for which nobody is called (true), or none of them (false).
    pub note: Option<bool>,
    /// Page size, 1 to 1000. Default 100.
    pub limit: Option<usize>,
    /// Where the page before ended: its `next`.
    pub after: Option<usize>,
}

/// One time that an alert was active.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertLine {
    pub alert: Episode,
    /// The incident it belongs to; none for a note that led to nothing.
    pub incident: Option<IncidentId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertPage {
    /// The latest onset first.
    pub alerts: Vec<AlertLine>,
    pub total: usize,
    /// Ask again with `after` set to this; none at the end.
    pub next: Option<usize>,
}

pub async fn list(context: Arc<Context>, _: Caller, query: AlertsQuery) -> Result<AlertPage, ApiError> {
    let limit = limit_of(query.limit)?;
    let incidents = context.desk.incidents().await;
    let matching: Vec<_> = incidents
        .alerts()
        .into_iter()
        .filter(|(alert, _)| query.detector.as_ref().is_none_or(|detector| alert.detector == *detector))
        .filter(|(alert, _)| query.agent.as_ref().is_none_or(|agent| alert.agent.as_ref() == Some(agent)))
        .filter(|(alert, _)| query.firing.is_none_or(|firing| alert.ended_at.is_none() == firing))
        .filter(|(alert, _)| query.note.is_none_or(|note| alert.severity.is_none() == note))
        .collect();
    drop(incidents);
    let (total, after) = (matching.len(), query.after.unwrap_or(0));
    let alerts: Vec<_> = matching.into_iter().skip(after).take(limit).map(|(alert, incident)| AlertLine { alert, incident }).collect();
    let end = after + alerts.len();
    let next = (end < total && !alerts.is_empty()).then_some(end);
    Ok(AlertPage { alerts, total, next })
}

/// No input.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Nothing {}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Catalogue {
    pub detectors: Vec<DetectorLine>,
}

pub async fn detectors(context: Arc<Context>, _: Caller, _: Nothing) -> Result<Catalogue, ApiError> {
    Ok(Catalogue { detectors: context.detectors.clone() })
}

pub(crate) fn register(all: &mut Vec<Operation>) {
    use Permission::Read;
    all.extend([
        Operation::new("alert.list", (Method::Get, "/api/v1/alerts/history"), "List recent alerts and notes, the latest onset first.", Read, list),
        Operation::new("detector.list", (Method::Get, "/api/v1/detectors"), "List the detectors and when they warn.", Read, detectors),
    ]);
}
