//! The `scrape_configs` of a Prometheus configuration as jobs.

use serde_json::{Map, Value};

use super::config::{BasicAuth, Job, Secret, StaticTargets};
use super::relabel::{Relabel, Rules};

/// What a Prometheus configuration says about scraping.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Imported {
    pub jobs: Vec<Job>,
    /// Keys that are not supported and were left out, as `job "x": kubernetes_sd_configs`.
    pub unsupported: Vec<String>,
}

/// Why a configuration cannot be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    #[error("read the Prometheus configuration: {0}")]
    Yaml(String),
    #[error("read the Prometheus configuration: job {job:?}: {key} {what}")]
    Value { job: String, key: String, what: String },
}

/// Keys that change nothing here: how Prometheus asks, what it offers to itself, and what only concerns native formats.
const WITHOUT_EFFECT: &[&str] = &[
    "scrape_protocols",
    "fallback_scrape_protocol",
    "enable_compression",
    "enable_http2",
    "always_scrape_classic_histograms",
    "scrape_classic_histograms",
    "convert_classic_histograms_to_nhcb",
    "scrape_native_histograms",
    "native_histogram_bucket_limit",
    "native_histogram_min_bucket_factor",
    "keep_dropped_targets",
    "metric_name_validation_scheme",
    "metric_name_escaping_scheme",
    "scrape_failure_log_file",
];

/// Reads the scrape jobs of a Prometheus configuration; other parts of the file are not looked at.
pub fn from_prometheus_yaml(text: &str) -> Result<Imported, ImportError> {
    let whole: Map<String, Value> = serde_saphyr::from_str(text).map_err(|error| ImportError::Yaml(error.to_string()))?;
    let none = Map::new();
    let global = whole.get("global").and_then(Value::as_object).unwrap_or(&none);
    let mut imported = Imported::default();
    let configs = match whole.get("scrape_configs") {
        None | Some(Value::Null) => return Ok(imported),
        Some(configs) => configs.as_array().ok_or_else(|| ImportError::Yaml("scrape_configs is not a list".to_owned()))?,
    };
    if whole.contains_key("scrape_config_files") {
        imported.unsupported.push("scrape_config_files".to_owned());
    }
    for config in configs {
        let config = config.as_object().ok_or_else(|| ImportError::Yaml("a scrape config is not a mapping".to_owned()))?;
        let name = config.get("job_name").and_then(Value::as_str).unwrap_or_default();
        let mut job = job(global, name)?;
        let mut import = Import { job: &mut job, unsupported: &mut imported.unsupported };
        for (key, value) in config {
            import.key(key, value)?;
        }
        imported.jobs.push(job);
    }
    Ok(imported)
}

/// A job with Prometheus's defaults: no bounds but the body's.
fn job(global: &Map<String, Value>, name: &str) -> Result<Job, ImportError> {
    let mut job = Job { name: name.to_owned(), sample_limit: 0, label_limit: 0, ..Job::default() };
    (job.label_name_length_limit, job.label_value_length_limit) = (0, 0);
    (job.interval_s, job.timeout_s) = (Some(60), None);
    if name.is_empty() {
        return Err(bad(&job, "job_name", "is missing"));
    }
    for key in ["scrape_interval", "scrape_timeout", "sample_limit", "label_limit", "body_size_limit", "target_limit"] {
        if let Some(value) = global.get(key) {
            Import { job: &mut job, unsupported: &mut Vec::new() }.key(key, value)?;
        }
    }
    Ok(job)
}

struct Import<'u> {
    job: &'u mut Job,
    unsupported: &'u mut Vec<String>,
}

fn bad(job: &Job, key: &str, what: &str) -> ImportError {
    ImportError::Value { job: job.name.clone(), key: key.to_owned(), what: what.to_owned() }
}

