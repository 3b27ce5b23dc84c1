//! What is wrong with settings, and why a look failed.

use paramedic_model::{secret, text};

/// Failures of reading settings; each completes "failed to ...".
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A setting that cannot be meant.
    #[error("read `{key}` of {target}: {reason}")]
    Setting { target: String, key: &'static str, reason: String },
    /// Two targets that could not be told apart.
    #[error("tell two targets apart: job {job:?}, instance {instance:?} is configured twice; give one of them another `instance`")]
    Twice { job: String, instance: String },
    /// More targets than the settings allow.
    #[error("watch {found} targets: `targets_max` allows {allowed}")]
    TooMany { found: usize, allowed: usize },
}

impl ProbeError {
    pub(crate) fn setting(target: impl Into<String>, key: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Setting { target: target.into(), key, reason: reason.to_string() }
    }
}

/// Why a look failed, as a fragment for people: one line, short, without secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure(String);

/// Longest reason that is kept.
const REASON_BYTES_MAX: usize = 400;

impl Failure {
    pub(crate) fn new(what: impl std::fmt::Display) -> Self {
        Self(text::capped(&text::one_line(&secret::mask(&what.to_string())), REASON_BYTES_MAX).into_owned())
    }

    /// The reason with those of its causes that say something new.
    pub(crate) fn of(doing: &str, err: &dyn std::error::Error) -> Self {
        let mut whole = format!("{doing}: {err}");
        let mut cause = err.source();
        while let Some(next) = cause {
            let said = next.to_string();
            if !whole.contains(&said) {
                whole.push_str(": ");
                whole.push_str(&said);
            }
            cause = next.source();
        }
        Self::new(whole)
    }

    /// Takes a known secret out, whatever form the text has.
    pub(crate) fn without(mut self, secret: Option<&str>) -> Self {
        if let Some(secret) = secret.filter(|secret| !secret.is_empty()) {
            self.0 = self.0.replace(secret, "***");
        }
        self
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}
