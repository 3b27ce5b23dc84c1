//! The way of one call, from its first byte to its record.
//!
//! Every step that is not the passing of bytes may fail without the call failing: what is not known is not acted upon. Only
//! a switch, a limit or a budget that somebody set stops a call, and then the answer says which.

mod admit;
mod flight;
mod guarded;
mod hold;
mod prepare;
mod send;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response};
use paramedic_model::{Timestamp, Usage};
use tokio::time::Instant;

use crate::call::{Caller, Kind, Outcome, Record};
use crate::config::{DegradedWay, Settings};
use crate::degraded::{self, fixed_answer, is_marked_safe};
use crate::fault::{Injection, Strike, Struck};
use crate::gateway::{Inner, Ready};
use crate::identity::complete;
use crate::policy::{Policy, Ruling};
use crate::proxy::{Answering, Body, CollectError, Collected, Handler, Peer, Relay, RelayLimits, SendBody, Wait, collect};
use crate::refuse::{ACTED, Refusal, acted};
use crate::traffic::{RunningCall, RunningState};

use flight::{Flight, TimeLimits};
pub(crate) use guarded::Guards;
use prepare::Read;
use send::{Failed, Load, Sending};

/// What requests come to.
pub(crate) struct Front(pub(crate) Arc<Inner>);

impl Handler for Front {
    fn call(&self, request: Request<Incoming>, _: Peer) -> Answering {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            match take(inner, request).await {
                Ok(answer) => answer,
                Err(stop) => *stop.answer,
            }
        })
    }
}

/// The end of a call that is not passed on.
struct Stop {
    answer: Box<Response<Body>>,
}

impl Stop {
    fn of(answer: Response<Body>) -> Self {
        Self { answer: Box::new(answer) }
    }
}

/// Refuses a call, and says so in its record.
fn refuse(flight: Flight, refusal: &Refusal) -> Stop {
    end(flight, refusal, Outcome::Refused)
}

fn end(flight: Flight, refusal: &Refusal, outcome: Outcome) -> Stop {
    flight.refused(refusal, outcome);
    Stop::of(refusal.answer())
}

fn kind_of(parts: &Parts) -> Kind {
    if parts.method != Method::POST {
        return Kind::Other;
    }
    let of = |path: &str| match path {
        "/v1/messages" => Some(Kind::Inference),
        "/v1/messages/count_tokens" => Some(Kind::CountTokens),
        _ => None,
    };
    let path = parts.uri.path();
    of(path).or_else(|| of(&plain(path))).unwrap_or(Kind::Other)
}

