//! What answers an incident: its runbook is found and started, runs are followed, what is due is taken back.

mod changes;
mod ended;
mod hands;
mod incidents;
mod logs;
mod observer;

use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::Result;
use paramedic_action::flag::FlagStore;
use paramedic_action::process::{AgentProcess, AgentProcesses, Started};
use paramedic_action::switch::SwitchStore;
use paramedic_action::{Actions, flag, git, http, kubernetes, postgres, process, redis, restore, service, switch};
use paramedic_api::query::Query;
use paramedic_api::{Live, Responding as Handles};
use paramedic_fleet::Fleet;
use paramedic_journal::Journal;
use paramedic_model::{AgentId, Clock};
use paramedic_respond::Desk;
use paramedic_runbook::desk::Parts;
use paramedic_runbook::execute::Hands;
use paramedic_runbook::{RunDesk, metrics};
use paramedic_telemetry::Store;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::clockwork::Clockwork;
use crate::intake::Intake;
use crate::measuring::Registries;
use crate::settings::Settings;

/// The file in the data folder that stops everything while it is there.
pub const STOP_FILE: &str = "BRAKE";
/// How often time passes for runs, flags and switches.
const TICK: Duration = Duration::from_secs(1);
/// How often watchers are told that a step said something.
const SAYS: Duration = Duration::from_millis(500);

/// What it is made of.
pub(crate) struct Around<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) data_dir: &'a Path,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) fleet: Arc<RwLock<Fleet>>,
    pub(crate) store: Store,
    pub(crate) query: Option<Arc<dyn Query>>,
    pub(crate) live: broadcast::Sender<Live>,
    pub(crate) intake: Intake,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Runs, actions, flags and switches of one instance.
pub(crate) struct Responding {
    pub(crate) handles: Handles,
    fleet: Arc<RwLock<Fleet>>,
    desk: Arc<Desk>,
    store: Store,
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
}

impl Responding {
    pub(crate) async fn open(around: Around<'_>, registries: &mut Registries) -> Result<Self> {
        let Around { settings, data_dir, journal, desk, fleet, store, query, live, intake, clock } = around;
        let flags = Arc::new(FlagStore::open(journal.clone()).await?);
        let switches = Arc::new(SwitchStore::open(journal.clone()).await?);
        let servers = Servers::of(settings)?;
        let actions = actions(servers.action, &flags, &switches, &fleet, &clock);
        let action_hand = hands::ActionHand {
            actions: actions.clone(),
            journal: journal.clone(),
            desk: desk.clone(),
            ended: ended::Ended { fleet: fleet.clone(), intake },
            clock: clock.clone(),
        };
        let hands = Hands {
            settings: servers.execute,
            promql: query.map(|query| Arc::new(hands::Queries { query, clock: clock.clone() }) as _),
            logs: Some(Arc::new(hands::Logs { store: store.clone(), clock: clock.clone() })),
            action: Some(Arc::new(action_hand)),
            message: Some(Arc::new(hands::Messages { desk: desk.clone(), clock: clock.clone() })),
            ..Hands::default()
        };
        let metrics = metrics::Metrics::default();
        registries.add(|registry| {
            metrics.register(registry);
            actions.metrics().register(registry);
        });
        let named = &settings.runbook.stop_file;
        let stop_file = if named.is_empty() { data_dir.join(STOP_FILE) } else { named.into() };
        let observer = observer::Watcher::new(live, desk.clone(), clock.clone());
        let runs = RunDesk::open(Parts {
            settings: settings.runbook.clone(),
            journal: journal.clone(),
            hands,
            clock: clock.clone(),
            metrics,
            observer: Some(Arc::new(observer)),
            stop_file,
        })
        .await?;
        for untaken in &runs.shelf().untaken {
            tracing::warn!(file = untaken.file, why = untaken.why, "a runbook file is not used as it is");
        }
        let handles = Handles { runs, actions, flags, switches };
        Ok(Self { handles, fleet, desk, store, journal, clock })
    }

