use std::time::{Duration, Instant};

use redis::AsyncCommands;

use crate::stage::{Manner, Redis, Stage, assert_never_shown, free_port, misbehaving};

async fn client(redis: &Redis, login: &str) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(format!("redis://{login}127.0.0.1:{}/", redis.port)).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

#[tokio::test]
async fn a_server_is_measured_under_all_its_names() {
    let Some(mut redis) = Redis::start(&["--maxmemory", "100mb", "--slowlog-log-slower-than", "0"]).await else { return };
    let mut connection = client(&redis, "").await;
    for i in 0..7 {
        let _: () = connection.rpush("queue:pending", i).await.unwrap();
        let _: () = connection.rpush(format!("agent:{i}:events"), "{}").await.unwrap();
    }
    let _: () = connection.set("plain", 1).await.unwrap();
    let _: Option<i64> = connection.get("plain").await.unwrap();
    let _: Option<i64> = connection.get("absent").await.unwrap();
    let stage = Stage::new(&format!(
        "redis = [{{ url = \"redis://127.0.0.1:{}\", queues = [\"queue:pending\", \"queue:failed\"], streams = [\"agent:*:events\"] }}]",
        redis.port
    ));
    assert_eq!(stage.target().await.last_error, "");
    for (expression, expected) in [
        ("up{job=\"redis\"}", 1.0),
        ("redis_up", 1.0),
        ("redis_memory_max_bytes", 104_857_600.0),
        ("redis_memory_used_bytes - redis_memory_bytes", 0.0),
        ("redis_keyspace_hits_total", 1.0),
        ("redis_keyspace_misses_total", 1.0),
        ("redis_db_keys{db=\"db0\"}", 9.0),
        ("redis_key_count", 9.0),
        ("agent_queue_depth{queue=\"queue:pending\"}", 7.0),
        ("agent_queue_depth{queue=\"queue:failed\"}", 0.0),
        ("count(stream_redis_backlog{stream_key=~\"agent:.*:events\"})", 7.0),
        ("redis_rdb_last_bgsave_status", 1.0),
        ("redis_blocked_clients", 0.0),
        ("redis_operations_total{operation=\"set\"}", 1.0),
        ("redis_instance_info{role=\"master\"}", 1.0),
        ("count(redis_slowlog_length > 10)", 1.0),
    ] {
        assert_eq!(stage.value(expression), expected, "{expression}");
    }
    assert!(stage.value("redis_memory_used_bytes / redis_memory_max_bytes") < 0.9);
    assert!(stage.value("connection_latency_ms{connection_type=\"redis\"}") < 1_000.0);
    redis.kill();
    assert_ne!(stage.target().await.last_error, "");
    assert_eq!((stage.value("up{job=\"redis\"}"), stage.value("redis_up")), (0.0, 0.0));
    assert!(stage.values("redis_memory_used_bytes").is_empty(), "ended by staleness markers");
    redis.run().await;
    assert_eq!(stage.target().await.last_error, "");
    assert_eq!(stage.value("redis_up"), 1.0);
    assert!(stage.values("stream_redis_backlog").is_empty(), "the keys are gone");
    // A server that was restarted between two looks is not noticed as a failure.
    redis.kill();
    redis.run().await;
    assert_eq!(stage.target().await.last_error, "");
}

