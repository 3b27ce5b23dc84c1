//! What a runbook document says, in the words of people who write runbooks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::classify::Verdict;
use crate::front::{Input, Limits};

/// A Markdown file: one runbook, or several.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Document {
    /// The file as the caller named it.
    pub file: String,
    pub title: String,
    pub runbooks: Vec<Runbook>,
    /// Links that the document makes, with the line they stand on.
    pub links: Vec<Link>,
    /// Names of all its headings, as links name them.
    pub anchors: std::collections::BTreeSet<String>,
    /// Inputs that its front matter names.
    pub inputs: std::collections::BTreeSet<String>,
    /// What could not be read as it was meant, with its line.
    pub problems: Vec<Problem>,
    /// Command lines that stand in the text, outside every block that runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loose: Vec<CommandLine>,
    /// Lines with something on them that looks like a secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    pub line: usize,
    pub what: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Link {
    pub line: usize,
    pub target: String,
}

/// One runbook: what to see, what to look at, what to do.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Runbook {
    /// From the front matter, or made of the title.
    pub id: String,
    pub title: String,
    pub line: usize,
    /// Alerts it answers to.
    pub alerts: Vec<String>,
    /// As written: `CRITICAL`, `P0`, `SEV1` …
    pub severity: Option<String>,
    /// What it says its impact is.
    pub impact: String,
    pub checks: Vec<Check>,
    pub causes: Vec<Cause>,
    pub steps: Vec<Step>,
    /// Names of its sections in order, with their kinds.
    pub sections: Vec<Section>,
    /// What its front matter asks for.
    #[serde(default)]
    pub inputs: std::collections::BTreeMap<String, Input>,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub services: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Section {
    pub title: String,
    pub line: usize,
    pub kind: SectionKind,
}

/// What a section is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SectionKind {
    Symptoms,
    Impact,
    Investigation,
    Resolution,
    Verification,
    Communication,
    Prevention,
    #[default]
    Other,
}

/// A box that a person ticks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    pub line: usize,
    pub text: String,
    pub ticked: bool,
    pub section: SectionKind,
    /// The heading it stands under.
    pub under: String,
}

/// One thing that may be the reason, with the texts that speak for it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    pub id: String,
    pub title: String,
    pub line: usize,
    /// Texts to look for in all evidence; `*` stands for anything.
    pub patterns: Vec<String>,
    /// A condition that speaks for it or excludes it.
    pub when: Option<String>,
    /// What it weighs beside others. 1 unless said.
    pub weight: f64,
    /// What to do, where it is said in words.
    pub fix: String,
}

/// Something to do or to run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Unique in the runbook.
    pub name: String,
    pub title: String,
    pub line: usize,
    pub executor: Executor,
    pub section: SectionKind,
    /// The cause it belongs to, by its id.
    pub cause: Option<String>,
    /// Its text as written.
    pub text: String,
    pub attributes: std::collections::BTreeMap<String, String>,
    /// Command lines with what they would do; for executors that are not a shell, the one thing they do.
    pub commands: Vec<CommandLine>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommandLine {
    pub line: usize,
    pub text: String,
    pub verdict: Verdict,
}

/// Who carries a step out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Executor {
    Sh,
    Kubectl,
    Http,
    Promql,
    Sql,
    Redis,
    Logs,
    Action,
    #[default]
    Manual,
    Message,
}

impl Executor {
    /// By the first word of a fence's information; none for an illustration.
    #[must_use]
    pub fn from_language(language: &str) -> Option<Self> {
        Some(match language.to_ascii_lowercase().as_str() {
            "sh" | "bash" | "shell" | "zsh" | "console" | "shell-session" => Self::Sh,
            "kubectl" => Self::Kubectl,
            "http" => Self::Http,
            "promql" | "prometheus" => Self::Promql,
            "sql" => Self::Sql,
            "redis" => Self::Redis,
            "logs" => Self::Logs,
            "action" => Self::Action,
            "manual" => Self::Manual,
            "message" => Self::Message,
            _ => return None,
        })
    }
}

impl SectionKind {
    /// By a heading, without numbers and times: `4. Mitigation (10-20 minutes)` is Resolution.
    #[must_use]
    pub fn from_title(title: &str) -> Self {
        let plain = title.split(" (").next().unwrap_or(title).trim_end_matches(':').to_ascii_lowercase();
        let plain = plain.trim_start_matches(|letter: char| letter.is_ascii_digit() || ". )".contains(letter));
        let known: &[(&str, Self)] = &[
            ("symptom", Self::Symptoms),
            ("detection", Self::Symptoms),
            ("meaning", Self::Symptoms),
            ("impact", Self::Impact),
            ("investigation", Self::Investigation),
            ("diagnosis", Self::Investigation),
            ("assessment", Self::Investigation),
            ("resolution", Self::Resolution),
            ("common causes", Self::Resolution),
            ("recovery", Self::Resolution),
            ("automatic recovery", Self::Resolution),
            ("manual recovery", Self::Resolution),
            ("mitigation", Self::Resolution),
            ("immediate mitigation", Self::Resolution),
            ("response", Self::Resolution),
            ("verification", Self::Verification),
            ("communication", Self::Communication),
            ("prevention", Self::Prevention),
            ("preventing", Self::Prevention),
            ("post-incident", Self::Prevention),
            ("long-term", Self::Prevention),
            ("follow-up", Self::Prevention),
        ];
        known.iter().find(|(name, _)| plain.starts_with(name)).map_or(Self::Other, |(_, kind)| *kind)
    }
}
