//! Whatever our writer writes, another implementation reads, and the other way round.

use std::sync::Arc;

use paramedic_promql::histogram::{Buckets, CUSTOM_BUCKETS, ResetHint};
use paramedic_promql::{Histogram, Matcher, SampleValue};
use paramedic_remote::encode::{V2Request, v1_series};
use paramedic_samples::{Metadata, Settings};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use prost::Message;

use crate::bodies::{Bench, START, V1, V2, snappy, v1, v2};

type Series = (Vec<(String, String)>, Vec<(i64, f64)>);

fn any_series() -> impl Strategy<Value = Vec<Series>> {
    let labels = btree_map("[a-z_]{1,8}|ü\\.x", "\\PC{1,12}", 0..4);
    // The other implementation leaves negative zeros out, as if they were zeros.
    let any_bits = any::<u64>().prop_map(f64::from_bits).prop_filter("a negative zero", |value| *value != 0.0);
    let values = prop_oneof![any_bits, Just(0.0), Just(f64::from_bits(0x7ff0_0000_0000_0002))];
    let one = (labels, vec(values, 1..5));
    vec(one, 1..8).prop_map(|all| {
        let series = all.into_iter().enumerate().map(|(i, (mut labels, values))| {
            labels.insert("__name__".to_owned(), format!("m{i}"));
            let samples = values.into_iter().enumerate().map(|(k, value)| (START + k as i64, value)).collect();
            (labels.into_iter().collect(), samples)
        });
        series.collect()
    })
}

fn v1_message(all: &[Series]) -> Vec<u8> {
    let mut message = Vec::new();
    for (labels, samples) in all {
        let pairs = labels.iter().map(|(name, value)| (&**name, &**value));
        v1_series(&mut message, pairs, samples.iter().map(|(time, value)| (*time, SampleValue::Float(*value))));
    }
    message
}

fn v2_message(all: &[Series]) -> Vec<u8> {
    let mut request = V2Request::default();
    let metadata = Metadata { kind: "gauge".into(), help: "h".into(), unit: String::new() };
    for (labels, samples) in all {
        let pairs = labels.iter().map(|(name, value)| (&**name, &**value));
        request.series(pairs, samples.iter().map(|(time, value)| (*time, SampleValue::Float(*value))), Some(&metadata));
    }
    request.finish()
}

fn bits(samples: &[v1::Sample]) -> Vec<(i64, u64)> {
    samples.iter().map(|sample| (sample.timestamp, sample.value.to_bits())).collect()
}

fn expected(all: &[Series]) -> Vec<Vec<(i64, u64)>> {
    all.iter().map(|(_, samples)| samples.iter().map(|(time, value)| (*time, value.to_bits())).collect()).collect()
}

fn any_histogram() -> impl Strategy<Value = Histogram> {
    let side = || btree_map(-50i32..50, 0u32..1_000, 0..8);
    (side(), side(), 0u32..9, any::<bool>(), -4i32..=8, 0u8..4).prop_map(|(positive, negative, zero, is_float, schema, hint)| {
        let factor = if is_float { 1.5 } else { 1.0 };
        let buckets =
            |side: std::collections::BTreeMap<i32, u32>| side.into_iter().map(|(at, count)| (at, f64::from(count) * factor)).collect();
        let (positive, negative): (Buckets, Buckets) = (buckets(positive), buckets(negative));
        let zero_count = f64::from(zero) * factor;
        let count = positive.iter().chain(&negative).map(|bucket| bucket.1).sum::<f64>() + zero_count;
        let hint = [ResetHint::Unknown, ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge][usize::from(hint)];
        Histogram { hint, schema, zero_threshold: 0.001, zero_count, count, sum: 42.5, positive, negative, custom_values: Arc::from([]) }
    })
}

