//! Who waits for money: each at one cap, the one that holds it back, in the order of coming.
//!
//! A call is in one queue only, so that somebody who waits for a cap of his own holds up nobody else. The first in a
//! queue is held back by calls that run, never by others that wait; so when these end, it is looked at again, and there is
//! no circle of calls that wait for each other.

use paramedic_model::Timestamp;
use tokio::sync::oneshot;

use super::cap::Verdict;
use super::state::{Judged, State, Wanted};
use super::{Over, Warning, Why, cap};

/// The place of a call that may begin, or why it may not.
pub(super) type Answer = Result<u32, Over>;

/// A call that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) wanted: Wanted,
    /// The cap whose queue it is in.
    pub(super) at: u32,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// What is said to others once the lock is free.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) answers: Vec<(oneshot::Sender<Answer>, Answer)>,
    pub(super) warnings: Vec<Warning>,
}

impl State {
    /// Puts a call into the queue of a cap.
    pub(super) fn enqueue(&mut self, wanted: Wanted, at: u32, answer: oneshot::Sender<Answer>) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.hold(&wanted, true);
        self.waiting.insert(ticket, Waiting { wanted, at, answer });
        self.queue_up(ticket, at);
        ticket
    }

    /// Whoever waits keeps his purses from being forgotten.
    fn hold(&mut self, wanted: &Wanted, held: bool) {
        for place in wanted.places.as_slice() {
            if let Some(purse) = self.table.purses.get_mut(*place) {
                purse.held_by = if held { purse.held_by + 1 } else { purse.held_by.saturating_sub(1) };
            }
        }
    }

    fn queue_up(&mut self, ticket: u64, at: u32) {
        if let Some(limit) = self.limits.get_mut(at) {
            let place = limit.queue.partition_point(|other| *other < ticket);
            limit.queue.insert(place, ticket);
        }
    }

    /// Takes a call out of its queue; those behind it may go on then, which is for the caller to see to.
    pub(super) fn leave(&mut self, ticket: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&ticket)?;
        if let Some(limit) = self.limits.get_mut(waiting.at)
            && let Ok(place) = limit.queue.binary_search(&ticket)
        {
            limit.queue.remove(place);
        }
        self.hold(&waiting.wanted, false);
        Some(waiting)
    }

    fn answer(&mut self, ticket: u64, now: Timestamp, refused_by: Option<u32>, out: &mut Outcome) {
        let Some(waiting) = self.leave(ticket) else { return };
        match refused_by.and_then(|at| self.over(at, Why::Spent)) {
            Some(over) => out.answers.push((waiting.answer, Err(over))),
            None => {
                let place = self.grant(&waiting.wanted, now);
                out.answers.push((waiting.answer, Ok(place)));
            }
        }
    }

    /// Lets those go on who need not wait at this cap any more, the first first.
    pub(super) fn wake(&mut self, at: u32, now: Timestamp, out: &mut Outcome) {
        self.roll(at);
        while let Some(ticket) = self.limits.get(at).and_then(|limit| limit.queue.front().copied()) {
            let Some(wanted) = self.waiting.get(&ticket).map(|waiting| waiting.wanted) else {
                // Nobody has this ticket: it holds up nobody.
                self.limits.get_mut(at).and_then(|limit| limit.queue.pop_front());
                continue;
            };
            match self.judge(&wanted.limits, wanted.estimate, ticket) {
                Judged::Pass => self.answer(ticket, now, None, out),
                Judged::Refuse(by) if !wanted.pause => self.answer(ticket, now, Some(by), out),
                Judged::Wait(by) | Judged::Refuse(by) if by == at => break,
                Judged::Wait(by) | Judged::Refuse(by) => self.move_on(ticket, at, by),
            }
        }
        self.refuse_the_rest(at, now, out);
    }

    fn move_on(&mut self, ticket: u64, from: u32, to: u32) {
        if let Some(limit) = self.limits.get_mut(from) {
            limit.queue.pop_front();
        }
        if let Some(waiting) = self.waiting.get_mut(&ticket) {
            waiting.at = to;
        }
        self.queue_up(ticket, to);
    }

    /// When the first pauses until the next window, those behind it who do not are told that nothing is left.
    fn refuse_the_rest(&mut self, at: u32, now: Timestamp, out: &mut Outcome) {
        let Some(limit) = self.limits.get(at).filter(|limit| !limit.queue.is_empty() && limit.enforce && limit.set) else { return };
        if cap::decide(self.standing(limit), limit.pico, 0, false) != Verdict::Refuse {
            return;
        }
        let impatient = |ticket: &&u64| self.waiting.get(*ticket).is_none_or(|waiting| !waiting.wanted.pause);
        let refused: Vec<u64> = limit.queue.iter().filter(impatient).copied().collect();
        for ticket in refused {
            self.answer(ticket, now, Some(at), out);
        }
    }
}