/// A path as an upstream may understand it that is generous: a call must not go around a limit because it is written
/// otherwise. It is passed on as it came.
fn plain(path: &str) -> String {
    let digit = |at: usize| path.as_bytes().get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (mut decoded, mut at) = (Vec::with_capacity(path.len()), 0);
    while let Some(byte) = path.as_bytes().get(at) {
        let escaped = digit(at + 1).zip(digit(at + 2)).filter(|_| *byte == b'%');
        let byte = escaped.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()).unwrap_or(*byte);
        decoded.push(byte.to_ascii_lowercase());
        at += if escaped.is_some() { 3 } else { 1 };
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in decoded.split(|byte| matches!(byte, b'/' | b'\\')) {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.iter().fold(String::new(), |path, part| path + "/" + &String::from_utf8_lossy(part))
}

async fn take(inner: Arc<Inner>, request: Request<Incoming>) -> Result<Response<Body>, Stop> {
    let begun = Instant::now();
    let ready = inner.ready();
    let (mut parts, body) = request.into_parts();
    let kind = kind_of(&parts);
    let mut caller = inner.guards.step("identity", || ready.names.caller(&parts.headers)).unwrap_or_default();
    let known = own_key(&mut caller, &mut parts.headers, &ready);
    let record = record(&inner, kind, caller, &parts, &ready);
    let mut flight = Flight::new(Arc::clone(&inner), record, begun);
    if !known && ready.settings.own_keys_only {
        let mut refusal = Refusal::new(hyper::StatusCode::UNAUTHORIZED, "authentication_error", "this key is not known here");
        refusal.should_retry = Some(false);
        return Err(refuse(flight, &refusal));
    }
    let load = read(&mut flight, kind, &parts, body, &ready).await;
    let load = match load {
        Ok(load) => load,
        Err(error) => return Err(unread(flight, error)),
    };
    go(flight, parts, load, kind, &ready).await
}

fn record(inner: &Inner, kind: Kind, caller: Caller, parts: &Parts, ready: &Ready) -> Record {
    Record {
        id: inner.traffic.next_id(),
        at: inner.clock.now(),
        kind,
        caller,
        method: parts.method.as_str().into(),
        path: paramedic_model::text::head(parts.uri.path(), 300).into(),
        upstream: ready.upstreams[0].upstream.name().into(),
        model: None,
        served_model: None,
        stream: false,
        outcome: Outcome::ClientGone,
        status: 0,
        error_type: None,
        request_id: None,
        message_id: None,
        usage: Usage::default(),
        cost_pico: None,
        stop_reason: None,
        tries: 0,
        waited: Duration::ZERO,
        first_byte: None,
        first_token: None,
        duration: Duration::ZERO,
        request_bytes: 0,
        response_bytes: 0,
        repeated_share: None,
        acted: Vec::new(),
    }
}

/// A key of ours gets its name, and the upstream's key in its place. False when it is none of ours.
fn own_key(caller: &mut Caller, headers: &mut HeaderMap, ready: &Ready) -> bool {
    let Some(own) = caller.key.as_ref().and_then(|key| ready.keys.get(key)) else { return ready.keys.is_empty() };
    caller.key = Some(own.name.clone());
    // Whose key it is, is known; what a header says is a claim.
    caller.user = own.user.clone().or(caller.user.take());
    caller.team = own.team.clone().or(caller.team.take());
    let Some(upstream) = &own.upstream_key else { return true };
    let bearer = HeaderValue::from_str(&format!("Bearer {upstream}"));
    let is_bearer = headers.contains_key(AUTHORIZATION) && !headers.contains_key("x-api-key");
    let value = if is_bearer { bearer } else { HeaderValue::from_str(upstream) };
    if let Ok(mut value) = value {
        value.set_sensitive(true);
        if is_bearer {
            headers.insert(AUTHORIZATION, value);
        } else {
            headers.remove(AUTHORIZATION);
            headers.insert("x-api-key", value);
        }
    }
    true
}

/// Reads what has to be read of a request; everything else passes as it comes.
async fn read(flight: &mut Flight, kind: Kind, parts: &Parts, body: Incoming, ready: &Ready) -> Result<Load, CollectError> {
    let settings = &ready.settings;
    let wait = Wait { between: Some(Duration::from_secs(settings.client_timeout_s)), total: None };
    if let Some(record) = flight.record() {
        record.request_bytes = body.size_hint().lower();
    }
    if kind != Kind::Inference || is_encoded(&parts.headers) {
        return Ok(Load::Passing(Some(SendBody::passing(Vec::new(), body, wait))));
    }
    let (bytes, trailers) = match collect(body, settings.request_bytes_max, wait).await? {
        Collected::Whole { bytes, trailers } => (bytes, trailers),
        Collected::TooLarge { head, rest } => {
            if let Some(record) = flight.record() {
                record.request_bytes = record.request_bytes.max(head.iter().map(|part| part.len() as u64).sum());
            }
            return Ok(Load::Passing(Some(SendBody::passing(head, rest, wait))));
        }
    };
    let inner = Arc::clone(&flight.inner);
    let kept = bytes.clone();
    Ok(match inner.guards.step("read the request", || known(flight, bytes)) {
        Some(read) => send::whole(read, trailers),
        None => Load::Passing(Some(SendBody::whole(kept, trailers))),
    })
}

/// Whether a body has to be decoded before it can be read.
fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_ENCODING).iter().any(|value| {
        let value = value.as_bytes().trim_ascii();
        !value.is_empty() && !value.eq_ignore_ascii_case(b"identity")
    })
}

/// What a body says, and what its metadata adds to the caller.
fn known(flight: &mut Flight, bytes: Bytes) -> Read {
    let read = Read::of(flight, bytes);
    let user = read.facts.user(&read.bytes);
    if let Some(record) = flight.record() {
        record.request_bytes = read.bytes.len() as u64;
        record.model = read.model();
        record.stream = read.facts.stream;
        let account = user.name.as_deref().or(user.account.as_deref()).or(user.device.as_deref());
        complete(&mut record.caller, user.session.as_deref(), account);
    }
    read
}

