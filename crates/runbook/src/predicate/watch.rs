//! A condition over time: come true within a time, and stay so.

use std::time::Duration;

use paramedic_model::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Truth;

/// How often a condition is looked at, at the least and at the most.
const LOOK_EVERY_MIN: Duration = Duration::from_secs(1);
const LOOK_EVERY_MAX: Duration = Duration::from_secs(15);

/// Where the watching of one condition stands. Time that passed between two looks counts at most twice the time between
/// planned looks: a clock that is set forward, or a machine that slept, neither fulfils a hold nor uses up the time to wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Watch {
    within_ms: u64,
    hold_ms: u64,
    waited_ms: u64,
    held_ms: Option<u64>,
    last: Option<Timestamp>,
}

/// What a look says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "look", rename_all = "kebab-case")]
pub enum Look {
    /// Look again after this time.
    Again {
        ms: u64,
        why: String,
    },
    Met,
    Failed {
        why: String,
    },
}

impl Watch {
    #[must_use]
    pub fn new(within: Duration, hold: Duration) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self { within_ms: ms(within), hold_ms: ms(hold), waited_ms: 0, held_ms: None, last: None }
    }

    /// The time between two looks.
    #[must_use]
    pub fn every(&self) -> Duration {
        let shortest = [self.within_ms, self.hold_ms].into_iter().filter(|ms| *ms > 0).min().unwrap_or(0);
        Duration::from_millis(shortest / 10).clamp(LOOK_EVERY_MIN, LOOK_EVERY_MAX)
    }

    /// Takes one look at `now`.
    pub fn look(&mut self, now: Timestamp, truth: &Truth) -> Look {
        let every = u64::try_from(self.every().as_millis()).unwrap_or(u64::MAX);
        let passed = self.last.map_or(Duration::ZERO, |last| now.since(last));
        let passed = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).min(every.saturating_mul(2));
        self.last = Some(now);
        self.waited_ms = self.waited_ms.saturating_add(passed);
        if truth.holds() {
            let held = self.held_ms.map_or(0, |held| held.saturating_add(passed));
            self.held_ms = Some(held);
            if held >= self.hold_ms {
                return Look::Met;
            }
            return Look::Again {
                ms: every.min(self.hold_ms - held),
                why: format!("it holds since {} of {} s", held / 1000, self.hold_ms / 1000),
            };
        }
        self.held_ms = None;
        if self.waited_ms >= self.within_ms {
            let why = format!("{} after {} s", truth.why(), self.waited_ms / 1000);
            return Look::Failed { why };
        }
        Look::Again { ms: every.min((self.within_ms - self.waited_ms).max(1)), why: truth.why().to_owned() }
    }
}
