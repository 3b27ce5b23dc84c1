//! A dump restored into a new database.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::program::run;
use crate::address::shown;
use crate::call::{Call, Verified};
use crate::error::ActionError;
use crate::postgres;
use crate::postgres::link::Link;

/// Until it is whole a database has this ending; names have at most 63 bytes.
const PARTIAL: &str = "_restoring";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether this is the name of a database rather than a path.
pub(super) fn is_name(into: &str) -> bool {
    let plain = into.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    plain && into.len() + PARTIAL.len() <= 63 && into.as_bytes().first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
}

pub(super) fn exact(name: &str, backup: &Path) -> Vec<String> {
    vec![
        format!("CREATE DATABASE \"{name}{PARTIAL}\" TEMPLATE template0"),
        format!("pg_restore --no-owner --no-privileges --exit-on-error --dbname {name}{PARTIAL} {}", backup.display()),
        format!("ALTER DATABASE \"{name}{PARTIAL}\" RENAME TO \"{name}\""),
    ]
}

/// The server, with how to say what it says.
struct Server {
    settings: postgres::Settings,
    config: Config,
    password: Option<String>,
    action: String,
}

impl Server {
    fn of(settings: &Settings, call: &Call) -> Result<Self, ActionError> {
        let config: Config = settings.postgres.parse().map_err(|_| ActionError::NotSetUp {
            action: call.action.clone(),
            why: "the setting action.restore.postgres is not an address like postgres://user@host:5432/postgres".to_owned(),
        })?;
        let password = config.get_password().map(|password| String::from_utf8_lossy(password).into_owned());
        let settings =
            postgres::Settings { url: settings.postgres.clone(), timeout_s: settings.timeout_s, ..postgres::Settings::default() };
        Ok(Self { settings, config, password, action: call.action.clone() })
    }

    fn failed(&self, why: &str) -> ActionError {
        ActionError::Failed { action: self.action.clone(), why: shown(why, self.password.as_deref()) }
    }

    async fn link(&self, database: Option<&str>) -> Result<Link, ActionError> {
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, Link::open(&self.settings, &self.action, database)).await;
        opened.map_err(|_| self.failed(&format!("PostgreSQL does not answer within {CONNECT_TIMEOUT:?}")))?
    }

    async fn run(&self, statement: &str) -> Result<(), ActionError> {
        self.link(None).await?.run(statement).await
    }

    async fn number(&self, database: Option<&str>, statement: &str) -> Result<i64, ActionError> {
        let link = self.link(database).await?;
        let row = link.row(statement, &[]).await?;
        link.get(&row, "number")
    }

    /// `host=… port=… user=… dbname=…`, without the password, which goes through the environment.
    fn address(&self, database: &str) -> String {
        let host = self.config.get_hosts().first().map_or_else(
            || "localhost".to_owned(),
            |host| match host {
                tokio_postgres::config::Host::Tcp(name) => name.clone(),
                tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
            },
        );
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
        let user = self.config.get_user().unwrap_or("postgres");
        format!("host={} port={port} user={} dbname={}", quoted(&host), quoted(user), quoted(database))
    }
}

/// Names are checked by [`is_name`] before, so they need no quoting here.
pub(super) async fn must_be_new(settings: &Settings, call: &Call, name: &str) -> Result<(), ActionError> {
    let server = Server::of(settings, call)?;
    let statement = format!("SELECT count(*) AS number FROM pg_database WHERE datname IN ('{name}', '{name}{PARTIAL}')");
    if server.number(None, &statement).await? == 0 {
        return Ok(());
    }
    let why = format!("the database {name} or {name}{PARTIAL} is there already, and nothing is written over it");
    Err(ActionError::Refused { action: call.action.clone(), why })
}

pub(super) async fn restore(
    settings: &Settings,
    call: &Call,
    backup: &Path,
    name: &str,
    cancel: &CancellationToken,
) -> Result<Verified, ActionError> {
    must_be_new(settings, call, name).await?;
    let server = Server::of(settings, call)?;
    let partial = format!("{name}{PARTIAL}");
    server.run(&format!("CREATE DATABASE \"{partial}\" TEMPLATE template0")).await?;
    match fill(settings, &server, backup, &partial, cancel).await {
        Ok(how) => {
            server.run(&format!("ALTER DATABASE \"{partial}\" RENAME TO \"{name}\"")).await?;
            let there = server.number(Some(name), "SELECT 1::int8 AS number").await? == 1;
            Ok(if there { Verified::seen(how) } else { Verified::missed(how) })
        }
        Err(why) => {
            // We made it a moment ago, under a name that was free.
            let swept = server.run(&format!("DROP DATABASE \"{partial}\" WITH (FORCE)")).await;
            let swept = swept.map_or_else(|error| format!("{partial} was left behind: {error}"), |()| "nothing was left behind".to_owned());
            if cancel.is_cancelled() {
                return Err(ActionError::CalledOff { action: call.action.clone(), done: swept });
            }
            Err(server.failed(&format!("{why}; {swept}")))
        }
    }
}

async fn fill(settings: &Settings, server: &Server, backup: &Path, partial: &str, cancel: &CancellationToken) -> Result<String, String> {
    let limit = Duration::from_secs(settings.timeout_s);
    let listed = run("pg_restore", &["--list".as_ref(), backup.as_os_str()], &[], limit).await?;
    if !listed.good {
        return Err(listed.text);
    }
    let text = String::from_utf8_lossy(&listed.stdout);
    let expected = text.lines().filter(|line| !line.starts_with(';') && line.contains(" TABLE ") && !line.contains(" TABLE DATA ")).count();
    let address = server.address(partial);
    let arguments: [&OsStr; 6] = [
        "--no-owner".as_ref(),
        "--no-privileges".as_ref(),
        "--exit-on-error".as_ref(),
        "--dbname".as_ref(),
        address.as_ref(),
        backup.as_os_str(),
    ];
    let password = server.password.clone().unwrap_or_default();
    let environment = [("PGPASSWORD", password.as_str()), ("PGCONNECT_TIMEOUT", "10")];
    let said = tokio::select! {
        said = run("pg_restore", &arguments, &environment, limit) => said?,
        () = cancel.cancelled() => return Err("it was called off".to_owned()),
    };
    if !said.good {
        return Err(said.text);
    }
    let count = "SELECT count(*) AS number FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') \
        AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg_toast%'";
    let found = server.number(Some(partial), count).await.map_err(|error| error.to_string())?;
    if usize::try_from(found).unwrap_or(0) < expected {
        return Err(format!("the dump names {expected} tables, and {found} are there"));
    }
    Ok(format!("pg_restore ended well, and {found} of {expected} tables are there"))
}
