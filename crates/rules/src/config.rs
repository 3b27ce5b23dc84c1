//! What an operator may set.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Rules: where they are and how they are evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Rule files, as paths or patterns with `*`, `?`, `[...]` and `**`. Prometheus rule files and Kubernetes
    /// `PrometheusRule` objects. Default: none.
    pub files: Vec<String>,
    /// Whether the embedded rules are evaluated too. Default true.
    pub pack: bool,
    /// Names of embedded alerts that are left out. Default: none.
    pub pack_disabled: Vec<String>,
    /// Thresholds of embedded rules by name, each with a default of its own: `paramedic rules list` shows them. A threshold
    /// that is a duration is set in seconds. Default: none changed.
    pub thresholds: BTreeMap<String, f64>,
    /// Seconds between evaluations of groups that name no interval. Default 15.
    pub evaluation_interval_s: u64,
    /// How many seconds in the past rules are evaluated, where their group does not say. Default 0.
    pub query_offset_s: u64,
    /// Labels that templates know as `$externalLabels`. Default: none.
    pub external_labels: BTreeMap<String, String>,
    /// The address under which people reach Paramedic, for `externalURL` and `pathPrefix` in templates. Default empty.
    pub external_url: String,
    /// Seconds that Paramedic may have been down for the waiting time (`for`) of pending alerts to go on. Default 3,600.
    pub outage_tolerance_s: u64,
    /// Seconds that an alert with a longer `for` waits at least after an outage before it fires; alerts with a shorter one
    /// begin anew. Default 600.
    pub for_grace_s: u64,
    /// Seconds of an outage so short that every `for` goes on as if nothing had happened; 0 is as in Prometheus. Default 60.
    pub for_gap_s: u64,
    /// Seconds after a start during which alerts that fired before are not resolved, because samples may only be on their
    /// way. Default 60.
    pub restored_hold_s: u64,
    /// The most alerts of one rule, where its group has no limit; 0 is no limit. Default 10,000.
    pub alerts_per_rule_max: usize,
    /// How many groups are evaluated at a time. Default 4.
    pub concurrent_groups_max: usize,
    /// Seconds that the query of a rule may take. Default 120.
    pub query_timeout_s: u64,
    /// Seconds after which an alert that still fires with another value is told again. Default 60.
    pub repeat_interval_s: u64,
    /// Seconds between searches for selectors that matched nothing in the last day; 0 searches never. Default 300.
    pub missing_interval_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            pack: true,
            pack_disabled: Vec::new(),
            thresholds: BTreeMap::new(),
            evaluation_interval_s: 15,
            query_offset_s: 0,
            external_labels: BTreeMap::new(),
            external_url: String::new(),
            outage_tolerance_s: 3_600,
            for_grace_s: 600,
            for_gap_s: 60,
            restored_hold_s: 60,
            alerts_per_rule_max: 10_000,
            concurrent_groups_max: 4,
            query_timeout_s: 120,
            repeat_interval_s: 60,
            missing_interval_s: 300,
        }
    }
}

/// Seconds as milliseconds.
pub(crate) fn millis(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX)
}

impl Settings {
    pub(crate) fn evaluation_interval_ms(&self) -> i64 {
        millis(self.evaluation_interval_s.max(1))
    }

    pub(crate) fn query_timeout(&self) -> Duration {
        Duration::from_secs(self.query_timeout_s.max(1))
    }
}
