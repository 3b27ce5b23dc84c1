//! What happened, in order, with who said so.

use maud::{Markup, html};
use paramedic_api::operations::incidents::IncidentDetail;
use paramedic_model::Timestamp;
use paramedic_respond::Incident;
use paramedic_respond::record::SYSTEM_ACTOR;
use paramedic_respond::timeline::TimelineItem;

use super::Names;
use super::why::TEXT_BYTES_MAX;
use crate::format::{absolute, clock, count, short};
use crate::page::within;

/// Timeline items on the page; the API has all.
const TIMELINE_MAX: usize = 60;
const TIMELINE_BYTES_MAX: usize = 9_000;

pub(super) fn timeline(detail: &IncidentDetail, names: &Names, now: Timestamp) -> Markup {
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

pub(super) fn note_form(incident: &Incident) -> Markup {
    html! {
        form method="post" action=(format!("/incidents/{}/note", incident.id)) {
            label { span class="sr" { "Note" } textarea name="text" required maxlength="16000" placeholder="What did you see, what did you do?" data-key="n" {} }
            p { button { "Add note" } }
        }
    }
}
