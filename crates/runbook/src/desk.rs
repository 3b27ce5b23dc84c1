//! All runs of an instance: started, driven, agreed to, taken back; each fact in the journal before it takes effect.
//!
//! A run goes on in a task of its own until it ended or waits for somebody. What people say about it is written down first
//! and then told to the task. After a restart every run that did not end goes on from its records.

mod adhoc;
mod afterwards;
mod driving;
mod fold;
mod reverting;
mod say;
mod view;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex as StdMutex, PoisonError, RwLock};
use std::time::Duration;

use paramedic_journal::{Journal, JournalError};
use paramedic_model::Clock;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::brake::{Brakes, Stopped};
use crate::config::Settings;
use crate::execute::{BoxFuture, Hands};
use crate::gate::{Mode, Person};
use crate::metrics::Metrics;
use crate::run::{Entry, Policies, Run, Stage};
use crate::shelf::{Shelf, Shelved};

pub use adhoc::{ActionCall, STEP as ACTION_STEP};
pub use fold::{Revert, RunLine, Runs, number_of};
pub use view::{Can, RunView, StepView};

/// Runs that have not ended; no further one is started beyond it.
pub const OPEN_MAX: usize = 1_000;

/// Why something about a run was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeskError {
    #[error("find {what} {id}: there is none")]
    NotFound { what: &'static str, id: String },
    #[error("{what}: it is refused, because {why}")]
    Refused { what: &'static str, why: String },
    /// What the caller saw is not what would run now.
    #[error("agree to {step}: what would run is not what was agreed to; it is now {hash}")]
    Stale { step: String, hash: String },
    #[error("write it down: {0}")]
    Journal(String),
}

impl From<JournalError> for DeskError {
    fn from(error: JournalError) -> Self {
        Self::Journal(error.to_string())
    }
}

fn refused(what: &'static str, why: impl Into<String>) -> DeskError {
    DeskError::Refused { what, why: why.into() }
}

/// What a run is to begin with.
#[derive(Debug, Clone)]
pub struct StartRun {
    pub runbook: String,
    pub mode: Mode,
    /// What is acted on; limits count for each by itself. Empty: the incident, or the runbook's service.
    pub target: String,
    pub incident: Option<String>,
    pub by: Person,
    pub inputs: BTreeMap<String, String>,
    /// What was seen: alerts, events, log lines.
    pub observed: Vec<String>,
}

/// One record, for whoever follows runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    pub line: RunLine,
    pub actor: String,
    pub entry: Entry,
}

/// Somebody who is told of every record after it is durable. The run waits until they are done, so they have to be quick.
pub trait Observer: Send + Sync {
    fn recorded<'a>(&'a self, recorded: &'a Recorded) -> BoxFuture<'a, ()>;
    /// A step said something while it runs.
    fn said(&self, _run: &str, _incident: Option<&str>) {}
}

/// A run that has not ended.
struct Active {
    number: u64,
    run: Mutex<Run>,
    stage: Stage,
    cancel: CancellationToken,
    /// Why it does not go on although it could: its record could not be written.
    halted: StdMutex<Option<String>>,
    /// When it looked again last, on the uptime's clock.
    looked_at_ms: std::sync::atomic::AtomicU64,
    /// What watchers were told of its live output.
    told: std::sync::atomic::AtomicU64,
}

/// The parts that a desk is made of.
pub struct Parts {
    pub settings: Settings,
    pub journal: Arc<dyn Journal>,
    pub hands: Hands,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
    pub observer: Option<Arc<dyn Observer>>,
    pub stop_file: std::path::PathBuf,
}

/// All runs.
pub struct RunDesk {
    settings: Settings,
    shelf: RwLock<Arc<Shelf>>,
    policies: Policies,
    journal: Arc<dyn Journal>,
    hands: Hands,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    observer: Option<Arc<dyn Observer>>,
    stop_file: std::path::PathBuf,
    brakes: Arc<Mutex<Brakes>>,
    runs: Arc<StdMutex<Runs>>,
    active: StdMutex<BTreeMap<u64, Arc<Active>>>,
    turns: Arc<Semaphore>,
    stopping: CancellationToken,
    /// Held while a fact is in the journal and not yet added up.
    adding: tokio::sync::RwLock<()>,
    /// Held while a run begins.
    beginning: Mutex<()>,
    /// Ways back that are under way.
    reverting: StdMutex<BTreeSet<String>>,
    /// What runs were woken for last.
    stopped_told: StdMutex<Stopped>,
    /// The brakes' clock when it was looked at last.
    clock_ms: std::sync::atomic::AtomicU64,
    tasks: StdMutex<tokio::task::JoinSet<()>>,
    /// Starts for incidents in the last minute, on the uptime's clock.
    starts: StdMutex<std::collections::VecDeque<u64>>,
}

