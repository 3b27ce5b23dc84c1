//! Executors with real servers: what they answer, that looking changes nothing, and what happens when they go away.

use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use paramedic_runbook::classify::Effect;
use paramedic_runbook::execute::{About, Hands, Order, Settings};
use paramedic_runbook::outcome::Outcome;
use paramedic_runbook::predicate::Value;
use paramedic_runbook::render::Work;
use tokio_util::sync::CancellationToken;

const NOBODY: u32 = 65_534;

/// A server that ends with the test.
struct Server {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

fn program(paths: &[&str]) -> Option<PathBuf> {
    let found = paths.iter().map(PathBuf::from).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: {} is not installed", paths[0]);
    }
    found
}

fn as_nobody(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Servers refuse to run as root.
    if std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let _ = chown(folder.path(), Some(NOBODY), Some(NOBODY));
    folder
}

async fn answers(port: u16) {
    let begun = Instant::now();
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the server does not come up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn postgres() -> Option<Server> {
    let initdb = program(&["/usr/lib/postgresql/15/bin/initdb", "/usr/lib/postgresql/17/bin/initdb", "/usr/local/bin/initdb"])?;
    let folder = folder();
    let made = as_nobody(&initdb, folder.path()).args(["-D", "data", "-U", "app", "--auth=trust", "-N"]).status().expect("initdb");
    assert!(made.success());
    let port = free_port();
    let socket = folder.path().display().to_string();
    let child = as_nobody(&initdb.with_file_name("postgres"), folder.path())
        .args(["-D", "data", "-p", &port.to_string(), "-h", "127.0.0.1", "-k", &socket, "-c", "fsync=off"])
        .spawn()
        .expect("starts");
    let server = Server { child, port, _folder: folder };
    answers(port).await;
    Some(server)
}

async fn redis() -> Option<Server> {
    let binary = program(&["/usr/bin/redis-server", "/usr/local/bin/redis-server"])?;
    let folder = folder();
    let port = free_port();
    let child =
        as_nobody(&binary, folder.path()).args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]).spawn().expect("starts");
    let server = Server { child, port, _folder: folder };
    answers(port).await;
    Some(server)
}

/// Bytes that this process has held at once, at most.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

async fn carry(settings: &Settings, work: Work, effect: Effect, timeout_ms: u64) -> Outcome {
    let hands = Hands { settings: settings.clone(), ..Hands::default() };
    let timeout = Duration::from_millis(timeout_ms);
    let order = Order {
        work,
        effect,
        timeout,
        secrets: Vec::new(),
        redact: Vec::new(),
        window: None,
        dry: false,
        live: None,
        about: About::default(),
    };
    hands.carry(&order, &CancellationToken::new()).await
}

