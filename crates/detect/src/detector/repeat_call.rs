//! The agent makes the same call over and over, whatever comes back.

use paramedic_model::{AlertChange, IncidentType, Severity};
use serde::{Deserialize, Serialize};

use super::looping::{Loop, Sighting};
use crate::alert::Alert;
use crate::catalogue::{Detector, DetectorInfo, Moment};
use crate::course::CALLS_KEPT;
use crate::say;

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct RepeatCall(Loop);

impl Detector for RepeatCall {
    const INFO: DetectorInfo = DetectorInfo {
        name: "repeat-call",
        title: "Same call over and over",
        what: "The agent makes the same call over and over, whatever comes back.",
        warns_at: "Notes 5 in the last 20 calls, again at 10; SEV3 from 20 in the last 30; never for polling tools; ends after 5 other calls in a row, a prompt or the end of the turn.",
        incident_type: IncidentType::Timeout,
    };

    #[inline]
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        if moment.step.called {
            self.called(moment, out);
        }
        self.0.border(moment, &Self::INFO, out);
    }

    fn alert(&mut self) -> &mut Alert {
        &mut self.0.alert
    }
}

impl RepeatCall {
    fn called(&mut self, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        let (course, settings) = (moment.course, moment.settings);
        let Some(call) = course.calls.back().filter(|call| call.key != 0) else { return };
        let same = |window: usize| course.last_calls(window).filter(|one| one.key == call.key);
        let count = same(settings.window()).count();
        if count < settings.repeat_call_note {
            return self.0.not_seen(moment, &Self::INFO, out);
        }
        if settings.is_polling(course.tool(call)) {
            return;
        }
        let in_all = same(CALLS_KEPT).count();
        let critical = in_all >= settings.repeat_call_critical;
        let (shown, window) = if critical { (in_all, CALLS_KEPT) } else { (count, settings.window()) };
        let what = say::call(course.tool(call), &moment.event.text);
        let growing = if !critical && count >= settings.repeat_call_warn { ", and it goes on" } else { "" };
        self.0.seen(
            Sighting {
                subject: call.key,
                onset: same(CALLS_KEPT).next().map_or(call.at, |first| first.at),
                occurrences: in_all as u64,
                severity: critical.then_some(Severity::Sev3),
                reason: format!("same call {shown} times in the last {window} calls{growing}: {what}"),
                evidence: what,
            },
            moment,
            &Self::INFO,
            out,
        );
    }
}
