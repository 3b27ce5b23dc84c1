//! A real PostgreSQL that comes to harm: the alert, the incident, its runbook, the approved fix, and the database whole again.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::json;

use crate::fixture::{Home, Instance, until};
use crate::programs::{free_port, number};
use crate::respond_scene::{
    DANA, WITHIN, approve, assert_journal, assert_recorded, hasty_rules, hasty_runbook, incident_when, ranked, record, run_when, says,
    settings, shown, step_of, told, waiting_for,
};
use crate::skip;

const NOBODY: u32 = 65_534;

/// A program that refuses to run as root, in its folder.
pub fn as_nobody(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// A folder that such a program may write to.
pub fn nobodys_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    drop(chown(folder.path(), Some(NOBODY), Some(NOBODY)));
    folder
}

/// A PostgreSQL with the database of the memory daemon, an application's role without privileges, and one more database.
struct Database {
    child: Child,
    program: PathBuf,
    port: u16,
    folder: tempfile::TempDir,
}

impl Database {
    /// None where it is not installed.
    fn start(connections_max: u32) -> Option<Self> {
        let places = ["/usr/lib/postgresql/15/bin/initdb", "/usr/lib/postgresql/17/bin/initdb", "/usr/local/bin/initdb"];
        let initdb = places.iter().map(PathBuf::from).find(|path| path.is_file())?;
        let folder = nobodys_folder();
        let made = as_nobody(&initdb, folder.path()).args(["-D", "data", "-U", "app", "--auth=trust", "-N"]).status().unwrap();
        assert!(made.success());
        let settings = folder.path().join("data/postgresql.conf");
        let more = format!(
            "max_connections = {connections_max}\nsuperuser_reserved_connections = 5\nshared_preload_libraries = 'pg_stat_statements'\nautovacuum = off\n"
        );
        fs::File::options().append(true).open(settings).unwrap().write_all(more.as_bytes()).unwrap();
        let (program, port) = (initdb.with_file_name("postgres"), free_port());
        let database = Self { child: Self::spawn(&program, folder.path(), port), program, port, folder };
        let ready = until(WITHIN, || database.try_sql("postgres", "SELECT 1").ok());
        assert!(ready.is_some(), "{}", database.log());
        database.sql("postgres", "CREATE ROLE agents LOGIN");
        for name in ["continuous_claude", "billing"] {
            database.sql("postgres", &format!("CREATE DATABASE {name} OWNER agents"));
            database.sql(
                name,
                "CREATE TABLE jobs AS SELECT n AS id, 0 AS tries FROM generate_series(1, 100) n; ALTER TABLE jobs OWNER TO agents",
            );
        }
        database.sql("continuous_claude", "CREATE EXTENSION pg_stat_statements");
        Some(database)
    }

    fn spawn(program: &Path, folder: &Path, port: u16) -> Child {
        let log = fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let mut command = as_nobody(program, folder);
        command.args(["-D", "data", "-p", &port.to_string(), "-h", "127.0.0.1", "-k", &folder.display().to_string(), "-c", "fsync=off"]);
        command.stderr(log).spawn().unwrap()
    }

