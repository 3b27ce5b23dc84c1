//! All settings in one place: the default file is embedded, a user's file overrides single keys.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The commented defaults; the configuration reference is this file.
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// Everything that can be set. Every key has a default; an unknown key is an error that names its line.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub data: Data,
    pub listen: Listen,
    pub claude: Claude,
    pub tail: paramedic_collect::config::TailSettings,
    pub logs: paramedic_collect::config::LogSettings,
    pub otlp: paramedic_collect::otlp::Settings,
    pub telemetry: paramedic_telemetry::Settings,
    pub fleet: paramedic_fleet::Settings,
    pub detect: paramedic_detect::Settings,
    pub incidents: paramedic_respond::Settings,
    pub intake: Intake,
    pub samples: paramedic_samples::Settings,
    pub query: Query,
    pub scrape: paramedic_collect::scrape::Settings,
    pub remote_write: paramedic_remote::ReceiveSettings,
    pub remote_read: paramedic_remote::ReadSettings,
    pub forward: paramedic_remote::ForwardSettings,
    pub probe: paramedic_probe::Settings,
    pub meter: paramedic_meter::Settings,
    pub rules: paramedic_rules::Settings,
    pub runbook: paramedic_runbook::Settings,
    pub action: paramedic_action::Settings,
    pub gateway: paramedic_gateway::Settings,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// Folder of the journal, the events and the checkpoint. Empty: `$XDG_DATA_HOME/paramedic` or
    /// `~/.local/share/paramedic`.
    pub dir: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    pub http: String,
    pub otlp_grpc: String,
    pub otlp_http: String,
    pub gateway: String,
    /// Whether addresses other than loopback may be bound. There is no authentication yet, so it is off.
    pub allow_public: bool,
    /// Names besides loopback and IP addresses under which browsers may reach the pages.
    pub host_names: Vec<String>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            http: "127.0.0.1:3333".to_owned(),
            otlp_grpc: "127.0.0.1:4317".to_owned(),
            otlp_http: "127.0.0.1:4318".to_owned(),
            gateway: "127.0.0.1:8484".to_owned(),
            allow_public: false,
            host_names: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Claude {
    /// Claude Code configuration folders to read. Empty: `$CLAUDE_CONFIG_DIR` or `~/.claude`.
    pub dirs: Vec<String>,
    /// Whether transcripts are read at all.
    pub watch: bool,
    /// A file with model prices that replaces the built-in one. Empty: the built-in prices.
    pub prices: String,
}

impl Default for Claude {
    fn default() -> Self {
        Self { dirs: Vec::new(), watch: true, prices: String::new() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    /// Seconds that a query may take.
    pub timeout_s: u64,
    /// Queries that are evaluated at once; others wait for their turn.
    pub concurrency_max: usize,
    /// Samples that a query may hold in memory at once.
    pub samples_max: usize,
    /// Steps that a range query may have.
    pub steps_max: usize,
    /// Seconds that an instant selector looks back for a sample.
    pub lookback_s: u64,
    /// Seconds between the steps of a subquery that names none.
    pub subquery_step_s: u64,
    /// Whether experimental functions and syntax are allowed.
    pub experimental: bool,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            timeout_s: 120,
            concurrency_max: 8,
            samples_max: 50_000_000,
            steps_max: 11_000,
            lookback_s: 300,
            subquery_step_s: 60,
            experimental: false,
        }
    }
}

