//! Any text as an expression, and as a test file, over a few series of every kind; evaluated as an instant and as a range.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use paramedic_promql::histogram::Histogram;
use paramedic_promql::{Engine, Labels, MemoryStorage, Options, SampleValue};

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    Engine::new(Options { experimental: true, timeout: Duration::from_secs(2), samples_max: 200_000, steps_max: 500, ..Options::default() })
});

static STORAGE: LazyLock<MemoryStorage> = LazyLock::new(|| {
    let storage = MemoryStorage::new();
    for (name, le) in [("a", ""), ("a", "1"), ("b", "1"), ("b", "+Inf"), ("h", ""), ("m", "")] {
        let odd = [f64::NAN, f64::INFINITY, -0.0, f64::from_bits(0x7ff0_0000_0000_0002), 1e308];
        let samples = (0..60).map(|i: i64| {
            let histogram = || Histogram { count: i as f64, sum: 3.0, positive: vec![(i as i32 % 5, i as f64)], ..Histogram::default() };
            let native = name == "h" || name == "m" && i % 3 == 0;
            let float = if i % 13 == 0 { odd[i as usize % odd.len()] } else { (i * 7 % 31) as f64 };
            (i * 15_000, if native { SampleValue::Histogram(Arc::new(histogram())) } else { SampleValue::Float(float) })
        });
        storage.append(&Labels::from_pairs(&[("__name__", name), ("x", name), ("le", le)]), samples.collect::<Vec<_>>());
    }
    storage
});

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let begun = Instant::now();
    if ENGINE.instant(&*STORAGE, &text, 600_000).is_ok() {
        let _ = ENGINE.range(&*STORAGE, &text, 0, 900_000, 30_000);
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "the time limit does not hold");
    if data.len() < 400 {
        let _ = paramedic_promql::run_test_file(&text, "fuzz");
    }
});
