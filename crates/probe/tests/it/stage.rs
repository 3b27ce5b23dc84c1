//! A prober with a real store behind it, and the servers that it looks at.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use paramedic_model::{Clock, SystemClock, Target};
use paramedic_probe::{Look, Prober, Settings};
use paramedic_promql::{Engine, Options, Point, Value};
use paramedic_samples::Samples;
use tempfile::TempDir;

/// Nobody: servers that refuse to run as root run as this.
const NOBODY: u32 = 65_534;

pub(crate) struct Stage {
    pub(crate) prober: Prober,
    pub(crate) samples: Samples,
    _folder: TempDir,
}

impl Stage {
    pub(crate) fn new(settings: &str) -> Self {
        let settings = read_settings(settings);
        let folder = tempfile::tempdir().unwrap();
        let samples = Samples::open(folder.path(), paramedic_samples::Settings::default(), Arc::new(SystemClock)).unwrap();
        let prober = Prober::new(&settings, Arc::new(samples.clone()), Arc::new(SystemClock)).unwrap();
        Self { prober, samples, _folder: folder }
    }

    /// One round; the only target's look.
    pub(crate) async fn look(&self) -> Look {
        self.prober.once().await.pop().expect("a target")
    }

    pub(crate) async fn target(&self) -> Target {
        self.look().await.target
    }

