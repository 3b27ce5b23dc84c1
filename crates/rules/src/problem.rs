//! What is wrong with a rule file, and where.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

/// How serious a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Prometheus loads the file, but it may not do what was meant.
    Note,
    /// Prometheus refuses the file.
    Error,
}

/// One problem of a rule file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Problem {
    pub level: Level,
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The place of the rule in its group, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_number: Option<usize>,
    /// The rule's name, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    pub message: String,
}

impl Problem {
    pub fn is_error(&self) -> bool {
        self.level == Level::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if let Some(group) = &self.group {
            write!(f, "group {group:?}")?;
            if let Some(number) = self.rule_number {
                write!(f, ", rule {number}")?;
            }
            if let Some(rule) = &self.rule {
                write!(f, " {rule:?}")?;
            }
            f.write_str(": ")?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.message)
    }
}
