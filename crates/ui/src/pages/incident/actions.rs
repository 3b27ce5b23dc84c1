//! What may be changed about the incident itself.

use maud::{Markup, html};
use paramedic_model::{IncidentState, Severity};
use paramedic_respond::Incident;

/// `primary`: no step of a runbook is the next thing to do.
pub(super) fn actions(incident: &Incident, primary: bool) -> Markup {
    let to = |action: &str| format!("/incidents/{}/{action}", incident.id);
    let open = incident.state.is_open();
    html! {
        div class="actions" {
            @if incident.state == IncidentState::Merged {
                p class="soft" { "It was merged. Work on " @if let Some(into) = &incident.merged_into { a href=(format!("/incidents/{into}")) { (into) } } "." }
            }
            @if open {
                @let now = primary && incident.state == IncidentState::Mitigated;
                details id="do-resolve" open[now] { summary { "Resolve" } (reason_form(&to("resolve"), "Resolve", if now { "primary" } else { "" }, "What ended it")) }
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
                @if incident.state == IncidentState::Resolved { details id="do-close" { summary { "Close" } (reason_form(&to("close"), "Close", "", "What was learned")) } }
                details id="do-reopen" { summary { "Re-open" } (reason_form(&to("reopen"), "Re-open", "", "What still happens")) }
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
