//! Settings of scraping.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::SettingsError;
use super::relabel::{Relabel, Rules};

/// What is scraped.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The jobs, as `[[scrape.jobs]]`. Default none.
    pub jobs: Vec<Job>,
    /// Prometheus configuration files whose `scrape_configs` are taken as further jobs. Default none.
    pub prometheus_files: Vec<String>,
    /// Seconds between two looks at a target, for jobs that do not say it. Default 15.
    pub interval_s: u64,
    /// Seconds that a look may take, for jobs that do not say it; never more than the interval. Default 10.
    pub timeout_s: u64,
    /// Seconds between two readings of the files that targets are found in. Default 5.
    pub rescan_s: u64,
    /// Targets of all jobs together; further ones are left out and counted. Default 10,000.
    pub targets_max: usize,
    /// Looks that may be under way at the same time; read at the start only. Default 256.
    pub looks_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            jobs: Vec::new(),
            prometheus_files: Vec::new(),
            interval_s: 15,
            timeout_s: 10,
            rescan_s: 5,
            targets_max: 10_000,
            looks_max: 256,
        }
    }
}

/// Targets that are looked at in the same way.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Job {
    /// Its name, and the label `job` of its samples. Required.
    pub name: String,
    /// Addresses, `host:port` each; the port is 80 or 443 when it is left out. Default none.
    pub targets: Vec<String>,
    /// Labels of all `targets`. Default none.
    pub labels: BTreeMap<String, String>,
    /// Further groups of targets with labels of their own, as `[[scrape.jobs.groups]]`. Default none.
    pub groups: Vec<StaticTargets>,
    /// Files of Prometheus's file discovery, JSON or YAML; `*` may stand for any part of a file's name. Default none.
    pub files: Vec<String>,
    /// Seconds between two looks. Default: the general `interval_s`.
    pub interval_s: Option<u64>,
    /// Seconds that a look may take. Default: the general `timeout_s`.
    pub timeout_s: Option<u64>,
    /// Where the targets show their metrics. Default `/metrics`.
    pub path: String,
    /// `http` or `https`. Default `http`.
    pub scheme: String,
    /// Parameters of the URL; a name may have several values. Default none.
    pub params: BTreeMap<String, Vec<String>>,
    /// Name and password for targets that want them. Default none.
    pub basic_auth: Option<BasicAuth>,
    /// A token that is sent as `Authorization: Bearer`. Default none.
    pub bearer_token: Option<Secret>,
    /// A file that holds this token; it is read for each look. Default none.
    pub bearer_token_file: Option<String>,
    /// Further headers of the request. Default none.
    pub headers: BTreeMap<String, Secret>,
    /// A file with certificates (PEM) that targets may be signed by, besides those of the system. Default none.
    pub tls_ca_file: Option<String>,
    /// Takes any certificate. Default false.
    pub tls_skip_verify: bool,
    /// Follows a target's answer to another URL. Default true.
    pub follow_redirects: bool,
    /// A label that the target wrote wins over the target's own; otherwise it becomes `exported_<name>`. Default false.
    pub honor_labels: bool,
    /// Times that the target wrote are kept. Default true.
    pub honor_timestamps: bool,
    /// Series with times of their own end with a marker too when they vanish. Default false.
    pub track_timestamps_staleness: bool,
    /// Samples in one look, after relabeling; more fail it. 0 means no bound. Default 200,000.
    pub sample_limit: u64,
    /// Labels of one sample; more fail the look. 0 means no bound. Default 64.
    pub label_limit: u64,
    /// Bytes of a label's name; more fail the look. 0 means no bound. Default 512.
    pub label_name_length_limit: u64,
    /// Bytes of a label's value; more fail the look. 0 means no bound. Default 4,096.
    pub label_value_length_limit: u64,
    /// Targets of this job after relabeling; more fail all of them. 0 means no bound. Default 0.
    pub target_limit: u64,
    /// Bytes of a body after decompression; more fail the look. Default 64 MiB.
    pub body_bytes_max: u64,
    /// Changes of targets' labels before they are looked at, as in Prometheus. Default none.
    pub relabel: Vec<Relabel>,
    /// Changes of samples' labels before they are stored, as in Prometheus. Default none.
    pub metric_relabel: Vec<Relabel>,
}

impl Default for Job {
    fn default() -> Self {
        Self {
            name: String::new(),
            targets: Vec::new(),
            labels: BTreeMap::new(),
            groups: Vec::new(),
            files: Vec::new(),
            interval_s: None,
            timeout_s: None,
            path: "/metrics".to_owned(),
            scheme: "http".to_owned(),
            params: BTreeMap::new(),
            basic_auth: None,
            bearer_token: None,
            bearer_token_file: None,
            headers: BTreeMap::new(),
            tls_ca_file: None,
            tls_skip_verify: false,
            follow_redirects: true,
            honor_labels: false,
            honor_timestamps: true,
            track_timestamps_staleness: false,
            sample_limit: 200_000,
            label_limit: 64,
            label_name_length_limit: 512,
            label_value_length_limit: 4_096,
            target_limit: 0,
            body_bytes_max: paramedic_model::limit::BODY_BYTES_MAX as u64,
            relabel: Vec::new(),
            metric_relabel: Vec::new(),
        }
    }
}

/// Targets with labels of their own; also the form of file discovery.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StaticTargets {
    /// Addresses, `host:port` each. Default none.
    pub targets: Vec<String>,
    /// Labels of all of them. Default none.
    pub labels: BTreeMap<String, String>,
}

/// Name and password.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BasicAuth {
    /// The name. Default empty.
    pub username: String,
    /// The password. Default empty.
    pub password: Secret,
    /// A file that holds the password; it is read for each look. Default none.
    pub password_file: Option<String>,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"***\"")
    }
}

impl Settings {
    /// Finds what cannot work, before anything is looked at.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let mut names = std::collections::BTreeSet::new();
        for job in &self.jobs {
            let wrong = |what: String| Err(SettingsError { job: job.name.clone(), what });
            if job.name.is_empty() {
                return wrong("it has no name".to_owned());
            }
            if !names.insert(&job.name) {
                return wrong("two jobs have this name".to_owned());
            }
            if !matches!(job.scheme.as_str(), "http" | "https") {
                return wrong(format!("scheme is {:?}, not http or https", job.scheme));
            }
            if self.interval_of(job) == 0 {
                return wrong("interval_s is 0".to_owned());
            }
            if job.timeout_s.is_some_and(|timeout| timeout == 0 || timeout > self.interval_of(job)) {
                return wrong("timeout_s is 0 or longer than interval_s".to_owned());
            }
            if job.bearer_token.is_some() as u8 + job.bearer_token_file.is_some() as u8 + job.basic_auth.is_some() as u8 > 1 {
                return wrong("only one of basic_auth, bearer_token and bearer_token_file may be set".to_owned());
            }
            for rules in [&job.relabel, &job.metric_relabel] {
                Rules::new(rules).map_err(|what| SettingsError { job: job.name.clone(), what })?;
            }
        }
        Ok(())
    }

    pub(super) fn interval_of(&self, job: &Job) -> u64 {
        job.interval_s.unwrap_or(self.interval_s)
    }

    pub(super) fn timeout_of(&self, job: &Job) -> u64 {
        job.timeout_s.unwrap_or(self.timeout_s).clamp(1, self.interval_of(job).max(1))
    }
}
