//! The model says the same thing again and again.

use paramedic_model::{AlertChange, Fact, IncidentType, Severity, Timestamp};
use serde::{Deserialize, Serialize};

use super::looping::{border_words, cause};
use crate::alert::Alert;
use crate::catalogue::{Detector, DetectorInfo, Moment};
use crate::say;

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Monologue {
    alert: Alert,
    text: u64,
    /// The message that said it last: one message is told by several events.
    message: u64,
    same: u64,
    first_at: Timestamp,
}

impl Detector for Monologue {
    const INFO: DetectorInfo = DetectorInfo {
        name: "monologue",
        title: "Repeating itself",
        what: "The model answers with the same text again and again without a new prompt.",
        warns_at: "SEV3 at the third answer with the same text in a row; ends with another text, a prompt or the end of the turn.",
        incident_type: IncidentType::Timeout,
    };

    #[inline]
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        match &moment.event.fact {
            Fact::ModelCall { text_hash: Some(text), model, .. } if model.as_deref() != Some("<synthetic>") => {
                self.said(*text, moment, out)
            }
            _ if moment.step.turn_border => {
                self.same = 0;
                self.alert.resolve(moment.told(), &Self::INFO, border_words(moment.event), out);
            }
            _ => {}
        }
    }

    fn alert(&mut self) -> &mut Alert {
        &mut self.alert
    }
}

impl Monologue {
    fn said(&mut self, text: u64, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        let message = moment.step.message;
        if text != self.text || self.same == 0 {
            (self.text, self.message, self.same, self.first_at) = (text, message, 1, moment.at);
            self.alert.resolve(moment.told(), &Self::INFO, "it said something else", out);
            return;
        }
        if message != 0 && message == self.message {
            return;
        }
        self.message = message;
        self.same += 1;
        if self.same < u64::from(moment.settings.monologue_critical) {
            return;
        }
        let active = self.alert.begin(self.first_at, IncidentType::Timeout, || cause(moment.who.agent.as_str()));
        active.counts.occurrences = self.same;
        active.show(moment.at, if moment.event.text.is_empty() { "the same text again" } else { &moment.event.text });
        if say::worth_telling(self.same) {
            let span = say::duration(moment.at.since(self.first_at));
            let reason = format!("the model gave the same answer {} times in a row in {span}", self.same);
            self.alert.fire(moment.told(), &Self::INFO, Some(Severity::Sev3), reason, out);
        }
    }
}
