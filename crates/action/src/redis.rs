//! Redis: keys deleted by pattern after a census, settings with their way back, streams trimmed.
//!
//! **Takes** a pattern, a setting or a stream by name. **Gives** a census before anything is removed. **Never** sends `KEYS`,
//! never removes a key that a scan just before did not name, and never sets a setting that is not on the list of safe ones.

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::actions::{Adapter, BoxFuture};
use crate::call::{Call, Done, Plan};
use crate::error::ActionError;
use crate::spec::{Argument, Effect, Kind, Spec};

mod link;

mod pattern;

mod census;

mod delete;

mod setting;

mod stream;

mod flush;

mod state;

/// Settings of these actions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where Redis is: `redis://user:password@host:6379/0`. Default empty: actions on Redis are not set up.
    pub url: String,
    /// How long to wait for a connection or one answer, in seconds. Default 5.
    pub timeout_s: u64,
    /// How long one scan of all keys may take, in seconds. Default 120.
    pub scan_timeout_s: u64,
    /// How long to wait until a save has ended, in seconds. Default 300.
    pub save_timeout_s: u64,
    /// Keys that one scan keeps in memory; a pattern that matches more is refused. Default 1000000.
    pub keys_max: u64,
    /// Settings of the server that may be changed; a `*` at the end stands for any ending.
    pub settings: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: String::new(),
            timeout_s: 5,
            scan_timeout_s: 120,
            save_timeout_s: 300,
            keys_max: 1_000_000,
            settings: setting::SAFE.iter().map(|&name| name.to_owned()).collect(),
        }
    }
}

const PATTERN: Argument =
    Argument::required("pattern", Kind::Text, "which keys, with at least three fixed characters first: `cache:user:*`");

pub(crate) static SPECS: &[Spec] = &[
    Spec {
        name: "redis.info",
        summary: "Reads memory, persistence, clients, replication and keys.",
        effect: Effect::Read,
        arguments: &[],
        undo: "nothing to undo",
    },
    Spec {
        name: "redis.census",
        summary: "Counts the keys of a pattern, with a sample of their types, sizes and expiries.",
        effect: Effect::Read,
        arguments: &[Argument::required("pattern", Kind::Text, "which keys: `cache:*`")],
        undo: "nothing to undo",
    },
    Spec {
        name: "redis.delete",
        summary: "Removes the keys of a pattern, after a census, and nothing else.",
        effect: Effect::Destroy,
        arguments: &[PATTERN, Argument::required("max", Kind::Count, "how many keys at most; with more nothing is removed")],
        undo: "none: removed keys do not come back",
    },
    Spec {
        name: "redis.config_set",
        summary: "Changes one setting of the running server.",
        effect: Effect::Write,
        arguments: &[
            Argument::required("setting", Kind::Text, "its name, `maxmemory-policy`"),
            Argument::required("value", Kind::Text, "its new value; empty is a value"),
        ],
        undo: "sets the value that it had",
    },
    Spec {
        name: "redis.stream_trim",
        summary: "Removes the oldest entries of a stream beyond a length.",
        effect: Effect::Destroy,
        arguments: &[
            Argument::required("key", Kind::Text, "the stream"),
            Argument::required("max_length", Kind::Count, "how many entries stay, the newest ones"),
        ],
        undo: "none: removed entries do not come back",
    },
    Spec {
        name: "redis.flush",
        summary: "Removes every key of every database of the server.",
        effect: Effect::Destroy,
        arguments: &[Argument::optional("confirm", Kind::Text, "the phrase that the plan asks for, typed by a person")],
        undo: "none: removed keys do not come back",
    },
    Spec {
        name: "redis.save",
        summary: "Saves the data to disk in the background and waits until that is done.",
        effect: Effect::Write,
        arguments: &[],
        undo: "nothing to undo: the file of the last save is replaced by a newer one",
    },
];

/// The actions on one Redis server.
#[derive(Debug, Clone)]
pub struct Caches {
    settings: Settings,
}

impl Caches {
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self { settings }
    }

    async fn look(&self, call: &Call) -> Result<Plan, ActionError> {
        match call.action.as_str() {
            "redis.info" => Ok(state::plan(call)),
            "redis.census" => census::plan(call),
            "redis.delete" => delete::plan(&self.settings, call).await,
            "redis.config_set" => setting::plan(&self.settings, call).await,
            "redis.stream_trim" => stream::plan(&self.settings, call).await,
            "redis.flush" => flush::plan(&self.settings, call).await,
            "redis.save" => state::plan_save(&self.settings, call).await,
            other => Err(ActionError::Unknown(other.to_owned())),
        }
    }

    async fn act(&self, call: &Call, plan: &Plan, cancel: &CancellationToken) -> Result<Done, ActionError> {
        match call.action.as_str() {
            "redis.info" => state::read(&self.settings, call).await,
            "redis.census" => census::read(&self.settings, call).await,
            "redis.delete" => delete::execute(&self.settings, call, plan, cancel).await,
            "redis.config_set" => setting::execute(&self.settings, call, plan).await,
            "redis.stream_trim" => stream::execute(&self.settings, call, plan).await,
            "redis.flush" => flush::execute(&self.settings, call, plan).await,
            "redis.save" => state::execute_save(&self.settings, call, plan, cancel).await,
            other => Err(ActionError::Unknown(other.to_owned())),
        }
    }
}

impl Adapter for Caches {
    fn specs(&self) -> &'static [Spec] {
        SPECS
    }

    fn plan<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Plan, ActionError>> {
        Box::pin(self.look(call))
    }

    fn execute<'a>(&'a self, call: &'a Call, plan: &'a Plan, cancel: &'a CancellationToken) -> BoxFuture<'a, Result<Done, ActionError>> {
        Box::pin(self.act(call, plan, cancel))
    }
}
