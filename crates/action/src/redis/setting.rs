//! One setting of the running server, and the value that it had.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Settings;
use super::link::{Link, command, key_text, number};
use crate::call::{Call, Done, Object, Plan, Verified};
use crate::error::ActionError;
use crate::spec::Effect;

/// Settings that do not decide where files lie, who may come in, or what runs.
pub(super) const SAFE: &[&str] = &[
    "maxmemory",
    "maxmemory-policy",
    "maxmemory-samples",
    "maxmemory-clients",
    "stop-writes-on-bgsave-error",
    "timeout",
    "tcp-keepalive",
    "maxclients",
    "save",
    "appendonly",
    "appendfsync",
    "no-appendfsync-on-rewrite",
    "auto-aof-rewrite-*",
    "slowlog-*",
    "latency-monitor-threshold",
    "client-output-buffer-limit",
    "client-query-buffer-limit",
    "notify-keyspace-events",
    "activedefrag",
    "active-defrag-*",
    "lazyfree-*",
    "hz",
    "busy-reply-threshold",
    "lua-time-limit",
    "repl-backlog-size",
    "repl-timeout",
    "min-replicas-to-write",
    "min-replicas-max-lag",
];

/// Never set, whatever the list of this instance says: with these a server writes files anywhere, or lets anybody in.
const NEVER: &[&str] = &[
    "dir",
    "dbfilename",
    "requirepass",
    "masterauth",
    "masteruser",
    "appendfilename",
    "appenddirname",
    "logfile",
    "pidfile",
    "unixsocket",
    "aclfile",
    "loadmodule",
    "protected-mode",
    "bind",
    "port",
    "tls-*",
    "rename-command",
    "enable-*",
    "replicaof",
    "slaveof",
    "oom-score-*",
    "proc-title-template",
    "cluster-*",
    "sentinel-*",
];

const VALUE_BYTES_MAX: usize = 1_024;

fn listed(name: &str, list: &[impl AsRef<str>]) -> bool {
    list.iter().map(AsRef::as_ref).any(|entry| match entry.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == entry,
    })
}

/// What is to be set, allowed and well formed.
fn wanted(settings: &Settings, call: &Call) -> Result<(String, String), ActionError> {
    let name = call.text("setting")?.to_ascii_lowercase();
    if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') || name.len() > 64 {
        return Err(call.fault("setting", format!("{:?} is not the name of a setting", key_text(name.as_bytes()))));
    }
    if listed(&name, NEVER) || !listed(&name, &settings.settings) {
        let why = format!("{name} is not one of the settings that may be changed here: {}", settings.settings.join(", "));
        return Err(ActionError::Refused { action: call.action.clone(), why });
    }
    let value = match call.arguments.get("value") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Bool(flag)) => if *flag { "yes" } else { "no" }.to_owned(),
        _ => return Err(call.fault("value", "it must be a text or a number")),
    };
    if value.len() > VALUE_BYTES_MAX || value.chars().any(char::is_control) {
        return Err(call.fault("value", format!("it must be one line of at most {VALUE_BYTES_MAX} bytes")));
    }
    Ok((name, value))
}

async fn read(link: &mut Link, name: &str) -> Result<String, ActionError> {
    let mut found: BTreeMap<String, String> = link.ask(&command(&["CONFIG", "GET", name])).await?;
    found
        .remove(name)
        .ok_or_else(|| ActionError::NotFound { what: format!("the setting {name}"), why: format!("{} does not know it", link.host) })
}

pub(super) async fn plan(settings: &Settings, call: &Call) -> Result<Plan, ActionError> {
    let (name, value) = wanted(settings, call)?;
    let mut link = Link::open(settings, &call.action).await?;
    let info = link.info().await?;
    let old = read(&mut link, &name).await?;
    let what = format!("set {name} of {} from \"{old}\" to \"{value}\"", link.host);
    let mut plan = Plan::new(call, Effect::Write, what);
    plan.objects.push(Object { kind: "setting".to_owned(), name: name.clone(), detail: format!("now \"{old}\"") });
    plan.affected = 1;
    plan.exact.push(format!("CONFIG SET {name} \"{value}\""));
    plan.inverse = Some(back(call, &name, &old));
    plan.stands_on.clone_from(&old);
    if same(&name, &value, &old) {
        plan.what = format!("leave {name} of {} as it is, \"{old}\"", link.host);
        plan.affected = 0;
    }
    plan.warnings.push("it lasts until the server is started again; CONFIG REWRITE would keep it, and is not sent".to_owned());
    plan.warnings.extend(doubts(&name, &value, &info));
    Ok(plan)
}

fn back(call: &Call, name: &str, old: &str) -> Call {
    let mut back = Call::new("redis.config_set").with("setting", name).with("value", old);
    back.by.clone_from(&call.by);
    back.reason = "take back what was changed".to_owned();
    back
}

