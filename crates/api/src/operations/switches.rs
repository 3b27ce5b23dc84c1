//! Switches of the gateway: what holds now, set and cleared.

use std::sync::Arc;

use paramedic_action::Call;
use paramedic_action::switch::{Ended, Enforcer, SwitchError, SwitchReader as _, checked_end, from_flags, id_of, is_by_flag, with_flags};
use paramedic_gateway::Gateway;
use paramedic_gateway::traffic::{Effect, Sum};
use paramedic_model::switch::{FLAG_NAMES, KNOWN, Known, Scope, Switch, ValueKind, find, own_name};
use paramedic_model::{Timestamp, text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::people::{responding, somebody};
use crate::context::Context;
use crate::error::{ApiError, Code};
use crate::registry::{Caller, Method, Operation, Permission};

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SwitchesQuery {
    /// Who enforces them: the name of a gateway. It is listed as such for a minute.
    pub enforcer: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct SwitchList {
    /// Those that hold now. What a feature flag stands for is set by "flag".
    pub switches: Vec<ListedSwitch>,
    /// Those that ended lately, the latest first.
    pub ended: Vec<Ended>,
    /// Who read this list in order to enforce it within the last minute. With nobody, a switch does nothing.
    pub enforcers: Vec<Enforcer>,
    /// All that can be set.
    pub known: Vec<KnownSwitch>,
}

/// A switch that holds, and what it did so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ListedSwitch {
    /// `fast_fail@all`: its name and whom it is for. There is one of each.
    pub id: String,
    pub switch: String,
    pub value: Value,
    #[schemars(with = "String")]
    pub scope: Scope,
    pub by: String,
    pub why: String,
    pub set_at: Timestamp,
    /// A year of 9999 says: until somebody clears it.
    pub expires_at: Timestamp,
    /// The journal's entry that says so; 0 where it is in no journal.
    pub seq: u64,
    /// None where no gateway runs in this instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<SwitchEffect>,
}

/// What a switch does in this instance's gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SwitchEffect {
    /// Calls that it did something to since it was set, or since the gateway was started.
    pub calls: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Timestamp>,
    /// What it did last.
    pub last: String,
    /// Dollars that it saved so far, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saved_dollars: Option<f64>,
    /// All calls before it was set, and since: ten minutes each at most.
    pub traffic: Effect,
    /// Calls a minute that were refused, of all, before and since.
    pub refused_per_minute_before: f64,
    pub refused_per_minute_after: f64,
}

impl SwitchEffect {
    fn of(gateway: &Gateway, switch: &Switch, now: Timestamp) -> Self {
        let traffic = gateway.traffic().effect(switch.set_at, now);
        let work = gateway.traffic().work().into_iter().find(|work| work.switch == switch.id && work.last_at >= switch.set_at);
        let saved_dollars = work.as_ref().and_then(|work| work.saved_dollars);
        let (calls, last_at, last) = work.map_or((0, None, String::new()), |work| (work.calls, Some(work.last_at), work.last));
        #[expect(clippy::cast_precision_loss, reason = "read by people")]
        let a_minute = |sum: &Sum, seconds: u64| sum.refused as f64 * 60.0 / seconds.max(60) as f64;
        Self {
            calls,
            last_at,
            last,
            saved_dollars,
            traffic,
            refused_per_minute_before: a_minute(&traffic.before, traffic.before_s),
            refused_per_minute_after: a_minute(&traffic.after, traffic.after_s),
        }
    }
}

impl ListedSwitch {
    fn of(switch: Switch, gateway: Option<&Gateway>, now: Timestamp) -> Self {
        let effect = gateway.map(|gateway| SwitchEffect::of(gateway, &switch, now));
        let Switch { id, switch, value, scope, by, why, set_at, expires_at, seq } = switch;
        Self { id, switch, value, scope, by, why, set_at, expires_at, seq, effect }
    }
}

/// A switch that can be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct KnownSwitch {
    /// With a colon at its end a name follows: `blocked_user:ana`.
    pub name: &'static str,
    pub kind: ValueKind,
    /// The words it can be set to, where it takes words.
    pub words: &'static [&'static str],
    pub what: &'static str,
    /// It may be set without a `ttl`, and holds then until it is cleared.
    pub lasting: bool,
    /// Other names that are taken for it.
    pub flag_names: Vec<&'static str>,
}

impl KnownSwitch {
    fn of(known: &Known) -> Self {
        let Known { name, kind, words, what, lasting } = *known;
        let flag_names = FLAG_NAMES.iter().filter(|(_, switch)| *switch == name).map(|(flag, _)| *flag).collect();
        Self { name, kind, words, what, lasting, flag_names }
    }
}

/// All that can be set, in the order in which they are shown.
#[must_use]
pub fn known_switches() -> Vec<KnownSwitch> {
    KNOWN.iter().map(KnownSwitch::of).collect()
}

/// What holds now: what was set, and what feature flags stand for.
pub fn holding(context: &Context) -> Result<Vec<Switch>, ApiError> {
    let (responding, now) = (responding(context)?, context.now());
    Ok(with_flags(responding.switches.active(now), from_flags(&responding.flags, now)))
}

