//! What fires, and what was noted?

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use paramedic_api::context::DetectorLine;
use paramedic_api::operations::alerts::{AlertLine, AlertPage, AlertsQuery, list};
use paramedic_api::unit::unit_of;
use paramedic_api::{ApiError, Context};
use paramedic_model::{AgentId, IncidentType, Timestamp};
use serde::Deserialize;

use crate::format::{agent_name, agent_path, ago, encode, line, many, running, severity, short, span};
use crate::forms;
use crate::page::{Tab, more, row_key, within};
use crate::pages::agents::name_of;
use crate::pages::{answer, cases, query_of, reader};

const LINES_MAX: usize = 50;
/// Bytes of the lines together; the list of detectors below, whose words are our own, takes about 10 kB.
const ROWS_BYTES_MAX: usize = 28_000;

/// Which of them to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Which {
    Firing,
    Ended,
    Notes,
}

impl Which {
    const ALL: [(Self, &'static str, &'static str); 3] =
        [(Self::Firing, "firing", "firing"), (Self::Ended, "ended", "ended"), (Self::Notes, "notes", "notes")];
}

/// What the page is asked for.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    which: Option<Which>,
    detector: Option<String>,
    agent: Option<AgentId>,
    after: Option<usize>,
}

impl Asked {
    fn query(&self) -> AlertsQuery {
        let (firing, note) = match self.which {
            None => (None, None),
            Some(Which::Firing) => (Some(true), Some(false)),
            Some(Which::Ended) => (Some(false), Some(false)),
            Some(Which::Notes) => (None, Some(true)),
        };
        AlertsQuery { detector: self.detector.clone(), agent: self.agent.clone(), firing, note, limit: Some(LINES_MAX), after: self.after }
    }

    fn is_narrow(&self) -> bool {
        self.which.is_some() || self.detector.is_some() || self.agent.is_some()
    }

    /// As a query, without the place in it; ends in `&` when there is any.
    fn parameters(&self) -> String {
        let which = Which::ALL.iter().find(|(which, ..)| Some(*which) == self.which).map(|(_, value, _)| *value);
        let pairs = [("which", which), ("detector", self.detector.as_deref()), ("agent", self.agent.as_ref().map(AgentId::as_str))];
        pairs.into_iter().filter_map(|(key, value)| Some(format!("{key}={}&", encode(value?)))).collect()
    }
}

pub(crate) async fn page(State(context): State<Arc<Context>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let result = show(&context, query.as_deref().unwrap_or("")).await;
    answer(&context, Tab::Alerts, forms::actor(&headers), result).await
}

async fn show(context: &Arc<Context>, query: &str) -> Result<(String, Markup), ApiError> {
    let asked: Asked = query_of(query)?;
    let page = list(Arc::clone(context), reader(), asked.query()).await?;
    let firing = Asked { which: Some(Which::Firing), ..Asked::default() }.query();
    let firing = list(Arc::clone(context), reader(), AlertsQuery { limit: Some(1), ..firing }).await?.total;
    let now = context.now();
    let title = match firing {
        0 => "No alert is firing".to_owned(),
        1 => "1 alert is firing".to_owned(),
        firing => format!("{} are firing", many(firing as u64, "alert")),
    };
    let names = names(context, &page);
    let whole = asked == Asked::default();
    let active = if whole { cases::active(context) } else { Vec::new() };
    let body = html! {
        div id="head" data-live { h1 { (title) @if let Some(pending) = cases::pending(&active) { ", " (pending) } } }
        @if whole { div id="cases" data-live { (cases::cases(context, &active, now).await) } }
        (filter(&asked, &context.detectors))
        div id="alerts" data-live { (lines(&page, &asked, &names, now)) }
        (catalogue(&context.detectors))
    };
    Ok((title, body))
}

/// The agents of the page as people know them, where the fleet still has them.
fn names(context: &Context, page: &AlertPage) -> BTreeMap<AgentId, String> {
    let fleet = context.fleet();
    let agents = page.alerts.iter().filter_map(|line| line.alert.agent.as_ref());
    agents.filter_map(|id| Some((id.clone(), name_of(&fleet.agent(id)?)))).collect()
}

