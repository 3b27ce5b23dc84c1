//! Corrections by hand: severity, kind, times. Each is on record with the old value.

use paramedic_model::{IncidentKind, Moment, Severity, Timestamp};

use super::{CommandError, checked_reason, needed_reason, unmerged};
use crate::incident::Incident;
use crate::record::Record;

pub(crate) fn severity(incident: &Incident, to: Severity, reason: &str, now: Timestamp) -> Vec<Record> {
    if incident.severity == to && incident.severity_by_hand {
        return Vec::new();
    }
    vec![Record::SeverityChanged {
        incident: incident.id.clone(),
        from: incident.severity,
        to,
        at: now,
        reason: checked_reason(reason),
        by_hand: true,
    }]
}

pub(crate) fn kind(incident: &Incident, to: IncidentKind, reason: &str) -> Result<Vec<Record>, CommandError> {
    unmerged(incident)?;
    if incident.kind == to {
        return Ok(Vec::new());
    }
    if [incident.kind, to].contains(&IncidentKind::Backfill) {
        let why = format!("cannot change between {} and {to}: what was read from history stays that", incident.kind);
        return Err(CommandError::Invalid { key: "kind", why });
    }
    let reason = needed_reason(reason)?;
    Ok(vec![Record::KindChanged { incident: incident.id.clone(), from: incident.kind, to, reason }])
}

pub(crate) fn back_date(
    incident: &Incident,
    what: Moment,
    to: Timestamp,
    reason: &str,
    now: Timestamp,
) -> Result<Vec<Record>, CommandError> {
    unmerged(incident)?;
    let reason = needed_reason(reason)?;
    let times = incident.times();
    let (Some(from), Some(corrected)) = (times.of(what), times.with(what, to)) else {
        return Err(CommandError::Invalid { key: "what", why: format!("names a time that {} does not have: {what}", incident.id) });
    };
    if to > now {
        return Err(CommandError::Invalid { key: "to", why: format!("lies in the future: {to}") });
    }
    if from == to {
        return Ok(Vec::new());
    }
    corrected.check().map_err(|why| CommandError::Invalid { key: "to", why: format!("is out of order: {why}") })?;
    Ok(vec![Record::BackDated { incident: incident.id.clone(), what, from, to, reason }])
}
