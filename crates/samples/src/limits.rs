//! Which bounds bit, and for whom.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use paramedic_model::Timestamp;

use crate::config::Settings;
use crate::error::{Limit, LimitHit};

/// Metrics that are remembered by name; more are only counted.
const OFFENDERS_MAX: usize = 200;
/// Bytes of an offender's name that are kept.
const NAME_BYTES_MAX: usize = 200;

/// A metric that met a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offender {
    pub limit: Limit,
    pub metric: String,
    pub hits: u64,
    pub last_at: Timestamp,
}

#[derive(Debug, Default)]
pub(crate) struct Offenders(Mutex<HashMap<(Limit, String), (u64, Timestamp)>>);

impl Offenders {
    pub(crate) fn add(&self, hit: &LimitHit, now: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.len();
        match all.get_mut(&(hit.limit, hit.metric.clone())) {
            Some(seen) => *seen = (seen.0 + 1, now),
            None if known < OFFENDERS_MAX => {
                all.insert((hit.limit, hit.metric.clone()), (1, now));
            }
            None => {}
        }
    }

    pub(crate) fn list(&self) -> Vec<Offender> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let offender = |((limit, metric), (hits, last_at)): (&(Limit, String), &(u64, Timestamp))| Offender {
            limit: *limit,
            metric: metric.clone(),
            hits: *hits,
            last_at: *last_at,
        };
        let mut list: Vec<Offender> = all.iter().map(offender).collect();
        list.sort_by(|a, b| b.hits.cmp(&a.hits).then_with(|| a.metric.cmp(&b.metric)));
        list
    }
}

pub(crate) fn hit(limit: Limit, metric: &str, found: usize, allowed: usize) -> LimitHit {
    let end = metric.floor_char_boundary(NAME_BYTES_MAX.min(metric.len()));
    LimitHit { limit, metric: metric[..end].to_owned(), found, allowed }
}

/// Whether a label set may begin a series.
pub(crate) fn check_labels(labels: &[(&str, &str)], settings: &Settings) -> Result<(), LimitHit> {
    let metric = labels.iter().find(|(name, _)| *name == "__name__").map_or("", |(_, value)| *value);
    if labels.len() > settings.labels_per_series_max {
        return Err(hit(Limit::LabelsPerSeriesMax, metric, labels.len(), settings.labels_per_series_max));
    }
    for (name, value) in labels {
        if name.len() > settings.label_name_bytes_max {
            return Err(hit(Limit::LabelNameBytesMax, metric, name.len(), settings.label_name_bytes_max));
        }
        if value.len() > settings.label_value_bytes_max {
            return Err(hit(Limit::LabelValueBytesMax, metric, value.len(), settings.label_value_bytes_max));
        }
    }
    Ok(())
}
