//! Budgets and spending as operators see them, in dollars.

use paramedic_model::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cap::Limit;
use super::state::State;
use super::window::ends_at;
use super::{Cap, Period, dollars};

/// How a cap stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Budget {
    /// The switch that sets it: `daily_budget_dollars@all`.
    pub id: Box<str>,
    /// Whose money: `user:ana`.
    pub purse: Box<str>,
    pub period: Period,
    pub enforce: bool,
    pub cap_dollars: f64,
    /// By calls that are over.
    pub spent_dollars: f64,
    /// Held for calls that run, at what they are likely to cost.
    pub reserved_dollars: f64,
    /// What the calls that run can cost at most.
    pub at_most_reserved_dollars: f64,
    /// Neither spent nor reserved.
    pub remaining_dollars: f64,
    /// Of the cap that is spent; 1 is all of it.
    pub share: f64,
    /// What will be spent at most when the calls that run are over, whatever they write.
    pub worst_case_dollars: f64,
    pub running: u32,
    pub waiting: usize,
    pub resets_at: Option<Timestamp>,
}

/// What somebody spent in a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spender {
    /// `user:ana`; `user:other` is all for whom there was no room.
    pub name: Box<str>,
    pub dollars: f64,
    pub calls: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cache_read_tokens: u64,
    pub cache_creation_tokens: u64,
    /// Read and written, of all kinds together.
    pub tokens_per_call: f64,
    /// Of what all spent in this window, 0 to 1.
    pub share: f64,
}

/// What somebody spent in an hour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Hour {
    /// When the hour began.
    pub at: Timestamp,
    pub dollars: f64,
    pub calls: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cache_read_tokens: u64,
    pub cache_creation_tokens: u64,
}

#[expect(clippy::cast_precision_loss, reason = "a share is read by people")]
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

pub(super) fn budget(state: &mut State, cap: &Cap) -> Budget {
    let known = state.limits.iter().find(|(_, limit)| {
        limit.id == cap.id && limit.period == cap.period && state.table.purses.get(limit.purse).is_some_and(|purse| purse.name == cap.purse)
    });
    if let Some(at) = known.map(|(at, _)| at) {
        state.roll(at);
        if let Some(limit) = state.limits.get(at) {
            return Budget { enforce: cap.enforce, ..seen(state, limit, cap.pico) };
        }
    }
    let start = state.windows().start(cap.period);
    let mut limit = Limit::new(cap, u32::MAX);
    limit.start = start;
    let spent = state.table.peek(&cap.purse).map_or(0, |purse| purse.spent(cap.period, start));
    let (mut reserved, mut at_most, mut running) = (0u64, 0u64, 0);
    for (_, open) in state.open.iter().filter(|(_, open)| open.windows.start(cap.period) == start) {
        let of = |place: &u32| state.table.purses.get(*place).is_some_and(|purse| purse.name == cap.purse);
        if open.places.as_slice().iter().any(of) {
            (reserved, at_most, running) = (reserved.saturating_add(open.reserved), at_most.saturating_add(open.at_most), running + 1);
        }
    }
    (limit.reserved, limit.at_most, limit.running) = (reserved, at_most, running);
    shown(&limit, &cap.purse, spent, cap.pico)
}

pub(super) fn budgets(state: &mut State) -> Vec<Budget> {
    let all: Vec<u32> = state.limits.iter().filter(|(_, limit)| limit.set).map(|(at, _)| at).collect();
    all.iter().for_each(|at| state.roll(*at));
    let mut budgets: Vec<Budget> = all.iter().filter_map(|at| state.limits.get(*at)).map(|limit| seen(state, limit, limit.pico)).collect();
    budgets.sort_by(|a, b| (&a.id, &a.purse).cmp(&(&b.id, &b.purse)));
    budgets
}

fn seen(state: &State, limit: &Limit, cap: u64) -> Budget {
    let purse = state.table.purses.get(limit.purse).map_or("", |purse| &purse.name);
    shown(limit, purse, state.standing(limit).spent, cap)
}

fn shown(limit: &Limit, purse: &str, spent: u64, cap: u64) -> Budget {
    Budget {
        id: (*limit.id).into(),
        purse: purse.into(),
        period: limit.period,
        enforce: limit.enforce,
        cap_dollars: dollars(cap),
        spent_dollars: dollars(spent),
        reserved_dollars: dollars(limit.reserved),
        at_most_reserved_dollars: dollars(limit.at_most),
        remaining_dollars: dollars(cap.saturating_sub(spent).saturating_sub(limit.reserved)),
        share: share(spent, cap),
        worst_case_dollars: dollars(spent.saturating_add(limit.at_most)),
        running: limit.running,
        waiting: limit.queue.len(),
        resets_at: ends_at(limit.period, limit.start),
    }
}
