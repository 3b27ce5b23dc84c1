//! People, and what they agreed to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::brake::is_machine;
use crate::plan::PlannedStep;

/// Somebody who acts, as whoever logged them in names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Person {
    pub name: String,
    pub roles: Vec<String>,
    /// A key, a schedule or an agent, not a human.
    #[serde(default)]
    pub machine: bool,
}

/// One person agreed to one rendered step of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Agreed {
    pub by: Person,
    pub run: String,
    pub step: String,
    /// The hash of the step that they saw.
    pub hash: String,
    /// On the brakes' clock.
    pub at_ms: u64,
    /// It allowed an attempt already; another one needs another word.
    pub used: bool,
}

impl Person {
    #[must_use]
    pub fn human(name: &str) -> Self {
        Self { name: name.to_owned(), roles: Vec::new(), machine: false }
    }

    #[must_use]
    pub fn is_human(&self) -> bool {
        // Also not when the name is written with letters that nobody sees, or with a host behind it.
        let identity = self.identity();
        let local = identity.split('@').next().unwrap_or_default();
        !self.machine && !is_machine(&self.name) && !is_machine(&identity) && !is_machine(local) && local.contains(char::is_alphanumeric)
    }

    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.is_human() && self.roles.iter().any(|has| has.eq_ignore_ascii_case(role))
    }

    /// Two spellings of one person are one: case, blanks, invisible letters, `alice+home@example.org`.
    fn identity(&self) -> String {
        let plain: String =
            self.name.to_lowercase().chars().filter(|letter| letter.is_alphanumeric() || "@._+-".contains(*letter)).collect();
        let plain = plain.trim_start_matches('@');
        match plain.split_once('@') {
            Some((local, domain)) => format!("{}@{domain}", local.split('+').next().unwrap_or(local)),
            None => plain.to_owned(),
        }
    }
}

/// It speaks of exactly this step, is not too old, and was not used.
pub(super) fn is_valid(agreed: &Agreed, run: &str, step: &PlannedStep, now_ms: u64, age_max_ms: u64) -> bool {
    let same = agreed.run == run && agreed.step == step.name && agreed.hash == step.hash && !step.hash.is_empty();
    let fresh = agreed.at_ms <= now_ms && now_ms - agreed.at_ms <= age_max_ms;
    same && fresh && !agreed.used && agreed.by.is_human()
}

/// The names of different people who agreed to exactly this step.
pub(super) fn people(all: &[Agreed], run: &str, step: &PlannedStep, now_ms: u64, age_max_ms: u64) -> Vec<String> {
    let mut seen = Vec::new();
    let mut names = Vec::new();
    for agreed in all.iter().filter(|agreed| is_valid(agreed, run, step, now_ms, age_max_ms)) {
        let identity = agreed.by.identity();
        // `alice` and `alice@example.org` may be one person; in doubt they are.
        let local = identity.split('@').next().unwrap_or_default().to_owned();
        let both_full = |other: &String| other.contains('@') && identity.contains('@');
        let known = seen.iter().any(|other: &String| *other == identity || (!both_full(other) && other.split('@').next() == Some(&local)));
        if !known {
            seen.push(identity);
            names.push(agreed.by.name.clone());
        }
    }
    names
}