    /// Started anew, as soon as the last of those that a killed server left behind is gone.
    fn comes_back(&mut self) {
        let up = until(WITHIN, || {
            self.child.wait().unwrap();
            self.child = Self::spawn(&self.program, self.folder.path(), self.port);
            until(Duration::from_secs(5), || match self.child.try_wait().unwrap() {
                Some(_) => Some(false),
                None => self.try_sql("postgres", "SELECT 1").is_ok().then_some(true),
            })
            .filter(|up| *up)
        });
        assert!(up.is_some(), "{}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn url(&self) -> String {
        format!("postgres://app@127.0.0.1:{}/continuous_claude", self.port)
    }

    fn psql(&self, role: &str, database: &str) -> Command {
        let mut command = Command::new("psql");
        command.args(["-X", "-A", "-t", "-q", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", role, "-d", database]);
        command.env("PGCONNECT_TIMEOUT", "5").stdin(Stdio::null());
        command
    }

    fn try_sql(&self, database: &str, statement: &str) -> Result<String, String> {
        let output = self.psql("app", database).args(["-c", statement]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    #[track_caller]
    fn sql(&self, database: &str, statement: &str) -> String {
        self.try_sql(database, statement).unwrap_or_else(|why| panic!("{statement}: {why}"))
    }

    /// A client of an application that stays.
    fn client(&self, application: &str, database: &str) -> Client {
        let mut command = self.psql("agents", database);
        command.env("PGAPPNAME", application).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (send, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        let mut client = Client { stdin: child.stdin.take().unwrap(), child, lines, pid: String::new() };
        client.pid = client.asks("SELECT pg_backend_pid()");
        client
    }

    /// Whether the server still has this session.
    fn has(&self, client: &Client) -> bool {
        self.sql("postgres", &format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {}", client.pid)) == "1"
    }

    fn signal(&self, name: &str) {
        Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // At once, and with its own children.
        self.signal("QUIT");
        if until(Duration::from_secs(5), || self.child.try_wait().ok().flatten()).is_none() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// A session of an application.
struct Client {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    pid: String,
}

impl Client {
    fn tells(&mut self, statement: &str) {
        self.stdin.write_all(format!("{statement};\n").as_bytes()).unwrap();
    }

    fn hears(&self) -> Option<String> {
        self.lines.recv_timeout(Duration::from_secs(20)).ok()
    }

    #[track_caller]
    fn asks(&mut self, statement: &str) -> String {
        self.tells(statement);
        self.hears().unwrap_or_else(|| panic!("no answer to {statement}"))
    }

    /// Begins a transaction that locks a row, and leaves it open.
    #[track_caller]
    fn leaves_open(&mut self, row: u32) {
        self.asks(&format!("BEGIN; UPDATE jobs SET tries = tries + 1 WHERE id = {row} RETURNING id"));
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn watched(home: &Home, database: &Database, probe: &str) -> Instance {
    let rules = [hasty_rules(home, "postgres.yaml")];
    let url = database.url();
    let instance = home.up_configured(&settings(
        home,
        &rules,
        &format!("postgres = [{{ url = {url:?}, instance = \"memory-db\"{probe} }}]"),
        &format!("postgres = {url:?}"),
    ));
    until(WITHIN, || number(&instance.http(), "pg_up == 1")).unwrap_or_else(|| panic!("{}", home.log()));
    instance
}

/// The runbook for slow queries with seconds instead of minutes.
fn hasty_slow_query(home: &Home) {
    let edits = [
        ("interval '5 minutes'", "interval '1 second'"),
        ("older_than: 5m", "older_than: 1s"),
        ("within 2m", "within 15s hold 2s"),
        (
            "risk=high approve=any limit=2/1h lock=service needs=idle",
            "risk=high approve=any cooldown=1s limit=2/1h lock=service needs=idle",
        ),
        ("hold=15m", "hold=2s"),
    ];
    hasty_runbook(home, "slow-query", &edits);
}

/// A session locks a row and does not let go; before, another one made everybody wait for three seconds.
struct Jam {
    leak: Client,
    /// Others that are in nobody's way.
    siblings: Vec<Client>,
    waiting: Vec<Client>,
}

impl Jam {
    fn of(database: &Database, instance: &Instance, holds: impl FnOnce(&mut Client)) -> Self {
        let looked = until(WITHIN, || number(&instance.http(), "pg_stat_statements_p95_ms"));
        assert!(looked.is_some(), "there is a look to compare with");
        let mut earlier = database.client("worker-1", "continuous_claude");
        let mut leak = database.client("worker-7", "continuous_claude");
        let mut siblings = [("worker-7", "continuous_claude"), ("report", "continuous_claude"), ("worker-7", "billing")]
            .map(|(application, name)| database.client(application, name));
        earlier.leaves_open(1);
        holds(&mut leak);
        // Idle, in a transaction that blocks nobody, and in the same lock of another database.
        siblings[0].asks("SELECT 1");
        siblings[1].asks("BEGIN; SELECT count(*) FROM jobs");
        siblings[2].leaves_open(2);
        let mut slow: Vec<Client> = (0..3).map(|i| database.client(&format!("queue-{i}"), "continuous_claude")).collect();
        let mut waiting: Vec<Client> = (3..5).map(|i| database.client(&format!("queue-{i}"), "continuous_claude")).collect();
        slow.iter_mut().for_each(|client| client.tells("UPDATE jobs SET tries = tries + 1 WHERE id = 1 RETURNING id"));
        waiting.iter_mut().for_each(|client| client.tells("UPDATE jobs SET tries = tries + 1 WHERE id = 2 RETURNING id"));
        std::thread::sleep(Duration::from_secs(3));
        earlier.tells("COMMIT");
        assert!(slow.iter().all(|client| client.hears().is_some()));
        Self { leak, siblings: siblings.into(), waiting }
    }

    fn siblings_are_there(&self, database: &Database) -> bool {
        self.siblings.iter().all(|client| database.has(client))
    }
}

/// The clients do their work again, so quickly that what was slow is soon one in many.
fn work_goes_on(database: &Database) {
    let mut worker = database.client("worker-8", "continuous_claude");
    for _ in 0..1_500 {
        worker.tells("UPDATE jobs SET tries = tries + 1 WHERE id = 3");
    }
    assert_eq!(worker.asks("SELECT tries FROM jobs WHERE id = 3"), "1500");
}

#[test]
fn respond_slow_query_one_forgotten_transaction_is_ended_and_its_neighbours_stay() {
    let Some(database) = Database::start(40) else { skip!("PostgreSQL is not installed") };
    let home = Home::new();
    hasty_slow_query(&home);
    let instance = watched(&home, &database, "");
    let jam = Jam::of(&database, &instance, |leak| leak.leaves_open(2));

    let (incident, run) = ranked(&home, &instance, "slow-query");
    assert_eq!(run["causes"][0]["cause"], "idle", "{}", told(&run));
    let id = run["id"].as_str().unwrap();
    let run = waiting_for(&home, id, "terminate");
    assert!(database.has(&jam.leak), "nothing was done yet");
    let step = step_of(&run, "terminate");
    assert_eq!((&step["effect"], &step["risk"], &step["approval"]), (&json!("write"), &json!("high"), &json!("any")), "{step:#}");
    assert!(run["asking"].as_array().unwrap().contains(&json!("terminate")), "{run:#}");
    assert_eq!(step["affected"], 1, "what it would touch was counted: {step:#}");

    let hash = approve(&home, id, "terminate");
    assert!(jam.waiting.iter().all(|client| client.hears().is_some_and(|row| row == "2")), "those who waited went on");
    assert!(!database.has(&jam.leak));
    assert!(jam.siblings_are_there(&database));
    assert_eq!(database.sql("continuous_claude", "SELECT tries FROM jobs WHERE id = 2"), "2", "what was not committed is gone");
    work_goes_on(&database);
    let ended = run_when(&home, id, "ended", |run| !run["ended_at"].is_null());
    assert_eq!(ended["ending"], "done", "{}", told(&ended));
    incident_when(&home, &instance, &incident, &["mitigated", "resolved"]);
    assert_recorded(&home, id, "terminate", &hash, &["postgres.terminate", "idle in transaction"]);
    let said = step_of(&ended, "terminate")["last"]["shown"].as_str().unwrap().to_owned();
    assert!(said.contains("ended 1 backends"), "{said}");
    incident_when(&home, &instance, &incident, &["resolved"]);
    assert_eq!(instance.stop(), Some(0));
    assert_journal(&home);
}

#[test]
fn respond_slow_query_that_runs_away_is_broken_off_and_its_victims_go_on() {
    let Some(database) = Database::start(40) else { skip!("PostgreSQL is not installed") };
    let home = Home::new();
    hasty_slow_query(&home);
    let instance = watched(&home, &database, "");
    let mut jam = Jam::of(&database, &instance, |leak| {
        leak.tells("UPDATE jobs SET tries = tries + 1 WHERE id = 2 RETURNING pg_sleep(300)");
        std::thread::sleep(Duration::from_millis(300));
    });
    let (incident, run) = ranked(&home, &instance, "slow-query");
    assert_eq!(run["causes"][0]["cause"], "runaway", "{}", told(&run));
    let id = run["id"].as_str().unwrap();
    let run = waiting_for(&home, id, "cancel");
    assert_eq!(step_of(&run, "cancel")["affected"], 1, "those who wait are not counted: {}", told(&run));
    let hash = approve(&home, id, "cancel");
    assert!(jam.waiting.iter().all(|client| client.hears().is_some_and(|row| row == "2")), "those who waited went on");
    assert_eq!(jam.leak.asks("SELECT 'here'"), "here", "its connection stays");
    assert!(jam.siblings_are_there(&database));
    work_goes_on(&database);
    let ended = run_when(&home, id, "ended", |run| !run["ended_at"].is_null());
    assert_eq!(ended["ending"], "done", "{}", told(&ended));
    assert_recorded(&home, id, "cancel", &hash, &["postgres.cancel", "blocking"]);
    incident_when(&home, &instance, &incident, &["resolved"]);
    assert_eq!(instance.stop(), Some(0));
    assert_journal(&home);
}

/// The runbook for exhausted pools with seconds instead of minutes.
fn hasty_connection_pool(home: &Home) {
    let edits = [
        ("interval '5 minutes'", "interval '1 second'"),
        ("older_than: 5m", "older_than: 1s"),
        ("within 2m hold 1m", "within 15s hold 1s"),
        ("within 10m hold 2m", "within 15s hold 1s"),
        ("hold=15m", "hold=2s"),
    ];
    hasty_runbook(home, "connection-pool", &edits);
}

#[test]
fn respond_connection_pool_leaked_by_an_application_is_freed_and_kept_free() {
    // Eleven for applications and our own look; the rest for administrators.
    let Some(database) = Database::start(16) else { skip!("PostgreSQL is not installed") };
    let home = Home::new();
    hasty_connection_pool(&home);
    let instance = watched(&home, &database, "");
    let mut neighbour = database.client("reports", "continuous_claude");
    let leaked: Vec<Client> = (0..9)
        .map(|_| {
            let mut client = database.client("checkout", "continuous_claude");
            client.asks("BEGIN; SELECT count(*) FROM jobs");
            client
        })
        .collect();
    let knock = |database: &Database| {
        let output = database.psql("agents", "continuous_claude").args(["-c", "SELECT 1"]).output().unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    };
    assert!(knock(&database).is_err_and(|why| why.contains("connection slots are reserved")));

    let (incident, run) = ranked(&home, &instance, "connection-pool");
    assert_eq!(run["causes"][0]["cause"], "leak", "{}", told(&run));
    let id = run["id"].as_str().unwrap();
    let run = waiting_for(&home, id, "terminate");
    assert_eq!(step_of(&run, "terminate")["affected"], 9, "{}", told(&run));
    assert!(knock(&database).is_err(), "nothing was done yet");
    let hash = approve(&home, id, "terminate");
    // Two seconds from now on: whoever leaks again is ended by the server itself.
    says(&home, DANA, &["run", id, "inputs", "--set", "idle_timeout=2s"]);
    let limit = approve(&home, id, "idle_limit");
    until(WITHIN, || knock(&database).ok()).expect("others get in again");
    assert!(leaked.iter().all(|client| !database.has(client)));
    assert_eq!(neighbour.asks("SELECT 'here'"), "here");
    let ended = run_when(&home, id, "ended", |run| !run["ended_at"].is_null());
    assert_eq!(ended["ending"], "done", "{}", told(&ended));
    assert_recorded(&home, id, "terminate", &hash, &["postgres.terminate", "idle in transaction"]);
    assert_recorded(&home, id, "idle_limit", &limit, &["postgres.alter_system", "idle_in_transaction_session_timeout", "2s"]);
    incident_when(&home, &instance, &incident, &["resolved"]);
    let timeout = |database: &Database| database.sql("continuous_claude", "SHOW idle_in_transaction_session_timeout");
    assert_eq!(timeout(&database), "2s");
    let mut leak = database.client("checkout", "continuous_claude");
    leak.asks("BEGIN; SELECT count(*) FROM jobs");
    until(WITHIN, || (!database.has(&leak)).then_some(())).expect("the server ended it");

    let back = says(&home, DANA, &["action", "undo", id, "idle_limit"]);
    let back = back["id"].as_str().unwrap();
    approve(&home, back, "act");
    let undone = run_when(&home, back, "ended", |run| !run["ended_at"].is_null());
    assert_eq!((&undone["ending"], timeout(&database).as_str()), (&json!("done"), "0"), "{}", told(&undone));
    assert_eq!(database.sql("postgres", "SELECT count(*) FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf'"), "0");
    // More connections would need a restart, and that is said before anything is done.
    let plan = says(&home, DANA, &["action", "plan", "postgres.alter_system", "--set", "setting=max_connections", "--set", "value=100"]);
    assert!(plan["plan"]["warnings"].to_string().contains("restart"), "{plan:#}");
    assert_eq!(database.sql("postgres", "SHOW max_connections"), "16");
    assert_eq!(instance.stop(), Some(0));
    assert_journal(&home);
}

#[test]
fn respond_database_that_dies_in_the_middle_of_a_fix_leaves_a_run_that_can_go_on() {
    let Some(mut database) = Database::start(40) else { skip!("PostgreSQL is not installed") };
    let home = Home::new();
    hasty_slow_query(&home);
    let instance = watched(&home, &database, "");
    let jam = Jam::of(&database, &instance, |leak| leak.leaves_open(2));
    let (_, run) = ranked(&home, &instance, "slow-query");
    let id = run["id"].as_str().unwrap();
    waiting_for(&home, id, "terminate");
    // It answers nobody any more, and then it is gone.
    database.signal("STOP");
    let hash = approve(&home, id, "terminate");
    run_when(&home, id, "under way", |run| step_of(run, "terminate")["state"] == "running");
    std::thread::sleep(Duration::from_millis(500));
    database.signal("KILL");
    let failed = run_when(&home, id, "told that it failed", |run| step_of(run, "terminate")["state"] == "failed");
    let step = step_of(&failed, "terminate");
    assert!(step["why"].as_str().unwrap().contains("failed to"), "{step:#}");
    assert!(step["last"]["ms"].as_u64().unwrap() < 15_000, "{step:#}");
    assert!(failed["ended_at"].is_null() && failed["halted"].is_null(), "{}", told(&failed));
    until(WITHIN, || number(&instance.http(), "pg_up == 0")).expect("the probe says that it is gone");
    // The reading steps end, too, when they are asked for once more.
    says(&home, DANA, &["run", id, "again", "blocked"]);
    run_when(&home, id, "told that it cannot look", |run| step_of(run, "blocked")["state"] == "failed");

    drop(jam);
    database.comes_back();
    until(WITHIN, || number(&instance.http(), "pg_up == 1")).expect("the probe says that it is back");
    says(&home, DANA, &["run", id, "again", "terminate"]);
    assert_eq!(approve(&home, id, "terminate"), hash);
    let ended = run_when(&home, id, "ended", |run| !run["ended_at"].is_null());
    assert_eq!(ended["ending"], "done", "{}", told(&ended));
    let record = record(&home, id);
    let of = |kind: &str| record.iter().filter(|one| one["record"] == kind && one["step"] == "terminate" && one["dry"] == false).count();
    assert_eq!((of("begun"), of("done")), (2, 2), "{record:#?}");
    assert_eq!(step_of(&shown(&home, id), "terminate")["attempts"], 2);
    assert_eq!(instance.stop(), Some(0));
    assert_journal(&home);
}
