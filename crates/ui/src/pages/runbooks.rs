//! What do we know how to fix?

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use paramedic_api::{ApiError, Context};
use paramedic_model::Timestamp;
use paramedic_runbook::RunDesk;
use paramedic_runbook::desk::RunLine;
use paramedic_runbook::shelf::{Origin, RunbookLine, Untaken};
use serde::Deserialize;

use crate::format::{ago, many, short};
use crate::forms;
use crate::page::{Tab, more, row_key, said, within};
use crate::pages::{answer, done_of, query_of};
use crate::work::{encode_id, standing};
use paramedic_api::operations::people::responding;

const LINES_MAX: usize = 60;
const ROWS_BYTES_MAX: usize = 40_000;
const UNTAKEN_MAX: usize = 10;

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RunbooksQuery {
    text: String,
    after: usize,
}

pub(crate) async fn page(State(context): State<Arc<Context>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let result = show(&context, query.as_deref().unwrap_or(""));
    answer(&context, Tab::Runbooks, forms::actor(&headers), result).await
}

/// The ways from here to everything else that runs.
pub(crate) fn ways(context: &Context, here: &str) -> Markup {
    let asking = context.responding.as_ref().map_or(0, |parts| crate::page::asking(&parts.runs));
    html! {
        nav class="ways" aria-label="What runs" {
            @for (path, name) in [("/runbooks", "Runbooks"), ("/runs", "Runs"), ("/approvals", "Approvals"), ("/actions", "Actions"), ("/switches", "Switches"), ("/brake", "Brake")] {
                a href=(path) aria-current=[(path == here).then_some("page")] { (name) @if path == "/approvals" && asking > 0 { " (" (asking) ")" } }
            }
        }
    }
}

/// The newest run of each runbook.
pub(crate) fn last_runs(runs: &RunDesk) -> BTreeMap<String, RunLine> {
    let seen = RefCell::new(BTreeSet::new());
    let newest = runs.lines(|line| seen.borrow_mut().insert(line.runbook.clone()));
    newest.into_iter().map(|line| (line.runbook.clone(), line)).collect()
}

fn show(context: &Context, query_text: &str) -> Result<(String, Markup), ApiError> {
    let query: RunbooksQuery = query_of(query_text)?;
    let runs = &responding(context)?.runs;
    let (shelf, last, now) = (runs.shelf(), last_runs(runs), context.now());
    let wanted = query.text.to_lowercase();
    let fits = |line: &RunbookLine| {
        let texts = [&line.id, &line.title].into_iter().chain(&line.alerts).chain(&line.services);
        wanted.is_empty() || texts.into_iter().any(|text| text.to_lowercase().contains(&wanted))
    };
    let all = shelf.lines();
    let matching: Vec<&RunbookLine> = all.iter().filter(|line| fits(line)).collect();
    let title = many(all.len() as u64, "runbook");
    let page = matching.iter().skip(query.after).take(LINES_MAX);
    let (rows, shown) = within(ROWS_BYTES_MAX, page, |line| row(line, last.get(&line.id), now));
    let end = query.after + shown;
    let next = (end < matching.len()).then(|| format!("/runbooks?text={}&after={end}", crate::format::encode(&query.text)));
    let first = (query.after > 0).then(|| format!("/runbooks?text={}", crate::format::encode(&query.text)));
    let body = html! {
        (said(done_of(query_text)))
        (ways(context, "/runbooks"))
        h1 { "What we know how to fix" }
        form class="inline" method="get" action="/runbooks" data-filter role="search" {
            label { "Title, alert or service" input type="search" name="text" value=(query.text) data-key="search"; }
            button { "Filter" }
        }
        div id="runbooks" data-live {
            @if matching.is_empty() {
                p class="empty" { @if all.is_empty() { "No runbook is here. Name a folder of Markdown files under " code { "[runbook] folders" } " in the settings." } @else { "No runbook matches. " a href="/runbooks" { "Show all" } "." } }
            } @else {
                table class="cards" {
                    thead { tr { th { "Runbook" } th { "Severity" } th { "Answers to" } th { "Steps" } th { "Last run" } th { "Lint" } } }
                    tbody { (rows) }
                }
                (more(shown, matching.len(), first, next))
            }
            (untaken(&shelf.untaken))
        }
    };
    Ok((title, body))
}

fn row(line: &RunbookLine, last: Option<&RunLine>, now: Timestamp) -> Markup {
    html! {
        tr data-row=(row_key(&line.id)) {
            td { a class="detail" href=(format!("/runbooks/{}", encode_id(&line.id))) data-open { (short(&line.title, 120)) } @if line.origin == Origin::Folder { " " span class="faint small" { "yours" } } }
            td class="in nowrap" { (short(line.severity.as_deref().unwrap_or(""), 20)) }
            td class="wrap small soft" { (alerts(&line.alerts)) }
            td class="in nowrap" { (line.steps) @if line.writes > 0 { span class="faint" { ", " (line.writes) " change" @if line.writes == 1 { "s" } } } }
            td class="in nowrap" { @if let Some(run) = last { a href=(format!("/runs/{}", run.id)) { (standing(run)) } " " span class="faint small" { (ago(run.started_at, now)) } } @else { span class="faint" { "never" } } }
            td class="in nowrap" { (lint(line.errors, line.warnings)) }
        }
    }
}

fn alerts(names: &[String]) -> String {
    const NAMED: usize = 3;
    let named: Vec<String> = names.iter().take(NAMED).map(|name| short(name, 60)).collect();
    let more = names.len().saturating_sub(NAMED);
    if more > 0 { format!("{} and {more} more", named.join(", ")) } else { named.join(", ") }
}

/// What the linter has to say, in numbers.
pub(crate) fn lint(errors: usize, warnings: usize) -> Markup {
    html! {
        @if errors > 0 { span class="r-err" { "✕ " (many(errors as u64, "error")) } @if warnings > 0 { ", " } }
        @if warnings > 0 { span class="warned" { "! " (warnings) @if errors == 0 { @if warnings == 1 { " warning" } @else { " warnings" } } } }
        @if errors + warnings == 0 { span class="h-up" { "✓" span class="sr" { " nothing" } } }
    }
}

fn untaken(files: &[Untaken]) -> Markup {
    html! {
        @if !files.is_empty() {
            h2 { "Files that are not used as they are" }
            ul class="rows" { @for one in files.iter().take(UNTAKEN_MAX) { li class="wrap small" { code { (short(&one.file, 160)) } " " span class="soft" { (short(&one.why, 200)) } } } }
            @if files.len() > UNTAKEN_MAX { p class="faint small" { "And " (files.len() - UNTAKEN_MAX) " more: " code { "paramedic runbook list" } } }
        }
    }
}