fn locked<T>(lock: &StdMutex<T>) -> std::sync::MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RunDesk {
    /// Adds the journal up. Runs that did not end go on when [`RunDesk::resume`] is called.
    pub async fn open(parts: Parts) -> Result<Arc<Self>, JournalError> {
        let (runs, _) = paramedic_journal::rebuild::<Runs>(parts.journal.as_ref()).await?;
        let mut brakes = runs.brakes().cloned().unwrap_or_else(|| Brakes::new(parts.settings.fleet_limit));
        brakes.fleet_limit = parts.settings.fleet_limit;
        // The process may have ended between the end of a run and the giving up of its locks.
        brakes.keep_locks(|run| number_of(run).is_some_and(|number| runs.is_open(number)));
        let shelf = Shelf::load(&parts.settings.folders, parts.settings.library);
        // The data folder is what stays the same over restarts and differs from that of other instances.
        let owner = parts.stop_file.parent().and_then(|folder| folder.canonicalize().ok()).unwrap_or_else(|| parts.stop_file.clone());
        let hands = Hands { owner: owner.display().to_string(), ..parts.hands };
        Ok(Arc::new(Self {
            shelf: RwLock::new(Arc::new(shelf)),
            policies: Arc::new(RwLock::new(parts.settings.policies.clone().into())),
            turns: Arc::new(Semaphore::new(turns(&parts.settings))),
            settings: parts.settings,
            journal: parts.journal,
            hands,
            clock: parts.clock,
            metrics: parts.metrics,
            observer: parts.observer,
            stop_file: parts.stop_file,
            brakes: Arc::new(Mutex::new(brakes)),
            runs: Arc::new(StdMutex::new(runs)),
            active: StdMutex::default(),
            stopping: CancellationToken::new(),
            adding: tokio::sync::RwLock::default(),
            beginning: Mutex::default(),
            reverting: StdMutex::default(),
            stopped_told: StdMutex::default(),
            clock_ms: std::sync::atomic::AtomicU64::new(0),
            tasks: StdMutex::default(),
            starts: StdMutex::default(),
        }))
    }

    #[must_use]
    pub fn shelf(&self) -> Arc<Shelf> {
        self.shelf.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the folders anew, and takes other policies. Runs that began keep the text they began with.
    pub fn reload(&self, settings: &Settings) {
        let shelf = Arc::new(Shelf::load(&settings.folders, settings.library));
        *self.shelf.write().unwrap_or_else(PoisonError::into_inner) = shelf;
        *self.policies.write().unwrap_or_else(PoisonError::into_inner) = settings.policies.clone().into();
    }

    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A runbook by its id.
    pub fn shelved(&self, id: &str) -> Result<Shelved, DeskError> {
        self.shelf().get(id).cloned().ok_or_else(|| DeskError::NotFound { what: "the runbook", id: id.to_owned() })
    }

    /// The mode in which an incident's run is to go: unattended where a policy speaks of its runbook.
    #[must_use]
    pub fn mode_for(&self, runbook: &str) -> Mode {
        let policies = self.policies.read().unwrap_or_else(PoisonError::into_inner);
        if policies.iter().any(|policy| policy.runbook == runbook) { Mode::Auto } else { Mode::Step }
    }

    /// Tells the observer of runs whose step said something since the last call.
    pub fn tell_live(&self) {
        let Some(observer) = &self.observer else { return };
        let active: Vec<Arc<Active>> = locked(&self.active).values().cloned().collect();
        for active in active {
            let version = active.stage.live.version();
            if active.told.swap(version, std::sync::atomic::Ordering::Relaxed) != version {
                let line = locked(&self.runs).line(active.number).map(|line| (line.id.clone(), line.incident.clone()));
                if let Some((run, incident)) = line {
                    observer.said(&run, incident.as_deref());
                }
            }
        }
    }

    /// Keeps the state so that the next start reads only what came after it.
    pub async fn save_snapshot(&self) -> Result<(), JournalError> {
        // Nothing is written meanwhile: the state is exactly what the journal holds.
        let _adding = self.adding.write().await;
        let head = self.journal.head().await?;
        let runs = locked(&self.runs).clone();
        paramedic_journal::save_fold(self.journal.as_ref(), &runs, head).await
    }

    /// Lets the steps under way end, starts no further ones, and stops all tasks.
    pub async fn drain(&self, within: Duration) {
        self.stopping.cancel();
        let all = u32::try_from(turns(&self.settings)).unwrap_or(u32::MAX);
        // Kept until the tasks are gone, so that no step begins in between.
        let idle = tokio::time::timeout(within, self.turns.acquire_many(all)).await;
        if idle.is_err() {
            tracing::warn!("a step was still under way; after the restart it is in doubt");
        }
        let mut tasks = std::mem::take(&mut *locked(&self.tasks));
        tasks.shutdown().await;
        drop(idle);
    }
}

/// Steps that are carried out at once.
fn turns(settings: &Settings) -> usize {
    const STEPS_AT_ONCE_MAX: usize = 1_000;
    settings.steps_at_once.clamp(1, STEPS_AT_ONCE_MAX)
}
