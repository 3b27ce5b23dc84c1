//! Redis: what a census counts goes and nothing else; settings come back; nothing is removed by mistake.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use paramedic_action::call::Call;
use paramedic_action::redis::{Caches, Settings};
use paramedic_action::{ActionError, Adapter};
use redis::aio::MultiplexedConnection;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::local::{Server, carry, redis as start};

async fn server() -> Option<(Server, Caches, MultiplexedConnection)> {
    let server = start(&[]).await?;
    let url = format!("redis://127.0.0.1:{}/", server.port);
    let connection = redis::Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let caches = Caches::new(Settings { url, timeout_s: 2, ..Settings::default() });
    Some((server, caches, connection))
}

async fn send<T: redis::FromRedisValue>(connection: &mut MultiplexedConnection, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    words[1..].iter().for_each(|word| {
        command.arg(*word);
    });
    command.query_async(connection).await.unwrap()
}

/// Every key with its value, as the server would write it to disk.
async fn content(connection: &mut MultiplexedConnection) -> BTreeSet<(Vec<u8>, Vec<u8>)> {
    let keys: Vec<Vec<u8>> = send(connection, &["KEYS", "*"]).await;
    let mut all = BTreeSet::new();
    for key in keys {
        let dump: Vec<u8> = redis::cmd("DUMP").arg(&key).query_async(connection).await.unwrap();
        all.insert((key, dump));
    }
    all
}

async fn fill(connection: &mut MultiplexedConnection) {
    let mut pipe = redis::pipe();
    for number in 0..2_500 {
        pipe.cmd("SET").arg(format!("cache:user:{number}")).arg(format!("v{number}")).arg("EX").arg(3_600);
    }
    for number in 0..700 {
        pipe.cmd("SET").arg(format!("cache:job:{number}")).arg("v");
    }
    pipe.cmd("RPUSH").arg("cache:user").arg("not of the pattern").cmd("HSET").arg("Cache:user:1").arg("f").arg("v");
    for odd in ["cache:user*", "cache_user:1", "xcache:user:1", "[cache]:user:1", "'; drop", "line\r\nFLUSHALL\r\n"] {
        pipe.cmd("SET").arg(odd).arg("v");
    }
    pipe.cmd("SET").arg(&b"cache:\xff\xfe"[..]).arg("v");
    let _: redis::Value = pipe.query_async(connection).await.unwrap();
}

#[tokio::test]
async fn a_delete_takes_what_its_census_counted_and_nothing_else() {
    let Some((_server, caches, mut connection)) = server().await else { return };
    fill(&mut connection).await;
    let before = content(&mut connection).await;
    let (_, counted) = carry(&caches, &Call::new("redis.census").with("pattern", "cache:user:*")).await.unwrap();
    assert_eq!((&counted.answer["count"], &counted.answer["of"]), (&json!(2_500), &json!(before.len())));
    assert_eq!((&counted.answer["expiring_share"], counted.answer["names"][0].as_str()), (&json!(1.0), Some("cache:user:0")));
    assert!(counted.answer["types"]["string"].as_u64() > Some(100) && counted.answer["bytes_estimated"].as_u64() > Some(2_500 * 40));

    let call = Call::new("redis.delete").with("pattern", "cache:user:*").with("max", 3_000);
    let plan = caches.plan(&call).await.unwrap();
    assert_eq!((plan.affected, plan.of, plan.objects.len()), (2_500, Some(before.len() as u64), 100));
    assert!(plan.exact[0].starts_with("UNLINK cache:user:0 ") && plan.exact.len() == 5 && plan.inverse.is_none());
    assert_eq!(content(&mut connection).await, before, "a plan changes nothing");

    let done = caches.execute(&call, &plan, &CancellationToken::new()).await.unwrap();
    assert!(done.verified.holds, "{:?}", done.verified);
    assert_eq!(done.affected, 2_500);
    let after = content(&mut connection).await;
    let rest: BTreeSet<_> = before.into_iter().filter(|(key, _)| !key.starts_with(b"cache:user:")).collect();
    assert_eq!(after, rest, "everything else is as it was");
    assert_eq!(carry(&caches, &call).await.unwrap().1.affected, 0, "again there is nothing to do");
}