fn unread(mut flight: Flight, error: CollectError) -> Stop {
    match error {
        CollectError::Cut => {
            flight.over(Outcome::ClientGone);
            Stop::of(Refusal::invalid("the request's body was cut").answer())
        }
        CollectError::TooSlow(_) => {
            let mut refusal = Refusal::timeout("the request's body came too slowly");
            refusal.status = hyper::StatusCode::REQUEST_TIMEOUT;
            end(flight, &refusal, Outcome::ClientGone)
        }
    }
}

/// The call from the moment when it is known who asks for what.
async fn go(mut flight: Flight, parts: Parts, mut load: Load, kind: Kind, ready: &Ready) -> Result<Response<Body>, Stop> {
    let inner = Arc::clone(&flight.inner);
    let asked = flight.model();
    let caller = flight.record.as_ref().map(|record| record.caller.clone()).unwrap_or_default();
    // It is seen to run before it is looked at: whoever breaks off what runs misses no call that knew nothing of it.
    begin(&mut flight, caller.clone(), asked.as_deref());
    // Before the policy is made: of what changes in the meantime nothing is missed.
    let changed = inner.changed.subscribe();
    let mut policy = inner.policies().of(&caller, asked.as_deref(), inner.clock.now());
    if let Some(refusal) = stopped(&policy, asked.as_deref()) {
        return Err(refuse(flight, &refusal));
    }
    let struck = strikes(&flight, asked.as_deref());
    if let Some(answer) = struck.as_ref().and_then(Struck::answer) {
        if let Some(record) = flight.record() {
            record.status = answer.status().as_u16();
        }
        flight.over(Outcome::Answered);
        return Err(Stop::of(answer));
    }
    if kind == Kind::Inference {
        (flight, policy) = hold::ready_to_send(flight, policy, &mut load, &parts.headers, ready, changed).await?;
    }
    pass(flight, Sending::new(parts, load, &policy, ready), struck).await
}

/// A call that a switch broke off before its answer began.
fn broken_off(inner: &Inner, caller: &Caller, asked: Option<&str>) -> Failed {
    let policy = inner.policies().of(caller, asked, inner.clock.now());
    let refusal = Refusal::blocked("an operator broke this call off");
    let refusal = policy.break_off.iter().fold(refusal, |refusal, switch| refusal.by(&**switch));
    Failed { refusal, outcome: Outcome::BrokenOff }
}

fn begin(flight: &mut Flight, caller: Caller, model: Option<&str>) {
    let Some(record) = flight.record.as_deref() else { return };
    let call = RunningCall {
        id: record.id,
        began: record.at,
        caller,
        model: model.map(Into::into),
        path: record.path.clone(),
        request_bytes: record.request_bytes,
        state: RunningState::Waiting,
        output_tokens: 0,
    };
    flight.ticket = Some(flight.inner.traffic.begin(call));
}

fn too_many_bytes(max: &Ruling<u64>) -> Refusal {
    Refusal::too_large(format!("this request has more than an operator's limit of {} bytes", max.value)).by(&*max.switch)
}

fn over(flight: &Flight, bytes_max: u64) -> bool {
    flight.record.as_ref().is_some_and(|record| record.request_bytes > bytes_max)
}

/// A block or a kill switch.
fn stopped(policy: &Policy, model: Option<&str>) -> Option<Refusal> {
    let switch = policy.blocked.as_ref().or(policy.break_off.as_ref())?;
    if model.is_some_and(|model| switch.starts_with(&format!("blocked_model:{model}@"))) {
        return Some(Refusal::model_not_allowed(model.unwrap_or_default()).by(&**switch));
    }
    let refusal = Refusal::blocked(format!("an operator stopped these calls (switch {switch}); ask whoever is on call"));
    Some(refusal.by(&**switch))
}

/// What was set since the call came holds for its next try.
fn stopped_meanwhile(flight: &Flight) -> Option<Refusal> {
    let record = flight.record.as_deref()?;
    let policy = flight.inner.policies().of(&record.caller, record.model.as_deref(), flight.inner.clock.now());
    stopped(&policy, record.model.as_deref())
}

fn strikes(flight: &Flight, model: Option<&str>) -> Option<Struck> {
    let record = flight.record.as_deref()?;
    flight.inner.faults.strikes(record.id, &record.caller, model)
}

