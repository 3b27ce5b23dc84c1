//! What is this agent doing, and is it stuck?

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use paramedic_api::operations::agents::{AgentDetail, AgentQuery, read};
use paramedic_api::operations::alerts::AlertLine;
use paramedic_api::operations::events::{EventPage, EventsQuery, search};
use paramedic_api::{ApiError, Context};
use paramedic_fleet::{AgentView, Point};
use paramedic_model::Timestamp;

use crate::chart::{Chart, Shape};
use crate::format::{agent_path, ago, clock, count, encode, line, many, money, running, severity, short, tokens};
use crate::forms;
use crate::page::{Tab, within};
use crate::pages::agents::{cost_of, name_of, row, state_shape, state_word};
use crate::pages::{answer, events, query_of, reader};

const EVENTS_MAX: usize = 40;
const EVENTS_BYTES_MAX: usize = 16_000;
const SUBAGENTS_MAX: usize = 30;
const SUBAGENTS_BYTES_MAX: usize = 10_000;
const ALERTS_MAX: usize = 6;
const ALERTS_BYTES_MAX: usize = 6_000;
/// Points of a chart: a quarter of what the fleet keeps reads as well and halves the page.
const POINTS_MAX: usize = 40;

#[derive(serde::Deserialize)]
struct PageQuery {
    before: Option<u64>,
}

pub(crate) async fn page(
    State(context): State<Arc<Context>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let result = show(&context, id, query.as_deref().unwrap_or("")).await;
    answer(&context, Tab::Agents, forms::actor(&headers), result).await
}

async fn show(context: &Arc<Context>, id: String, query: &str) -> Result<(String, Markup), ApiError> {
    let query: PageQuery = query_of(query)?;
    let detail = read(Arc::clone(context), reader(), AgentQuery { id }).await?;
    let agent = &detail.agent;
    let wanted = EventsQuery { agent: Some(agent.id.to_string()), before: query.before, limit: Some(EVENTS_MAX), ..EventsQuery::default() };
    let found = search(Arc::clone(context), reader(), wanted).await?;
    let now = context.now();
    let body = html! {
        div id="head" data-live { (head(agent, now)) }
        div id="troubles" data-live { (troubles(&detail, now)) }
        div id="charts" data-live { (charts(&detail.series, agent)) }
        div id="subagents" data-live { (subagents(&detail, now)) }
        h2 { "What happened" }
        div id="events" data-live[query.before.is_none()] { (timeline(agent, &found, query.before.is_some(), now)) }
        details { summary { "Everything known" } (facts(agent, now)) }
    };
    Ok((name_of(agent), body))
}

fn head(agent: &AgentView, now: Timestamp) -> Markup {
    html! {
        div class="headline" {
            span class=(format!("state s-{}", agent.state)) { (state_shape(agent.state)) (state_word(agent.state)) }
            h1 { (name_of(agent)) }
            @if let Some(parent) = &agent.parent { span class="faint" { "sub-agent of " a href=(agent_path(parent)) { (crate::format::agent_name(parent)) } } }
        }
        p class="wrap" {
            b { (line(&agent.state_reason)) }
            @if let Some(tool) = &agent.current_tool { " · " code { (short(&tool.name, 60)) } " for " (running(tool.since, now)) }
        }
        p class="soft wrap" { "Last sign " (ago(agent.last_event_at, now)) ": " (line(&agent.last_event)) }
        @if let Some(error) = &agent.last_error { p class="soft wrap" { "Last error " (ago(error.at, now)) ": " (line(&error.text)) } }
        dl class="facts" {
            div { dt { "Turns" } dd { (count(u64::from(agent.turns))) } }
            div { dt { "Model calls" } dd { (count(agent.model_calls)) @if agent.retries + agent.model_errors > 0 { " " small { (agent.retries) " retried, " (agent.model_errors) " failed" } } } }
            div { dt { "Tool calls" } dd { (count(u64::from(agent.tool_calls))) @if agent.tool_errors > 0 { " " small { (agent.tool_errors) " failed" } } } }
            div { dt { "Context" } dd { (tokens(agent.context_tokens)) @if let Some(limit) = agent.context_limit { " " small { "of " (tokens(limit)) } } } }
            div { dt { "Tokens" } dd { (tokens(agent.usage.total())) " " small { (tokens(agent.usage.output_tokens)) " out" } } }
            div { dt { "Cost" } dd { (cost_of(agent)) } }
            div { dt { "Age" } dd { (running(agent.started_at, now)) } }
        }
    }
}

