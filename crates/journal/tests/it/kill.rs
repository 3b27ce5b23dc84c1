//! SIGKILL at random moments of a write load: what was acknowledged is there, in order, and the chain verifies.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use paramedic_journal::{Entry, Journal, SqliteJournal};

use crate::support::{Chance, block_on, verify};

const ROUNDS: u64 = 220;
/// Every so many rounds a new file is begun, so that its making is killed too.
const ROUNDS_PER_FILE: u64 = 55;
const TASKS: u64 = 6;

/// An append that was acknowledged: first number, entries, id.
#[derive(Debug)]
struct Acknowledged {
    first: u64,
    count: u64,
    id: String,
}

/// Runs the load for a while and kills it. Gives what it said.
fn run_and_kill(file: &Path, round: u64, seed: u64, life: Duration) -> Vec<Acknowledged> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_journal-load"))
        .arg(file)
        .args([round.to_string(), seed.to_string(), TASKS.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut said = Vec::new();
        stdout.read_to_end(&mut said).unwrap();
        said
    });
    std::thread::sleep(life);
    child.kill().unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.code().is_none(), "round {round}: it ended by itself: {}", String::from_utf8_lossy(&ended.stderr));
    let said = String::from_utf8(reader.join().unwrap()).unwrap();
    // The kill may have cut the last line.
    let whole = said.rfind('\n').map_or("", |end| &said[..end]);
    whole.lines().map(acknowledged).collect()
}

fn acknowledged(line: &str) -> Acknowledged {
    let words: Vec<&str> = line.split(' ').collect();
    let ["ack", first, count, id] = words[..] else { panic!("not an acknowledgement: {line:?}") };
    Acknowledged { first: first.parse().unwrap(), count: count.parse().unwrap(), id: id.into() }
}

/// Entries after `after`, read by opening the file for writing, as the next start does: that recovers the log.
fn read_after(file: &Path, after: u64) -> Vec<Entry> {
    let journal = SqliteJournal::open(file).unwrap();
    let entries = block_on(async {
        let mut all: Vec<Entry> = Vec::new();
        loop {
            let page = journal.read(all.last().map_or(after, |last| last.seq), 10_000).await.unwrap();
            if page.is_empty() {
                return all;
            }
            all.extend(page);
        }
    });
    journal.close();
    entries
}

fn check_round(round: u64, entries: &[Entry], acknowledged: &[Acknowledged]) {
    let Some(first) = entries.first() else {
        assert!(acknowledged.is_empty(), "round {round}: acknowledged but nothing is there: {acknowledged:?}");
        return;
    };
    assert!(entries.iter().zip(first.seq..).all(|(entry, seq)| entry.seq == seq), "round {round}: numbers have a gap");
    for ack in acknowledged {
        for index in 0..ack.count {
            let seq = ack.first + index;
            let entry = seq.checked_sub(first.seq).and_then(|place| entries.get(usize::try_from(place).unwrap()));
            let entry = entry.unwrap_or_else(|| panic!("round {round}: acknowledged entry {seq} ({}) is lost", ack.id));
            assert_eq!(
                (entry.payload["id"].as_str(), entry.payload["index"].as_u64()),
                (Some(ack.id.as_str()), Some(index)),
                "round {round}"
            );
        }
    }
    // Appends that were not acknowledged may be there or not, but whole and in their place.
    let mut rest = entries;
    while let Some(first) = rest.first() {
        let count = usize::try_from(first.payload["count"].as_u64().unwrap()).unwrap();
        assert!(rest.len() >= count, "round {round}: half an append at the end, from {}", first.seq);
        for (index, entry) in rest[..count].iter().enumerate() {
            assert_eq!(
                (&entry.payload["id"], &entry.payload["index"]),
                (&first.payload["id"], &index.into()),
                "round {round}: half an append"
            );
        }
        rest = &rest[count..];
    }
    // Each task waits for its answer before it writes again, so its appends are in its own order without a hole.
    for task in 0..TASKS {
        let subject = format!("{round}-{task}");
        let own = entries.iter().filter(|entry| entry.subject == subject && entry.payload["index"] == 0);
        for (number, entry) in own.enumerate() {
            assert_eq!(entry.payload["id"], format!("{subject}-{number}"), "round {round}: order of task {task}");
        }
    }
}

#[test]
fn every_acknowledged_entry_survives_sigkill() {
    let seed = std::env::var("PARAMEDIC_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_260_114);
    eprintln!("seed {seed} (set PARAMEDIC_TEST_SEED to change it), {ROUNDS} kills");
    let mut chance = Chance(seed);
    let folder = tempfile::tempdir().unwrap();
    let (mut head, mut total, mut said, mut silent) = (0, 0, 0, 0);
    let started = Instant::now();
    for round in 0..ROUNDS {
        let file = folder.path().join(format!("journal-{}.db", round / ROUNDS_PER_FILE));
        if round % ROUNDS_PER_FILE == 0 {
            head = 0;
        }
        // Some are killed while they still open the file, and a new file has several such beginnings.
        let early = round % ROUNDS_PER_FILE < 10 || chance.below(5) == 0;
        let life = Duration::from_micros(if early { chance.below(25_000) } else { 15_000 + chance.below(60_000) });
        let acknowledged = run_and_kill(&file, round, chance.next(), life);
        let entries = read_after(&file, head);
        check_round(round, &entries, &acknowledged);
        head += entries.len() as u64;
        total += entries.len();
        said += acknowledged.len();
        silent += u64::from(acknowledged.is_empty());
        if (round + 1) % ROUNDS_PER_FILE == 0 {
            let found = verify(&file);
            assert!(found.sound(), "after round {round}: {:?}", found.problems);
            assert_eq!((found.entries, found.head.map_or(0, |last| last.seq)), (head, head));
        }
    }
    eprintln!("{said} appends acknowledged, {total} entries, {silent} rounds killed before the first, {:?}", started.elapsed());
    assert!(said > 500, "the load must have written something for this to mean anything: {said} acknowledged");
    assert!(silent < ROUNDS / 2, "most rounds must be killed in the middle of writing");
}
