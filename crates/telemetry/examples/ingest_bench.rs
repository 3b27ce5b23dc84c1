//! Records per CPU second of storing events, against plain `rusqlite` with the full-text index in the same transaction.
//!
//! `cargo run --release -p paramedic-telemetry --example ingest_bench [events] [ours|index|peer|search]...`

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use paramedic_model::{Event, Fact, Level, Source, SystemClock, Timestamp};
use paramedic_telemetry::{Search, Settings, Store};
use rusqlite::{Connection, params};

const BATCH: usize = 1000;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let count: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let wanted: Vec<String> = arguments.collect();
    let wants = |what: &str| wanted.is_empty() || wanted.iter().any(|one| one == what);
    let parent = tempfile::tempdir().expect("a folder");
    if wants("ours") || wants("index") || wants("search") {
        ours(&parent.path().join("ours"), count, wants("index") || wants("search"), wants("search"));
    }
    if wants("peer") {
        peer(&parent.path().join("peer.sqlite"), count);
    }
}

/// User and system time of the whole process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().expect("utime") + fields[12].parse::<f64>().expect("stime");
    ticks / 100.0
}

/// The same for the store's own threads, by name.
fn thread_seconds(name: &str) -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux").flatten();
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok()).filter(|stat| stat.contains(name));
    stats
        .map(|stat| {
            let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
            (fields[11].parse::<f64>().expect("utime") + fields[12].parse::<f64>().expect("stime")) / 100.0
        })
        .sum()
}

fn rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("VmHWM");
    line.split_whitespace().nth(1).and_then(|text| text.parse::<f64>().ok()).expect("kB") / 1024.0
}

fn event(i: usize) -> Event {
    let session = format!("5f0c2a4e-1111-4222-8333-{:012}", i % 50);
    let mut event = Event::new(Timestamp::from_millis(1_760_000_000_000 + i as i64 * 5), Source::OtlpLog, "claude_code.tool_result");
    event.level = if i.is_multiple_of(97) { Level::Error } else { Level::Info };
    event.agent = Some(session.as_str().into());
    event.session = Some(session.as_str().into());
    event.text = format!("tool Bash finished in {} ms with result {} for step {} of the plan", i % 977, i % 13, i % 1009).into();
    event.fact = Fact::Record;
    for (key, value) in [("tool_name", "Bash"), ("decision", "accept"), ("service.name", "claude-code"), ("app.version", "2.1.0")] {
        event.attributes.insert(key.to_owned(), value.into());
    }
    event.attributes.insert("duration_ms".to_owned(), (i % 977).into());
    event.attributes.insert("event.sequence".to_owned(), i.into());
    event
}

fn report(what: &str, count: usize, cpu: f64, wall: f64, made: f64) {
    let net = (cpu - made).max(0.001);
    println!(
        "{what}: {:.0} records per CPU second ({:.2} us each), {:.0} per second of wall time, peak {:.0} MB",
        count as f64 / net,
        net / count as f64 * 1e6,
        count as f64 / (wall - made).max(0.001),
        rss_mb()
    );
}

/// What making the events costs by itself; it is taken off.
fn making(count: usize) -> f64 {
    let before = cpu_seconds();
    for first in (0..count).step_by(BATCH) {
        std::hint::black_box((first..first + BATCH).map(event).collect::<Vec<_>>());
    }
    cpu_seconds() - before
}

fn ours(dir: &Path, count: usize, index: bool, search: bool) {
    let made = making(count);
    let store = Store::open(dir, Settings { index_lag_rows_max: 4_000_000, ..Settings::default() }, Arc::new(SystemClock)).expect("opens");
    let (cpu, began) = (cpu_seconds(), Instant::now());
    std::thread::scope(|scope| {
        for part in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for first in (part * BATCH..count).step_by(4 * BATCH) {
                    store.append_blocking((first..first + BATCH).map(event).collect::<Vec<_>>(), Vec::new()).expect("appends");
                }
            });
        }
    });
    report("ours, append", count, cpu_seconds() - cpu, began.elapsed().as_secs_f64(), made);
    let (writing, indexing) = (thread_seconds("telemetry-write"), thread_seconds("telemetry-index"));
    println!("  writer thread {:.2} us each, index thread {indexing:.2} s meanwhile", writing / count as f64 * 1e6);
    println!("  {:.0} MB, index lag {} rows", store.stats().bytes as f64 / 1e6, store.stats().index_lag);
    if index {
        let (cpu, began, lag) = (cpu_seconds(), Instant::now(), store.stats().index_lag);
        while store.stats().index_lag >= 1024 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        report("ours, index catching up", usize::try_from(lag).expect("fits"), cpu_seconds() - cpu, began.elapsed().as_secs_f64(), 0.0);
        println!("  {:.0} MB with index", store.stats().bytes as f64 / 1e6);
    }
    if search {
        searches(&store);
    }
    drop(store);
    let began = Instant::now();
    let store = Store::open(dir, Settings::default(), Arc::new(SystemClock)).expect("opens again");
    println!("  opened again in {:.1} ms with {} events", began.elapsed().as_secs_f64() * 1000.0, store.last_seq());
}

