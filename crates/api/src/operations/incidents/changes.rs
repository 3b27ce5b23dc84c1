//! Everything that a person may do to an incident: the desk decides, the journal has it before it is answered.

use std::sync::Arc;

use paramedic_model::{AgentId, Fingerprint, IncidentKind, IncidentState, IncidentType, Moment, Role, Severity, Timestamp};
use paramedic_respond::{Command, Incident};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{IncidentQuery, known_id};
use crate::context::Context;
use crate::error::ApiError;
use crate::registry::{Caller, Method, Operation, Permission};

/// The largest body that brings an attachment, in bytes: the largest attachment in base64, and its JSON.
const ATTACH_BODY_BYTES_MAX: usize = paramedic_respond::attachments::ATTACHMENT_BYTES_MAX / 3 * 4 + 64 * 1024;

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

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KindInput {
    /// `INC-7`, or just `7`.
    pub id: String,
    pub kind: IncidentKind,
    pub reason: String,
}

pub async fn kind(context: Arc<Context>, caller: Caller, input: KindInput) -> Result<Changed, ApiError> {
    change(&context, &caller, Command::SetKind { incident: known_id(&input.id)?, kind: input.kind, reason: input.reason }).await
}

pub async fn close(context: Arc<Context>, caller: Caller, input: ReasonInput) -> Result<Changed, ApiError> {
    change(&context, &caller, Command::Close { incident: known_id(&input.id)?, reason: input.reason }).await
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitInput {
    /// `INC-7`, or just `7`.
    pub id: String,
    /// The new incident's title.
    pub title: String,
    /// Fingerprints of the alerts that are another problem.
    #[serde(default)]
    pub alerts: Vec<Fingerprint>,
    /// All alerts of these agents.
    #[serde(default)]
    pub agents: Vec<AgentId>,
}

/// Answers with the new incident.
pub async fn split(context: Arc<Context>, caller: Caller, input: SplitInput) -> Result<Changed, ApiError> {
    let SplitInput { id, title, alerts, agents } = input;
    change(&context, &caller, Command::Split { incident: known_id(&id)?, alerts, agents, title }).await
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackDateInput {
    /// `INC-7`, or just `7`.
    pub id: String,
    /// Which of its times.
    pub what: Moment,
    pub to: Timestamp,
    pub reason: String,
}

pub async fn back_date(context: Arc<Context>, caller: Caller, input: BackDateInput) -> Result<Changed, ApiError> {
    let BackDateInput { id, what, to, reason } = input;
    change(&context, &caller, Command::BackDate { incident: known_id(&id)?, what, to, reason }).await
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleInput {
    /// `INC-7`, or just `7`.
    pub id: String,
    pub role: Role,
    pub person: String,
}

pub async fn assign_role(context: Arc<Context>, caller: Caller, input: RoleInput) -> Result<Changed, ApiError> {
    change(&context, &caller, Command::AssignRole { incident: known_id(&input.id)?, role: input.role, person: input.person }).await
}

pub async fn release_role(context: Arc<Context>, caller: Caller, input: RoleInput) -> Result<Changed, ApiError> {
    change(&context, &caller, Command::ReleaseRole { incident: known_id(&input.id)?, role: input.role, person: input.person }).await
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HandOverInput {
    /// `INC-7`, or just `7`.
    pub id: String,
    pub role: Role,
    /// Who has it from now on.
    pub to: String,
    /// What they have to know.
    #[serde(default)]
    pub note: String,
}

pub async fn hand_over(context: Arc<Context>, caller: Caller, input: HandOverInput) -> Result<Changed, ApiError> {
    let HandOverInput { id, role, to, note } = input;
    change(&context, &caller, Command::HandOver { incident: known_id(&id)?, role, to, note }).await
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TickInput {
    /// `INC-7`, or just `7`.
    pub id: String,
    /// The item of the checklist, by its id.
    pub item: String,
    /// False takes a tick back. Default true.
    #[serde(default = "yes")]
    pub done: bool,
}

const fn yes() -> bool {
    true
}

pub async fn tick(context: Arc<Context>, caller: Caller, input: TickInput) -> Result<Changed, ApiError> {
    change(&context, &caller, Command::Tick { incident: known_id(&input.id)?, item: input.item, done: input.done }).await
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachInput {
    /// `INC-7`, or just `7`.
    pub id: String,
    pub name: String,
    /// `text/plain`.
    #[serde(default)]
    pub media_type: String,
    /// The content, where it is text; else `base64`.
    #[serde(default)]
    pub text: Option<String>,
    #[serde(default)]
    pub base64: Option<String>,
    /// Where it is from: a query, a command, a link.
    #[serde(default)]
    pub source: String,
}

pub async fn attach(context: Arc<Context>, caller: Caller, input: AttachInput) -> Result<Changed, ApiError> {
    let AttachInput { id, name, media_type, text, base64, source } = input;
    change(&context, &caller, Command::Attach { incident: known_id(&id)?, name, media_type, text, base64, source }).await
}

pub(super) fn register(all: &mut Vec<Operation>) {
    use Method::Post;
    use Permission::Write;
    all.extend([
        Operation::new("incident.open", (Post, "/api/v1/incidents"), "Open an incident by hand.", Write, open),
        Operation::new("incident.note", (Post, "/api/v1/incidents/{id}/note"), "Add a note to the timeline.", Write, note),
        Operation::new("incident.title", (Post, "/api/v1/incidents/{id}/title"), "Rename an incident.", Write, title),
        Operation::new("incident.severity", (Post, "/api/v1/incidents/{id}/severity"), "Set the severity by hand.", Write, severity),
        Operation::new("incident.kind", (Post, "/api/v1/incidents/{id}/kind"), "Say that it is a drill, or real.", Write, kind),
        Operation::new(
            "incident.acknowledge",
            (Post, "/api/v1/incidents/{id}/acknowledge"),
            "Say that somebody is on it.",
            Write,
            acknowledge,
        ),
        Operation::new("incident.state", (Post, "/api/v1/incidents/{id}/state"), "Move an incident to another state.", Write, state),
        Operation::new("incident.resolve", (Post, "/api/v1/incidents/{id}/resolve"), "Say that it is over.", Write, resolve),
        Operation::new("incident.close", (Post, "/api/v1/incidents/{id}/close"), "Say that all work on it is done.", Write, close),
        Operation::new("incident.reopen", (Post, "/api/v1/incidents/{id}/reopen"), "Say that it is not over.", Write, reopen),
        Operation::new("incident.cancel", (Post, "/api/v1/incidents/{id}/cancel"), "Say that it was a false alarm.", Write, cancel),
        Operation::new("incident.merge", (Post, "/api/v1/incidents/{id}/merge"), "Merge an incident into another.", Write, merge),
        Operation::new("incident.split", (Post, "/api/v1/incidents/{id}/split"), "Split alerts off into a new incident.", Write, split),
        Operation::new("incident.back-date", (Post, "/api/v1/incidents/{id}/back-date"), "Correct one of its times.", Write, back_date),
        Operation::new("incident.assign-role", (Post, "/api/v1/incidents/{id}/assign-role"), "Give somebody a role.", Write, assign_role),
        Operation::new("incident.release-role", (Post, "/api/v1/incidents/{id}/release-role"), "Take a role away.", Write, release_role),
        Operation::new("incident.hand-over", (Post, "/api/v1/incidents/{id}/hand-over"), "Pass a role on.", Write, hand_over),
        Operation::new("incident.tick", (Post, "/api/v1/incidents/{id}/tick"), "Tick an item of the checklist.", Write, tick),
        Operation::new("incident.attach", (Post, "/api/v1/incidents/{id}/attach"), "Attach a piece of evidence.", Write, attach)
            .taking(ATTACH_BODY_BYTES_MAX),
    ]);
}
