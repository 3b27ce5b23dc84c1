//! The switchboard: every switch in its group, with what it is set to for whom, what that did, and the form that sets it.

use std::collections::HashMap;
use std::time::Duration;

use maud::{Markup, html};
use paramedic_action::switch::is_by_flag;
use paramedic_gateway::Gateway;
use paramedic_gateway::traffic::Sum;
use paramedic_model::Timestamp;
use paramedic_model::switch::{FLAG_NAMES, KNOWN, Known, Switch, ValueKind};

use super::{until, value};
use crate::format::{ago, count, many, short, tokens, took};
use crate::page::{row_key, within};

/// Settings of all switches together; who has more of them looks with the command line.
const SETTINGS_BYTES_MAX: usize = 8_000;

/// The groups, in the order of an incident: first what stops, last what shapes.
const GROUPS: &[(&str, &[&str])] = &[
    ("Stop", &["blocked", "blocked_key:", "blocked_user:", "blocked_agent:", "blocked_session:", "blocked_model:", "break_off"]),
    (
        "Rates",
        &[
            "rate_limiting",
            "rate_limit_per_minute",
            "rate_limit_per_user",
            "rate_limit_per_agent",
            "tokens_per_minute",
            "input_tokens_per_minute",
            "output_tokens_per_minute",
            "max_concurrent_requests",
            "max_concurrent_agents",
            "queue_wait_s",
            "provider_pacing",
            "adaptive_concurrency",
        ],
    ),
    (
        "Time limits and retries",
        &[
            "connect_timeout_s",
            "first_byte_timeout_s",
            "between_tokens_timeout_s",
            "request_timeout_s",
            "fast_fail",
            "retry_attempts",
            "circuit_breaker",
            "breaker:",
        ],
    ),
    ("Budgets", &["daily_budget_dollars", "weekly_budget_dollars", "monthly_budget_dollars", "enforce_budget", "budget_action"]),
    ("Models", &["degraded_mode", "model_routing", "route_to_model", "fallback_model"]),
    (
        "Prompts and answers",
        &[
            "max_output_tokens",
            "max_input_bytes",
            "max_input_tokens",
            "max_growth_tokens",
            "max_history_messages",
            "max_history_tokens",
            "summarization",
            "prompt_caching",
        ],
    ),
];

/// What a switch did since it was set.
pub(super) struct Effect {
    /// Calls that it acted on.
    pub(super) calls: u64,
    /// A few words on how it was in the minutes before it was set: `310 calls/min, 41 refused`; none where nothing was seen.
    pub(super) before: Option<String>,
    /// The same for the minutes since.
    pub(super) after: Option<String>,
}

/// The place where a setting shows what it does.
fn effect(seen: Option<&Effect>) -> Markup {
    html! { @if let Some(Effect { calls, before, after }) = seen {
        p class="small wrap" { "Acted on " b { (many(*calls, "call")) } "." }
        @if let Some(after) = after {
            dl class="effect small" {
                div { dt { "all calls before" } dd { (before.as_deref().map_or_else(|| "none seen".to_owned(), |before| short(before, 120))) } }
                div { dt { "and since" } dd { (short(after, 120)) } }
            }
        }
    } }
}

/// The gateway that enforces the switches, and what each of them did so far.
pub(super) struct Watched<'a> {
    gateway: &'a Gateway,
    calls: HashMap<String, u64>,
    now: Timestamp,
}

impl<'a> Watched<'a> {
    pub(super) fn new(gateway: &'a Gateway, now: Timestamp) -> Self {
        let calls = gateway.traffic().work().into_iter().map(|work| (work.switch, work.calls)).collect();
        Self { gateway, calls, now }
    }

    /// What holds by the settings, those left out for which something else was set.
    fn by_settings(&self, active: &[Switch]) -> Vec<Switch> {
        let is_overruled = |base: &Switch| active.iter().any(|one| one.id == base.id);
        self.gateway.base_switches().into_iter().filter(|base| !is_overruled(base)).collect()
    }

    fn effect_of(&self, switch: &Switch) -> Effect {
        let calls = self.calls.get(&switch.id).copied().unwrap_or(0);
        if is_by_settings(switch) {
            return Effect { calls, before: None, after: None };
        }
        let seen = self.gateway.traffic().effect(switch.set_at, self.now);
        let is_refused = seen.before.refused > 0 || seen.after.refused > 0;
        Effect { calls, before: a_minute(&seen.before, seen.before_s, is_refused), after: a_minute(&seen.after, seen.after_s, is_refused) }
    }
}

