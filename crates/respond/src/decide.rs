//! What an alert change, or the passing of time, does to incidents. Pure: state and `now` in, records out.

use paramedic_model::{AlertChange, AlertState, IncidentId, IncidentKind, IncidentState, IncidentType, Severity, Timestamp};

use crate::clocks::span;
use crate::config::Settings;
use crate::incident::{Episode, Incident};
use crate::incidents::Incidents;
use crate::record::Record;
use crate::transition::next;

/// Decides about one alert change. `now` is the wall clock (or, for a record that is only read, the change's own
/// time). No records: nothing that was not known already.
#[must_use]
pub fn decide_alert(incidents: &Incidents, change: &AlertChange, now: Timestamp, settings: &Settings) -> Vec<Record> {
    if let Some((episode, owner)) = incidents.recorded(change) {
        return decide_known(incidents, &episode, owner, change, now, settings);
    }
    match incidents.joinable(change, settings) {
        Some(incident) => join(incident, change, settings),
        None if change.severity.is_none() => vec![Record::AlertChanged { alert: change.clone(), incident: None }],
        None => open(incidents, change, now, settings),
    }
}

fn decide_known(
    incidents: &Incidents,
    episode: &Episode,
    owner: Option<&Incident>,
    change: &AlertChange,
    now: Timestamp,
    settings: &Settings,
) -> Vec<Record> {
    let ended = (change.state == AlertState::Resolved).then_some(change.at);
    let same = episode.ended_at == ended && episode.severity == change.severity && episode.counts == change.counts;
    if same || (episode.ended_at.is_some() && ended.is_none()) {
        // Told again (a replay after a restart), or an old step of an episode that is known to have ended.
        return Vec::new();
    }
    let louder = change.severity > episode.severity;
    let due = episode.updated_at.is_none_or(|updated_at| change.at.since(updated_at).as_secs() >= settings.update_every_s);
    if ended.is_none() && !louder && !due {
        return Vec::new();
    }
    match owner {
        Some(incident) => join(incident, change, settings),
        None if change.severity.is_none() => vec![Record::AlertChanged { alert: change.clone(), incident: None }],
        None => match incidents.joinable(change, settings) {
            Some(incident) => {
                let mut records = vec![Record::AlertAdopted { incident: incident.id.clone(), alert: change.clone() }];
                records.extend(consequences(incident, change, settings));
                records
            }
            None => open(incidents, change, now, settings),
        },
    }
}

fn open(incidents: &Incidents, change: &AlertChange, now: Timestamp, settings: &Settings) -> Vec<Record> {
    let id = incidents.next_id();
    let notes = incidents.notes_before(change, settings);
    let started_at = notes.iter().map(|note| note.started_at).chain([change.started_at]).min().unwrap_or(change.started_at);
    let late = now.since(change.at).as_secs() > settings.backfill_after_s;
    let severity = change.severity.unwrap_or(Severity::Sev4);
    let mut records = vec![Record::IncidentOpened {
        incident: id.clone(),
        incident_type: change.incident_type,
        severity,
        title: title(change),
        cause: change.cause.clone(),
        kind: if late { IncidentKind::Backfill } else { IncidentKind::Real },
        started_at,
        detected_at: change.at.max(started_at),
        agents: change.agent.iter().cloned().collect(),
    }];
    records.extend(
        notes
            .into_iter()
            .filter(|note| !(note.fingerprint == change.fingerprint && note.started_at == change.started_at))
            .map(|note| Record::AlertAdopted { incident: id.clone(), alert: note.clone() }),
    );
    // Adopting also forgets the loose note that this very episode may have been until now.
    records.push(Record::AlertAdopted { incident: id.clone(), alert: change.clone() });
    let mut opened = Incidents::default();
    for record in &records {
        opened.apply_record(0, now, crate::record::SYSTEM_ACTOR, record);
    }
    if let Some(incident) = opened.get(&id) {
        records.extend(mitigate_if_clear(incident));
        records.extend(raise(incident, change, settings));
    }
    records
}

fn join(incident: &Incident, change: &AlertChange, settings: &Settings) -> Vec<Record> {
    let mut records = vec![Record::AlertChanged { alert: change.clone(), incident: Some(incident.id.clone()) }];
    records.extend(consequences(incident, change, settings));
    records
}

/// What taking `change` into the incident leads to: open again, worse, or quiet.
fn consequences(incident: &Incident, change: &AlertChange, settings: &Settings) -> Vec<Record> {
    let mut after = incident.clone();
    after.take(change);
    let mut records = Vec::new();
    let fires = change.state == AlertState::Firing && change.severity.is_some();
    if fires && matches!(incident.state, IncidentState::Mitigated | IncidentState::Resolved) {
        let reason = if incident.state == IncidentState::Resolved {
            format!("the same cause fired again after it was resolved: {}", change.reason)
        } else {
            format!("fired again before it had been quiet for {}", span(settings.quiet_window_s))
        };
        records.push(fires_again(incident, change.at, reason));
    } else if incident.state == IncidentState::Mitigated {
        // A further episode that came and went: the quiet window starts anew at its end.
        if let Some(cleared_at) = after.cleared_at().filter(|cleared_at| incident.cleared_at() != Some(*cleared_at))
            && incident.mitigated_at.is_none_or(|mitigated_at| cleared_at > mitigated_at)
        {
            records.push(mitigated(&after, cleared_at));
        }
    } else {
        records.extend(mitigate_if_clear(&after));
    }
    records.extend(raise(&after, change, settings));
    records
}

