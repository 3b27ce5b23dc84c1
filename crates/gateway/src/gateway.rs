//! A gateway: its settings, its upstreams, and everything that it keeps between calls.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use paramedic_model::switch::never;
use paramedic_model::{Clock, Event, Scope, Switch, Timestamp, Usage};
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::answer::{self, LimitBook};
use crate::body::{Prefixes, Ratios};
use crate::breaker::{self, Breakers, Forced};
use crate::budget::{self, Ledger};
use crate::call::{Caller, Pricing, Record};
use crate::config::{KeySettings, Settings};
use crate::degraded::AnswerCache;
use crate::fault::Faults;
use crate::flow::{Front, Guards};
use crate::identity::{Names, NotAHeader};
use crate::limit::{self, Limiter};
use crate::observe::{self, LimitNews, Outlet, Samples, outlet};
use crate::policy::Policies;
use crate::proxy::{self, Address, Farewell, Handler, Listener, Serving, Upstream, UpstreamSettings};
use crate::retry::RetryBudget;
use crate::traffic::Traffic;

/// Names of breakers that others may set.
const BREAKERS_NAMED_MAX: usize = 500;

/// Why a gateway could not be opened, or could not take its settings. Each completes "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error("read the settings of the gateway: there is no upstream")]
    NoUpstream,
    #[error("read the settings of the gateway: own_keys_only is set, and there are no keys, so nobody could call")]
    NobodyMayCall,
    #[error("read the settings of the gateway: two upstreams are called {0:?}")]
    Twice(String),
    #[error("read the settings of the gateway: the upstream {name:?}: {why}")]
    Upstream { name: String, why: String },
    #[error("read the settings of the gateway: the upstream {name:?} has the fallback {fallback:?}, which is none of the others")]
    Fallback { name: String, fallback: String },
    #[error(
        "read the settings of the gateway: the upstream {name:?} has the fallback {fallback:?}, which would be shown keys of others: it needs an `api_key` that can be sent in a header, or `same_key`"
    )]
    FallbackKey { name: String, fallback: String },
    #[error("read the settings of the gateway: the key {name:?}: {why}")]
    Key { name: String, why: &'static str },
    #[error("read the settings of the gateway: switches: {0}")]
    Switch(#[from] paramedic_model::switch::SwitchFault),
    #[error("{0}")]
    Header(#[from] NotAHeader),
    #[error("{0}")]
    Ledger(#[from] budget::OpenError),
}

/// What a gateway is made of.
pub struct Parts {
    pub settings: Settings,
    pub clock: Arc<dyn Clock>,
    pub pricing: Arc<dyn Pricing>,
    /// Where spending is written down; none keeps it in memory.
    pub data_dir: Option<PathBuf>,
    /// Makes names of keys this gateway's own.
    pub salt: [u8; 32],
    /// Limits that are kept together with other gateways.
    pub shared: Option<Arc<dyn limit::shared::Shared>>,
}

/// A key of ours, by the name of the key that clients bring.
#[derive(Debug)]
pub(crate) struct OwnKey {
    pub(crate) name: Box<str>,
    pub(crate) upstream_key: Option<Box<str>>,
    pub(crate) user: Option<Box<str>>,
    pub(crate) team: Option<Box<str>>,
}

/// An upstream as its settings, which have the same place, describe it.
pub(crate) struct Upward {
    pub(crate) upstream: Arc<Upstream>,
    /// The place of the one that is asked in its stead.
    pub(crate) fallback: Option<usize>,
}

/// What the settings say, ready for use.
pub(crate) struct Ready {
    pub(crate) settings: Settings,
    pub(crate) names: Names,
    pub(crate) upstreams: Vec<Upward>,
    pub(crate) keys: HashMap<Box<str>, OwnKey>,
    base: Vec<Switch>,
}

impl Ready {
    /// The upstream that answers this model, by its place: the first that fits, else the first.
    pub(crate) fn upstream_for(&self, model: Option<&str>) -> usize {
        let serving = |model: &str| self.settings.upstreams.iter().position(|upstream| upstream.serves(model));
        model.and_then(serving).unwrap_or(0)
    }
}

/// Everything that calls share.
pub(crate) struct Inner {
    pub(crate) ready: RwLock<Arc<Ready>>,
    pub(crate) policies: RwLock<Arc<Policies>>,
    switches: RwLock<Vec<Switch>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) pricing: Arc<dyn Pricing>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) breakers: Arc<Breakers>,
    pub(crate) retries: RetryBudget,
    pub(crate) ratios: Ratios,
    pub(crate) prefixes: Prefixes,
    pub(crate) book: LimitBook,
    pub(crate) faults: Arc<Faults>,
    pub(crate) cache: AnswerCache,
    pub(crate) answers: answer::Metrics,
    pub(crate) farewell: Arc<Farewell>,
    pub(crate) guards: Guards,
    pub(crate) samples: Samples,
    pub(crate) news: Mutex<LimitNews>,
    pub(crate) outlet: OnceLock<Outlet>,
    proxy: proxy::Metrics,
    salt: [u8; 32],
    /// Held while switches or settings are changed: of two changes at the same time none is lost.
    changing: Mutex<()>,
    pub(crate) changed: watch::Sender<u64>,
}

impl Inner {
    /// What a call costs by the price of its model; none when it has none, or whoever knows prices fell over.
    pub(crate) fn price(&self, model: &str, usage: &Usage) -> Option<u64> {
        self.guards.step("price", || self.pricing.call(model, usage)).flatten()
    }

    pub(crate) fn ready(&self) -> Arc<Ready> {
        Arc::clone(&self.ready.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn policies(&self) -> Arc<Policies> {
        Arc::clone(&self.policies.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells a call that is over to everybody who counts.
    pub(crate) fn ended(&self, record: Record, now: Timestamp) {
        self.samples.ended(&record);
        if let Some(outlet) = self.outlet.get() {
            outlet.hand_over(observe::events(&record));
        }
        self.traffic.ended(record, now);
    }

    /// Tells what the provider said of its limits, where that is news.
    pub(crate) fn limits_told(&self, caller: &Caller, limits: &answer::Limits, refused: bool, now: Timestamp) {
        self.samples.limits(caller.key.as_deref(), limits);
        if let Some(outlet) = self.outlet.get() {
            let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
            outlet.hand_over(news.told(caller, limits, refused, now));
        }
    }
}

/// The gateway. Cloning is cheap and gives the same one.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").finish_non_exhaustive()
    }
}

impl Gateway {
    /// Opens a gateway. It serves nobody yet.
    ///
    /// # Errors
    /// When its settings contradict themselves. That what was spent cannot be read stops nobody: budgets then begin anew.
    pub fn open(parts: Parts) -> Result<Self, GatewayError> {
        let Parts { settings, clock, pricing, data_dir, salt, shared } = parts;
        let ready = ready(settings, salt, None)?;
        let settings = &ready.settings;
        let ledger = ledger(data_dir.as_deref(), settings, &clock)?;
        let limiter = match shared {
            Some(shared) => Limiter::with_shared(settings.limit.clone(), shared),
            None => Limiter::new(settings.limit.clone()),
        };
        let inner = Inner {
            policies: RwLock::default(),
            switches: RwLock::default(),
            traffic: Traffic::new(settings.calls_kept),
            ledger,
            limiter,
            breakers: Breakers::new(settings.breaker.clone()),
            retries: RetryBudget::new(&settings.retry, Instant::now()),
            ratios: Ratios::default(),
            prefixes: Prefixes::default(),
            book: LimitBook::default(),
            faults: Arc::new(Faults::new(Arc::clone(&clock))),
            cache: AnswerCache::default(),
            answers: answer::Metrics::default(),
            farewell: Arc::new(Farewell::usual()),
            guards: Guards::default(),
            samples: Samples::default(),
            news: Mutex::default(),
            outlet: OnceLock::new(),
            proxy: proxy::Metrics::default(),
            ready: RwLock::new(Arc::new(ready)),
            clock,
            pricing,
            salt,
            changing: Mutex::default(),
            changed: watch::channel(0).0,
        };
        let gateway = Self { inner: Arc::new(inner) };
        gateway.set_switches(Vec::new());
        Ok(gateway)
    }

    /// Registers everything that the gateway counts.
    pub fn register(&self, registry: &mut Registry) {
        self.inner.limiter.metrics().register(registry);
        self.inner.ledger.metrics().register(registry);
        registry.register_collector(Box::new(budget::Used(Arc::clone(&self.inner.ledger))));
        self.inner.answers.register(registry);
        self.inner.proxy.register(registry);
        self.inner.samples.register(registry);
        self.inner.guards.register(registry);
        if let Some(outlet) = self.inner.outlet.get() {
            outlet.register(registry);
        }
        registry.register_collector(Box::new(breaker::Exposition(Arc::clone(&self.inner.breakers))));
    }

    /// What calls tell from now on, for whoever counts and keeps it: nothing the second time. At most so many events wait; a
    /// call never waits for them to be taken.
    #[must_use]
    pub fn events(&self, len_max: usize) -> Option<mpsc::Receiver<Event>> {
        let (outlet, events) = outlet(len_max);
        self.inner.outlet.set(outlet).ok().map(|()| events)
    }

    /// What answers requests.
    #[must_use]
    pub fn handler(&self) -> Arc<dyn Handler> {
        Arc::new(Front(Arc::clone(&self.inner)))
    }

    /// Serves calls that come to this listener, on the runtime of whoever calls.
    ///
    /// # Errors
    /// When the listener cannot be used.
    pub fn serve(&self, listener: Listener) -> io::Result<Serving> {
        let settings = self.inner.ready().settings.clone();
        let proxy = proxy::Settings {
            connections_max: settings.connections_max,
            head_wait_ms: settings.client_timeout_s.saturating_mul(1_000),
            ..proxy::Settings::default()
        };
        proxy::serve(listener, self.handler(), &proxy, self.inner.proxy.clone())
    }

    /// Takes new settings. Calls that run go on with the old ones. Upstreams that stay the same keep their connections.
    ///
    /// # Errors
    /// When they contradict themselves: then the old ones stay.
    pub fn configure(&self, settings: Settings) -> Result<(), GatewayError> {
        let _changing = self.changing();
        let old = self.inner.ready();
        let new = ready(settings, self.inner.salt, Some(&old))?;
        *self.inner.ready.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        let switches = self.inner.switches.read().unwrap_or_else(PoisonError::into_inner).clone();
        self.put_in_force(switches);
        Ok(())
    }

    /// The switches that hold from now on, besides those of the settings. They are in force when this returns: calls that
    /// begin see them, and those that a new `break_off` means are broken off.
    pub fn set_switches(&self, switches: Vec<Switch>) {
        let _changing = self.changing();
        self.put_in_force(switches);
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.inner.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_in_force(&self, switches: Vec<Switch>) {
        let inner = &self.inner;
        let now = inner.clock.now();
        let ready = inner.ready();
        // What is set by hand stands for what the settings say under the same name and scope.
        let base = ready.base.iter().filter(|base| !switches.iter().any(|one| one.id == base.id && one.expires_at > now));
        let all: Vec<Switch> = base.chain(&switches).cloned().collect();
        let (policies, unknown) = Policies::new(&all, now);
        for id in unknown {
            tracing::warn!(switch = id, "a switch means nothing to the gateway");
        }
        let forced: Vec<(&str, Forced, &str)> = policies
            .breakers(now)
            .map(|(name, open, switch)| (&**name, if open { Forced::Open } else { Forced::Closed }, &**switch))
            .collect();
        inner.breakers.force(&forced, Instant::now());
        let policies = Arc::new(policies);
        *inner.policies.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&policies);
        self.revise_caps(&all, now);
        self.retune(&all, now);
        inner.traffic.break_off(|caller, model| policies.of(caller, model, now).break_off.is_some());
        *inner.switches.write().unwrap_or_else(PoisonError::into_inner) = switches;
        inner.changed.send_modify(|version| *version += 1);
    }

    /// Calls that wait for a limit learn at once that it was changed or taken away.
    fn retune(&self, all: &[Switch], now: Timestamp) {
        let ready = self.inner.ready();
        self.inner.limiter.retune(|id, _| {
            let set = all.iter().find(|one| *one.id == *id && one.expires_at > now)?;
            match &set.value {
                serde_json::Value::Bool(true) => Some(ready.settings.rate_limit_per_minute.max(1)),
                value => value.as_u64(),
            }
        });
    }

    /// Calls that wait for a cap learn at once that it was raised or taken away.
    fn revise_caps(&self, all: &[Switch], now: Timestamp) {
        let enforce = |scope: &Scope| {
            let of = |scope: &Scope| all.iter().find(|one| one.switch == "enforce_budget" && one.scope == *scope && one.expires_at > now);
            of(scope).or_else(|| of(&Scope::All)).and_then(|one| one.value.as_bool()).unwrap_or(true)
        };
        for budget in self.inner.ledger.budgets() {
            let set = all.iter().find(|one| *one.id == *budget.id && one.expires_at > now);
            let to = set.and_then(|one| Some((pico(one.value.as_f64()?), enforce(&one.scope))));
            self.inner.ledger.revise(&budget.id, to);
        }
    }

    /// Lets the ends of switches take effect at their moment; runs until it is dropped.
    pub async fn keep_time(&self) {
        let mut changed = self.inner.changed.subscribe();
        loop {
            let now = self.inner.clock.now();
            let next = self.inner.policies().next_end().map(|end| end.since(now).min(Duration::from_secs(3_600)));
            tokio::select! {
                _ = changed.changed() => continue,
                () = tokio::time::sleep(next.unwrap_or(Duration::from_secs(3_600)) + Duration::from_millis(5)) => {}
            }
            self.take_out_what_is_over();
        }
    }

    fn take_out_what_is_over(&self) {
        let _changing = self.changing();
        let switches = self.inner.switches.read().unwrap_or_else(PoisonError::into_inner).clone();
        let now = self.inner.clock.now();
        self.put_in_force(switches.into_iter().filter(|switch| switch.expires_at > now).collect());
    }

    /// How often calls passed without a step in which the gateway failed.
    #[must_use]
    pub fn guard_failures(&self) -> u64 {
        self.inner.guards.failures()
    }

    #[must_use]
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.inner.traffic
    }

    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.inner.ledger
    }

    #[must_use]
    pub fn limiter(&self) -> &Arc<Limiter> {
        &self.inner.limiter
    }

    #[must_use]
    pub fn breakers(&self) -> &Arc<Breakers> {
        &self.inner.breakers
    }

    #[must_use]
    pub fn limits(&self) -> &LimitBook {
        &self.inner.book
    }

    #[must_use]
    pub fn faults(&self) -> &Arc<Faults> {
        &self.inner.faults
    }

    /// What calls cost.
    #[must_use]
    pub fn pricing(&self) -> &Arc<dyn Pricing> {
        &self.inner.pricing
    }

    /// The switches that the settings set, those that hold by hand left out.
    #[must_use]
    pub fn base_switches(&self) -> Vec<Switch> {
        self.inner.ready().base.clone()
    }

    #[must_use]
    pub fn settings(&self) -> Settings {
        self.inner.ready().settings.clone()
    }

    /// What breakers are called that there are: those of the upstreams, and those that calls have come to.
    #[must_use]
    pub fn breaker_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.upstreams().into_iter().map(|(name, _)| name).collect();
        let seen = self.inner.breakers.view(Instant::now(), self.inner.clock.now());
        names.extend(seen.into_iter().map(|breaker| breaker.name));
        names.sort_unstable();
        names.dedup();
        names.truncate(BREAKERS_NAMED_MAX);
        names
    }

    /// Where calls go: name and address.
    #[must_use]
    pub fn upstreams(&self) -> Vec<(String, String)> {
        let named = |Upward { upstream, .. }: &Upward| (upstream.name().to_owned(), upstream.address().to_string());
        self.inner.ready().upstreams.iter().map(named).collect()
    }
}

