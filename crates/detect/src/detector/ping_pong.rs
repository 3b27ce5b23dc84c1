//! The agent goes back and forth between two calls that always give the same results.

use paramedic_model::{AlertChange, IncidentType, Severity};
use serde::{Deserialize, Serialize};

use super::looping::{Loop, Sighting};
use crate::alert::Alert;
use crate::catalogue::{Detector, DetectorInfo, Moment};

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct PingPong(Loop);

impl Detector for PingPong {
    const INFO: DetectorInfo = DetectorInfo {
        name: "ping-pong",
        title: "Back and forth",
        what: "The agent goes back and forth between two calls that always give the same results.",
        warns_at: "Notes 4 steps (A-B-A-B), SEV3 from 6; ends after 5 other calls in a row, a prompt or the end of the turn.",
        incident_type: IncidentType::Timeout,
    };

    #[inline]
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        if moment.step.completed.is_some() {
            self.completed(moment, out);
        }
        self.0.border(moment, &Self::INFO, out);
    }

    fn alert(&mut self) -> &mut Alert {
        &mut self.0.alert
    }
}

impl PingPong {
    fn completed(&mut self, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        let (course, settings) = (moment.course, moment.settings);
        let (_, same) = course.periodic(2);
        let steps = same + 2;
        if same == 0 || steps < settings.ping_pong_note || course.periodic(1).0 > 0 {
            return self.0.not_seen(moment, &Self::INFO, out);
        }
        let last = course.calls.len() - 1;
        let (one, other) = (&course.calls[last - 1], &course.calls[last]);
        let polling = settings.is_polling(course.tool(one)) || settings.is_polling(course.tool(other));
        let (one_tool, other_tool) = (course.tool(one), course.tool(other));
        self.0.seen(
            Sighting {
                // The same for both ends of the pair.
                subject: one.key ^ other.key,
                onset: course.calls[last + 1 - steps].at,
                occurrences: steps as u64,
                severity: (steps >= settings.ping_pong_critical && !polling).then_some(Severity::Sev3),
                reason: format!("back and forth between two calls with the same results, {steps} steps: {one_tool} and {other_tool}"),
                evidence: format!("{other_tool} gave the same result as before"),
            },
            moment,
            &Self::INFO,
            out,
        );
    }
}
