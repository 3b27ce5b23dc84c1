//! One running Paramedic: build, start, reload, drain.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context as _, Result};
use paramedic_api::health::Check;
use paramedic_api::instruments::{Reload, Work};
use paramedic_api::{About, Activity, Context, DetectorLine, Health, Live, Phase};
use paramedic_collect::{liveness, log_tail, otlp, tail};
use paramedic_detect::Detectors;
use paramedic_fleet::{Fleet, Prices};
use paramedic_journal::{Journal, SqliteJournal};
use paramedic_model::{Clock, Event, Timestamp};
use paramedic_respond::Desk;
use paramedic_telemetry::{Offset, Store};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::alerting::RuleAlerts;
use crate::announcer::Announcer;
use crate::checkpoint::Checkpoint;
use crate::clockwork::Clockwork;
use crate::connect;
use crate::gateway::{self, GatewayRoom};
use crate::handover;
use crate::instance::{Instance, Ports, SOCKET_FILE};
use crate::intake::{Delivery, Intake, Metrics, Pipeline};
use crate::measuring::{Measuring, Registries};
use crate::metering::Metering;
use crate::receivers;
use crate::responding::{Around, Responding};
use crate::settings::Settings;

/// The journal's file inside the data folder.
pub const JOURNAL_FILE: &str = "journal.sqlite";
/// The events' folder inside the data folder.
pub const EVENTS_DIR: &str = "events";

/// How often timers run.
const TICK: Duration = Duration::from_secs(1);
/// How often retention is enforced and the checks are made.
const HOUSEKEEPING: Duration = Duration::from_secs(30);
/// How often watchers are told which agents changed.
const ANNOUNCE: Duration = Duration::from_millis(200);
/// Deliveries that share a commit.
const GROUP_DELIVERIES_MAX: usize = 8;
/// Batches of the tailer that may wait.
const TAIL_BATCHES_MAX: usize = 4;

/// Somebody asks for the settings to be read anew, and waits for what came of it.
pub type ReloadRequest = oneshot::Sender<Result<(), String>>;

/// What came of taking new settings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reloaded {
    /// Sections whose changes take effect at the next start.
    pub needs_restart: Vec<&'static str>,
    /// What could not be taken; the rest was.
    pub problems: Vec<String>,
}

/// How much longer than its deadlines the instance before may take to end.
const SUCCESSION: Duration = Duration::from_secs(30);

/// Requests to read the settings anew that may wait.
const RELOADS_MAX: usize = 4;

/// `POST /-/reload`.
struct Reloader(mpsc::Sender<ReloadRequest>);

impl Reload for Reloader {
    fn reload(&self) -> Work<'_, Result<(), String>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let unable = || "this instance cannot read its settings anew".to_owned();
            self.0.send(reply).await.map_err(|_| unable())?;
            answer.await.unwrap_or_else(|_| Err(unable()))
        })
    }
}

/// A running instance. Dropping it without [`App::drain`] is a crash, and must be as safe as one.
pub struct App {
    context: Arc<Context>,
    settings: Settings,
    ports: Ports,
    data_dir: PathBuf,
    intake: Intake,
    clockwork: Arc<Clockwork>,
    /// Stops what takes signals in.
    receiving: CancellationToken,
    /// The gateway's calls are over.
    gateway_done: CancellationToken,
    /// Stops what serves people.
    serving: CancellationToken,
    reload: mpsc::Sender<Settings>,
    reload_requests: Mutex<Option<mpsc::Receiver<ReloadRequest>>>,
    measuring: Measuring,
    responding: Responding,
    gateway: Option<GatewayRoom>,
    /// Kept for a successor.
    listener: Option<std::net::TcpListener>,
    _instance: Instance,
}

