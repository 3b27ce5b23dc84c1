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
use crate::rules::{AlertView, RuleState};
use crate::threshold::{Threshold, threshold_of};

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
    /// What the value of a rule's alert is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Threshold>,
}

/// An alert of a rule whose `for` has not passed yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PendingLine {
    pub name: String,
    pub group: String,
    pub expression: String,
    /// How long the condition must hold.
    pub for_s: f64,
    pub alert: AlertView,
    pub threshold: Option<Threshold>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Pending {
    /// The longest pending first.
    pub alerts: Vec<PendingLine>,
}

pub async fn pending(context: Arc<Context>, _: Caller, _: Nothing) -> Result<Pending, ApiError> {
    let groups = context.instruments.rules.as_ref().map(|rules| rules.groups()).unwrap_or_default();
    let mut alerts = Vec::new();
    for group in groups {
        for rule in group.rules {
            let threshold = threshold_of(&rule.query);
            for alert in rule.alerts.into_iter().filter(|alert| alert.state == RuleState::Pending) {
                alerts.push(PendingLine {
                    name: rule.name.clone(),
                    group: group.name.clone(),
                    expression: rule.query.clone(),
                    for_s: rule.duration_s,
                    alert,
                    threshold: threshold.clone(),
                });
            }
        }
    }
    alerts.sort_by_key(|line| line.alert.active_at);
    Ok(Pending { alerts })
}

impl AlertLine {
    pub(crate) fn of((alert, incident): (Episode, Option<IncidentId>)) -> Self {
        let threshold = alert.rule.as_ref().and_then(|rule| threshold_of(&rule.expression));
        Self { alert, incident, threshold }
    }
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
    let alerts: Vec<_> = matching.into_iter().skip(after).take(limit).map(AlertLine::of).collect();
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
        Operation::new(
            "alert.list",
            (Method::Get, "/api/v1/alerts/history"),
            "List recent alerts and notes, the latest onset first.",
            Read,
            list,
        ),
        Operation::new("detector.list", (Method::Get, "/api/v1/detectors"), "List the detectors and when they warn.", Read, detectors),
        Operation::new(
            "alert.pending",
            (Method::Get, "/api/v1/alerts/pending"),
            "List alerts of rules that hold, but not for long enough yet.",
            Read,
            pending,
        ),
    ]);
}
