//! One target: its labels before and after relabeling, its URL, and its place in the interval.

use std::collections::BTreeMap;

use paramedic_model::secret::mask;
use paramedic_model::{Target, TargetHealth, TargetKind};
use xxhash_rust::xxh3::xxh3_64;

use super::config::{Job, Settings};
use super::relabel::Rules;

/// What makes two targets the same: the job, the URL and the labels.
pub(crate) type Id = String;

/// A target that shall be looked at.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planned {
    pub(super) id: Id,
    pub(super) url: reqwest::Url,
    /// What its samples carry.
    pub(super) labels: BTreeMap<String, String>,
    discovered: BTreeMap<String, String>,
    pub(super) interval_ms: i64,
    pub(super) timeout_ms: i64,
}

/// What becomes of one discovered address.
pub(super) enum Fate {
    Wanted(Box<Planned>),
    /// Relabeling dropped it.
    Dropped,
    /// It cannot be looked at.
    Bad(String),
}

impl Planned {
    /// Gives an address its labels and its URL, as Prometheus does.
    pub(super) fn plan(settings: &Settings, job: &Job, rules: &Rules, address: &str, group: &BTreeMap<String, String>) -> Fate {
        let (interval, timeout) = (settings.interval_of(job), settings.timeout_of(job));
        let mut labels = group.clone();
        labels.insert("__address__".to_owned(), address.to_owned());
        for (name, value) in [
            ("job", job.name.clone()),
            ("__scheme__", job.scheme.clone()),
            ("__metrics_path__", job.path.clone()),
            ("__scrape_interval__", format!("{interval}s")),
            ("__scrape_timeout__", format!("{timeout}s")),
        ] {
            labels.entry(name.to_owned()).or_insert(value);
        }
        for (name, values) in &job.params {
            if let Some(first) = values.first() {
                labels.insert(format!("__param_{name}"), first.clone());
            }
        }
        let discovered = shown(&labels);
        if !rules.apply(&mut labels) {
            return Fate::Dropped;
        }
        let url = match url(job, &labels) {
            Ok(url) => url,
            Err(what) => return Fate::Bad(what),
        };
        if labels.get("instance").is_none_or(String::is_empty) {
            labels.insert("instance".to_owned(), labels.get("__address__").cloned().unwrap_or_default());
        }
        let duration = |name: &str| labels.get(name).and_then(|text| paramedic_promql::number::parse_duration_ms(text));
        let (Some(interval_ms), Some(timeout_ms)) = (duration("__scrape_interval__"), duration("__scrape_timeout__")) else {
            return Fate::Bad("relabeling left no readable interval or timeout".to_owned());
        };
        if interval_ms < 100 || timeout_ms <= 0 {
            return Fate::Bad("the interval or the timeout is too short".to_owned());
        }
        labels.retain(|name, value| !name.starts_with("__") && !value.is_empty());
        let id = format!("{}\u{1f}{url}\u{1f}{labels:?}", job.name);
        Fate::Wanted(Box::new(Self { id, url, labels, discovered, interval_ms, timeout_ms: timeout_ms.min(interval_ms) }))
    }

    /// Milliseconds of its place in the interval: the same after a restart, different from most others.
    pub(super) fn phase_ms(&self) -> i64 {
        i64::try_from(xxh3_64(self.id.as_bytes()) % self.interval_ms.unsigned_abs().max(1)).unwrap_or(0)
    }

    /// How pages show it before the first look.
    pub(super) fn view(&self, job: &Job) -> Target {
        Target {
            pool: job.name.clone(),
            kind: TargetKind::Scrape,
            address: mask(self.url.as_str()).into_owned(),
            labels: shown(&self.labels),
            discovered_labels: self.discovered.clone(),
            health: TargetHealth::Unknown,
            last_error: String::new(),
            last_at: None,
            last_duration_s: 0.0,
            last_samples: 0,
            interval_s: self.interval_ms as f64 / 1_000.0,
            timeout_s: self.timeout_ms as f64 / 1_000.0,
            failures: 0,
        }
    }
}

/// Labels without what looks like a secret.
fn shown(labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels.iter().map(|(name, value)| (name.clone(), crate::otlp::clean::attribute(name, value.clone()))).collect()
}

fn url(job: &Job, labels: &BTreeMap<String, String>) -> Result<reqwest::Url, String> {
    let part = |name: &str| labels.get(name).map_or("", String::as_str);
    let (scheme, address, path) = (part("__scheme__"), part("__address__"), part("__metrics_path__"));
    if address.is_empty() || address.contains(['/', '?', '#', '@', ' ']) {
        return Err(format!("the address {:?} is not host:port", mask(paramedic_model::text::head(address, 200))));
    }
    if !matches!(scheme, "http" | "https") {
        return Err("the scheme is not http or https".to_owned());
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut url = reqwest::Url::parse(&format!("{scheme}://{address}{slash}{path}"))
        .map_err(|error| format!("the address {address:?} makes no URL: {error}"))?;
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for (name, value) in labels.iter().filter_map(|(name, value)| Some((name.strip_prefix("__param_")?, value))) {
        pairs.push((name, value));
        pairs.extend(job.params.get(name).into_iter().flatten().skip(1).map(|value| (name, value.as_str())));
    }
    if !pairs.is_empty() {
        url.query_pairs_mut().extend_pairs(pairs);
    }
    Ok(url)
}
