//! What a query may cost, and how it is stopped.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use paramedic_promql::histogram::Histogram;
use paramedic_promql::{Engine, Labels, MemoryStorage, Options, QueryError, Range, SampleValue, Value};

fn storage(series: usize, samples: i64) -> MemoryStorage {
    let storage = MemoryStorage::new();
    for i in 0..series {
        let labels = Labels::from_pairs(&[("__name__", "m_total"), ("i", &i.to_string())]);
        storage.append(&labels, (0..samples).map(|t| (t * 15_000, SampleValue::Float(t as f64))));
    }
    storage
}

#[test]
fn a_query_that_holds_too_many_samples_ends() {
    let engine = Engine::new(Options { samples_max: 100, ..Options::default() });
    for query in ["m_total", "rate(m_total[1h])", "m_total[1h]", "1 + vector(1) * m_total", "count_values(\"v\", m_total)"] {
        let outcome = engine.instant(&storage(200, 20), query, 300_000);
        assert!(matches!(outcome, Err(QueryError::TooManySamples)), "{query}");
    }
    for query in ["vector(1)[10y:1ms]", "sum_over_time(vector(1 + 2)[1y:1s])", "max_over_time(m_total[1y:1s])"] {
        let outcome = Engine::new(Options { samples_max: 1_000_000, ..Options::default() }).instant(&storage(1, 1), query, 0);
        assert!(matches!(outcome, Err(QueryError::TooManySamples)), "{query}");
    }
}

#[test]
fn a_query_ends_with_its_time_or_its_client() {
    let storage = storage(10, 10);
    let hurried = Engine::new(Options { timeout: Duration::ZERO, ..Options::default() });
    assert!(matches!(hurried.instant(&storage, "sum(m_total)", 0), Err(QueryError::Timeout)));
    let engine = Engine::default();
    let gone = Some(Arc::new(AtomicBool::new(true)));
    let expr = engine.parse("sum(m_total)").unwrap();
    assert!(matches!(engine.instant_expr(&storage, &expr, 0, gone), Err(QueryError::Cancelled)));
}

/// One series that keeps a processor busy: the limits hold inside of it too.
#[test]
fn a_heavy_series_ends_with_its_time_or_its_client() {
    let storage = storage(1, 2_000);
    let native = Labels::from_pairs(&[("__name__", "h")]);
    let histogram = |t: i64| Histogram { count: t as f64, positive: vec![(0, t as f64), (1, 1.0)], ..Histogram::default() };
    storage.append(&native, (0..2_000).map(|t| (t * 15_000, SampleValue::Histogram(Arc::new(histogram(t))))));
    let range = Range { start_ms: 0, end_ms: 3_599_000, step_ms: 1_000 };
    for query in [
        "quantile_over_time(0.5, m_total[1h:100ms])",
        "stddev_over_time(m_total[1h:100ms])",
        "max_over_time(m_total[1h:100ms])",
        "changes(m_total[5h:100ms])",
        "sum_over_time(h[1h:1s])",
        "rate(h[1h:1s])",
        "sum(avg_over_time(m_total[1h:100ms]))",
        "quantile_over_time(0.5, last_over_time(m_total[2h:50ms])[1h:100ms])",
    ] {
        let late = Duration::from_millis(300);
        let engine = Engine::new(Options { timeout: Duration::from_millis(50), ..Options::default() });
        let expr = engine.parse(query).unwrap();
        let begun = Instant::now();
        let outcome = engine.range_expr(&storage, &expr, range, None);
        assert!(begun.elapsed() < late, "{query}: {:?} until the time limit", begun.elapsed());
        // What is fast enough to have an answer is none of this test's business.
        assert!(matches!(outcome, Err(QueryError::Timeout)) || outcome.is_ok(), "{query}");
        let gone = Arc::new(AtomicBool::new(false));
        let leaves = Arc::clone(&gone);
        let client = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            leaves.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let begun = Instant::now();
        let outcome = Engine::default().range_expr(&storage, &expr, range, Some(gone));
        assert!(begun.elapsed() < late, "{query}: {:?} until the client's end", begun.elapsed());
        assert!(matches!(outcome, Err(QueryError::Cancelled)) || outcome.is_ok(), "{query}");
        client.join().unwrap();
    }
}

#[test]
fn ranges_are_checked() {
    let (engine, storage) = (Engine::default(), storage(1, 1));
    for (start, end, step) in [(0, 10, 0), (0, 10, -1), (10, 0, 1), (0, 11_000, 1)] {
        assert!(engine.range(&storage, "1", start, end, step).is_err(), "{start} {end} {step}");
    }
    assert!(engine.range(&storage, "m_total[5m]", 0, 10, 1).is_err());
    assert!(engine.range(&storage, "\"text\"", 0, 10, 1).is_err());
    let range = Range { start_ms: 0, end_ms: 10_999, step_ms: 1 };
    let answer = engine.range_expr(&storage, &engine.parse("1").unwrap(), range, None).unwrap();
    let Value::Matrix(matrix) = answer.value else { panic!("expected a matrix") };
    assert_eq!(matrix[0].floats.len(), 11_000);
}

#[test]
fn what_is_experimental_is_refused_by_name() {
    let engine = Engine::default();
    for (query, what) in [
        ("mad_over_time(x[5m])", "function \"mad_over_time\""),
        ("info(x)", "function \"info\""),
        ("limitk(1, x)", "aggregation \"limitk\""),
        ("rate(x[5m] anchored)", "modifier \"anchored\""),
        ("a + fill(0) b", "modifier \"fill\""),
        ("x[5m + 1m]", "duration expression"),
    ] {
        let err = engine.parse(query).unwrap_err();
        assert_eq!(err.unsupported.as_deref(), Some(what), "{query}");
        assert!(err.to_string().contains("not supported: experimental"), "{err}");
    }
}

#[test]
fn deep_expressions_need_little_stack() {
    let deep = (0..95).fold("m_total".to_owned(), |inner, _| format!("abs({inner})"));
    let chain = vec!["m_total"; 240].join(" or ");
    let worker = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        let (engine, storage) = (Engine::default(), storage(2, 2));
        engine.instant(&storage, &deep, 0).unwrap();
        engine.range(&storage, &chain, 0, 60_000, 1_000).unwrap();
    });
    worker.unwrap().join().unwrap();
}