fn troubles(detail: &AgentDetail, now: Timestamp) -> Markup {
    html! {
        @if !detail.incidents.is_empty() {
            h2 { "Incidents it was hit by" }
            ul class="rows" {
                @for incident in detail.incidents.iter().take(ALERTS_MAX) {
                    li data-row=(incident.id) { (severity(Some(incident.severity))) " " a href=(format!("/incidents/{}", incident.id)) data-open { (line(&incident.title)) } " " span class="soft" { (incident.id) " · " (crate::format::incident_state(incident.state, incident.firing)) " · began " (ago(incident.started_at, now)) } }
                }
            }
        }
        @if !detail.alerts.is_empty() {
            h2 { "Alerts and notes" }
            ol class="timeline" { (within(ALERTS_BYTES_MAX, detail.alerts.iter().take(ALERTS_MAX), |alert| alert_item(alert, now)).0) }
        }
    }
}

fn alert_item(alert: &AlertLine, now: Timestamp) -> Markup {
    let episode = &alert.alert;
    html! {
        li {
            (clock(episode.started_at, now))
            div {
                (severity(episode.severity)) " " b { (short(&episode.detector, 60)) } " " span class="soft" { @match episode.ended_at { Some(end) => { "ended " (clock(end, now)) } None => "active" } }
                div class="wrap" { (line(&episode.reason)) }
                @if episode.ended_at.is_none() { @for fact in episode.evidence.iter().take(3) { div class="faint small wrap" { (clock(fact.at, now)) " " code { (line(&fact.text)) } } } }
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers for a drawing")]
fn charts(series: &[Point], agent: &AgentView) -> Markup {
    let every = series.len().div_ceil(POINTS_MAX).max(1);
    // The last point is kept whatever the step: it is what the note says.
    let mut points: Vec<&Point> = series.iter().rev().step_by(every).collect();
    points.reverse();
    if points.len() < 2 {
        return html! {};
    }
    let of = |value: fn(&Point) -> f64| -> Vec<(Timestamp, f64)> { points.iter().map(|point| (point.at, value(point))).collect() };
    let steps = |value: fn(&Point) -> u32| -> Vec<(Timestamp, f64)> {
        let mut before = 0;
        points
            .iter()
            .map(|point| {
                let now = value(point);
                let step = now.saturating_sub(before);
                before = now;
                (point.at, f64::from(step))
            })
            .collect()
    };
    let (cost, context) = (of(|point| point.cost_usd), of(|point| point.context_tokens as f64));
    let (calls, errors) = (steps(|point| point.calls), steps(|point| point.errors));
    let limit = agent.context_limit.map(|limit| (limit as f64, format!("the model's limit, {}", tokens(limit))));
    let failed = points.last().map_or(0, |point| point.errors);
    let whole = |value: f64| format!("{value:.0}");
    html! {
        h2 { "Over time" }
        div class="grid" {
            (Chart { title: "Context", shape: Shape::Line, points: &context, bad: None, limit, show: as_tokens, note: format!("now {}", tokens(agent.context_tokens)) }.render())
            (Chart { title: "Model calls", shape: Shape::Bars, points: &calls, bad: Some(("errors", &errors)), limit: None, show: whole, note: format!("{}, {}", many(agent.model_calls, "call"), many(u64::from(failed), "error")) }.render())
            (Chart { title: "Cost so far", shape: Shape::Line, points: &cost, bad: None, limit: None, show: money, note: agent.cost.usd.map_or_else(|| "unknown".to_owned(), money) }.render())
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was a count of tokens")]
fn as_tokens(value: f64) -> String {
    tokens(value as u64)
}

fn subagents(detail: &AgentDetail, now: Timestamp) -> Markup {
    let total = detail.agent.subagents;
    if total.total == 0 {
        return html! {};
    }
    // The newest last in the data; whoever needs somebody first on the page.
    let mut order: Vec<&AgentView> = detail.subagents.iter().collect();
    order.sort_by_key(|agent| (agent.state, std::cmp::Reverse(agent.last_event_at)));
    let (rows, shown) = within(SUBAGENTS_BYTES_MAX, order.into_iter().take(SUBAGENTS_MAX), |agent| row(agent, now));
    html! {
        h2 { (many(u64::from(total.total), "sub-agent")) ", " (total.active) " not finished" @if total.failed > 0 { ", " (total.failed) " failed" } }
        table class="cards" {
            thead { tr { th { "State" } th { "Agent" } th { "What it does now" } th class="num" { "Turns" } th class="num" { "Context" } th class="num" { "Cost" } th { "Last sign" } } }
            tbody { (rows) }
        }
        @if total.total as usize > shown {
            @if let Some(session) = &detail.agent.session { p { a href=(format!("/agents?session={}", encode(session))) { "All " (total.total) " of this session" } } }
        }
    }
}

fn timeline(agent: &AgentView, found: &EventPage, older: bool, now: Timestamp) -> Markup {
    let path = agent_path(&agent.id);
    let (table, older_seq) = events::table(found, now, false, EVENTS_BYTES_MAX);
    html! {
        @if found.events.is_empty() { p class="empty" { "No event of this agent is stored any more." } }
        @else { (table) }
        div class="more" {
            @if older { a class="button" href=(path) { "Newest" } }
            @if let Some(next) = older_seq { a class="button" href=(format!("{path}?before={next}")) { "Older" } }
            a href=(format!("/events?agent={}", encode(agent.id.as_str()))) { "Search in these events" }
        }
    }
}

fn facts(agent: &AgentView, now: Timestamp) -> Markup {
    let fact = |name: &str, value: Option<String>| html! { @if let Some(value) = value.filter(|value| !value.is_empty()) { tr { td { (name) } td class="wrap" { (short(&value, 300)) } } } };
    let process = agent.process.as_ref().map(|process| {
        let rss = process.rss_bytes.map(|bytes| format!(", {} MB resident", bytes / 1_000_000)).unwrap_or_default();
        format!("{} {}{rss}", process.pid, if process.alive { "alive" } else { "gone" })
    });
    let sources: Vec<String> = agent.sources.iter().map(|(source, events)| format!("{source} {events}")).collect();
    html! {
        table {
            (fact("Id", Some(agent.id.to_string())))
            (fact("Session", agent.session.clone()))
            (fact("Folder", agent.cwd.clone()))
            (fact("Models", Some(agent.models.join(", "))))
            (fact("Version", agent.version.clone()))
            (fact("Permission mode", agent.permission_mode.clone()))
            (fact("Host", agent.host.clone()))
            (fact("Process", process))
            (fact("Compactions", (agent.compactions > 0).then(|| agent.compactions.to_string())))
            (fact("Input, output", Some(format!("{} and {} tokens", count(agent.usage.input_tokens), count(agent.usage.output_tokens)))))
            (fact("Cache read, written", Some(format!("{} and {} tokens", count(agent.usage.cache_read_tokens), count(agent.usage.cache_creation_tokens)))))
            (fact("Events by source", Some(sources.join(", "))))
            tr { td { "Started" } td { (ago(agent.started_at, now)) } }
        }
    }
}
