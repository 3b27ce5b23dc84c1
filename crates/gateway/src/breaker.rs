//! Circuit breakers: an upstream that fails again and again is left alone for a while.
//!
//! **Takes** how calls ended, by name: an upstream (`anthropic`), one of its models (`anthropic/claude-opus-5-5`), one key
//! (`anthropic/key:ab12…`). **Gives** a [`Pass`] for a call, or [`Open`] with when to come again. **Never** forgets to
//! watch: whether it also refuses is for its caller to say, and a breaker that somebody holds open or closed obeys him.

mod circuit;

mod collector;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use paramedic_model::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio::time::Instant;

use circuit::Circuit;
pub use circuit::{Outcome, State};
pub use collector::{Exposition, SHOWN_MAX};

/// A longer name is not watched.
const NAME_BYTES_MAX: usize = 256;
/// Changes that a slow listener may be behind; older ones are lost to him.
const CHANGES_KEPT: usize = 256;

/// When a breaker opens and closes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// So many failures in a row open it. Default 5.
    pub failures: u32,
    /// This share of failures within the window opens it too, 0 to 1. Default 0.5.
    pub failure_share: f64,
    /// The window's length in seconds. Default 60.
    pub window_s: u64,
    /// Calls within the window, below which the share says nothing. Default 20.
    pub window_calls_min: u32,
    /// It stays open for so many seconds before calls find out whether all is well. Default 60.
    pub open_s: u64,
    /// Calls at the same time that find it out. Default 1.
    pub probes: u32,
    /// So many of them in a row must go well to close it. Default 3.
    pub successes: u32,
    /// A 429 is a failure of the key that got it. Default false.
    pub limited_counts: bool,
    /// Breakers that are kept. Beyond it those are forgotten that are closed and were not used the longest. Default 1000.
    pub names_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            failures: 5,
            failure_share: 0.5,
            window_s: 60,
            window_calls_min: 20,
            open_s: 60,
            probes: 1,
            successes: 3,
            limited_counts: false,
            names_max: 1_000,
        }
    }
}

/// What somebody wants of a breaker, whatever it has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Forced {
    Open,
    Closed,
}

/// A call that a breaker does not let through. Completes "failed to …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pass the circuit breaker {name}: it is open")]
pub struct Open {
    pub name: Arc<str>,
    pub retry_after: Duration,
    /// Who holds it open.
    pub forced_by: Option<Box<str>>,
}

/// A breaker changed its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub name: Arc<str>,
    pub from: State,
    pub to: State,
    /// `5 failures in a row`.
    pub why: Box<str>,
}

/// One breaker as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BreakerView {
    pub name: String,
    /// As it acts: one that is held open is open.
    pub state: State,
    pub since: Timestamp,
    /// All failures that it has seen.
    pub failures: u64,
    /// Failures since the last success.
    pub failures_in_a_row: u32,
    /// How often it opened by itself.
    pub trips: u64,
    /// When calls find out whether all is well, while it is open by itself.
    pub next_probe: Option<Timestamp>,
    /// Who holds it open or closed.
    pub forced_by: Option<String>,
}

/// All breakers of a gateway.
pub struct Breakers {
    settings: Settings,
    circuits: Mutex<HashMap<Arc<str>, Circuit>>,
    changes: broadcast::Sender<Change>,
}

