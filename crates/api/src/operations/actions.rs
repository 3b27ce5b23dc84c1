//! Typed actions: list, plan and start them.

use std::sync::Arc;
use std::time::Duration;

use paramedic_action::{Call, Done, Effect, Plan, Spec, holds_secret};
use paramedic_model::{secret, text};
use paramedic_runbook::brake::Stopped;
use paramedic_runbook::desk::{ActionCall, RunView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use super::people::{responding, somebody};
use super::runbooks::incident_of;
use crate::context::{Context, Responding};
use crate::error::{ApiError, Code};
use crate::operations::alerts::Nothing;
use crate::registry::{Caller, Method, Operation, Permission};

/// Time in which a plan, or an action that only looks, has to answer.
const LOOK_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ActionList {
    pub actions: Vec<&'static Spec>,
}

pub async fn list(context: Arc<Context>, _: Caller, _: Nothing) -> Result<ActionList, ApiError> {
    Ok(ActionList { actions: responding(&context)?.actions.specs().collect() })
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionPlanInput {
    /// `redis.delete_keys`.
    pub action: String,
    #[serde(default)]
    pub arguments: Map<String, Value>,
}

/// What an action would do. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ActionPlan {
    pub plan: Plan,
}

pub async fn plan(context: Arc<Context>, caller: Caller, input: ActionPlanInput) -> Result<ActionPlan, ApiError> {
    let responding = responding(&context)?;
    let call = Call { action: input.action, arguments: input.arguments, by: caller.actor, reason: String::new() };
    Ok(ActionPlan { plan: planned(responding, &call).await? })
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActionRunInput {
    /// `redis.delete_keys`.
    pub action: String,
    #[serde(default)]
    pub arguments: Map<String, Value>,
    /// The incident that it is for: `INC-7`, or just `7`.
    #[serde(default)]
    pub incident: Option<String>,
    #[serde(default)]
    pub why: String,
}

/// What an action would do, and the run that waits for somebody to agree; or what it found, where it only looks.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ActionRun {
    pub plan: Plan,
    pub run: Option<RunView>,
    pub done: Option<Done>,
}

pub async fn run(context: Arc<Context>, caller: Caller, input: ActionRunInput) -> Result<ActionRun, ApiError> {
    let responding = responding(&context)?;
    let incident = incident_of(&context, input.incident.as_deref()).await?;
    let by = somebody(&context, &caller, incident.as_deref()).await?;
    let call = Call { action: input.action, arguments: input.arguments, by: caller.actor, reason: secret::mask(&input.why).into_owned() };
    let plan = planned(responding, &call).await?;
    if plan.effect == Effect::Read {
        let done = look(responding, &call).await?;
        return Ok(ActionRun { plan, run: None, done: Some(done) });
    }
    if holds_secret(&call) {
        return Err(ApiError::new(
            Code::BadRequest,
            format!(
                "the arguments of {} hold what looks like a secret, and what runs is written down for ever",
                text::head(&call.action, 100)
            ),
            "put secrets of HTTP requests into action.http.secrets of the settings; they are sent and never written down",
        ));
    }
    // What is approved is bounded by what was seen: should more be hit when it runs, it is held back.
    let started = ActionCall { action: call.action, arguments: call.arguments, affected_max: Some(plan.affected) };
    let view = responding.runs.start_action(started, incident, by, &input.why).await?;
    Ok(ActionRun { plan, run: Some(view), done: None })
}

async fn planned(responding: &Responding, call: &Call) -> Result<Plan, ApiError> {
    looking(responding).await?;
    in_time(call, responding.actions.plan(call)).await
}

async fn look(responding: &Responding, call: &Call) -> Result<Done, ApiError> {
    let cancel = CancellationToken::new();
    let (_, done) = in_time(call, responding.actions.execute(call, &cancel)).await?;
    Ok(done)
}

/// A stop of everything stops looking, too.
async fn looking(responding: &Responding) -> Result<(), ApiError> {
    if responding.runs.brakes().await.stopped < Stopped::Everything {
        return Ok(());
    }
    Err(ApiError::new(Code::Conflict, "the kill switch stops everything, looking too", "GET /api/v1/brake says who set it, and why"))
}

async fn in_time<T>(call: &Call, work: impl Future<Output = Result<T, paramedic_action::ActionError>>) -> Result<T, ApiError> {
    match tokio::time::timeout(LOOK_TIMEOUT, work).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => {
            let message = format!("failed to look for {}: no answer within {} s", call.action, LOOK_TIMEOUT.as_secs());
            Err(ApiError::new(Code::BadGateway, message, "nothing was changed; is the other side well?"))
        }
    }
}

pub(crate) fn register(all: &mut Vec<Operation>) {
    use Method::{Get, Post};
    use Permission::{Read, Write};
    all.extend([
        Operation::new("action.list", (Get, "/api/v1/actions"), "List all actions with their arguments.", Read, list),
        Operation::new(
            "action.plan",
            (Post, "/api/v1/actions/plan"),
            "Look, and say what an action would do: how many, exactly what, and what takes it back.",
            Read,
            plan,
        ),
        Operation::new(
            "action.run",
            (Post, "/api/v1/actions/run"),
            "Plan an action and start it as a run, which waits for somebody to agree; one that only looks answers at once.",
            Write,
            run,
        ),
    ]);
}
