//! Two incidents that are one problem, and one incident that is two.

use std::collections::BTreeSet;

use paramedic_model::{AgentId, Fingerprint, IncidentState, Severity, Timestamp};

use super::moves::{acknowledgement, illegal};
use super::{CommandError, Decided};
use crate::config::Settings;
use crate::decide::{fires_again, impact};
use crate::incident::{Episode, Incident};
use crate::incidents::Incidents;
use crate::record::Record;
use crate::transition::{Facts, Refusal, next};

pub(crate) fn merge(incident: &Incident, into: &Incident, actor: &str, now: Timestamp, settings: &Settings) -> Decided {
    if incident.id == into.id {
        return Err(CommandError::Invalid { key: "into", why: "names the incident itself".to_owned() });
    }
    next(incident.state, IncidentState::Merged, &Facts { merges: true, ..incident.facts(now) })
        .map_err(|why| illegal(incident, IncidentState::Merged, why))?;
    if let Some(why) = ended(into).filter(|why| incident.state.is_open() || *why == Refusal::Merged) {
        // Its alerts would go on where nobody looks any more.
        return Err(CommandError::NotNow { incident: into.id.clone(), state: into.state, why });
    }
    let mut records = vec![
        Record::Merged { incident: incident.id.clone(), into: into.id.clone() },
        Record::MergedFrom { incident: into.id.clone(), from: incident.id.clone() },
    ];
    let mut after = into.clone();
    after.absorb(incident);
    if into.state.is_open() {
        if incident.round.acknowledged_at.is_some() && into.round.acknowledged_at.is_none() {
            records.extend(acknowledgement(into, actor, now));
        }
        if into.state == IncidentState::Mitigated {
            records.extend(after_merge(&after, incident, now));
        }
        records.extend(worse(&after, incident, now, settings));
    }
    Ok((into.id.clone(), records))
}

/// What was quiet is not, or has been quiet for less long.
fn after_merge(after: &Incident, merged: &Incident, now: Timestamp) -> Option<Record> {
    let at = now.max(after.times().latest());
    if merged.firing().next().is_some() {
        return Some(fires_again(after, at, format!("{} was merged into it, whose alerts are active", merged.id)));
    }
    let cleared_at = after.cleared_at().filter(|cleared_at| after.mitigated_at.is_some_and(|known| *cleared_at > known))?;
    Some(crate::decide::mitigated(after, cleared_at))
}

/// Both together may weigh more than either.
fn worse(after: &Incident, merged: &Incident, now: Timestamp, settings: &Settings) -> Option<Record> {
    if after.severity_by_hand {
        return None;
    }
    let as_merged = (merged.severity, format!("{} was {}", merged.id, merged.severity));
    let (to, reason): (Severity, String) = impact(after, settings).into_iter().chain([as_merged]).max_by_key(|(severity, _)| *severity)?;
    (to > after.severity).then(|| Record::SeverityChanged {
        incident: after.id.clone(),
        from: after.severity,
        to,
        at: now,
        reason,
        by_hand: false,
    })
}

/// Why nothing can be moved in or out of an incident that is not open.
fn ended(incident: &Incident) -> Option<Refusal> {
    match incident.state {
        IncidentState::Resolved => Some(Refusal::Resolved),
        IncidentState::Closed => Some(Refusal::Closed),
        IncidentState::Cancelled => Some(Refusal::Cancelled),
        IncidentState::Merged => Some(Refusal::Merged),
        IncidentState::Triage | IncidentState::Investigating | IncidentState::Identified | IncidentState::Mitigated => None,
    }
}

pub(crate) fn split(
    incidents: &Incidents,
    incident: &Incident,
    (alerts, agents): (&[Fingerprint], &[AgentId]),
    title: String,
    actor: &str,
    now: Timestamp,
) -> Decided {
    if let Some(why) = ended(incident) {
        return Err(CommandError::NotNow { incident: incident.id.clone(), state: incident.state, why });
    }
    let alerts = chosen(incident, alerts, agents)?;
    let going: Vec<&Episode> = incident.episodes.iter().filter(|episode| alerts.contains(&episode.fingerprint)).collect();
    let id = incidents.next_id();
    let started_at = going.iter().map(|episode| episode.started_at).min().unwrap_or(incident.started_at);
    let detected_at = incident.detected_at.max(started_at);
    let severity = going.iter().filter_map(|episode| episode.severity).max().unwrap_or(incident.severity);
    // A cause of its own: other alerts of the old cause stay where they were.
    let cause = format!("split:{id}");
    let mut new = Incident::open(
        id.clone(),
        0,
        incident.incident_type,
        severity,
        title.clone(),
        cause.clone(),
        incident.kind,
        started_at,
        detected_at,
        Vec::new(),
    );
    new.take_over(incident, &alerts);
    let mut rest = incident.clone();
    rest.give_away(&alerts);
    let mut records = vec![
        Record::IncidentOpened {
            incident: id.clone(),
            incident_type: incident.incident_type,
            severity,
            title,
            cause,
            kind: incident.kind,
            started_at,
            detected_at,
            agents: Vec::new(),
        },
        Record::SplitFrom { incident: id.clone(), from: incident.id.clone(), alerts: alerts.clone() },
        Record::SplitInto { incident: incident.id.clone(), into: id.clone(), alerts },
    ];
    // Whoever takes them apart knows of both.
    records.extend(acknowledgement(&new, actor, now));
    records.extend(clear(&new, now));
    records.extend(clear(&rest, now));
    Ok((id, records))
}

/// The fingerprints to move. Every one that is asked for has to be there, and something has to stay.
fn chosen(incident: &Incident, alerts: &[Fingerprint], agents: &[AgentId]) -> Result<Vec<Fingerprint>, CommandError> {
    let mut chosen = BTreeSet::new();
    for alert in alerts {
        if !incident.episodes.iter().any(|episode| episode.fingerprint == *alert) {
            return Err(invalid("alerts", format!("names an alert that {} does not have: {alert}", incident.id)));
        }
        chosen.insert(alert.clone());
    }
    for agent in agents {
        let of_agent = incident.episodes.iter().filter(|episode| episode.agent.as_ref() == Some(agent));
        let before = chosen.len();
        chosen.extend(of_agent.map(|episode| episode.fingerprint.clone()));
        if chosen.len() == before && !incident.episodes.iter().any(|episode| episode.agent.as_ref() == Some(agent)) {
            return Err(invalid("agents", format!("names an agent without an alert in {}: {agent}", incident.id)));
        }
    }
    if chosen.is_empty() {
        return Err(invalid("alerts", "is empty: name the alerts, or the agents, that are another problem".to_owned()));
    }
    if incident.episodes.iter().all(|episode| chosen.contains(&episode.fingerprint)) {
        return Err(invalid("alerts", format!("names all alerts of {}: nothing would be left", incident.id)));
    }
    Ok(chosen.into_iter().collect())
}

/// A part whose alerts have ended is quiet.
fn clear(part: &Incident, now: Timestamp) -> Option<Record> {
    let cleared_at = part.cleared_at().filter(|_| part.state.is_active())?;
    // The acknowledgement above is of now.
    Some(crate::decide::mitigated(part, if part.round.acknowledged_at.is_some() { cleared_at } else { now.max(cleared_at) }))
}

const fn invalid(key: &'static str, why: String) -> CommandError {
    CommandError::Invalid { key, why }
}
