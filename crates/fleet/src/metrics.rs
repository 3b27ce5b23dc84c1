//! The fleet's own numbers.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::fleet::{Fleet, Novelty};
use crate::state::State;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StateLabel {
    state: StateValue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct StateValue(State);

impl EncodeLabelValue for StateValue {
    fn encode(&self, encoder: &mut prometheus_client::encoding::LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.as_str().encode(encoder)
    }
}

/// Counters and gauges; cheap to clone, all clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    new: Counter,
    updates: Counter,
    duplicates: Counter,
    pub(crate) agents_dropped: Counter,
    agents: Family<StateLabel, Gauge>,
    ids_forgotten: Gauge,
    implausible: Gauge,
}

impl Metrics {
    pub(crate) fn count(&self, novelty: Novelty) {
        match novelty {
            Novelty::New => self.new.inc(),
            Novelty::Update => self.updates.inc(),
            Novelty::Duplicate => self.duplicates.inc(),
        };
    }

    pub(crate) fn set_agents(&self, fleet: &Fleet) {
        let mut counts = [0i64; State::ALL.len()];
        for agent in fleet.agents() {
            let state = agent.state_shown.unwrap_or(State::Working);
            counts[state as usize] += 1;
        }
        for state in State::ALL {
            self.agents.get_or_create(&StateLabel { state: StateValue(state) }).set(counts[state as usize]);
        }
        self.ids_forgotten.set(i64::try_from(fleet.seen.forgotten).unwrap_or(i64::MAX));
        self.implausible.set(i64::try_from(fleet.implausible).unwrap_or(i64::MAX));
    }

    /// Makes the numbers known under `paramedic_fleet_…`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("paramedic_fleet_events_new", "Events that told a new fact", self.new.clone());
        registry.register("paramedic_fleet_events_update", "Events that added to a known fact", self.updates.clone());
        registry.register("paramedic_fleet_events_duplicate", "Events that told a known fact again", self.duplicates.clone());
        registry.register("paramedic_fleet_agents_dropped", "Agents dropped because there were too many", self.agents_dropped.clone());
        registry.register("paramedic_fleet_agents", "Agents by state", self.agents.clone());
        registry.register("paramedic_fleet_ids_forgotten", "Ids too old to be recognised again", self.ids_forgotten.clone());
        registry.register("paramedic_fleet_implausible_counts", "Token counts or costs no call can have", self.implausible.clone());
    }
}
