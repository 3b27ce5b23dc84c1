//! What one record changes about its incident.

use paramedic_model::{AlertChange, IncidentState, Moment, Role, Timestamp};

use super::{ESCALATIONS_MAX, Fix, Incident, Round};
use crate::checklist::HandTick;
use crate::clocks::{Escalation, Timer};
use crate::record::Record;
use crate::runs::RunStage;
use crate::{roles, runs};

impl Incident {
    /// `other` is the incident that a merge or a split is from.
    pub(crate) fn apply(&mut self, record: &Record, other: Option<&Self>, actor: &str, recorded_at: Timestamp) {
        match record {
            Record::AlertChanged { alert, .. } => self.take_alert(alert),
            Record::AlertAdopted { alert, .. } => self.take(alert),
            // Opening makes the incident; it is not applied to one.
            Record::IncidentOpened { .. } => {}
            Record::SeverityChanged { to, at, by_hand, .. } => {
                self.severity = *to;
                self.severity_at = Some(*at);
                self.severity_by_hand |= by_hand;
            }
            Record::TitleChanged { to, .. } => self.title.clone_from(to),
            Record::KindChanged { to, .. } => self.kind = *to,
            Record::StateChanged { to, at, .. } => self.move_to(*to, *at, recorded_at),
            Record::Acknowledged { at, .. } => {
                self.acknowledged_at.get_or_insert(*at);
                self.acknowledged_by.get_or_insert_with(|| actor.to_owned());
                self.round.acknowledged_at.get_or_insert(*at);
            }
            Record::Noted { .. } => self.notes += 1,
            Record::Merged { into, .. } => {
                self.state = IncidentState::Merged;
                self.merged_into = Some(into.clone());
            }
            Record::MergedFrom { .. } => other.into_iter().for_each(|from| self.absorb(from)),
            Record::SplitFrom { from, alerts, .. } => {
                self.split_from = Some(from.clone());
                other.into_iter().for_each(|from| self.take_over(from, alerts));
            }
            Record::SplitInto { into, alerts, .. } => {
                self.split_into.push(into.clone());
                self.give_away(alerts);
            }
            Record::BackDated { what, to, .. } => self.back_date(*what, *to),
            Record::RoleChanged { role, from, to, at, .. } => self.change_role(*role, from.as_ref(), to.as_ref(), *at),
            Record::Escalated { timer, level, who, why, at, drill, .. } => {
                let (who, why) = (who.clone(), why.clone());
                self.escalate(Escalation { timer: *timer, level: *level, who, why, at: *at, drill: *drill });
            }
            Record::Warned { timer, .. } => self.fire(*timer),
            Record::Overran { phase, .. } => {
                self.round.overran.insert(*phase);
            }
            Record::Ticked { item, done, at, .. } => {
                self.ticks.insert(item.clone(), HandTick { done: *done, by: actor.to_owned(), at: *at });
            }
            Record::Attached { attachment, .. } => self.attachments.push(attachment.clone()),
            Record::RunNoted { run, runbook, what, detail, unattended, at, .. } => {
                let line = runs::take(&mut self.runs, run, runbook, *unattended, actor, *at);
                if let Some(line) = self.runs.get_mut(line) {
                    line.mark(*what, detail, *unattended, *at);
                }
                match what {
                    RunStage::FixBegun => self.round.fix = Some(Fix { at: *at, unattended: *unattended }),
                    RunStage::TakenBack => self.round.fix = None,
                    _ => {}
                }
            }
        }
    }

    fn take_alert(&mut self, change: &AlertChange) {
        self.take(change);
        if self.state == IncidentState::Triage && self.acknowledged_at.is_some() {
            self.state = IncidentState::Investigating;
        }
    }

    fn back_date(&mut self, what: Moment, to: Timestamp) {
        match what {
            Moment::Started => self.started_at = to,
            Moment::Detected => self.detected_at = to,
            Moment::Mitigated => self.mitigated_at = Some(to),
            Moment::Resolved => self.resolved_at = Some(to),
        }
        self.back_dated.insert(what);
    }

    fn change_role(&mut self, role: Role, from: Option<&String>, to: Option<&String>, at: Timestamp) {
        roles::change(&mut self.roles, role, from, to);
        self.role_changes += 1;
        if role == Role::Commander {
            self.commander_at = (!self.holders(role).is_empty()).then(|| self.commander_at.unwrap_or(at));
        }
    }

    fn escalate(&mut self, escalation: Escalation) {
        self.fire(escalation.timer);
        if self.escalations.len() < ESCALATIONS_MAX {
            self.escalations.push(escalation);
        }
    }

    fn fire(&mut self, timer: Timer) {
        self.round.fired.insert(timer);
    }

    /// Takes a move that was decided.
    pub(crate) fn move_to(&mut self, to: IncidentState, at: Timestamp, recorded_at: Timestamp) {
        match to {
            IncidentState::Mitigated => {
                self.mitigated_by = Some(self.mitigator(at));
                self.mitigated_at = Some(at);
            }
            IncidentState::Resolved => {
                if self.mitigated_at.is_none() {
                    self.mitigated_by = Some(self.mitigator(at));
                    self.mitigated_at = Some(at);
                }
                self.resolved_at = Some(at);
            }
            IncidentState::Investigating | IncidentState::Triage | IncidentState::Identified => {
                if self.resolved_at.is_some() {
                    self.reopened += 1;
                }
                (self.mitigated_at, self.mitigated_by, self.resolved_at, self.closed_at) = (None, None, None, None);
                self.back_dated.retain(|moment| matches!(moment, Moment::Started | Moment::Detected));
                if !self.state.is_open() {
                    self.round = Round { number: self.round.number + 1, began_at: at.max(recorded_at), ..Round::default() };
                }
                match to {
                    IncidentState::Identified => self.round.identified_at = self.round.identified_at.or(Some(at)),
                    _ if self.state == IncidentState::Identified => self.round.identified_at = None,
                    _ => {}
                }
            }
            IncidentState::Closed => self.closed_at = Some(at),
            IncidentState::Cancelled | IncidentState::Merged => {}
        }
        self.state = to;
    }
}
