//! What is wrong, since when, how many are hit, and what was done so far?

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use paramedic_api::operations::incidents::{IncidentDetail, IncidentQuery, read};
use paramedic_api::{ApiError, Context};
use paramedic_model::{AgentId, IncidentKind, IncidentState, RuleAlert, Severity, Timestamp};
use paramedic_respond::record::SYSTEM_ACTOR;
use paramedic_respond::timeline::TimelineItem;
use paramedic_respond::{Episode, Incident};

use crate::format::{
    absolute, agent_name, agent_path, ago, clock, count, due, encode, incident_state, many, percent, running, severity, short, span,
};
use crate::page::{Tab, said, within};
use crate::pages::agents::name_of;
use crate::pages::cases::{Subject, drawing};
use crate::pages::{answer, done_of, reader};
use crate::{axis, forms};

/// Timeline items on the page; the API has all.
const TIMELINE_MAX: usize = 60;
const TIMELINE_BYTES_MAX: usize = 16_000;
/// Alert episodes in the table.
const EPISODES_MAX: usize = 30;
const EPISODES_BYTES_MAX: usize = 9_000;
const AGENTS_MAX: usize = 24;
const AGENTS_BYTES_MAX: usize = 6_000;
/// Agents looked up for their names.
const NAMES_MAX: usize = 200;
const EVIDENCE_MAX: usize = 8;
const EVIDENCE_BYTES_MAX: usize = 2_500;
const TEXT_BYTES_MAX: usize = 400;
/// Episodes whose evidence is on the page.
const TELLING_MAX: usize = 3;

pub(crate) async fn page(
    State(context): State<Arc<Context>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let result = show(&context, id, query.as_deref().unwrap_or("")).await;
    answer(&context, Tab::Incidents, forms::actor(&headers), result).await
}

async fn show(context: &Arc<Context>, id: String, query: &str) -> Result<(String, Markup), ApiError> {
    let detail = read(Arc::clone(context), reader(), IncidentQuery { id }).await?;
    let (incident, now) = (&detail.incident, context.now());
    let names = &Names::of_agents(context, incident);
    let drawings = drawings(context, incident, now).await;
    let body = html! {
        (said(done_of(query)))
        div id="head" data-live { (head(&detail, now)) }
        div id="axis" data-live { h2 { "When" } (axis::episodes(incident, names, now)) (alerts(incident, names, now)) }
        div class="split" {
            div {
                div id="evidence" data-live { (evidence(incident, names, &drawings, now)) }
                div id="affected" data-live { (affected(incident, names)) }
                h2 { "Timeline" }
                (note_form(incident))
                div id="timeline" data-live { (timeline(&detail, names, now)) }
            }
            aside { div id="actions" data-live { h2 { "What you can do" } (actions(incident)) } }
        }
    };
    Ok((format!("{} {}", incident.id, short(&incident.title, 80)), body))
}

/// The agents' names as people know them, where the fleet still has them.
pub(crate) struct Names(BTreeMap<AgentId, String>);

impl Names {
    fn of_agents(context: &Context, incident: &Incident) -> Self {
        let fleet = context.fleet();
        let known = incident.agents.iter().take(NAMES_MAX).filter_map(|id| Some((id.clone(), name_of(&fleet.agent(id)?))));
        Self(known.collect())
    }

    pub(crate) fn of(&self, agent: &AgentId) -> String {
        self.0.get(agent).cloned().unwrap_or_else(|| agent_name(agent))
    }
}

fn head(detail: &IncidentDetail, now: Timestamp) -> Markup {
    let incident = &detail.incident;
    let firing = incident.firing().count();
    html! {
        div class="headline" {
            (severity(Some(incident.severity)))
            h1 { (short(&incident.title, 200)) }
            span class="faint" { (incident.id) }
        }
        p class="soft" {
            b { (incident_state(incident.state, firing > 0)) } " · " (incident.incident_type.title())
            @if incident.kind != IncidentKind::Real { " · " (incident.kind.title()) }
            @if firing > 0 { " · " (many(firing as u64, "alert")) " active now" }
            @if let Some(into) = &incident.merged_into { " · merged into " a href=(format!("/incidents/{into}")) { (into) } }
            (acknowledged(incident))
            @if let Some(by) = detail.acknowledge_by { " · " b { "acknowledge " (due(by, now)) } }
        }
        dl class="facts" {
            div { dt { "Since" } dd { (clock(incident.started_at, now)) " " small { "UTC, " (ago(incident.started_at, now)) } } }
            div { dt { @if incident.resolved_at.is_some() { "Lasted" } @else { "Lasting" } } dd { (lasting(incident, now)) } }
            // An alert of a rule about a machine has none, and a zero would say that nobody is hit.
            @if incident.counts.agents > 0 || !from_rules_only(incident) {
                div { dt { "Agents" } dd { (count(incident.counts.agents as u64)) } }
                div { dt { "Sessions" } dd { (count(incident.counts.sessions as u64)) } }
            }
            @if incident.counts.users > 0 { div { dt { "Users" } dd { (count(incident.counts.users as u64)) } } }
            @if let Some(rate) = incident.counts.error_rate.filter(|rate| *rate > 0.0) { div { dt { "Model calls failed" } dd { (percent(rate)) " " small { (failures(incident)) } } } }
            @if incident.counts.flaps > 0 || incident.reopened > 0 { div { dt { "Came back" } dd { (many(incident.counts.flaps + u64::from(incident.reopened), "time")) } } }
        }
    }
}

