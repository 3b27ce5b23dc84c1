//! What one call has reserved, until it is known what it cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use paramedic_model::Usage;

use super::ledger::Ledger;
use super::state::End;

/// Money that is held for one call. Ended once, whatever happens: by what it cost, by what is known, or by being dropped.
#[derive(Debug)]
pub struct Reservation {
    ledger: Arc<Ledger>,
    place: u32,
    at_most: u64,
    reserved: AtomicU64,
    known: AtomicU64,
    asked: AtomicBool,
    waited: Duration,
    ended: bool,
}

impl Reservation {
    pub(super) fn new(ledger: Arc<Ledger>, place: u32, estimate: u64, at_most: u64, waited: Duration) -> Self {
        let (reserved, known) = (AtomicU64::new(estimate), AtomicU64::new(0));
        Self { ledger, place, at_most, reserved, known, asked: AtomicBool::new(false), waited, ended: false }
    }

    /// Picodollars that are reserved now.
    #[must_use]
    pub fn reserved(&self) -> u64 {
        self.reserved.load(Ordering::Relaxed)
    }

    /// How long the call waited for its money.
    #[must_use]
    pub const fn waited(&self) -> Duration {
        self.waited
    }

    /// The upstream is about to be asked: from here on the call counts as one that costs something.
    pub fn asked(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// So much did the call cost up to now. What passes the reservation raises it, by half more than is known, so that a
    /// long answer does not come back for every token.
    pub fn grow(&self, known: u64) {
        self.asked.store(true, Ordering::Relaxed);
        let known = self.known.fetch_max(known, Ordering::Relaxed).max(known);
        if known > self.reserved.load(Ordering::Relaxed) {
            let raised = known.saturating_add(known / 2).min(self.at_most).max(known);
            self.reserved.fetch_max(raised, Ordering::Relaxed);
            self.ledger.grow(self.place, raised);
        }
    }

    /// The call is over and cost exactly this.
    pub fn settle(mut self, pico: u64, usage: &Usage) {
        self.end(End::Spent(pico, *usage));
    }

    /// The call is over and nobody said what it cost: what is known up to now, or the estimate where nothing is.
    pub fn settle_unknown(mut self, usage: &Usage) {
        let known = self.known.load(Ordering::Relaxed);
        let pico = if known > 0 { known } else { self.reserved() };
        self.end(End::Spent(pico, *usage));
    }

    /// The upstream was never asked: nothing was spent.
    pub fn release(mut self) {
        self.end(End::Unasked);
    }

    fn end(&mut self, end: End) {
        if !std::mem::replace(&mut self.ended, true) {
            self.ledger.end(self.place, end);
        }
    }
}

impl Drop for Reservation {
    /// A call that was forgotten, cancelled or fell over: the larger of what is known and what was reserved.
    fn drop(&mut self) {
        let asked = self.asked.load(Ordering::Relaxed);
        let pico = self.known.load(Ordering::Relaxed).max(self.reserved());
        self.end(if asked { End::Spent(pico, Usage::default()) } else { End::Unasked });
    }
}
