//! Who does what, what a good response still has to do, and which evidence is kept.

use maud::{Markup, html};
use paramedic_model::{IncidentState, Phase, Role, Timestamp};
use paramedic_respond::checklist::{phase_of, progress};
use paramedic_respond::record::SYSTEM_ACTOR;
use paramedic_respond::{ChecklistItem, Incident, ItemState};

use crate::format::{clock, short};
use crate::page::within;

const ATTACHMENTS_BYTES_MAX: usize = 2_500;
const RESPONDERS_SHOWN: usize = 12;

/// The checklist: the phase that it is in open, the others folded; every item can be ticked.
pub(super) fn list(incident: &Incident, items: &[ChecklistItem], now: Timestamp) -> Markup {
    let (done, all) = progress(items, None);
    let here = phase_of(incident);
    html! {
        h2 { "Checklist " span class="faint" { (done) " of " (all) } }
        form method="post" action=(format!("/incidents/{}/tick", incident.id)) {
            @for phase in Phase::ALL {
                @let of: Vec<&ChecklistItem> = items.iter().filter(|item| item.phase == *phase).collect();
                @let (done, all) = progress(items, Some(*phase));
                details class="phase" id=(format!("c-{phase}")) open[*phase == here] {
                    summary { (phase.title()) " " span class="faint" { (done) "/" (all) @if done == all { " ✓" } } }
                    ul class="check" { @for item in of { (line(item, now)) } }
                }
            }
        }
    }
}

fn line(item: &ChecklistItem, now: Timestamp) -> Markup {
    let done = item.state.is_done();
    let (field, mark) = if done { ("untick", "☑") } else { ("tick", "☐") };
    html! {
        li class=[done.then_some("done")] {
            button class="tick" name=(field) value=(item.id) aria-label=(format!("{}: {}", if done { "Take the tick back" } else { "Tick" }, item.text)) { (mark) }
            span { (item.text)
                @if item.optional { span class="faint" { " (may be left)" } }
                @match &item.state {
                    ItemState::Open => {}
                    ItemState::TickedBySystem { why, at } => div class="faint small wrap" { (short(why, 90)) ", " (clock(*at, now)) },
                    ItemState::TickedByHand { by, at } => div class="faint small" { "ticked by " (short(by, 40)) ", " (clock(*at, now)) },
                }
            }
        }
    }
}

/// Who holds which role, and how to take or pass one on.
pub(super) fn people(incident: &Incident, actor: &str) -> Markup {
    let to = |action: &str| format!("/incidents/{}/{action}", incident.id);
    let leads = incident.holds(Role::Commander, actor);
    html! {
        h2 { "People" }
        dl class="people" {
            @for role in Role::ALL {
                @let holders = incident.holders(*role);
                div { dt { (role.title()) } dd {
                    @if holders.is_empty() { span class="faint" { "nobody" } }
                    @for (i, holder) in holders.iter().take(RESPONDERS_SHOWN).enumerate() { @if i > 0 { ", " } @if holder == SYSTEM_ACTOR { "Paramedic" } @else { (short(holder, 40)) } }
                    @if holders.len() > RESPONDERS_SHOWN { " and " (holders.len() - RESPONDERS_SHOWN) " more" }
                } }
            }
        }
        @if incident.state != IncidentState::Merged {
            @if !leads && incident.state.is_open() { form method="post" action=(to("take")) { p { button { "Take command" } } } }
            details class="small" id="do-role" { summary { "Give or hand over a role" }
                form class="inline" method="post" action=(to("assign")) {
                    label { "Role" select name="role" { @for role in Role::ALL { option value=(role) { (role.title()) } } } }
                    label { "Person" input name="person" required maxlength="100"; }
                    label { "Note (may be empty)" input name="reason" maxlength="500"; }
                    button { "Assign" }
                    button formaction=(to("hand-over")) { "Hand over" }
                    button class="plainly" formaction=(to("release")) { "Release" }
                }
            }
        }
    }
}

/// Evidence that people attached.
pub(super) fn attachments(incident: &Incident) -> Markup {
    let (rows, shown) = within(ATTACHMENTS_BYTES_MAX, incident.attachments.iter().rev(), |one| {
        html! {
            li class="small wrap" { a href=(format!("/incidents/{}/attachments/{}", incident.id, one.id)) { (short(&one.name, 100)) } " " span class="faint" { (one.bytes) " bytes, " span title=(one.sha256) { "sha256 " (paramedic_model::text::head(&one.sha256, 8)) } @if !one.source.is_empty() { ", from " (short(&one.source, 100)) } } }
        }
    });
    html! {
        h2 { "Evidence" }
        @if !incident.attachments.is_empty() { ul class="rows" { (rows) } @if shown < incident.attachments.len() { p class="faint small" { (shown) " of " (incident.attachments.len()) " shown" } } }
        details class="small" id="do-attach" { summary { "Attach a text: a log excerpt, an answer" }
            form method="post" action=(format!("/incidents/{}/attach", incident.id)) {
                label { "Name" input name="name" required maxlength="200" placeholder="gateway.log"; }
                label { "From (may be empty)" input name="source" maxlength="500"; }
                label { "Text" textarea name="text" required maxlength="40000" {} }
                button { "Attach" }
            }
        }
    }
}

/// The places of what comes later.
pub(super) fn later(incident: &Incident) -> Markup {
    let over = !incident.state.is_open();
    html! {
        h2 { "Messages" }
        p class="faint small" { "None was written here so far. What was told elsewhere goes into a note." }
        h2 { "Postmortem" }
        p class="faint small" { @if over { "None was written here so far. The timeline and the record of the runs are what it is made of." } @else { "It is written when the incident is resolved, from the timeline and the record of the runs." } }
    }
}
