//! Is anything wrong right now?

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use paramedic_api::operations::agents::{AgentsQuery, list};
use paramedic_api::operations::alerts::Nothing;
use paramedic_api::operations::status::{Status, read};
use paramedic_api::{ApiError, Context, Phase};
use paramedic_fleet::{AgentView, State as AgentState};
use paramedic_model::Timestamp;

use crate::chart::{Chart, Shape};
use crate::format::{agent_path, ago, clock, count, encode, line, many, money, percent, running, short};
use crate::forms;
use crate::page::{Tab, row_key, within};
use crate::pages::agents::{name_of, state_shape, state_word};
use crate::pages::{answer, incidents, reader};
use crate::work::standing;

/// Agents drawn one by one; a larger fleet is drawn in proportion.
const SQUARES_MAX: usize = 100;
const STRIP_BYTES_MAX: usize = 24_000;
/// Agents that need somebody, named under the strip.
const TROUBLED_MAX: usize = 6;
/// Runs that are listed; their page has all.
const RUNS_MAX: usize = 5;

pub(crate) async fn page(State(context): State<Arc<Context>>, headers: HeaderMap) -> Response {
    let result = show(&context).await;
    answer(&context, Tab::Now, forms::actor(&headers), result).await
}

async fn show(context: &Arc<Context>) -> Result<(String, Markup), ApiError> {
    let status = read(Arc::clone(context), reader(), Nothing {}).await?;
    let query = AgentsQuery { limit: Some(SQUARES_MAX), ..AgentsQuery::default() };
    let agents = list(Arc::clone(context), reader(), query).await?.agents;
    let title = headline(&status);
    let body = html! {
        div id="now" data-live { (verdict(&status, &title)) }
        div id="runs" data-live { (under_way(context)) }
        div id="fleet" data-live { (fleet(&status, &agents)) }
        div id="activity" data-live { (activity(&status)) }
    };
    Ok((title, body))
}

fn headline(status: &Status) -> String {
    match status.incidents_open {
        _ if status.phase == Phase::Starting => "Starting: reading what is stored".to_owned(),
        0 if status.fleet.agents == 0 => "No agent is connected yet".to_owned(),
        0 => "All quiet".to_owned(),
        1 => "1 incident is open".to_owned(),
        open => format!("{open} incidents are open"),
    }
}

fn verdict(status: &Status, title: &str) -> Markup {
    let failing: Vec<_> = status.checks.iter().filter(|(_, check)| !check.ok).collect();
    html! {
        h1 { (title) @if let Some(since) = status.quiet_since { " since " (clock(since, status.now)) " UTC, " (running(since, status.now)) } }
        @for (name, check) in failing {
            p class="said bad" { b { (name) } ": " (line(&check.detail)) " (" (ago(check.checked_at, status.now)) "). " code { "paramedic doctor" } " tells more." }
        }
        @if status.incidents_open > 0 {
            (incidents::open_list(&status.open, status.now))
            @if status.incidents_open > status.open.len() { p { a href="/incidents?state=open" { "All " (status.incidents_open) " open incidents" } } }
        } @else if status.fleet.agents == 0 {
            p class="empty" {
                "Start a Claude Code session on this machine and it shows up here, or " a href="/connect" { "connect an agent" } ". "
                "To see a fleet with an outage first: " code { "paramedic up --sample" }
            }
        } @else if status.quiet_since.is_none() {
            p class="soft" { "No incident so far." }
        }
    }
}

/// What waits for a person, and what is being done.
fn under_way(context: &Context) -> Markup {
    let Some(parts) = &context.responding else { return html! {} };
    let lines = parts.runs.lines(|line| line.ended_at.is_none());
    let waiting: usize = lines.iter().map(|line| line.asking.len()).sum();
    let now = context.now();
    html! {
        @if !lines.is_empty() {
            h2 { a class="plain" href="/runs?which=open" { (many(lines.len() as u64, "run")) " under way" } @if waiting > 0 { " · " a href="/approvals" { (many(waiting as u64, "approval")) " waiting" } } }
            ul class="rows" { @for line in lines.iter().take(RUNS_MAX) {
                li data-row=(line.id) { (standing(line)) " "
                    a href=(match &line.incident { Some(incident) => format!("/incidents/{}", encode(incident)), None => format!("/runs/{}", line.id) }) data-open { (short(&line.title, 100)) } " "
                    span class="soft small" { @if let Some(incident) = &line.incident { (short(incident, 20)) " · " } (ago(line.started_at, now)) @if let Some((cause, score)) = &line.cause { " · " (short(cause, 60)) " " (percent(*score)) } } }
            } }
        }
    }
}

