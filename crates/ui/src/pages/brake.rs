//! Is anything stopped, by whom, and how does it go on?

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use paramedic_api::{ApiError, Context};
use paramedic_model::Timestamp;
use paramedic_runbook::brake::{BrakesView, Fleet, Note, Stopped};

use crate::format::{ago, clock, many, short};
use crate::forms;
use crate::forms::who::asked;
use crate::page::{Tab, said};
use crate::pages::{answer, done_of};
use paramedic_api::operations::people::responding;

pub(crate) async fn page(State(context): State<Arc<Context>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let actor = forms::actor(&headers);
    let result = show(&context, query.as_deref().unwrap_or(""), &actor).await;
    answer(&context, Tab::Runbooks, actor, result).await
}

async fn show(context: &Context, query: &str, actor: &str) -> Result<(String, Markup), ApiError> {
    let brakes = responding(context)?.runs.brakes().await;
    let (title, now) = (headline(&brakes), context.now());
    let body = html! {
        (said(done_of(query)))
        div id="state" data-live {
            h1 { (title) }
            dl class="facts" {
                div { dt { "Unattended changes in the last hour" } dd { (brakes.unattended_last_hour) " " small { "the brake trips at " (brakes.fleet_limit) } } }
                div { dt { "Locks held" } dd { (brakes.locks.len()) } }
            }
            @if let (Some(note), true) = (&brakes.stopped_note, brakes.stopped == Stopped::Nothing) { p class="soft wrap" { "Last changed " (noted(note, now)) } }
            @if !brakes.locks.is_empty() {
                table class="cards" { thead { tr { th { "Lock" } th { "Held by" } } } tbody {
                    @for (lock, run) in brakes.locks.iter().take(50) { tr { td { (short(lock, 120)) } td { a href=(format!("/runs/{run}")) { (run) } } } }
                } }
            }
        }
        h2 { "Stop" }
        p class="soft" { "It holds for every run and every policy, outlives a restart, and is lifted by a person only. The same from a terminal: " code { "paramedic brake on" } "." }
        (stop_form(actor))
    };
    Ok((title, body))
}

fn headline(brakes: &BrakesView) -> String {
    match (brakes.stopped, &brakes.fleet) {
        (Stopped::Everything, _) => "Everything is stopped".to_owned(),
        (Stopped::Writes, _) => "Changes are stopped".to_owned(),
        (Stopped::Nothing, Fleet::Tripped { .. }) => "Unattended changes are stopped".to_owned(),
        (Stopped::Nothing, Fleet::Free) => "Nothing is stopped".to_owned(),
    }
}

fn noted(note: &Note, now: Timestamp) -> Markup {
    html! { "by " b { (short(&note.by, 60)) } " " (ago(note.at, now)) @if !note.why.is_empty() { ": " (short(&note.why, 200)) } }
}

fn stop_form(actor: &str) -> Markup {
    html! {
        form class="stopping" method="post" action="/brake" {
            label { "Why (may be empty)" input name="why" maxlength="500"; }
            @if actor == "web" { label { "Your name (may be empty)" input name="who" maxlength="40" autocomplete="username"; } }
            button class="danger" name="what" value="writes" { "Stop changes" }
            button class="danger" name="what" value="everything" { "Stop everything" }
        }
    }
}

/// The switch in the head of every page: one click shows it, one more stops.
pub(crate) fn switch(actor: &str) -> Markup {
    html! { details class="stop" id="stop" { summary { "Stop" } div { p class="small soft" { "Holds for all runs until a person lifts it." } (stop_form(actor)) } } }
}

/// What is stopped, above every page, with the way to lift it.
pub(crate) fn banner(brakes: &BrakesView, actor: &str, now: Timestamp) -> Markup {
    let lift = |what: &str, word: &str| {
        html! {
            details id=(format!("lift-{what}")) { summary { (word) }
                form class="inline" method="post" action="/brake" {
                    (asked(actor))
                    label { "Why it may go on" input name="why" required maxlength="500"; }
                    button name="what" value=(what) { (word) }
                }
            }
        }
    };
    html! {
        @if brakes.stopped > Stopped::Nothing {
            div class="braked" role="status" { div {
                p { b { @if brakes.stopped == Stopped::Everything { "Everything is stopped" } @else { "Changes are stopped" } }
                    @if brakes.stopped_by_file { " by a stop file. It holds until the file is removed: " a href="/brake" { "the brake" } "." }
                    @else if let Some(note) = &brakes.stopped_note { " " (noted(note, now)) }
                }
                @if !brakes.stopped_by_file { (lift("nothing", "Lift it")) }
            } }
        }
        @if let Fleet::Tripped { attempts, at } = &brakes.fleet {
            div class="braked" role="status" { div {
                p { b { "The fleet's brake tripped " } "at " (clock(*at, now)) " UTC after " (many(u64::from(*attempts), "unattended change")) " in an hour. Nothing changes unattended until a person releases it; approvals still work." }
                (lift("release", "Release it"))
            } }
        }
    }
}
