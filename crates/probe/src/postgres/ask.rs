//! The questions, and what becomes of the answers.

use std::collections::BTreeMap;

use tokio_postgres::{Client, Error, SimpleQueryMessage, SimpleQueryRow};

use crate::reading::Reading;

/// States of `pg_stat_activity`, which are told with 0 too, so that their series do not come and go.
const STATES: [&str; 6] = ["active", "disabled", "fastpath function call", "idle", "idle in transaction", "idle in transaction (aborted)"];

pub(super) async fn rows(client: &Client, question: &str) -> Result<Vec<SimpleQueryRow>, Error> {
    let messages = client.simple_query(question).await?;
    Ok(messages
        .into_iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })
        .collect())
}

/// A column's text; empty when it is null or absent.
pub(super) fn text<'a>(row: &'a SimpleQueryRow, column: &str) -> &'a str {
    row.try_get(column).ok().flatten().unwrap_or("")
}

/// A column's number.
pub(super) fn number(row: &SimpleQueryRow, column: &str) -> Option<f64> {
    row.try_get(column).ok().flatten()?.parse().ok().filter(|value: &f64| value.is_finite())
}

/// What the server says of itself.
#[derive(Debug, Default, Clone)]
pub(super) struct Server {
    version: String,
    version_number: f64,
    connections_max: f64,
    reserved: f64,
    pub(super) is_replica: bool,
    started_at: Option<f64>,
}

impl Server {
    pub(super) async fn ask(client: &Client) -> Result<Self, Error> {
        let found = rows(
            client,
            "SELECT current_setting('server_version') AS version, current_setting('server_version_num') AS number, \
             current_setting('max_connections') AS connections, current_setting('superuser_reserved_connections') AS reserved, \
             coalesce(current_setting('reserved_connections', true), '0') AS reserved_too, \
             pg_is_in_recovery() AS replica, extract(epoch FROM pg_postmaster_start_time()) AS started",
        )
        .await?;
        let Some(row) = found.first() else { return Ok(Self::default()) };
        Ok(Self {
            version: text(row, "version").to_owned(),
            version_number: number(row, "number").unwrap_or(0.0),
            connections_max: number(row, "connections").unwrap_or(0.0),
            reserved: number(row, "reserved").unwrap_or(0.0) + number(row, "reserved_too").unwrap_or(0.0),
            is_replica: text(row, "replica") == "t",
            started_at: number(row, "started"),
        })
    }

    pub(super) fn tell(&self, reading: &mut Reading) {
        reading.gauge("pg_settings_max_connections", self.connections_max);
        reading.gauge("pg_max_connections", self.connections_max);
        reading.gauge("pg_settings_superuser_reserved_connections", self.reserved);
        reading.gauge("pg_replication_is_replica", f64::from(u8::from(self.is_replica)));
        reading.add("pg_static", &[("version", &self.version)], 1.0);
        reading.gauge("pg_settings_server_version_num", self.version_number);
        if let Some(started_at) = self.started_at {
            reading.gauge("pg_postmaster_start_time_seconds", started_at);
        }
    }
}

