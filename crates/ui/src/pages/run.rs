//! What did this run do, exactly, and who allowed it?

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use paramedic_api::operations::people::responding;
use paramedic_api::{ApiError, Context};
use paramedic_model::{Timestamp, text};
use paramedic_runbook::classify::Effect;
use paramedic_runbook::gate::Authority;
use paramedic_runbook::run::{Done, Entry, Record};
use serde::Deserialize;

use crate::format::{clock, encode, percent, short};
use crate::forms::{self, runs::refused};
use crate::page::{Tab, said, within};
use crate::pages::runbooks::ways;
use crate::pages::{answer, done_of, query_of};
use crate::steps::{Around, effect, exact, looked, outcome, output, whole};
use crate::work;

/// Bytes of the record on one page.
const RECORD_BYTES_MAX: usize = 20_000;
/// Bytes of steps when the page shows all of them, a page at a time.
const STEPS_BYTES_MAX: usize = 34_000;

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct RunQuery {
    /// The record from this entry on.
    after: usize,
    /// All steps in the order of the runbook, from this one on (1 is the first).
    all: usize,
}

pub(crate) async fn page(
    State(context): State<Arc<Context>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let actor = forms::actor(&headers);
    let result = show(&context, &id, query.as_deref().unwrap_or(""), &actor).await;
    answer(&context, Tab::Runbooks, actor, result).await
}

async fn show(context: &Context, id: &str, query_text: &str, actor: &str) -> Result<(String, Markup), ApiError> {
    let query: RunQuery = query_of(query_text)?;
    let runs = &responding(context)?.runs;
    let view = runs.view(id).await.map_err(refused)?;
    let entries = runs.entries(id).await.map_err(refused)?;
    let (line, now) = (&view.line, context.now());
    let here = format!("/runs/{}", line.id);
    let back = if query.all > 0 { format!("{here}?all={}", query.all) } else { here.clone() };
    let around = Around { view: &view, back: &back, actor, now, primary: true };
    let titles = work::titles(runs.shelf().get(&line.runbook).map(|shelved| &*shelved.runbook));
    let body = html! {
        (said(done_of(query_text)))
        (ways(context, ""))
        div id="head" data-live {
            div class="headline" { h1 { (short(&line.title, 160)) } span class="faint" { (line.id) } }
            p class="soft wrap" {
                (work::standing(line)) " · acts on " b { (short(&line.target, 120)) } " · " (work::mode(line.mode))
                @if let Some(incident) = &line.incident { " · for " a href=(format!("/incidents/{}", encode(incident))) { (short(incident, 20)) } }
            }
            @if !view.inputs.is_empty() { p class="small soft wrap" { "Given: " @for (i, (name, value)) in view.inputs.iter().take(20).enumerate() { @if i > 0 { ", " } code { (short(name, 40)) "=" (short(value, 80)) } } } }
        }
        @if query.all > 0 {
            (every(&around, query.all))
        } @else {
            @if !view.causes.is_empty() { div id="causes" data-live { h2 { "Why" } (work::causes(&view, &titles)) } }
            div id="work" data-live { h2 { "What to do" } (work::run(&around, &titles)) }
            div id="record" data-live { (record(&here, &entries, query.after, now)) }
        }
    };
    Ok((format!("{} {}", line.id, short(&line.title, 80)), body))
}

/// Every step in the order of the runbook.
fn every(around: &Around<'_>, from: usize) -> Markup {
    let steps = &around.view.steps;
    let rest = steps.iter().skip(from - 1);
    let (rows, shown) = within(STEPS_BYTES_MAX, rest, |step| {
        if step.effect == Effect::Read && step.by_hand.is_empty() { looked(around, step) } else { whole(around, step) }
    });
    let next = from - 1 + shown;
    html! {
        div id="work" data-live {
            h2 { "All " (steps.len()) " steps" }
            ol class="steps" { (rows) }
            p class="more" {
                a class="button" href=(format!("/runs/{}", around.view.line.id)) { "Back to what matters" }
                @if next < steps.len() { a class="button" href=(format!("/runs/{}?all={}", around.view.line.id, next + 1)) { "Further steps" } }
            }
        }
    }
}

fn record(here: &str, entries: &[Entry], after: usize, now: Timestamp) -> Markup {
    let (rows, shown) = within(RECORD_BYTES_MAX, entries.iter().enumerate().skip(after), |(number, entry)| row(number, entry, now));
    let end = after + shown;
    html! {
        h2 { "The record" }
        p class="faint small" { "Each line was in the journal before it took effect." }
        ol class="timeline record" { (rows) }
        p class="more" {
            span class="faint" { @if after + shown < entries.len() || after > 0 { (after + 1) " to " (end) " of " } (entries.len()) " records" }
            @if after > 0 { a class="button" href=(here) { "Back to the start" } }
            @if end < entries.len() { a class="button" href=(format!("{here}?after={end}#record")) { "Further records" } }
        }
    }
}

