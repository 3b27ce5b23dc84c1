//! What happened? Search over all stored events.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use paramedic_api::operations::events::{EventLine, EventPage, EventsQuery, search};
use paramedic_api::{ApiError, Context};
use paramedic_model::{Fact, Level, Source, Timestamp};

use crate::format::{agent_name, agent_path, clock, encode, line, short};
use crate::forms;
use crate::page::{Tab, within};
use crate::pages::agents::ROWS_BYTES_MAX;
use crate::pages::{answer, query_of, reader};

const LINES_MAX: usize = 60;
/// Kinds that people ask for, in the order of how much trouble they are.
const KINDS: [&str; 14] = [
    "model-error",
    "model-retry",
    "rate-limit",
    "tool-result",
    "tool-call",
    "model-call",
    "prompt",
    "turn-ended",
    "waiting",
    "compaction",
    "session-started",
    "session-ended",
    "span",
    "record",
];

pub(crate) async fn page(State(context): State<Arc<Context>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let result = show(&context, query.as_deref().unwrap_or("")).await;
    answer(&context, Tab::Events, forms::actor(&headers), result).await
}

async fn show(context: &Arc<Context>, query: &str) -> Result<(String, Markup), ApiError> {
    let mut query: EventsQuery = query_of(query)?;
    query.limit = Some(LINES_MAX);
    let found = search(Arc::clone(context), reader(), query.clone()).await?;
    let now = context.now();
    let body = html! {
        h1 { "Events" }
        (filter(&query))
        div id="events" data-live[query.before.is_none()] { (lines(&found, &query, now)) }
    };
    Ok(("Events".to_owned(), body))
}

fn filter(query: &EventsQuery) -> Markup {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let ids = [&query.agent, &query.session, &query.request, &query.trace, &query.prompt, &query.user, &query.name];
    let narrow = ids.iter().any(|id| id.is_some()) || query.from.is_some() || query.to.is_some();
    html! {
        form class="inline" method="get" action="/events" data-filter role="search" {
            label { "Words" input type="search" name="text" value=(text(&query.text)) placeholder="timeout \"529 overloaded\" tool*" data-key="search"; }
            label { "Kind" select name="kind" {
                option value="" { "all" }
                @for kind in KINDS { option value=(kind) selected[query.kind.as_deref() == Some(kind)] { (kind) } }
            } }
            label { "Level" select name="level" {
                option value="" { "all" }
                @for level in Level::ALL { option value=(level) selected[query.level == Some(*level)] { (level) " and up" } }
            } }
            label { "Source" select name="source" {
                option value="" { "all" }
                @for source in Source::ALL { option value=(source) selected[query.source == Some(*source)] { (source) } }
            } }
            details open[narrow] {
                summary { "By agent, session, time" }
                div class="inline" {
                    label { "Agent" input name="agent" value=(text(&query.agent)); }
                    label { "Session" input name="session" value=(text(&query.session)); }
                    label { "From (UTC)" input name="from" value=(query.from.map(|at| at.to_string()).unwrap_or_default()) placeholder="2026-01-14T10:41:00Z"; }
                    label { "To (UTC)" input name="to" value=(query.to.map(|at| at.to_string()).unwrap_or_default()); }
                    @for (name, value) in [("request", &query.request), ("trace", &query.trace), ("prompt", &query.prompt), ("user", &query.user), ("name", &query.name)] {
                        @if let Some(value) = value { label { (name) input name=(name) value=(value); } }
                    }
                }
            }
            button { "Search" }
        }
    }
}

fn lines(found: &EventPage, query: &EventsQuery, now: Timestamp) -> Markup {
    let (table, older) = table(found, now, true, ROWS_BYTES_MAX);
    html! {
        @if found.timed_out { p class="said bad" { "The search stopped when its time was over. Narrow it by time, agent or session." } }
        @if !found.skipped.is_empty() { p class="said bad" { @if found.skipped.len() == 1 { "1 damaged file is" } @else { (found.skipped.len()) " damaged files are" } " left out: see " code { "paramedic doctor" } } }
        @if found.events.is_empty() {
            p class="empty" {
                @if parameters(query).is_empty() { "Nothing was stored yet. " a href="/connect" { "Connect an agent" } ", or try " code { "paramedic up --sample" } "." }
                @else { "No event matches. Words must all occur; " code { "begin*" } " finds beginnings. " a href="/events" { "Show all" } "." }
            }
        } @else { (table) }
        div class="more" {
            @if query.before.is_some() { a class="button" href=(format!("/events?{}", parameters(query))) { "Newest" } }
            @if let Some(next) = older { a class="button" href=(format!("/events?{}before={next}", parameters(query))) { "Older" } }
        }
    }
}

