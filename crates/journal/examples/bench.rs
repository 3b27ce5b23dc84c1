//! `cargo run --release -p paramedic-journal --example bench [DIRECTORY]`
//!
//! Appends per second of one and of 64 writers, each waiting for its answer, beside the plain way in the same run:
//! one transaction per insert on one connection with the same durability. Then reading, folding and verifying.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use paramedic_journal::{Draft, Entry, Expected, Fold, Journal, SqliteJournal, rebuild, save_fold, verify};
use paramedic_model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

const RUN: Duration = Duration::from_secs(1);
const ROUNDS: usize = 5;

fn draft(number: u64) -> Draft {
    Draft {
        at: Timestamp::from_micros(1_768_387_283_000_000 + number as i64),
        kind: "alert-updated".into(),
        subject: format!("api-overload:agent-{}", number % 50),
        actor: "detect".into(),
        payload: json!({
            "reason": "12 retries in 60 s, the model API answers 529 (overloaded)",
            "counts": { "retries": 12, "terminal_failures": 0, "successes": number },
            "started_at": "2026-01-14T10:41:23.622Z",
        }),
    }
}

fn peer(path: &Path) -> f64 {
    let db = rusqlite::Connection::open(path).expect("open");
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE entries (seq INTEGER PRIMARY KEY, at INTEGER, kind TEXT, \
         subject TEXT, actor TEXT, payload TEXT); CREATE INDEX by_subject ON entries (subject, seq);",
    )
    .expect("create");
    let mut insert = db.prepare("INSERT INTO entries (at, kind, subject, actor, payload) VALUES (?1, ?2, ?3, ?4, ?5)").expect("prepare");
    let (started, mut count) = (Instant::now(), 0);
    while started.elapsed() < RUN {
        let Draft { at, kind, subject, actor, payload } = draft(count);
        insert.execute(rusqlite::params![at.as_micros(), kind, subject, actor, payload.to_string()]).expect("insert");
        count += 1;
    }
    count as f64 / started.elapsed().as_secs_f64()
}

async fn ours(path: &Path, writers: u64) -> f64 {
    let journal = Arc::new(SqliteJournal::open(path).expect("open"));
    let started = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let journal = Arc::clone(&journal);
            tokio::spawn(async move {
                let mut count = 0;
                while started.elapsed() < RUN {
                    journal.append(vec![draft(count)], Expected::Any).await.expect("append");
                    count += 1;
                }
                count
            })
        })
        .collect();
    let mut count = 0;
    for task in tasks {
        count += task.await.expect("writer");
    }
    count as f64 / started.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

#[derive(Default, Serialize, Deserialize)]
struct BySubject(std::collections::BTreeMap<String, u64>);

impl Fold for BySubject {
    const NAME: &'static str = "by-subject";
    const VERSION: u32 = 1;

    fn apply(&mut self, entry: &Entry) {
        *self.0.entry(entry.subject.clone()).or_default() += 1;
    }
}

async fn reading(path: &Path) {
    const ENTRIES: u64 = 100_000;
    let journal = SqliteJournal::open(path).expect("open");
    let started = Instant::now();
    for first in (0..ENTRIES).step_by(1_000) {
        journal.append((first..first + 1_000).map(draft).collect(), Expected::Any).await.expect("append");
    }
    println!("append {ENTRIES} entries, 1000 at a time  {:>9.0} entries/s", ENTRIES as f64 / started.elapsed().as_secs_f64());
    let started = Instant::now();
    let (state, position) = rebuild::<BySubject>(&journal).await.expect("rebuild");
    println!("rebuild from {position} entries              {:>9.3} s", started.elapsed().as_secs_f64());
    save_fold(&journal, &state, position).await.expect("save");
    let started = Instant::now();
    rebuild::<BySubject>(&journal).await.expect("rebuild");
    println!("rebuild from the snapshot                 {:>9.6} s", started.elapsed().as_secs_f64());
    let started = Instant::now();
    let found = verify(path, &mut |_, _| {}).expect("verify");
    println!(
        "verify {} entries                     {:>9.3} s, {} problems",
        found.entries,
        started.elapsed().as_secs_f64(),
        found.problems.len()
    );
}

#[tokio::main]
async fn main() {
    let folder =
        std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from).join(format!("journal-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a directory to write in");
    // In turns, so that what else the machine does meets all alike; the median of the rounds is told.
    let (mut plain, mut one, mut many) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        plain.push(peer(&folder.join(format!("peer-{round}.db"))));
        one.push(ours(&folder.join(format!("journal-1-{round}.db")), 1).await);
        many.push(ours(&folder.join(format!("journal-64-{round}.db")), 64).await);
    }
    let [plain, one, many] = [plain, one, many].map(median);
    println!("peer: one transaction per insert          {plain:>9.0} appends/s");
    println!("journal,  1 writer                        {one:>9.0} appends/s, {:.2} of the peer", one / plain);
    println!("journal, 64 writers                       {many:>9.0} appends/s, {:.2} of the peer", many / plain);
    reading(&folder.join("journal-read.db")).await;
    std::fs::remove_dir_all(&folder).expect("remove what was made");
}
