//! Which targets there are, and a task for each.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::config::{Job, Settings};
use super::discover::Files;
use super::fetch::{self, Failure};
use super::intake::Intake;
use super::look::Look;
use super::metrics::Metrics;
use super::relabel::Rules;
use super::target::{Fate, Id, Planned};
use super::{Board, Inner};

/// A target that has a task.
struct Running {
    planned: Planned,
    job: Arc<Job>,
    stop: CancellationToken,
    task: JoinHandle<Intake>,
}

/// Targets by their identity, each with what its job says about looking.
type Plan = BTreeMap<Id, (Planned, Arc<Job>)>;

/// Follows settings and files until it is cancelled.
pub(super) async fn run(inner: Arc<Inner>, cancel: CancellationToken) {
    let mut changed = inner.settings.subscribe();
    let mut files = Files::default();
    let mut running: HashMap<Id, Running> = HashMap::new();
    let places = Arc::new(Semaphore::new(changed.borrow().looks_max.clamp(1, 65_536)));
    let mut clients = Clients::default();
    loop {
        let settings = changed.borrow_and_update().clone();
        let metrics = inner.metrics.clone();
        let rescan = Duration::from_secs(settings.rescan_s.max(1));
        let planning = tokio::task::spawn_blocking(move || {
            let plan = plan(&settings, &mut files, &metrics);
            (plan, files)
        });
        let Ok((plan, read)) = planning.await else { return };
        files = read;
        clients.keep(&plan);
        follow(&inner, &mut running, plan, &mut clients, &places).await;
        tokio::select! {
            () = cancel.cancelled() => break,
            result = changed.changed() => if result.is_err() { break },
            () = tokio::time::sleep(rescan) => {}
        }
    }
    for target in running.values() {
        target.stop.cancel();
    }
    for (_, target) in running {
        // A task that panicked has nothing to give back.
        let _ = target.task.await;
    }
}

/// All targets that the settings and the files name.
fn plan(settings: &Settings, files: &mut Files, metrics: &Metrics) -> Plan {
    let mut plan = Plan::new();
    let mut left_out = 0;
    files.forget_missing();
    for job in &settings.jobs {
        let rules = Rules::new(&job.relabel).unwrap_or_default();
        let looking = Arc::new(Job { targets: Vec::new(), labels: BTreeMap::new(), groups: Vec::new(), files: Vec::new(), ..job.clone() });
        let mut of_job = Vec::new();
        for (addresses, labels) in files.groups(job, metrics) {
            for address in addresses {
                match Planned::plan(settings, job, &rules, &address, &labels) {
                    Fate::Wanted(planned) => of_job.push(*planned),
                    Fate::Dropped => {}
                    Fate::Bad(what) => {
                        metrics.bad_targets.inc();
                        tracing::debug!(job = job.name, error = what, "a target cannot be looked at");
                    }
                }
            }
        }
        if job.target_limit != 0 && of_job.len() as u64 > job.target_limit {
            tracing::warn!(job = job.name, targets = of_job.len(), limit = job.target_limit, "the job has more targets than target_limit");
            left_out += of_job.len();
            continue;
        }
        for planned in of_job {
            if plan.len() < settings.targets_max || plan.contains_key(&planned.id) {
                plan.insert(planned.id.clone(), (planned, Arc::clone(&looking)));
            } else {
                left_out += 1;
            }
        }
    }
    metrics.targets.set(i64::try_from(plan.len()).unwrap_or(i64::MAX));
    metrics.targets_left_out.set(i64::try_from(left_out).unwrap_or(i64::MAX));
    plan
}

/// Ends tasks whose target has gone or is looked at differently, and begins those that are missing.
async fn follow(inner: &Arc<Inner>, running: &mut HashMap<Id, Running>, plan: Plan, clients: &mut Clients, places: &Arc<Semaphore>) {
    let is_same = |id: &Id, target: &Running| {
        plan.get(id).is_some_and(|(planned, job)| *planned == target.planned && *job == target.job && !target.task.is_finished())
    };
    let ended: Vec<Id> = running.iter().filter(|(id, target)| !is_same(id, target)).map(|(id, _)| id.clone()).collect();
    let mut before: HashMap<Id, Intake> = HashMap::new();
    let ended: Vec<(Id, Running)> = ended.into_iter().filter_map(|id| running.remove_entry(&id)).collect();
    for (_, target) in &ended {
        target.stop.cancel();
    }
    for (id, target) in ended {
        let Ok(mut intake) = target.task.await else { continue };
        if plan.contains_key(&id) {
            before.insert(id, intake);
            continue;
        }
        inner.board.remove(&id);
        if let Err(error) = intake.leave(&*inner.sink, inner.clock.now().as_millis()) {
            tracing::warn!(error = %error, "the end of a target's series cannot be stored");
        }
    }
    for (id, (planned, job)) in plan {
        if running.contains_key(&id) {
            continue;
        }
        let mut intake = Intake::of_job(planned.labels.clone(), &job);
        if let Some(known) = before.remove(&id) {
            intake.adopt(known);
        }
        let client = clients.of(&job);
        running.insert(id, start(inner, planned, job, client, places, intake));
    }
}

fn start(
    inner: &Arc<Inner>,
    planned: Planned,
    job: Arc<Job>,
    client: Result<reqwest::Client, Failure>,
    places: &Arc<Semaphore>,
    intake: Intake,
) -> Running {
    let board: &Board = &inner.board;
    board.set(&planned.id, planned.view(&job));
    let stop = CancellationToken::new();
    let look =
        Look { inner: Arc::clone(inner), planned: planned.clone(), job: Arc::clone(&job), client, places: Arc::clone(places), intake };
    Running { planned, job, task: tokio::spawn(look.run(stop.clone())), stop }
}

/// One client per job, kept for as long as the job does not change.
#[derive(Default)]
struct Clients(HashMap<String, (Arc<Job>, Result<reqwest::Client, Failure>)>);

impl Clients {
    fn keep(&mut self, plan: &Plan) {
        self.0.retain(|name, _| plan.values().any(|(_, job)| job.name == *name));
    }

    fn of(&mut self, job: &Arc<Job>) -> Result<reqwest::Client, Failure> {
        match self.0.get(&job.name) {
            Some((known, client)) if known == job => client.clone(),
            _ => {
                let client = fetch::client(job);
                self.0.insert(job.name.clone(), (Arc::clone(job), client.clone()));
                client
            }
        }
    }
}