fn fleet(status: &Status, agents: &[AgentView]) -> Markup {
    let total = status.fleet.agents;
    if total == 0 {
        return html! {};
    }
    let squares = SQUARES_MAX as u64;
    let every = total.div_ceil(squares).max(1);
    let strip = within(STRIP_BYTES_MAX, agents, square);
    html! {
        h2 { a class="plain" href="/agents" { "Fleet: " (many(total, "agent")) } }
        div class="strip" {
            @if every == 1 {
                (strip.0)
            } @else {
                @for state in AgentState::ALL {
                    @for _ in 0..of_state(status, state).div_ceil(every) { i class=(format!("s-{state}")) {} }
                }
            }
        }
        @if every == 1 && strip.1 < agents.len() { p class="faint small" { a href="/agents" { (agents.len() - strip.1) " more" } } }
        @if every > 1 { p class="faint small" { "One mark stands for up to " (every) " agents." } }
        p class="strip-key" {
            @for state in AgentState::ALL {
                @let number = of_state(status, state);
                @if number > 0 { a class="plain" href=(format!("/agents?state={state}")) { span class=(format!("s-{state}")) { (state_shape(state)) } (count(number)) " " (state_word(state)) } }
            }
        }
        @let troubled: Vec<_> = agents.iter().filter(|agent| agent.state <= AgentState::Waiting && agent.waiting_for.as_deref() != Some("next prompt")).collect();
        @if !troubled.is_empty() {
            h2 { "Agents that need somebody" }
            ul class="rows" {
                @for agent in troubled.iter().take(TROUBLED_MAX) {
                    li data-row=(row_key(agent.id.as_str())) {
                        span class=(format!("state s-{}", agent.state)) { (state_shape(agent.state)) (state_word(agent.state)) } " "
                        a href=(agent_path(&agent.id)) data-open { (name_of(agent)) } " "
                        span class="soft" { (line(&agent.state_reason)) }
                    }
                }
            }
            @if troubled.len() > TROUBLED_MAX { p class="small" { a href="/agents" { "All agents, the ones in trouble first" } } }
        }
    }
}

fn square(agent: &AgentView) -> Markup {
    let words = format!("{}: {}", name_of(agent), state_word(agent.state));
    html! { a class=(format!("plain s-{}", agent.state)) href=(agent_path(&agent.id)) title=(words) aria-label=(words) {} }
}

fn of_state(status: &Status, state: AgentState) -> u64 {
    status.fleet.by_state.get(state.as_str()).copied().unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "numbers for a drawing")]
fn activity(status: &Status) -> Markup {
    if status.fleet.agents == 0 {
        return html! {};
    }
    let of = |value: fn(&paramedic_api::activity::Minute) -> f64| -> Vec<(Timestamp, f64)> {
        status.activity.iter().map(|minute| (minute.at, value(minute))).collect()
    };
    let tries = of(|minute| (minute.calls + minute.retries + minute.failures) as f64);
    let failed = of(|minute| (minute.retries + minute.failures) as f64);
    let latency = of(|minute| minute.latency_ms().unwrap_or(0) as f64 / 1000.0);
    let (all, bad): (f64, f64) = (tries.iter().map(|point| point.1).sum(), failed.iter().map(|point| point.1).sum());
    let tried = status.activity.iter().map(|minute| minute.calls + minute.retries + minute.failures).sum();
    let whole = |value: f64| format!("{value:.0}");
    let seconds = |value: f64| format!("{value:.1} s");
    html! {
        h2 { "The last hour" }
        div class="grid" {
            (Chart { title: "Model calls a minute", shape: Shape::Bars, points: &tries, bad: Some(("failed", &failed)), limit: None, show: whole,
                note: if all > 0.0 { format!("{}, {} failed", many(tried, "call"), percent(bad / all)) } else { "none".to_owned() } }.render())
            @if latency.iter().any(|point| point.1 > 0.0) {
                (Chart { title: "Time to answer, mean", shape: Shape::Bars, points: &latency, bad: None, limit: None, show: seconds, note: String::new() }.render())
            }
            figure {
                figcaption { b { "Spent today (UTC)" } span { a href="/cost" { "cost" } } }
                dl class="facts" { div { dd { (spent(status)) } } div { dt { "in all" } dd { @match status.fleet.cost.usd { Some(usd) => (money(usd)), None => "unknown" } } } }
            }
        }
    }
}

fn spent(status: &Status) -> Markup {
    let unknown = status.unpriced_calls_today;
    html! {
        @match status.cost_today_usd { Some(usd) => { @if unknown > 0 { "at least " } (money(usd)) } None => "unknown" }
        @if unknown > 0 { " " small { (many(unknown, "call")) " of unknown price" } }
    }
}
