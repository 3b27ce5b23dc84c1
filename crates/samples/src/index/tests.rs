use proptest::prelude::*;

use super::*;

fn build(series: &[Vec<(&'static str, &'static str)>]) -> (Index, Vec<Labels>) {
    let mut index = Index::default();
    let labels = series.iter().enumerate().map(|(place, pairs)| index.insert(place as u32, pairs.iter().copied())).collect();
    (index, labels)
}

fn check(index: &Index, all: &[Option<Labels>], matchers: &[Matcher]) {
    let labels_of = |place: u32| all[place as usize].clone();
    let naive: Vec<u32> = (0..all.len() as u32)
        .filter(|place| {
            let labels = labels_of(*place);
            labels.is_some_and(|labels| matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name))))
        })
        .collect();
    assert_eq!(index.select(matchers, &labels_of), naive, "{matchers:?}");
}

const NAMES: [&str; 4] = ["__name__", "a", "b", "missing"];
const VALUES: [&str; 8] = ["", "x", "xy", "xyz", "y", "api/1", "a.b", "x\ny"];
const PATTERNS: [&str; 22] = [
    "",
    "x",
    "x|y",
    "x|",
    "(x|y)",
    "x.*",
    "x.+",
    ".*",
    ".+",
    ".*y.*",
    ".*x|y.*",
    "xy?",
    "xy?z?|y",
    "[xy]",
    "a\\.b",
    "a.b",
    "api/[0-9]",
    "(x)(y)",
    "x(y|z)*",
    "(?i)X",
    "nothing",
    "x.y",
];

fn any_series() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    prop::collection::vec(0..VALUES.len(), 3)
        .prop_map(|picks| (0..3).map(|i| (NAMES[i], VALUES[picks[i]])).filter(|pair| !pair.1.is_empty()).collect())
}

fn any_matcher() -> impl Strategy<Value = Matcher> {
    (0..NAMES.len(), 0..4, 0..VALUES.len(), 0..PATTERNS.len()).prop_map(|(name, op, value, pattern)| match op {
        0 => Matcher::equal(NAMES[name], VALUES[value]),
        1 => Matcher::not_equal(NAMES[name], VALUES[value]),
        op => Matcher::regex(NAMES[name], PATTERNS[pattern], op == 3).unwrap(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn selects_what_a_naive_reader_would(
        series in prop::collection::vec(any_series(), 1..60),
        matchers in prop::collection::vec(any_matcher(), 0..4),
        gone in prop::collection::vec(any::<bool>(), 60),
    ) {
        let (mut index, labels) = build(&series);
        let mut all: Vec<Option<Labels>> = labels.into_iter().map(Some).collect();
        check(&index, &all, &matchers);
        let leave: Vec<u32> = (0..all.len() as u32).filter(|place| gone[*place as usize]).collect();
        index.remove(&leave);
        for place in &leave {
            all[*place as usize] = None;
        }
        check(&index, &all, &matchers);
        // A freed place is used again.
        if let Some(place) = leave.first() {
            all[*place as usize] = Some(index.insert(*place, [("a", "xy")].into_iter()));
            check(&index, &all, &matchers);
        }
    }
}

#[test]
fn a_name_that_nobody_has_left_is_forgotten() {
    let (mut index, _) = build(&[vec![("a", "1")], vec![("a", "2"), ("b", "1")]]);
    index.remove(&[1]);
    assert_eq!((index.len(), index.words()), (1, 2));
    assert_eq!(index.names().map(|name| name.to_string()).collect::<Vec<_>>(), ["a"]);
}
