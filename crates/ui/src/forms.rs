//! What a person may do from a page, as plain forms: do it, say what was done, go back to the page.

pub(crate) mod actions;
mod fields;
pub(crate) mod runs;
pub(crate) mod stops;
pub(crate) mod who;

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use paramedic_api::error::Code;
use paramedic_api::operations::incidents::{self, Changed};
use paramedic_api::{ApiError, Caller, Context};
use paramedic_model::{AgentId, IncidentState, IncidentType, Role, Severity, text};
use paramedic_respond::Command;
use paramedic_respond::decide::parse_incident_id;
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
    let cookie = who::cookie(&who::name_of(&form.name));
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
    #[serde(default)]
    role: Option<Role>,
    #[serde(default)]
    person: String,
    /// The checklist's item that is ticked, or whose tick is taken back.
    #[serde(default)]
    tick: String,
    #[serde(default)]
    untick: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    source: String,
    /// Who writes, where the browser has no name yet.
    #[serde(default)]
    who: String,
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
    let signed = who::Signed::or_web(&headers, &form.who);
    let caller = signed.caller();
    if action == "take" && caller.actor == "web" {
        return who::ask(&context, &format!("/incidents/{}/take", crate::format::encode(&id)), &[]).await;
    }
    let result = act_on(Arc::clone(&context), caller, id, &action, form).await;
    signed.remember(finish(&context, result, &action).await)
}

/// Changes that only say who does what, what is ticked and what is kept.
async fn keep(context: &Context, caller: &Caller, id: &str, action: &str, form: ActForm) -> Option<Result<Changed, ApiError>> {
    let Some(incident) = parse_incident_id(id) else { return Some(Err(ApiError::no_incident(text::head(id, 100)))) };
    let role = form.role.ok_or_else(|| ApiError::bad_key("role", "choose one"));
    let command = match action {
        "take" => {
            let held = context.desk.incidents().await.get(&incident).is_some_and(|found| !found.holders(Role::Commander).is_empty());
            let (to, note) = (caller.actor.clone(), "took command".to_owned());
            if held {
                Ok(Command::HandOver { incident, role: Role::Commander, to, note })
            } else {
                Ok(Command::AssignRole { incident, role: Role::Commander, person: to })
            }
        }
        "assign" => role.map(|role| Command::AssignRole { incident, role, person: form.person }),
        "release" => role.map(|role| Command::ReleaseRole { incident, role, person: form.person }),
        "hand-over" => role.map(|role| Command::HandOver { incident, role, to: form.person, note: form.reason }),
        "tick" if form.untick.is_empty() => Ok(Command::Tick { incident, item: form.tick, done: true }),
        "tick" => Ok(Command::Tick { incident, item: form.untick, done: false }),
        "attach" => Ok(Command::Attach {
            incident,
            name: form.name,
            media_type: "text/plain".to_owned(),
            text: Some(form.text),
            base64: None,
            source: form.source,
        }),
        "close" => Ok(Command::Close { incident, reason: form.reason }),
        _ => return None,
    };
    Some(match command {
        Ok(command) => incidents::change(context, caller, command).await,
        Err(error) => Err(error),
    })
}

async fn act_on(context: Arc<Context>, caller: Caller, id: String, action: &str, form: ActForm) -> Result<Changed, ApiError> {
    if matches!(action, "take" | "assign" | "release" | "hand-over" | "tick" | "attach" | "close") {
        let unknown = || Err(ApiError::new(Code::NotFound, "there is no such action", ""));
        return keep(&context, &caller, &id, action, form).await.unwrap_or_else(unknown);
    }
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
        "take" => "You are the commander now.",
        "assign" | "release" | "hand-over" => "The roles are changed; the timeline says so.",
        "tick" => "The checklist is changed.",
        "attach" => "Attached, with its hash in the journal.",
        "close" => "Closed.",
        _ => return runs::done_words(action).or_else(|| stops::done_words(action)),
    })
}

async fn read<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    read_as(&bytes_of(body).await?)
}

async fn bytes_of(body: Body) -> Result<String, ApiError> {
    let bytes = to_bytes(body, FORM_BYTES_MAX)
        .await
        .map_err(|_| ApiError::new(Code::TooLarge, format!("the form is larger than {FORM_BYTES_MAX} bytes"), "send less text"))?;
    String::from_utf8(bytes.into()).map_err(|_| ApiError::new(Code::BadRequest, "the form is not valid UTF-8", ""))
}

fn read_as<T: DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    let uri = axum::http::Uri::try_from(format!("/?{}", text.trim()))
        .map_err(|_| ApiError::new(Code::BadRequest, "the form is not urlencoded", "use the page's own form"))?;
    Query::<T>::try_from_uri(&uri).map(|form| form.0).map_err(|error| {
        let why = error.body_text();
        let why = why.strip_prefix("Failed to deserialize query string: ").unwrap_or(&why);
        ApiError::new(Code::BadRequest, format!("the form cannot be used: {}", text::head(why, 300)), "go back and check the fields")
    })
}
