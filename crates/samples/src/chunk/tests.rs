use paramedic_promql::histogram::{Buckets, ResetHint};
use proptest::prelude::*;

use super::float::{FloatWriter, XOR, decode};
use super::histogram::HistogramWriter;
use super::*;

fn round_trip(samples: &[(i64, f64)]) -> (u8, usize) {
    let mut writer = FloatWriter::new(samples[0].0, samples[0].1);
    for (time, value) in &samples[1..] {
        writer.push(*time, *value);
    }
    let mut bytes = Vec::new();
    writer.bits().copy_to(&mut bytes);
    let (mut times, mut values) = (vec![0; samples.len()], vec![0.0; samples.len()]);
    assert!(decode(writer.encoding(), writer.start(), &bytes, &mut times, &mut values));
    let found: Vec<(i64, u64)> = times.into_iter().zip(values.iter().map(|value| value.to_bits())).collect();
    let expected: Vec<(i64, u64)> = samples.iter().map(|(time, value)| (*time, value.to_bits())).collect();
    assert_eq!(found, expected);
    (writer.encoding(), bytes.len())
}

#[test]
fn odd_floats_come_back_bit_for_bit() {
    let odd = [
        0.0,
        -0.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        f64::from_bits(0x7ff0_0000_0000_0002),
        f64::from_bits(0xfff8_dead_beef_0001),
        f64::MIN_POSITIVE,
        f64::from_bits(1),
        f64::MAX,
        f64::MIN,
        0.1,
        1e300,
        9_007_199_254_740_992.0,
        -4_503_599_627_370_496.0,
        4_503_599_627_370_496.0,
        -9_007_199_254_740_993.0,
        0.000_001,
        1.5,
    ];
    for first in odd {
        for second in odd {
            round_trip(&[(5, first), (6, second), (1_000_000_000_000, first), (1_000_000_000_001, 3.25), (i64::MAX, second)]);
        }
    }
}

#[test]
fn counters_and_short_decimals_are_small() {
    let every = |i: i64| 1_700_000_000_000 + i * 15_000;
    let check = |what: &str, bytes_max: usize, value: &dyn Fn(i64) -> f64| {
        let samples: Vec<(i64, f64)> = (0..120).map(|i| (every(i), value(i))).collect();
        let (encoding, bytes) = round_trip(&samples);
        assert!(bytes <= bytes_max, "{what}: {bytes} bytes in encoding {encoding}");
    };
    check("constant", 60, &|_| 1.0);
    check("steady counter", 60, &|i| (1_000 + i * 17) as f64);
    check("busy counter", 220, &|i| (i * 100 + i * i * 7919 % 97) as f64);
    check("seconds", 300, &|i| (i * 7919 % 1000) as f64 / 1000.0);
    check("gone", 80, &|i| if i == 119 { f64::from_bits(0x7ff0_0000_0000_0002) } else { 4.0 });
}

#[test]
fn a_chunk_changes_its_encoding_when_it_must() {
    assert_eq!(round_trip(&[(1, 1.0), (2, 2.0), (3, 2.5)]).0, 1);
    assert_eq!(round_trip(&[(1, 1.0), (2, f64::NAN), (3, 2.125), (4, 7.0)]).0, 3);
    assert_eq!(round_trip(&[(1, 1.0), (2, std::f64::consts::PI), (3, 4.0)]).0, XOR);
}

fn any_float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        (-1_000i64..1_000).prop_map(|integer| integer as f64),
        (-100_000i64..100_000).prop_map(|integer| integer as f64 / 100.0),
        Just(-0.0),
        Just(f64::from_bits(0x7ff0_0000_0000_0002)),
    ]
}

fn any_times() -> impl Strategy<Value = Vec<i64>> {
    let step = prop_oneof![Just(15_000i64), 14_990i64..15_010, 1i64..10_000_000, 1i64..(1 << 50)];
    (any::<i32>(), prop::collection::vec(step, 1..150)).prop_map(|(start, steps)| {
        let mut time = i64::from(start);
        steps
            .into_iter()
            .map(|step| {
                time += step;
                time
            })
            .collect()
    })
}

fn any_histogram() -> impl Strategy<Value = Histogram> {
    let count = prop_oneof![(0u32..50).prop_map(f64::from), any::<u64>().prop_map(f64::from_bits)];
    let side = prop::collection::vec(count.clone(), 0..6)
        .prop_flat_map(|counts| (any::<i16>(), Just(counts)))
        .prop_map(|(first, counts)| counts.into_iter().enumerate().map(|(i, count)| (i32::from(first) + i as i32, count)).collect());
    let hint = 0usize..4;
    (hint, -4i32..9, count.clone(), count, any_float(), side, prop::collection::vec(any_float(), 0..3)).prop_map(
        |(hint, schema, zero_count, count, sum, positive, custom)| {
            let hint = [ResetHint::Unknown, ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge][hint];
            let positive: Buckets = positive;
            let negative = positive.iter().take(2).copied().collect();
            Histogram { hint, schema, zero_threshold: 0.001, zero_count, count, sum, positive, negative, custom_values: custom.into() }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn floats_round_trip(times in any_times(), values in prop::collection::vec(any_float(), 150)) {
        let samples: Vec<(i64, f64)> = times.into_iter().zip(values).collect();
        round_trip(&samples);
    }

    #[test]
    fn one_kind_of_decimals_round_trips(times in any_times(), seed in any::<u32>(), power in 0i32..9) {
        let mut state = u64::from(seed);
        let samples: Vec<(i64, f64)> = times.into_iter().map(|time| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (time, ((state >> 40) as f64) / 10f64.powi(power))
        }).collect();
        round_trip(&samples);
    }

    #[test]
    fn histograms_round_trip(times in any_times(), few in prop::collection::vec(any_histogram(), 1..8)) {
        let samples: Vec<(i64, Arc<Histogram>)> =
            times.into_iter().enumerate().map(|(i, time)| (time, Arc::new(few[i / 3 % few.len()].clone()))).collect();
        let mut writer = HistogramWriter::new(samples[0].0, &samples[0].1);
        for (time, histogram) in &samples[1..] {
            writer.push(*time, histogram);
        }
        let mut found = Vec::new();
        prop_assert!(histogram::decode(writer.start(), writer.count(), writer.bytes(), |time, histogram| found.push((time, histogram))));
        prop_assert_eq!(found.len(), samples.len());
        for (found, expected) in found.iter().zip(&samples) {
            prop_assert_eq!(found.0, expected.0);
            prop_assert!(same(&SampleValue::Histogram(found.1.clone()), &SampleValue::Histogram(expected.1.clone())));
        }
    }

    #[test]
    fn damaged_chunks_never_panic(encoding in 0u8..20, count in any::<u16>(), start in any::<i64>(), data in prop::collection::vec(any::<u8>(), 0..200)) {
        let view = ChunkView { start, end: i64::MAX, count, encoding, data: &data };
        view.decode(i64::MIN, i64::MAX, &mut Decoded::default());
    }
}