/// The built-in prices, or the file named in the settings.
pub fn prices(settings: &Settings) -> Result<Prices> {
    if settings.claude.prices.is_empty() {
        return Ok(Prices::embedded());
    }
    let file = &settings.claude.prices;
    let text = std::fs::read_to_string(file).with_context(|| format!("failed to read the prices {file}"))?;
    Prices::from_toml(&text).with_context(|| format!("failed to read the prices {file}"))
}

/// The detectors as the API shows them.
pub(crate) fn detector_lines() -> Vec<DetectorLine> {
    paramedic_detect::CATALOGUE
        .iter()
        .map(|detector| DetectorLine {
            name: detector.name.to_owned(),
            title: detector.title.to_owned(),
            what: detector.what.to_owned(),
            warns_at: detector.warns_at.to_owned(),
            incident_type: detector.incident_type.to_string(),
        })
        .collect()
}

/// What the last checkpoint gives.
pub(crate) struct Restored {
    pub(crate) fleet: Fleet,
    pub(crate) detectors: Detectors,
    /// The meter's state; empty for a fresh one.
    pub(crate) meter: Vec<u8>,
    /// The event they stand at.
    pub(crate) seq: u64,
}

/// The fleet, the detectors and the meter's state of the last checkpoint; fresh ones when there is none that can be read.
pub(crate) fn fleet_from_checkpoint(dir: &Path, settings: &Settings) -> Result<Restored> {
    let prices = prices(settings)?;
    let detect = settings.detect.clone();
    if let Some(checkpoint) = Checkpoint::load(dir) {
        let fleet = Fleet::load(&checkpoint.fleet, prices.clone(), settings.fleet);
        let detectors = Detectors::load(&checkpoint.detectors, detect.clone());
        match (fleet, detectors) {
            (Ok(fleet), Ok(detectors)) => return Ok(Restored { fleet, detectors, meter: checkpoint.meter, seq: checkpoint.seq }),
            (Err(error), _) => tracing::warn!(%error, "the checkpoint cannot be used; all events are read again"),
            (_, Err(error)) => tracing::warn!(%error, "the checkpoint cannot be used; all events are read again"),
        }
    }
    Ok(Restored { fleet: Fleet::new(prices, settings.fleet), detectors: Detectors::new(detect), meter: Vec::new(), seq: 0 })
}

/// A stream takes two descriptors, and the usual limit of a shell is far below what the system allows.
pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of open files could not be raised");
        }
    }
}

/// The data folder, for this process alone. A successor waits until the one before it has ended its calls.
async fn acquire(data_dir: &Path, settings: &Settings) -> Result<Instance> {
    let patience = Duration::from_secs(settings.gateway.drain_s.saturating_add(settings.intake.drain_s)) + SUCCESSION;
    let until = tokio::time::Instant::now() + patience;
    if handover::follows() {
        GatewayRoom::check(&settings.gateway)?;
        handover::inherited()?;
        handover::ready();
    }
    loop {
        match Instance::acquire(data_dir) {
            Err(_) if handover::follows() && tokio::time::Instant::now() < until => tokio::time::sleep(Duration::from_millis(20)).await,
            acquired => return acquired.map_err(|error| anyhow::anyhow!("failed to {error}")),
        }
    }
}

/// Sockets that are bound before anything else is opened, so that a taken port is said at once.
struct Sockets {
    http: Option<TcpListener>,
    otlp_grpc: Option<TcpListener>,
    otlp_http: Option<TcpListener>,
    gateway: Option<std::net::TcpListener>,
}

impl Sockets {
    async fn bind(settings: &Settings) -> Result<Self> {
        Ok(Self {
            http: bind(settings, "http", "--http").await?,
            otlp_grpc: bind(settings, "otlp_grpc", "--otlp-grpc").await?,
            otlp_http: bind(settings, "otlp_http", "--otlp-http").await?,
            gateway: bind_gateway(settings).await?,
        })
    }