/// What was spent; where that cannot be read, calls go on and what is spent from now on is kept in memory.
fn ledger(dir: Option<&Path>, settings: &Settings, clock: &Arc<dyn Clock>) -> Result<Arc<Ledger>, budget::OpenError> {
    match Ledger::open(dir, settings.budget.clone(), Arc::clone(clock)) {
        Err(error @ budget::OpenError::Read { .. }) => {
            tracing::error!("failed to {error}: budgets begin anew, and are kept in memory until the gateway is started again");
            Ledger::open(None, settings.budget.clone(), Arc::clone(clock))
        }
        opened => opened,
    }
}

/// Dollars as picodollars.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float that is too large saturates")]
pub(crate) fn pico(dollars: f64) -> u64 {
    (dollars.max(0.0) * budget::PICO as f64).round() as u64
}

fn ready(settings: Settings, salt: [u8; 32], old: Option<&Ready>) -> Result<Ready, GatewayError> {
    if settings.own_keys_only && settings.keys.is_empty() {
        return Err(GatewayError::NobodyMayCall);
    }
    let names = Names::new(&settings.identity, salt)?;
    let keys = settings.keys.iter().map(|key| own_key(key, &names)).collect::<Result<_, _>>()?;
    let base = base_switches(&settings)?;
    let upstreams = upstreams(&settings, old)?;
    Ok(Ready { names, upstreams, keys, base, settings })
}