/// It is part of how the gateway was started, and nobody's decision of today.
fn is_by_settings(switch: &Switch) -> bool {
    switch.set_at == Timestamp::EPOCH
}

/// What calls of so many seconds come to in a minute; none where there was neither a second nor a call.
fn a_minute(sum: &Sum, seconds: u64, with_refused: bool) -> Option<String> {
    if seconds == 0 && sum.calls == 0 {
        return None;
    }
    let seconds = seconds.max(1);
    let rate = |number: u64| count((number.saturating_mul(60) + seconds / 2) / seconds);
    let mut said = format!("{} calls/min", rate(sum.calls));
    if with_refused {
        said.push_str(&format!(", {} refused", rate(sum.refused)));
    }
    said.push_str(&format!(", {} failed", rate(sum.failed)));
    let passed = sum.calls.saturating_sub(sum.refused);
    // Calls that are refused take no time but that for which they waited.
    let each = |whole: u64| whole.checked_div(passed);
    if let (Some(read), Some(ms)) =
        (each(sum.input_tokens.saturating_add(sum.output_tokens)), each(sum.duration_ms.saturating_sub(sum.waited_ms)))
    {
        said.push_str(&format!(", {} tokens a call, answered in {}", tokens(read), took(Duration::from_millis(ms))));
    }
    Some(said)
}

/// The part of the page where a switch is: its name, of `blocked_user:ana` that of all its kind.
pub(crate) fn anchor(name: &str) -> &str {
    name.split(':').next().unwrap_or(name)
}

pub(super) fn board(active: &[Switch], gateway: Option<&Gateway>, now: Timestamp) -> Markup {
    let mut left = SETTINGS_BYTES_MAX;
    let watched = gateway.map(|gateway| Watched::new(gateway, now));
    let mut all = active.to_vec();
    all.extend(watched.iter().flat_map(|watched| watched.by_settings(active)));
    html! {
        datalist id="scopes" { @for scope in ["all", "key=", "user=", "team=", "agent=", "session=", "model=", "plugin="] { option value=(scope) {} } }
        datalist id="times" { @for time in ["5m", "15m", "30m", "1h", "4h", "24h"] { option value=(time) {} } }
        p class="groups" { @for (number, (title, _)) in GROUPS.iter().enumerate() { a href=(format!("#group{number}")) { (title) } " " } }
        @for (number, (title, names)) in GROUPS.iter().enumerate() {
            h2 id=(format!("group{number}")) { (title) }
            ul class="rows board" id=(format!("board{number}")) data-live data-quiet {
                @for known in names.iter().filter_map(|name| KNOWN.iter().find(|known| known.name == *name)) {
                    (row(known, &all, watched.as_ref(), now, &mut left))
                }
            }
        }
    }
}

fn row(known: &Known, active: &[Switch], watched: Option<&Watched<'_>>, now: Timestamp, left: &mut usize) -> Markup {
    let is = |switch: &&Switch| match switch.switch.strip_prefix(known.name) {
        Some(rest) => rest.is_empty() || known.name.ends_with(':'),
        None => false,
    };
    let set: Vec<&Switch> = active.iter().filter(is).collect();
    let (settings, shown) = within(*left, &set, |switch| setting(switch, watched, now));
    *left = left.saturating_sub(settings.0.len());
    let flags = FLAG_NAMES.iter().filter(|(_, switch)| *switch == known.name).map(|(flag, _)| *flag).collect::<Vec<_>>().join(", ");
    html! {
        li id=(anchor(known.name)) class=[(!set.is_empty()).then_some("on")] {
            div {
                b { (known.name) @if known.name.ends_with(':') { "…" } }
                p class="small soft" { (known.what) }
                @if !flags.is_empty() { p class="small faint wrap" { (flags) } }
            }
            div {
                (settings)
                @if shown < set.len() { p class="small faint" { (shown) " of " (set.len()) " shown; all: " code { "paramedic switch list" } } }
                details id=(format!("set-{}", anchor(known.name))) {
                    summary { @if set.is_empty() { "Set" } @else { "Set anew, or for others" } }
                    (form(known))
                }
            }
        }
    }
}

