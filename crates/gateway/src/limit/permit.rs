//! A call that was let in, until it is over.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::gate::Rule;
use super::state::State;
use super::{Answer, Limiter, Load, Want};

/// Holds a call's places. Dropped when the call is over.
pub struct Permit {
    limiter: Arc<Limiter>,
    caller: u64,
    gates: Vec<u32>,
    /// What was taken from the buckets for it.
    load: Load,
    pub(super) admitted_at: Instant,
    /// How long it had to wait.
    pub waited: Duration,
    is_answered: bool,
    is_given_back: bool,
    /// What was taken from a shared store for it, and for a call that never is sent must be put back there.
    pub(super) shared: Vec<super::shared::Ask>,
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("load", &self.load).field("waited", &self.waited).finish_non_exhaustive()
    }
}

impl Permit {
    pub(super) fn new(limiter: Arc<Limiter>, want: &Want, gates: Vec<u32>, load: Load, now: Instant) -> Self {
        Self {
            limiter,
            caller: want.caller,
            gates,
            load,
            admitted_at: now,
            waited: Duration::ZERO,
            is_answered: false,
            is_given_back: false,
            shared: Vec::new(),
        }
    }

    pub(super) fn load(&self) -> &Load {
        &self.load
    }

    pub(super) fn gates(&self) -> &[u32] {
        &self.gates
    }

    /// The upstream's answer begins: it has counted this call in what it says of its limits. To be said before
    /// [`Limiter::provider_says`].
    pub fn answered(&mut self) {
        if !std::mem::replace(&mut self.is_answered, true) {
            let (gates, load) = (&self.gates, &self.load);
            self.limiter.alter(|state, _| mark_answered(state, gates, load));
        }
    }

    /// What the call used in truth, in place of what was expected. Said again, the last word holds.
    pub fn settle(&mut self, input_tokens: u64, output_tokens: u64) {
        // What the provider counts was marked with what was expected.
        self.answered();
        let actual = Load { calls: 1, input: input_tokens, output: output_tokens };
        let thought = std::mem::replace(&mut self.load, actual);
        if thought == actual {
            return;
        }
        let gates = &self.gates;
        self.limiter.alter(|state, now| {
            for place in gates {
                if state.gate(*place).correct(&thought, &actual, now) {
                    state.go_on(*place, now);
                }
            }
        });
        if let Some(shared) = &self.limiter.shared {
            shared.correct(&mut self.shared, &actual);
        }
    }

    /// What became of the call, for what the upstream bears.
    pub fn outcome(&mut self, answer: Answer) {
        self.answered();
        let (gates, admitted_at) = (&self.gates, self.admitted_at);
        self.limiter.alter(|state, now| {
            for place in gates {
                match (&mut state.gate(*place).rule, answer) {
                    (Rule::Adaptive(adaptive), answer) => adaptive.outcome(answer, admitted_at, now),
                    (Rule::Pace(pace), Answer::Limited { retry_after: Some(wait) }) => pace.hold(wait, now),
                    _ => continue,
                }
                state.go_on(*place, now);
            }
        });
    }

    /// The call was never sent: nothing was used.
    pub fn give_back(mut self) {
        self.is_given_back = true;
    }

    /// Until [`Permit::sent`] is said, dropping it gives everything back.
    pub(super) fn never_sent(&mut self) {
        self.is_given_back = true;
    }

    pub(super) fn sent(&mut self) {
        self.is_given_back = false;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let held_for = self.admitted_at.elapsed();
        self.limiter.alter(|state, now| {
            if !self.is_answered {
                mark_answered(state, &self.gates, &self.load);
            }
            if self.is_given_back {
                put_back(state, &self.load, &self.gates, now);
            }
            state.release(self.caller, &self.gates, held_for, now);
        });
        if self.is_given_back
            && let Some(shared) = &self.limiter.shared
        {
            shared.correct(&mut self.shared, &Load::default());
        }
    }
}

fn mark_answered(state: &mut State, gates: &[u32], load: &Load) {
    for place in gates {
        if let Rule::Pace(pace) = &mut state.gate(*place).rule {
            pace.answered(load);
        }
    }
}

fn put_back(state: &mut State, load: &Load, gates: &[u32], now: Instant) {
    for place in gates {
        state.gate(*place).correct(load, &Load::default(), now);
    }
}

/// A call that had its turn and did not live to hear of it.
pub(super) fn give_back(state: &mut State, caller: u64, load: &Load, gates: &[u32], now: Instant) {
    mark_answered(state, gates, load);
    put_back(state, load, gates, now);
    state.release(caller, gates, Duration::ZERO, now);
}
