//! How the server is, and a save of its data.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::link::{Link, command, number};
use crate::call::{Call, Done, Object, Plan, Verified};
use crate::error::ActionError;
use crate::spec::Effect;

/// Fields of `INFO` that are told.
const FIELDS: &[&str] = &[
    "redis_version",
    "run_id",
    "uptime_in_seconds",
    "role",
    "connected_slaves",
    "master_host",
    "master_link_status",
    "master_last_io_seconds_ago",
    "connected_clients",
    "blocked_clients",
    "maxclients",
    "rejected_connections",
    "used_memory",
    "used_memory_rss",
    "used_memory_peak",
    "maxmemory",
    "maxmemory_policy",
    "total_system_memory",
    "mem_fragmentation_ratio",
    "evicted_keys",
    "expired_keys",
    "keyspace_hits",
    "keyspace_misses",
    "instantaneous_ops_per_sec",
    "loading",
    "rdb_last_save_time",
    "rdb_last_bgsave_status",
    "rdb_bgsave_in_progress",
    "rdb_changes_since_last_save",
    "aof_enabled",
    "aof_last_write_status",
    "aof_last_bgrewrite_status",
    "cluster_enabled",
];

pub(super) fn plan(call: &Call) -> Plan {
    let mut plan = Plan::new(call, Effect::Read, "read how Redis is");
    plan.exact.push("INFO".to_owned());
    plan
}

pub(super) async fn read(settings: &Settings, call: &Call) -> Result<Done, ActionError> {
    let mut link = Link::open(settings, &call.action).await?;
    let info = link.info().await?;
    let of = |text: &String| text.parse::<i64>().map_or_else(|_| Value::String(text.clone()), Value::from);
    let mut answer: Map<String, Value> = FIELDS.iter().filter_map(|name| Some(((*name).to_owned(), of(info.get(*name)?)))).collect();
    answer.insert("keys".to_owned(), link.size().await?.into());
    Ok(Done::looked(format!("read how Redis at {} is", link.host), Value::Object(answer)))
}

pub(super) async fn plan_save(settings: &Settings, call: &Call) -> Result<Plan, ActionError> {
    let mut link = Link::open(settings, &call.action).await?;
    let info = link.info().await?;
    if number(&info, "rdb_bgsave_in_progress") == 1 {
        return Err(link.refused("a save is being made already"));
    }
    let mut plan = Plan::new(call, Effect::Write, format!("save the data of {} to disk", link.host));
    let status = info.get("rdb_last_bgsave_status").map_or("", String::as_str);
    let detail = format!("last save {status}, {} changes since", number(&info, "rdb_changes_since_last_save"));
    plan.objects.push(Object { kind: "server".to_owned(), name: link.host.clone(), detail });
    plan.affected = 1;
    plan.exact.push("BGSAVE".to_owned());
    let (used, total) = (number(&info, "used_memory_rss"), number(&info, "total_system_memory"));
    if total > 0 && used > total / 2 {
        plan.warnings
            .push(format!("{used} of {total} bytes are used: the copy that saves may need as much again when much is written meanwhile"));
    }
    plan.stands_on = info.get("run_id").cloned().unwrap_or_default();
    Ok(plan)
}

pub(super) async fn execute_save(settings: &Settings, call: &Call, plan: &Plan, cancel: &CancellationToken) -> Result<Done, ActionError> {
    let mut link = Link::open(settings, &call.action).await?;
    let before = link.info().await?;
    if before.get("run_id").map_or("", String::as_str) != plan.stands_on {
        return Err(link.changed("the server was started again, or is another one"));
    }
    let (begun_s, _): (u64, u64) = link.ask(&command(&["TIME"])).await?;
    let _: ::redis::Value = link.ask(&command(&["BGSAVE"])).await?;
    let until = Instant::now() + Duration::from_secs(settings.save_timeout_s);
    let info = loop {
        let info = link.info().await?;
        if number(&info, "rdb_bgsave_in_progress") == 0 {
            break info;
        }
        if cancel.is_cancelled() {
            return Err(ActionError::CalledOff { action: call.action.clone(), done: "the save goes on in the server".to_owned() });
        }
        if Instant::now() > until {
            return Err(link.failed(format!("the save has not ended within {} s; it goes on in the server", settings.save_timeout_s)));
        }
        sleep(Duration::from_millis(100)).await;
    };
    let status = info.get("rdb_last_bgsave_status").map_or("", String::as_str);
    let saved_s = number(&info, "rdb_last_save_time");
    let how = format!(
        "rdb_last_bgsave_status is {status}, the last save ended {} s after this one was asked for",
        saved_s.saturating_sub(begun_s)
    );
    let good = status == "ok" && saved_s >= begun_s;
    let verified = if good {
        Verified::seen(how)
    } else {
        Verified::missed(format!("rdb_last_bgsave_status is {status}; the reason is in the server's log"))
    };
    let mut done = Done::new(if good { "saved the data to disk" } else { "asked for a save, which failed" }, verified);
    done.affected = u64::from(good);
    done.before = number(&before, "rdb_last_save_time").into();
    done.after = saved_s.into();
    Ok(done)
}
