//! What is looked at from outside, and what does not answer?

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use paramedic_api::operations::alerts::Nothing;
use paramedic_api::operations::rules::targets;
use paramedic_api::unit::Unit;
use paramedic_api::{ApiError, Context};
use paramedic_model::target::TargetKind;
use paramedic_model::{Target, TargetHealth, Timestamp};
use serde::Deserialize;

use crate::format::{ago, count, encode, line, many, short, span};
use crate::forms;
use crate::page::{Tab, more, row_key, within};
use crate::pages::{answer, query_of, reader};

const ROWS_BYTES_MAX: usize = 40_000;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    health: Option<TargetHealth>,
    /// Part of a pool, an address or a label.
    text: Option<String>,
    after: Option<usize>,
}

impl Asked {
    fn wants(&self, target: &Target) -> bool {
        let text = self.text.as_deref().unwrap_or("").to_lowercase();
        let contains = |field: &str| field.to_lowercase().contains(&text);
        self.health.is_none_or(|health| health == target.health)
            && (text.is_empty()
                || contains(&target.pool)
                || contains(&target.address)
                || target.labels.values().any(|value| contains(value)))
    }

    fn parameters(&self) -> String {
        let pairs = [("health", self.health.map(word)), ("text", self.text.as_deref())];
        pairs.into_iter().filter_map(|(key, value)| Some(format!("{key}={}&", encode(value?)))).collect()
    }
}

const fn word(health: TargetHealth) -> &'static str {
    match health {
        TargetHealth::Unknown => "unknown",
        TargetHealth::Up => "up",
        TargetHealth::Down => "down",
    }
}

pub(crate) async fn page(State(context): State<Arc<Context>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let result = show(&context, query.as_deref().unwrap_or("")).await;
    answer(&context, Tab::Targets, forms::actor(&headers), result).await
}

async fn show(context: &Arc<Context>, query: &str) -> Result<(String, Markup), ApiError> {
    let asked: Asked = query_of(query)?;
    let all = targets(Arc::clone(context), reader(), Nothing {}).await?.targets;
    let of = |health| all.iter().filter(|target| target.health == health).count();
    let (down, unknown) = (of(TargetHealth::Down), of(TargetHealth::Unknown));
    let title = match down {
        0 if all.is_empty() => "No targets".to_owned(),
        0 if unknown == all.len() => "No target was looked at yet".to_owned(),
        0 if unknown > 0 => "No target is down".to_owned(),
        0 => "All targets are up".to_owned(),
        down => format!("{down} of {} down", many(all.len() as u64, "target")),
    };
    let mut wanted: Vec<&Target> = all.iter().filter(|target| asked.wants(target)).collect();
    wanted.sort_by_key(|target| match target.health {
        TargetHealth::Down => 0,
        TargetHealth::Unknown => 1,
        TargetHealth::Up => 2,
    });
    let now = context.now();
    let body = html! {
        div id="head" data-live { h1 { (title) } }
        @if all.is_empty() { (empty()) } @else {
            (filter(&asked))
            div id="targets" data-live { (lines(&wanted, &asked, now)) }
        }
    };
    Ok((title, body))
}

fn empty() -> Markup {
    html! {
        p class="empty" { "Nothing is scraped or probed. Name exporters under " code { "[[scrape]]" } " and services under " code { "[probe]" } " in the settings; " code { "paramedic config" } " shows how." }
    }
}

fn filter(asked: &Asked) -> Markup {
    html! {
        form class="inline" method="get" action="/targets" data-filter role="search" {
            label { "Health" select name="health" {
                option value="" { "all" }
                @for health in [TargetHealth::Down, TargetHealth::Unknown, TargetHealth::Up] {
                    option value=(word(health)) selected[asked.health == Some(health)] { (health_words(health)) }
                }
            } }
            label { "Contains" input type="search" name="text" data-key="search" value=(asked.text.as_deref().unwrap_or("")); }
            button { "Filter" }
        }
    }
}

const fn health_words(health: TargetHealth) -> &'static str {
    match health {
        TargetHealth::Unknown => "not looked at yet",
        TargetHealth::Up => "up",
        TargetHealth::Down => "down",
    }
}

fn lines(targets: &[&Target], asked: &Asked, now: Timestamp) -> Markup {
    if targets.is_empty() {
        return html! { p class="empty" { "No target matches. " a href="/targets" { "Show all" } "." } };
    }
    let start = asked.after.unwrap_or(0).min(targets.len());
    let (rows, shown) = within(ROWS_BYTES_MAX, &targets[start..], |target| row(target, now));
    let end = start + shown;
    let parameters = asked.parameters();
    let next = (end < targets.len()).then(|| format!("/targets?{parameters}after={end}"));
    let first = (start > 0).then(|| format!("/targets?{}", parameters.trim_end_matches('&')));
    html! {
        table class="cards" {
            thead { tr { th { "Health" } th { "Target" } th { "Labels" } th { "Last look" } th class="num" { "Took" } th class="num" { "Samples" } th class="num" { "Every" } } }
            tbody { (rows) }
        }
        (more(shown, targets.len(), first, next))
    }
}

fn row(target: &Target, now: Timestamp) -> Markup {
    let kind = match target.kind {
        TargetKind::Scrape => "scraped",
        TargetKind::Probe => "probed",
    };
    html! {
        tr data-row=(row_key(&format!("{} {}", target.pool, target.address))) {
            td class="in" { span class=(format!("state h-{}", word(target.health))) { (health_mark(target.health)) (word(target.health)) } }
            td class="wrap" {
                b { (short(&target.pool, 60)) } " " span class="faint small" { (kind) }
                div { code { (short(&target.address, 160)) } }
                @if !target.last_error.is_empty() {
                    div class="lv-error" { (line(&target.last_error)) @if target.failures > 1 { span class="faint" { " · " (count(target.failures)) " times in a row" } } }
                }
            }
            td class="wrap faint small" { @for (name, value) in target.labels.iter().filter(|(name, _)| *name != "job").take(8) { span class="hit" { (short(name, 40)) "=" (short(value, 80)) } } }
            td data-th="last look" class="nowrap" { @match target.last_at { Some(at) => (ago(at, now)), None => span class="faint" { "never" } } }
            td data-th="took" class="num" { @if target.last_at.is_some() { (Unit::Seconds.show(target.last_duration_s)) } }
            td data-th="samples" class="num" { @if target.last_at.is_some() { (count(target.last_samples)) } }
            td data-th="every" class="num" { (span(Duration::try_from_secs_f64(target.interval_s).unwrap_or_default())) }
        }
    }
}

/// A shape for each health, so that colour is never alone.
pub(crate) fn health_mark(health: TargetHealth) -> Markup {
    html! {
        svg viewBox="0 0 10 10" aria-hidden="true" {
            @match health {
                TargetHealth::Up => circle cx="5" cy="5" r="4" fill="currentColor" {},
                TargetHealth::Down => path d="M1 1l8 8M9 1l-8 8" stroke="currentColor" stroke-width="2.5" {},
                TargetHealth::Unknown => circle cx="5" cy="5" r="3.5" fill="none" stroke="currentColor" stroke-width="1.5" {},
            }
        }
    }
}
