//! The provider's own limits, as its answers tell of them: calls slow down before it has to refuse one.

use std::time::Duration;

use tokio::time::Instant;

use super::{Load, What};

/// One limit of the provider, as the headers of an answer say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProviderLimit {
    /// Requests, input tokens, output tokens or tokens; others are not looked at.
    pub what: What,
    pub limit: u64,
    pub remaining: u64,
    /// When the whole limit is there again.
    pub resets_at: Instant,
}

const WHATS: [What; 4] = [What::Requests, What::InputTokens, What::OutputTokens, What::Tokens];

#[derive(Debug)]
struct Known {
    limit: f64,
    /// What the provider said, less what was admitted since.
    remaining: f64,
    resets_at: Instant,
    /// No call before this.
    next_at: Instant,
    last_at: Instant,
    last_cost: f64,
}

impl Known {
    /// Seconds for each one that remains, when so few remain that they are spread until the reset.
    fn seconds_each(&self, share: f64, now: Instant) -> Option<f64> {
        let is_low = self.remaining < self.limit * share;
        is_low.then(|| self.resets_at.saturating_duration_since(now).as_secs_f64() / self.remaining.max(1.0))
    }

    fn check(&self, cost: f64, share: f64, now: Instant) -> Result<(), Instant> {
        if now >= self.resets_at || self.remaining >= self.limit * share {
            return Ok(());
        }
        // A call that is larger than the limit is never right, so it need not wait until it is.
        if self.remaining < cost.min(self.limit) {
            return Err(self.resets_at);
        }
        if now < self.next_at { Err(self.next_at.min(self.resets_at)) } else { Ok(()) }
    }

    fn take(&mut self, cost: f64, share: f64, now: Instant) {
        let apart = self.seconds_each(share, now).unwrap_or(0.0) * cost;
        self.next_at = after(self.next_at.max(now), apart).min(self.resets_at);
        (self.last_at, self.last_cost) = (now, cost);
        self.remaining = (self.remaining - cost).max(0.0);
    }
}

