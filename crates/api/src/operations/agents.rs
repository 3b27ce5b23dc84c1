//! Agents: who needs a person, what one is doing, and its curve over time.

use std::sync::Arc;

use paramedic_fleet::{AgentView, Fleet, Point, State, Totals};
use paramedic_model::AgentId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::ApiError;
use crate::operations::alerts::AlertLine;
use crate::operations::incidents::IncidentLine;
use crate::operations::limit_of;
use crate::registry::{Caller, Method, Operation, Permission};

/// Sub-agents named in one agent's answer.
pub const SUBAGENTS_MAX: usize = 200;
/// Alerts and incidents named in one agent's answer.
pub const TROUBLES_MAX: usize = 20;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AgentsQuery {
    /// Only agents in this state.
    pub state: Option<State>,
    /// Only agents of this session.
    pub session: Option<String>,
    /// Only agents whose id, project, model, host or last event contains this, whatever the case.
    pub text: Option<String>,
    /// Leave sub-agents out.
    pub main_only: bool,
    /// Page size, 1 to 1000. Default 100.
    pub limit: Option<usize>,
    /// Where the page before ended: its `next`.
    pub after: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AgentPage {
    /// The ones in trouble first, then the most recent.
    pub agents: Vec<AgentView>,
    /// How many match in all.
    pub total: usize,
    /// Ask again with `after` set to this; none at the end.
    pub next: Option<usize>,
    /// The whole fleet, whatever the filter.
    pub fleet: Totals,
}

pub async fn list(context: Arc<Context>, _: Caller, query: AgentsQuery) -> Result<AgentPage, ApiError> {
    let limit = limit_of(query.limit)?;
    let text = query.text.as_deref().unwrap_or("").trim().to_lowercase();
    let fleet = context.fleet();
    let mut order: Vec<_> = fleet
        .agents()
        .filter(|agent| !query.main_only || !agent.id().contains('/'))
        .filter(|agent| query.session.as_deref().is_none_or(|session| agent.session() == Some(session)))
        .map(|agent| (fleet.state_of(agent).0, std::cmp::Reverse(agent.last_event_at()), agent))
        .filter(|(state, ..)| query.state.is_none_or(|wanted| wanted == *state))
        .filter(|(.., agent)| text.is_empty() || agent.id().to_lowercase().contains(&text) || says(&fleet.view(agent), &text))
        .collect();
    order.sort_by(|one, other| (one.0, one.1, one.2.id()).cmp(&(other.0, other.1, other.2.id())));
    let (total, after) = (order.len(), query.after.unwrap_or(0));
    // Only the agents of this page are described: the others cost their state and no more.
    let agents: Vec<_> = order.iter().skip(after).take(limit).map(|(.., agent)| fleet.view(agent)).collect();
    let end = after + agents.len();
    let next = (end < total && !agents.is_empty()).then_some(end);
    Ok(AgentPage { agents, total, next, fleet: fleet.totals() })
}

fn says(view: &AgentView, text: &str) -> bool {
    let parts =
        [view.cwd.as_deref(), view.model.as_deref(), view.host.as_deref(), view.agent_type.as_deref(), Some(view.last_event.as_str())];
    parts.into_iter().flatten().any(|part| part.to_lowercase().contains(text))
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentQuery {
    /// The agent's id, or the beginning of it where only one agent begins so.
    pub id: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AgentDetail {
    pub agent: AgentView,
    /// Its curve over time, oldest first; sums since its start but for the context.
    pub series: Vec<Point>,
    /// Oldest first; the first 200.
    pub subagents: Vec<AgentView>,
    /// Its latest alerts and notes, latest onset first.
    pub alerts: Vec<AlertLine>,
    /// The latest incidents it was hit by.
    pub incidents: Vec<IncidentLine>,
}

pub async fn read(context: Arc<Context>, _: Caller, query: AgentQuery) -> Result<AgentDetail, ApiError> {
    let (agent, series, subagents) = {
        let fleet = context.fleet();
        let id = find(&fleet, &query.id)?;
        let view = fleet.agent(&id).ok_or_else(|| ApiError::no_agent(id.as_str()))?;
        let mut subagents = fleet.subagents(&id);
        subagents.truncate(SUBAGENTS_MAX);
        (view, fleet.series(&id), subagents)
    };
    let incidents = context.desk.incidents().await;
    let alerts = incidents.alerts().into_iter().filter(|(alert, _)| alert.agent.as_ref() == Some(&agent.id));
    let alerts = alerts.take(TROUBLES_MAX).map(AlertLine::of).collect();
    let hit = incidents.list().filter(|incident| incident.agents.contains(&agent.id)).take(TROUBLES_MAX).map(IncidentLine::of).collect();
    drop(incidents);
    Ok(AgentDetail { agent, series, subagents, alerts, incidents: hit })
}

/// Exactly this id, or the only one that begins so.
fn find(fleet: &Fleet, id: &str) -> Result<AgentId, ApiError> {
    let exact = AgentId::new(id);
    if fleet.get(&exact).is_some() {
        return Ok(exact);
    }
    let shown = paramedic_model::text::head(id, 100);
    // Sub-agents begin like their session: a short form of a session's id means the session.
    let mut matching = fleet.agents().filter(|agent| id.len() >= 4 && agent.id().starts_with(id) && !agent.id()[id.len()..].contains('/'));
    match (matching.next(), matching.next()) {
        (Some(one), None) => Ok(AgentId::new(one.id())),
        (Some(_), Some(_)) => Err(ApiError::new(
            crate::error::Code::Conflict,
            format!("several agents begin with {shown:?}"),
            "give more of the id; GET /api/v1/agents lists all agents",
        )),
        _ => Err(ApiError::no_agent(shown)),
    }
}

pub(crate) fn register(all: &mut Vec<Operation>) {
    use Permission::Read;
    all.extend([
        Operation::new("agent.list", (Method::Get, "/api/v1/agents"), "List agents, the ones in trouble first.", Read, list),
        Operation::new("agent.get", (Method::Get, "/api/v1/agents/{*id}"), "Read one agent with its curve over time.", Read, read),
    ]);
}
