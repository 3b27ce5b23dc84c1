//! All runs of an instance, with a real journal and real programs.

mod again;
mod doubt;
mod guards;
mod kept;
mod life;
mod refused;
mod undo;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use paramedic_journal::{Draft, Entry as JournalEntry, Expected, Journal, JournalError, Snapshot, SqliteJournal};
use paramedic_model::{Clock as _, ManualClock, Timestamp};
use paramedic_runbook::desk::{Can, Parts, RunView, StartRun, StepView};
use paramedic_runbook::execute::{BoxFuture, Hand, Hands, Order};
use paramedic_runbook::gate::{Mode, Person};
use paramedic_runbook::metrics::Metrics;
use paramedic_runbook::outcome::Outcome;
use paramedic_runbook::render::Work;
use paramedic_runbook::run::{Entry, Record, StepState};
use paramedic_runbook::{RunDesk, Settings};
use tokio::sync::broadcast;

/// A worker that is stuck, a fix, its way back, and what verifies it.
const WORKER: &str = r#"---
id: worker
inputs:
  note: { default: "by hand" }
  token: { type: secret }
---
# Worker
## Investigation
```sh { name=look }
cat state
```
## Resolution
### Cause: Stuck { #stuck }
**Symptoms:**
```
worker is stuck
```
**Resolution:**
```sh { name=fix cooldown=0s limit=99/1h verify="look.stdout ~ 'fine' within 1s" rollback=back }
echo "$note" >> done; echo fine > state
```
```sh { name=back only=rollback }
echo back >> done; echo 'worker is stuck' > state
```
## Verification
```sh { name=calm expect="stdout ~ 'fine'" }
cat state
```
"#;

/// A journal that can be full: from a number of entries on, until it is told otherwise.
struct Disk {
    journal: Arc<SqliteJournal>,
    left: AtomicI64,
    /// Batches that it was asked to append, however small.
    appends: AtomicI64,
}

impl Disk {
    fn fits(&self, entries: usize) -> bool {
        let entries = i64::try_from(entries).expect("few");
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| (left >= entries).then(|| left - entries)).is_ok()
    }
}

type Answer<'a, T> = paramedic_journal::BoxFuture<'a, Result<T, JournalError>>;

impl Journal for Disk {
    fn append(&self, drafts: Vec<Draft>, expected: Expected) -> Answer<'_, Vec<JournalEntry>> {
        self.appends.fetch_add(1, Ordering::SeqCst);
        if !self.fits(drafts.len()) {
            return Box::pin(async { Err(JournalError::DiskFull { file: "journal".into() }) });
        }
        self.journal.append(drafts, expected)
    }
    fn read(&self, after: u64, limit: usize) -> Answer<'_, Vec<JournalEntry>> {
        self.journal.read(after, limit)
    }
    fn read_subject(&self, subject: &str, after: u64, limit: usize) -> Answer<'_, Vec<JournalEntry>> {
        self.journal.read_subject(subject, after, limit)
    }
    fn head(&self) -> Answer<'_, u64> {
        self.journal.head()
    }
    fn subscribe(&self) -> broadcast::Receiver<Arc<Vec<JournalEntry>>> {
        self.journal.subscribe()
    }
    fn save_snapshot(&self, name: &str, version: u32, seq: u64, bytes: Vec<u8>) -> Answer<'_, ()> {
        self.journal.save_snapshot(name, version, seq, bytes)
    }
    fn load_snapshot(&self, name: &str, version: u32) -> Answer<'_, Option<Snapshot>> {
        self.journal.load_snapshot(name, version)
    }
    fn acquire_lease(&self, name: &str, holder: &str, now: Timestamp, ttl: Duration) -> Answer<'_, bool> {
        self.journal.acquire_lease(name, holder, now, ttl)
    }
    fn release_lease(&self, name: &str, holder: &str) -> Answer<'_, bool> {
        self.journal.release_lease(name, holder)
    }
}

/// Carries out actions: each is noted, and answered as it was told to.
#[derive(Default)]
struct Actor {
    /// Calls that were carried out, not those that were only planned.
    done: Mutex<Vec<String>>,
    planned: Mutex<Vec<String>>,
    /// The next answers; then it went well.
    answers: Mutex<VecDeque<Outcome>>,
    /// What a plan says; else that it would touch one.
    plan: Mutex<Option<Outcome>>,
    slow: Mutex<Duration>,
}

impl Actor {
    fn done(&self) -> Vec<String> {
        self.done.lock().expect("a list").clone()
    }
    fn answer(&self, outcome: Outcome) {
        self.answers.lock().expect("a list").push_back(outcome);
    }
}

impl Hand for Actor {
    fn carry<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let slow = *self.slow.lock().expect("a time");
            tokio::time::sleep(if order.dry { Duration::ZERO } else { slow }).await;
            let Work::Action { name, arguments } = &order.work else { return Outcome::fault("no action") };
            let call = format!("{name} {arguments}");
            if order.dry {
                self.planned.lock().expect("a list").push(call);
                let plan = self.plan.lock().expect("a plan").clone();
                return plan.unwrap_or(Outcome { affected: Some(1), ..Outcome::default() });
            }
            self.done.lock().expect("a list").push(call);
            self.answers.lock().expect("a list").pop_front().unwrap_or(Outcome { affected: Some(1), ..Outcome::default() })
        })
    }
}

