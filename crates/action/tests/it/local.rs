//! Real servers on loopback that end with the test.

use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use paramedic_action::call::{Call, Done, Plan};
use paramedic_action::{ActionError, Adapter};
use tokio_util::sync::CancellationToken;

const NOBODY: u32 = 65_534;

pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    pub(crate) folder: tempfile::TempDir,
}

impl Server {
    /// Ends it as when the machine goes.
    pub(crate) fn end(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        // PostgreSQL ends its children too when it is told to leave at once.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        std::thread::sleep(Duration::from_millis(50));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops it without ending it: it does not answer any more.
    pub(crate) fn freeze(&self) {
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::CONT);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.thaw();
        self.end();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

pub(crate) fn program(paths: &[&str]) -> Option<PathBuf> {
    let found = paths.iter().map(PathBuf::from).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: {} is not installed", paths[0]);
    }
    found
}

pub(crate) fn as_nobody(program: &Path, folder: &Path) -> Command {
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

pub(crate) async fn redis(more: &[&str]) -> Option<Server> {
    let binary = program(&["/usr/bin/redis-server", "/usr/local/bin/redis-server"])?;
    let folder = folder();
    let port = free_port();
    let mut command = as_nobody(&binary, folder.path());
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]).args(more);
    let server = Server { child: command.spawn().expect("starts"), port, folder };
    answers(port).await;
    Some(server)
}

pub(crate) async fn postgres() -> Option<Server> {
    let initdb = program(&["/usr/lib/postgresql/15/bin/initdb", "/usr/lib/postgresql/17/bin/initdb", "/usr/local/bin/initdb"])?;
    let folder = folder();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "letmein99\n").expect("written");
    let _ = chown(&secret, Some(NOBODY), Some(NOBODY));
    let mut init = as_nobody(&initdb, folder.path());
    let made =
        init.args(["-D", "data", "-U", "boss", "--auth=scram-sha-256", "--pwfile=secret", "-N", "-E", "UTF8"]).status().expect("initdb");
    assert!(made.success());
    let port = free_port();
    let socket = folder.path().display().to_string();
    let child = as_nobody(&initdb.with_file_name("postgres"), folder.path())
        .args(["-D", "data", "-p", &port.to_string(), "-h", "127.0.0.1", "-k", &socket, "-c", "fsync=off"])
        .spawn()
        .expect("starts");
    let server = Server { child, port, folder };
    answers(port).await;
    Some(server)
}

/// Plans and carries out, as the instance does.
pub(crate) async fn carry(adapter: &dyn Adapter, call: &Call) -> Result<(Plan, Done), ActionError> {
    let plan = adapter.plan(call).await?;
    let done = adapter.execute(call, &plan, &CancellationToken::new()).await?;
    Ok((plan, done))
}
