//! Backends: who they are, and which of them may be ended at all.

use paramedic_model::{secret, text};
use tokio_postgres::Row;

use super::link::{Link, OWN_NAME};
use crate::call::{Call, Object};
use crate::error::ActionError;

const QUERY_BYTES_MAX: usize = 160;

/// Times are microseconds since 1970, so that they compare exactly.
const COLUMNS: &str = "a.pid, (extract(epoch FROM a.backend_start) * 1000000)::bigint AS backend_start, \
    (extract(epoch FROM a.xact_start) * 1000000)::bigint AS xact_start, \
    (extract(epoch FROM a.query_start) * 1000000)::bigint AS query_start, coalesce(a.state, '') AS state, \
    coalesce((extract(epoch FROM clock_timestamp() - a.state_change) * 1000)::bigint, 0) AS state_ms, \
    coalesce((extract(epoch FROM clock_timestamp() - a.xact_start) * 1000)::bigint, 0) AS xact_ms, \
    left(coalesce(a.query, ''), 400) AS query, coalesce(a.application_name, '') AS application, coalesce(a.usename::text, '') AS role, \
    coalesce(a.datname::text, '') AS database, coalesce(host(a.client_addr), 'local') AS client, \
    (SELECT count(*) FROM pg_stat_activity b WHERE b.wait_event_type = 'Lock' AND a.pid = ANY (pg_blocking_pids(b.pid))) AS blocks, \
    coalesce((SELECT r.rolsuper OR r.rolreplication FROM pg_roles r WHERE r.oid = a.usesysid), true) AS privileged";

const BLOCKING: &str = "AND cardinality(pg_blocking_pids(a.pid)) = 0 AND EXISTS (SELECT 1 FROM pg_stat_activity b \
    WHERE b.wait_event_type = 'Lock' AND a.pid = ANY (pg_blocking_pids(b.pid)))";

/// One client's backend, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Backend {
    pub(super) pid: i32,
    pub(super) backend_start: i64,
    pub(super) xact_start: Option<i64>,
    pub(super) query_start: Option<i64>,
    pub(super) state: String,
    /// How long it is in this state.
    pub(super) state_ms: i64,
    pub(super) xact_ms: i64,
    pub(super) query: String,
    pub(super) application: String,
    pub(super) role: String,
    pub(super) database: String,
    pub(super) client: String,
    /// How many wait for it.
    pub(super) blocks: i64,
    /// Of a superuser or of replication.
    pub(super) privileged: bool,
}

impl Backend {
    fn read(link: &Link, row: &Row) -> Result<Self, ActionError> {
        Ok(Self {
            pid: link.get(row, "pid")?,
            backend_start: link.get(row, "backend_start")?,
            xact_start: link.get(row, "xact_start")?,
            query_start: link.get(row, "query_start")?,
            state: link.get(row, "state")?,
            state_ms: link.get(row, "state_ms")?,
            xact_ms: link.get(row, "xact_ms")?,
            query: head(link.get(row, "query")?),
            application: head(link.get(row, "application")?),
            role: head(link.get(row, "role")?),
            database: head(link.get(row, "database")?),
            client: link.get(row, "client")?,
            blocks: link.get(row, "blocks")?,
            privileged: link.get(row, "privileged")?,
        })
    }

    pub(super) fn object(&self) -> Object {
        let started = paramedic_model::Timestamp::from_micros(self.backend_start);
        let blocks = if self.blocks > 0 { format!(", blocks {}", self.blocks) } else { String::new() };
        let detail = format!(
            "{} for {} s, of {} ({}) in {}, from {}{blocks}: {}",
            self.state,
            self.state_ms / 1_000,
            self.role,
            self.application,
            self.database,
            self.client,
            self.query
        );
        Object { kind: "backend".to_owned(), name: format!("{} since {started}", self.pid), detail }
    }

    /// What says that it is this one, in this transaction, at this statement.
    pub(super) fn mark(&self) -> String {
        let time = |time: Option<i64>| time.map_or_else(|| "-".to_owned(), |time| time.to_string());
        format!("{}/{}/{}/{}", self.pid, self.backend_start, time(self.xact_start), time(self.query_start))
    }
}

/// The beginning of a statement, as a person may see it.
pub(super) fn head(query: &str) -> String {
    text::one_line(&text::capped(&secret::mask(query), QUERY_BYTES_MAX)).into_owned()
}

/// Which backends are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) state: String,
    pub(super) older_ms: i64,
    pub(super) max: u64,
    pub(super) database: Option<String>,
    pub(super) pid: Option<i32>,
    /// Only the first of a queue for a lock: those behind it are its victims.
    pub(super) blocking: bool,
}

const STATES: &[&str] = &["idle in transaction", "idle in transaction (aborted)", "idle", "active"];

impl Choice {
    pub(super) fn of(call: &Call) -> Result<Self, ActionError> {
        let cancels = call.action == "postgres.cancel";
        let state = if cancels { "active".to_owned() } else { call.text("state")? };
        if !STATES.contains(&state.as_str()) {
            return Err(call.fault("state", format!("{:?} is none of {}", head(&state), STATES.join(", "))));
        }
        let older = call.duration("older_than")?;
        let pid = call.count_or_none("pid")?;
        let pid = pid.map(|pid| i32::try_from(pid).map_err(|_| call.fault("pid", "it is not a process number"))).transpose()?;
        Ok(Self {
            state,
            older_ms: i64::try_from(older.as_millis()).unwrap_or(i64::MAX),
            max: call.count("max")?,
            database: call.text_or_none("database")?,
            pid,
            blocking: call.flag_or("blocking", false)?,
        })
    }

    /// `idle in transaction for more than 300s, and block others`
    pub(super) fn text(&self) -> String {
        let older = std::time::Duration::from_millis(u64::try_from(self.older_ms).unwrap_or(0));
        format!("{} for more than {older:?}{}", self.state, if self.blocking { ", and block others" } else { "" })
    }

    /// All that are meant; those that must be left alone are among them, marked as privileged.
    pub(super) async fn find(&self, link: &Link) -> Result<Vec<Backend>, ActionError> {
        if let Some(database) = &self.database {
            link.known_database(database).await?;
        }
        let blocking = if self.blocking { BLOCKING } else { "" };
        let statement = format!(
            "SELECT {COLUMNS} FROM pg_stat_activity a WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() {blocking} \
             AND a.application_name IS DISTINCT FROM $1 AND a.state = $2 \
             AND (extract(epoch FROM clock_timestamp() - a.state_change) * 1000)::bigint >= $3 \
             AND ($4::text IS NULL OR a.datname = $4) AND ($5::int IS NULL OR a.pid = $5) ORDER BY a.state_change, a.pid"
        );
        let rows = link.rows(&statement, &[&OWN_NAME, &self.state, &self.older_ms, &self.database, &self.pid]).await?;
        rows.iter().map(|row| Backend::read(link, row)).collect()
    }
}

/// Transactions that are older than this, the oldest first.
pub(super) async fn transactions(link: &Link, older_ms: i64, database: Option<&str>, max: i64) -> Result<Vec<Backend>, ActionError> {
    let statement = format!(
        "SELECT {COLUMNS} FROM pg_stat_activity a WHERE a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() \
         AND (extract(epoch FROM clock_timestamp() - a.xact_start) * 1000)::bigint >= $1 \
         AND ($2::text IS NULL OR a.datname = $2) ORDER BY a.xact_start, a.pid LIMIT $3"
    );
    let rows = link.rows(&statement, &[&older_ms, &database, &max]).await?;
    rows.iter().map(|row| Backend::read(link, row)).collect()
}
