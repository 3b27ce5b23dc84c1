//! What goes through the gateway now: who calls which model, what holds calls back, and what it costs?

mod calls;

mod graph;

mod money;

mod health;

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::{Markup, html};
use paramedic_action::switch::Ended;
use paramedic_api::operations::alerts::Nothing;
use paramedic_api::operations::gateway::{DiagnosisQuery, breakers, budgets, diagnosis};
use paramedic_api::operations::people::responding;
use paramedic_api::operations::switches::holding;
use paramedic_api::{ApiError, Context};
use paramedic_gateway::Gateway;
use paramedic_gateway::budget::dollars;
use paramedic_gateway::traffic::{RunningState, Sum};
use paramedic_model::Timestamp;
use paramedic_model::switch::{Switch, find};
use serde::Deserialize;

use crate::format::{count, encode, many, money, short, tokens};
use crate::forms;
use crate::page::{Tab, said};
use crate::pages::switches::{anchor, until, value};
use crate::pages::{answer, done_of, query_of, reader};

/// Seconds that the figures at the top are of.
const NOW_S: u64 = 60;
/// Bytes of all that grows with the traffic; the rest of the page takes less than 9 kB. Calls get what the others leave.
const BYTES_MAX: usize = 50_000;
/// Switches that are named at the top; the switchboard has all.
const SET_MAX: usize = 5;
/// Where the gateway listens unless the settings say otherwise.
const USUAL_ADDRESS: &str = "127.0.0.1:8484";

/// Which calls, and whose spending.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TrafficQuery {
    /// A part of the name, as are the next two.
    user: Option<String>,
    agent: Option<String>,
    model: Option<String>,
    outcome: Option<calls::Ending>,
    by: Option<money::By>,
    /// Anything: why calls cost what they cost is looked for, which takes longer than the rest.
    why: Option<String>,
}

impl TrafficQuery {
    fn is_filtered(&self) -> bool {
        self.user.is_some() || self.agent.is_some() || self.model.is_some() || self.outcome.is_some()
    }

    /// The same page with other spenders.
    fn with(&self, by: &str) -> String {
        let mut path = format!("/traffic?by={by}");
        let outcome = self.outcome.map(|ending| ending.word().to_owned());
        for (key, value) in [("user", &self.user), ("agent", &self.agent), ("model", &self.model), ("outcome", &outcome)] {
            if let Some(value) = value {
                path.push_str(&format!("&{key}={}", encode(value)));
            }
        }
        path
    }
}

/// What all parts of the page are made from.
struct Seen<'a> {
    context: &'a Context,
    gateway: &'a Gateway,
    /// Switches that hold, and those that ended lately.
    active: Vec<Switch>,
    ended: Vec<Ended>,
    now: Timestamp,
}

pub(crate) async fn page(State(context): State<Arc<Context>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let result = show(&context, query.as_deref().unwrap_or("")).await;
    answer(&context, Tab::Traffic, forms::actor(&headers), result).await
}

async fn show(context: &Arc<Context>, query_text: &str) -> Result<(String, Markup), ApiError> {
    let query: TrafficQuery = query_of(query_text)?;
    let Some(gateway) = &context.gateway else { return Ok(("No gateway".to_owned(), no_gateway())) };
    let budgets = budgets(Arc::clone(context), reader(), Nothing {}).await?;
    let breakers = breakers(Arc::clone(context), reader(), Nothing {}).await?;
    let why = match &query.why {
        Some(_) => Some(diagnosis(Arc::clone(context), reader(), DiagnosisQuery::default()).await?),
        None => None,
    };
    let ended = responding(context).map(|parts| parts.switches.ended()).unwrap_or_default();
    let mut active = holding(context).unwrap_or_default();
    active.sort_by_key(|switch| std::cmp::Reverse(switch.set_at));
    let seen = Seen { context, gateway, active, ended, now: context.now() };
    let (sum, running) = (gateway.traffic().last(NOW_S, seen.now), gateway.traffic().running_count());
    let title = headline(&sum, running);
    let is_new = running == 0 && gateway.traffic().recent(|_| true, 1).is_empty();
    let top = html! {
        h1 { (title) }
        @if is_new { (no_calls(context, gateway)) } @else { (figures(&seen, &sum, running)) (graph::last_hour(&seen)) }
        (set_now(&seen.active, seen.now))
    };
    let money = html! { (money::budgets(&seen, &budgets)) (money::spenders(&seen, &query)) @if let Some(why) = &why { (money::why(why)) } };
    let health = html! { (health::breakers(&seen, breakers)) (health::provider(&seen)) (health::gates(&seen)) (health::latency(&seen)) };
    let left = BYTES_MAX.saturating_sub(top.0.len() + money.0.len() + health.0.len());
    let running = calls::running(&seen, &query, left / 3);
    let latest = calls::latest(&seen, &query, left.saturating_sub(running.0.len()));
    let body = html! {
        (said(done_of(query_text)))
        div id="traffic" data-live data-quiet data-every="2" { (top) }
        @if !is_new { p class="groups" { a href="#running" { "Running" } " " a href="#latest" { "Latest calls" } " " a href="#money" { "Money" } " " a href="#health" { "Breakers and limits" } " " a href="/switches" { "Switchboard" } } }
        (calls::filter(&query))
        div id="running" data-live data-quiet { (running) }
        div id="latest" data-live data-quiet { (latest) }
        div id="money" class="grid halves" data-live data-quiet { (money) }
        div id="health" class="grid halves" data-live data-quiet { (health) }
    };
    Ok((title, body))
}

