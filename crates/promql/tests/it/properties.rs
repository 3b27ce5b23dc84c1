//! Properties of any expression over any series.

use std::sync::Arc;
use std::time::Duration;

use paramedic_promql::histogram::{Histogram, ResetHint};
use paramedic_promql::{Engine, Labels, MemoryStorage, Options, Point, SampleValue, Value};
use proptest::prelude::*;

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("1".to_owned()),
        Just("-2.5".to_owned()),
        Just("NaN".to_owned()),
        Just("Inf".to_owned()),
        Just("0".to_owned()),
        Just("time()".to_owned()),
        Just("scalar(a)".to_owned()),
        Just("0.9".to_owned()),
    ]
}

fn selector() -> impl Strategy<Value = String> {
    let base = prop_oneof![Just("a"), Just("b"), Just("h"), Just("{x=~\"1|2\"}"), Just("a{y!=\"1\"}"), Just("c_bucket")];
    let modifier =
        prop_oneof![4 => Just(""), 1 => Just(" offset 45s"), 1 => Just(" offset -1m"), 1 => Just(" @ 100"), 1 => Just(" @ end()")];
    (base, modifier).prop_map(|(base, modifier)| format!("{base}{modifier}"))
}

fn range(inner: &str, kind: usize) -> String {
    match kind % 5 {
        0 => "a[2m]".to_owned(),
        1 => "h[90s]".to_owned(),
        2 => "{x=~\".+\"}[5m] offset 30s".to_owned(),
        3 => format!("({inner})[3m:40s]"),
        _ => format!("({inner})[1m:] @ 200"),
    }
}

const RANGE_FUNCTIONS: [&str; 25] = [
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "deriv",
    "changes",
    "resets",
    "sum_over_time",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "count_over_time",
    "last_over_time",
    "first_over_time",
    "present_over_time",
    "absent_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "mad_over_time",
    "ts_of_max_over_time",
    "ts_of_last_over_time",
    "rate",
    "increase",
    "sum_over_time",
];
const VECTOR_FUNCTIONS: [&str; 20] = [
    "abs",
    "ceil",
    "sqrt",
    "ln",
    "sgn",
    "absent",
    "timestamp",
    "histogram_count",
    "histogram_sum",
    "histogram_avg",
    "histogram_stddev",
    "year",
    "day_of_week",
    "-",
    "sort",
    "floor",
    "exp",
    "acosh",
    "deg",
    "histogram_stdvar",
];
const AGGREGATIONS: [&str; 9] = ["sum", "avg", "count", "min", "max", "group", "stddev", "stdvar", "sum"];
const OPERATORS: [&str; 21] = [
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "atan2",
    "==",
    "!=",
    ">",
    "<",
    ">= bool",
    "<= bool",
    "and",
    "or",
    "unless",
    "and on(x)",
    "or ignoring(y)",
    "* on(x) group_left(y)",
    "</",
    ">/",
];

fn expression() -> impl Strategy<Value = String> {
    selector().prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), 0..RANGE_FUNCTIONS.len(), 0..5usize).prop_map(|(e, f, k)| format!("{}({})", RANGE_FUNCTIONS[f], range(&e, k))),
            (inner.clone(), 0..VECTOR_FUNCTIONS.len()).prop_map(|(e, f)| format!("{}({e})", VECTOR_FUNCTIONS[f])),
            (inner.clone(), 0..AGGREGATIONS.len(), prop_oneof![Just(""), Just("by (x)"), Just("without (x)"), Just("by (__name__)")])
                .prop_map(|(e, f, by)| format!("{} {by} ({e})", AGGREGATIONS[f])),
            (inner.clone(), scalar(), prop_oneof![Just("topk"), Just("bottomk"), Just("quantile"), Just("limitk"), Just("limit_ratio")])
                .prop_map(|(e, s, f)| format!("{f} by (x) ({s}, {e})")),
            (inner.clone(), scalar(), 0..13usize).prop_map(|(e, s, f)| format!("({e}) {} {s}", OPERATORS[f])),
            (scalar(), inner.clone(), 0..13usize).prop_map(|(s, e, f)| format!("{s} {} ({e})", OPERATORS[f])),
            (inner.clone(), inner.clone(), 0..OPERATORS.len()).prop_map(|(l, r, f)| format!("({l}) {} ({r})", OPERATORS[f])),
            (inner.clone(), scalar(), scalar()).prop_map(|(e, a, b)| format!("clamp({e}, {a}, {b})")),
            (inner.clone(), scalar()).prop_map(|(e, s)| format!("histogram_quantile({s}, {e})")),
            (inner.clone(), scalar(), scalar()).prop_map(|(e, a, b)| format!("histogram_fraction({a}, {b}, {e})")),
            (inner.clone(), scalar(), 0..5usize).prop_map(|(e, s, k)| format!("predict_linear({}, {s})", range(&e, k))),
            (inner.clone(), scalar(), 0..5usize).prop_map(|(e, s, k)| format!("quantile_over_time({s}, {})", range(&e, k))),
            inner.clone().prop_map(|e| format!("count_values(\"v\", {e})")),
            inner.clone().prop_map(|e| format!("label_replace({e}, \"x\", \"$1-z\", \"y\", \"(.*)\")")),
            inner.prop_map(|e| format!("label_join({e}, \"y\", \",\", \"x\", \"y\")")),
        ]
    })
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => (-100i32..100).prop_map(f64::from),
        1 => any::<f64>(),
        1 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(f64::from_bits(0x7ff0_0000_0000_0002)),
    ]
}

