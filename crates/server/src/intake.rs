//! The way of an event: made durable, observed by the fleet and the detectors, then its alerts decided.
//!
//! One task does this for all receivers, in one order, so that the checkpoint can say "everything up to here". The
//! receivers wait for their answer: a sender hears "taken" only when its events are on disk.

use std::sync::{Arc, RwLock};

use paramedic_api::Activity;
use paramedic_collect::sink::{BoxFuture, Sink, SinkError};
use paramedic_detect::Detectors;
use paramedic_fleet::{Fleet, Novelty};
use paramedic_model::{AlertChange, AlertState, Clock, Event, Fact, Timestamp};
use paramedic_respond::Desk;
use paramedic_telemetry::{Offset, Store};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, oneshot};

use crate::alerting::{self, TRIES_MAX};
use crate::metering::Metering;

/// Alert changes that may wait for the end of the back-fill before they are decided early.
const HELD_CHANGES_MAX: usize = 100_000;
/// How far a sender's clock may run ahead of ours.
const FUTURE_MAX: std::time::Duration = std::time::Duration::from_secs(600);
/// A change this recent is news even while history is still being read.
const NEWS_S: u64 = 600;

/// One hand-over from a receiver.
pub struct Delivery {
    pub events: Vec<Event>,
    pub offsets: Vec<Offset>,
    /// The tailer has read all history there was at start.
    pub caught_up: bool,
    /// Told when the events are durable.
    pub reply: Option<oneshot::Sender<Result<(), SinkError>>>,
}

/// What the intake counts.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub events: Counter,
    pub duplicates: Counter,
    pub deliveries: Counter,
    pub store_failures: Counter,
    pub lost: Counter,
    pub future_times: Counter,
    pub journal_failures: Counter,
    pub hooks_dropped: Counter,
    pub hooks_refused: Counter,
    pub hooks: Counter,
    pub queued: Gauge,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("paramedic_intake_events", "Events taken in", self.events.clone());
        registry.register("paramedic_intake_duplicates", "Events that told again what another source had told", self.duplicates.clone());
        registry.register("paramedic_intake_deliveries", "Batches taken in", self.deliveries.clone());
        registry.register(
            "paramedic_intake_store_failures",
            "Batches that could not be stored at the first try",
            self.store_failures.clone(),
        );
        registry.register("paramedic_intake_lost_events", "Events given up after the last try to store them", self.lost.clone());
        registry.register(
            "paramedic_intake_future_times",
            "Events whose time lay in the future and was set to their arrival",
            self.future_times.clone(),
        );
        registry.register(
            "paramedic_intake_journal_failures",
            "Alert batches that the journal refused at the first try",
            self.journal_failures.clone(),
        );
        registry.register("paramedic_intake_hooks", "Hook calls answered", self.hooks.clone());
        registry.register("paramedic_intake_hooks_refused", "Hook calls that were not JSON of a hook", self.hooks_refused.clone());
        registry.register("paramedic_intake_hooks_dropped", "Hook calls dropped because the queue was full", self.hooks_dropped.clone());
        registry.register("paramedic_intake_queued_batches", "Batches waiting", self.queued.clone());
    }
}

/// The receivers' end of the queue.
#[derive(Clone)]
pub struct Intake {
    queue: mpsc::Sender<Delivery>,
    metrics: Metrics,
}

impl Intake {
    #[must_use]
    pub fn new(queue_batches_max: usize, metrics: Metrics) -> (Self, mpsc::Receiver<Delivery>) {
        let (queue, deliveries) = mpsc::channel(queue_batches_max.max(1));
        (Self { queue, metrics }, deliveries)
    }

    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Hands over and does not wait for the disk: for hooks, whose agent waits for our answer. False: the queue is
    /// full and the events are dropped (and counted).
    #[must_use]
    pub fn offer(&self, events: Vec<Event>) -> bool {
        let taken = self.queue.try_send(Delivery { events, offsets: Vec::new(), caught_up: false, reply: None }).is_ok();
        if !taken {
            self.metrics.hooks_dropped.inc();
        }
        taken
    }

    /// Hands over a batch of the tailer; waits while the queue is full.
    pub async fn deliver(&self, delivery: Delivery) -> Result<(), SinkError> {
        self.queue.send(delivery).await.map_err(|_| SinkError::Unavailable("stopping".to_owned()))
    }
}

impl Sink for Intake {
    fn accept(&self, events: Vec<Event>) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.deliver(Delivery { events, offsets: Vec::new(), caught_up: false, reply: Some(reply) }).await?;
            answer.await.unwrap_or_else(|_| Err(SinkError::Unavailable("stopping".to_owned())))
        })
    }
}

/// Tells pages and watchers what changed.
pub trait Announce: Send + Sync {
    fn agents(&self, agents: Vec<paramedic_model::AgentId>);
    fn records(&self, records: &[paramedic_respond::Record]);
}