pub async fn list(context: Arc<Context>, _: Caller, query: SwitchesQuery) -> Result<SwitchList, ApiError> {
    let (switches, now) = (&responding(&context)?.switches, context.now());
    if let Some(enforcer) = query.enforcer.as_deref().map(str::trim).filter(|name| !name.is_empty()) {
        switches.enforcer_seen(enforcer, now);
    }
    let known = known_switches();
    let holding = holding(&context)?.into_iter();
    let holding = holding.map(|switch| ListedSwitch::of(switch, context.gateway.as_ref(), now)).collect();
    Ok(SwitchList { switches: holding, ended: switches.ended(), enforcers: switches.enforcers(now), known })
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SwitchInput {
    /// `fast_fail`, or a flag name that stands for it: `ENABLE_FAST_FAIL`.
    pub switch: String,
    /// True, a number, a name or one of its words, as the switch wants it.
    pub value: Value,
    /// Whom it is for: `all` (default), `key:…`, `user:…`, `team:…`, `agent:…`, `session:…`, `model:…`, `plugin:…`.
    #[serde(default)]
    pub scope: Option<String>,
    /// How long it holds: `90s`, `30m`, `2h`; at most 24 h. A switch that may last (a budget) needs none, and may have a longer one.
    #[serde(default)]
    pub ttl: Option<String>,
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
    let name = own_name(&input.switch);
    let known = find(name).map_err(SwitchError::from)?;
    let ttl = input.ttl.filter(|ttl| !ttl.is_empty()).map(|ttl| Call::new("switch").with("ttl", ttl).duration("ttl")).transpose()?;
    let until = checked_end(name, known, ttl.map(|ttl| now.after(ttl)), now)?;
    let scope = scope_of(input.scope.as_deref())?;
    let switch = switches.set(name, &input.value, &scope, until, &caller.actor, &input.why, now).await?;
    Ok(SwitchChanged { switch })
}

/// Whom a switch is for; nothing said is all.
fn scope_of(text: Option<&str>) -> Result<Scope, ApiError> {
    Ok(text.map(str::trim).filter(|scope| !scope.is_empty()).unwrap_or("all").parse().map_err(SwitchError::from)?)
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClearInput {
    /// `fast_fail@all`; a plain `fast_fail` is the one for all, or for `scope`.
    pub id: String,
    /// Whom it is for, where the id does not say so.
    #[serde(default)]
    pub scope: Option<String>,
    #[serde(default)]
    pub why: String,
}

pub async fn clear(context: Arc<Context>, caller: Caller, input: ClearInput) -> Result<SwitchChanged, ApiError> {
    let (parts, now) = (responding(&context)?, context.now());
    somebody(&context, &caller, None).await?;
    let id = match input.scope.as_deref().map(str::trim).filter(|scope| !scope.is_empty()) {
        Some(scope) => id_of(own_name(&input.id), &scope_of(Some(scope))?),
        None => input.id,
    };
    let Some(set) = parts.switches.find(&id) else { return Err(not_set(&id, &holding(&context)?)) };
    let switch = parts.switches.clear(&set.switch, &set.scope, &caller.actor, &input.why, now).await?;
    Ok(SwitchChanged { switch })
}

/// There is nothing to clear: because there is no such switch, because a flag says it, or because it is set for others only.
fn not_set(id: &str, holding: &[Switch]) -> ApiError {
    let whole = own_name(id);
    let name = holding.iter().map(|switch| switch.switch.as_str()).find(|name| {
        // What follows a colon may hold an @ itself.
        whole.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('@'))
    });
    let name = name.unwrap_or_else(|| own_name(id.split_once('@').map_or(id, |(name, _)| name)));
    let of_that_name = || holding.iter().filter(|switch| switch.switch == name);
    if let Some(switch) = of_that_name().find(|switch| is_by_flag(switch) && (switch.id == id || whole == name)) {
        let message = format!("failed to clear the switch {}: it was not set, but {} stands for it", switch.id, switch.why);
        return ApiError::new(Code::Conflict, message, "set that flag; a switch of the same name that you set wins over it");
    }
    let scopes: Vec<String> = of_that_name().filter(|switch| !is_by_flag(switch)).take(5).map(|switch| switch.scope.to_string()).collect();
    match find(name) {
        Err(fault) if !id.contains(':') => SwitchError::from(fault).into(),
        _ if scopes.is_empty() => SwitchError::NotSet { id: text::head(id, 300).to_owned() }.into(),
        _ => {
            let message = format!("failed to clear the switch {}: it is set only for {}", text::head(id, 300), scopes.join(", "));
            ApiError::new(Code::NotFound, message, "say for whom: the scope, or NAME@SCOPE")
        }
    }
}

pub(crate) fn register(all: &mut Vec<Operation>) {
    use Method::{Get, Post};
    use Permission::{Read, Write};
    all.extend([
        Operation::new("switch.list", (Get, "/api/v1/switches"), "List the switches that hold, for people and for gateways.", Read, list),
        Operation::new("switch.set", (Post, "/api/v1/switches"), "Set a switch for a time; a budget also until it is cleared.", Write, set),
        Operation::new("switch.clear", (Post, "/api/v1/switches/{id}/clear"), "End a switch before its time.", Write, clear),
    ]);
}