    fn ports(&self) -> Ports {
        let of = |listener: &Option<TcpListener>| listener.as_ref().and_then(|listener| listener.local_addr().ok());
        Ports {
            pid: std::process::id(),
            http: of(&self.http),
            otlp_grpc: of(&self.otlp_grpc),
            otlp_http: of(&self.otlp_http),
            gateway: self.gateway.as_ref().and_then(|listener| listener.local_addr().ok()),
        }
    }
}

/// The gateway's listener: the one that was inherited, else a new one.
pub async fn bind_gateway(settings: &Settings) -> Result<Option<std::net::TcpListener>> {
    if settings.listen.gateway.is_empty() {
        return Ok(None);
    }
    if let Some(inherited) = handover::inherited()? {
        return Ok(Some(inherited));
    }
    Ok(bind(settings, "gateway", "--gateway").await?.map(TcpListener::into_std).transpose()?)
}

async fn bind(settings: &Settings, key: &'static str, option: &str) -> Result<Option<TcpListener>> {
    let Some(address) = settings.listen.address(key).map_err(|error| anyhow::anyhow!("failed to {error}"))? else { return Ok(None) };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            anyhow::bail!(
                "failed to listen on {address}: another program uses it; choose another address with {option} ADDR, or {option} \"\" to switch it off"
            )
        }
        Err(error) => Err(error).with_context(|| format!("failed to listen on {address} ({option})")),
    }
}