#[tokio::test]
async fn a_database_is_asked_and_looking_changes_nothing() {
    let Some(mut server) = postgres().await else { return };
    let settings = Settings { postgres: Some(format!("postgres://app@127.0.0.1:{}/postgres", server.port)), ..Settings::default() };
    let sql = |statement: &str, effect: Effect| {
        let (settings, work) = (settings.clone(), Work::Sql { statement: statement.to_owned() });
        async move { carry(&settings, work, effect, 5_000).await }
    };
    let begun = Instant::now();
    let first = loop {
        let outcome = sql("CREATE TABLE jobs (id int, state text)", Effect::Write).await;
        if outcome.fault.is_none() || begun.elapsed() > Duration::from_secs(20) {
            break outcome;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(first.fault, None);
    let written = sql("INSERT INTO jobs SELECT n, 'waiting' FROM generate_series(1, 5000) n", Effect::Write).await;
    assert_eq!((written.fault.clone(), written.affected), (None, Some(5000)));
    let read = sql("SELECT count(*) AS waiting, min(state) AS state FROM jobs", Effect::Read).await;
    assert_eq!((read.value, read.rows), (Some(5000.0), Some(1)));
    assert_eq!(read.fields["state"], Value::Text("waiting".to_owned()));
    assert_eq!(read.stdout.text, "waiting\tstate\n5000\twaiting\n");
    let all = sql("SELECT * FROM jobs", Effect::Read).await;
    assert_eq!((all.rows, all.stdout.text.lines().count()), (Some(5000), 1001));
    // Of what is more than anybody reads only the edges are held.
    let before = most_memory();
    let much = sql("SELECT repeat('x', 1000000) AS much FROM generate_series(1, 100)", Effect::Read).await;
    assert_eq!((much.fault.clone(), much.rows, much.stdout.bytes), (None, Some(100), 100_000_000 + 100 + 5));
    assert!(much.stdout.cut && much.stdout.text.len() < 300 * 1024, "{}", much.stdout.text.len());
    let grown = most_memory() - before;
    assert!(grown < 50_000_000, "{grown} bytes for 100 MB of rows");
    // Whatever the statement says, and however it tries to leave the transaction.
    for statement in [
        "DELETE FROM jobs",
        "COMMIT; DELETE FROM jobs",
        "ROLLBACK; BEGIN; DROP TABLE jobs; COMMIT",
        "COMMIT; RESET ALL; DELETE FROM jobs",
        "COMMIT; SET default_transaction_read_only = off; DELETE FROM jobs",
        "COMMIT; BEGIN READ WRITE; DELETE FROM jobs; COMMIT",
        "SELECT 1; CREATE TABLE y ()",
    ] {
        let outcome = sql(statement, Effect::Read).await;
        assert!(outcome.fault.is_some(), "{statement}: {outcome:?}");
    }
    assert_eq!(sql("SELECT count(*) FROM jobs", Effect::Read).await.value, Some(5000.0));
    // The server keeps the time too: nothing goes on there after we gave up.
    let work = Work::Sql { statement: "SELECT pg_sleep(30)".to_owned() };
    let slow = carry(&settings, work, Effect::Read, 400).await;
    assert!(slow.fault.is_some() && slow.ms < 3_000, "{slow:?}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let still =
        sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND pid <> pg_backend_pid()", Effect::Read).await;
    assert_eq!(still.value, Some(0.0));
    // It goes away in the middle.
    let work = Work::Sql { statement: "SELECT pg_sleep(20)".to_owned() };
    let (outcome, ()) = tokio::join!(carry(&settings, work, Effect::Read, 15_000), async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let pid = rustix::process::Pid::from_child(&server.child);
        // Immediately, as when the machine goes: its children notice.
        rustix::process::kill_process(pid, rustix::process::Signal::QUIT).expect("a signal");
    });
    assert!(outcome.fault.is_some() && outcome.ms < 10_000, "{outcome:?}");
    server.end();
}

#[tokio::test]
async fn redis_is_asked_with_whole_arguments() {
    let Some(mut server) = redis().await else { return };
    let settings = Settings { redis: Some(format!("redis://127.0.0.1:{}/", server.port)), ..Settings::default() };
    let ask = |commands: &[&[&str]], effect: Effect| {
        let commands = commands.iter().map(|command| command.iter().map(|word| (*word).to_owned()).collect()).collect();
        let settings = settings.clone();
        async move { carry(&settings, Work::Redis { commands }, effect, 3_000).await }
    };
    assert_eq!(ask(&[&["PING"]], Effect::Read).await.stdout.text, "PONG\n");
    // A value with a line break and a command in it is one value.
    let value = "x\r\nFLUSHALL\r\n";
    ask(&[&["SET", "a", value], &["RPUSH", "list", "1", "2", "3"]], Effect::Write).await;
    let read = ask(&[&["LLEN", "list"]], Effect::Read).await;
    assert_eq!((read.value, read.json), (Some(3.0), Some(serde_json::json!(3))));
    let read = ask(&[&["LRANGE", "list", "0", "-1"]], Effect::Read).await;
    assert_eq!((read.rows, read.stdout.text.as_str()), (Some(3), "1\n2\n3\n"));
    let read = ask(&[&["CONFIG", "GET", "maxmemory-policy"]], Effect::Read).await;
    let pointer = read.json.as_ref().and_then(|json| json.pointer("/1"));
    assert_eq!(pointer, Some(&serde_json::json!("noeviction")), "{read:?}");
    // A part of an answer is not taken for the whole of it.
    ask(&[&["SETRANGE", "big", "5000000", "x"]], Effect::Write).await;
    let big = ask(&[&["GET", "big"], &["GET", "big"]], Effect::Read).await;
    assert_eq!((big.fault.clone(), big.json.clone(), big.stdout.bytes), (None, None, 2 * 5_000_002));
    assert!(big.stdout.cut && big.stdout.text.len() < 300 * 1024);
    let wrong = ask(&[&["NOSUCH"]], Effect::Read).await;
    assert!(wrong.fault.as_deref().is_some_and(|fault| fault.contains("NOSUCH")), "{wrong:?}");
    let blocked = ask(&[&["BLPOP", "nothing", "0"]], Effect::Write).await;
    assert!(blocked.fault.is_some() && blocked.ms < 5_000, "{blocked:?}");
    // It goes away in the middle.
    let (outcome, ()) = tokio::join!(
        carry(
            &settings,
            Work::Redis { commands: vec![vec!["BLPOP".to_owned(), "nothing".to_owned(), "0".to_owned()]] },
            Effect::Write,
            15_000
        ),
        async {
            tokio::time::sleep(Duration::from_millis(400)).await;
            server.end();
        }
    );
    assert!(outcome.fault.is_some() && (300..10_000).contains(&outcome.ms), "{outcome:?}");
    let gone = ask(&[&["PING"]], Effect::Read).await;
    assert!(gone.fault.is_some(), "{gone:?}");
}

/// Answers every request with this, once each connection.
async fn web(answer: &'static [u8]) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(answer).await;
        }
    });
    port
}

#[tokio::test]
async fn a_request_is_made_and_led_nowhere() {
    let get = |port: u16| Work::Http {
        method: "GET".to_owned(),
        url: format!("http://127.0.0.1:{port}/x"),
        headers: Vec::new(),
        body: String::new(),
    };
    let port = web(b"HTTP/1.1 200 OK\r\ncontent-length: 35\r\nconnection: close\r\n\r\n{\"status\": {\"indicator\": \"none\" } }").await;
    let outcome = carry(&Settings::default(), get(port), Effect::Read, 3_000).await;
    assert_eq!((outcome.status, outcome.json.is_some()), (Some(200), true), "{outcome:?}");
    let port =
        web(b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    let outcome = carry(&Settings::default(), get(port), Effect::Read, 3_000).await;
    assert_eq!(outcome.status, Some(302), "{outcome:?}");
    // A body that never ends.
    let port = web(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\nxxxx").await;
    let outcome = carry(&Settings::default(), get(port), Effect::Read, 500).await;
    assert!(outcome.fault.is_some() && outcome.ms < 3_000, "{outcome:?}");
}
