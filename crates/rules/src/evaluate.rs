//! Evaluating a group: each rule in turn, its series written before the next one looks.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use paramedic_model::{AlertState, Timestamp};
use paramedic_promql::labels::METRIC_NAME;
use paramedic_promql::number::stale;
use paramedic_promql::{Engine, InstantSample, Label, Labels, Point, SampleValue};
use paramedic_samples::{Key, Sample};

use crate::active::{self, Active, Change, Found, State, Timing};
use crate::change::{Telling, change, fingerprint};
use crate::file::RuleKind;
use crate::live::{Health, LiveGroup, LiveRule, RuleState, lock};
use crate::missing::still_missing;
use crate::ports::Ports;
use crate::source::{QuerySource, Question, elements};
use crate::template::{Ask, Reading, Scene};
use crate::wait::{wait, wait_at_most};

/// Samples that are appended at once.
const BATCH: usize = 5_000;
/// Bytes of a label that a template made.
const LABEL_BYTES_MAX: usize = 4 * 1024;

/// A series and its value.
type Made = (Labels, SampleValue);

/// Evaluates every rule of a group for one moment. Blocking; the caller holds the group's turn.
pub(crate) fn evaluate(group: &LiveGroup, ports: &Ports, at_ms: i64) {
    let begun = Instant::now();
    end_series(group, ports, at_ms);
    let shared = ports.source.for_group(&group.repeated);
    let source: &dyn QuerySource = shared.as_deref().unwrap_or(&*ports.source);
    let query_at = Timestamp::from_millis(at_ms.saturating_sub(group.offset_ms));
    let reading = group.book.open(Scene { ask: asker(ports, query_at), now_ms: at_ms });
    for rule in &group.rules {
        let moment = Moment { group, rule, source, ports, at_ms, query_at };
        let started = Instant::now();
        let outcome = match rule.rule.kind {
            RuleKind::Recording => moment.record(),
            RuleKind::Alerting => moment.alert(&reading),
        };
        let mut state = lock(&rule.state);
        state.last_at = Some(at_ms);
        state.evaluation_s = started.elapsed().as_secs_f64();
        ports.metrics.evaluations.inc();
        state.health = match outcome {
            Ok(()) => Health::Ok,
            Err(message) => {
                ports.metrics.evaluation_failures.inc();
                tracing::debug!(group = group.name(), rule = rule.rule.name, error = message, "a rule could not be evaluated");
                Health::Failed(paramedic_model::text::capped(&paramedic_model::secret::mask(&message), 1_024).into_owned())
            }
        };
    }
    drop(reading);
    let mut state = lock(&group.state);
    state.last_at = Some(at_ms);
    state.evaluation_s = begun.elapsed().as_secs_f64();
    ports.metrics.group_seconds.observe(state.evaluation_s);
}

/// Answers templates that ask, at the moment of the evaluation.
fn asker(ports: &Ports, at: Timestamp) -> Ask {
    let source = Arc::clone(&ports.source);
    let limit = ports.settings().query_timeout();
    Arc::new(move |text: &str| {
        let expr = Engine::default().parse(text).map_err(|err| err.to_string())?;
        let answer = wait_at_most(source.instant(Question { text, expr: &expr }, at), limit).map_err(|err| err.to_string())?;
        Ok(elements(answer)?.into_iter().map(|element| (element.labels, element.value)).collect())
    })
}

/// Marks series as ended whose rules are no more.
fn end_series(group: &LiveGroup, ports: &Ports, at_ms: i64) {
    let ended = std::mem::take(&mut lock(&group.state).ended_series);
    if !ended.is_empty() {
        mark_ended(ports, &ended, at_ms.saturating_sub(group.offset_ms));
    }
}

/// Writes staleness markers; what the store refuses is counted.
pub(crate) fn mark_ended(ports: &Ports, series: &[Labels], at_ms: i64) {
    let made: Vec<Made> = series.iter().map(|labels| (labels.clone(), SampleValue::Float(stale()))).collect();
    if let Err(message) = append(ports, &made, at_ms) {
        tracing::warn!(error = message, "series of rules that are no more cannot be marked as ended");
    }
}

fn append(ports: &Ports, made: &[Made], time: i64) -> Result<(), String> {
    for batch in made.chunks(BATCH) {
        let samples: Vec<Sample<'_>> =
            batch.iter().map(|(labels, value)| Sample { series: Key::Labels(labels), time, value: value.clone() }).collect();
        let report = ports.sink.append(&samples).map_err(|err| err.to_string())?;
        let refused = batch.len() as u64 - (report.stored() + report.duplicates).min(batch.len() as u64);
        ports.metrics.samples.inc_by(report.stored());
        ports.metrics.samples_refused.inc_by(refused);
        if let Some(hit) = report.first_limit {
            return Err(format!("the store refused {refused} samples: {hit}"));
        }
    }
    Ok(())
}

