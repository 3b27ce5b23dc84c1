//! A process that is killed while it writes: nothing acknowledged is lost, nothing is doubled.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use paramedic_telemetry::Store;

use crate::story::{event, offset, open, replayed, tiny};

const ROUNDS: u64 = 30;
const WRITERS: u64 = 3;
const DIR: &str = "PARAMEDIC_TEST_KILL_DIR";

/// The victim, when this binary was started by the test below. Each thread plays a tailed file whose lines are numbered.
#[test]
#[ignore = "is started by the kill test"]
fn victim() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let store = open(Path::new(&dir), tiny());
    let offsets: HashMap<String, u64> = store.offsets().expect("offsets").into_iter().map(|one| (one.file, one.position)).collect();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let file = format!("file{writer}");
            let mut line = offsets.get(&file).copied().unwrap_or(0);
            let store = &store;
            scope.spawn(move || {
                loop {
                    let count = 1 + (line * 7 + writer) % 40;
                    let lines = (line..line + count).map(|line| event(line, &file)).collect::<Vec<_>>();
                    line += count;
                    store.append_blocking(lines, vec![offset(&file, line)]).expect("appends");
                    writeln!(std::io::stdout(), "ack {file} {line}").expect("says so");
                }
            });
        }
    });
}

/// The highest acknowledged line of each file.
fn run_and_kill(dir: &Path, wait: Duration) -> HashMap<String, u64> {
    let mut child = Command::new(std::env::current_exe().expect("this binary"))
        .args(["kill::victim", "--exact", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let reader = std::thread::spawn(move || {
        let mut acknowledged = HashMap::new();
        for line in output.lines().map_while(Result::ok) {
            // The kill may cut the last line; a cut number must not count.
            let Some(position) = line.find("ack ") else { continue };
            if let [_, file, number] = line[position..].split(' ').collect::<Vec<_>>()[..] {
                acknowledged.insert(file.to_owned(), number.parse::<u64>().expect("a number"));
            }
        }
        acknowledged
    });
    std::thread::sleep(wait);
    child.kill().expect("killed");
    child.wait().expect("gone");
    reader.join().expect("no panic")
}

fn check(store: &Store, acknowledged: &HashMap<String, u64>) {
    let mut next: HashMap<String, u64> = HashMap::new();
    let mut last_seq = 0;
    for stored in replayed(store, 0) {
        assert!(stored.seq > last_seq);
        last_seq = stored.seq;
        let next = next.entry(stored.event.text.to_string()).or_default();
        assert_eq!(stored.event.attributes["i"], *next, "line lost or doubled in {}", stored.event.text);
        *next += 1;
    }
    let offsets: HashMap<String, u64> = store.offsets().expect("offsets").into_iter().map(|one| (one.file, one.position)).collect();
    assert_eq!(next, offsets, "offsets say exactly what is stored");
    for (file, line) in acknowledged {
        assert!(next.get(file).copied().unwrap_or(0) >= *line, "{file}: {line} was acknowledged, {next:?} is there");
    }
}

#[test]
fn acknowledged_events_survive_sigkill() {
    let dir = tempfile::tempdir().expect("folder");
    let mut acknowledged = HashMap::new();
    for round in 0..ROUNDS {
        acknowledged.extend(run_and_kill(dir.path(), Duration::from_millis(30 + round * 37 % 90)));
        check(&open(dir.path(), tiny()), &acknowledged);
    }
    assert!(acknowledged.values().sum::<u64>() > 100, "the victim got to write: {acknowledged:?}");
    assert!(open(dir.path(), tiny()).stats().damaged.is_empty());
}