fn upstreams(settings: &Settings, old: Option<&Ready>) -> Result<Vec<Upward>, GatewayError> {
    if settings.upstreams.is_empty() {
        return Err(GatewayError::NoUpstream);
    }
    let how = UpstreamSettings {
        authorities_file: Some(PathBuf::from(&settings.ca_file)).filter(|file| !file.as_os_str().is_empty()),
        ..UpstreamSettings::default()
    };
    let mut all = Vec::new();
    for (place, one) in settings.upstreams.iter().enumerate() {
        if settings.upstreams[..place].iter().any(|before| before.name == one.name) {
            return Err(GatewayError::Twice(one.name.clone()));
        }
        let wrong = |error: proxy::AddressFault| GatewayError::Upstream { name: one.name.clone(), why: error.to_string() };
        let address: Address = one.url.parse().map_err(wrong)?;
        let fallback = settings.upstreams.iter().position(|other| other.name == one.fallback && other.name != one.name);
        if fallback.is_none() && !one.fallback.is_empty() {
            return Err(GatewayError::Fallback { name: one.name.clone(), fallback: one.fallback.clone() });
        }
        if let Some(other) = fallback.map(|place| &settings.upstreams[place])
            && (other.api_key.is_empty() && !other.same_key || hyper::header::HeaderValue::from_str(&other.api_key).is_err())
        {
            return Err(GatewayError::FallbackKey { name: one.name.clone(), fallback: one.fallback.clone() });
        }
        let is_same = |Upward { upstream, .. }: &&Upward| {
            upstream.name() == one.name && *upstream.address() == address && old.is_some_and(|old| old.settings.ca_file == settings.ca_file)
        };
        let upstream = match old.and_then(|old| old.upstreams.iter().find(is_same)) {
            Some(kept) => Arc::clone(&kept.upstream),
            None => Arc::new(Upstream::new(&one.name, address, &how).map_err(wrong)?),
        };
        all.push(Upward { upstream, fallback });
    }
    Ok(all)
}

