//! Money and places: what a call must have before it is sent.

use std::sync::Arc;
use std::time::Duration;

use paramedic_model::Timestamp;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use super::flight::{Flight, millis};
use super::prepare::{Read, to_model};
use crate::budget::{Ask, Cap, Over, Period, Purses, Why};
use crate::call::Caller;
use crate::config::Settings;
use crate::gateway::{Ready, pico};
use crate::limit::{Limit, Want, What};
use crate::policy::{AtCap, Limited, Policy, Window};
use crate::price::Extras;
use crate::refuse::Refusal;
use crate::traffic::RunningState;

/// At its cap a budget whose calls go to the cheaper model may be passed by this share; then calls are refused.
const CHEAPER_SHARE: f64 = 0.2;

/// A limit on tokens written expects no more of a call than this; what it wrote in truth is debited afterwards. What it may
/// write at most would be far more than nearly all calls do.
const OUTPUT_TOKENS_EXPECTED_MAX: u64 = 2_000;

/// Money first, then places. Either that falls over is left out.
pub(super) async fn all(flight: &mut Flight, policy: &Policy, read: &mut Read, ready: &Ready) -> Result<(), Refusal> {
    let inner = Arc::clone(&flight.inner);
    let settings = &ready.settings;
    inner.guards.wait("budget", reserve(flight, policy, read, settings)).await.unwrap_or(Ok(()))?;
    let upstream = ready.upstreams[ready.upstream_for(read.model().as_deref())].upstream.name();
    inner.guards.wait("limits", admit(flight, policy, read, settings, upstream)).await.unwrap_or(Ok(()))
}

/// Reserves what the call may cost. At a cap it is refused, waits, or goes to the cheaper model.
async fn reserve(flight: &mut Flight, policy: &Policy, read: &mut Read, settings: &Settings) -> Result<(), Refusal> {
    let at_cap = policy.at_cap.as_ref().map(|ruling| ruling.value).unwrap_or_default();
    let caps = caps(policy);
    let Err(over) = ask(flight, policy, read, settings, &caps, at_cap == AtCap::Pause).await else { return Ok(()) };
    let now = flight.inner.clock.now();
    if at_cap != AtCap::Cheaper || !has_room_beyond(flight, &caps) {
        return Err(refusal(&over, now));
    }
    let switch = policy.at_cap.as_ref().map(|ruling| ruling.switch.clone()).unwrap_or_default();
    to_model(flight, read, &settings.models.cheaper, &switch);
    // It is counted with what its purses spend; of the caps it was asked already.
    ask(flight, policy, read, settings, &[], false).await.map_err(|over| refusal(&over, now))
}

/// Whether calls of the cheaper model may still go beyond their caps.
fn has_room_beyond(flight: &Flight, caps: &[Cap]) -> bool {
    let has_room = |cap: &Cap| {
        let stands = flight.inner.ledger.budget(cap);
        stands.spent_dollars + stands.reserved_dollars < stands.cap_dollars * (1.0 + CHEAPER_SHARE)
    };
    caps.iter().filter(|cap| cap.enforce).all(has_room)
}

/// The caps of a call. Who is taken out of them by a switch for him alone is not asked, so that for all others they stand as
/// they are.
fn caps(policy: &Policy) -> Vec<Cap> {
    let ruling = policy.enforce_budget.as_ref();
    let enforce = ruling.is_none_or(|ruling| ruling.value);
    let of = ruling.and_then(|ruling| ruling.switch.split_once('@')).map_or("all", |(_, scope)| scope);
    let one = |budget: &crate::policy::Budget| Cap {
        id: Arc::clone(&budget.switch),
        purse: Arc::clone(&budget.purse),
        period: match budget.window {
            Window::Day => Period::Day,
            Window::Week => Period::Week,
            Window::Month => Period::Month,
        },
        pico: pico(budget.dollars),
        enforce,
    };
    policy.budgets.iter().filter(|budget| enforce || of == "all" || of == &*budget.purse).map(one).collect()
}

