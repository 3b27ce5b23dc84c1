//! What holds calls back: breakers, the provider's limits, our own, and how long models take.

use maud::{Markup, html};
use paramedic_api::operations::gateway::Breakers;
use paramedic_fleet::State as AgentState;
use paramedic_gateway::answer::{BucketName, LimitView, WindowView};
use paramedic_gateway::breaker::{BreakerView, State};
use paramedic_gateway::limit::GateView;
use std::time::Duration;

use super::money::{capital, gauge};
use super::{Seen, board_of};
use crate::format::{ago, count, due, many, percent, short, span, tokens, took};
use crate::page::{row_key, within};
use crate::pages::agents::state_shape;

const BREAKERS_MAX: usize = 12;
const BREAKERS_BYTES_MAX: usize = 8_000;
const KEYS_MAX: usize = 6;
const BUCKETS_MAX: usize = 4;
const PROVIDER_BYTES_MAX: usize = 5_000;
const GATES_MAX: usize = 8;
const GATES_BYTES_MAX: usize = 3_000;
const MODELS_MAX: usize = 6;

pub(super) fn breakers(seen: &Seen<'_>, known: Breakers) -> Markup {
    let (mut all, acting) = (known.breakers, known.acting);
    // What does not let everything through comes first.
    all.sort_by_key(|breaker| (breaker.state == State::Closed, breaker.forced_by.is_none(), breaker.failures_in_a_row == 0));
    let (rows, shown) = within(BREAKERS_BYTES_MAX, all.iter().take(BREAKERS_MAX), |one| breaker(seen, one));
    let odd = all.iter().filter(|breaker| breaker.state != State::Closed).count();
    html! {
        section {
            h2 { "Circuit breakers" @if odd > 0 { ": " b class="warned" { (odd) " not closed" } } }
            @if all.is_empty() { p class="soft" { "No call has come to one yet." } }
            @else { ul class="rows" { (rows) } }
            @if shown < all.len() { p class="faint" { (all.len() - shown) " more: " code { "paramedic breaker list" } } }
            @if !acting { p class="small soft" { "They only watch: one that opens by itself refuses nothing until " a href="/switches#circuit_breaker" { "circuit_breaker" } " is on." } }
            @if all.len() > 1 { (reset(None)) }
        }
    }
}

fn breaker(seen: &Seen<'_>, one: &BreakerView) -> Markup {
    let (class, shape, word) = match one.state {
        State::Closed => ("s-working", AgentState::Working, "closed"),
        State::Open => ("s-failed", AgentState::Failed, "open"),
        State::HalfOpen => ("s-waiting", AgentState::Waiting, "half open"),
    };
    html! {
        li data-row=(row_key(&one.name)) {
            div class="pair" {
                span class="wrap" { span class=(format!("state {class}")) { (state_shape(shape)) (word) } " " b { (short(&one.name, 80)) } }
                span class="small soft" { (ago(one.since, seen.now)) }
            }
            @if one.failures > 0 || one.forced_by.is_some() { p class="small soft" {
                @if let Some(by) = &one.forced_by { "held by " (short(by, 80)) ". " }
                @if one.failures > 0 { (many(one.failures, "failure")) ", " (one.failures_in_a_row) " in a row" @if one.trips > 0 { ", opened " (many(one.trips, "time")) } }
                @if let Some(at) = one.next_probe { ", tries again " (due(at, seen.now)) }
            } }
            (hold(one))
        }
    }
}

/// Holding it and letting it go are switches.
fn hold(one: &BreakerView) -> Markup {
    html! {
        details class="small" id=(format!("hold{}", row_key(&one.name))) {
            summary { "Hold, reset" }
            form class="inline" method="post" action="/switches" {
                input type="hidden" name="switch" value="breaker:";
                input type="hidden" name="of" value=(one.name);
                input type="hidden" name="back" value="/traffic";
                label { "For how long" input name="for" value="30m" size="6" required; }
                label { "Why" input name="why" required maxlength="500"; }
                button class="danger" name="value" value="open" { "Hold open: refuse" }
                button name="value" value="closed" { "Hold closed: let through" }
            }
            (reset(Some(one)))
        }
    }
}

