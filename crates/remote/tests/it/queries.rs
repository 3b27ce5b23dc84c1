//! Remote read, as a server and as its own client.

use std::sync::Arc;

use paramedic_promql::{Histogram, Labels, Matcher, SampleValue};
use paramedic_remote::metrics::QueryMetrics;
use paramedic_remote::read::{self, ReadQuery};
use paramedic_remote::{Malformed, ReadSettings, RemoteError};
use paramedic_samples::{Key, Sample};

use crate::bodies::{Bench, START, snappy};

fn bench() -> Bench {
    let bench = Bench::usual();
    for (name, job) in [("up", "a"), ("up", "b"), ("down", "a")] {
        let labels = Labels::from_pairs(&[("__name__", name), ("job", job)]);
        for i in 0..10 {
            let sample = Sample { series: Key::Labels(&labels), time: START + i, value: SampleValue::Float(i as f64) };
            bench.samples.append(&[sample]).unwrap();
        }
    }
    let labels = Labels::from_pairs(&[("__name__", "hist")]);
    let histogram = Arc::new(Histogram { count: 1.0, sum: 2.0, positive: vec![(1, 1.0)], ..Histogram::default() });
    let sample = Sample { series: Key::Labels(&labels), time: START, value: SampleValue::Histogram(histogram) };
    bench.samples.append(&[sample]).unwrap();
    bench
}

fn ask(bench: &Bench, queries: &[ReadQuery], settings: &ReadSettings) -> Result<Vec<Vec<read::ReadSeries>>, RemoteError> {
    let body = read::handle(&read::request(queries)?, &bench.samples, settings, &QueryMetrics::default())?;
    Ok(read::response(&body, settings)?)
}

#[test]
fn each_query_gets_its_series_sorted_and_cut_to_its_time() {
    let bench = bench();
    let regex = Matcher::regex("__name__", "up|hist", false).unwrap();
    let queries = [
        ReadQuery {
            from_ms: START + 2,
            to_ms: START + 4,
            matchers: vec![Matcher::equal("__name__", "up"), Matcher::not_equal("job", "b")],
        },
        ReadQuery { from_ms: START, to_ms: START + 9, matchers: vec![regex] },
        ReadQuery { from_ms: START, to_ms: START, matchers: vec![Matcher::equal("__name__", "nobody")] },
    ];
    let results = ask(&bench, &queries, &ReadSettings::default()).unwrap();
    assert_eq!(results.len(), 3);
    assert_eq!(results[0].len(), 1);
    assert_eq!(results[0][0].1, [(START + 2, 2.0), (START + 3, 3.0), (START + 4, 4.0)]);
    let names: Vec<String> = results[1].iter().map(|series| series.0.to_string()).collect();
    assert_eq!(names, [r#"{__name__="hist"}"#, r#"{__name__="up", job="a"}"#, r#"{__name__="up", job="b"}"#]);
    assert_eq!((results[1][0].2[0].0, results[1][0].2[0].1.sum), (START, 2.0));
    assert!(results[2].is_empty());
}

#[test]
fn bounds_and_bad_requests_are_told() {
    let bench = bench();
    let everything = || ReadQuery { from_ms: 0, to_ms: i64::MAX, matchers: vec![Matcher::regex("__name__", ".+", false).unwrap()] };
    let few = ReadSettings { samples_max: 5, ..ReadSettings::default() };
    assert!(matches!(ask(&bench, &[everything()], &few), Err(RemoteError::TooMuch { what: "samples_max", .. })));
    let one = ReadSettings { queries_max: 1, ..ReadSettings::default() };
    let two = ask(&bench, &[everything(), everything()], &one);
    assert!(matches!(two, Err(RemoteError::Malformed(Malformed::TooMany { what: "queries", .. }))));
    // A regular expression that is none: type 2, name "a", value "(".
    let bad_regex = b"\x0a\x0a\x1a\x08\x08\x02\x12\x01a\x1a\x01(";
    for (body, status) in [(&b"x"[..], 400), (&snappy(bad_regex), 400), (&snappy(b"\x0a\xff"), 400), (&snappy(b""), 200)] {
        let (answer, _) = read::answer(body, &bench.samples, &ReadSettings::default(), &QueryMetrics::default());
        assert_eq!(answer.status, status, "{}", answer.body);
    }
}
