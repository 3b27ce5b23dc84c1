//! A call while it is under way: what it holds, what is known of it, and its end, whichever way it comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use hyper::HeaderMap;
use paramedic_model::{Timestamp, Usage};
use tokio::time::Instant;

use crate::answer::{Reader, Seen};
use crate::body::{Print, Size};
use crate::breaker::{self, Pass};
use crate::budget::Reservation;
use crate::call::{Acted, Kind, Outcome, Record};
use crate::gateway::Inner;
use crate::limit::{self, Permit};
use crate::observe::Held;
use crate::price::Extras;
use crate::proxy::{End, Tap, Which};
use crate::refuse::Refusal;
use crate::traffic::{RunningState, Ticket};

/// What a million tokens of a model without a price are charged to budgets, in dollars: as the dearest common model, so
/// that a new model is no way around a cap.
const UNKNOWN_INPUT_DOLLARS: u64 = 5;
const UNKNOWN_OUTPUT_DOLLARS: u64 = 25;
/// A dollar for a million tokens is so many picodollars for one.
const PICO_PER_DOLLAR_MILLION: u64 = 1_000_000;
/// The switch that marks prompts for the provider's cache.
const CACHING: &str = "prompt_caching";
/// The reservation is looked at again after so many tokens of an answer.
const GROW_TOKENS: u64 = 64;

/// An answer that is kept for degraded mode: under which name, its headers, and what came of it.
struct Keeping {
    same: u128,
    headers: HeaderMap,
    body: BytesMut,
}

/// Which switches ask for the time limits of an answer; none where the settings do.
#[derive(Debug, Default)]
pub(crate) struct TimeLimits {
    pub(crate) between: Option<Arc<str>>,
    pub(crate) total: Option<Arc<str>>,
}

/// Everything about one call. However it ends, a record is made of it and what it holds is given back: dropping it is the
/// end of a call whose client went away.
pub(crate) struct Flight {
    pub(crate) inner: Arc<Inner>,
    pub(crate) record: Option<Box<Record>>,
    pub(crate) begun: Instant,
    /// When it first asked for money and places.
    pub(crate) held_since: Option<Instant>,
    pub(crate) ticket: Option<Ticket>,
    pub(crate) reservation: Option<Reservation>,
    pub(crate) permit: Option<Permit>,
    pub(crate) pass: Option<Pass>,
    /// How large the prompt was, for learning how many bytes a token has.
    pub(crate) size: Size,
    /// What the next call of the conversation is compared with.
    pub(crate) print: Option<(u64, Print)>,
    _running: Held,
    /// The upstream was asked: tokens may have been spent.
    pub(crate) asked: bool,
    /// The upstream may have read the call in one of its tries.
    pub(crate) sent: bool,
    /// The switches that limit the time between two pieces of the answer, and of the whole call.
    pub(crate) time_limits: TimeLimits,
    reader: Option<Reader>,
    keeping: Option<Keeping>,
    grown_at: u64,
    /// When the upstream wants to be asked again, by its last answer.
    pub(crate) retry_after: Option<Duration>,
    /// Bytes of a request that passes unread, so far.
    pub(crate) passed: Option<Arc<AtomicU64>>,
}

impl Flight {
    pub(crate) fn new(inner: Arc<Inner>, record: Record, begun: Instant) -> Self {
        Self {
            _running: inner.samples.in_flight(),
            inner,
            record: Some(Box::new(record)),
            begun,
            held_since: None,
            ticket: None,
            reservation: None,
            permit: None,
            pass: None,
            size: Size::default(),
            print: None,
            asked: false,
            sent: false,
            time_limits: TimeLimits::default(),
            reader: None,
            keeping: None,
            grown_at: 0,
            retry_after: None,
            passed: None,
        }
    }

    /// The record while the call runs.
    pub(crate) fn record(&mut self) -> Option<&mut Record> {
        self.record.as_deref_mut()
    }

    pub(crate) fn model(&self) -> Option<Box<str>> {
        self.record.as_ref().and_then(|record| record.model.clone())
    }

    pub(crate) fn acted(&mut self, switch: &str, what: impl Into<Box<str>>) {
        if let Some(record) = self.record() {
            record.acted.push(Acted { switch: switch.into(), what: what.into() });
        }
    }