async fn ask(flight: &mut Flight, policy: &Policy, read: &Read, settings: &Settings, caps: &[Cap], pause: bool) -> Result<(), Over> {
    let inner = Arc::clone(&flight.inner);
    let caller = flight.record.as_ref().map(|record| record.caller.clone()).unwrap_or_default();
    let model = read.model();
    let name = caller.agent.as_deref().or(caller.session.as_deref()).unwrap_or_default();
    let max = read.facts.max_tokens.map_or(0, |max| max.value);
    let output = inner.ledger.outputs().likely(model.as_deref().unwrap_or_default(), name, max);
    let (likely, at_most) = read.usage(output);
    let extras = Extras { fast: read.facts.fast, us_only: read.facts.us_only, web_searches: 0 };
    let wait = queue_wait(flight, policy, settings);
    let asked = Ask {
        caps,
        purses: Purses::of(&caller, model.as_deref()),
        likely: Flight::charge(&inner, model.as_deref(), &likely, extras),
        at_most: Flight::charge(&inner, model.as_deref(), &at_most, extras),
        wait,
        pause,
    };
    let reservation = inner.ledger.reserve(asked).await?;
    let waited = reservation.waited();
    if let Some(record) = flight.record() {
        record.waited += waited;
    }
    if waited >= Duration::from_millis(1)
        && let Some(cap) = caps.first()
    {
        flight.acted(&cap.id, format!("waited {} ms for money that other calls had reserved", millis(waited)));
    }
    flight.reservation = Some(reservation);
    Ok(())
}

fn refusal(over: &Over, now: Timestamp) -> Refusal {
    let dollars = |pico| crate::budget::dollars(pico);
    let (window, word) = match over.period {
        Period::Day => (Window::Day, "day"),
        Period::Week => (Window::Week, "week"),
        Period::Month | Period::Life => (Window::Month, "month"),
    };
    let reset = over.resets_at.unwrap_or(now.after(Duration::from_secs(86_400)));
    let spent = format!("${:.2} of ${:.2} a {word} for {} are spent", dollars(over.spent), dollars(over.cap_pico), over.purse);
    match over.why {
        Why::Spent => {
            let said = format!("spend limit reached · resets {reset} · {spent} (budget {}); ask whoever set it", over.cap);
            Refusal::budget(said, window, reset, now).by(&*over.cap)
        }
        Why::Reserved | Why::Crowded => {
            let said = format!("{spent}, and calls that run have reserved the rest (budget {})", over.cap);
            Refusal::wait(said, Duration::from_secs(5)).by(&*over.cap)
        }
    }
}

/// How long the call may still wait: not longer than it may take at all.
fn queue_wait(flight: &Flight, policy: &Policy, settings: &Settings) -> Duration {
    if policy.fast_fail.is_some() {
        return Duration::ZERO;
    }
    let wait = policy.queue_wait.as_ref().map_or(Duration::from_secs(settings.queue_wait_s), |ruling| ruling.value);
    let of_settings = Some(Duration::from_secs(settings.request_timeout_s)).filter(|total| !total.is_zero());
    let total = policy.request_timeout.as_ref().map(|ruling| ruling.value).or(of_settings);
    let wait = wait.saturating_sub(flight.held_since.map_or(Duration::ZERO, |since| since.elapsed()));
    total.map_or(wait, |total| wait.min(total.saturating_sub(flight.begun.elapsed())))
}

/// Takes the call's places under all limits, waiting for them if need be.
async fn admit(flight: &mut Flight, policy: &Policy, read: &Read, settings: &Settings, upstream: &str) -> Result<(), Refusal> {
    let Some(want) = want(flight, policy, read, settings, upstream) else { return Ok(()) };
    flight.is_now(RunningState::Waiting);
    let limiter = Arc::clone(&flight.inner.limiter);
    let _queued = flight.inner.samples.queued();
    match limiter.admit(&want).await {
        Ok(permit) => {
            let waited = permit.waited;
            if waited >= Duration::from_millis(1) {
                if let Some(record) = flight.record() {
                    record.waited += waited;
                }
                let switch = held_by(policy, &want);
                flight.acted(&switch, format!("waited {} ms for its turn", millis(waited)));
            }
            flight.permit = Some(permit);
            Ok(())
        }
        Err(held) => {
            if let Some(record) = flight.record() {
                record.waited += held.waited;
            }
            let said = format!("the limit {} is reached, and {}", held.limit, held.why);
            if policy.fast_fail.is_some() {
                return Err(Refusal::fast_fail(said).by(&*held.limit));
            }
            Err(Refusal::wait(said, held.retry_after).by(&*held.limit))
        }
    }
}

/// The switch that is named for a wait: where several limits hold, the first.
fn held_by(policy: &Policy, want: &Want) -> Box<str> {
    let named = want.limits.first().map(|limit| limit.id.clone());
    let other = policy.pacing.as_ref().or(policy.adaptive.as_ref()).map(|switch| Box::from(&**switch));
    named.or(other).unwrap_or_default()
}

