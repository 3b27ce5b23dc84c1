//! Rules that look for series nobody has: an alert that can never fire, or one that fires for ever.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use paramedic_model::Timestamp;
use paramedic_promql::labels::{METRIC_NAME, MatchOp};
use paramedic_promql::parse::{Expr, ExprKind, Selector};

use crate::file::{Group, RuleKind};
use crate::live::{LiveGroup, lock};
use crate::ports::Ports;
use crate::source::{QuerySource, looks_far_back, selector_text};
use crate::view::MissingSeries;
use crate::wait::wait_at_most;

/// How far back a series may have been seen last.
const SEEN_WITHIN: Duration = Duration::from_secs(24 * 3_600);
/// How long one search may take; what is left comes in the next one.
const SEARCH_MAX: Duration = Duration::from_secs(2);
/// How long one question may take.
const QUESTION_MAX: Duration = Duration::from_secs(10);

/// The selectors of an expression whose absence says something, as they are written.
fn selectors(expr: &Expr) -> Vec<(String, &Selector)> {
    let mut found: Vec<(String, &Selector)> = Vec::new();
    let mut open = vec![(expr, false)];
    while let Some((expr, far)) = open.pop() {
        let far = far || looks_far_back(expr);
        match &expr.kind {
            ExprKind::Selector(selector) | ExprKind::Matrix { selector, .. } => {
                let text = plain_text(selector);
                let ours = matches!(selector.name.as_deref(), Some("ALERTS" | "ALERTS_FOR_STATE"));
                if !far && !ours && !found.iter().any(|(known, _)| *known == text) {
                    found.push((text, selector));
                }
            }
            _ => open.extend(expr.children().into_iter().rev().map(|child| (child, far))),
        }
    }
    found
}

/// A selector as people write it, without its range.
fn plain_text(selector: &Selector) -> String {
    let is_name = |matcher: &&paramedic_promql::Matcher| &*matcher.name == METRIC_NAME && matches!(matcher.op, MatchOp::Equal);
    let name = selector.matchers.iter().find(is_name).map(|matcher| matcher.value.to_string());
    match name {
        Some(name) if crate::names::is_plain_label(&name.replace(':', "_")) => {
            let others: Vec<_> = selector.matchers.iter().filter(|matcher| !is_name(matcher)).cloned().collect();
            if others.is_empty() { name } else { format!("{name}{}", selector_text(&others)) }
        }
        _ => selector_text(&selector.matchers),
    }
}

fn metric_of(selector: &Selector) -> String {
    let name = selector.matchers.iter().find(|matcher| &*matcher.name == METRIC_NAME && matches!(matcher.op, MatchOp::Equal));
    name.map(|name| name.value.to_string()).unwrap_or_default()
}

/// Whether a selector matched anything within a day; `None` when nobody could say.
fn seen(source: &dyn QuerySource, selector: &Selector, now: Timestamp) -> Option<bool> {
    match wait_at_most(source.any_series(&selector.matchers, now.before(SEEN_WITHIN), now), QUESTION_MAX) {
        Ok(seen) => Some(seen),
        Err(err) => {
            tracing::debug!(error = %err, "a search for missing series failed");
            None
        }
    }
}

/// What is missing for one expression; answers are remembered by selector.
fn missing_of(
    expr: &Expr,
    source: &dyn QuerySource,
    recorded: &HashMap<&str, &str>,
    known: &mut BTreeMap<String, Option<bool>>,
    now: Timestamp,
) -> Vec<MissingSeries> {
    let mut missing = Vec::new();
    for (text, selector) in selectors(expr) {
        let answer = *known.entry(text.clone()).or_insert_with(|| seen(source, selector, now));
        if answer == Some(false) {
            let metric = metric_of(selector);
            let recorded_by = recorded.get(metric.as_str()).map(|group| (*group).to_owned());
            missing.push(MissingSeries { selector: text, metric, recorded_by });
        }
    }
    missing
}

