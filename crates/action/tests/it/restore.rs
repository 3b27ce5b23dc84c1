//! Backups: only fresh and whole ones are restored, only where nothing is, and whole or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use paramedic_action::call::Call;
use paramedic_action::restore::{Restores, Settings};
use paramedic_action::{ActionError, Adapter};
use paramedic_model::{Clock as _, ManualClock, SystemClock};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::local::{as_nobody, carry, postgres, program, redis};

fn restores() -> Restores {
    Restores::new(Settings::default(), Arc::new(SystemClock))
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn call(backup: &Path, into: &Path) -> Call {
    Call::new("data.restore").with("backup", backup.to_str().unwrap()).with("into", into.to_str().unwrap()).with("max_age", "26h")
}

async fn checked(backup: &Path) -> Value {
    let call = Call::new("data.backup_check").with("backup", backup.to_str().unwrap()).with("max_age", "26h");
    carry(&restores(), &call).await.unwrap().1.answer
}

/// Every path below with its content; a folder has none.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let (mut all, mut left) = (BTreeMap::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                left.push(path.clone());
                all.insert(path, None);
            } else {
                all.insert(path.clone(), Some(fs::read(path).unwrap()));
            }
        }
    }
    all
}

fn gz(path: &Path, bytes: &[u8]) {
    let mut packed = GzEncoder::new(fs::File::create(path).unwrap(), Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap();
}

/// A folder with its manifest, as `sha256sum` writes it.
fn folder_backup(folder: &Path) -> PathBuf {
    let backup = folder.join("nightly");
    fs::create_dir_all(backup.join("sub dir")).unwrap();
    fs::write(backup.join("a.txt"), "alpha").unwrap();
    fs::write(backup.join("sub dir/b.bin"), vec![7; 700_000]).unwrap();
    fs::write(backup.join("not-listed"), "x").unwrap();
    let sums = format!("{}  a.txt\n{} *./sub dir/b.bin\n", sum(b"alpha"), sum(&vec![7; 700_000]));
    fs::write(backup.join("SHA256SUMS"), sums).unwrap();
    backup
}

#[tokio::test]
async fn files_and_folders_are_restored_where_nothing_is() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // A database.
    let database = rusqlite::Connection::open(at("app.db")).unwrap();
    database.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1), (2)").unwrap();
    drop(database);
    gz(&at("dump.sql.gz"), &b"INSERT INTO t VALUES (1);\n".repeat(50_000));
    fs::write(at("plain.bin"), "data").unwrap();
    fs::write(at("plain.bin.sha256"), format!("{}  plain.bin\n", sum(b"data"))).unwrap();
    let nightly = folder_backup(folder.path());
    fs::create_dir(at("empty")).unwrap();
    let cases = [
        (at("app.db"), at("app-restored.db"), at("app-restored.db"), fs::read(at("app.db")).unwrap()),
        (at("dump.sql.gz"), at("empty"), at("empty/dump.sql"), b"INSERT INTO t VALUES (1);\n".repeat(50_000)),
        (at("plain.bin"), at("new.bin"), at("new.bin"), b"data".to_vec()),
        (nightly.clone(), at("nightly-restored"), at("nightly-restored/sub dir/b.bin"), vec![7; 700_000]),
    ];
    for (backup, into, file, expect) in cases {
        let before = tree(folder.path());
        let plan = restores().plan(&call(&backup, &into)).await.unwrap();
        assert_eq!(tree(folder.path()), before, "a plan changes nothing");
        let done = restores().execute(&call(&backup, &into), &plan, &CancellationToken::new()).await.unwrap();
        assert!(done.verified.holds && done.what.contains("to take it back remove"), "{done:?}");
        assert_eq!(fs::read(&file).unwrap(), expect, "{}", file.display());
        let mut after = tree(folder.path());
        after.retain(|path, _| !path.starts_with(&file) && !path.starts_with(&into));
        let mut rest = before;
        rest.retain(|path, _| !path.starts_with(&into));
        assert_eq!(after, rest, "nothing else is touched, nothing is left behind");
        // Again it would be over something.
        let again = restores().plan(&call(&backup, &into)).await;
        assert!(matches!(again, Err(ActionError::Refused { .. })), "{again:?}");
    }
    assert!(!at("nightly-restored/not-listed").exists(), "only what the manifest vouches for");
    assert_eq!(checked(&at("nightly-restored")).await["intact"], json!(true));
}