/// Closes it, forgets what it has seen, and clears the switches that hold it; or all of them.
fn reset(one: Option<&BreakerView>) -> Markup {
    html! {
        form class="inline" method="post" action="/switches" {
            input type="hidden" name="do" value="reset";
            input type="hidden" name="switch" value="breaker:";
            @if let Some(one) = one { input type="hidden" name="of" value=(one.name); }
            input type="hidden" name="back" value="/traffic";
            button { @match one { None => "Reset all: they decide by themselves", Some(BreakerView { forced_by: Some(_), .. }) => "Reset: let go, and it decides by itself", Some(_) => "Reset: close, and forget its failures" } }
        }
    }
}

pub(super) fn provider(seen: &Seen<'_>) -> Markup {
    let all = seen.gateway.limits().views(seen.now);
    let told: Vec<&LimitView> =
        all.iter().filter(|view| !view.buckets.is_empty() || !view.windows.is_empty() || view.wait_s.is_some()).collect();
    let (rows, shown) = within(PROVIDER_BYTES_MAX, told.iter().take(KEYS_MAX), |view| of_key(seen, view));
    html! {
        section {
            h2 { "The provider's limits" }
            @if told.is_empty() { p class="soft" { "No answer has told of limits yet." } }
            @else { ul class="rows" { (rows) } }
            @if shown < told.len() { p class="faint" { (told.len() - shown) " more: " code { "paramedic ratelimit" } } }
        }
    }
}

fn of_key(seen: &Seen<'_>, view: &LimitView) -> Markup {
    let mut buckets: Vec<_> = view.buckets.iter().collect();
    buckets.sort_by(|a, b| b.used_share.unwrap_or(0.0).total_cmp(&a.used_share.unwrap_or(0.0)));
    html! {
        li data-row=(row_key(&format!("{} {}", view.key, view.model_class))) {
            div class="pair" {
                span class="wrap" { b { (short(&view.model_class, 60)) } " " span class="soft" { "key " (short(&view.key, 24)) } }
                span class="small soft" { (many(view.calls_last_minute, "call")) " in the last minute" }
            }
            @if let Some(wait) = view.wait_s { p class="r-err" { "asked to wait " (seconds(wait)) } }
            @if let (Some(left), Some(first)) = (view.exhausted_in_s, view.exhausted_first) { p class="warned" { (words(first)) " are used up in " (seconds(left)) " at this rate" } }
            @for bucket in buckets.iter().take(BUCKETS_MAX) {
                @if let (Some(limit), Some(remaining)) = (bucket.limit, bucket.remaining) {
                    p class="small" { (words(bucket.name)) ": " (tokens(remaining)) " of " (tokens(limit)) " left" @if let Some(reset) = bucket.seconds_to_reset.filter(|reset| *reset > 0) { span class="soft" { ", all of it in " (seconds(reset)) } } }
                    (gauge(bucket.used_share.unwrap_or(0.0), 0.0, 1.0))
                }
            }
            @for window in view.windows.iter().take(BUCKETS_MAX) { (of_window(window)) }
            @if let Some(at) = view.told_at { p class="small faint" { "told " (ago(at, seen.now)) } }
        }
    }
}

fn of_window(window: &WindowView) -> Markup {
    html! {
        p class="small" {
            "subscription, " (short(&window.name, 24)) ": " @if let Some(share) = window.used_share { (percent(share)) " used" }
            @if let Some(status) = &window.status { " (" (short(status, 30)) ")" }
            @if let Some(reset) = window.seconds_to_reset { span class="soft" { ", resets in " (seconds(reset)) } }
        }
        @if let Some(share) = window.used_share { (gauge(share, 0.0, 1.0)) }
    }
}

