//! Runbooks: list, read, plan, rehearse and start them.

use std::collections::BTreeMap;
use std::sync::Arc;

use paramedic_respond::decide::parse_incident_id;
use paramedic_runbook::classify::Effect;
use paramedic_runbook::desk::{DeskError, RunView, StartRun};
use paramedic_runbook::document::{Executor, SectionKind};
use paramedic_runbook::gate::Mode;
use paramedic_runbook::plan::{Approval, plan as plan_of};
use paramedic_runbook::render::{Given, Values};
use paramedic_runbook::run::{Fixture, Record, Rehearsed, StepState, rehearse};
use paramedic_runbook::shelf::{RunbookLine, Shelved, Untaken};
use paramedic_runbook::{Finding, Runbook, Shelf};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::people::{denied, person, responding};
use crate::context::Context;
use crate::error::ApiError;
use crate::operations::alerts::Nothing;
use crate::registry::{Caller, Method, Operation, Permission};

/// The largest body that brings a fixture, in bytes.
const FIXTURE_BODY_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunbookList {
    pub runbooks: Vec<RunbookLine>,
    /// Files that could not be taken as they are.
    pub untaken: Vec<Untaken>,
}

impl RunbookList {
    #[must_use]
    pub fn of(shelf: &Shelf) -> Self {
        Self { runbooks: shelf.lines(), untaken: shelf.untaken.clone() }
    }
}

pub async fn list(context: Arc<Context>, _: Caller, _: Nothing) -> Result<RunbookList, ApiError> {
    Ok(RunbookList::of(&responding(&context)?.runs.shelf()))
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunbookQuery {
    pub id: String,
}

/// A runbook with everything that is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunbookDetail {
    pub line: RunbookLine,
    /// The document as it was written.
    pub text: String,
    pub runbook: Runbook,
    /// Each step with how much it can do.
    pub steps: Vec<StepLine>,
    /// What is dangerous or wrong in the document.
    pub findings: Vec<Finding>,
}

/// One step as it stands in the runbook, with nothing filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepLine {
    pub name: String,
    pub title: String,
    pub line: usize,
    pub section: SectionKind,
    pub executor: Executor,
    pub cause: Option<String>,
    pub effect: Effect,
    /// What makes it more than a look.
    pub why: String,
    pub approval: Approval,
    pub text: String,
}

impl RunbookDetail {
    #[must_use]
    pub fn of(shelved: &Shelved) -> Self {
        let runbook = shelved.runbook.as_ref().clone();
        let steps = plan_of(&runbook, &Given::default()).steps.into_iter().zip(&runbook.steps);
        let steps = steps.map(|(planned, step)| StepLine {
            name: planned.name,
            title: planned.title,
            line: planned.line,
            section: planned.section,
            executor: planned.executor,
            cause: planned.cause,
            effect: planned.effect,
            why: planned.why,
            approval: planned.approval,
            text: step.text.clone(),
        });
        Self { line: shelved.line(), text: shelved.text.to_string(), steps: steps.collect(), findings: shelved.findings.to_vec(), runbook }
    }
}

pub async fn read(context: Arc<Context>, _: Caller, query: RunbookQuery) -> Result<RunbookDetail, ApiError> {
    Ok(RunbookDetail::of(&responding(&context)?.runs.shelved(&query.id)?))
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanInput {
    pub id: String,
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
}

/// What a runbook would do. Nothing ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunbookPlan {
    pub runbook: String,
    pub title: String,
    /// Inputs that nobody gave and that have no default.
    pub missing: Vec<String>,
    /// Inputs that cannot be used, and what cannot be read.
    pub problems: Vec<String>,
    pub steps: Vec<StepPlan>,
}

/// One step as it would be carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepPlan {
    pub name: String,
    pub title: String,
    pub section: SectionKind,
    pub executor: Executor,
    pub cause: Option<String>,
    pub effect: Effect,
    /// What makes it more than a look.
    pub why: String,
    pub approval: Approval,
    /// Why only a person may start it; empty where anybody may.
    pub by_hand: String,
    /// Exactly what would run; secrets are `***`.
    pub argv: Vec<String>,
    /// What an approval has to name; empty while it is blocked.
    pub hash: String,
    pub blocked: Vec<String>,
    pub verify: Option<String>,
    pub rollback: Option<String>,
}

impl RunbookPlan {
    #[must_use]
    pub fn of(runbook: &Runbook, inputs: BTreeMap<String, String>) -> Self {
        let given = Given { inputs, captured: BTreeMap::new() };
        let plan = plan_of(runbook, &given);
        let values = Values::resolve(runbook, &given);
        let mut problems: Vec<String> = plan.faults.iter().map(|fault| format!("the value of {} {}", fault.name, fault.why)).collect();
        let unknown = given.inputs.keys().filter(|name| !runbook.inputs.is_empty() && !runbook.inputs.contains_key(*name));
        problems.extend(unknown.map(|name| format!("it has no input {name}")));
        problems.extend(plan.problems);
        let steps = plan.steps.into_iter().map(|planned| StepPlan {
            argv: planned.argv(values.secrets()),
            name: planned.name,
            title: planned.title,
            section: planned.section,
            executor: planned.executor,
            cause: planned.cause,
            effect: planned.effect,
            why: planned.why,
            approval: planned.approval,
            by_hand: planned.by_hand,
            hash: planned.hash,
            blocked: planned.blocked.iter().map(ToString::to_string).collect(),
            verify: planned.demands.verify,
            rollback: planned.demands.rollback,
        });
        Self { runbook: plan.runbook, title: plan.title, missing: plan.missing, problems, steps: steps.collect() }
    }
}

