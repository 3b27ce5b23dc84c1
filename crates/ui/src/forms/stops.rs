//! The kill switch, the fleet's brake, and switches of the gateway.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use paramedic_api::operations::gateway::{ResetInput, reset_breakers};
use paramedic_api::operations::people::responding;
use paramedic_api::operations::switches::{self, ClearInput, SwitchInput};
use paramedic_api::{ApiError, Caller, Context};
use paramedic_runbook::brake::Stopped;
use paramedic_runbook::gate::Person;
use serde_json::Value;

use super::fields::{Fields, own_path, saying};
use super::runs::{finish, refused};
use super::who::{self, Signed};
use crate::page;

pub(crate) async fn brake(State(context): State<Arc<Context>>, headers: HeaderMap, body: Body) -> Response {
    let fields = match Fields::read(body).await {
        Ok(fields) => fields,
        Err(error) => return page::refusal(&context, &error).await,
    };
    let what = fields.get("what");
    let stops = matches!(what, "writes" | "everything");
    // Nobody has to say who they are before they stop something.
    let signed = if stops { Some(Signed::or_web(&headers, fields.get("who"))) } else { Signed::of(&headers, fields.get("who")) };
    let Some(signed) = signed else { return who::ask(&context, "/brake", &fields.0).await };
    let back = came_from(&headers).filter(|path| path != "/brake").unwrap_or_else(|| "/brake".to_owned());
    let led = act(&context, what, &signed.name, fields.get("why")).await.map(|done| saying(&back, done));
    finish(&context, &signed, Some(&back), led).await
}

async fn act(context: &Context, what: &str, name: &str, why: &str) -> Result<&'static str, ApiError> {
    let runs = &responding(context)?.runs;
    let by = Person::human(name);
    let (stopped, done) = match what {
        "writes" => (Stopped::Writes, "stopped-writes"),
        "everything" => (Stopped::Everything, "stopped-everything"),
        "nothing" => (Stopped::Nothing, "lifted"),
        "release" => return runs.release(&by, why).await.map(|_| "released").map_err(refused),
        _ => return Err(ApiError::bad_key("what", "it must be writes, everything, nothing or release")),
    };
    runs.stop(stopped, &by, why).await.map(|_| done).map_err(refused)
}

/// The page that the form was on.
fn came_from(headers: &HeaderMap) -> Option<String> {
    let referer = headers.get(header::REFERER)?.to_str().ok()?;
    let rest = referer.split_once("://")?.1;
    let (host, path) = rest.split_once('/')?;
    let own = headers.get(header::HOST).and_then(|own| own.to_str().ok()).is_some_and(|own| own.eq_ignore_ascii_case(host));
    if own { own_path(&format!("/{path}")) } else { None }
}

pub(crate) async fn switches(State(context): State<Arc<Context>>, headers: HeaderMap, body: Body) -> Response {
    let fields = match Fields::read(body).await {
        Ok(fields) => fields,
        Err(error) => return page::refusal(&context, &error).await,
    };
    let Some(signed) = Signed::of(&headers, fields.get("who")) else { return who::ask(&context, "/switches", &fields.0).await };
    let back = fields.back().unwrap_or_else(|| "/switches".to_owned());
    let led = switch(context.clone(), signed.caller(), &fields).await.map(|done| saying(&back, done));
    finish(&context, &signed, Some(&back), led).await
}

async fn switch(context: Arc<Context>, caller: Caller, fields: &Fields) -> Result<&'static str, ApiError> {
    let name = format!("{}{}", fields.get("switch"), fields.get("of"));
    let (scope, why) = (Some(fields.get("scope").to_owned()), fields.get("why").to_owned());
    if fields.get("do") == "clear" {
        let scope = scope.filter(|scope| !scope.is_empty()).or_else(|| Some("all".to_owned()));
        return switches::clear(context, caller, ClearInput { id: name, scope, why }).await.map(|_| "switch-cleared");
    }
    if fields.get("do") == "reset" {
        let of = fields.get("of").to_owned();
        let input = ResetInput { all: of.is_empty(), name: Some(of).filter(|of| !of.is_empty()), why };
        return reset_breakers(context, caller, input).await.map(|_| "breaker-reset");
    }
    let minutes = fields.get("minutes");
    let ttl = if minutes.is_empty() { fields.get("for").to_owned() } else { format!("{minutes}m") };
    let input = SwitchInput { switch: name, value: Value::from(fields.get("value")), scope, ttl: Some(ttl), why };
    let set = switches::set(context, caller, input).await?;
    Ok(if set.switch.lasts() { "switch-lasts" } else { "switch-set" })
}

pub(super) fn done_words(what: &str) -> Option<&'static str> {
    Some(match what {
        "stopped-writes" => "Stopped: nothing is changed until a person lifts it. Looking goes on.",
        "stopped-everything" => "Stopped: nothing runs until a person lifts it.",
        "lifted" => "Lifted: what was approved may run again.",
        "released" => "Released: policies may act again.",
        "switch-set" => "Set. It ends by itself.",
        "switch-lasts" => "Set. It holds until somebody clears it.",
        "switch-cleared" => "Cleared.",
        "breaker-reset" => "Reset. It is in the journal.",
        _ => return None,
    })
}
