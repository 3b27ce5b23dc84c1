//! One connection, and what is said when it fails.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::types::{FromSql, ToSql};
use tokio_postgres::{Client, Config, NoTls, Row};

use super::Settings;
use crate::address::{not_set, shown};
use crate::error::ActionError;

/// How our own connections are called; they are never ended by ourselves.
pub(super) const OWN_NAME: &str = "paramedic action";

pub(crate) struct Link {
    client: Client,
    driving: tokio::task::JoinHandle<()>,
    action: String,
    password: Option<String>,
    limit: Duration,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driving.abort();
    }
}

impl Link {
    /// Connects to the database of the address, or to another one of the same server.
    pub(crate) async fn open(settings: &Settings, action: &str, database: Option<&str>) -> Result<Self, ActionError> {
        if settings.url.is_empty() {
            return Err(not_set(action, "action.postgres.url"));
        }
        // The library's reason may repeat parts of the address.
        let mut config: Config = settings.url.parse().map_err(|_| ActionError::NotSetUp {
            action: action.to_owned(),
            why: "the setting action.postgres.url is not an address like postgres://user@host:5432/database".to_owned(),
        })?;
        let limit = Duration::from_secs(settings.timeout_s);
        config.application_name(OWN_NAME).connect_timeout(limit);
        if let Some(database) = database {
            config.dbname(database);
        }
        let password = config.get_password().map(|password| String::from_utf8_lossy(password).into_owned());
        let failed = |why: String| ActionError::Failed { action: action.to_owned(), why: shown(&why, password.as_deref()) };
        let connected =
            timeout(limit, config.connect(NoTls)).await.map_err(|_| failed(format!("PostgreSQL does not answer within {limit:?}")))?;
        let (client, connection) = connected.map_err(|error| failed(reason(&error)))?;
        let driving = tokio::spawn(async move {
            // Its end is seen by whoever asks.
            let _ = connection.await;
        });
        let link = Self { client, driving, action: action.to_owned(), password, limit };
        // Set in the session, so that it does not hide what the server's files say.
        link.run(&format!("SET statement_timeout = {}", limit.as_millis())).await?;
        Ok(link)
    }

    pub(super) async fn rows(&self, statement: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, ActionError> {
        let answer = timeout(self.limit, self.client.query(statement, values)).await;
        answer.map_err(|_| self.late())?.map_err(|error| self.failed(reason(&error)))
    }

    pub(crate) async fn row(&self, statement: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Row, ActionError> {
        self.rows(statement, values).await?.into_iter().next().ok_or_else(|| self.failed("PostgreSQL answers with no row"))
    }

    /// A statement without an answer, outside of any transaction.
    pub(crate) async fn run(&self, statement: &str) -> Result<(), ActionError> {
        let answer = timeout(self.limit, self.client.batch_execute(statement)).await;
        answer.map_err(|_| self.late())?.map_err(|error| self.failed(reason(&error)))
    }

    pub(crate) fn get<'a, T: FromSql<'a>>(&self, row: &'a Row, column: &str) -> Result<T, ActionError> {
        row.try_get(column).map_err(|error| self.failed(format!("PostgreSQL answers in another way than expected: {error}")))
    }

    fn late(&self) -> ActionError {
        self.failed(format!("PostgreSQL does not answer within {:?}", self.limit))
    }

    pub(super) fn failed(&self, why: impl AsRef<str>) -> ActionError {
        ActionError::Failed { action: self.action.clone(), why: shown(why.as_ref(), self.password.as_deref()) }
    }

    pub(super) fn refused(&self, why: impl Into<String>) -> ActionError {
        ActionError::Refused { action: self.action.clone(), why: why.into() }
    }

    pub(super) fn changed(&self, why: impl Into<String>) -> ActionError {
        ActionError::Changed { action: self.action.clone(), why: why.into() }
    }

    /// Refused when there is no database of this name.
    pub(super) async fn known_database(&self, name: &str) -> Result<(), ActionError> {
        let found = self.rows("SELECT 1 FROM pg_database WHERE datname = $1", &[&name]).await?;
        if found.is_empty() {
            let what = format!("the database {:?}", shown(name, None));
            return Err(ActionError::NotFound { what, why: "there is none of that name".to_owned() });
        }
        Ok(())
    }
}

/// What the server says, or what is wrong with the way to it.
fn reason(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("PostgreSQL says: {} ({})", said.message(), said.code().code()),
        None => {
            let source = std::error::Error::source(error).map_or_else(String::new, |source| format!(": {source}"));
            format!("{error}{source}")
        }
    }
}
