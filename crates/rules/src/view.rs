//! Groups, rules and alerts as pages and the API show them.

use std::collections::BTreeMap;

use paramedic_model::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::active::State;
use crate::file;
use crate::live::{Health, LiveGroup, LiveRule, lock};

/// A group of rules and how its last evaluation went.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GroupView {
    pub name: String,
    pub file: String,
    pub interval_s: f64,
    /// The most alerts or series that one rule may give; 0: no bound.
    pub limit: u64,
    pub rules: Vec<RuleView>,
    pub last_at: Option<Timestamp>,
    pub evaluation_s: f64,
    /// Evaluations that did not happen because the one before took too long.
    pub missed_evaluations: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuleKind {
    #[default]
    Alerting,
    Recording,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuleHealth {
    /// Not evaluated yet.
    #[default]
    Unknown,
    Ok,
    Err,
}

impl RuleHealth {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ok => "ok",
            Self::Err => "err",
        }
    }
}

/// What an alerting rule, or one of its alerts, is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuleState {
    /// Not evaluated yet.
    #[default]
    Unknown,
    Inactive,
    Pending,
    Firing,
}

impl RuleState {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
        }
    }
}

/// One rule and how its last evaluation went.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RuleView {
    pub kind: RuleKind,
    /// The alert's name, or the name of the recorded metric.
    pub name: String,
    pub query: String,
    /// `for`.
    pub duration_s: f64,
    pub keep_firing_for_s: f64,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub health: RuleHealth,
    pub last_error: Option<String>,
    pub last_at: Option<Timestamp>,
    pub evaluation_s: f64,
    pub state: RuleState,
    pub alerts: Vec<AlertView>,
    /// Selectors of the expression that never had a series: such a rule can never fire, or fires for ever.
    pub missing: Vec<MissingSeries>,
}

/// Where the embedded rules say they are from.
pub const PACK_FOLDER: &str = "pack/";

impl GroupView {
    /// Whether a rule of this group is an embedded one that only waits for metrics that nobody sends.
    #[must_use]
    pub fn waits(&self, rule: &RuleView) -> bool {
        let active = matches!(rule.state, RuleState::Firing | RuleState::Pending) || rule.health == RuleHealth::Err;
        self.file.starts_with(PACK_FOLDER) && !rule.missing.is_empty() && !active
    }
}

/// An alert that is pending or firing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AlertView {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub state: RuleState,
    pub active_at: Option<Timestamp>,
    /// None when it is not a finite number.
    pub value: Option<f64>,
    /// Since when it fires only because of `keep_firing_for`.
    pub keep_firing_since: Option<Timestamp>,
}

/// A selector for which there is no series.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MissingSeries {
    pub selector: String,
    /// Empty where the selector names no metric.
    pub metric: String,
    /// The group whose rule records this metric, if there is one: then that rule's expression gave nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded_by: Option<String>,
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}

pub(crate) fn group(group: &LiveGroup) -> GroupView {
    let state = lock(&group.state);
    let (last_at, evaluation_s, missed_evaluations) = (state.last_at, state.evaluation_s, state.missed);
    drop(state);
    GroupView {
        name: group.key.1.clone(),
        file: group.key.0.clone(),
        interval_s: seconds(group.interval_ms),
        limit: u64::try_from(group.limit).unwrap_or(0),
        rules: group.rules.iter().map(rule).collect(),
        last_at: last_at.map(Timestamp::from_millis),
        evaluation_s,
        missed_evaluations,
    }
}

fn rule(live: &LiveRule) -> RuleView {
    let rule = &live.rule;
    let state = lock(&live.state);
    let alerts: Vec<AlertView> = state
        .alerts
        .iter()
        .filter(|(_, alert)| alert.state != State::Inactive)
        .map(|(labels, alert)| AlertView {
            labels: labels.iter().map(|label| (label.name.to_string(), label.value.to_string())).collect(),
            annotations: alert.annotations.clone(),
            state: if alert.state == State::Firing { RuleState::Firing } else { RuleState::Pending },
            active_at: Some(Timestamp::from_millis(alert.active_at)),
            value: Some(alert.value).filter(|value| value.is_finite()),
            keep_firing_since: alert.keep_firing_since.map(Timestamp::from_millis),
        })
        .collect();
    let worst = |state| alerts.iter().any(|alert| alert.state == state);
    let shown = match state.last_at {
        None => RuleState::Unknown,
        Some(_) if worst(RuleState::Firing) => RuleState::Firing,
        Some(_) if worst(RuleState::Pending) => RuleState::Pending,
        Some(_) => RuleState::Inactive,
    };
    let (health, last_error) = match &state.health {
        Health::Unknown => (RuleHealth::Unknown, None),
        Health::Ok => (RuleHealth::Ok, None),
        Health::Failed(message) => (RuleHealth::Err, Some(message.clone())),
    };
    RuleView {
        kind: if rule.kind == file::RuleKind::Alerting { RuleKind::Alerting } else { RuleKind::Recording },
        name: rule.name.clone(),
        query: rule.expression.clone(),
        duration_s: seconds(rule.for_ms),
        keep_firing_for_s: seconds(rule.keep_firing_for_ms),
        labels: rule.labels.clone(),
        annotations: rule.annotations.clone(),
        health,
        last_error,
        last_at: state.last_at.map(Timestamp::from_millis),
        evaluation_s: state.evaluation_s,
        state: shown,
        alerts,
        missing: state.missing.clone(),
    }
}
