//! A store, rules and a journal that remembers, on a clock that is told the time.

use std::path::Path;
use std::sync::{Arc, Mutex};

use paramedic_model::{AlertChange, AlertState, Clock, ManualClock, Timestamp};
use paramedic_promql::{Engine, Labels, SampleValue, Value};
use paramedic_rules::{AlertSink, BoxFuture, Loaded, LocalSource, Rules, Settings};
use paramedic_samples::{Key, Sample, Samples};

/// What the journal was told.
#[derive(Default)]
pub(crate) struct Told(pub(crate) Mutex<Vec<AlertChange>>);

impl AlertSink for Told {
    fn alerts(&self, changes: Vec<AlertChange>) -> BoxFuture<'_, ()> {
        self.0.lock().unwrap().extend(changes);
        Box::pin(async {})
    }
}

pub(crate) struct Stage {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) samples: Samples,
    pub(crate) told: Arc<Told>,
    pub(crate) rules: Rules,
}

/// The second at which every story begins.
pub(crate) const BEGIN_S: i64 = 1_700_000_000;

impl Stage {
    pub(crate) fn new(dir: &Path, at_s: i64, settings: Settings) -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(BEGIN_S + at_s)));
        let store = paramedic_samples::Settings { upkeep_interval_s: 0, ..paramedic_samples::Settings::default() };
        let samples = Samples::open(dir, store, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        let told = Arc::new(Told::default());
        let source = Arc::new(LocalSource::new(Engine::default(), Arc::new(samples.clone())));
        let rules = Rules::new(
            Settings { pack: false, ..settings },
            source,
            Arc::new(samples.clone()),
            Arc::clone(&told) as Arc<dyn AlertSink>,
            Arc::clone(&clock) as Arc<dyn Clock>,
        );
        Self { clock, samples, told, rules }
    }

    pub(crate) async fn load(&self, text: &str) -> Loaded {
        let loaded = self.rules.load_texts(vec![("rules.yml".to_owned(), text.to_owned())]).await;
        assert!(loaded.problems.iter().all(|problem| !problem.is_error()), "{:#?}", loaded.problems);
        loaded
    }

    pub(crate) fn put(&self, at_s: i64, series: &[(&str, &str)], value: f64) {
        let time = (BEGIN_S + at_s) * 1_000;
        let sample = Sample { series: Key::Pairs(series), time, value: SampleValue::Float(value) };
        assert_eq!(self.samples.append(&[sample]).unwrap().stored(), 1);
    }

    pub(crate) async fn evaluate(&self, at_s: i64) {
        let at = Timestamp::from_secs(BEGIN_S + at_s);
        self.clock.set(at);
        self.rules.evaluate(at).await;
    }

    /// What was told since the last time: state and fingerprint's name.
    pub(crate) fn heard(&self) -> Vec<AlertChange> {
        std::mem::take(&mut self.told.0.lock().unwrap())
    }

    pub(crate) fn heard_short(&self) -> Vec<String> {
        let short = |change: &AlertChange| {
            let state = if change.state == AlertState::Firing { "firing" } else { "resolved" };
            let onset = change.started_at.as_secs() - BEGIN_S;
            format!("{state} {} since {onset} at {}", change.rule.as_ref().unwrap().name, change.at.as_secs() - BEGIN_S)
        };
        self.heard().iter().map(short).collect()
    }

    /// The answer to an expression, one line for each series.
    pub(crate) fn query(&self, at_s: i64, expr: &str) -> Vec<String> {
        let answer = Engine::default().instant(&self.samples, expr, (BEGIN_S + at_s) * 1_000).unwrap();
        let Value::Vector(found) = answer.value else { panic!("a vector") };
        let mut lines: Vec<String> = found.iter().map(|element| format!("{} {:?}", element.labels, element.value)).collect();
        lines.sort();
        lines
    }

    pub(crate) fn states(&self) -> Vec<String> {
        let groups = self.rules.groups();
        let rules = groups.iter().flat_map(|group| &group.rules);
        rules.map(|rule| format!("{} {:?} {:?} {}", rule.name, rule.health, rule.state, rule.alerts.len())).collect()
    }
}

/// Labels from pairs, for comparisons.
pub(crate) fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs)
}
