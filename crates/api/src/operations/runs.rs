//! Runs of runbooks: list, read, agree to steps, and what waits for people.

use std::collections::BTreeMap;
use std::sync::Arc;

use paramedic_runbook::desk::{Can, Revert, RunLine, RunView, StepView, number_of};
use paramedic_runbook::gate::{Decision, Person};
use paramedic_runbook::run::{Entry, StepState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::people::{denied, person, responding, somebody};
use crate::context::Context;
use crate::error::ApiError;
use crate::operations::alerts::Nothing;
use crate::operations::limit_of;
use crate::registry::{Caller, Method, Operation, Permission};

/// Runs that are looked through for steps that wait.
const WAITING_RUNS_MAX: usize = 200;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RunsQuery {
    /// Only those for this incident: `INC-7`, or just `7`.
    pub incident: Option<String>,
    /// Only those of this runbook.
    pub runbook: Option<String>,
    /// Only those that have not ended.
    pub open: Option<bool>,
    /// Only those with a step that waits for people to agree.
    pub asking: Option<bool>,
    /// Page size, 1 to 1000. Default 100.
    pub limit: Option<usize>,
    /// Where the page before ended: its `next`.
    pub after: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunPage {
    /// The latest first.
    pub runs: Vec<RunLine>,
    /// How many match in all.
    pub total: usize,
    /// Ask again with `after` set to this; none at the end.
    pub next: Option<usize>,
}

pub async fn list(context: Arc<Context>, _: Caller, query: RunsQuery) -> Result<RunPage, ApiError> {
    let (limit, after) = (limit_of(query.limit)?, query.after.unwrap_or(0));
    let incident = query.incident.as_deref().filter(|named| !named.is_empty());
    let incident = incident.map(|named| paramedic_respond::decide::parse_incident_id(named).ok_or_else(|| ApiError::no_incident(named)));
    let incident = incident.transpose()?;
    let matching = responding(&context)?.runs.lines(|line| {
        incident.as_ref().is_none_or(|id| line.incident.as_deref() == Some(id.0.as_str()))
            && query.runbook.as_ref().is_none_or(|runbook| line.runbook == *runbook)
            && query.open.is_none_or(|open| line.ended_at.is_none() == open)
            && query.asking.is_none_or(|asking| line.asking.is_empty() != asking)
    });
    let total = matching.len();
    let runs: Vec<RunLine> = matching.into_iter().skip(after).take(limit).collect();
    let end = after + runs.len();
    Ok(RunPage { next: (end < total && !runs.is_empty()).then_some(end), runs, total })
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunQuery {
    /// `RUN-7`, or just `7`.
    pub run: String,
}

pub async fn read(context: Arc<Context>, _: Caller, query: RunQuery) -> Result<RunView, ApiError> {
    Ok(responding(&context)?.runs.view(&query.run).await?)
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordQuery {
    /// `RUN-7`, or just `7`.
    pub run: String,
    /// Only records after so many. Default 0.
    #[serde(default)]
    pub after: Option<usize>,
    /// Page size, 1 to 1000. Default 100.
    #[serde(default)]
    pub limit: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecordPage {
    /// What happened, in order.
    pub entries: Vec<Entry>,
    /// Ask again with `after` set to this; none at the end.
    pub next: Option<usize>,
}

pub async fn record(context: Arc<Context>, _: Caller, query: RecordQuery) -> Result<RecordPage, ApiError> {
    let (limit, after) = (limit_of(query.limit)?, query.after.unwrap_or(0));
    let all = responding(&context)?.runs.entries(&query.run).await?;
    let total = all.len();
    let entries: Vec<Entry> = all.into_iter().skip(after).take(limit).collect();
    let end = after + entries.len();
    Ok(RecordPage { next: (end < total && !entries.is_empty()).then_some(end), entries })
}

/// The incident of a run, for the roles of those who act on it.
fn incident_of(context: &Context, run: &str) -> Result<Option<String>, ApiError> {
    let number = number_of(run);
    let found = responding(context)?.runs.lines(|line| Some(line.number) == number).pop();
    Ok(found.and_then(|line| line.incident))
}

async fn who(context: &Context, caller: &Caller, run: &str) -> Result<Person, ApiError> {
    let incident = incident_of(context, run)?;
    somebody(context, caller, incident.as_deref()).await
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveInput {
    /// `RUN-7`, or just `7`.
    pub run: String,
    pub step: String,
    /// The hash of the step as you saw it.
    pub hash: String,
}

pub async fn approve(context: Arc<Context>, caller: Caller, input: ApproveInput) -> Result<RunView, ApiError> {
    let by = who(&context, &caller, &input.run).await?;
    Ok(responding(&context)?.runs.approve(&input.run, &input.step, &input.hash, by).await?)
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepInput {
    /// `RUN-7`, or just `7`.
    pub run: String,
    pub step: String,
    #[serde(default)]
    pub why: String,
}

pub async fn choose(context: Arc<Context>, caller: Caller, input: StepInput) -> Result<RunView, ApiError> {
    let by = who(&context, &caller, &input.run).await?;
    Ok(responding(&context)?.runs.choose(&input.run, &input.step, by).await?)
}

pub async fn again(context: Arc<Context>, caller: Caller, input: StepInput) -> Result<RunView, ApiError> {
    let by = who(&context, &caller, &input.run).await?;
    Ok(responding(&context)?.runs.again(&input.run, &input.step, by).await?)
}

pub async fn skip(context: Arc<Context>, caller: Caller, input: StepInput) -> Result<RunView, ApiError> {
    let by = who(&context, &caller, &input.run).await?;
    Ok(responding(&context)?.runs.leave_out(&input.run, &input.step, by, &input.why).await?)
}

/// Answers with the run that takes it back: the same one, or one of its own.
pub async fn undo(context: Arc<Context>, caller: Caller, input: StepInput) -> Result<RunView, ApiError> {
    let by = who(&context, &caller, &input.run).await?;
    Ok(responding(&context)?.runs.undo(&input.run, &input.step, by, &input.why).await?)
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InputsInput {
    /// `RUN-7`, or just `7`.
    pub run: String,
    pub inputs: BTreeMap<String, String>,
}

pub async fn inputs(context: Arc<Context>, caller: Caller, input: InputsInput) -> Result<RunView, ApiError> {
    let by = who(&context, &caller, &input.run).await?;
    Ok(responding(&context)?.runs.give(&input.run, &input.inputs, by).await?)
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelInput {
    /// `RUN-7`, or just `7`.
    pub run: String,
    #[serde(default)]
    pub why: String,
}

/// Calls it off. Anybody may stop things.
pub async fn cancel(context: Arc<Context>, caller: Caller, input: CancelInput) -> Result<RunView, ApiError> {
    let by = person(&context, &caller, incident_of(&context, &input.run)?.as_deref()).await;
    responding(&context)?.runs.call_off(&input.run, by.clone(), &input.why).await.map_err(|error| denied(&by, error))
}

/// A step that waits for a person.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Waiting {
    pub run: RunLine,
    pub step: StepView,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Approvals {
    /// Those of the latest run first.
    pub waiting: Vec<Waiting>,
    /// Open runs that were not looked through: there are too many.
    pub runs_left_out: usize,
}

/// Steps that wait to be approved, that are in doubt, or that are the next thing for a person to do.
pub async fn approvals(context: Arc<Context>, _: Caller, _: Nothing) -> Result<Approvals, ApiError> {
    let runs = &responding(&context)?.runs;
    let open = runs.lines(|line| line.ended_at.is_none());
    let runs_left_out = open.len().saturating_sub(WAITING_RUNS_MAX);
    let mut waiting = Vec::new();
    for line in open.into_iter().take(WAITING_RUNS_MAX) {
        // It may end while it is looked at; then nothing of it waits.
        let Ok(view) = runs.view(&line.id).await else { continue };
        let next = view.next.clone();
        let waits = |step: &StepView| {
            let asked = matches!(&step.state, StepState::Held { decision: Decision::Ask { .. } });
            let doubt = step.state == StepState::Interrupted;
            let able = step.can.iter().any(|can| matches!(can, Can::Approve | Can::Run | Can::Again));
            able && (asked || doubt || next.as_deref() == Some(step.name.as_str()))
        };
        let (line, steps) = (view.line, view.steps);
        waiting.extend(steps.into_iter().filter(waits).map(|step| Waiting { run: line.clone(), step }));
    }
    Ok(Approvals { waiting, runs_left_out })
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reverts {
    /// What was changed for a time, and when it is taken back.
    pub reverts: Vec<Revert>,
}

pub async fn reverts(context: Arc<Context>, _: Caller, _: Nothing) -> Result<Reverts, ApiError> {
    Ok(Reverts { reverts: responding(&context)?.runs.reverts() })
}

pub(crate) fn register(all: &mut Vec<Operation>) {
    use Method::{Get, Post};
    use Permission::{Read, Write};
    all.extend([
        Operation::new("run.list", (Get, "/api/v1/runs"), "List runs, the latest first.", Read, list),
        Operation::new("run.get", (Get, "/api/v1/runs/{run}"), "Read one run with all its steps.", Read, read),
        Operation::new("run.record", (Get, "/api/v1/runs/{run}/record"), "Read the record of a run.", Read, record),
        Operation::new(
            "run.approve",
            (Post, "/api/v1/runs/{run}/approve"),
            "Agree to exactly the step that has this hash.",
            Write,
            approve,
        ),
        Operation::new(
            "run.choose",
            (Post, "/api/v1/runs/{run}/choose"),
            "Run a step that nobody has to approve, or say that it is done by hand.",
            Write,
            choose,
        ),
        Operation::new("run.again", (Post, "/api/v1/runs/{run}/again"), "Run a step once more.", Write, again),
        Operation::new("run.skip", (Post, "/api/v1/runs/{run}/skip"), "Leave a step out.", Write, skip),
        Operation::new("run.undo", (Post, "/api/v1/runs/{run}/undo"), "Take back what a step changed.", Write, undo),
        Operation::new("run.inputs", (Post, "/api/v1/runs/{run}/inputs"), "Give inputs that are missing, or other ones.", Write, inputs),
        Operation::new("run.cancel", (Post, "/api/v1/runs/{run}/cancel"), "Call a run off.", Write, cancel),
        Operation::new("approval.list", (Get, "/api/v1/approvals"), "List all steps that wait for a person.", Read, approvals),
        Operation::new("revert.list", (Get, "/api/v1/reverts"), "List what is taken back when its time is over.", Read, reverts),
    ]);
}
