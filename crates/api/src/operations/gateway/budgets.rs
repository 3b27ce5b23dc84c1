//! Budgets: what of each is spent, held and left.

use std::sync::Arc;

use paramedic_gateway::budget::{Budget, Cap, PICO, Period};
use paramedic_model::Switch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gateway;
use crate::context::Context;
use crate::error::ApiError;
use crate::operations::alerts::Nothing;
use crate::registry::Caller;

const SWITCHES: [(&str, Period); 3] =
    [("daily_budget_dollars", Period::Day), ("weekly_budget_dollars", Period::Week), ("monthly_budget_dollars", Period::Month)];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Budgets {
    /// All that hold, whether or not a call came under them yet.
    pub budgets: Vec<Budget>,
    /// Calls that wait for money now.
    pub waiting: usize,
    /// What all calls of today (UTC) cost, with or without a budget.
    pub spent_today_dollars: f64,
}

pub async fn budgets(context: Arc<Context>, _: Caller, _: Nothing) -> Result<Budgets, ApiError> {
    let gateway = gateway(&context)?;
    let ledger = gateway.ledger();
    let mut budgets = ledger.budgets();
    let by_hand = crate::operations::switches::holding(&context).unwrap_or_default();
    let by_settings = gateway.base_switches();
    let set: Vec<&Switch> = by_hand.iter().chain(by_settings.iter().filter(|base| !by_hand.iter().any(|one| one.id == base.id))).collect();
    for cap in set.iter().filter_map(|switch| cap_of(switch, &set)) {
        if !budgets.iter().any(|budget| *budget.id == *cap.id) {
            budgets.push(ledger.budget(&cap));
        }
    }
    budgets.sort_by(|one, other| (&one.id, &one.purse).cmp(&(&other.id, &other.purse)));
    let today = ledger.top(paramedic_gateway::budget::Whose::All, Period::Day, 1);
    let waiting = budgets.iter().map(|budget| budget.waiting).sum();
    Ok(Budgets { budgets, waiting, spent_today_dollars: today.first().map_or(0.0, |all| all.dollars) })
}

/// The cap that a switch sets, as the calls that come under it will see it.
fn cap_of(switch: &Switch, set: &[&Switch]) -> Option<Cap> {
    let (_, period) = SWITCHES.into_iter().find(|(name, _)| *name == switch.switch)?;
    let dollars = switch.value.as_f64().filter(|dollars| *dollars > 0.0)?;
    let of = |all: bool| {
        let is_meant =
            |one: &&&Switch| one.switch == "enforce_budget" && if all { one.scope.parts().is_none() } else { one.scope == switch.scope };
        set.iter().find(is_meant).and_then(|one| one.value.as_bool())
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "such a cast saturates")]
    let pico = (dollars * PICO as f64) as u64;
    let enforce = of(false).or_else(|| of(true)).unwrap_or(true);
    Some(Cap { id: switch.id.as_str().into(), purse: switch.scope.to_string().into(), period, pico, enforce })
}
