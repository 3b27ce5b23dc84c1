//! One action: planned first, then started as a run that waits for an approval.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use paramedic_action::Call;
use paramedic_api::error::Code;
use paramedic_api::{ApiError, Context};
use paramedic_runbook::desk::ActionCall;

use super::fields::{Fields, saying};
use super::runs::{finish, person, refused, responding};
use super::who::{self, Signed};
use crate::{page, pages};

pub(crate) async fn plan(State(context): State<Arc<Context>>, Path(name): Path<String>, headers: HeaderMap, body: Body) -> Response {
    let fields = match Fields::read(body).await {
        Ok(fields) => fields,
        Err(error) => return page::refusal(&context, &error).await,
    };
    let call = call_of(&name, &fields, &super::actor(&headers));
    pages::action::planned(&context, super::actor(&headers), &call, fields.get("incident")).await
}

pub(crate) async fn start(State(context): State<Arc<Context>>, Path(name): Path<String>, headers: HeaderMap, body: Body) -> Response {
    let fields = match Fields::read(body).await {
        Ok(fields) => fields,
        Err(error) => return page::refusal(&context, &error).await,
    };
    let path = format!("/actions/{}/start", crate::format::encode(&name));
    let Some(signed) = Signed::of(&headers, fields.get("who")) else { return who::ask(&context, &path, &fields.0).await };
    let led = begin(&context, &name, &fields, &signed).await;
    finish(&context, &signed, Some(&format!("/actions/{}", crate::format::encode(&name))), led).await
}

async fn begin(context: &Arc<Context>, name: &str, fields: &Fields, signed: &Signed) -> Result<String, ApiError> {
    let parts = responding(context)?;
    let call = call_of(name, fields, &signed.name);
    parts.actions.check(&call).map_err(|error| ApiError::new(Code::BadRequest, format!("failed to {error}"), ""))?;
    let incident = Some(fields.get("incident")).filter(|id| !id.is_empty()).map(str::to_owned);
    let by = person(context, &signed.name, incident.as_deref()).await;
    let wanted = ActionCall { action: call.action, arguments: call.arguments, affected_max: fields.get("affected").parse().ok() };
    let view = parts.runs.start_action(wanted, incident, by, fields.get("why")).await.map_err(refused)?;
    Ok(saying(&format!("/runs/{}", view.line.id), "started"))
}

fn call_of(name: &str, fields: &Fields, by: &str) -> Call {
    let mut call = Call::new(name);
    call.by = by.to_owned();
    call.reason = fields.get("why").to_owned();
    for (argument, value) in fields.all("arg.") {
        call.arguments.insert(argument, value.into());
    }
    call
}
