//! Everything around samples: the store, those who fill it, those who ask it, and the rules between them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use paramedic_api::Instruments;
use paramedic_api::instruments::{RemoteEnd, TargetList, Work};
use paramedic_api::query::{LocalQuery, Query};
use paramedic_collect::scrape::Scraper;
use paramedic_model::{AlertChange, Clock, Target};
use paramedic_probe::Prober;
use paramedic_promql::Engine;
use paramedic_remote::send::Sender;
use paramedic_remote::{ExternalEngine, Forwarder, Headers, QuerySettings, Queue, ReadSettings, Receiver, read};
use paramedic_rules::{AlertSink, LocalSource, QuerySource, Rules};
use paramedic_samples::{SampleSink, Samples};
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::clockwork::Clockwork;
use crate::external::{ExternalQuery, ExternalSource};
use crate::own_samples::{OWN_JOB, OwnSamples};
use crate::settings::Settings;

/// The samples' folder inside the data folder.
pub const SAMPLES_DIR: &str = "samples";
/// The folder of samples that wait for an external store.
const SPOOL_DIR: &str = "forward";

/// The stages of samples, opened and not yet running.
pub(crate) struct Measuring {
    pub(crate) samples: Samples,
    /// Where everything puts its samples: the store, and the queue to an external one.
    pub(crate) sink: Arc<dyn SampleSink>,
    engine: Arc<Engine>,
    /// The engine of `samples.url`, where there is one.
    external: Option<ExternalEngine>,
    scraper: Scraper,
    prober: Prober,
    sender: Mutex<Option<Sender>>,
    pub(crate) rules: Rules,
    receiver: Arc<Receiver>,
    remote: paramedic_remote::Metrics,
    own: OwnSamples,
}

/// Metrics that stand on `/metrics` and among the instance's own samples.
pub(crate) struct Registries {
    /// What `/metrics` shows.
    pub(crate) shown: Registry,
    /// What becomes samples by itself: all but those that are samples already.
    pub(crate) own: Registry,
}

impl Registries {
    pub(crate) fn new() -> Self {
        Self { shown: Registry::default(), own: Registry::default() }
    }

    pub(crate) fn add(&mut self, register: impl Fn(&mut Registry)) {
        register(&mut self.shown);
        register(&mut self.own);
    }
}

impl Measuring {
    pub(crate) fn open(
        settings: &Settings,
        data_dir: &Path,
        clock: Arc<dyn Clock>,
        alerts: Arc<dyn AlertSink>,
        registries: &mut Registries,
    ) -> Result<Self> {
        let samples = Samples::open(&data_dir.join(SAMPLES_DIR), settings.samples.clone(), clock.clone())
            .map_err(|error| anyhow::anyhow!("failed to {error}"))?;
        let remote = paramedic_remote::Metrics::default();
        let mut sink: Arc<dyn SampleSink> = Arc::new(samples.clone());
        let (mut tap, mut sender): (Option<Arc<dyn SampleSink>>, Option<Sender>) = (None, None);
        if !settings.samples.url.is_empty() {
            let (queue, loop_) = Queue::open(settings.forwarding(), &data_dir.join(SPOOL_DIR), None, remote.forward.clone())
                .map_err(|error| anyhow::anyhow!("failed to {error}"))?;
            sink = Arc::new(Forwarder::new(sink, queue.clone()));
            tap = Some(Arc::new(queue) as Arc<dyn SampleSink>);
            sender = Some(loop_);
        }
        let receiver = Receiver::new(settings.remote_write.clone(), Arc::new(samples.clone()), tap, remote.receive.clone());
        let scraper = Scraper::new(settings.scraping().map_err(|error| anyhow::anyhow!("failed to {error}"))?, sink.clone(), clock.clone())
            .map_err(|error| anyhow::anyhow!("failed to {error}"))?;
        let prober = Prober::new(&probes(settings), sink.clone(), clock.clone()).map_err(|error| anyhow::anyhow!("failed to {error}"))?;
        let engine = Engine::new(settings.query.options());
        let external = external(settings, &remote)?;
        let source: Arc<dyn QuerySource> = match &external {
            Some(external) => Arc::new(ExternalSource(external.clone())),
            None => Arc::new(LocalSource::new(rule_engine(settings), Arc::new(samples.clone()))),
        };
        let rules = Rules::new(settings.rules.clone(), source, sink.clone(), alerts, clock.clone());
        registries.add(|registry| {
            rules.metrics().register(registry);
            samples.metrics().register(registry);
            remote.register(registry);
            scraper.metrics().register(registry);
            prober.metrics().register(registry);
        });
        let own = OwnSamples::new(sink.clone(), clock, Duration::from_secs(settings.meter.interval_s.max(1)));
        Ok(Self {
            engine: Arc::new(engine),
            external,
            rules,
            samples,
            sink,
            scraper,
            prober,
            sender: Mutex::new(sender),
            receiver: Arc::new(receiver),
            remote,
            own,
        })
    }

