//! What people do with runs: start one, agree to a step, leave it out, run it again, take it back, give inputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use paramedic_api::error::Code;
use paramedic_api::operations::people::{person, responding};
use paramedic_api::operations::runbooks::{self, RunInput, RunMode};
use paramedic_api::{ApiError, Context};
use paramedic_runbook::desk::{DeskError, RunView, StepView};
use paramedic_runbook::plan::Approval;

use super::fields::{Fields, saying};
use super::who::{self, Signed};
use crate::page;
use crate::steps::destroys;

/// A desk's refusal as the page says it.
pub(crate) fn refused(error: DeskError) -> ApiError {
    match error {
        DeskError::Stale { step, .. } => ApiError::new(
            Code::Conflict,
            format!("what {step} would run has changed since you looked, so your approval was not taken and nothing ran"),
            "go back, read what it would run now, and approve that",
        ),
        other => other.into(),
    }
}

/// Where a form leads to, or why not.
type Led = Result<String, ApiError>;

pub(super) async fn finish(context: &Context, signed: &Signed, back: Option<&str>, led: Led) -> Response {
    let response = match led {
        Ok(place) => (StatusCode::SEE_OTHER, [(header::LOCATION, place)]).into_response(),
        Err(error) => page::refusal_with(context, &error, back, &signed.name).await,
    };
    signed.remember(response)
}

pub(crate) async fn start(State(context): State<Arc<Context>>, headers: HeaderMap, body: Body) -> Response {
    let fields = match Fields::read(body).await {
        Ok(fields) => fields,
        Err(error) => return page::refusal(&context, &error).await,
    };
    let Some(signed) = Signed::of(&headers, fields.get("who")) else { return who::ask(&context, "/runs", &fields.0).await };
    let led = start_by(&context, &signed, &fields).await;
    finish(&context, &signed, fields.back().as_deref(), led).await
}

async fn start_by(context: &Arc<Context>, signed: &Signed, fields: &Fields) -> Led {
    let input = RunInput {
        id: fields.get("runbook").to_owned(),
        mode: if fields.get("mode") == "dry" { RunMode::Dry } else { RunMode::Step },
        target: fields.get("target").to_owned(),
        incident: Some(fields.get("incident").to_owned()),
        inputs: fields.all("input."),
    };
    let view = runbooks::run(Arc::clone(context), signed.caller(), input).await?;
    let place = match &view.line.incident {
        Some(id) => format!("/incidents/{id}"),
        None => format!("/runs/{}", view.line.id),
    };
    Ok(saying(&place, "started"))
}

pub(crate) async fn act(
    State(context): State<Arc<Context>>,
    Path((id, what)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let fields = match Fields::read(body).await {
        Ok(fields) => fields,
        Err(error) => return page::refusal(&context, &error).await,
    };
    let path = format!("/runs/{}/{}", crate::format::encode(&id), crate::format::encode(&what));
    let Some(signed) = Signed::of(&headers, fields.get("who")) else { return who::ask(&context, &path, &fields.0).await };
    let back = fields.back().unwrap_or_else(|| format!("/runs/{}", crate::format::encode(&id)));
    let led = act_on(&context, &signed, &id, &what, &fields).await.map(|(id, done)| match id {
        // What takes an action back is a run of its own, and it is what has to be looked at now.
        Some(other) => saying(&format!("/runs/{other}"), done),
        None => saying(&back, done),
    });
    finish(&context, &signed, Some(&back), led).await
}

async fn act_on(
    context: &Arc<Context>,
    signed: &Signed,
    id: &str,
    what: &str,
    fields: &Fields,
) -> Result<(Option<String>, &'static str), ApiError> {
    let runs = &responding(context)?.runs;
    let before = runs.view(id).await.map_err(refused)?;
    let by = person(context, &signed.caller(), before.line.incident.as_deref()).await;
    let (step, why) = (fields.get("step"), fields.get("why"));
    let done = match what {
        "approve" => {
            sure(&before, step, fields)?;
            let view = runs.approve(id, step, fields.get("hash"), by).await.map_err(refused)?;
            let wants_more = of(&view, step).is_some_and(|step| step.approval == Approval::Two && step.agreed.len() == 1);
            if wants_more { "approve-more" } else { "approve" }
        }
        "run" => {
            sure(&before, step, fields)?;
            current(&before, step, fields.get("hash"))?;
            runs.choose(id, step, by).await.map(|_| "run").map_err(refused)?
        }
        "again" => runs.again(id, step, by).await.map(|_| "again").map_err(refused)?,
        "leave-out" => runs.leave_out(id, step, by, why).await.map(|_| "leave-out").map_err(refused)?,
        "undo" => {
            let view = runs.undo(id, step, by, why).await.map_err(refused)?;
            let other = (view.line.id != before.line.id).then_some(view.line.id);
            return Ok((other, "undo"));
        }
        "give" => {
            let inputs: BTreeMap<String, String> = fields.all("input.");
            runs.give(id, &inputs, by).await.map(|_| "give").map_err(refused)?
        }
        "call-off" => runs.call_off(id, by, why).await.map(|_| "call-off").map_err(refused)?,
        _ => return Err(ApiError::new(Code::NotFound, "there is no such action", "")),
    };
    Ok((None, done))
}

fn of<'a>(view: &'a RunView, step: &str) -> Option<&'a StepView> {
    view.steps.iter().find(|one| one.name == step)
}

/// What loses something for good is agreed to with a box that was ticked on purpose.
fn sure(view: &RunView, step: &str, fields: &Fields) -> Result<(), ApiError> {
    if of(view, step).is_some_and(destroys) && fields.get("sure") != "yes" {
        let why = format!("{step} loses something that cannot be had back, and the box that says so was not ticked; nothing ran");
        return Err(ApiError::new(Code::BadRequest, why, "go back, read what would be lost, and tick the box"));
    }
    Ok(())
}

/// Also what needs no approval runs only as it was seen.
fn current(view: &RunView, step: &str, hash: &str) -> Result<(), ApiError> {
    match of(view, step) {
        Some(found) if found.hash != hash => Err(refused(DeskError::Stale { step: step.to_owned(), hash: found.hash.clone() })),
        _ => Ok(()),
    }
}

pub(super) fn done_words(what: &str) -> Option<&'static str> {
    Some(match what {
        "started" => "Started. What only looks runs by itself; what changes something waits for you.",
        "approve" => "Approved: exactly what you saw runs now, as soon as nothing holds it back.",
        "approve-more" => "You agreed. It runs when a second person agrees to the same.",
        "run" => "It runs now.",
        "again" => "It is open again; what only looks runs at once.",
        "leave-out" => "Left out. That is not success, and the record says so.",
        "undo" => "Its way back was asked for.",
        "give" => "The inputs are taken; what was waiting for them goes on.",
        "call-off" => "The run is called off. Nothing more of it happens.",
        _ => return None,
    })
}