#[tokio::test]
async fn names_that_look_like_patterns_and_commands_are_names() {
    let Some((_server, caches, mut connection)) = server().await else { return };
    fill(&mut connection).await;
    let before = content(&mut connection).await;
    let delete = |pattern: &str| Call::new("redis.delete").with("pattern", pattern).with("max", 10);
    for pattern in ["*", "?????*", "c*", "[c]ache:*", "\\**", "", "c\\*", "cache:user:*"] {
        let refused = caches.plan(&delete(pattern)).await;
        assert!(matches!(refused, Err(ActionError::Refused { .. } | ActionError::Argument { .. })), "{pattern} {refused:?}");
    }
    let expect = [
        ("cache:user\\*", "cache:user*"),
        ("\\[cache\\]:user:1", "[cache]:user:1"),
        ("'; drop", "'; drop"),
        ("line\r\n*", "line\r\nFLUSHALL\r\n"),
    ];
    let mut rest = before.clone();
    for (pattern, key) in expect {
        let (plan, done) = carry(&caches, &delete(pattern)).await.unwrap();
        assert_eq!((plan.affected, done.affected, done.verified.holds), (1, 1, true), "{pattern}");
        assert!(!plan.exact[0].contains('\n'));
        rest.retain(|(name, _)| name != key.as_bytes());
        assert_eq!(content(&mut connection).await, rest, "{pattern}");
    }
    // A class is a class: these two and no others.
    let (plan, _) = carry(&caches, &delete("cache:job:[12]")).await.unwrap();
    assert_eq!(plan.affected, 2);
    let (plan, _) = carry(&caches, &delete("cache:\u{fffd}*")).await.unwrap();
    assert_eq!(plan.affected, 0, "a key that is no text is not what looks like it");
}

#[tokio::test]
async fn a_delete_stops_when_the_keys_are_not_as_planned() {
    let Some((mut server, caches, mut connection)) = server().await else { return };
    fill(&mut connection).await;
    let call = Call::new("redis.delete").with("pattern", "cache:job:*").with("max", 800);
    let plan = caches.plan(&call).await.unwrap();
    for number in 700..780 {
        let _: () = send(&mut connection, &["SET", &format!("cache:job:{number}"), "v"]).await;
    }
    let before = content(&mut connection).await;
    let changed = caches.execute(&call, &plan, &CancellationToken::new()).await;
    assert!(matches!(changed, Err(ActionError::Changed { .. })), "{changed:?}");
    let above = Call::new("redis.delete").with("pattern", "cache:job:*").with("max", 779);
    assert!(caches.plan(&above).await.unwrap_err().to_string().contains("780 keys match"));
    assert_eq!(content(&mut connection).await, before);

    // Called off before the first batch.
    let plan = caches.plan(&call).await.unwrap();
    let cancel = CancellationToken::new();
    cancel.cancel();
    let off = caches.execute(&call, &plan, &cancel).await;
    assert!(matches!(off, Err(ActionError::CalledOff { .. })), "{off:?}");
    assert_eq!(content(&mut connection).await, before);

    // The server does not answer, and then is another one.
    server.freeze();
    let begun = Instant::now();
    let gone = caches.execute(&call, &plan, &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(gone, ActionError::Failed { .. }) && begun.elapsed() < Duration::from_secs(10), "{gone}");
    server.thaw();
    server.end();
    let gone = caches.execute(&call, &plan, &CancellationToken::new()).await.unwrap_err();
    assert!(gone.to_string().contains("Redis at 127.0.0.1"), "{gone}");
}

