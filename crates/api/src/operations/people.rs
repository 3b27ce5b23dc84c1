//! Who acts on runs, and what is said to those who name nobody.

use paramedic_model::Role;
use paramedic_runbook::desk::DeskError;
use paramedic_runbook::gate::Person;

use crate::context::{Context, Responding};
use crate::error::{ApiError, Code};
use crate::registry::Caller;

/// What answers incidents, or that nothing does here.
///
/// # Errors
///
/// There is no running instance.
pub fn responding(context: &Context) -> Result<&Responding, ApiError> {
    context.responding.as_ref().ok_or_else(|| {
        ApiError::new(
            Code::Unavailable,
            "nothing runs here: runbooks, actions, flags and switches need a running instance",
            "start it with: paramedic up",
        )
    })
}

/// The caller as a person, with the roles that they have in the incident.
pub async fn person(context: &Context, caller: &Caller, incident: Option<&str>) -> Person {
    let mut person = Person::human(&caller.actor);
    let Some(id) = incident.and_then(paramedic_respond::decide::parse_incident_id) else { return person };
    if let Some(incident) = context.desk.incidents().await.get(&id) {
        let holds = |role: &&Role| incident.holds(**role, &caller.actor);
        person.roles = Role::ALL.iter().filter(holds).map(|role| role.as_str().to_owned()).collect();
    }
    person
}

/// As [`person`]; a name that is no person's is refused.
///
/// # Errors
///
/// The caller named no person.
pub async fn somebody(context: &Context, caller: &Caller, incident: Option<&str>) -> Result<Person, ApiError> {
    let person = person(context, caller, incident).await;
    if person.is_human() { Ok(person) } else { Err(nobody(&person)) }
}

fn nobody(person: &Person) -> ApiError {
    ApiError::new(
        Code::Forbidden,
        format!("only a person may do this, and {:?} is no person", person.name),
        "say who you are with the header x-paramedic-actor (the command line takes $PARAMEDIC_ACTOR, else your user name)",
    )
}

/// What somebody who may be no person is told when they are refused.
pub(crate) fn denied(by: &Person, error: DeskError) -> ApiError {
    match &error {
        DeskError::Refused { why, .. } if !by.is_human() && why.contains("person") => nobody(by),
        _ => error.into(),
    }
}
