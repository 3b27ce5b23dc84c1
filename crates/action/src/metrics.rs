//! What actions count.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Attempt {
    action: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, Default)]
pub struct Metrics {
    plans: Family<Attempt, Counter>,
    executions: Family<Attempt, Counter>,
    changes: Counter,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("paramedic_action_plans", "Actions that were planned, by action and outcome", self.plans.clone());
        registry.register("paramedic_action_executions", "Actions that were carried out, by action and outcome", self.executions.clone());
        registry.register("paramedic_action_changes", "Actions that changed something and were seen to have", self.changes.clone());
    }

    pub(crate) fn planned(&self, action: &str, ok: bool) {
        self.plans.get_or_create(&attempt(action, ok)).inc();
    }

    pub(crate) fn executed(&self, action: &str, ok: bool, changes: bool) {
        self.executions.get_or_create(&attempt(action, ok)).inc();
        if ok && changes {
            self.changes.inc();
        }
    }
}

fn attempt(action: &str, ok: bool) -> Attempt {
    Attempt { action: action.to_owned(), outcome: if ok { "ok" } else { "failed" } }
}
