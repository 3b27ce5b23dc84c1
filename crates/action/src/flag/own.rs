//! Flags of our own store.

use paramedic_model::Timestamp;
use serde_json::{Value, json};

use super::store::{Flag, FlagStore};
use crate::call::{Call, Done, Object, Plan, Verified};
use crate::error::ActionError;
use crate::spec::Effect;

/// Until when it is to hold, from `ttl` or `until`.
pub(super) fn until(call: &Call, now: Timestamp) -> Result<Option<Timestamp>, ActionError> {
    if let Some(ttl) = call.duration_or_none("ttl")? {
        if ttl.is_zero() {
            return Err(call.fault("ttl", "it is no time at all"));
        }
        return Ok(Some(now.after(ttl)));
    }
    let Some(text) = call.text_or_none("until")? else { return Ok(None) };
    Timestamp::parse(&text).map(Some).ok_or_else(|| call.fault("until", "it is not a time like 2026-01-14T10:41:23Z"))
}

fn word(enabled: bool) -> &'static str {
    if enabled { "enabled" } else { "disabled" }
}

fn state_text(flag: Option<&Flag>) -> String {
    match flag {
        None => "nobody has set it here".to_owned(),
        Some(flag) => {
            let until = flag.expires_at.map_or_else(String::new, |at| format!(", until {at}"));
            format!("{} by {} at {}{until}", word(flag.enabled), flag.by, flag.set_at)
        }
    }
}

fn facts(flag: Option<&Flag>) -> Value {
    flag.map_or(Value::Null, |flag| json!({ "enabled": flag.enabled, "by": flag.by, "why": flag.why, "expires_at": flag.expires_at }))
}

pub(super) fn plan(store: &FlagStore, call: &Call, name: &str, now: Timestamp) -> Result<Plan, ActionError> {
    let found = store.get(name);
    if call.action == "flag.read" {
        return Ok(Plan::new(call, Effect::Read, format!("read the flag {name}")));
    }
    let enabled = call.action == "flag.enable";
    let until = until(call, now)?;
    let suffix = until.map_or_else(String::new, |at| format!(" until {at}"));
    let mut plan = Plan::new(call, Effect::Write, format!("set the flag {name} to {}{suffix}", word(enabled)));
    plan.objects.push(Object { kind: "flag".to_owned(), name: name.to_owned(), detail: state_text(found.as_ref()) });
    plan.affected = 1;
    plan.exact.push(format!("set {name} {}{suffix} in the store of this instance", word(enabled)));
    plan.inverse = Some(back(call, name, found.as_ref(), enabled, now));
    plan.stands_on = found.as_ref().map_or(0, |flag| flag.seq).to_string();
    if found.is_none() {
        plan.warnings.push(format!("nobody has ever set or asked for the flag {name} in this store; is that its name?"));
    }
    Ok(plan)
}

/// Sets it as it was; where nobody had set it, to the opposite.
fn back(call: &Call, name: &str, found: Option<&Flag>, enabled: bool, now: Timestamp) -> Call {
    let was = found.map_or(!enabled, |flag| flag.enabled_at(now));
    let mut back = Call::new(if was { "flag.enable" } else { "flag.disable" }).with("flag", name);
    if let Some(at) = found.and_then(|flag| flag.expires_at).filter(|at| *at > now) {
        back = back.with("until", at.to_string()).with("then", found.is_some_and(|flag| flag.then));
    }
    back.by.clone_from(&call.by);
    back.reason = "take back what was changed".to_owned();
    back
}

pub(super) async fn execute(store: &FlagStore, call: &Call, plan: &Plan, name: &str, now: Timestamp) -> Result<Done, ActionError> {
    let before = store.get(name);
    if call.action == "flag.read" {
        let mut answer = facts(before.as_ref());
        if let (Value::Object(fields), Some(flag)) = (&mut answer, &before) {
            fields.insert("enabled".to_owned(), flag.enabled_at(now).into());
        }
        return Ok(Done::looked(format!("read the flag {name}: {}", state_text(before.as_ref())), answer));
    }
    if before.as_ref().map_or(0, |flag| flag.seq).to_string() != plan.stands_on {
        let why = format!("the flag {name} was set meanwhile: {}", state_text(before.as_ref()));
        return Err(ActionError::Changed { action: call.action.clone(), why });
    }
    let enabled = call.action == "flag.enable";
    let then = call.arguments.contains_key("then").then(|| call.flag_or("then", enabled)).transpose()?;
    let until = until(call, now)?;
    // What was to hold until a time that is over by now is what it was to be afterwards.
    let over = until.is_some_and(|at| at <= now);
    let enabled = if over { then.unwrap_or(!enabled) } else { enabled };
    let until = until.filter(|_| !over).map(|at| (at, then));
    let set = store.set_until(name, enabled, &call.by, &call.reason, until, now).await;
    let flag = set.map_err(|error| ActionError::Failed { action: call.action.clone(), why: error.to_string() })?;
    let after = store.get(name);
    let how = format!("the store says: {}", state_text(after.as_ref()));
    let holds = after.as_ref().is_some_and(|after| after.enabled == enabled && after.seq == flag.seq);
    let verified = if holds { Verified::seen(how) } else { Verified::missed(how) };
    let mut done = Done::new(format!("set the flag {name} to {}", word(enabled)), verified);
    done.affected = 1;
    (done.before, done.after) = (facts(before.as_ref()), facts(after.as_ref()));
    done.inverse = Some(back(call, name, before.as_ref(), enabled, now));
    Ok(done)
}
