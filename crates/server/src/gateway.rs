//! The gateway of an instance: on threads of its own, with the switches of the journal, and its calls told as events.
//!
//! It has a runtime of its own because calls must not wait for anything else that an instance does: a slow disk, a long
//! query, or a bug in any other room.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use paramedic_action::flag::FlagStore;
use paramedic_action::switch::{SwitchReader as _, SwitchStore, from_flags, with_flags};
use paramedic_fleet::Prices;
use paramedic_gateway::budget::{Warning, dollars};
use paramedic_gateway::from_redis::{self, FromRedis};
use paramedic_gateway::limit::redis::RedisStore;
use paramedic_gateway::limit::shared::Shared;
use paramedic_gateway::proxy::{Listener, Serving};
use paramedic_gateway::{Gateway, Parts, Pricing, Settings, breaker};
use paramedic_model::{Clock, Event, Level, Source, Switch, Timestamp, Usage};
use prometheus_client::registry::Registry;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The folder inside the data folder where the gateway keeps what is spent, and the salt of its names for keys.
pub const GATEWAY_DIR: &str = "gateway";
const SALT_FILE: &str = "key-salt";
/// Threads of the gateway at most; it never has more than the machine has cores.
const WORKERS_MAX: usize = 4;
/// Events that may wait for the intake.
const EVENTS_MAX: usize = 8_192;
/// Events that are handed over together.
const EVENTS_TOGETHER: usize = 256;
/// How often the list of switches is said to be enforced here.
const SEEN: Duration = Duration::from_secs(20);
/// The name under which an instance's own gateway enforces switches.
const NAME: &str = "gateway";

/// Prices, as the fleet counts them.
pub struct FleetPrices(pub Prices);

impl Pricing for FleetPrices {
    fn call(&self, model: &str, usage: &Usage) -> Option<u64> {
        self.0.price(model).map(|price| price.call(usage))
    }
}

/// A gateway and the threads that it runs on.
pub struct GatewayRoom {
    pub gateway: Gateway,
    /// Switches that other programs set.
    elsewhere: Option<watch::Receiver<Vec<Switch>>>,
    redis_metrics: from_redis::Metrics,
    runtime: Mutex<Option<Runtime>>,
    serving: Mutex<Vec<Serving>>,
}

impl GatewayRoom {
    /// Opens a gateway with what is spent in `data_dir`, or in memory.
    pub fn open(settings: Settings, prices: Prices, data_dir: Option<&Path>, clock: Arc<dyn Clock>) -> Result<Self> {
        let settings = with_environment(settings)?;
        let dir = data_dir.map(|dir| dir.join(GATEWAY_DIR));
        if let Some(dir) = &dir {
            std::fs::create_dir_all(dir).with_context(|| format!("failed to create {}", dir.display()))?;
        }
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(WORKERS_MAX);
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(workers).max_blocking_threads(8).thread_name("gateway").enable_all().build()?;
        let gateway = {
            let _guard = runtime.enter();
            let salt =
                if settings.key_salt.is_empty() { salt(dir.as_deref())? } else { Sha256::digest(settings.key_salt.as_bytes()).into() };
            let shared = shared(&settings)?;
            let parts = Parts { settings, clock: clock.clone(), pricing: Arc::new(FleetPrices(prices)), data_dir: dir, salt, shared };
            Gateway::open(parts).map_err(|error| anyhow::anyhow!("failed to {error}"))?
        };
        let timed = gateway.clone();
        runtime.spawn(async move { timed.keep_time().await });
        let redis = gateway.settings().redis;
        let redis_metrics = from_redis::Metrics::default();
        let elsewhere = if redis.url.is_empty() || !redis.read_switches {
            None
        } else {
            let looking =
                FromRedis::new(&redis, clock, redis_metrics.clone()).map_err(|error| anyhow::anyhow!("failed to read {error}"))?;
            let (watched, looked) = (looking.watch(), gateway.clone());
            runtime.spawn(async move { looking.run(&looked).await });
            Some(watched)
        };
        Ok(Self { gateway, elsewhere, redis_metrics, runtime: Mutex::new(Some(runtime)), serving: Mutex::default() })
    }

    /// Registers everything that the gateway counts.
    pub fn register(&self, registry: &mut Registry) {
        self.gateway.register(registry);
        if self.elsewhere.is_some() {
            self.redis_metrics.register(registry);
        }
    }

