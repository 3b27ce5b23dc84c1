//! The pages, one file each: which question it answers stands at its top.

pub(crate) mod now;

pub(crate) mod agents;

pub(crate) mod agent;

pub(crate) mod incidents;

pub(crate) mod incident;

pub(crate) mod alerts;

mod cases;

pub(crate) mod rules;

pub(crate) mod targets;

pub(crate) mod query;

pub(crate) mod events;

pub(crate) mod cost;

pub(crate) mod connect;

pub(crate) mod me;

pub(crate) mod runbooks;

pub(crate) mod runbook;

pub(crate) mod runs;

pub(crate) mod run;

pub(crate) mod approvals;

pub(crate) mod actions;

pub(crate) mod action;

pub(crate) mod switches;

pub(crate) mod traffic;

pub(crate) mod brake;

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use maud::Markup;
use paramedic_api::{ApiError, Caller, Context};

use crate::page::{self, Page, Tab};

/// The pages read as "web".
pub(crate) fn reader() -> Caller {
    Caller { actor: "web".to_owned() }
}

/// Sends a page, or the refusal in its place.
pub(crate) async fn answer(context: &Arc<Context>, tab: Tab, actor: String, result: Result<(String, Markup), ApiError>) -> Response {
    match result {
        Ok((title, body)) => Page::new(context, tab, title, body).await.by(actor).into_response(StatusCode::OK),
        Err(error) => page::refusal(context, &error).await,
    }
}

/// A page's query as the operation's own input type. Empty values count as not given: a form sends all its fields.
pub(crate) fn query_of<T: serde::de::DeserializeOwned>(query: &str) -> Result<T, ApiError> {
    let given: Vec<&str> =
        query.split('&').filter(|pair| pair.split_once('=').is_some_and(|(key, value)| !value.is_empty() && key != "done")).collect();
    let uri = axum::http::Uri::try_from(format!("/?{}", given.join("&")))
        .map_err(|_| ApiError::bad_key("address", "what follows the question mark is not a valid query"))?;
    axum::extract::Query::<T>::try_from_uri(&uri).map(|query| query.0).map_err(|error| {
        let why = error.body_text();
        let why = why.strip_prefix("Failed to deserialize query string: ").unwrap_or(&why);
        ApiError::bad_key("address", why)
    })
}

/// What a redirect says was done.
pub(crate) fn done_of(query: &str) -> Option<&'static str> {
    query.split('&').find_map(|pair| pair.strip_prefix("done=")).and_then(crate::forms::done_words)
}
