//! The fold: journal entries in order, added up to the incidents and alerts of now.

use std::collections::{BTreeMap, HashMap, VecDeque};

use paramedic_journal::{Entry, Fold};
use paramedic_model::{AlertChange, AlertState, Fingerprint, IncidentId, IncidentState, Timestamp};
use serde::{Deserialize, Serialize};

use crate::config::Settings;
use crate::incident::{Episode, Incident};
use crate::record::Record;

/// Alert episodes without an incident that are remembered, newest last.
pub const LOOSE_EPISODES_MAX: usize = 1_000;
/// Incidents kept in memory; the oldest ended ones are left to the journal beyond that.
pub const INCIDENTS_MAX: usize = 10_000;

/// How many incidents of one cause, newest first, are looked at to place an alert.
pub const JOIN_LOOKBACK_MAX: usize = 50;

/// All incidents, and the alerts that belong to none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Incidents {
    incidents: BTreeMap<u64, Incident>,
    /// Alerts that no incident owns, in order of arrival, with their cause.
    loose: VecDeque<Loose>,
    next_number: u64,
    unreadable: u64,
    /// Numbers of incidents by cause, newest last, so that joining costs the same however long the history is.
    by_cause: HashMap<String, Vec<u64>>,
    /// Alerts that were split off, with the number of the incident that takes the later ones.
    #[serde(default)]
    split: HashMap<Fingerprint, u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Loose {
    pub(crate) cause: String,
    pub(crate) change: AlertChange,
}

impl Incidents {
    /// All incidents, the latest onset first.
    pub fn list(&self) -> impl Iterator<Item = &Incident> {
        let mut all: Vec<&Incident> = self.incidents.values().collect();
        all.sort_by_key(|incident| std::cmp::Reverse((incident.started_at, incident.number)));
        all.into_iter()
    }

    /// Incidents that somebody may still have to do something about, worst first.
    #[must_use]
    pub fn open(&self) -> Vec<&Incident> {
        let mut open: Vec<&Incident> = self.incidents.values().filter(|incident| incident.state.is_open()).collect();
        open.sort_by_key(|incident| (std::cmp::Reverse(incident.severity), incident.started_at));
        open
    }

    #[must_use]
    pub fn get(&self, id: &IncidentId) -> Option<&Incident> {
        let number: u64 = id.0.strip_prefix("INC-")?.parse().ok()?;
        self.incidents.get(&number)
    }

    /// Recent alert episodes with their incident, if any; newest onset first.
    #[must_use]
    pub fn alerts(&self) -> Vec<(Episode, Option<IncidentId>)> {
        let owned = self
            .incidents
            .values()
            .flat_map(|incident| incident.episodes.iter().map(|episode| (episode.clone(), Some(incident.id.clone()))));
        let loose = self.loose.iter().map(|loose| (Episode::from_change(&loose.change), None));
        let mut all: Vec<_> = owned.chain(loose).collect();
        all.sort_by_key(|(episode, _)| std::cmp::Reverse(episode.started_at));
        all
    }

    /// Alerts of rules that are active as far as the journal knows: what whoever evaluates rules has to end or go on with.
    #[must_use]
    pub fn firing_rules(&self) -> Vec<AlertChange> {
        let of_incident = |incident: &Incident, episode: &Episode| AlertChange {
            fingerprint: episode.fingerprint.clone(),
            detector: episode.detector.clone().into(),
            agent: episode.agent.clone(),
            session: episode.session.clone(),
            user: None,
            started_at: episode.started_at,
            at: episode.updated_at.unwrap_or(episode.started_at),
            state: AlertState::Firing,
            severity: episode.severity,
            incident_type: incident.incident_type,
            cause: incident.cause.clone(),
            reason: episode.reason.clone(),
            evidence: episode.evidence.clone(),
            counts: episode.counts.clone(),
            rule: episode.rule.clone(),
        };
        let merged = |incident: &&Incident| incident.state != IncidentState::Merged;
        let owned = self
            .incidents
            .values()
            .filter(merged)
            .flat_map(|incident| incident.firing().map(move |episode| of_incident(incident, episode)));
        let loose = self.loose.iter().map(|loose| loose.change.clone()).filter(|change| change.state == AlertState::Firing);
        owned.chain(loose).filter(|change| change.rule.is_some()).collect()
    }

