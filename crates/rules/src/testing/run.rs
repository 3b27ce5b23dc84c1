//! Running the tests of one group of series.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use paramedic_model::{AlertChange, ManualClock};
use paramedic_promql::number::format_general;
use paramedic_promql::{Engine, Labels, MemoryStorage, Options, Point};
use paramedic_samples::{AppendReport, Key, Metadata, Sample, SampleSink, SamplesError};

use super::read::{ExpectedAlert, ExprTest, TestFile, TestGroup};
use super::{Failure, series};
use crate::active::State;
use crate::config::Settings;
use crate::file::{Group, RuleKind};
use crate::live::{Health, LiveGroup, lock};
use crate::ports::{AlertSink, Ports};
use crate::source::{BoxFuture, LocalSource, elements};

/// The most evaluations of one test.
const EVALUATIONS_MAX: i64 = 5_000_000;

/// Takes what rules record.
struct Memory(Arc<MemoryStorage>);

impl SampleSink for Memory {
    fn append(&self, batch: &[Sample<'_>]) -> Result<AppendReport, SamplesError> {
        for sample in batch {
            if let Key::Labels(labels) = sample.series {
                self.0.append(labels, [(sample.time, sample.value.clone())]);
            }
        }
        Ok(AppendReport { appended: batch.len() as u64, ..AppendReport::default() })
    }

    fn set_metadata(&self, _: &str, _: Metadata) -> Result<(), SamplesError> {
        Ok(())
    }
}

/// Nobody is told of alerts.
struct Nobody;

impl AlertSink for Nobody {
    fn alerts(&self, _: Vec<AlertChange>) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// One series and how far it was loaded.
struct Feed {
    labels: Labels,
    points: std::vec::IntoIter<series::Point>,
    next_ms: i64,
}

/// Lines of what was expected and of what was found.
type Difference = (Vec<String>, Vec<String>);

struct Test<'a> {
    group: &'a TestGroup,
    store: Arc<MemoryStorage>,
    engine: Engine,
    feeds: Vec<Feed>,
    step_ms: i64,
    fuzzy: bool,
    failures: Vec<Failure>,
}

/// Runs one test over the groups of the rule files.
pub(super) fn run(file: &TestFile, test: &TestGroup, groups: &[(String, Group)]) -> Vec<Failure> {
    let step_ms = if test.interval_ms > 0 { test.interval_ms } else { file.interval_ms };
    let failed = |message: String| vec![Failure::plain(&test.name, message)];
    if let Some(nameless) = test.alerts.iter().find(|alert| alert.name.is_empty()) {
        let at = duration(nameless.at_ms);
        return failed(format!("an item under alert_rule_test misses required attribute alertname at eval_time {at}"));
    }
    let feeds = match load(test) {
        Ok(feeds) => feeds,
        Err(message) => return failed(message),
    };
    let options = Options { subquery_step_ms: file.interval_ms, ..Options::default() };
    let (store, engine) = (Arc::new(MemoryStorage::new()), Engine::new(options));
    let mut run = Test { group: test, store, engine, feeds, step_ms, fuzzy: file.fuzzy, failures: Vec::new() };
    let settings = Settings {
        external_labels: test.external_labels.clone(),
        external_url: test.external_url.clone(),
        alerts_per_rule_max: 0,
        repeat_interval_s: u64::MAX,
        ..Settings::default()
    };
    let mut live: Vec<LiveGroup> = groups.iter().map(|(file, group)| LiveGroup::new(file, group.clone(), &settings)).collect();
    live.sort_by_key(|group| file.order.iter().position(|name| name == group.name()).unwrap_or(0));
    for rule in live.iter().flat_map(|group| &group.rules) {
        lock(&rule.state).restored = true;
    }
    let source = Arc::new(LocalSource::new(run.engine.clone(), Arc::clone(&run.store) as Arc<dyn crate::source::SeriesStore>));
    let clock = Arc::new(ManualClock::default());
    let ports = Ports::new(settings, source, Arc::new(Memory(Arc::clone(&run.store))), Arc::new(Nobody), clock);
    if run.evaluate(&live, &ports, file.interval_ms) {
        run.check_expressions();
    }
    run.failures
}

fn load(test: &TestGroup) -> Result<Vec<Feed>, String> {
    let feed = |(written, values): &(String, String)| {
        let labels = series::labels(written).map_err(|err| format!("input_series {written:?}: {err}"))?;
        let points = series::points(values).map_err(|err| format!("input_series {written:?}: {err}"))?;
        Ok(Feed { labels, points: points.into_iter(), next_ms: test.start_ms })
    };
    test.series.iter().map(feed).collect()
}

/// A duration as Prometheus writes it.
pub(super) fn duration(ms: i64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    const UNITS: [(&str, i64, bool); 7] = [
        ("y", 31_536_000_000, true),
        ("w", 604_800_000, true),
        ("d", 86_400_000, false),
        ("h", 3_600_000, false),
        ("m", 60_000, false),
        ("s", 1_000, false),
        ("ms", 1, false),
    ];
    let (mut rest, mut text) = (ms, String::new());
    for (name, size, exact) in UNITS {
        if exact && rest % size != 0 {
            continue;
        }
        if rest / size > 0 {
            text.push_str(&format!("{}{name}", rest / size));
            rest %= size;
        }
    }
    text
}

impl Test<'_> {
    fn load_till(&mut self, until_ms: i64) {
        for feed in &mut self.feeds {
            let mut due = Vec::new();
            while feed.next_ms <= until_ms {
                let Some(point) = feed.points.next() else { break };
                due.extend(point.map(|value| (feed.next_ms, value)));
                feed.next_ms += self.step_ms;
            }
            if !due.is_empty() {
                self.store.append(&feed.labels, due);
            }
        }
    }

