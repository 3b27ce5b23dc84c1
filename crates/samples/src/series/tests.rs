use proptest::prelude::*;

use super::*;

const WINDOW: i64 = 300_000;

#[derive(Debug, Clone)]
enum Step {
    /// A sample so many milliseconds after the last one.
    Next(i64, f64),
    /// One between earlier ones.
    Late(i64, f64),
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => (0i64..1_000_000).prop_map(|value| value as f64),
        3 => (0i64..100_000).prop_map(|value| value as f64 / 100.0),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => Just(f64::from_bits(paramedic_promql::number::STALE_BITS)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let regular = value().prop_map(|value| Step::Next(15_000, value));
    let uneven = (1i64..200_000, value()).prop_map(|(gap, value)| Step::Next(gap, value));
    let late = (1i64..WINDOW, value()).prop_map(|(ago, value)| Step::Late(ago, value));
    prop_oneof![60 => regular, 5 => uneven, 1 => late]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However a chunk is entered, what lies behind a moment is the same.
    #[test]
    fn the_end_of_a_series_is_found_without_its_beginning(steps in prop::collection::vec(step(), 1..400)) {
        let mut series = Series::new(1, Labels::empty());
        let mut model: Vec<(i64, u64)> = Vec::new();
        let mut buffer = Vec::new();
        let mut time = 1_768_348_800_000;
        for (count, step) in steps.into_iter().enumerate() {
            let (at, value) = match step {
                Step::Next(gap, value) => {
                    time += gap;
                    (time, value)
                }
                Step::Late(ago, value) => (time - ago, value),
            };
            if matches!(series.append(at, value, WINDOW), Fate::Appended | Fate::Late) {
                model.push((at, value.to_bits()));
                model.sort_unstable();
            }
            for back in [0, 20_000, 61_000, 301_000, 1_000_000, 10_000_000] {
                if count % 7 != 0 && back > 61_000 {
                    continue;
                }
                let mut found = Decoded::default();
                if !series.read(time - back, time, &mut found, &mut buffer) {
                    tidy(&mut found);
                }
                let found: Vec<(i64, u64)> = found.times.iter().copied().zip(found.values.iter().map(|value| value.to_bits())).collect();
                let wanted: Vec<(i64, u64)> = model.iter().copied().filter(|(at, _)| *at >= time - back).collect();
                prop_assert_eq!(found, wanted, "{} back", back);
            }
            let mut newest = Decoded::default();
            if series.newest(time - 60_000, time, &mut newest) {
                let found = newest.times.first().copied().zip(newest.values.first().map(|value| value.to_bits()));
                prop_assert_eq!(found, model.last().copied().filter(|(at, _)| *at >= time - 60_000));
            }
        }
    }
}
