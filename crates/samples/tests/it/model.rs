//! The store against a map: whatever comes in whatever order, both answer the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use paramedic_promql::histogram::Histogram;
use paramedic_promql::{Labels, Matcher, SampleValue};
use paramedic_samples::{AppendReport, Key, Sample, Samples, Settings};
use proptest::prelude::*;

use crate::story::{HOUR, MINUTE, START, open, quiet};

const WINDOW: i64 = 5 * MINUTE;

/// A value's bits, or the sum of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Float(u64),
    Histogram(u64),
}

/// The rules in a few lines.
#[derive(Default)]
struct Naive(HashMap<Labels, BTreeMap<i64, Kept>>);

impl Naive {
    fn append(&mut self, labels: &Labels, time: i64, value: Kept, report: &mut AppendReport) {
        let series = self.0.entry(labels.clone()).or_default();
        let last = series.last_key_value().map_or(i64::MIN, |(last, _)| *last);
        match series.get(&time) {
            Some(there) if *there == value => report.duplicates += 1,
            Some(_) => report.conflicts += 1,
            None if time > last => report.appended += 1,
            None if time >= last.saturating_sub(WINDOW) => report.late += 1,
            None => {
                report.too_old += 1;
                return;
            }
        }
        series.entry(time).or_insert(value);
    }

    fn select(&self, matchers: &[Matcher], from: i64, to: i64) -> Vec<(String, Vec<(i64, Kept)>)> {
        let passes = |labels: &Labels| matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name)));
        let mut found: Vec<_> = self
            .0
            .iter()
            .filter(|(labels, _)| passes(labels))
            .map(|(labels, samples)| {
                (labels.to_string(), samples.range(from..=to).map(|(time, value)| (*time, *value)).collect::<Vec<_>>())
            })
            .filter(|(_, samples)| !samples.is_empty())
            .collect();
        found.sort();
        found
    }
}

impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Kept {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |kept: &Self| match kept {
            Self::Float(bits) => (0, *bits),
            Self::Histogram(bits) => (1, *bits),
        };
        key(self).cmp(&key(other))
    }
}

fn select(store: &Samples, matchers: &[Matcher], from: i64, to: i64) -> Vec<(String, Vec<(i64, Kept)>)> {
    let mut found: Vec<_> = store
        .select(matchers, from, to)
        .expect("selects")
        .into_iter()
        .map(|series| {
            let floats = series.samples.times.iter().zip(&series.samples.values).map(|(time, value)| (*time, Kept::Float(value.to_bits())));
            let histograms = series.samples.histograms.iter().map(|(time, histogram)| (*time, Kept::Histogram(histogram.sum.to_bits())));
            let mut samples: Vec<_> = floats.chain(histograms).collect();
            samples.sort();
            (series.labels.to_string(), samples)
        })
        .collect();
    found.sort();
    found
}

#[derive(Debug, Clone)]
enum Step {
    /// Series, milliseconds since the step before (negative: late), value, as a histogram.
    Append(Vec<(usize, i64, u64, bool)>),
    Jump(i64),
    Upkeep,
    Checkpoint,
    Reopen,
}