#[tokio::test]
async fn a_setting_is_changed_seen_and_taken_back() {
    let Some((_server, caches, mut connection)) = server().await else { return };
    let get = async |connection: &mut MultiplexedConnection, name: &str| {
        send::<Vec<String>>(connection, &["CONFIG", "GET", name]).await.pop().unwrap()
    };
    let cases = [
        ("maxmemory", json!("64mb"), "67108864"),
        ("maxmemory-policy", json!("volatile-lru"), "volatile-lru"),
        ("stop-writes-on-bgsave-error", json!(false), "no"),
        ("save", json!("3600 1 300 100"), "3600 1 300 100"),
        ("timeout", json!(77), "77"),
        ("slowlog-log-slower-than", json!("5000"), "5000"),
        ("notify-keyspace-events", json!("KEA"), "AKE"),
        (
            "client-output-buffer-limit",
            json!("pubsub 64mb 16mb 90"),
            "normal 0 0 0 slave 268435456 67108864 60 pubsub 67108864 16777216 90",
        ),
    ];
    for (name, value, expect) in cases {
        let old = get(&mut connection, name).await;
        let call = Call::new("redis.config_set").with("setting", name).with("value", value);
        let plan = caches.plan(&call).await.unwrap();
        assert_eq!(get(&mut connection, name).await, old, "a plan changes nothing");
        assert!(plan.warnings.iter().any(|warning| warning.contains("CONFIG REWRITE")));
        let done = caches.execute(&call, &plan, &CancellationToken::new()).await.unwrap();
        assert!(done.verified.holds, "{name}: {:?}", done.verified);
        assert_eq!(get(&mut connection, name).await, expect);
        let (_, undone) = carry(&caches, &done.inverse.unwrap()).await.unwrap();
        assert!(undone.verified.holds, "{name}: {:?}", undone.verified);
        assert_eq!(get(&mut connection, name).await, old, "{name} is as it was");
    }
    // Somebody else changed it between.
    let call = Call::new("redis.config_set").with("setting", "maxmemory").with("value", "1gb");
    let plan = caches.plan(&call).await.unwrap();
    let _: () = send(&mut connection, &["CONFIG", "SET", "maxmemory", "12345678"]).await;
    assert!(matches!(caches.execute(&call, &plan, &CancellationToken::new()).await, Err(ActionError::Changed { .. })));
    assert_eq!(get(&mut connection, "maxmemory").await, "12345678");
    for (name, value) in [
        ("dir", "/tmp"),
        ("dbfilename", "x.so"),
        ("requirepass", "x"),
        ("max*", "1"),
        ("maxmemory", "1gb\r\nFLUSHALL"),
        ("maxmemory", "much"),
    ] {
        let call = Call::new("redis.config_set").with("setting", name).with("value", value);
        assert!(carry(&caches, &call).await.is_err(), "{name} {value}");
    }
    let tight = caches.plan(&Call::new("redis.config_set").with("setting", "maxmemory").with("value", "1kb")).await.unwrap();
    assert!(tight.warnings.iter().any(|warning| warning.contains("used already")), "{:?}", tight.warnings);
}

#[tokio::test]
async fn a_stream_keeps_its_newest_entries() {
    let Some((_server, caches, mut connection)) = server().await else { return };
    for number in 1..=1_200 {
        let _: String = send(&mut connection, &["XADD", "jobs", &format!("{number}-0"), "n", &number.to_string()]).await;
    }
    let _: () = send(&mut connection, &["XGROUP", "CREATE", "jobs", "workers", "0"]).await;
    let _: () = send(&mut connection, &["XGROUP", "CREATE", "jobs", "tail", "$"]).await;
    let _: redis::Value = send(&mut connection, &["XREADGROUP", "GROUP", "workers", "w1", "COUNT", "30", "STREAMS", "jobs", ">"]).await;
    let _: () = send(&mut connection, &["SET", "text", "v"]).await;
    let call = Call::new("redis.stream_trim").with("key", "jobs").with("max_length", "1000");
    let plan = caches.plan(&call).await.unwrap();
    assert_eq!((plan.affected, plan.of), (200, Some(1_200)));
    assert!(plan.objects[1].name == "1-0 to 200-0", "{:?}", plan.objects);
    assert!(plan.warnings.iter().any(|warning| warning.contains("workers has not acknowledged 30")), "{:?}", plan.warnings);
    assert!(plan.warnings.iter().any(|warning| warning.contains("workers has not read all")), "{:?}", plan.warnings);
    assert!(!plan.warnings.iter().any(|warning| warning.contains("tail")), "{:?}", plan.warnings);
    let length: u64 = send(&mut connection, &["XLEN", "jobs"]).await;
    assert_eq!(length, 1_200, "a plan changes nothing");
    let done = caches.execute(&call, &plan, &CancellationToken::new()).await.unwrap();
    assert!(done.verified.holds && done.affected == 200, "{done:?}");
    let left: Vec<(String, redis::Value)> = send(&mut connection, &["XRANGE", "jobs", "-", "+"]).await;
    assert_eq!((left.len(), left[0].0.as_str()), (1_000, "201-0"));
    assert_eq!(carry(&caches, &call).await.unwrap().1.affected, 0);
    let wrong = |key: &str| Call::new("redis.stream_trim").with("key", key).with("max_length", 1);
    assert!(matches!(caches.plan(&wrong("text")).await, Err(ActionError::Refused { .. })));
    assert!(matches!(caches.plan(&wrong("jobs*")).await, Err(ActionError::NotFound { .. })));
}

