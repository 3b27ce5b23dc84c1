//! Driving a real Claude Code that can reach nothing but the loopback.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::fake_api::FakeApi;
use crate::fixture::Home;

/// A made-up key in the form of a real one.
const KEY: &str = "sk-ant-api03-not-a-real-key";

/// Runs one headless prompt to its end.
pub fn run(program: &Path, home: &Home, api: &FakeApi, environment: &[(&str, String)]) -> Output {
    command(program, home, api, environment).output().unwrap()
}

/// The same with its output piped into `paramedic ingest -` while it runs.
pub fn run_into_ingest(program: &Path, home: &Home, api: &FakeApi, environment: &[(&str, String)]) {
    let mut claude = command(program, home, api, environment).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let output = claude.stdout.take().unwrap();
    let mut ingest = home.command(&["ingest", "-"]).stdin(output).spawn().unwrap();
    claude.wait().unwrap();
    assert!(ingest.wait().unwrap().success());
}

fn command(program: &Path, home: &Home, api: &FakeApi, environment: &[(&str, String)]) -> Command {
    let work = home.path().join("work");
    std::fs::create_dir_all(&work).unwrap();
    let mut command = Command::new(program);
    command
        .args(["-p", "say hi", "--output-format", "stream-json", "--verbose", "--allowedTools", "Bash"])
        .current_dir(work)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home.path())
        .env("CLAUDE_CONFIG_DIR", home.claude())
        .env("ANTHROPIC_BASE_URL", api.url())
        .env("ANTHROPIC_API_KEY", KEY)
        .env("DISABLE_AUTOUPDATER", "1")
        // Stops everything that is not the model API; telemetry and hooks of ours go on.
        .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        .env("OTEL_METRIC_EXPORT_INTERVAL", "500")
        .env("OTEL_LOGS_EXPORT_INTERVAL", "200")
        .stdin(Stdio::null());
    for (name, value) in environment {
        command.env(name, value);
    }
    command
}

/// The telemetry variables as a person sets them by hand.
pub fn telemetry(protocol: &str, address: &str) -> Vec<(&'static str, String)> {
    [
        ("CLAUDE_CODE_ENABLE_TELEMETRY", "1"),
        ("OTEL_METRICS_EXPORTER", "otlp"),
        ("OTEL_LOGS_EXPORTER", "otlp"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
    ]
    .into_iter()
    .map(|(name, value)| (name, value.to_owned()))
    .chain([("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"))])
    .collect()
}
