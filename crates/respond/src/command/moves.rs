//! From state to state by hand.

use paramedic_model::{IncidentState, Timestamp};

use super::{CommandError, Decided, checked_reason};
use crate::incident::Incident;
use crate::record::Record;
use crate::roles;
use crate::transition::{Refusal, next};

pub(crate) fn acknowledge(incident: &Incident, actor: &str, now: Timestamp) -> Decided {
    if !incident.state.is_open() {
        return Err(CommandError::NotNow { incident: incident.id.clone(), state: incident.state, why: Refusal::NotOpen });
    }
    let mut records = Vec::new();
    if incident.round.acknowledged_at.is_none() {
        records.extend(acknowledgement(incident, actor, now));
        if incident.state == IncidentState::Triage {
            records.push(Record::StateChanged {
                incident: incident.id.clone(),
                from: incident.state,
                to: IncidentState::Investigating,
                at: now.max(incident.times().latest()),
                reason: "acknowledged".to_owned(),
            });
        }
    }
    Ok((incident.id.clone(), records))
}

/// Somebody is on it, and has the roles that follow from that; nothing when it was acknowledged since it was opened.
pub(crate) fn acknowledgement(incident: &Incident, actor: &str, now: Timestamp) -> Vec<Record> {
    if incident.round.acknowledged_at.is_some() {
        return Vec::new();
    }
    let at = now.max(incident.detected_at);
    let mut records = vec![Record::Acknowledged { incident: incident.id.clone(), at }];
    records.extend(roles::of_acknowledger(incident, actor, at));
    records
}

pub(crate) fn move_to(incident: &Incident, to: IncidentState, reason: &str, actor: &str, now: Timestamp) -> Decided {
    if incident.state == to {
        return Ok((incident.id.clone(), Vec::new()));
    }
    // A clock that lags behind the sources' must not keep anybody from moving on.
    let at = now.max(incident.times().latest());
    next(incident.state, to, &incident.facts(at)).map_err(|why| illegal(incident, to, why))?;
    let mut records = Vec::new();
    // Who works on it has acknowledged it; who calls it a false alarm, or puts it away, need not have.
    let works = to.is_open() || to == IncidentState::Resolved;
    let implied = works && !roles::is_machine(actor);
    let reopens = !incident.state.is_open();
    if implied && !reopens {
        records.extend(acknowledgement(incident, actor, at));
    }
    records.push(Record::StateChanged { incident: incident.id.clone(), from: incident.state, to, at, reason: checked_reason(reason) });
    if implied && reopens {
        // The clocks begin anew, and whoever re-opened it is there already.
        let mut after = incident.clone();
        after.round = crate::incident::Round::default();
        records.extend(acknowledgement(&after, actor, at));
    }
    Ok((incident.id.clone(), records))
}

pub(crate) fn reopen(incident: &Incident, reason: &str, actor: &str, now: Timestamp) -> Decided {
    if incident.state.is_open() {
        return Err(illegal(incident, IncidentState::Investigating, Refusal::AlreadyOpen));
    }
    move_to(incident, IncidentState::Investigating, reason, actor, now)
}

pub(crate) fn illegal(incident: &Incident, to: IncidentState, why: Refusal) -> CommandError {
    CommandError::IllegalMove { incident: incident.id.clone(), from: incident.state, to, why }
}
