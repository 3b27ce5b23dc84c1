//! After a restart: the waiting time of pending alerts goes on, and what fired before is recognised.

use std::collections::{BTreeMap, HashMap};

use paramedic_model::{AlertChange, AlertState, Timestamp};
use paramedic_promql::labels::METRIC_NAME;
use paramedic_promql::{Label, Labels, Matcher};

use crate::active::State;
use crate::config::{Settings, millis};
use crate::file::RuleKind;
use crate::live::{LiveGroup, LiveRule, RuleState, lock};
use crate::ports::Ports;
use crate::source::{LastSample, is_live};
use crate::wait::wait_at_most;

/// How waiting times go on after an outage. Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Continuation {
    pub outage_tolerance_ms: i64,
    pub grace_ms: i64,
    /// An outage up to this long is none.
    pub gap_ms: i64,
}

impl From<&Settings> for Continuation {
    fn from(settings: &Settings) -> Self {
        Self {
            outage_tolerance_ms: millis(settings.outage_tolerance_s),
            grace_ms: millis(settings.for_grace_s),
            gap_ms: millis(settings.for_gap_s),
        }
    }
}

/// When an alert's condition is held to have begun, given what was last recorded of it before the outage; `None` leaves
/// what the first evaluation found. The rules are those of Prometheus, but for an outage too short to matter.
pub fn restored_onset(onset_ms: i64, last_ms: i64, now_ms: i64, for_ms: i64, how: Continuation) -> Option<i64> {
    let down = now_ms.saturating_sub(last_ms);
    if down > how.outage_tolerance_ms || onset_ms > last_ms {
        return None;
    }
    if down <= how.gap_ms {
        return Some(onset_ms);
    }
    if for_ms < how.grace_ms {
        return None;
    }
    let remaining = for_ms.saturating_sub(last_ms - onset_ms);
    Some(if remaining <= 0 {
        // It fired when the outage began, and fires again with the next evaluation.
        onset_ms
    } else if remaining < how.grace_ms {
        now_ms + how.grace_ms - for_ms
    } else {
        onset_ms + down
    })
}

/// Lets the `for` of a group's alerts go on where the recorded series say so. Once, after the first evaluation; blocking.
pub(crate) fn continue_waiting(group: &LiveGroup, ports: &Ports, now_ms: i64) {
    let how = Continuation::from(&*ports.settings());
    for rule in group.rules.iter().filter(|rule| rule.rule.kind == RuleKind::Alerting) {
        let pending = {
            let state = lock(&rule.state);
            !state.restored && state.alerts.values().any(|alert| alert.state == State::Pending)
        };
        // Only what waits can be told to have waited longer.
        let found = if pending { last_recorded(rule, ports, now_ms - how.outage_tolerance_ms, now_ms) } else { HashMap::new() };
        let mut state = lock(&rule.state);
        state.restored = true;
        if !found.is_empty() {
            apply(&mut state, &found, rule.rule.for_ms, now_ms, how);
        }
    }
}

fn apply(state: &mut RuleState, found: &HashMap<Labels, LastSample>, for_ms: i64, now_ms: i64, how: Continuation) {
    for (labels, alert) in state.alerts.iter_mut().filter(|(_, alert)| alert.state == State::Pending) {
        let Some(sample) = found.get(labels).filter(|sample| is_live(sample)) else { continue };
        if let Some(onset) = restored_onset(sample.value as i64 * 1_000, sample.time, now_ms, for_ms, how) {
            alert.active_at = onset;
        }
    }
}

/// The last recorded onset of each alert of a rule, by the alert's labels.
fn last_recorded(rule: &LiveRule, ports: &Ports, from_ms: i64, to_ms: i64) -> HashMap<Labels, LastSample> {
    let mut matchers = vec![Matcher::equal(METRIC_NAME, "ALERTS_FOR_STATE"), Matcher::equal("alertname", &rule.rule.name)];
    for (name, text) in rule.rule.labels.iter().filter(|(_, text)| !text.contains("{{")) {
        if name != "alertname" {
            matchers.push(Matcher::equal(name, text));
        }
    }
    let asked = ports.source.last_samples(&matchers, Timestamp::from_millis(from_ms), Timestamp::from_millis(to_ms));
    let found = match wait_at_most(asked, ports.settings().query_timeout()) {
        Ok(found) => found,
        Err(err) => {
            tracing::warn!(rule = rule.rule.name, error = %err, "the waiting time of alerts before the start cannot be read");
            return HashMap::new();
        }
    };
    let unnamed = |labels: &Labels| labels.iter().filter(|label| &*label.name != METRIC_NAME).cloned().collect::<Vec<Label>>();
    found.into_iter().map(|sample| (Labels::new(unnamed(&sample.labels)), sample)).collect()
}

/// The rule that an alert of the journal came from: same name, and every label the rule fixes is the alert's.
pub(crate) fn rule_of<'a>(groups: impl Iterator<Item = &'a LiveGroup> + Clone, change: &AlertChange) -> Option<&'a LiveRule> {
    let alert = change.rule.as_ref()?;
    let fits = |rule: &&LiveRule| {
        let labels = &rule.rule.labels;
        rule.rule.kind == RuleKind::Alerting
            && rule.rule.name == alert.name
            && labels.iter().all(|(name, text)| text.contains("{{") || text.is_empty() || agrees(&alert.labels, name, text))
    };
    let of = |same_group: bool| {
        groups.clone().filter(move |group| !same_group || group.name() == alert.group).flat_map(|group| &group.rules).find(fits)
    };
    of(true).or_else(|| of(false))
}

/// A label that was masked or cut in the journal cannot be compared.
fn agrees(labels: &BTreeMap<String, String>, name: &str, text: &str) -> bool {
    name == "alertname" || labels.get(name).is_none_or(|value| value == text || value.contains("***") || value.contains('…'))
}

/// The end of an alert whose rule is gone.
pub(crate) fn ended(change: AlertChange, at: Timestamp) -> AlertChange {
    AlertChange { at, state: AlertState::Resolved, ..change }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn onset(last: i64, now: i64, for_minutes: i64) -> Option<i64> {
        let how = Continuation { outage_tolerance_ms: 60 * MINUTE, grace_ms: 10 * MINUTE, gap_ms: MINUTE };
        // The condition began at minute 100.
        restored_onset(100 * MINUTE, last * MINUTE, now * MINUTE, for_minutes * MINUTE, how).map(|ms| ms / MINUTE)
    }

    #[test]
    fn waiting_goes_on_as_in_prometheus() {
        for (last, now, for_minutes, expected, why) in [
            (105, 125, 30, Some(120), "the outage does not count"),
            (128, 140, 30, Some(120), "little is left: the grace period is waited for"),
            (140, 150, 30, Some(100), "it fired before the outage"),
            (105, 125, 9, None, "shorter than the grace period: begins anew"),
            (105, 106, 9, Some(100), "hardly an outage"),
            (105, 166, 30, None, "longer than tolerated"),
            (99, 100, 30, None, "a recorded onset after its own record is nonsense"),
        ] {
            assert_eq!(onset(last, now, for_minutes), expected, "{why}");
        }
    }
}
