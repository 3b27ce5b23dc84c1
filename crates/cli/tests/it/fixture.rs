//! A running `paramedic up` of its own: own home, own data, own ports; gone with the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::{self, Answer};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_paramedic");
const READY_WITHIN: Duration = Duration::from_secs(30);

/// A home folder in which nothing of this machine is seen.
pub struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join(".claude/projects")).unwrap();
        Self { folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn claude(&self) -> PathBuf {
        self.path().join(".claude")
    }

    /// The program with this home and nothing else of the environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env_clear().env("HOME", self.path()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("PARAMEDIC_DATA", self.data()).env("XDG_CACHE_HOME", self.path().join("cache")).env("NO_COLOR", "1");
        command.stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a verb that prints JSON.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        assert!(output.status.success(), "paramedic {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(&output.stdout)))
    }

    /// Starts `paramedic up` and waits until it is ready.
    pub fn up(&self) -> Instance {
        self.up_with(&[])
    }

    #[track_caller]
    pub fn up_with(&self, more: &[&str]) -> Instance {
        self.up_in(more, &[])
    }

    /// Starts it with more arguments and more environment.
    #[track_caller]
    pub fn up_in(&self, more: &[&str], environment: &[(&str, &str)]) -> Instance {
        let log = fs::File::options().create(true).append(true).open(self.path().join("up.log")).unwrap();
        let mut command = self.command(&[
            "up",
            "--http",
            "127.0.0.1:0",
            "--otlp-grpc",
            "127.0.0.1:0",
            "--otlp-http",
            "127.0.0.1:0",
            "--gateway",
            "127.0.0.1:0",
        ]);
        command.args(more).arg("--claude-dir").arg(self.claude()).envs(environment.iter().copied());
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut instance = Instance { child, ports: Value::Null };
        let ready = until(READY_WITHIN, || {
            if let Some(status) = instance.child.try_wait().unwrap() {
                panic!("paramedic up ended with {status}: {}", self.log());
            }
            let ports: Value = serde_json::from_slice(&fs::read(self.data().join("ports.json")).ok()?).ok()?;
            (ports["pid"] == instance.child.id()).then(|| instance.ports = ports)?;
            http::get(&instance.http(), "/health/ready").ok().filter(|answer| answer.status == 200)
        });
        assert!(ready.is_some(), "paramedic up was not ready: {}", self.log());
        instance
    }

    /// Starts it with these settings.
    #[track_caller]
    pub fn up_configured(&self, settings: &str) -> Instance {
        let file = self.path().join("paramedic.toml");
        fs::write(&file, settings).unwrap();
        self.up_with(&["--config", file.to_str().unwrap()])
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path().join("up.log")).unwrap_or_default()
    }
}

pub struct Instance {
    pub child: Child,
    ports: Value,
}

impl Instance {
    pub fn http(&self) -> String {
        self.port("http")
    }

    pub fn otlp_http(&self) -> String {
        self.port("otlp_http")
    }

    pub fn otlp_grpc(&self) -> String {
        self.port("otlp_grpc")
    }

    pub fn gateway(&self) -> String {
        self.port("gateway")
    }

    fn port(&self, name: &str) -> String {
        self.ports[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.ports)).to_owned()
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        http::get(&self.http(), path).unwrap()
    }

    #[track_caller]
    pub fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text());
        answer.json()
    }

    #[track_caller]
    pub fn list(&self, path: &str, name: &str) -> Vec<Value> {
        let answer = self.json(path);
        answer[name].as_array().unwrap_or_else(|| panic!("no {name} in {answer}")).clone()
    }

    pub fn agents(&self) -> Vec<Value> {
        self.list("/api/v1/agents?limit=1000", "agents")
    }

    pub fn incidents(&self) -> Vec<Value> {
        self.list("/api/v1/incidents?limit=1000", "incidents")
    }

    pub fn post_hook(&self, body: &Value) -> Answer {
        http::post(&self.http(), "/hooks", "application/json", body.to_string().as_bytes()).unwrap()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Asks it to stop as an operator would; gives the exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.signal("TERM");
        let ended = until(Duration::from_secs(20), || self.child.try_wait().unwrap());
        ended.expect("it stops within its deadline").code()
    }

    /// Takes it away at once, as the kernel does when memory runs out.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// Asks again until there is an answer or the time is up.
pub fn until<T>(within: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if begin.elapsed() > within {
            return None;
        }
        thread::sleep(Duration::from_millis(20));
    }
}
