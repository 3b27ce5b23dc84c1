//! How bad it is, since when, where it stands, who leads, and which clock runs out next.

use maud::{Markup, html};
use paramedic_api::operations::incidents::IncidentDetail;
use paramedic_model::{IncidentKind, Phase, Role, Severity, Timestamp};
use paramedic_respond::{Incident, Settings, Timer, time_boxes};

use super::why::from_rules_only;
use crate::format::{absolute, ago, clock, count, due, incident_state, many, percent, running, severity, short, span};
use crate::forms::who::asked;

/// Something that happens when nobody does anything.
struct Clock {
    what: String,
    at: Timestamp,
}

/// What runs out: acknowledgement, escalation, the severity, the time box of the phase. The most overdue first, else the next.
fn clocks(incident: &Incident, now: Timestamp, settings: &Settings) -> Vec<Clock> {
    if incident.kind == IncidentKind::Backfill || !incident.state.is_open() {
        return Vec::new();
    }
    let (round, mut all) = (&incident.round, Vec::new());
    let after = |seconds: u64| round.began_at.after(std::time::Duration::from_secs(seconds));
    if let Some(at) = incident.acknowledgement_due() {
        all.push(Clock { what: "Acknowledge".to_owned(), at });
    }
    let active = incident.state.is_active();
    if active && settings.secondary_after_s > 0 && incident.severity >= Severity::Sev2 && !round.fired.contains(&Timer::Secondary) {
        all.push(Clock { what: "Secondary is called".to_owned(), at: after(settings.secondary_after_s) });
    }
    if active
        && settings.sev1_after_s > 0
        && incident.severity == Severity::Sev2
        && !incident.severity_by_hand
        && !round.fired.contains(&Timer::Severity)
    {
        all.push(Clock { what: "Becomes SEV1".to_owned(), at: after(settings.sev1_after_s) });
    }
    let open = time_boxes(incident, now, settings).into_iter().filter(|one| one.ended_at.is_none() && one.phase != Phase::Postmortem);
    for one in open {
        all.push(Clock {
            what: format!("Time box: {}", one.phase.title().to_lowercase()),
            at: one.began_at.after(std::time::Duration::from_secs(one.limit_s)),
        });
    }
    all.sort_by_key(|clock| clock.at);
    all
}

pub(super) fn head(detail: &IncidentDetail, settings: &Settings, actor: &str, primary: bool, now: Timestamp) -> Markup {
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
            @if incident.kind != IncidentKind::Real { " · " b { (incident.kind.title()) } }
            @if firing > 0 { " · " (many(firing as u64, "alert")) " active now" }
            @if let Some(into) = &incident.merged_into { " · merged into " a href=(format!("/incidents/{into}")) { (into) } }
            (acknowledged(incident))
            @if let Some(by) = detail.acknowledge_by { " · " b { "acknowledge " (due(by, now)) } }
        }
        dl class="facts" {
            div { dt { "Since" } dd { (clock(incident.started_at, now)) " " small { "UTC, " (ago(incident.started_at, now)) } } }
            div { dt { @if incident.resolved_at.is_some() { "Lasted" } @else { "Lasting" } } dd { (lasting(incident, now)) } }
            div { dt { "Commander" } dd { (commander(incident)) } }
            @let running = clocks(incident, now, settings);
            @if let Some(next) = running.first() {
                div class=[(next.at < now).then_some("over")] { dt { (next.what) } dd { (due(next.at, now)) @if let Some(then) = running.get(1) { " " small { "then " (then.what.to_lowercase()) " " (due(then.at, now)) } } } }
            }
            // An alert of a rule about a machine has none, and a zero would say that nobody is hit.
            @let agents = incident.counts.agents.max(incident.agents.len()) as u64;
            @if agents > 0 || !from_rules_only(incident) && !incident.episodes.is_empty() {
                div { dt { "Hit" } dd { (many(agents, "agent")) " " small { @if incident.counts.sessions > 0 { (many(incident.counts.sessions as u64, "session")) } @if incident.counts.users > 0 { ", " (many(incident.counts.users as u64, "user")) } } } }
            }
            @if let Some(rate) = incident.counts.error_rate.filter(|rate| *rate > 0.0) { div { dt { "Model calls failed" } dd { (percent(rate)) " " small { (failures(incident)) } } } }
            @if incident.counts.flaps > 0 || incident.reopened > 0 { div { dt { "Came back" } dd { (many(incident.counts.flaps + u64::from(incident.reopened), "time")) } } }
        }
        @if incident.state.is_open() && incident.acknowledged_at.is_none() {
            form class="inline" method="post" action=(format!("/incidents/{}/acknowledge", incident.id)) {
                (asked(actor))
                button class=[primary.then_some("primary")] data-key="a" { "Acknowledge" }
                span class="faint" { "says that you are on it, and lead until somebody else does" }
            }
        }
    }
}

fn commander(incident: &Incident) -> Markup {
    match incident.holders(Role::Commander).first() {
        Some(name) => html! { (short(name, 40)) },
        None => html! { span class="warned" { "nobody" } },
    }
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