    /// Switches that other programs set, where they are looked for.
    #[must_use]
    pub fn elsewhere(&self) -> Option<watch::Receiver<Vec<Switch>>> {
        self.elsewhere.clone()
    }

    /// Whether it could be opened with these settings.
    pub fn check(settings: &Settings) -> Result<()> {
        let settings = with_environment(settings.clone())?;
        paramedic_gateway::gateway::check(&settings).map_err(|error| anyhow::anyhow!("failed to {error}"))
    }

    /// For a gateway without a journal: what its budgets and breakers tell goes to the log, there is nowhere else.
    pub fn log_news(&self, clock: Arc<dyn Clock>) {
        let mut news = News::of(self.gateway.clone(), clock);
        self.spawn(async move {
            loop {
                tracing::warn!("{}", news.next().await.text);
            }
        });
    }

    /// For a gateway without a journal: its switches are those of other programs alone, besides its settings'.
    pub fn follow_elsewhere(&self) {
        let Some(mut watched) = self.elsewhere() else { return };
        let gateway = self.gateway.clone();
        self.spawn(async move {
            while watched.changed().await.is_ok() {
                let switches = watched.borrow_and_update().clone();
                gateway.set_switches(switches);
            }
        });
    }

    fn runtime(&self) -> MutexGuard<'_, Option<Runtime>> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = self.runtime().as_ref() {
            runtime.spawn(work);
        }
    }

    /// A runtime must not be waited for inside another one.
    fn stop(&self) {
        if let Some(runtime) = self.runtime().take() {
            runtime.shutdown_background();
        }
    }

    /// Takes calls from now on.
    pub fn serve(&self, listener: std::net::TcpListener) -> Result<SocketAddr> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let mut serving = vec![self.on_runtime(|gateway| gateway.serve(Listener::Tcp(listener)))?];
        let socket = self.gateway.settings().unix_socket;
        if !socket.is_empty() {
            // What a process before left behind; anything else that has this name is not ours to take away.
            if std::fs::symlink_metadata(&socket).is_ok_and(|file| std::os::unix::fs::FileTypeExt::is_socket(&file.file_type())) {
                let _ = std::fs::remove_file(&socket);
            }
            let served = self.on_runtime(|gateway| {
                let listener = std::os::unix::net::UnixListener::bind(&socket)?;
                listener.set_nonblocking(true)?;
                gateway.serve(Listener::Unix(listener))
            });
            serving.push(served.with_context(|| format!("failed to listen on {socket} (gateway.unix_socket)"))?);
        }
        self.serving.lock().unwrap_or_else(PoisonError::into_inner).append(&mut serving);
        Ok(address)
    }

    fn on_runtime(&self, serve: impl FnOnce(&Gateway) -> std::io::Result<Serving>) -> Result<Serving> {
        let runtime = self.runtime();
        let runtime = runtime.as_ref().context("the gateway has stopped")?;
        let _guard = runtime.enter();
        Ok(serve(&self.gateway)?)
    }

    /// Takes new settings, and says which of them count from the next start on. What contradicts itself is an error, and the
    /// old ones stay.
    pub fn reload(&self, settings: Settings) -> Result<Vec<&'static str>> {
        let settings = with_environment(settings)?;
        let runtime = self.runtime();
        let _guard = runtime.as_ref().map(Runtime::enter);
        let at_next_start = taken_at_next_start(&self.gateway.settings(), &settings);
        self.gateway.configure(settings).map_err(|error| anyhow::anyhow!("failed to {error}"))?;
        Ok(at_next_start)
    }

    /// Takes no more calls, lets those that run come to their end within the deadline, and writes down what is spent.
    pub async fn drain(&self) {
        let serving = std::mem::take(&mut *self.serving.lock().unwrap_or_else(PoisonError::into_inner));
        let deadline = Duration::from_secs(self.gateway.settings().drain_s);
        // All at once: while one address ends its calls, another must not take new ones.
        let mut draining: JoinSet<_> = serving.into_iter().map(|one| one.drain(deadline)).collect();
        let mut cut = 0;
        while let Some(drained) = draining.join_next().await {
            cut += drained.map_or(0, |drained| drained.cut);
        }
        if cut > 0 {
            tracing::warn!(cut, "calls through the gateway were cut off at the deadline");
        }
        self.gateway.ledger().close();
        self.stop();
    }
}

