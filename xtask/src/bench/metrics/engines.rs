//! The programs that are measured beside each other, each on the loopback with a folder of its own.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::bench::http::Connection;
use crate::{paths, process};

const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// One running program.
pub(in crate::bench) struct Engine {
    pub(in crate::bench) name: &'static str,
    pub(in crate::bench) child: process::Guarded,
    pub(in crate::bench) connection: Connection,
    pub(in crate::bench) address: String,
    /// Resident memory before any sample came, in MB.
    pub(in crate::bench) empty_mb: f64,
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Engine {
    fn start(name: &'static str, command: &mut Command, address: String, folder: &Path) -> Result<Self> {
        let log = fs::File::create(folder.join(format!("{name}.log")))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let child = process::Guarded(child.with_context(|| format!("failed to start {name}"))?);
        let begun = Instant::now();
        loop {
            let answer = Connection::open(&address).and_then(|mut connection| {
                let (status, _) = connection.get("/api/v1/query?query=1")?;
                Ok((status, connection))
            });
            if let Ok((200, connection)) = answer {
                thread::sleep(Duration::from_millis(500));
                let empty_mb = process::memory_mb(child.0.id(), "VmRSS").context("it is gone")?;
                return Ok(Self { name, child, connection, address, empty_mb });
            }
            ensure!(begun.elapsed() < READY_TIMEOUT, "{name} was not ready in time");
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(in crate::bench) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    pub(in crate::bench) fn memory_mb(&self) -> Result<f64> {
        process::memory_mb(self.pid(), "VmRSS").context("it is gone")
    }

    pub(in crate::bench) fn write(&mut self, body: &[u8]) -> Result<()> {
        let headers = "content-type: application/x-protobuf\r\ncontent-encoding: snappy\r\nx-prometheus-remote-write-version: 0.1.0\r\nuser-agent: bench";
        let (status, answer) = self.connection.post_with("/api/v1/write", headers, body)?;
        ensure!(status / 100 == 2, "{} answered {status}: {}", self.name, String::from_utf8_lossy(&answer));
        Ok(())
    }

    /// Milliseconds until the whole answer was there, and how many elements it has.
    pub(in crate::bench) fn query(&mut self, query: &str, at_ms: i64) -> Result<(f64, usize)> {
        let path = format!("/api/v1/query?query={}&time={}.{:03}", encoded(query), at_ms / 1_000, at_ms % 1_000);
        let begun = Instant::now();
        let (status, answer) = self.connection.get(&path)?;
        let took = begun.elapsed().as_secs_f64() * 1e3;
        ensure!(status == 200, "{} answered {status}: {}", self.name, String::from_utf8_lossy(&answer));
        let answer: Value = serde_json::from_slice(&answer)?;
        Ok((took, answer["data"]["result"].as_array().map_or(0, Vec::len)))
    }

    /// Has it read its rules anew.
    pub(in crate::bench) fn reload(&mut self) -> Result<()> {
        let (status, answer) = self.connection.post("/-/reload", "text/plain", b"")?;
        ensure!(status == 200, "{} does not load the rules: {}", self.name, String::from_utf8_lossy(&answer));
        Ok(())
    }

    /// When its groups of rules were last evaluated, and how many seconds that took, as `/api/v1/rules` says it.
    pub(in crate::bench) fn evaluations(&mut self) -> Result<Vec<(String, String, f64)>> {
        let (status, answer) = self.connection.get("/api/v1/rules")?;
        ensure!(status == 200, "{} answered {status}", self.name);
        let answer: Value = serde_json::from_slice(&answer)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let group = |group: &Value| {
            let took = group["evaluationTime"].as_f64()?;
            Some((text(&group["name"]), text(&group["lastEvaluation"]), took))
        };
        Ok(answer["data"]["groups"].as_array().into_iter().flatten().filter_map(group).collect())
    }
}

/// The values of the metrics of a program whose lines begin with `name`, with their lines.
pub(in crate::bench) fn own_metrics(address: &str, name: &str) -> Result<Vec<(String, f64)>> {
    let (_, text) = Connection::open(address)?.get("/metrics")?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines = text.lines().filter(|line| line.starts_with(name));
    Ok(lines.filter_map(|line| Some((line.to_owned(), line.rsplit(' ').next()?.parse().ok()?))).collect())
}

fn encoded(text: &str) -> String {
    let one = |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

pub(in crate::bench) fn prometheus(folder: &Path, rules: &Path) -> Result<Engine> {
    let program = process::find_program(&["prometheus"]).context("prometheus is not on the PATH")?;
    let address = format!("127.0.0.1:{}", free_port()?);
    let config = folder.join("prometheus.yml");
    fs::write(&config, format!("global: {{scrape_interval: 15s, evaluation_interval: 5s}}\nrule_files: [{:?}]\n", rules.display()))?;
    let mut command = Command::new(program);
    command.arg(format!("--config.file={}", config.display())).arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()));
    command.arg(format!("--web.listen-address={address}")).args(["--web.enable-remote-write-receiver", "--web.enable-lifecycle"]);
    command.args(["--web.console.templates=.", "--web.console.libraries=."]).current_dir(folder);
    Engine::start("Prometheus", &mut command, address, folder)
}

pub(in crate::bench) fn victoria_metrics(folder: &Path) -> Result<Engine> {
    let program = process::find_program(&["victoria-metrics"]).context("victoria-metrics is not on the PATH")?;
    let address = format!("127.0.0.1:{}", free_port()?);
    let mut command = Command::new(program);
    command.arg(format!("-storageDataPath={}", folder.join("vm").display())).arg(format!("-httpListenAddr={address}"));
    // It would close connections that are two minutes old.
    command.args(["-retentionPeriod=1d", "-search.latencyOffset=1s", "-http.connTimeout=1h"]);
    Engine::start("VictoriaMetrics", &mut command, address, folder)
}

/// The program as its users run it; what has nothing to do with the comparison (the rule pack, the host's probes, agents)
/// is off.
pub(in crate::bench) fn paramedic(folder: &Path, rules: &Path) -> Result<Engine> {
    let program = crate::bench::release_program()?;
    let address = format!("127.0.0.1:{}", free_port()?);
    let config = folder.join("paramedic.toml");
    let off = "[probe]\nhost = false\n[meter]\nenabled = false\n[claude]\nwatch = false\n";
    // Hours of samples are sent within minutes: upkeep has to come round as often for each of them as in life.
    let hasty = "[samples]\nupkeep_interval_s = 1\n";
    fs::write(&config, format!("{off}{hasty}[rules]\npack = false\nfiles = [{:?}]\n", rules.display()))?;
    let mut command = Command::new(program);
    command.args(["up", "--otlp-grpc", "", "--otlp-http", "", "--gateway", "", "--http", &address]);
    command.arg("--config").arg(config).arg("--data").arg(folder.join("paramedic"));
    Engine::start("Paramedic", &mut command, address, folder)
}

/// Our store and engine alone behind the same protocol.
pub(in crate::bench) fn bare(folder: &Path) -> Result<Engine> {
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--release", "--package", "paramedic-samples", "--example", "serve"]);
    process::run(build.current_dir(paths::workspace()))?;
    let address = format!("127.0.0.1:{}", free_port()?);
    let mut command = Command::new(paths::target().join("release/examples/serve"));
    command.arg(&address).arg(folder.join("samples"));
    Engine::start("Paramedic", &mut command, address, folder)
}

/// `vmalert` with a file of rules over a running VictoriaMetrics; gives its address too.
pub(in crate::bench) fn vmalert(folder: &Path, rules: &Path, source: &str) -> Result<(process::Guarded, String)> {
    let program = process::find_program(&["vmalert"]).context("vmalert is not on the PATH")?;
    let address = format!("127.0.0.1:{}", free_port()?);
    let log = fs::File::create(folder.join("vmalert.log"))?;
    let mut command = Command::new(program);
    command.arg(format!("-rule={}", rules.display())).arg(format!("-datasource.url=http://{source}"));
    command.arg(format!("-remoteWrite.url=http://{source}"));
    command.arg(format!("-httpListenAddr={address}")).args(["-notifier.url=http://127.0.0.1:9", "-evaluationInterval=5s"]);
    let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("failed to start vmalert")?;
    Ok((process::Guarded(child), address))
}