pub async fn plan(context: Arc<Context>, _: Caller, input: PlanInput) -> Result<RunbookPlan, ApiError> {
    let shelved = responding(&context)?.runs.shelved(&input.id)?;
    Ok(RunbookPlan::of(&shelved.runbook, input.inputs))
}

/// How a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunMode {
    /// What changes something waits for a person, each time.
    #[default]
    Step,
    /// What a policy allows runs; the rest waits.
    Auto,
    /// What looks runs; what changes is tried dry.
    Dry,
}

impl From<RunMode> for Mode {
    fn from(mode: RunMode) -> Self {
        match mode {
            RunMode::Step => Self::Step,
            RunMode::Auto => Self::Auto,
            RunMode::Dry => Self::Dry,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunInput {
    pub id: String,
    /// Default `step`.
    #[serde(default)]
    pub mode: RunMode,
    /// What is acted on. Default: the incident, or the runbook's service.
    #[serde(default)]
    pub target: String,
    /// The incident that it is for: `INC-7`, or just `7`.
    #[serde(default)]
    pub incident: Option<String>,
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
}

/// Its reading steps run at once; it is answered before they are done.
pub async fn run(context: Arc<Context>, caller: Caller, input: RunInput) -> Result<RunView, ApiError> {
    let runs = &responding(&context)?.runs;
    let incident = incident_of(&context, input.incident.as_deref()).await?;
    let by = person(&context, &caller, incident.as_deref()).await;
    let observed = match incident.as_deref().and_then(parse_incident_id) {
        Some(id) => context.desk.incidents().await.get(&id).map(super::incidents::observed).unwrap_or_default(),
        None => Vec::new(),
    };
    let start = StartRun {
        runbook: input.id,
        mode: input.mode.into(),
        target: input.target,
        incident,
        by: by.clone(),
        inputs: input.inputs,
        observed,
    };
    runs.start(start).await.map_err(|error| denied(&by, error))
}

/// The id of an incident that is there.
pub(super) async fn incident_of(context: &Context, named: Option<&str>) -> Result<Option<String>, ApiError> {
    match named.filter(|named| !named.is_empty()) {
        Some(named) => Ok(Some(super::incidents::find(context, named).await?.id.0)),
        None => Ok(None),
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RehearseInput {
    pub id: String,
    /// YAML: what each step answers, and what is expected.
    pub fixture: String,
}

/// What came of a rehearsal. Nothing real ran.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Rehearsal {
    /// What is not as the fixture expects; empty is success.
    pub problems: Vec<String>,
    /// Steps in the order in which they were carried out.
    pub order: Vec<String>,
    /// The likeliest cause.
    pub cause: Option<String>,
    pub ending: Option<String>,
    pub states: BTreeMap<String, StepState>,
    pub records: Vec<Record>,
}

impl Rehearsal {
    /// Plays a runbook through. It may take a moment.
    pub fn of(runbook: &Runbook, fixture: &str) -> Result<Self, String> {
        let Rehearsed { records, states, order, cause, ending, problems } = rehearse(runbook, &Fixture::parse(fixture)?);
        Ok(Self { problems, order, cause, ending, states, records })
    }
}

pub async fn test(context: Arc<Context>, _: Caller, input: RehearseInput) -> Result<Rehearsal, ApiError> {
    let shelved = responding(&context)?.runs.shelved(&input.id)?;
    let rehearsed = tokio::task::spawn_blocking(move || Rehearsal::of(&shelved.runbook, &input.fixture)).await?;
    rehearsed.map_err(|why| ApiError::bad_key("fixture", &format!("failed to {why}")))
}

/// A runbook of a shelf, or that there is none.
pub fn on_shelf(shelf: &Shelf, id: &str) -> Result<Shelved, ApiError> {
    shelf.get(id).cloned().ok_or_else(|| DeskError::NotFound { what: "the runbook", id: id.to_owned() }.into())
}

pub(crate) fn register(all: &mut Vec<Operation>) {
    use Method::{Get, Post};
    use Permission::{Read, Write};
    all.extend([
        Operation::new("runbook.list", (Get, "/api/v1/runbooks"), "List all runbooks.", Read, list),
        Operation::new(
            "runbook.get",
            (Get, "/api/v1/runbooks/{id}"),
            "Read one runbook: its text, causes, steps and findings.",
            Read,
            read,
        ),
        Operation::new(
            "runbook.plan",
            (Post, "/api/v1/runbooks/{id}/plan"),
            "Say exactly what each step would run with these inputs. Nothing runs.",
            Read,
            plan,
        ),
        Operation::new(
            "runbook.run",
            (Post, "/api/v1/runbooks/{id}/run"),
            "Start a run: what looks runs at once, what changes something waits.",
            Write,
            run,
        ),
        Operation::new(
            "runbook.test",
            (Post, "/api/v1/runbooks/{id}/test"),
            "Rehearse it: outcomes come from a fixture, nothing real runs.",
            Read,
            test,
        )
        .taking(FIXTURE_BODY_BYTES_MAX),
    ]);
}
