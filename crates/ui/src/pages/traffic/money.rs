//! What may be spent, and who spends it, with the way to stop them.

use maud::{Markup, html};
use paramedic_action::switch::is_by_flag;
use paramedic_api::operations::gateway::Budgets;
use paramedic_gateway::budget::{Budget, Period, Spender, Whose};
use paramedic_gateway::diagnosis::Diagnosis;
use serde::Deserialize;

use super::{Seen, TrafficQuery};
use crate::format::{due, many, money as dollars, percent, short, tokens};
use crate::page::{row_key, within};

const BUDGETS_MAX: usize = 20;
const BUDGETS_BYTES_MAX: usize = 5_000;
const WHY_BYTES_MAX: usize = 5_000;
/// Ways to stop one cause, the narrowest first.
const COMMANDS_MAX: usize = 3;
const SPENDERS_MAX: usize = 8;
const SPENDERS_BYTES_MAX: usize = 9_000;
/// The name under which those are counted for whom there was no room.
const OTHERS: &str = "other";

/// Whose spending is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum By {
    User,
    Team,
    Agent,
    Session,
    Key,
    Model,
}

impl By {
    const ALL: [Self; 6] = [Self::User, Self::Team, Self::Agent, Self::Session, Self::Key, Self::Model];

    const fn whose(self) -> Whose {
        match self {
            Self::User => Whose::User,
            Self::Team => Whose::Team,
            Self::Agent => Whose::Agent,
            Self::Session => Whose::Session,
            Self::Key => Whose::Key,
            Self::Model => Whose::Model,
        }
    }

    /// The switch that refuses calls of this one, what follows its colon, and its scope.
    fn block(self, name: &str) -> (&'static str, &str, String) {
        match self {
            Self::User => ("blocked_user:", name, "all".to_owned()),
            Self::Team => ("blocked", "", format!("team:{name}")),
            Self::Agent => ("blocked_agent:", name, "all".to_owned()),
            Self::Session => ("blocked_session:", name, "all".to_owned()),
            Self::Key => ("blocked_key:", name, "all".to_owned()),
            Self::Model => ("blocked_model:", name, "all".to_owned()),
        }
    }
}

pub(super) fn budgets(seen: &Seen<'_>, known: &Budgets) -> Markup {
    let all = &known.budgets;
    let (rows, shown) = within(BUDGETS_BYTES_MAX, all.iter().take(BUDGETS_MAX), |budget| one(seen, budget));
    html! {
        section {
            h2 { "Budgets" @if known.waiting > 0 { ": " (many(known.waiting as u64, "call")) " waiting for money" } }
            p class="soft" { (dollars(known.spent_today_dollars)) " spent today (UTC). " a href="/traffic?why=cost#money" { "Why?" } }
            @if all.is_empty() { p class="soft" { "No budget is set. " a href="/switches#daily_budget_dollars" { "Set one" } ", or " code { "paramedic budget set 20 --per day" } "." } }
            @else { ul class="rows" { (rows) } }
            @if shown < all.len() { p class="faint" { (all.len() - shown) " more: " code { "paramedic budget" } } }
        }
    }
}

fn one(seen: &Seen<'_>, budget: &Budget) -> Markup {
    let is_over = budget.share >= 1.0;
    let per = match budget.period {
        Period::Day => "a day",
        Period::Week => "a week",
        Period::Month => "a month",
        Period::Life => "in all",
    };
    let whose = if &*budget.purse == "all" { "All together".to_owned() } else { short(&budget.purse, 60) };
    html! {
        li data-row=(row_key(&format!("{} {}", budget.id, budget.purse))) {
            div class="pair" {
                span { b { (whose) } " " (dollars(budget.cap_dollars)) " " (per) @if !budget.enforce { " " span class="soft" { "counted only" } } }
                @if is_over { b class="r-err" { "spent" } } @else { span { (dollars(budget.remaining_dollars)) " left" } }
            }
            (gauge(budget.spent_dollars, budget.reserved_dollars, budget.cap_dollars))
            p class="small soft" {
                (dollars(budget.spent_dollars)) " spent (" (percent(budget.share)) ")"
                @if budget.reserved_dollars > 0.0 { ", " (dollars(budget.reserved_dollars)) " reserved by " (many(budget.running.into(), "call")) ", at worst " (dollars(budget.worst_case_dollars)) }
                @if budget.waiting > 0 { ", " b { (many(budget.waiting as u64, "call")) " waiting" } }
                @if let Some(at) = budget.resets_at { " · resets " (due(at, seen.now)) }
            }
        }
    }
}

/// How much of something is used: a bar whose second part is what is held.
pub(super) fn gauge(used: f64, held: f64, whole: f64) -> Markup {
    let part = |value: f64| if whole > 0.0 { (value / whole).clamp(0.0, 1.0) * 100.0 } else { 0.0 };
    let (first, second) = (part(used), part(used + held) - part(used));
    html! {
        svg class="gauge" aria-hidden="true" {
            rect width="100%" height="8" {}
            rect class=(if first >= 80.0 { "high" } else { "used" }) width=(format!("{first:.1}%")) height="8" {}
            @if second > 0.0 { rect class="held" x=(format!("{first:.1}%")) width=(format!("{second:.1}%")) height="8" {} }
        }
    }
}

