//! What the detectors say about themselves.

use paramedic_model::{AlertChange, AlertState};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// One detector's name; the catalogue bounds their number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByDetector {
    pub detector: String,
    /// `note`, `critical` or `resolved`.
    pub change: &'static str,
}

/// Counters of the detectors.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub events: Counter,
    /// Events without an agent: nothing can be detected on them.
    pub events_without_agent: Counter,
    pub alert_changes: Family<ByDetector, Counter>,
    pub agents: Gauge,
    pub agents_evicted: Counter,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("paramedic_detect_events", "Events that the detectors looked at", self.events.clone());
        let help = "Events that name no agent, so that no detector looked at them";
        registry.register("paramedic_detect_events_without_agent", help, self.events_without_agent.clone());
        registry.register("paramedic_detect_alert_changes", "Alert changes by detector", self.alert_changes.clone());
        registry.register("paramedic_detect_agents", "Agents with detector state in memory", self.agents.clone());
        registry.register("paramedic_detect_agents_evicted", "Agents dropped because there were too many", self.agents_evicted.clone());
    }

    pub(crate) fn count(&self, changes: &[AlertChange]) {
        for change in changes {
            let kind = match (change.state, change.severity) {
                (AlertState::Resolved, _) => "resolved",
                (AlertState::Firing, None) => "note",
                (AlertState::Firing, Some(_)) => "critical",
            };
            self.alert_changes.get_or_create(&ByDetector { detector: change.detector.clone().into_owned(), change: kind }).inc();
        }
    }
}
