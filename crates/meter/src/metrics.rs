//! The stage's own numbers.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters and gauges; cheap to clone, all clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub(crate) events: Counter,
    pub(crate) history: Counter,
    pub(crate) updates_unknown: Counter,
    pub(crate) writes: Counter,
    pub(crate) write_failures: Counter,
    pub(crate) samples: Counter,
    pub(crate) refused: Counter,
    pub(crate) overflowed: Counter,
    pub(crate) forgotten: Counter,
    pub(crate) series: Gauge,
    pub(crate) followed: Gauge,
}

/// Name, type and help of each, for the reference.
pub const OWN: &[(&str, &str, &str)] = &[
    ("paramedic_meter_events_total", "counter", "Events that counters were derived from"),
    ("paramedic_meter_history_events_total", "counter", "Events that were too old when they were told to be counted"),
    ("paramedic_meter_unknown_updates_total", "counter", "Later tellings of model calls that were no longer remembered: not counted"),
    ("paramedic_meter_writes_total", "counter", "Writes of samples"),
    ("paramedic_meter_write_failures_total", "counter", "Writes that the store refused; the next one carries the same numbers"),
    ("paramedic_meter_samples_total", "counter", "Samples written"),
    ("paramedic_meter_refused_samples_total", "counter", "Samples that the store's limits refused"),
    ("paramedic_meter_other_values_total", "counter", "Label values that were counted as other because their limit was reached"),
    ("paramedic_meter_forgotten_agents_total", "counter", "Agents whose work was no longer followed because there were too many"),
    ("paramedic_meter_series", "gauge", "Series kept; a histogram is one"),
    ("paramedic_meter_followed_agents", "gauge", "Agents and sub-agents whose work is followed"),
];

impl Metrics {
    /// Makes the numbers known under `paramedic_meter_…`.
    pub fn register(&self, registry: &mut Registry) {
        let counters = [
            &self.events,
            &self.history,
            &self.updates_unknown,
            &self.writes,
            &self.write_failures,
            &self.samples,
            &self.refused,
            &self.overflowed,
            &self.forgotten,
        ];
        for (counter, (name, _, help)) in counters.into_iter().zip(OWN) {
            registry.register(name.trim_end_matches("_total"), *help, counter.clone());
        }
        for (gauge, (name, _, help)) in [&self.series, &self.followed].into_iter().zip(&OWN[9..]) {
            registry.register(*name, *help, gauge.clone());
        }
    }
}
