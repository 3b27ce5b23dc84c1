//! What does it cost, and who spends it?

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use paramedic_api::operations::cost::{CostAnswer, CostQuery, report};
use paramedic_api::{ApiError, Context};
use paramedic_fleet::cost::{CostLine, DayCost};
use paramedic_model::{AgentId, Timestamp};

use crate::chart::{Chart, Shape};
use crate::format::{agent_name, agent_path, ago, count, many, money, short, tokens};
use crate::forms;
use crate::page::{Tab, within};
use crate::pages::agents::cost;
use crate::pages::{answer, reader};

const AGENTS_MAX: usize = 40;
const AGENTS_BYTES_MAX: usize = 20_000;
const MODELS_MAX: usize = 20;
const DAYS_MAX: usize = 60;

pub(crate) async fn page(State(context): State<Arc<Context>>, headers: HeaderMap) -> Response {
    let result = show(&context).await;
    answer(&context, Tab::Cost, forms::actor(&headers), result).await
}

async fn show(context: &Arc<Context>) -> Result<(String, Markup), ApiError> {
    let answer = report(Arc::clone(context), reader(), CostQuery { limit: Some(AGENTS_MAX) }).await?;
    let now = context.now();
    let report = &answer.report;
    let title = match (report.totals.cost.usd, report.totals.cost.is_complete()) {
        _ if report.totals.calls == 0 => "Nothing was spent yet".to_owned(),
        (Some(usd), true) => format!("{} in all", money(usd)),
        (Some(usd), false) => format!("At least {} in all", money(usd)),
        (None, _) => "Cost unknown".to_owned(),
    };
    let body = html! {
        div id="cost" data-live {
            h1 { (title) }
            p class="soft" { (many(report.totals.calls, "model call")) ", " (tokens(report.totals.usage.total())) " tokens. Prices of " (short(&report.prices_as_of, 20)) "; days in UTC." }
            @if report.totals.calls == 0 { p class="empty" { a href="/connect" { "Connect an agent" } ", or try " code { "paramedic up --sample" } "." } }
            @else { (unpriced(&answer)) (days(&report.by_day)) (models(&answer)) (agents(&answer, now)) }
        }
    };
    Ok((title, body))
}

fn unpriced(answer: &CostAnswer) -> Markup {
    html! {
        @if !answer.report.unpriced.is_empty() {
            h2 { "Price unknown" }
            p class="soft" { "These models have no price in the list. Their tokens are counted, their cost is not: every sum above or below that includes them is a lower bound." }
            table class="cards" {
                thead { tr { th { "Model" } th class="num" { "Calls" } th class="num" { "Tokens" } } }
                tbody { @for model in answer.report.unpriced.iter().take(MODELS_MAX) { tr { td { code { (short(&model.model, 80)) } } td data-th="calls" class="num" { (count(model.calls)) } td data-th="tokens" class="num" { (tokens(model.tokens)) } } } }
            }
            @if answer.report.unpriced.len() > MODELS_MAX { p class="faint" { (MODELS_MAX) " of " (answer.report.unpriced.len()) " shown; the API has all." } }
        }
    }
}

fn days(days: &[DayCost]) -> Markup {
    let recent = &days[days.len().saturating_sub(DAYS_MAX)..];
    let points: Vec<(Timestamp, f64)> =
        recent.iter().filter_map(|day| Some((Timestamp::parse(&format!("{}T00:00:00Z", day.day))?, day.sum.cost.usd_known()))).collect();
    html! {
        h2 { "By day" }
        @if points.len() > 1 {
            (Chart { title: "US dollars a day", shape: Shape::Bars, points: &points, bad: None, limit: None, show: money, note: format!("{} with calls", many(points.len() as u64, "day")) }.render())
        }
        table class="cards" {
            thead { (columns("Day (UTC)")) }
            tbody { @for day in recent.iter().rev().take(14) { (line(html! { (day.day) }, &day.sum)) } }
        }
        @if days.len() > 14 { p class="faint" { "The latest 14 of " (days.len()) " days; the API has all." } }
    }
}

fn models(answer: &CostAnswer) -> Markup {
    let models = &answer.report.by_model;
    html! {
        h2 { "By model" }
        table class="cards" {
            thead { (columns("Model")) }
            tbody { @for model in models.iter().take(MODELS_MAX) { (line(html! { code { (short(&model.model, 80)) } }, &model.sum)) } }
        }
        @if models.len() > MODELS_MAX { p class="faint" { (MODELS_MAX) " of " (models.len()) " shown; the API has all." } }
    }
}

fn agents(answer: &CostAnswer, now: Timestamp) -> Markup {
    let (rows, shown) = within(AGENTS_BYTES_MAX, &answer.report.by_agent, |agent| {
        let id = AgentId::new(agent.agent.as_str());
        let project = agent.project.as_deref().map(|project| format!("{} ", short(project, 40))).unwrap_or_default();
        line(
            html! { a href=(agent_path(&id)) data-open { (project) (agent_name(&id)) } " " span class="faint small" { (ago(agent.last_event_at, now)) } },
            &agent.sum,
        )
    });
    html! {
        h2 { "By agent" }
        table class="cards" {
            thead { (columns("Agent")) }
            tbody {
                (rows)
                @if let Some(dropped) = &answer.report.dropped_agents { (line(html! { "agents no longer kept" }, dropped)) }
            }
        }
        @if answer.agents_total > shown { p class="faint" { "The dearest " (shown) " of " (count(answer.agents_total as u64)) "; the API has all." } }
    }
}

fn columns(first: &str) -> Markup {
    html! { tr { th { (first) } th class="num" { "Cost" } th class="num" { "Calls" } th class="num" { "Input" } th class="num" { "Output" } th class="num" { "Cache read" } th class="num" { "Cache written" } } }
}

fn line(name: Markup, sum: &CostLine) -> Markup {
    let usage = &sum.usage;
    html! {
        tr {
            td { (name) }
            td data-th="cost" class="num" { (cost(&sum.cost)) }
            td data-th="calls" class="num" { (count(sum.calls)) }
            td data-th="in" class="num" { (tokens(usage.input_tokens)) }
            td data-th="out" class="num" { (tokens(usage.output_tokens)) }
            td data-th="cache read" class="num" { (tokens(usage.cache_read_tokens)) }
            td data-th="written" class="num" { (tokens(usage.cache_creation_tokens)) }
        }
    }
}
