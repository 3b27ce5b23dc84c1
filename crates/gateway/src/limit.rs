//! Limits on rates and concurrency: who may go on now, who waits, who is told to come back.
//!
//! **Takes** what a call wants and the limits that are for it. **Gives** a [`Permit`], at once or when it is its turn, or
//! [`Held`]: why not, and when to come again. **Never** polls, and never lets one caller's many calls push aside another's
//! few: see [`gate`] for the order, [`state`] for the waiting, [`bucket`] for rates, [`pace`] for the provider's own limits,
//! [`adaptive`] for what it bears, [`shared`] for limits that several gateways keep together.

mod bucket;

mod adaptive;

mod pace;

mod gate;

mod state;

mod permit;

mod ticket;

pub mod shared;

pub mod redis;

mod metrics;

mod view;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

pub use metrics::Metrics;
pub use pace::ProviderLimit;
pub use permit::Permit;
pub use view::{GateView, VIEW_GATES_MAX};

use shared::{Guarded, Shared};
use state::{Blocked, State, Waiting};
use ticket::{Entry, Ticket};

/// Limits that one call is under. There are no more in earnest; what is beyond is not looked at.
pub const LIMITS_PER_CALL_MAX: usize = 64;
/// Nobody waits longer, whatever is asked for: beyond it the sum of times is not safe.
const WAIT_MAX: Duration = Duration::from_secs(86_400);

/// How limits are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What a limit on a rate lets through at once after a quiet time, as milliseconds of its rate. At least one call. A
    /// minute of constant demand gets that much more than the limit. Default 500.
    pub burst_ms: u64,
    /// Calls that wait. One more is refused at once. Default 10000.
    pub queue_calls_max: usize,
    /// Limits of single users, agents and keys that are known at the same time. Beyond it new ones do not hold. Default
    /// 100000.
    pub gates_max: usize,
    /// Calls are spread over the time until the provider's limit resets when less than this share of it remains, 0 to 1.
    /// Default 0.2.
    pub pace_below_share: f64,
    /// What the provider says of its limits holds calls back for so many seconds at most. Default 300.
    pub provider_hold_s_max: u64,
    /// Calls at the same time that adaptive concurrency allows at most, for each upstream and model. Default 1000.
    pub adaptive_calls_max: u64,
    /// A shared store that does not answer within so many milliseconds is not waited for. Default 50.
    pub shared_timeout_ms: u64,
    /// After so many failures in a row a shared store is left alone. Default 3.
    pub shared_failures: u32,
    /// A shared store that is left alone is asked again each so many milliseconds. Default 1000.
    pub shared_probe_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            burst_ms: 500,
            queue_calls_max: 10_000,
            gates_max: 100_000,
            pace_below_share: 0.2,
            provider_hold_s_max: 300,
            adaptive_calls_max: 1_000,
            shared_timeout_ms: 50,
            shared_failures: 3,
            shared_probe_ms: 1_000,
        }
    }
}

/// What a limit counts. Rates are a minute's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    Requests,
    InputTokens,
    OutputTokens,
    /// Read and written.
    Tokens,
    /// Calls at the same time.
    Concurrent,
    /// Callers that have calls at the same time. While others wait, a caller that is in already waits for his turn with his
    /// next call, so that the places go round.
    ConcurrentAgents,
}

/// One limit that a call is under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// `rate_limit_per_minute@user:ana`: what is told when it holds a call.
    pub id: Box<str>,
    /// Which bucket: a limit of each user has one for each.
    pub bucket: u64,
    pub what: What,
    /// At least 1.
    pub count: u64,
}

/// What a call wants.
#[derive(Debug, Clone, Default)]
pub struct Want {
    /// Who shares fairly with whom: a hash of the agent, else of the session, the user, the key.
    pub caller: u64,
    pub limits: Vec<Limit>,
    /// Tokens that are expected to be read.
    pub tokens: u64,
    /// Tokens that are expected to be written.
    pub output: u64,
    pub wait_at_most: Duration,
    /// Whose limits at the provider the call is under, when it is to keep below them.
    pub pace: Option<Arc<str>>,
    /// Upstream and model, when the calls that it has at the same time are to be found out.
    pub adaptive: Option<Arc<str>>,
}

/// Why a call was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It would take longer than the call may wait.
    TooLong,
    /// It has waited as long as it may.
    Waited,
    /// As many wait as may wait.
    QueueFull,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "it would have to wait longer than it may",
            Self::Waited => "it has waited as long as it may",
            Self::QueueFull => "too many calls wait already",
        })
    }
}

/// A call that was not let in. Completes "failed to …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("let the call in: the limit {limit} is reached, and {why}")]
pub struct Held {
    /// The id of the limit.
    pub limit: Box<str>,
    pub why: Why,
    /// When to come again. A guess where it is about calls at the same time.
    pub retry_after: Duration,
    pub waited: Duration,
}

/// What became of a call, as far as it says how much the upstream bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Ok,
    /// 429.
    Limited {
        retry_after: Option<Duration>,
    },
    /// 529, 503.
    Overloaded,
    /// Everything else that is not well.
    Failed,
}

