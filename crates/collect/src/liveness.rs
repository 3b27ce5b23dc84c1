//! Whether an agent's process lives: what the client says in its liveness files, checked against the process table.
//!
//! **Takes** `<config dir>/sessions/<pid>.json` and the process table. **Gives** an event when a process appears,
//! changes its status, or is gone, and its memory now and then. **Never** believes a process id alone: ids are used
//! again, so the process must also have started when the file says.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use paramedic_model::{AgentId, Clock, Event, Fact, Level, SessionId, Source, Timestamp, limit, text};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::TailSettings;
use crate::tail::Batch;

/// Liveness files read at most; each is one running client.
const FILES_MAX: usize = 4_096;
/// A liveness file is a few hundred bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// A client writes its file some seconds after its process began, never before.
const START_SLACK: Duration = Duration::from_secs(5);
/// Clock ticks a second in `/proc`: fixed by Linux's interface to user space.
const TICKS_PER_SECOND: u64 = 100;

/// What one liveness file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub pid: u32,
    pub session: SessionId,
    pub cwd: Option<Box<str>>,
    pub version: Option<Box<str>>,
    /// When the session started; the process is not younger.
    pub started_at: Option<Timestamp>,
    /// The process's start in clock ticks since boot, where the client wrote it.
    pub start_ticks: Option<u64>,
    pub status: Option<Box<str>>,
}

impl Claim {
    /// Reads a liveness file. `None` when it does not name a process and a session.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let said = |key: &str| value.get(key).and_then(Value::as_str).map(|found| Box::from(text::head(found, limit::ID_BYTES_MAX)));
        let session: Box<str> = said("sessionId")?;
        if session.is_empty() {
            return None;
        }
        Some(Self {
            pid: value.get("pid").and_then(Value::as_u64).and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0)?,
            session: SessionId::new(session),
            cwd: said("cwd"),
            version: said("version"),
            started_at: value.get("startedAt").and_then(read_time),
            start_ticks: value.get("procStart").and_then(|ticks| ticks.as_u64().or_else(|| ticks.as_str()?.parse().ok())),
            status: said("status"),
        })
    }
}

fn read_time(value: &Value) -> Option<Timestamp> {
    match value.as_i64() {
        Some(millis) => Some(Timestamp::from_millis(millis)),
        None => Timestamp::parse(value.as_str()?),
    }
}

/// A process as the operating system knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Clock ticks since boot (`/proc/<pid>/stat` field 22).
    pub start_ticks: u64,
    pub started_at: Timestamp,
    pub rss_bytes: u64,
}

/// Where processes are looked up.
pub trait ProcessTable: Send + Sync {
    /// `None`: there is no such process.
    fn find(&self, pid: u32) -> Option<ProcessInfo>;
}

/// Linux's process table.
#[derive(Debug)]
pub struct Proc {
    root: PathBuf,
    booted_at: Timestamp,
}

impl Proc {
    /// `None` where the system has no `/proc`: then nothing can be said about processes.
    #[must_use]
    pub fn open(root: &Path) -> Option<Self> {
        let stat = fs::read_to_string(root.join("stat")).ok()?;
        let booted = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        Some(Self { root: root.to_owned(), booted_at: Timestamp::from_secs(booted) })
    }
}

impl ProcessTable for Proc {
    fn find(&self, pid: u32) -> Option<ProcessInfo> {
        let folder = self.root.join(pid.to_string());
        let stat = fs::read_to_string(folder.join("stat")).ok()?;
        // The second field is the command in brackets and may hold anything, brackets too.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        if matches!(*fields.first()?, "Z" | "X" | "x") {
            return None;
        }
        let start_ticks: u64 = fields.get(19)?.parse().ok()?;
        let status = fs::read_to_string(folder.join("status")).unwrap_or_default();
        let rss_kb: u64 =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0);
        let since_boot = Duration::from_millis(start_ticks.saturating_mul(1_000 / TICKS_PER_SECOND));
        Some(ProcessInfo { start_ticks, started_at: self.booted_at.after(since_boot), rss_bytes: rss_kb.saturating_mul(1_024) })
    }
}

/// What was last told about one session's process.
#[derive(Debug, Clone)]
struct Told {
    claim: Claim,
    start_ticks: Option<u64>,
    is_alive: bool,
    memory_at: Timestamp,
}

