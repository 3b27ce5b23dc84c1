//! Which agent needs me?

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use paramedic_api::operations::agents::{AgentPage, AgentsQuery, list};
use paramedic_api::{ApiError, Context};
use paramedic_fleet::{AgentView, State as AgentState};
use paramedic_model::Timestamp;

use crate::format::{agent_name, agent_path, ago, count, encode, line, many, money, short, tokens};
use crate::forms;
use crate::page::{Tab, more, row_key, within};
use crate::pages::{answer, query_of, reader};

const LINES_MAX: usize = 50;
/// Bytes of the lines together: the rest of a page takes less than 15 kB.
pub(crate) const ROWS_BYTES_MAX: usize = 44_000;

pub(crate) async fn page(State(context): State<Arc<Context>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let result = show(&context, query.as_deref().unwrap_or("")).await;
    answer(&context, Tab::Agents, forms::actor(&headers), result).await
}

async fn show(context: &Arc<Context>, query: &str) -> Result<(String, Markup), ApiError> {
    let mut query: AgentsQuery = query_of(query)?;
    query.limit = Some(LINES_MAX);
    let page = list(Arc::clone(context), reader(), query.clone()).await?;
    let now = context.now();
    let title = headline(&page);
    let body = html! {
        div id="head" data-live { h1 { (title) } }
        (filter(&query))
        div id="agents" data-live { (lines(&page, &query, now)) }
    };
    Ok((title, body))
}

fn headline(page: &AgentPage) -> String {
    let of = |state: AgentState| page.fleet.by_state.get(state.as_str()).copied().unwrap_or(0);
    let trouble = of(AgentState::Stuck) + of(AgentState::Failed) + of(AgentState::Silent);
    match (page.fleet.agents, trouble) {
        (0, _) => "No agent is connected yet".to_owned(),
        (all, 0) => format!("{}, none in trouble", many(all, "agent")),
        (all, trouble) => format!("{} of {} in trouble", count(trouble), many(all, "agent")),
    }
}

fn filter(query: &AgentsQuery) -> Markup {
    html! {
        form class="inline" method="get" action="/agents" data-filter role="search" {
            label { "Filter" input type="search" name="text" value=(query.text.as_deref().unwrap_or("")) placeholder="id, project, model, host" data-key="search"; }
            label { "State" select name="state" {
                option value="" { "all" }
                @for state in AgentState::ALL { option value=(state) selected[query.state == Some(state)] { (state_word(state)) } }
            } }
            label { "Which" select name="main_only" { option value="" { "all agents" } option value="true" selected[query.main_only] { "without sub-agents" } } }
            @if let Some(session) = &query.session { label { "Session" input name="session" value=(session); } }
            button { "Filter" }
        }
    }
}

fn lines(page: &AgentPage, query: &AgentsQuery, now: Timestamp) -> Markup {
    if page.agents.is_empty() {
        return html! {
            p class="empty" {
                @if page.fleet.agents > 0 { "No agent matches. " a href="/agents" { "Show all" } "." }
                @else { "Start a Claude Code session on this machine and it shows up here, or " a href="/connect" { "connect an agent" } ". To try it: " code { "paramedic up --sample" } }
            }
        };
    }
    let parameters = parameters(query);
    let (rows, shown) = within(ROWS_BYTES_MAX, &page.agents, |agent| row(agent, now));
    let end = query.after.unwrap_or(0) + shown;
    let next = (end < page.total).then(|| format!("/agents?{parameters}after={end}"));
    let first = query.after.is_some_and(|after| after > 0).then(|| format!("/agents?{}", parameters.trim_end_matches('&')));
    html! {
        table class="cards" {
            thead { tr { th { "State" } th { "Agent" } th { "What it does now" } th class="num" { "Turns" } th class="num" { "Context" } th class="num" { "Cost" } th { "Last sign" } } }
            tbody { (rows) }
        }
        (more(shown, page.total, first, next))
    }
}

/// One agent as a line of a table with these seven columns.
pub(crate) fn row(agent: &AgentView, now: Timestamp) -> Markup {
    html! {
        tr data-row=(row_key(agent.id.as_str())) {
            td { span class=(format!("state s-{}", agent.state)) { (state_shape(agent.state)) (state_word(agent.state)) } }
            td {
                a href=(agent_path(&agent.id)) data-open { (name_of(agent)) }
                div class="faint small" { (under_name(agent)) }
            }
            td class="wrap" {
                (line(&agent.state_reason))
                div class="faint small" { (short(&agent.last_event, 140)) }
            }
            td data-th="turns" class="num" { (count(u64::from(agent.turns))) }
            td data-th="context" class="num" { (context_meter(agent)) }
            td data-th="cost" class="num" { (cost_of(agent)) }
            td data-th="last sign" class="nowrap" { (ago(agent.last_event_at, now)) }
        }
    }
}