#[tokio::test]
async fn everything_goes_only_when_somebody_has_typed_it() {
    let Some((_server, caches, mut connection)) = server().await else { return };
    fill(&mut connection).await;
    let before = content(&mut connection).await;
    let call = Call::new("redis.flush");
    let Err(ActionError::Confirm { phrase, .. }) = caches.plan(&call).await else { panic!("it asks") };
    assert!(phrase.starts_with("flush 127.0.0.1:") && phrase.contains("db0 about 3200"), "{phrase}");
    for typed in ["yes", "true", "", &phrase[..phrase.len() - 1]] {
        assert!(matches!(caches.plan(&call.clone().with("confirm", typed)).await, Err(ActionError::Confirm { .. })), "{typed}");
    }
    let call = call.with("confirm", phrase);
    let plan = caches.plan(&call).await.unwrap();
    assert_eq!(content(&mut connection).await, before);
    let _: () = send(&mut connection, &["DEL", "cache:job:1", "cache:job:2", "cache:job:3"]).await;
    assert!(caches.execute(&call, &plan, &CancellationToken::new()).await.unwrap().verified.holds, "still about as many");
    assert!(content(&mut connection).await.is_empty());
}

#[tokio::test]
async fn a_save_is_waited_for_and_a_failing_one_is_told() {
    let Some((server, caches, mut connection)) = server().await else { return };
    fill(&mut connection).await;
    let (_, done) = carry(&caches, &Call::new("redis.save")).await.unwrap();
    assert!(done.verified.holds && server.folder.path().join("dump.rdb").is_file(), "{done:?}");
    let (_, info) = carry(&caches, &Call::new("redis.info")).await.unwrap();
    assert_eq!((&info.answer["rdb_last_bgsave_status"], &info.answer["maxmemory_policy"]), (&json!("ok"), &json!("noeviction")));
    assert!(info.answer["used_memory"].as_i64() > Some(100_000));
    // The folder is gone: nothing can be written any more.
    std::fs::remove_dir_all(server.folder.path()).unwrap();
    let (_, done) = carry(&caches, &Call::new("redis.save")).await.unwrap();
    assert!(!done.verified.holds && done.verified.how.contains("err"), "{done:?}");
}

#[tokio::test]
async fn passwords_are_never_told_and_replicas_left_alone() {
    let Some(server) = start(&["--requirepass", "right-horse"]).await else { return };
    let caches = |url: String| Caches::new(Settings { url, timeout_s: 2, ..Settings::default() });
    let call = Call::new("redis.info");
    let wrong = caches(format!("redis://:battery-staple@127.0.0.1:{}/", server.port));
    let said = carry(&wrong, &call).await.unwrap_err().to_string();
    assert!(said.contains("127.0.0.1") && !said.contains("battery"), "{said}");
    let good = caches(format!("redis://:right-horse@127.0.0.1:{}/", server.port));
    assert!(carry(&good, &call).await.is_ok());
    for url in ["", "redis://:battery-staple@", "http://battery-staple", "rediss://:battery-staple@127.0.0.1:1/"] {
        let said = carry(&caches(url.to_owned()), &call).await.unwrap_err().to_string();
        assert!(!said.contains("battery"), "{said}");
    }
    let Some(replica) = start(&["--replicaof", "127.0.0.1", &server.port.to_string(), "--masterauth", "right-horse"]).await else { return };
    let replica = caches(format!("redis://127.0.0.1:{}/", replica.port));
    let refused = replica.plan(&Call::new("redis.delete").with("pattern", "cache:*").with("max", 1)).await.unwrap_err();
    assert!(refused.to_string().contains("is a replica of 127.0.0.1"), "{refused}");
}
