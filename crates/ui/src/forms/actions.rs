//! One action: planned first, then started as a run that waits for an approval.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use paramedic_action::Call;
use paramedic_api::operations::actions::{self, ActionRun, ActionRunInput};
use paramedic_api::{ApiError, Context};

use super::fields::{Fields, saying};
use super::runs::finish;
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
    let back = format!("/actions/{}", crate::format::encode(&name));
    match begin(&context, &name, &fields, &signed).await {
        Ok(ActionRun { run: Some(view), .. }) => {
            finish(&context, &signed, None, Ok(saying(&format!("/runs/{}", view.line.id), "started"))).await
        }
        Ok(ActionRun { plan, done, .. }) => {
            signed.remember(pages::action::found(&context, signed.name.clone(), &plan, done.as_ref()).await)
        }
        Err(error) => finish(&context, &signed, Some(&back), Err(error)).await,
    }
}

async fn begin(context: &Arc<Context>, name: &str, fields: &Fields, signed: &Signed) -> Result<ActionRun, ApiError> {
    let call = call_of(name, fields, &signed.name);
    let input = ActionRunInput {
        action: call.action,
        arguments: call.arguments,
        incident: Some(fields.get("incident").to_owned()),
        why: fields.get("why").to_owned(),
    };
    actions::run(Arc::clone(context), signed.caller(), input).await
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