fn any_bits() -> impl Strategy<Value = u64> {
    prop_oneof![
        (0i64..100).prop_map(|value| (value as f64).to_bits()),
        (0i64..1000).prop_map(|value| (value as f64 / 100.0).to_bits()),
        any::<u64>(),
        Just(0x7ff0_0000_0000_0002),
        Just((-0f64).to_bits()),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let time = prop_oneof![4 => 1i64..30_000, 2 => Just(15_000i64), 1 => -40_000i64..1, 1 => -400_000i64..-40_000];
    let one = (0usize..6, time, any_bits(), prop::bool::weighted(0.1));
    prop_oneof![
        20 => prop::collection::vec(one, 1..60).prop_map(Step::Append),
        2 => (MINUTE..5 * HOUR).prop_map(Step::Jump),
        2 => Just(Step::Upkeep),
        1 => Just(Step::Checkpoint),
        2 => Just(Step::Reopen),
    ]
}

fn series(i: usize) -> Labels {
    Labels::from_pairs(&[("__name__", ["up", "requests_total"][i % 2]), ("job", ["a", "b", ""][i % 3]), ("i", &i.to_string())])
}

fn run(steps: &[Step], settings: &Settings) {
    let dir = tempfile::tempdir().expect("folder");
    let mut store = open(dir.path(), settings.clone());
    let mut naive = Naive::default();
    let all: Vec<Labels> = (0..6).map(series).collect();
    let mut now = START;
    for step in steps {
        match step {
            Step::Append(samples) => {
                let mut expected = AppendReport::default();
                let mut batches: [Vec<Sample<'_>>; 2] = Default::default();
                for (i, since, bits, histogram) in samples {
                    let time = now + since;
                    now = now.max(time);
                    let sum = f64::from_bits(*bits);
                    let value = if *histogram {
                        SampleValue::Histogram(Arc::new(Histogram { sum, count: 2.0, positive: vec![(1, 2.0)], ..Histogram::default() }))
                    } else {
                        SampleValue::Float(sum)
                    };
                    batches[usize::from(*histogram)].push(Sample { series: Key::Labels(&all[*i]), time, value });
                }
                // A batch applies its floats first; two batches make the order plain.
                let mut report = AppendReport::default();
                for batch in &batches {
                    for sample in batch {
                        let Key::Labels(labels) = sample.series else { continue };
                        let kept = match &sample.value {
                            SampleValue::Float(value) => Kept::Float(value.to_bits()),
                            SampleValue::Histogram(histogram) => Kept::Histogram(histogram.sum.to_bits()),
                        };
                        naive.append(labels, sample.time, kept, &mut expected);
                    }
                    let part = store.append(batch).expect("appends");
                    report.appended += part.appended;
                    report.late += part.late;
                    report.duplicates += part.duplicates;
                    report.conflicts += part.conflicts;
                    report.too_old += part.too_old;
                }
                assert_eq!(report.stored(), expected.stored());
                // What has left the memory cannot be compared any more: it is too old either way.
                assert_eq!(
                    report.duplicates + report.conflicts + report.too_old,
                    expected.duplicates + expected.conflicts + expected.too_old
                );
            }
            Step::Jump(by) => now += by,
            Step::Upkeep => store.upkeep().expect("keeps up"),
            Step::Checkpoint => store.checkpoint().expect("saves"),
            Step::Reopen => {
                drop(store);
                store = open(dir.path(), settings.clone());
                assert_eq!((store.recovery().orphans, &*store.recovery().damages), (0, &[][..]));
            }
        }
    }
    let regex = |name: &str, pattern: &str, negated: bool| Matcher::regex(name, pattern, negated).expect("a pattern");
    for matchers in [
        vec![],
        vec![Matcher::equal("__name__", "up")],
        vec![Matcher::equal("job", "")],
        vec![Matcher::not_equal("job", "a"), regex("__name__", "req.*", false)],
        vec![regex("i", "1|3|9", true)],
    ] {
        for (from, to) in [(i64::MIN, i64::MAX), (START + 30_000, START + 2 * HOUR), (now - 5 * MINUTE, now), (now + 1, i64::MAX)] {
            assert_eq!(select(&store, &matchers, from, to), naive.select(&matchers, from, to), "{matchers:?} {from} {to}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 300, ..ProptestConfig::with_cases(60) })]

    #[test]
    fn answers_like_a_map(steps in prop::collection::vec(any_step(), 1..40)) {
        run(&steps, &quiet());
    }

    #[test]
    fn answers_like_a_map_when_everything_is_tight(steps in prop::collection::vec(any_step(), 1..40)) {
        run(&steps, &Settings { head_s: 300, partition_h: 2, segment_bytes_max: 2_000, checkpoint_bytes: 6_000, partition_indexes_max: 1, ..quiet() });
    }
}