#[tokio::test]
async fn what_is_damaged_old_or_unknown_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let database = rusqlite::Connection::open(at("bad.db")).unwrap();
    database.execute_batch("CREATE TABLE t (x); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) INSERT INTO t SELECT randomblob(50) FROM n").unwrap();
    drop(database);
    let mut bytes = fs::read(at("bad.db")).unwrap();
    let length = bytes.len();
    bytes[8_192..12_288].fill(0x55);
    fs::write(at("bad.db"), &bytes).unwrap();
    fs::write(at("cut.db"), &bytes[..length / 2]).unwrap();
    gz(&at("cut.gz"), &b"abc".repeat(100_000));
    let packed = fs::read(at("cut.gz")).unwrap();
    fs::write(at("cut.gz"), &packed[..packed.len() - 9]).unwrap();
    fs::write(at("hashed"), "data").unwrap();
    fs::write(at("hashed.sha256"), sum(b"other")).unwrap();
    fs::write(at("unknown"), "data").unwrap();
    fs::write(at("cut.dump"), b"PGDMP\x01\x0e\0\x04\x08\x01").unwrap();
    fs::write(at("bad.rdb"), b"REDIS0010\xfa\x09redis").unwrap();
    let altered = folder_backup(folder.path());
    fs::write(altered.join("a.txt"), "alphb").unwrap();
    let expect = [
        ("bad.db", json!(false)),
        ("cut.db", json!(false)),
        ("cut.gz", json!(false)),
        ("hashed", json!(false)),
        ("unknown", json!(null)),
        ("cut.dump", json!(false)),
        ("bad.rdb", json!(false)),
        ("nightly", json!(false)),
    ];
    for (name, intact) in expect {
        let found = checked(&at(name)).await;
        assert_eq!((&found["fresh"], &found["intact"]), (&json!(true), &intact), "{name} {found}");
        let refused = restores().plan(&call(&at(name), &at("into"))).await;
        assert!(matches!(refused, Err(ActionError::Refused { .. })), "{name} {refused:?}");
    }
    for sums in ["../outside", "/etc/passwd", "a.txt/../../x"] {
        fs::write(altered.join("SHA256SUMS"), format!("{}  {sums}\n", sum(b"alphb"))).unwrap();
        assert_eq!(checked(&altered).await["intact"], json!(false), "{sums}");
    }
    fs::write(altered.join("SHA256SUMS"), fs::read(at("nightly/SHA256SUMS")).unwrap()).unwrap();
    // Two days later, and two days before it was made.
    fs::write(at("hashed.sha256"), sum(b"data")).unwrap();
    let clock = Arc::new(ManualClock::at(SystemClock.now().after(Duration::from_secs(48 * 3_600))));
    let later = Restores::new(Settings::default(), clock.clone());
    let refused = later.plan(&call(&at("hashed"), &at("into"))).await.unwrap_err();
    assert!(refused.to_string().contains("too old"), "{refused}");
    clock.set(SystemClock.now().before(Duration::from_secs(48 * 3_600)));
    assert!(later.plan(&call(&at("hashed"), &at("into"))).await.is_err(), "a backup from the future has a wrong time");
    for backup in ["nothing", "../hashed", "", "hash\ned"] {
        assert!(restores().plan(&call(&at(backup), &at("into"))).await.is_err(), "{backup}");
    }
    std::os::unix::fs::symlink(at("hashed"), at("link")).unwrap();
    assert!(matches!(restores().plan(&call(&at("link"), &at("into"))).await, Err(ActionError::NotFound { .. })));
    assert!(!at("into").exists() && !at("into.restoring").exists());
}