    /// Evaluates the groups as often as the tests need; false when a rule failed.
    fn evaluate(&mut self, groups: &[LiveGroup], ports: &Ports, interval_ms: i64) -> bool {
        let times = self.group.alerts.iter().map(|test| test.at_ms).chain(self.group.exprs.iter().map(|test| test.at_ms));
        let last_ms = times.max().unwrap_or(0);
        if last_ms / interval_ms > EVALUATIONS_MAX {
            self.failures.push(Failure::plain(&self.group.name, format!("more than {EVALUATIONS_MAX} evaluations")));
            return false;
        }
        let mut due: Vec<i64> = self.group.alerts.iter().map(|test| test.at_ms).collect::<BTreeSet<_>>().into_iter().rev().collect();
        for since_ms in (0..=last_ms).step_by(usize::try_from(interval_ms).unwrap_or(60_000)) {
            let at_ms = self.group.start_ms + since_ms;
            self.load_till(at_ms);
            for group in groups {
                crate::evaluate::evaluate(group, ports, at_ms);
            }
            if self.rule_failures(groups, since_ms) {
                return false;
            }
            while due.last().is_some_and(|due| *due < since_ms + interval_ms) {
                if let Some(at_ms) = due.pop() {
                    self.check_alerts(groups, at_ms);
                }
            }
        }
        true
    }

    fn rule_failures(&mut self, groups: &[LiveGroup], since_ms: i64) -> bool {
        let before = self.failures.len();
        for rule in groups.iter().flat_map(|group| &group.rules) {
            if let Health::Failed(message) = &lock(&rule.state).health {
                let message = format!("rule: {}, time: {}, err: {message}", rule.rule.name, duration(since_ms));
                self.failures.push(Failure::plain(&self.group.name, message));
            }
        }
        self.failures.len() > before
    }

