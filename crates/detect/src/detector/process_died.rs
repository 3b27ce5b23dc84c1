//! The agent's process is gone in the middle of a turn.

use paramedic_model::{AlertChange, Fact, IncidentType, Severity};
use serde::{Deserialize, Serialize};

use crate::alert::Alert;
use crate::catalogue::{Detector, DetectorInfo, Moment};
use crate::course::{self, Turn};

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ProcessDied {
    alert: Alert,
    /// A process of this agent was seen alive: only what lived can die.
    lived: bool,
}

impl Detector for ProcessDied {
    const INFO: DetectorInfo = DetectorInfo {
        name: "process-died",
        title: "Process died in the middle of a turn",
        what: "The agent's process, seen alive before, is gone while a turn was open.",
        warns_at: "SEV3 at once; ends when the agent works again.",
        incident_type: IncidentType::PluginCrash,
    };

    #[inline]
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        match &moment.event.fact {
            Fact::Process { alive: true, .. } => self.lived = true,
            Fact::Process { alive: false, pid, .. } => {
                let working = matches!(moment.course.turn, Turn::AwaitingModel | Turn::AwaitingTool);
                if std::mem::take(&mut self.lived) && working && !self.alert.is_firing() {
                    let active = self.alert.begin(moment.at, IncidentType::PluginCrash, || format!("process:{}", moment.who.agent));
                    active.counts.occurrences = 1;
                    active.show(moment.at, &format!("process {pid} is gone, the last event was at {}", moment.course.last_at));
                    let reason = format!("process {pid} is gone in the middle of a turn");
                    self.alert.fire(moment.told(), &Self::INFO, Some(Severity::Sev3), reason, out);
                }
            }
            _ if self.alert.is_firing() && course::is_activity(moment.event) => {
                self.alert.resolve(moment.told(), &Self::INFO, "the agent works again", out);
            }
            _ => {}
        }
    }

    fn alert(&mut self) -> &mut Alert {
        &mut self.alert
    }
}
