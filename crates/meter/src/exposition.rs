//! The same numbers for a scraping Prometheus.

use std::fmt;
use std::sync::{Arc, Mutex};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::catalogue::{CATALOGUE, Kind};
use crate::ledger::{Data, Ledger, lock, pairs};

/// Shows the meter's series on `/metrics`: register it with `Registry::register_collector`. Series come in the order of
/// their labels.
#[derive(Clone)]
pub struct Exposition(pub(crate) Arc<Mutex<Ledger>>);

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exposition")
    }
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let ledger = lock(&self.0);
        for (described, family) in CATALOGUE.iter().zip(&ledger.families) {
            if family.is_empty() || !described.is_exposed() {
                continue;
            }
            // The encoder appends the suffix itself.
            let name = described.name.strip_suffix("_total").unwrap_or(described.name);
            let kind = match described.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram(_) => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(name, described.help, None, kind)?;
            let mut series: Vec<_> = family.iter().collect();
            series.sort_unstable_by_key(|(key, _)| *key);
            for (key, series) in series {
                let labels: Vec<(&str, &str)> = pairs(described, key).collect();
                if labels.is_empty() {
                    one(&mut metric, described.kind, &series.data)?;
                } else {
                    one(&mut metric.encode_family(&labels)?, described.kind, &series.data)?;
                }
            }
        }
        Ok(())
    }
}

fn one(encoder: &mut MetricEncoder<'_>, kind: Kind, data: &Data) -> Result<(), fmt::Error> {
    match (kind, data) {
        (Kind::Counter, Data::Number(number)) => encoder.encode_counter::<NoLabelSet, f64, f64>(number, None),
        (Kind::Gauge, Data::Number(number)) => encoder.encode_gauge(number),
        (Kind::Histogram(bounds), Data::Histogram { counts, sum }) => {
            let bounds = bounds.iter().copied().chain([f64::INFINITY]);
            // The encoder adds the buckets up.
            let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
            encoder.encode_histogram::<NoLabelSet>(*sum, counts.iter().sum(), &buckets, None)
        }
        _ => Ok(()),
    }
}
