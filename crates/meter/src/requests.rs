//! Requests: from the prompt to the end of the turn.

use std::time::Duration;

use paramedic_model::{ApiErrorClass, Timestamp};

use crate::catalogue::Metric;
use crate::config::RequestDuration;
use crate::course::{Course, Turn, seconds};
use crate::ledger::lock;
use crate::meter::{Meter, Moment, is_log};
use crate::names::Kind;
use crate::passing::{REFUSED, is_gateways, is_refused};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End<'a> {
    Success,
    Cancelled,
    /// With the class of the failure.
    Error(&'a str),
}

impl End<'_> {
    const fn status(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Cancelled => "cancelled",
            Self::Error(_) => "error",
        }
    }
}

impl Meter {
    /// A prompt begins a request. One that comes while another is worked on ends that one: whoever gave it went on.
    pub(crate) fn request_begins(&mut self, moment: &Moment<'_>, course: &mut Course) {
        let at = moment.event.at;
        if let Some(turn) = course.turn {
            let end = if turn.answered { End::Success } else { End::Cancelled };
            let last = course.worked_at.filter(|worked| (turn.since..=at).contains(worked)).unwrap_or(at);
            self.close(moment, course, end, last, None);
        }
        course.turn = Some(Turn { since: at, announced: true, answered: false });
        course.input_at = Some(at);
        course.ended = false;
    }

    pub(crate) fn turn_ended(&mut self, moment: &Moment<'_>, course: &mut Course, duration: Option<Duration>) {
        if course.turn.is_none() {
            return;
        }
        let is_interrupted = moment.event.attributes.get("interrupted").and_then(serde_json::Value::as_bool) == Some(true);
        let end = if is_interrupted { End::Cancelled } else { End::Success };
        self.close(moment, course, end, moment.event.at, duration);
    }

    /// The first answer: what a person waited for.
    pub(crate) fn answered(&mut self, moment: &Moment<'_>, course: &mut Course) {
        let Some(turn) = &mut course.turn else { return };
        if std::mem::replace(&mut turn.answered, true) || !turn.announced || self.settings.request_duration != RequestDuration::Answer {
            return;
        }
        if let Some(waited) = seconds(turn.since, moment.event.at).filter(|_| moment.live && !course.is_subagent) {
            self.request_took(moment.now_ms, "success", waited);
        }
    }

    pub(crate) fn model_error(
        &mut self,
        moment: &Moment<'_>,
        course: &mut Course,
        class: ApiErrorClass,
        status: Option<u16>,
        duration: Option<Duration>,
    ) {
        let is_run = is_log(moment.event) && class == ApiErrorClass::Timeout;
        if is_run {
            if moment.live {
                lock(&self.ledger).inc(Metric::Timeouts, &[], moment.now_ms);
            }
        } else if is_gateways(moment.event) {
            self.passing_failure(moment, course, class.as_str());
        }
        let is_known = !is_gateways(moment.event) && course.passing.claim(moment.event);
        if !is_gateways(moment.event) {
            Self::client_told(course);
        }
        if !is_run && !is_known && !is_refused(moment.event) {
            self.failed_try(moment, course, class, status);
            self.call_took(moment, course, "error", duration.map(|took| took.as_secs_f64()));
        }
        // Others tell whether the turn ended with it.
        if course.is_passing(moment.event) && course.is_recorded {
            return;
        }
        if course.turn.is_some() || is_run || !is_log(moment.event) {
            let class = if is_refused(moment.event) { REFUSED } else { class.as_str() };
            self.close(moment, course, End::Error(class), moment.event.at, None);
        }
    }

    pub(crate) fn session_ended(&mut self, moment: &Moment<'_>, course: &mut Course, reason: Option<&str>) {
        let at = moment.event.at;
        if let Some(turn) = course.turn {
            let end = if turn.answered { End::Success } else { End::Cancelled };
            self.close(moment, course, end, at, None);
        }
        if moment.live && !course.is_subagent && !course.ended && !course.label.is_empty() {
            let reason = self.names.admit(Kind::Word, reason.unwrap_or("unknown"), moment.now_ms);
            let mut ledger = lock(&self.ledger);
            if let Some(lived) = seconds(course.first_at, at) {
                ledger.observe(Metric::MonitorDuration, &[&course.label, &reason], lived, moment.now_ms);
            }
            ledger.observe(Metric::SessionEvents, &[&course.label], course.events as f64, moment.now_ms);
        }
        course.end();
    }

    /// A span that is a request as a whole.
    pub(crate) fn span(&mut self, moment: &Moment<'_>, course: &Course, duration: Duration, failed: bool) {
        if !moment.live || !self.settings.request_spans.iter().any(|name| **name == *moment.event.name) {
            return;
        }
        let class = moment.event.attributes.get("error.type").and_then(serde_json::Value::as_str).unwrap_or("span_failed");
        let class = self.names.admit(Kind::Word, class, moment.now_ms);
        let end = if failed { End::Error(&class) } else { End::Success };
        self.count_request(moment.now_ms, course, end);
        self.request_took(moment.now_ms, end.status(), duration.as_secs_f64());
        lock(&self.ledger).observe(Metric::TurnDuration, &[end.status()], duration.as_secs_f64(), moment.now_ms);
    }

    /// The end of a turn. Sub-agents work for their main agent's request, so theirs are not counted.
    pub(crate) fn close(&mut self, moment: &Moment<'_>, course: &mut Course, end: End<'_>, at: Timestamp, told: Option<Duration>) {
        self.close_at(moment.now_ms, moment.live, course, end, at, told);
    }

    pub(crate) fn close_at(&mut self, now_ms: i64, live: bool, course: &mut Course, end: End<'_>, at: Timestamp, told: Option<Duration>) {
        let turn = course.turn.take();
        course.closed_at = course.closed_at.max(Some(at));
        if !live || course.is_subagent {
            return;
        }
        self.count_request(now_ms, course, end);
        let took =
            told.map(|told| told.as_secs_f64()).or_else(|| turn.filter(|turn| turn.announced).and_then(|turn| seconds(turn.since, at)));
        let Some(took) = took else { return };
        lock(&self.ledger).observe(Metric::TurnDuration, &[end.status()], took, now_ms);
        let is_observed = self.settings.request_duration == RequestDuration::Answer && turn.is_some_and(|turn| turn.answered);
        if !is_observed {
            self.request_took(now_ms, end.status(), took);
        }
    }

    fn count_request(&mut self, now_ms: i64, course: &Course, end: End<'_>) {
        let mut ledger = lock(&self.ledger);
        ledger.inc(Metric::Requests, &[end.status(), &course.user], now_ms);
        if let End::Error(class) = end {
            ledger.inc(Metric::Errors, &[class, &course.user], now_ms);
        }
    }

    fn request_took(&mut self, now_ms: i64, status: &str, seconds: f64) {
        let mut ledger = lock(&self.ledger);
        ledger.observe(Metric::RequestDuration, &[status], seconds, now_ms);
        ledger.observe(Metric::Response, &[status], seconds, now_ms);
    }
}
