//! Incidents: list, read with timeline, and everything a person may do to one.

use std::sync::Arc;

use paramedic_model::{AgentId, IncidentId, IncidentKind, IncidentState, IncidentType, Severity, Timestamp};
use paramedic_respond::decide::parse_incident_id;
use paramedic_respond::record::incident_subject;
use paramedic_respond::timeline::{TimelineItem, describe};
use paramedic_respond::{Command, Incident, IncidentCounts};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::ApiError;
use crate::operations::limit_of;
use crate::registry::{Caller, Method, Operation, Permission};

/// Timeline items in one answer.
pub const TIMELINE_ITEMS_MAX: usize = 1_000;

/// An incident without its episodes: a line of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IncidentLine {
    pub id: IncidentId,
    #[serde(rename = "type")]
    pub incident_type: IncidentType,
    pub severity: Severity,
    pub state: IncidentState,
    pub title: String,
    pub started_at: Timestamp,
    pub detected_at: Timestamp,
    pub acknowledged_at: Option<Timestamp>,
    /// By when somebody has to acknowledge it; only while that is still due.
    pub acknowledge_by: Option<Timestamp>,
    pub mitigated_at: Option<Timestamp>,
    pub resolved_at: Option<Timestamp>,
    pub counts: IncidentCounts,
    /// Whether an alert is active now.
    pub firing: bool,
}

