//! Switches of the gateway: what holds now, set and cleared.

use std::sync::Arc;

use paramedic_action::Call;
use paramedic_action::switch::{Ended, Enforcer, KNOWN, Known, Scope, Switch, SwitchError, SwitchReader as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::people::{responding, somebody};
use crate::context::Context;
use crate::error::ApiError;
use crate::registry::{Caller, Method, Operation, Permission};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SwitchesQuery {
    /// Who enforces them: the name of a gateway. It is listed as such for a minute.
    pub enforcer: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SwitchList {
    /// Those that hold now.
    pub switches: Vec<Switch>,
    /// Those that ended lately, the latest first.
    pub ended: Vec<Ended>,
    /// Who read this list in order to enforce it within the last minute. With nobody, a switch does nothing.
    pub enforcers: Vec<Enforcer>,
    /// All that can be set.
    pub known: &'static [Known],
}

pub async fn list(context: Arc<Context>, _: Caller, query: SwitchesQuery) -> Result<SwitchList, ApiError> {
    let (switches, now) = (&responding(&context)?.switches, context.now());
    if let Some(enforcer) = query.enforcer.as_deref().map(str::trim).filter(|name| !name.is_empty()) {
        switches.enforcer_seen(enforcer, now);
    }
    Ok(SwitchList { switches: switches.active(now), ended: switches.ended(), enforcers: switches.enforcers(now), known: KNOWN })
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SwitchInput {
    /// `fast_fail`.
    pub switch: String,
    /// True, a number or a text, as the switch wants it.
    pub value: Value,
    /// Whom it is for: `all` (default), `user:ana`, `model:…`.
    #[serde(default)]
    pub scope: Option<String>,
    /// How long it holds: `90s`, `30m`, `2h`; at most 24 h.
    pub ttl: String,
    #[serde(default)]
    pub why: String,
}

/// The switch that was changed, as it is or was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SwitchChanged {
    pub switch: Switch,
}

pub async fn set(context: Arc<Context>, caller: Caller, input: SwitchInput) -> Result<SwitchChanged, ApiError> {
    let (switches, now) = (&responding(&context)?.switches, context.now());
    somebody(&context, &caller, None).await?;
    let ttl = Call::new("switch").with("ttl", input.ttl).duration("ttl")?;
    let scope: Scope = input.scope.as_deref().filter(|scope| !scope.is_empty()).unwrap_or("all").parse().map_err(SwitchError::from)?;
    let switch = switches.set(&input.switch, &input.value, &scope, now.after(ttl), &caller.actor, &input.why, now).await?;
    Ok(SwitchChanged { switch })
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClearInput {
    /// `fast_fail@all`; a plain `fast_fail` is the one for all.
    pub id: String,
    #[serde(default)]
    pub why: String,
}

pub async fn clear(context: Arc<Context>, caller: Caller, input: ClearInput) -> Result<SwitchChanged, ApiError> {
    let (switches, now) = (&responding(&context)?.switches, context.now());
    somebody(&context, &caller, None).await?;
    let found = switches.get(&input.id).or_else(|| switches.get(&format!("{}@all", input.id)));
    let set = found.ok_or_else(|| SwitchError::NotSet { id: paramedic_model::text::head(&input.id, 300).to_owned() })?;
    let switch = switches.clear(&set.switch, &set.scope, &caller.actor, &input.why, now).await?;
    Ok(SwitchChanged { switch })
}

pub(crate) fn register(all: &mut Vec<Operation>) {
    use Method::{Get, Post};
    use Permission::{Read, Write};
    all.extend([
        Operation::new("switch.list", (Get, "/api/v1/switches"), "List the switches that hold, for people and for gateways.", Read, list),
        Operation::new("switch.set", (Post, "/api/v1/switches"), "Set a switch for a time.", Write, set),
        Operation::new("switch.clear", (Post, "/api/v1/switches/{id}/clear"), "End a switch before its time.", Write, clear),
    ]);
}
