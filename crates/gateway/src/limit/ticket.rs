//! A call that waits, from its own side.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::state::Place;
use super::{Limiter, Load, permit};

/// Where a call is once it has come.
pub(super) enum Entry {
    In(Vec<u32>),
    Behind(Vec<u32>, Place, oneshot::Receiver<()>),
}

/// A call's place among those that wait. Dropped, it is gone from there, and so is what was taken for it meanwhile.
pub(super) struct Ticket<'a> {
    pub(super) limiter: &'a Arc<Limiter>,
    pub(super) caller: u64,
    pub(super) load: Load,
    pub(super) gates: Vec<u32>,
    pub(super) place: Option<Place>,
}

impl Ticket<'_> {
    /// It had its turn: what was taken is the permit's from here.
    pub(super) fn take(&mut self) -> Vec<u32> {
        self.place = None;
        self.limiter.metrics.waiting.dec();
        std::mem::take(&mut self.gates)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        self.limiter.metrics.waiting.dec();
        self.limiter.alter(|state, now| {
            if !state.forget(place, now) {
                permit::give_back(state, self.caller, &self.load, &self.gates, now);
            }
        });
    }
}