    /// The handles that the faces work with.
    pub(crate) fn instruments(&self, settings: &Settings, queries: paramedic_api::metrics::QueryMetrics) -> Instruments {
        let (scraper, prober, own) = (self.scraper.clone(), self.prober.clone(), self.own.clone());
        let query: Arc<dyn Query> = match &self.external {
            Some(engine) => Arc::new(ExternalQuery { engine: engine.clone(), lookback: Duration::from_secs(settings.query.lookback_s) }),
            None => Arc::new(LocalQuery::new(self.engine.clone(), self.samples.clone(), settings.query.concurrency_max, queries)),
        };
        Instruments {
            query: Some(query),
            samples: Some(self.samples.clone()),
            rules: Some(Arc::new(self.rules.clone())),
            targets: vec![
                target_list(move || own.targets()),
                target_list(move || scraper.targets()),
                target_list(move || prober.targets()),
            ],
            remote_write: Some(Arc::new(WriteEnd(self.receiver.clone()))),
            remote_read: Some(Arc::new(ReadEnd {
                samples: self.samples.clone(),
                metrics: self.remote.query.clone(),
                turns: Arc::new(Semaphore::new(settings.remote_read.requests_max.max(1))),
                settings: settings.remote_read.clone(),
            })),
            settings: settings.shown(),
            flags: flags(settings),
            ..Instruments::default()
        }
    }

    /// Loads the rules, and takes up what fired before the start. Problems are said; what is good is loaded.
    pub(crate) async fn load_rules(&self, firing: Vec<AlertChange>) {
        let loaded = self.rules.load().await;
        for problem in loaded.problems.iter().filter(|problem| problem.is_error()) {
            tracing::error!(%problem, "a rule file is not used as it is");
        }
        tracing::info!(files = loaded.files, groups = loaded.groups, rules = loaded.rules, "rules loaded");
        self.rules.restore(firing).await;
    }

    /// Takes new scrapes and probes, and reads the rule files anew. What could not be taken is said; the rest is in use.
    pub(crate) async fn reload(&self, settings: &Settings) -> Vec<String> {
        let mut problems = Vec::new();
        match settings.scraping() {
            Ok(scrape) => problems.extend(self.scraper.reload(scrape).err().map(|error| format!("failed to {error}"))),
            Err(error) => problems.push(format!("failed to {error}")),
        }
        problems.extend(self.prober.reload(&probes(settings)).err().map(|error| format!("failed to {error}")));
        self.rules.set_settings(settings.rules.clone());
        let loaded = self.rules.load().await;
        problems.extend(loaded.problems.iter().filter(|problem| problem.is_error()).map(ToString::to_string));
        problems
    }

    /// Starts everything that fills the store, and the rules.
    pub(crate) fn start(&self, clockwork: &Clockwork, own: Registry, instance: String, stop: &CancellationToken) {
        let (scraper, cancel) = (self.scraper.clone(), stop.clone());
        clockwork.start("scrape", async move { scraper.run(cancel).await });
        clockwork.start("probes", self.prober.clone().run(stop.clone()));
        if let Some(sender) = self.sender.lock().unwrap_or_else(PoisonError::into_inner).take() {
            clockwork.start("forwarding", sender.run(stop.clone()));
        }
        clockwork.start("rules", self.rules.clone().run(stop.clone()));
        clockwork.start("own samples", self.own.clone().run(own, instance, stop.clone()));
    }
}

