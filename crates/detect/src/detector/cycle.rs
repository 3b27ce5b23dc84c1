//! The agent runs through the same few calls in a circle.

use paramedic_model::{AlertChange, IncidentType, Severity};
use serde::{Deserialize, Serialize};

use super::looping::{Loop, Sighting};
use crate::alert::Alert;
use crate::catalogue::{Detector, DetectorInfo, Moment};

/// The shortest and the longest cycle looked for. A cycle of one call is a repeat.
const PERIODS: std::ops::RangeInclusive<usize> = 2..=5;

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Cycle(Loop);

impl Detector for Cycle {
    const INFO: DetectorInfo = DetectorInfo {
        name: "cycle",
        title: "Going in circles",
        what: "The agent runs through the same two to five calls in a circle, whatever comes back.",
        warns_at: "SEV3 when the circle is closed 3 times (a note where it contains a polling tool); a circle of two with the same results is told by ping-pong; ends after 5 other calls in a row, a prompt or the end of the turn.",
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

impl Cycle {
    fn completed(&mut self, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        let (course, settings) = (moment.course, moment.settings);
        let times_min = settings.cycle_critical.max(2);
        let found = PERIODS.map(|period| (period, course.periodic(period))).find(|(period, (same, _))| same + period >= period * times_min);
        let Some((period, (same, same_results))) = found else {
            return self.0.not_seen(moment, &Self::INFO, out);
        };
        let len = course.calls.len();
        let all_equal = course.calls.range(len - period..).all(|call| call.key == course.calls[len - 1].key);
        let told_by_ping_pong = period == 2 && same_results + 2 >= settings.ping_pong_critical;
        if all_equal || told_by_ping_pong {
            return;
        }
        let (times, steps) = ((same + period) / period, same + period);
        let around: Vec<&str> = course.calls.range(len - period..).map(|call| course.tool(call)).collect();
        let polling = around.iter().any(|tool| settings.is_polling(tool));
        let subject = course.calls.range(len - period..).fold(period as u64, |sum, call| sum.wrapping_add(call.key));
        self.0.seen(
            Sighting {
                subject,
                onset: course.calls[len - steps].at,
                occurrences: times as u64,
                severity: (!polling).then_some(Severity::Sev3),
                reason: format!("the same {period} calls in a circle, {times} times: {}", around.join(", ")),
                evidence: format!("{} again", around[period - 1]),
            },
            moment,
            &Self::INFO,
            out,
        );
    }
}
