//! One breaker: closed, open, or finding out.

use std::time::Duration;

use paramedic_model::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{BreakerView, Forced, Settings};

/// The window is so many parts: when time goes on, the oldest is left out.
const WINDOW_PARTS: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Closed,
    Open,
    /// Some calls find out whether all is well.
    HalfOpen,
}

impl State {
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// As in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// How a call ended, for a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    Failed,
    /// It says nothing: the client went away, or it was refused for what it was.
    NotCounted,
}

/// In which period of a breaker a call came, and whether it is one of those that find out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entered {
    period: u64,
    is_probe: bool,
}

#[derive(Debug)]
pub(super) struct Circuit {
    state: State,
    /// Counts up with each change of the state: calls of an earlier period say nothing about this one.
    period: u64,
    pub(super) forced: Option<(Forced, Box<str>)>,
    pub(super) changed_at: Instant,
    pub(super) used_at: Instant,
    opened_at: Instant,
    in_a_row: u32,
    /// Calls and failures of each part of the window.
    window: [(u32, u32); WINDOW_PARTS],
    part: u64,
    born: Instant,
    probes: u32,
    successes: u32,
    calls_open: u32,
    pub(super) failures: u64,
    pub(super) trips: u64,
}

impl Circuit {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: State::Closed,
            period: 0,
            forced: None,
            changed_at: now,
            used_at: now,
            opened_at: now,
            in_a_row: 0,
            window: [(0, 0); WINDOW_PARTS],
            part: 0,
            born: now,
            probes: 0,
            successes: 0,
            calls_open: 0,
            failures: 0,
            trips: 0,
        }
    }

    /// The state as it acts.
    pub(super) fn shown(&self) -> State {
        match self.forced {
            Some((Forced::Open, _)) => State::Open,
            Some((Forced::Closed, _)) => State::Closed,
            None => self.state,
        }
    }

    fn next_probe(&self, settings: &Settings) -> Instant {
        self.opened_at + Duration::from_secs(settings.open_s.min(86_400))
    }

    fn become_state(&mut self, state: State, now: Instant) {
        self.state = state;
        self.period += 1;
        self.changed_at = now;
        (self.in_a_row, self.probes, self.successes) = (0, 0, 0);
        self.window = [(0, 0); WINDOW_PARTS];
    }

    pub(super) fn close(&mut self, now: Instant) {
        self.become_state(State::Closed, now);
    }

    /// An open breaker whose time is over finds out. Says why, when somebody can see it.
    pub(super) fn wake(&mut self, settings: &Settings, now: Instant) -> Option<&'static str> {
        if self.state != State::Open || now < self.next_probe(settings) {
            return None;
        }
        self.become_state(State::HalfOpen, now);
        self.forced.is_none().then_some("it was open long enough")
    }

    /// How long a call is to stay away; none when it may go on.
    pub(super) fn refuses(&self, settings: &Settings, acts: bool, now: Instant) -> Option<Duration> {
        let open = Duration::from_secs(settings.open_s);
        match (&self.forced, self.state) {
            (Some((Forced::Open, _)), _) => Some(open),
            (Some((Forced::Closed, _)), _) => None,
            (None, State::Open) if acts => Some(self.next_probe(settings).saturating_duration_since(now)),
            // Those that find out will know soon.
            (None, State::HalfOpen) if acts && self.probes >= settings.probes.max(1) => Some(open.min(Duration::from_secs(1))),
            _ => None,
        }
    }

    pub(super) fn enter(&mut self, now: Instant) -> Entered {
        self.used_at = now;
        self.calls_open = self.calls_open.saturating_add(1);
        let is_probe = self.state == State::HalfOpen;
        if is_probe {
            self.probes = self.probes.saturating_add(1);
        }
        Entered { period: self.period, is_probe }
    }

    /// A call is over. Says why, when the state changes.
    pub(super) fn leave(&mut self, entered: &Entered, outcome: Outcome, settings: &Settings, now: Instant) -> Option<String> {
        self.calls_open = self.calls_open.saturating_sub(1);
        if outcome == Outcome::Failed {
            self.failures += 1;
        }
        if entered.period != self.period {
            return None;
        }
        if entered.is_probe {
            self.probes = self.probes.saturating_sub(1);
        }
        match (self.state, outcome) {
            (_, Outcome::NotCounted) | (State::Open, _) => None,
            (State::HalfOpen, Outcome::Failed) => {
                self.trip(now);
                Some("a call that was to find out failed".to_owned())
            }
            (State::HalfOpen, Outcome::Ok) => {
                self.successes += 1;
                let is_well = self.successes >= settings.successes;
                is_well.then(|| {
                    let why = format!("{} calls went well", self.successes);
                    self.close(now);
                    why
                })
            }
            (State::Closed, outcome) => {
                let why = self.count(outcome == Outcome::Failed, settings, now)?;
                self.trip(now);
                Some(why)
            }
        }
    }

    fn trip(&mut self, now: Instant) {
        self.become_state(State::Open, now);
        self.opened_at = now;
        self.trips += 1;
    }

    /// Counts a call of a closed breaker. Says why it is to open.
    fn count(&mut self, failed: bool, settings: &Settings, now: Instant) -> Option<String> {
        let part_ms = (settings.window_s.clamp(1, 86_400) * 1_000 / WINDOW_PARTS as u64).max(1);
        let part = (now.saturating_duration_since(self.born).as_millis() as u64) / part_ms;
        for passed in 0..part.saturating_sub(self.part).min(WINDOW_PARTS as u64) {
            self.window[((part - passed) % WINDOW_PARTS as u64) as usize] = (0, 0);
        }
        self.part = self.part.max(part);
        let slot = &mut self.window[(self.part % WINDOW_PARTS as u64) as usize];
        *slot = (slot.0.saturating_add(1), slot.1.saturating_add(u32::from(failed)));
        if !failed {
            self.in_a_row = 0;
            return None;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row >= settings.failures.max(1) {
            return Some(format!("{} failures in a row", self.in_a_row));
        }
        let (calls, failures) = self.window.iter().fold((0_u64, 0_u64), |sum, part| (sum.0 + u64::from(part.0), sum.1 + u64::from(part.1)));
        let is_much = calls >= u64::from(settings.window_calls_min.max(1)) && failures as f64 >= calls as f64 * settings.failure_share;
        is_much.then(|| format!("{failures} of {calls} calls failed within {} s", settings.window_s))
    }

    /// Nobody would miss it.
    pub(super) fn is_idle(&self) -> bool {
        self.state == State::Closed && self.forced.is_none() && self.calls_open == 0
    }

    pub(super) fn view(&self, name: &str, settings: &Settings, now: Instant, wall: Timestamp) -> BreakerView {
        let is_open = self.state == State::Open && self.forced.is_none();
        BreakerView {
            name: name.to_owned(),
            state: self.shown(),
            since: wall.before(now.saturating_duration_since(self.changed_at)),
            failures: self.failures,
            failures_in_a_row: self.in_a_row,
            trips: self.trips,
            next_probe: is_open.then(|| wall.after(self.next_probe(settings).saturating_duration_since(now))),
            forced_by: self.forced.as_ref().map(|(_, by)| by.to_string()),
        }
    }
}
