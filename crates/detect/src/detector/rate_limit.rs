//! The model API limits the agent's calls (429, or a limit's own report), with the limit and its reset where known.

use paramedic_model::{AlertChange, ApiErrorClass, Fact, IncidentType, Severity, Timestamp};
use serde::{Deserialize, Serialize};

use super::retry_burst::RetryBurst;
use crate::alert::Alert;
use crate::catalogue::{Detector, DetectorInfo, Moment};
use crate::say;

/// Retries and turn-ending errors of class rate limit go through the burst; the API's own reports are told here.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RateLimit {
    burst: RetryBurst,
    /// The last report that was told (status and limit), so that the same report on every call is one change.
    last_report: Option<(Box<str>, Box<str>)>,
    /// Whether calls are refused; a mere warning does not end with the next answer.
    refused: bool,
}

/// What the API said about the limit.
struct Report<'a> {
    status: &'a str,
    limit: &'a str,
    utilization: Option<f64>,
    resets_at: Option<Timestamp>,
}

impl Detector for RateLimit {
    const INFO: DetectorInfo = DetectorInfo {
        name: "rate-limit",
        title: "Rate limited",
        what: "The model API limits the agent's calls (429, or a limit's own report), with the limit and its reset where known.",
        warns_at: "Notes a limit that is near and the first retry; SEV3 from the third retry, when the limit refuses a call, or when the turn fails; ends at the next answered model call, or when the API allows again.",
        incident_type: IncidentType::RateLimit,
    };

    #[inline]
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        match &moment.event.fact {
            Fact::RateLimit { status, limit, utilization, resets_at, .. } => {
                let (utilization, resets_at) = (*utilization, *resets_at);
                self.reported(&Report { status, limit: limit.as_deref().unwrap_or_default(), utilization, resets_at }, moment, out);
            }
            Fact::ModelError { class: ApiErrorClass::RateLimit, .. } => self.turn_failed(moment, out),
            Fact::ModelRetry { class: ApiErrorClass::RateLimit, .. } => {
                self.refused = true;
                self.burst.observe(moment, &Self::INFO, |class| matches!(class, ApiErrorClass::RateLimit), out);
            }
            Fact::ModelCall { .. } if moment.step.answered && self.refused => {
                self.refused = false;
                self.last_report = None;
                self.burst.observe(moment, &Self::INFO, |class| matches!(class, ApiErrorClass::RateLimit), out);
            }
            _ => {}
        }
    }

    fn alert(&mut self) -> &mut Alert {
        &mut self.burst.alert
    }
}

impl RateLimit {
    fn reported(&mut self, report: &Report<'_>, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        if report.status == "allowed" {
            self.refused = false;
            self.last_report = None;
            self.burst.alert.resolve(moment.told(), &Self::INFO, "the API allows calls again", out);
            return;
        }
        let refused = report.status == "rejected";
        if self.burst.alert.is_firing()
            && self.last_report.as_ref().is_some_and(|(status, limit)| **status == *report.status && **limit == *report.limit)
        {
            return;
        }
        self.refused |= refused;
        self.last_report = Some((say::shown(report.status).into(), say::shown(report.limit).into()));
        let reason = report.sentence();
        let active = self.burst.alert.begin(moment.at, IncidentType::RateLimit, || "rate_limit".to_owned());
        active.counts.class = Some(ApiErrorClass::RateLimit);
        // The refusal that ended the turn and the report about it are one.
        let told_already = active.counts.occurrences > 0 && active.evidence.last().is_some_and(|last| last.at == moment.at);
        active.counts.occurrences += u64::from(refused && !told_already);
        active.counts.resets_at = report.resets_at.or(active.counts.resets_at);
        active.show(moment.at, &reason);
        if refused || say::worth_telling(active.evidence.len() as u64) {
            self.burst.alert.fire(moment.told(), &Self::INFO, refused.then_some(Severity::Sev3), reason, out);
        }
    }

    fn turn_failed(&mut self, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        self.refused = true;
        if self.burst.alert.is_firing() {
            self.burst.observe(moment, &Self::INFO, |class| matches!(class, ApiErrorClass::RateLimit), out);
            return;
        }
        let Fact::ModelError { status, .. } = moment.event.fact else { return };
        let active = self.burst.alert.begin(moment.at, IncidentType::RateLimit, || "rate_limit".to_owned());
        active.counts.class = Some(ApiErrorClass::RateLimit);
        active.counts.status = status;
        active.counts.occurrences += 1;
        let text = if moment.event.text.is_empty() { "the limit was reached" } else { &moment.event.text };
        active.show(moment.at, text);
        let reason = format!("{}: {}", say::failure(ApiErrorClass::RateLimit, status), say::shown(text));
        self.burst.alert.fire(moment.told(), &Self::INFO, Some(Severity::Sev3), reason, out);
    }
}

impl Report<'_> {
    fn sentence(&self) -> String {
        let limit = if self.limit.is_empty() { "a limit".to_owned() } else { format!("the limit `{}`", say::shown(self.limit)) };
        let used = self.utilization.map_or_else(String::new, |share| format!(", {:.0} % used", share * 100.0));
        let resets = self.resets_at.map_or_else(String::new, |at| format!(", resets at {at}"));
        let verb = if self.status == "rejected" { "rate limited by" } else { "close to" };
        format!("{verb} {limit}{used}{resets}")
    }
}
