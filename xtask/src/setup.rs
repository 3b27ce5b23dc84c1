//! What the tests need beside a Rust toolchain: a real Claude Code and the SDKs of the model API, the peers of the benchmarks,
//! OpenTelemetry's Python exporters, a browser, and real servers to talk to (Prometheus, VictoriaMetrics, PostgreSQL, Redis). Each is installed when that is possible and named when it is not; a test that misses one
//! says that it was skipped.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{paths, process};

/// The agent that the end-to-end tests drive.
const CLAUDE_CODE: &str = "@anthropic-ai/claude-code";
const CLAUDE_CODE_VERSION: &str = "2.1.330";
/// The clients besides Claude Code that call through the gateway.
const JAVASCRIPT_SDK: &str = "@anthropic-ai/sdk";
const JAVASCRIPT_SDK_VERSION: &str = "1.12.0";
const PYTHON_SDK: &str = "anthropic";
const PYTHON_SDK_VERSION: &str = "2.12.0";
/// The peer of `bench analyze`.
const CCUSAGE: &str = "@ccusage/ccusage";
const CCUSAGE_VERSION: &str = "20.0.24";
const PM2_VERSION: &str = "7.0.4";
/// OpenTelemetry's own exporters.
const PYTHON_PACKAGES: &[&str] = &["opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-grpc", "opentelemetry-exporter-otlp-proto-http"];

/// Finds or installs one thing and says where it is.
type Step = fn() -> Result<PathBuf>;

/// One thing that could not be had, and why.
pub(crate) struct Missing {
    pub what: &'static str,
    pub why: String,
}

pub(crate) fn run() -> Result<Vec<Missing>> {
    fs::create_dir_all(paths::test_tools()).context("failed to create the folder of test tools")?;
    let steps: [(&'static str, Step); 12] = [
        ("Claude Code", claude_code),
        ("the JavaScript SDK", javascript_sdk),
        ("ccusage", ccusage),
        ("pm2", pm2),
        ("kubectl", || server(&["kubectl"], "kubernetes-client")),
        ("OpenTelemetry's Python exporters", python),
        ("the Python SDK", python_sdk),
        ("a browser (Chromium)", browser),
        ("Prometheus and promtool", || server(&["prometheus"], "prometheus")),
        ("VictoriaMetrics", || server(&["victoria-metrics"], "victoria-metrics")),
        ("PostgreSQL", || server(&["postgres"], "postgresql")),
        ("Redis", || server(&["redis-server"], "redis-server")),
    ];
    let mut missing = Vec::new();
    for (what, step) in steps {
        match step() {
            Ok(place) => println!("found   {what}: {}", place.display()),
            Err(error) => {
                println!("missing {what}: {error:#}");
                missing.push(Missing { what, why: format!("{error:#}") });
            }
        }
    }
    Ok(missing)
}

/// The suffix of npm's platform packages.
fn platform() -> &'static str {
    if cfg!(target_arch = "aarch64") { "linux-arm64" } else { "linux-x64" }
}

fn claude_code() -> Result<PathBuf> {
    let folder = npm_folder().join(format!("{CLAUDE_CODE}-{}", platform()));
    let program = folder.join("claude");
    if !program.is_file() || npm_version(&folder).as_deref() != Some(CLAUDE_CODE_VERSION) {
        // Exactly this one: a plain install takes the newest that fits the Node that is there.
        npm_install(&[format!("{CLAUDE_CODE}@{CLAUDE_CODE_VERSION}"), format!("{CLAUDE_CODE}-{}@{CLAUDE_CODE_VERSION}", platform())])?;
    }
    make_executable(&program)
}

fn javascript_sdk() -> Result<PathBuf> {
    let folder = npm_folder().join(JAVASCRIPT_SDK);
    if npm_version(&folder).as_deref() != Some(JAVASCRIPT_SDK_VERSION) {
        npm_install(&[format!("{JAVASCRIPT_SDK}@{JAVASCRIPT_SDK_VERSION}")])?;
    }
    process::find_program(&["node"]).context("node is not on the PATH")?;
    Ok(folder)
}

pub(crate) fn ccusage() -> Result<PathBuf> {
    let program = npm_folder().join(format!("{CCUSAGE}-{}", platform())).join("bin/ccusage");
    if !program.is_file() {
        npm_install(&[format!("{CCUSAGE}-{}@{CCUSAGE_VERSION}", platform())])?;
    }
    make_executable(&program)
}

