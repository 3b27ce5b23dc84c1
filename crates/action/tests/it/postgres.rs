//! PostgreSQL: exactly the planned backends end, settings apply and come back, and nothing is told that was not seen.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use paramedic_action::call::Call;
use paramedic_action::postgres::{Databases, Settings};
use paramedic_action::{ActionError, Adapter};
use serde_json::json;
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;

use crate::local::{Server, carry, postgres as start};

async fn connect(server: &Server, role: &str, database: &str) -> Client {
    let password = if role == "boss" { "letmein99" } else { "shop-secret" };
    let url = format!("postgres://{role}:{password}@127.0.0.1:{}/{database}?application_name=shop", server.port);
    let begun = Instant::now();
    loop {
        match tokio_postgres::connect(&url, NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                return client;
            }
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(20), "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn server() -> Option<(Server, Databases, Client)> {
    let server = start().await?;
    let boss = connect(&server, "boss", "postgres").await;
    for statement in
        ["CREATE ROLE shop LOGIN PASSWORD 'shop-secret'", "CREATE DATABASE shop OWNER shop", "CREATE DATABASE other OWNER shop"]
    {
        boss.batch_execute(statement).await.unwrap();
    }
    let url = format!("postgres://boss:letmein99@127.0.0.1:{}/postgres", server.port);
    Some((server, Databases::new(Settings { url, timeout_s: 3, ..Settings::default() }), boss))
}

async fn pid(client: &Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0)
}

async fn alive(client: &Client) -> bool {
    client.batch_execute("SELECT 1").await.is_ok()
}

/// Longer than what the calls ask for.
async fn grow_old() {
    tokio::time::sleep(Duration::from_millis(700)).await;
}

fn terminate(max: u64) -> Call {
    let call = Call::new("postgres.terminate").with("state", "idle in transaction").with("older_than", "500ms");
    call.with("max", max).with("database", "shop")
}

#[tokio::test]
async fn an_idle_transaction_is_listed_ended_and_gone_and_its_siblings_stay() {
    let Some((server, databases, boss)) = server().await else { return };
    let victim = connect(&server, "shop", "shop").await;
    victim.batch_execute("CREATE TABLE orders (id int); INSERT INTO orders VALUES (1)").await.unwrap();
    let (sibling, elsewhere, quiet) =
        (connect(&server, "shop", "shop").await, connect(&server, "shop", "other").await, connect(&server, "shop", "shop").await);
    let super_one = connect(&server, "boss", "shop").await;
    victim.batch_execute("BEGIN; INSERT INTO orders VALUES (2); LOCK TABLE orders /* password=hunter22 */").await.unwrap();
    elsewhere.batch_execute("BEGIN").await.unwrap();
    super_one.batch_execute("BEGIN").await.unwrap();
    let blocked = connect(&server, "shop", "shop").await;
    let waiting = tokio::spawn(async move { blocked.query_one("SELECT count(*) FROM orders", &[]).await.map(|row| row.get::<_, i64>(0)) });
    grow_old().await;
    sibling.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let number = pid(&victim).await;
    victim.batch_execute("SELECT 2").await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;

    let listed = carry(&databases, &Call::new("postgres.long_transactions").with("older_than", "1s").with("database", "shop"))
        .await
        .unwrap()
        .1
        .answer;
    let of_victim = listed["transactions"].as_array().unwrap().iter().find(|one| one["pid"] == json!(number)).unwrap();
    assert_eq!(
        (&of_victim["state"], &of_victim["application"], &of_victim["blocks"]),
        (&json!("idle in transaction"), &json!("shop"), &json!(1))
    );
    assert!(!listed.to_string().contains("hunter22"));
    let locks = carry(&databases, &Call::new("postgres.locks").with("database", "shop")).await.unwrap().1.answer;
    assert_eq!(
        (&locks["count"], &locks["waiting"][0]["blocked_by"], &locks["waiting"][0]["relation"]),
        (&json!(1), &json!([number]), &json!("orders")),
        "{locks}"
    );

    let call = terminate(1).with("older_than", "3s");
    // It is in its transaction for as long, and was busy a moment ago.
    sibling.batch_execute("SELECT 3").await.unwrap();
    let plan = databases.plan(&call).await.unwrap();
    assert_eq!((plan.affected, plan.exact.as_slice()), (1, [format!("SELECT pg_terminate_backend({number})")].as_slice()), "{plan:?}");
    assert!(plan.objects[0].name.starts_with(&format!("{number} since 2")) && plan.objects[0].detail.contains("blocks 1"), "{plan:?}");
    assert!(plan.warnings.iter().any(|warning| warning.starts_with("1 more are left alone")), "{:?}", plan.warnings);
    let count: i64 = boss.query_one("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in%'", &[]).await.unwrap().get(0);
    assert_eq!(count, 4, "a plan changes nothing");
    let done = databases.execute(&call, &plan, &CancellationToken::new()).await.unwrap();
    assert!(done.verified.holds && done.affected == 1, "{done:?}");
    assert!(!alive(&victim).await, "it is gone");
    assert_eq!(waiting.await.unwrap().unwrap(), 1, "what it had not committed is rolled back, and who waited goes on");
    for (client, name) in [(&sibling, "sibling"), (&elsewhere, "elsewhere"), (&quiet, "quiet"), (&super_one, "super")] {
        assert!(alive(client).await, "{name}");
    }
}

