//! What can be done to the things around us, and how is it taken back?

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use paramedic_action::Spec;
use paramedic_api::{ApiError, Context};

use crate::format::{many, short};
use crate::forms;
use crate::page::{Tab, within};
use crate::pages::answer;
use crate::pages::runbooks::ways;
use paramedic_api::operations::people::responding;

const BYTES_MAX: usize = 44_000;

pub(crate) async fn page(State(context): State<Arc<Context>>, headers: HeaderMap) -> Response {
    let result = show(&context);
    answer(&context, Tab::Runbooks, forms::actor(&headers), result).await
}

fn show(context: &Context) -> Result<(String, Markup), ApiError> {
    let actions = &responding(context)?.actions;
    let mut groups: BTreeMap<&str, Vec<&Spec>> = BTreeMap::new();
    for spec in actions.specs() {
        groups.entry(spec.name.split('.').next().unwrap_or(spec.name)).or_default().push(spec);
    }
    let total = actions.specs().count();
    let (parts, _) = within(BYTES_MAX, &groups, |(group, specs)| {
        html! {
            h2 { (short(group, 60)) }
            ul class="rows" { @for spec in specs {
                li data-row=(spec.name) { (does(spec)) " " a href=(format!("/actions/{}", spec.name)) data-open { (spec.name) } " " span class="soft" { (crate::steps::capital(&short(spec.summary, 160))) } }
            } }
        }
    });
    let title = many(total as u64, "action");
    let body = html! {
        (ways(context, "/actions"))
        h1 { (title) }
        p class="soft" { "Each is planned first: what, how many, how it is taken back. It runs when somebody agreed to exactly that." }
        @if total == 0 { p class="empty" { "No action is set up: see " code { "[action]" } " in the settings." } }
        (parts)
    };
    Ok((title, body))
}

/// How much an action does, as a word.
pub(crate) fn does(spec: &Spec) -> Markup {
    use paramedic_runbook::classify::Effect;
    crate::steps::effect(match spec.effect {
        paramedic_action::Effect::Read => Effect::Read,
        paramedic_action::Effect::Write => Effect::Write,
        paramedic_action::Effect::Destroy => Effect::Destroy,
    })
}
