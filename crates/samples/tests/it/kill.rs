//! A process that is killed while it appends, saves and moves blocks: nothing acknowledged is lost, nothing is damaged.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use paramedic_promql::{Labels, Matcher};
use paramedic_samples::{Samples, Settings};

use crate::story::{START, clock_at, quiet, sample};

const ROUNDS: u64 = 50;
const WRITERS: usize = 2;
const SERIES: usize = 40;
const STEP: i64 = 20_000;
const DIR: &str = "PARAMEDIC_TEST_KILL_DIR";

fn labels(writer: usize, i: usize) -> Labels {
    Labels::from_pairs(&[("__name__", "m"), ("writer", &writer.to_string()), ("i", &i.to_string())])
}

fn open(dir: &Path) -> Samples {
    // Small bounds, so that segments, checkpoints and spilling all happen in every round.
    let settings = Settings {
        segment_bytes_max: 64 * 1024,
        checkpoint_bytes: 200 * 1024,
        head_s: 600,
        fsync_interval_ms: 20,
        partition_h: 24,
        ..quiet()
    };
    Samples::open(dir, settings, clock_at(START)).expect("opens")
}

/// The number of the next sample of each writer.
fn next(store: &Samples) -> Vec<i64> {
    let found = store.select(&[Matcher::equal("__name__", "m")], i64::MIN, i64::MAX).expect("selects");
    let mut next = vec![0; WRITERS];
    let mut counts: HashMap<String, Vec<i64>> = HashMap::new();
    for series in found {
        let numbers: Vec<i64> = series.samples.times.iter().map(|time| (time - START) / STEP).collect();
        let expected: Vec<i64> = (0..numbers.len() as i64).collect();
        assert_eq!(numbers, expected, "no sample of {} is missing", series.labels);
        for (number, value) in numbers.iter().zip(&series.samples.values) {
            assert_eq!(*value, *number as f64 * 1.5, "{}", series.labels);
        }
        counts.entry(series.labels.get("writer").to_owned()).or_default().push(numbers.len() as i64);
    }
    for (writer, counts) in counts {
        assert_eq!(counts.len(), SERIES, "all series of writer {writer}");
        assert!(counts.iter().all(|count| *count == counts[0]), "an append is there as a whole: {counts:?}");
        next[writer.parse::<usize>().expect("a number")] = counts[0];
    }
    next
}

/// The victim, when this binary was started by the test below.
#[test]
#[ignore = "is started by the kill test"]
fn victim() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let store = open(Path::new(&dir));
    let next = next(&store);
    std::thread::scope(|scope| {
        for (writer, mut number) in next.into_iter().enumerate() {
            let store = &store;
            scope.spawn(move || {
                loop {
                    let all: Vec<Labels> = (0..SERIES).map(|i| labels(writer, i)).collect();
                    let batch: Vec<_> = all.iter().map(|labels| sample(labels, START + number * STEP, number as f64 * 1.5)).collect();
                    let report = store.append(&batch).expect("appends");
                    assert_eq!(report.appended as usize, SERIES, "{report:?}");
                    number += 1;
                    writeln!(std::io::stdout(), "ack {writer} {number}").expect("says so");
                }
            });
        }
        scope.spawn(|| {
            loop {
                std::thread::sleep(Duration::from_millis(7));
                store.upkeep().expect("keeps up");
            }
        });
    });
}

fn run_and_kill(dir: &Path, wait: Duration) -> Vec<i64> {
    let mut child = Command::new(std::env::current_exe().expect("this binary"))
        .args(["kill::victim", "--exact", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let reader = std::thread::spawn(move || {
        let mut acknowledged = vec![0i64; WRITERS];
        for line in output.split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            let Some(position) = line.find("ack ") else { continue };
            if let [_, writer, number] = line[position..].split(' ').collect::<Vec<_>>()[..]
                && let (Ok(writer), Ok(number)) = (writer.parse::<usize>(), number.parse::<i64>())
            {
                // The kill may cut the last line: a number that lost digits is smaller, which asks for less.
                acknowledged[writer] = acknowledged[writer].max(number);
            }
        }
        acknowledged
    });
    std::thread::sleep(wait);
    assert!(child.try_wait().expect("asked").is_none(), "the victim works until it is killed");
    child.kill().expect("killed");
    child.wait().expect("gone");
    reader.join().expect("no panic")
}

#[test]
fn acknowledged_samples_survive_sigkill() {
    let dir = tempfile::tempdir().expect("folder");
    let mut before = vec![0; WRITERS];
    let mut torn = 0;
    for round in 0..ROUNDS {
        let acknowledged = run_and_kill(dir.path(), Duration::from_millis(60 + round * 37 % 110));
        let store = open(dir.path());
        let found = next(&store);
        for writer in 0..WRITERS {
            assert!(
                found[writer] >= acknowledged[writer].max(before[writer]),
                "{round}: {acknowledged:?} were acknowledged, {found:?} are there"
            );
        }
        let recovery = store.recovery();
        assert_eq!((&*recovery.damages, recovery.orphans), (&[][..], 0), "round {round}");
        assert_eq!(store.metrics().damaged_chunks.get(), 0);
        torn += u64::from(recovery.torn_bytes > 0);
        before = found;
    }
    assert!(before.iter().sum::<i64>() > 1_000, "the victim got to write: {before:?}");
    eprintln!("{ROUNDS} rounds, {before:?} appends of {SERIES} samples, {torn} torn tails");
}