fn searches(store: &Store) {
    let session = Some("5f0c2a4e-1111-4222-8333-000000000007".to_owned());
    let cases = [
        ("newest 100", Search::default()),
        ("session", Search { session: session.clone(), ..Search::default() }),
        ("session, oldest first", Search { session: session.clone(), oldest_first: true, ..Search::default() }),
        ("rare word pair", Search { text: Some("result 7 976".to_owned()), ..Search::default() }),
        ("word", Search { text: Some("bash".to_owned()), ..Search::default() }),
        ("phrase", Search { text: Some("\"with result 5\"".to_owned()), ..Search::default() }),
        ("prefix", Search { text: Some("100* step".to_owned()), ..Search::default() }),
        ("absent word", Search { text: Some("nowhere".to_owned()), ..Search::default() }),
        ("one event by number", Search { text: Some("123456".to_owned()), ..Search::default() }),
        ("session and text", Search { session: session.clone(), text: Some("step 500".to_owned()), ..Search::default() }),
        ("level error of session", Search { session, level_min: Some(Level::Error), ..Search::default() }),
        ("kind that is rare", Search { kind: Some("model-error".to_owned()), ..Search::default() }),
        (
            "an old minute",
            Search {
                from: Some(Timestamp::from_millis(1_760_000_100_000)),
                to: Some(Timestamp::from_millis(1_760_000_160_000)),
                ..Search::default()
            },
        ),
    ];
    for (what, search) in cases {
        store.search(&search).expect("warms up");
        let began = Instant::now();
        let page = store.search(&search).expect("finds");
        let elapsed = began.elapsed().as_secs_f64() * 1000.0;
        println!("  search {what}: {elapsed:.1} ms, {} found, {} rows looked at", page.events.len(), page.scanned_rows);
    }
}

/// The same columns as plain text with an FTS5 trigger, written by one thread in transactions of the same size.
fn peer(file: &Path, count: usize) {
    let made = making(count);
    let mut conn = Connection::open(file).expect("opens");
    conn.execute_batch(
        "pragma journal_mode = wal; pragma synchronous = normal;
         create table events(seq integer primary key, at integer, source text, name text, level text, agent text, session text,
             text text, attributes text);
         create virtual table words using fts5(text, attributes, content='events', content_rowid='seq');
         create trigger after_insert after insert on events begin
             insert into words(rowid, text, attributes) values (new.seq, new.text, new.attributes); end;",
    )
    .expect("tables");
    let (cpu, began) = (cpu_seconds(), Instant::now());
    for first in (0..count).step_by(BATCH) {
        let events: Vec<Event> = (first..first + BATCH).map(event).collect();
        let transaction = conn.transaction().expect("begins");
        {
            let mut insert = transaction
                .prepare_cached(
                    "insert into events(at, source, name, level, agent, session, text, attributes) values(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )
                .expect("prepares");
            for event in &events {
                insert
                    .execute(params![
                        event.at.as_micros(),
                        event.source.as_str(),
                        &*event.name,
                        event.level.as_str(),
                        event.agent.as_ref().map(|one| one.as_str()),
                        event.session.as_ref().map(|one| one.as_str()),
                        &*event.text,
                        serde_json::to_string(&event.attributes).expect("serialises"),
                    ])
                    .expect("inserts");
            }
        }
        transaction.commit().expect("commits");
    }
    report("peer, rusqlite with FTS trigger", count, cpu_seconds() - cpu, began.elapsed().as_secs_f64(), made);
    let bytes = std::fs::metadata(file).map_or(0, |meta| meta.len());
    println!("  {:.0} MB", bytes as f64 / 1e6);
}