    /// Bytes that were passed on of a request that nobody read.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.as_ref().map_or(0, |passed| passed.load(Ordering::Relaxed))
    }

    pub(crate) fn is_now(&self, state: RunningState) {
        if let Some(ticket) = &self.ticket {
            ticket.is_now(state);
        }
    }

    /// What a call of this model with this usage is charged, whether its price is known or not.
    pub(crate) fn charge(inner: &Inner, model: Option<&str>, usage: &Usage, extras: Extras) -> u64 {
        let tokens = model.and_then(|model| inner.price(model, usage)).unwrap_or_else(|| {
            let input = usage.context_tokens().saturating_mul(UNKNOWN_INPUT_DOLLARS * PICO_PER_DOLLAR_MILLION);
            input.saturating_add(usage.output_tokens.saturating_mul(UNKNOWN_OUTPUT_DOLLARS * PICO_PER_DOLLAR_MILLION))
        });
        extras.on(tokens)
    }

    /// The upstream's answer begins.
    pub(crate) fn answering(&mut self, status: u16, headers: &HeaderMap) {
        let first_byte = self.begun.elapsed();
        self.is_now(RunningState::Answering);
        let id = headers.get("request-id").and_then(|id| id.to_str().ok()).map(|id| paramedic_model::text::head(id, 200).into());
        if let Some(record) = self.record() {
            record.status = status;
            record.first_byte = Some(first_byte);
            record.request_id = id;
        }
        let is_read = self.record.as_ref().is_some_and(|record| record.kind == Kind::Inference || status >= 400);
        let inner = Arc::clone(&self.inner);
        self.reader = is_read.then(|| inner.guards.step("read the answer", || Reader::new(status, headers))).flatten();
    }

    /// The answer may stand for that of the same call later.
    pub(crate) fn keep_as(&mut self, same: u128) {
        self.keeping = Some(Keeping { same, headers: HeaderMap::new(), body: BytesMut::new() });
    }

    pub(crate) fn keep_headers(&mut self, headers: &HeaderMap) {
        if let Some(keeping) = &mut self.keeping {
            keeping.headers = headers.clone();
        }
    }

    /// Refused by us, before the upstream answered.
    pub(crate) fn refused(mut self, refusal: &Refusal, outcome: Outcome) {
        if let Some(record) = self.record() {
            record.status = refusal.status.as_u16();
            record.error_type = Some(refusal.error_type.into());
            if let Some(switch) = &refusal.switch {
                record
                    .acted
                    .push(Acted { switch: switch.as_str().into(), what: paramedic_model::text::head(&refusal.message, 300).into() });
            }
        }
        self.over(outcome);
    }

    /// The end, once. A step that fails leaves the others to be done: what the call holds is given back in any case.
    pub(crate) fn over(&mut self, outcome: Outcome) {
        let Some(mut record) = self.record.take() else { return };
        let inner = Arc::clone(&self.inner);
        let seen = self.reader.take().and_then(|reader| inner.guards.step("read the answer", || reader.finish()));
        if let Some(seen) = &seen {
            inner.guards.step("count the answer", || inner.answers.note(seen));
            note(&mut record, seen);
        }
        record.request_bytes = record.request_bytes.max(self.passed());
        record.outcome = outcome;
        record.duration = self.begun.elapsed();
        let now = inner.clock.now();
        if record.kind == Kind::Inference {
            inner.guards.step("settle", || self.settle(&mut record, seen.as_ref(), now));
        }
        inner.guards.step("release", || self.tell_limits(&record, seen.as_ref()));
        if outcome == Outcome::Answered && record.status == 200 && record.error_type.is_none() {
            inner.guards.step("keep the answer", || self.keep(now));
        }
        // It is among those that ended before it is none of those that run any more.
        inner.guards.step("record", || inner.ended(*record, now));
        self.ticket = None;
    }

    fn settle(&mut self, record: &mut Record, seen: Option<&Seen>, now: Timestamp) {
        let usage = record.usage;
        let extras = seen.map(Extras::of).unwrap_or_default();
        let served: Option<Box<str>> = record.served_model.clone().or_else(|| record.model.clone());
        if !usage.is_zero() {
            record.cost_pico = served.as_deref().and_then(|model| self.inner.price(model, &usage)).map(|tokens| extras.on(tokens));
            self.note_saving(record, served.as_deref(), extras, now);
            let key = record.caller.key.as_deref().unwrap_or("none");
            self.inner.book.used(key, served.as_deref().unwrap_or_default(), &usage, now);
        }
        if let Some(reservation) = self.reservation.take() {
            let is_known = seen.is_some_and(|seen| seen.complete || seen.output_is_exact);
            // The upstream refused it, or never had it. An answer that did not come in time may cost all the same.
            let cost_nothing = usage.is_zero() && if seen.is_some() { record.status >= 400 } else { !self.sent };
            if !self.asked {
                reservation.release();
            } else if is_known || cost_nothing {
                reservation.settle(Self::charge(&self.inner, served.as_deref(), &usage, extras), &usage);
            } else {
                if !usage.is_zero() {
                    reservation.grow(Self::charge(&self.inner, served.as_deref(), &usage, extras));
                }
                reservation.settle_unknown(&usage);
            }
        }
        let Some(seen) = seen.filter(|seen| seen.complete) else { return };
        if record.status == 200
            && let Some(model) = served.as_deref()
        {
            self.inner.ratios.learn(model, self.size, usage.context_tokens());
            let caller = record.caller.agent.as_deref().or(record.caller.session.as_deref()).unwrap_or_default();
            self.inner.ledger.outputs().wrote(model, caller, seen.usage.output_tokens);
        }
        if let Some((conversation, print)) = self.print.take() {
            self.inner.prefixes.keep(conversation, print);
        }
    }

    /// What our marks for the provider's cache saved: what the same tokens would have cost without a cache, less what they
    /// did cost. A prompt that is read once only costs more with marks than without.
    fn note_saving(&self, record: &mut Record, served: Option<&str>, extras: Extras, now: Timestamp) {
        let usage = record.usage;
        let plain = Usage { input_tokens: usage.context_tokens(), output_tokens: usage.output_tokens, ..Usage::default() };
        let Some(acted) = record.acted.iter_mut().find(|acted| acted.switch.starts_with(CACHING)) else { return };
        let without = served.and_then(|model| self.inner.price(model, &plain)).map(|tokens| extras.on(tokens));
        let (Some(without), Some(cost)) = (without, record.cost_pico) else { return };
        let signed = |pico: u64| i64::try_from(pico).unwrap_or(i64::MAX);
        let saved = signed(without).saturating_sub(signed(cost));
        let dollars = crate::budget::dollars(saved.unsigned_abs());
        acted.what =
            format!("{}; the call cost ${dollars:.4} {}", acted.what, if saved < 0 { "more for it" } else { "less for it" }).into();
        self.inner.traffic.saved(&acted.switch, saved, now);
    }

    /// Says to the limiter and the breakers what became of the call.
    fn tell_limits(&mut self, record: &Record, seen: Option<&Seen>) {
        if let Some(mut permit) = self.permit.take() {
            if self.asked {
                let usage = record.usage;
                // Of an answer that nobody saw the expectation stands.
                if seen.is_some() || !self.sent {
                    permit.settle(usage.input_tokens + usage.cache_creation_tokens, usage.output_tokens);
                }
                permit.outcome(bears(record, self.retry_after));
            } else {
                permit.give_back();
            }
        }
        if let Some(pass) = self.pass.take() {
            tell_breakers(pass, record);
        }
    }

    fn keep(&mut self, now: Timestamp) {
        if let Some(Keeping { same, headers, body }) = self.keeping.take() {
            let bytes_max = self.inner.ready().settings.degraded.cache_bytes_max;
            self.inner.cache.keep(same, &headers, body.freeze(), bytes_max, now);
        }
    }

    /// The record names the switch that ended an answer before its end.
    fn say_who_ended_it(&mut self, end: End) {
        let Some(record) = self.record.as_deref() else { return };
        let (switch, what) = match end {
            End::TimedOut(Which::BetweenFrames) => (self.time_limits.between.clone(), "broke off an answer that said nothing for too long"),
            End::TimedOut(Which::Total) => (self.time_limits.total.clone(), "broke off an answer that took too long"),
            End::BrokenOff => {
                let policies = self.inner.policies();
                let policy = policies.of(&record.caller, record.model.as_deref(), self.inner.clock.now());
                (policy.break_off, "broke the answer off")
            }
            _ => return,
        };
        if let Some(switch) = switch {
            self.acted(&switch, what);
        }
    }

    /// Looks at the answer so far.
    fn watch(&mut self) {
        let Some(seen) = self.reader.as_ref().map(Reader::seen) else { return };
        let Some(record) = self.record.as_deref_mut() else { return };
        if record.first_token.is_none() && seen.content_began {
            record.first_token = Some(self.begun.elapsed());
        }
        let written = seen.output_tokens_so_far();
        if written < self.grown_at + GROW_TOKENS {
            return;
        }
        self.grown_at = written;
        if let Some(ticket) = &self.ticket {
            ticket.wrote(written);
        }
        if let Some(reservation) = &self.reservation {
            let model = seen.model.as_deref().or(record.model.as_deref());
            reservation.grow(Self::charge(&self.inner, model, &seen.usage_so_far(), Extras::of(seen)));
        }
    }
}

