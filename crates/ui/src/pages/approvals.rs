//! What waits for me?

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use paramedic_api::{ApiError, Context};
use paramedic_runbook::desk::RunView;

use crate::format::{encode, percent, short};
use crate::forms;
use crate::page::{Tab, said};
use crate::pages::runbooks::ways;
use crate::pages::{answer, done_of};
use crate::steps::{Around, whole};
use paramedic_api::operations::people::responding;

/// Runs that are looked into, and bytes of all their steps.
const RUNS_MAX: usize = 40;
const BYTES_MAX: usize = 42_000;

pub(crate) async fn page(State(context): State<Arc<Context>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let actor = forms::actor(&headers);
    let result = show(&context, query.as_deref().unwrap_or(""), &actor).await;
    answer(&context, Tab::Runbooks, actor, result).await
}

async fn show(context: &Context, query: &str, actor: &str) -> Result<(String, Markup), ApiError> {
    let (runs, now) = (&responding(context)?.runs, context.now());
    let lines = runs.lines(|line| !line.asking.is_empty());
    let total: usize = lines.iter().map(|line| line.asking.len()).sum();
    let (mut shown, mut parts) = (0, String::new());
    // The longest waiting first.
    for line in lines.iter().rev().take(RUNS_MAX) {
        // A run that ended meanwhile asks for nothing.
        let Ok(view) = runs.view(&line.id).await else { continue };
        let around = Around { view: &view, back: "/approvals", actor, now, primary: false };
        let mut steps = String::new();
        for step in view.steps.iter().filter(|step| line.asking.contains(&step.name)) {
            let one = whole(&around, step).into_string();
            if shown > 0 && parts.len() + steps.len() + one.len() > BYTES_MAX {
                break;
            }
            steps.push_str(&one);
            shown += 1;
        }
        if !steps.is_empty() {
            parts.push_str(&of_run(&view, &steps).into_string());
        }
    }
    let title = match total {
        0 => "Nothing waits for approval".to_owned(),
        1 => "1 step waits for approval".to_owned(),
        _ => format!("{total} steps wait for approval"),
    };
    let body = html! {
        (said(done_of(query)))
        (ways(context, "/approvals"))
        div id="approvals" data-live {
            h1 { (title) }
            @if total == 0 { p class="empty" { "A step that changes something stands here until a person agrees to exactly what would run, or leaves it out." } }
            (maud::PreEscaped(parts))
            @if shown < total { p class="faint" { (shown) " of " (total) " shown; the others follow when these are answered. All: " code { "paramedic approve" } } }
        }
    };
    Ok((title, body))
}

fn of_run(view: &RunView, steps: &str) -> Markup {
    let line = &view.line;
    html! {
        h2 { (short(&line.title, 120)) }
        p class="small soft wrap" {
            @match &line.incident { Some(incident) => { a href=(format!("/incidents/{}", encode(incident))) { (short(incident, 20)) } " · " } None => {} }
            a href=(format!("/runs/{}", line.id)) { (line.id) } " · acts on " b { (short(&line.target, 100)) }
            @if let Some((cause, score)) = &line.cause { " · likeliest cause " (short(cause, 60)) " " (percent(*score)) }
        }
        ol class="steps" { (maud::PreEscaped(steps.to_owned())) }
    }
}
