//! One token bucket: refilled continuously, emptied by calls, in debt when calls cost more than was thought.

use std::time::Duration;

use tokio::time::Instant;

/// A timer may be so late. What would have been refilled in that time is kept, so that lateness costs nobody his rate.
const LATE_S: f64 = 0.05;
/// Sums of fractions are not exact; a call is not sent to sleep for a millionth of a token.
const NEARLY: f64 = 1e-6;
const A_LITTLE: Duration = Duration::from_micros(1);
const MINUTE_S: f64 = 60.0;
/// Nobody waits longer for a bucket, however deep its debt is.
const WAIT_S_MAX: f64 = 86_400.0;

#[derive(Debug)]
pub(super) struct Bucket {
    /// How many a minute; none: no limit at all.
    count: Option<u64>,
    level: f64,
    at: Instant,
    burst_s: f64,
    /// A shared store said that nothing goes on before this.
    closed_until: Option<Instant>,
}

impl Bucket {
    /// It begins full. A full bucket holds what is refilled in `burst`, and at least one: a minute of constant demand
    /// gets that much more than the limit, which is why a burst is short.
    pub(super) fn new(count: u64, burst: Duration, now: Instant) -> Self {
        let mut bucket = Self { count: Some(count.max(1)), level: 0.0, at: now, burst_s: burst.as_secs_f64(), closed_until: None };
        bucket.level = bucket.burst();
        bucket
    }

    fn rate(&self) -> Option<f64> {
        self.count.map(|count| count as f64 / MINUTE_S)
    }

    fn burst(&self) -> f64 {
        self.rate().map_or(f64::INFINITY, |rate| (rate * self.burst_s).max(1.0))
    }

    fn refill(&mut self, now: Instant) {
        let Some(rate) = self.rate() else { return };
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.level = (self.level + passed * rate).min(self.burst().max(1.0) + rate * LATE_S);
    }

    /// Another limit from now on. What is there stays, as far as it fits, and so does a debt: going to and fro gives nothing.
    pub(super) fn set_count(&mut self, count: Option<u64>, now: Instant) {
        let count = count.map(|count| count.max(1));
        if self.count == count {
            return;
        }
        self.refill(now);
        self.at = now;
        self.count = count;
        if count.is_some() {
            self.level = self.level.min(self.burst());
        }
    }

    pub(super) fn count(&self) -> Option<u64> {
        self.count
    }

    /// Fails with the time at which a call of this cost may go on. A call that costs more than a full bucket goes on when
    /// the bucket is full, and leaves a debt: the rate is kept over time, and no call is too large to ever go on.
    pub(super) fn check(&mut self, cost: f64, now: Instant) -> Result<(), Instant> {
        let Some(rate) = self.rate() else { return Ok(()) };
        self.refill(now);
        if let Some(until) = self.closed_until {
            if now < until {
                return Err(until);
            }
            self.closed_until = None;
        }
        let missing = cost.min(self.burst()) - self.level;
        if missing <= NEARLY {
            return Ok(());
        }
        // A little later than computed: a time that is rounded down to now would be waited for without end.
        Err(now + Duration::from_secs_f64((missing / rate).min(WAIT_S_MAX)) + A_LITTLE)
    }

    /// Takes out `cost`; less than zero gives back, to what fits at most.
    pub(super) fn take(&mut self, cost: f64, now: Instant) {
        if self.count.is_some() {
            self.refill(now);
            self.level = (self.level - cost).min(self.burst());
        }
    }

    pub(super) fn close_until(&mut self, until: Instant) {
        self.closed_until = Some(self.closed_until.map_or(until, |before| before.max(until)));
    }

    /// How long it takes until calls of `ahead` and then one of `cost` were let in.
    pub(super) fn wait(&mut self, ahead: f64, cost: f64, now: Instant) -> Duration {
        let Some(rate) = self.rate() else { return Duration::ZERO };
        self.refill(now);
        let closed = self.closed_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        let missing = (ahead + cost.min(self.burst()) - self.level).max(0.0);
        closed.max(Duration::from_secs_f64((missing / rate).min(WAIT_S_MAX)))
    }

    /// What there is; below zero it is a debt.
    pub(super) fn level(&mut self, now: Instant) -> f64 {
        self.refill(now);
        self.level.min(self.burst())
    }

