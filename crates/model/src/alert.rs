//! What a detector concluded: an alert began, changed or ended.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::ApiErrorClass;
use crate::id::{AgentId, SessionId};
use crate::incident::IncidentType;
use crate::severity::Severity;
use crate::time::Timestamp;

/// Names one condition on one agent: detector, agent and, where a detector can hold several at once, the subject.
/// Two episodes of the same condition share it; `started_at` tells them apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent)]
pub struct Fingerprint(pub String);

impl RuleAlert {
    /// The labels that tell this alert from others of its rule, as `job=agent, instance=a:1`.
    #[must_use]
    pub fn subject(&self) -> String {
        let told = ["alertname", "severity", "category", "component", "cause", "sev"];
        let labels = self.labels.iter().filter(|(name, _)| !told.contains(&name.as_str()));
        labels.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ")
    }
}

impl Fingerprint {
    #[must_use]
    pub fn new(detector: &str, agent: &str, subject: &str) -> Self {
        if subject.is_empty() { Self(format!("{detector}:{agent}")) } else { Self(format!("{detector}:{agent}:{subject}")) }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One step in an alert's life, as its detector saw it. Complete in itself: `Updated` carries all counts anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertChange {
    pub fingerprint: Fingerprint,
    /// `api-overload`, `repeat-exact` … as listed by the detectors' crate.
    pub detector: Cow<'static, str>,
    /// The agent it is about; a rule's alert may be about something else, which its labels tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    pub session: Option<SessionId>,
    pub user: Option<String>,
    /// The onset: when the condition began, not when it was noticed.
    pub started_at: Timestamp,
    /// When the deciding event happened (or the timer ran out) that made this change known.
    pub at: Timestamp,
    pub state: AlertState,
    /// `None` is a note: recorded, shown, but no incident opens for it.
    pub severity: Option<Severity>,
    pub incident_type: IncidentType,
    /// Alerts with the same cause belong to one incident: `api_failure`, `stuck:<agent>` …
    pub cause: String,
    /// One sentence for a person, with the numbers in it.
    pub reason: String,
    pub evidence: Vec<Evidence>,
    pub counts: AlertCounts,
    /// What the alert came from, where it came from a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Box<RuleAlert>>,
}

impl AlertChange {
    /// The detector, or the rule's own name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.rule.as_ref().map_or(&*self.detector, |rule| &rule.name)
    }
}

/// What a rule adds to its alert. Untrusted text, capped.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RuleAlert {
    /// The alert's name, as in `alertname`.
    pub name: String,
    pub group: String,
    /// All labels, `alertname` included.
    pub labels: BTreeMap<String, String>,
    /// `summary`, `description`, `runbook_url` …
    pub annotations: BTreeMap<String, String>,
    pub expression: String,
    /// The expression's value when this change was made; `None` when it is not a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AlertState {
    /// The condition holds.
    Firing,
    /// The condition ended at `at`.
    Resolved,
}

/// One fact a sceptical engineer can check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    pub at: Timestamp,
    /// Untrusted, capped and masked.
    pub text: String,
}

/// What an alert has counted since its onset.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AlertCounts {
    /// Failed tries that were tried again.
    pub retries: u64,
    /// Failures that ended a turn.
    pub terminal_failures: u64,
    /// Model calls that succeeded while the alert was active: with the failures, they give the error rate.
    pub successes: u64,
    /// Repeats, errors in a row, compactions … what the detector counts.
    pub occurrences: u64,
    /// When the first turn-ending failure happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<ApiErrorClass>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// When the limit resets, where the source said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waited: Option<Duration>,
}
