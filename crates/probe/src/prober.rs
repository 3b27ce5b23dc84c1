//! Looks at targets, each at its own phase, and hands on what was found.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use paramedic_model::{Clock, Target, TargetHealth, TargetKind, Timestamp};
use paramedic_promql::number::stale;
use paramedic_promql::{Labels, SampleValue};
use paramedic_samples::{Key, Metadata, Sample, SampleSink};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::Settings;
use crate::error::{Failure, ProbeError};
use crate::metrics::{ByKind, ByResult, Metrics};
use crate::plan::{Plan, Probe, plans};
use crate::reading::Reading;

/// Metrics whose kind was told to the store; beyond it they stay untold.
const TOLD_MAX: usize = 4_096;

/// What one look found.
#[derive(Debug)]
pub struct Look {
    pub target: Target,
    /// The samples, with the target's labels.
    pub samples: Vec<(Labels, f64)>,
}

/// Watches all configured targets. Cheap to clone: all clones are the same prober.
#[derive(Clone)]
pub struct Prober {
    inner: Arc<Inner>,
}

struct Inner {
    sink: Arc<dyn SampleSink>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    permits: Mutex<Arc<Semaphore>>,
    entries: Mutex<Vec<Arc<Entry>>>,
    changed: Notify,
    told: Mutex<HashSet<String>>,
}

/// A target with its probe and what is known of it.
struct Entry {
    plan: Plan,
    gone: CancellationToken,
    is_running: AtomicBool,
    probe: tokio::sync::Mutex<Box<dyn Probe>>,
    state: Mutex<State>,
}

struct State {
    target: Target,
    /// The series of the last look, which end when the next one does not give them.
    series: HashSet<Labels>,
    /// No look is written any more: the target has left the settings.
    is_gone: bool,
}

impl Prober {
    /// Reads the settings; nothing is looked at before [`Self::run`] or [`Self::once`].
    pub fn new(settings: &Settings, sink: Arc<dyn SampleSink>, clock: Arc<dyn Clock>) -> Result<Self, ProbeError> {
        let prober = Self {
            inner: Arc::new(Inner {
                sink,
                clock,
                metrics: Metrics::default(),
                permits: Mutex::new(Arc::new(Semaphore::new(1))),
                entries: Mutex::new(Vec::new()),
                changed: Notify::new(),
                told: Mutex::new(HashSet::new()),
            }),
        };
        prober.reload(settings)?;
        Ok(prober)
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// The state of every target, in the order of the settings.
    #[must_use]
    pub fn targets(&self) -> Vec<Target> {
        lock(&self.inner.entries).iter().map(|entry| lock(&entry.state).target.clone()).collect()
    }

    /// Takes new settings. Targets that did not change keep their state, connections and phase; those that are gone end.
    pub fn reload(&self, settings: &Settings) -> Result<(), ProbeError> {
        let mut entries = Vec::new();
        let plans = plans(settings)?;
        let mut known = lock(&self.inner.entries);
        for plan in plans {
            match known.iter().find(|entry| entry.plan == plan) {
                Some(entry) => entries.push(Arc::clone(entry)),
                None => entries.push(Arc::new(Entry::new(plan)?)),
            }
        }
        let ended: Vec<Arc<Entry>> =
            known.iter().filter(|old| !entries.iter().any(|entry| Arc::ptr_eq(entry, old))).map(Arc::clone).collect();
        *known = entries;
        self.inner.metrics.targets.set(i64::try_from(known.len()).unwrap_or(i64::MAX));
        drop(known);
        *lock(&self.inner.permits) = Arc::new(Semaphore::new(settings.concurrency_max.max(1)));
        for entry in ended {
            self.inner.end(&entry);
        }
        self.inner.changed.notify_one();
        Ok(())
    }

    /// Looks at every target once, all at the same time as far as `concurrency_max` allows.
    pub async fn once(&self) -> Vec<Look> {
        let entries: Vec<Arc<Entry>> = lock(&self.inner.entries).clone();
        let mut looks = JoinSet::new();
        for (place, entry) in entries.into_iter().enumerate() {
            let inner = Arc::clone(&self.inner);
            looks.spawn(async move { (place, inner.look(&entry).await) });
        }
        let mut found: Vec<(usize, Look)> = looks.join_all().await;
        found.sort_by_key(|(place, _)| *place);
        found.into_iter().map(|(_, look)| look).collect()
    }

    /// Looks at every target at its phase until cancelled. Series are not ended then: the next start goes on with them.
    pub async fn run(self, cancel: CancellationToken) {
        let mut tasks = JoinSet::new();
        loop {
            for entry in lock(&self.inner.entries).iter() {
                if !entry.is_running.swap(true, Ordering::AcqRel) {
                    tasks.spawn(Arc::clone(&self.inner).watch(Arc::clone(entry), cancel.child_token()));
                }
            }
            tokio::select! {
                () = cancel.cancelled() => break,
                () = self.inner.changed.notified() => {}
                Some(ended) = tasks.join_next() => {
                    if let Err(err) = ended {
                        tracing::error!(error = %err, "a probe ended unexpectedly");
                    }
                }
            }
        }
        // Dropping a look is what a cut does, so nothing needs to be waited for but the tasks themselves.
        tasks.shutdown().await;
        for entry in lock(&self.inner.entries).iter() {
            entry.is_running.store(false, Ordering::Release);
        }
    }
}

impl Entry {
    fn new(plan: Plan) -> Result<Self, ProbeError> {
        let target = Target {
            pool: plan.job.clone(),
            kind: TargetKind::Probe,
            address: plan.address.clone(),
            labels: plan.labels.clone(),
            discovered_labels: [("__probe__".to_owned(), plan.what.kind().to_owned())].into(),
            health: TargetHealth::Unknown,
            last_error: String::new(),
            last_at: None,
            last_duration_s: 0.0,
            last_samples: 0,
            interval_s: plan.interval.as_secs_f64(),
            timeout_s: plan.timeout.as_secs_f64(),
            failures: 0,
        };
        Ok(Self {
            probe: tokio::sync::Mutex::new(plan.open()?),
            plan,
            gone: CancellationToken::new(),
            is_running: AtomicBool::new(false),
            state: Mutex::new(State { target, series: HashSet::new(), is_gone: false }),
        })
    }

