//! Measures evaluation over many series in memory: `promql_bench [SERIES]`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use paramedic_promql::{Engine, Label, Labels, Matcher, MemoryStorage, SampleValue, Storage, Value};

const STEP_MS: i64 = 15_000;

fn main() {
    let series: usize = std::env::args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(100_000);
    let storage = MemoryStorage::new();
    // A store shares the text of names and values between its series.
    let mut texts: HashMap<String, Arc<str>> = HashMap::new();
    let mut share = |text: &str| texts.entry(text.to_owned()).or_insert_with(|| text.into()).clone();
    let mut labels_of =
        |pairs: &[(&str, &str)]| Labels::new(pairs.iter().map(|(name, value)| Label { name: share(name), value: share(value) }).collect());
    for i in 0..series {
        let (x, instance) = (format!("group-{}", i % 50), format!("host-{i}"));
        let labels = labels_of(&[("__name__", "m_total"), ("x", &x), ("instance", &instance), ("job", "bench")]);
        storage.append(&labels, (0..240).map(|t| (t * STEP_MS, SampleValue::Float((t * (i as i64 % 7 + 1)) as f64))));
    }
    for i in 0..1_000 {
        for (le, share) in
            [("0.1", 2), ("0.5", 5), ("1", 7), ("2", 8), ("5", 9), ("10", 10), ("20", 10), ("50", 10), ("100", 10), ("+Inf", 10)]
        {
            let instance = format!("host-{i}");
            let labels = labels_of(&[("__name__", "h_bucket"), ("le", le), ("instance", &instance)]);
            storage.append(&labels, (0..240).map(|t| (t * STEP_MS, SampleValue::Float((t * share) as f64))));
        }
    }
    let engine = Engine::default();
    let end = 239 * STEP_MS;
    let begin = Instant::now();
    let found = storage.select(&[Matcher::equal("__name__", "m_total")], 0, end).map_or(0, |found| found.len());
    println!("the store itself selects {found} series in {:.1?}", begin.elapsed());
    let queries = [
        "sum by (x) (rate(m_total[1m]))",
        "sum by (x) (m_total)",
        "m_total{instance=~\"host-.*9\"}",
        "histogram_quantile(0.9, rate(h_bucket[1m]))",
        "topk(10, rate(m_total[5m]))",
        "max_over_time(m_total[30m])",
        "m_total / on (instance) m_total",
    ];
    for query in queries {
        for (kind, start) in [("instant", end), ("range of 60 steps", end - 59 * STEP_MS)] {
            // The best of some runs: the machine is shared with others.
            let run = || {
                let begin = Instant::now();
                let answer =
                    if start == end { engine.instant(&storage, query, end) } else { engine.range(&storage, query, start, end, STEP_MS) };
                (begin.elapsed(), answer)
            };
            let Some((elapsed, answer)) = (0..5).map(|_| run()).min_by_key(|(elapsed, _)| *elapsed) else { continue };
            let size = match answer {
                Ok(answer) => match answer.value {
                    Value::Vector(vector) => vector.len(),
                    Value::Matrix(matrix) => matrix.len(),
                    _ => 1,
                },
                Err(err) => {
                    println!("{query} ({kind}): {err}");
                    continue;
                }
            };
            let per_series = elapsed.as_nanos() / series as u128;
            println!("{query} ({kind}): {elapsed:.1?}, {size} series out, {per_series} ns per stored series");
        }
    }
}
