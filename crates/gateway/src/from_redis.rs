//! Switches that other programs set in Redis: `blocked:user:<id>`, `circuit_breaker:<name>` and `flag:<NAME>`.
//!
//! The keys are looked at each half second or so. A small database is walked for blocked users; in a large one only the users
//! that called lately are asked for, so that a look stays cheap. When Redis does not answer, what was known goes on to hold
//! until the end that its key had; nothing new is learned, and that is counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, Client, Pipeline, RedisError, Value as RedisValue, cmd};
use paramedic_model::switch::{FLAG_NAMES, ValueKind, checked, find, never};
use paramedic_model::{Clock, Scope, Switch, Timestamp, secret};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::sync::watch;

use crate::config::RedisSettings;
use crate::gateway::Gateway;

/// Who such a switch was set by.
const BY: &str = "redis";
const BLOCKED: &str = "blocked:user:";
const BREAKER: &str = "circuit_breaker:";
const FLAG: &str = "flag:";
/// A database with more keys is not walked.
const WALKED_KEYS_MAX: u64 = 50_000;
/// Keys of one step of a walk.
const WALK_STEP: usize = 5_000;
/// Blocked users that are taken.
const USERS_MAX: usize = 10_000;
const TIMEOUT: Duration = Duration::from_secs(2);
/// The longest wait before the next try to reach Redis.
const BACK_OFF_MAX: Duration = Duration::from_secs(5);

/// What the looks at Redis count.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    looks: Counter,
    failures: Counter,
    up: Gauge,
    unreadable: Gauge,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("paramedic_gateway_redis_looks", "Looks at the switches in Redis", self.looks.clone());
        registry.register("paramedic_gateway_redis_failures", "Looks at the switches in Redis that failed", self.failures.clone());
        registry.register("paramedic_gateway_redis_up", "1 while Redis answers", self.up.clone());
        let help = "Keys in Redis that name a switch and hold no value that it takes";
        registry.register("paramedic_gateway_redis_unreadable", help, self.unreadable.clone());
    }
}

/// The switches of a Redis, as they were last seen.
pub struct FromRedis {
    client: Client,
    every: Duration,
    clock: Arc<dyn Clock>,
    switches: watch::Sender<Vec<Switch>>,
    metrics: Metrics,
    failures_in_a_row: AtomicU64,
}

impl FromRedis {
    /// # Errors
    /// When the address is none of a Redis.
    pub fn new(settings: &RedisSettings, clock: Arc<dyn Clock>, metrics: Metrics) -> Result<Self, String> {
        let client =
            Client::open(settings.url.as_str()).map_err(|error| secret::mask(&format!("gateway.redis.url: {error}")).into_owned())?;
        let every = Duration::from_millis(settings.look_every_ms.clamp(50, 60_000));
        Ok(Self { client, every, clock, switches: watch::channel(Vec::new()).0, metrics, failures_in_a_row: AtomicU64::new(0) })
    }

    /// The switches as they are, and as they change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Vec<Switch>> {
        self.switches.subscribe()
    }

    /// Looks again and again, until it is dropped.
    pub async fn run(&self, gateway: &Gateway) {
        let mut link: Option<MultiplexedConnection> = None;
        loop {
            let looked = tokio::time::timeout(TIMEOUT, self.look(&mut link, gateway)).await;
            let failed = match looked {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(secret::mask(&error.to_string()).into_owned()),
                Err(_) => Some("it did not answer in time".to_owned()),
            };
            self.metrics.looks.inc();
            let wait = match failed {
                None => {
                    if self.failures_in_a_row.swap(0, Ordering::Relaxed) > 0 {
                        tracing::info!("the switches in Redis are seen again");
                    }
                    self.metrics.up.set(1);
                    self.every
                }
                Some(why) => {
                    link = None;
                    self.metrics.failures.inc();
                    self.metrics.up.set(0);
                    let failures = self.failures_in_a_row.fetch_add(1, Ordering::Relaxed);
                    if failures == 0 {
                        tracing::warn!(why, "the switches in Redis cannot be seen; those that are known go on to hold until their end");
                    }
                    self.every.saturating_mul(1 << failures.min(4)).min(BACK_OFF_MAX)
                }
            };
            self.let_end();
            tokio::time::sleep(wait).await;
        }
    }

    /// What has ended is not waited for.
    fn let_end(&self) {
        let now = self.clock.now();
        self.switches.send_if_modified(|switches| {
            let before = switches.len();
            switches.retain(|switch| switch.expires_at > now);
            switches.len() != before
        });
    }

    async fn look(&self, link: &mut Option<MultiplexedConnection>, gateway: &Gateway) -> Result<(), RedisError> {
        let connection = match link {
            Some(connection) => connection,
            None => {
                let config = AsyncConnectionConfig::new().set_connection_timeout(Some(TIMEOUT)).set_response_timeout(Some(TIMEOUT));
                link.insert(self.client.get_multiplexed_async_connection_with_config(&config).await?)
            }
        };
        let now = self.clock.now();
        let mut keys = blocked(connection, gateway).await?;
        keys.extend(FLAG_NAMES.iter().map(|(flag, _)| format!("{FLAG}{flag}")));
        for name in gateway.breaker_names() {
            keys.push(format!("{BREAKER}{name}"));
            keys.push(format!("{BREAKER}{name}:state"));
        }
        let mut asked = Pipeline::with_capacity(2 * keys.len());
        for key in &keys {
            asked.cmd("GET").arg(key);
            asked.cmd("PTTL").arg(key);
        }
        // A key of another type is an error of its own, and not of the look.
        let answers: Vec<RedisValue> = asked.ignore_errors().query_async(connection).await?;
        let (switches, unreadable) = switches(&keys, &answers, now);
        self.metrics.unreadable.set(i64::try_from(unreadable).unwrap_or(i64::MAX));
        self.switches.send_if_modified(|known| {
            let is_new = !is_same(known, &switches);
            *known = switches;
            is_new
        });
        Ok(())
    }
}