/// The name people know: the project where there is one.
pub(crate) fn name_of(agent: &AgentView) -> String {
    match (&agent.parent, &agent.project, &agent.agent_type) {
        (Some(_), _, Some(kind)) => format!("{} {}", short(kind, 40), agent_name(&agent.id)),
        (None, Some(project), _) if agent.session.as_deref() == Some(agent.id.as_str()) => {
            format!("{} {}", short(project, 40), agent_name(&agent.id))
        }
        _ => agent_name(&agent.id),
    }
}

fn under_name(agent: &AgentView) -> String {
    let subagents = (agent.subagents.total > 0).then(|| many(u64::from(agent.subagents.total), "sub-agent"));
    let model = agent.model.as_deref().map(|model| short(model, 40));
    let host = agent.host.as_deref().map(|host| short(host, 40));
    [model, host, subagents].into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

/// How full the context is: a bar and a word.
pub(crate) fn context_meter(agent: &AgentView) -> Markup {
    let used = agent.context_tokens;
    html! {
        @match agent.context_limit {
            Some(limit) if limit > 0 && used > 0 => {
                @let percent = (used * 100 / limit).min(100);
                svg class="meter" width="40" height="6" aria-hidden="true" { rect width="40" height="6" rx="3" {} rect class=[(percent >= 80).then_some("high")] width=(percent * 40 / 100) height="6" rx="3" {} }
                span title=(format!("{} of {} tokens", count(used), count(limit))) { (percent) " %" }
            }
            _ if used > 0 => span title="the size of this model's context is not known" { (tokens(used)) },
            _ => {}
        }
    }
}

/// What is known of the cost; an unknown price is said.
pub(crate) fn cost_of(agent: &AgentView) -> Markup {
    if agent.model_calls == 0 && agent.usage.is_zero() {
        return html! { span class="faint" title="no model call so far" { "–" } };
    }
    cost(&agent.cost)
}

pub(crate) fn cost(cost: &paramedic_fleet::Cost) -> Markup {
    html! {
        @match (cost.usd, cost.is_complete()) {
            (Some(usd), true) => (money(usd)),
            (Some(usd), false) => span title=(format!("{} of unknown price come on top", many(cost.unpriced_calls, "call"))) { "≥ " (money(usd)) },
            (None, _) => span class="faint" title="this model has no price in the list" { "unknown" },
        }
    }
}

pub(crate) const fn state_word(state: AgentState) -> &'static str {
    match state {
        AgentState::Stuck => "stuck",
        AgentState::Failed => "failed",
        AgentState::Silent => "silent",
        AgentState::Waiting => "waiting",
        AgentState::Working => "working",
        AgentState::Done => "done",
    }
}

/// A shape for each state, so that it can be told without colour.
pub(crate) fn state_shape(state: AgentState) -> Markup {
    html! {
        svg viewBox="0 0 10 10" aria-hidden="true" fill="currentColor" {
            @match state {
                AgentState::Stuck => rect width="10" height="10" rx="2" {},
                AgentState::Failed => path d="M5 0l5 5-5 5-5-5z" {},
                AgentState::Silent => rect x="1" y="1" width="8" height="8" rx="1.5" fill="none" stroke="currentColor" stroke-width="2" {},
                AgentState::Waiting => { path d="M5 0a5 5 0 0 1 0 10z" {} circle cx="5" cy="5" r="4" fill="none" stroke="currentColor" stroke-width="2" {} }
                AgentState::Working => circle cx="5" cy="5" r="5" {},
                AgentState::Done => circle cx="5" cy="5" r="4" fill="none" stroke="currentColor" stroke-width="2" {},
            }
        }
    }
}

fn parameters(query: &AgentsQuery) -> String {
    let mut out = String::new();
    let pairs = [
        ("text", query.text.as_deref()),
        ("state", query.state.map(AgentState::as_str)),
        ("session", query.session.as_deref()),
        ("main_only", query.main_only.then_some("true")),
    ];
    for (key, value) in pairs {
        if let Some(value) = value {
            out.push_str(&format!("{key}={}&", encode(value)));
        }
    }
    out
}
