//! A real Redis that is full, or cannot save: the alert, the incident, its runbook, the approved fix, and the data intact.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::fixture::{Home, Instance, until};
use crate::needs;
use crate::programs::{free_port, number};
use crate::respond_database::{as_nobody, nobodys_folder};
use crate::respond_scene::{
    DANA, WITHIN, approve, assert_journal, assert_recorded, hasty_rules, hasty_runbook, incident_when, ranked, record, run_when, says,
    settings, shown, step_of, told, waiting_for,
};

/// A Redis with a queue that must not be lost.
struct Redis {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Redis {
    fn start(arguments: &[&str]) -> Self {
        let (folder, port) = (nobodys_folder(), free_port());
        let child = Self::spawn(folder.path(), port, arguments);
        let redis = Self { child, port, folder };
        redis.ready();
        for i in 0..50 {
            redis.ask(&["RPUSH", "queue:jobs", &format!("job-{i}")]);
        }
        redis
    }

    fn spawn(folder: &Path, port: u16, arguments: &[&str]) -> Child {
        let path = std::env::var_os("PATH").unwrap();
        let program = std::env::split_paths(&path).map(|place| place.join("redis-server")).find(|place| place.is_file()).unwrap();
        let mut command = as_nobody(&program, folder);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]).args(arguments);
        command.spawn().unwrap()
    }

    /// Killed as the kernel does it, and started anew with what is on the disk.
    fn comes_back(&mut self, arguments: &[&str]) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::spawn(self.folder.path(), self.port, arguments);
        self.ready();
    }

    fn ready(&self) {
        until(WITHIN, || (self.ask(&["PING"]) == "PONG").then_some(())).expect("redis-server is up");
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// What redis-cli prints.
    fn ask(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(arguments).stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// The value of a setting.
    fn setting(&self, name: &str) -> String {
        self.ask(&["CONFIG", "GET", name]).lines().nth(1).unwrap_or_default().to_owned()
    }

    /// A line of INFO.
    fn info(&self, name: &str) -> String {
        let all = self.ask(&["INFO", "everything"]);
        all.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':').map(str::to_owned)).unwrap_or_default()
    }

    /// Fills it with a cache until it refuses.
    fn fill(&self) {
        let mut child =
            Command::new("redis-cli").args(["-p", &self.port.to_string()]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let value = "x".repeat(60_000);
        let mut stdin = child.stdin.take().unwrap();
        for i in 0..300 {
            writeln!(stdin, "SET cache:{i} {value}").unwrap();
        }
        drop(stdin);
        child.wait().unwrap();
    }

    fn queue_is_whole(&self) -> bool {
        self.ask(&["LLEN", "queue:jobs"]) == "50" && self.ask(&["LINDEX", "queue:jobs", "49"]) == "job-49"
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(fs::set_permissions(self.folder.path(), fs::Permissions::from_mode(0o700)));
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn hasty_redis_failure(home: &Home) {
    let edits = [
        ("within 2m hold 1m", "within 6s hold 2s"),
        (
            "risk=medium approve=any limit=1/1h lock=service verify=\"redis_up == 1 && memory_share < 0.85",
            "risk=medium approve=any cooldown=1s limit=9/1h lock=service verify=\"redis_up == 1 && memory_share < 0.85",
        ),
        ("save_ok == 1 within 2m", "save_ok == 1 within 15s"),
        ("risk=low approve=any limit=2/1h", "risk=low approve=any cooldown=1s limit=2/1h"),
        ("hold=15m", "hold=2s"),
    ];
    hasty_runbook(home, "redis-failure", &edits);
}

fn watched(home: &Home, redis: &Redis) -> Instance {
    hasty_redis_failure(home);
    let (rules, url) = ([hasty_rules(home, "redis.yaml")], redis.url());
    let probe = format!("redis = [{{ url = {url:?}, instance = \"queues\" }}]");
    let instance = home.up_configured(&settings(home, &rules, &probe, &format!("redis = {url:?}")));
    until(WITHIN, || number(&instance.http(), "redis_up == 1")).unwrap_or_else(|| panic!("{}", home.log()));
    instance
}

#[test]
fn respond_redis_out_of_memory_gets_room_and_gives_it_back() {
    needs!("redis-server", "redis-cli");
    let home = Home::new();
    let redis = Redis::start(&["--save", "", "--maxmemory", "8mb", "--maxmemory-policy", "noeviction"]);
    let instance = watched(&home, &redis);
    redis.fill();
    let refused = redis.ask(&["SET", "cache:more", &"x".repeat(60_000)]);
    assert!(refused.contains("OOM"), "{refused}");

    let (incident, run) = ranked(&home, &instance, "redis-failure");
    assert_eq!(run["causes"][0]["cause"], "memory", "{}", told(&run));
    let id = run["id"].as_str().unwrap();
    let run = waiting_for(&home, id, "more_memory");
    let before = step_of(&run, "more_memory")["hash"].as_str().unwrap().to_owned();
    // The machine is not that large: another value makes another step, which nobody agreed to yet.
    says(&home, DANA, &["run", id, "inputs", "--set", "maxmemory=64mb"]);
    let stale = home.command(&["approve", id, "more_memory", &before]).env("PARAMEDIC_ACTOR", DANA).output().unwrap();
    assert!(!stale.status.success() && redis.setting("maxmemory") == "8388608", "{}", String::from_utf8_lossy(&stale.stderr));
    let hash = approve(&home, id, "more_memory");
    assert_ne!(hash, before);
    let ended = run_when(&home, id, "ended", |run| !run["ended_at"].is_null());
    assert_eq!(ended["ending"], "done", "{}", told(&ended));
    assert_eq!(redis.setting("maxmemory"), "67108864");
    assert_eq!(redis.ask(&["SET", "cache:more", "x"]), "OK");
    assert!(redis.queue_is_whole());
    assert_recorded(&home, id, "more_memory", &hash, &["redis.config_set", "maxmemory", "64mb"]);
    incident_when(&home, &instance, &incident, &["resolved"]);

    // The cache is emptied by its owner, and the room is given back: that too has to be agreed to.
    let keys: Vec<String> = (0..300).map(|i| format!("cache:{i}")).collect();
    redis.ask(&[&["UNLINK", "cache:more"], keys.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat());
    let back = says(&home, DANA, &["action", "undo", id, "more_memory", "--why", "the cache is empty"]);
    let back = back["id"].as_str().unwrap();
    assert_ne!(back, id);
    assert_eq!(redis.setting("maxmemory"), "67108864", "nobody agreed yet");
    let hash = approve(&home, back, "act");
    let done = run_when(&home, back, "ended", |run| !run["ended_at"].is_null());
    assert_eq!((&done["ending"], redis.setting("maxmemory").as_str()), (&json!("done"), "8388608"), "{}", told(&done));
    assert_recorded(&home, back, "act", &hash, &["redis.config_set", "maxmemory", "8388608"]);
    assert_eq!(instance.stop(), Some(0));
    assert_journal(&home);
}

#[test]
fn respond_redis_fix_that_does_not_help_is_taken_back_by_itself_or_by_a_person() {
    needs!("redis-server", "redis-cli");
    let home = Home::new();
    let redis = Redis::start(&["--save", "", "--maxmemory", "8mb", "--maxmemory-policy", "noeviction"]);
    let instance = watched(&home, &redis);
    redis.fill();
    let (_, run) = ranked(&home, &instance, "redis-failure");
    let id = run["id"].as_str().unwrap();
    waiting_for(&home, id, "more_memory");
    // Hardly more than there is: it stays nearly full, which is seen, and the old value comes back without being asked for.
    says(&home, DANA, &["run", id, "inputs", "--set", "maxmemory=9mb"]);
    approve(&home, id, "more_memory");
    let ended = run_when(&home, id, "ended", |run| !run["ended_at"].is_null());
    assert_eq!(ended["ending"], "taken-back", "{}", told(&ended));
    assert_eq!((step_of(&ended, "more_memory")["state"].as_str(), redis.setting("maxmemory").as_str()), (Some("taken-back"), "8388608"));
    let back = record(&home, id).into_iter().find(|one| one["record"] == "begun" && one["takes_back"] == "more_memory");
    let back = back.unwrap_or_else(|| panic!("{:#?}", record(&home, id)));
    assert!(back["step"] == "old_memory" && back["argv"].to_string().contains("8388608"), "{back:#}");

    // A second run: this time a person thinks better of it while it is still being watched.
    let second = says(&home, DANA, &["runbook", "run", "redis-failure", "--set", "maxmemory=64mb"]);
    let id = second["id"].as_str().unwrap();
    waiting_for(&home, id, "more_memory");
    approve(&home, id, "more_memory");
    run_when(&home, id, "watched", |run| step_of(run, "more_memory")["can"].as_array().unwrap().contains(&json!("undo")));
    assert_eq!(redis.setting("maxmemory"), "67108864");
    says(&home, DANA, &["run", id, "undo", "more_memory", "--why", "the machine is needed for something else"]);
    let ended = run_when(&home, id, "ended", |run| !run["ended_at"].is_null());
    assert_eq!((ended["ending"].as_str(), redis.setting("maxmemory").as_str()), (Some("taken-back"), "8388608"), "{}", told(&ended));
    let asked = record(&home, id).into_iter().find(|one| one["record"] == "take-back").unwrap();
    assert_eq!((asked["by"]["name"].as_str(), asked["why"].as_str()), (Some(DANA), Some("the machine is needed for something else")));
    assert!(redis.queue_is_whole());
    assert_eq!(instance.stop(), Some(0));
    assert_journal(&home);
}

/// A Redis whose folder cannot be written any more, so that it refuses writes.
fn cannot_save(more: &[&str]) -> Redis {
    let redis = Redis::start(&[&["--save", "3600 1"], more].concat());
    fs::set_permissions(redis.folder.path(), fs::Permissions::from_mode(0o500)).unwrap();
    redis
}

fn until_it_refuses(redis: &Redis) {
    redis.ask(&["BGSAVE"]);
    let refuses = until(WITHIN, || redis.ask(&["SET", "state:1", "x"]).contains("MISCONF").then_some(()));
    assert!(refuses.is_some(), "{}", redis.info("rdb_last_bgsave_status"));
}

fn bgsaves(redis: &Redis) -> Value {
    let line = redis.info("cmdstat_bgsave");
    line.split(',').next().and_then(|calls| calls.strip_prefix("calls=")?.parse::<u64>().ok()).into()
}

#[test]
fn respond_redis_that_cannot_save_saves_again_and_nothing_is_lost() {
    needs!("redis-server", "redis-cli");
    let home = Home::new();
    let mut redis = cannot_save(&[]);
    let instance = watched(&home, &redis);
    until_it_refuses(&redis);

    let (incident, run) = ranked(&home, &instance, "redis-failure");
    assert_eq!(run["causes"][0]["cause"], "save", "{}", told(&run));
    let id = run["id"].as_str().unwrap();
    waiting_for(&home, id, "save_now");
    // Before the folder is mended a save cannot succeed, and that is what is said.
    approve(&home, id, "save_now");
    let failed = run_when(&home, id, "told that it failed", |run| !step_of(run, "save_now")["last"].is_null());
    let step = step_of(&failed, "save_now");
    assert!(["unexpected", "failed"].contains(&step["state"].as_str().unwrap()), "{step:#}");
    assert!(step["last"]["shown"].as_str().unwrap().contains("rdb_last_bgsave_status is err"), "{step:#}");
    assert!(failed["ended_at"].is_null(), "it can be tried once more: {}", told(&failed));
    assert_eq!(redis.setting("stop-writes-on-bgsave-error"), "yes", "no other step was taken");

    fs::set_permissions(redis.folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    says(&home, DANA, &["run", id, "again", "save_now"]);
    approve(&home, id, "save_now");
    let ended = run_when(&home, id, "ended", |run| !run["ended_at"].is_null());
    assert_eq!(ended["ending"], "done", "{}", told(&ended));
    assert_eq!(redis.ask(&["SET", "state:1", "x"]), "OK");
    assert_eq!(step_of(&ended, "save_now")["attempts"], 2);
    let attempts: Vec<Value> =
        record(&home, id).into_iter().filter(|one| one["record"] == "begun" && one["step"] == "save_now" && one["dry"] == false).collect();
    assert_eq!(attempts.len(), 2, "both attempts are in the record");
    incident_when(&home, &instance, &incident, &["resolved"]);
    redis.comes_back(&["--save", "3600 1"]);
    assert!(redis.queue_is_whole(), "what was saved is what there was");
    assert_eq!(instance.stop(), Some(0));
    assert_journal(&home);
}

#[test]
fn respond_restart_in_the_middle_of_a_fix_leaves_it_in_doubt_and_does_nothing_twice() {
    needs!("redis-server", "redis-cli");
    let home = Home::new();
    // Each of the keys takes a while to be saved.
    let redis = cannot_save(&["--rdb-key-save-delay", "100000"]);
    for i in 0..60 {
        redis.ask(&["SET", &format!("session:{i}"), "x"]);
    }
    let instance = watched(&home, &redis);
    until_it_refuses(&redis);
    let (incident, run) = ranked(&home, &instance, "redis-failure");
    let id = run["id"].as_str().unwrap();
    waiting_for(&home, id, "save_now");
    fs::set_permissions(redis.folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let before = bgsaves(&redis);
    let hash = approve(&home, id, "save_now");
    until(WITHIN, || (redis.info("rdb_bgsave_in_progress") == "1").then_some(())).expect("it saves");
    instance.kill();
    assert_eq!(bgsaves(&redis), json!(before.as_u64().unwrap() + 1));

    let instance = home.up_with(&["--config", home.path().join("paramedic.toml").to_str().unwrap()]);
    let doubt = run_when(&home, id, "in doubt", |run| step_of(run, "save_now")["state"] == "interrupted");
    assert_eq!(doubt["next"], "save_now", "{}", told(&doubt));
    until(WITHIN, || (redis.info("rdb_bgsave_in_progress") == "0").then_some(())).expect("the save ends by itself");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(bgsaves(&redis), json!(before.as_u64().unwrap() + 1), "nothing was done twice by itself");
    let doubt = shown(&home, id);
    assert_eq!(step_of(&doubt, "save_now")["state"], "interrupted", "{}", told(&doubt));
    assert_eq!(step_of(&doubt, "save_now")["agreed"], json!([]), "the approval was for the attempt that began");

    redis.ask(&["CONFIG", "SET", "rdb-key-save-delay", "0"]);
    says(&home, DANA, &["run", id, "again", "save_now"]);
    assert_eq!(approve(&home, id, "save_now"), hash, "it is the same step");
    let ended = run_when(&home, id, "ended", |run| !run["ended_at"].is_null());
    assert_eq!(ended["ending"], "done", "{}", told(&ended));
    assert_eq!(bgsaves(&redis), json!(before.as_u64().unwrap() + 2));
    let kinds: Vec<String> = record(&home, id)
        .iter()
        .filter(|one| one["step"] == "save_now" && one["dry"] != true)
        .map(|one| one["record"].as_str().unwrap().to_owned())
        .collect();
    let story: Vec<&str> = kinds.iter().map(String::as_str).filter(|kind| !["held", "chosen"].contains(kind)).collect();
    assert_eq!(story, ["begun", "interrupted", "again", "begun", "done", "verified"]);
    incident_when(&home, &instance, &incident, &["resolved"]);
    assert_eq!(instance.stop(), Some(0));
    assert_journal(&home);
}
