//! Which incidents are there, and which are open?

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use paramedic_api::operations::incidents::{IncidentLine, IncidentPage, IncidentsQuery, list};
use paramedic_api::{ApiError, Context};
use paramedic_model::{IncidentType, Severity, Timestamp};

use crate::format::{ago, clock, count, due, incident_state, line, many, running, severity, span};
use crate::page::{Tab, more, within};
use crate::pages::agents::ROWS_BYTES_MAX;
use crate::pages::{answer, query_of, reader};
use crate::{format, forms};

/// Lines on one page.
const LINES_MAX: usize = 50;

pub(crate) async fn page(State(context): State<Arc<Context>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let result = show(&context, query.as_deref().unwrap_or("")).await;
    answer(&context, Tab::Incidents, forms::actor(&headers), result).await
}

async fn show(context: &Arc<Context>, query: &str) -> Result<(String, Markup), ApiError> {
    let mut query: IncidentsQuery = query_of(query)?;
    query.limit = Some(LINES_MAX);
    let page = list(Arc::clone(context), reader(), query.clone()).await?;
    let now = context.now();
    let title = if page.open == 0 { "No incident is open".to_owned() } else { format!("{} open", many(page.open as u64, "incident")) };
    let body = html! {
        div id="head" data-live { h1 { (title) } }
        (filter(&query))
        div id="incidents" data-live { (lines(&page, &query, now)) }
        h2 { "Open one by hand" }
        details { summary { "Something is wrong that no detector saw" } (open_form()) }
    };
    Ok((title, body))
}

fn filter(query: &IncidentsQuery) -> Markup {
    let state = query.state.as_deref().unwrap_or("");
    html! {
        form class="inline" method="get" action="/incidents" data-filter role="search" {
            label { "Title" input type="search" name="text" value=(query.text.as_deref().unwrap_or("")) data-key="search"; }
            label { "State" select name="state" {
                @for (value, name) in [("", "all"), ("open", "open"), ("triage", "triage"), ("investigating", "investigating"), ("mitigated", "monitoring"), ("resolved", "resolved"), ("cancelled", "cancelled"), ("merged", "merged")] {
                    option value=(value) selected[state == value] { (name) }
                }
            } }
            label { "Severity" select name="severity" {
                option value="" { "all" }
                @for one in Severity::ALL { option value=(one) selected[query.severity == Some(one)] { (one) } }
            } }
            button { "Filter" }
        }
    }
}

fn lines(page: &IncidentPage, query: &IncidentsQuery, now: Timestamp) -> Markup {
    if page.incidents.is_empty() {
        let narrowed = query.text.as_deref().is_some_and(|text| !text.is_empty()) || query.state.is_some() || query.severity.is_some();
        return html! {
            p class="empty" {
                @if narrowed { "No incident matches. " a href="/incidents" { "Show all" } "." }
                @else { "No incident yet. Detectors open them by themselves; you can try one with " code { "paramedic up --sample" } "." }
            }
        };
    }
    let (rows, shown) = within(ROWS_BYTES_MAX, &page.incidents, |incident| row(incident, now));
    let end = query.after.unwrap_or(0) + shown;
    let next = (end < page.total).then(|| format!("/incidents?{}after={end}", parameters(query)));
    let first = query.after.is_some_and(|after| after > 0).then(|| format!("/incidents?{}", parameters(query).trim_end_matches('&')));
    html! {
        table class="cards" {
            thead { tr { th { "Severity" } th { "Incident" } th { "State" } th { "Began" } th class="num" { "Lasted" } th class="num" { "Agents" } th class="num" { "Error rate" } } }
            tbody { (rows) }
        }
        (more(shown, page.total, first, next))
    }
}

fn row(incident: &IncidentLine, now: Timestamp) -> Markup {
    let end = incident.resolved_at.or(incident.mitigated_at);
    html! {
        tr data-row=(incident.id) {
            td { (severity(Some(incident.severity))) }
            td { a href=(format!("/incidents/{}", incident.id)) data-open { (line(&incident.title)) } " " span class="faint nowrap" { (incident.id) } }
            td { (incident_state(incident.state, incident.firing)) @if let Some(by) = incident.acknowledge_by { br; span class="soft small" { "acknowledge " (due(by, now)) } } }
            td data-th="began" class="nowrap" { (ago(incident.started_at, now)) }
            td data-th="lasted" class="num" { @match end { Some(end) => (span(end.since(incident.started_at))), None => (running(incident.started_at, now)) } }
            td data-th="agents" class="num" { (count(incident.counts.agents as u64)) }
            td data-th="errors" class="num" { @if let Some(rate) = incident.counts.error_rate.filter(|rate| *rate > 0.0) { (format::percent(rate)) } }
        }
    }
}

/// The filter as a query, ending in `&` when there is any.
fn parameters(query: &IncidentsQuery) -> String {
    let mut out = String::new();
    let severity = query.severity.map(|one| one.to_string());
    for (key, value) in [("text", query.text.as_deref()), ("state", query.state.as_deref()), ("severity", severity.as_deref())] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            out.push_str(&format!("{key}={}&", format::encode(value)));
        }
    }
    out
}

/// Open incidents as a list: the first thing on the first page.
pub(crate) fn open_list(open: &[IncidentLine], now: Timestamp) -> Markup {
    html! {
        ul class="rows" {
            @for incident in open {
                li data-row=(incident.id) {
                    div class="headline" {
                        (severity(Some(incident.severity)))
                        b { a href=(format!("/incidents/{}", incident.id)) data-open { (line(&incident.title)) } }
                        span class="faint" { (incident.id) }
                    }
                    div class="soft" {
                        (incident_state(incident.state, incident.firing)) " · since " (clock(incident.started_at, now)) " UTC, " (running(incident.started_at, now))
                        " · " (many(incident.counts.agents as u64, "agent"))
                        @if incident.counts.users > 0 { ", " (many(incident.counts.users as u64, "user")) }
                        @if let Some(rate) = incident.counts.error_rate.filter(|rate| *rate > 0.0) { " · " (format::percent(rate)) " of model calls failed" }
                        @if let Some(by) = incident.acknowledge_by { " · " b { "acknowledge " (due(by, now)) } }
                    }
                }
            }
        }
    }
}

fn open_form() -> Markup {
    html! {
        form class="inline" method="post" action="/incidents" {
            label { "What is wrong" input name="title" required maxlength="200"; }
            label { "Severity" select name="severity" { @for one in Severity::ALL { option value=(one) selected[one == Severity::Sev3] { (one) } } } }
            label { "Type" select name="type" { @for one in IncidentType::ALL { option value=(one) { (one.title()) } } } }
            label { "Agent (may be empty)" input name="agent"; }
            button class="primary" { "Open an incident" }
        }
    }
}