fn mitigate_if_clear(incident: &Incident) -> Option<Record> {
    let cleared_at = incident.cleared_at()?;
    incident.state.is_active().then(|| mitigated(incident, cleared_at))
}

/// No alert is active since `at`, which is never before the incident was noticed.
pub(crate) fn mitigated(incident: &Incident, at: Timestamp) -> Record {
    Record::StateChanged {
        incident: incident.id.clone(),
        from: incident.state,
        to: IncidentState::Mitigated,
        at: at.max(incident.detected_at),
        reason: "no alert is active any more".to_owned(),
    }
}

pub(crate) fn fires_again(incident: &Incident, at: Timestamp, reason: String) -> Record {
    Record::StateChanged { incident: incident.id.clone(), from: incident.state, to: IncidentState::Investigating, at, reason }
}

/// The least severity that what is counted calls for, and what that is.
pub(crate) fn impact(incident: &Incident, settings: &Settings) -> Option<(Severity, String)> {
    let (agents, failed, users) = (incident.agents.len(), incident.failed_agents(), incident.users.len());
    let reaches = |count: usize, limit: usize| limit > 0 && count >= limit;
    if failed >= settings.sev1_failed_agents {
        Some((Severity::Sev1, format!("{failed} agents' turns failed")))
    } else if reaches(users, settings.sev1_users) {
        Some((Severity::Sev1, format!("{users} users are affected")))
    } else if agents >= settings.sev2_agents {
        Some((Severity::Sev2, format!("{agents} agents are affected")))
    } else if reaches(users, settings.sev2_users) {
        Some((Severity::Sev2, format!("{users} users are affected")))
    } else {
        None
    }
}

/// Severity follows measured impact upwards, never down, and never against a person's decision.
fn raise(incident: &Incident, change: &AlertChange, settings: &Settings) -> Option<Record> {
    if incident.severity_by_hand {
        return None;
    }
    let (to, reason) = match impact(incident, settings) {
        // A note adds to the count, but nobody is called for it.
        Some((severity, reason)) if change.severity.is_some() || severity == Severity::Sev1 => (severity, reason),
        _ => (change.severity?, change.reason.clone()),
    };
    let to = to.max(change.severity.unwrap_or(Severity::Sev4));
    (to > incident.severity).then(|| Record::SeverityChanged {
        incident: incident.id.clone(),
        from: incident.severity,
        to,
        at: change.at,
        reason,
        by_hand: false,
    })
}

/// A short name for the incident, from the alert that opened it.
fn title(change: &AlertChange) -> String {
    if let Some(rule) = &change.rule {
        return paramedic_model::text::head(&paramedic_model::secret::mask(&format!("{}: {}", rule.name, change.reason)), 160).to_owned();
    }
    let what = match change.incident_type {
        IncidentType::ApiFailure => match change.counts.class {
            Some(class) => class.title(),
            None => "model API failing",
        },
        IncidentType::RateLimit => "rate limited by the model API",
        IncidentType::Authentication => match change.counts.class {
            Some(class) => class.title(),
            None => "authentication failed",
        },
        _ => "",
    };
    let status = change.counts.status.map(|status| format!(" ({status})")).unwrap_or_default();
    if what.is_empty() {
        return capitalised(paramedic_model::text::head(&paramedic_model::secret::mask(&change.reason), 160));
    }
    capitalised(&format!("{what}{status}"))
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

/// Incidents whose quiet window is over by `now`. While history is read (`settled` says whether nothing has been
/// written about an incident for a moment), an incident of the past waits until its own news has dried up.
#[must_use]
pub fn decide_due(incidents: &Incidents, now: Timestamp, settled: &dyn Fn(&Incident) -> bool, settings: &Settings) -> Vec<Record> {
    incidents
        .mitigated()
        .filter_map(|incident| {
            let due = incident.mitigated_at?.after(settings.quiet_window());
            if due > now || incident.firing().next().is_some() || !settled(incident) {
                return None;
            }
            // Somebody may have acknowledged it after the window was over, before this was noticed.
            let at = due.max(incident.times().latest());
            next(incident.state, IncidentState::Resolved, &incident.facts(at)).ok()?;
            Some(Record::StateChanged {
                incident: incident.id.clone(),
                from: incident.state,
                to: IncidentState::Resolved,
                at,
                reason: format!("quiet for {}", span(settings.quiet_window_s)),
            })
        })
        .collect()
}

/// The journal subject of an incident that does not exist is still a valid question; the id must only look right.
#[must_use]
pub fn parse_incident_id(text: &str) -> Option<IncidentId> {
    let digits = text.trim().trim_start_matches("INC-").trim_start_matches("inc-").trim_start_matches('#');
    digits.parse::<u64>().ok().map(|number| IncidentId(format!("INC-{number}")))
}
