//! Alerts of detectors: who is stuck, what fires.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use paramedic_model::{AlertChange, AlertState, Severity, Timestamp};
use serde::{Deserialize, Serialize};

use crate::catalogue::Metric;
use crate::course::seconds;
use crate::ledger::lock;
use crate::meter::Meter;
use crate::names::Kind;

/// The cause of every alert that says an agent makes no progress.
const STUCK: &str = "stuck:";

/// One alert that holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Active {
    agent: Arc<str>,
    alert_type: Arc<str>,
    priority: Box<str>,
    /// Why the agent is stuck; none for an alert of another kind.
    stuck: Option<Arc<str>>,
}

/// The alerts that hold, by fingerprint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ActiveAlerts(BTreeMap<String, Active>);

impl ActiveAlerts {
    /// What an alert changes.
    pub(crate) const METRICS: &[Metric] = &[
        Metric::Stuck,
        Metric::ActiveStuck,
        Metric::StuckDetections,
        Metric::StuckRecoveries,
        Metric::StuckLatency,
        Metric::Alerts,
        Metric::AlertsFiring,
    ];
}

const fn priority(severity: Option<Severity>) -> &'static str {
    match severity {
        Some(Severity::Sev1) => "P0",
        Some(Severity::Sev2) => "P1",
        Some(Severity::Sev3) => "P2",
        Some(Severity::Sev4) => "P3",
        None => "none",
    }
}

/// The stream monitor's word for what a detector found, where it has one.
fn stuck_reason(detector: &str) -> String {
    match detector {
        "repeat-exact" | "repeat-call" | "ping-pong" | "cycle" => "consecutive_tool".to_owned(),
        "monologue" => "consecutive_thinking".to_owned(),
        "silence" => "no_progress".to_owned(),
        other => other.replace('-', "_"),
    }
}

impl Meter {
    /// Takes a change of an alert. Rules' alerts have a metric of their own. True: something changed that is worth writing
    /// at once ([`Self::write_alerts`]).
    pub fn alert(&mut self, change: &AlertChange, now: Timestamp) -> bool {
        if change.rule.is_some() {
            return false;
        }
        let now_ms = now.as_millis();
        let live = self.settings.count_history || change.at >= now.before(Duration::from_secs(self.settings.history_s));
        let fingerprint = &change.fingerprint.0;
        match (change.state, self.alerts.0.get_mut(fingerprint)) {
            (AlertState::Firing, Some(known)) => {
                let priority = priority(change.severity);
                if *known.priority == *priority {
                    return false;
                }
                known.priority = priority.into();
            }
            (AlertState::Firing, None) => {
                if self.alerts.0.len() >= self.settings.alerts_max {
                    return false;
                }
                let active = self.active(change, now_ms);
                if live {
                    self.began(change, &active, now_ms);
                }
                self.alerts.0.insert(fingerprint.clone(), active);
            }
            (AlertState::Resolved, _) => {
                let Some(active) = self.alerts.0.remove(fingerprint) else { return false };
                if let Some(reason) = active.stuck.filter(|_| live) {
                    lock(&self.ledger).inc(Metric::StuckRecoveries, &[&active.agent, &reason], now_ms);
                }
            }
        }
        self.count_active(now_ms);
        self.settings.alerts_at_once
    }

    fn active(&mut self, change: &AlertChange, now_ms: i64) -> Active {
        let agent = change.agent.as_ref().map_or("", |agent| agent.as_str());
        let is_stuck = change.cause.starts_with(STUCK);
        let word = change.detector.replace('-', "_");
        Active {
            agent: self.names.admit(Kind::Agent, agent, now_ms),
            alert_type: if is_stuck { "stuck_agent".into() } else { self.names.admit(Kind::Word, &word, now_ms) },
            priority: priority(change.severity).into(),
            stuck: is_stuck.then(|| self.names.admit(Kind::Word, &stuck_reason(&change.detector), now_ms)),
        }
    }

    fn began(&mut self, change: &AlertChange, active: &Active, now_ms: i64) {
        let mut ledger = lock(&self.ledger);
        ledger.inc(Metric::Alerts, &[&active.priority, &active.alert_type, &active.agent], now_ms);
        if let Some(reason) = &active.stuck {
            ledger.inc(Metric::StuckDetections, &[&active.agent, reason, &active.priority], now_ms);
            if let Some(latency) = seconds(change.started_at, change.at) {
                ledger.observe(Metric::StuckLatency, &[&active.agent, reason], latency, now_ms);
            }
        }
    }

    /// Counts anew what holds. A note says nothing about being stuck: it opens no incident either.
    pub(crate) fn count_active(&mut self, now_ms: i64) {
        let mut firing: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        let mut stuck: BTreeSet<(&str, &str)> = BTreeSet::new();
        for active in self.alerts.0.values() {
            *firing.entry((&active.priority, &active.alert_type)).or_default() += 1;
            if let Some(reason) = active.stuck.as_ref().filter(|_| *active.priority != *"none") {
                stuck.insert((&active.agent, reason));
            }
        }
        let agents: BTreeSet<&str> = stuck.iter().map(|(agent, _)| *agent).collect();
        let mut ledger = lock(&self.ledger);
        ledger.zero(Metric::AlertsFiring);
        ledger.zero(Metric::Stuck);
        for ((priority, alert_type), count) in firing {
            ledger.set(Metric::AlertsFiring, &[priority, alert_type], f64::from(count), now_ms);
        }
        for (agent, reason) in &stuck {
            ledger.set(Metric::Stuck, &[agent, reason], 1.0, now_ms);
        }
        ledger.set(Metric::ActiveStuck, &[], agents.len() as f64, now_ms);
    }
}