impl IncidentLine {
    #[must_use]
    pub fn of(incident: &Incident) -> Self {
        // Nobody was called for what was read from history, so nobody is late.
        let due = incident.state.is_open() && incident.acknowledged_at.is_none() && incident.kind != IncidentKind::Backfill;
        Self {
            id: incident.id.clone(),
            incident_type: incident.incident_type,
            severity: incident.severity,
            state: incident.state,
            title: incident.title.clone(),
            started_at: incident.started_at,
            detected_at: incident.detected_at,
            acknowledged_at: incident.acknowledged_at,
            acknowledge_by: due.then(|| incident.acknowledge_by()),
            mitigated_at: incident.mitigated_at,
            resolved_at: incident.resolved_at,
            counts: incident.counts.clone(),
            firing: incident.firing().next().is_some(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IncidentsQuery {
    /// Only those in this state; `open` means every state in which there may be something to do.
    pub state: Option<String>,
    /// Only those of this severity.
    pub severity: Option<Severity>,
    /// Only those of this type.
    #[serde(rename = "type")]
    pub incident_type: Option<IncidentType>,
    /// Only those that hit this agent.
    pub agent: Option<AgentId>,
    /// Only those whose title contains this, whatever the case.
    pub text: Option<String>,
    /// Page size, 1 to 1000. Default 100.
    pub limit: Option<usize>,
    /// Where the page before ended: its `next`.
    pub after: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IncidentPage {
    /// The latest onset first.
    pub incidents: Vec<IncidentLine>,
    /// How many match in all.
    pub total: usize,
    /// Incidents that are open, whatever the filter.
    pub open: usize,
    /// Ask again with `after` set to this; none at the end.
    pub next: Option<usize>,
}

pub async fn list(context: Arc<Context>, _: Caller, query: IncidentsQuery) -> Result<IncidentPage, ApiError> {
    let limit = limit_of(query.limit)?;
    let state = query.state.as_deref().filter(|state| !state.is_empty() && *state != "all");
    let exact = match state {
        None | Some("open") => None,
        Some(name) => Some(
            IncidentState::from_name(name).ok_or_else(|| ApiError::bad_key("state", &format!("{name:?} is not a state of incidents")))?,
        ),
    };
    let text = query.text.as_deref().unwrap_or("").to_lowercase();
    let incidents = context.desk.incidents().await;
    let matching: Vec<&Incident> = incidents
        .list()
        .filter(|incident| exact.is_none_or(|exact| incident.state == exact))
        .filter(|incident| state != Some("open") || incident.state.is_open())
        .filter(|incident| query.severity.is_none_or(|severity| incident.severity == severity))
        .filter(|incident| query.incident_type.is_none_or(|one| incident.incident_type == one))
        .filter(|incident| query.agent.as_ref().is_none_or(|agent| incident.agents.contains(agent)))
        .filter(|incident| text.is_empty() || incident.title.to_lowercase().contains(&text) || incident.id.0.to_lowercase() == text)
        .collect();
    let after = query.after.unwrap_or(0);
    let page: Vec<IncidentLine> = matching.iter().skip(after).take(limit).map(|incident| IncidentLine::of(incident)).collect();
    let end = after + page.len();
    let next = (end < matching.len() && !page.is_empty()).then_some(end);
    Ok(IncidentPage { incidents: page, total: matching.len(), open: incidents.open().len(), next })
}

/// One incident by its id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IncidentQuery {
    /// `INC-7`, or just `7`.
    pub id: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IncidentDetail {
    pub incident: Incident,
    /// Journal entries about it, in the order they were written.
    pub timeline: Vec<TimelineItem>,
    /// Earlier timeline items that this answer leaves out; the journal has them all.
    pub timeline_left_out: u64,
    /// By when somebody has to acknowledge it; only while that is still due.
    pub acknowledge_by: Option<Timestamp>,
}

pub async fn read(context: Arc<Context>, _: Caller, query: IncidentQuery) -> Result<IncidentDetail, ApiError> {
    let incident = find(&context, &query.id).await?;
    let (timeline, timeline_left_out) = timeline(&context, &incident.id).await?;
    let acknowledge_by = IncidentLine::of(&incident).acknowledge_by;
    Ok(IncidentDetail { incident, timeline, timeline_left_out, acknowledge_by })
}

async fn find(context: &Context, id: &str) -> Result<Incident, ApiError> {
    let id = known_id(id)?;
    context.desk.incidents().await.get(&id).cloned().ok_or_else(|| ApiError::no_incident(&id.0))
}

fn known_id(text: &str) -> Result<IncidentId, ApiError> {
    parse_incident_id(text).ok_or_else(|| ApiError::no_incident(paramedic_model::text::head(text, 100)))
}

/// The newest items of the timeline, oldest first, and how many earlier ones there are.
async fn timeline(context: &Context, id: &IncidentId) -> Result<(Vec<TimelineItem>, u64), ApiError> {
    let subject = incident_subject(id);
    let (mut items, mut left_out, mut after) = (std::collections::VecDeque::new(), 0u64, 0u64);
    // A page may be short; only an empty one is the end.
    loop {
        let entries = context.journal.read_subject(&subject, after, TIMELINE_ITEMS_MAX).await?;
        let Some(last) = entries.last() else { break };
        after = last.seq;
        for item in entries.iter().filter_map(describe) {
            items.push_back(item);
            if items.len() > TIMELINE_ITEMS_MAX {
                items.pop_front();
                left_out += 1;
            }
        }
    }
    Ok((items.into(), left_out))
}

/// What was changed, afterwards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    pub incident: Incident,
}

/// Every change goes through here: the desk decides and writes, and the live stream is told.
pub async fn change(context: &Context, caller: &Caller, command: Command) -> Result<Changed, ApiError> {
    let incident = context.desk.command(&caller.actor, &command, context.now()).await?;
    let news = crate::Live::IncidentUpdated {
        incident: incident.id.clone(),
        state: incident.state,
        severity: incident.severity,
        title: incident.title.clone(),
    };
    // Nobody listening is no error.
    let _ = context.live.send(news);
    Ok(Changed { incident })
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenInput {
    pub title: String,
    #[serde(rename = "type")]
    pub incident_type: IncidentType,
    pub severity: Severity,
    /// Agents that are affected.
    #[serde(default)]
    pub agents: Vec<AgentId>,
    /// When it began, if that was earlier than now.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
}

pub async fn open(context: Arc<Context>, caller: Caller, input: OpenInput) -> Result<Changed, ApiError> {
    let OpenInput { title, incident_type, severity, agents, started_at } = input;
    change(&context, &caller, Command::Open { title, incident_type, severity, agents, started_at, kind: IncidentKind::Real }).await
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoteInput {
    /// `INC-7`, or just `7`.
    pub id: String,
    pub text: String,
}

pub async fn note(context: Arc<Context>, caller: Caller, input: NoteInput) -> Result<Changed, ApiError> {
    change(&context, &caller, Command::Note { incident: known_id(&input.id)?, text: input.text }).await
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeverityInput {
    /// `INC-7`, or just `7`.
    pub id: String,
    pub severity: Severity,
    #[serde(default)]
    pub reason: String,
}

pub async fn severity(context: Arc<Context>, caller: Caller, input: SeverityInput) -> Result<Changed, ApiError> {
    let incident = known_id(&input.id)?;
    change(&context, &caller, Command::SetSeverity { incident, severity: input.severity, reason: input.reason }).await
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TitleInput {
    /// `INC-7`, or just `7`.
    pub id: String,
    pub title: String,
}

pub async fn title(context: Arc<Context>, caller: Caller, input: TitleInput) -> Result<Changed, ApiError> {
    change(&context, &caller, Command::SetTitle { incident: known_id(&input.id)?, title: input.title }).await
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StateInput {
    /// `INC-7`, or just `7`.
    pub id: String,
    pub state: IncidentState,
    #[serde(default)]
    pub reason: String,
}

pub async fn state(context: Arc<Context>, caller: Caller, input: StateInput) -> Result<Changed, ApiError> {
    let incident = known_id(&input.id)?;
    change(&context, &caller, Command::SetState { incident, state: input.state, reason: input.reason }).await
}

/// A change that takes nothing but a reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasonInput {
    /// `INC-7`, or just `7`.
    pub id: String,
    #[serde(default)]
    pub reason: String,
}

pub async fn acknowledge(context: Arc<Context>, caller: Caller, input: IncidentQuery) -> Result<Changed, ApiError> {
    change(&context, &caller, Command::Acknowledge { incident: known_id(&input.id)? }).await
}

pub async fn resolve(context: Arc<Context>, caller: Caller, input: ReasonInput) -> Result<Changed, ApiError> {
    change(&context, &caller, Command::Resolve { incident: known_id(&input.id)?, reason: input.reason }).await
}

pub async fn reopen(context: Arc<Context>, caller: Caller, input: ReasonInput) -> Result<Changed, ApiError> {
    change(&context, &caller, Command::Reopen { incident: known_id(&input.id)?, reason: input.reason }).await
}

pub async fn cancel(context: Arc<Context>, caller: Caller, input: ReasonInput) -> Result<Changed, ApiError> {
    change(&context, &caller, Command::Cancel { incident: known_id(&input.id)?, reason: input.reason }).await
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MergeInput {
    /// The incident that goes away: `INC-7`, or just `7`.
    pub id: String,
    /// The incident that stays.
    pub into: String,
}

pub async fn merge(context: Arc<Context>, caller: Caller, input: MergeInput) -> Result<Changed, ApiError> {
    change(&context, &caller, Command::Merge { incident: known_id(&input.id)?, into: known_id(&input.into)? }).await
}

pub(crate) fn register(all: &mut Vec<Operation>) {
    use Method::{Get, Post};
    use Permission::{Read, Write};
    all.extend([
        Operation::new("incident.list", (Get, "/api/v1/incidents"), "List incidents, the latest onset first.", Read, list),
        Operation::new("incident.open", (Post, "/api/v1/incidents"), "Open an incident by hand.", Write, open),
        Operation::new("incident.get", (Get, "/api/v1/incidents/{id}"), "Read one incident with its timeline.", Read, read),
        Operation::new("incident.note", (Post, "/api/v1/incidents/{id}/note"), "Add a note to the timeline.", Write, note),
        Operation::new("incident.title", (Post, "/api/v1/incidents/{id}/title"), "Rename an incident.", Write, title),
        Operation::new("incident.severity", (Post, "/api/v1/incidents/{id}/severity"), "Set the severity by hand.", Write, severity),
        Operation::new(
            "incident.acknowledge",
            (Post, "/api/v1/incidents/{id}/acknowledge"),
            "Say that somebody is on it.",
            Write,
            acknowledge,
        ),
        Operation::new("incident.state", (Post, "/api/v1/incidents/{id}/state"), "Move an incident to another state.", Write, state),
        Operation::new("incident.resolve", (Post, "/api/v1/incidents/{id}/resolve"), "Say that it is over.", Write, resolve),
        Operation::new("incident.reopen", (Post, "/api/v1/incidents/{id}/reopen"), "Say that it is not over.", Write, reopen),
        Operation::new("incident.cancel", (Post, "/api/v1/incidents/{id}/cancel"), "Say that it was a false alarm.", Write, cancel),
        Operation::new("incident.merge", (Post, "/api/v1/incidents/{id}/merge"), "Merge an incident into another.", Write, merge),
    ]);
}