impl App {
    /// Opens everything, starts all tasks and returns when the instance answers.
    pub async fn start(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self> {
        let data_dir = settings.data_dir().map_err(|error| anyhow::anyhow!("failed to {error}"))?;
        let instance = acquire(&data_dir, &settings).await?;
        raise_descriptor_limit();
        let sockets = Sockets::bind(&settings).await?;
        let ports = sockets.ports();
        let mut registries = Registries::new();
        let journal: Arc<dyn Journal> = {
            let journal = SqliteJournal::open(&data_dir.join(JOURNAL_FILE)).map_err(|error| anyhow::anyhow!("failed to {error}"))?;
            registries.add(|registry| journal.metrics().register(registry));
            Arc::new(journal)
        };
        let store = Store::open(&data_dir.join(EVENTS_DIR), settings.telemetry.clone(), clock.clone())
            .map_err(|error| anyhow::anyhow!("failed to {error}"))?;
        registries.add(|registry| store.metrics().register(registry));
        let desk_metrics = paramedic_respond::metrics::Metrics::default();
        registries.add(|registry| desk_metrics.register(registry));
        let desk = Arc::new(Desk::open(journal.clone(), settings.incidents.clone(), desk_metrics).await?);
        let (live, _) = broadcast::channel(paramedic_api::context::LIVE_QUEUE_LEN);
        let intake_metrics = Metrics::default();
        let restored = fleet_from_checkpoint(&data_dir, &settings)?;
        let (fleet, detectors, seq) = (Arc::new(RwLock::new(restored.fleet)), restored.detectors, restored.seq);
        let announcer = Arc::new(Announcer {
            live: live.clone(),
            agents: Mutex::default(),
            incidents: Mutex::default(),
            fleet: fleet.clone(),
            desk: desk.clone(),
        });
        let rule_alerts =
            RuleAlerts { desk: desk.clone(), announce: announcer.clone(), metrics: intake_metrics.clone(), clock: clock.clone() };
        let measuring = Measuring::open(&settings, &data_dir, clock.clone(), Arc::new(rule_alerts), &mut registries)?;
        let metering = Metering::new(&restored.meter, settings.meter.clone(), measuring.sink.clone());
        let (intake, deliveries) = Intake::new(settings.intake.queue_batches_max, intake_metrics.clone());
        let sink = measuring.sink.clone();
        let receiver = Arc::new(otlp::Receiver::with_samples(Arc::new(intake.clone()), sink, clock.clone(), settings.otlp.clone()));
        let tail_metrics = paramedic_collect::metrics::TailMetrics::default();
        let log_metrics = paramedic_collect::metrics::LogMetrics::default();
        let api_metrics = paramedic_api::metrics::Metrics::default();
        registries.add(|registry| {
            fleet.read().unwrap_or_else(PoisonError::into_inner).metrics().register(registry);
            detectors.metrics().register(registry);
            intake_metrics.register(registry);
            receiver.metrics().register(registry);
            tail_metrics.register(registry);
            log_metrics.register(registry);
            api_metrics.register(registry);
            metering.meter().metrics().register(registry);
        });
        registries.shown.register_collector(Box::new(metering.meter().exposition()));
        let (reload_asked, reload_requests) = mpsc::channel(RELOADS_MAX);
        let mut instruments = measuring.instruments(&settings, api_metrics.queries.clone());
        instruments.reload = Some(Arc::new(Reloader(reload_asked)));
        let around = Around {
            settings: &settings,
            data_dir: &data_dir,
            journal: journal.clone(),
            desk: desk.clone(),
            fleet: fleet.clone(),
            store: store.clone(),
            query: instruments.query.clone(),
            live: live.clone(),
            intake: intake.clone(),
            clock: clock.clone(),
        };
        let responding = Responding::open(around, &mut registries).await?;
        let gateway = match sockets.gateway.is_some() {
            true => Some(GatewayRoom::open(settings.gateway.clone(), prices(&settings)?, Some(&data_dir), clock.clone())?),
            false => None,
        };
        let gateway_events = gateway.as_ref().and_then(|room| gateway::events_of(&room.gateway));
        if let Some(room) = &gateway {
            registries.add(|registry| room.register(registry));
        }
        let activity = Arc::new(Activity::default());
        let context = Arc::new(Context {
            journal,
            store: store.clone(),
            fleet: fleet.clone(),
            desk: desk.clone(),
            clock: clock.clone(),
            live: live.clone(),
            health: Arc::new(Health::default()),
            activity: activity.clone(),
            registry: Arc::new(registries.shown),
            metrics: api_metrics,
            detectors: detector_lines(),
            about: About { host_names: settings.listen.host_names.clone(), ..about(&ports, &data_dir, clock.now()) },
            instruments,
            responding: Some(responding.handles.clone()),
            gateway: gateway.as_ref().map(|room| room.gateway.clone()),
        });
        let (reload, reloads) = mpsc::channel(1);
        let app = Self {
            context: context.clone(),
            settings: settings.clone(),
            ports: ports.clone(),
            data_dir: data_dir.clone(),
            intake,
            clockwork: Arc::new(Clockwork::default()),
            receiving: CancellationToken::new(),
            gateway_done: CancellationToken::new(),
            serving: CancellationToken::new(),
            reload,
            reload_requests: Mutex::new(Some(reload_requests)),
            measuring,
            responding,
            gateway,
            listener: sockets.gateway.as_ref().map(std::net::TcpListener::try_clone).transpose()?,
            _instance: instance,
        };
        let watched = settings.claude_dirs();
        let pipeline = Pipeline {
            store,
            fleet,
            detectors,
            metering,
            desk,
            clock: clock.clone(),
            metrics: intake_metrics,
            activity,
            announce: announcer.clone(),
            seq,
            held: (!watched.is_empty()).then(Vec::new),
        };
        app.start_serving(sockets.http)?;
        app.start_intake(pipeline, deliveries, reloads);
        app.start_announcer(announcer);
        app.start_otlp(&receiver, sockets.otlp_grpc, sockets.otlp_http);
        app.start_watching(&watched, &tail_metrics)?;
        app.start_following_logs(&log_metrics)?;
        // Told apart from the loading: rules end alerts, for which the desk must not be held.
        let firing = app.context.desk.incidents().await.firing_rules();
        app.measuring.load_rules(firing).await;
        app.measuring.start(&app.clockwork, registries.own, instance_name(&ports), &app.receiving);
        app.responding.start(&app.clockwork, &app.receiving).await?;
        app.start_gateway(sockets.gateway, gateway_events).await?;
        app.start_housekeeping();
        app._instance.publish(&ports).map_err(|error| anyhow::anyhow!("failed to {error}"))?;
        Ok(app)
    }

    #[must_use]
    pub const fn ports(&self) -> &Ports {
        &self.ports
    }

    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    #[must_use]
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    #[must_use]
    pub const fn intake(&self) -> &Intake {
        &self.intake
    }

    /// Requests of the API to read the settings anew, for whoever knows where they are; once.
    pub fn reload_requests(&self) -> Option<mpsc::Receiver<ReloadRequest>> {
        self.reload_requests.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Takes new settings of detectors, the meter, scrapes and probes, and reads the rule files anew.
    pub async fn reload(&self, settings: Settings) -> Reloaded {
        let mut problems = self.measuring.reload(&settings).await;
        problems.extend(self.responding.reload(&settings).await);
        let gateway = self.gateway.as_ref().map_or_else(|| Ok(Vec::new()), |room| room.reload(settings.gateway.clone()));
        let gateways = gateway.unwrap_or_else(|error| {
            problems.push(error.to_string());
            Vec::new()
        });
        let old = &self.settings;
        let needs_restart = [
            ("data", settings.data != old.data),
            ("listen", settings.listen != old.listen),
            ("claude", settings.claude != old.claude),
            ("tail", settings.tail != old.tail),
            ("logs", settings.logs != old.logs),
            ("otlp", settings.otlp != old.otlp),
            ("telemetry", settings.telemetry != old.telemetry),
            ("fleet", settings.fleet != old.fleet),
            ("incidents", settings.incidents != old.incidents),
            ("intake", settings.intake != old.intake),
            ("samples", settings.samples != old.samples),
            ("query", settings.query != old.query),
            ("remote_write", settings.remote_write != old.remote_write),
            ("remote_read", settings.remote_read != old.remote_read),
            ("forward", settings.forward != old.forward),
            ("runbook", !settings.runbook.is_taken_after(&old.runbook)),
            ("action", settings.action != old.action),
        ];
        let needs_restart = needs_restart.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).chain(gateways).collect();
        let _ = self.reload.send(settings).await;
        Reloaded { needs_restart, problems }
    }

    /// Stops: tells live clients, takes nothing more in, finishes what is under way, and saves. At most the
    /// settings' deadline, then what is left is cut; nothing acknowledged is lost either way.
    pub async fn drain(self) {
        self.context.health.set_phase(Phase::Draining);
        let _ = self.context.live.send(Live::Shutdown { message: "paramedic is stopping".to_owned() });
        if let Some(room) = &self.gateway {
            room.drain().await;
        }
        self.gateway_done.cancel();
        // What the last calls told is handed over before the intake closes.
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.receiving.cancel();
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.serving.cancel();
        let cut = self.clockwork.drain(Duration::from_secs(self.settings.intake.drain_s)).await;
        if !cut.is_empty() {
            tracing::warn!(?cut, "cut off at the deadline");
        }
        self.responding.drain(Duration::from_secs(self.settings.intake.drain_s)).await;
        if let Err(error) = self.context.desk.save_snapshot().await {
            tracing::warn!(%error, "the incidents' snapshot could not be saved");
        }
    }

    fn start_serving(&self, http: Option<TcpListener>) -> Result<()> {
        let routes = paramedic_ui::router(self.context.clone())
            .merge(paramedic_api::router(self.context.clone()))
            .merge(paramedic_api::guard::protect(receivers::router(self.intake.clone(), self.context.clock.clone()), self.context.clone()));
        if let Some(listener) = http {
            let (routes, stop) = (routes.clone(), self.serving.clone());
            self.clockwork.start("http", async move {
                if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await {
                    tracing::error!(%error, "the pages are not served any more");
                }
            });
        }
        let socket = self.data_dir.join(SOCKET_FILE);
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).with_context(|| format!("failed to listen on {}", socket.display()))?;
        let stop = self.serving.clone();
        self.clockwork.start("local socket", async move {
            if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await {
                tracing::error!(%error, "the local socket is not served any more");
            }
        });
        Ok(())
    }