fn filter(asked: &Asked, detectors: &[DetectorLine]) -> Markup {
    let wanted = asked.detector.as_deref();
    html! {
        form class="inline" method="get" action="/alerts" data-filter role="search" {
            label { "Which" select name="which" data-key="search" {
                option value="" { "all" }
                @for (which, value, name) in Which::ALL { option value=(value) selected[asked.which == Some(which)] { (name) } }
            } }
            label { "Detector" select name="detector" {
                option value="" { "all" }
                @for one in detectors { option value=(one.name) selected[wanted == Some(one.name.as_str())] { (one.name) } }
                @if let Some(other) = wanted.filter(|wanted| !detectors.iter().any(|one| one.name == *wanted)) {
                    option value=(short(other, 100)) selected { (short(other, 100)) }
                }
            } }
            @if let Some(agent) = &asked.agent { label { "Agent" input name="agent" value=(agent); } }
            button { "Filter" }
        }
    }
}

fn lines(page: &AlertPage, asked: &Asked, names: &BTreeMap<AgentId, String>, now: Timestamp) -> Markup {
    if page.alerts.is_empty() {
        return html! {
            p class="empty" {
                @if asked.is_narrow() { "No alert matches. " a href="/alerts" { "Show all" } "." }
                @else { "No alert so far. Below is what the detectors watch for; to see some: " code { "paramedic up --sample" } }
            }
        };
    }
    let parameters = asked.parameters();
    let (rows, shown) = within(ROWS_BYTES_MAX, &page.alerts, |alert| row(alert, names, now));
    let end = asked.after.unwrap_or(0) + shown;
    let next = (end < page.total).then(|| format!("/alerts?{parameters}after={end}"));
    let first = asked.after.is_some_and(|after| after > 0).then(|| format!("/alerts?{}", parameters.trim_end_matches('&')));
    html! {
        table class="cards" {
            thead { tr { th { "Severity" } th { "About" } th { "Why" } th { "Incident" } th { "Began" } th { "Lasted" } } }
            tbody { (rows) }
        }
        (more(shown, page.total, first, next))
    }
}

fn row(line_of: &AlertLine, names: &BTreeMap<AgentId, String>, now: Timestamp) -> Markup {
    let alert = &line_of.alert;
    html! {
        tr data-row=(row_key(&format!("{} {}", alert.fingerprint, alert.started_at))) {
            td class="in" { (severity(alert.severity)) }
            td class="in who" { @match (&alert.agent, &alert.rule) {
                (Some(agent), _) => a href=(agent_path(agent)) data-open[line_of.incident.is_none()] { (names.get(agent).cloned().unwrap_or_else(|| agent_name(agent))) },
                (None, Some(rule)) => (short(&rule.subject(), 120)),
                (None, None) => "",
            } }
            td class="wrap" {
                (line(&alert.reason))
                @if let (Some(rule), Some(threshold)) = (&alert.rule, &line_of.threshold) {
                    @if let Some(value) = rule.value { span class="faint" { " (" (unit_of(&rule.expression).show(value)) ", fires at " (threshold.op) " " (unit_of(&rule.expression).show(threshold.value)) ")" } }
                }
                div class="faint small" { (short(alert.name(), 60)) }
            }
            td data-th="incident" { @match &line_of.incident { Some(id) => a href=(format!("/incidents/{id}")) data-open { (id) }, None => span class="faint" { "none" } } }
            td data-th="began" class="nowrap" { (ago(alert.started_at, now)) }
            td data-th="lasted" class="nowrap" {
                @match alert.ended_at {
                    Some(at) => (span(at.since(alert.started_at))),
                    None => { (running(alert.started_at, now)) ", active" }
                }
            }
        }
    }
}

fn detector_row(detector: &DetectorLine) -> Markup {
    let kind = IncidentType::ALL.iter().find(|one| one.as_str() == detector.incident_type).map_or("", |one| one.title());
    html! {
        tr id=(format!("detector-{}", detector.name)) {
            td { b { (detector.title) } div class="small" { a class="faint" href=(format!("/alerts?detector={}", encode(&detector.name))) { (detector.name) } } }
            td class="wrap" { (detector.what) }
            td class="wrap soft" { (detector.warns_at) }
            td data-th="incident" class="soft" { (kind) }
        }
    }
}

/// What each detector notices, and when it says so.
fn catalogue(detectors: &[DetectorLine]) -> Markup {
    if detectors.is_empty() {
        return html! {};
    }
    html! {
        h2 { "What the detectors notice" }
        p class="soft" { "A note is recorded, and nobody is called. With a severity it opens an incident or joins one. Thresholds as delivered; settings may change them." }
        table class="cards" {
            thead { tr { th { "Detector" } th { "What it notices" } th { "When" } th { "Incident" } } }
            tbody { @for detector in detectors { (detector_row(detector)) } }
        }
    }
}