impl Drop for GatewayRoom {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Keys that stand in the environment, in their place.
fn with_environment(mut settings: Settings) -> Result<Settings> {
    for key in &mut settings.keys {
        key.key = crate::responding::from_environment(&key.key)?;
        key.upstream_key = crate::responding::from_environment(&key.upstream_key)?;
    }
    for upstream in &mut settings.upstreams {
        upstream.api_key = crate::responding::from_environment(&upstream.api_key)?;
    }
    settings.redis.url = crate::responding::from_environment(&settings.redis.url)?;
    settings.key_salt = crate::responding::from_environment(&settings.key_salt)?;
    Ok(settings)
}

/// What makes the names of keys this gateway's own; the same over restarts where there is a folder.
fn salt(dir: Option<&Path>) -> Result<[u8; 32]> {
    let file = dir.map(|dir| dir.join(SALT_FILE));
    if let Some(known) = file.as_ref().and_then(|file| std::fs::read(file).ok()).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()) {
        return Ok(known);
    }
    let mut salt = [0; 32];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut salt).context("failed to read random bytes")?;
    if let Some(file) = file {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut open = std::fs::OpenOptions::new();
        let written = open.write(true).create(true).truncate(true).mode(0o600).open(&file);
        written
            .and_then(|mut open| std::io::Write::write_all(&mut open, &salt))
            .with_context(|| format!("failed to write {}", file.display()))?;
    }
    Ok(salt)
}

/// The switches that hold: those of the journal, those that flags stand for, and those of other programs. Where several are
/// there under one name and scope, the first of these holds.
fn holding(switches: &SwitchStore, flags: &FlagStore, elsewhere: &[Switch], now: Timestamp) -> Vec<Switch> {
    with_flags(with_flags(switches.active(now), from_flags(flags, now)), elsewhere.to_vec())
}

/// Limits that are kept together with other gateways, where there is a Redis for it.
fn shared(settings: &Settings) -> Result<Option<Arc<dyn Shared>>> {
    if settings.redis.url.is_empty() || !settings.redis.share_limits {
        return Ok(None);
    }
    let store = RedisStore::new(&settings.redis.url, &settings.limit).map_err(|error| anyhow::anyhow!("failed to {error}"))?;
    Ok(Some(Arc::new(store)))
}

/// Which settings were changed that a running gateway does not take.
fn taken_at_next_start(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let retry_budget = |settings: &Settings| (settings.retry.budget_share, settings.retry.budget_per_s, settings.retry.budget_max);
    let all = [
        ("gateway.key_salt", old.key_salt != new.key_salt),
        ("gateway.retry.budget_*", retry_budget(old) != retry_budget(new)),
        ("gateway.unix_socket", old.unix_socket != new.unix_socket),
        ("gateway.connections_max", old.connections_max != new.connections_max),
        ("gateway.client_timeout_s", old.client_timeout_s != new.client_timeout_s),
        ("gateway.calls_kept", old.calls_kept != new.calls_kept),
        ("gateway.limit", old.limit != new.limit),
        ("gateway.breaker", old.breaker != new.breaker),
        ("gateway.budget", old.budget != new.budget),
        ("gateway.redis", old.redis != new.redis),
    ];
    all.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
}

/// Gives the gateway the switches that hold.
pub fn take_switches(gateway: &Gateway, switches: &SwitchStore, flags: &FlagStore, elsewhere: &[Switch], now: Timestamp) {
    gateway.set_switches(holding(switches, flags, elsewhere, now));
    switches.enforcer_seen(NAME, now);
}

/// Keeps the gateway's switches those of the journal, until it is stopped.
pub async fn follow_switches(
    gateway: Gateway,
    switches: Arc<SwitchStore>,
    flags: Arc<FlagStore>,
    mut elsewhere: Option<watch::Receiver<Vec<Switch>>>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let (mut set, mut flipped) = (switches.watch(), flags.watch());
    let mut seen = tokio::time::interval(SEEN);
    loop {
        let others = elsewhere.as_mut().map(|watched| watched.borrow_and_update().clone()).unwrap_or_default();
        take_switches(&gateway, &switches, &flags, &others, clock.now());
        tokio::select! {
            () = stop.cancelled() => return,
            changed = set.changed() => if changed.is_err() { return },
            changed = flipped.changed() => if changed.is_err() { return },
            () = changed_elsewhere(&mut elsewhere) => {}
            _ = seen.tick() => {}
        }
    }
}

