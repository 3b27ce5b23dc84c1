//! Every bound bites, says its name, and is counted with the metric that met it.

use std::sync::Arc;

use paramedic_promql::histogram::Histogram;
use paramedic_promql::{Labels, SampleValue};
use paramedic_samples::{Key, Limit, Sample, SamplesError, Settings};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::story::{START, append, open, quiet};

fn check(settings: Settings, labels: &Labels, value: SampleValue, limit: Limit) {
    let dir = tempfile::tempdir().expect("folder");
    let store = open(dir.path(), settings);
    append(&store, &Labels::from_pairs(&[("__name__", "first")]), &[(START, 1.0)]);
    let report = store.append(&[Sample { series: Key::Labels(labels), time: START, value }]).expect("appends");
    assert_eq!((report.limited, report.stored()), (1, 0));
    let hit = report.first_limit.expect("a limit");
    assert_eq!((hit.limit, &*hit.metric), (limit, labels.metric_name()));
    assert!(hit.to_string().contains(limit.name()), "{hit}");
    let offenders = store.offenders();
    assert_eq!((offenders.len(), offenders[0].limit, offenders[0].hits), (1, limit, 1));
    let mut registry = Registry::default();
    store.metrics().register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).expect("encodes");
    let line = format!("paramedic_samples_refused_samples_total{{reason=\"{}\"}} 1", limit.name());
    assert!(text.contains(&line), "{line} in {text}");
    // What is within the bounds still comes in.
    assert_eq!(append(&store, &Labels::from_pairs(&[("__name__", "first")]), &[(START + 1, 1.0)]).appended, 1);
}

#[test]
fn limits_bite() {
    let m = Labels::from_pairs(&[("__name__", "m"), ("label", "value")]);
    let one = || SampleValue::Float(1.0);
    check(Settings { series_max: 1, ..quiet() }, &m, one(), Limit::SeriesMax);
    check(Settings { labels_per_series_max: 1, ..quiet() }, &m, one(), Limit::LabelsPerSeriesMax);
    check(
        Settings { label_value_bytes_max: 5, ..quiet() },
        &Labels::from_pairs(&[("__name__", "m"), ("a", "123456")]),
        one(),
        Limit::LabelValueBytesMax,
    );
    check(
        Settings { label_name_bytes_max: 8, ..quiet() },
        &Labels::from_pairs(&[("__name__", "m"), ("ninebytes", "1")]),
        one(),
        Limit::LabelNameBytesMax,
    );
    let wide = Histogram { positive: (0..9).map(|i| (i, 1.0)).collect(), ..Histogram::default() };
    check(Settings { histogram_buckets_max: 8, ..quiet() }, &m, SampleValue::Histogram(Arc::new(wide)), Limit::HistogramBucketsMax);
}

#[test]
fn a_batch_has_a_bound() {
    let dir = tempfile::tempdir().expect("folder");
    let store = open(dir.path(), Settings { samples_per_append_max: 2, ..quiet() });
    let m = store.series_ref(&Labels::from_pairs(&[("__name__", "m")])).expect("a reference");
    let refused = store.append_refs(&[(m, START, 1.0), (m, START + 1, 1.0), (m, START + 2, 1.0)]);
    assert!(matches!(refused, Err(SamplesError::Limit(hit)) if hit.limit == Limit::SamplesPerAppendMax && hit.found == 3));
}

#[test]
fn offenders_are_bounded() {
    let dir = tempfile::tempdir().expect("folder");
    let store = open(dir.path(), Settings { labels_per_series_max: 0, ..quiet() });
    for i in 0..1_000 {
        append(&store, &Labels::from_pairs(&[("__name__", &format!("m{i}"))]), &[(START, 1.0)]);
    }
    assert_eq!(store.offenders().len(), 200);
}

#[test]
fn each_append_is_forced_to_the_disk_when_asked() {
    let dir = tempfile::tempdir().expect("folder");
    let store = open(dir.path(), Settings { fsync_interval_ms: 0, ..quiet() });
    let m = Labels::from_pairs(&[("__name__", "m")]);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| append(&store, &m, &[(START, 1.0)]));
        }
    });
    append(&store, &m, &[(START + 1, 1.0)]);
    append(&store, &m, &[(START + 1, 1.0)]);
    let mut registry = Registry::default();
    store.metrics().register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).expect("encodes");
    let forced = text.lines().find_map(|line| line.strip_prefix("paramedic_samples_fsync_seconds_count ")).expect("a count");
    assert!((2..=5).contains(&forced.parse::<u64>().expect("a number")), "{forced}");
    assert!(text.contains("paramedic_samples_refused_samples_total{reason=\"duplicate\"} 3"), "{text}");
}
