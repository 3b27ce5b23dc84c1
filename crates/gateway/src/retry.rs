//! Whether a call that failed is tried again, and when: a decision, and the budget that all calls share.
//!
//! A call is repeated only where the upstream has not answered it, and never after the first byte of an answer was passed
//! on. All retries together are a small share of all calls: an upstream that fails is not asked several times as much.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Doubling beyond it makes no difference.
const DOUBLINGS_MAX: u32 = 20;

/// How calls are tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The longest wait before the second try, in milliseconds; it doubles with each. Default 500.
    pub back_off_ms: u64,
    /// The longest wait before any try, in milliseconds. Default 8000.
    pub back_off_max_ms: u64,
    /// A `retry-after` of so many seconds at most is waited for here; of a longer one the client is told. Default 20.
    pub retry_after_max_s: u64,
    /// No further try begins so many seconds after the call came. Default 60.
    pub elapsed_max_s: u64,
    /// A 500 is tried again too. The upstream may have done its work, and charged it. Default false.
    pub on_500: bool,
    /// A connection that ended before an answer began is tried again too. The upstream may have done its work, and charged
    /// it. Default false.
    pub on_reset: bool,
    /// Retries of all calls together, as a share of calls, 0 to 1. Default 0.1.
    pub budget_share: f64,
    /// So many retries a second are allowed however few calls there are. Default 1.
    pub budget_per_s: f64,
    /// Retries that may be saved up. Default 10.
    pub budget_max: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            back_off_ms: 500,
            back_off_max_ms: 8_000,
            retry_after_max_s: 20,
            elapsed_max_s: 60,
            on_500: false,
            on_reset: false,
            budget_share: 0.1,
            budget_per_s: 1.0,
            budget_max: 10.0,
        }
    }
}

/// How a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// There was no connection: nothing was sent.
    Connect,
    /// The connection ended after something was sent, before an answer began.
    Reset,
    /// The answer's status; none of its body was passed on.
    Status(u16),
    /// Some of an answer was passed on.
    AnswerBegun,
}

/// One try that failed.
#[derive(Debug, Clone, Copy)]
pub struct Tried {
    /// 1 for the first.
    pub attempt: u32,
    /// How many tries there are in all.
    pub attempts: u32,
    pub failure: Failure,
    /// What the upstream asked for.
    pub retry_after: Option<Duration>,
    /// Since the call came.
    pub elapsed: Duration,
    /// By chance, 0 to 1: those that failed together must not come back together.
    pub chance: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Again { after: Duration },
    Stop { why: Stop },
}

/// Why a call is not tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// Some of an answer was passed on.
    AnswerBegun,
    /// Trying again would not help, or might do the same work twice.
    NotSafe,
    /// It was tried as often as it may be.
    Attempts,
    /// The upstream wants a longer wait than is waited for here.
    RetryAfter,
    /// The call is too old by then.
    Elapsed,
    /// There were too many retries of late.
    Budget,
}

/// What is to be done after a try failed. Takes from the budget only when it is tried again.
pub fn decide(tried: &Tried, settings: &Settings, budget: &RetryBudget, now: Instant) -> Decision {
    match wait(tried, settings) {
        Err(why) => Decision::Stop { why },
        Ok(_) if !budget.take(now) => Decision::Stop { why: Stop::Budget },
        Ok(after) => Decision::Again { after },
    }
}

fn wait(tried: &Tried, settings: &Settings) -> Result<Duration, Stop> {
    let is_safe = match tried.failure {
        Failure::AnswerBegun => return Err(Stop::AnswerBegun),
        Failure::Connect | Failure::Status(429 | 503 | 529) => true,
        Failure::Reset => settings.on_reset,
        Failure::Status(500) => settings.on_500,
        Failure::Status(_) => false,
    };
    if !is_safe {
        return Err(Stop::NotSafe);
    }
    if tried.attempt >= tried.attempts {
        return Err(Stop::Attempts);
    }
    let after = match tried.retry_after {
        Some(wait) if wait > Duration::from_secs(settings.retry_after_max_s) => return Err(Stop::RetryAfter),
        // A little later than asked for, and not all at once.
        Some(wait) => wait.saturating_add(Duration::from_millis(settings.back_off_ms).mul_f64(tried.chance.clamp(0.0, 1.0))),
        None => back_off(tried.attempt, settings).mul_f64(tried.chance.clamp(0.0, 1.0)),
    };
    if tried.elapsed.saturating_add(after) > Duration::from_secs(settings.elapsed_max_s) { Err(Stop::Elapsed) } else { Ok(after) }
}

/// The longest wait before the try after this one.
fn back_off(attempt: u32, settings: &Settings) -> Duration {
    let doubled = settings.back_off_ms.saturating_mul(1 << attempt.saturating_sub(1).min(DOUBLINGS_MAX));
    Duration::from_millis(doubled.min(settings.back_off_max_ms))
}

/// How many retries all calls together may still make.
#[derive(Debug)]
pub struct RetryBudget {
    share: f64,
    per_s: f64,
    max: f64,
    left: Mutex<(f64, Instant)>,
}

