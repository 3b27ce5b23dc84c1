//! What is known: inputs that somebody gave, defaults, and what earlier steps found.

use std::collections::BTreeMap;

use regex::RegexBuilder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Blocked;
use crate::document::Runbook;
use crate::front::Input;

/// Bytes of one value.
const VALUE_BYTES_MAX: usize = 4 * 1024;

/// Variables that change how programs behave. No input may be called so.
const RESERVED: &[&str] = &[
    "PATH",
    "IFS",
    "ENV",
    "HOME",
    "SHELL",
    "SHELLOPTS",
    "PS4",
    "PROMPT_COMMAND",
    "CDPATH",
    "GLOBIGNORE",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "KUBECONFIG",
    "KUBE_EDITOR",
    "PGHOST",
    "PGPASSFILE",
    "PGSERVICEFILE",
    "NODE_OPTIONS",
    "PERL5OPT",
    "PERL5LIB",
    "RUBYOPT",
    "RUBYLIB",
    "JAVA_TOOL_OPTIONS",
    "TMPDIR",
    "http_proxy",
    "https_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
];
const RESERVED_BEGINNINGS: &[&str] = &["LD_", "BASH_", "DYLD_", "PYTHON", "GIT_", "SSH_", "GCONV_", "MALLOC_"];

/// What a person or an incident says, and what steps found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Given {
    pub inputs: BTreeMap<String, String>,
    /// By variable, from captures of steps that ran.
    pub captured: BTreeMap<String, String>,
}

/// An input that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InputFault {
    pub name: String,
    /// Completes "the value of NAME …".
    pub why: String,
}

/// Values that were checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Values {
    inputs: BTreeMap<String, String>,
    captured: BTreeMap<String, String>,
    secrets: Vec<String>,
    faults: BTreeMap<String, String>,
    /// Which step finds a variable.
    found_by: BTreeMap<String, String>,
}

impl Values {
    /// Checks what is given against what the runbook asks for.
    #[must_use]
    pub fn resolve(runbook: &Runbook, given: &Given) -> Self {
        let mut values = Self { captured: given.captured.clone(), ..Self::default() };
        for step in &runbook.steps {
            for capture in crate::plan::captures(step) {
                values.found_by.insert(capture, step.name.clone());
            }
        }
        let unasked = Input::default();
        let names = runbook.inputs.keys().chain(given.inputs.keys());
        for name in names {
            let input = runbook.inputs.get(name).unwrap_or(&unasked);
            let Some(value) = given.inputs.get(name).or(input.default.as_ref()) else { continue };
            let secret = input.kind.as_deref() == Some("secret");
            if secret && !value.is_empty() {
                values.secrets.push(value.clone());
            }
            match wrong_name(name).or_else(|| wrong_value(input, value)) {
                Some(why) => {
                    values.faults.insert(name.clone(), why);
                }
                None => {
                    values.inputs.insert(name.clone(), value.clone());
                }
            }
        }
        values.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        values.secrets.dedup();
        values
    }

    /// Inputs that cannot be used as they are.
    #[must_use]
    pub fn faults(&self) -> Vec<InputFault> {
        self.faults.iter().map(|(name, why)| InputFault { name: name.clone(), why: why.clone() }).collect()
    }

    /// Values that no record may show.
    #[must_use]
    pub fn secrets(&self) -> &[String] {
        &self.secrets
    }

    #[must_use]
    pub fn inputs(&self) -> &BTreeMap<String, String> {
        &self.inputs
    }

    pub(super) fn get(&self, name: &str) -> Result<&str, Blocked> {
        if let Some(why) = self.faults.get(name) {
            return Err(Blocked::Value { name: name.to_owned(), why: why.clone() });
        }
        let found = self.inputs.get(name).or_else(|| self.captured.get(name)).or_else(|| self.inputs.get(&underscored(name)));
        match (found, self.found_by.get(name)) {
            (Some(value), _) if value.len() > VALUE_BYTES_MAX || value.contains('\0') => {
                Err(Blocked::Value { name: name.to_owned(), why: format!("is longer than {VALUE_BYTES_MAX} bytes, or not text") })
            }
            (Some(value), _) => Ok(value),
            (None, Some(step)) => Err(Blocked::WaitsFor { variable: name.to_owned(), step: step.clone() }),
            (None, None) => Err(Blocked::MissingInput { name: name.to_owned() }),
        }
    }
}

/// A placeholder's words as the name of a variable.
pub(super) fn underscored(name: &str) -> String {
    name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect()
}

fn wrong_name(name: &str) -> Option<String> {
    let letters = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    if !letters {
        return Some("cannot be handed on: a name is letters, digits and _".to_owned());
    }
    let reserved = RESERVED.contains(&name) || RESERVED_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning));
    reserved.then(|| "would change how programs behave; the input needs another name".to_owned())
}

fn wrong_value(input: &Input, value: &str) -> Option<String> {
    if value.len() > VALUE_BYTES_MAX {
        return Some(format!("is longer than {VALUE_BYTES_MAX} bytes"));
    }
    if value.chars().any(char::is_control) {
        return Some("has a line break or another control character".to_owned());
    }
    let number = value.parse::<f64>().is_ok_and(f64::is_finite);
    if value.starts_with('-') && !number {
        return Some("begins with `-` and would be taken for an option".to_owned());
    }
    let fits = match input.kind.as_deref() {
        None | Some("string" | "text" | "secret") => true,
        Some("number") => number,
        Some("integer" | "int") => value.parse::<i64>().is_ok(),
        Some("flag" | "bool" | "boolean") => ["true", "false"].contains(&value),
        Some("duration") => crate::predicate::duration(value).is_some(),
        Some("url") => (value.starts_with("http://") || value.starts_with("https://")) && !value.contains(char::is_whitespace),
        Some(other) => return Some(format!("has a type that nobody knows: {other}")),
    };
    if !fits {
        return Some(format!("is not {}", input.kind.as_deref().unwrap_or_default()));
    }
    let pattern = input.pattern.as_ref()?;
    match RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(256 * 1024).build() {
        Ok(regex) if regex.is_match(value) => None,
        Ok(_) => Some(format!("does not match {pattern}")),
        Err(_) => Some(format!("cannot be checked: {pattern} is not a pattern")),
    }
}
