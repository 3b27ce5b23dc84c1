//! PostgreSQL: connections, databases, locks, replication, statements and sizes, over one connection that is kept.
//!
//! Everything is asked in the simple protocol (which poolers pass on too), read-only and with a limit of time that the
//! server keeps as well. Texts of statements are never read. What one question cannot be answered for lack of rights or time
//! leaves the others as they are, and is told as `pg_scrape_collector_success`.

mod ask;
mod statements;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use paramedic_model::Timestamp;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config};

use crate::config::PostgresSettings;
use crate::error::{Failure, ProbeError};
use crate::plan::{Identity, Looking, Opened, Probe, from_env, url_of};
use crate::postgres::ask::Server;
use crate::postgres::statements::Statements;
use crate::reading::Reading;
use crate::tls::{PostgresTls, Trust};
use crate::wire::{Allowance, Driver, Place, Wire};

const DEFAULT_PORT: u16 = 5432;
/// Bytes that a server may send in one look.
const LOOK_BYTES_MAX: u64 = 16 * 1024 * 1024;

pub(crate) fn open(settings: &PostgresSettings) -> Result<Opened, ProbeError> {
    let named = || format!("postgres target {}", settings.instance.as_deref().unwrap_or("without an instance"));
    let url = url_of(&named(), &settings.url.0, settings.url_env.as_deref())?;
    // The library's reason may repeat parts of the URL.
    let mut config: Config = url.parse().map_err(|_| ProbeError::setting(named(), "url", "is not a PostgreSQL URL or key-value text"))?;
    if let Some(variable) = &settings.password_env {
        config.password(from_env(&named(), "password_env", variable)?);
    }
    if config.get_application_name().is_none() {
        config.application_name("paramedic");
    }
    let trust = match &settings.ca_file {
        Some(path) => Trust::of(Some(path), false).map_err(|err| ProbeError::setting(named(), "ca_file", err))?,
        None => Trust::Anyone,
    };
    if settings.ca_file.is_some() {
        // Whoever says whom to believe does not mean to go on unencrypted.
        config.ssl_mode(SslMode::Require);
    }
    let places = places(&config);
    let Some(first) = places.first() else { return Err(ProbeError::setting(named(), "url", "names no host")) };
    let instance = first.to_string();
    let database = config.get_dbname().or(config.get_user()).unwrap_or("postgres");
    let identity = Identity { address: format!("postgres://{instance}/{database}"), instance: instance.clone() };
    let probe = Postgres {
        settings: settings.clone(),
        instance: settings.instance.clone().unwrap_or(instance),
        password: config.get_password().map(|password| String::from_utf8_lossy(password).into_owned()),
        config,
        places,
        trust,
        link: None,
        statements: Statements::default(),
        sizes: Sizes::default(),
    };
    Ok((identity, Box::new(probe)))
}

/// Where the server may be, in the order in which it is tried.
fn places(config: &Config) -> Vec<Place> {
    let ports = config.get_ports();
    let port = |i: usize| ports.get(i).or(ports.first()).copied().unwrap_or(DEFAULT_PORT);
    let hosts = config.get_hosts().iter().enumerate().map(|(i, host)| match host {
        Host::Tcp(host) => Place::Tcp { host: host.clone(), port: port(i) },
        Host::Unix(folder) => Place::Unix(folder.join(format!(".s.PGSQL.{}", port(i)))),
    });
    let addresses = config.get_hostaddrs().iter().enumerate().map(|(i, host)| Place::Tcp { host: host.to_string(), port: port(i) });
    // Addresses spare the resolver, where both are given.
    if config.get_hostaddrs().is_empty() { hosts.collect() } else { addresses.collect() }
}

struct Postgres {
    settings: PostgresSettings,
    instance: String,
    password: Option<String>,
    config: Config,
    places: Vec<Place>,
    trust: Trust,
    link: Option<Link>,
    statements: Statements,
    sizes: Sizes,
}

/// A connection with the task that carries its bytes.
struct Link {
    client: Client,
    allowance: Allowance,
    _driver: Driver,
}

/// Sizes are dear to measure, so they are kept for a while.
#[derive(Debug, Default)]
struct Sizes {
    at: Option<Timestamp>,
    samples: Vec<(&'static str, BTreeMap<&'static str, String>, f64)>,
}

