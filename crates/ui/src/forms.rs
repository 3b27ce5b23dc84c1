//! What a person may do from a page, as plain forms: do it, say what was done, go back to the page.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use paramedic_api::error::Code;
use paramedic_api::operations::incidents::{self, Changed};
use paramedic_api::{ApiError, Caller, Context};
use paramedic_model::{AgentId, IncidentState, IncidentType, Severity, text};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::page;

/// The largest form, in bytes: a note of the longest kind, percent-encoded.
const FORM_BYTES_MAX: usize = 60 * 1024;
const NAME_COOKIE: &str = "paramedic_name";
const NAME_BYTES_MAX: usize = 40;

/// Who writes in this browser: the name they gave, else "web".
pub(crate) fn actor(headers: &HeaderMap) -> String {
    let cookies = headers.get(header::COOKIE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let name = cookies.split(';').filter_map(|pair| pair.trim().split_once('=')).find(|(key, _)| *key == NAME_COOKIE).map(|pair| pair.1);
    let name: String = name.unwrap_or("").chars().filter(|c| is_name_char(*c)).take(NAME_BYTES_MAX).collect();
    if name.is_empty() { "web".to_owned() } else { name }
}

const fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@')
}

#[derive(Deserialize)]
pub(crate) struct MeForm {
    #[serde(default)]
    name: String,
}

pub(crate) async fn me(State(context): State<Arc<Context>>, body: Body) -> Response {
    let form: MeForm = match read(body).await {
        Ok(form) => form,
        Err(error) => return page::refusal(&context, &error).await,
    };
    let name: String = form.name.trim().replace(' ', ".").chars().filter(|c| is_name_char(*c)).take(NAME_BYTES_MAX).collect();
    let cookie = format!("{NAME_COOKIE}={name}; Path=/; Max-Age=31536000; SameSite=Strict; HttpOnly");
    (StatusCode::SEE_OTHER, [(header::LOCATION, "/me".to_owned()), (header::SET_COOKIE, cookie)]).into_response()
}

#[derive(Deserialize)]
pub(crate) struct OpenForm {
    title: String,
    #[serde(rename = "type")]
    incident_type: IncidentType,
    severity: Severity,
    #[serde(default)]
    agent: String,
}

pub(crate) async fn open(State(context): State<Arc<Context>>, headers: HeaderMap, body: Body) -> Response {
    let opened = async {
        let form: OpenForm = read(body).await?;
        let agents = Some(form.agent.trim()).filter(|agent| !agent.is_empty()).map(AgentId::new).into_iter().collect();
        let input = incidents::OpenInput {
            title: form.title,
            incident_type: form.incident_type,
            severity: form.severity,
            agents,
            started_at: None,
        };
        incidents::open(Arc::clone(&context), Caller { actor: actor(&headers) }, input).await
    };
    finish(&context, opened.await, "opened").await
}

/// Fields of all the forms of an incident; each uses its own.
#[derive(Deserialize)]
pub(crate) struct ActForm {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    severity: Option<Severity>,
    #[serde(default)]
    state: Option<IncidentState>,
    #[serde(default)]
    into: String,
    #[serde(default)]
    title: String,
}

pub(crate) async fn act(
    State(context): State<Arc<Context>>,
    Path((id, action)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let form: ActForm = match read(body).await {
        Ok(form) => form,
        Err(error) => return page::refusal(&context, &error).await,
    };
    let caller = Caller { actor: actor(&headers) };
    let result = act_on(Arc::clone(&context), caller, id, &action, form).await;
    finish(&context, result, &action).await
}

async fn act_on(context: Arc<Context>, caller: Caller, id: String, action: &str, form: ActForm) -> Result<Changed, ApiError> {
    let reason = form.reason;
    match action {
        "acknowledge" => incidents::acknowledge(context, caller, incidents::IncidentQuery { id }).await,
        "note" => incidents::note(context, caller, incidents::NoteInput { id, text: form.text }).await,
        "title" => incidents::title(context, caller, incidents::TitleInput { id, title: form.title }).await,
        "severity" => {
            let severity = form.severity.ok_or_else(|| ApiError::bad_key("severity", "choose one"))?;
            incidents::severity(context, caller, incidents::SeverityInput { id, severity, reason }).await
        }
        "state" => {
            let state = form.state.ok_or_else(|| ApiError::bad_key("state", "choose one"))?;
            incidents::state(context, caller, incidents::StateInput { id, state, reason }).await
        }
        "resolve" => incidents::resolve(context, caller, incidents::ReasonInput { id, reason }).await,
        "reopen" => incidents::reopen(context, caller, incidents::ReasonInput { id, reason }).await,
        "cancel" => incidents::cancel(context, caller, incidents::ReasonInput { id, reason }).await,
        "merge" => incidents::merge(context, caller, incidents::MergeInput { id, into: form.into }).await,
        _ => Err(ApiError::new(Code::NotFound, "there is no such action", "")),
    }
}

async fn finish(context: &Context, result: Result<Changed, ApiError>, action: &str) -> Response {
    match result {
        Ok(changed) => {
            let place = format!("/incidents/{}?done={action}", changed.incident.id);
            (StatusCode::SEE_OTHER, [(header::LOCATION, place)]).into_response()
        }
        Err(error) => page::refusal(context, &error).await,
    }
}

/// What an action's name says after it was done.
pub(crate) fn done_words(action: &str) -> Option<&'static str> {
    Some(match action {
        "opened" => "Opened. It is in the journal.",
        "acknowledge" => "Acknowledged: everybody can see that somebody is on it.",
        "note" => "Note added to the timeline.",
        "title" => "Renamed.",
        "severity" => "Severity set. It will not be raised by itself any more.",
        "state" => "State changed.",
        "resolve" => "Resolved. If the same cause fires again soon, it opens again by itself.",
        "reopen" => "Opened again.",
        "cancel" => "Cancelled as a false alarm. Re-open it to undo.",
        "merge" => "Merged. This is the incident that stays.",
        _ => return None,
    })
}

async fn read<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let bytes = to_bytes(body, FORM_BYTES_MAX)
        .await
        .map_err(|_| ApiError::new(Code::TooLarge, format!("the form is larger than {FORM_BYTES_MAX} bytes"), "send less text"))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| ApiError::new(Code::BadRequest, "the form is not valid UTF-8", ""))?;
    let uri = axum::http::Uri::try_from(format!("/?{}", text.trim()))
        .map_err(|_| ApiError::new(Code::BadRequest, "the form is not urlencoded", "use the page's own form"))?;
    Query::<T>::try_from_uri(&uri).map(|form| form.0).map_err(|error| {
        let why = error.body_text();
        let why = why.strip_prefix("Failed to deserialize query string: ").unwrap_or(&why);
        ApiError::new(Code::BadRequest, format!("the form cannot be used: {}", text::head(why, 300)), "go back and check the fields")
    })
}
