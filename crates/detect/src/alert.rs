//! An alert while it is being held by its detector.

use std::borrow::Cow;

use paramedic_model::alert::AlertCounts;
use paramedic_model::limit::EVIDENCE_MAX;
use paramedic_model::{AgentId, AlertChange, AlertState, Evidence, Fingerprint, IncidentType, SessionId, Severity, Timestamp};
use serde::{Deserialize, Serialize};

use crate::catalogue::DetectorInfo;
use crate::config::Settings;
use crate::say;

/// Whose alert it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Who {
    pub(crate) agent: AgentId,
    pub(crate) session: Option<SessionId>,
    pub(crate) user: Option<Box<str>>,
}

/// Everything about an emission that is not the alert itself.
#[derive(Clone, Copy)]
pub(crate) struct Told<'a> {
    pub(crate) who: &'a Who,
    pub(crate) settings: &'a Settings,
    pub(crate) at: Timestamp,
}

/// At most one episode of one condition.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Alert(Option<Box<Active>>);

/// The episode that is on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Active {
    pub(crate) started_at: Timestamp,
    pub(crate) severity: Option<Severity>,
    pub(crate) incident_type: IncidentType,
    pub(crate) cause: String,
    pub(crate) reason: String,
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) counts: AlertCounts,
    /// When its last change happened.
    told_at: Timestamp,
}

impl Active {
    /// Adds a fact. The first half of the room keeps what came first, the rest what came last.
    pub(crate) fn show(&mut self, at: Timestamp, untrusted: &str) {
        if self.evidence.len() >= EVIDENCE_MAX {
            self.evidence.remove(EVIDENCE_MAX / 2);
        }
        self.evidence.push(Evidence { at, text: say::shown(untrusted) });
    }
}

impl Alert {
    #[inline]
    pub(crate) const fn is_firing(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn active(&mut self) -> Option<&mut Active> {
        self.0.as_deref_mut()
    }

    /// The episode that is on, or a new one that began at `started_at`.
    pub(crate) fn begin(&mut self, started_at: Timestamp, incident_type: IncidentType, cause: impl FnOnce() -> String) -> &mut Active {
        self.0.get_or_insert_with(|| {
            Box::new(Active {
                started_at,
                severity: None,
                incident_type,
                cause: cause(),
                reason: String::new(),
                evidence: Vec::new(),
                counts: AlertCounts::default(),
                told_at: started_at,
            })
        })
    }

    /// Tells that the condition holds. Within an episode the severity only grows.
    pub(crate) fn fire(
        &mut self,
        told: Told<'_>,
        info: &DetectorInfo,
        severity: Option<Severity>,
        reason: String,
        out: &mut Vec<AlertChange>,
    ) {
        let Some(active) = self.active() else { return };
        active.severity = active.severity.max(severity);
        active.reason = reason;
        active.told_at = told.at;
        tell(active.clone(), told, info, AlertState::Firing, out);
    }

    /// Ends the episode, if one is on: `told.at` is the time of the event that ended it.
    pub(crate) fn resolve(&mut self, told: Told<'_>, info: &DetectorInfo, how: &str, out: &mut Vec<AlertChange>) {
        let Some(mut active) = self.0.take() else { return };
        active.reason = format!("{}; {how}", active.reason);
        tell(*active, told, info, AlertState::Resolved, out);
    }
}

impl Alert {
    /// When the agent was last heard of, as far as this alert knows; none when no episode is on.
    pub(crate) fn last_heard_at(&self, last_at: Timestamp) -> Option<Timestamp> {
        self.0.as_deref().map(|active| active.told_at.max(last_at))
    }

    /// Ends the episode because nothing is heard of the agent any more. It ends when the agent was last heard of: what
    /// happened afterwards nobody knows.
    pub(crate) fn abandon(&mut self, told: Told<'_>, info: &DetectorInfo, out: &mut Vec<AlertChange>) {
        if let Some(at) = self.last_heard_at(told.at) {
            self.resolve(Told { at, ..told }, info, "no longer observed", out);
        }
    }
}

fn tell(active: Active, told: Told<'_>, info: &DetectorInfo, state: AlertState, out: &mut Vec<AlertChange>) {
    if told.settings.disabled.iter().any(|name| name == info.name) {
        return;
    }
    out.push(AlertChange {
        fingerprint: Fingerprint::new(info.name, told.who.agent.as_str(), ""),
        detector: Cow::Borrowed(info.name),
        agent: Some(told.who.agent.clone()),
        session: told.who.session.clone(),
        user: told.who.user.as_deref().map(str::to_owned),
        started_at: active.started_at,
        at: told.at,
        state,
        severity: active.severity,
        incident_type: active.incident_type,
        cause: active.cause,
        reason: active.reason,
        evidence: active.evidence,
        counts: active.counts,
        rule: None,
    });
}
