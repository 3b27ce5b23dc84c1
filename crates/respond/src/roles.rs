//! Who does what in the response: assigned, released, handed over. Pure.

use std::collections::BTreeMap;

use paramedic_model::{Role, Timestamp, secret, text};

use crate::command::{CommandError, checked_reason};
use crate::incident::Incident;
use crate::record::{Record, SYSTEM_ACTOR};

/// Responders of one incident.
pub const RESPONDERS_MAX: usize = 100;
pub const PERSON_BYTES_MAX: usize = 200;

/// Who holds which role. Every role but responder has at most one holder.
pub type Roles = BTreeMap<Role, Vec<String>>;

/// The roles of an incident that nobody has looked at: Paramedic writes down what happens.
pub(crate) fn at_start() -> Roles {
    BTreeMap::from([(Role::Scribe, vec![SYSTEM_ACTOR.to_owned()])])
}

/// Adds a role change up.
pub(crate) fn change(roles: &mut Roles, role: Role, from: Option<&String>, to: Option<&String>) {
    let holders = roles.entry(role).or_default();
    match (role, to) {
        (Role::Responder, _) => {
            holders.retain(|holder| Some(holder) != from);
            if let Some(to) = to
                && !holders.contains(to)
                && holders.len() < RESPONDERS_MAX
            {
                holders.push(to.clone());
            }
        }
        (_, Some(to)) => *holders = vec![to.clone()],
        (_, None) => holders.retain(|holder| Some(holder) != from),
    }
    if holders.is_empty() {
        roles.remove(&role);
        if role == Role::Scribe {
            roles.extend(at_start());
        }
    }
}

/// Names under which no person acts; with a colon they may say more, as in `policy:night`.
#[must_use]
pub fn is_machine(name: &str) -> bool {
    is_one_of(name, &[SYSTEM_ACTOR, "policy", "system", "automation", "agent"])
}

/// A person who gave no name holds no role: nobody could call them.
fn is_nameless(name: &str) -> bool {
    is_one_of(name, &["", "web", "http", "cli", "anonymous"])
}

fn is_one_of(name: &str, names: &[&str]) -> bool {
    let name = name.trim().to_ascii_lowercase();
    let first = name.split(':').next().unwrap_or_default();
    names.contains(&first)
}

/// Gives a role that is free. One that a person holds is handed over instead, so that the hand-over is on record.
pub(crate) fn assign(incident: &Incident, role: Role, person: &str, now: Timestamp) -> Result<Vec<Record>, CommandError> {
    let person = checked_person("person", person)?;
    if incident.holds(role, &person) {
        return Ok(Vec::new());
    }
    let holders = incident.holders(role);
    if role == Role::Responder && holders.len() >= RESPONDERS_MAX {
        return Err(invalid("person", format!("would be one more than {RESPONDERS_MAX} responders, the most of one incident")));
    }
    let held = holders.first().filter(|holder| role != Role::Responder && *holder != SYSTEM_ACTOR);
    if let Some(holder) = held {
        return Err(invalid("role", format!("{role} is held by {holder}: hand it over")));
    }
    Ok(vec![changed(incident, role, None, Some(person), now, "")])
}

pub(crate) fn release(incident: &Incident, role: Role, person: &str, now: Timestamp) -> Result<Vec<Record>, CommandError> {
    let person = checked_person("person", person)?;
    if !incident.holds(role, &person) {
        return Err(invalid("person", format!("{person} is not {role} of {}", incident.id)));
    }
    Ok(vec![changed(incident, role, Some(person), None, now, "")])
}

/// Passes a role on. Of several responders it is the one who asks that hands over.
pub(crate) fn hand_over(
    incident: &Incident,
    role: Role,
    to: &str,
    note: &str,
    actor: &str,
    now: Timestamp,
) -> Result<Vec<Record>, CommandError> {
    let to = checked_person("to", to)?;
    let from = match role {
        Role::Responder => Some(actor).filter(|actor| incident.holds(role, actor)),
        _ => incident.holders(role).first().map(String::as_str),
    };
    let Some(from) = from else {
        return Err(invalid("role", format!("{role} is held by nobody who could hand it over: assign it")));
    };
    if from == to {
        return Err(invalid("to", format!("names {to}, who is {role} already")));
    }
    Ok(vec![changed(incident, role, Some(from.to_owned()), Some(to), now, note)])
}

/// Who acknowledges works on it, and leads when nobody does. Two who approved together are named `ann and bob`.
pub(crate) fn of_acknowledger(incident: &Incident, actor: &str, now: Timestamp) -> Vec<Record> {
    let is_person = |name: &String| !is_machine(name) && !is_nameless(name);
    let people = || actor.split(" and ").filter_map(|name| checked_person("actor", name).ok()).filter(is_person);
    let why = "acknowledged it";
    let free = incident.holders(Role::Commander).is_empty();
    let leader = people().next().filter(|_| free).map(|person| changed(incident, Role::Commander, None, Some(person), now, why));
    let room = RESPONDERS_MAX.saturating_sub(incident.holders(Role::Responder).len());
    let new = people().filter(|person| !incident.holds(Role::Responder, person)).take(room);
    let responders = new.map(|person| changed(incident, Role::Responder, None, Some(person), now, why));
    leader.into_iter().chain(responders).collect()
}

fn changed(incident: &Incident, role: Role, from: Option<String>, to: Option<String>, at: Timestamp, note: &str) -> Record {
    let note = if note.trim().is_empty() { String::new() } else { checked_reason(note) };
    Record::RoleChanged { incident: incident.id.clone(), role, from, to, at, note }
}

fn checked_person(key: &'static str, person: &str) -> Result<String, CommandError> {
    let person = text::one_line(person.trim()).into_owned();
    if person.is_empty() {
        return Err(invalid(key, "is empty: a role is held by a person".to_owned()));
    }
    if person.len() > PERSON_BYTES_MAX {
        return Err(invalid(key, format!("has {} bytes: the most is {PERSON_BYTES_MAX}", person.len())));
    }
    Ok(secret::mask(&person).into_owned())
}

const fn invalid(key: &'static str, why: String) -> CommandError {
    CommandError::Invalid { key, why }
}
