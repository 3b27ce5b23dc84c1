//! The front matter of a runbook: what it answers to and what it needs, all optional.

use std::collections::BTreeMap;

use serde::Deserialize;

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

/// What has to be known before a step can run.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Input {
    #[serde(rename = "type")]
    pub kind: Option<String>,
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
