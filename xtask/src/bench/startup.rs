//! How soon `paramedic up` is ready, and what it holds when nothing happens.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::{self, Guarded};

use super::http::Connection;
use super::{corpus, folder, median, release_program};

const READY_TIMEOUT: Duration = Duration::from_secs(600);
const IDLE: Duration = Duration::from_secs(5);
const RUNS: usize = 5;

/// A running `paramedic up`.
pub(super) struct Running {
    pub child: Guarded,
    pub ports: Value,
    pub ready_after: Duration,
}

impl Running {
    pub(super) fn address(&self, port: &str) -> Result<String> {
        let value = &self.ports[port];
        let port =
            value.as_u64().or_else(|| value.as_str()?.rsplit(':').next()?.parse().ok()).with_context(|| format!("no port {port}"))?;
        Ok(format!("127.0.0.1:{port}"))
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.0.id()
    }
}

/// Starts the program and waits until it says that it is ready.
pub(super) fn start(program: &Path, data: &Path, sessions: &Path) -> Result<Running> {
    let ports_file = data.join("ports.json");
    fs::remove_file(&ports_file).ok();
    fs::create_dir_all(sessions)?;
    let log_file = data.join("up.log");
    let log = fs::File::create(&log_file).with_context(|| format!("failed to create {}", log_file.display()))?;
    let begin = Instant::now();
    let child = Command::new(program)
        .args([
            "up",
            "--http",
            "127.0.0.1:0",
            "--otlp-grpc",
            "127.0.0.1:0",
            "--otlp-http",
            "127.0.0.1:0",
            "--gateway",
            "127.0.0.1:0",
            "--claude-dir",
        ])
        .arg(sessions)
        .arg("--data")
        .arg(data)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("failed to start paramedic up")?;
    let mut child = Guarded(child);
    loop {
        if let Some(status) = child.0.try_wait()? {
            anyhow::bail!("paramedic up ended with {status}, see {}", log_file.display());
        }
        let ports = fs::read(&ports_file).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        if let Some(ports) = ports {
            let running = Running { child, ports, ready_after: begin.elapsed() };
            let address = running.address("http")?;
            let ready = Connection::open(&address).and_then(|mut connection| connection.get("/health/ready"));
            if ready.is_ok_and(|(status, _)| status == 200) {
                return Ok(Running { ready_after: begin.elapsed(), ..running });
            }
            child = running.child;
        }
        anyhow::ensure!(begin.elapsed() < READY_TIMEOUT, "paramedic up was not ready in time");
        thread::sleep(Duration::from_millis(1));
    }
}

pub(super) fn run(megabytes: u64) -> Result<String> {
    let program = release_program()?;
    let root = folder()?.join("startup");
    fs::remove_dir_all(&root).ok();
    let empty = measure_start(&program, &root, "empty", &root.join("no-sessions"))?;
    let mut table = String::from("| store | ready after ms | resident MB, idle |\n|---|---|---|\n");
    table.push_str(&row("empty", empty));
    if let Ok(corpus) = corpus::make(megabytes) {
        let data = root.join("seen");
        fs::create_dir_all(&data)?;
        let running = start(&program, &data, &corpus)?;
        wait_until_idle(running.pid())?;
        running.child.terminate()?;
        let mut samples = Vec::new();
        for _ in 0..RUNS {
            samples.push(one_start(&program, &data, &corpus)?);
        }
        table.push_str(&row(&format!("{megabytes} MB of sessions already seen"), middle(&samples)));
    }
    Ok(table)
}

fn measure_start(program: &Path, root: &Path, name: &str, sessions: &Path) -> Result<(f64, f64)> {
    let mut samples = Vec::new();
    for run in 0..RUNS {
        let data = root.join(format!("{name}-{run}"));
        fs::create_dir_all(&data)?;
        samples.push(one_start(program, &data, sessions)?);
    }
    Ok(middle(&samples))
}

fn one_start(program: &Path, data: &Path, sessions: &Path) -> Result<(f64, f64)> {
    let running = start(program, data, sessions)?;
    let ready_ms = running.ready_after.as_secs_f64() * 1000.0;
    thread::sleep(IDLE);
    let rss = process::memory_mb(running.pid(), "VmRSS").context("the process is gone")?;
    running.child.terminate()?;
    Ok((ready_ms, rss))
}

/// Back-fill is over when the process used next to no CPU for a while.
fn wait_until_idle(pid: u32) -> Result<()> {
    let mut quiet = 0;
    let mut last = process::cpu_s(pid)?;
    while quiet < 5 {
        thread::sleep(Duration::from_secs(1));
        let now = process::cpu_s(pid)?;
        quiet = if now - last < 0.05 { quiet + 1 } else { 0 };
        last = now;
    }
    Ok(())
}

fn middle(samples: &[(f64, f64)]) -> (f64, f64) {
    (median(samples.iter().map(|sample| sample.0).collect()), median(samples.iter().map(|sample| sample.1).collect()))
}

fn row(name: &str, (ready_ms, rss): (f64, f64)) -> String {
    format!("| {name} | {ready_ms:.0} | {rss:.0} |\n")
}