#[tokio::test]
async fn only_what_was_planned_ends() {
    let Some((server, databases, _boss)) = server().await else { return };
    let (one, two) = (connect(&server, "shop", "shop").await, connect(&server, "shop", "shop").await);
    for client in [&one, &two] {
        client.batch_execute("BEGIN; SELECT 1").await.unwrap();
    }
    grow_old().await;
    let refused = databases.plan(&terminate(1)).await.unwrap_err();
    assert!(matches!(refused, ActionError::Refused { .. }) && refused.to_string().contains("2 backends"), "{refused}");
    let plan = databases.plan(&terminate(2)).await.unwrap();
    assert_eq!(plan.affected, 2);
    // One of them goes on with another transaction, which nobody has planned to end.
    one.batch_execute("COMMIT; BEGIN; SELECT 1").await.unwrap();
    let done = databases.execute(&terminate(2), &plan, &CancellationToken::new()).await.unwrap();
    assert!(done.affected == 1 && done.verified.holds && done.verified.how.contains("1 had ended or gone on"), "{done:?}");
    assert!(alive(&one).await && !alive(&two).await);
    // Names are names.
    for database in ["'; drop", "shop' OR '1'='1", "%", "nobody"] {
        let found = databases.plan(&terminate(5).with("database", database)).await;
        assert!(matches!(found, Err(ActionError::NotFound { .. })), "{database} {found:?}");
    }
    for (name, value) in [("state", "idle' OR true"), ("state", "disabled"), ("older_than", "long"), ("max", "-1"), ("pid", "99999999999")]
    {
        let found = databases.plan(&terminate(5).with(name, value)).await;
        assert!(matches!(found, Err(ActionError::Argument { .. })), "{name} {value}");
    }
    let off = CancellationToken::new();
    off.cancel();
    grow_old().await;
    let plan = databases.plan(&terminate(2)).await.unwrap();
    assert!(matches!(databases.execute(&terminate(2), &plan, &off).await, Err(ActionError::CalledOff { .. })) && alive(&one).await);
}

#[tokio::test]
async fn a_statement_is_broken_off_and_its_connection_stays() {
    let Some((server, databases, _boss)) = server().await else { return };
    let slow = connect(&server, "shop", "shop").await;
    let number = pid(&slow).await;
    let asked = tokio::spawn(async move { (slow.batch_execute("SELECT pg_sleep(60)").await, slow) });
    grow_old().await;
    let call = Call::new("postgres.cancel").with("older_than", "300ms").with("max", 1).with("pid", number);
    let plan = databases.plan(&call).await.unwrap();
    assert_eq!((plan.affected, plan.exact.as_slice()), (1, [format!("SELECT pg_cancel_backend({number})")].as_slice()));
    let done = databases.execute(&call, &plan, &CancellationToken::new()).await.unwrap();
    assert!(done.verified.holds, "{done:?}");
    let (answer, slow) = asked.await.unwrap();
    assert!(answer.unwrap_err().as_db_error().unwrap().message().contains("canceling statement") && alive(&slow).await);
}

#[tokio::test]
async fn of_a_queue_for_a_lock_only_its_first_is_touched() {
    let Some((server, databases, boss)) = server().await else { return };
    let first = connect(&server, "shop", "shop").await;
    first.batch_execute("CREATE TABLE orders (id int)").await.unwrap();
    let (held, idle, number) = (connect(&server, "shop", "shop").await, connect(&server, "shop", "shop").await, pid(&first).await);
    idle.batch_execute("BEGIN; SELECT 1").await.unwrap();
    let busy = tokio::spawn(async move { (first.batch_execute("BEGIN; LOCK TABLE orders; SELECT pg_sleep(60)").await, first) });
    until_active(&boss, "pg_sleep").await;
    let waits = tokio::spawn(async move { held.batch_execute("SELECT count(*) FROM orders").await });
    grow_old().await;
    let cancel = Call::new("postgres.cancel").with("older_than", "300ms").with("max", 1).with("database", "shop");
    let both = databases.plan(&cancel).await.unwrap_err().to_string();
    assert!(both.contains("2 backends"), "{both}");
    let cancel = cancel.with("blocking", true);
    let plan = databases.plan(&cancel).await.unwrap();
    assert_eq!(plan.exact, [format!("SELECT pg_cancel_backend({number})")], "{plan:?}");
    // A transaction that is open and in nobody's way stays.
    assert_eq!(databases.plan(&terminate(1)).await.unwrap().affected, 1);
    assert_eq!(databases.plan(&terminate(1).with("blocking", true)).await.unwrap().affected, 0);
    let done = databases.execute(&cancel, &plan, &CancellationToken::new()).await.unwrap();
    assert!(done.verified.holds && done.affected == 1, "{done:?}");
    let (broken, first) = busy.await.unwrap();
    assert!(broken.is_err());
    first.batch_execute("ROLLBACK").await.unwrap();
    waits.await.unwrap().unwrap();
}