impl Probe for Postgres {
    fn look<'a>(&'a mut self, now: Timestamp, reading: &'a mut Reading) -> Looking<'a> {
        Box::pin(async move {
            // A look that is dropped half way takes its connection with it, since it may hold half an answer.
            let kept = self.link.take().filter(|link| !link.client.is_closed());
            let was_kept = kept.is_some();
            let mut link = match kept {
                Some(link) => link,
                None => self.connect().await?,
            };
            link.allowance.renew(LOOK_BYTES_MAX);
            let begun = Instant::now();
            let mut server = Server::ask(&link.client).await;
            if server.is_err() && was_kept {
                // The server may have been restarted, or have ended our session, since the last look.
                link = self.connect().await?;
                server = Server::ask(&link.client).await;
            }
            let server = server.map_err(|err| self.failure("ask for settings", &err))?;
            reading.add("connection_latency_ms", &[("connection_type", "postgres")], begun.elapsed().as_secs_f64() * 1e3);
            server.tell(reading);
            let answered = self.questions(&link.client, &server, now, reading).await;
            answered.map_err(|err| self.failure("ask", &err))?;
            self.link = Some(link);
            Ok(())
        })
    }

    fn verdicts(&self) -> &'static [&'static str] {
        &["pg_up"]
    }
}

impl Postgres {
    fn failure(&self, doing: &str, err: &tokio_postgres::Error) -> Failure {
        Failure::of(doing, err).without(self.password.as_deref())
    }

    async fn connect(&self) -> Result<Link, Failure> {
        let mut last = Failure::new("no host to connect to");
        for place in &self.places {
            match self.connect_to(place).await {
                Ok(link) => return Ok(link),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    async fn connect_to(&self, place: &Place) -> Result<Link, Failure> {
        let allowance = Allowance::new(LOOK_BYTES_MAX);
        let wire = Wire::open(place, allowance.clone()).await?;
        let mut config = self.config.clone();
        let host = match place {
            Place::Tcp { host, .. } => host.clone(),
            Place::Unix(_) => {
                // A socket of this machine needs no encryption, and servers offer none there.
                config.ssl_mode(SslMode::Disable);
                String::new()
            }
        };
        let named = self.config.get_hosts().iter().find_map(|named| match named {
            Host::Tcp(name) if name.parse::<std::net::IpAddr>().is_err() => Some(name.clone()),
            _ => None,
        });
        let tls = PostgresTls { trust: self.trust.clone(), host: named.unwrap_or(host) };
        let (client, connection) = config.connect_raw(wire, tls).await.map_err(|err| self.failure("log in", &err))?;
        let driver = Driver::spawn(async move { drop(connection.await) });
        let timeout = self.settings.statement_timeout_ms.clamp(1, 3_600_000);
        // Waiting for a lock would hold up the probe because of somebody else's work.
        let limits = format!(
            "SET statement_timeout = {timeout}; SET lock_timeout = {}; SET default_transaction_read_only = on",
            (timeout / 4).max(1)
        );
        client.batch_execute(&limits).await.map_err(|err| self.failure("set limits", &err))?;
        // Only a superuser may keep our own questions out of the statistics.
        let _ = client.batch_execute("SET pg_stat_statements.track = 'none'").await;
        Ok(Link { client, allowance, _driver: driver })
    }

    async fn questions(
        &mut self,
        client: &Client,
        server: &Server,
        now: Timestamp,
        reading: &mut Reading,
    ) -> Result<(), tokio_postgres::Error> {
        let pool = self.settings.pool_application.as_deref().map(|name| (name, self.settings.pool_max));
        let total = self.settings.connections_total.then_some(self.instance.as_str());
        note("activity", ask::activity(client, server, pool, total, reading).await, reading)?;
        note("locks", ask::locks(client, reading).await, reading)?;
        note("database", ask::databases(client, reading).await, reading)?;
        note("replication", ask::replication(client, server, reading).await, reading)?;
        let top = self.settings.statements_top as usize;
        if top > 0 {
            note("statements", self.statements.ask(client, top, now, reading).await, reading)?;
        }
        let every = Duration::from_secs(self.settings.sizes_every_s);
        if self.sizes.at.is_none_or(|at| now.since(at) >= every) {
            let asked = ask::sizes(client, self.settings.relations_top).await;
            if let Ok(samples) = &asked {
                self.sizes = Sizes { at: Some(now), samples: samples.clone() };
            }
            note("sizes", asked.map(drop), reading)?;
        }
        for (metric, labels, value) in &self.sizes.samples {
            let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
            reading.add(metric, &labels, *value);
        }
        Ok(())
    }
}

/// What the server refuses is told; a connection that broke is a failure of the look.
fn note(collector: &str, asked: Result<(), tokio_postgres::Error>, reading: &mut Reading) -> Result<(), tokio_postgres::Error> {
    reading.add("pg_scrape_collector_success", &[("collector", collector)], f64::from(u8::from(asked.is_ok())));
    match asked {
        Err(err) if err.as_db_error().is_none() => Err(err),
        Err(err) => {
            tracing::debug!(collector, error = %err, "PostgreSQL refuses a question");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}
