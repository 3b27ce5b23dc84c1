//! A call on its way to the upstream: breakers, tries, other models and other upstreams, until there is an answer.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{AUTHORIZATION, COOKIE, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Response};
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::flight::{Flight, millis};
use super::prepare::{Read, to_model};
use crate::answer::{Limits as ProviderLimits, may_retry};
use crate::breaker::{self, Open};
use crate::call::{Kind, Outcome};
use crate::config::Settings;
use crate::gateway::Ready;
use crate::limit;
use crate::policy::Policy;
use crate::proxy::{Answer, Limits, SendBody, SendError};
use crate::refuse::Refusal;
use crate::retry::{Decision, Failure, Tried, decide};
use crate::traffic::RunningState;

/// A call that is not inference, or was too large to be read: its body passes once.
pub(super) enum Load {
    Whole { read: Box<Read>, trailers: Option<Box<HeaderMap>> },
    Passing(Option<SendBody>),
}

/// What is needed to send a call, again if need be.
pub(super) struct Sending<'a> {
    parts: Parts,
    load: Load,
    pub(super) policy: &'a Policy,
    pub(super) ready: &'a Ready,
    pub(super) upstream: usize,
    /// The upstream that stands in for another one.
    stand_in: Option<usize>,
}

/// Why there is nothing to pass on.
pub(super) struct Failed {
    pub(super) refusal: Refusal,
    pub(super) outcome: Outcome,
}

/// What comes after a try.
enum After {
    Pass(Box<Response<Answer>>),
    Again(Duration),
    Fail(Failed),
}

impl<'a> Sending<'a> {
    pub(super) fn new(parts: Parts, load: Load, policy: &'a Policy, ready: &'a Ready) -> Self {
        let mut sending = Self { parts, load, policy, ready, upstream: 0, stand_in: None };
        sending.upstream = ready.upstream_for(sending.model().as_deref());
        sending
    }

    fn settings(&self) -> &Settings {
        &self.ready.settings
    }

    fn model(&self) -> Option<Box<str>> {
        match &self.load {
            Load::Whole { read, .. } => read.model(),
            Load::Passing(_) => None,
        }
    }

    /// How long to wait for what: as the narrowest switch says, else as the settings say.
    fn limits(&self, flight: &Flight) -> Limits {
        let settings = self.settings();
        let or = |ruling: &Option<crate::policy::Ruling<Duration>>, seconds| {
            ruling.as_ref().map_or(Duration::from_secs(seconds), |ruling| ruling.value)
        };
        let mut first_byte = or(&self.policy.first_byte_timeout, settings.first_byte_timeout_s);
        if let Some(total) = self.total() {
            // None at all would be no limit.
            first_byte = nearer(first_byte, total.saturating_sub(flight.begun.elapsed()).max(Duration::from_millis(1)));
        }
        Limits { connect: nearer(or(&self.policy.connect_timeout, settings.connect_timeout_s), first_byte), first_byte }
    }

    /// The longest that the whole call may take.
    pub(super) fn total(&self) -> Option<Duration> {
        let of_settings = Some(Duration::from_secs(self.settings().request_timeout_s)).filter(|total| !total.is_zero());
        self.policy.request_timeout.as_ref().map(|ruling| ruling.value).or(of_settings)
    }

    /// Sends the call until there is an answer to pass on, or no hope.
    pub(super) async fn send(&mut self, flight: &mut Flight) -> Result<Response<Answer>, Failed> {
        flight.inner.retries.call(Instant::now());
        let attempts = match (&self.policy.retry_attempts, &self.policy.fast_fail) {
            (Some(ruling), None) => ruling.value.max(1),
            _ => 1,
        };
        let mut attempt = 0;
        loop {
            if attempt > 0
                && let Some(refusal) = super::stopped_meanwhile(flight)
            {
                return Err(Failed { refusal, outcome: Outcome::Refused });
            }
            let inner = Arc::clone(&flight.inner);
            if let Err(open) = inner.guards.step("breakers", || self.enter(flight)).unwrap_or(Ok(())) {
                match self.around(flight, &open) {
                    true => continue,
                    false => return Err(self.breaker_refusal(&open)),
                }
            }
            attempt += 1;
            flight.is_now(RunningState::Asked);
            flight.asked = true;
            if let Some(reservation) = &flight.reservation {
                reservation.asked();
            }
            if let Some(record) = flight.record() {
                record.tries = attempt;
            }
            // Whoever goes away in the meantime leaves a call that may have been read.
            let before = std::mem::replace(&mut flight.sent, true);
            let sent = self.once(flight).await;
            flight.sent = before || sent.as_ref().map_or_else(SendError::sent, |answer| answer.status().as_u16() < 400);
            match self.judge(flight, sent, attempt, attempts) {
                After::Pass(answer) => return Ok(*answer),
                After::Fail(failed) => return Err(failed),
                After::Again(wait) => self.wait(flight, wait, attempt).await,
            }
        }
    }

