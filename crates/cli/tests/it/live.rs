//! Watching agents while they work gives what reading their records afterwards gives.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fixture::{Home, Instance, until};
use crate::replay::{Recording, Written};
use crate::{skip, tools};

const SPEED: f64 = 240.0;
const SETTLED_WITHIN: Duration = Duration::from_secs(20);
/// A detection is late when it comes so long after the line that decided it.
const LATE: Duration = Duration::from_secs(1);

/// What must not depend on when it was read.
fn essence(incident: &Value) -> String {
    let counts = &incident["counts"];
    format!(
        "{} {} retries={} failures={} first_failure={} sessions={} agents={}",
        incident["type"],
        incident["started_at"],
        counts["retries"],
        counts["terminal_failures"],
        counts["first_terminal_at"],
        counts["sessions"],
        counts["agents"]
    )
}

fn essences(incidents: &[Value]) -> Vec<String> {
    let mut all: Vec<String> = incidents.iter().map(essence).collect();
    all.sort();
    all
}

/// Plays a recording into a watched folder and compares with reading the whole of it.
fn check_live_equals_offline(root: &Path, wanted: impl Fn(&str) -> bool) {
    let home = Home::new();
    let recording = Recording::read(root, wanted);
    let instance = home.up();
    let written = recording.play(&home.claude().join("projects"), SPEED);

    let claude_dir = home.claude();
    let offline = home.json(&["analyze", claude_dir.to_str().unwrap(), "--json", "--no-cache"]);
    let expected = essences(offline["incidents"].as_array().unwrap());
    assert!(!expected.is_empty(), "the recording has no incident: {offline:#}");
    let same = until(SETTLED_WITHIN, || (essences(&instance.incidents()) == expected).then_some(()));
    assert!(same.is_some(), "live {:#?}\noffline {expected:#?}\n{}", essences(&instance.incidents()), home.log());
    drop(written);
}

#[test]
fn the_sample_replayed_live_gives_the_incidents_of_analyze() {
    check_live_equals_offline(&tools::workspace().join("sample/projects"), |_| true);
}

#[test]
fn a_recorded_outage_replayed_live_gives_the_incidents_of_analyze() {
    let Some(sessions) = tools::real_sessions() else { skip!("no recorded sessions (PARAMEDIC_SHARED_DATA)") };
    // The outage, the server error, the recovered retry, and two healthy ones.
    let wanted = ["b00b80af", "a032db5a", "a318ad73", "acdd84ab", "4e836284"];
    check_live_equals_offline(&sessions, |path| wanted.iter().any(|name| path.contains(name)));
}

#[test]
fn an_alert_is_there_within_a_second_of_the_line_that_decides_it() {
    let home = Home::new();
    let recording = Recording::read(&tools::workspace().join("sample/projects"), |_| true);
    let instance = home.up();
    let projects = home.claude().join("projects");
    let (written, seen) = std::thread::scope(|scope| {
        let player = scope.spawn(|| recording.play(&projects, SPEED));
        let mut seen = Vec::new();
        while !player.is_finished() {
            note_new_alerts(&instance, &mut seen);
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(500));
        note_new_alerts(&instance, &mut seen);
        (player.join().unwrap(), seen)
    });
    assert!(seen.len() >= 5, "{seen:#?}");
    let mut delays: Vec<Duration> = seen.iter().filter_map(|alert| alert.delay(&written)).collect();
    delays.sort();
    let p99 = delays[(delays.len() * 99).div_ceil(100).saturating_sub(1)];
    println!("{} alerts, median {:?}, p99 {p99:?}", delays.len(), delays[delays.len() / 2]);
    assert!(p99 < LATE, "{delays:?}");
}

#[derive(Debug)]
struct Seen {
    key: String,
    /// When the deciding line says it happened.
    decided_at: String,
    at: Instant,
}

impl Seen {
    fn delay(&self, written: &Written) -> Option<Duration> {
        // The moment may be written with other digits; the first line not before it is the one.
        let (_, when) = written.range(self.decided_at.clone()..).next()?;
        Some(self.at.saturating_duration_since(*when))
    }
}

fn note_new_alerts(instance: &Instance, seen: &mut Vec<Seen>) {
    for line in instance.list("/api/v1/alerts/history?limit=1000", "alerts") {
        let alert = &line["alert"];
        let key = format!("{} {}", alert["fingerprint"], alert["started_at"]);
        if seen.iter().all(|one| one.key != key) {
            let decided_at = alert["updated_at"].as_str().or(alert["started_at"].as_str()).unwrap().to_owned();
            seen.push(Seen { key, decided_at, at: Instant::now() });
        }
    }
}