/// The answer of degraded mode, where it has one. Otherwise the call goes to the cheaper model.
fn degraded_answer(
    flight: &mut Flight,
    policy: &Policy,
    read: &mut Read,
    headers: &HeaderMap,
    settings: &Settings,
    now: Timestamp,
) -> Option<Response<Body>> {
    let key = flight.record.as_ref().and_then(|record| record.caller.key.clone());
    let safe = is_marked_safe(headers).then(|| degraded::same(&read.bytes, key.as_deref(), headers));
    if let Some(same) = safe {
        flight.keep_as(same);
    }
    let switch = policy.degraded.clone()?;
    let way = settings.degraded.way;
    if way == DegradedWay::FixedAnswer {
        flight.acted(&switch, "got the fixed answer");
        let (model, id) = (read.model().unwrap_or_default(), flight.record.as_ref().map_or(0, |record| record.id));
        let answer = fixed_answer(&settings.degraded.answer, &model, read.facts.stream, id);
        return Some(marked(flight, answer));
    }
    if let (DegradedWay::Cached, Some(same)) = (way, safe)
        && let Some(answer) = flight.inner.cache.find(same, Duration::from_secs(settings.degraded.cache_s), now)
    {
        flight.acted(&switch, "got the answer that the same call got before");
        return Some(marked(flight, answer));
    }
    prepare::to_model(flight, read, &settings.models.cheaper, &switch);
    None
}

fn marked(flight: &mut Flight, mut answer: Response<Body>) -> Response<Body> {
    if let Some(record) = flight.record() {
        record.status = answer.status().as_u16();
    }
    say_what_acted(flight, answer.headers_mut());
    answer
}

/// Says on an answer which switches did something.
fn say_what_acted(flight: &Flight, headers: &mut HeaderMap) {
    let Some(record) = flight.record.as_deref().filter(|record| !record.acted.is_empty()) else { return };
    let mut switches: Vec<&str> = record.acted.iter().map(|acted| &*acted.switch).collect();
    switches.dedup();
    headers.insert(ACTED, acted("acted", Some(&switches.join(","))));
}

/// Sends the call and passes its answer on.
async fn pass(mut flight: Flight, mut sending: Sending<'_>, struck: Option<Struck>) -> Result<Response<Body>, Stop> {
    let mut fault: Option<Injection> = None;
    let mut delay = None;
    match struck.as_ref().map(|struck| &struck.what) {
        Some(Strike::Delay(time)) => delay = Some(*time),
        Some(Strike::Inject(injection)) => fault = Some(*injection),
        Some(Strike::Answer(_)) | None => {}
    }
    if let Some(record) = flight.record() {
        record.upstream = sending.ready.upstreams[sending.upstream].upstream.name().into();
    }
    let break_off = flight.ticket.as_ref().map(|ticket| ticket.cancel.clone()).unwrap_or_default();
    let sent = async {
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        sending.send(&mut flight).await
    };
    let sent = tokio::select! {
        biased;
        () = break_off.cancelled() => None,
        sent = sent => Some(sent),
    };
    let answer = match sent {
        Some(Ok(answer)) => answer,
        Some(Err(failed)) => return Err(end(flight, &failed.refusal, failed.outcome)),
        None => {
            let caller = flight.record.as_ref().map(|record| record.caller.clone()).unwrap_or_default();
            let failed = broken_off(&flight.inner, &caller, flight.model().as_deref());
            return Err(end(flight, &failed.refusal, failed.outcome));
        }
    };
    let (mut parts, body) = answer.into_parts();
    flight.answering(parts.status.as_u16(), &parts.headers);
    say_what_acted(&flight, &mut parts.headers);
    let between = sending.policy.between_tokens_timeout.as_ref();
    let between_s = sending.ready.settings.between_tokens_timeout_s;
    flight.time_limits = TimeLimits {
        between: between.map(|ruling| Arc::clone(&ruling.switch)),
        total: sending.policy.request_timeout.as_ref().map(|ruling| Arc::clone(&ruling.switch)),
    };
    let between = between.map_or(Duration::from_secs(between_s), |ruling| ruling.value);
    let limits = RelayLimits {
        between_frames: Some(between).filter(|between| !between.is_zero()),
        total: sending.total().map(|total| total.saturating_sub(flight.begun.elapsed())),
        break_off: Some(break_off),
        farewell: Some(Arc::clone(&flight.inner.farewell)),
        fault,
    };
    flight.keep_headers(&parts.headers);
    // The request is not needed any more: a stream may last for minutes.
    drop(sending);
    let relay = Relay::new(body, &parts.headers, Some(Box::new(flight)), limits);
    let mut answer = Response::from_parts(parts, Body::from(relay));
    if let Some(struck) = &struck {
        struck.mark(&mut answer);
    }
    Ok(answer)
}