#[tokio::test]
async fn it_stops_when_the_world_has_changed_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("b"), vec![1; 3_000_000]).unwrap();
    fs::write(at("b.sha256"), sum(&vec![1; 3_000_000])).unwrap();
    let call = call(&at("b"), &at("into"));
    let plan = restores().plan(&call).await.unwrap();
    // Somebody else was there first.
    fs::write(at("into"), "mine").unwrap();
    assert!(matches!(restores().execute(&call, &plan, &CancellationToken::new()).await, Err(ActionError::Refused { .. })));
    assert_eq!(fs::read(at("into")).unwrap(), b"mine");
    fs::remove_file(at("into")).unwrap();
    // Called off.
    let cancel = CancellationToken::new();
    cancel.cancel();
    let off = restores().execute(&call, &plan, &cancel).await;
    assert!(matches!(&off, Err(ActionError::CalledOff { done, .. }) if done == "nothing was left behind"), "{off:?}");
    assert!(!at("into").exists() && !at("into.restoring").exists());
    // A restore that was broken off by the machine.
    fs::write(at("into.restoring"), "half").unwrap();
    let said = restores().plan(&call).await.unwrap_err().to_string();
    assert!(said.contains("another restore goes on, or was broken off"), "{said}");
    fs::remove_file(at("into.restoring")).unwrap();
    // Another backup under the same name.
    fs::write(at("b"), "new").unwrap();
    fs::write(at("b.sha256"), sum(b"new")).unwrap();
    assert!(matches!(restores().execute(&call, &plan, &CancellationToken::new()).await, Err(ActionError::Changed { .. })));
    // More than there is room for, and names without a folder.
    let small = Restores::new(Settings { bytes_max: 1_000, ..Settings::default() }, Arc::new(SystemClock));
    gz(&at("bomb.gz"), &vec![0; 10_000_000]);
    assert!(small.plan(&self::call(&at("bomb.gz"), &at("x"))).await.is_err());
    let nameless = Call::new("data.restore").with("backup", at("b").to_str().unwrap()).with("into", "shop_restored").with("max_age", "1h");
    let said = restores().plan(&nameless).await.unwrap_err();
    assert!(matches!(said, ActionError::NotSetUp { .. }) && said.to_string().contains("action.restore.folder"), "{said}");
    let settings = Settings { folder: folder.path().display().to_string(), ..Settings::default() };
    let (_, done) = carry(&Restores::new(settings, Arc::new(SystemClock)), &nameless).await.unwrap();
    assert!(done.verified.holds && fs::read(at("shop_restored")).unwrap() == b"new");
}