fn seconds(seconds: u64) -> String {
    span(Duration::from_secs(seconds))
}

fn words(name: BucketName) -> String {
    capital(&name.as_str().replace('-', " "))
}

/// Our own limits, where calls wait or did.
pub(super) fn gates(seen: &Seen<'_>) -> Markup {
    let all = together(seen.gateway.limiter().view());
    let (rows, _) = within(GATES_BYTES_MAX, all.iter().take(GATES_MAX), gate);
    html! {
        @if !all.is_empty() {
            section {
                h2 { "Our own limits" }
                ul class="rows" { (rows) }
                @if all.len() > GATES_MAX { p class="faint" { (all.len() - GATES_MAX) " more hold less." } }
            }
        }
    }
}

/// Those of one switch, which each of its callers has for itself, as one; the ones that nobody came to left out.
fn together(gates: Vec<GateView>) -> Vec<(GateView, usize)> {
    let mut all: Vec<(GateView, usize)> = Vec::new();
    for gate in gates.into_iter().filter(|gate| gate.waiting + gate.held + gate.admitted > 0) {
        match all.iter_mut().find(|(one, _)| one.id == gate.id && one.what == gate.what) {
            Some((one, callers)) => {
                one.waiting += gate.waiting;
                one.held += gate.held;
                one.admitted += gate.admitted;
                *callers += 1;
            }
            None => all.push((gate, 1)),
        }
    }
    all
}

fn gate((one, callers): &(GateView, usize)) -> Markup {
    let name = one.id.rsplit_once('@').map_or(one.id.as_str(), |(name, _)| name);
    html! {
        li {
            div class="pair" {
                span class="wrap" { a href=(board_of(name)) { (short(&one.id, 80)) } " " span class="soft" { (one.what) @if let Some(set) = one.count { " " (count(set)) } @if *callers > 1 { " for each of " (callers) } } }
                span class="nowrap" { @if one.waiting > 0 { b { (many(one.waiting, "call")) " waiting" } } @else { span class="soft" { "nobody waits" } } }
            }
            p class="small soft" { (count(one.admitted)) " let through, " (count(one.held)) " held" }
        }
    }
}

pub(super) fn latency(seen: &Seen<'_>) -> Markup {
    let all = seen.gateway.traffic().latency();
    let ms = |ms: u64| took(Duration::from_millis(ms));
    html! {
        @if !all.is_empty() {
            section {
                h2 { "How long models take" }
                table class="cards" {
                    thead { tr { th { "Model" } th class="num" { "Calls" } th class="num" { "First byte, half / 95 %" } th class="num" { "Whole, half / 95 %" } } }
                    tbody { @for one in all.iter().take(MODELS_MAX) { tr {
                        td class="wrap" { (short(&one.model, 60)) }
                        td data-th="calls" class="num" { (count(one.calls)) }
                        td data-th="first byte" class="num" { (ms(one.first_byte_p50_ms)) " / " (ms(one.first_byte_p95_ms)) }
                        td data-th="whole" class="num" { (ms(one.duration_p50_ms)) " / " (ms(one.duration_p95_ms)) }
                    } } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_one_switch_are_one_line() {
        let gate = |id: &str, waiting, admitted| GateView {
            id: id.to_owned(),
            what: "requests".to_owned(),
            count: Some(10),
            level: None,
            waiting,
            admitted,
            held: 1,
        };
        let all = together(vec![gate("rate_limit_per_user@all", 2, 5), gate("x@all", 0, 1), gate("rate_limit_per_user@all", 1, 7)]);
        assert_eq!(
            all.iter().map(|(one, callers)| (&*one.id, one.waiting, one.admitted, *callers)).collect::<Vec<_>>(),
            [("rate_limit_per_user@all", 3, 12, 2), ("x@all", 0, 1, 1)]
        );
        let idle = GateView { held: 0, ..gate("y@all", 0, 0) };
        assert!(together(vec![idle]).is_empty());
    }
}
