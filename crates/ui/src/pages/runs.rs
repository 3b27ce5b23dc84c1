//! What ran, and how did it end?

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use paramedic_api::{ApiError, Context};
use paramedic_model::Timestamp;
use paramedic_runbook::desk::RunLine;
use serde::Deserialize;

use crate::format::{ago, encode, many, percent, running, short, span};
use crate::forms;
use crate::page::{Tab, more, within};
use crate::pages::runbooks::ways;
use crate::pages::{answer, query_of};
use crate::work::standing;
use paramedic_api::operations::people::responding;

const LINES_MAX: usize = 50;
const ROWS_BYTES_MAX: usize = 40_000;

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RunsQuery {
    runbook: String,
    which: String,
    after: usize,
}

pub(crate) async fn page(State(context): State<Arc<Context>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let result = show(&context, query.as_deref().unwrap_or(""));
    answer(&context, Tab::Runbooks, forms::actor(&headers), result).await
}

fn show(context: &Context, query: &str) -> Result<(String, Markup), ApiError> {
    let query: RunsQuery = query_of(query)?;
    let (runs, now) = (&responding(context)?.runs, context.now());
    let fits =
        |line: &RunLine| (query.runbook.is_empty() || line.runbook == query.runbook) && (query.which != "open" || line.ended_at.is_none());
    let lines = runs.lines(fits);
    let open = runs.lines(|line| line.ended_at.is_none()).len();
    let title = if open == 0 { "No run is under way".to_owned() } else { format!("{} under way", many(open as u64, "run")) };
    let (rows, shown) = within(ROWS_BYTES_MAX, lines.iter().skip(query.after).take(LINES_MAX), |line| row(line, now));
    let end = query.after + shown;
    let to = |after: usize| format!("/runs?runbook={}&which={}&after={after}", encode(&query.runbook), encode(&query.which));
    let body = html! {
        (ways(context, "/runs"))
        div id="runs" data-live {
            h1 { (title) }
            @if !query.runbook.is_empty() { p class="soft" { "Only runs of " code { (short(&query.runbook, 80)) } ". " a href="/runs" { "All runs" } } }
            @if lines.is_empty() { p class="empty" { "Nothing ran yet. When an incident opens, its runbook starts by itself; by hand: " code { "paramedic runbook run NAME" } "." } }
            @else {
                table class="cards" {
                    thead { tr { th { "Run" } th { "Runbook" } th { "State" } th { "Began" } th { "Took" } th { "Likeliest cause" } th { "Changes" } } }
                    tbody { (rows) }
                }
                (more(shown, lines.len(), (query.after > 0).then(|| to(0)), (end < lines.len()).then(|| to(end))))
            }
        }
    };
    Ok((title, body))
}

fn row(line: &RunLine, now: Timestamp) -> Markup {
    html! {
        tr data-row=(line.id) {
            td class="nowrap" { a class="detail" href=(format!("/runs/{}", line.id)) data-open { (line.id) } }
            td class="wrap" { (short(&line.title, 100)) @if let Some(incident) = &line.incident { " " a class="small" href=(format!("/incidents/{}", encode(incident))) { (short(incident, 20)) } } }
            td class="in nowrap" { (standing(line)) }
            td class="in nowrap" { (ago(line.started_at, now)) " " span class="faint small" { "by " (short(&line.by, 40)) } }
            td class="in nowrap" { @match line.ended_at { Some(at) => (span(at.since(line.started_at))), None => (running(line.started_at, now)) } }
            td class="in" { @if let Some((cause, score)) = &line.cause { (short(cause, 60)) " " span class="faint" { (percent(*score)) } } }
            td class="in" data-th="changes" { (line.changes) }
        }
    }
}
