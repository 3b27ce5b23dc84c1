//! The rule of a cap, and what is told of it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Cap;
use super::purse::Two;
use super::window::Period;

/// Of the cap, in percent.
pub(super) const TOLD_AT: [u8; 4] = [50, 80, 90, 100];

/// What stands against a cap in its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Standing {
    pub(super) spent: u64,
    pub(super) reserved: u64,
    /// Calls that run.
    pub(super) running: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    /// Calls that run may leave some of what they have reserved.
    Wait,
    /// Nothing is left.
    Refuse,
}

/// Whether a call may begin. `behind` says that others wait for the same cap and came first.
///
/// While money is left a call is never refused, and one call at a time may go over: what it costs is only known later.
pub(super) const fn decide(standing: Standing, cap: u64, estimate: u64, behind: bool) -> Verdict {
    if standing.spent >= cap {
        return Verdict::Refuse;
    }
    let with_it = standing.spent.saturating_add(standing.reserved).saturating_add(estimate);
    if !behind && (standing.running == 0 || with_it <= cap) { Verdict::Pass } else { Verdict::Wait }
}

/// Which of [`TOLD_AT`] are reached, a bit each.
pub(super) fn reached(spent: u64, cap: u64) -> u8 {
    let mut bits = 0;
    for (bit, percent) in TOLD_AT.into_iter().enumerate() {
        let there = cap > 0 && u128::from(spent) * 100 >= u128::from(cap) * u128::from(percent);
        bits |= u8::from(there) << bit;
    }
    bits
}

/// A cap of one purse, as calls have last asked for it.
#[derive(Debug)]
pub(super) struct Limit {
    pub(super) id: Arc<str>,
    pub(super) purse: u32,
    pub(super) period: Period,
    pub(super) pico: u64,
    pub(super) enforce: bool,
    /// Some call asked for it, and nobody lifted it since.
    pub(super) set: bool,
    /// The window that the following numbers are of.
    pub(super) start: i32,
    pub(super) reserved: u64,
    pub(super) at_most: u64,
    pub(super) running: u32,
    /// Bits of what was told in a window.
    pub(super) told: Two<u8>,
    /// Who waits, by number; the first came first.
    pub(super) queue: VecDeque<u64>,
}

impl Limit {
    pub(super) fn new(cap: &Cap, purse: u32) -> Self {
        Self {
            id: Arc::clone(&cap.id),
            purse,
            period: cap.period,
            pico: cap.pico,
            enforce: cap.enforce,
            set: true,
            start: i32::MIN,
            reserved: 0,
            at_most: 0,
            running: 0,
            told: Two::default(),
            queue: VecDeque::new(),
        }
    }

    pub(super) fn add(&mut self, pico: u64, at_most: u64) {
        self.reserved = self.reserved.saturating_add(pico);
        self.at_most = self.at_most.saturating_add(at_most);
        self.running += 1;
    }

    pub(super) fn take(&mut self, pico: u64, at_most: u64) {
        self.reserved = self.reserved.saturating_sub(pico);
        self.at_most = self.at_most.saturating_sub(at_most);
        self.running = self.running.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_may_go_over_and_none_is_refused_while_money_is_left() {
        use Verdict::{Pass, Refuse, Wait};
        // spent, reserved, running, estimate, behind
        let cases = [
            (0, 0, 0, 30, false, Pass),
            (0, 0, 0, 200, false, Pass),
            (0, 60, 2, 30, false, Pass),
            (0, 60, 2, 40, false, Pass),
            (0, 60, 2, 41, false, Wait),
            (0, 60, 2, 40, true, Wait),
            (99, 0, 0, 30, false, Pass),
            (99, 0, 1, 30, false, Wait),
            (99, 0, 0, 30, true, Wait),
            (100, 0, 0, 0, false, Refuse),
            (100, 50, 3, 0, true, Refuse),
            (u64::MAX, u64::MAX, 1, u64::MAX, false, Refuse),
            (50, u64::MAX, 1, u64::MAX, false, Wait),
        ];
        for (spent, reserved, running, estimate, behind, expect) in cases {
            let standing = Standing { spent, reserved, running };
            assert_eq!(decide(standing, 100, estimate, behind), expect, "{standing:?} {estimate} {behind}");
        }
        assert_eq!(decide(Standing::default(), 0, 0, false), Refuse);
    }

    #[test]
    fn percentages_are_reached_exactly() {
        for (spent, expect) in [(49, 0), (50, 1), (79, 1), (80, 3), (90, 7), (99, 7), (100, 15), (u64::MAX, 15)] {
            assert_eq!(reached(spent, 100), expect, "{spent}");
        }
        assert_eq!(reached(5, 0), 0);
        assert_eq!(reached(u64::MAX, u64::MAX), 15);
    }
}
