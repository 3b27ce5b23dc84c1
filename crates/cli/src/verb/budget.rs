//! `paramedic budget`: caps on what calls may cost, which are switches.

use anyhow::Result;

use super::switches::{clear, set};
use crate::args::{BudgetVerb, Common};
use crate::exit::Exit;

pub(super) async fn budget(common: &Common, verb: &BudgetVerb) -> Result<Exit> {
    match verb {
        BudgetVerb::Set { amount, per, how } => set(common, per.switch(), amount.trim().trim_start_matches('$'), how).await,
        BudgetVerb::Clear { per, scope, reason } => clear(common, per.switch(), Some(scope), reason).await,
    }
}