/// Remembers what was told, so that only changes are.
#[derive(Debug, Default)]
pub struct Liveness {
    told: BTreeMap<u32, Told>,
}

impl Liveness {
    /// Compares claims with the process table and says what changed since the last time.
    pub fn tick(&mut self, claims: &[Claim], table: &dyn ProcessTable, now: Timestamp, memory_every: Duration) -> Vec<Event> {
        let mut events = Vec::new();
        let mut present = HashMap::new();
        for claim in claims {
            present.insert(claim.pid, ());
            let process = table.find(claim.pid).filter(|process| is_same_process(claim, process));
            self.tell(claim, process, now, memory_every, &mut events);
        }
        let gone: Vec<u32> = self.told.keys().copied().filter(|pid| !present.contains_key(pid)).collect();
        for pid in gone {
            // The client removes its file when it ends in order.
            if let Some(told) = self.told.remove(&pid).filter(|told| told.is_alive) {
                events.push(event(&told.claim, told.start_ticks, None, now));
            }
        }
        events
    }

    fn tell(&mut self, claim: &Claim, process: Option<ProcessInfo>, now: Timestamp, memory_every: Duration, events: &mut Vec<Event>) {
        let start_ticks = process.map(|process| process.start_ticks);
        let told = self.told.get(&claim.pid).filter(|told| told.claim.session == claim.session);
        let is_news = told.is_none_or(|told| {
            told.is_alive != process.is_some()
                || (process.is_some() && (told.claim.status != claim.status || told.start_ticks != start_ticks))
        });
        let is_memory_due = process.is_some() && told.is_some_and(|told| now.since(told.memory_at) >= memory_every);
        if !is_news && !is_memory_due {
            return;
        }
        events.push(event(claim, start_ticks.or_else(|| told.and_then(|told| told.start_ticks)), process, now));
        self.told.insert(claim.pid, Told { claim: claim.clone(), start_ticks, is_alive: process.is_some(), memory_at: now });
    }
}

/// The process with that id is the one that wrote the file, and not a later one.
fn is_same_process(claim: &Claim, process: &ProcessInfo) -> bool {
    if let Some(ticks) = claim.start_ticks
        && ticks == process.start_ticks
    {
        return true;
    }
    // The client's own unit may differ from ours, so a mismatch alone proves nothing; a process that began after the
    // session did cannot be the session's.
    match claim.started_at {
        Some(started_at) => process.started_at <= started_at.after(START_SLACK),
        None => claim.start_ticks.is_none(),
    }
}

fn event(claim: &Claim, started: Option<u64>, process: Option<ProcessInfo>, now: Timestamp) -> Event {
    let alive = process.is_some();
    let mut event = Event::new(now, Source::Process, if alive { "process" } else { "process/gone" });
    event.agent = Some(AgentId::of_session(&claim.session));
    event.session = Some(claim.session.clone());
    event.level = if alive { Level::Info } else { Level::Warn };
    event.text = match (&claim.status, alive) {
        (_, false) => format!("process {} is gone", claim.pid).into(),
        (Some(status), true) => format!("process {} is {status}", claim.pid).into(),
        (None, true) => format!("process {} runs", claim.pid).into(),
    };
    event.fact = Fact::Process {
        pid: claim.pid,
        started,
        alive,
        status: claim.status.clone().filter(|_| alive),
        rss_bytes: process.map(|process| process.rss_bytes),
    };
    for (key, found) in [("cwd", &claim.cwd), ("version", &claim.version)] {
        if let Some(found) = found {
            event.attributes.insert(key.to_owned(), (**found).into());
        }
    }
    event
}

/// The claims of all liveness files in configuration directories. What cannot be read is not claimed.
#[must_use]
pub fn read_claims(config_dirs: &[PathBuf]) -> Vec<Claim> {
    let mut claims = Vec::new();
    for folder in config_dirs {
        let Ok(entries) = fs::read_dir(folder.join("sessions")) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            let is_small = entry.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() <= FILE_BYTES_MAX);
            if claims.len() >= FILES_MAX || !is_small || path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            claims.extend(fs::read(&path).ok().and_then(|body| Claim::read(&body)));
        }
    }
    claims
}