impl fmt::Debug for Breakers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breakers").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Breakers {
    #[must_use]
    pub fn new(settings: Settings) -> Arc<Self> {
        let (changes, _) = broadcast::channel(CHANGES_KEPT);
        Arc::new(Self { settings, circuits: Mutex::new(HashMap::new()), changes })
    }

    fn circuits(&self) -> MutexGuard<'_, HashMap<Arc<str>, Circuit>> {
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each change of a state from now on.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Whether a call may go to all that these names stand for. A breaker that opened by itself refuses only when `acts`;
    /// one that is held open always does.
    ///
    /// # Errors
    /// When one of them is open.
    pub fn allow(self: &Arc<Self>, names: &[&str], acts: bool, now: Instant) -> Result<Pass, Open> {
        let mut circuits = self.circuits();
        for name in names {
            let Some((key, circuit)) = self.find(&mut circuits, name, now) else { continue };
            if let Some(why) = circuit.wake(&self.settings, now) {
                self.say(&key, State::Open, State::HalfOpen, why);
            }
            if let Some(retry_after) = circuit.refuses(&self.settings, acts, now) {
                let forced_by = circuit.forced.as_ref().map(|(_, by)| by.clone());
                return Err(Open { name: key, retry_after, forced_by });
            }
        }
        let mut held = Vec::with_capacity(names.len());
        for name in names {
            // One name twice is one breaker.
            if let Some((key, circuit)) = circuits.get_key_value(*name).map(|(key, _)| Arc::clone(key)).and_then(|key| {
                let circuit = circuits.get_mut(&key)?;
                Some((key, circuit))
            }) && !held.iter().any(|(known, _): &(Arc<str>, _)| *known == key)
            {
                held.push((key, circuit.enter(now)));
            }
        }
        Ok(Pass { breakers: Arc::clone(self), held })
    }

    /// The circuit of a name, made when there is none and there is room.
    fn find<'a>(&self, circuits: &'a mut HashMap<Arc<str>, Circuit>, name: &str, now: Instant) -> Option<(Arc<str>, &'a mut Circuit)> {
        if !circuits.contains_key(name) {
            if name.is_empty() || name.len() > NAME_BYTES_MAX {
                return None;
            }
            if circuits.len() >= self.settings.names_max {
                forget_oldest(circuits);
            }
            if circuits.len() >= self.settings.names_max {
                return None;
            }
            circuits.insert(name.into(), Circuit::new(now));
        }
        let key = Arc::clone(circuits.get_key_value(name)?.0);
        circuits.get_mut(name).map(|circuit| (key, circuit))
    }

    fn say(&self, name: &Arc<str>, from: State, to: State, why: impl Into<Box<str>>) {
        // Nobody may listen.
        let _ = self.changes.send(Change { name: Arc::clone(name), from, to, why: why.into() });
    }

    /// Which breakers are held open or closed, and by whom, from now on; all others are not held any more.
    pub fn force(&self, forced: &[(&str, Forced, &str)], now: Instant) {
        let mut circuits = self.circuits();
        for (name, _, _) in forced {
            // What somebody holds is watched however many there are.
            if !name.is_empty() && name.len() <= NAME_BYTES_MAX && !circuits.contains_key(*name) {
                circuits.insert((*name).into(), Circuit::new(now));
            }
        }
        for (name, circuit) in circuits.iter_mut() {
            let found = forced.iter().find(|(held, _, _)| *held == &**name);
            let wanted = found.map(|(_, to, by)| (*to, Box::from(*by)));
            let before = circuit.shown();
            if circuit.forced != wanted {
                let why = wanted.as_ref().map_or_else(|| "not held any more".to_owned(), |(_, by)| format!("held by {by}"));
                circuit.forced = wanted;
                circuit.changed_at = now;
                if before != circuit.shown() {
                    self.say(name, before, circuit.shown(), why);
                }
            }
        }
    }

    /// Closes a breaker and forgets what it has seen. False when there is none of that name. What holds it open still does.
    pub fn reset(&self, name: &str, now: Instant) -> bool {
        let mut circuits = self.circuits();
        let Some(key) = circuits.get_key_value(name).map(|(key, _)| Arc::clone(key)) else { return false };
        if let Some(circuit) = circuits.get_mut(name) {
            self.reset_one(&key, circuit, now);
        }
        true
    }

    /// Closes all breakers; how many were not closed.
    pub fn reset_all(&self, now: Instant) -> usize {
        let mut circuits = self.circuits();
        circuits.iter_mut().filter_map(|(name, circuit)| self.reset_one(name, circuit, now).then_some(())).count()
    }

    fn reset_one(&self, name: &Arc<str>, circuit: &mut Circuit, now: Instant) -> bool {
        let before = circuit.shown();
        circuit.close(now);
        if before != circuit.shown() {
            self.say(name, before, circuit.shown(), "reset");
        }
        before != circuit.shown()
    }

    /// All breakers, by name. `wall` is the time of day at `now`.
    #[must_use]
    pub fn view(&self, now: Instant, wall: Timestamp) -> Vec<BreakerView> {
        let circuits = self.circuits();
        let mut views: Vec<_> = circuits.iter().map(|(name, circuit)| circuit.view(name, &self.settings, now, wall)).collect();
        views.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        views
    }

    fn end(&self, held: &[(Arc<str>, circuit::Entered)], outcome_of: impl Fn(&str) -> Outcome, now: Instant) {
        let mut circuits = self.circuits();
        for (name, entered) in held {
            let Some(circuit) = circuits.get_mut(name) else { continue };
            let before = circuit.shown();
            if let Some(why) = circuit.leave(entered, outcome_of(name), &self.settings, now)
                && before != circuit.shown()
            {
                self.say(name, before, circuit.shown(), why);
            }
        }
    }
}

/// A quarter of those that are closed and nobody holds: so that not each new name looks through all.
fn forget_oldest(circuits: &mut HashMap<Arc<str>, Circuit>) {
    let mut idle: Vec<_> =
        circuits.iter().filter(|(_, circuit)| circuit.is_idle()).map(|(name, circuit)| (circuit.used_at, Arc::clone(name))).collect();
    idle.sort_unstable();
    idle.truncate(idle.len().div_ceil(4));
    for (_, name) in idle {
        circuits.remove(&name);
    }
}

/// A call that was let through, until its end. Dropped without a word it does not count.
#[must_use]
pub struct Pass {
    breakers: Arc<Breakers>,
    held: Vec<(Arc<str>, circuit::Entered)>,
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.held.iter().map(|(name, _)| name)).finish()
    }
}

impl Pass {
    /// How the call ended, for all of its breakers.
    pub fn outcome(mut self, outcome: Outcome, now: Instant) {
        let held = std::mem::take(&mut self.held);
        self.breakers.end(&held, |_| outcome, now);
    }

    /// The upstream answered with this status.
    pub fn answered(mut self, status: u16, now: Instant) {
        let held = std::mem::take(&mut self.held);
        let limited_counts = self.breakers.settings.limited_counts;
        self.breakers.end(&held, |name| judge(status, limited_counts && name.contains("/key:")), now);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if !self.held.is_empty() {
            self.breakers.end(&self.held, |_| Outcome::NotCounted, Instant::now());
        }
    }
}

/// What a status says of the upstream. A refusal that is the client's own doing shows that the upstream works; whether
/// money or rights are short says nothing of it, nor does a rate limit, except of the key where that is wanted.
#[must_use]
pub fn judge(status: u16, limited_counts: bool) -> Outcome {
    match status {
        500..=599 => Outcome::Failed,
        429 if limited_counts => Outcome::Failed,
        401 | 402 | 403 | 408 | 429 | 499 => Outcome::NotCounted,
        _ => Outcome::Ok,
    }
}
