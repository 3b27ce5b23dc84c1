//! What the loop detectors share: an alert that ends when the agent does something else.

use paramedic_model::{AlertChange, Event, Fact, IncidentType, Severity, Timestamp};
use serde::{Deserialize, Serialize};

use crate::alert::{Active, Alert};
use crate::catalogue::{DetectorInfo, Moment};

/// All loops of an agent are one problem to the person who looks after it.
pub(crate) fn cause(agent: &str) -> String {
    format!("stuck:{agent}")
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Loop {
    pub(crate) alert: Alert,
    /// What the alert is about; another subject ends the episode.
    subject: u64,
    /// How bad it was when it was last told.
    told: u64,
    /// Calls since then that were not part of the loop.
    others: u32,
}

/// One sighting of a loop.
pub(crate) struct Sighting {
    /// Identity of what repeats.
    pub(crate) subject: u64,
    pub(crate) onset: Timestamp,
    pub(crate) occurrences: u64,
    pub(crate) severity: Option<Severity>,
    pub(crate) reason: String,
    /// The last step, for a person.
    pub(crate) evidence: String,
}

impl Loop {
    /// The loop goes on. Told when it gets worse and at every doubling.
    pub(crate) fn seen(&mut self, sighting: Sighting, moment: &Moment<'_>, info: &DetectorInfo, out: &mut Vec<AlertChange>) {
        if self.alert.is_firing() && self.subject != sighting.subject {
            self.alert.resolve(moment.told(), info, "the agent went over to another loop", out);
        }
        self.subject = sighting.subject;
        self.others = 0;
        let new = !self.alert.is_firing();
        let active: &mut Active = self.alert.begin(sighting.onset, IncidentType::Timeout, || cause(moment.who.agent.as_str()));
        // Counted while the alert is on; the window alone would forget.
        active.counts.occurrences = if new { sighting.occurrences } else { (active.counts.occurrences + 1).max(sighting.occurrences) };
        active.show(moment.at, &sighting.evidence);
        let worse = active.severity.max(sighting.severity) != active.severity;
        let occurrences = active.counts.occurrences;
        if new || worse || occurrences >= self.told.saturating_mul(2) {
            self.told = occurrences;
            self.alert.fire(moment.told(), info, sighting.severity, sighting.reason, out);
        }
    }

    /// A call was completed that is not part of a loop.
    pub(crate) fn not_seen(&mut self, moment: &Moment<'_>, info: &DetectorInfo, out: &mut Vec<AlertChange>) {
        if self.alert.is_firing() {
            self.others += 1;
            if self.others >= moment.settings.loop_left_calls {
                let how = format!("it made {} other calls in a row", self.others);
                self.alert.resolve(moment.told(), info, &how, out);
            }
        }
    }

    /// A prompt or the end of the turn ends the alert. The window stays: the next turn of the same circle fires again.
    pub(crate) fn border(&mut self, moment: &Moment<'_>, info: &DetectorInfo, out: &mut Vec<AlertChange>) {
        if moment.step.turn_border {
            self.alert.resolve(moment.told(), info, border_words(moment.event), out);
        }
    }
}

/// How a person would say what this event did to the turn.
pub(crate) const fn border_words(event: &Event) -> &'static str {
    match event.fact {
        Fact::Prompt => "it got a new prompt",
        Fact::ModelError { .. } => "the turn failed",
        Fact::SessionEnded { .. } => "the session ended",
        _ => "the turn ended",
    }
}
