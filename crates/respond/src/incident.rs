//! One incident, as its journal entries add up.

mod apply;

use std::collections::{BTreeMap, BTreeSet};

use paramedic_model::alert::AlertCounts;
use paramedic_model::{
    AgentId, AlertChange, AlertState, Evidence, Fingerprint, IncidentId, IncidentKind, IncidentState, IncidentType, MitigatedBy, Moment,
    Phase, Role, RuleAlert, SessionId, Severity, Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attachments::Attachment;
use crate::checklist::HandTick;
use crate::clocks::{Escalation, Timer};
use crate::roles::{self, Roles};
use crate::runs::RunLine;
use crate::transition::{Facts, Times};

/// Alert episodes kept per incident in full; older ended ones are kept as sums.
pub const EPISODES_MAX: usize = 200;

/// One time that an alert was active.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Episode {
    pub fingerprint: Fingerprint,
    pub detector: String,
    #[serde(default)]
    pub agent: Option<AgentId>,
    pub session: Option<SessionId>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user: Option<String>,
    pub started_at: Timestamp,
    /// When it ended; none while it is active.
    pub ended_at: Option<Timestamp>,
    /// None for a note: recorded, but nobody is called for it.
    pub severity: Option<Severity>,
    pub reason: String,
    pub evidence: Vec<Evidence>,
    pub counts: AlertCounts,
    /// When it was last written to the journal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub updated_at: Option<Timestamp>,
    /// What the alert came from, where it came from a rule.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rule: Option<Box<RuleAlert>>,
}

impl Episode {
    #[must_use]
    pub fn from_change(change: &AlertChange) -> Self {
        Self {
            fingerprint: change.fingerprint.clone(),
            detector: change.detector.clone().into_owned(),
            agent: change.agent.clone(),
            session: change.session.clone(),
            user: change.user.clone(),
            started_at: change.started_at,
            ended_at: (change.state == AlertState::Resolved).then_some(change.at),
            severity: change.severity,
            reason: change.reason.clone(),
            evidence: change.evidence.clone(),
            counts: change.counts.clone(),
            updated_at: Some(change.at),
            rule: change.rule.clone(),
        }
    }

    /// The detector, or the rule's own name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.rule.as_ref().map_or(&self.detector, |rule| &rule.name)
    }

    #[must_use]
    pub fn is(&self, change: &AlertChange) -> bool {
        self.fingerprint == change.fingerprint && self.started_at == change.started_at
    }
}

/// Sums over an incident's alert episodes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct IncidentCounts {
    /// Alert episodes; more than one means that it flapped or that several agents were hit.
    pub episodes: u64,
    /// Times that it fired again after everything had been quiet for a moment.
    pub flaps: u64,
    pub retries: u64,
    pub terminal_failures: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_terminal_at: Option<Timestamp>,
    pub successes: u64,
    /// Failed tries of all tries, 0 to 1; none where nothing was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<f64>,
    pub agents: usize,
    pub sessions: usize,
    /// Distinct people or accounts whose agents were hit; 0 where the sources name nobody.
    pub users: usize,
}

impl IncidentCounts {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// From the opening, or a re-opening, to the end: what the clocks run over.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Round {
    /// 0 at first; one more with each re-opening.
    pub number: u32,
    /// When people could first know of it: it was detected and written down.
    pub began_at: Timestamp,
    pub acknowledged_at: Option<Timestamp>,
    pub identified_at: Option<Timestamp>,
    /// Timers that ran out.
    pub fired: BTreeSet<Timer>,
    /// Phases that took longer than their time box, as far as that is on record.
    pub overran: BTreeSet<Phase>,
    /// The fix that was begun last and not taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<Fix>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fix {
    pub at: Timestamp,
    pub unattended: bool,
}