/// What of it is missing still.
pub(crate) fn still_missing(expr: &Expr, mut missing: Vec<MissingSeries>, source: &dyn QuerySource, now: Timestamp) -> Vec<MissingSeries> {
    let selectors = selectors(expr);
    missing.retain(|one| {
        let selector = selectors.iter().find(|(text, _)| *text == one.selector);
        selector.is_none_or(|(_, selector)| seen(source, selector, now) != Some(true))
    });
    missing
}

/// What is missing for a rule that is not loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingInRule {
    pub group: String,
    pub rule: String,
    pub line: usize,
    pub missing: Vec<MissingSeries>,
}

/// The rules of some groups with selectors that matched nothing in the last day. Blocking.
pub fn missing_series(groups: &[Group], source: &dyn QuerySource, now: Timestamp) -> Vec<MissingInRule> {
    let recording = groups.iter().flat_map(|group| group.rules.iter().map(move |rule| (group, rule)));
    let recorded: HashMap<&str, &str> = recording
        .clone()
        .filter(|(_, rule)| rule.kind == RuleKind::Recording)
        .map(|(group, rule)| (rule.name.as_str(), group.name.as_str()))
        .collect();
    let mut known = BTreeMap::new();
    let look = |(group, rule): (&Group, &crate::file::Rule)| MissingInRule {
        group: group.name.clone(),
        rule: rule.name.clone(),
        line: rule.line,
        missing: missing_of(&rule.expr, source, &recorded, &mut known, now),
    };
    recording.map(look).filter(|rule| !rule.missing.is_empty()).collect()
}

/// Searches in turns, each bounded.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// The rule after which the next turn begins.
    next: usize,
}

impl Search {
    /// One turn over the loaded rules; true when it came to the end. Blocking.
    pub(crate) fn turn(&mut self, groups: &[Arc<LiveGroup>], ports: &Ports) -> bool {
        let begun = Instant::now();
        let now = ports.clock.now();
        let rules: Vec<_> = groups.iter().flat_map(|group| group.rules.iter().map(move |rule| (group, rule))).collect();
        let recorded: HashMap<&str, &str> = rules
            .iter()
            .filter(|(_, rule)| rule.rule.kind == RuleKind::Recording)
            .map(|(group, rule)| (rule.rule.name.as_str(), group.name()))
            .collect();
        let mut known = BTreeMap::new();
        for (_, rule) in rules.iter().skip(self.next) {
            let missing = missing_of(&rule.rule.expr, &*ports.source, &recorded, &mut known, now);
            lock(&rule.state).missing = missing;
            self.next += 1;
            if begun.elapsed() > SEARCH_MAX {
                break;
            }
        }
        let done = self.next >= rules.len();
        if done {
            self.next = 0;
        }
        let without = rules.iter().filter(|(_, rule)| !lock(&rule.state).missing.is_empty()).count();
        ports.metrics.rules_without_series.set(i64::try_from(without).unwrap_or(i64::MAX));
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::LocalSource;
    use paramedic_promql::{Engine, Labels, MemoryStorage, SampleValue};

    #[test]
    fn selectors_without_series_are_named() {
        let store = Arc::new(MemoryStorage::new());
        store.append(&Labels::from_pairs(&[("__name__", "up"), ("job", "a")]), [(3_600_000, SampleValue::Float(1.0))]);
        let source = LocalSource::new(Engine::default(), store);
        let text = "groups:\n- name: g\n  rules:\n  - {record: 'job:x', expr: sum(gone)}\n  - {alert: A, expr: 'up{job=\"a\"} == 0 and up{job=\"b\"} == 0'}\n  - {alert: B, expr: 'job:x > 1 or ALERTS'}\n  - {alert: C, expr: 'rate(up[5m]) > 0 or up offset 2d'}\n";
        let groups = crate::parse(text, "f").unwrap().groups;
        let found: Vec<String> = missing_series(&groups, &source, Timestamp::from_secs(7_200))
            .into_iter()
            .flat_map(|rule| {
                rule.missing.into_iter().map(move |missing| format!("{} {} {:?}", rule.rule, missing.selector, missing.recorded_by))
            })
            .collect();
        assert_eq!(found, ["job:x gone None", "A up{job=\"b\"} None", "B job:x Some(\"g\")"]);
    }
}