#[tokio::test]
async fn readers_of_streams_that_fall_behind_are_seen() {
    let Some(redis) = Redis::start(&[]).await else { return };
    let mut connection = client(&redis, "").await;
    for _ in 0..5 {
        let _: String = redis::cmd("XADD").arg("tasks").arg("*").arg("a").arg("b").query_async(&mut connection).await.unwrap();
    }
    for (group, from) in [("workers", "0"), ("done", "$")] {
        let _: () = redis::cmd("XGROUP").arg("CREATE").arg("tasks").arg(group).arg(from).query_async(&mut connection).await.unwrap();
    }
    let mut read = redis::cmd("XREADGROUP");
    read.arg("GROUP").arg("workers").arg("w1").arg("COUNT").arg(2).arg("STREAMS").arg("tasks").arg(">");
    let _: redis::Value = read.query_async(&mut connection).await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    let stage = Stage::new(&format!("redis = [{{ url = \"redis://127.0.0.1:{}\", streams = [\"tasks\", \"nothing\"] }}]", redis.port));
    assert_eq!(stage.target().await.last_error, "");
    assert_eq!(stage.value("stream_redis_backlog{stream_key=\"tasks\"}"), 5.0);
    assert_eq!(stage.value("stream_redis_backlog{stream_key=\"nothing\"}"), 0.0);
    assert_eq!(stage.value("redis_stream_group_messages_pending{group=\"workers\"}"), 2.0);
    let lag = stage.value("stream_redis_consumer_lag_seconds{consumer_group=\"workers\"}");
    assert!((0.3..30.0).contains(&lag), "{lag}");
    assert_eq!(stage.value("stream_redis_consumer_lag_seconds{consumer_group=\"done\"}"), 0.0);
}

/// Many keys are looked through in several looks, within the budget of each.
#[tokio::test]
async fn patterns_are_found_within_a_budget() {
    let Some(redis) = Redis::start(&[]).await else { return };
    let mut connection = client(&redis, "").await;
    let mut filler = redis::pipe();
    for i in 0..20_000 {
        filler.set(format!("filler:{i}"), 1).ignore();
    }
    let _: () = filler.query_async(&mut connection).await.unwrap();
    for i in 0..30 {
        let _: () = connection.rpush(format!("queue:{i}"), 1).await.unwrap();
    }
    let stage = Stage::new(&format!(
        "redis = [{{ url = \"redis://127.0.0.1:{}\", queues = [\"queue:*\"], scan_keys_max = 2000, keys_max = 20 }}]",
        redis.port
    ));
    for _ in 0..15 {
        assert_eq!(stage.target().await.last_error, "");
    }
    assert_eq!(stage.value("count(agent_queue_depth)"), 20.0, "as many keys as are allowed");
}

#[tokio::test]
async fn passwords_are_used_and_never_shown() {
    let Some(redis) = Redis::start(&["--requirepass", "right-secret-55"]).await else { return };
    let with = |login: &str| Stage::new(&format!("redis = [{{ url = \"redis://{login}127.0.0.1:{}\" }}]", redis.port));
    let right = with(":right-secret-55@");
    let look = right.look().await;
    assert_eq!(look.target.last_error, "");
    assert_never_shown(&right, &look, "right-secret-55");
    for login in ["", ":wrong-secret-66@"] {
        let stage = with(login);
        let look = stage.look().await;
        assert!(!look.target.last_error.is_empty());
        assert_never_shown(&stage, &look, "wrong-secret-66");
        assert_eq!(stage.value("redis_up"), 0.0);
    }
}

#[tokio::test]
async fn servers_that_misbehave_are_cut_and_named() {
    for manner in [Manner::Silent, Manner::Garbage, Manner::Flood, Manner::HangUp] {
        let port = misbehaving(manner).await;
        let stage = Stage::new(&format!("timeout_s = 1\nredis = [{{ url = \"redis://:secret-xyz@127.0.0.1:{port}\" }}]"));
        let begun = Instant::now();
        let look = stage.look().await;
        assert!(begun.elapsed() < Duration::from_millis(2_500), "{:?}", begun.elapsed());
        assert!(!look.target.last_error.is_empty());
        assert_never_shown(&stage, &look, "secret-xyz");
        assert_eq!(stage.value("redis_up"), 0.0);
    }
    let stage = Stage::new(&format!("redis = [{{ url = \"redis://127.0.0.1:{}\" }}]", free_port()));
    assert!(stage.target().await.last_error.contains("refused"));
}
