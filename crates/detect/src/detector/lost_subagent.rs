//! A sub-agent ended without a result.

use paramedic_model::{AlertChange, Fact, IncidentType};
use serde::{Deserialize, Serialize};

use crate::alert::{Alert, Told};
use crate::catalogue::{Detector, DetectorInfo, Moment};

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct LostSubagent {
    alert: Alert,
}

impl Detector for LostSubagent {
    const INFO: DetectorInfo = DetectorInfo {
        name: "lost-subagent",
        title: "Sub-agent lost",
        what: "A sub-agent was started and ended without a result, or its workflow never got one.",
        warns_at: "Only ever notes, at once or an hour after the last sign; ends when the sub-agent works again or is started anew.",
        incident_type: IncidentType::PluginCrash,
    };

    #[inline]
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        match &moment.event.fact {
            Fact::SubagentEnded { completed: false } => {
                let first = !self.alert.is_firing();
                let active = self.alert.begin(moment.at, IncidentType::PluginCrash, || format!("lost:{}", moment.who.agent));
                active.counts.occurrences += 1;
                active.show(moment.at, if moment.event.text.is_empty() { "ended without a result" } else { &moment.event.text });
                if first {
                    self.alert.fire(moment.told(), &Self::INFO, None, "the sub-agent ended without a result".to_owned(), out);
                }
            }
            Fact::SubagentStarted { .. } | Fact::SubagentEnded { .. } | Fact::ModelCall { .. } if self.alert.is_firing() => {
                self.alert.resolve(moment.told(), &Self::INFO, "it works again", out);
            }
            _ => {}
        }
    }

    fn alert(&mut self) -> &mut Alert {
        &mut self.alert
    }
}

impl LostSubagent {
    /// Nothing is heard of the sub-agent any more, and its workflow has no result of it.
    pub(crate) fn vanish(&mut self, told: Told<'_>, out: &mut Vec<AlertChange>) {
        let active = self.alert.begin(told.at, IncidentType::PluginCrash, || format!("lost:{}", told.who.agent));
        active.counts.occurrences += 1;
        active.show(told.at, "the workflow's journal has no result");
        self.alert.fire(told, &Self::INFO, None, "the workflow never got the sub-agent's result".to_owned(), out);
    }
}