/// What a person should know before this value is set.
fn doubts(name: &str, value: &str, info: &BTreeMap<String, String>) -> Vec<String> {
    let mut doubts = Vec::new();
    let used = number(info, "used_memory");
    match name {
        "maxmemory" => {
            let limit = bytes_of(value).unwrap_or(0);
            if limit == 0 {
                doubts.push("0 means no limit at all: the system's memory is the limit".to_owned());
            } else if limit < used {
                doubts.push(format!("{used} bytes are used already: keys are evicted, or writes refused, at once"));
            }
            let total = number(info, "total_system_memory");
            if total > 0 && limit > total {
                doubts.push(format!("the machine has only {total} bytes"));
            }
        }
        "maxmemory-policy" if value.starts_with("allkeys-") => doubts.push("keys that never expire may be evicted too".to_owned()),
        "stop-writes-on-bgsave-error" if value == "no" => {
            doubts.push("writes are accepted although they are not saved: what is written now is lost when the server ends".to_owned());
        }
        "save" if value.trim().is_empty() => doubts.push("nothing is saved by itself any more".to_owned()),
        "appendonly" if value == "no" => doubts.push("what is written after the last save is lost when the server ends".to_owned()),
        "maxclients" if value.parse().is_ok_and(|limit: u64| limit < number(info, "connected_clients")) => {
            doubts.push(format!("{} clients are connected", number(info, "connected_clients")));
        }
        _ => {}
    }
    doubts
}

pub(super) async fn execute(settings: &Settings, call: &Call, plan: &Plan) -> Result<Done, ActionError> {
    let (name, value) = wanted(settings, call)?;
    let mut link = Link::open(settings, &call.action).await?;
    let old = read(&mut link, &name).await?;
    if old != plan.stands_on {
        return Err(link.changed(format!("{name} was \"{}\", now it is \"{old}\"", plan.stands_on)));
    }
    let _: ::redis::Value = link.ask(&command(&["CONFIG", "SET", &name, &value])).await?;
    let now = read(&mut link, &name).await?;
    let seen = format!("CONFIG GET {name} says \"{now}\"");
    let verified = if same(&name, &value, &now) { Verified::seen(seen) } else { Verified::missed(seen) };
    let mut done = Done::new(format!("set {name} of {} from \"{old}\" to \"{now}\"", link.host), verified);
    done.affected = u64::from(now != old);
    (done.before, done.after) = (json!({ &name: old }), json!({ &name: now }));
    done.inverse = Some(back(call, &name, &old));
    Ok(done)
}

/// `100mb` as the server reads it.
fn bytes_of(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.len() - lower.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let factor = match &lower[digits..] {
        "" | "b" => 1,
        "k" => 1_000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    lower[..digits].parse::<u64>().ok()?.checked_mul(factor)
}

/// Whether the server's way to write a value means what was wanted.
fn same(name: &str, wanted: &str, seen: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        let plain = |word: &str| bytes_of(word).map_or_else(|| word.to_ascii_lowercase(), |bytes| bytes.to_string());
        text.split_whitespace().map(|word| if word == "replica" { "slave".to_owned() } else { plain(word) }).collect()
    };
    match name {
        "notify-keyspace-events" => {
            // `A` stands for all of `g$lshzxet`.
            let sorted = |text: &str| {
                let mut letters: Vec<char> =
                    text.chars().flat_map(|letter| if letter == 'A' { "g$lshzxetd".chars().collect() } else { vec![letter] }).collect();
                letters.sort_unstable();
                letters.dedup();
                letters
            };
            sorted(wanted) == sorted(seen)
        }
        "client-output-buffer-limit" => {
            let seen = words(seen);
            let classes: Vec<&[String]> = seen.chunks(4).collect();
            words(wanted).chunks(4).all(|class| classes.contains(&class))
        }
        _ => words(wanted) == words(seen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_by_what_they_mean() {
        let cases = [
            ("maxmemory", "100mb", "104857600", true),
            ("maxmemory", "100m", "104857600", false),
            ("maxmemory-policy", "Volatile-LRU", "volatile-lru", true),
            ("save", "3600 1  300 100", "3600 1 300 100", true),
            ("save", "", "3600 1", false),
            ("notify-keyspace-events", "KEA", "AKE", true),
            ("notify-keyspace-events", "Kx", "xK", true),
            (
                "client-output-buffer-limit",
                "replica 64mb 32mb 60",
                "normal 0 0 0 slave 67108864 33554432 60 pubsub 33554432 8388608 60",
                true,
            ),
            ("client-output-buffer-limit", "normal 1 0 0", "normal 0 0 0 slave 67108864 33554432 60", false),
        ];
        for (name, wanted, seen, expect) in cases {
            assert_eq!(same(name, wanted, seen), expect, "{name} {wanted} {seen}");
        }
    }

    #[test]
    fn only_what_is_listed_may_be_set_and_some_never() {
        let check = |settings: &Settings, name: &str| {
            wanted(settings, &Call::new("redis.config_set").with("setting", name).with("value", "1")).is_ok()
        };
        let settings = Settings::default();
        for name in ["maxmemory", "MAXMEMORY", "slowlog-max-len", "save", "notify-keyspace-events"] {
            assert!(check(&settings, name), "{name}");
        }
        for name in
            ["dir", "dbfilename", "requirepass", "rename-command", "masterauth", "max*", "maxmemory dir", "slowlog-*", "", "aclfile"]
        {
            assert!(!check(&settings, name), "{name}");
        }
        let all = Settings { settings: vec!["*".to_owned()], ..Settings::default() };
        assert!(check(&all, "hash-max-listpack-entries"));
        for name in ["dir", "dbfilename", "requirepass", "enable-module-command", "tls-port"] {
            assert!(!check(&all, name), "{name}");
        }
    }
}
