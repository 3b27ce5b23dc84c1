//! What is looked at from outside at a fixed interval: a scraped exporter or a probed service.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What the last look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TargetHealth {
    /// Not looked at yet.
    #[default]
    Unknown,
    Up,
    Down,
}

/// How a target is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TargetKind {
    /// Its own exposition is fetched.
    Scrape,
    /// Paramedic measures it.
    Probe,
}

/// One target as pages, verbs and the Prometheus API show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Target {
    /// The job it belongs to; also its `job` label.
    pub pool: String,
    pub kind: TargetKind,
    /// What is looked at: a URL, an address, a process … without secrets.
    pub address: String,
    /// The labels its samples carry.
    pub labels: BTreeMap<String, String>,
    /// The labels that discovery gave, before they were changed.
    pub discovered_labels: BTreeMap<String, String>,
    pub health: TargetHealth,
    /// Why the last look failed, as a fragment without secrets; empty when it did not.
    pub last_error: String,
    pub last_at: Option<Timestamp>,
    pub last_duration_s: f64,
    /// Samples that the last look gave.
    pub last_samples: u64,
    pub interval_s: f64,
    pub timeout_s: f64,
    /// Looks that failed since the last one that did not.
    pub failures: u64,
}