/// Whether settings contradict themselves, before anything is opened with them.
///
/// # Errors
/// When they do.
pub fn check(settings: &Settings) -> Result<(), GatewayError> {
    ready(settings.clone(), [0; 32], None).map(drop)
}

fn own_key(key: &KeySettings, names: &Names) -> Result<(Box<str>, OwnKey), GatewayError> {
    let wrong = |why| GatewayError::Key { name: key.name.clone(), why };
    if key.name.is_empty() || key.key.is_empty() {
        return Err(wrong("it needs a `name` and a `key`"));
    }
    let is_header = |key: &str| hyper::header::HeaderValue::from_str(key).is_ok();
    if !is_header(&key.upstream_key) {
        return Err(wrong("its `upstream_key` cannot be sent in a header"));
    }
    let some = |text: &str| (!text.is_empty()).then(|| Box::from(text));
    let own =
        OwnKey { name: key.name.as_str().into(), upstream_key: some(&key.upstream_key), user: some(&key.user), team: some(&key.team) };
    Ok((names.key(key.key.as_bytes()), own))
}

fn base_switches(settings: &Settings) -> Result<Vec<Switch>, GatewayError> {
    let mut all = Vec::new();
    for base in &settings.switches {
        let name = paramedic_model::switch::own_name(&base.switch);
        let (value, scope) = (paramedic_model::switch::checked(name, &base.value)?, base.scope.parse::<Scope>()?);
        all.push(Switch {
            id: format!("{name}@{scope}"),
            switch: name.to_owned(),
            value,
            scope,
            by: "settings".to_owned(),
            why: String::new(),
            set_at: Timestamp::EPOCH,
            expires_at: never(),
            seq: 0,
        });
    }
    Ok(all)
}
