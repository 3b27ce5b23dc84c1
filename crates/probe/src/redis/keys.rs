//! Lengths of queues and streams, and how far their readers are behind.

use std::collections::BTreeSet;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisResult, Value};

use crate::config::RedisSettings;
use crate::reading::Reading;
use crate::redis::as_number;

/// Keys asked for in one `SCAN`.
const SCAN_COUNT: usize = 500;
/// Consumer groups of one stream that are told.
const GROUPS_MAX: usize = 32;

/// What a pattern of keys is told as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Queue,
    Stream,
}

/// One key or pattern of the settings.
#[derive(Debug)]
struct Watched {
    role: Role,
    pattern: String,
    is_pattern: bool,
    /// Where the look through all keys stands; 0 at its beginning.
    cursor: u64,
    /// Keys found by the last whole look, and by the one that is under way.
    known: BTreeSet<String>,
    found: BTreeSet<String>,
}

/// All keys and patterns of one server.
pub(super) struct Keys {
    watched: Vec<Watched>,
    scan_keys_max: usize,
    keys_max: usize,
}

impl Keys {
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, (&'static str, String)> {
        let mut watched = Vec::new();
        for (role, key, patterns) in [(Role::Queue, "queues", &settings.queues), (Role::Stream, "streams", &settings.streams)] {
            for pattern in patterns {
                if pattern.is_empty() {
                    return Err((key, "holds an empty key".to_owned()));
                }
                let is_pattern = pattern.contains(['*', '?', '[']);
                let known = if is_pattern { BTreeSet::new() } else { BTreeSet::from([pattern.clone()]) };
                watched.push(Watched { role, pattern: pattern.clone(), is_pattern, cursor: 0, known, found: BTreeSet::new() });
            }
        }
        Ok(Self { watched, scan_keys_max: settings.scan_keys_max.max(SCAN_COUNT), keys_max: settings.keys_max })
    }

    pub(super) async fn look(&mut self, connection: &mut MultiplexedConnection, reading: &mut Reading) -> RedisResult<()> {
        let patterns = self.watched.iter().filter(|watched| watched.is_pattern).count();
        for watched in &mut self.watched {
            if watched.is_pattern {
                watched.scan(connection, self.scan_keys_max / patterns.max(1), self.keys_max).await?;
            }
            watched.measure(connection, reading).await?;
        }
        Ok(())
    }
}