    /// How long until the target's next turn: turns are spread over the interval by who the target is.
    fn wait(&self, now: Timestamp) -> Duration {
        let interval = i64::try_from(self.plan.interval.as_micros()).unwrap_or(i64::MAX).max(1);
        let who = format!("{}\0{}", self.plan.job, self.plan.instance);
        let phase = i64::try_from(xxh3_64(who.as_bytes()) % interval.unsigned_abs()).unwrap_or(0);
        Duration::from_micros((phase - now.as_micros()).rem_euclid(interval).unsigned_abs())
    }
}

impl Inner {
    async fn watch(self: Arc<Self>, entry: Arc<Entry>, cancel: CancellationToken) {
        let first = tokio::time::Instant::now() + entry.wait(self.clock.now());
        let mut every = tokio::time::interval_at(first, entry.plan.interval);
        every.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let turn = tokio::select! {
                () = cancel.cancelled() => return,
                () = entry.gone.cancelled() => return,
                turn = every.tick() => turn,
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = entry.gone.cancelled() => return,
                _ = self.look(&entry) => {}
            }
            let late = turn.elapsed().as_micros() / entry.plan.interval.as_micros().max(1);
            self.metrics.missed_looks.inc_by(u64::try_from(late).unwrap_or(u64::MAX));
        }
    }

    async fn look(&self, entry: &Entry) -> Look {
        let permits = Arc::clone(&*lock(&self.permits));
        // The semaphore is never closed.
        let _permit = permits.acquire_owned().await;
        let mut probe = entry.probe.lock().await;
        let now = next_time(self.clock.now(), lock(&entry.state).target.last_at);
        let mut reading = Reading::new(&entry.plan.labels, entry.plan.samples_max);
        let begun = Instant::now();
        let looked = tokio::time::timeout(entry.plan.timeout, probe.look(now, &mut reading)).await;
        let took = begun.elapsed();
        let (found, result) = match looked {
            Ok(Ok(())) => (Ok(()), "up"),
            Ok(Err(failure)) => (Err(failure), "down"),
            Err(_) => {
                let within = entry.plan.timeout.as_secs_f64();
                let failure = match probe.cut(&mut reading) {
                    Some(phase) => Failure::new(format_args!("no answer within {within} s, still in phase {phase}")),
                    None => Failure::new(format_args!("no answer within {within} s")),
                };
                (Err(failure), "cut")
            }
        };
        let kind = entry.plan.what.kind();
        self.metrics.looks.get_or_create(&ByResult { kind, result }).inc();
        self.metrics.look_seconds.get_or_create(&ByKind { kind }).observe(took.as_secs_f64());
        let up = f64::from(u8::from(found.is_ok()));
        for verdict in ["up", "probe_success"].iter().chain(probe.verdicts()) {
            reading.gauge(verdict, up);
        }
        reading.gauge("probe_duration_seconds", took.as_secs_f64());
        drop(probe);
        let target = self.keep(entry, now, took, &reading, found);
        Look { target, samples: reading.samples().to_vec() }
    }

