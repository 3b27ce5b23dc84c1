//! What does this runbook say, what would it do, and how did it go the last times?

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use paramedic_api::operations::people::responding;
use paramedic_api::{ApiError, Context};
use paramedic_model::text;
use paramedic_runbook::Runbook;
use paramedic_runbook::lint::{Finding, Weight};
use paramedic_runbook::plan::{Plan, PlannedStep};
use paramedic_runbook::shelf::{Origin, Shelved};

use crate::format::{ago, many, short};
use crate::forms::{self, runs::refused, who::asked};
use crate::markdown::{Excerpt, render};
use crate::page::{Tab, within};
use crate::pages::answer;
use crate::pages::runbooks::ways;
use crate::steps::{effect, exact};
use crate::work::{encode_id, standing};

const FINDINGS_BYTES_MAX: usize = 5_000;
const PLAN_BYTES_MAX: usize = 30_000;
const RUNS_MAX: usize = 8;

pub(crate) async fn page(
    State(context): State<Arc<Context>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let actor = forms::actor(&headers);
    let result = show(&context, &id, query.as_deref().unwrap_or(""), &actor);
    answer(&context, Tab::Runbooks, actor, result).await
}

fn show(context: &Context, id: &str, query: &str, actor: &str) -> Result<(String, Markup), ApiError> {
    let runs = &responding(context)?.runs;
    let shelved = runs.shelved(id).map_err(refused)?;
    let uri = axum::http::Uri::try_from(format!("/?{query}"))
        .map_err(|_| ApiError::bad_key("address", "what follows the question mark is not a valid query"))?;
    let given = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri).map(|query| query.0).unwrap_or_default();
    let of = |name: &str| given.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let inputs: BTreeMap<String, String> = given
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix("input.")?.to_owned(), value.clone())))
        .filter(|(_, value)| !value.is_empty())
        .collect();
    let planned = of("plan") == "1";
    let body = html! {
        (ways(context, ""))
        (head(&shelved))
        (start(&shelved.runbook, &inputs, of("incident"), actor))
        @if planned { (plan(&runs.plan(id, inputs).map_err(refused)?)) } @else {
            (last(context, id)?)
            (findings(&shelved.findings))
            (document(context, &shelved)?)
        }
    };
    Ok((short(&shelved.runbook.title, 120), body))
}

fn head(shelved: &Shelved) -> Markup {
    let line = shelved.line();
    html! {
        div class="headline" { h1 { (short(&line.title, 200)) } @if let Some(severity) = &line.severity { span class="sev note" { (short(severity, 20)) } } }
        p class="soft wrap" {
            (many(line.steps as u64, "step")) ", " (line.writes) " of them change something · " (many(line.causes as u64, "cause"))
            @if !line.alerts.is_empty() { " · answers to " @for (i, alert) in line.alerts.iter().take(8).enumerate() { @if i > 0 { ", " } code { (short(alert, 80)) } } }
        }
        p class="faint small wrap" {
            @if line.origin == Origin::Library { "Comes with Paramedic; a file of yours with the id " code { (short(&line.id, 80)) } " stands in for it." }
            @else { code { (short(&line.file, 200)) } " · sha256 " (text::head(&line.document, 12)) }
        }
    }
}

/// Inputs, and the two things to do with them: see what would run, or run it.
fn start(runbook: &Runbook, given: &BTreeMap<String, String>, incident: &str, actor: &str) -> Markup {
    html! {
        details class="part" id="start" open[!given.is_empty() || !incident.is_empty()] { summary { b { "Plan or run it" } }
            form class="inline" method="post" action="/runs" {
                input type="hidden" name="runbook" value=(runbook.id);
                @for (name, input) in runbook.inputs.iter().take(30) {
                    @let kind = input.kind.as_deref().unwrap_or("string");
                    label { (short(name, 60)) @if input.required { " (needed)" }
                        input name=(format!("input.{name}")) value=(if kind == "secret" { "" } else { given.get(name).map_or("", String::as_str) }) type=(if kind == "secret" { "password" } else { "text" })
                            placeholder=(short(input.default.as_deref().unwrap_or(""), 80)) title=[input.pattern.as_deref().map(|pattern| format!("must match {}", short(pattern, 120)))] autocomplete="off"; }
                }
                label { "For the incident (may be empty)" input name="incident" value=(short(incident, 20)) placeholder="INC-1"; }
                (asked(actor))
                button formmethod="get" formaction=(format!("/runbooks/{}", encode_id(&runbook.id))) name="plan" value="1" formnovalidate { "Show what would run" }
                button { "Run its reading steps" }
                button name="mode" value="dry" { "Dry run" }
            }
            p class="faint small" { "What changes something waits for an approval of its own." }
        }
    }
}