impl Import<'_> {
    fn key(&mut self, key: &str, value: &Value) -> Result<(), ImportError> {
        if self.timing(key, value)? || self.access(key, value)? || self.limit(key, value)? {
            return Ok(());
        }
        let job = &mut *self.job;
        match key {
            "job_name" => {}
            "metrics_path" => job.path = text(job, key, value)?,
            "scheme" => job.scheme = text(job, key, value)?,
            "params" => job.params = of(job, key, value)?,
            "honor_labels" => job.honor_labels = of(job, key, value)?,
            "honor_timestamps" => job.honor_timestamps = of(job, key, value)?,
            "track_timestamps_staleness" => job.track_timestamps_staleness = of(job, key, value)?,
            "static_configs" => {
                for group in value.as_array().into_iter().flatten() {
                    let group = group_of(job, group)?;
                    job.groups.push(group);
                }
            }
            "file_sd_configs" => {
                for one in value.as_array().into_iter().flatten() {
                    let files: Vec<String> = of(job, key, one.get("files").unwrap_or(&Value::Null))?;
                    job.files.extend(files);
                }
            }
            "relabel_configs" => self.job.relabel = self.rules(key, value)?,
            "metric_relabel_configs" => self.job.metric_relabel = self.rules(key, value)?,
            _ if WITHOUT_EFFECT.contains(&key) => {}
            _ => self.leave_out(key),
        }
        Ok(())
    }

    fn timing(&mut self, key: &str, value: &Value) -> Result<bool, ImportError> {
        let job = &mut *self.job;
        if !matches!(key, "scrape_interval" | "scrape_timeout") {
            return Ok(false);
        }
        let millis = paramedic_promql::number::parse_duration_ms(&text(job, key, value)?).filter(|millis| *millis > 0);
        let millis = millis.ok_or_else(|| bad(job, key, "is not a duration"))?;
        let seconds = Some(millis.unsigned_abs().div_ceil(1_000));
        *(if key == "scrape_interval" { &mut job.interval_s } else { &mut job.timeout_s }) = seconds;
        // A general timeout may be longer than the interval of one job.
        job.timeout_s = job.timeout_s.min(job.interval_s);
        Ok(true)
    }

    fn access(&mut self, key: &str, value: &Value) -> Result<bool, ImportError> {
        let job = &mut *self.job;
        match key {
            "basic_auth" => job.basic_auth = Some(of::<BasicAuth>(job, key, value)?),
            "bearer_token" => job.bearer_token = Some(Secret(text(job, key, value)?)),
            "bearer_token_file" => job.bearer_token_file = Some(text(job, key, value)?),
            "follow_redirects" => job.follow_redirects = of(job, key, value)?,
            "authorization" | "tls_config" => {
                for (part, value) in value.as_object().into_iter().flatten() {
                    let name = format!("{key}.{part}");
                    match (key, part.as_str()) {
                        ("authorization", "credentials") => job.bearer_token = Some(Secret(text(job, &name, value)?)),
                        ("authorization", "credentials_file") => job.bearer_token_file = Some(text(job, &name, value)?),
                        ("authorization", "type") if value.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) => {}
                        ("tls_config", "insecure_skip_verify") => job.tls_skip_verify = of(job, &name, value)?,
                        ("tls_config", "ca_file") => job.tls_ca_file = Some(text(job, &name, value)?),
                        _ => self.unsupported.push(format!("job {:?}: {name}", job.name)),
                    }
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn limit(&mut self, key: &str, value: &Value) -> Result<bool, ImportError> {
        let job = &mut *self.job;
        match key {
            "sample_limit" => job.sample_limit = of(job, key, value)?,
            "label_limit" => job.label_limit = of(job, key, value)?,
            "label_name_length_limit" => job.label_name_length_limit = of(job, key, value)?,
            "label_value_length_limit" => job.label_value_length_limit = of(job, key, value)?,
            "target_limit" => job.target_limit = of(job, key, value)?,
            "body_size_limit" => {
                let bytes = bytes(&text(job, key, value)?).ok_or_else(|| bad(job, key, "is not a size"))?;
                job.body_bytes_max = if bytes == 0 { Job::default().body_bytes_max } else { bytes };
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// A rule that is not supported is named and left out; one that is wrong is an error.
    fn rules(&mut self, key: &str, value: &Value) -> Result<Vec<Relabel>, ImportError> {
        let job = &mut *self.job;
        let mut rules = Vec::new();
        for rule in value.as_array().into_iter().flatten() {
            if rule.get("action").and_then(Value::as_str).is_some_and(|action| action.eq_ignore_ascii_case("hashmod")) {
                self.unsupported.push(format!("job {:?}: {key} action hashmod", job.name));
                continue;
            }
            let mut rule = rule.clone();
            for part in ["regex", "replacement", "separator", "action"] {
                if let Some(value) = rule.get_mut(part) {
                    let plain = text(job, key, value)?;
                    *value = Value::String(if part == "action" { plain.to_ascii_lowercase() } else { plain });
                }
            }
            rules.push(of(job, key, &rule)?);
        }
        Rules::new(&rules).map_err(|what| bad(job, key, &what))?;
        Ok(rules)
    }

    fn leave_out(&mut self, key: &str) {
        let name = format!("job {:?}: {key}", self.job.name);
        self.unsupported.push(name);
    }
}

/// Label values may be written as numbers or as truth values.
fn group_of(job: &Job, group: &Value) -> Result<StaticTargets, ImportError> {
    const KEY: &str = "static_configs";
    let mut targets = StaticTargets { targets: of(job, KEY, group.get("targets").unwrap_or(&Value::Null))?, ..StaticTargets::default() };
    for (name, value) in group.get("labels").and_then(Value::as_object).into_iter().flatten() {
        targets.labels.insert(name.clone(), text(job, KEY, value)?);
    }
    Ok(targets)
}

fn text(job: &Job, key: &str, value: &Value) -> Result<String, ImportError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        _ => Err(bad(job, key, "is not a text")),
    }
}

fn of<T: serde::de::DeserializeOwned>(job: &Job, key: &str, value: &Value) -> Result<T, ImportError> {
    serde_json::from_value(value.clone()).map_err(|error| bad(job, key, &error.to_string()))
}

/// `10MB`, `1GiB`, `500`: with powers of 1,024, as Prometheus reads them.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let factor: u64 = match text[digits..].to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "KB" | "KIB" => 1 << 10,
        "MB" | "MIB" => 1 << 20,
        "GB" | "GIB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}