/// Looks every few seconds until cancelled, or until nobody takes the events any more.
pub async fn run(
    config_dirs: Vec<PathBuf>,
    settings: TailSettings,
    clock: Arc<dyn Clock>,
    tx: mpsc::Sender<Batch>,
    cancel: CancellationToken,
) {
    let Some(table) = Proc::open(Path::new("/proc")).map(Arc::new) else {
        tracing::info!("this system has no /proc: processes of agents are not watched");
        return;
    };
    let mut liveness = Liveness::default();
    let memory_every = Duration::from_secs(settings.memory_report_s);
    let mut every = tokio::time::interval(Duration::from_secs(settings.liveness_s.max(1)));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = every.tick() => {}
        }
        // A handful of tiny files: reading them takes less than handing the work to another thread.
        let events = liveness.tick(&read_claims(&config_dirs), &*table, clock.now(), memory_every);
        if !events.is_empty() && tx.send(Batch { events, ..Batch::default() }).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Table(BTreeMap<u32, ProcessInfo>);

    impl ProcessTable for Table {
        fn find(&self, pid: u32) -> Option<ProcessInfo> {
            self.0.get(&pid).copied()
        }
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(1_700_000_000 + secs)
    }

    fn claim(status: &str) -> Claim {
        let body = format!(
            r#"{{"pid":42,"sessionId":"s1","cwd":"/repo","startedAt":{},"procStart":"777","version":"2.1.9","status":"{status}"}}"#,
            at(0).as_millis()
        );
        Claim::read(body.as_bytes()).unwrap()
    }

    fn process(start_ticks: u64, started: i64) -> ProcessInfo {
        ProcessInfo { start_ticks, started_at: at(started), rss_bytes: 1_000 }
    }

    fn told(events: &[Event]) -> Vec<(bool, Option<&str>)> {
        events
            .iter()
            .map(|event| match &event.fact {
                Fact::Process { alive, status, .. } => (*alive, status.as_deref()),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn tells_changes_only() {
        let mut table = Table(BTreeMap::from([(42, process(777, -1))]));
        let mut liveness = Liveness::default();
        let mut tick = |claims: &[Claim], table: &Table, secs| liveness.tick(claims, table, at(secs), Duration::from_secs(30));
        assert_eq!(told(&tick(&[claim("busy")], &table, 0)), [(true, Some("busy"))]);
        assert_eq!(told(&tick(&[claim("busy")], &table, 3)), []);
        assert_eq!(told(&tick(&[claim("idle")], &table, 6)), [(true, Some("idle"))]);
        assert_eq!(told(&tick(&[claim("idle")], &table, 40)), [(true, Some("idle"))], "memory is due");
        table.0.clear();
        assert_eq!(told(&tick(&[claim("idle")], &table, 43)), [(false, None)]);
        assert_eq!(told(&tick(&[claim("idle")], &table, 90)), [], "told once");
        assert_eq!(told(&tick(&[], &table, 93)), []);
    }

    #[test]
    fn a_client_that_ends_in_order_removes_its_file() {
        let table = Table(BTreeMap::from([(42, process(777, -1))]));
        let mut liveness = Liveness::default();
        liveness.tick(&[claim("busy")], &table, at(0), Duration::from_secs(30));
        assert_eq!(told(&liveness.tick(&[], &table, at(3), Duration::from_secs(30))), [(false, None)]);
    }

    #[test]
    fn a_later_process_with_the_same_id_is_another() {
        let mut liveness = Liveness::default();
        let later = Table(BTreeMap::from([(42, process(999_999, 3_600))]));
        assert_eq!(told(&liveness.tick(&[claim("busy")], &later, at(4_000), Duration::from_secs(30))), [(false, None)]);
    }

    #[test]
    fn reads_this_very_process() {
        let Some(table) = Proc::open(Path::new("/proc")) else {
            eprintln!("skipped: no /proc");
            return;
        };
        let found = table.find(std::process::id()).expect("we are running");
        assert!(found.rss_bytes > 100_000, "{found:?}");
        assert!(found.start_ticks > 0);
        assert!(table.find(u32::MAX).is_none());
    }

    #[test]
    fn files_that_name_nobody_are_no_claims() {
        for body in ["", "{}", "[]", r#"{"pid":0,"sessionId":"s"}"#, r#"{"pid":5}"#, r#"{"pid":-5,"sessionId":"s"}"#, "\u{0}\u{1}"] {
            assert_eq!(Claim::read(body.as_bytes()), None, "{body:?}");
        }
    }
}