    /// Writes a look's samples, ends the series that it did not give, and remembers how it went.
    fn keep(&self, entry: &Entry, now: Timestamp, took: Duration, reading: &Reading, found: Result<(), Failure>) -> Target {
        let mut state = lock(&entry.state);
        let target = &mut state.target;
        target.last_at = Some(now);
        target.last_duration_s = took.as_secs_f64();
        target.last_samples = reading.samples().len() as u64;
        match found {
            Ok(()) => {
                if target.health == TargetHealth::Down {
                    tracing::info!(job = entry.plan.job, instance = entry.plan.instance, "target is up again");
                }
                target.health = TargetHealth::Up;
                target.last_error.clear();
                target.failures = 0;
            }
            Err(failure) => {
                if target.health != TargetHealth::Down {
                    tracing::warn!(
                        job = entry.plan.job,
                        instance = entry.plan.instance,
                        reason = failure.text(),
                        "target cannot be looked at"
                    );
                }
                target.health = TargetHealth::Down;
                failure.text().clone_into(&mut target.last_error);
                target.failures += 1;
            }
        }
        let target = target.clone();
        if !state.is_gone {
            let given: HashSet<Labels> = reading.samples().iter().map(|(series, _)| series.clone()).collect();
            let ended: Vec<(Labels, f64)> = state.series.difference(&given).map(|series| (series.clone(), stale())).collect();
            self.tell_kinds(reading.samples());
            self.append(now, reading.samples().iter().chain(&ended));
            state.series = given;
        }
        self.metrics.samples.inc_by(reading.samples().len() as u64);
        self.metrics.dropped_samples.inc_by(reading.dropped());
        target
    }

    /// A target left the settings: ends its series, and lets no look that is still under way begin them again.
    fn end(&self, entry: &Entry) {
        entry.gone.cancel();
        let mut state = lock(&entry.state);
        state.is_gone = true;
        let ended: Vec<(Labels, f64)> = state.series.drain().map(|series| (series, stale())).collect();
        self.append(next_time(self.clock.now(), state.target.last_at), ended.iter());
    }

    fn append<'a>(&self, now: Timestamp, samples: impl Iterator<Item = &'a (Labels, f64)>) {
        let time = now.as_millis();
        let batch: Vec<Sample<'_>> =
            samples.map(|(series, value)| Sample { series: Key::Labels(series), time, value: SampleValue::Float(*value) }).collect();
        if batch.is_empty() {
            return;
        }
        match self.sink.append(&batch) {
            Ok(report) => {
                let stored = report.stored() + report.duplicates;
                self.metrics.dropped_samples.inc_by((batch.len() as u64).saturating_sub(stored));
            }
            Err(err) => {
                self.metrics.store_errors.inc();
                tracing::warn!(error = %err, "the samples of a probe could not be stored");
            }
        }
    }

    fn tell_kinds(&self, samples: &[(Labels, f64)]) {
        let mut told = lock(&self.told);
        for (series, _) in samples {
            let metric = series.metric_name();
            if told.contains(metric) || told.len() >= TOLD_MAX {
                continue;
            }
            told.insert(metric.to_owned());
            let metadata =
                Metadata { kind: kind_of(metric).to_owned(), help: "Measured by a probe of Paramedic.".to_owned(), unit: String::new() };
            if let Err(err) = self.sink.set_metadata(metric, metadata) {
                tracing::debug!(error = %err, metric, "the kind of a metric could not be stored");
            }
        }
    }
}

/// The time of a look's samples. Two looks within a millisecond would be two values for one time, of which the store refuses
/// the second. A clock that stepped back further than that is believed.
fn next_time(now: Timestamp, last: Option<Timestamp>) -> Timestamp {
    let earliest = last.map_or(now, |last| last.after(Duration::from_millis(1)));
    if earliest.since(now) < Duration::from_secs(1) { now.max(earliest) } else { now }
}

/// Counters by the naming convention, and those that exporters name otherwise.
fn kind_of(metric: &str) -> &'static str {
    const GAUGES: &[&str] = &["pg_stat_database_numbackends"];
    let is_counter = metric.ends_with("_total")
        || matches!(metric, "node_vmstat_oom_kill" | "node_vmstat_pgmajfault")
        || (metric.starts_with("pg_stat_database_") && !GAUGES.contains(&metric));
    if is_counter { "counter" } else { "gauge" }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