fn from_rules_only(incident: &Incident) -> bool {
    !incident.episodes.is_empty() && incident.episodes.iter().all(|episode| episode.rule.is_some())
}

/// Who took it, how long after it was detected, and whether that was soon enough.
fn acknowledged(incident: &Incident) -> Markup {
    let (Some(by), Some(at)) = (&incident.acknowledged_by, incident.acknowledged_at) else { return html! {} };
    let due = incident.acknowledge_by();
    html! {
        " · acknowledged by " b { (short(by, 60)) } " after " time datetime=(at) title=(absolute(at)) { (span(at.since(incident.detected_at))) }
        // Nobody was called for what was read from history, so nobody was late.
        @if incident.kind != IncidentKind::Backfill { @if at <= due { ", in time" } @else { ", " b { "late by " (span(at.since(due))) } } }
    }
}

fn lasting(incident: &Incident, now: Timestamp) -> Markup {
    match incident.resolved_at.or(incident.mitigated_at) {
        Some(_) => {
            html! { (span(incident.duration(now))) @if incident.resolved_at.is_none() { " " small { "quiet since " (clock(incident.mitigated_at.unwrap_or(now), now)) } } }
        }
        None => running(incident.started_at, now),
    }
}

fn failures(incident: &Incident) -> String {
    let counts = &incident.counts;
    let of = counts.retries + counts.terminal_failures + counts.successes;
    let mut parts = vec![format!("of {}", count(of))];
    if counts.retries > 0 {
        parts.push(if counts.retries == 1 { "1 retry".to_owned() } else { format!("{} retries", count(counts.retries)) });
    }
    if counts.terminal_failures > 0 {
        parts.push(format!("{} ended for good", many(counts.terminal_failures, "turn")));
    }
    parts.join(", ")
}

fn alerts(incident: &Incident, names: &Names, now: Timestamp) -> Markup {
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
async fn drawings(context: &Context, incident: &Incident, now: Timestamp) -> Vec<Option<Markup>> {
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

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Why we say so: each alert's newest sentence, and the facts under it.
fn evidence(incident: &Incident, names: &Names, drawings: &[Option<Markup>], now: Timestamp) -> Markup {
    let newest = telling(incident);
    html! {
        h2 { "Why" }
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
        @if newest.len() > 3 { p class="faint" { "And " (newest.len() - 3) " more, in the table of alerts above." } }
    }
}

fn affected(incident: &Incident, names: &Names) -> Markup {
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
                a href=(format!("/events?session={}&from={from}{}", crate::format::encode(session.as_str()), to.map(|to| format!("&to={to}")).unwrap_or_default())) {
                    "Events of " @if incident.sessions.len() > 1 { "the first session" } @else { "the session" } " in that time"
                }
            }
        }
    }
}

fn timeline(detail: &IncidentDetail, names: &Names, now: Timestamp) -> Markup {
    let newest = detail.timeline.iter().rev().take(TIMELINE_MAX);
    let (items, shown) = within(TIMELINE_BYTES_MAX, newest, |item| timeline_item(item, &detail.incident, names, now));
    let earlier = detail.timeline_left_out + detail.timeline.len().saturating_sub(shown) as u64;
    html! {
        ol class="timeline" { (items) }
        @if earlier > 0 {
            p class="faint" { @if earlier == 1 { "1 earlier entry is" } @else { (count(earlier)) " earlier entries are" } " in the journal: " code { "paramedic incident " (detail.incident.id) } }
        }
    }
}

fn timeline_item(item: &TimelineItem, incident: &Incident, names: &Names, now: Timestamp) -> Markup {
    let late = item.recorded_at.since(item.at).as_secs() > 60;
    let person = item.actor != SYSTEM_ACTOR;
    html! {
        li class=[person.then_some("person")] data-row=(format!("t{}", item.seq)) {
            (clock(item.at, now))
            div {
                @if person { div class="by" { b { (short(&item.actor, 60)) } } }
                div class="body" {
                    @if person { (short_body(&item.text)) } @else { (short_body(&with_short_names(&item.text, incident, names))) }
                    @if late { span class="by" title=(absolute(item.recorded_at)) { " · recorded " (clock(item.recorded_at, now)) } }
                }
            }
        }
    }
}

