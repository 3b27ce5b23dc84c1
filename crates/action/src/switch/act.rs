//! Switches set and cleared as actions.

use paramedic_model::Timestamp;
use paramedic_model::switch::{Scope, Switch, SwitchFault, checked, find, never, own_name};
use serde_json::{Value, json};

use super::store::{SwitchError, SwitchReader as _, SwitchStore, checked_end, id_of};
use crate::call::{Call, Done, Object, Plan, Verified};
use crate::error::ActionError;
use crate::spec::Effect;

/// Which switch, by its own name, and whom it is for.
fn named(call: &Call) -> Result<(String, Scope), ActionError> {
    let switch = own_name(&call.text("switch")?).to_owned();
    find(&switch).map_err(|error| call.fault("switch", error.to_string()))?;
    let scope = call.text_or_none("scope")?.unwrap_or_else(|| "all".to_owned());
    Ok((switch, scope.parse().map_err(|error: SwitchFault| call.fault("scope", error.to_string()))?))
}

fn value_of(call: &Call, switch: &str) -> Result<Value, ActionError> {
    let given = call.arguments.get("value").ok_or_else(|| call.fault("value", "it is not given"))?;
    checked(switch, given).map_err(|error| call.fault("value", error.to_string()))
}

/// Until when it is to hold. A time that is over is none of what is left of what was before.
fn until(call: &Call, switch: &str, now: Timestamp) -> Result<Timestamp, ActionError> {
    let known = find(switch).map_err(|error| call.fault("switch", error.to_string()))?;
    let (argument, end) = match call.text_or_none("until")? {
        Some(text) => {
            let wrong = || call.fault("until", "it is not a time like 2026-01-14T10:41:23Z");
            let end = Timestamp::parse(&text).ok_or_else(wrong)?;
            if end <= now {
                return Ok(end);
            }
            ("until", Some(end))
        }
        None => ("ttl", call.duration_or_none("ttl")?.map(|ttl| now.after(ttl))),
    };
    checked_end(switch, known, end, now).map_err(|error| call.fault(argument, error.to_string()))
}

/// `until 2026-01-14T10:41:23Z`
fn until_text(until: Timestamp) -> String {
    if until >= never() { "until it is cleared".to_owned() } else { format!("until {until}") }
}

/// What holds now under this id.
fn holding(store: &SwitchStore, id: &str, now: Timestamp) -> Option<Switch> {
    store.get(id).filter(|switch| switch.expires_at > now)
}

fn state_text(switch: Option<&Switch>) -> String {
    switch
        .map_or_else(|| "not set".to_owned(), |switch| format!("{} {}, set by {}", switch.value, until_text(switch.expires_at), switch.by))
}

fn facts(switch: Option<&Switch>) -> Value {
    switch
        .map_or(Value::Null, |switch| json!({ "value": switch.value, "expires_at": switch.expires_at, "by": switch.by, "why": switch.why }))
}

fn stands_on(switch: Option<&Switch>) -> String {
    switch.map_or(0, |switch| switch.seq).to_string()
}

/// Sets it as it was.
fn back(call: &Call, switch: &str, scope: &Scope, was: Option<&Switch>) -> Call {
    let mut back = match was {
        Some(was) => Call::new("gateway.switch_set").with("value", was.value.clone()).with("until", was.expires_at.to_string()),
        None => Call::new("gateway.switch_clear"),
    };
    back = back.with("switch", switch).with("scope", scope.to_string());
    back.by.clone_from(&call.by);
    back.reason = "take back what was changed".to_owned();
    back
}

fn begun(store: &SwitchStore, call: &Call, what: String, object: (&str, Option<&Switch>), now: Timestamp) -> Plan {
    let mut plan = Plan::new(call, Effect::Write, what);
    plan.objects.push(Object { kind: "switch".to_owned(), name: object.0.to_owned(), detail: state_text(object.1) });
    plan.affected = 1;
    plan.stands_on = stands_on(object.1);
    if store.enforcers(now).is_empty() {
        plan.warnings.push("no gateway enforces it: none has asked for the list of switches lately. `paramedic up` runs one unless listen.gateway is empty".to_owned());
    }
    plan
}

