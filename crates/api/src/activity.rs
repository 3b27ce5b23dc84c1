//! Model calls of the last hours, minute by minute: what the "now" page draws. Bounded, and fed by the server.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use paramedic_model::{Event, Fact, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Minutes that are remembered.
pub const MINUTES_MAX: usize = 180;

/// One minute of the whole fleet.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Minute {
    /// When the minute began.
    pub at: Timestamp,
    /// Model calls that were answered.
    pub calls: u64,
    /// Model calls that failed and were tried again.
    pub retries: u64,
    /// Model calls that failed for good.
    pub failures: u64,
    /// Sum and number of the durations that sources told, for the mean latency.
    pub duration_ms: u64,
    pub timed_calls: u64,
}

impl Minute {
    /// Failed tries of all tries, 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    pub fn error_rate(&self) -> Option<f64> {
        let failed = self.retries + self.failures;
        let tries = failed + self.calls;
        (tries > 0).then(|| failed as f64 / tries as f64)
    }

    /// Mean duration of an answered call, in milliseconds.
    #[must_use]
    pub fn latency_ms(&self) -> Option<u64> {
        self.duration_ms.checked_div(self.timed_calls)
    }
}

/// The last [`MINUTES_MAX`] minutes in which something happened.
#[derive(Debug, Default)]
pub struct Activity {
    minutes: Mutex<VecDeque<Minute>>,
}

impl Activity {
    /// Counts an event that the fleet called new. Events older than the window are left out.
    pub fn observe(&self, event: &Event) {
        let (calls, retries, failures, duration) = match &event.fact {
            Fact::ModelCall { duration, .. } => (1, 0, 0, *duration),
            Fact::ModelRetry { .. } => (0, 1, 0, None),
            Fact::ModelError { .. } => (0, 0, 1, None),
            _ => return,
        };
        let at = Timestamp::from_secs(event.at.as_secs().div_euclid(60) * 60);
        let mut minutes = self.minutes.lock().unwrap_or_else(PoisonError::into_inner);
        let position = minutes.iter().rposition(|minute| minute.at <= at).map_or(0, |index| index + 1);
        let known = position.checked_sub(1).filter(|index| minutes[*index].at == at);
        let index = match known {
            Some(index) => index,
            None if position == 0 && minutes.len() >= MINUTES_MAX => return,
            None => {
                minutes.insert(position, Minute { at, ..Minute::default() });
                if minutes.len() > MINUTES_MAX {
                    minutes.pop_front();
                    position - 1
                } else {
                    position
                }
            }
        };
        let minute = &mut minutes[index];
        minute.calls += calls;
        minute.retries += retries;
        minute.failures += failures;
        if let Some(duration) = duration {
            minute.duration_ms += u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2);
            minute.timed_calls += 1;
        }
    }

    /// Every minute of the last `window` up to `now`, oldest first; quiet minutes are zero.
    #[must_use]
    pub fn last(&self, now: Timestamp, window: Duration) -> Vec<Minute> {
        let end = now.as_secs().div_euclid(60);
        let count = i64::try_from(window.as_secs() / 60).unwrap_or(0).clamp(1, i64::try_from(MINUTES_MAX).unwrap_or(i64::MAX));
        let minutes = self.minutes.lock().unwrap_or_else(PoisonError::into_inner);
        (end - count + 1..=end)
            .map(|number| {
                let at = Timestamp::from_secs(number * 60);
                minutes.iter().rfind(|minute| minute.at == at).copied().unwrap_or(Minute { at, ..Minute::default() })
            })
            .collect()
    }
}
