//! The front matter of a runbook: what it answers to and what it needs, all optional.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Keys of the front matter. Keys that are not ours are let through: other tools write theirs there too.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct FrontMatter {
    pub id: Option<String>,
    pub title: Option<String>,
    /// `SEV1`, `P0`, `critical` …
    pub severity: Option<String>,
    pub services: Vec<String>,
    /// `match:` in the file.
    #[serde(rename = "match")]
    pub matches: Matches,
    pub inputs: BTreeMap<String, Input>,
    pub limits: Limits,
    pub owner: Option<String>,
    pub reviewed: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Matches {
    pub alerts: Vec<String>,
    pub labels: BTreeMap<String, String>,
    pub when: Option<String>,
}

/// How often the runbook may run, and what it excludes meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Limits {
    /// `3/1h`: what changes something, in all its runs together.
    pub runs: Option<String>,
    pub concurrency: Option<String>,
    /// What a changing step holds alone: the name of an input, or any word.
    pub lock: Option<String>,
}

/// What has to be known before a step can run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Input {
    /// `string` unless said; `number`, `integer`, `flag`, `duration`, `url`, `secret`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The whole value must match.
    pub pattern: Option<String>,
    pub default: Option<String>,
    pub required: bool,
}

impl FrontMatter {
    /// Reads YAML; the error is a sentence for the document's list of problems.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|error| format!("the front matter cannot be read: {error}"))
    }
}