/// Our own sentences name agents by their whole ids; the page has room for their short names.
fn with_short_names(text: &str, incident: &Incident, names: &Names) -> String {
    let mut text = paramedic_model::text::head(text, 4 * TEXT_BYTES_MAX).to_owned();
    // Longest first, so that a session's id does not cut the ids of its sub-agents.
    let mut named: Vec<_> = incident.agents.iter().filter(|agent| text.contains(agent.as_str())).collect();
    named.sort_by_key(|agent| std::cmp::Reverse(agent.as_str().len()));
    for agent in named.into_iter().filter(|agent| !agent.as_str().is_empty()) {
        text = text.replace(agent.as_str(), &names.of(agent));
    }
    text
}

/// A note keeps its lines; everything is capped.
fn short_body(text: &str) -> String {
    paramedic_model::text::capped(text, 4 * TEXT_BYTES_MAX).chars().filter(|c| !c.is_control() || *c == '\n').collect()
}

fn note_form(incident: &Incident) -> Markup {
    html! {
        form method="post" action=(format!("/incidents/{}/note", incident.id)) {
            label { span class="sr" { "Note" } textarea name="text" required maxlength="16000" placeholder="What did you see, what did you do?" data-key="n" {} }
            p { button { "Add note" } }
        }
    }
}

fn actions(incident: &Incident) -> Markup {
    let to = |action: &str| format!("/incidents/{}/{action}", incident.id);
    let open = incident.state.is_open();
    html! {
        div class="actions" {
            @if incident.state == IncidentState::Merged {
                p class="soft" { "It was merged. Work on " @if let Some(into) = &incident.merged_into { a href=(format!("/incidents/{into}")) { (into) } } "." }
            } @else if open && incident.acknowledged_at.is_none() {
                form method="post" action=(to("acknowledge")) { p { button class="primary" data-key="a" { "Acknowledge" } " " span class="faint" { "says that you are on it" } } }
            }
            @if open {
                @if incident.acknowledged_at.is_some() {
                    details id="do-resolve" open[incident.state == IncidentState::Mitigated] { summary { "Resolve" } (reason_form(&to("resolve"), "Resolve", "primary", "What ended it")) }
                } @else {
                    details id="do-resolve" { summary { "Resolve" } (reason_form(&to("resolve"), "Resolve", "", "What ended it")) }
                }
                details id="do-severity" { summary { "Change the severity" } (severity_form(incident, &to("severity"))) }
                details id="do-state" { summary { "Change the state" } (state_form(incident, &to("state"))) }
                details id="do-merge" { summary { "Merge into another" }
                    form method="post" action=(to("merge")) {
                        label { "The incident that stays" input name="into" required placeholder="INC-1"; }
                        p class="faint" { "This one ends; its agents and alerts move over. It cannot be undone." }
                        button class="danger" { "Merge" }
                    }
                }
                details id="do-cancel" { summary { "Cancel: a false alarm" } (reason_form(&to("cancel"), "Cancel it", "danger", "Why it is none")) }
            } @else if incident.state != IncidentState::Merged {
                details id="do-reopen" open { summary { "Re-open" } (reason_form(&to("reopen"), "Re-open", "primary", "What still happens")) }
            }
            @if incident.state != IncidentState::Merged {
                details id="do-title" { summary { "Rename" }
                    form method="post" action=(to("title")) { label { "Title" input name="title" required maxlength="200" value=(incident.title); } button { "Rename" } }
                }
            }
        }
    }
}

fn reason_form(action: &str, button: &str, class: &str, label: &str) -> Markup {
    html! {
        form method="post" action=(action) {
            label { (label) " (may be empty)" input name="reason" maxlength="2000"; }
            button class=(class) { (button) }
        }
    }
}

fn severity_form(incident: &Incident, action: &str) -> Markup {
    html! {
        form method="post" action=(action) {
            label { "Severity" select name="severity" { @for one in Severity::ALL { option value=(one) selected[one == incident.severity] { (one) } } } }
            label { "Why (may be empty)" input name="reason" maxlength="2000"; }
            @if !incident.severity_by_hand { p class="faint" { "After this it is not raised by itself any more." } }
            button { "Set" }
        }
    }
}

fn state_form(incident: &Incident, action: &str) -> Markup {
    let choices = [IncidentState::Investigating, IncidentState::Identified, IncidentState::Mitigated];
    html! {
        form method="post" action=(action) {
            label { "State" select name="state" { @for one in choices { option value=(one) selected[one == incident.state] { (one.title()) } } } }
            label { "Why (may be empty)" input name="reason" maxlength="2000"; }
            button { "Set" }
        }
    }
}
