//! From settings to targets: who each one is, when it is looked at, and what looks at it.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use paramedic_model::{Timestamp, secret, text};

use crate::config::{
    DnsSettings, HostSettings, HttpSettings, ModelApiSettings, PostgresSettings, ProcessSettings, RedisSettings, Schedule, Settings,
    TcpSettings,
};
use crate::error::{Failure, ProbeError};
use crate::reading::Reading;
use crate::{dns, host, http, model_api, postgres, process, redis, tcp};

pub(crate) type Looking<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// Something that looks at one target.
pub(crate) trait Probe: Send {
    /// Looks once. What was measured before a failure stays in the reading. The future may be dropped at any point.
    fn look<'a>(&'a mut self, now: Timestamp, reading: &'a mut Reading) -> Looking<'a>;

    /// The metrics that are 1 after a good look and 0 after a failed one, besides `up` and `probe_success`.
    fn verdicts(&self) -> &'static [&'static str] {
        &[]
    }

    /// The look was cut: tells how far it came, and gives what it was waiting in.
    fn cut(&mut self, _reading: &mut Reading) -> Option<&'static str> {
        None
    }
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    Host(HostSettings),
    Process(ProcessSettings),
    /// A process whose samples also carry the memory daemon's names.
    MemoryDaemon(ProcessSettings),
    Postgres(PostgresSettings),
    Redis(RedisSettings),
    Http(HttpSettings),
    Tcp(TcpSettings),
    Dns(DnsSettings),
    ModelApi(ModelApiSettings),
}

impl What {
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Host(_) => "host",
            Self::Process(_) | Self::MemoryDaemon(_) => "process",
            Self::Postgres(_) => "postgres",
            Self::Redis(_) => "redis",
            Self::Http(_) => "http",
            Self::Tcp(_) => "tcp",
            Self::Dns(_) => "dns",
            Self::ModelApi(_) => "model_api",
        }
    }
}

/// One target, ready to be looked at.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) what: What,
    pub(crate) job: String,
    pub(crate) instance: String,
    /// What is shown as looked at; without secrets.
    pub(crate) address: String,
    /// The labels of all its samples.
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    pub(crate) samples_max: usize,
}

/// What a kind of probe says about one of its targets.
pub(crate) struct Identity {
    /// The default of `instance`.
    pub(crate) instance: String,
    pub(crate) address: String,
}

/// A probe and who its target is.
pub(crate) type Opened = (Identity, Box<dyn Probe>);

impl Plan {
    /// The probe of this target, as fresh as at start.
    pub(crate) fn open(&self) -> Result<Box<dyn Probe>, ProbeError> {
        Ok(open(&self.what)?.1)
    }
}

fn open(what: &What) -> Result<Opened, ProbeError> {
    match what {
        What::Host(settings) => Ok(host::open(settings)),
        What::Process(settings) => process::open(settings, false),
        What::MemoryDaemon(settings) => process::open(settings, true),
        What::Postgres(settings) => postgres::open(settings),
        What::Redis(settings) => redis::open(settings),
        What::Http(settings) => http::open(settings),
        What::Tcp(settings) => tcp::open(settings),
        What::Dns(settings) => dns::open(settings),
        What::ModelApi(settings) => model_api::open(settings),
    }
}