fn external(settings: &Settings, metrics: &paramedic_remote::Metrics) -> Result<Option<ExternalEngine>> {
    if settings.samples.url.is_empty() {
        return Ok(None);
    }
    let mut store = settings.forward.store.clone();
    store.url.clone_from(&settings.samples.url);
    let query = QuerySettings { store, timeout_s: settings.query.timeout_s, ..QuerySettings::default() };
    let engine = ExternalEngine::new(&query, metrics.query.clone()).map_err(|error| anyhow::anyhow!("failed to {error}"))?;
    Ok(Some(engine))
}

/// What is probed: with the machine, this process too.
fn probes(settings: &Settings) -> paramedic_probe::Settings {
    let mut probe = settings.probe.clone();
    if probe.host {
        let own = paramedic_probe::config::ProcessSettings {
            name: Some(OWN_JOB.to_owned()),
            pid: Some(std::process::id()),
            ..Default::default()
        };
        probe.process.push(own);
    }
    probe
}

/// The engine of rules, whose questions may take as long as the settings of rules say.
fn rule_engine(settings: &Settings) -> Engine {
    let timeout = Duration::from_secs(settings.rules.query_timeout_s.max(1));
    Engine::new(paramedic_promql::Options { timeout, ..settings.query.options() })
}

/// Limits in use under Prometheus's names, where it has one.
fn flags(settings: &Settings) -> BTreeMap<String, String> {
    let retention = settings.samples.retention_h;
    let all = [
        ("query.timeout", format!("{}s", settings.query.timeout_s)),
        ("query.max-concurrency", settings.query.concurrency_max.to_string()),
        ("query.max-samples", settings.query.samples_max.to_string()),
        ("query.lookback-delta", format!("{}s", settings.query.lookback_s)),
        ("storage.tsdb.retention.time", format!("{retention}h")),
        ("storage.tsdb.retention.size", format!("{}B", settings.samples.bytes_max)),
        ("web.enable-remote-write-receiver", "true".to_owned()),
        ("web.enable-lifecycle", "true".to_owned()),
        ("rules.max-concurrent-evals", settings.rules.concurrent_groups_max.to_string()),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn target_list(list: impl Fn() -> Vec<Target> + Send + Sync + 'static) -> Arc<dyn TargetList> {
    Arc::new(list)
}

/// `POST /api/v1/write`.
struct WriteEnd(Arc<Receiver>);

impl RemoteEnd for WriteEnd {
    fn handle(&self, headers: HeaderMap, body: Bytes) -> Work<'_, Response<Body>> {
        let receiver = self.0.clone();
        Box::pin(async move {
            let work = move || {
                let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
                let named = Headers { content_type: text("content-type"), content_encoding: text("content-encoding") };
                let answer = receiver.handle(named, &body);
                response(answer.status, answer.headers, answer.body.into())
            };
            off_thread(work).await
        })
    }
}

/// `POST /api/v1/read`.
struct ReadEnd {
    samples: Samples,
    metrics: paramedic_remote::metrics::QueryMetrics,
    settings: ReadSettings,
    /// An answer may be large: only so many are made at a time.
    turns: Arc<Semaphore>,
}

impl RemoteEnd for ReadEnd {
    fn handle(&self, _: HeaderMap, body: Bytes) -> Work<'_, Response<Body>> {
        let (samples, metrics, settings) = (self.samples.clone(), self.metrics.clone(), self.settings.clone());
        Box::pin(async move {
            let turn = self.turns.clone().acquire_owned().await;
            let work = move || {
                // Held until the answer is made, also when nobody waits for it any more.
                let _turn = turn;
                let (answer, bytes) = read::answer(&body, &samples, &settings, &metrics);
                let body = if bytes.is_empty() { answer.body.into() } else { bytes };
                response(answer.status, answer.headers, body)
            };
            off_thread(work).await
        })
    }
}

/// Decoding and appending keep a processor busy for milliseconds: not on the threads that serve everybody.
async fn off_thread(work: impl FnOnce() -> Response<Body> + Send + 'static) -> Response<Body> {
    match tokio::task::spawn_blocking(work).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(%error, "a remote request was given up");
            response(500, Vec::new(), Vec::new())
        }
    }
}

fn response(status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