    /// Entries that looked like ours and could not be read.
    #[must_use]
    pub const fn unreadable(&self) -> u64 {
        self.unreadable
    }

    pub(crate) fn next_id(&self) -> IncidentId {
        IncidentId(format!("INC-{}", self.next_number + 1))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.values()
    }

    pub(crate) fn mitigated(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.values().rev().filter(|incident| incident.state == IncidentState::Mitigated)
    }

    /// The episode as it was last recorded, and the incident that owns it.
    pub(crate) fn recorded(&self, change: &AlertChange) -> Option<(Episode, Option<&Incident>)> {
        for incident in self.owners(change) {
            if let Some(episode) = incident.episodes.iter().find(|episode| episode.is(change)) {
                return Some((episode.clone(), Some(self.follow_merges(incident))));
            }
        }
        let loose = self
            .loose
            .iter()
            .rev()
            .find(|loose| loose.change.fingerprint == change.fingerprint && loose.change.started_at == change.started_at)?;
        Some((Episode::from_change(&loose.change), None))
    }

    /// The incident that an alert of this cause and onset belongs to.
    pub(crate) fn joinable(&self, change: &AlertChange, settings: &Settings) -> Option<&Incident> {
        self.owners(change).map(|incident| self.follow_merges(incident)).find(|incident| joins(incident, change, settings))
    }

    /// Notes of the same cause, not owned yet, that lead up to an onset.
    pub(crate) fn notes_before(&self, change: &AlertChange, settings: &Settings) -> Vec<&AlertChange> {
        let from = change.started_at.before(settings.quiet_window());
        self.loose
            .iter()
            .filter(|loose| loose.cause == change.cause && loose.change.at >= from && loose.change.started_at <= change.at)
            .map(|loose| &loose.change)
            .collect()
    }