/// One rule at one moment.
struct Moment<'a> {
    group: &'a LiveGroup,
    rule: &'a LiveRule,
    source: &'a dyn QuerySource,
    ports: &'a Ports,
    at_ms: i64,
    query_at: Timestamp,
}

impl Moment<'_> {
    fn query(&self) -> Result<Vec<InstantSample>, String> {
        let rule = &self.rule.rule;
        let question = Question { text: &rule.expression, expr: &rule.expr };
        let answer = wait_at_most(self.source.instant(question, self.query_at), self.ports.settings().query_timeout());
        let found = elements(answer.map_err(|err| err.to_string())?)?;
        if !found.is_empty() {
            self.look_again_for_missing();
        }
        Ok(found)
    }

    /// An expression that has a value may have found what was missing until now: nobody shall read that it never had data.
    fn look_again_for_missing(&self) {
        let missing = std::mem::take(&mut lock(&self.rule.state).missing);
        if !missing.is_empty() {
            let still = still_missing(&self.rule.rule.expr, missing, self.source, self.query_at);
            lock(&self.rule.state).missing = still;
        }
    }

    /// Writes this evaluation's series, and ends those that only the last one had.
    fn write(&self, mut made: Vec<Made>) -> Result<(), String> {
        let before = std::mem::take(&mut lock(&self.rule.state).written);
        let now: HashSet<Labels> = made.iter().map(|(labels, _)| labels.clone()).collect();
        made.extend(before.into_iter().filter(|labels| !now.contains(labels)).map(|labels| (labels, SampleValue::Float(stale()))));
        lock(&self.rule.state).written = now;
        if made.is_empty() { Ok(()) } else { append(self.ports, &made, self.query_at.as_millis()) }
    }

    fn record(&self) -> Result<(), String> {
        let found = self.query()?;
        let name: Arc<str> = Arc::from(self.rule.rule.name.as_str());
        let mut made = Vec::with_capacity(found.len());
        let mut seen = HashSet::with_capacity(found.len());
        for InstantSample { labels, value } in found {
            let mut all: Vec<Label> = labels.iter().filter(|label| &*label.name != METRIC_NAME).cloned().collect();
            all.push(Label { name: METRIC_NAME.into(), value: Arc::clone(&name) });
            for (name, text) in &self.rule.labels {
                all.push(Label { name: Arc::clone(name), value: plain(text).into() });
            }
            let labels = Labels::new(all);
            if !seen.insert(labels.clone()) {
                return Err("vector contains metrics with the same labelset after applying rule labels".to_owned());
            }
            let value = match value {
                Point::Float(value) => SampleValue::Float(value),
                Point::Histogram(value) => SampleValue::Histogram(value),
            };
            made.push((labels, value));
        }
        let limit = self.group.limit;
        if limit > 0 && made.len() as i64 > limit {
            return Err(format!("exceeded limit of {limit} with {} series", made.len()));
        }
        self.write(made)
    }

    fn alert(&self, reading: &Reading<'_>) -> Result<(), String> {
        let found = self.find(reading)?;
        let rule = &self.rule.rule;
        let timing = Timing { for_ms: rule.for_ms, keep_firing_for_ms: rule.keep_firing_for_ms };
        let limit = match usize::try_from(self.group.limit) {
            Ok(limit) if limit > 0 => limit,
            _ => self.ports.settings().alerts_per_rule_max,
        };
        let mut state = lock(&self.rule.state);
        let resolved_before = self.recall(&mut state, &found);
        let fired: Vec<Labels> = firing(&state).cloned().collect();
        let outcome = active::step(&mut state.alerts, found, timing, limit, self.at_ms);
        let (changes, failure) = match outcome {
            Ok(changes) => (changes, None),
            Err(active) => {
                let ended = fired.into_iter().map(|labels| (labels, Change::Resolved)).collect();
                (ended, Some(format!("exceeded limit of {limit} with {active} alerts")))
            }
        };
        let made = if state.restored && failure.is_none() { series_of(&state, rule.name.as_str()) } else { Vec::new() };
        let told = self.tell(&state, &changes, resolved_before);
        if failure.is_some() {
            state.alerts.clear();
        }
        drop(state);
        if !told.is_empty() {
            self.ports.metrics.alert_changes.inc_by(told.len() as u64);
            wait(self.ports.alerts.alerts(told));
        }
        match failure {
            Some(failure) => Err(failure),
            None => self.write(made),
        }
    }

    /// What the expression finds, with the labels and annotations of the rule.
    fn find(&self, reading: &Reading<'_>) -> Result<BTreeMap<Labels, Found>, String> {
        let mut found = BTreeMap::new();
        for InstantSample { labels, value } in self.query()? {
            let data = reading.data(&labels, &value);
            let expand = |text| {
                reading.expand(text, &data).unwrap_or_else(|message| {
                    self.ports.metrics.template_failures.inc();
                    message
                })
            };
            let mut all: Vec<Label> = labels.iter().filter(|label| &*label.name != METRIC_NAME).cloned().collect();
            for (name, text) in &self.rule.labels {
                let value = expand(text);
                all.push(Label { name: Arc::clone(name), value: paramedic_model::text::head(&value, LABEL_BYTES_MAX).into() });
            }
            all.push(Label { name: "alertname".into(), value: self.rule.rule.name.as_str().into() });
            let annotations = self.rule.annotations.iter().map(|(name, text)| (name.clone(), expand(text))).collect();
            let value = if let Point::Float(value) = value { value } else { 0.0 };
            if found.insert(Labels::new(all), Found { annotations, value }).is_some() {
                return Err("vector contains metrics with the same labelset after applying alert labels".to_owned());
            }
        }
        Ok(found)
    }

    /// Recognises what fired before the start; gives what has ended meanwhile.
    fn recall(&self, state: &mut RuleState, found: &BTreeMap<Labels, Found>) -> Vec<paramedic_model::AlertChange> {
        if state.fired_before.is_empty() {
            return Vec::new();
        }
        for (labels, found) in found.iter().filter(|(labels, _)| !state.alerts.contains_key(labels)).collect::<Vec<_>>() {
            if let Some(before) = state.fired_before.remove(&fingerprint(labels)) {
                let alert = Active {
                    annotations: found.annotations.clone(),
                    value: found.value,
                    state: State::Firing,
                    active_at: before.started_at.as_millis(),
                    resolved_at: None,
                    keep_firing_since: None,
                };
                state.alerts.insert(labels.clone(), alert);
            }
        }
        if self.at_ms < self.ports.hold_until_ms() {
            return Vec::new();
        }
        state.fired_before.drain().map(|(_, change)| change).collect()
    }

    /// What the journal is to hear.
    fn tell(
        &self,
        state: &RuleState,
        changes: &[(Labels, Change)],
        resolved_before: Vec<paramedic_model::AlertChange>,
    ) -> Vec<paramedic_model::AlertChange> {
        if changes.is_empty() && resolved_before.is_empty() {
            return Vec::new();
        }
        let rule = &self.rule.rule;
        let repeat_ms = crate::config::millis(self.ports.settings().repeat_interval_s);
        let mut ledger = lock(&self.ports.ledger);
        let nothing = BTreeMap::new();
        let mut told = Vec::new();
        for (labels, what) in changes {
            let alert = state.alerts.get(labels);
            let telling = Telling {
                rule: &rule.name,
                group: self.group.name(),
                expression: &rule.expression,
                labels,
                annotations: alert.map_or(&nothing, |alert| &alert.annotations),
                value: alert.map_or(f64::NAN, |alert| alert.value),
                active_at: alert.map_or(self.at_ms, |alert| alert.active_at),
                at: self.at_ms,
                state: if *what == Change::Resolved { AlertState::Resolved } else { AlertState::Firing },
            };
            told.extend(match what {
                Change::Resolved => ledger.resolved(self.rule.id, change(telling)),
                Change::Fired | Change::Fires => ledger.fires(self.rule.id, change(telling), repeat_ms),
            });
        }
        for before in resolved_before {
            let ended = paramedic_model::AlertChange { at: Timestamp::from_millis(self.at_ms), state: AlertState::Resolved, ..before };
            told.extend(ledger.resolved(self.rule.id, ended));
        }
        told
    }
}

