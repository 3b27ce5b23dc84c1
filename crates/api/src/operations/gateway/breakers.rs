//! Circuit breakers: how they stand, and closing them. Held open or closed they are by the switch `breaker:NAME`.

use std::sync::Arc;

use paramedic_action::switch::SwitchReader as _;
use paramedic_gateway::breaker::BreakerView;
use paramedic_model::Switch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use super::{gateway, why_of, write_down};
use crate::context::Context;
use crate::error::{ApiError, Code};
use crate::operations::alerts::Nothing;
use crate::operations::people::somebody;
use crate::registry::Caller;

const SWITCH: &str = "breaker:";
const NAME_BYTES_MAX: usize = 256;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Breakers {
    /// By name: an upstream, one of its models, one of its keys.
    pub breakers: Vec<BreakerView>,
    /// Whether those that opened by themselves refuse calls: the switch `circuit_breaker` holds for some. Else they only watch.
    pub acting: bool,
}

pub async fn breakers(context: Arc<Context>, _: Caller, _: Nothing) -> Result<Breakers, ApiError> {
    let (gateway, now) = (gateway(&context)?, context.now());
    let breakers = gateway.breakers().view(Instant::now(), now);
    let set = holding(&context).into_iter().chain(gateway.base_switches());
    let acting = set.into_iter().any(|switch| switch.switch == "circuit_breaker" && switch.value.as_bool() == Some(true));
    Ok(Breakers { breakers, acting })
}

/// The switches that hold by hand and by flags.
fn holding(context: &Context) -> Vec<Switch> {
    crate::operations::switches::holding(context).unwrap_or_default()
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ResetInput {
    /// Which one: `anthropic`, `anthropic/claude-opus-5-5`.
    pub name: Option<String>,
    /// All of them.
    pub all: bool,
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BreakerReset {
    /// Breakers that were not closed, and are now.
    pub closed: usize,
    /// Switches that held breakers and were cleared.
    pub cleared: Vec<String>,
    /// The journal's entry that says so.
    pub seq: u64,
}

pub async fn reset_breakers(context: Arc<Context>, caller: Caller, input: ResetInput) -> Result<BreakerReset, ApiError> {
    let gateway = gateway(&context)?;
    somebody(&context, &caller, None).await?;
    let name = input.name.as_deref().map(str::trim).filter(|name| !name.is_empty() && name.len() <= NAME_BYTES_MAX);
    let name = match (name, input.all) {
        (Some(name), false) => Some(name),
        (None, true) => None,
        _ => return Err(ApiError::bad_key("name", "say which circuit breaker, or all of them, and not both")),
    };
    let held = held(&context, name);
    let known = gateway.breakers().view(Instant::now(), context.now());
    if let Some(name) = name.filter(|name| held.is_empty() && !known.iter().any(|breaker| breaker.name == *name)) {
        let message = format!("there is no circuit breaker {name:?}");
        return Err(ApiError::new(Code::NotFound, message, "GET /api/v1/gateway/breakers lists them; each comes with its first call"));
    }
    let subject = format!("breaker/{}", name.unwrap_or("all"));
    let why = why_of(&input.why);
    let seq = write_down(&context, &caller, "breaker-reset", subject, json!({"name": name, "all": input.all, "why": why})).await?;
    let mut cleared = Vec::new();
    if let Some(parts) = &context.responding {
        for switch in held {
            let why = if why.is_empty() { "the circuit breaker is reset" } else { &why };
            parts.switches.clear(&switch.switch, &switch.scope, &caller.actor, why, context.now()).await?;
            cleared.push(switch.id);
        }
    }
    let now = Instant::now();
    let closed = match name {
        Some(name) => {
            let was_closed = known.iter().any(|one| one.name == name && one.state == paramedic_gateway::breaker::State::Closed);
            usize::from(gateway.breakers().reset(name, now) && !was_closed)
        }
        None => gateway.breakers().reset_all(now),
    };
    Ok(BreakerReset { closed, cleared, seq })
}

/// The switches that hold this breaker, or all of them.
fn held(context: &Context, name: Option<&str>) -> Vec<Switch> {
    let set = context.responding.as_ref().map(|parts| parts.switches.active(context.now())).unwrap_or_default();
    let is_meant = |switch: &Switch| switch.switch.strip_prefix(SWITCH).is_some_and(|of| name.is_none_or(|name| of == name));
    set.into_iter().filter(is_meant).collect()
}