/// What an answer said, into the record.
fn note(record: &mut Record, seen: &Seen) {
    record.message_id.clone_from(&seen.message_id);
    record.served_model.clone_from(&seen.model);
    // A stream that says in its midst that it failed came to its end, and its answer did not.
    record.usage = if seen.complete { seen.usage } else { seen.usage_so_far() };
    record.stop_reason.clone_from(&seen.stop_reason);
    if seen.error_type.is_some() {
        record.error_type.clone_from(&seen.error_type);
    }
}

fn bears(record: &Record, retry_after: Option<Duration>) -> limit::Answer {
    match (record.status, record.error_type.as_deref()) {
        (429, _) => limit::Answer::Limited { retry_after },
        (503 | 529, _) | (_, Some("overloaded_error")) => limit::Answer::Overloaded,
        (status, None) if status < 500 && record.outcome == Outcome::Answered => limit::Answer::Ok,
        _ if record.outcome == Outcome::ClientGone => limit::Answer::Ok,
        _ => limit::Answer::Failed,
    }
}

/// What the end of a call says of its upstream. How some other path is answered says nothing of its models.
fn tell_breakers(pass: Pass, record: &Record) {
    let now = Instant::now();
    match record.outcome {
        Outcome::Cut | Outcome::TimedOut | Outcome::Unreachable => pass.outcome(breaker::Outcome::Failed, now),
        Outcome::Answered if record.kind != Kind::Inference => pass.outcome(breaker::Outcome::NotCounted, now),
        Outcome::Answered if record.status < 400 && matches!(record.error_type.as_deref(), Some("overloaded_error" | "api_error")) => {
            pass.outcome(breaker::Outcome::Failed, now);
        }
        Outcome::Answered => pass.answered(record.status, now),
        _ => pass.outcome(breaker::Outcome::NotCounted, now),
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.over(Outcome::ClientGone);
    }
}