    async fn wait(&self, flight: &mut Flight, wait: Duration, attempt: u32) {
        if wait.is_zero() {
            return;
        }
        flight.is_now(RunningState::Waiting);
        tokio::time::sleep(wait).await;
        if let Some(record) = flight.record() {
            record.waited += wait;
        }
        if let Some(ruling) = &self.policy.retry_attempts {
            flight.acted(&ruling.switch, format!("tried again after try {attempt} failed, {} ms later", millis(wait)));
        }
    }

    /// Asks the breakers of the upstream, its model and its key.
    fn enter(&self, flight: &mut Flight) -> Result<(), Open> {
        let upstream = self.ready.upstreams[self.upstream].upstream.name();
        let model = self.model().map(|model| format!("{upstream}/{model}"));
        let key = flight.record.as_ref().and_then(|record| record.caller.key.as_deref().map(|key| format!("{upstream}/key:{key}")));
        let mut names = vec![upstream];
        names.extend(model.as_deref());
        names.extend(key.as_deref());
        let pass = flight.inner.breakers.allow(&names, self.policy.breaker.is_some(), Instant::now())?;
        flight.pass = Some(pass);
        Ok(())
    }

    /// The way around an open breaker: another upstream, or another model. False when there is none.
    fn around(&mut self, flight: &mut Flight, open: &Open) -> bool {
        let switch = open.forced_by.as_deref().or(self.policy.breaker.as_deref()).unwrap_or("circuit_breaker").to_owned();
        if self.policy.fallback_model.is_some() && self.fall_back(flight) {
            return true;
        }
        self.go_to_other(flight, &switch, &format!("the breaker {} is open", open.name))
    }

    /// The upstream that stands in for the one that was asked. False when there is none, or it does so already.
    fn go_to_other(&mut self, flight: &mut Flight, switch: &str, why: &str) -> bool {
        let Some(other) = self.ready.upstreams[self.upstream].fallback else { return false };
        // There and not back again.
        if self.stand_in.is_some() {
            return false;
        }
        (self.upstream, self.stand_in) = (other, Some(other));
        let name = self.ready.upstreams[other].upstream.name().to_owned();
        flight.acted(switch, format!("went to the upstream {name}, because {why}"));
        if let Some(record) = flight.record() {
            record.upstream = name.into();
        }
        true
    }

    fn breaker_refusal(&self, open: &Open) -> Failed {
        let switch = open.forced_by.as_deref().or(self.policy.breaker.as_deref()).unwrap_or("circuit_breaker");
        let said = format!("the circuit breaker {} is open: the upstream failed again and again, or an operator opened it", open.name);
        let refusal = match &self.policy.fast_fail {
            Some(_) => Refusal::fast_fail(said),
            None => Refusal::breaker_open(said, open.forced_by.is_none().then_some(open.retry_after)),
        };
        Failed { refusal: refusal.by(switch), outcome: Outcome::Refused }
    }

    /// The head of the request. An upstream that stands in gets its own key: none of the others may be shown to it.
    fn parts(&self) -> Parts {
        let mut parts = self.parts.clone();
        let stands_in = self.stand_in == Some(self.upstream);
        let key = self.settings().upstreams.get(self.upstream).map_or("", |upstream| &upstream.api_key);
        if stands_in && !key.is_empty() {
            parts.headers.remove(AUTHORIZATION);
            parts.headers.remove(COOKIE);
            parts.headers.remove("x-api-key");
            if let Ok(mut key) = HeaderValue::from_str(key) {
                key.set_sensitive(true);
                parts.headers.insert("x-api-key", key);
            }
        }
        parts
    }