fn after(at: Instant, seconds: f64) -> Instant {
    at + Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[derive(Debug)]
pub(super) struct Pace {
    known: [Option<Known>; WHATS.len()],
    held_until: Option<Instant>,
    /// Admitted, and the provider has not answered: what it says of itself need not count them.
    unanswered: Load,
    share: f64,
    hold_max: Duration,
}

impl Pace {
    pub(super) fn new(share: f64, hold_max: Duration) -> Self {
        Self { known: [const { None }; WHATS.len()], held_until: None, unanswered: Load::default(), share, hold_max }
    }

    pub(super) fn check(&self, load: &Load, now: Instant) -> Result<(), Instant> {
        let held = self.held_until.filter(|until| now < *until);
        let mut until = held;
        for (what, known) in WHATS.iter().zip(&self.known) {
            if let Some(Err(at)) = known.as_ref().map(|known| known.check(load.cost(*what), self.share, now)) {
                until = until.max(Some(at));
            }
        }
        until.map_or(Ok(()), Err)
    }

    pub(super) fn take(&mut self, load: &Load, now: Instant) {
        self.unanswered.add(load);
        for (what, known) in WHATS.iter().zip(&mut self.known) {
            match known {
                Some(one) if now < one.resets_at => one.take(load.cost(*what), self.share, now),
                Some(_) => *known = None,
                None => {}
            }
        }
    }

    /// The provider has answered this call: from now on, what it says of itself counts it.
    pub(super) fn answered(&mut self, load: &Load) {
        self.unanswered.subtract(load);
    }

    pub(super) fn says(&mut self, said: &ProviderLimit, now: Instant) {
        let Some(slot) = WHATS.iter().position(|what| *what == said.what) else { return };
        let resets_at = said.resets_at.min(now + self.hold_max);
        if resets_at <= now || said.limit == 0 {
            self.known[slot] = None;
            return;
        }
        let before = self.known[slot].as_ref();
        let (last_at, last_cost) = before.map_or((now, 0.0), |known| (known.last_at, known.last_cost));
        let remaining = (said.remaining as f64 - self.unanswered.cost(said.what)).max(0.0);
        let mut known = Known { limit: said.limit as f64, remaining, resets_at, next_at: now, last_at, last_cost };
        if let Some(each) = known.seconds_each(self.share, now) {
            known.next_at = after(last_at, each * last_cost).min(resets_at);
        }
        self.known[slot] = Some(known);
    }

    /// The provider refused a call, and said when to come again.
    pub(super) fn hold(&mut self, wait: Duration, now: Instant) {
        let until = now + wait.min(self.hold_max);
        self.held_until = Some(self.held_until.map_or(until, |before| before.max(until)));
    }

    /// The share of the scarcest limit that is left.
    pub(super) fn left(&self, now: Instant) -> Option<f64> {
        let known = self.known.iter().flatten().filter(|known| now < known.resets_at);
        known.map(|known| known.remaining / known.limit).min_by(f64::total_cmp)
    }

    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.held_until.is_none_or(|until| until <= now) && self.known.iter().flatten().all(|known| known.resets_at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(limit: u64, remaining: u64, resets_at: Instant) -> ProviderLimit {
        ProviderLimit { what: What::Requests, limit, remaining, resets_at }
    }

    #[test]
    fn what_remains_is_spread_once_it_is_little() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let call = Load { calls: 1, input: 0, output: 0 };
        let mut pace = Pace::new(0.2, Duration::from_secs(300));
        pace.says(&said(100, 21, at(60_000)), start);
        for _ in 0..2 {
            assert_eq!(pace.check(&call, start), Ok(()), "more than a fifth is left");
            pace.take(&call, start);
            pace.answered(&call);
        }
        // 19 are left for 60 seconds.
        pace.take(&call, start);
        pace.answered(&call);
        let next = pace.check(&call, start).unwrap_err();
        assert!((3_000..3_400).contains(&(next - start).as_millis()), "{:?}", next - start);
        let (mut now, mut calls) = (start, 0);
        while now < at(60_000) {
            match pace.check(&call, now) {
                Ok(()) => {
                    pace.take(&call, now);
                    pace.answered(&call);
                    calls += 1;
                }
                Err(until) => now = until,
            }
        }
        assert!((17..=18).contains(&calls), "{calls}");
        assert_eq!(pace.check(&call, at(60_000)), Ok(()), "the reset is over");
        pace.says(&said(100, 50, at(61_000)), at(60_500));
        assert_eq!(pace.check(&call, at(60_500)), Ok(()), "more is there than was thought");
    }

    #[test]
    fn calls_that_are_on_their_way_are_counted() {
        let start = Instant::now();
        let call = Load { calls: 1, input: 100, output: 10 };
        let mut pace = Pace::new(0.2, Duration::from_secs(300));
        for _ in 0..10 {
            pace.take(&call, start);
        }
        pace.says(&said(100, 10, start + Duration::from_secs(60)), start);
        assert_eq!(pace.left(start), Some(0.0), "ten are left, and ten are on their way");
        assert_eq!(pace.check(&call, start), Err(start + Duration::from_secs(60)));
        for _ in 0..20 {
            pace.answered(&call);
        }
        pace.says(&said(100, 10, start + Duration::from_secs(60)), start);
        assert_eq!(pace.left(start), Some(0.1));
    }

    #[test]
    fn a_refusal_holds_until_it_said_but_not_for_days() {
        let start = Instant::now();
        let call = Load { calls: 1, input: 0, output: 0 };
        let mut pace = Pace::new(0.2, Duration::from_secs(300));
        pace.hold(Duration::from_secs(7), start);
        pace.hold(Duration::from_secs(3), start);
        assert_eq!(pace.check(&call, start), Err(start + Duration::from_secs(7)));
        assert_eq!(pace.check(&call, start + Duration::from_secs(7)), Ok(()));
        pace.hold(Duration::from_secs(1_000_000), start);
        assert_eq!(pace.check(&call, start), Err(start + Duration::from_secs(300)));
        pace.says(&said(0, 0, start + Duration::from_secs(9)), start);
        pace.says(&said(5, 0, start), start);
        assert_eq!(pace.left(start), None, "what makes no sense is not kept");
    }
}
