//! What came of carrying a step out, as later conditions and records speak of it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::{Capture, Source, masked, sha256};
use crate::predicate::{Facts, Value, pattern};

/// Bytes of one captured value.
const CAPTURE_BYTES_MAX: usize = 4 * 1024;

/// What is kept of an output.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Kept {
    pub text: String,
    /// Of the whole output.
    pub bytes: u64,
    /// The middle was left out.
    pub cut: bool,
}

/// The outcome of one attempt.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    pub exit: Option<i32>,
    pub signal: Option<i32>,
    pub status: Option<u16>,
    pub ms: u64,
    pub stdout: Kept,
    pub stderr: Kept,
    pub timed_out: bool,
    /// Why it did not come to an end of its own.
    pub fault: Option<String>,
    /// Processes that a program left behind and that were ended.
    pub left_behind: usize,
    pub value: Option<f64>,
    pub rows: Option<u64>,
    pub json: Option<serde_json::Value>,
    /// Other things it says, by name.
    pub fields: BTreeMap<String, Value>,
    /// What it touched, or in a dry run would touch.
    pub affected: Option<u64>,
    /// Of how many, where that is known.
    pub of: Option<u64>,
    /// The call of an action that takes it back.
    pub inverse: Option<serde_json::Value>,
    /// Seconds after which the inverse is to run by itself.
    pub reverts_after_s: Option<u64>,
}

impl Outcome {
    /// It did not come to anything.
    #[must_use]
    pub fn fault(why: impl Into<String>) -> Self {
        Self { fault: Some(why.into()), ..Self::default() }
    }

    /// Reads JSON and numbers out of the text.
    pub fn understand(&mut self) {
        let text = self.stdout.text.trim();
        if self.json.is_none() && !self.stdout.cut && text.starts_with(['{', '[']) {
            self.json = serde_json::from_str(text).ok();
        }
        if self.value.is_none() {
            self.value = text.parse().ok().filter(|value: &f64| value.is_finite());
        }
    }

    /// A program that ended well, a server that answered.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.fault.is_none()
            && self.exit.is_none_or(|exit| exit == 0)
            && self.signal.is_none()
            && self.status.is_none_or(|status| status < 400)
    }

    /// The hash of what is kept of its output.
    #[must_use]
    pub fn output_hash(&self) -> String {
        sha256(format!("{}\0{}", self.stdout.text, self.stderr.text).as_bytes())
    }

    /// What conditions may ask about it.
    #[must_use]
    pub fn facts(&self) -> Facts {
        let mut facts = Facts::default();
        facts.set("ok", self.is_ok());
        facts.set("ms", number(self.ms));
        facts.set("stdout", self.stdout.text.as_str());
        facts.set("stderr", self.stderr.text.as_str());
        facts.set("timed_out", self.timed_out);
        // A program that was killed has no exit of its own; it must not be unknown, or a rollback would be too.
        if let Some(exit) = self.exit.or(self.signal.map(|signal| 128 + signal)) {
            facts.set("exit", f64::from(exit));
        }
        if let Some(status) = self.status {
            facts.set("status", f64::from(status));
        }
        if let Some(value) = self.value {
            facts.set("value", value);
        }
        if let Some(rows) = self.rows {
            facts.set("rows", number(rows));
        }
        if let Some(affected) = self.affected {
            facts.set("affected", number(affected));
        }
        for (name, value) in &self.fields {
            facts.values.entry(name.clone()).or_insert_with(|| value.clone());
        }
        if let Some(json) = &self.json {
            facts.documents.insert(String::new(), json.clone());
        }
        facts
    }

    /// The captures that it holds, without secrets; one that is not there is left out.
    #[must_use]
    pub fn capture(&self, captures: &[Capture], secrets: &[String]) -> BTreeMap<String, String> {
        let found = captures.iter().filter_map(|capture| Some((capture.variable.clone(), self.source(&capture.source)?)));
        // Masked before it is cut: what is left of a secret at the cut would not look like one.
        let kept = |value: &str| paramedic_model::text::head(&masked(value.trim(), secrets), CAPTURE_BYTES_MAX).to_owned();
        found.map(|(name, value)| (name, kept(&value))).collect()
    }

    fn source(&self, source: &Source) -> Option<String> {
        let plain = |value: Value| match value {
            Value::Text(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Flag(flag) => flag.to_string(),
        };
        match source {
            Source::Stdout => Some(self.stdout.text.clone()),
            Source::Json(pointer) => self.json.as_ref()?.pointer(pointer).and_then(Value::of_json).map(plain),
            Source::Regex(text) => {
                let found = pattern(text).ok()?.captures(&self.stdout.text)?;
                found.get(1).or(found.get(0)).map(|found| found.as_str().to_owned())
            }
            Source::Field(name) => match self.facts().values.remove(name) {
                Some(value) => Some(plain(value)),
                None => self.json.as_ref()?.get(name).and_then(Value::of_json).map(plain),
            },
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts and milliseconds stay far below 2^53")]
const fn number(count: u64) -> f64 {
    count as f64
}
