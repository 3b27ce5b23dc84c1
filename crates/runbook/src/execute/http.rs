//! Requests to other services.

use std::sync::OnceLock;

use super::Order;
use super::output::Collected;
use crate::outcome::Outcome;
use crate::render::Work;

/// One client for all: certificates are read once.
fn client() -> Result<&'static reqwest::Client, String> {
    static CLIENT: OnceLock<Result<reqwest::Client, String>> = OnceLock::new();
    let made = CLIENT.get_or_init(|| {
        // Another part of the process may have chosen one before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A redirect could lead a request with credentials anywhere; who wants one followed writes its address.
        let builder = reqwest::Client::builder().user_agent(concat!("paramedic/", env!("CARGO_PKG_VERSION")));
        builder.redirect(reqwest::redirect::Policy::none()).build().map_err(|error| error.to_string())
    });
    made.as_ref().map_err(|why| format!("no client for requests: {why}"))
}

pub(super) async fn run(order: &Order) -> Outcome {
    match ask(order).await {
        Ok(outcome) => outcome,
        Err(why) => Outcome::fault(super::output::hidden(&why, &order.secrets, &order.redact)),
    }
}

async fn ask(order: &Order) -> Result<Outcome, String> {
    let Work::Http { method, url, headers, body } = &order.work else { return Err("this is no request".to_owned()) };
    let method = reqwest::Method::from_bytes(method.as_bytes()).map_err(|error| error.to_string())?;
    let mut request = client()?.request(method, url);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    if !body.is_empty() {
        let is_json = body.starts_with(['{', '[']);
        if is_json && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            request = request.header("content-type", "application/json");
        }
        request = request.body(body.clone());
    }
    let mut answer = request.send().await.map_err(|error| reason(&error))?;
    let mut outcome = Outcome { status: Some(answer.status().as_u16()), ..Outcome::default() };
    let mut collected = Collected::default();
    while let Some(chunk) = answer.chunk().await.map_err(|error| reason(&error))? {
        collected.push(&chunk);
    }
    outcome.stdout = collected.keep(&order.secrets, &order.redact);
    outcome.understand();
    Ok(outcome)
}

/// The innermost cause says most.
fn reason(error: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    format!("no answer: {deepest}")
}