    async fn once(&mut self, flight: &Flight) -> Result<Response<Answer>, SendError> {
        let upstream = Arc::clone(&self.ready.upstreams[self.upstream].upstream);
        let body = match &mut self.load {
            Load::Whole { read, trailers } => SendBody::whole(read.bytes.clone(), trailers.clone()),
            Load::Passing(body) => body.take().unwrap_or_else(SendBody::empty),
        };
        upstream.send(self.parts(), body, self.limits(flight)).await
    }

    /// What is done after a try: its answer is passed on, the call is tried again, or it failed.
    fn judge(&mut self, flight: &mut Flight, sent: Result<Response<Answer>, SendError>, attempt: u32, attempts: u32) -> After {
        let sent = match sent {
            Ok(answer) if answer.status().as_u16() < 400 => {
                flight.retry_after = None;
                return self.pass_on(flight, answer);
            }
            other => other,
        };
        let (failure, retry_after, told) = match &sent {
            Ok(answer) => {
                let signs = may_retry(answer.status().as_u16(), answer.headers(), flight.inner.clock.now());
                flight.retry_after = signs.wait;
                (Failure::Status(answer.status().as_u16()), signs.wait, signs.told)
            }
            Err(error) if error.sent() => (Failure::Reset, None, None),
            Err(_) => (Failure::Connect, None, None),
        };
        let overloaded = matches!(failure, Failure::Status(503 | 529) | Failure::Connect);
        if overloaded && self.policy.fallback_model.is_some() && self.fall_back(flight) {
            absorbed(flight, failure, retry_after);
            return After::Again(Duration::ZERO);
        }
        let is_whole = matches!(self.load, Load::Whole { .. });
        if overloaded && is_whole && self.policy.fast_fail.is_none() {
            let name = self.ready.upstreams[self.upstream].upstream.name();
            let why = match failure {
                Failure::Status(status) => format!("{name} answered {status}"),
                _ => format!("{name} could not be reached"),
            };
            if self.go_to_other(flight, "fallback", &why) {
                absorbed(flight, failure, retry_after);
                return After::Again(Duration::ZERO);
            }
        }
        let may_repeat = is_whole && told != Some(false);
        if may_repeat {
            let id = flight.ticket.as_ref().map_or(0, |ticket| ticket.id);
            let tried = Tried { attempt, attempts, failure, retry_after, elapsed: flight.begun.elapsed(), chance: chance(id, attempt) };
            let in_time = |after: Duration| self.total().is_none_or(|total| flight.begun.elapsed() + after < total);
            let decision = decide(&tried, &self.settings().retry, &flight.inner.retries, Instant::now());
            if let Decision::Again { after } = decision
                && in_time(after)
            {
                if let Ok(answer) = &sent {
                    self.note(flight, answer);
                }
                absorbed(flight, failure, retry_after);
                return After::Again(after);
            }
        }
        match sent {
            Ok(answer) => self.pass_on(flight, answer),
            Err(error) => After::Fail(self.given_up(flight, &error)),
        }
    }

    fn given_up(&self, flight: &mut Flight, error: &SendError) -> Failed {
        // That the whole call took longer than an operator wants is no failure of the upstream.
        if self.policy.request_timeout.as_ref().is_some_and(|ruling| flight.begun.elapsed() >= ruling.value) {
            flight.pass = None;
        }
        if let Some(max) = self.policy.max_input_bytes.as_ref().filter(|max| flight.passed() > max.value) {
            return Failed { refusal: super::too_many_bytes(max), outcome: Outcome::Refused };
        }
        self.send_failure(error)
    }

    fn pass_on(&self, flight: &mut Flight, answer: Response<Answer>) -> After {
        self.note(flight, &answer);
        After::Pass(Box::new(answer))
    }

    fn note(&self, flight: &mut Flight, answer: &Response<Answer>) {
        let inner = Arc::clone(&flight.inner);
        inner.guards.step("limits of the provider", || self.provider(flight, answer));
    }

    /// What the provider says of its limits in the answer's headers.
    fn provider(&self, flight: &mut Flight, answer: &Response<Answer>) {
        if let Some(permit) = &mut flight.permit {
            permit.answered();
        }
        let Some(record) = flight.record.as_deref() else { return };
        if record.kind != Kind::Inference {
            return;
        }
        let now = flight.inner.clock.now();
        let limits = ProviderLimits::read(answer.headers(), now);
        let model = self.model().unwrap_or_default();
        let key = record.caller.key.clone().unwrap_or_else(|| "none".into());
        if let Some(limits) = &limits {
            super::admit::provider_says(flight, limits, &key, &model, now);
            flight.inner.limits_told(&record.caller, limits, answer.status().as_u16() == 429, now);
        }
        flight.inner.book.answered(&key, &model, limits, now);
    }