/// What one call, or several together, put on the gates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Load {
    calls: u64,
    input: u64,
    output: u64,
}

impl Load {
    fn cost(&self, what: What) -> f64 {
        let count = match what {
            What::InputTokens => self.input,
            What::OutputTokens => self.output,
            What::Tokens => self.input.saturating_add(self.output),
            What::Requests | What::Concurrent | What::ConcurrentAgents => self.calls,
        };
        count as f64
    }

    fn add(&mut self, more: &Self) {
        self.calls = self.calls.saturating_add(more.calls);
        self.input = self.input.saturating_add(more.input);
        self.output = self.output.saturating_add(more.output);
    }

    fn subtract(&mut self, less: &Self) {
        self.calls = self.calls.saturating_sub(less.calls);
        self.input = self.input.saturating_sub(less.input);
        self.output = self.output.saturating_sub(less.output);
    }
}

fn hash(name: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(name.as_bytes())
}

/// All limits of a gateway, and all calls that wait for them.
pub struct Limiter {
    settings: Settings,
    state: Mutex<State>,
    /// Says that there is an earlier timer than the one that is being waited for.
    earlier: Arc<Notify>,
    shared: Option<Guarded>,
    metrics: Metrics,
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Limiter {
    #[must_use]
    pub fn new(settings: Settings) -> Arc<Self> {
        Self::build(settings, None)
    }

    /// With limits on rates that are kept together with other gateways.
    #[must_use]
    pub fn with_shared(settings: Settings, shared: Arc<dyn Shared>) -> Arc<Self> {
        Self::build(settings, Some(shared))
    }

    fn build(settings: Settings, shared: Option<Arc<dyn Shared>>) -> Arc<Self> {
        let metrics = Metrics::default();
        let shared = shared.map(|shared| Guarded::new(shared, &settings, metrics.clone()));
        Arc::new(Self { settings, state: Mutex::new(State::new()), earlier: Arc::new(Notify::new()), shared, metrics })
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The lock of somebody who panicked is taken over: limits that are a little wrong are better than none.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call in, now or when it is its turn. When this future is dropped the call does not wait any more.
    ///
    /// # Errors
    /// When it would have to wait longer than it may, or has, or too many wait.
    pub async fn admit(self: &Arc<Self>, want: &Want) -> Result<Permit, Held> {
        let load = Load { calls: 1, input: want.tokens, output: want.output };
        let now = Instant::now();
        let wait_max = want.wait_at_most.min(WAIT_MAX);
        let (gates, place, turn) = match self.enter(want, &load, wait_max, now)? {
            Entry::In(gates) => return self.let_in(want, gates, load, now, now).await,
            Entry::Behind(gates, place, turn) => (gates, place, turn),
        };
        self.metrics.waiting.inc();
        self.metrics.waited.inc();
        let mut ticket = Ticket { limiter: self, caller: want.caller, load, gates, place: Some(place) };
        let deadline = now + wait_max;
        let has_turn = tokio::select! {
            biased;
            said = turn => said.is_ok(),
            () = tokio::time::sleep_until(deadline) => false,
        };
        let now_then = Instant::now();
        if !has_turn && let Some(held) = self.give_up(&mut ticket, wait_max, now_then - now) {
            return Err(held);
        }
        let gates = ticket.take();
        drop(ticket);
        self.let_in(want, gates, load, now, now_then).await
    }

    /// Through all gates now, or behind those that wait, or neither.
    fn enter(self: &Arc<Self>, want: &Want, load: &Load, wait_max: Duration, now: Instant) -> Result<Entry, Held> {
        let mut state = self.state();
        let gates = self.gates(&mut state, want, now);
        if state.pass(want.caller, load, &gates, now) {
            return Ok(Entry::In(gates));
        }
        let before = state.next_due();
        let blocked = state.blocked(want.caller, load, &gates, wait_max, now);
        let why = match &blocked {
            Some(blocked) if blocked.is_hopeless || wait_max.is_zero() => Some(Why::TooLong),
            _ if state.waiting >= self.settings.queue_calls_max => Some(Why::QueueFull),
            _ => None,
        };
        if let (Some(why), Some(blocked)) = (why, &blocked) {
            return Err(self.held(&mut state, blocked, why, Duration::ZERO));
        }
        let (said, turn) = oneshot::channel();
        let place = state.queue(want.caller, &gates, Waiting { load: *load, turn: said }, now);
        self.watch(&mut state, before);
        Ok(Entry::Behind(gates, place, turn))
    }

    fn gates(&self, state: &mut State, want: &Want, now: Instant) -> Vec<u32> {
        let mut gates = Vec::with_capacity(want.limits.len().min(LIMITS_PER_CALL_MAX) + 2);
        let mut add = |gate: Option<u32>| match gate {
            Some(gate) if !gates.contains(&gate) => gates.push(gate),
            Some(_) => {}
            None => {
                self.metrics.not_held.inc();
            }
        };
        for limit in want.limits.iter().take(LIMITS_PER_CALL_MAX) {
            add(state.limit(limit, &self.settings, now));
        }
        if let Some(name) = &want.pace {
            add(state.pace(name, &self.settings, now));
        }
        if let Some(name) = &want.adaptive {
            add(state.adaptive(name, &self.settings, now));
        }
        gates
    }

    fn held(&self, state: &mut State, blocked: &Blocked, why: Why, waited: Duration) -> Held {
        self.metrics.held.inc();
        let gate = state.gate(blocked.gate);
        gate.held += 1;
        Held { limit: gate.id.clone(), why, retry_after: blocked.wait.unwrap_or(Duration::from_secs(1)), waited }
    }

    /// The deadline of a call that waits is over. None when its turn came just then.
    fn give_up(self: &Arc<Self>, ticket: &mut Ticket<'_>, wait_max: Duration, waited: Duration) -> Option<Held> {
        let now = Instant::now();
        let mut state = self.state();
        let place = ticket.place?;
        if !state.forget(place, now) {
            return None;
        }
        ticket.place = None;
        self.metrics.waiting.dec();
        let blocked = state.blocked(ticket.caller, &ticket.load, &ticket.gates, wait_max, now);
        let first = ticket.gates.first().copied();
        let blocked = blocked.or_else(|| first.map(|gate| Blocked { gate, wait: None, is_hopeless: false }))?;
        let held = self.held(&mut state, &blocked, Why::Waited, waited);
        self.watch(&mut state, None);
        Some(held)
    }

    /// Through all gates here; and through those that are shared.
    async fn let_in(self: &Arc<Self>, want: &Want, gates: Vec<u32>, load: Load, came: Instant, now: Instant) -> Result<Permit, Held> {
        self.metrics.admitted.inc();
        let mut permit = Permit::new(Arc::clone(self), want, gates, load, now);
        permit.waited = now - came;
        if let Some(shared) = &self.shared {
            shared.take(self, want, &mut permit, came).await?;
            permit.waited = came.elapsed();
        }
        Ok(permit)
    }

    /// Makes sure that somebody watches the timers, and that he knows of the earliest.
    fn watch(self: &Arc<Self>, state: &mut State, before: Option<Instant>) {
        if !state.is_watched && tokio::runtime::Handle::try_current().is_ok() {
            state.is_watched = true;
            tokio::spawn(watch(Arc::downgrade(self), Arc::clone(&self.earlier)));
        } else if state.next_due() != before {
            self.earlier.notify_one();
        }
    }

    /// After something that may have moved the timers.
    fn alter(&self, change: impl FnOnce(&mut State, Instant)) {
        let now = Instant::now();
        let mut state = self.state();
        let before = state.next_due();
        change(&mut state, now);
        if state.next_due() != before {
            self.earlier.notify_one();
        }
    }

    /// Switches have changed: each limit's count as it is now, by its id and bucket; none when it is no more. Calls that wait
    /// go on at once where they may. Limits of which calls come anew need not be told of.
    pub fn retune(&self, count_of: impl Fn(&str, u64) -> Option<u64>) {
        self.alter(|state, now| {
            for place in state.places() {
                let gate = state.gate(place);
                let state::Key::Limit(_, bucket) = gate.key else { continue };
                let count = count_of(&gate.id, bucket);
                if gate.set_count(count, now) {
                    state.go_on(place, now);
                }
            }
        });
    }

    /// What the provider said of its limits for this key. What was admitted and not answered yet is taken off, so that it
    /// is said by [`Permit::answered`] first which call this answer is for.
    pub fn provider_says(&self, pace: &str, limits: &[ProviderLimit]) {
        self.alter(|state, now| {
            let Some(place) = state.pace(pace, &self.settings, now) else { return };
            if let gate::Rule::Pace(pace) = &mut state.gate(place).rule {
                limits.iter().for_each(|limit| pace.says(limit, now));
            }
            state.go_on(place, now);
        });
    }

    /// Calls that wait now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state().waiting
    }

    /// The limits that hold calls the most, and how they stand.
    #[must_use]
    pub fn view(&self) -> Vec<GateView> {
        view::view(&mut self.state(), Instant::now())
    }

    /// No call is in it or waits: for tests.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.state().is_quiet()
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.earlier.notify_one();
    }
}

/// Wakes whoever's time has come, for as long as the limiter lives.
async fn watch(limiter: Weak<Limiter>, earlier: Arc<Notify>) {
    /// Another task watches when this one is ended with its runtime.
    struct Watched(Weak<Limiter>);
    impl Drop for Watched {
        fn drop(&mut self) {
            if let Some(limiter) = self.0.upgrade() {
                limiter.state().is_watched = false;
            }
        }
    }
    let watched = Watched(limiter);
    while let Some(limiter) = watched.0.upgrade() {
        let due = limiter.state().tick(Instant::now());
        drop(limiter);
        match due {
            Some(due) => tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = earlier.notified() => {}
            },
            None => earlier.notified().await,
        }
    }
}