/// Escalations that an incident lists; all of them are in the journal.
pub const ESCALATIONS_MAX: usize = 100;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Incident {
    pub id: IncidentId,
    pub number: u64,
    #[serde(rename = "type")]
    pub incident_type: IncidentType,
    pub kind: IncidentKind,
    pub cause: String,
    pub severity: Severity,
    /// A person set the severity; it is not raised by itself any more.
    pub severity_by_hand: bool,
    pub state: IncidentState,
    pub title: String,
    /// The onset.
    pub started_at: Timestamp,
    pub detected_at: Timestamp,
    pub acknowledged_at: Option<Timestamp>,
    pub acknowledged_by: Option<String>,
    /// When the last alert ended.
    pub mitigated_at: Option<Timestamp>,
    /// When it had been quiet for the quiet window, or a person said so.
    pub resolved_at: Option<Timestamp>,
    pub reopened: u32,
    pub merged_into: Option<IncidentId>,
    pub agents: BTreeSet<AgentId>,
    pub sessions: BTreeSet<SessionId>,
    pub users: BTreeSet<String>,
    pub episodes: Vec<Episode>,
    /// Sums of episodes that are no longer kept one by one.
    #[serde(default, skip_serializing_if = "IncidentCounts::is_empty")]
    #[schemars(skip)]
    past: IncidentCounts,
    pub counts: IncidentCounts,
    pub notes: u64,
    /// When it was closed, its postmortem done.
    #[serde(default)]
    pub closed_at: Option<Timestamp>,
    /// When the severity was changed last.
    #[serde(default)]
    pub severity_at: Option<Timestamp>,
    #[serde(default)]
    pub mitigated_by: Option<MitigatedBy>,
    /// Times that a person corrected.
    #[serde(default)]
    pub back_dated: BTreeSet<Moment>,
    /// Who holds which role.
    #[serde(default)]
    pub roles: Roles,
    /// Since when there has been a commander.
    #[serde(default)]
    pub commander_at: Option<Timestamp>,
    /// How often a role was assigned, released or handed over; the timeline tells each.
    #[serde(default)]
    pub role_changes: u64,
    #[serde(default)]
    pub round: Round,
    #[serde(default)]
    pub escalations: Vec<Escalation>,
    /// What people ticked in the checklist, by the item's id.
    #[serde(default)]
    pub ticks: BTreeMap<String, HandTick>,
    /// Evidence that people attached; the content is read by its id.
    #[serde(default)]
    pub attachments: Vec<Attachment>,
    /// Runs of runbooks for it, the oldest first.
    #[serde(default)]
    pub runs: Vec<RunLine>,
    #[serde(default)]
    pub split_from: Option<IncidentId>,
    #[serde(default)]
    pub split_into: Vec<IncidentId>,
    /// Journal position and time of the last entry about it.
    pub last_seq: u64,
    pub last_recorded_at: Timestamp,
}