    /// Asks for the other model from now on. False when that was done already, or there is none.
    fn fall_back(&mut self, flight: &mut Flight) -> bool {
        let Some(fallback) = &self.policy.fallback_model else { return false };
        let Load::Whole { read, .. } = &mut self.load else { return false };
        if !to_model(flight, read, &fallback.value, &fallback.switch) {
            return false;
        }
        self.upstream = self.ready.upstream_for(Some(&fallback.value));
        let name = self.ready.upstreams[self.upstream].upstream.name();
        if let Some(record) = flight.record() {
            record.upstream = name.into();
        }
        true
    }

    fn send_failure(&self, error: &SendError) -> Failed {
        let name = self.ready.upstreams[self.upstream].upstream.name();
        let settings = self.settings();
        let timed_out = |what: &str, (limit, switch): (Duration, Option<Arc<str>>)| {
            let refusal = Refusal::timeout(format!("the upstream {name} did not {what} within {} s", limit.as_secs()));
            let refusal = switch.iter().fold(refusal, |refusal, switch| refusal.by(&**switch));
            Failed { refusal, outcome: Outcome::TimedOut }
        };
        let connect = ruled(self.policy.connect_timeout.as_ref(), settings.connect_timeout_s);
        let mut first_byte = ruled(self.policy.first_byte_timeout.as_ref(), settings.first_byte_timeout_s);
        if let Some(total) = self.total().filter(|total| first_byte.0.is_zero() || *total < first_byte.0) {
            first_byte = (total, self.policy.request_timeout.as_ref().map(|ruling| Arc::clone(&ruling.switch)));
        }
        let mut failed = match error {
            SendError::ConnectTimeout => {
                timed_out("take the connection", if nearer(connect.0, first_byte.0) == connect.0 { connect } else { first_byte })
            }
            SendError::FirstByteTimeout => timed_out("begin to answer", first_byte),
            other => {
                let refusal = Refusal::unreachable(format!("the upstream {name} could not be asked: failed to {other}"));
                Failed { refusal, outcome: Outcome::Unreachable }
            }
        };
        if self.policy.fast_fail.is_some() {
            failed.refusal.should_retry = Some(false);
        }
        failed
    }
}

/// The try that is given up counts for its breakers, and for how much the upstream bears.
fn absorbed(flight: &mut Flight, failure: Failure, retry_after: Option<Duration>) {
    let bears = match failure {
        Failure::Status(429) => Some(limit::Answer::Limited { retry_after }),
        Failure::Status(503 | 529) => Some(limit::Answer::Overloaded),
        _ => None,
    };
    if let (Some(permit), Some(bears)) = (&mut flight.permit, bears) {
        permit.outcome(bears);
    }
    let Some(pass) = flight.pass.take() else { return };
    match failure {
        Failure::Status(status) => pass.answered(status, Instant::now()),
        Failure::Connect | Failure::Reset | Failure::AnswerBegun => pass.outcome(breaker::Outcome::Failed, Instant::now()),
    }
}

/// A time limit, and the switch that asks for it, where it is not the settings'.
fn ruled(ruling: Option<&crate::policy::Ruling<Duration>>, seconds: u64) -> (Duration, Option<Arc<str>>) {
    ruling.map_or((Duration::from_secs(seconds), None), |ruling| (ruling.value, Some(Arc::clone(&ruling.switch))))
}

/// The shorter of two time limits, of which zero is none.
fn nearer(one: Duration, other: Duration) -> Duration {
    if one.is_zero() || other.is_zero() { one.max(other) } else { one.min(other) }
}

/// A number from 0 to 1 that calls do not share.
fn chance(id: u64, attempt: u32) -> f64 {
    let hash = xxh3_64_with_seed(&id.to_le_bytes(), u64::from(attempt) ^ u64::from(std::process::id()));
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

/// The body of a call that can be sent again.
pub(super) fn whole(read: Read, trailers: Option<Box<HeaderMap>>) -> Load {
    Load::Whole { read: Box::new(read), trailers }
}
