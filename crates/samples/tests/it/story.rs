//! A store in a temporary folder, and one short life of it.

use std::path::Path;
use std::sync::Arc;

use paramedic_model::{ManualClock, Timestamp};
use paramedic_promql::{Engine, Labels, Matcher, SampleValue, Storage};
use paramedic_samples::{AppendReport, Key, Metadata, Sample, Samples, Settings};

/// 2026-01-14T00:00:00Z, the beginning of a day.
pub(crate) const START: i64 = 1_768_348_800_000;
pub(crate) const MINUTE: i64 = 60_000;
pub(crate) const HOUR: i64 = 60 * MINUTE;
pub(crate) const STALE: u64 = 0x7ff0_0000_0000_0002;

/// No upkeep but what a test asks for.
pub(crate) fn quiet() -> Settings {
    Settings { upkeep_interval_s: 0, fsync_interval_ms: 3_600_000, future_max_s: 0, ..Settings::default() }
}

pub(crate) fn clock_at(millis: i64) -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_millis(millis)))
}

pub(crate) fn open(dir: &Path, settings: Settings) -> Samples {
    Samples::open(dir, settings, clock_at(START)).expect("opens")
}

pub(crate) fn sample(labels: &Labels, time: i64, value: f64) -> Sample<'_> {
    Sample { series: Key::Labels(labels), time, value: SampleValue::Float(value) }
}

pub(crate) fn append(store: &Samples, labels: &Labels, samples: &[(i64, f64)]) -> AppendReport {
    let batch: Vec<Sample<'_>> = samples.iter().map(|(time, value)| sample(labels, *time, *value)).collect();
    store.append(&batch).expect("appends")
}

/// Everything in the store: labels, times and the bits of values.
pub(crate) fn all(store: &Samples) -> Vec<(String, Vec<(i64, u64)>)> {
    let found = store.select(&[Matcher::regex("__name__", ".*", false).expect("a pattern")], i64::MIN, i64::MAX).expect("selects");
    let mut all: Vec<_> = found
        .into_iter()
        .map(|series| {
            let samples = series.samples.times.iter().copied().zip(series.samples.values.iter().map(|value| value.to_bits())).collect();
            (series.labels.to_string(), samples)
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_life() {
    let dir = tempfile::tempdir().expect("folder");
    let store = open(dir.path(), quiet());
    let up = Labels::from_pairs(&[("__name__", "up"), ("job", "agents")]);
    let stale = f64::from_bits(STALE);
    let report = append(&store, &up, &[(START, 1.0), (START + 15_000, 1.0), (START + 30_000, stale), (START + 45_000, -0.0)]);
    assert_eq!(report, AppendReport { appended: 4, ..AppendReport::default() });

    // The same series under its reference, and with its labels in another order.
    let up_ref = store.series_ref(&up).expect("a reference");
    assert_eq!(store.series_ref_of(&[("job", "agents"), ("empty", ""), ("__name__", "up")]).expect("a reference"), up_ref);
    assert_eq!(store.labels(up_ref).as_ref(), Some(&up));
    assert_eq!(store.append_refs(&[(up_ref, START + 60_000, f64::INFINITY)]).expect("appends").appended, 1);
    let bits = vec![
        (START, 1f64.to_bits()),
        (START + 15_000, 1f64.to_bits()),
        (START + 30_000, STALE),
        (START + 45_000, (-0f64).to_bits()),
        (START + 60_000, f64::INFINITY.to_bits()),
    ];
    assert_eq!(all(&store), [(up.to_string(), bits)]);

    // Late, twice, contradicted, too old.
    let report = append(&store, &up, &[(START + 50_000, 2.0), (START + 50_000, 2.0), (START + 50_000, 3.0), (START - HOUR, 1.0)]);
    assert_eq!(report, AppendReport { late: 1, duplicates: 1, conflicts: 1, too_old: 1, ..AppendReport::default() });

    let found = store.select(&[Matcher::equal("job", "agents")], START + 45_000, START + 50_000).expect("selects");
    assert_eq!(found[0].samples.times, [START + 45_000, START + 50_000]);
    assert!(store.select(&[Matcher::equal("job", "others")], 0, i64::MAX).expect("selects").is_empty());
    assert_eq!(store.label_names(&[], 0, i64::MAX, 10).expect("names").iter().map(|name| &**name).collect::<Vec<_>>(), ["__name__", "job"]);
    assert_eq!(
        store.label_values("job", &[], 0, i64::MAX, 10).expect("values").iter().map(|value| &**value).collect::<Vec<_>>(),
        ["agents"]
    );
    assert_eq!(store.series(&[vec![Matcher::equal("__name__", "up")]], 0, i64::MAX, 10).expect("series"), [up]);
    assert!(store.series(&[], 0, START - 1, 10).expect("series").is_empty());

    let metadata = Metadata { kind: "gauge".to_owned(), help: "whether it answers".to_owned(), unit: String::new() };
    store.set_metadata("up", metadata.clone()).expect("remembers");
    drop(store);
    let store = open(dir.path(), quiet());
    assert_eq!(store.metadata(None, 10), [("up".to_owned(), metadata)]);
}

#[test]
fn the_query_engine_reads_it() {
    let dir = tempfile::tempdir().expect("folder");
    let store = open(dir.path(), quiet());
    for job in ["a", "b"] {
        let labels = Labels::from_pairs(&[("__name__", "requests_total"), ("job", job)]);
        let samples: Vec<(i64, f64)> = (0..40).map(|i| (START + i * 15_000, (i * 30) as f64)).collect();
        append(&store, &labels, &samples);
    }
    let storage: Arc<dyn Storage> = Arc::new(store);
    let _: fn() -> Engine = Engine::default;
    let found = storage.select(&[Matcher::equal("__name__", "requests_total")], START, START + MINUTE).expect("selects");
    assert_eq!(found.len(), 2);
    assert_eq!(found[1].samples.values, [0.0, 30.0, 60.0, 90.0, 120.0]);
}

#[test]
fn one_process_writes() {
    let dir = tempfile::tempdir().expect("folder");
    let first = open(dir.path(), quiet());
    let second = Samples::open(dir.path(), quiet(), clock_at(START));
    assert!(second.is_err_and(|err| err.to_string().contains("another process")));
    drop(first);
    open(dir.path(), quiet());
}
