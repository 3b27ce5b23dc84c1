//! The calls: those that run, and those that ended. Who, which model, how long, what it cost; never what was said.

use std::time::Duration;

use maud::{Markup, html};
use paramedic_fleet::{Fleet, State as AgentState};
use paramedic_gateway::traffic::{RunningCall, RunningState};
use paramedic_gateway::{Caller, Kind, Outcome, Record, budget::dollars};
use paramedic_model::{AgentId, Timestamp};
use serde::Deserialize;

use super::{Seen, TrafficQuery, board_of};
use crate::format::{agent_name, agent_path, clock, count, many, money, running as running_for, short, tokens, took};
use crate::page::within;
use crate::pages::agents::state_shape;

const LINES_MAX: usize = 50;
/// Of them, those that stand there before one asks for the rest.
const FIRST_LINES: usize = 12;
/// Switches that are named of one call.
const ACTED_MAX: usize = 2;

/// How a call ended, in the words that people look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Ending {
    Answered,
    Failed,
    Refused,
    /// Answered, and a switch did something to it.
    Changed,
    Waited,
}

impl Ending {
    const ALL: [Self; 5] = [Self::Answered, Self::Failed, Self::Refused, Self::Changed, Self::Waited];

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Changed => "changed",
            Self::Waited => "waited",
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Changed => "changed by a switch",
            Self::Waited => "waited here",
            other => other.word(),
        }
    }

    fn means(self, record: &Record) -> bool {
        let is_refused = matches!(record.outcome, Outcome::Refused | Outcome::BrokenOff);
        match self {
            Self::Answered => is_good(record),
            Self::Failed => !is_good(record) && !is_refused && record.outcome != Outcome::ClientGone,
            Self::Refused => is_refused,
            Self::Changed => !is_refused && !record.acted.is_empty(),
            Self::Waited => record.waited >= Duration::from_millis(1),
        }
    }
}

fn is_good(record: &Record) -> bool {
    match record.outcome {
        Outcome::Answered => record.status < 400 && record.error_type.is_none(),
        Outcome::Degraded => true,
        _ => false,
    }
}

impl TrafficQuery {
    fn means(&self, caller: &Caller, models: [Option<&str>; 2]) -> bool {
        let has = |wanted: &Option<String>, name: Option<&str>| match wanted {
            Some(part) => name.is_some_and(|name| name.contains(part.as_str())),
            None => true,
        };
        let agent = caller.agent.as_deref().or(caller.session.as_deref());
        let is_model = self.model.is_none() || models.into_iter().any(|model| model.is_some() && has(&self.model, model));
        is_model && has(&self.user, caller.user.as_deref()) && has(&self.agent, agent)
    }

    fn means_record(&self, record: &Record) -> bool {
        self.means(&record.caller, [record.model.as_deref(), record.served_model.as_deref()])
            && self.outcome.is_none_or(|ending| ending.means(record))
    }
}

pub(super) fn filter(query: &TrafficQuery) -> Markup {
    html! {
        form class="inline" method="get" action="/traffic" data-filter role="search" {
            @for (name, label, value) in [("user", "User", &query.user), ("agent", "Agent", &query.agent), ("model", "Model", &query.model)] {
                label { (label) input type="search" class="short" name=(name) maxlength="200" value=(value.as_deref().map(|value| short(value, 200)).unwrap_or_default()) data-key=[(name == "user").then_some("search")]; }
            }
            label { "Ended" select name="outcome" {
                option value="" { "in any way" }
                @for ending in Ending::ALL { option value=(ending.word()) selected[query.outcome == Some(ending)] { (ending.label()) } }
            } }
            button { "Filter" }
            @if query.is_filtered() { a class="button" href="/traffic" { "Show all" } }
        }
    }
}

pub(super) fn running(seen: &Seen<'_>, query: &TrafficQuery, bytes_max: usize) -> Markup {
    let is_meant = |call: &RunningCall| query.means(&call.caller, [call.model.as_deref(), None]);
    let (calls, all) = seen.gateway.traffic().running(is_meant, LINES_MAX);
    let fleet = seen.context.fleet();
    let (first, first_shown) = within(bytes_max, calls.iter().take(FIRST_LINES), |call| running_row(call, &fleet, seen.now));
    let left = bytes_max.saturating_sub(first.0.len());
    let (rest, rest_shown) = within(left, calls.iter().skip(first_shown), |call| running_row(call, &fleet, seen.now));
    let head = html! { thead { tr { th { "State" } th { "Who" } th { "Model" } th class="num" { "Since" } th class="num" { "Written so far" } } } };
    let shown = first_shown + rest_shown;
    html! {
        h2 { @if all > 0 { (many(all as u64, "call")) " running" } @else { "Nothing runs" @if query.is_filtered() { " that matches" } " at the moment" } }
        @if all > 0 {
            table class="cards calls running" { (head) tbody { (first) } }
            (folded("running-more", rest_shown, query, html! { table class="cards calls running" { (head) tbody { (rest) } } }))
            @if shown < all { p class="faint small" { "The oldest " (shown) " of them; " (count((all - shown) as u64)) " more run." } }
        }
    }
}