fn setting(switch: &Switch, watched: Option<&Watched<'_>>, now: Timestamp) -> Markup {
    let by_settings = is_by_settings(switch);
    let of = switch.switch.split_once(':').map(|(_, of)| short(of, 80));
    html! {
        div class="setting" data-row=(row_key(&switch.id)) {
            div {
                p { @if let Some(of) = of { b { (of) } " = " } b { (value(switch)) } " for " (short(&switch.scope.to_string(), 80)) @if by_settings { " · by the settings" } @else { " · " (until(switch, now)) } }
                @if !by_settings { p class="small soft wrap" { "by " (short(&switch.by, 60)) " " (ago(switch.set_at, now)) @if !switch.why.is_empty() { ": " (short(&switch.why, 200)) } } }
                (effect(watched.map(|watched| watched.effect_of(switch)).as_ref()))
            }
            @if !is_by_flag(switch) && !by_settings {
                form class="answer" method="post" action="/switches" {
                    input type="hidden" name="do" value="clear";
                    input type="hidden" name="switch" value=(switch.switch);
                    input type="hidden" name="scope" value=(switch.scope.to_string());
                    button { "Clear" }
                }
            }
        }
    }
}

/// What follows the colon, as the label of its field.
fn of_what(name: &str) -> Option<&'static str> {
    Some(match name.strip_suffix(':')? {
        "blocked_key" => "Key",
        "blocked_user" => "User",
        "blocked_agent" => "Agent",
        "blocked_session" => "Session",
        "blocked_model" => "Model",
        _ => "Name",
    })
}

/// Who has no name in this browser yet is asked for it afterwards, once.
fn form(known: &Known) -> Markup {
    let of = of_what(known.name);
    html! {
        form class="inline" method="post" action="/switches" {
            input type="hidden" name="switch" value=(known.name);
            @if let Some(of) = of { label { (of) input name="of" required maxlength="200"; } }
            label { "Value" (field(known)) }
            label { "For whom" input name="scope" list="scopes" maxlength="250" placeholder="all" size="14"; }
            @if known.lasting { label { "For how long" input name="for" list="times" size="14" placeholder="until cleared"; } }
            @else { label { "For how long" input name="for" list="times" size="6" value="30m" required; } }
            label { "Why" input name="why" required maxlength="500"; }
            button { "Set" }
        }
    }
}

/// The field that fits what the switch takes.
fn field(known: &Known) -> Markup {
    let words = |words: &[&str]| html! { select name="value" { @for word in words { option { (word) } } } };
    match known.kind {
        ValueKind::Flag => words(&["true", "false"]),
        ValueKind::Word => words(known.words),
        ValueKind::Count => html! { input name="value" type="number" min="1" required; },
        ValueKind::Amount => html! { input name="value" type="number" min="0.01" step="any" inputmode="decimal" required; },
        ValueKind::Text => html! { input name="value" required maxlength="256"; },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_switch_is_in_exactly_one_group() {
        let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        for known in KNOWN {
            assert_eq!(grouped.iter().filter(|name| **name == known.name).count(), 1, "{}", known.name);
        }
        assert_eq!(grouped.len(), KNOWN.len(), "and nothing else is");
    }

    #[test]
    fn an_effect_is_said_in_words() {
        assert_eq!(effect(None).0, "");
        let seen = Effect { calls: 1_200, before: None, after: Some("<100 calls/min".to_owned()) };
        let said = effect(Some(&seen)).0;
        assert!(said.contains("<b>1,200 calls</b>") && said.contains("&lt;100 calls/min") && said.contains("none seen"), "{said}");
        let sum =
            Sum { calls: 30, refused: 10, failed: 1, input_tokens: 40_000, output_tokens: 2_000, duration_ms: 60_000, ..Sum::default() };
        for (sum, seconds, with_refused, expect) in [
            (Sum::default(), 0, true, None),
            (sum, 60, true, Some("30 calls/min, 10 refused, 1 failed, 2.1 k tokens a call, answered in 3.0 s")),
            (sum, 30, false, Some("60 calls/min, 2 failed, 2.1 k tokens a call, answered in 3.0 s")),
            (Sum { calls: 5, refused: 5, ..Sum::default() }, 600, true, Some("1 calls/min, 1 refused, 0 failed")),
        ] {
            assert_eq!(a_minute(&sum, seconds, with_refused).as_deref(), expect);
        }
    }
}