impl Query {
    /// The engine's options.
    #[must_use]
    pub fn options(&self) -> paramedic_promql::Options {
        let millis = |seconds: u64| i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX);
        paramedic_promql::Options {
            lookback_ms: millis(self.lookback_s),
            subquery_step_ms: millis(self.subquery_step_s),
            samples_max: self.samples_max,
            steps_max: self.steps_max,
            timeout: std::time::Duration::from_secs(self.timeout_s),
            experimental: self.experimental,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Intake {
    /// Batches that may wait between receivers and the store before senders have to wait.
    pub queue_batches_max: usize,
    /// Seconds between checkpoints of the fleet and the detectors.
    pub checkpoint_every_s: u64,
    /// Seconds that a graceful stop may take before connections are cut.
    pub drain_s: u64,
}

impl Default for Intake {
    fn default() -> Self {
        Self { queue_batches_max: 64, checkpoint_every_s: 60, drain_s: 10 }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("read the settings {}: {source}", file.display())]
    Io { file: PathBuf, source: std::io::Error },
    #[error("read the settings {}: {why}", file.display())]
    Invalid { file: PathBuf, why: String },
    #[error("find a data folder: neither $XDG_DATA_HOME nor $HOME is set; use --data DIR")]
    NoHome,
    #[error("use listen.{key} = {value:?}: {why}")]
    Address { key: &'static str, value: String, why: String },
}

impl Settings {
    /// The defaults, with a file's keys on top if one is given.
    pub fn load(file: Option<&Path>) -> Result<Self, SettingsError> {
        let Some(file) = file else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(file).map_err(|source| SettingsError::Io { file: file.to_owned(), source })?;
        Self::parse(&text).map_err(|why| SettingsError::Invalid { file: file.to_owned(), why })
    }

    /// Reads TOML; the error says line, key and what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    /// Where everything is kept.
    pub fn data_dir(&self) -> Result<PathBuf, SettingsError> {
        if !self.data.dir.is_empty() {
            return Ok(PathBuf::from(&self.data.dir));
        }
        let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        from("XDG_DATA_HOME")
            .or_else(|| from("HOME").map(|home| home.join(".local/share")))
            .map(|base| base.join("paramedic"))
            .ok_or(SettingsError::NoHome)
    }

    /// What is scraped: the jobs of these settings and those of Prometheus's configuration files.
    pub fn scraping(&self) -> Result<paramedic_collect::scrape::Settings, SettingsError> {
        let mut scrape = self.scrape.clone();
        for file in std::mem::take(&mut scrape.prometheus_files) {
            let path = PathBuf::from(&file);
            let text = std::fs::read_to_string(&path).map_err(|source| SettingsError::Io { file: path.clone(), source })?;
            let imported = paramedic_collect::scrape::from_prometheus_yaml(&text)
                .map_err(|error| SettingsError::Invalid { file: path, why: error.to_string() })?;
            for key in &imported.unsupported {
                tracing::warn!(file, key, "left out: this key of a scrape job is not supported");
            }
            scrape.jobs.extend(imported.jobs);
        }
        Ok(scrape)
    }

    /// Forwarding to the external store that `samples.url` names.
    #[must_use]
    pub fn forwarding(&self) -> paramedic_remote::ForwardSettings {
        let mut forward = self.forward.clone();
        if forward.store.url.is_empty() {
            forward.store.url = format!("{}/api/v1/write", self.samples.url.trim_end_matches('/'));
        }
        forward
    }

    /// The settings in use as text, without secrets.
    #[must_use]
    pub fn shown(&self) -> String {
        paramedic_model::secret::mask(&format!("{self:#?}")).into_owned()
    }

    /// The Claude Code configuration folders to watch.
    #[must_use]
    pub fn claude_dirs(&self) -> Vec<PathBuf> {
        if !self.claude.watch {
            return Vec::new();
        }
        if !self.claude.dirs.is_empty() {
            return self.claude.dirs.iter().map(PathBuf::from).collect();
        }
        let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        from("CLAUDE_CONFIG_DIR").or_else(|| from("HOME").map(|home| home.join(".claude"))).into_iter().collect()
    }
}

impl Listen {
    /// The address for a key; `None` when it is switched off with an empty text.
    pub fn address(&self, key: &'static str) -> Result<Option<std::net::SocketAddr>, SettingsError> {
        let value = match key {
            "http" => &self.http,
            "otlp_grpc" => &self.otlp_grpc,
            "gateway" => &self.gateway,
            _ => &self.otlp_http,
        };
        if value.is_empty() {
            return Ok(None);
        }
        let wrong = |why: &str| SettingsError::Address { key, value: value.clone(), why: why.to_owned() };
        let address: std::net::SocketAddr = value.parse().map_err(|_| wrong("not an address like 127.0.0.1:3333"))?;
        if !address.ip().is_loopback() && !self.allow_public {
            return Err(wrong(
                "not a loopback address, and there is no authentication; set listen.allow_public = true if the network is trusted",
            ));
        }
        Ok(Some(address))
    }
}

/// The configuration reference as Markdown, made from the commented default file.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from(
        "# Configuration reference\n\nMade from the built-in defaults by `paramedic config reference`; a test fails when this file is stale. A settings file is \
         TOML, named with `--config FILE` or `PARAMEDIC_CONFIG`, and needs only the keys that differ. Unknown keys are refused with their line.\n",
    );
    let mut comment: Vec<&str> = Vec::new();
    for line in DEFAULT_TOML.lines() {
        if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
        } else if let Some(section) = line.strip_prefix('[') {
            comment.clear();
            out.push_str(&format!("\n## `[{}]`\n\n| key | default | what it does |\n|---|---|---|\n", section.trim_end_matches(']')));
        } else if let Some((key, value)) = line.split_once(" = ") {
            // Keys that share a comment stand under it together.
            let what = if comment.is_empty() { "as above".to_owned() } else { comment.join(" ") };
            out.push_str(&format!("| `{key}` | `{value}` | {} |\n", what.replace('|', "\\|")));
            comment.clear();
        } else {
            comment.clear();
        }
    }
    out
}

/// Probes that look at nothing, for an instance that is a gateway only.
#[must_use]
pub fn no_probes() -> paramedic_probe::Settings {
    paramedic_probe::Settings { host: false, ..paramedic_probe::Settings::default() }
}