    fn start_intake(&self, pipeline: Pipeline, deliveries: mpsc::Receiver<Delivery>, reloads: mpsc::Receiver<Settings>) {
        let saver = Saver { dir: self.data_dir.clone(), every: Duration::from_secs(self.settings.intake.checkpoint_every_s.max(1)) };
        let health = self.context.health.clone();
        self.clockwork.start("intake", run_intake(pipeline, deliveries, reloads, saver, health, self.receiving.clone()));
    }

    fn start_otlp(&self, receiver: &Arc<otlp::Receiver>, grpc: Option<TcpListener>, http: Option<TcpListener>) {
        if let Some(listener) = grpc {
            let (receiver, stop) = (receiver.clone(), self.receiving.clone());
            self.clockwork.start("otlp-grpc", async move {
                if let Err(error) = receiver.serve_grpc(listener, stop).await {
                    tracing::error!(%error, "the OTLP gRPC receiver stopped");
                }
            });
        }
        if let Some(listener) = http {
            let (routes, stop) = (receiver.http_router(), self.receiving.clone());
            self.clockwork.start("otlp-http", async move {
                if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await {
                    tracing::error!(%error, "the OTLP HTTP receiver stopped");
                }
            });
        }
    }

    /// Starts a successor that takes the gateway's listener over. This instance is to be drained afterwards.
    pub fn hand_over(&self) -> Result<u32> {
        let listener = self.listener.as_ref().context("failed to hand over: there is no gateway here")?;
        handover::successor(listener)
    }