/// Events as a table of at most `bytes_max`, and where older ones begin; `with_agent` names whose they are.
pub(crate) fn table(found: &EventPage, now: Timestamp, with_agent: bool, bytes_max: usize) -> (Markup, Option<u64>) {
    let (rows, shown) = within(bytes_max, &found.events, |event| row(event, now, with_agent));
    let cut = (shown < found.events.len()).then(|| found.events.get(shown.wrapping_sub(1)).map(|event| event.seq)).flatten();
    let older = cut.or(if found.more { found.next } else { None });
    let table = html! {
        table class="cards" {
            thead { tr { th { "Time (UTC)" } th { "Kind" } @if with_agent { th { "Agent" } } th { "What" } } }
            tbody { (rows) }
        }
    };
    (table, older)
}

fn row(event: &EventLine, now: Timestamp, with_agent: bool) -> Markup {
    html! {
        tr data-row=(event.seq) {
            td class="in nowrap faint" { (clock(event.at, now)) }
            td class="in nowrap" { span class=(format!("lv-{}", event.level)) title=(format!("{} from {}", event.level, event.source.title())) { (event.kind) } }
            @if with_agent { td class="in who" { @if let Some(agent) = &event.agent { a class="id" href=(agent_path(agent)) data-open { (agent_name(agent)) } } } }
            td class="wrap" { (what(event)) }
        }
    }
}

/// The event's own words; where it has none, its fact's.
fn what(event: &EventLine) -> Markup {
    let fact = serde_json::from_value::<Fact>(event.fact.clone()).ok();
    let detail = fact.as_ref().map(in_words).unwrap_or_default();
    html! {
        @if !detail.is_empty() { span class="detail" { (short(&detail, 80)) } " " }
        @if event.text.is_empty() { @if detail.is_empty() { span class="faint" { (short(&event.name, 80)) } } } @else { (line(&event.text)) }
        @if let Some(request) = &event.request { " " a class="faint small" href=(format!("/events?request={}", encode(request))) { "request" } }
        @if let Some(trace) = &event.trace { " " a class="faint small" href=(format!("/events?trace={}", encode(trace))) { "trace" } }
    }
}

fn in_words(fact: &Fact) -> String {
    let status = |status: &Option<u16>| status.map(|status| format!(" {status}")).unwrap_or_default();
    match fact {
        Fact::ToolCall { tool, .. } => tool.to_string(),
        Fact::ToolResult { tool, outcome, .. } => {
            let outcome = serde_json::to_value(outcome).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
            tool.as_ref().map_or_else(|| outcome.clone(), |tool| format!("{tool} {outcome}"))
        }
        Fact::ModelCall { model, usage, .. } => {
            let model = model.as_deref().unwrap_or("model");
            format!("{model}: {} out, {} in", crate::format::tokens(usage.output_tokens), crate::format::tokens(usage.context_tokens()))
        }
        Fact::ModelRetry { class, status: code, attempt, attempts_max, .. } => {
            format!("{class}{}, retry {attempt}{}", status(code), attempts_max.map(|max| format!(" of {max}")).unwrap_or_default())
        }
        Fact::ModelError { class, status: code, .. } => format!("{class}{}", status(code)),
        Fact::Waiting { reason } => format!("for {reason}"),
        Fact::Compaction { tokens_before: Some(before), .. } => format!("at {}", crate::format::tokens(*before)),
        Fact::Measurement { value, unit, .. } => format!("{value} {}", unit.as_deref().unwrap_or("")),
        _ => String::new(),
    }
}

/// The search as a query, without the place in it; ends in `&` when there is any.
fn parameters(query: &EventsQuery) -> String {
    let mut out = String::new();
    let (from, to) = (query.from.map(|at| at.to_string()), query.to.map(|at| at.to_string()));
    let pairs = [
        ("text", query.text.as_deref()),
        ("kind", query.kind.as_deref()),
        ("level", query.level.map(Level::as_str)),
        ("source", query.source.map(Source::as_str)),
        ("agent", query.agent.as_deref()),
        ("session", query.session.as_deref()),
        ("name", query.name.as_deref()),
        ("prompt", query.prompt.as_deref()),
        ("request", query.request.as_deref()),
        ("trace", query.trace.as_deref()),
        ("user", query.user.as_deref()),
        ("from", from.as_deref()),
        ("to", to.as_deref()),
    ];
    for (key, value) in pairs {
        if let Some(value) = value {
            out.push_str(&format!("{key}={}&", encode(value)));
        }
    }
    out
}
