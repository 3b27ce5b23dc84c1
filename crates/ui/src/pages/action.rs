//! What would this action do with these arguments?

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use paramedic_action::{ActionError, Call, Done, Kind, Plan, Spec};
use paramedic_api::error::Code;
use paramedic_api::{ApiError, Context};
use paramedic_model::{secret, text};

use crate::format::{many, short, span};
use crate::forms::{self, who::asked};
use crate::page::{Tab, within};
use crate::pages::actions::does;
use crate::pages::answer;
use crate::pages::runbooks::ways;
use paramedic_api::operations::people::responding;

const OBJECTS_BYTES_MAX: usize = 12_000;
const EXACT_BYTES_MAX: usize = 12_000;

pub(crate) async fn page(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let actor = forms::actor(&headers);
    let incident = query.as_deref().unwrap_or("").split('&').find_map(|pair| pair.strip_prefix("incident=")).unwrap_or("").to_owned();
    let result = form(&context, &name, &Call::new(&name), &incident).map(|body| (short(&name, 80), body));
    answer(&context, Tab::Runbooks, actor, result).await
}

fn spec_of(context: &Context, name: &str) -> Result<&'static Spec, ApiError> {
    let none = |_: ActionError| ApiError::new(Code::NotFound, format!("there is no action {:?}", text::head(name, 80)), "");
    responding(context)?.actions.find(name).map(|(spec, _)| spec).map_err(none)
}

fn form(context: &Context, name: &str, call: &Call, incident: &str) -> Result<Markup, ApiError> {
    let spec = spec_of(context, name)?;
    let given = |name: &str| call.arguments.get(name).and_then(|value| value.as_str()).unwrap_or("").to_owned();
    Ok(html! {
        (ways(context, ""))
        div class="headline" { h1 { (spec.name) } (does(spec)) }
        p class="wrap" { (crate::steps::capital(&short(spec.summary, 400))) }
        p class="soft wrap" { "Way back: " (short(spec.undo, 300)) }
        form class="arguments" method="post" action=(format!("/actions/{}/plan", spec.name)) {
            @for argument in spec.arguments {
                label { b { (argument.name) } @if argument.required { " (needed)" } " " span class="faint" { (short(argument.what, 200)) }
                    @if argument.kind == Kind::Json { textarea name=(format!("arg.{}", argument.name)) required[argument.required] { (given(argument.name)) } }
                    @else { input name=(format!("arg.{}", argument.name)) value=(given(argument.name)) required[argument.required] autocomplete="off" placeholder=[match argument.kind { Kind::Duration => Some("10m"), Kind::Count => Some("1"), Kind::Flag => Some("true"), _ => None }]; }
                }
            }
            label { b { "For the incident" } " " span class="faint" { "may be empty" } input name="incident" value=(short(incident, 20)) placeholder="INC-1"; }
            p { button class=[call.arguments.is_empty().then_some("primary")] { "Plan it" } " " span class="faint" { "looks, and changes nothing" } }
        }
    })
}

/// The answer to "Plan it".
pub(crate) async fn planned(context: &Context, actor: String, call: &Call, incident: &str) -> Response {
    let result = plan(context, call, incident, &actor).await.map(|body| (format!("Plan of {}", short(&call.action, 80)), body));
    answer_here(context, actor, result).await
}

/// What an action that only looks has found.
pub(crate) async fn found(context: &Context, actor: String, plan: &Plan, done: Option<&Done>) -> Response {
    let body = html! {
        (ways(context, ""))
        h1 { (crate::steps::capital(&short(&plan.what, 200))) }
        @if let Some(done) = done {
            p class="wrap" { (crate::steps::capital(&short(&done.what, 400))) }
            pre { (text::capped(&secret::mask(&serde_json::to_string_pretty(&done.answer).unwrap_or_default()), EXACT_BYTES_MAX)) }
            p class="small soft wrap" { (short(&done.verified.how, 300)) }
        }
        p { a class="button" href=(format!("/actions/{}", plan.action)) { "Look again" } }
    };
    answer_here(context, actor, Ok((short(&plan.action, 80), body))).await
}

async fn answer_here(context: &Context, actor: String, result: Result<(String, Markup), ApiError>) -> Response {
    match result {
        Ok((title, body)) => {
            crate::page::Page::new(context, Tab::Runbooks, title, body).await.by(actor).into_response(axum::http::StatusCode::OK)
        }
        Err(error) => crate::page::refusal(context, &error).await,
    }
}

async fn plan(context: &Context, call: &Call, incident: &str, actor: &str) -> Result<Markup, ApiError> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let form = form(context, &call.action, call, incident)?;
    let actions = &responding(context)?.actions;
    let planned = tokio::time::timeout(PATIENCE, actions.plan(call)).await;
    Ok(html! {
        (form)
        h2 { "The plan" }
        @match planned {
            Err(_) => p class="said bad" { "No answer within " (span(PATIENCE)) ". Nothing was changed." },
            Ok(Err(error)) => p class="said bad wrap" { "Failed to " (short(&secret::mask(&error.to_string()), 600)) },
            Ok(Ok(plan)) => { (shown(&plan)) (start(call, &plan, incident, actor)) }
        }
    })
}

fn shown(plan: &Plan) -> Markup {
    let (objects, named) = within(OBJECTS_BYTES_MAX, &plan.objects, |object| {
        html! {
            tr { td { (short(&object.kind, 40)) } td class="wrap" { (short(&object.name, 200)) } td class="wrap soft" { (short(&object.detail, 240)) } }
        }
    });
    let (exact, _) = within(EXACT_BYTES_MAX, &plan.exact, |one| html! { (text::capped(&secret::mask(one), 2_000)) "\n" });
    html! {
        p class="wrap" { b { (crate::steps::capital(&short(&plan.what, 400))) } }
        dl class="facts" {
            div { dt { "Touches" } dd { (many(plan.affected, "object")) @if let Some(of) = plan.of { " " small { "of " (of) } } } }
            @if let Some(seconds) = plan.reverts_after_s { div { dt { "Taken back by itself" } dd { "after " (span(Duration::from_secs(seconds))) } } }
        }
        @for warning in plan.warnings.iter().take(20) { p class="said bad wrap" { (short(warning, 300)) } }
        @if !plan.objects.is_empty() { div class="scroll" { table class="cards" { thead { tr { th { "Kind" } th { "Name" } th { "" } } } tbody { (objects) } } }
            @if (named as u64) < plan.affected { p class="faint small" { (named) " of " (plan.affected) " are named" } } }
        @if !plan.exact.is_empty() { p class="small soft" { "Exactly:" } pre class="exact" { (exact) } }
        p class="small wrap" { "Way back: " @match &plan.inverse { Some(inverse) => code { (short(&secret::mask(&format!("{} {}", inverse.action, serde_json::Value::Object(inverse.arguments.clone()))), 400)) }, None => b { "none" } } }
    }
}

fn start(call: &Call, plan: &Plan, incident: &str, actor: &str) -> Markup {
    html! {
        form class="inline answer" method="post" action=(format!("/actions/{}/start", call.action)) {
            @for (name, value) in &call.arguments { input type="hidden" name=(format!("arg.{name}")) value=(value.as_str().unwrap_or("")); }
            input type="hidden" name="affected" value=(plan.affected);
            input type="hidden" name="incident" value=(short(incident, 20));
            label { "Why" input name="why" maxlength="500"; }
            (asked(actor))
            button class="primary" { "Start it" }
        }
        p class="faint small" { "It is planned anew, may touch no more than this, and waits for an approval if it changes something." }
    }
}