    /// Where the gateway's calls go.
    #[must_use]
    pub fn upstreams(&self) -> Vec<(String, String)> {
        self.gateway.as_ref().map(|room| room.gateway.upstreams()).unwrap_or_default()
    }

    /// The switches first: a call that is to be blocked must not slip through at start.
    async fn start_gateway(&self, listener: Option<std::net::TcpListener>, events: Option<mpsc::Receiver<Event>>) -> Result<()> {
        let (Some(room), Some(listener)) = (&self.gateway, listener) else { return Ok(()) };
        let (switches, flags) = (self.responding.handles.switches.clone(), self.responding.handles.flags.clone());
        let clock = self.context.clock.clone();
        gateway::take_switches(&room.gateway, &switches, &flags, &[], clock.now());
        let following =
            gateway::follow_switches(room.gateway.clone(), switches, flags, room.elsewhere(), clock.clone(), self.receiving.clone());
        self.clockwork.start("switches", following);
        if let Some(events) = events {
            let intake = self.intake.clone();
            let take = move |events| {
                let _ = intake.offer(events);
            };
            self.clockwork
                .start("gateway's events", gateway::hand_over(room.gateway.clone(), events, take, clock, self.gateway_done.clone()));
        }
        room.serve(listener)?;
        Ok(())
    }

    fn start_watching(&self, dirs: &[PathBuf], metrics: &paramedic_collect::metrics::TailMetrics) -> Result<()> {
        if dirs.is_empty() {
            return Ok(());
        }
        let (batches, received) = mpsc::channel(TAIL_BATCHES_MAX);
        let stop = self.receiving.clone();
        let start =
            tail::Start { roots: dirs.to_vec(), offsets: self.offsets()?, settings: self.settings.tail.clone(), metrics: metrics.clone() };
        let (tail_batches, tail_stop) = (batches.clone(), stop.clone());
        self.clockwork.start("transcripts", async move {
            if let Err(error) = tail::run(start, tail_batches, tail_stop).await {
                tracing::error!(%error, "transcripts are not followed any more");
            }
        });
        self.clockwork
            .start("liveness", liveness::run(dirs.to_vec(), self.settings.tail.clone(), self.context.clock.clone(), batches, stop));
        self.start_hand_over("transcripts hand-over", received, true);
        Ok(())
    }

