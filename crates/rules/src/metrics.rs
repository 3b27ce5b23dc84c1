//! What the rules say about themselves.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Counters of the rules.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub evaluations: Counter,
    pub evaluation_failures: Counter,
    pub missed_evaluations: Counter,
    pub group_seconds: Histogram,
    pub template_failures: Counter,
    pub samples: Counter,
    pub samples_refused: Counter,
    pub alert_changes: Counter,
    pub groups: Gauge,
    pub rules: Gauge,
    pub alerts_pending: Gauge,
    pub alerts_firing: Gauge,
    /// Rules with a selector that matched nothing in the last day.
    pub rules_without_series: Gauge,
    pub load_problems: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            evaluations: Counter::default(),
            evaluation_failures: Counter::default(),
            missed_evaluations: Counter::default(),
            group_seconds: Histogram::new(exponential_buckets(0.000_25, 4.0, 10)),
            template_failures: Counter::default(),
            samples: Counter::default(),
            samples_refused: Counter::default(),
            alert_changes: Counter::default(),
            groups: Gauge::default(),
            rules: Gauge::default(),
            alerts_pending: Gauge::default(),
            alerts_firing: Gauge::default(),
            rules_without_series: Gauge::default(),
            load_problems: Gauge::default(),
        }
    }
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("paramedic_rules_evaluations", "Evaluations of rules", self.evaluations.clone());
        registry.register("paramedic_rules_evaluation_failures", "Evaluations of rules that failed", self.evaluation_failures.clone());
        let help = "Evaluations of groups that were left out because the one before took too long";
        registry.register("paramedic_rules_missed_evaluations", help, self.missed_evaluations.clone());
        registry.register("paramedic_rules_group_seconds", "How long the evaluation of a group took", self.group_seconds.clone());
        registry.register("paramedic_rules_template_failures", "Templates that could not be expanded", self.template_failures.clone());
        registry.register("paramedic_rules_samples", "Samples that rules made", self.samples.clone());
        registry.register("paramedic_rules_samples_refused", "Samples of rules that the store refused", self.samples_refused.clone());
        registry.register("paramedic_rules_alert_changes", "Changes of alerts told to the journal", self.alert_changes.clone());
        registry.register("paramedic_rules_groups", "Groups that are evaluated", self.groups.clone());
        registry.register("paramedic_rules_rules", "Rules that are evaluated", self.rules.clone());
        registry.register("paramedic_rules_alerts_pending", "Alerts that do not fire yet", self.alerts_pending.clone());
        registry.register("paramedic_rules_alerts_firing", "Alerts that fire", self.alerts_firing.clone());
        let help = "Rules with a selector that matched nothing in the last day";
        registry.register("paramedic_rules_without_series", help, self.rules_without_series.clone());
        registry.register("paramedic_rules_load_problems", "Errors found when rule files were last read", self.load_problems.clone());
    }
}
