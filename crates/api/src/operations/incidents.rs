//! Incidents: list, read with checklist and timeline, and everything a person may do to one.

mod changes;

mod evidence;

mod timeline;

use std::sync::Arc;

use paramedic_model::{AgentId, IncidentId, IncidentKind, IncidentState, IncidentType, Phase, Role, Severity, Timestamp};
use paramedic_respond::checklist::{Evidence, phase_of, progress};
use paramedic_respond::decide::parse_incident_id;
use paramedic_respond::timeline::TimelineItem;
use paramedic_respond::{ChecklistItem, Incident, IncidentCounts, Statistics, TimeBox, checklist, statistics, time_boxes};
use paramedic_runbook::desk::RunLine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::ApiError;
use crate::operations::limit_of;
use crate::registry::{Caller, Method, Operation, Permission};

pub use changes::{
    AttachInput, BackDateInput, Changed, HandOverInput, KindInput, MergeInput, NoteInput, OpenInput, ReasonInput, RoleInput, SeverityInput,
    SplitInput, StateInput, TickInput, TitleInput, acknowledge, assign_role, attach, back_date, cancel, change, close, hand_over, kind,
    merge, note, open, release_role, reopen, resolve, severity, split, state, tick, title,
};
pub use evidence::{EvidenceAnswer, EvidenceQuery, evidence};
pub use timeline::TIMELINE_ITEMS_MAX;

/// An incident without its episodes: a line of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IncidentLine {
    pub id: IncidentId,
    #[serde(rename = "type")]
    pub incident_type: IncidentType,
    pub severity: Severity,
    pub state: IncidentState,
    pub kind: IncidentKind,
    pub title: String,
    /// Who leads the response.
    pub commander: Option<String>,
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
        Self {
            id: incident.id.clone(),
            incident_type: incident.incident_type,
            severity: incident.severity,
            state: incident.state,
            kind: incident.kind,
            title: incident.title.clone(),
            commander: incident.holders(Role::Commander).first().cloned(),
            started_at: incident.started_at,
            detected_at: incident.detected_at,
            acknowledged_at: incident.acknowledged_at,
            acknowledge_by: incident.acknowledgement_due(),
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
    /// Journal entries about it and about its runs, in the order they were written.
    pub timeline: Vec<TimelineItem>,
    /// Earlier timeline items that this answer leaves out; the journal has them all.
    pub timeline_left_out: u64,
    /// By when somebody has to acknowledge it; only while that is still due.
    pub acknowledge_by: Option<Timestamp>,
    /// The phase that it is in.
    pub phase: Phase,
    /// What a good response does, phase by phase, and what of it is done.
    pub checklist: Vec<ChecklistItem>,
    /// How far the checklist is, without what is optional.
    pub checklist_done: usize,
    pub checklist_of: usize,
    /// How long its phases took, or have taken.
    pub time_boxes: Vec<TimeBox>,
    /// Runs of runbooks for it, the latest first.
    pub runs: Vec<RunLine>,
}

pub async fn read(context: Arc<Context>, _: Caller, query: IncidentQuery) -> Result<IncidentDetail, ApiError> {
    let incident = find(&context, &query.id).await?;
    let runs = context
        .responding
        .as_ref()
        .map_or_else(Vec::new, |responding| responding.runs.lines(|line| line.incident.as_deref() == Some(incident.id.0.as_str())));
    let (timeline, timeline_left_out) = timeline::of(context.journal.as_ref(), &incident, &runs).await?;
    let acknowledge_by = incident.acknowledgement_due();
    let (now, settings) = (context.now(), context.desk.settings());
    let checklist = checklist(&incident, &Evidence::at(now, settings.quiet_window()));
    let (checklist_done, checklist_of) = progress(&checklist, None);
    let time_boxes = time_boxes(&incident, now, settings);
    let phase = phase_of(&incident);
    Ok(IncidentDetail {
        incident,
        timeline,
        timeline_left_out,
        acknowledge_by,
        phase,
        checklist,
        checklist_done,
        checklist_of,
        time_boxes,
        runs,
    })
}

pub(crate) async fn find(context: &Context, id: &str) -> Result<Incident, ApiError> {
    let id = known_id(id)?;
    context.desk.incidents().await.get(&id).cloned().ok_or_else(|| ApiError::no_incident(&id.0))
}

fn known_id(text: &str) -> Result<IncidentId, ApiError> {
    parse_incident_id(text).ok_or_else(|| ApiError::no_incident(paramedic_model::text::head(text, 100)))
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StatisticsQuery {
    /// Only onsets from here on.
    pub since: Option<Timestamp>,
    /// Only onsets before this.
    pub until: Option<Timestamp>,
    pub severity: Option<Severity>,
    #[serde(rename = "type")]
    pub incident_type: Option<IncidentType>,
    /// `real`, `drill` or `backfill`. Default: real ones and those of history.
    pub kind: Option<IncidentKind>,
}

pub async fn statistics(context: Arc<Context>, _: Caller, query: StatisticsQuery) -> Result<Statistics, ApiError> {
    let StatisticsQuery { since, until, severity, incident_type, kind } = query;
    let all = statistics::Filter::default();
    let filter = statistics::Filter { since, until, severity, incident_type, kinds: kind.map_or(all.kinds, |kind| vec![kind]) };
    Ok(Statistics::of(context.desk.incidents().await.list(), &filter, context.now()))
}

pub(crate) fn register(all: &mut Vec<Operation>) {
    use Method::Get;
    use Permission::Read;
    all.extend([
        Operation::new("incident.list", (Get, "/api/v1/incidents"), "List incidents, the latest onset first.", Read, list),
        Operation::new(
            "incident.statistics",
            (Get, "/api/v1/incidents/statistics"),
            "How fast incidents are noticed, answered, mitigated and resolved.",
            Read,
            statistics,
        ),
        Operation::new("incident.get", (Get, "/api/v1/incidents/{id}"), "Read one incident with its checklist and timeline.", Read, read),
        Operation::new("incident.evidence", (Get, "/api/v1/incidents/{id}/evidence/{name}"), "Read an attachment.", Read, evidence),
    ]);
    changes::register(all);
}

/// What an incident's alerts said, the newest first: texts that causes are looked for in.
#[must_use]
pub fn observed(incident: &Incident) -> Vec<String> {
    const LINES_MAX: usize = 60;
    let said = |episode: &paramedic_respond::Episode| {
        let first = format!("{}: {}", episode.name(), episode.reason);
        std::iter::once(first).chain(episode.evidence.iter().map(|fact| fact.text.clone())).collect::<Vec<_>>()
    };
    incident.episodes.iter().rev().flat_map(said).take(LINES_MAX).collect()
}