/// Why calls cost what they cost, as far as the numbers show it.
pub(super) fn why(diagnosis: &Diagnosis) -> Markup {
    let (rows, _) = within(WHY_BYTES_MAX, &diagnosis.findings, |finding| {
        html! {
            li {
                p { (capital(&short(finding.what.trim_end_matches('.'), 400))) "." @if let Some(saving) = finding.saving_dollars { " " b { "Could save about " (dollars(saving)) "." } } }
                @if let Some(change) = &finding.change { p class="small soft" { "Changed then: " (short(&change.what, 120)) " by " (short(&change.by, 40)) } }
                @for command in finding.commands.iter().take(COMMANDS_MAX) { p class="small wrap" { code { (short(command, 200)) } } }
            }
        }
    });
    html! {
        section {
            h2 { "Why it costs this" }
            p class="soft" { (capital(&short(&diagnosis.says, 300))) "." }
            @if !diagnosis.findings.is_empty() { ul class="rows" { (rows) } }
        }
    }
}

pub(super) fn capital(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

pub(super) fn spenders(seen: &Seen<'_>, query: &TrafficQuery) -> Markup {
    let ledger = seen.gateway.ledger();
    let top = |by: By| ledger.top(by.whose(), Period::Day, SPENDERS_MAX);
    // Where nobody says who they are, keys are what tells callers apart.
    let by = query.by.unwrap_or_else(|| if top(By::User).is_empty() { By::Key } else { By::User });
    let top = top(by);
    let (rows, _) = within(SPENDERS_BYTES_MAX, &top, |spender| spender_row(seen, by, spender));
    html! {
        section {
            h2 { "Top spenders today (UTC)" }
            p class="groups small" { @for one in By::ALL { a href=(format!("{}#money", query.with(one.whose().word()))) aria-current=[(one == by).then_some("true")] { "by " (one.whose().word()) } " " } }
            @if top.is_empty() { p class="soft" { "Nobody spent anything under this name today." } }
            @else { ul class="rows" { (rows) } }
        }
    }
}

fn spender_row(seen: &Seen<'_>, by: By, spender: &Spender) -> Markup {
    let name = spender.name.split_once(':').map_or(&*spender.name, |(_, name)| name);
    let (switch, of, scope) = by.block(name);
    let full = format!("{switch}{of}");
    let held = seen.active.iter().find(|one| one.switch == full && one.scope.to_string() == scope && one.value == true);
    html! {
        li data-row=(row_key(&spender.name)) {
            div class="pair" {
                span class="wrap" { b { (if name == OTHERS { "all others".to_owned() } else { short(name, 80) }) } }
                span class="nowrap" { b { (dollars(spender.dollars)) } " · " (percent(spender.share)) }
            }
            (gauge(spender.share, 0.0, 1.0))
            div class="pair small soft" {
                span { (many(spender.calls, "call")) ", " (tokens(mean(spender.tokens_per_call))) " tokens a call, " (tokens(spender.output_tokens)) " written" }
                @if let Some(held) = held { b { "blocked by " (short(&held.by, 40)) @if !is_by_flag(held) { " · " a href=(super::board_of(&held.switch)) { "change" } } } }
            }
            @if held.is_none() && name != OTHERS { (block(switch, of, &scope, name, &spender.name)) }
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a mean for people; what is no number is 0")]
const fn mean(value: f64) -> u64 {
    value.max(0.0) as u64
}

/// The switchboard's own form, filled in.
fn block(switch: &str, of: &str, scope: &str, name: &str, key: &str) -> Markup {
    html! {
        details class="small" id=(format!("block{}", row_key(key))) {
            summary { "Block" }
            form class="inline" method="post" action="/switches" {
                input type="hidden" name="switch" value=(switch);
                input type="hidden" name="of" value=(of);
                input type="hidden" name="scope" value=(scope);
                input type="hidden" name="value" value="true";
                input type="hidden" name="back" value="/traffic";
                label { "For how long" input name="for" value="30m" size="6" required; }
                label { "Why" input name="why" required maxlength="500" value="spends too much"; }
                button class="danger" { "Block " (short(name, 30)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_shows_what_is_used_and_held() {
        let drawn = gauge(5.0, 2.0, 10.0).0;
        assert!(
            drawn.contains("class=\"used\" width=\"50.0%\"") && drawn.contains("class=\"held\" x=\"50.0%\" width=\"20.0%\""),
            "{drawn}"
        );
        let over = gauge(30.0, 5.0, 10.0).0;
        assert!(over.contains("class=\"high\" width=\"100.0%\"") && !over.contains("held"), "{over}");
        assert!(gauge(1.0, 1.0, 0.0).0.contains("width=\"0.0%\""));
    }

    #[test]
    fn whoever_spends_is_blocked_by_a_switch_that_there_is() {
        for by in By::ALL {
            let (switch, of, scope) = by.block("x");
            assert!(paramedic_model::switch::find(&format!("{switch}{of}")).is_ok(), "{by:?}");
            assert!(scope.parse::<paramedic_model::Scope>().is_ok(), "{by:?}");
        }
    }
}
