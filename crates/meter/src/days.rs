//! What each day cost, exactly: whole picodollars by UTC day.

use std::collections::BTreeMap;

use paramedic_model::Timestamp;
use serde::{Deserialize, Serialize};

const DAY_S: i64 = 86_400;
/// Days kept: yesterday for calls that are told late, today, and tomorrow for clocks that run ahead.
const DAYS_KEPT: i64 = 3;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Days(BTreeMap<i64, u64>);

impl Days {
    pub(crate) fn add(&mut self, at: Timestamp, dollars: f64, now: Timestamp) {
        let (day, today) = (at.as_secs().div_euclid(DAY_S), now.as_secs().div_euclid(DAY_S));
        if (day - today).abs() >= DAYS_KEPT {
            return;
        }
        let sum = self.0.entry(day).or_default();
        *sum = sum.saturating_add((dollars * 1e12).round() as u64);
        self.0.retain(|day, _| (day - today).abs() < DAYS_KEPT);
    }

    pub(crate) fn dollars(&self, now: Timestamp) -> f64 {
        self.0.get(&now.as_secs().div_euclid(DAY_S)).map_or(0.0, |pico| *pico as f64 / 1e12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_thousand_small_calls_are_exact_and_the_day_ends_at_midnight() {
        let mut days = Days::default();
        let late = Timestamp::from_secs(10 * DAY_S - 1);
        for _ in 0..1_000_000 {
            days.add(late, 0.000_001, late);
        }
        assert_eq!(days.dollars(late), 1.0);
        let next = Timestamp::from_secs(10 * DAY_S);
        assert_eq!(days.dollars(next), 0.0);
        days.add(late, 5.0, next);
        assert_eq!(days.dollars(next), 0.0, "told late, but of the day before");
        days.add(Timestamp::from_secs(0), 5.0, next);
        assert_eq!(days.0.len(), 1);
    }
}