/// Further lines, at once where somebody looks for some.
fn folded(id: &str, lines: usize, query: &TrafficQuery, table: Markup) -> Markup {
    html! { @if lines > 0 { details class="part" id=(id) open[query.is_filtered()] { summary { (lines) " more" } (table) } } }
}

fn running_row(call: &RunningCall, fleet: &Fleet, now: Timestamp) -> Markup {
    let (class, shape, word) = match call.state {
        RunningState::Waiting => ("s-stuck", AgentState::Waiting, "waits here"),
        RunningState::Asked => ("s-waiting", AgentState::Done, "asked"),
        RunningState::Answering => ("s-working", AgentState::Working, "answering"),
    };
    html! {
        tr data-row=(call.id) {
            td { span class=(format!("state {class}")) { (state_shape(shape)) (word) } }
            td { (who(&call.caller, fleet)) }
            td class="wrap" { @match &call.model { Some(model) => (short(model, 60)), None => span class="faint" { (short(&call.path, 60)) } } }
            td data-th="since" class="num" { (running_for(call.began, now)) }
            td data-th="written" class="num" { @if call.output_tokens > 0 { (count(call.output_tokens)) " tokens" } @else { "–" } }
        }
    }
}

pub(super) fn latest(seen: &Seen<'_>, query: &TrafficQuery, bytes_max: usize) -> Markup {
    let records = seen.gateway.traffic().recent(|record| query.means_record(record), usize::MAX);
    let all = records.len();
    let fleet = seen.context.fleet();
    let (first, first_shown) = within(bytes_max, records.iter().take(FIRST_LINES), |record| row(record, &fleet, seen.now));
    let left = bytes_max.saturating_sub(first.0.len());
    let (rest, rest_shown) = within(left, records.iter().take(LINES_MAX).skip(first_shown), |record| row(record, &fleet, seen.now));
    let head = html! { thead { tr { th { "Ended" } th { "Who" } th { "Model" } th { "How" } th class="num" { "Took" } th class="num" { "Tokens in, out" } th class="num" { "Cost" } } } };
    let shown = first_shown + rest_shown;
    html! {
        h2 { "Latest calls" @if query.is_filtered() { ": " (count(all as u64)) " match" } }
        @if all == 0 { p class="empty" { @if query.is_filtered() { "None of the calls that are remembered matches. " a href="/traffic" { "Show all" } "." } @else { "None ended yet." } } }
        @else {
            table class="cards calls" { (head) tbody { (first) } }
            (folded("latest-more", rest_shown, query, html! { table class="cards calls" { (head) tbody { (rest) } } }))
            @if shown < all { p class="faint small" { "The latest " (shown) "; " (count((all - shown) as u64)) " more are remembered: filter, or ask the API." } }
        }
    }
}

fn row(record: &Record, fleet: &Fleet, now: Timestamp) -> Markup {
    let usage = &record.usage;
    let has_tokens = usage.context_tokens() > 0 || usage.output_tokens > 0;
    html! {
        tr data-row=(record.id) {
            td class="nowrap" { (clock(record.at.after(record.duration), now)) }
            td { (who(&record.caller, fleet)) }
            td class="wrap" { (model(record)) }
            td class="wrap" { (how(record)) }
            td data-th="took" class="num" { (took(record.duration)) (times(record)) }
            td data-th="tokens" class="num" { @if has_tokens { (tokens(usage.context_tokens())) ", " (tokens(usage.output_tokens)) } @else { "–" } }
            td data-th="cost" class="num" { @match record.cost_pico { Some(0) if !has_tokens => "–", Some(cost) => (money(dollars(cost))), None if has_tokens => span class="faint" title="this model has no price in the list" { "unknown" }, None => "–" } }
        }
    }
}

/// The agent, with the way to its page where there is one, and the user.
fn who(caller: &Caller, fleet: &Fleet) -> Markup {
    let agent = agent_of(caller);
    let user = caller.user.as_deref().map(|user| short(user, 48));
    let key = || caller.key.as_deref().map(|key| format!("key {}", short(key, 20)));
    let team = caller.team.as_deref().map(|team| format!("team {}", short(team, 32)));
    let name = agent.as_ref().map(
        |id| html! { @if fleet.get(id).is_some() { a href=(agent_path(id)) data-open { (agent_name(id)) } } @else { (agent_name(id)) } },
    );
    // An agent that has no name but its user's is not said twice.
    let is_user = caller.agent.is_none() && caller.session.is_none();
    html! {
        @match (user, name) {
            (Some(_), Some(name)) if is_user => (name),
            (Some(user), Some(name)) => { (user) div class="faint small" { (name) } }
            (_, Some(name)) => (name),
            _ => (key().unwrap_or_else(|| "–".to_owned())),
        }
        @if let Some(team) = team { div class="faint small" { (team) } }
    }
}