/// Reads settings into targets. Names the first setting that cannot be meant.
pub(crate) fn plans(settings: &Settings) -> Result<Vec<Plan>, ProbeError> {
    let mut wanted: Vec<(What, Schedule, &str)> = Vec::new();
    if settings.host {
        wanted.push((What::Host(settings.host_options.clone()), settings.host_options.schedule(), "node"));
    }
    if settings.memory_daemon {
        let daemon = memory_daemon();
        wanted.push((What::MemoryDaemon(daemon.clone()), daemon.schedule(), "memory-daemon"));
    }
    wanted.extend(settings.process.iter().map(|one| (What::Process(one.clone()), one.schedule(), "process")));
    wanted.extend(settings.postgres.iter().map(|one| (What::Postgres(one.clone()), one.schedule(), "postgres")));
    wanted.extend(settings.redis.iter().map(|one| (What::Redis(one.clone()), one.schedule(), "redis")));
    wanted.extend(settings.http.iter().map(|one| (What::Http(one.clone()), one.schedule(), "http")));
    wanted.extend(settings.tcp.iter().map(|one| (What::Tcp(one.clone()), one.schedule(), "tcp")));
    wanted.extend(settings.dns.iter().map(|one| (What::Dns(one.clone()), one.schedule(), "dns")));
    wanted.extend(settings.model_api.iter().map(|one| (What::ModelApi(one.clone()), one.schedule(), "model-api")));
    if wanted.len() > settings.targets_max {
        return Err(ProbeError::TooMany { found: wanted.len(), allowed: settings.targets_max });
    }
    let mut seen = HashSet::new();
    let mut plans = Vec::with_capacity(wanted.len());
    for (what, schedule, job) in wanted {
        let plan = plan(what, schedule, job, settings)?;
        if !seen.insert((plan.job.clone(), plan.instance.clone())) {
            return Err(ProbeError::Twice { job: plan.job, instance: plan.instance });
        }
        plans.push(plan);
    }
    Ok(plans)
}

fn plan(what: What, schedule: Schedule, job: &str, settings: &Settings) -> Result<Plan, ProbeError> {
    let (identity, _) = open(&what)?;
    let job = schedule.job.unwrap_or_else(|| job.to_owned());
    let instance = schedule.instance.unwrap_or(identity.instance);
    let named = format!("{} target {instance}", what.kind());
    let interval_s = schedule.interval_s.unwrap_or(settings.interval_s);
    let timeout_s = schedule.timeout_s.unwrap_or(settings.timeout_s);
    if !(1..=86_400).contains(&interval_s) {
        return Err(ProbeError::setting(named, "interval_s", "must be between 1 and 86400"));
    }
    if timeout_s == 0 {
        return Err(ProbeError::setting(named, "timeout_s", "must be at least 1"));
    }
    let mut labels = schedule.labels;
    if let Some(name) = labels.keys().find(|name| !is_label_name(name) || matches!(name.as_str(), "job" | "instance")) {
        return Err(ProbeError::setting(named, "labels", format_args!("{name:?} cannot be a further label")));
    }
    labels.insert("job".to_owned(), job.clone());
    labels.insert("instance".to_owned(), instance.clone());
    Ok(Plan {
        what,
        job,
        instance,
        address: text::capped(&secret::mask(&identity.address), 512).into_owned(),
        labels,
        interval: Duration::from_secs(interval_s),
        timeout: Duration::from_secs(timeout_s.min(interval_s)),
        samples_max: settings.samples_per_look_max,
    })
}

fn is_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.starts_with("__")
}

fn memory_daemon() -> ProcessSettings {
    ProcessSettings {
        name: Some("memory-daemon".to_owned()),
        pid_file: Some(PathBuf::from("~/.claude/memory-daemon.pid")),
        ..ProcessSettings::default()
    }
}

/// The path with `~/` as the home directory.
pub(crate) fn expand_home(path: &std::path::Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => path.to_owned(),
    }
}

/// The value of an environment variable that a setting names.
pub(crate) fn from_env(target: &str, key: &'static str, variable: &str) -> Result<String, ProbeError> {
    match std::env::var(variable) {
        Ok(value) if !value.is_empty() => Ok(value),
        _ => Err(ProbeError::setting(target, key, format_args!("the environment variable {variable:?} is not set"))),
    }
}

/// The URL of a target: as it is, or from the environment.
pub(crate) fn url_of(target: &str, url: &str, url_env: Option<&str>) -> Result<String, ProbeError> {
    match (url, url_env) {
        ("", None) => Err(ProbeError::setting(target, "url", "is missing")),
        ("", Some(variable)) => from_env(target, "url_env", variable),
        (url, None) => Ok(url.to_owned()),
        (_, Some(_)) => Err(ProbeError::setting(target, "url_env", "is given together with `url`")),
    }
}