fn histogram() -> impl Strategy<Value = Histogram> {
    let buckets = prop::collection::btree_map(-5i32..5, 0u8..9, 0..5).prop_map(|b| b.into_iter().map(|(i, c)| (i, f64::from(c))).collect());
    let hint = prop_oneof![Just(ResetHint::Unknown), Just(ResetHint::Gauge), Just(ResetHint::Reset), Just(ResetHint::NotReset)];
    (prop_oneof![Just(0), Just(1), Just(-1), Just(-53)], buckets, float(), 0u8..20, hint, prop_oneof![Just(0.0), Just(0.01), Just(0.7)])
        .prop_map(|(schema, positive, sum, count, hint, zero_threshold): (i32, Vec<(i32, f64)>, f64, u8, ResetHint, f64)| {
            let custom = schema == -53;
            let positive = positive.into_iter().filter(|(index, _)| !custom || (0..=2).contains(index)).collect();
            Histogram {
                hint,
                schema,
                positive,
                sum,
                count: f64::from(count),
                zero_threshold: if custom { 0.0 } else { zero_threshold },
                custom_values: if custom { Arc::from([1.0, 5.0]) } else { Arc::from([]) },
                ..Histogram::default()
            }
        })
}

/// For each of some series its samples: a gap to the one before, and a value.
type Data = Vec<Vec<(u8, Option<f64>, Histogram)>>;

fn data() -> impl Strategy<Value = Data> {
    let sample = (1u8..60, prop::option::weighted(0.8, float()), histogram());
    prop::collection::vec(prop::collection::vec(sample, 0..12), 8)
}

fn store(data: &Data) -> MemoryStorage {
    let storage = MemoryStorage::new();
    let names = [
        &[("__name__", "a"), ("x", "1"), ("y", "1")][..],
        &[("__name__", "a"), ("x", "2"), ("y", "2")],
        &[("__name__", "a"), ("x", "2"), ("y", "3")],
        &[("__name__", "b"), ("x", "1")],
        &[("__name__", "b"), ("x", "2")],
        &[("__name__", "h"), ("x", "1")],
        &[("__name__", "c_bucket"), ("x", "1"), ("le", "1")],
        &[("__name__", "c_bucket"), ("x", "1"), ("le", "+Inf")],
    ];
    for (pairs, samples) in names.iter().zip(data) {
        let mut time = 0;
        storage.append(
            &Labels::from_pairs(pairs),
            samples.iter().map(|(gap, value, histogram)| {
                time += i64::from(*gap) * 1_000;
                let histogram_series = pairs[0].1 == "h";
                let value = value.filter(|_| !histogram_series);
                (time, value.map_or_else(|| SampleValue::Histogram(Arc::new(histogram.clone())), SampleValue::Float))
            }),
        );
    }
    storage
}

fn engine() -> Engine {
    Engine::new(Options { experimental: true, timeout: Duration::from_secs(20), samples_max: 2_000_000, ..Options::default() })
}

fn same(a: &Point, b: &Point) -> bool {
    match (a, b) {
        (Point::Float(a), Point::Float(b)) => {
            a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
        }
        (Point::Histogram(a), Point::Histogram(b)) => a.almost_same(b, 1e-9),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    /// A range query gives at every step what an instant query gives at that moment.
    #[test]
    fn a_range_is_its_instants(query in expression(), data in data()) {
        let (engine, storage) = (engine(), store(&data));
        let Ok(expr) = engine.parse(&query) else { return Ok(()) };
        let query_has_end = query.contains("end()");
        let Ok(answer) = engine.range(&storage, &query, 0, 300_000, 37_000) else { return Ok(()) };
        if query_has_end {
            return Ok(());
        }
        let Value::Matrix(matrix) = answer.value else { return Err(TestCaseError::fail("expected a matrix")) };
        for step in 0..=8 {
            let at = step * 37_000;
            let instant = engine.instant_expr(&storage, &expr, at, None).map_err(|err| TestCaseError::fail(format!("{query}: {err}")))?;
            let Value::Vector(vector) = instant.value else { return Ok(()) };
            let mut seen = 0;
            for series in &matrix {
                let float = series.floats.iter().find(|(time, _)| *time == at).map(|(_, value)| Point::Float(*value));
                let histogram = series.histograms.iter().find(|(time, _)| *time == at).map(|(_, h)| Point::Histogram(h.clone()));
                let Some(point) = float.or(histogram) else { continue };
                seen += 1;
                let found = vector.iter().find(|sample| sample.labels == series.labels);
                prop_assert!(found.is_some_and(|sample| same(&sample.value, &point)), "{query} at {at}: {} {point:?} {found:?}", series.labels);
            }
            prop_assert_eq!(seen, vector.len(), "{} at {}", query, at);
        }
    }

    /// No text makes the parser panic, and what it accepts prints as an expression that means the same.
    #[test]
    fn text_never_panics(text in "[-+*/^%<>=!~(){}\\[\\],.:@\"'a-z0-9 ]{0,60}") {
        let _ = paramedic_promql::parse::parse(&text, true);
    }

    #[test]
    fn printed_expressions_parse_again(query in expression()) {
        if let Ok(expr) = paramedic_promql::parse::parse(&query, true) {
            let printed = expr.to_string();
            let again = paramedic_promql::parse::parse(&printed, true).map_err(|err| TestCaseError::fail(format!("{printed}: {err}")))?;
            prop_assert_eq!(again.to_string(), printed);
        }
    }

    /// The test language takes anything without a panic.
    #[test]
    fn test_files_never_panic(text in "(load|eval|clear|expect|instant|range|at|a|\\{\\{|\\}\\}|[0-9x_+. ]|\n|1m|:){0,30}") {
        let _ = paramedic_promql::run_test_file(&text, "random");
    }
}
