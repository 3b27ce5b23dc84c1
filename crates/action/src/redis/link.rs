//! One connection, and what is said when it fails.

use std::collections::BTreeMap;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue};
use paramedic_model::{secret, text};

use super::Settings;
use crate::address::{not_set, shown};
use crate::error::ActionError;

/// Bytes of a key that are shown.
const KEY_BYTES_MAX: usize = 200;

pub(super) struct Link {
    connection: MultiplexedConnection,
    action: String,
    password: Option<String>,
    /// `127.0.0.1:6379`, without who we are there.
    pub(super) host: String,
}

impl Link {
    pub(super) async fn open(settings: &Settings, action: &str) -> Result<Self, ActionError> {
        if settings.url.is_empty() {
            return Err(not_set(action, "action.redis.url"));
        }
        // The library's reason may repeat parts of the address.
        let client = Client::open(settings.url.as_str()).map_err(|_| ActionError::NotSetUp {
            action: action.to_owned(),
            why: "the setting action.redis.url is not an address like redis://host:6379/0".to_owned(),
        })?;
        let info = client.get_connection_info();
        let password = info.redis_settings().password().map(str::to_owned);
        let host = info.addr().to_string();
        let limit = Duration::from_secs(settings.timeout_s);
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(limit)).set_response_timeout(Some(limit));
        let connection = client.get_multiplexed_async_connection_with_config(&config).await.map_err(|error| ActionError::Failed {
            action: action.to_owned(),
            why: format!("Redis at {host}: {}", shown(&error.to_string(), password.as_deref())),
        })?;
        Ok(Self { connection, action: action.to_owned(), password, host })
    }

    /// Sends one command and waits for its answer.
    pub(super) async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, ActionError> {
        let answer = command.query_async(&mut self.connection).await;
        answer.map_err(|error| {
            let word = command.args_iter().next();
            let word = match &word {
                Some(::redis::Arg::Simple(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
                _ => "a command".to_owned(),
            };
            self.failed(format!("Redis at {} says to {word}: {}", self.host, shown(&error.to_string(), self.password.as_deref())))
        })
    }

    pub(super) async fn pipe<T: FromRedisValue>(&mut self, commands: &::redis::Pipeline) -> Result<T, ActionError> {
        let answer = commands.query_async(&mut self.connection).await;
        answer.map_err(|error| self.failed(format!("Redis at {} says: {}", self.host, shown(&error.to_string(), self.password.as_deref()))))
    }

    pub(super) fn failed(&self, why: impl Into<String>) -> ActionError {
        ActionError::Failed { action: self.action.clone(), why: why.into() }
    }

    pub(super) fn refused(&self, why: impl Into<String>) -> ActionError {
        ActionError::Refused { action: self.action.clone(), why: why.into() }
    }

    pub(super) fn changed(&self, why: impl Into<String>) -> ActionError {
        ActionError::Changed { action: self.action.clone(), why: why.into() }
    }

    /// The fields of `INFO`.
    pub(super) async fn info(&mut self) -> Result<BTreeMap<String, String>, ActionError> {
        let text: String = self.ask(&command(&["INFO"])).await?;
        let fields = text.lines().filter_map(|line| line.trim().split_once(':'));
        Ok(fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Which server this is, refused when nothing can be changed here: a plan must not be carried out on another one.
    pub(super) async fn writable(&mut self) -> Result<(String, BTreeMap<String, String>), ActionError> {
        let info = self.info().await?;
        let field = |name: &str| info.get(name).map_or("", String::as_str);
        if field("role") == "slave" {
            let (host, port) = (field("master_host"), field("master_port"));
            return Err(self.refused(format!("{} is a replica of {host}:{port}; what is changed must be changed there", self.host)));
        }
        if field("cluster_enabled") == "1" {
            return Err(self.refused(format!("{} is one node of a cluster, and a change of one node is half a change", self.host)));
        }
        Ok((field("run_id").to_owned(), info))
    }

    pub(super) async fn size(&mut self) -> Result<u64, ActionError> {
        self.ask(&command(&["DBSIZE"])).await
    }
}

/// A command of whole words; none of them is ever read as more than one.
pub(super) fn command(words: &[&str]) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        command.arg(*word);
    }
    command
}

/// A key as a person may see it.
pub(super) fn key_text(key: &[u8]) -> String {
    let lossy = String::from_utf8_lossy(key);
    text::one_line(&text::capped(&secret::mask(&lossy), KEY_BYTES_MAX)).into_owned()
}

/// A field of `INFO` that is a number; 0 when it is not there.
pub(super) fn number(info: &BTreeMap<String, String>, name: &str) -> u64 {
    info.get(name).and_then(|value| value.parse().ok()).unwrap_or(0)
}
