//! PostgreSQL: long transactions ended, statistics reset, settings changed and seen to apply.
//!
//! **Takes** a state and an age, a process, or a setting. **Gives** the list of backends that would be ended, each with its start.
//! **Never** ends a backend that is not any more in the transaction that was planned, never one of a superuser, of replication or
//! of the server itself, and never says that a setting applies before a new connection has seen it.

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::actions::{Adapter, BoxFuture};
use crate::call::{Call, Done, Plan};
use crate::error::ActionError;
use crate::spec::{Argument, Effect, Kind, Spec};

pub(crate) mod link;

mod backend;

mod end;

mod value;

mod setting;

mod statistics;

mod look;

/// Settings of these actions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where PostgreSQL is: `postgres://user:password@host:5432/database`. Default empty: actions on PostgreSQL are not set up.
    pub url: String,
    /// How long to wait for a connection or one answer, in seconds. Default 10.
    pub timeout_s: u64,
    /// How long to wait until something that was asked for is seen, in seconds. Default 5.
    pub verify_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { url: String::new(), timeout_s: 10, verify_s: 5 }
    }
}

const STATE: Argument =
    Argument::required("state", Kind::Text, "`idle in transaction`, `idle in transaction (aborted)`, `idle` or `active`");
const OLDER: Argument = Argument::required("older_than", Kind::Duration, "only those that are in this state for longer");
const MAX: Argument = Argument::required("max", Kind::Count, "how many at most; with more nothing is done");
const DATABASE: Argument = Argument::optional("database", Kind::Text, "only those of this database; default: all");
const PID: Argument = Argument::optional("pid", Kind::Count, "only the one with this process number");
const BLOCKING: Argument = Argument::optional(
    "blocking",
    Kind::Flag,
    "true: only those that others wait for, and that wait for no lock themselves; default false",
);

pub(crate) static SPECS: &[Spec] = &[
    Spec {
        name: "postgres.connections",
        summary: "Counts connections by state, application and database, and those that are left.",
        effect: Effect::Read,
        arguments: &[],
        undo: "nothing to undo",
    },
    Spec {
        name: "postgres.long_transactions",
        summary: "Lists transactions by age, with what they do and whom they block.",
        effect: Effect::Read,
        arguments: &[Argument::optional("older_than", Kind::Duration, "only those that are older; default 1m"), DATABASE],
        undo: "nothing to undo",
    },
    Spec {
        name: "postgres.locks",
        summary: "Lists who waits for a lock, and who holds it.",
        effect: Effect::Read,
        arguments: &[Argument::optional("database", Kind::Text, "whose tables are named; of others only the number is told")],
        undo: "nothing to undo",
    },
    Spec {
        name: "postgres.terminate",
        summary: "Ends backends of a state and an age; what they had not committed is rolled back.",
        effect: Effect::Write,
        arguments: &[STATE, OLDER, MAX, DATABASE, PID, BLOCKING],
        undo: "none: their clients connect again; what was not committed is lost",
    },
    Spec {
        name: "postgres.cancel",
        summary: "Breaks off statements that run for too long; their connections stay.",
        effect: Effect::Write,
        arguments: &[OLDER, MAX, DATABASE, PID, BLOCKING],
        undo: "none: their clients may ask again",
    },
    Spec {
        name: "postgres.reset_statistics",
        summary: "Sets the statistics of a database, or of statements, to zero.",
        effect: Effect::Destroy,
        arguments: &[
            Argument::optional("database", Kind::Text, "whose; default: the one of the address"),
            Argument::optional("what", Kind::Text, "`database` (default) or `statements`"),
        ],
        undo: "none: what was counted is gone",
    },
    Spec {
        name: "postgres.alter_system",
        summary: "Sets a setting of the whole server, or gives it back to its files, and waits until it applies.",
        effect: Effect::Write,
        arguments: &[
            Argument::required("setting", Kind::Text, "its name, `work_mem`"),
            Argument::optional("value", Kind::Text, "its new value with a unit, `64MB`"),
            Argument::optional("reset", Kind::Flag, "true: remove it from postgresql.auto.conf instead"),
            Argument::optional("restart_later", Kind::Flag, "true: it is well when it applies only at the next restart; default false"),
        ],
        undo: "writes what postgresql.auto.conf held before, or removes it from there",
    },
];

/// The actions on one PostgreSQL server.
#[derive(Debug, Clone)]
pub struct Databases {
    settings: Settings,
}

impl Databases {
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self { settings }
    }

    async fn look(&self, call: &Call) -> Result<Plan, ActionError> {
        match call.action.as_str() {
            "postgres.connections" | "postgres.long_transactions" | "postgres.locks" => look::plan(call),
            "postgres.terminate" | "postgres.cancel" => end::plan(&self.settings, call).await,
            "postgres.reset_statistics" => statistics::plan(&self.settings, call).await,
            "postgres.alter_system" => setting::plan(&self.settings, call).await,
            other => Err(ActionError::Unknown(other.to_owned())),
        }
    }

    async fn act(&self, call: &Call, plan: &Plan, cancel: &CancellationToken) -> Result<Done, ActionError> {
        match call.action.as_str() {
            "postgres.connections" => look::connections(&self.settings, call).await,
            "postgres.long_transactions" => look::long_transactions(&self.settings, call).await,
            "postgres.locks" => look::locks(&self.settings, call).await,
            "postgres.terminate" | "postgres.cancel" => end::execute(&self.settings, call, plan, cancel).await,
            "postgres.reset_statistics" => statistics::execute(&self.settings, call, plan).await,
            "postgres.alter_system" => setting::execute(&self.settings, call, plan).await,
            other => Err(ActionError::Unknown(other.to_owned())),
        }
    }
}

impl Adapter for Databases {
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