    /// Nothing is lost when this bucket is forgotten: a new one is as full.
    pub(super) fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.level >= self.burst() && self.closed_until.is_none_or(|until| until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn second(count: u64, now: Instant) -> Bucket {
        Bucket::new(count, secs(1.0), now)
    }

    #[test]
    fn it_refills_all_the_time_and_holds_one_burst() {
        let start = Instant::now();
        for (count, burst) in [(60, 1.0), (600, 10.0), (6, 1.0), (1, 1.0)] {
            let mut bucket = second(count, start);
            assert_eq!(bucket.level(start), burst, "{count}");
            for _ in 0..burst as u64 {
                assert_eq!(bucket.check(1.0, start), Ok(()));
                bucket.take(1.0, start);
            }
            let next = bucket.check(1.0, start).unwrap_err();
            let apart = secs(60.0 / count as f64);
            assert!(next - start <= apart + secs(3e-6) && next - start + secs(1e-6) >= apart, "{count}: {:?}", next - start);
            assert!(bucket.check(1.0, start + apart / 2).is_err());
            assert_eq!(bucket.check(1.0, next), Ok(()));
            assert_eq!(bucket.level(start + secs(3_600.0)), burst, "no more than a burst after an hour");
            assert!(bucket.is_full(start + secs(3_600.0)));
        }
    }

    #[test]
    fn a_call_larger_than_the_bucket_leaves_a_debt() {
        let start = Instant::now();
        let mut bucket = second(6_000, start);
        assert_eq!(bucket.check(1_000.0, start), Ok(()));
        bucket.take(1_000.0, start);
        assert_eq!(bucket.level(start), -900.0);
        let next = bucket.check(1_000.0, start).unwrap_err();
        assert!((next - start).as_secs_f64() - 10.0 < 1e-3, "the debt and a full bucket: {:?}", next - start);
        bucket.take(-950.0, start);
        assert_eq!(bucket.level(start), 50.0, "less was used than was thought");
        bucket.take(-1e9, start);
        assert_eq!(bucket.level(start), 100.0, "never more than a burst");
    }

    #[test]
    fn another_count_holds_at_once_and_gives_nothing() {
        let start = Instant::now();
        let mut bucket = second(6_000, start);
        bucket.take(100.0, start);
        for _ in 0..1_000 {
            bucket.set_count(Some(60), start);
            bucket.set_count(None, start);
            bucket.set_count(Some(6_000_000), start);
            bucket.set_count(Some(6_000), start);
        }
        assert!(bucket.level(start) <= 0.0, "to and fro a thousand times: {}", bucket.level(start));
        bucket.set_count(Some(60), start);
        let next = bucket.check(1.0, start).unwrap_err();
        assert!((next - start).as_secs_f64() > 0.99);
        bucket.set_count(Some(6_000), start);
        assert!((bucket.check(1.0, start).unwrap_err() - start).as_secs_f64() < 0.011);
        bucket.set_count(None, start);
        assert_eq!(bucket.check(1e12, start), Ok(()));
    }

    /// However fast it refills, and however little is missing: who waits for it gets on.
    #[test]
    fn the_time_that_is_said_is_never_now() {
        let mut now = Instant::now();
        for count in [6_000, 2_000_000, 1_000_000_000] {
            let mut bucket = second(count, now);
            for step in 0..10_000_u32 {
                let cost = f64::from(step % 97) * 1_000.1;
                if let Err(until) = bucket.check(cost, now) {
                    assert!(until > now, "{count} {step}");
                    now = until;
                    assert!(bucket.check(cost, now).is_ok(), "{count} {step}");
                }
                bucket.take(cost, now);
            }
        }
    }

    #[test]
    fn what_a_wait_takes_is_known() {
        let start = Instant::now();
        let mut bucket = second(60, start);
        assert_eq!(bucket.wait(0.0, 1.0, start), Duration::ZERO);
        assert_eq!(bucket.wait(5.0, 1.0, start), secs(5.0));
        bucket.close_until(start + secs(9.0));
        assert_eq!(bucket.wait(5.0, 1.0, start), secs(9.0));
        assert_eq!(bucket.check(1.0, start), Err(start + secs(9.0)));
        assert_eq!(bucket.check(1.0, start + secs(9.0)), Ok(()));
    }
}