/// The same switches with the same values; ends that move by the time of a look are the same.
fn is_same(known: &[Switch], seen: &[Switch]) -> bool {
    let close = |one: &Switch, other: &Switch| {
        one.expires_at.since(other.expires_at).max(other.expires_at.since(one.expires_at)) < Duration::from_secs(1)
    };
    known.len() == seen.len()
        && known.iter().zip(seen).all(|(one, other)| one.id == other.id && one.value == other.value && close(one, other))
}

/// The keys of users that may be blocked.
async fn blocked(connection: &mut MultiplexedConnection, gateway: &Gateway) -> Result<Vec<String>, RedisError> {
    let size: u64 = cmd("DBSIZE").query_async(connection).await?;
    if size > WALKED_KEYS_MAX {
        return Ok(gateway.traffic().users().into_iter().map(|user| format!("{BLOCKED}{user}")).collect());
    }
    let (mut keys, mut cursor) = (Vec::new(), 0_u64);
    loop {
        let mut step = cmd("SCAN");
        step.arg(cursor).arg("MATCH").arg(format!("{BLOCKED}*")).arg("COUNT").arg(WALK_STEP);
        let (next, found): (u64, Vec<Vec<u8>>) = step.query_async(connection).await?;
        keys.extend(found.into_iter().filter_map(|key| String::from_utf8(key).ok()));
        cursor = next;
        if cursor == 0 || keys.len() >= USERS_MAX {
            break;
        }
    }
    keys.truncate(USERS_MAX);
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

/// The switches that keys and their values stand for, and how many could not be read.
fn switches(keys: &[String], answers: &[RedisValue], now: Timestamp) -> (Vec<Switch>, usize) {
    let (mut all, mut unreadable): (BTreeMap<String, Switch>, usize) = (BTreeMap::new(), 0);
    for (key, answer) in keys.iter().zip(answers.chunks_exact(2)) {
        let Some(text) = text(&answer[0]) else {
            unreadable += usize::from(!matches!(answer[0], RedisValue::Nil));
            continue;
        };
        let ends = match answer[1] {
            RedisValue::Int(left) if left >= 0 => now.after(Duration::from_millis(left.unsigned_abs())),
            _ => never(),
        };
        match switch(key, &text, now, ends) {
            Ok(Some(switch)) => _ = all.insert(switch.id.clone(), switch),
            Ok(None) => {}
            Err(()) => unreadable += 1,
        }
    }
    (all.into_values().collect(), unreadable)
}

fn text(value: &RedisValue) -> Option<String> {
    match value {
        RedisValue::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        RedisValue::SimpleString(text) => Some(text.clone()),
        RedisValue::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// One key's switch; none where it says that nothing is set, an error where it cannot be read.
fn switch(key: &str, value: &str, now: Timestamp, expires_at: Timestamp) -> Result<Option<Switch>, ()> {
    let (name, value) = if let Some(user) = key.strip_prefix(BLOCKED) {
        match yes_or_no(value) {
            Some(false) => return Ok(None),
            _ => (format!("blocked_user:{user}"), Value::Bool(true)),
        }
    } else if let Some(breaker) = key.strip_prefix(BREAKER) {
        let breaker = breaker.strip_suffix(":state").unwrap_or(breaker);
        match value.trim().to_ascii_lowercase().as_str() {
            "open" => (format!("breaker:{breaker}"), Value::from("open")),
            // Whoever writes that, lets ours find out for itself.
            "closed" | "half_open" | "half-open" => return Ok(None),
            _ => return Err(()),
        }
    } else {
        let flag = key.strip_prefix(FLAG).unwrap_or(key);
        let (_, switch) = FLAG_NAMES.iter().find(|(name, _)| *name == flag).ok_or(())?;
        ((*switch).to_owned(), flag_value(switch, value).ok_or(())?)
    };
    let value = checked(&name, &value).map_err(drop)?;
    let scope = Scope::All;
    Ok(Some(Switch {
        id: format!("{name}@{scope}"),
        switch: name,
        value,
        scope,
        by: BY.to_owned(),
        why: format!("the key {}", paramedic_model::text::head(key, 200)),
        set_at: now,
        expires_at,
        seq: 0,
    }))
}

/// `true`, `1`, `{"enabled": true}`, and for other switches their value.
fn flag_value(switch: &str, value: &str) -> Option<Value> {
    let parsed: Value = serde_json::from_str(value.trim()).unwrap_or_else(|_| Value::from(value.trim()));
    let inner = parsed.get("value").or_else(|| parsed.get("enabled")).cloned().unwrap_or(parsed);
    match find(switch).ok()?.kind {
        ValueKind::Flag => match &inner {
            Value::Bool(on) => Some(Value::Bool(*on)),
            other => yes_or_no(&other.as_str().map_or_else(|| other.to_string(), str::to_owned)).map(Value::Bool),
        },
        _ => Some(inner),
    }
}

fn yes_or_no(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" | "enabled" => Some(true),
        "0" | "false" | "no" | "off" | "disabled" | "" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_read_in_the_forms_that_programs_write() {
        let cases = [
            ("blocked:user:u-42", "1", Some(("blocked_user:u-42@all", json!(true)))),
            ("blocked:user:u-42", "abuse", Some(("blocked_user:u-42@all", json!(true)))),
            ("blocked:user:u-42", "0", None),
            ("circuit_breaker:anthropic", "open", Some(("breaker:anthropic@all", json!("open")))),
            ("circuit_breaker:anthropic:state", "OPEN", Some(("breaker:anthropic@all", json!("open")))),
            ("circuit_breaker:anthropic", "half_open", None),
            ("flag:ENABLE_DEGRADED_MODE", "true", Some(("degraded_mode@all", json!(true)))),
            ("flag:ENABLE_DEGRADED_MODE", r#"{"enabled": false}"#, Some(("degraded_mode@all", json!(false)))),
            ("flag:RATE_LIMIT_PER_MINUTE", "100", Some(("rate_limit_per_minute@all", json!(100)))),
            ("flag:DEFAULT_MODEL", "claude-x", Some(("route_to_model@all", json!("claude-x")))),
            ("flag:DAILY_BUDGET_DOLLARS", r#"{"value": 12.5}"#, Some(("daily_budget_dollars@all", json!(12.5)))),
        ];
        for (key, value, expect) in cases {
            let got = switch(key, value, Timestamp::EPOCH, never()).unwrap();
            let got = got.as_ref().map(|switch| (switch.id.as_str(), switch.value.clone()));
            assert_eq!(got, expect, "{key} {value}");
        }
        for (key, value) in
            [("circuit_breaker:x", "maybe"), ("flag:RATE_LIMIT_PER_MINUTE", "many"), ("flag:NONE", "1"), ("blocked:user:a b", "1")]
        {
            assert!(switch(key, value, Timestamp::EPOCH, never()).is_err(), "{key} {value}");
        }
    }

    #[test]
    fn ends_are_those_of_the_keys() {
        let keys = ["blocked:user:ana", "blocked:user:bo", "flag:ENABLE_FAST_FAIL"].map(str::to_owned);
        let of = |text: &str| RedisValue::BulkString(text.as_bytes().to_vec());
        let answers = [of("1"), RedisValue::Int(3_600_000), of("1"), RedisValue::Int(-1), RedisValue::Nil, RedisValue::Int(-2)];
        let (switches, unreadable) = switches(&keys, &answers, Timestamp::EPOCH);
        let ends: Vec<Timestamp> = switches.iter().map(|switch| switch.expires_at).collect();
        assert_eq!((ends, unreadable), (vec![Timestamp::from_secs(3_600), never()], 0));
    }
}
