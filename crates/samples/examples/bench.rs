//! Measures the store on one thread: `cargo run --release -p paramedic-samples --example bench [SERIES [RUNS]]`.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use paramedic_model::{ManualClock, Timestamp};
use paramedic_promql::{Engine, Labels, Matcher, Samples as Decoded, StoredSeries};
use paramedic_samples::{Key, Sample, Samples, SeriesRef, Settings};

const START: i64 = 1_768_348_800_000;
const EVERY: i64 = 15_000;
/// One hour.
const ROUNDS: i64 = 240;

/// CPU time of this process, all threads.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<u64> = stat.rsplit(')').next().unwrap_or("").split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    let ticks = fields.get(11).unwrap_or(&0) + fields.get(12).unwrap_or(&0);
    Duration::from_millis(ticks * 10)
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn labels(i: usize) -> Labels {
    let texts = [
        format!("metric_{}", i / 1_000 % 20),
        format!("node-{:04}", i % 1_000),
        format!("10.0.{}.{}:9100", i % 1_000 / 250, i % 250),
        format!("region-{}", i % 5),
        format!("agent-{}", i / 20_000),
        format!("/api/v{}/x", i % 7),
    ];
    let names = ["__name__", "host", "instance", "region", "agent", "path"];
    let mut pairs: Vec<(&str, &str)> = names.iter().copied().zip(texts.iter().map(String::as_str)).collect();
    pairs.extend([("job", "bench"), ("zone", "a")]);
    Labels::from_pairs(&pairs)
}

/// A third counters, a third gauges with two decimals, a third flat.
fn value(series: usize, round: i64) -> f64 {
    let noise = (series as i64 * 7_919 + round * 104_729) % 1_000;
    match series % 3 {
        0 => (round * 500 + noise) as f64,
        1 => (5_000 + noise) as f64 / 100.0,
        _ => (series % 50) as f64,
    }
}

fn rate(what: &str, count: u64, wall: Duration, cpu: Duration) {
    let per_wall = count as f64 / wall.as_secs_f64();
    let per_cpu = count as f64 / cpu.as_secs_f64().max(0.01);
    println!(
        "{what:<44} {per_wall:>12.0} /s   {per_cpu:>12.0} /CPU s   ({:.2} s wall, {:.2} s CPU)",
        wall.as_secs_f64(),
        cpu.as_secs_f64()
    );
}

fn measure<T>(what: &str, count: u64, work: impl FnOnce() -> Result<T, Box<dyn Error>>) -> Result<T, Box<dyn Error>> {
    let (cpu_before, begun) = (cpu(), Instant::now());
    let done = work()?;
    rate(what, count, begun.elapsed(), cpu().saturating_sub(cpu_before));
    Ok(done)
}

fn select(store: &Samples, what: &str, matchers: &[Matcher], from: i64, to: i64) -> Result<(), Box<dyn Error>> {
    let mut best = Duration::MAX;
    let mut found: Vec<StoredSeries> = Vec::new();
    let cpu_before = cpu();
    for _ in 0..7 {
        drop(std::mem::take(&mut found));
        let begun = Instant::now();
        found = store.select(matchers, from, to)?;
        best = best.min(begun.elapsed());
    }
    let samples: usize = found
        .iter()
        .map(|series| {
            let Decoded { times, .. } = &*series.samples;
            times.len()
        })
        .sum();
    let busy = cpu().saturating_sub(cpu_before).as_secs_f64() * 1e3 / 7.0;
    println!("select {what:<40} {:>9.3} ms {busy:>7.1} CPU ms {:>7} series {samples:>9} samples", best.as_secs_f64() * 1e3, found.len());
    Ok(())
}

