//! What a call goes through before it is sent: guards and edits, then money and places. What is changed by a switch while it
//! waits for those holds for it at once.

use std::pin::pin;
use std::sync::Arc;

use hyper::HeaderMap;
use tokio::sync::watch;
use tokio::time::Instant;

use super::flight::Flight;
use super::prepare::{self, Read};
use super::send::{Failed, Load};
use super::{Stop, admit, broken_off, degraded_answer, end, over, refuse, stopped, too_many_bytes};
use crate::call::{Caller, Outcome};
use crate::config::Settings;
use crate::gateway::Ready;
use crate::policy::Policy;
use crate::refuse::Refusal;

/// How a wait ended.
enum Held {
    /// The call has all that it needs. Something that matters only when it is sent may have changed.
    In(Option<Policy>),
    /// Something was changed that may make another call of it.
    Changed(Policy),
}

/// Guards and edits, then the wait. A call that is to be edited otherwise by then is made anew from what its client sent.
pub(super) async fn ready_to_send(
    mut flight: Flight,
    mut policy: Policy,
    load: &mut Load,
    headers: &HeaderMap,
    ready: &Ready,
    mut changed: watch::Receiver<u64>,
) -> Result<(Flight, Policy), Stop> {
    let asked = flight.model();
    let caller = flight.record.as_ref().map(|record| record.caller.clone()).unwrap_or_default();
    let original = match &*load {
        Load::Whole { read, .. } => Some(read.bytes.clone()),
        Load::Passing(_) => None,
    };
    let acted_before = flight.record.as_ref().map_or(0, |record| record.acted.len());
    loop {
        // What cannot be read is limited and charged too: as a call of a model without a price.
        let mut unread = None;
        let read = match load {
            Load::Whole { read, .. } => {
                flight = prepared(flight, &policy, read, headers, &ready.settings)?;
                &mut **read
            }
            Load::Passing(body) => {
                let max = policy.max_input_bytes.as_ref();
                if let Some(max) = max.filter(|max| over(&flight, max.value)) {
                    return Err(refuse(flight, &too_many_bytes(max)));
                }
                // How long it is may not be known before it has passed.
                flight.passed = body.as_mut().and_then(|body| body.counted(max.map(|max| max.value)));
                unread.insert(Read::unread(&flight))
            }
        };
        // What the answer counts is what was sent.
        flight.size = read.facts.size();
        match hold(&mut flight, &policy, read, ready, (&caller, asked.as_deref()), &mut changed).await {
            Ok(Held::In(later)) => return Ok((flight, later.unwrap_or(policy))),
            Ok(Held::Changed(new)) => policy = new,
            Err(held) => return Err(end(flight, &held.refusal, held.outcome)),
        }
        if let (Load::Whole { read, .. }, Some(original)) = (&mut *load, &original) {
            **read = Read::of(&flight, original.clone());
        }
        if let Some(record) = flight.record() {
            record.acted.truncate(acted_before);
        }
    }
}

/// Guards, answers of degraded mode, and edits. Each that falls over is left out.
fn prepared(mut flight: Flight, policy: &Policy, read: &mut Read, headers: &HeaderMap, settings: &Settings) -> Result<Flight, Stop> {
    let inner = Arc::clone(&flight.inner);
    let guards = &inner.guards;
    let growth = guards.step("compare", || read.facts.valid.then(|| prepare::compare(&mut flight, read)).flatten()).flatten();
    if let Some(Err(refusal)) = guards.step("guard", || prepare::guard(policy, read, growth)) {
        return Err(refuse(flight, &refusal));
    }
    let now = inner.clock.now();
    if let Some(Some(answer)) = guards.step("degraded mode", || degraded_answer(&mut flight, policy, read, headers, settings, now)) {
        flight.over(Outcome::Degraded);
        return Err(Stop::of(answer));
    }
    if let Some(Err(refusal)) = guards.step("edit", || prepare::edit(&mut flight, policy, read, settings)) {
        return Err(refuse(flight, &refusal));
    }
    Ok(flight)
}

/// Money and places. While the call waits for them it hears of every switch.
async fn hold(
    flight: &mut Flight,
    policy: &Policy,
    read: &mut Read,
    ready: &Ready,
    (caller, asked): (&Caller, Option<&str>),
    changed: &mut watch::Receiver<u64>,
) -> Result<Held, Failed> {
    let inner = Arc::clone(&flight.inner);
    let break_off = flight.ticket.as_ref().map(|ticket| ticket.cancel.clone()).unwrap_or_default();
    let since = Instant::now();
    flight.held_since.get_or_insert(since);
    let refused = |refusal: Refusal| Failed { refusal, outcome: Outcome::Refused };
    let mut later = None;
    let new = {
        let mut work = pin!(admit::all(flight, policy, read, ready));
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done.map(|()| Held::In(later)).map_err(refused),
                () = break_off.cancelled() => return Err(broken_off(&inner, caller, asked)),
                _ = changed.changed() => {
                    let new = inner.policies().of(caller, asked, inner.clock.now());
                    if !new.waits_as(policy) {
                        break new;
                    }
                    later = Some(new);
                }
            }
        }
    };
    (flight.reservation, flight.permit) = (None, None);
    if let Some(record) = flight.record() {
        record.waited += since.elapsed();
    }
    match stopped(&new, asked) {
        Some(refusal) => Err(refused(refusal)),
        None => Ok(Held::Changed(new)),
    }
}
