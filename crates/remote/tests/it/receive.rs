//! What a sender is told, and what is in the store then.

use std::sync::{Arc, Mutex};

use paramedic_promql::Matcher;
use paramedic_promql::histogram::CUSTOM_BUCKETS;
use paramedic_promql::number::STALE_BITS;
use paramedic_remote::metrics::ReceiveMetrics;
use paramedic_remote::{ReceiveSettings, Receiver};
use paramedic_samples::{AppendReport, Key, Metadata, Sample, SampleSink, SamplesError, Settings};

use crate::bodies::{Bench, START, V1, V2, body, request, series, v1, v2, written};

const UP: &[(&str, &str)] = &[("__name__", "up"), ("job", "a")];

#[test]
fn floats_are_stored_bit_by_bit() {
    let bench = Bench::usual();
    let values = [0.0, 1.5, f64::INFINITY, f64::NAN, f64::from_bits(STALE_BITS), f64::from_bits(0x7ff8_0000_0000_0001)];
    let samples: Vec<(i64, f64)> = values.iter().enumerate().map(|(i, value)| (START + i as i64, *value)).collect();
    let answer = bench.send(V1, &request(vec![series(UP, &samples)]));
    assert_eq!((answer.status, written(&answer)), (204, (6, 0)), "{}", answer.body);
    let expect = samples.iter().map(|(time, value)| (*time, value.to_bits())).collect();
    assert_eq!(bench.floats(), [(r#"{__name__="up", job="a"}"#.to_owned(), expect)]);
}

#[test]
fn labels_may_come_in_any_order_and_empty_ones_do_not_count() {
    let bench = Bench::usual();
    let orders: [&[(&str, &str)]; 3] = [UP, &[("job", "a"), ("__name__", "up")], &[("__name__", "up"), ("empty", ""), ("job", "a")]];
    for (i, labels) in orders.iter().enumerate() {
        assert_eq!(bench.send(V1, &request(vec![series(labels, &[(START + i as i64, 1.0)])])).status, 204);
    }
    assert_eq!(bench.floats().len(), 1);
}

#[test]
fn the_good_part_is_stored_and_the_bad_part_is_named() {
    let good = || series(&[("__name__", "good")], &[(START, 1.0)]);
    let cases: [(&str, v1::TimeSeries, &str); 7] = [
        ("another value", series(UP, &[(START, 1.0), (START, 2.0)]), "conflict"),
        ("too old", series(UP, &[(START - 400 * 3_600_000, 1.0)]), "too_old"),
        ("future", series(UP, &[(START + 3_600_000, 1.0)]), "in_future"),
        ("no name", series(&[("job", "a")], &[(START, 1.0)]), "bad_labels"),
        ("empty name", series(&[("__name__", "x"), ("", "a")], &[(START, 1.0)]), "bad_labels"),
        ("repeated", series(&[("__name__", "x"), ("a", "1"), ("a", "2")], &[(START, 1.0)]), "bad_labels"),
        ("long value", series(&[("__name__", "x"), ("a", &"y".repeat(5_000))], &[(START, 1.0)]), "limit"),
    ];
    for (what, bad, reason) in cases {
        let bench = Bench::usual();
        let stored_of_bad = bad.samples.len() as u64 - 1;
        let answer = bench.send(V1, &request(vec![bad, good()]));
        assert_eq!((answer.status, written(&answer).0), (400, 1 + stored_of_bad), "{what}: {}", answer.body);
        assert!(answer.body.contains(reason), "{what}: {}", answer.body);
        assert!(bench.floats().iter().any(|(labels, _)| labels.contains("good")), "{what}");
    }
}

#[test]
fn the_same_sample_again_is_no_error() {
    let bench = Bench::usual();
    for _ in 0..2 {
        let answer = bench.send(V1, &request(vec![series(UP, &[(START, 1.0)])]));
        assert_eq!((answer.status, written(&answer).0), (204, 1));
    }
}

#[test]
fn headers_and_sizes_have_their_statuses() {
    let settings =
        ReceiveSettings { body_bytes_max: 10_000, decompressed_bytes_max: 20_000, samples_per_request_max: 3, ..Default::default() };
    let bench = Bench::new(settings, Settings::default());
    let ok = request(vec![series(UP, &[(START, 1.0)])]);
    let grows = request(vec![series(&[("__name__", "x"), ("a", &"y".repeat(30_000))], &[])]);
    let many = request(vec![series(UP, &[(START, 1.0); 4])]);
    let json = paramedic_remote::Headers { content_type: Some("application/json"), content_encoding: Some("snappy") };
    let zstd = paramedic_remote::Headers { content_type: V1.content_type, content_encoding: Some("zstd") };
    for (headers, body, status) in [
        (V1, &ok[..], 204),
        (json, &ok, 415),
        (zstd, &ok, 415),
        (V1, &[1; 10_001][..], 413),
        (V1, &grows, 413),
        (V1, &many, 413),
        (V1, b"not snappy", 400),
        (V1, b"", 400),
    ] {
        let answer = bench.send(headers, body);
        assert_eq!(answer.status, status, "{}", answer.body);
    }
    assert_eq!(bench.floats().len(), 1);
}

#[test]
fn too_many_requests_are_told_to_come_back() {
    let bench = Bench::new(ReceiveSettings { requests_max: 0, retry_after_s: 7, ..Default::default() }, Settings::default());
    let answer = bench.send(V1, &request(vec![series(UP, &[(START, 1.0)])]));
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("7")));
}

/// `up{job="a"}` with a float, a float histogram, metadata and an exemplar.
fn v2_request() -> v2::Request {
    let symbols = ["", "__name__", "calls", "job", "a", "how many", "calls_unit"].map(str::to_owned).to_vec();
    let histogram = v1::Histogram {
        count_float: Some(3.5),
        sum: 7.0,
        schema: 1,
        zero_count_float: Some(0.5),
        zero_threshold: 0.001,
        positive_spans: vec![v1::Span { offset: -1, length: 1 }, v1::Span { offset: 2, length: 1 }],
        positive_counts: vec![1.0, 2.0],
        timestamp: START + 1,
        ..v1::Histogram::default()
    };
    v2::Request {
        symbols,
        timeseries: vec![v2::TimeSeries {
            labels_refs: vec![1, 2, 3, 4],
            samples: vec![v1::Sample { value: 1.0, timestamp: START }],
            histograms: vec![histogram],
            exemplars: vec![v2::Exemplar { labels_refs: vec![3, 4], value: 1.0 }],
            metadata: Some(v2::Metadata { kind: 1, help_ref: 5, unit_ref: 6 }),
            created_timestamp: START - 1_000,
        }],
    }
}

#[test]
fn version_two_is_stored_with_its_histograms_and_metadata() {
    let bench = Bench::new(ReceiveSettings { created_zeros: false, ..Default::default() }, Settings::default());
    let answer = bench.send(V2, &body(&v2_request()));
    assert_eq!((answer.status, written(&answer)), (204, (1, 1)), "{}", answer.body);
    assert_eq!(bench.floats()[0].1, [(START, 1.0f64.to_bits())]);
    let found = bench.samples.select(&[Matcher::equal("__name__", "calls")], 0, i64::MAX).unwrap();
    let (time, histogram) = &found[0].samples.histograms[0];
    assert_eq!((*time, histogram.schema, histogram.count, &*histogram.positive), (START + 1, 1, 3.5, &[(-1, 1.0), (2, 2.0)][..]));
    let metadata = Metadata { kind: "counter".into(), help: "how many".into(), unit: "calls_unit".into() };
    assert_eq!(bench.samples.metadata(Some("calls"), 1), [("calls".to_owned(), metadata)]);
    assert_eq!(bench.receiver.metrics().ignored_exemplars.get(), 1);
    // The same series with other numbers of symbols is the same series.
    let mut again = v2_request();
    again.symbols.insert(1, "unused".into());
    again.timeseries[0].labels_refs.iter_mut().for_each(|reference| *reference += 1);
    again.timeseries[0].samples[0].timestamp = START + 2;
    again.timeseries[0].histograms.clear();
    let reads = bench.receiver.metrics().label_reads.get();
    assert_eq!(bench.send(V2, &body(&again)).status, 204);
    assert_eq!((bench.floats().len(), bench.receiver.metrics().label_reads.get()), (1, reads), "it was recognised by its labels' hash");
}

#[test]
fn a_symbol_that_is_not_there_spoils_only_its_series() {
    let bench = Bench::usual();
    let mut request = v2_request();
    let bad = v2::TimeSeries { labels_refs: vec![1, 99], samples: vec![v1::Sample { value: 1.0, timestamp: START }], ..Default::default() };
    let odd =
        v2::TimeSeries { labels_refs: vec![1, 2, 3], samples: vec![v1::Sample { value: 1.0, timestamp: START }], ..Default::default() };
    request.timeseries.extend([bad, odd]);
    let answer = bench.send(V2, &body(&request));
    assert_eq!((answer.status, written(&answer)), (400, (1, 1)));
    assert!(answer.body.contains("2 bad_labels") && answer.body.contains("symbol"), "{}", answer.body);
}

#[test]
fn counters_begin_at_zero_when_that_is_wanted() {
    let bench = Bench::new(ReceiveSettings { created_zeros: true, ..Default::default() }, Settings::default());
    let mut request = v2_request();
    request.timeseries[0].histograms.clear();
    assert_eq!(bench.send(V2, &body(&request)).status, 204);
    assert_eq!(bench.floats()[0].1, [(START - 1_000, 0), (START, 1.0f64.to_bits())]);
}

#[test]
fn histograms_that_contradict_themselves_are_refused() {
    let whole = || v1::Histogram {
        count_int: Some(3),
        sum: 4.0,
        positive_spans: vec![v1::Span { offset: 0, length: 2 }],
        positive_deltas: vec![1, 1],
        timestamp: START,
        ..v1::Histogram::default()
    };
    let custom = || v1::Histogram { schema: CUSTOM_BUCKETS, custom_values: vec![1.0, 2.0], ..whole() };
    let span = |offset, length| v1::Span { offset, length };
    let cases: [(&str, v1::Histogram, bool); 12] = [
        ("whole", whole(), true),
        ("custom", custom(), true),
        (
            "stale",
            v1::Histogram { sum: f64::from_bits(STALE_BITS), count_int: Some(0), timestamp: START, ..v1::Histogram::default() },
            true,
        ),
        ("count", v1::Histogram { count_int: Some(4), ..whole() }, false),
        ("negative", v1::Histogram { positive_deltas: vec![1, -2], ..whole() }, false),
        ("few buckets", v1::Histogram { positive_spans: vec![span(0, 3)], ..whole() }, false),
        ("many buckets", v1::Histogram { positive_spans: vec![span(0, 1)], ..whole() }, false),
        ("huge span", v1::Histogram { positive_spans: vec![span(0, u32::MAX)], ..whole() }, false),
        ("overlap", v1::Histogram { positive_spans: vec![span(5, 1), span(-2, 1)], ..whole() }, false),
        ("out of range", v1::Histogram { positive_spans: vec![span(i32::MAX, 2)], ..whole() }, false),
        ("schema", v1::Histogram { schema: 99, ..whole() }, false),
        ("bounds", v1::Histogram { custom_values: vec![2.0, 1.0], ..custom() }, false),
    ];
    for (what, histogram, good) in cases {
        let bench = Bench::usual();
        let time_series = v1::TimeSeries { histograms: vec![histogram], ..series(UP, &[]) };
        let answer = bench.send(V1, &request(vec![time_series]));
        assert_eq!((answer.status == 204, written(&answer).1), (good, u64::from(good)), "{what}: {}", answer.body);
    }
}

#[test]
fn metadata_of_version_one_is_kept() {
    let bench = Bench::usual();
    let metadata = v1::Metadata { kind: 5, metric: "rpc".into(), help: "calls".into(), unit: "s".into() };
    assert_eq!(bench.send(V1, &body(&v1::WriteRequest { metadata: vec![metadata], timeseries: Vec::new() })).status, 204);
    assert_eq!(bench.samples.metadata(None, 9)[0].1.kind, "summary");
}

#[test]
fn series_that_left_the_memory_begin_again() {
    let bench = Bench::usual();
    let send = |time| bench.send(V1, &request(vec![series(UP, &[(time, 1.0)])]));
    assert_eq!(send(START).status, 204);
    // Days later nothing of it is in memory any more, but the receiver still knows its reference.
    let later = START + 3 * 86_400_000;
    bench.clock.set(paramedic_model::Timestamp::from_millis(later));
    for _ in 0..3 {
        bench.samples.upkeep().unwrap();
    }
    let answer = send(later);
    assert_eq!((answer.status, written(&answer).0), (204, 1), "{}", answer.body);
    assert!(bench.floats()[0].1.contains(&(later, 1.0f64.to_bits())));
}

#[derive(Default)]
struct Recorder(Mutex<Vec<(String, i64)>>);

impl SampleSink for Recorder {
    fn append(&self, batch: &[Sample<'_>]) -> Result<AppendReport, SamplesError> {
        for sample in batch {
            let Key::Pairs(pairs) = sample.series else { panic!("without labels") };
            self.0.lock().unwrap().push((format!("{pairs:?}"), sample.time));
        }
        Ok(AppendReport::default())
    }

    fn set_metadata(&self, _metric: &str, _metadata: Metadata) -> Result<(), SamplesError> {
        Ok(())
    }
}

#[test]
fn the_tap_gets_what_was_stored_with_its_labels() {
    let bench = Bench::usual();
    let tap = Arc::new(Recorder::default());
    let receiver = Receiver::new(ReceiveSettings::default(), Arc::clone(&bench.samples), Some(tap.clone()), ReceiveMetrics::default());
    for time in [START, START + 1] {
        let bad = series(&[("no", "name")], &[(time, 1.0)]);
        assert_eq!(receiver.handle(V1, &request(vec![bad, series(UP, &[(time, 1.0)])])).status, 400);
    }
    let pairs = format!("{UP:?}");
    assert_eq!(*tap.0.lock().unwrap(), [(pairs.clone(), START), (pairs, START + 1)]);
}