fn stored_histogram(histogram: &Histogram, is_v2: bool) -> Histogram {
    let bench = Bench::new(Default::default(), Settings::default());
    let labels = [("__name__", "h")].into_iter();
    let value = std::iter::once((START, SampleValue::Histogram(Arc::new(histogram.clone()))));
    let (headers, message) = if is_v2 {
        let mut request = V2Request::default();
        request.series(labels, value, None);
        (V2, request.finish())
    } else {
        let mut message = Vec::new();
        v1_series(&mut message, labels, value);
        (V1, message)
    };
    let answer = bench.send(headers, &snappy(&message));
    assert_eq!(answer.status, 204, "{}", answer.body);
    let found = bench.samples.select(&[Matcher::equal("__name__", "h")], 0, i64::MAX).unwrap();
    (*found[0].samples.histograms[0].1).clone()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn version_one_round_trips(all in any_series()) {
        let message = v1_message(&all);
        let read = v1::WriteRequest::decode(&message[..]).unwrap();
        let labels: Vec<Vec<(String, String)>> =
            read.timeseries.iter().map(|series| series.labels.iter().map(|label| (label.name.clone(), label.value.clone())).collect()).collect();
        prop_assert_eq!(labels, all.iter().map(|series| series.0.clone()).collect::<Vec<_>>());
        prop_assert_eq!(read.timeseries.iter().map(|series| bits(&series.samples)).collect::<Vec<_>>(), expected(&all));
        // What the other implementation writes is stored as it was.
        let bench = Bench::usual();
        let answer = bench.send(V1, &snappy(&read.encode_to_vec()));
        prop_assert_eq!(answer.status, 204, "{}", answer.body);
        let mut stored: Vec<_> = bench.floats().into_iter().map(|series| series.1).collect();
        let mut expect = expected(&all);
        stored.sort();
        expect.sort();
        prop_assert_eq!(stored, expect);
    }

    #[test]
    fn version_two_round_trips(all in any_series()) {
        let message = v2_message(&all);
        let read = v2::Request::decode(&message[..]).unwrap();
        prop_assert_eq!(&*read.symbols[0], "");
        let symbol = |reference: u32| read.symbols[reference as usize].clone();
        let labels: Vec<Vec<(String, String)>> = read.timeseries.iter()
            .map(|series| series.labels_refs.chunks(2).map(|pair| (symbol(pair[0]), symbol(pair[1]))).collect()).collect();
        prop_assert_eq!(labels, all.iter().map(|series| series.0.clone()).collect::<Vec<_>>());
        let (one, two) = (Bench::usual(), Bench::usual());
        prop_assert_eq!(one.send(V1, &snappy(&v1_message(&all))).status, 204);
        prop_assert_eq!(two.send(V2, &snappy(&read.encode_to_vec())).status, 204);
        prop_assert_eq!(one.floats(), two.floats());
        prop_assert_eq!(&*two.samples.metadata(Some("m0"), 1)[0].1.kind, "gauge");
    }

    #[test]
    fn histograms_round_trip(histogram in any_histogram(), is_v2: bool) {
        let stored = stored_histogram(&histogram, is_v2);
        prop_assert!(stored.same_data(&histogram), "{stored:?}\n{histogram:?}");
        prop_assert_eq!(stored.hint == ResetHint::Gauge, histogram.hint == ResetHint::Gauge);
    }
}

#[test]
fn custom_buckets_round_trip() {
    let histogram = Histogram {
        schema: CUSTOM_BUCKETS,
        count: 4.0,
        sum: 9.0,
        positive: vec![(0, 1.0), (2, 3.0)],
        custom_values: Arc::from([0.5, 1.0]),
        ..Histogram::default()
    };
    for is_v2 in [false, true] {
        assert!(stored_histogram(&histogram, is_v2).same_data(&histogram));
    }
}

#[test]
fn our_own_negative_zeros_stay() {
    let all: Vec<Series> = vec![(vec![("__name__".into(), "x".into())], vec![(START, -0.0), (START + 1, 0.0)])];
    for (headers, message) in [(V1, v1_message(&all)), (V2, v2_message(&all))] {
        let bench = Bench::usual();
        assert_eq!(bench.send(headers, &snappy(&message)).status, 204);
        assert_eq!(bench.floats()[0].1, [(START, (-0.0f64).to_bits()), (START + 1, 0)]);
    }
}

/// The bytes themselves, so that nobody changes the wire unnoticed.
#[test]
fn the_bytes_are_those_of_the_protocol() {
    let mut message = Vec::new();
    v1_series(&mut message, [("__name__", "up")].into_iter(), std::iter::once((1_000, SampleValue::Float(1.0))));
    let expect = b"\x0a\x1e\x0a\x0e\x0a\x08__name__\x12\x02up\x12\x0c\x09\x00\x00\x00\x00\x00\x00\xf0\x3f\x10\xe8\x07";
    assert_eq!(message, expect);
    let mut request = V2Request::default();
    request.series([("__name__", "up")].into_iter(), std::iter::once((1_000, SampleValue::Float(1.0))), None);
    let expect = b"\x22\x00\x22\x08__name__\x22\x02up\x2a\x12\x0a\x02\x01\x02\x12\x0c\x09\x00\x00\x00\x00\x00\x00\xf0\x3f\x10\xe8\x07";
    assert_eq!(request.finish(), expect);
}
