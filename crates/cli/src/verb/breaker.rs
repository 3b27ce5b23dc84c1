//! `paramedic breaker`: circuit breakers. Held open or closed they are by a switch.

use anyhow::Result;
use paramedic_api::operations::gateway::{BreakerReset, Breakers};
use paramedic_gateway::breaker::BreakerView;
use paramedic_model::{Clock as _, SystemClock, Timestamp};
use serde_json::json;

use super::agents::many;
use super::switches::set;
use crate::args::{BreakerVerb, Common, HoldArgs, SwitchHow};
use crate::exit::Exit;
use crate::face::Face;
use crate::show;

pub(super) async fn breaker(common: &Common, verb: &BreakerVerb) -> Result<Exit> {
    match verb {
        BreakerVerb::List => list(common).await,
        BreakerVerb::Open(hold) => held(common, hold, "open").await,
        BreakerVerb::Close(hold) => held(common, hold, "closed").await,
        BreakerVerb::Reset { name, all, reason } => reset(common, name.as_deref(), *all, reason).await,
    }
}

async fn held(common: &Common, hold: &HoldArgs, value: &str) -> Result<Exit> {
    let how = SwitchHow { scope: "all".to_owned(), lasts: Some(hold.lasts.clone()), reason: hold.reason.clone() };
    set(common, &format!("breaker:{}", hold.name), value, &how).await
}

async fn list(common: &Common) -> Result<Exit> {
    let face = Face::open_running(common).await?;
    let (all, value) = face.get::<Breakers>("breaker.list", &json!({})).await?;
    if common.json {
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    if all.breakers.is_empty() {
        show::line("No circuit breaker yet: each comes with the first call to its upstream, model or key (paramedic traffic).")?;
        return Ok(Exit::Done);
    }
    let now = SystemClock.now();
    show::table(
        &["breaker", "state", "since", "failures", "in a row", "trips", "tries again", "held by"],
        all.breakers.iter().map(|one| row(one, now)),
    )?;
    if !all.acting {
        show::line(
            "They only watch, but for those that are held: paramedic switch set circuit_breaker true --for 1h lets them refuse calls.",
        )?;
    }
    Ok(Exit::Done)
}

fn row(breaker: &BreakerView, now: Timestamp) -> Vec<String> {
    vec![
        breaker.name.clone(),
        breaker.state.name().to_owned(),
        show::ago(breaker.since, now),
        show::count(breaker.failures),
        breaker.failures_in_a_row.to_string(),
        show::count(breaker.trips),
        breaker.next_probe.map_or_else(String::new, |at| format!("in {}", show::span(at.since(now)))),
        breaker.forced_by.clone().unwrap_or_default(),
    ]
}

async fn reset(common: &Common, name: Option<&str>, all: bool, reason: &str) -> Result<Exit> {
    let face = Face::open_running(common).await?;
    let (reset, value) = face.post::<BreakerReset>("breaker.reset", &json!({"name": name, "all": all, "why": reason})).await?;
    if common.json {
        show::json(&value)?;
        return Ok(Exit::Done);
    }
    let what = match name {
        Some(name) if reset.closed > 0 => format!("{} was not closed, and is now", show::clean(name)),
        Some(name) if reset.cleared.is_empty() => format!("{} was closed; what it had seen is forgotten", show::clean(name)),
        Some(name) => format!("{} is reset", show::clean(name)),
        None => format!("{} closed", many(reset.closed as u64, "breaker")),
    };
    show::line(&what)?;
    for id in &reset.cleared {
        show::line(&format!("{} does not hold any more", show::clean(id)))?;
    }
    Ok(Exit::Done)
}