fn row(number: usize, entry: &Entry, now: Timestamp) -> Markup {
    html! { li { (clock(entry.at, now)) div { (told(number, &entry.record)) } } }
}

fn attempt(number: usize, done: &Done) -> Markup {
    html! {
        span class="small soft" { " " (outcome(done)) " · output " (done.output_bytes) " bytes, sha256 " code title=(done.output_hash) { (text::head(&done.output_hash, 12)) } }
        (output(done, &format!("r{number}"), 1_500))
    }
}

fn told(number: usize, record: &Record) -> Markup {
    let step = |name: &str| html! { b { (short(name, 60)) } };
    let why = |why: &str| html! { @if !why.is_empty() { span class="soft wrap" { ": " (short(why, 300)) } } };
    html! {
        @match record {
            Record::Started { runbook, by, target, document, .. } => { b { (short(&by.name, 60)) } " started " (short(runbook, 80)) " on " (short(target, 80)) span class="faint small" { " · document sha256 " (text::head(document, 12)) } }
            Record::Given { by, inputs } => { b { (short(&by.name, 60)) } " gave " (short(&inputs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", "), 300)) }
            Record::Observed { lines } => { "Seen elsewhere: " span class="soft wrap" { (short(&lines.join(" · "), 240)) } }
            Record::Ranked { causes } => { "Causes: " @for (i, cause) in causes.iter().filter(|cause| cause.score > 0.0).take(5).enumerate() { @if i > 0 { ", " } (short(&cause.cause, 60)) " " (percent(cause.score)) } @if causes.iter().all(|cause| cause.score <= 0.0) { "nothing speaks for one" } }
            Record::Agreed { agreed } => { b { (short(&agreed.by.name, 60)) } " agreed to " (step(&agreed.step)) span class="faint small" { " · " code title=(agreed.hash) { (text::head(&agreed.hash, 12)) } } }
            Record::Chosen { step: name, by } => { b { (short(&by.name, 60)) } " wants " (step(name)) " to run" }
            Record::LookAgain { why, .. } => { "Looks again: " (short(why, 200)) }
            Record::Again { step: name, by } => { b { (short(&by.name, 60)) } " wants " (step(name)) " once more" }
            Record::TakeBack { step: name, by, why: reason } => { b { (short(&by.name, 60)) } " takes " (step(name)) " back" (why(reason)) }
            Record::Held { step: name, decision } => { (step(name)) " is held back" (why(decision.reason())) }
            Record::Begun { step: name, attempt, effect: does, argv, authority, dry, takes_back, hash } => {
                (step(name)) " began" @if *attempt > 1 { ", attempt " (attempt) } @if *dry { ", only tried" } @if let Some(of) = takes_back { ", takes back " (short(of, 60)) } " " (effect(*does)) " " span class="soft small" { (allowed(authority)) } span class="faint small" { " · " code title=(hash) { (text::head(hash, 12)) } }
                // What only looked is looked at again and again.
                @if *attempt > 1 && *does == Effect::Read { details class="out" id=(format!("x{number}")) { summary { "Exactly" } (exact(argv, 1_500)) } } @else { (exact(argv, 1_500)) }
            }
            Record::Foreseen { step: name, what, .. } => { (step(name)) " will " (short(what, 300)) }
            Record::Done { step: name, dry, done } => { (step(name)) @if *dry { " was tried" } @else { " ended" } (attempt(number, done)) }
            Record::Skipped { step: name, why: reason } => { (step(name)) " is left out" (why(reason)) }
            Record::Interrupted { step: name, still_running } => { (step(name)) " began, and nobody knows how it ended" @if !still_running.is_empty() { "; of it still runs: " (short(&still_running.join(", "), 300)) } }
            Record::LeftOut { step: name, by, why: reason } => { b { (short(&by.name, 60)) } " left " (step(name)) " out" (why(reason)) }
            Record::Reverting { step: name, attempt, .. } => { "The time of " (step(name)) " is over: it is taken back, attempt " (attempt) }
            Record::Reverted { step: name, done } => { (step(name)) " was taken back" (attempt(number, done)) }
            Record::Verified { step: name, met, why: reason } => { (step(name)) @if *met { " is verified" } @else { " did not help" } (why(reason)) }
            Record::Ended { why: reason, .. } => { b { "The run ended" } (why(reason)) }
        }
    }
}

fn allowed(authority: &Authority) -> String {
    match authority {
        Authority::Reading => "it only looks".to_owned(),
        Authority::People { names } => format!("allowed by {}", short(&names.join(" and "), 120)),
        Authority::Policy { name } => format!("allowed by the policy {}", short(name, 60)),
        Authority::Rollback { of } => format!("the way back of {}", short(of, 60)),
        Authority::Test => "a rehearsal".to_owned(),
    }
}
