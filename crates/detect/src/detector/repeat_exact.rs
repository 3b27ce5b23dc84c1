//! The agent makes the same call and gets the same result, again and again.

use paramedic_model::{AlertChange, IncidentType, Severity};
use serde::{Deserialize, Serialize};

use super::looping::{Loop, Sighting};
use crate::alert::Alert;
use crate::catalogue::{Detector, DetectorInfo, Moment};
use crate::course::CALLS_KEPT;
use crate::say;

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RepeatExact {
    repeat: Loop,
    /// What the call that repeats asks for, in words; taken from the call because results do not tell.
    summary: Box<str>,
    summary_of: u64,
}

impl Detector for RepeatExact {
    const INFO: DetectorInfo = DetectorInfo {
        name: "repeat-exact",
        title: "Same call, same result",
        what: "The agent makes the same call and gets the same result, again and again.",
        warns_at: "Notes 4 in the last 20 calls, SEV3 from 5; polling tools from 20; ends after 5 other calls in a row, a prompt or the end of the turn.",
        incident_type: IncidentType::Timeout,
    };

    #[inline]
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        if moment.step.called {
            self.remember(moment);
        } else if let Some(i) = moment.step.completed {
            self.completed(i, moment, out);
        }
        self.repeat.border(moment, &Self::INFO, out);
    }

    fn alert(&mut self) -> &mut Alert {
        &mut self.repeat.alert
    }
}

impl RepeatExact {
    /// Keeps the words of a call that was made before: only those can become a loop.
    fn remember(&mut self, moment: &Moment<'_>) {
        let Some(call) = moment.course.calls.back() else { return };
        let before = moment.course.last_calls(moment.settings.window());
        if call.key != 0 && call.key != self.summary_of && before.filter(|one| one.key == call.key).count() >= 3 {
            self.summary_of = call.key;
            self.summary = say::shown(&moment.event.text).into();
        }
    }

    fn completed(&mut self, i: usize, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        let (course, settings) = (moment.course, moment.settings);
        let call = &course.calls[i];
        if !call.is_comparable() {
            return;
        }
        let same =
            |window: usize| course.last_calls(window).filter(|one| one.key == call.key && one.result == call.result && one.is_comparable());
        let count = same(settings.window()).count();
        if count < settings.repeat_exact_note {
            return self.repeat.not_seen(moment, &Self::INFO, out);
        }
        let polling = settings.is_polling(course.tool(call));
        let in_all = same(CALLS_KEPT).count();
        let critical = if polling { in_all >= settings.repeat_call_critical } else { count >= settings.repeat_exact_critical };
        if polling && !critical {
            return;
        }
        let summary = if self.summary_of == call.key { &self.summary } else { "" };
        let what = say::call(course.tool(call), summary);
        let window = settings.window();
        self.repeat.seen(
            Sighting {
                subject: call.key ^ call.result,
                onset: same(CALLS_KEPT).next().map_or(call.at, |first| first.at),
                occurrences: in_all as u64,
                severity: critical.then_some(Severity::Sev3),
                reason: format!("same call with the same result {count} times in the last {window} calls: {what}"),
                evidence: format!("{what} gave the same result as before"),
            },
            moment,
            &Self::INFO,
            out,
        );
    }
}
