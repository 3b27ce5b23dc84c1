//! Killed again and again while samples come in: what was acknowledged is there afterwards, and alerts go on.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use paramedic_model::Timestamp;
use serde_json::Value;

use crate::fixture::{Home, Instance};
use crate::http;
use crate::programs::{Series, encoded, now_ms, try_write};

const KILLS: u64 = 50;
/// Series of one write.
const SERIES: usize = 20;
const FSYNC_INTERVAL_MS: i64 = 200;
/// `for` of the alert that waits; many kills come in between.
const WAITS_S: i64 = 20;
/// How late an alert may fire because nobody was there to evaluate it, besides one start.
const LATE_S: i64 = 6;

const SETTINGS: &str = "[probe]\nhost = false\n[samples]\nfsync_interval_ms = 200\nsegment_bytes_max = 65536\ncheckpoint_bytes = 262144\nupkeep_interval_s = 1\n[rules]\npack = false\nfiles = [\"RULES\"]\n";

const RULES: &str = "groups:
- name: crash
  interval: 200ms
  rules:
  - alert: Burning
    expr: crash_level > 0
    labels: {severity: critical}
  - alert: Waiting
    expr: crash_level > 0
    for: 20s
    labels: {severity: page}
  - alert: Patient
    expr: crash_level > 0
    for: 1h
    labels: {severity: page}
";

/// Series whose samples are days old: they leave the memory for partitions while the instance is killed.
const OLD_SERIES: usize = 4;
const OLD_STEP_MS: i64 = 60_000;
const OLD_FROM_MS: i64 = 14 * 86_400_000;

/// A write that was acknowledged.
struct Acknowledged {
    /// Of its samples, whose values are derived from it.
    time: i64,
    /// Of its samples of long ago.
    old_time: i64,
    at: i64,
}

fn value(time: i64, series: usize) -> f64 {
    (time % 1_000_003) as f64 + series as f64 / 32.0
}

/// Writes until the instance is gone or `stop` is set.
fn ingest(address: &str, old_times: &AtomicI64, stop: &AtomicBool) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    let mut last = 0;
    while !stop.load(Ordering::Relaxed) {
        let time = now_ms().max(last + 1);
        last = time;
        let mut batch: Vec<Series> =
            (0..SERIES).map(|i| Series::new("crash_samples", &format!("i={i}"), &[(time, value(time, i))])).collect();
        let old_time = old_times.fetch_add(OLD_STEP_MS, Ordering::Relaxed);
        let old = |i: usize| Series::new("crash_history", &format!("i={i}"), &[(old_time, value(old_time, i))]);
        batch.extend((0..OLD_SERIES).map(old));
        batch.push(Series::new("crash_level", "", &[(time, 1.0)]));
        match try_write(address, batch) {
            Ok(answer) if answer.status < 300 => acknowledged.push(Acknowledged { time, old_time, at: now_ms() }),
            Ok(answer) => panic!("refused: {} {}", answer.status, answer.text()),
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
        thread::sleep(Duration::from_millis(2));
    }
    acknowledged
}

/// Own counters that must stay at zero.
fn damage(instance: &Instance) -> Vec<String> {
    let text = instance.get("/metrics").text();
    let lines =
        text.lines().filter(|line| line.starts_with("paramedic_samples_damaged_") || line.starts_with("paramedic_samples_refused_"));
    lines.filter(|line| !line.ends_with(" 0")).map(str::to_owned).collect()
}

/// All samples of the test by series and time.
fn stored(instance: &Instance, expression: &str) -> BTreeMap<String, BTreeMap<i64, f64>> {
    let path = format!("/api/v1/query?query={}", encoded(expression));
    let answer = http::get(&instance.http(), &path).unwrap().json();
    let mut all = BTreeMap::new();
    for series in answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{answer:#}")) {
        let pairs = series["values"].as_array().unwrap().iter();
        let pairs = pairs.map(|pair| ((pair[0].as_f64().unwrap() * 1_000.0).round() as i64, pair[1].as_str().unwrap().parse().unwrap()));
        all.insert(series["metric"]["i"].as_str().unwrap().to_owned(), pairs.collect());
    }
    all
}

fn time_of(value: &Value) -> i64 {
    value.as_str().and_then(Timestamp::parse).unwrap_or_else(|| panic!("no time: {value}")).as_millis()
}

fn episodes(instance: &Instance, name: &str) -> Vec<Value> {
    let all = instance.list("/api/v1/alerts/history?limit=1000", "alerts");
    all.into_iter().filter(|line| line["alert"]["rule"]["name"] == name).collect()
}

