//! How many calls at the same time an upstream bears: halved when it says that it is too many, one more while all goes well.

use tokio::time::Instant;

use super::Answer;

#[derive(Debug)]
pub(super) struct Adaptive {
    limit: u64,
    max: u64,
    /// Calls that were admitted and are not over.
    pub(super) open: u64,
    /// Calls that went well since the limit grew or was halved.
    well: u64,
    halved_at: Option<Instant>,
}

impl Adaptive {
    /// Without a limit that is felt until the upstream complains for the first time.
    pub(super) fn new(max: u64) -> Self {
        Self { limit: max.max(1), max: max.max(1), open: 0, well: 0, halved_at: None }
    }

    pub(super) fn has_room(&self) -> bool {
        self.open < self.limit
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Nothing is lost when it is forgotten.
    pub(super) fn is_fresh(&self) -> bool {
        self.open == 0 && self.limit == self.max
    }

    /// What became of a call that was admitted at `admitted_at`. Only calls that were sent after the limit was halved say
    /// something about the new limit: the others were on their way already, so it is halved once in a round trip.
    pub(super) fn outcome(&mut self, answer: Answer, admitted_at: Instant, now: Instant) {
        if self.halved_at.is_some_and(|at| admitted_at < at) {
            return;
        }
        match answer {
            Answer::Limited { .. } | Answer::Overloaded => {
                // A limit that nobody came near to would have to be halved many times until it is felt.
                self.limit = (self.limit.min(self.open.max(1)) / 2).max(1);
                self.well = 0;
                self.halved_at = Some(now);
            }
            Answer::Ok => {
                self.well += 1;
                if self.well >= self.limit && self.limit < self.max {
                    self.limit += 1;
                    self.well = 0;
                }
            }
            Answer::Failed => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITED: Answer = Answer::Limited { retry_after: None };

    #[test]
    fn it_halves_once_in_a_round_trip_and_grows_by_one_in_a_window() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut adaptive = Adaptive::new(1_000);
        adaptive.open = 64;
        for ms in 100..164 {
            adaptive.outcome(LIMITED, at(0), at(ms));
        }
        assert_eq!(adaptive.limit(), 32, "64 refusals of one round trip halve once");
        adaptive.open = 32;
        adaptive.outcome(Answer::Overloaded, at(200), at(300));
        assert_eq!(adaptive.limit(), 16);
        for ms in 0..15 {
            adaptive.outcome(Answer::Ok, at(301), at(310 + ms));
        }
        adaptive.outcome(Answer::Failed, at(301), at(330));
        adaptive.outcome(Answer::Ok, at(250), at(330));
        assert_eq!(adaptive.limit(), 16, "neither a failure nor an old call counts");
        adaptive.outcome(Answer::Ok, at(301), at(330));
        assert_eq!(adaptive.limit(), 17);
        for step in 1..20 {
            adaptive.outcome(LIMITED, at(1_000 * step), at(1_000 * step));
        }
        assert_eq!(adaptive.limit(), 1, "one call is always let in");
        adaptive.open = 0;
        assert!(adaptive.has_room());
        for _ in 0..2_000_000 {
            adaptive.outcome(Answer::Ok, at(100_000), at(100_000));
        }
        assert_eq!(adaptive.limit(), 1_000, "not beyond its maximum");
    }
}