impl RetryBudget {
    #[must_use]
    pub fn new(settings: &Settings, now: Instant) -> Self {
        let max = settings.budget_max.max(1.0);
        Self { share: settings.budget_share.max(0.0), per_s: settings.budget_per_s.max(0.0), max, left: Mutex::new((max, now)) }
    }

    /// A call begins: its first try.
    pub fn call(&self, now: Instant) {
        self.change(now, self.share);
    }

    /// What is left, with what came since.
    #[must_use]
    pub fn left(&self, now: Instant) -> f64 {
        self.change(now, 0.0)
    }

    fn take(&self, now: Instant) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        self.refill(&mut left, now);
        if left.0 < 1.0 {
            return false;
        }
        left.0 -= 1.0;
        true
    }

    fn change(&self, now: Instant, by: f64) -> f64 {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        self.refill(&mut left, now);
        left.0 = (left.0 + by).min(self.max);
        left.0
    }

    fn refill(&self, left: &mut (f64, Instant), now: Instant) {
        let passed = now.saturating_duration_since(left.1).as_secs_f64();
        *left = ((left.0 + passed * self.per_s).min(self.max), left.1.max(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn what_is_tried_again() {
        use Failure::{AnswerBegun, Connect, Reset, Status};
        let plain = Settings::default();
        let bold = Settings { on_500: true, on_reset: true, ..Settings::default() };
        let again = |ms| Decision::Again { after: Duration::from_millis(ms) };
        let stop = |why| Decision::Stop { why };
        let cases = [
            (&plain, 1, Connect, None, 0, again(500)),
            (&plain, 2, Connect, None, 0, again(1_000)),
            (&plain, 3, Connect, None, 0, again(2_000)),
            (&plain, 9, Connect, None, 0, again(8_000)),
            (&plain, 10, Connect, None, 0, stop(Stop::Attempts)),
            (&plain, 4_000_000_000, Connect, None, 0, stop(Stop::Attempts)),
            (&plain, 1, Status(429), None, 0, again(500)),
            (&plain, 1, Status(529), None, 0, again(500)),
            (&plain, 1, Status(503), None, 0, again(500)),
            (&plain, 1, Status(429), secs(20), 0, again(20_500)),
            (&plain, 1, Status(429), secs(21), 0, stop(Stop::RetryAfter)),
            (&plain, 1, Status(429), Some(Duration::MAX), 0, stop(Stop::RetryAfter)),
            (&plain, 1, Status(429), secs(20), 40, stop(Stop::Elapsed)),
            (&plain, 1, Connect, None, u64::MAX, stop(Stop::Elapsed)),
            (&plain, 1, Status(500), None, 0, stop(Stop::NotSafe)),
            (&plain, 1, Reset, None, 0, stop(Stop::NotSafe)),
            (&bold, 1, Status(500), None, 0, again(500)),
            (&bold, 1, Reset, None, 0, again(500)),
            (&bold, 1, AnswerBegun, None, 0, stop(Stop::AnswerBegun)),
            (&bold, 1, Status(504), None, 0, stop(Stop::NotSafe)),
            (&bold, 1, Status(400), None, 0, stop(Stop::NotSafe)),
            (&bold, 1, Status(200), None, 0, stop(Stop::NotSafe)),
        ];
        let now = Instant::now();
        for (settings, attempt, failure, retry_after, elapsed, expect) in cases {
            let elapsed = Duration::from_secs(elapsed);
            let tried = Tried { attempt, attempts: 10, failure, retry_after, elapsed, chance: 1.0 };
            let decision = decide(&tried, settings, &RetryBudget::new(settings, now), now);
            assert_eq!(decision, expect, "{attempt} {failure:?} {retry_after:?} {elapsed:?}");
        }
        let tried = Tried { attempt: 3, attempts: 4, failure: Connect, retry_after: None, elapsed: Duration::ZERO, chance: 0.25 };
        assert_eq!(decide(&tried, &plain, &RetryBudget::new(&plain, now), now), again(500), "by chance, from nothing to all of it");
    }

    /// A thousand calls within ten seconds, all of which fail, each tried four times as far as it may be.
    #[test]
    fn retries_cannot_become_the_outage() {
        let settings = Settings::default();
        let start = Instant::now();
        let budget = RetryBudget::new(&settings, start);
        let (mut retries, mut refused) = (0, 0);
        for call in 0..1_000 {
            let now = start + Duration::from_millis(call * 10);
            budget.call(now);
            for attempt in 1..=4 {
                let tried =
                    Tried { attempt, attempts: 4, failure: Failure::Status(529), retry_after: None, elapsed: Duration::ZERO, chance: 0.5 };
                match decide(&tried, &settings, &budget, now) {
                    Decision::Again { .. } => retries += 1,
                    Decision::Stop { why } => {
                        refused += usize::from(why == Stop::Budget);
                        break;
                    }
                }
            }
        }
        assert!((110..=120).contains(&retries), "a tenth of the calls, ten saved up, one a second: {retries}");
        assert!(refused > 850, "{refused}");
        let later = start + Duration::from_secs(3_600);
        assert_eq!(budget.left(later), 10.0, "no more than that is saved up");
    }
}