#[test]
fn fifty_kills_under_ingest_lose_no_sample_and_stop_no_clock() {
    let home = Home::new();
    let rules = home.path().join("rules.yml");
    fs::write(&rules, RULES).unwrap();
    let settings = SETTINGS.replace("RULES", rules.to_str().unwrap());
    let (mut old_enough, mut young) = (Vec::new(), Vec::new());
    let begin = now_ms();
    let old_times = AtomicI64::new(begin - OLD_FROM_MS);
    for round in 0..KILLS {
        let instance = home.up_configured(&settings);
        let damaged = damage(&instance);
        assert!(damaged.is_empty(), "round {round}: {damaged:?}\n{}", home.log());
        let (address, stop) = (instance.http(), AtomicBool::new(false));
        let (acknowledged, killed_at) = thread::scope(|scope| {
            let writer = scope.spawn(|| ingest(&address, &old_times, &stop));
            // Not always at the same moment of the log's life; now and then in or after a round of upkeep, which comes each second.
            let life = if round % 5 == 4 { 750 + round * 53 % 500 } else { 250 + round * 37 % 300 };
            thread::sleep(Duration::from_millis(life));
            let killed_at = now_ms();
            instance.kill();
            stop.store(true, Ordering::Relaxed);
            (writer.join().unwrap(), killed_at)
        });
        assert!(!acknowledged.is_empty(), "round {round}: nothing was taken\n{}", home.log());
        let (old, new): (Vec<_>, Vec<_>) = acknowledged.into_iter().partition(|one| one.at < killed_at - FSYNC_INTERVAL_MS);
        old_enough.extend(old);
        young.extend(new);
    }
    let instance = home.up_configured(&settings);
    println!("{KILLS} kills in {} s, {} + {} writes acknowledged", (now_ms() - begin) / 1_000, old_enough.len(), young.len());
    assert!(old_enough.len() > 500, "{}", old_enough.len());
    let recent: [Vec<i64>; 2] = [&old_enough, &young].map(|all| all.iter().map(|one| one.time).collect());
    let old: [Vec<i64>; 2] = [&old_enough, &young].map(|all| all.iter().map(|one| one.old_time).collect());
    let lost = check_samples(&home, &instance, "crash_samples[10m]", SERIES, &recent)
        + check_samples(&home, &instance, "crash_history[15d]", OLD_SERIES, &old);
    println!("{lost} of {} samples acknowledged within the last {FSYNC_INTERVAL_MS} ms were lost", young.len() * (SERIES + OLD_SERIES));
    let partitions = instance.get("/metrics").text();
    let partitions = partitions.lines().find_map(|line| line.strip_prefix("paramedic_samples_partitions ")).map(str::to_owned);
    assert!(partitions.is_some_and(|count| count != "0"), "no block has left the memory: {}", home.log());
    let damaged = damage(&instance);
    assert!(damaged.is_empty(), "{damaged:?}\n{}", home.log());
    check_alerts(&home, &instance);
    let verified = home.run(&["journal", "verify"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

/// What must be there is, and everything that is there is right; how many of the young ones are not there.
fn check_samples(home: &Home, instance: &Instance, expression: &str, series: usize, [old_enough, young]: &[Vec<i64>; 2]) -> usize {
    let stored = stored(instance, expression);
    assert_eq!(stored.len(), series, "{expression}");
    let mut lost = 0;
    for (name, samples) in &stored {
        let number: usize = name.parse().unwrap();
        let gone: Vec<&i64> = old_enough.iter().filter(|time| !samples.contains_key(time)).collect();
        assert!(gone.is_empty(), "{expression} {name} lost {} acknowledged samples: {gone:?}\n{}", gone.len(), home.log());
        lost += young.iter().filter(|time| !samples.contains_key(time)).count();
        let wrong: Vec<_> = samples.iter().filter(|(time, found)| **found != value(**time, number)).collect();
        assert!(wrong.is_empty(), "{expression} {name} has other values: {wrong:?}");
    }
    lost
}

/// Fifty starts are no fifty alerts, and no waiting from the beginning.
fn check_alerts(home: &Home, instance: &Instance) {
    let (burning, waiting) = (episodes(instance, "Burning"), episodes(instance, "Waiting"));
    assert_eq!(burning.len(), 1, "{burning:#?}\n{}", home.log());
    assert_eq!(waiting.len(), 1, "{waiting:#?}\n{}", home.log());
    assert!(burning[0]["alert"]["ended_at"].is_null() && waiting[0]["alert"]["ended_at"].is_null(), "{burning:#?} {waiting:#?}");
    assert!(episodes(instance, "Patient").is_empty());
    let incidents = instance.incidents();
    assert_eq!(incidents.len(), 2, "{incidents:#?}");
    let began = time_of(&burning[0]["alert"]["started_at"]);
    let incident = incidents.iter().find(|incident| incident["id"] == waiting[0]["incident"]).unwrap();
    let (onset, fired) = (time_of(&waiting[0]["alert"]["started_at"]), time_of(&incident["detected_at"]));
    println!("waited {} ms of {WAITS_S} s", fired - onset);
    assert!((onset - began).abs() < 1_000, "the clock began anew: {waiting:#?}");
    let waited = fired - onset;
    assert!((WAITS_S * 1_000..(WAITS_S + LATE_S) * 1_000).contains(&waited), "it fired after {waited} ms");
    // The one that still waits has waited since the beginning, too.
    let pending = instance.json("/api/v1/alerts");
    let patient = pending["data"]["alerts"].as_array().unwrap().iter().find(|alert| alert["labels"]["alertname"] == "Patient").cloned();
    let patient = patient.unwrap_or_else(|| panic!("{pending:#}"));
    assert!((time_of(&patient["activeAt"]) - began).abs() < 1_000, "{patient:#} began {began}");
}