/// Where one event is judged: everything but the fleet, whose lock is held for a whole batch.
struct Watchers<'a> {
    detectors: &'a mut Detectors,
    metering: &'a mut Metering,
    metrics: &'a Metrics,
    activity: &'a Activity,
    now: Timestamp,
    /// The events were stored before this start.
    replayed: bool,
}

impl Watchers<'_> {
    /// Takes one event into the fleet and, when it is news, into the detectors and the meter. Further news about a model call
    /// go there too: its text and its cost may come with a later line of the same message.
    fn observe(&mut self, fleet: &mut Fleet, event: &Event, changes: &mut Vec<AlertChange>) {
        let novelty = fleet.observe(event);
        match novelty {
            Novelty::New => self.activity.observe(event),
            Novelty::Update => {}
            Novelty::Duplicate => {
                self.metrics.duplicates.inc();
            }
        }
        self.metering.observe(event, novelty, fleet.prices(), self.now, self.replayed);
        watch(self.detectors, novelty, event, fleet.prices(), changes);
    }
}

/// The stages, and the state that the intake task alone changes.
pub struct Pipeline {
    pub store: Store,
    pub fleet: Arc<RwLock<Fleet>>,
    pub detectors: Detectors,
    pub metering: Metering,
    pub desk: Arc<Desk>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
    pub activity: Arc<Activity>,
    pub announce: Arc<dyn Announce>,
    /// Everything up to this seq is in the fleet and the detectors.
    pub seq: u64,
    /// Until the back-fill is over, changes of the past are held so that they can be decided in the order of time.
    pub held: Option<Vec<AlertChange>>,
}

impl Pipeline {
    /// Brings the fleet and the detectors up to the store after a restart. Alerts are decided again; the incidents
    /// know those that were decided before.
    pub async fn catch_up(&mut self) -> anyhow::Result<u64> {
        let store = self.store.clone();
        let mut changes = Vec::new();
        let from = self.seq;
        let mut replayed = 0u64;
        {
            let now = self.clock.now();
            let mut fleet = self.fleet.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            let (detectors, metering, metrics) = (&mut self.detectors, &mut self.metering, &self.metrics);
            let mut watchers = Watchers { detectors, metering, metrics, activity: self.activity.as_ref(), now, replayed: true };
            let last = store.replay(from, &mut |stored| {
                replayed += 1;
                watchers.observe(&mut fleet, &stored.event, &mut changes);
            })?;
            self.seq = self.seq.max(last);
        }
        self.decide(changes).await;
        Ok(replayed)
    }

