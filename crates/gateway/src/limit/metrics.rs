//! What the limiter counts of itself.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub(super) admitted: Counter,
    pub(super) held: Counter,
    pub(super) waited: Counter,
    pub(super) waiting: Gauge,
    pub(super) not_held: Counter,
    pub(super) shared_asked: Counter,
    pub(super) shared_failed: Counter,
    pub(super) shared_bypassed: Counter,
    pub(super) shared_up: Gauge,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        let counters = [
            ("admitted_calls", "Calls that were let in.", &self.admitted),
            ("held_calls", "Calls that a limit refused.", &self.held),
            ("waited_calls", "Calls that had to wait for a limit.", &self.waited),
            ("unlimited_calls", "Limits of calls that did not hold, because too many limits are known.", &self.not_held),
            ("shared_asked_calls", "Calls for which the shared store was asked.", &self.shared_asked),
            ("shared_failed_calls", "Calls for which the shared store did not answer in time.", &self.shared_failed),
            ("shared_bypassed_calls", "Calls that went by this gateway's own limits, the shared store being away.", &self.shared_bypassed),
        ];
        for (name, help, counter) in counters {
            registry.register(format!("paramedic_gateway_limit_{name}"), help.trim_end_matches('.'), counter.clone());
        }
        registry.register("paramedic_gateway_limit_waiting_calls", "Calls that wait for a limit", self.waiting.clone());
        registry.register("paramedic_gateway_limit_shared_up", "Whether the shared store answers", self.shared_up.clone());
    }

    /// Limits of calls that did not hold because too many are known.
    #[must_use]
    pub fn unlimited(&self) -> u64 {
        self.not_held.get()
    }

    /// Calls that went by this gateway's own limits because the shared store failed or was left alone.
    #[must_use]
    pub fn without_shared(&self) -> u64 {
        self.shared_failed.get() + self.shared_bypassed.get()
    }
}