/// What the call wants of the limiter; nothing where no limit is for it.
fn want(flight: &Flight, policy: &Policy, read: &Read, settings: &Settings, upstream: &str) -> Option<Want> {
    let caller = &flight.record.as_ref()?.caller;
    let limits = limits(policy, caller, settings);
    let model = read.model();
    let model = model.as_deref().unwrap_or_default();
    let key = caller.key.as_deref().unwrap_or("none");
    let pace = policy.pacing.is_some().then(|| pace_key(key, model));
    let adaptive = policy.adaptive.is_some().then(|| Arc::from(format!("{upstream}/{model}")));
    if limits.is_empty() && pace.is_none() && adaptive.is_none() {
        return None;
    }
    let max = read.facts.max_tokens.map_or(0, |max| max.value);
    let name = caller.agent.as_deref().or(caller.session.as_deref()).unwrap_or_default();
    Some(Want {
        caller: fairness(caller),
        limits,
        tokens: read.tokens.likely,
        output: flight.inner.ledger.outputs().likely(model, name, max).min(OUTPUT_TOKENS_EXPECTED_MAX),
        wait_at_most: queue_wait(flight, policy, settings),
        pace,
        adaptive,
    })
}

/// The provider's limits are each key's and class of models'.
pub(super) fn pace_key(key: &str, model: &str) -> Arc<str> {
    Arc::from(format!("{key}/{}", crate::answer::model_class(model)))
}

/// Who shares fairly with whom.
fn fairness(caller: &Caller) -> u64 {
    let name = [&caller.agent, &caller.session, &caller.user, &caller.key].into_iter().find_map(|name| name.as_deref());
    xxh3_64(name.unwrap_or_default().as_bytes())
}

fn limits(policy: &Policy, caller: &Caller, settings: &Settings) -> Vec<Limit> {
    let mut limits = Vec::with_capacity(policy.limits.len());
    let on_rates = policy.rate_limiting.as_ref().map(|ruling| ruling.value);
    for ruling in &policy.limits {
        let (limited, count) = ruling.value;
        let (what, member) = match limited {
            Limited::Requests => (What::Requests, None),
            Limited::RequestsOfEachUser => (What::Requests, Some(caller.user.as_deref().or(caller.key.as_deref()).unwrap_or("unknown"))),
            Limited::RequestsOfEachAgent => (What::Requests, Some(caller.agent.as_deref().or(caller.key.as_deref()).unwrap_or("unknown"))),
            Limited::Tokens => (What::Tokens, None),
            Limited::InputTokens => (What::InputTokens, None),
            Limited::OutputTokens => (What::OutputTokens, None),
            Limited::ConcurrentRequests => (What::Concurrent, None),
            Limited::ConcurrentAgents => (What::ConcurrentAgents, None),
        };
        let is_rate = !matches!(what, What::Concurrent | What::ConcurrentAgents);
        if is_rate && on_rates == Some(false) {
            continue;
        }
        let bucket =
            member.map_or_else(|| xxh3_64(ruling.switch.as_bytes()), |member| xxh3_64(format!("{}\n{member}", ruling.switch).as_bytes()));
        limits.push(Limit { id: (&*ruling.switch).into(), bucket, what, count });
    }
    if let Some(ruling) = policy.rate_limiting.as_ref().filter(|ruling| ruling.value)
        && !limits.iter().any(|limit| !matches!(limit.what, What::Concurrent | What::ConcurrentAgents))
    {
        let count = settings.rate_limit_per_minute.max(1);
        limits.push(Limit { id: (&*ruling.switch).into(), bucket: xxh3_64(ruling.switch.as_bytes()), what: What::Requests, count });
    }
    limits
}

/// What the provider said of its limits, for the pacing of the calls that come.
pub(super) fn provider_says(flight: &Flight, limits: &crate::answer::Limits, key: &str, model: &str, now: Timestamp) {
    use crate::answer::BucketName::{InputTokens, OutputTokens, Requests, Tokens};
    let pace = pace_key(key, model);
    let mut told = Vec::new();
    for bucket in &limits.buckets {
        let what = match bucket.name {
            Requests => What::Requests,
            InputTokens => What::InputTokens,
            OutputTokens => What::OutputTokens,
            Tokens => What::Tokens,
            _ => continue,
        };
        if let (Some(limit), Some(remaining), Some(resets_at)) = (bucket.limit, bucket.remaining, bucket.resets_at) {
            let resets_at = Instant::now() + resets_at.since(now);
            told.push(crate::limit::ProviderLimit { what, limit, remaining, resets_at });
        }
    }
    flight.inner.limiter.provider_says(&pace, &told);
}