    /// Takes deliveries all the way: on disk first, then into the fleet and the detectors, in the same order. Those that
    /// came together share a commit.
    pub async fn take(&mut self, deliveries: Vec<Delivery>) {
        let mut stored = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let Delivery { mut events, offsets, caught_up, reply } = delivery;
            self.metrics.deliveries.inc();
            self.metrics.events.inc_by(events.len() as u64);
            self.pull_back_future(&mut events);
            let events = Arc::new(events);
            let append = append(self.store.clone(), self.metrics.clone(), events.clone(), offsets, reply.is_some());
            stored.push(async move { (append.await, events, caught_up, reply) });
        }
        for (outcome, events, caught_up, reply) in futures_util::future::join_all(stored).await {
            if let Ok(seqs) = &outcome {
                self.seq = seqs.as_ref().map_or(self.seq, |seqs| self.seq.max(*seqs.end()));
            }
            let refused = outcome.is_err() && reply.is_some();
            if let Some(reply) = reply {
                let _ = reply.send(outcome.map(|_| ()));
            }
            // A sender that was told to come back tells it again; what the tailer had to give up is at least judged.
            if !refused {
                self.observe_all(&events).await;
            }
            if caught_up {
                self.release_held().await;
            }
        }
    }

    async fn observe_all(&mut self, events: &[Event]) {
        let mut changes = Vec::new();
        let mut touched = Vec::new();
        {
            let now = self.clock.now();
            let mut fleet = self.fleet.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            let (detectors, metering, metrics) = (&mut self.detectors, &mut self.metering, &self.metrics);
            let mut watchers = Watchers { detectors, metering, metrics, activity: self.activity.as_ref(), now, replayed: false };
            for event in events {
                watchers.observe(&mut fleet, event, &mut changes);
                if let Some(agent) = &event.agent
                    && touched.last() != Some(agent)
                {
                    touched.push(agent.clone());
                }
            }
        }
        self.decide(changes).await;
        self.announce.agents(touched);
    }

    /// A clock that runs ahead would pin its agent's time: such an event happened when it came.
    fn pull_back_future(&self, events: &mut [Event]) {
        let now = self.clock.now();
        let latest = now.after(FUTURE_MAX);
        for event in events.iter_mut().filter(|event| event.at > latest) {
            self.metrics.future_times.inc();
            event.attributes.insert("paramedic.told_at".to_owned(), event.at.to_string().into());
            event.at = now;
        }
    }

    async fn decide(&mut self, changes: Vec<AlertChange>) {
        let now = self.clock.now();
        let mut news = Vec::new();
        match &mut self.held {
            Some(held) if held.len() + changes.len() < HELD_CHANGES_MAX => {
                for change in changes {
                    if now.since(change.at).as_secs() < NEWS_S { news.push(change) } else { held.push(change) }
                }
            }
            _ => news = changes,
        }
        self.apply(news, now).await;
    }

    async fn release_held(&mut self) {
        let Some(mut held) = self.held.take() else { return };
        let now = self.clock.now();
        self.detectors.end_history(now, &mut held);
        held.sort_by(|a, b| (a.at, a.started_at, &a.fingerprint).cmp(&(b.at, b.started_at, &b.fingerprint)));
        self.apply(held, now).await;
    }

    /// Lets the detectors' and the fleet's timers run.
    pub async fn tick(&mut self, now: Timestamp) {
        let mut changes = Vec::new();
        self.detectors.tick(now, &mut changes);
        {
            let mut fleet = self.fleet.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            fleet.tick(now);
        }
        // Reading every agent is not a reason to keep pages waiting.
        self.metering.tick(&self.fleet.read().unwrap_or_else(std::sync::PoisonError::into_inner), now);
        self.decide(changes).await;
        if self.held.is_none() {
            match self.desk.tick(now).await {
                Ok(records) => self.announce.records(&records),
                Err(error) => tracing::error!(%error, "quiet incidents could not be resolved"),
            }
        }
    }

    async fn apply(&mut self, changes: Vec<AlertChange>, now: Timestamp) {
        if changes.is_empty() {
            return;
        }
        self.mark_stuck(&changes);
        self.metering.alerts(&changes, now);
        alerting::write(&self.desk, self.announce.as_ref(), &self.metrics, &changes, now).await;
    }

    fn mark_stuck(&self, changes: &[AlertChange]) {
        let mut fleet = self.fleet.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        for change in changes.iter().filter(|change| change.cause.starts_with("stuck:") && change.severity.is_some()) {
            let reason = (change.state == AlertState::Firing).then_some(change.reason.as_str());
            if let Some(agent) = &change.agent {
                fleet.set_stuck(agent, reason);
            }
        }
    }
}

/// Makes events durable. A sender that waits is told about a failure and sends again; the tailer's events are tried
/// again until they are written, because nobody else has them.
async fn append(
    store: Store,
    metrics: Metrics,
    events: Arc<Vec<Event>>,
    offsets: Vec<Offset>,
    sender_waits: bool,
) -> Result<Option<std::ops::RangeInclusive<u64>>, SinkError> {
    if events.is_empty() && offsets.is_empty() {
        return Ok(None);
    }
    let tries_max = if sender_waits { 1 } else { TRIES_MAX };
    let mut wait = std::time::Duration::from_millis(250);
    for tries in 1.. {
        match store.append(events.clone(), offsets.clone()).await {
            Ok(seqs) => return Ok(seqs),
            Err(error) => {
                metrics.store_failures.inc();
                tracing::error!(%error, tries, events = events.len(), "events could not be stored");
                if tries >= tries_max {
                    metrics.lost.inc_by(if sender_waits { 0 } else { events.len() as u64 });
                    return Err(SinkError::Unavailable(error.to_string()));
                }
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(std::time::Duration::from_secs(5));
    }
    Ok(None)
}

/// Hands news to the detectors.
pub(crate) fn watch(
    detectors: &mut Detectors,
    novelty: Novelty,
    event: &Event,
    prices: &paramedic_fleet::Prices,
    changes: &mut Vec<AlertChange>,
) {
    let is_news = match novelty {
        Novelty::New => true,
        Novelty::Update => matches!(event.fact, Fact::ModelCall { .. }),
        Novelty::Duplicate => false,
    };
    if !is_news {
        return;
    }
    match priced(event, prices) {
        Some(priced) => detectors.observe(&priced, changes),
        None => detectors.observe(event, changes),
    }
}

/// The same model call with its cost by our prices, where its source told none: detectors know no prices.
fn priced(event: &Event, prices: &paramedic_fleet::Prices) -> Option<Event> {
    let Fact::ModelCall { model: Some(model), usage, cost_usd: None, .. } = &event.fact else { return None };
    let cost = prices.cost(model, usage)?;
    let mut event = event.clone();
    if let Fact::ModelCall { cost_usd, .. } = &mut event.fact {
        *cost_usd = Some(cost);
    }
    Some(event)
}