pub(super) fn plan_set(store: &SwitchStore, call: &Call, now: Timestamp) -> Result<Plan, ActionError> {
    let (switch, scope) = named(call)?;
    let (value, until) = (value_of(call, &switch)?, until(call, &switch, now)?);
    let id = id_of(&switch, &scope);
    let was = holding(store, &id, now);
    if until <= now {
        // The rest of its time is over by now: what comes back is that it is not set.
        return Ok(plan_end(store, call, &id, was.as_ref(), now));
    }
    let what = format!("set the switch {switch} to {value} for {scope} {}", until_text(until));
    let mut plan = begun(store, call, what.clone(), (&id, was.as_ref()), now);
    plan.exact.push(what);
    plan.inverse = Some(back(call, &switch, &scope, was.as_ref()));
    Ok(plan)
}

fn plan_end(store: &SwitchStore, call: &Call, id: &str, was: Option<&Switch>, now: Timestamp) -> Plan {
    let what = if was.is_some() { format!("clear the switch {id}") } else { format!("leave the switch {id} as it is, not set") };
    let mut plan = begun(store, call, what.clone(), (id, was), now);
    plan.affected = u64::from(was.is_some());
    plan.inverse = was.map(|was| back(call, &was.switch, &was.scope, Some(was)));
    plan.exact.push(what);
    plan
}

pub(super) fn plan_clear(store: &SwitchStore, call: &Call, now: Timestamp) -> Result<Plan, ActionError> {
    let (switch, scope) = named(call)?;
    let id = id_of(&switch, &scope);
    let was = holding(store, &id, now);
    Ok(plan_end(store, call, &id, was.as_ref(), now))
}

fn unchanged(call: &Call, plan: &Plan, id: &str, was: Option<&Switch>) -> Result<(), ActionError> {
    if stands_on(was) == plan.stands_on {
        return Ok(());
    }
    Err(ActionError::Changed { action: call.action.clone(), why: format!("the switch {id} is now {}", state_text(was)) })
}

fn failed(call: &Call, error: &SwitchError) -> ActionError {
    ActionError::Failed { action: call.action.clone(), why: error.to_string() }
}

pub(super) async fn set(store: &SwitchStore, call: &Call, plan: &Plan, now: Timestamp) -> Result<Done, ActionError> {
    let (switch, scope) = named(call)?;
    let (value, until) = (value_of(call, &switch)?, until(call, &switch, now)?);
    if until <= now {
        return clear(store, call, plan, now).await;
    }
    let id = id_of(&switch, &scope);
    let was = holding(store, &id, now);
    unchanged(call, plan, &id, was.as_ref())?;
    store.set(&switch, &value, &scope, until, &call.by, &call.reason, now).await.map_err(|error| failed(call, &error))?;
    let active = store.active(now).into_iter().find(|switch| switch.id == id);
    let names: Vec<String> = store.enforcers(now).into_iter().map(|one| one.name).collect();
    let who =
        if names.is_empty() { "no gateway has read that list lately".to_owned() } else { format!("it is read by {}", names.join(", ")) };
    let holds = active.as_ref().is_some_and(|active| active.value == value);
    let how = format!("the list of switches says: {}; {who}", state_text(active.as_ref()));
    let verified = if holds { Verified::seen(how) } else { Verified::missed(how) };
    let mut done = Done::new(format!("set the switch {switch} to {value} for {scope} {}", until_text(until)), verified);
    done.affected = 1;
    (done.before, done.after) = (facts(was.as_ref()), facts(active.as_ref()));
    done.inverse = Some(back(call, &switch, &scope, was.as_ref()));
    Ok(done)
}

pub(super) async fn clear(store: &SwitchStore, call: &Call, plan: &Plan, now: Timestamp) -> Result<Done, ActionError> {
    let (switch, scope) = named(call)?;
    let id = id_of(&switch, &scope);
    let was = holding(store, &id, now);
    unchanged(call, plan, &id, was.as_ref())?;
    if was.is_none() {
        return Ok(Done::new(format!("left the switch {id} as it is"), Verified::seen("it is not in the list of switches")));
    }
    store.clear(&switch, &scope, &call.by, &call.reason, now).await.map_err(|error| failed(call, &error))?;
    let active = holding(store, &id, now);
    let how = format!("the list of switches says: {}", state_text(active.as_ref()));
    let verified = if active.is_none() { Verified::seen(how) } else { Verified::missed(how) };
    let mut done = Done::new(format!("cleared the switch {id}"), verified);
    done.affected = 1;
    done.before = facts(was.as_ref());
    done.inverse = was.as_ref().map(|was| back(call, &switch, &scope, Some(was)));
    Ok(done)
}