fn plain(text: &crate::template::Text) -> &str {
    match text {
        crate::template::Text::Plain(text) => text,
        crate::template::Text::Template { .. } => "",
    }
}

fn firing(state: &RuleState) -> impl Iterator<Item = &Labels> {
    state.alerts.iter().filter(|(_, alert)| alert.state == State::Firing).map(|(labels, _)| labels)
}

/// `ALERTS` and `ALERTS_FOR_STATE` of a rule's active alerts.
fn series_of(state: &RuleState, name: &str) -> Vec<Made> {
    let mut made = Vec::with_capacity(state.alerts.len() * 2);
    let label = |name: &str, value: &str| Label { name: name.into(), value: value.into() };
    for (labels, alert) in state.alerts.iter().filter(|(_, alert)| alert.state != State::Inactive) {
        let mut all: Vec<Label> = labels.iter().cloned().collect();
        all.push(label(METRIC_NAME, "ALERTS_FOR_STATE"));
        all.push(label("alertname", name));
        let onset = Labels::new(all.clone());
        all.push(label(METRIC_NAME, "ALERTS"));
        all.push(label("alertstate", alert.state.as_str()));
        made.push((Labels::new(all), SampleValue::Float(1.0)));
        made.push((onset, SampleValue::Float(alert.active_at.div_euclid(1_000) as f64)));
    }
    made
}
