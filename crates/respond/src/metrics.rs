//! What the incident stage counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub alert_changes: Counter,
    pub repeated: Counter,
    pub records: Counter,
    pub commands: Counter,
    pub commands_refused: Counter,
    pub escalations: Counter,
    pub rebuilds: Counter,
    pub incidents_open: Gauge,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("paramedic_respond_alert_changes", "Alert changes taken from detectors", self.alert_changes.clone());
        registry.register("paramedic_respond_repeated_changes", "Alert changes that said nothing new", self.repeated.clone());
        registry.register("paramedic_respond_records", "Records appended to the journal", self.records.clone());
        registry.register("paramedic_respond_commands", "Commands from people", self.commands.clone());
        registry.register("paramedic_respond_commands_refused", "Commands that were refused", self.commands_refused.clone());
        registry.register("paramedic_respond_escalations", "Times that a timer called for more people", self.escalations.clone());
        registry.register(
            "paramedic_respond_rebuilds",
            "Times the incidents were read again from the journal after a failure",
            self.rebuilds.clone(),
        );
        registry.register("paramedic_respond_incidents_open", "Incidents that are open", self.incidents_open.clone());
    }
}