fn headline(sum: &Sum, running: usize) -> String {
    let calls = format!("{} a minute", many(sum.calls, "call"));
    match (sum.refused, sum.failed) {
        _ if sum.calls == 0 && running == 0 => "No call at the moment".to_owned(),
        _ if sum.calls == 0 => format!("{} running", many(running as u64, "call")),
        (0, 0) => calls,
        (refused, 0) => format!("{calls}, {} refused", count(refused)),
        (0, failed) => format!("{calls}, {} failed", count(failed)),
        (refused, failed) => format!("{calls}, {} refused, {} failed", count(refused), count(failed)),
    }
}

fn figures(seen: &Seen<'_>, sum: &Sum, running: usize) -> Markup {
    let (_, waiting) = seen.gateway.traffic().running(|call| call.state == RunningState::Waiting, 0);
    html! {
        dl class="facts" {
            (figure("calls a minute", html! { (count(sum.calls)) }, false))
            (figure("refused", html! { (count(sum.refused)) }, sum.refused > 0))
            (figure("failed", html! { (count(sum.failed)) @if sum.limited > 0 { " " small { (count(sum.limited)) " by the provider's limits" } } }, sum.failed > 0))
            (figure("tokens a minute", html! { (tokens(sum.input_tokens.saturating_add(sum.output_tokens))) }, false))
            (figure("dollars an hour", html! { (money(dollars(sum.cost_pico) * 3_600.0 / as_f64(NOW_S))) }, false))
            (figure("running", html! { (count(running as u64)) }, false))
            (figure("of them waiting", html! { (count(waiting as u64)) }, false))
        }
    }
}

fn figure(name: &str, what: Markup, is_bad: bool) -> Markup {
    html! { div class=[is_bad.then_some("over")] { dt { (name) } dd { (what) } } }
}

#[expect(clippy::cast_precision_loss, reason = "numbers for people")]
const fn as_f64(number: u64) -> f64 {
    number as f64
}

/// What holds calls back on purpose, and the way to change it.
fn set_now(active: &[Switch], now: Timestamp) -> Markup {
    html! {
        @if active.is_empty() { p class="soft" { "No switch is set. " a href="/switches" { "Switchboard" } } }
        @else {
            ul class="chips" aria-label="Switches that are set" {
                @for switch in active.iter().take(SET_MAX) {
                    li { a href=(board_of(&switch.switch)) { b { (short(&switch.switch, 60)) } " " (value(switch)) " · " (short(&switch.scope.to_string(), 60)) " · " (until(switch, now)) } }
                }
                @if active.len() > SET_MAX { li { a href="/switches" { (active.len() - SET_MAX) " more" } } }
            }
        }
    }
}

/// Where a switch can be changed.
fn board_of(switch: &str) -> String {
    if find(switch).is_ok() { format!("/switches#{}", anchor(switch)) } else { "/switches".to_owned() }
}

fn no_gateway() -> Markup {
    html! {
        h1 { "No gateway" }
        p class="soft" { "Model calls that go through the gateway show up here, and every switch works on them the moment it is set. It is off in this instance." }
        h2 { "Switch it on, in the settings" }
        pre { "[listen]\ngateway = \"" (USUAL_ADDRESS) "\"" }
        p { "or for once: " code { "paramedic up --gateway " (USUAL_ADDRESS) } }
    }
}

fn no_calls(context: &Context, gateway: &Gateway) -> Markup {
    let address = context.about.gateway.as_deref().unwrap_or(USUAL_ADDRESS);
    html! {
        p class="soft" { "No call came yet. Point an agent at the gateway, in the shell that starts it; it works as before, and keeps its own key:" }
        pre { "export ANTHROPIC_BASE_URL=http://" (address) }
        p class="soft small wrap" { "Calls go on to " @for (i, (name, url)) in gateway.upstreams().iter().take(5).enumerate() { @if i > 0 { ", " } b { (short(name, 60)) } " " (short(url, 100)) } "." }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headline_says_what_is_wrong() {
        let sum = |calls, refused, failed| Sum { calls, refused, failed, ..Sum::default() };
        for (sum, running, said) in [
            (sum(0, 0, 0), 0, "No call at the moment"),
            (sum(0, 0, 0), 1, "1 call running"),
            (sum(1, 0, 0), 0, "1 call a minute"),
            (sum(1_200, 41, 0), 3, "1,200 calls a minute, 41 refused"),
            (sum(12, 0, 2), 3, "12 calls a minute, 2 failed"),
            (sum(12, 4, 2), 3, "12 calls a minute, 4 refused, 2 failed"),
        ] {
            assert_eq!(headline(&sum, running), said);
        }
    }

    #[test]
    fn a_filter_stays_when_other_spenders_are_looked_at() {
        let query = TrafficQuery { user: Some("a&b=".into()), outcome: Some(calls::Ending::Refused), ..TrafficQuery::default() };
        assert_eq!(query.with("key"), "/traffic?by=key&user=a%26b%3D&outcome=refused");
    }
}
