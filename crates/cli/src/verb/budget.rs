//! `paramedic budget`: caps on what calls may cost, which are switches, and what of them is spent.

use anyhow::Result;
use paramedic_api::operations::gateway::Budgets;
use paramedic_gateway::budget::{Budget, Period};
use paramedic_model::{Clock as _, SystemClock, Timestamp};
use serde_json::json;

use super::switches::{clear, set};
use crate::args::{BudgetVerb, Common};
use crate::exit::Exit;
use crate::face::Face;
use crate::show;

pub(super) async fn budget(common: &Common, verb: Option<&BudgetVerb>) -> Result<Exit> {
    match verb {
        None | Some(BudgetVerb::List) => list(common).await,
        Some(BudgetVerb::Set { amount, per, how }) => set(common, per.switch(), amount.trim().trim_start_matches('$'), how).await,
        Some(BudgetVerb::Clear { per, scope, reason }) => clear(common, per.switch(), Some(scope), reason).await,
    }
}

async fn list(common: &Common) -> Result<Exit> {
    let face = Face::open_running(common).await?;
    let (all, value) = face.get::<Budgets>("gateway.budgets", &json!({})).await?;
    if common.json {
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    let today = show::dollars(all.spent_today_dollars);
    if all.budgets.is_empty() {
        show::line(&format!("No budget holds; {today} were spent today. Set one: paramedic budget set 20 --per day"))?;
        return Ok(Exit::Done);
    }
    let now = SystemClock.now();
    let titles = ["whose", "per", "cap", "spent", "used", "held", "left", "at worst", "running", "waiting", "begins anew", "at the cap"];
    show::table(&titles, all.budgets.iter().map(|one| row(one, now)))?;
    show::line(&format!(
        "{today} were spent today. Held: reserved for calls that run; at worst: spent when they are over, whatever they write."
    ))?;
    Ok(Exit::Done)
}

fn row(budget: &Budget, now: Timestamp) -> Vec<String> {
    let per = match budget.period {
        Period::Day => "day",
        Period::Week => "week",
        Period::Month => "month",
        Period::Life => "life",
    };
    vec![
        budget.purse.to_string(),
        per.to_owned(),
        show::dollars(budget.cap_dollars),
        show::dollars(budget.spent_dollars),
        format!("{:.0} %", budget.share * 100.0),
        show::dollars(budget.reserved_dollars),
        show::dollars(budget.remaining_dollars),
        show::dollars(budget.worst_case_dollars),
        budget.running.to_string(),
        budget.waiting.to_string(),
        budget.resets_at.map_or_else(|| "never".to_owned(), |at| format!("in {}", show::span(at.since(now)))),
        if budget.enforce { "refuses" } else { "only tells" }.to_owned(),
    ]
}