/// Never, where nobody else sets switches.
async fn changed_elsewhere(elsewhere: &mut Option<watch::Receiver<Vec<Switch>>>) {
    if let Some(watched) = elsewhere
        && watched.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Hands the gateway's events over in batches, with what its breakers and budgets tell.
pub async fn hand_over(
    gateway: Gateway,
    mut events: mpsc::Receiver<Event>,
    take: impl Fn(Vec<Event>) + Send,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let mut news = News::of(gateway, clock);
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            taken = events.recv_many(&mut batch, EVENTS_TOGETHER) => if taken == 0 { return },
            told = news.next() => batch.push(told),
            () = stop.cancelled() => {
                events.close();
                while let Some(event) = events.recv().await {
                    batch.push(event);
                }
                take(std::mem::take(&mut batch));
                return;
            }
        }
        // However many calls there are: these are never left waiting behind them.
        news.waiting(&mut batch);
        if !batch.is_empty() {
            take(std::mem::take(&mut batch));
        }
        // A little later there is more to take at once.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What the budgets and the breakers of a gateway tell, as events.
struct News {
    warnings: broadcast::Receiver<Warning>,
    changes: broadcast::Receiver<breaker::Change>,
    clock: Arc<dyn Clock>,
    /// As long as it is here there is somebody who tells.
    _gateway: Gateway,
}

impl News {
    fn of(gateway: Gateway, clock: Arc<dyn Clock>) -> Self {
        Self { warnings: gateway.ledger().warnings(), changes: gateway.breakers().changes(), clock, _gateway: gateway }
    }

    async fn next(&mut self) -> Event {
        loop {
            let missed = tokio::select! {
                warning = self.warnings.recv() => match warning {
                    Ok(warning) => return budget_event(&warning),
                    Err(missed) => missed,
                },
                change = self.changes.recv() => match change {
                    Ok(change) => return breaker_event(&change, self.clock.now()),
                    Err(missed) => missed,
                },
            };
            match missed {
                broadcast::error::RecvError::Lagged(count) => {
                    tracing::warn!(count, "the gateway told more of budgets and breakers than could be taken");
                }
                broadcast::error::RecvError::Closed => std::future::pending().await,
            }
        }
    }

    /// What is there already.
    fn waiting(&mut self, events: &mut Vec<Event>) {
        while let Ok(warning) = self.warnings.try_recv() {
            events.push(budget_event(&warning));
        }
        while let Ok(change) = self.changes.try_recv() {
            events.push(breaker_event(&change, self.clock.now()));
        }
    }
}

fn budget_event(warning: &Warning) -> Event {
    let mut event = Event::new(warning.at, Source::Gateway, "gateway/budget");
    event.level = if warning.percent >= 90 { Level::Error } else { Level::Warn };
    event.text = format!(
        "{} % of the budget {} are spent: ${:.2} of ${:.2}{}",
        warning.percent,
        warning.cap,
        dollars(warning.spent),
        dollars(warning.cap_pico),
        if warning.percent >= 100 && warning.enforce { "; calls are refused" } else { "" }
    )
    .into();
    for (name, value) in
        [("cap", warning.cap.to_string().into()), ("purse", warning.purse.to_string().into()), ("percent", warning.percent.into())]
    {
        event.attributes.insert(name.to_owned(), value);
    }
    event
}

fn breaker_event(change: &breaker::Change, now: Timestamp) -> Event {
    let mut event = Event::new(now, Source::Gateway, "gateway/breaker");
    event.level = if change.to == breaker::State::Open { Level::Error } else { Level::Info };
    event.text =
        format!("the circuit breaker {} went from {} to {}: {}", change.name, change.from.name(), change.to.name(), change.why).into();
    for (name, value) in
        [("breaker", change.name.to_string()), ("from", change.from.name().to_owned()), ("to", change.to.name().to_owned())]
    {
        event.attributes.insert(name.to_owned(), value.into());
    }
    event
}

/// The queue of a gateway's events.
#[must_use]
pub fn events_of(gateway: &Gateway) -> Option<mpsc::Receiver<Event>> {
    gateway.events(EVENTS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_from_the_next_start_on_is_named() {
        let old = Settings::default();
        let mut new = Settings { drain_s: 1, rate_limit_per_minute: 7, ..Settings::default() };
        assert_eq!(taken_at_next_start(&old, &new), Vec::<&str>::new());
        new.redis.look_every_ms = 1;
        new.retry.budget_share = 0.5;
        new.retry.back_off_ms = 1;
        "other".clone_into(&mut new.key_salt);
        assert_eq!(taken_at_next_start(&old, &new), ["gateway.key_salt", "gateway.retry.budget_*", "gateway.redis"]);
    }
}