fn plan(plan: &Plan) -> Markup {
    let (steps, shown) = within(PLAN_BYTES_MAX, &plan.steps, planned);
    html! {
        h2 { "What would run" }
        @if !plan.missing.is_empty() { p class="warned" { "Not given: " (short(&plan.missing.join(", "), 300)) } }
        @for fault in plan.faults.iter().take(10) { p class="warned wrap" { "The value of " (short(&fault.name, 60)) " " (short(&fault.why, 200)) "." } }
        @for problem in plan.problems.iter().take(10) { p class="warned wrap" { (short(problem, 200)) } }
        ol class="steps" { (steps) }
        @if shown < plan.steps.len() { p class="faint" { (shown) " of " (plan.steps.len()) " steps shown; all: " code { "paramedic runbook plan " (short(&plan.runbook, 60)) } } }
    }
}

fn planned(step: &PlannedStep) -> Markup {
    html! {
        li class="step" {
            p class="stephead" { b { (short(&step.title, 140)) } (effect(step.effect)) span class="faint small" { (short(&step.name, 40)) } }
            (exact(&step.argv(&[]), 2_000))
            @if !step.blocked.is_empty() { p class="small warned wrap" { (short(&step.blocked.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "), 300)) } }
            @if !step.by_hand.is_empty() { p class="small soft" { (short(&step.by_hand, 200)) } }
        }
    }
}

fn last(context: &Context, id: &str) -> Result<Markup, ApiError> {
    let lines = responding(context)?.runs.lines(|line| line.runbook == id);
    let now = context.now();
    Ok(html! {
        @if !lines.is_empty() {
            h2 { "Its runs" }
            ul class="rows" { @for line in lines.iter().take(RUNS_MAX) {
                li { (standing(line)) " " a href=(format!("/runs/{}", line.id)) { (line.id) } " " span class="soft small" { (ago(line.started_at, now)) " by " (short(&line.by, 60)) @if let Some(incident) = &line.incident { " for " a href=(format!("/incidents/{incident}")) { (short(incident, 20)) } } @if !line.why.is_empty() { ": " (short(&line.why, 160)) } } }
            } }
            @if lines.len() > RUNS_MAX { p class="small" { a href=(format!("/runs?runbook={}", crate::format::encode(id))) { "All " (lines.len()) " runs" } } }
        }
    })
}

fn findings(all: &[Finding]) -> Markup {
    let mut worst: Vec<&Finding> = all.iter().collect();
    worst.sort_by_key(|finding| (std::cmp::Reverse(finding.weight), finding.line));
    let (rows, shown) = within(FINDINGS_BYTES_MAX, &worst, |finding| {
        html! {
            li class="small" {
                @match finding.weight { Weight::Error => { b class="r-err" { "✕ error" } } Weight::Warning => { b class="warned" { "! warning" } } Weight::Note => { span class="faint" { "note" } } }
                " line " (finding.line) ": " span class="wrap" { (short(&finding.why, 240)) }
                @if !finding.text.is_empty() { " " code class="wrap" { (short(&finding.text, 120)) } }
                @if !finding.instead.is_empty() { div class="soft wrap" { "Safer: " code { (short(&finding.instead, 200)) } } }
            }
        }
    });
    html! {
        @if !all.is_empty() {
            @let errors = all.iter().filter(|finding| finding.weight == Weight::Error).count();
            details class="part" id="lint" open[errors > 0] { summary { b { "What the linter says about the file" } " " (super::runbooks::lint(errors, all.len() - errors)) }
                ul class="rows" { (rows) }
                @if shown < all.len() { p class="faint small" { "And " (all.len() - shown) " more: " code { "paramedic runbook lint FILE" } } }
            }
        }
    }
}

fn document(context: &Context, shelved: &Shelved) -> Result<Markup, ApiError> {
    let shelf = responding(context)?.runs.shelf();
    let line = shelved.runbook.line;
    // Other runbooks of the same file.
    let twins = || shelf.all().filter(|one| one.document == shelved.document && one.file == shelved.file);
    let until = twins().map(|one| one.runbook.line).filter(|other| *other > line).min();
    let (rendered, whole) = render(&Excerpt { text: &shelved.text, runbook: &shelved.runbook, until });
    let others: Vec<&Shelved> = twins().filter(|one| one.runbook.id != shelved.runbook.id).collect();
    Ok(html! {
        article class="prose" { (rendered) }
        @if !whole { p class="faint" { "The rest is in the file: " code { (short(&shelved.file, 200)) } } }
        @if !others.is_empty() { h2 { "In the same file" } ul class="names" { @for one in others.iter().take(30) { li { a href=(format!("/runbooks/{}", encode_id(&one.runbook.id))) { (short(&one.runbook.title, 100)) } } } } }
    })
}
