//! The state of breakers for a scraping Prometheus, under the names that people's rules already use.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::Breakers;
use super::circuit::{Circuit, State};

/// Breakers that are shown: names come from clients too, so those come first that are held, open or have failed.
pub const SHOWN_MAX: usize = 200;

/// Register it with `Registry::register_collector`.
#[derive(Debug, Clone)]
pub struct Exposition(pub Arc<Breakers>);

struct Shown {
    name: Arc<str>,
    state: State,
    failures: u64,
    trips: u64,
}

impl Exposition {
    fn shown(&self) -> Vec<Shown> {
        let circuits = self.0.circuits();
        let rank = |circuit: &Circuit| {
            let is_held = circuit.forced.as_ref().is_some();
            (is_held, circuit.shown() != State::Closed, circuit.trips, circuit.failures)
        };
        let mut ranked: Vec<_> = circuits.iter().map(|(name, circuit)| (rank(circuit), name, circuit)).collect();
        ranked.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.len().cmp(&b.1.len())).then_with(|| a.1.cmp(b.1)));
        ranked.truncate(SHOWN_MAX);
        let one = |(_, name, circuit): (_, &Arc<str>, &Circuit)| Shown {
            name: Arc::clone(name),
            state: circuit.shown(),
            failures: circuit.failures,
            trips: circuit.trips,
        };
        let mut shown: Vec<_> = ranked.into_iter().map(one).collect();
        shown.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        shown
    }
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let shown = self.shown();
        if shown.is_empty() {
            return Ok(());
        }
        for (name, label) in [("agent_circuit_breaker_state", "dependency"), ("circuit_breaker_state", "name")] {
            let mut metric =
                encoder.encode_descriptor(name, "The state of a circuit breaker: 1 for the one it is in", None, MetricType::Gauge)?;
            for one in &shown {
                for state in State::ALL {
                    let labels = [(label, &*one.name), ("state", state.name())];
                    metric.encode_family(&labels)?.encode_gauge(&i64::from(one.state == state))?;
                }
            }
        }
        let trips: fn(&Shown) -> u64 = |one| one.trips;
        let failures: fn(&Shown) -> u64 = |one| one.failures;
        let counters = [
            ("agent_circuit_breaker_trips", "dependency", "How often a circuit breaker opened", trips),
            ("circuit_breaker_trips", "name", "How often a circuit breaker opened", trips),
            ("circuit_breaker_failures", "name", "Failures that a circuit breaker has seen", failures),
        ];
        for (name, label, help, count) in counters {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for one in &shown {
                let labels = [(label, &*one.name)];
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(&count(one), None)?;
            }
        }
        Ok(())
    }
}
