//! The meter's state as bytes, for a checkpoint: counters go on after a restart where they stood.

use std::collections::HashMap;

use paramedic_model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::alerts::ActiveAlerts;
use crate::calls::Calls;
use crate::catalogue::{CATALOGUE, Kind};
use crate::config::Settings;
use crate::course::Course;
use crate::days::Days;
use crate::error::MeterError;
use crate::ledger::{Data, Series, lock};
use crate::meter::Meter;
use crate::names::Names;

/// The format that is written. A fixture is kept for each that can be read.
pub(crate) const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Document {
    format: u32,
    saved_at: Timestamp,
    families: HashMap<String, Vec<SavedSeries>>,
    names: Names,
    courses: HashMap<Box<str>, Course>,
    calls: Calls,
    days: Days,
    alerts: ActiveAlerts,
    sums: HashMap<Box<str>, f64>,
}

/// Numbers are kept as their bits: a counter that came back the least bit smaller would look like one that began anew.
#[derive(Serialize, Deserialize)]
struct SavedSeries {
    #[serde(rename = "k")]
    key: Box<str>,
    #[serde(rename = "n")]
    bits: u64,
    /// Of a histogram, whose sum is in `bits`.
    #[serde(rename = "b", skip_serializing_if = "Option::is_none", default)]
    counts: Option<Box<[u64]>>,
    #[serde(rename = "t")]
    touched_ms: i64,
    #[serde(rename = "i")]
    introduced: bool,
}

#[derive(Deserialize)]
struct Head {
    format: u32,
}

impl Meter {
    /// Everything the meter knows, as JSON. To be kept together with the number of the last event that it took.
    pub fn save(&self, now: Timestamp) -> Result<Vec<u8>, MeterError> {
        let ledger = lock(&self.ledger);
        let families = CATALOGUE.iter().zip(&ledger.families).filter(|(_, family)| !family.is_empty()).map(|(described, family)| {
            let series = family.iter().map(|(key, series)| SavedSeries::of(key, series)).collect();
            (described.name.to_owned(), series)
        });
        let document = Document {
            format: FORMAT,
            saved_at: now,
            families: families.collect(),
            names: self.names.clone(),
            courses: self.courses.clone(),
            calls: self.calls.clone(),
            days: self.days.clone(),
            alerts: self.alerts.clone(),
            sums: self.sums.clone(),
        };
        Ok(serde_json::to_vec(&document)?)
    }

    /// Goes on where [`Self::save`] stopped. Series of metrics that this version has no more, or with other buckets, are left out.
    pub fn load(bytes: &[u8], settings: Settings) -> Result<Self, MeterError> {
        let Head { format } = serde_json::from_slice(bytes)?;
        if format != FORMAT {
            return Err(MeterError::Format(format));
        }
        let mut document: Document = serde_json::from_slice(bytes)?;
        let mut meter = Self::new(Settings::default());
        {
            let mut ledger = lock(&meter.ledger);
            for (described, family) in CATALOGUE.iter().zip(&mut ledger.families) {
                for saved in document.families.remove(described.name).unwrap_or_default() {
                    let mut series = Series::new(described, &saved.key);
                    if saved.restore(described.kind, &mut series) {
                        family.insert(saved.key, series);
                    }
                }
            }
        }
        meter.names = document.names;
        meter.courses = document.courses;
        meter.calls = document.calls;
        meter.calls.repair();
        meter.days = document.days;
        meter.alerts = document.alerts;
        meter.sums = document.sums;
        meter.resumed_at = Some(document.saved_at);
        meter.set_settings(settings);
        Ok(meter)
    }
}

impl SavedSeries {
    fn of(key: &str, series: &Series) -> Self {
        let (number, counts) = match &series.data {
            Data::Number(number) => (*number, None),
            Data::Histogram { counts, sum } => (*sum, Some(counts.clone())),
        };
        let (bits, introduced) = (number.to_bits(), series.introduced.get());
        Self { key: key.into(), bits, counts, touched_ms: series.touched_ms, introduced }
    }

    fn restore(&self, kind: Kind, series: &mut Series) -> bool {
        let number = f64::from_bits(self.bits);
        series.data = match (kind, &self.counts) {
            (Kind::Counter | Kind::Gauge, None) => Data::Number(number),
            (Kind::Histogram(bounds), Some(counts)) if counts.len() == bounds.len() + 1 => {
                Data::Histogram { counts: counts.clone(), sum: number }
            }
            _ => return false,
        };
        series.touched_ms = self.touched_ms;
        series.introduced.set(self.introduced);
        true
    }
}