impl Incident {
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "built in one place, from one record")]
    pub(crate) fn open(
        id: IncidentId,
        number: u64,
        incident_type: IncidentType,
        severity: Severity,
        title: String,
        cause: String,
        kind: IncidentKind,
        started_at: Timestamp,
        detected_at: Timestamp,
        agents: Vec<AgentId>,
    ) -> Self {
        Self {
            id,
            number,
            incident_type,
            kind,
            cause,
            severity,
            severity_by_hand: false,
            state: IncidentState::Triage,
            title,
            started_at,
            detected_at,
            acknowledged_at: None,
            acknowledged_by: None,
            mitigated_at: None,
            resolved_at: None,
            reopened: 0,
            merged_into: None,
            agents: agents.into_iter().collect(),
            sessions: BTreeSet::new(),
            users: BTreeSet::new(),
            episodes: Vec::new(),
            past: IncidentCounts::default(),
            counts: IncidentCounts::default(),
            notes: 0,
            closed_at: None,
            severity_at: None,
            mitigated_by: None,
            back_dated: BTreeSet::new(),
            roles: roles::at_start(),
            commander_at: None,
            role_changes: 0,
            round: Round { began_at: detected_at, ..Round::default() },
            escalations: Vec::new(),
            ticks: BTreeMap::new(),
            attachments: Vec::new(),
            runs: Vec::new(),
            split_from: None,
            split_into: Vec::new(),
            last_seq: 0,
            last_recorded_at: detected_at,
        }
    }

    /// Alerts that are active and worth calling somebody.
    pub fn firing(&self) -> impl Iterator<Item = &Episode> {
        self.episodes.iter().filter(|episode| episode.ended_at.is_none())
    }

    /// The end of its last alert; none while one is active or when it never had one.
    #[must_use]
    pub fn cleared_at(&self) -> Option<Timestamp> {
        if self.firing().next().is_some() {
            return None;
        }
        self.episodes.iter().filter_map(|episode| episode.ended_at).max()
    }

    /// Agents whose turn failed for good.
    #[must_use]
    pub fn failed_agents(&self) -> usize {
        let failed: BTreeSet<&AgentId> = self
            .episodes
            .iter()
            .filter(|episode| episode.counts.terminal_failures > 0)
            .filter_map(|episode| episode.agent.as_ref())
            .collect();
        failed.len()
    }

    /// How long it lasted, or has lasted by `now`.
    #[must_use]
    pub fn duration(&self, now: Timestamp) -> std::time::Duration {
        self.resolved_at.or(self.mitigated_at).unwrap_or(now).since(self.started_at)
    }

    /// By when somebody had to acknowledge it for the first time, to have been in time.
    #[must_use]
    pub fn acknowledge_by(&self) -> Timestamp {
        self.detected_at.after(self.severity.acknowledge_within())
    }

    /// By when somebody has to acknowledge it, as the clocks count it: since people could know of it, and anew after a
    /// re-opening. None when nobody has to.
    #[must_use]
    pub fn acknowledgement_due(&self) -> Option<Timestamp> {
        let due = self.state.is_active() && self.round.acknowledged_at.is_none() && self.kind != IncidentKind::Backfill;
        due.then(|| self.round.began_at.after(self.severity.acknowledge_within()))
    }

    /// Its times, in the order in which they have to stand.
    #[must_use]
    pub fn times(&self) -> Times {
        Times {
            started_at: self.started_at,
            detected_at: self.detected_at,
            acknowledged_at: self.acknowledged_at,
            mitigated_at: self.mitigated_at,
            resolved_at: self.resolved_at,
            closed_at: self.closed_at,
            mitigated_alone: self.mitigated_by.is_some_and(|by| by != MitigatedBy::Person),
        }
    }

    pub(crate) fn facts(&self, at: Timestamp) -> Facts {
        // What ends before anybody worked on it may be acknowledged after its end.
        let mut times = self.times();
        times.mitigated_alone |= self.mitigator(at) != MitigatedBy::Person;
        Facts { at, times, merges: false }
    }

    /// Who holds a role; several only for responders.
    #[must_use]
    pub fn holders(&self, role: Role) -> &[String] {
        self.roles.get(&role).map_or(&[], Vec::as_slice)
    }

    #[must_use]
    pub fn holds(&self, role: Role, person: &str) -> bool {
        self.holders(role).iter().any(|holder| holder == person)
    }

    /// Who is to be thanked for an end at `at`.
    fn mitigator(&self, at: Timestamp) -> MitigatedBy {
        // Whoever moves it by hand acknowledges it by that.
        let worked_on = self.round.acknowledged_at.is_some_and(|acknowledged_at| acknowledged_at <= at);
        match self.round.fix.filter(|fix| fix.at <= at) {
            Some(fix) if fix.unattended => MitigatedBy::Auto,
            Some(_) => MitigatedBy::Person,
            None if worked_on => MitigatedBy::Person,
            None => MitigatedBy::Itself,
        }
    }

    /// Lets the episodes of these alerts go to another incident, with the agents, sessions and users that only they had.
    pub(crate) fn give_away(&mut self, alerts: &[Fingerprint]) {
        let (gone, kept): (Vec<Episode>, Vec<Episode>) =
            std::mem::take(&mut self.episodes).into_iter().partition(|episode| alerts.contains(&episode.fingerprint));
        self.episodes = kept;
        for episode in &gone {
            let others = &self.episodes;
            if let Some(agent) = episode.agent.as_ref().filter(|agent| !others.iter().any(|other| other.agent.as_ref() == Some(agent))) {
                self.agents.remove(agent);
            }
            if let Some(one) = episode.session.as_ref().filter(|one| !others.iter().any(|other| other.session.as_ref() == Some(one))) {
                self.sessions.remove(one);
            }
            if let Some(user) = episode.user.as_ref().filter(|user| !others.iter().any(|other| other.user.as_ref() == Some(user))) {
                self.users.remove(user);
            }
        }
        self.count();
    }

    /// Takes over the episodes of these alerts from another incident.
    pub(crate) fn take_over(&mut self, from: &Self, alerts: &[Fingerprint]) {
        let taken = from.episodes.iter().filter(|episode| alerts.contains(&episode.fingerprint));
        self.episodes.extend(taken.cloned());
        for episode in &self.episodes {
            self.agents.extend(episode.agent.clone());
            self.sessions.extend(episode.session.clone());
            self.users.extend(episode.user.clone());
        }
        self.forget_oldest_episodes();
        self.count();
    }

    pub(crate) fn take(&mut self, change: &AlertChange) {
        self.agents.extend(change.agent.clone());
        self.sessions.extend(change.session.clone());
        self.users.extend(change.user.clone());
        let fires_again = change.state == AlertState::Firing && self.cleared_at().is_some();
        match self.episodes.iter_mut().find(|episode| episode.is(change)) {
            Some(episode) => *episode = Episode::from_change(change),
            None => {
                if fires_again {
                    self.counts.flaps += 1;
                }
                self.episodes.push(Episode::from_change(change));
            }
        }
        // A person's word about the onset stands.
        if change.started_at < self.started_at && !self.back_dated.contains(&Moment::Started) {
            self.started_at = change.started_at;
        }
        self.forget_oldest_episodes();
        self.count();
    }

    fn forget_oldest_episodes(&mut self) {
        while self.episodes.len() > EPISODES_MAX {
            let oldest = self.episodes.iter().position(|episode| episode.ended_at.is_some()).unwrap_or(0);
            let gone = self.episodes.remove(oldest);
            add(&mut self.past, &gone.counts);
        }
    }

    fn count(&mut self) {
        let mut counts = self.past.clone();
        for episode in &self.episodes {
            add(&mut counts, &episode.counts);
        }
        let failures = counts.retries + counts.terminal_failures;
        let tries = failures + counts.successes;
        // Nine digits are read back from a snapshot as they were written; all seventeen need not be.
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = (tries > 0).then(|| (failures as f64 / tries as f64 * 1e9).round() / 1e9);
        counts.error_rate = rate;
        counts.flaps = self.counts.flaps;
        counts.agents = self.agents.len();
        counts.sessions = self.sessions.len();
        counts.users = self.users.len();
        self.counts = counts;
    }

    pub(crate) fn absorb(&mut self, other: &Self) {
        self.agents.extend(other.agents.iter().cloned());
        self.sessions.extend(other.sessions.iter().cloned());
        self.users.extend(other.users.iter().cloned());
        self.episodes.extend(other.episodes.iter().cloned());
        self.episodes.sort_by_key(|episode| episode.started_at);
        if !self.back_dated.contains(&Moment::Started) {
            self.started_at = self.started_at.min(other.started_at);
        }
        for responder in other.holders(Role::Responder) {
            roles::change(&mut self.roles, Role::Responder, None, Some(responder));
        }
        self.forget_oldest_episodes();
        self.count();
    }
}

fn add(sum: &mut IncidentCounts, counts: &AlertCounts) {
    sum.episodes += 1;
    sum.retries += counts.retries;
    sum.terminal_failures += counts.terminal_failures;
    sum.successes += counts.successes;
    sum.first_terminal_at = match (sum.first_terminal_at, counts.terminal_at) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}