fn fill(store: &Samples, clock: &ManualClock, refs: &[SeriesRef], rounds: std::ops::Range<i64>) -> Result<(), Box<dyn Error>> {
    let mut batch = Vec::with_capacity(10_000);
    for round in rounds {
        let time = START + round * EVERY;
        clock.set(Timestamp::from_millis(time));
        for (part, refs) in refs.chunks(10_000).enumerate() {
            batch.clear();
            batch.extend(refs.iter().enumerate().map(|(i, series)| (*series, time + (i % 10) as i64, value(part * 10_000 + i, round))));
            let report = store.append_refs(&batch)?;
            assert_eq!(report.appended, batch.len() as u64, "{report:?}");
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let series: usize = std::env::args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(100_000);
    let dir = tempfile::tempdir()?;
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(START)));
    let settings = Settings { upkeep_interval_s: 0, ..Settings::default() };
    let store = Samples::open(dir.path(), settings.clone(), clock.clone())?;
    let before = resident();

    let refs =
        measure("begin series", series as u64, || Ok((0..series).map(|i| store.series_ref(&labels(i))).collect::<Result<Vec<_>, _>>()?))?;
    println!("memory of empty series: {} B each", (resident() - before) / series as u64);
    measure("append by reference, log included", series as u64 * ROUNDS as u64, || fill(&store, &clock, &refs, 0..ROUNDS))?;
    let stats = store.stats();
    println!(
        "memory: {} B a series (resident), {} B of them samples ({:.2} B a sample); log {:.1} B a sample",
        (resident() - before) / series as u64,
        stats.head_sample_bytes / series as u64,
        stats.head_sample_bytes as f64 / (series as f64 * ROUNDS as f64),
        stats.wal_bytes as f64 / (series as f64 * ROUNDS as f64)
    );

    let all: Vec<Labels> = (0..series).map(labels).collect();
    for round in ROUNDS..ROUNDS + 3 {
        let time = START + round * EVERY;
        clock.set(Timestamp::from_millis(time));
        let batches: Vec<Vec<Sample<'_>>> = all
            .chunks(10_000)
            .map(|part| {
                part.iter()
                    .map(|labels| Sample { series: Key::Labels(labels), time, value: paramedic_promql::SampleValue::Float(round as f64) })
                    .collect()
            })
            .collect();
        measure("append by labels", series as u64, || Ok(batches.iter().try_for_each(|batch| store.append(batch).map(drop))?))?;
    }
    drop(all);

    let now = START + (ROUNDS + 2) * EVERY;
    let name = || Matcher::equal("__name__", "metric_1");
    select(&store, "metric and host, last minute", &[name(), Matcher::equal("host", "node-0001")], now - 60_000, now)?;
    select(&store, "metric and host, all", &[name(), Matcher::equal("host", "node-0001")], 0, now)?;
    select(&store, "metric =~ prefix of hosts", &[name(), Matcher::regex("host", "node-00.*", false)?], now - 60_000, now)?;
    select(&store, "host =~ words", &[Matcher::regex("host", "node-0001|node-0777", false)?], now - 60_000, now)?;
    select(&store, "host =~ expression", &[Matcher::regex("host", "node-0[0-4]7.", false)?], now - 60_000, now)?;
    select(&store, "metric, host !~ expression", &[name(), Matcher::regex("host", "node-0[0-4]7.", true)?], now - 60_000, now)?;
    select(&store, "one metric, last minute", &[name()], now - 60_000, now)?;
    select(&store, "everything, last minute", &[Matcher::equal("job", "bench")], now - 60_000, now)?;
    select(&store, "everything, last five minutes", &[Matcher::equal("job", "bench")], now - 300_000, now)?;
    select(&store, "everything, one hour", &[Matcher::equal("job", "bench")], 0, now)?;

    // More of them let a profiler see mostly queries.
    let runs: usize = std::env::args().nth(2).and_then(|arg| arg.parse().ok()).unwrap_or(7);
    for query in [
        "sum by (region) (rate(metric_1[1m]))",
        "sum by (region) (rate({job=\"bench\"}[1m]))",
        "sum by (region) (rate({job=\"bench\"}[5m]))",
    ] {
        let engine = Engine::default();
        let mut best = Duration::MAX;
        for _ in 0..runs {
            let begun = Instant::now();
            engine.instant(&store, query, now)?;
            best = best.min(begun.elapsed());
        }
        println!("query  {query:<50} {:>9.3} ms", best.as_secs_f64() * 1e3);
    }

    measure("checkpoint (series)", series as u64, || Ok(store.checkpoint()?))?;
    fill(&store, &clock, &refs, ROUNDS + 3..ROUNDS + 43)?;
    drop(store);
    let store =
        measure("reopen: checkpoint and 40 rounds of log", series as u64 * 40, || Ok(Samples::open(dir.path(), settings, clock.clone())?))?;
    fill(&store, &clock, &refs, ROUNDS + 43..ROUNDS + 800)?;
    let samples = store.stats().head_chunks;
    measure("upkeep: spill and checkpoint (chunks)", samples, || Ok(store.upkeep()?))?;
    let stats = store.stats();
    println!(
        "partitions: {} B for {} samples ({:.2} B a sample)",
        stats.partition_bytes,
        stats.partition_samples,
        stats.partition_bytes as f64 / stats.partition_samples as f64
    );
    let old = [name(), Matcher::equal("host", "node-0001")];
    let begun = Instant::now();
    store.select(&old, START, START + 3_600_000)?;
    println!("first select from a partition (loads its index): {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
    select(&store, "metric and host, from a partition", &old, START, START + 3_600_000)?;
    Ok(())
}
