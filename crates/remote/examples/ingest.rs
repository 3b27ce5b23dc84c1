//! Measures the receiver on one thread: `cargo run --release -p paramedic-remote --example ingest [series] [rounds] [1.0|2.0] [forward]`.
//!
//! Bodies are what a Prometheus sends: 2,000 samples per request, one sample per series, ten labels per series, compressed
//! with snappy. With `forward`, everything also goes to a spool for another store. Time is measured from the compressed body to the samples being in the log and in memory.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use paramedic_model::{ManualClock, Timestamp};
use paramedic_promql::SampleValue;
use paramedic_remote::config::StoreSettings;
use paramedic_remote::encode::{V2Request, v1_series};
use paramedic_remote::metrics::{ForwardMetrics, ReceiveMetrics};
use paramedic_remote::{ForwardSettings, Headers, Queue, ReceiveSettings, Receiver};
use paramedic_samples::{SampleSink, Samples, Settings};

const START: i64 = 1_768_348_800_000;
const EVERY: i64 = 15_000;
const PER_REQUEST: usize = 2_000;

/// CPU time of this process, all threads.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<u64> = stat.rsplit(')').next().unwrap_or("").split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    Duration::from_millis((fields.get(11).unwrap_or(&0) + fields.get(12).unwrap_or(&0)) * 10)
}

fn labels(i: usize) -> Vec<(&'static str, String)> {
    vec![
        ("__name__", format!("http_request_duration_seconds_{}", i % 50)),
        ("cluster", "production-eu-west-1".to_owned()),
        ("container", format!("agent-{}", i / 50 % 20)),
        ("endpoint", "metrics".to_owned()),
        ("instance", format!("10.0.{}.{}:9100", i / 250 % 250, i % 250)),
        ("job", format!("agents-{}", i % 7)),
        ("method", ["GET", "POST", "PUT"][i % 3].to_owned()),
        ("namespace", format!("team-{}", i % 40)),
        ("pod", format!("agent-{}-7d9f8b6c5-{:05x}", i / 50 % 20, i)),
        ("status", ["200", "404", "500"][i % 3].to_owned()),
    ]
}

fn value(series: usize, round: i64) -> f64 {
    let noise = (series as i64 * 7_919 + round * 104_729) % 1_000;
    match series % 3 {
        0 => (round * 500 + noise) as f64,
        1 => (5_000 + noise) as f64 / 100.0,
        _ => (series % 50) as f64,
    }
}

fn bodies(series: usize, round: i64, v2: bool) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let mut all = Vec::new();
    for begin in (0..series).step_by(PER_REQUEST) {
        let mut v1_body = Vec::new();
        let mut v2_body = V2Request::default();
        for i in begin..(begin + PER_REQUEST).min(series) {
            let labels = labels(i);
            let pairs = labels.iter().map(|(name, value)| (*name, value.as_str()));
            let sample = std::iter::once((START + round * EVERY, SampleValue::Float(value(i, round))));
            if v2 { v2_body.series(pairs, sample, None) } else { v1_series(&mut v1_body, pairs, sample) }
        }
        let message = if v2 { v2_body.finish() } else { v1_body };
        all.push(snap::raw::Encoder::new().compress_vec(&message)?);
    }
    Ok(all)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let series: usize = arguments.next().map_or(Ok(100_000), |text| text.parse())?;
    let rounds: i64 = arguments.next().map_or(Ok(20), |text| text.parse())?;
    let v2 = arguments.next().as_deref() == Some("2.0");
    let dir = tempfile::tempdir()?;
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(START)));
    let samples = Arc::new(Samples::open(dir.path(), Settings { upkeep_interval_s: 0, ..Settings::default() }, clock.clone())?);
    let forwards = arguments.next().is_some();
    let store = StoreSettings { url: "http://127.0.0.1:9/api/v1/write".to_owned(), ..StoreSettings::default() };
    let forward = ForwardSettings { store, ..ForwardSettings::default() };
    let (queue, _sender) = Queue::open(forward, &dir.path().join("spool"), None, ForwardMetrics::default())?;
    let tap: Option<Arc<dyn SampleSink>> = if forwards { Some(Arc::new(queue)) } else { None };
    let receiver = Receiver::new(ReceiveSettings::default(), Arc::clone(&samples), tap, ReceiveMetrics::default());
    let content_type = if v2 { "application/x-protobuf;proto=io.prometheus.write.v2.Request" } else { "application/x-protobuf" };
    let headers = Headers { content_type: Some(content_type), content_encoding: Some("snappy") };
    let (mut wall, mut busy, mut bytes) = (Duration::ZERO, Duration::ZERO, 0);
    for round in 0..=rounds {
        let bodies = bodies(series, round, v2)?;
        clock.set(Timestamp::from_millis(START + round * EVERY));
        let (begun, begun_cpu) = (Instant::now(), cpu());
        for body in &bodies {
            let answer = receiver.handle(headers, body);
            if answer.status != 204 {
                return Err(format!("{}: {}", answer.status, answer.body).into());
            }
        }
        if round == 0 {
            let rate = series as f64 / begun.elapsed().as_secs_f64();
            let per_cpu = series as f64 / (cpu() - begun_cpu).as_secs_f64().max(0.01);
            println!("first round, all series new: {rate:.0} samples/s, {per_cpu:.0} samples per CPU second");
        } else {
            wall += begun.elapsed();
            busy += cpu() - begun_cpu;
            bytes += bodies.iter().map(Vec::len).sum::<usize>();
        }
    }
    let total = (series as i64 * rounds) as f64;
    println!(
        "{series} series x {rounds} rounds, {PER_REQUEST} samples per request, {}: {:.0} samples/s, {:.0} samples per CPU second, {:.1} bytes per sample on the wire",
        if v2 { "2.0" } else { "1.0" },
        total / wall.as_secs_f64(),
        total / busy.as_secs_f64().max(0.01),
        bytes as f64 / total
    );
    Ok(())
}
