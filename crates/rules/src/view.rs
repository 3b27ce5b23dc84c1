//! Groups, rules and alerts as pages and the API show them.

use std::collections::BTreeMap;

use paramedic_model::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::active::State;
use crate::file::RuleKind;
use crate::live::{Health, LiveGroup, LiveRule, lock};

/// One group.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct GroupView {
    pub name: String,
    pub file: String,
    pub interval_s: f64,
    /// The most alerts or series of a rule; 0 is no limit.
    pub limit: i64,
    pub rules: Vec<RuleView>,
    pub last_at: Option<Timestamp>,
    pub evaluation_s: f64,
    pub missed_evaluations: u64,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RuleView {
    pub kind: Kind,
    pub name: String,
    pub query: String,
    pub duration_s: f64,
    pub keep_firing_for_s: f64,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub health: RuleHealth,
    pub last_error: Option<String>,
    pub last_at: Option<Timestamp>,
    pub evaluation_s: f64,
    /// The worst state of its alerts; `unknown` before the first evaluation.
    pub state: RuleStateView,
    /// Those that are pending or firing.
    pub alerts: Vec<AlertView>,
    /// Selectors that matched nothing in the last day.
    pub missing: Vec<MissingSeries>,
    /// Where it is written, from 1.
    pub line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Alerting,
    Recording,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RuleHealth {
    Ok,
    Err,
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RuleStateView {
    Inactive,
    Pending,
    Firing,
    Unknown,
}

/// One alert that is pending or firing.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AlertView {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub state: RuleStateView,
    pub active_at: Timestamp,
    /// The expression's value; text in JSON when it is no finite number.
    #[serde(serialize_with = "number")]
    #[schemars(with = "f64")]
    pub value: f64,
    pub keep_firing_since: Option<Timestamp>,
}

/// A selector that matched nothing in the last day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MissingSeries {
    pub selector: String,
    /// The metric's name, or empty.
    pub metric: String,
    /// The loaded rule that records this metric, if any: then its expression gave nothing either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded_by: Option<String>,
}

fn number<S: serde::Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() {
        serializer.serialize_f64(*value)
    } else {
        serializer.collect_str(&paramedic_promql::number::format_general(*value))
    }
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
        limit: group.limit,
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
            state: if alert.state == State::Firing { RuleStateView::Firing } else { RuleStateView::Pending },
            active_at: Timestamp::from_millis(alert.active_at),
            value: alert.value,
            keep_firing_since: alert.keep_firing_since.map(Timestamp::from_millis),
        })
        .collect();
    let worst = |state| alerts.iter().any(|alert| alert.state == state);
    let shown = match state.last_at {
        None => RuleStateView::Unknown,
        Some(_) if worst(RuleStateView::Firing) => RuleStateView::Firing,
        Some(_) if worst(RuleStateView::Pending) => RuleStateView::Pending,
        Some(_) => RuleStateView::Inactive,
    };
    let (health, last_error) = match &state.health {
        Health::Unknown => (RuleHealth::Unknown, None),
        Health::Ok => (RuleHealth::Ok, None),
        Health::Failed(message) => (RuleHealth::Err, Some(message.clone())),
    };
    RuleView {
        kind: if rule.kind == RuleKind::Alerting { Kind::Alerting } else { Kind::Recording },
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
        line: rule.line,
    }
}
