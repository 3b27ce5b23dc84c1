//! Why we say that something is wrong: its alerts, each with the facts under it, and who is hit.

use std::collections::BTreeMap;

use maud::{Markup, html};
use paramedic_api::Context;
use paramedic_model::{AgentId, RuleAlert, Timestamp};
use paramedic_respond::{Episode, Incident};

use super::Names;
use crate::format::{agent_path, clock, encode, many, severity, short};
use crate::page::within;
use crate::pages::cases::{Subject, drawing};
use crate::steps::capital;

/// Alert episodes in the table.
const EPISODES_MAX: usize = 30;
const EPISODES_BYTES_MAX: usize = 5_000;
const AGENTS_MAX: usize = 24;
const AGENTS_BYTES_MAX: usize = 3_500;
const EVIDENCE_MAX: usize = 6;
const EVIDENCE_BYTES_MAX: usize = 1_500;
pub(super) const TEXT_BYTES_MAX: usize = 400;
/// Episodes whose evidence is on the page.
const TELLING_MAX: usize = 2;

pub(super) fn from_rules_only(incident: &Incident) -> bool {
    !incident.episodes.is_empty() && incident.episodes.iter().all(|episode| episode.rule.is_some())
}

pub(super) fn alerts(incident: &Incident, names: &Names, now: Timestamp) -> Markup {
    let newest = incident.episodes.iter().rev().take(EPISODES_MAX);
    let (rows, shown) = within(EPISODES_BYTES_MAX, newest, |episode| alert_row(episode, names, now));
    html! {
        details class="numbers" id="alerts" {
            summary { (many(incident.counts.episodes, "alert")) " as a table" }
            table class="cards" {
                thead { tr { th { "Began (UTC)" } th { "Ended" } th { "Detector" } th { "Agent" } th { "Severity" } th { "Why" } } }
                tbody { (rows) }
            }
            @if incident.episodes.len() > shown { p class="faint" { "The latest " (shown) " of " (incident.counts.episodes) "; the API has all." } }
        }
    }
}

fn alert_row(episode: &Episode, names: &Names, now: Timestamp) -> Markup {
    html! {
        tr {
            td class="nowrap" { (clock(episode.started_at, now)) }
            td class="nowrap" { @match episode.ended_at { Some(at) => (clock(at, now)), None => "active" } }
            td { (short(episode.name(), 60)) }
            td { (subject(episode, names)) }
            td { (severity(episode.severity)) }
            td class="wrap" { (short(&episode.reason, 200)) }
        }
    }
}

/// Who or what an alert is about: the agent, or the labels of a rule's alert.
pub(crate) fn subject(episode: &Episode, names: &Names) -> Markup {
    match (&episode.agent, &episode.rule) {
        (Some(agent), _) => html! { a href=(agent_path(agent)) { (names.of(agent)) } },
        (None, Some(rule)) => html! { (short(&rule.subject(), 120)) },
        (None, None) => html! {},
    }
}

/// The episodes that say most: the newest of each alert, what failed for good first, then what is worst, then what is newest.
fn telling(incident: &Incident) -> Vec<&Episode> {
    let mut newest: BTreeMap<(&str, &str), &Episode> = BTreeMap::new();
    for episode in &incident.episodes {
        newest.insert((episode.name(), episode.agent.as_ref().map_or(episode.fingerprint.0.as_str(), AgentId::as_str)), episode);
    }
    let mut newest: Vec<_> = newest.into_values().collect();
    newest.sort_by_key(|episode| std::cmp::Reverse((episode.counts.terminal_failures, episode.severity, episode.started_at)));
    newest
}

/// The values of the most telling episodes that come from rules.
pub(super) async fn drawings(context: &Context, incident: &Incident, now: Timestamp) -> Vec<Option<Markup>> {
    let mut drawn = Vec::new();
    for episode in telling(incident).into_iter().take(TELLING_MAX) {
        drawn.push(match &episode.rule {
            Some(rule) => {
                let subject = Subject { name: &rule.name, expression: &rule.expression, labels: &rule.labels };
                drawing(context, subject, episode.started_at, episode.ended_at.unwrap_or(now)).await
            }
            None => None,
        });
    }
    drawn
}

/// What the rule's author had to say, and where its runbook is.
fn advice(rule: &RuleAlert) -> Markup {
    let told = |name: &str| rule.annotations.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());
    html! {
        @for name in ["description", "impact", "action"] {
            @if let Some(text) = told(name) { p class="wrap small" { @if name != "description" { b { (capital(name)) ": " } } (short(text, TEXT_BYTES_MAX)) } }
        }
        p class="small" {
            @if let Some(address) = told("runbook_url").filter(|address| address.starts_with("https://") || address.starts_with("http://")) {
                a href=(address) rel="noopener noreferrer" { "Runbook" } " · "
            } @else if let Some(runbook) = told("runbook") { "Runbook " b { (short(runbook, 80)) } " · " }
            a href=(format!("/query?query={}&range=1h", encode(&rule.expression))) { "the expression" }
            " · " a href=(format!("/rules?why={}", encode(&rule.name))) { "why, with the values now" }
        }
    }
}

/// Why we say so: each alert's newest sentence, and the facts under it.
pub(super) fn evidence(incident: &Incident, names: &Names, drawings: &[Option<Markup>], now: Timestamp) -> Markup {
    let newest = telling(incident);
    html! {
        @if newest.is_empty() { p class="soft" { "Opened by hand: no alert belongs to it." } }
        @for (i, episode) in newest.iter().take(TELLING_MAX).enumerate() { div class="why" {
            p class="wrap" { (severity(episode.severity)) " " (short(&episode.reason, TEXT_BYTES_MAX)) " " span class="faint" { (subject(episode, names)) } }
            @if let Some(rule) = &episode.rule { (advice(rule)) }
            @if let Some(Some(drawing)) = drawings.get(i) { (drawing) }
            @if !episode.evidence.is_empty() {
                ol class="timeline" {
                    (within(EVIDENCE_BYTES_MAX, episode.evidence.iter().take(EVIDENCE_MAX), |fact| html! { li { (clock(fact.at, now)) code class="wrap" { (short(&fact.text, TEXT_BYTES_MAX)) } } }).0)
                }
            }
        } }
        @if newest.len() > TELLING_MAX { p class="faint" { "And " (newest.len() - TELLING_MAX) " more, in the table of alerts below." } }
    }
}

pub(super) fn affected(incident: &Incident, names: &Names) -> Markup {
    let (agents, shown) = within(AGENTS_BYTES_MAX, incident.agents.iter().take(AGENTS_MAX), |agent| {
        html! { a class="id hit" href=(agent_path(agent)) title=(short(agent.as_str(), 100)) { (names.of(agent)) } " " }
    });
    if incident.agents.is_empty() && from_rules_only(incident) {
        return html! {};
    }
    html! {
        h2 { "Who is hit" }
        @if incident.agents.is_empty() { p class="soft" { "No agent is named." } }
        p class="wrap" {
            (agents)
            @if incident.agents.len() > shown { " and " (incident.agents.len() - shown) " more" }
        }
        p class="small" {
            @if let Some(session) = incident.sessions.first() {
                @let (from, to) = (incident.started_at, incident.resolved_at.or(incident.mitigated_at));
                a href=(format!("/events?session={}&from={from}{}", encode(session.as_str()), to.map(|to| format!("&to={to}")).unwrap_or_default())) {
                    "Events of " @if incident.sessions.len() > 1 { "the first session" } @else { "the session" } " in that time"
                }
            }
        }
    }
}
