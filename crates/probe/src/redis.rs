//! Redis: what `INFO` tells, the slow log, and the lengths of queues and streams.
//!
//! Nothing is asked that blocks the server: keys are found by `SCAN` within a budget, and a look that did not come to the
//! end goes on in the next one. Contents of keys and of the slow log are never read.

mod info;
mod keys;

use std::time::Instant;

use paramedic_model::Timestamp;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, IntoConnectionInfo, Pipeline, RedisConnectionInfo, Value};

use crate::config::RedisSettings;
use crate::error::{Failure, ProbeError};
use crate::plan::{Identity, Looking, Opened, Probe, from_env, url_of};
use crate::reading::Reading;
use crate::redis::info::Info;
use crate::redis::keys::Keys;
use crate::tls::{self, Trust};
use crate::wire::{self, Allowance, Driver, Place, Wire};

/// Bytes that a server may send in one look.
const LOOK_BYTES_MAX: u64 = 16 * 1024 * 1024;

pub(crate) fn open(settings: &RedisSettings) -> Result<Opened, ProbeError> {
    let named = || format!("redis target {}", settings.instance.as_deref().unwrap_or("without an instance"));
    let url = url_of(&named(), &settings.url.0, settings.url_env.as_deref())?;
    let (url, is_encrypted) = match url.strip_prefix("rediss://") {
        Some(rest) => (format!("redis://{rest}"), true),
        None => (url, false),
    };
    // The library's reasons do not repeat the URL.
    let parsed = url.as_str().into_connection_info().map_err(|err| ProbeError::setting(named(), "url", err))?;
    let place = match parsed.addr() {
        redis::ConnectionAddr::Tcp(host, port) => Place::Tcp { host: host.clone(), port: *port },
        redis::ConnectionAddr::Unix(path) => Place::Unix(path.clone()),
        _ => return Err(ProbeError::setting(named(), "url", "names no host and no socket")),
    };
    let mut login = parsed.redis_settings().clone().set_skip_set_lib_name();
    if let Some(variable) = &settings.password_env {
        login = login.set_password(from_env(&named(), "password_env", variable)?);
    }
    let trust = Trust::of(settings.ca_file.as_deref(), settings.insecure).map_err(|err| ProbeError::setting(named(), "ca_file", err))?;
    let scheme = if is_encrypted { "rediss" } else { "redis" };
    let address = match &place {
        Place::Tcp { .. } => format!("{scheme}://{place}/{}", login.db()),
        Place::Unix(path) => format!("redis+unix://{}", path.display()),
    };
    let identity = Identity { instance: place.to_string(), address };
    let keys = Keys::new(settings).map_err(|(key, reason)| ProbeError::setting(named(), key, reason))?;
    Ok((identity, Box::new(Redis { place, login, trust: is_encrypted.then_some(trust), keys, link: None })))
}

struct Redis {
    place: Place,
    login: RedisConnectionInfo,
    /// Whom to believe, when the connection is encrypted.
    trust: Option<Trust>,
    keys: Keys,
    link: Option<Link>,
}

/// A connection with the task that carries its bytes.
struct Link {
    connection: MultiplexedConnection,
    allowance: Allowance,
    _driver: Driver,
}

impl Probe for Redis {
    fn look<'a>(&'a mut self, _now: Timestamp, reading: &'a mut Reading) -> Looking<'a> {
        Box::pin(async move {
            // A look that is dropped half way takes its connection with it, since it may hold half an answer.
            let kept = self.link.take();
            let was_kept = kept.is_some();
            let mut link = match kept {
                Some(link) => link,
                None => self.connect().await?,
            };
            link.allowance.renew(LOOK_BYTES_MAX);
            let mut info = self.info(&mut link).await;
            if info.is_err() && was_kept {
                // The server may have been restarted since the last look.
                link = self.connect().await?;
                info = self.info(&mut link).await;
            }
            let (info, took) = info?;
            reading.add("connection_latency_ms", &[("connection_type", "redis")], took * 1e3);
            reading.gauge("redis_exporter_last_scrape_duration_seconds", took);
            info.tell(reading);
            self.slow_log(&mut link, reading).await?;
            self.keys.look(&mut link.connection, reading).await.map_err(|err| self.failure("look at keys", &err))?;
            self.link = Some(link);
            Ok(())
        })
    }

    fn verdicts(&self) -> &'static [&'static str] {
        &["redis_up", "stream_redis_connection_state"]
    }
}

impl Redis {
    fn failure(&self, doing: &str, err: &redis::RedisError) -> Failure {
        Failure::of(doing, err).without(self.login.password())
    }

    async fn connect(&self) -> Result<Link, Failure> {
        let allowance = Allowance::new(LOOK_BYTES_MAX);
        let wire = match (&self.trust, &self.place) {
            (Some(trust), Place::Tcp { host, port }) => {
                let (stream, _, _) = wire::connect(&wire::resolve(host, *port).await?.0).await?;
                Wire::of_tls(tls::greet(trust, host, stream).await.0?, allowance.clone())
            }
            _ => Wire::open(&self.place, allowance.clone()).await?,
        };
        // The look's own limit of time cuts, not the library's.
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let opened = MultiplexedConnection::new_with_config(&self.login, wire, config).await;
        let (connection, driver) = opened.map_err(|err| self.failure("log in", &err))?;
        Ok(Link { connection, allowance, _driver: Driver::spawn(driver) })
    }

    /// What the server tells of itself, and how many seconds it took.
    async fn info(&self, link: &mut Link) -> Result<(Info, f64), Failure> {
        let begun = Instant::now();
        let answer = redis::cmd("INFO").query_async(&mut link.connection).await;
        let took = begun.elapsed().as_secs_f64();
        let text: Vec<u8> = answer.map_err(|err| self.failure("ask for INFO", &err))?;
        let info = Info::parse(&String::from_utf8_lossy(&text));
        if info.get("redis_version").is_none() {
            return Err(Failure::new("the answer to INFO is not that of a Redis server"));
        }
        Ok((info, took))
    }

    async fn slow_log(&self, link: &mut Link, reading: &mut Reading) -> Result<(), Failure> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("SLOWLOG").arg("LEN").cmd("SLOWLOG").arg("GET").arg(1).cmd("INFO").arg("commandstats");
        pipeline.ignore_errors();
        let answers: Vec<Value> =
            pipeline.query_async(&mut link.connection).await.map_err(|err| self.failure("ask for the slow log", &err))?;
        // Servers that forbid a command answer the others.
        if let Some(Value::Int(length)) = answers.first() {
            reading.gauge("redis_slowlog_length", *length as f64);
        }
        if let Some(Value::Array(entries)) = answers.get(1) {
            let id = match entries.first() {
                Some(Value::Array(entry)) => entry.first().and_then(as_number).unwrap_or(0.0),
                _ => 0.0,
            };
            reading.gauge("redis_slowlog_last_id", id);
        }
        if let Some(Value::BulkString(text)) = answers.get(2) {
            info::tell_commands(&String::from_utf8_lossy(text), reading);
        }
        Ok(())
    }
}

fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::BulkString(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}
