//! What the four detectors of retry bursts share: failed tries of one kind, until the model answers.
//!
//! A retry is counted by exactly one detector and so is a turn-ending failure (see `terminal`), so that an incident may
//! add the counts of its alerts.

use paramedic_model::alert::AlertCounts;
use paramedic_model::{AlertChange, ApiErrorClass, Fact, IncidentType, Severity, Timestamp};
use serde::{Deserialize, Serialize};

use crate::alert::Alert;
use crate::catalogue::{DetectorInfo, Moment};
use crate::say;

/// Alerts with the same cause belong to one incident. The provider's failures are one cause for all agents, and so are
/// time-outs that no answer of the provider told of.
pub(crate) fn cause(class: ApiErrorClass, status: Option<u16>, agent: &str) -> String {
    match class {
        ApiErrorClass::Timeout if status.is_none() => "timeout".to_owned(),
        ApiErrorClass::Overloaded | ApiErrorClass::Server | ApiErrorClass::Timeout | ApiErrorClass::Unknown => "api_failure".to_owned(),
        ApiErrorClass::Network => "network".to_owned(),
        ApiErrorClass::RateLimit => "rate_limit".to_owned(),
        ApiErrorClass::Authentication => "authentication".to_owned(),
        ApiErrorClass::Billing => "billing".to_owned(),
        ApiErrorClass::InvalidRequest | ApiErrorClass::PromptTooLong | ApiErrorClass::ModelNotFound | ApiErrorClass::MaxOutputTokens => {
            format!("request:{agent}")
        }
    }
}

/// A time-out without a status was measured on this side, of an agent's run or of a call that nobody answered: a
/// time-out. With a status (408, 504) the provider answered, and what it said is that its own work failed: a failure of
/// the API like any other 5xx.
pub(crate) const fn incident_type(class: ApiErrorClass, status: Option<u16>) -> IncidentType {
    match (class, status) {
        (ApiErrorClass::RateLimit, _) => IncidentType::RateLimit,
        (ApiErrorClass::Authentication | ApiErrorClass::Billing, _) => IncidentType::Authentication,
        (ApiErrorClass::Timeout, None) => IncidentType::Timeout,
        _ => IncidentType::ApiFailure,
    }
}

#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RetryBurst {
    pub(crate) alert: Alert,
    failed_at: Timestamp,
}

impl RetryBurst {
    /// `mine` says which classes of failure the detector is for.
    pub(crate) fn observe(
        &mut self,
        moment: &Moment<'_>,
        info: &DetectorInfo,
        mine: fn(ApiErrorClass) -> bool,
        out: &mut Vec<AlertChange>,
    ) {
        match &moment.event.fact {
            Fact::ModelRetry { class, .. } if mine(*class) => self.failed_try(moment, info, out),
            Fact::ModelError { .. } if self.alert.is_firing() => self.turn_failed(moment, info, out),
            Fact::ModelCall { .. } if moment.step.answered && self.alert.is_firing() => self.answered(moment, info, out),
            _ => {}
        }
    }

    fn failed_try(&mut self, moment: &Moment<'_>, info: &DetectorInfo, out: &mut Vec<AlertChange>) {
        let Fact::ModelRetry { class, status, attempt, attempts_max, delay } = moment.event.fact else { return };
        let at = moment.at;
        let active = self.alert.begin(at, incident_type(class, status), || cause(class, status, moment.who.agent.as_str()));
        // What ended with an answer meanwhile is another burst.
        active.counts.retries += u64::from(!moment.step.told_before || active.counts.retries == 0);
        active.counts.class = Some(class);
        active.counts.status = status.or(active.counts.status);
        active.counts.waited = Some(active.counts.waited.unwrap_or_default().saturating_add(delay.unwrap_or_default()));
        let of = attempts_max.map_or_else(String::new, |max| format!(" of {max}"));
        active.show(at, &format!("retry {attempt}{of}: {}", say::failure(class, status)));
        self.failed_at = at;
        let told = format!("{} in {}, no answer yet", say::retries(active.counts.retries), say::duration(at.since(active.started_at)));
        let reason = format!("{}: {told}", say::failure(class, active.counts.status));
        // The client's own count is right even where we began to read in the middle of a burst.
        let severe = active.counts.retries.max(u64::from(attempt)) >= u64::from(moment.settings.api_retries_critical);
        let worsens = severe && active.severity.is_none();
        if worsens || say::worth_telling(active.counts.retries) {
            self.alert.fire(moment.told(), info, severe.then_some(Severity::Sev3), reason, out);
        }
    }

    fn turn_failed(&mut self, moment: &Moment<'_>, info: &DetectorInfo, out: &mut Vec<AlertChange>) {
        let Some(active) = self.alert.active() else { return };
        active.show(moment.at, ending(moment));
        self.failed_at = moment.at;
        let reason = format!("{}, then the turn failed", so_far(active.started_at, moment.at, &active.counts));
        let severity = if active.incident_type == IncidentType::RateLimit { Severity::Sev3 } else { Severity::Sev2 };
        self.alert.fire(moment.told(), info, Some(severity), reason, out);
    }

    fn answered(&mut self, moment: &Moment<'_>, info: &DetectorInfo, out: &mut Vec<AlertChange>) {
        let Some(active) = self.alert.active() else { return };
        active.counts.successes += 1;
        if active.counts.retries > 0 {
            active.reason = so_far(active.started_at, self.failed_at, &active.counts);
        }
        let how = format!("the model answered {} after the first failure", say::duration(moment.at.since(active.started_at)));
        self.alert.resolve(moment.told(), info, &how, out);
    }
}

fn ending<'a>(moment: &Moment<'a>) -> &'a str {
    if moment.event.text.is_empty() { "the turn ended with an error" } else { &moment.event.text }
}

/// `model API overloaded (529): 10 retries in 3 min 24 s`.
fn so_far(started_at: Timestamp, until: Timestamp, counts: &AlertCounts) -> String {
    let failure = say::failure(counts.class.unwrap_or(ApiErrorClass::Unknown), counts.status);
    if until == started_at {
        return format!("{failure}: {}", say::retries(counts.retries));
    }
    format!("{failure}: {} in {}", say::retries(counts.retries), say::duration(until.since(started_at)))
}
