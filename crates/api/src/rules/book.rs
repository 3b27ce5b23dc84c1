//! The rules of this process as a book of rules.

use paramedic_promql::Labels;
use paramedic_rules as stage;

use super::{AlertView, GroupView, MissingSeries, RuleBook, RuleHealth, RuleKind, RuleParts, RuleState, RuleView, WhySample, WhyView};
use crate::instruments::Work;
use crate::threshold::threshold_of;

impl RuleBook for stage::Rules {
    fn groups(&self) -> Vec<GroupView> {
        stage::Rules::groups(self).into_iter().map(group).collect()
    }

    fn why(&self, alert: &str) -> Work<'_, Vec<RuleParts>> {
        let alert = alert.to_owned();
        Box::pin(async move {
            let told = stage::Rules::why(self, &alert).await;
            let parts = |why: stage::Why| RuleParts {
                group: why.group,
                threshold: threshold_of(&why.rule.query),
                rule: rule(why.rule),
                parts: why.parts.into_iter().map(part).collect(),
            };
            told.into_iter().map(parts).collect()
        })
    }
}

fn group(from: stage::GroupView) -> GroupView {
    GroupView {
        name: from.name,
        file: from.file,
        interval_s: from.interval_s,
        limit: u64::try_from(from.limit).unwrap_or(0),
        rules: from.rules.into_iter().map(rule).collect(),
        last_at: from.last_at,
        evaluation_s: from.evaluation_s,
        missed_evaluations: from.missed_evaluations,
    }
}

fn rule(from: stage::RuleView) -> RuleView {
    RuleView {
        kind: match from.kind {
            stage::Kind::Alerting => RuleKind::Alerting,
            stage::Kind::Recording => RuleKind::Recording,
        },
        name: from.name,
        query: from.query,
        duration_s: from.duration_s,
        keep_firing_for_s: from.keep_firing_for_s,
        labels: from.labels,
        annotations: from.annotations,
        health: match from.health {
            stage::RuleHealth::Ok => RuleHealth::Ok,
            stage::RuleHealth::Err => RuleHealth::Err,
            stage::RuleHealth::Unknown => RuleHealth::Unknown,
        },
        last_error: from.last_error,
        last_at: from.last_at,
        evaluation_s: from.evaluation_s,
        state: state(from.state),
        alerts: from.alerts.into_iter().map(alert).collect(),
        missing: from.missing.into_iter().map(missing).collect(),
    }
}

const fn state(from: stage::RuleStateView) -> RuleState {
    match from {
        stage::RuleStateView::Inactive => RuleState::Inactive,
        stage::RuleStateView::Pending => RuleState::Pending,
        stage::RuleStateView::Firing => RuleState::Firing,
        stage::RuleStateView::Unknown => RuleState::Unknown,
    }
}

fn alert(from: stage::AlertView) -> AlertView {
    AlertView {
        labels: from.labels,
        annotations: from.annotations,
        state: state(from.state),
        active_at: Some(from.active_at),
        value: Some(from.value).filter(|value| value.is_finite()),
        keep_firing_since: from.keep_firing_since,
    }
}

fn missing(from: stage::MissingSeries) -> MissingSeries {
    MissingSeries { selector: from.selector, metric: from.metric, recorded_by: from.recorded_by }
}

fn part(from: stage::Part) -> WhyView {
    let sample = |series: stage::PartSeries| {
        let pairs: Vec<(&str, &str)> = series.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        WhySample { labels: Labels::from_pairs(&pairs).to_string(), value: series.value }
    };
    WhyView {
        expression: from.expression,
        depth: from.depth,
        samples: from.series.into_iter().map(sample).collect(),
        total: from.series_count,
        error: from.error,
    }
}
