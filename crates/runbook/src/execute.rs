//! Carrying a step out. What it may do was decided before; here it is done, bounded in time and in output.
//!
//! Every executor answers with an [`Outcome`], whatever happens: that a program cannot be started, a server is gone or the
//! time is over are outcomes too. Nothing here writes records or decides anything.

mod http;
mod live;
mod output;
mod process;
mod redis;
mod sql;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::classify::Effect;
use crate::outcome::Outcome;
use crate::plan::PlannedStep;
use crate::render::Work;

pub use live::Live;
pub use output::OUTPUT_BYTES_MAX;
pub use process::left::Left;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where executors find what they need.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The folder that programs are started in. Default: `/`.
    pub folder: std::path::PathBuf,
    /// Variables of our own environment that programs get. Default: PATH, HOME, USER, LOGNAME, LANG, LC_ALL, TZ, KUBECONFIG.
    pub environment: Vec<String>,
    /// How long a program has between being asked to end and being killed, in milliseconds. Default: 3000.
    pub grace_ms: u64,
    /// `postgres://…` of the server that `sql` steps ask, or `env:NAME` for the variable that holds it. Default: none, and
    /// such steps say so.
    #[serde(deserialize_with = "empty_is_none")]
    pub postgres: Option<String>,
    /// `redis://…` of the server that `redis` steps ask, or `env:NAME`. Default: none.
    #[serde(deserialize_with = "empty_is_none")]
    pub redis: Option<String>,
}

fn empty_is_none<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Some(String::deserialize(deserializer)?).filter(|text| !text.is_empty()))
}

impl Default for Settings {
    fn default() -> Self {
        let environment = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "KUBECONFIG"];
        Self {
            folder: "/".into(),
            environment: environment.into_iter().map(str::to_owned).collect(),
            grace_ms: 3_000,
            postgres: None,
            redis: None,
        }
    }
}

/// One thing to carry out.
#[derive(Debug, Clone)]
pub struct Order {
    pub work: Work,
    pub effect: Effect,
    pub timeout: Duration,
    /// Values that no outcome may show.
    pub secrets: Vec<String>,
    /// Patterns that no outcome may show.
    pub redact: Vec<String>,
    pub window: Option<Duration>,
    /// Only count and show what would be touched; for those who carry out actions.
    pub dry: bool,
    /// Where to say what comes out while it runs.
    pub live: Option<Live>,
    /// For whom and about what it is done, for those who keep a record of their own.
    pub about: About,
}

/// The circumstances of an order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    pub run: String,
    pub incident: Option<String>,
    /// Who allowed it: people, a policy, or `paramedic`.
    pub by: String,
    /// What is known by name: inputs that are no secrets, and what steps found.
    pub known: std::collections::BTreeMap<String, String>,
}

impl Order {
    /// Nothing for a step that is blocked.
    #[must_use]
    pub fn of(step: &PlannedStep, secrets: &[String]) -> Option<Self> {
        Some(Self {
            work: step.work.clone()?,
            effect: step.effect,
            timeout: Duration::from_millis(step.demands.timeout_ms),
            secrets: secrets.to_vec(),
            redact: step.demands.redact.clone(),
            window: step.demands.window_ms.map(Duration::from_millis),
            dry: false,
            live: None,
            about: About::default(),
        })
    }
}

/// Somebody who carries out what is not ours: queries, logs, actions. The instance gives these.
pub trait Hand: Send + Sync {
    fn carry<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Outcome>;
}

/// All executors.
#[derive(Clone, Default)]
pub struct Hands {
    pub settings: Settings,
    pub promql: Option<Arc<dyn Hand>>,
    pub logs: Option<Arc<dyn Hand>>,
    pub action: Option<Arc<dyn Hand>>,
    pub message: Option<Arc<dyn Hand>>,
    /// Whose steps these are, where several instances share a machine: the same text after a restart, another for another one.
    pub owner: String,
    /// What programs are marked with: the beginning that all attempts of a step share.
    pub attempt_of: String,
}

impl std::fmt::Debug for Hands {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Hands").field("settings", &"…").finish_non_exhaustive()
    }
}

impl Hands {
    /// These hands for one step of a run: what they start can be found again after this process has ended.
    #[must_use]
    pub fn of_step(&self, run: &str, step: &str) -> Self {
        Self { attempt_of: process::left::attempt_of(&self.owner, run, step), ..self.clone() }
    }

    /// Programs that earlier attempts of a step started and that have not ended. It reads all of `/proc`.
    #[must_use]
    pub fn left(&self, run: &str, step: &str) -> Vec<Left> {
        process::left::left(&process::left::attempt_of(&self.owner, run, step))
    }

    /// Carries an order out. Ends with its time at the latest, and a little more for a program that has to be killed.
    pub async fn carry(&self, order: &Order, cancel: &CancellationToken) -> Outcome {
        let begun = tokio::time::Instant::now();
        let other = |hand: &Option<Arc<dyn Hand>>| hand.clone();
        let mut outcome = match &order.work {
            Work::Sh { environment, .. } => process::run(self, order, environment, cancel).await,
            Work::Kubectl { .. } => process::run(self, order, &std::collections::BTreeMap::new(), cancel).await,
            Work::Http { .. } => limited(order, cancel, http::run(order)).await,
            Work::Sql { statement } => limited(order, cancel, sql::run(self.settings.postgres.as_deref(), statement, order)).await,
            Work::Redis { commands } => limited(order, cancel, redis::run(self.settings.redis.as_deref(), commands, order)).await,
            Work::Promql { .. } => by(other(&self.promql), order, cancel, "queries").await,
            Work::Logs { .. } => by(other(&self.logs), order, cancel, "logs").await,
            Work::Action { .. } => by(other(&self.action), order, cancel, "actions").await,
            Work::Message { .. } => by(other(&self.message), order, cancel, "messages").await,
            // The gate lets these through only for a person, who says with it that it is done.
            Work::Manual { .. } => Outcome::default(),
        };
        outcome.ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        outcome
    }
}

async fn by(hand: Option<Arc<dyn Hand>>, order: &Order, cancel: &CancellationToken, what: &str) -> Outcome {
    match hand {
        Some(hand) => limited(order, cancel, hand.carry(order)).await,
        None => Outcome::fault(format!("nobody is there who carries out {what}")),
    }
}

/// The order's time is a limit from outside; what is under way is dropped.
async fn limited(order: &Order, cancel: &CancellationToken, work: impl Future<Output = Outcome>) -> Outcome {
    tokio::select! {
        done = tokio::time::timeout(order.timeout, work) => done.unwrap_or_else(|_| {
            Outcome { timed_out: true, ..Outcome::fault(format!("no answer within {} ms", order.timeout.as_millis())) }
        }),
        () = cancel.cancelled() => Outcome::fault("it was called off"),
    }
}