    fn check_alerts(&mut self, groups: &[LiveGroup], at_ms: i64) {
        for test in self.group.alerts.iter().filter(|test| test.at_ms == at_ms) {
            let mut got: Vec<ExpectedAlert> = Vec::new();
            let rules = groups.iter().flat_map(|group| &group.rules);
            for rule in rules.filter(|rule| rule.rule.kind == RuleKind::Alerting && rule.rule.name == test.name) {
                for (labels, alert) in lock(&rule.state).alerts.iter().filter(|(_, alert)| alert.state == State::Firing) {
                    let labels = labels.iter().map(|label| (label.name.to_string(), label.value.to_string())).collect();
                    got.push(ExpectedAlert { labels, annotations: alert.annotations.clone() });
                }
            }
            let mut expected = test.expected.clone();
            for alert in &mut expected {
                alert.labels.insert("alertname".to_owned(), test.name.clone());
            }
            expected.sort();
            got.sort();
            if expected != got {
                let show = |alerts: &[ExpectedAlert]| alerts.iter().map(show_alert).collect();
                self.failures.push(Failure {
                    test: self.group.name.clone(),
                    what: format!("alertname: {}, time: {}", test.name, duration(at_ms)),
                    expected: show(&expected),
                    got: show(&got),
                    message: None,
                });
            }
        }
    }

    fn check_expressions(&mut self) {
        for test in &self.group.exprs {
            let what = format!("expr: {:?}, time: {}", test.expr, duration(test.at_ms));
            let mut failure = Failure { test: self.group.name.clone(), what, expected: Vec::new(), got: Vec::new(), message: None };
            match self.compare(test) {
                Ok(None) => continue,
                Ok(Some((expected, got))) => (failure.expected, failure.got) = (expected, got),
                Err(message) => failure.message = Some(message),
            }
            self.failures.push(failure);
        }
    }

    /// What was expected and what was found, when they differ.
    fn compare(&self, test: &ExprTest) -> Result<Option<Difference>, String> {
        let at_ms = self.group.start_ms + test.at_ms;
        let answer = self.engine.instant(&self.store, &test.expr, at_ms).map_err(|err| err.to_string())?;
        let mut got: Vec<(Labels, Point)> = elements(answer)?.into_iter().map(|element| (element.labels, element.value)).collect();
        let mut expected = Vec::with_capacity(test.expected.len());
        for sample in &test.expected {
            let labels = series::labels(&sample.labels).map_err(|err| format!("labels {:?}: {err}", sample.labels))?;
            let value = if sample.histogram.is_empty() {
                Point::Float(sample.value)
            } else {
                let histogram = series::one_histogram(&sample.histogram).map_err(|err| format!("labels {:?}: {err}", sample.labels))?;
                Point::Histogram(Arc::new(histogram))
            };
            expected.push((labels, value));
        }
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        got.sort_by(|a, b| a.0.cmp(&b.0));
        let same = |((labels, value), (other_labels, other)): (&(Labels, Point), &(Labels, Point))| {
            labels == other_labels && self.equal(value, other)
        };
        if expected.len() == got.len() && expected.iter().zip(&got).all(same) {
            return Ok(None);
        }
        let show = |samples: &[(Labels, Point)]| samples.iter().map(show_sample).collect();
        Ok(Some((show(&expected), show(&got))))
    }

    /// As promtool compares: NaN equals nothing; the fuzzy comparison allows the neighbouring numbers.
    fn equal(&self, expected: &Point, got: &Point) -> bool {
        match (expected, got) {
            (Point::Float(expected), Point::Float(got)) => {
                expected == got || self.fuzzy && (expected.next_up() == *got || expected.next_down() == *got)
            }
            (Point::Histogram(expected), Point::Histogram(got)) => expected.same_data(got),
            _ => false,
        }
    }
}

fn show_map(pairs: &BTreeMap<String, String>) -> String {
    Labels::from_pairs(&pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>()).to_string()
}

fn show_alert(alert: &ExpectedAlert) -> String {
    format!("Labels:{} Annotations:{}", show_map(&alert.labels), show_map(&alert.annotations))
}

fn show_sample((labels, value): &(Labels, Point)) -> String {
    match value {
        Point::Float(value) => format!("{labels} {}", format_general(*value)),
        Point::Histogram(value) => format!("{labels} {value}"),
    }
}
