//! The agent spends money faster than anybody would expect.

use std::collections::VecDeque;

use paramedic_model::{AlertChange, Fact, IncidentType, Severity, Timestamp};
use serde::{Deserialize, Serialize};

use crate::alert::Alert;
use crate::catalogue::{Detector, DetectorInfo, Moment};
use crate::course::micros;
use crate::say;

/// The rolling hour is kept in slices of five minutes.
const SLICES: usize = 12;
const SLICE_S: i64 = 300;
/// Completed hours with spending from which the agent's median is taken, and how many there must be.
const HOURS_KEPT: usize = 24;
const HOURS_MIN: usize = 6;

/// Money is counted in millionths of a dollar, so that sums are exact.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SpendRate {
    alert: Alert,
    slices: [u64; SLICES],
    slice: i64,
    hour: i64,
    hour_spent: u64,
    hours: VecDeque<u64>,
    median: u64,
}

impl Detector for SpendRate {
    const INFO: DetectorInfo = DetectorInfo {
        name: "spend-rate",
        title: "Spending fast",
        what: "The agent spends money faster than agents do, or much faster than it usually does itself.",
        warns_at: "Notes $20 in an hour or 5 times the agent's median hour; SEV3 from $50, or from $20 when that is 5 times its median; ends when the last hour cost less than three quarters of the threshold.",
        incident_type: IncidentType::Performance,
    };

    #[inline]
    fn observe(&mut self, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        match &moment.event.fact {
            Fact::ModelCall { .. } if moment.step.spent > 0 => self.spent(moment.step.spent, moment, out),
            Fact::SessionEnded { .. } => self.alert.resolve(moment.told(), &Self::INFO, "the session ended", out),
            _ => {}
        }
    }

    fn alert(&mut self) -> &mut Alert {
        &mut self.alert
    }
}

impl SpendRate {
    fn spent(&mut self, spent: u64, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        self.advance(moment.at);
        self.slices[self.slice.rem_euclid(SLICES as i64) as usize] += spent;
        self.hour_spent = self.hour_spent.saturating_add(spent);
        let last_hour = self.slices.iter().copied().fold(0u64, u64::saturating_add);
        let settings = moment.settings;
        let (note, critical) = (micros(Some(settings.spend_note_usd_per_hour)), micros(Some(settings.spend_critical_usd_per_hour)));
        let usual = if self.hours.len() >= HOURS_MIN { (self.median as f64 * settings.spend_median_factor) as u64 } else { u64::MAX };
        let severe = last_hour >= critical || (last_hour >= note && last_hour >= usual);
        // Five times next to nothing is next to nothing.
        let unusual = last_hour >= usual && last_hour >= note / 4;
        if last_hour >= note || unusual {
            self.fast(last_hour, severe, unusual, moment, out);
        } else if self.alert.is_firing() && last_hour < note.min(usual) / 4 * 3 {
            self.alert.resolve(moment.told(), &Self::INFO, "it spends at its usual rate again", out);
        }
    }

    /// Empties the slices that time has passed over, and closes the hour.
    fn advance(&mut self, at: Timestamp) {
        let slice = at.as_secs().div_euclid(SLICE_S);
        if slice > self.slice {
            let passed = (slice - self.slice).min(SLICES as i64);
            for i in 0..passed {
                self.slices[(slice - i).rem_euclid(SLICES as i64) as usize] = 0;
            }
            self.slice = slice;
        }
        let hour = slice.div_euclid(SLICES as i64);
        if hour > self.hour {
            if self.hour_spent > 0 {
                if self.hours.len() == HOURS_KEPT {
                    self.hours.pop_front();
                }
                self.hours.push_back(self.hour_spent);
                let mut sorted: Vec<u64> = self.hours.iter().copied().collect();
                sorted.sort_unstable();
                self.median = sorted[sorted.len() / 2];
            }
            (self.hour, self.hour_spent) = (hour, 0);
        }
    }

    fn fast(&mut self, last_hour: u64, severe: bool, unusual: bool, moment: &Moment<'_>, out: &mut Vec<AlertChange>) {
        let active = self.alert.begin(moment.at, IncidentType::Performance, || format!("spend:{}", moment.who.agent));
        let worse = severe && active.severity.is_none();
        let dollars = last_hour / 1_000_000;
        let first = active.reason.is_empty();
        let grown = dollars >= active.counts.occurrences.saturating_mul(2);
        if first || worse || grown {
            // What was told last, in whole dollars: the next change comes at twice that.
            active.counts.occurrences = dollars.max(1);
            let compared = if unusual { format!(", its usual hour costs {}", say::usd(self.median)) } else { String::new() };
            let reason = format!("spent {} in the last hour{compared}", say::usd(last_hour));
            active.show(moment.at, &reason);
            self.alert.fire(moment.told(), &Self::INFO, severe.then_some(Severity::Sev3), reason, out);
        }
    }
}