/// The flight goes with the answer and ends with it.
impl Tap for Flight {
    fn frame(&mut self, bytes: &[u8]) {
        if let Some(record) = self.record.as_deref_mut() {
            record.response_bytes += bytes.len() as u64;
        }
        if let Some(keeping) = &mut self.keeping {
            keeping.body.extend_from_slice(bytes);
        }
        if self.keeping.as_ref().is_some_and(|keeping| keeping.body.len() > crate::degraded::ANSWER_BYTES_MAX) {
            self.keeping = None;
        }
        if let Some(reader) = &mut self.reader {
            reader.push(bytes);
            self.watch();
        }
    }

    fn end(&mut self, end: End) {
        self.say_who_ended_it(end);
        let is_own_limit = match end {
            End::TimedOut(Which::Total) => true,
            End::TimedOut(Which::BetweenFrames) => self.time_limits.between.is_some(),
            _ => false,
        };
        if is_own_limit {
            // It was being answered: that it took longer than an operator wants is no failure of the upstream.
            self.pass = None;
        }
        self.over(match end {
            End::Complete => Outcome::Answered,
            End::UpstreamCut | End::Injected => Outcome::Cut,
            End::ClientGone | End::TooSlow => Outcome::ClientGone,
            End::TimedOut(_) => Outcome::TimedOut,
            End::BrokenOff => Outcome::BrokenOff,
        });
    }
}

/// Since a moment, in whole milliseconds, for people.
pub(crate) fn millis(since: Duration) -> u64 {
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