/// A desk with all that it stands on.
struct Rig {
    folder: tempfile::TempDir,
    disk: Arc<Disk>,
    actor: Arc<Actor>,
    clock: Arc<ManualClock>,
    settings: Settings,
    desk: Arc<RunDesk>,
}

impl Rig {
    async fn new(texts: &[&str]) -> Self {
        Self::with(texts, |_| {}).await
    }

    async fn with(texts: &[&str], set: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let books = folder.path().join("books");
        std::fs::create_dir(&books).expect("a folder");
        for (at, text) in texts.iter().enumerate() {
            std::fs::write(books.join(format!("{at}.md")), text).expect("writes");
        }
        std::fs::write(folder.path().join("state"), "worker is stuck\n").expect("writes");
        let path = folder.path().to_owned();
        Self::made(folder, path, set).await
    }

    /// On what another process left in a folder.
    async fn within(folder: tempfile::TempDir, path: PathBuf) -> Self {
        Self::made(folder, path, |_| {}).await
    }

    async fn made(folder: tempfile::TempDir, path: PathBuf, set: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings { folders: vec![path.join("books")], library: false, ..Settings::default() };
        settings.execute.folder.clone_from(&path);
        settings.execute.grace_ms = 200;
        set(&mut settings);
        let journal = Arc::new(SqliteJournal::open(&path.join("journal.db")).expect("a journal"));
        let disk = Arc::new(Disk { journal, left: AtomicI64::new(i64::MAX), appends: AtomicI64::new(0) });
        let actor = Arc::new(Actor::default());
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(1_800_000_000)));
        let desk = open(&settings, &disk, &actor, &clock, path.join("BRAKE")).await;
        Self { folder, disk, actor, clock, settings, desk }
    }

    /// The process is gone, and another one goes on.
    async fn restart(self) -> Self {
        let rig = self.reopen().await;
        rig.desk.resume().await;
        rig
    }

    async fn reopen(self) -> Self {
        let Self { folder, disk, actor, clock, settings, desk } = self;
        drop(desk);
        disk.left.store(i64::MAX, Ordering::SeqCst);
        // What a task had begun to write is written; then nothing of it is left.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let desk = open(&settings, &disk, &actor, &clock, folder.path().join("BRAKE")).await;
        Self { folder, disk, actor, clock, settings, desk }
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn start(&self) -> RunView {
        self.desk.start(incident("worker", "INC-1")).await.expect("starts")
    }

    /// Waits until a run is as it should be.
    async fn until(&self, run: &str, what: impl Fn(&RunView) -> bool) -> RunView {
        let begun = Instant::now();
        loop {
            let view = self.desk.view(run).await.expect("a run");
            if what(&view) {
                return view;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "it does not come to that: {view:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until_asked(&self, run: &str) -> RunView {
        self.until(run, |view| view.next.is_some()).await
    }

    async fn until_ended(&self, run: &str) -> RunView {
        self.until(run, |view| view.line.ended_at.is_some()).await
    }

    async fn approve(&self, run: &str, name: &str, by: &str) -> RunView {
        let hash = step(&self.desk.view(run).await.expect("a run"), name).hash.clone();
        self.desk.approve(run, name, &hash, person(by)).await.expect("agrees")
    }

    /// Nothing happens for a moment.
    async fn rest(&self) {
        tokio::time::sleep(Duration::from_millis(250)).await;
    }

    async fn records(&self, run: &str) -> Vec<Record> {
        self.desk.entries(run).await.expect("a record").into_iter().map(|entry: Entry| entry.record).collect()
    }

    fn verify_chain(&self) {
        let found = paramedic_journal::verify(&self.path("journal.db"), &mut |_, _| {}).expect("a journal");
        assert!(found.sound(), "{found:?}");
    }
}

async fn open(settings: &Settings, disk: &Arc<Disk>, actor: &Arc<Actor>, clock: &Arc<ManualClock>, stop_file: PathBuf) -> Arc<RunDesk> {
    let hand: Arc<dyn Hand> = Arc::<Actor>::clone(actor);
    let parts = Parts {
        settings: settings.clone(),
        journal: Arc::<Disk>::clone(disk),
        hands: Hands { settings: settings.execute.clone(), action: Some(hand), ..Hands::default() },
        clock: Arc::<ManualClock>::clone(clock),
        metrics: Metrics::default(),
        observer: None,
        stop_file,
    };
    RunDesk::open(parts).await.expect("opens")
}

fn person(name: &str) -> Person {
    Person::human(name)
}

fn incident(runbook: &str, incident: &str) -> StartRun {
    StartRun {
        runbook: runbook.to_owned(),
        mode: Mode::Step,
        target: String::new(),
        incident: Some(incident.to_owned()),
        by: person("alice"),
        inputs: BTreeMap::new(),
        observed: Vec::new(),
    }
}

fn step<'a>(view: &'a RunView, name: &str) -> &'a StepView {
    view.steps.iter().find(|step| step.name == name).unwrap_or_else(|| panic!("{name} in {view:#?}"))
}

fn state<'a>(view: &'a RunView, name: &str) -> &'a StepState {
    &step(view, name).state
}

fn can(view: &RunView, name: &str, what: Can) -> bool {
    step(view, name).can.contains(&what)
}
