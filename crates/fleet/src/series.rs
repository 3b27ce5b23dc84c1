//! One agent's curve over time for charts: few points, whatever its age.

use paramedic_model::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

/// Points kept; when they are used up, each second one goes.
const POINTS_MAX: usize = 120;

/// One agent at one time. All but `context_tokens` are sums since its start.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Point {
    pub at: Timestamp,
    /// Size of the conversation at that time.
    pub context_tokens: u64,
    /// What is known of the cost so far, in US dollars.
    pub cost_usd: f64,
    pub calls: u32,
    /// Failed model calls and tool calls.
    pub errors: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) at_s: u32,
    pub(crate) context: u32,
    pub(crate) calls: u32,
    pub(crate) errors: u32,
    /// Picodollars.
    pub(crate) cost: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Series {
    /// Seconds that share a point.
    pub(crate) width_s: u32,
    pub(crate) samples: Vec<Sample>,
}

impl Series {
    pub(crate) fn push(&mut self, mut sample: Sample) {
        self.width_s = self.width_s.max(1);
        let Some(last) = self.samples.last_mut() else { return self.samples.push(sample) };
        // A late fact changes the sums from now on, not the past.
        sample.at_s = sample.at_s.max(last.at_s);
        if sample.at_s / self.width_s == last.at_s / self.width_s {
            *last = sample;
            return;
        }
        while self.samples.len() >= POINTS_MAX {
            self.halve();
        }
        self.samples.push(sample);
    }

    /// Doubles the width and keeps the last sample of each.
    fn halve(&mut self) {
        self.width_s = self.width_s.saturating_mul(2);
        let width_s = self.width_s;
        let mut kept = 0;
        for i in 0..self.samples.len() {
            let sample = self.samples[i];
            if kept > 0 && self.samples[kept - 1].at_s / width_s == sample.at_s / width_s {
                self.samples[kept - 1] = sample;
            } else {
                self.samples[kept] = sample;
                kept += 1;
            }
        }
        self.samples.truncate(kept);
    }

    #[expect(clippy::cast_precision_loss, reason = "for showing")]
    pub(crate) fn points(&self) -> impl Iterator<Item = Point> {
        self.samples.iter().map(|sample| Point {
            at: Timestamp::from_secs(i64::from(sample.at_s)),
            context_tokens: u64::from(sample.context),
            cost_usd: sample.cost as f64 / 1e12,
            calls: sample.calls,
            errors: sample.errors,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_life_has_few_points_and_keeps_its_ends() {
        let mut series = Series::default();
        for i in 0..100_000u32 {
            series.push(Sample { at_s: 1_000_000 + i * 7, context: i, calls: i + 1, errors: 0, cost: u64::from(i) });
            assert!(series.samples.len() <= POINTS_MAX);
        }
        assert!(series.samples.len() >= POINTS_MAX / 3);
        assert_eq!(series.samples.last().unwrap().calls, 100_000);
        assert!(series.samples.windows(2).all(|pair| pair[0].at_s < pair[1].at_s && pair[0].calls < pair[1].calls));
        assert!(series.samples[0].at_s < 1_000_000 + 8_192);
    }

    #[test]
    fn far_apart_samples_do_not_hang_it() {
        let mut series = Series::default();
        for i in 0..1_000u32 {
            series.push(Sample { at_s: i.wrapping_mul(40_000_003), context: 0, calls: i, errors: 0, cost: 0 });
        }
        assert!(series.samples.len() <= POINTS_MAX);
    }
}
