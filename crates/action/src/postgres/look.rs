//! Looking: connections, long transactions, locks.

use serde_json::{Map, Value, json};

use super::Settings;
use super::backend::{head, transactions};
use super::link::Link;
use crate::call::{Call, Done, OBJECTS_MAX, Plan};
use crate::error::ActionError;
use crate::spec::Effect;

const ROWS_MAX: i64 = 200;

pub(super) fn plan(call: &Call) -> Result<Plan, ActionError> {
    older_ms(call)?;
    let (what, exact) = match call.action.as_str() {
        "postgres.connections" => ("count the connections", "SELECT … FROM pg_stat_activity"),
        "postgres.locks" => ("list who waits for a lock", "SELECT … FROM pg_stat_activity, pg_blocking_pids(pid)"),
        _ => ("list transactions by age", "SELECT … FROM pg_stat_activity WHERE xact_start IS NOT NULL"),
    };
    let mut plan = Plan::new(call, Effect::Read, what);
    plan.exact.push(exact.to_owned());
    Ok(plan)
}

fn older_ms(call: &Call) -> Result<i64, ActionError> {
    let older = call.duration_or_none("older_than")?.map_or(60_000, |older| older.as_millis());
    Ok(i64::try_from(older).unwrap_or(i64::MAX))
}

pub(super) async fn long_transactions(settings: &Settings, call: &Call) -> Result<Done, ActionError> {
    let link = Link::open(settings, &call.action, None).await?;
    let database = call.text_or_none("database")?;
    if let Some(database) = &database {
        link.known_database(database).await?;
    }
    let found = transactions(&link, older_ms(call)?, database.as_deref(), ROWS_MAX).await?;
    let list: Vec<Value> = found
        .iter()
        .map(|backend| {
            json!({
                "pid": backend.pid, "backend_start": paramedic_model::Timestamp::from_micros(backend.backend_start),
                "state": backend.state, "age_s": backend.xact_ms / 1_000, "state_s": backend.state_ms / 1_000, "query": backend.query,
                "application": backend.application, "role": backend.role, "database": backend.database, "client": backend.client,
                "blocks": backend.blocks, "privileged": backend.privileged,
            })
        })
        .collect();
    let oldest_s = found.iter().map(|backend| backend.xact_ms / 1_000).max().unwrap_or(0);
    let idle = found.iter().filter(|backend| backend.state.starts_with("idle in transaction")).count();
    let answer = json!({ "count": found.len(), "idle": idle, "oldest_s": oldest_s, "transactions": list });
    Ok(Done::looked(format!("found {} transactions, the oldest {oldest_s} s old", found.len()), answer))
}

pub(super) async fn locks(settings: &Settings, call: &Call) -> Result<Done, ActionError> {
    let database = call.text_or_none("database")?;
    let link = Link::open(settings, &call.action, database.as_deref()).await?;
    // A table of another database is only a number here, and that number may be another table of ours.
    let statement = "SELECT a.pid, pg_blocking_pids(a.pid) AS by, coalesce(l.mode, '') AS mode, coalesce(l.locktype, '') AS kind, \
        CASE WHEN l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) THEN l.relation::regclass::text \
        ELSE coalesce(l.relation::text, '') END AS relation, left(coalesce(a.query, ''), 400) AS query, \
        coalesce(a.datname::text, '') AS database, coalesce((extract(epoch FROM clock_timestamp() - a.state_change) * 1000)::bigint, 0) AS ms \
        FROM pg_stat_activity a LEFT JOIN pg_locks l ON l.pid = a.pid AND NOT l.granted \
        WHERE a.wait_event_type = 'Lock' ORDER BY a.state_change LIMIT $1";
    let rows = link.rows(statement, &[&ROWS_MAX]).await?;
    let mut waiting = Vec::with_capacity(rows.len());
    for row in &rows {
        let by: Vec<i32> = link.get(row, "by")?;
        waiting.push(json!({
            "pid": link.get::<i32>(row, "pid")?, "blocked_by": by, "mode": link.get::<String>(row, "mode")?,
            "kind": link.get::<String>(row, "kind")?, "relation": link.get::<Option<String>>(row, "relation")?,
            "database": link.get::<String>(row, "database")?, "waits_s": link.get::<i64>(row, "ms")? / 1_000,
            "query": head(link.get(row, "query")?),
        }));
    }
    Ok(Done::looked(format!("found {} that wait for a lock", waiting.len()), json!({ "count": waiting.len(), "waiting": waiting })))
}

pub(super) async fn connections(settings: &Settings, call: &Call) -> Result<Done, ActionError> {
    let link = Link::open(settings, &call.action, None).await?;
    let mut answer = Map::new();
    let groups = [
        ("states", "coalesce(state, 'not known')"),
        ("applications", "coalesce(application_name, '')"),
        ("databases", "coalesce(datname::text, '')"),
    ];
    let mut used = 0;
    for (name, column) in groups {
        let statement = format!(
            "SELECT {column} AS name, count(*) AS n FROM pg_stat_activity WHERE backend_type = 'client backend' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT $1"
        );
        let mut counts = Map::new();
        for row in link.rows(&statement, &[&i64::try_from(OBJECTS_MAX).unwrap_or(100)]).await? {
            let count: i64 = link.get(&row, "n")?;
            counts.insert(head(link.get(&row, "name")?), count.into());
            if name == "states" {
                used += count;
            }
        }
        answer.insert(name.to_owned(), Value::Object(counts));
    }
    let limits =
        "SELECT current_setting('max_connections')::bigint AS max, current_setting('superuser_reserved_connections')::bigint AS reserved";
    let row = link.row(limits, &[]).await?;
    let (max, reserved): (i64, i64) = (link.get(&row, "max")?, link.get(&row, "reserved")?);
    let available = (max - reserved - used).max(0);
    for (name, value) in [("used", used), ("max", max), ("reserved", reserved), ("available", available)] {
        answer.insert(name.to_owned(), value.into());
    }
    Ok(Done::looked(format!("{used} of {max} connections are used, {available} are left"), Value::Object(answer)))
}