async fn until_active(boss: &Client, query: &str) {
    let begun = std::time::Instant::now();
    let statement =
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%' || $1 || '%'";
    while boss.query_one(statement, &[&query]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "nobody runs {query}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn auto_conf(server: &Server) -> PathBuf {
    server.folder.path().join("data/postgresql.auto.conf")
}

async fn show(server: &Server, name: &str) -> String {
    connect(server, "shop", "shop").await.query_one(&format!("SHOW {name}"), &[]).await.unwrap().get(0)
}

fn alter(name: &str, value: &str) -> Call {
    Call::new("postgres.alter_system").with("setting", name).with("value", value)
}

#[tokio::test]
async fn a_setting_applies_is_seen_and_comes_back() {
    let Some((server, databases, _boss)) = server().await else { return };
    let hostile = "%m '; DROP TABLE x; -- \\' \" ";
    let cases = [
        ("work_mem", "64MB", "64MB"),
        ("idle_in_transaction_session_timeout", "5min", "5min"),
        ("log_min_duration_statement", "250ms", "250ms"),
        ("autovacuum", "off", "off"),
        ("random_page_cost", "1.25", "1.25"),
        ("synchronous_commit", "local", "local"),
        ("log_line_prefix", hostile, hostile),
    ];
    for (name, value, expect) in cases {
        let (before, file) = (show(&server, name).await, std::fs::read(auto_conf(&server)).unwrap());
        let call = alter(name, value);
        let plan = databases.plan(&call).await.unwrap();
        assert!(plan.warnings.iter().any(|warning| warning.contains("a reload is enough")), "{:?}", plan.warnings);
        assert_eq!(
            (show(&server, name).await, std::fs::read(auto_conf(&server)).unwrap()),
            (before.clone(), file.clone()),
            "a plan changes nothing"
        );
        let done = databases.execute(&call, &plan, &CancellationToken::new()).await.unwrap();
        assert!(done.verified.holds, "{name}: {:?}", done.verified);
        assert_eq!(show(&server, name).await, expect);
        // Taken back later, by somebody who knows nothing but the call.
        let (_, undone) = carry(&databases, &done.inverse.unwrap()).await.unwrap();
        assert!(undone.verified.holds, "{name}: {:?}", undone.verified);
        assert_eq!((show(&server, name).await, std::fs::read(auto_conf(&server)).unwrap()), (before, file), "{name} is as it was");
    }
    // What stood in the file before comes back, not the default.
    carry(&databases, &alter("work_mem", "16MB")).await.unwrap();
    let (_, done) = carry(&databases, &alter("work_mem", "32MB")).await.unwrap();
    assert_eq!(done.inverse.as_ref().unwrap().arguments["value"], json!("16MB"));
    carry(&databases, &done.inverse.unwrap()).await.unwrap();
    assert_eq!(show(&server, "work_mem").await, "16MB");
    // Somebody else changed it between.
    let plan = databases.plan(&alter("work_mem", "8MB")).await.unwrap();
    carry(&databases, &alter("work_mem", "24MB")).await.unwrap();
    let changed = databases.execute(&alter("work_mem", "8MB"), &plan, &CancellationToken::new()).await;
    assert!(matches!(changed, Err(ActionError::Changed { .. })) && show(&server, "work_mem").await == "24MB");
    let (_, reset) = carry(&databases, &Call::new("postgres.alter_system").with("setting", "work_mem").with("reset", true)).await.unwrap();
    assert!(reset.verified.holds && show(&server, "work_mem").await == "4MB", "{reset:?}");
}

#[tokio::test]
async fn a_setting_that_waits_for_a_restart_is_said_to() {
    let Some((server, databases, boss)) = server().await else { return };
    let plan = databases.plan(&alter("max_connections", "150")).await.unwrap();
    assert!(plan.warnings.iter().any(|warning| warning.contains("after a restart")), "{:?}", plan.warnings);
    let done = databases.execute(&alter("max_connections", "150"), &plan, &CancellationToken::new()).await.unwrap();
    assert!(!done.verified.holds && done.verified.how.contains("it will apply at the next restart"), "{done:?}");
    let (_, undone) = carry(&databases, &done.inverse.unwrap()).await.unwrap();
    assert!(undone.verified.holds && show(&server, "max_connections").await == "100", "{undone:?}");
    let waits: bool = boss.query_one("SELECT pending_restart FROM pg_settings WHERE name = 'max_connections'", &[]).await.unwrap().get(0);
    assert!(!waits);
    let (_, later) = carry(&databases, &alter("max_connections", "150").with("restart_later", true)).await.unwrap();
    assert!(later.verified.holds && later.verified.how.contains("next restart"), "{later:?}");
}

#[tokio::test]
async fn what_cannot_be_set_is_refused_before_anything_is_written() {
    let Some((server, databases, boss)) = server().await else { return };
    let before = std::fs::read(auto_conf(&server)).unwrap();
    for (name, value) in [
        ("work_mem", "1kB"),
        ("work_mem", "9999999TB"),
        ("work_mem", "64mb"),
        ("work_mem", "8MB\narchive_command = 'rm'"),
        ("synchronous_commit", "maybe"),
        ("autovacuum", "perhaps"),
        ("default_transaction_isolation", "chaos"),
        ("timezone", "Nowhere/Land"),
        ("block_size", "4096"),
        ("port", "1"),
        ("archive_command", "rm -rf /"),
        ("shared_preload_libraries", "evil"),
        ("fsync", "off"),
        ("hba_file", "/tmp/x"),
        ("ssl_passphrase_command", "x"),
        ("no_such_setting", "1"),
        ("work_mem; DROP DATABASE shop", "1"),
        ("x\" = 1; --", "1"),
        ("", "1"),
    ] {
        let found = databases.plan(&alter(name, value)).await;
        assert!(found.is_err(), "{name} {value}");
    }
    assert!(databases.plan(&Call::new("postgres.alter_system").with("setting", "work_mem")).await.is_err());
    assert!(databases.plan(&alter("work_mem", "8MB").with("reset", true)).await.is_err());
    assert_eq!(std::fs::read(auto_conf(&server)).unwrap(), before);
    assert!(alive(&boss).await);
}

#[tokio::test]
async fn connections_are_counted_and_statistics_begin_anew() {
    let Some((server, databases, _boss)) = server().await else { return };
    let client = connect(&server, "shop", "shop").await;
    client.batch_execute("BEGIN").await.unwrap();
    let found = carry(&databases, &Call::new("postgres.connections")).await.unwrap().1.answer;
    assert_eq!(
        (&found["max"], &found["reserved"], &found["states"]["idle in transaction"]),
        (&json!(100), &json!(3), &json!(1)),
        "{found}"
    );
    assert_eq!(found["available"].as_i64().unwrap(), 97 - found["used"].as_i64().unwrap());
    let call = Call::new("postgres.reset_statistics").with("database", "shop");
    let (plan, done) = carry(&databases, &call).await.unwrap();
    assert!(plan.what.contains("in shop") && done.verified.holds, "{done:?}");
    let (_, again) = carry(&databases, &call).await.unwrap();
    assert!(again.verified.holds, "{again:?}");
    assert!(matches!(databases.plan(&call.with("what", "statements")).await, Err(ActionError::NotFound { .. })));
}

#[tokio::test]
async fn a_server_that_goes_away_is_told_without_its_password() {
    let Some((mut server, databases, _boss)) = server().await else { return };
    let at = |url: String| Databases::new(Settings { url, timeout_s: 2, ..Settings::default() });
    let wrong = at(format!("postgres://boss:battery-staple@127.0.0.1:{}/postgres", server.port));
    let said = wrong.plan(&terminate(1)).await.unwrap_err().to_string();
    assert!(said.contains("password authentication failed") && !said.contains("battery"), "{said}");
    for url in ["", "postgres://boss:battery-staple@[", "http://battery-staple", "postgres://boss:battery-staple@127.0.0.1:1/x"] {
        let said = at(url.to_owned()).plan(&terminate(1)).await.unwrap_err().to_string();
        assert!(!said.contains("battery"), "{said}");
    }
    let victim = connect(&server, "shop", "shop").await;
    victim.batch_execute("BEGIN").await.unwrap();
    grow_old().await;
    let plan = databases.plan(&terminate(1)).await.unwrap();
    server.freeze();
    let begun = Instant::now();
    let said = databases.execute(&terminate(1), &plan, &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(said, ActionError::Failed { .. }) && begun.elapsed() < Duration::from_secs(8), "{said}");
    server.thaw();
    assert!(alive(&victim).await);
    server.end();
    let said = databases.execute(&terminate(1), &plan, &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(said, ActionError::Failed { .. }), "{said}");
}