/// The agent that a call is shown under, as its events name it.
fn agent_of(caller: &Caller) -> Option<AgentId> {
    let own = caller.agent.as_deref().or(caller.session.as_deref()).map(AgentId::new);
    own.or_else(|| caller.user.as_deref().map(|user| AgentId::new(user.replace('/', "_"))))
}

fn model(record: &Record) -> Markup {
    html! {
        @match (&record.model, &record.served_model) {
            (Some(asked), Some(served)) if asked != served => { (short(asked, 60)) div class="small soft" { "served by " b { (short(served, 60)) } } }
            (Some(model), _) | (None, Some(model)) => (short(model, 60)),
            (None, None) => span class="faint" { (short(&record.method, 10)) " " (short(&record.path, 60)) },
        }
        @if record.kind == Kind::CountTokens { div class="small faint" { "counts tokens" } }
    }
}

/// The end in a word and a shape, the status, and what switches did.
fn how(record: &Record) -> Markup {
    let (class, shape, word) = match record.outcome {
        Outcome::Answered if is_good(record) => ("s-working", AgentState::Working, "answered"),
        Outcome::Answered => ("s-failed", AgentState::Failed, "failed"),
        Outcome::Cut => ("s-failed", AgentState::Failed, "cut off"),
        Outcome::ClientGone => ("s-done", AgentState::Done, "client gone"),
        Outcome::TimedOut => ("s-failed", AgentState::Failed, "timed out"),
        Outcome::Unreachable => ("s-failed", AgentState::Failed, "not reached"),
        Outcome::Refused => ("s-stuck", AgentState::Stuck, "refused"),
        Outcome::BrokenOff => ("s-stuck", AgentState::Stuck, "broken off"),
        Outcome::Degraded => ("s-silent", AgentState::Silent, "answered here"),
    };
    html! {
        span class=(format!("state {class}")) { (state_shape(shape)) (word) } " " (record.status)
        @if let Some(error) = &record.error_type { " " span class="soft" { (short(error, 40)) } }
        @if record.tries > 1 { " " span class="soft" { "asked " (record.tries) " times" } }
        @for acted in record.acted.iter().take(ACTED_MAX) {
            div class="small soft" { a href=(board_of(name_of(&acted.switch))) { (short(&acted.switch, 60)) } ": " (short(clause(&acted.what, &acted.switch), 80)) }
        }
        @if record.acted.len() > ACTED_MAX { div class="small faint" { (record.acted.len() - ACTED_MAX) " more" } }
    }
}

/// What a switch did, without its name and without the figures that follow.
fn clause<'a>(what: &'a str, switch: &str) -> &'a str {
    let what = what.split(" · ").next().unwrap_or(what);
    let own = what.strip_prefix("the limit ").and_then(|rest| rest.strip_prefix(switch)).and_then(|rest| rest.strip_prefix(" is "));
    own.unwrap_or(what)
}

/// `blocked_user:ana` of `blocked_user:ana@all`; a name after a colon may hold an @ itself.
fn name_of(id: &str) -> &str {
    id.rsplit_once('@').map_or(id, |(name, _)| name)
}

fn times(record: &Record) -> Markup {
    html! {
        @if record.waited >= Duration::from_millis(1) { div class="small soft" { "waited " (took(record.waited)) } }
        @if let Some(first) = record.first_byte { div class="small faint" { "first byte " (took(first)) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_means_parts_of_names() {
        let caller = Caller { user: Some("ana@shop".into()), agent: Some("s1/a9".into()), ..Caller::default() };
        let of = |user: &str, agent: &str, model: &str| {
            let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            TrafficQuery { user: some(user), agent: some(agent), model: some(model), ..TrafficQuery::default() }
        };
        let models = [Some("claude-opus-5"), Some("claude-haiku-4-5")];
        for (query, meant) in [
            (of("", "", ""), true),
            (of("ana", "a9", "haiku"), true),
            (of("ana", "", "opus"), true),
            (of("bo", "", ""), false),
            (of("", "", "sonnet"), false),
            (of("", "a8", ""), false),
        ] {
            assert_eq!(query.means(&caller, models), meant, "{query:?}");
        }
        assert!(!of("a", "", "").means(&Caller::default(), [None, None]), "who is not known is not meant");
        assert_eq!(clause("spend limit reached · resets soon", "x@all"), "spend limit reached");
        assert_eq!(clause("the limit x@all is reached, and so on", "x@all"), "reached, and so on");
        assert_eq!(name_of("blocked_user:ana@shop@all"), "blocked_user:ana@shop");
    }
}