/// Clients by database and state. `pool` is the name and size of a pool; `total` names the server for the total.
pub(super) async fn activity(
    client: &Client,
    server: &Server,
    pool: Option<(&str, Option<u32>)>,
    total: Option<&str>,
    reading: &mut Reading,
) -> Result<(), Error> {
    let found = rows(
        client,
        "SELECT coalesce(datname, '') AS datname, coalesce(state, 'unknown') AS state, left(application_name, 128) AS application, \
         count(*) AS number, coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0) AS longest, \
         count(*) FILTER (WHERE wait_event_type = 'Lock') AS waiting \
         FROM pg_stat_activity WHERE backend_type = 'client backend' GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 2000",
    )
    .await?;
    let databases = rows(client, "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1 LIMIT 200").await?;
    // Number and longest transaction by database and state.
    let mut counts: BTreeMap<(String, String), (f64, f64)> = BTreeMap::new();
    for database in &databases {
        counts.extend(STATES.map(|state| ((text(database, "datname").to_owned(), state.to_owned()), (0.0, 0.0))));
    }
    let (mut all, mut waiting, mut in_pool, mut longest) = (0.0, 0.0, 0.0, 0.0_f64);
    for row in &found {
        let count = number(row, "number").unwrap_or(0.0);
        let one_longest = number(row, "longest").unwrap_or(0.0).max(0.0);
        let entry = counts.entry((text(row, "datname").to_owned(), text(row, "state").to_owned())).or_default();
        *entry = (entry.0 + count, entry.1.max(one_longest));
        all += count;
        waiting += number(row, "waiting").unwrap_or(0.0);
        longest = longest.max(one_longest);
        // A connection of a pool that is idle can be given out; one without a pool occupies its place as it is.
        in_pool += match pool {
            Some((name, _)) if text(row, "application") == name && text(row, "state") != "idle" => count,
            Some(_) => 0.0,
            None => count,
        };
    }
    for ((database, state), (count, one_longest)) in &counts {
        let labels = [("datname", database.as_str()), ("state", state.as_str())];
        reading.add("pg_stat_activity_count", &labels, *count);
        reading.add("pg_stat_activity_max_tx_duration", &labels, *one_longest);
    }
    if let Some(name) = total {
        let labels = [("instance", ""), ("server", name)];
        reading.add("pg_stat_activity_count", &labels, all);
        reading.add("pg_max_connections", &labels, server.connections_max);
    }
    reading.gauge("pg_longest_transaction_seconds", longest);
    reading.gauge("pg_waiting_for_lock_count", waiting);
    let allowed = (server.connections_max - server.reserved).max(0.0);
    let pool_max = pool.and_then(|(_, max)| max).map_or(allowed, f64::from);
    reading.gauge("pg_pool_connections_active", in_pool);
    reading.gauge("pg_pool_connections_max", pool_max);
    reading.gauge("pg_pool_connections_available", (pool_max - in_pool).max(0.0));
    Ok(())
}

pub(super) async fn locks(client: &Client, reading: &mut Reading) -> Result<(), Error> {
    let found = rows(
        client,
        "SELECT coalesce(d.datname, '') AS datname, l.mode AS mode, count(*) AS number, count(*) FILTER (WHERE NOT l.granted) AS waiting \
         FROM pg_locks l LEFT JOIN pg_database d ON d.oid = l.database GROUP BY 1, 2 LIMIT 1000",
    )
    .await?;
    let mut waiting = 0.0;
    for row in &found {
        let mode = text(row, "mode").to_ascii_lowercase();
        reading.add("pg_locks_count", &[("datname", text(row, "datname")), ("mode", &mode)], number(row, "number").unwrap_or(0.0));
        waiting += number(row, "waiting").unwrap_or(0.0);
    }
    reading.gauge("pg_locks_waiting_count", waiting);
    Ok(())
}

pub(super) async fn databases(client: &Client, reading: &mut Reading) -> Result<(), Error> {
    const COLUMNS: [(&str, &str, f64); 16] = [
        ("numbackends", "pg_stat_database_numbackends", 1.0),
        ("xact_commit", "pg_stat_database_xact_commit", 1.0),
        ("xact_rollback", "pg_stat_database_xact_rollback", 1.0),
        ("blks_read", "pg_stat_database_blks_read", 1.0),
        ("blks_hit", "pg_stat_database_blks_hit", 1.0),
        ("tup_returned", "pg_stat_database_tup_returned", 1.0),
        ("tup_fetched", "pg_stat_database_tup_fetched", 1.0),
        ("tup_inserted", "pg_stat_database_tup_inserted", 1.0),
        ("tup_updated", "pg_stat_database_tup_updated", 1.0),
        ("tup_deleted", "pg_stat_database_tup_deleted", 1.0),
        ("conflicts", "pg_stat_database_conflicts", 1.0),
        ("temp_files", "pg_stat_database_temp_files", 1.0),
        ("temp_bytes", "pg_stat_database_temp_bytes", 1.0),
        ("deadlocks", "pg_stat_database_deadlocks", 1.0),
        ("blk_read_time", "pg_stat_database_blk_read_time", 1.0),
        ("blk_write_time", "pg_stat_database_blk_write_time", 1.0),
    ];
    let found = rows(client, "SELECT * FROM pg_stat_database WHERE datname IS NOT NULL ORDER BY datname LIMIT 200").await?;
    for row in &found {
        let labels = [("datid", text(row, "datid")), ("datname", text(row, "datname"))];
        for (column, metric, scale) in COLUMNS {
            if let Some(value) = number(row, column) {
                reading.add(metric, &labels, value * scale);
            }
        }
    }
    Ok(())
}

