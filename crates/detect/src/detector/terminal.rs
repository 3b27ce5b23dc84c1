//! What the two detectors of turn-ending failures share.

use std::time::Duration;

use paramedic_model::{AlertChange, ApiErrorClass, Fact, Severity, Source, text};
use serde::{Deserialize, Serialize};

use super::retry_burst::{cause, incident_type};
use crate::alert::Alert;
use crate::catalogue::{DetectorInfo, Moment};
use crate::say;

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Terminal {
    pub(crate) alert: Alert,
}

/// Bytes of a task's name that stand in a sentence.
const NAME_BYTES_MAX: usize = 60;

/// A turn-ending failure, put together from the event and the retries before it.
struct Failure {
    class: ApiErrorClass,
    status: Option<u16>,
    exhausted: bool,
    tries: u64,
    /// How long was waited, where the failure says so.
    waited: Option<Duration>,
}

impl Failure {
    fn of(moment: &Moment<'_>) -> Option<Self> {
        let Fact::ModelError { class, status, attempts, retries_exhausted, duration } = moment.event.fact else { return None };
        let burst = &moment.course.burst;
        // Older clients name no class on the last line; then it is that of the retries.
        let class = if class == ApiErrorClass::Unknown { burst.class.unwrap_or(class) } else { class };
        let exhausted = retries_exhausted || burst.attempts_max.is_some_and(|max| max > 0 && burst.attempt >= max);
        let tries = u64::from(attempts.unwrap_or(0)).saturating_sub(1).max(burst.retries);
        Some(Self { class, status: status.or(burst.status), exhausted, tries, waited: duration })
    }

    /// `agent execution timed out after 5 min, task code-review`, `model API overloaded (529)`.
    fn words(&self, moment: &Moment<'_>) -> String {
        if self.class != ApiErrorClass::Timeout || self.status.is_some() {
            return say::failure(self.class, self.status);
        }
        let is_run = moment.event.source == Source::Log;
        let mut words = String::from(if is_run { "agent execution timed out" } else { "model call timed out" });
        if let Some(waited) = self.waited.filter(|_| is_run) {
            words.push_str(" after ");
            words.push_str(&say::duration(waited));
        }
        for (name, shown) in [("Task", "task"), ("Conversation", "conversation")] {
            if let Some(value) = moment.event.attributes.get(name).and_then(|value| value.as_str()) {
                words.push_str(&format!(", {shown} {}", text::head(&say::shown(value), NAME_BYTES_MAX)));
            }
        }
        words
    }

    /// The provider's failures and locked accounts stop every agent: SEV2. A limit passes by itself: SEV3. A request that
    /// only this agent makes wrong stops only this agent: SEV4, and SEV3 once it happens again and again. A model that
    /// is not there is a setting that others probably share: SEV3.
    fn severity(&self, failures: u64, own_max: u32) -> Severity {
        match self.class {
            ApiErrorClass::RateLimit | ApiErrorClass::ModelNotFound => Severity::Sev3,
            ApiErrorClass::InvalidRequest | ApiErrorClass::PromptTooLong | ApiErrorClass::MaxOutputTokens => {
                if failures >= u64::from(own_max) { Severity::Sev3 } else { Severity::Sev4 }
            }
            _ => Severity::Sev2,
        }
    }
}

impl Terminal {
    /// `exhausted` says which of the two this is: after the last retry, or without one.
    #[inline]
    pub(crate) fn observe(&mut self, moment: &Moment<'_>, info: &DetectorInfo, exhausted: bool, out: &mut Vec<AlertChange>) {
        match &moment.event.fact {
            Fact::ModelError { .. } => {
                if let Some(failure) = Failure::of(moment).filter(|failure| failure.exhausted == exhausted) {
                    self.failed(&failure, moment, info, out);
                }
            }
            Fact::ModelCall { .. } if moment.step.answered => self.alert.resolve(moment.told(), info, "the model answers again", out),
            // Whoever stops it on purpose has dealt with it, and nothing that it could do will end this any more.
            Fact::SessionEnded { .. } if moment.event.source == Source::Process => {
                self.alert.resolve(moment.told(), info, "the agent was stopped on purpose", out);
            }
            _ => {}
        }
    }

    fn failed(&mut self, failure: &Failure, moment: &Moment<'_>, info: &DetectorInfo, out: &mut Vec<AlertChange>) {
        let onset = if failure.exhausted && moment.course.burst.retries > 0 { moment.course.burst.started_at } else { moment.at };
        let (class, status) = (failure.class, failure.status);
        let active = self.alert.begin(onset, incident_type(class, status), || cause(class, status, moment.who.agent.as_str()));
        active.counts.terminal_failures += u64::from(!moment.step.told_before || active.counts.terminal_failures == 0);
        active.counts.terminal_at = active.counts.terminal_at.or(Some(moment.at));
        active.counts.class = Some(class);
        active.counts.status = failure.status.or(active.counts.status);
        let text = &moment.event.text;
        active.show(moment.at, if text.is_empty() { "the turn ended with an error" } else { text });
        let failures = active.counts.terminal_failures;
        let severity = failure.severity(failures, moment.settings.api_own_failures_critical);
        let started_at = active.started_at;
        if active.severity.max(Some(severity)) != active.severity || say::worth_telling(failures) {
            let span = say::duration(moment.at.since(started_at));
            let what = failure.words(moment);
            let reason = match (failures, failure.exhausted) {
                (1, true) if failure.tries == 0 => format!("{what}: the client gave up trying again, the turn failed"),
                (1, true) => format!("{what}: all {} failed in {span}, then the turn failed", say::retries(failure.tries)),
                (1, false) => format!("{what}: the turn failed"),
                _ => format!("{what}: {failures} turns in a row failed in {span}"),
            };
            self.alert.fire(moment.told(), info, Some(severity), reason, out);
        }
    }
}