    /// The values of an expression now.
    pub(crate) fn values(&self, expression: &str) -> Vec<f64> {
        let engine = Engine::new(Options::default());
        // Looks that follow each other within a millisecond are written some milliseconds later.
        let at = SystemClock.now().as_millis() + 20;
        match engine.instant(&self.samples, expression, at).unwrap().value {
            Value::Vector(found) => found
                .into_iter()
                .map(|sample| match sample.value {
                    Point::Float(value) => value,
                    other @ Point::Histogram(_) => panic!("{other:?}"),
                })
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    /// The only value of an expression.
    pub(crate) fn value(&self, expression: &str) -> f64 {
        let values = self.values(expression);
        assert_eq!(values.len(), 1, "{expression}: {values:?}");
        values[0]
    }
}

/// Settings from their text, without the host unless the text speaks of it.
pub(crate) fn read_settings(text: &str) -> Settings {
    let without = if text.contains("host = ") { "" } else { "host = false\n" };
    toml::from_str(&format!("{without}{text}")).unwrap()
}

/// Nothing that is stored or shown holds this text.
pub(crate) fn assert_never_shown(stage: &Stage, look: &Look, secret: &str) {
    let shown = format!("{:?} {:?} {:?}", look, stage.prober.targets(), stage.prober.metrics());
    assert!(!shown.contains(secret), "{shown}");
}

/// A process that ends with the test.
pub(crate) struct Guard(pub(crate) Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn program(candidates: &[&str]) -> Option<PathBuf> {
    let found = candidates.iter().map(PathBuf::from).find(|path| path.exists());
    if found.is_none() {
        println!("skipped: none of {candidates:?} is installed");
    }
    found
}

pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn listening(port: u16) {
    until("listening", async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
}

/// A command of a server program that may not run as root.
fn as_nobody(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn is_root() -> bool {
    // The owner of what this process makes is this process's user.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::os::unix::fs::MetadataExt::uid(&file.path().metadata().unwrap()) == 0
}

pub(crate) fn give_to_nobody(path: &Path) {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// A certificate that an authority of its own signed; `valid` is the `-days` of its life.
pub(crate) struct Certificate {
    pub(crate) folder: TempDir,
}

impl Certificate {
    /// `None` when the program that makes certificates is missing.
    pub(crate) fn make(not_before: &str, not_after: &str) -> Option<Self> {
        let openssl = program(&["/usr/bin/openssl", "/usr/local/bin/openssl"])?;
        let folder = tempfile::tempdir().unwrap();
        let run = |arguments: &[&str]| {
            let output = Command::new(&openssl).current_dir(folder.path()).args(arguments).output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let ca = ["req", "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-days", "30", "-subj", "/CN=test authority"];
        run(&[&ca[..], &key[..]].concat());
        run(&[&["req", "-new", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost"][..], &key[..]].concat());
        fs::write(folder.path().join("san"), "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
        fs::write(
            folder.path().join("ca.conf"),
            "[ca]\ndefault_ca=x\n[x]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n",
        )
        .unwrap();
        fs::write(folder.path().join("index"), "").unwrap();
        fs::write(folder.path().join("serial"), "1000\n").unwrap();
        let sign =
            ["ca", "-batch", "-config", "ca.conf", "-cert", "ca.pem", "-keyfile", "ca.key", "-in", "server.csr", "-out", "server.pem"];
        run(&[&sign[..], &["-extfile", "san", "-notext", "-startdate", not_before, "-enddate", not_after]].concat());
        Some(Self { folder })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A PostgreSQL server of its own.
pub(crate) struct Postgres {
    pub(crate) folder: TempDir,
    pub(crate) port: u16,
    programs: PathBuf,
    server: Option<Guard>,
}

pub(crate) const POSTGRES_PASSWORD: &str = "hunter22-of-postgres";

impl Postgres {
    /// `None` when it is not installed. Logging in over TCP needs the password, over the socket nothing.
    pub(crate) async fn start(certificate: Option<&Certificate>) -> Option<Self> {
        let initdb = program(&["/usr/lib/postgresql/17/bin/initdb", "/usr/lib/postgresql/15/bin/initdb", "/usr/local/bin/initdb"])?;
        let folder = tempfile::tempdir().unwrap();
        give_to_nobody(folder.path());
        fs::write(folder.path().join("password"), POSTGRES_PASSWORD).unwrap();
        let arguments = ["-D", "data", "-U", "app", "--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile=password", "-N"];
        let made = as_nobody(&initdb, folder.path()).args(arguments).status().unwrap();
        assert!(made.success(), "initdb");
        let mut settings = String::from("shared_preload_libraries = 'pg_stat_statements'\nfsync = off\nmax_connections = 20\n");
        if let Some(certificate) = certificate {
            for name in ["server.key", "server.pem"] {
                let path = folder.path().join("data").join(name);
                fs::copy(certificate.path(name), &path).unwrap();
                give_to_nobody(&path);
                fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            }
            settings.push_str("ssl = on\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\n");
        }
        let path = folder.path().join("data/postgresql.conf");
        fs::write(&path, fs::read_to_string(&path).unwrap() + &settings).unwrap();
        let programs = initdb.parent().unwrap().to_owned();
        let mut postgres = Self { folder, port: free_port(), programs, server: None };
        postgres.run().await;
        Some(postgres)
    }

    pub(crate) async fn run(&mut self) {
        let folder = self.folder.path();
        let port = self.port.to_string();
        let arguments = ["-D", "data", "-p", &port, "-h", "127.0.0.1", "-k", folder.to_str().unwrap()];
        self.server = Some(Guard(as_nobody(&self.programs.join("postgres"), folder).args(arguments).spawn().unwrap()));
        until("a session", async || self.client().await.is_ok()).await;
    }

    pub(crate) fn kill(&mut self) {
        self.server = None;
        // Its children notice the death by themselves; only the socket's lock would be in the way.
        let _ = fs::remove_file(self.folder.path().join("data/postmaster.pid"));
    }

    pub(crate) async fn client(&self) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let url = self.socket_url();
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    pub(crate) fn socket_url(&self) -> String {
        format!("host={} port={} user=app dbname=postgres", self.folder.path().display(), self.port)
    }

    pub(crate) fn url(&self, password: &str) -> String {
        format!("postgres://app:{password}@127.0.0.1:{}/postgres", self.port)
    }
}

/// A Redis server of its own.
pub(crate) struct Redis {
    pub(crate) port: u16,
    arguments: Vec<String>,
    server: Option<Guard>,
    folder: TempDir,
}

impl Redis {
    pub(crate) async fn start(arguments: &[&str]) -> Option<Self> {
        program(&["/usr/bin/redis-server", "/usr/local/bin/redis-server"])?;
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut redis = Self { port: free_port(), arguments, server: None, folder: tempfile::tempdir().unwrap() };
        redis.run().await;
        Some(redis)
    }

    pub(crate) async fn run(&mut self) {
        let program = program(&["/usr/bin/redis-server", "/usr/local/bin/redis-server"]).unwrap();
        let mut command = Command::new(program);
        command.args(["--port", &self.port.to_string(), "--save", "", "--bind", "127.0.0.1", "--dir"]).arg(self.folder.path());
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.server = Some(Guard(command.spawn().unwrap()));
        listening(self.port).await;
    }

    pub(crate) fn kill(&mut self) {
        self.server = None;
    }
}

/// What a server does with those who connect.
#[derive(Clone, Copy)]
pub(crate) enum Manner {
    /// Accepts and never says a word.
    Silent,
    /// Says what makes no sense and hangs up.
    Garbage,
    /// Never stops talking.
    Flood,
    /// Hangs up at once.
    HangUp,
}

/// A server that misbehaves, for as long as the test lasts.
pub(crate) async fn misbehaving(manner: Manner) -> u16 {
    use tokio::io::AsyncWriteExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                match manner {
                    Manner::Silent => tokio::time::sleep(Duration::from_secs(600)).await,
                    Manner::Garbage => {
                        let _ = stream.write_all(b"\x00\xff\x13garbage\r\n\r\n$-9\r\n*99999999\r\n").await;
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    Manner::Flood => while stream.write_all(&[b'+'; 65_536]).await.is_ok() {},
                    Manner::HangUp => {}
                }
            });
        }
    });
    port
}