    fn start_following_logs(&self, metrics: &paramedic_collect::metrics::LogMetrics) -> Result<()> {
        if self.settings.logs.files.is_empty() {
            return Ok(());
        }
        let (batches, received) = mpsc::channel(TAIL_BATCHES_MAX);
        let start = log_tail::Start {
            offsets: self.offsets()?,
            settings: self.settings.logs.clone(),
            metrics: metrics.clone(),
            clock: self.context.clock.clone(),
        };
        let stop = self.receiving.clone();
        self.clockwork.start("logs", async move {
            if let Err(error) = log_tail::run(start, batches, stop).await {
                tracing::error!(%error, "log files are not followed any more");
            }
        });
        self.start_hand_over("logs hand-over", received, false);
        Ok(())
    }

    fn offsets(&self) -> Result<Vec<tail::Offset>> {
        let offsets = self.context.store.offsets()?.into_iter();
        Ok(offsets.map(|one| tail::Offset { file: one.file, position: one.position, identity: one.identity, lines: one.lines }).collect())
    }

    /// Passes a tailer's batches on to the intake. Only transcripts have a history that others wait for.
    fn start_hand_over(&self, name: &'static str, mut received: mpsc::Receiver<tail::Batch>, has_history: bool) {
        let intake = self.intake.clone();
        self.clockwork.start(name, async move {
            while let Some(batch) = received.recv().await {
                let offsets = batch.offsets.into_iter();
                let offsets = offsets
                    .map(|one| Offset { file: one.file, position: one.position, identity: one.identity, lines: one.lines })
                    .collect();
                let delivery = Delivery { events: batch.events, offsets, caught_up: has_history && batch.caught_up, reply: None };
                if intake.deliver(delivery).await.is_err() {
                    break;
                }
            }
        });
    }

    fn start_announcer(&self, announcer: Arc<Announcer>) {
        let stop = self.serving.clone();
        self.clockwork.start("announcer", async move {
            let mut interval = tokio::time::interval(ANNOUNCE);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = interval.tick() => announcer.flush().await,
                }
            }
        });
    }

    fn start_housekeeping(&self) {
        let (context, stop, data_dir) = (self.context.clone(), self.receiving.clone(), self.data_dir.clone());
        let clockwork = Arc::downgrade(&self.clockwork);
        self.clockwork.start("housekeeping", async move {
            let mut interval = tokio::time::interval(HOUSEKEEPING);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = interval.tick() => {}
                }
                let now = context.clock.now();
                let ended = clockwork.upgrade().map(|clockwork| clockwork.ended()).unwrap_or_default();
                let (work, data_dir) = (context.clone(), data_dir.clone());
                let done = tokio::task::spawn_blocking(move || housekeep(&work, &data_dir, &ended, now)).await;
                if let Err(error) = done {
                    tracing::error!(%error, "housekeeping failed");
                }
            }
        });
    }
}