#[tokio::test]
async fn an_archive_is_unpacked_and_a_hostile_one_is_not() {
    let Some(tar) = program(&["/usr/bin/tar", "/bin/tar"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let nightly = folder_backup(folder.path());
    let pack = |name: &str, more: &[&str]| {
        let made = Command::new(&tar).arg("-czf").arg(at(name)).arg("-C").arg(folder.path()).args(more).status().unwrap();
        assert!(made.success());
    };
    pack("good.tar.gz", &["nightly"]);
    let (plan, done) = carry(&restores(), &call(&at("good.tar.gz"), &at("into"))).await.unwrap();
    assert!(done.verified.holds && done.verified.how.contains("all 4 files") && plan.exact[0].starts_with("tar --extract"), "{done:?}");
    assert_eq!(fs::read(at("into/nightly/sub dir/b.bin")).unwrap(), fs::read(nightly.join("sub dir/b.bin")).unwrap());
    pack("evil.tar.gz", &["-P", "--transform=s,nightly/a.txt,../escaped,", "nightly/a.txt"]);
    let said = carry(&restores(), &call(&at("evil.tar.gz"), &at("evil"))).await.unwrap_err().to_string();
    assert!(said.contains("outside of it") && !at("evil").exists() && !at("evil.restoring").exists() && !at("escaped").exists(), "{said}");
}

#[tokio::test]
async fn a_save_of_redis_is_checked_by_its_own_program() {
    if program(&["/usr/bin/redis-check-rdb", "/usr/local/bin/redis-check-rdb"]).is_none() {
        return;
    }
    let Some(server) = redis(&[]).await else { return };
    let url = format!("redis://127.0.0.1:{}/", server.port);
    let mut connection = ::redis::Client::open(url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let _: () = ::redis::cmd("SET").arg("a").arg("b").query_async(&mut connection).await.unwrap();
    let _: () = ::redis::cmd("SAVE").query_async(&mut connection).await.unwrap();
    let backup = server.folder.path().join("dump.rdb");
    let found = checked(&backup).await;
    assert_eq!((&found["form"], &found["intact"]), (&json!("Redis save"), &json!(true)), "{found}");
    let mut bytes = fs::read(&backup).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 0xff;
    fs::write(server.folder.path().join("bad.rdb"), bytes).unwrap();
    assert_eq!(checked(&server.folder.path().join("bad.rdb")).await["intact"], json!(false));
}

#[tokio::test]
async fn a_dump_is_restored_into_a_new_database_beside_the_old_one() {
    let Some(dump) = program(&["/usr/lib/postgresql/15/bin/pg_dump"]) else { return };
    let Some(server) = postgres().await else { return };
    let url = url_of(&server, "postgres");
    let connect = async |database: &str| loop {
        if let Ok((client, connection)) = tokio_postgres::connect(&url_of(&server, database), tokio_postgres::NoTls).await {
            tokio::spawn(connection);
            return client;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let boss = connect("postgres").await;
    boss.batch_execute("CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders SELECT generate_series(1, 1000)").await.unwrap();
    let file = server.folder.path().join("shop.dump");
    let made = as_nobody(&dump, server.folder.path())
        .env("PGPASSWORD", "letmein99")
        .args(["-Fc", "-h", "127.0.0.1", "-p", &server.port.to_string(), "-U", "boss", "-f"])
        .arg(&file)
        .arg("postgres")
        .status()
        .unwrap();
    assert!(made.success());
    let restores = Restores::new(Settings { postgres: url.clone(), ..Settings::default() }, Arc::new(SystemClock));
    let call = |backup: &Path, into: &str| {
        Call::new("data.restore").with("backup", backup.to_str().unwrap()).with("into", into).with("max_age", "26h")
    };
    let plan = restores.plan(&call(&file, "shop_restored")).await.unwrap();
    assert!(!format!("{plan:?}").contains("letmein99") && plan.exact.len() == 3, "{plan:?}");
    let count = async || boss.query_one("SELECT count(*) FROM pg_database", &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(count().await, 3, "a plan changes nothing");
    let done = restores.execute(&call(&file, "shop_restored"), &plan, &CancellationToken::new()).await.unwrap();
    assert!(done.verified.holds && done.verified.how.contains("1 of 1 tables"), "{done:?}");
    let rows: i64 = connect("shop_restored").await.query_one("SELECT count(*) FROM orders", &[]).await.unwrap().get(0);
    assert_eq!((rows, count().await), (1_000, 4));
    assert!(matches!(restores.plan(&call(&file, "shop_restored")).await, Err(ActionError::Refused { .. })), "never over a database");
    assert!(matches!(restores.plan(&call(&file, "postgres")).await, Err(ActionError::Refused { .. })));
    assert!(restores.plan(&call(&file, "x\"; DROP DATABASE postgres; --")).await.is_err());
    // The end is missing: the list of its contents is whole, and the backup is not.
    let bytes = fs::read(&file).unwrap();
    let cut = server.folder.path().join("cut.dump");
    fs::write(&cut, &bytes[..bytes.len() - 700]).unwrap();
    let refused = restores.plan(&call(&cut, "other")).await;
    assert!(matches!(refused, Err(ActionError::Refused { .. })), "{refused:?}");
    assert_eq!(count().await, 4);
}

fn url_of(server: &crate::local::Server, database: &str) -> String {
    format!("postgres://boss:letmein99@127.0.0.1:{}/{database}", server.port)
}
