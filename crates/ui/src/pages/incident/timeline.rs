//! What happened, in order, with who said so.

use std::collections::BTreeSet;

use maud::{Markup, html};
use paramedic_api::operations::incidents::IncidentDetail;
use paramedic_model::Timestamp;
use paramedic_respond::Incident;
use paramedic_respond::record::SYSTEM_ACTOR;
use paramedic_respond::timeline::TimelineItem;

use super::Names;
use super::why::TEXT_BYTES_MAX;
use crate::format::{absolute, clock, count, many, short};
use crate::page::within;

/// Timeline items on the page; the API has all.
const TIMELINE_MAX: usize = 60;
const TIMELINE_BYTES_MAX: usize = 9_000;

pub(super) fn timeline(detail: &IncidentDetail, names: &Names, now: Timestamp) -> Markup {
    let (told, quiet) = without_looks(&detail.timeline);
    let newest = told.iter().rev().take(TIMELINE_MAX);
    let (items, shown) = within(TIMELINE_BYTES_MAX, newest, |item| timeline_item(item, &detail.incident, names, now));
    let earlier = detail.timeline_left_out + told.len().saturating_sub(shown) as u64;
    html! {
        ol class="timeline" { (items) }
        @if quiet > 0 { p class="faint small" { "What steps looked at, " (many(quiet, "line")) ", stands in the record of the run." } }
        @if earlier > 0 {
            p class="faint" { @if earlier == 1 { "1 earlier entry is" } @else { (count(earlier)) " earlier entries are" } " in the journal: " code { "paramedic incident " (detail.incident.id) } }
        }
    }
}

/// The story without the steps of runs that only looked, which would drown it; and how many lines these are.
fn without_looks(items: &[TimelineItem]) -> (Vec<&TimelineItem>, u64) {
    let mut looks: BTreeSet<(&str, &str)> = BTreeSet::new();
    let told = items.iter().filter(|item| {
        let Some((run, said)) = item.text.split_once(": ").filter(|_| item.kind.starts_with("step-")) else { return true };
        match item.kind.as_str() {
            "step-begun" => match said.split_once(" looks: ") {
                Some((step, _)) => {
                    looks.insert((run, step));
                    false
                }
                None => true,
            },
            "step-done" => said.split_once(": ").is_none_or(|(step, _)| !looks.contains(&(run, step))),
            "step-held" => !said.contains(" is refused: "),
            _ => true,
        }
    });
    let told: Vec<&TimelineItem> = told.collect();
    let quiet = (items.len() - told.len()) as u64;
    (told, quiet)
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
                    @if person { (short_body(item, &item.text)) } @else { (short_body(item, &with_short_names(&item.text, incident, names))) }
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
fn short_body(item: &TimelineItem, text: &str) -> String {
    // What ran stands whole beside its step.
    if item.kind == "step-begun" {
        return short(text, TEXT_BYTES_MAX / 3);
    }
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