    /// Goes on with the runs of before, and starts what follows incidents.
    pub(crate) async fn start(&self, clockwork: &Clockwork, stop: &CancellationToken) -> Result<()> {
        self.handles.runs.resume().await;
        if self.handles.runs.settings().start_on_incident {
            let follower = incidents::Follower {
                runs: self.handles.runs.clone(),
                desk: self.desk.clone(),
                fleet: self.fleet.clone(),
                store: self.store.clone(),
                clock: self.clock.clone(),
                told: std::sync::Mutex::default(),
            };
            let (tail, stop) = (paramedic_journal::Tail::new(self.journal.clone(), self.journal.head().await?), stop.clone());
            clockwork.start("runbooks", async move { follower.run(tail, stop).await });
        }
        let (handles, clock, stop) = (self.handles.clone(), self.clock.clone(), stop.clone());
        clockwork.start("runs", async move {
            let mut ticks = tokio::time::interval(TICK);
            let mut says = tokio::time::interval(SAYS);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = says.tick() => handles.runs.tell_live(),
                    _ = ticks.tick() => {
                        handles.runs.tick().await;
                        let now = clock.now();
                        if let Err(error) = handles.flags.tick(now).await {
                            tracing::error!(%error, "flags whose time is over could not be changed");
                        }
                        if let Err(error) = handles.switches.tick(now).await {
                            tracing::error!(%error, "switches whose time is over could not be cleared");
                        }
                    }
                }
            }
        });
        Ok(())
    }

    /// Reads runbooks anew, and takes other policies. What could not be taken is said.
    pub(crate) async fn reload(&self, settings: &Settings) -> Vec<String> {
        let (runs, runbook) = (self.handles.runs.clone(), settings.runbook.clone());
        // Many files, perhaps over a network: not on the threads that serve everybody.
        if let Err(error) = tokio::task::spawn_blocking(move || runs.reload(&runbook)).await {
            return vec![format!("the runbooks were not read anew: {error}")];
        }
        self.handles.runs.shelf().untaken.iter().map(|untaken| format!("{}: {}", untaken.file, untaken.why)).collect()
    }

    pub(crate) async fn drain(&self, within: Duration) {
        self.handles.runs.drain(within).await;
        let saved = [
            ("runs", self.handles.runs.save_snapshot().await),
            ("flags", self.handles.flags.save_snapshot().await),
            ("switches", self.handles.switches.save_snapshot().await),
        ];
        for (what, saved) in saved {
            if let Err(error) = saved {
                tracing::warn!(%error, "the snapshot of the {what} could not be saved");
            }
        }
    }
}

/// Processes of agents, as the fleet knows them.
struct FleetProcesses(Arc<RwLock<Fleet>>);

impl AgentProcesses for FleetProcesses {
    fn find(&self, agent: &str) -> Option<AgentProcess> {
        let fleet = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let view = fleet.view(fleet.get(&AgentId::from(agent))?);
        let process = view.process.filter(|process| process.alive)?;
        Some(AgentProcess { pid: process.pid, started: Started::Ticks(process.started?), what: view.id.to_string() })
    }
}

/// `env:NAME` stands for the variable of that name, so that no password has to be in a file.
pub(crate) fn from_environment(value: &str) -> Result<String> {
    match value.strip_prefix("env:") {
        None => Ok(value.to_owned()),
        Some(name) => {
            std::env::var(name).map_err(|_| anyhow::anyhow!("failed to use {value}: the variable {name} is not set, or not text"))
        }
    }
}

/// The actions of an instance with these settings, without its fleet: whoever is asked for an agent's process knows none.
pub async fn actions_of(settings: &Settings, journal: Arc<dyn Journal>, clock: Arc<dyn Clock>) -> Result<Actions> {
    let flags = Arc::new(FlagStore::open(journal.clone()).await?);
    let switches = Arc::new(SwitchStore::open(journal).await?);
    let fleet = Fleet::new(paramedic_fleet::Prices::embedded(), settings.fleet);
    Ok(actions(Servers::of(settings)?.action, &flags, &switches, &Arc::new(RwLock::new(fleet)), &clock))
}

/// Where steps and actions find their servers, with what the environment says in its place.
struct Servers {
    execute: paramedic_runbook::execute::Settings,
    action: paramedic_action::Settings,
}

impl Servers {
    fn of(settings: &Settings) -> Result<Self> {
        let (mut execute, mut action) = (settings.runbook.execute.clone(), settings.action.clone());
        for value in [&mut execute.postgres, &mut execute.redis].into_iter().flatten() {
            *value = from_environment(value)?;
        }
        for value in [&mut action.redis.url, &mut action.postgres.url, &mut action.flag.token] {
            *value = from_environment(value)?;
        }
        // One place to say where the servers are is enough.
        for (own, other) in [(&mut action.redis.url, &execute.redis), (&mut action.postgres.url, &execute.postgres)] {
            if own.is_empty() {
                own.clone_from(&other.clone().unwrap_or_default());
            }
        }
        Ok(Self { execute, action })
    }
}

fn actions(
    set: paramedic_action::Settings,
    flags: &Arc<FlagStore>,
    switches: &Arc<SwitchStore>,
    fleet: &Arc<RwLock<Fleet>>,
    clock: &Arc<dyn Clock>,
) -> Actions {
    let adapters: Vec<Arc<dyn paramedic_action::Adapter>> = vec![
        Arc::new(process::Processes::new(set.process, Some(Arc::new(FleetProcesses(fleet.clone()))))),
        Arc::new(service::Services::new(set.service)),
        Arc::new(redis::Caches::new(set.redis)),
        Arc::new(postgres::Databases::new(set.postgres)),
        Arc::new(http::Requests::new(set.http)),
        Arc::new(git::Repositories::new(set.git)),
        Arc::new(restore::Restores::new(set.restore, clock.clone())),
        Arc::new(kubernetes::Clusters::new(set.kubernetes, clock.clone())),
        Arc::new(flag::Flags::new(set.flag, Some(flags.clone()), clock.clone())),
        Arc::new(switch::Switches::new(switches.clone(), clock.clone())),
    ];
    Actions::new(adapters, paramedic_action::metrics::Metrics::default())
}