impl Watched {
    /// Looks on through the server's keys until the end or the end of the budget.
    async fn scan(&mut self, connection: &mut MultiplexedConnection, budget: usize, keys_max: usize) -> RedisResult<()> {
        let mut looked = 0;
        loop {
            let answer: (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
                .arg(self.cursor)
                .arg("MATCH")
                .arg(&self.pattern)
                .arg("COUNT")
                .arg(SCAN_COUNT)
                .query_async(connection)
                .await?;
            looked += SCAN_COUNT;
            self.cursor = answer.0;
            let room = keys_max.saturating_sub(self.found.len());
            // A key that is not UTF-8 could not be asked for by its label.
            self.found.extend(answer.1.into_iter().filter_map(|key| String::from_utf8(key).ok()).take(room));
            if self.cursor == 0 {
                self.known = std::mem::take(&mut self.found);
                return Ok(());
            }
            if looked >= budget {
                // What a whole look found earlier stays until the next whole look.
                let room = keys_max.saturating_sub(self.known.len());
                self.known.extend(self.found.iter().take(room).cloned());
                return Ok(());
            }
        }
    }

    async fn measure(&self, connection: &mut MultiplexedConnection, reading: &mut Reading) -> RedisResult<()> {
        if self.known.is_empty() {
            return Ok(());
        }
        let mut asked = Pipeline::new();
        asked.ignore_errors();
        for key in &self.known {
            asked.cmd("TYPE").arg(key);
            asked.cmd("LLEN").arg(key);
            asked.cmd("XLEN").arg(key);
        }
        asked.cmd("TIME");
        let answers: Vec<Value> = asked.query_async(connection).await?;
        let now_ms = answers.last().and_then(server_time_ms);
        for (key, answers) in self.known.iter().zip(answers.chunks_exact(3)) {
            let kind = match &answers[0] {
                Value::SimpleString(kind) => kind.as_str(),
                _ => "",
            };
            let length = match kind {
                "list" => as_number(&answers[1]),
                "stream" => as_number(&answers[2]),
                // A queue that was emptied does not exist; a queue of another kind is not one.
                "none" if self.role == Role::Queue || !self.is_pattern => Some(0.0),
                _ => None,
            };
            let Some(length) = length else { continue };
            match self.role {
                Role::Queue => {
                    reading.add("agent_queue_depth", &[("queue", key)], length);
                    reading.add("redis_key_size", &[("key", key)], length);
                }
                Role::Stream => {
                    reading.add("stream_redis_backlog", &[("stream_key", key)], length);
                    if kind == "stream" {
                        reading.add("redis_stream_length", &[("stream", key)], length);
                        tell_groups(connection, key, now_ms, reading).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn server_time_ms(answer: &Value) -> Option<f64> {
    let Value::Array(parts) = answer else { return None };
    Some(as_number(parts.first()?)? * 1e3 + as_number(parts.get(1)?)? / 1e3)
}

async fn tell_groups(connection: &mut MultiplexedConnection, stream: &str, now_ms: Option<f64>, reading: &mut Reading) -> RedisResult<()> {
    let mut asked = Pipeline::new();
    asked.ignore_errors().cmd("XINFO").arg("GROUPS").arg(stream);
    let answers: Vec<Value> = asked.query_async(connection).await?;
    let Some(Value::Array(groups)) = answers.first() else { return Ok(()) };
    for group in groups.iter().take(GROUPS_MAX) {
        let Some(name) = field(group, "name").and_then(as_text) else { continue };
        let labels = [("stream", stream), ("group", &*name)];
        for (key, metric) in [
            ("consumers", "redis_stream_group_consumers"),
            ("pending", "redis_stream_group_messages_pending"),
            ("lag", "redis_stream_group_lag"),
        ] {
            if let Some(value) = field(group, key).and_then(as_number) {
                reading.add(metric, &labels, value);
            }
        }
        let delivered = field(group, "last-delivered-id").and_then(as_text).unwrap_or_else(|| "0-0".into());
        let oldest = oldest_open_ms(connection, stream, &name, &delivered).await?;
        let Some(now_ms) = now_ms else { continue };
        let lag = oldest.map_or(0.0, |oldest| (now_ms - oldest).max(0.0) / 1e3);
        reading.add("stream_redis_consumer_lag_seconds", &[("stream_key", stream), ("consumer_group", &name)], lag);
    }
    Ok(())
}

/// When the oldest entry was written that the group has not acknowledged, or not even been given.
async fn oldest_open_ms(connection: &mut MultiplexedConnection, stream: &str, group: &str, delivered: &str) -> RedisResult<Option<f64>> {
    let mut asked = Pipeline::new();
    asked.ignore_errors();
    asked.cmd("XPENDING").arg(stream).arg(group);
    asked.cmd("XRANGE").arg(stream).arg(format!("({delivered}")).arg("+").arg("COUNT").arg(1);
    let answers: Vec<Value> = asked.query_async(connection).await?;
    let pending = match answers.first() {
        Some(Value::Array(summary)) => summary.get(1).and_then(as_text),
        _ => None,
    };
    let waiting = match answers.get(1) {
        Some(Value::Array(entries)) => match entries.first() {
            Some(Value::Array(entry)) => entry.first().and_then(as_text),
            _ => None,
        },
        _ => None,
    };
    let times = [pending, waiting].into_iter().flatten().filter_map(|id| id.split('-').next()?.parse::<f64>().ok());
    Ok(times.min_by(f64::total_cmp))
}

/// A value of `[name, value, name, value …]`.
fn field<'a>(record: &'a Value, name: &str) -> Option<&'a Value> {
    match record {
        Value::Array(parts) => parts.chunks_exact(2).find(|pair| as_text(&pair[0]).as_deref() == Some(name)).map(|pair| &pair[1]),
        Value::Map(pairs) => pairs.iter().find(|(key, _)| as_text(key).as_deref() == Some(name)).map(|(_, value)| value),
        _ => None,
    }
}

fn as_text(value: &Value) -> Option<Box<str>> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into()),
        Value::SimpleString(text) => Some(text.as_str().into()),
        _ => None,
    }
}