/// The keeper of processes that services are restarted with.
fn pm2() -> Result<PathBuf> {
    let program = pm2_path();
    if !program.is_file() {
        npm_install(&[format!("pm2@{PM2_VERSION}")])?;
    }
    Ok(program)
}

pub(crate) fn pm2_path() -> PathBuf {
    npm_folder().join(".bin/pm2")
}

fn npm_folder() -> PathBuf {
    paths::test_tools().join("npm/node_modules")
}

/// The version of an installed package.
fn npm_version(package: &Path) -> Option<String> {
    let text = fs::read_to_string(package.join("package.json")).ok()?;
    let (_, rest) = text.split_once("\"version\":")?;
    rest.split('"').nth(1).map(str::to_owned)
}

fn npm_install(packages: &[String]) -> Result<()> {
    let npm = process::find_program(&["npm"]).context("npm is not on the PATH")?;
    let folder = paths::test_tools().join("npm");
    fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
    let mut command = Command::new(npm);
    // Nothing that a package brings is run while it is installed.
    command.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel", "error", "--prefix"]).arg(&folder);
    process::run(command.args(packages))
}

fn make_executable(program: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let mut rights = fs::metadata(program).with_context(|| format!("failed to find {}", program.display()))?.permissions();
    if rights.mode() & 0o100 == 0 {
        rights.set_mode(rights.mode() | 0o755);
        fs::set_permissions(program, rights).with_context(|| format!("failed to make {} executable", program.display()))?;
    }
    Ok(program.to_path_buf())
}

fn python() -> Result<PathBuf> {
    let imports = "import opentelemetry.exporter.otlp.proto.grpc, opentelemetry.exporter.otlp.proto.http, opentelemetry.sdk";
    python_with(PYTHON_PACKAGES, imports)
}

fn python_sdk() -> Result<PathBuf> {
    let package = format!("{PYTHON_SDK}=={PYTHON_SDK_VERSION}");
    python_with(&[&package], &format!("import {PYTHON_SDK}; assert {PYTHON_SDK}.__version__ == '{PYTHON_SDK_VERSION}'"))
}

/// A Python of our own in which this program of imports runs, with the packages for it.
fn python_with(packages: &[&str], imports: &str) -> Result<PathBuf> {
    let folder = paths::test_tools().join("python");
    let program = folder.join("bin/python");
    let works = |program: &Path| {
        program.is_file() && Command::new(program).args(["-c", imports]).output().is_ok_and(|output| output.status.success())
    };
    if works(&program) {
        return Ok(program);
    }
    if !program.is_file() {
        let system = process::find_program(&["python3"]).context("python3 is not on the PATH")?;
        process::run(Command::new(system).args(["-m", "venv"]).arg(&folder))?;
    }
    let mut install = Command::new(&program);
    process::run(install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages))?;
    anyhow::ensure!(works(&program), "{} cannot be imported", packages.join(" "));
    Ok(program)
}

fn browser() -> Result<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    if let Some(program) = env::var_os("PARAMEDIC_TEST_BROWSER").map(PathBuf::from).filter(|program| program.is_file()) {
        return Ok(program);
    }
    if let Some(program) = process::find_program(&names) {
        return Ok(program);
    }
    install("chromium")?;
    process::find_program(&names).context("apt-get installed no Chromium")
}

/// A server program of Debian's; PostgreSQL keeps its own outside the PATH.
pub(crate) fn server(names: &[&str], package: &str) -> Result<PathBuf> {
    let find = || process::find_program(names).or_else(|| newest_postgres().filter(|_| package == "postgresql"));
    if let Some(program) = find() {
        return Ok(program);
    }
    install(package)?;
    find().with_context(|| format!("apt-get installed no {}", names.join(" or ")))
}

fn newest_postgres() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    versions.filter_map(|version| Some(version.ok()?.path().join("bin/postgres"))).filter(|program| program.is_file()).max()
}

/// Installs a package of Debian's, and starts no service of it.
fn install(package: &str) -> Result<()> {
    let apt = process::find_program(&["apt-get"]).with_context(|| format!("no apt-get to install {package}"))?;
    anyhow::ensure!(is_root(), "`apt-get install {package}` needs root");
    let quiet = |arguments: &[&str]| {
        let mut command = Command::new(&apt);
        process::output(command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1"))
    };
    let arguments = ["install", "-qq", "-y", "--no-install-recommends", package];
    if quiet(&arguments).is_err() {
        quiet(&["update", "-qq"])?;
        quiet(&arguments)?;
    }
    Ok(())
}

fn is_root() -> bool {
    process::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}
