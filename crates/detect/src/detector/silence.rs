//! The agent is in the middle of a turn, no tool runs, nobody is asked, and nothing happens.
//!
//! Decided by the next event of the agent, or by the timer if one comes first; both say the same.

use std::time::Duration;

use paramedic_model::{AlertChange, IncidentType, Severity, Timestamp};
use serde::{Deserialize, Serialize};

use super::looping::cause;
use crate::alert::{Alert, Told};
use crate::catalogue::{Detector, DetectorInfo, Moment};
use crate::course::{self, Course, Turn};
use crate::say;

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Silence {
    alert: Alert,
    /// Time since the last event during which the machine slept.
    slept: Duration,
}

impl Detector for Silence {
    const INFO: DetectorInfo = DetectorInfo {
        name: "silence",
        title: "Silent in the middle of a turn",
        what: "The model owes an answer, no tool runs, nobody is asked, and nothing happens.",
        warns_at: "Notes 300 s, SEV4 from 900 s; ends with the agent's next sign of work.",
        incident_type: IncidentType::Timeout,
    };

    #[inline]
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        if course::is_activity(moment.event) {
            self.slept = Duration::ZERO;
            if self.alert.is_firing() {
                self.alert.resolve(moment.told(), &Self::INFO, "the agent goes on", out);
            }
        }
    }

    fn alert(&mut self) -> &mut Alert {
        &mut self.alert
    }
}

impl Silence {
    /// Looks at the gap between the last sign of work and `now`, before what happens at `now` is taken in.
    #[inline]
    pub(crate) fn pass(&mut self, course: &Course, told: Told<'_>, out: &mut Vec<AlertChange>) {
        if course.turn != Turn::AwaitingModel {
            return;
        }
        let gap = told.at.since(course.last_at).saturating_sub(self.slept);
        if gap >= Duration::from_secs(told.settings.silence_note_s) {
            self.silent(course.last_at, gap, told, out);
        }
    }

    /// The machine slept for so long: that was not the agent's silence.
    pub(crate) fn shift(&mut self, slept: Duration) {
        self.slept = self.slept.saturating_add(slept);
    }

    fn silent(&mut self, since: Timestamp, gap: Duration, told: Told<'_>, out: &mut Vec<AlertChange>) {
        let settings = told.settings;
        let steps = [(settings.silence_note_s, None), (settings.silence_critical_s, Some(Severity::Sev4))];
        for (threshold_s, severity) in steps {
            let threshold = Duration::from_secs(threshold_s);
            let told_before = self.alert.active().is_some_and(|active| severity.is_none() || active.severity.is_some());
            if gap < threshold || told_before {
                continue;
            }
            let at = since.after(threshold).after(self.slept);
            let active = self.alert.begin(since, IncidentType::Timeout, || cause(told.who.agent.as_str()));
            active.show(at, "no event since the onset");
            active.counts.occurrences = 1;
            active.counts.waited = Some(threshold);
            let reason =
                format!("silent for {} in the middle of a turn: no tool is running and nobody was asked", say::duration(threshold));
            self.alert.fire(Told { at, ..told }, &Self::INFO, severity, reason, out);
        }
    }
}