pub(super) async fn replication(client: &Client, server: &Server, reading: &mut Reading) -> Result<(), Error> {
    if server.is_replica {
        let found = rows(
            client,
            "SELECT CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0 \
             ELSE coalesce(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0) END AS lag",
        )
        .await?;
        let lag = found.first().and_then(|row| number(row, "lag")).unwrap_or(0.0).max(0.0);
        reading.gauge("pg_replication_lag_seconds", lag);
        return Ok(());
    }
    reading.gauge("pg_replication_lag_seconds", 0.0);
    let found = rows(
        client,
        "SELECT left(application_name, 128) AS application, coalesce(host(client_addr), 'local') AS address, state, \
         coalesce(extract(epoch FROM replay_lag), 0) AS lag, pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) AS bytes \
         FROM pg_stat_replication LIMIT 100",
    )
    .await?;
    for row in &found {
        let labels = [("application_name", text(row, "application")), ("client_addr", text(row, "address")), ("state", text(row, "state"))];
        if let Some(lag) = number(row, "lag") {
            reading.add("pg_replication_lag_seconds", &labels, lag);
        }
        if let Some(bytes) = number(row, "bytes") {
            reading.add("pg_stat_replication_pg_wal_lsn_diff", &labels, bytes);
        }
    }
    Ok(())
}

pub(super) type SizeSample = (&'static str, BTreeMap<&'static str, String>, f64);

/// Sizes of databases, and of the largest relations of the one we are in.
pub(super) async fn sizes(client: &Client, relations_top: u32) -> Result<Vec<SizeSample>, Error> {
    let mut samples = Vec::new();
    let databases = rows(
        client,
        "SELECT datname, pg_database_size(oid) AS bytes FROM pg_database \
         WHERE datallowconn AND has_database_privilege(oid, 'CONNECT') ORDER BY datname LIMIT 200",
    )
    .await?;
    for row in &databases {
        if let Some(bytes) = number(row, "bytes") {
            samples.push(("pg_database_size_bytes", BTreeMap::from([("datname", text(row, "datname").to_owned())]), bytes));
        }
    }
    if relations_top == 0 {
        return Ok(samples);
    }
    // Pages that the planner knows of are a cheap first choice; only the chosen are measured.
    let relations = rows(
        client,
        &format!(
            "SELECT current_database() AS datname, n.nspname AS schema, c.relname AS relation, pg_total_relation_size(c.oid) AS bytes \
             FROM (SELECT oid, relname, relnamespace FROM pg_class WHERE relkind IN ('r', 'm') ORDER BY relpages DESC LIMIT {}) c \
             JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast|^pg_temp' \
             ORDER BY 4 DESC NULLS LAST LIMIT {relations_top}",
            u64::from(relations_top) * 10 + 200
        ),
    )
    .await?;
    for row in &relations {
        let Some(bytes) = number(row, "bytes") else { continue };
        let datname = text(row, "datname");
        // The published rules call the database by the service that it belongs to.
        let labels = BTreeMap::from([
            ("datname", datname.to_owned()),
            ("service", datname.to_owned()),
            ("schemaname", text(row, "schema").to_owned()),
            ("relname", text(row, "relation").to_owned()),
        ]);
        samples.push(("pg_total_relation_size_bytes", labels, bytes));
    }
    Ok(samples)
}