/// Retention and the checks that `/health` shows.
fn housekeep(context: &Context, data_dir: &Path, ended: &[&'static str], now: Timestamp) {
    let report = |name: &str, ok: bool, essential: bool, detail: String| {
        context.health.report(name, Check { ok, essential, detail, checked_at: now })
    };
    match context.store.enforce_retention(now) {
        Ok(_) => {
            let stats = context.store.stats();
            report("events", true, false, format!("{} events in {} files", stats.events, stats.partitions));
        }
        Err(error) => report("events", false, false, format!("failed to {error}")),
    }
    if let Some(disk) = crate::doctor::Disk::of(data_dir) {
        report("disk", !disk.is_short(), false, disk.to_string());
    }
    let detail = if ended.is_empty() { "all run".to_owned() } else { format!("ended: {}", ended.join(", ")) };
    report("tasks", ended.is_empty(), false, detail);
}

/// How this instance is called among targets.
fn instance_name(ports: &Ports) -> String {
    ports.http.map_or_else(|| "local".to_owned(), |address| address.to_string())
}

fn about(ports: &Ports, data_dir: &Path, now: Timestamp) -> About {
    let shown = |address: Option<SocketAddr>| address.map(|address| address.to_string());
    About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: now,
        http: shown(ports.http),
        otlp_grpc: shown(ports.otlp_grpc),
        otlp_http: shown(ports.otlp_http),
        gateway: shown(ports.gateway),
        socket: Some(data_dir.join(SOCKET_FILE).display().to_string()),
        data_dir: data_dir.display().to_string(),
        connect_lines: connect::lines(ports),
        ..About::default()
    }
}

struct Saver {
    dir: PathBuf,
    every: Duration,
}

impl Saver {
    async fn save(&self, pipeline: &Pipeline) {
        let fleet = pipeline.fleet.read().unwrap_or_else(PoisonError::into_inner).save();
        let meter = pipeline.metering.save(pipeline.clock.now());
        let checkpoint = Checkpoint { seq: pipeline.seq, fleet, detectors: pipeline.detectors.save(), meter };
        let dir = self.dir.clone();
        let saved = tokio::task::spawn_blocking(move || checkpoint.save(&dir)).await;
        match saved {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the checkpoint could not be written; the next start reads more events"),
            Err(error) => tracing::error!(%error, "the checkpoint could not be written"),
        }
    }
}

/// The intake's loop: catches up, then takes deliveries and lets the timers run until it is stopped and empty.
async fn run_intake(
    mut pipeline: Pipeline,
    mut deliveries: mpsc::Receiver<Delivery>,
    mut reloads: mpsc::Receiver<Settings>,
    saver: Saver,
    health: Arc<Health>,
    stop: CancellationToken,
) {
    match pipeline.catch_up().await {
        Ok(replayed) if replayed > 0 => tracing::info!(replayed, "caught up with the stored events"),
        Ok(_) => {}
        Err(error) => tracing::error!(%error, "stored events could not be read; the fleet starts from its checkpoint"),
    }
    health.set_phase(Phase::Ready);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut saves = tokio::time::interval_at(tokio::time::Instant::now() + saver.every, saver.every);
    let mut saved_seq = 0;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            delivery = deliveries.recv() => match delivery {
                Some(first) => {
                    let mut group = vec![first];
                    while group.len() < GROUP_DELIVERIES_MAX && let Ok(next) = deliveries.try_recv() {
                        group.push(next);
                    }
                    pipeline.metrics.queued.set(i64::try_from(deliveries.len()).unwrap_or(i64::MAX));
                    pipeline.take(group).await;
                }
                None => break,
            },
            _ = ticks.tick() => {
                let now = pipeline.clock.now();
                pipeline.tick(now).await;
            }
            Some(settings) = reloads.recv() => {
                pipeline.detectors.set_settings(settings.detect);
                pipeline.metering.set_settings(settings.meter);
            }
            _ = saves.tick() => {
                if pipeline.seq != saved_seq && pipeline.held.is_none() {
                    saver.save(&pipeline).await;
                    saved_seq = pipeline.seq;
                }
            }
        }
    }
    deliveries.close();
    while let Some(delivery) = deliveries.recv().await {
        pipeline.take(vec![delivery]).await;
    }
    // Stopped in the middle of the back-fill: what was held is decided again from the events at the next start,
    // which is why the checkpoint must not say that it was seen.
    if pipeline.held.is_none() {
        saver.save(&pipeline).await;
    }
}
