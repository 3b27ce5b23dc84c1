use std::time::{Duration, Instant};

use crate::stage::{Certificate, Manner, POSTGRES_PASSWORD, Postgres, Stage, assert_never_shown, free_port, misbehaving};

#[tokio::test]
async fn a_server_is_measured_under_all_its_names() {
    let Some(mut postgres) = Postgres::start(None).await else { return };
    let client = postgres.client().await.unwrap();
    for statement in [
        "CREATE DATABASE continuous_claude",
        "CREATE EXTENSION pg_stat_statements",
        "CREATE TABLE learnings (a text)",
        "INSERT INTO learnings SELECT repeat('x', 100) FROM generate_series(1, 5000)",
        "ANALYZE",
    ] {
        client.batch_execute(statement).await.unwrap();
    }
    let stage = Stage::new(&format!("postgres = [{{ url = {:?}, instance = \"db\" }}]", postgres.url(POSTGRES_PASSWORD)));
    let look = stage.look().await;
    assert_eq!(look.target.last_error, "");
    assert_never_shown(&stage, &look, POSTGRES_PASSWORD);
    for (expression, expected) in [
        ("pg_up{job=\"postgres\"}", 1.0),
        ("up{job=\"postgres\",instance=\"db\"}", 1.0),
        ("pg_settings_max_connections", 20.0),
        ("pg_pool_connections_active", 2.0),
        ("pg_pool_connections_max", 17.0),
        ("pg_pool_connections_available", 15.0),
        // The published expression, as it is.
        ("pg_stat_activity_count / pg_max_connections", 0.1),
        ("sum by (instance) (pg_stat_activity_count{instance=\"db\"})", 2.0),
        ("pg_stat_activity_count{datname=\"postgres\",state=\"idle\"}", 1.0),
        ("pg_stat_activity_count{datname=\"continuous_claude\",state=\"active\"}", 0.0),
        ("pg_replication_lag_seconds", 0.0),
        ("pg_replication_is_replica", 0.0),
        ("pg_locks_waiting_count", 0.0),
        ("sum(pg_stat_database_deadlocks)", 0.0),
        ("count(pg_total_relation_size_bytes{relname=\"learnings\",service=\"postgres\"} > 500000)", 1.0),
        ("count(pg_database_size_bytes{datname=\"continuous_claude\"} > 1000000)", 1.0),
        ("min(pg_scrape_collector_success)", 1.0),
    ] {
        assert!((stage.value(expression) - expected).abs() < 1e-9, "{expression} is {} instead of {expected}", stage.value(expression));
    }
    assert!(stage.values("pg_stat_statements_p95_ms").is_empty(), "nothing to compare with yet");
    for _ in 0..20 {
        client.simple_query("SELECT pg_sleep(0.02)").await.unwrap();
    }
    stage.look().await;
    let estimate = stage.value("pg_stat_statements_p95_ms");
    assert!((15.0..60.0).contains(&estimate), "{estimate} ms for twenty calls of 20 ms");
    assert_eq!(stage.value("max(pg_stat_statements_calls_total == 20)"), 20.0);
    assert!(stage.values("pg_stat_statements_calls_total{query!=\"\"}").is_empty());
    // A long transaction and somebody who waits for its lock.
    client.batch_execute("BEGIN; LOCK TABLE learnings").await.unwrap();
    let other = postgres.client().await.unwrap();
    let waiting = tokio::spawn(async move { other.batch_execute("SELECT count(*) FROM learnings").await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(stage.look().await.target.last_error, "");
    assert!(stage.value("pg_stat_activity_max_tx_duration{datname=\"postgres\",state=\"idle in transaction\"}") > 0.2);
    assert_eq!((stage.value("pg_locks_waiting_count"), stage.value("pg_waiting_for_lock_count")), (1.0, 1.0));
    client.batch_execute("COMMIT").await.unwrap();
    waiting.await.unwrap().unwrap();
    // The server dies, and comes back.
    drop(client);
    postgres.kill();
    let down = stage.look().await;
    assert_eq!((stage.value("pg_up{job=\"postgres\"}"), stage.value("up")), (0.0, 0.0), "{:?}", down.target);
    assert!(stage.values("pg_stat_activity_count").is_empty(), "ended by staleness markers");
    assert_eq!(down.target.failures, 1);
}

#[tokio::test]
async fn a_wrong_password_is_told_without_the_password() {
    let Some(postgres) = Postgres::start(None).await else { return };
    for url in [postgres.url("wrong-secret-77"), format!("host=127.0.0.1 port={} user=app password=wrong-secret-77", postgres.port)] {
        let stage = Stage::new(&format!("postgres = [{{ url = {url:?} }}]"));
        let look = stage.look().await;
        assert!(look.target.last_error.contains("authentication"), "{}", look.target.last_error);
        assert_eq!(
            look.target.address,
            format!("postgres://127.0.0.1:{}/{}", postgres.port, if url.contains("://") { "postgres" } else { "app" })
        );
        assert_never_shown(&stage, &look, "wrong-secret-77");
        assert_eq!(stage.value("pg_up"), 0.0);
    }
}

#[tokio::test]
async fn sockets_and_encrypted_connections_work_and_the_session_is_kept() {
    let Some(certificate) = Certificate::make("200101000000Z", "490101000000Z") else { return };
    let Some(mut postgres) = Postgres::start(Some(&certificate)).await else { return };
    let socket = Stage::new(&format!("postgres = [{{ url = {:?}, relations_top = 3 }}]", postgres.socket_url()));
    assert_eq!(socket.target().await.last_error, "");
    let url = postgres.url(POSTGRES_PASSWORD);
    let encrypted = Stage::new(&format!("postgres = [{{ url = {url:?}, ca_file = {:?} }}]", certificate.path("ca.pem")));
    assert_eq!(encrypted.target().await.last_error, "");
    encrypted.look().await;
    let client = postgres.client().await.unwrap();
    let sessions = client
        .query("SELECT a.pid FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE s.ssl AND application_name = 'paramedic'", &[])
        .await
        .unwrap();
    assert_eq!(sessions.len(), 1, "two looks, one session");
    // Somebody ends our session: the next look begins a new one.
    client.batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'paramedic'").await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(encrypted.target().await.last_error, "");
    let other = Certificate::make("200101000000Z", "490101000000Z").unwrap();
    let stranger = Stage::new(&format!("postgres = [{{ url = {url:?}, ca_file = {:?} }}]", other.path("ca.pem")));
    let refused = stranger.target().await.last_error;
    assert!(refused.contains("ertificate"), "{refused}");
    drop(client);
    postgres.kill();
}

#[tokio::test]
async fn servers_that_misbehave_are_cut_and_named() {
    for (manner, seconds_max) in [(Manner::Silent, 2.5), (Manner::Garbage, 2.5), (Manner::Flood, 2.5), (Manner::HangUp, 2.5)] {
        let port = misbehaving(manner).await;
        let stage = Stage::new(&format!("timeout_s = 1\npostgres = [{{ url = \"postgres://app:secret-xyz@127.0.0.1:{port}/db\" }}]"));
        let begun = Instant::now();
        let look = stage.look().await;
        assert!(begun.elapsed().as_secs_f64() < seconds_max, "{:?}", begun.elapsed());
        assert!(!look.target.last_error.is_empty());
        assert_never_shown(&stage, &look, "secret-xyz");
        assert_eq!(stage.value("pg_up"), 0.0);
    }
    let stage = Stage::new(&format!("postgres = [{{ url = \"postgres://app@127.0.0.1:{}/db\" }}]", free_port()));
    assert!(stage.target().await.last_error.contains("refused"));
}