    /// Where an alert may belong: first the incident that it was split off to, then those of its cause.
    fn owners<'a>(&'a self, change: &AlertChange) -> impl Iterator<Item = &'a Incident> {
        let split = self.split.get(&change.fingerprint).and_then(|number| self.incidents.get(number));
        split.into_iter().chain(self.of_cause(&change.cause))
    }

    fn of_cause(&self, cause: &str) -> impl Iterator<Item = &Incident> {
        self.by_cause.get(cause).into_iter().flatten().rev().take(JOIN_LOOKBACK_MAX).filter_map(|number| self.incidents.get(number))
    }

    pub(crate) fn follow_merges<'a>(&'a self, incident: &'a Incident) -> &'a Incident {
        let mut at = incident;
        // A chain cannot be longer than there are incidents; the bound only guards against a circle in a foreign journal.
        for _ in 0..self.incidents.len() {
            match at.merged_into.as_ref().and_then(|into| self.get(into)) {
                Some(next) => at = next,
                None => break,
            }
        }
        at
    }

    /// Notes where in the journal an incident's latest entry stands.
    pub(crate) fn place(&mut self, entry: &Entry) {
        let number = entry.subject.strip_prefix("incident/INC-").and_then(|number| number.parse().ok());
        if let Some(incident) = number.and_then(|number: u64| self.incidents.get_mut(&number)) {
            incident.last_seq = entry.seq;
        }
    }

    fn edit(&mut self, id: &IncidentId, seq: u64, recorded_at: Timestamp, change: impl FnOnce(&mut Incident)) {
        let number = id.0.strip_prefix("INC-").and_then(|number| number.parse::<u64>().ok());
        if let Some(incident) = number.and_then(|number| self.incidents.get_mut(&number)) {
            change(incident);
            incident.last_seq = seq;
            incident.last_recorded_at = recorded_at;
        }
    }

    /// Adds one record. `seq` and `recorded_at` are the entry's.
    pub fn apply_record(&mut self, seq: u64, recorded_at: Timestamp, actor: &str, record: &Record) {
        match record {
            Record::AlertChanged { alert, incident: None } => return self.keep_loose(alert),
            Record::IncidentOpened { .. } => return self.open_incident(seq, recorded_at, record),
            Record::AlertAdopted { alert, .. } => {
                self.loose.retain(|loose| loose.change.fingerprint != alert.fingerprint || loose.change.started_at != alert.started_at);
            }
            Record::SplitFrom { incident, alerts, .. } => {
                if let Some(number) = self.get(incident).map(|incident| incident.number) {
                    self.split.extend(alerts.iter().map(|alert| (alert.clone(), number)));
                }
            }
            _ => {}
        }
        let other = match record {
            Record::MergedFrom { from, .. } | Record::SplitFrom { from, .. } => self.get(from).cloned(),
            _ => None,
        };
        if let Some(id) = record.incident() {
            self.edit(id, seq, recorded_at, |incident| incident.apply(record, other.as_ref(), actor, recorded_at));
        }
    }

    fn open_incident(&mut self, seq: u64, recorded_at: Timestamp, record: &Record) {
        let Record::IncidentOpened { incident: id, incident_type, severity, title, cause, kind, started_at, detected_at, agents } = record
        else {
            return;
        };
        self.next_number += 1;
        let number = id.0.strip_prefix("INC-").and_then(|number| number.parse().ok()).unwrap_or(self.next_number);
        self.next_number = self.next_number.max(number);
        let mut incident = Incident::open(
            id.clone(),
            number,
            *incident_type,
            *severity,
            title.clone(),
            cause.clone(),
            *kind,
            *started_at,
            *detected_at,
            agents.clone(),
        );
        incident.last_seq = seq;
        incident.last_recorded_at = recorded_at;
        incident.round.began_at = recorded_at.max(*detected_at);
        self.by_cause.entry(cause.clone()).or_default().push(number);
        self.incidents.insert(number, incident);
        self.forget_oldest_incident();
    }

    fn forget_oldest_incident(&mut self) {
        if self.incidents.len() <= INCIDENTS_MAX {
            return;
        }
        let Some(number) = self.incidents.values().find(|incident| !incident.state.is_open()).map(|incident| incident.number) else {
            return;
        };
        self.split.retain(|_, to| *to != number);
        if let Some(gone) = self.incidents.remove(&number)
            && let Some(numbers) = self.by_cause.get_mut(&gone.cause)
        {
            numbers.retain(|one| *one != number);
            if numbers.is_empty() {
                self.by_cause.remove(&gone.cause);
            }
        }
    }

    fn keep_loose(&mut self, change: &AlertChange) {
        let known = self
            .loose
            .iter_mut()
            .rev()
            .find(|loose| loose.change.fingerprint == change.fingerprint && loose.change.started_at == change.started_at);
        if let Some(known) = known {
            known.change = change.clone();
            return;
        }
        self.loose.push_back(Loose { cause: change.cause.clone(), change: change.clone() });
        if self.loose.len() > LOOSE_EPISODES_MAX {
            self.loose.pop_front();
        }
    }
}

/// Whether an alert of the same cause belongs to this incident: it overlaps it, follows within the quiet and re-open
/// windows, or (read late, from another file) leads up to it within the quiet window.
fn joins(incident: &Incident, change: &AlertChange, settings: &Settings) -> bool {
    if matches!(incident.state, IncidentState::Cancelled | IncidentState::Closed | IncidentState::Merged) {
        return false;
    }
    let leads_up = change.at >= incident.started_at.before(settings.quiet_window());
    let latest = match (incident.resolved_at, incident.cleared_at()) {
        (Some(resolved_at), _) => Some(resolved_at.after(settings.reopen_window())),
        (None, Some(cleared_at)) => Some(cleared_at.after(settings.quiet_window()).after(settings.reopen_window())),
        (None, None) => None,
    };
    leads_up && latest.is_none_or(|latest| change.started_at <= latest)
}

impl Fold for Incidents {
    const NAME: &'static str = "incidents";
    const VERSION: u32 = 2;

    fn apply(&mut self, entry: &Entry) {
        match Record::from_entry(entry) {
            Ok(Some(record)) => self.apply_record(entry.seq, entry.at, &entry.actor, &record),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(seq = entry.seq, %error, "journal entry left out");
                self.unreadable += 1;
            }
        }
    }
}
