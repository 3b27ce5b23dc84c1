//! What budgets count of themselves.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use paramedic_model::secret;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Ledger;

/// Caps that are shown: those first of which most is spent.
const CAPS_MAX: usize = 100;

/// Counters and gauges; cheap to clone, all clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub(super) spent: Counter<f64, AtomicU64>,
    pub(super) reserved: Gauge<f64, AtomicU64>,
    pub(super) refused: Counter,
    pub(super) waited: Counter,
    pub(super) waiting: Gauge,
    pub(super) warnings: Counter,
    pub(super) purses: Gauge,
    pub(super) overflowed: Counter,
    pub(super) unheld: Counter,
    pub(super) written: Counter,
    pub(super) lost: Counter,
    pub(super) damaged: Counter,
    pub(super) failures: Counter,
}

impl Metrics {
    /// Makes the numbers known under `paramedic_gateway_budget_…`.
    pub fn register(&self, registry: &mut Registry) {
        let counters: [(&str, &str, &Counter); 9] = [
            ("refused_calls", "Calls that were refused because a cap was reached", &self.refused),
            ("waited_calls", "Calls that waited for money that others had reserved", &self.waited),
            ("warnings", "Warnings that a part of a cap is spent", &self.warnings),
            ("other_purses", "Names of callers that were counted as other because there was no room", &self.overflowed),
            ("unheld_caps", "Caps that did not hold for a call because there was no room", &self.unheld),
            ("log_lines", "Lines written to the log of what is spent", &self.written),
            (
                "log_lost_lines",
                "Lines that were not written when they should have been; the next writing of all makes up for them",
                &self.lost,
            ),
            ("log_damaged_lines", "Lines of the log that could not be read", &self.damaged),
            ("log_failures", "Writes of the log that failed", &self.failures),
        ];
        for (name, help, counter) in counters {
            registry.register(format!("paramedic_gateway_budget_{name}"), help, counter.clone());
        }
        registry.register("paramedic_gateway_spent_dollars", "What calls cost", self.spent.clone());
        registry.register("paramedic_gateway_budget_reserved_dollars", "What is reserved for calls that run", self.reserved.clone());
        registry.register("paramedic_gateway_budget_waiting_calls", "Calls that wait for money now", self.waiting.clone());
        registry.register("paramedic_gateway_budget_purses", "Callers whose spending is kept apart", self.purses.clone());
    }
}

/// How much of each cap is spent, for whoever scrapes. Register it with `Registry::register_collector`.
#[derive(Debug, Clone)]
pub struct Used(pub Arc<Ledger>);

impl Collector for Used {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut budgets = self.0.budgets();
        budgets.sort_by(|a, b| b.share.total_cmp(&a.share).then_with(|| a.id.cmp(&b.id)));
        // A name is shown once, whoever else's money it is for too.
        let mut shown = std::collections::BTreeMap::new();
        for budget in budgets.into_iter().take(CAPS_MAX) {
            shown.entry(secret::mask(&budget.id).into_owned()).or_insert(budget.share);
        }
        let help = "How much of a cap is spent in the window that is open; 1 is all of it";
        let mut metric = encoder.encode_descriptor("paramedic_gateway_budget_used_ratio", help, None, MetricType::Gauge)?;
        for (cap, share) in &shown {
            metric.encode_family(&[("cap", cap.as_str())])?.encode_gauge(share)?;
        }
        Ok(())
    }
}
