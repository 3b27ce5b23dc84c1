//! Which cause it is: texts that were found, and conditions that speak for or against it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::{Cause, Runbook};
use crate::predicate::{Facts, Predicate, Truth};

/// A condition that holds makes a cause at least this likely.
const WHEN_HOLDS: f64 = 0.9;
/// Bytes of one piece of evidence that are looked through.
const EVIDENCE_BYTES_MAX: usize = 256 * 1024;

/// A cause with what speaks for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ranked {
    pub cause: String,
    /// From 0 to 1.
    pub score: f64,
    /// Patterns that were found.
    pub found: Vec<String>,
    pub why: String,
}

/// All causes, the likeliest first; of equals, the heavier one, then the first.
#[must_use]
pub fn rank(runbook: &Runbook, facts: &Facts, evidence: &[&str]) -> Vec<Ranked> {
    let lower: Vec<String> = evidence.iter().map(|text| paramedic_model::text::head(text, EVIDENCE_BYTES_MAX).to_lowercase()).collect();
    let mut ranked: Vec<(f64, Ranked)> = runbook.causes.iter().map(|cause| (cause.weight, judge(cause, facts, &lower))).collect();
    ranked.sort_by(|(weight, one), (other_weight, other)| (other.score * other_weight).total_cmp(&(one.score * weight)));
    ranked.into_iter().map(|(_, one)| one).collect()
}

fn judge(cause: &Cause, facts: &Facts, evidence: &[String]) -> Ranked {
    let is_found = |pattern: &&String| {
        let pattern = pattern.to_lowercase();
        evidence.iter().any(|text| text.lines().any(|line| holds(line, &pattern)))
    };
    let found: Vec<String> = cause.patterns.iter().filter(is_found).cloned().collect();
    #[expect(clippy::cast_precision_loss, reason = "a runbook has few patterns")]
    let share = if cause.patterns.is_empty() { 0.0 } else { found.len() as f64 / cause.patterns.len() as f64 };
    let texts = format!("{} of {} texts found", found.len(), cause.patterns.len());
    let (score, why) = match cause.when.as_deref().map(Predicate::parse) {
        None => (share, texts),
        Some(Err(error)) => (0.0, error.to_string()),
        Some(Ok(when)) => match when.judge(facts) {
            Truth::Holds => (WHEN_HOLDS.max(share), format!("`{}` holds; {texts}", when.text())),
            Truth::Fails(why) => (0.0, format!("`{}` does not hold: {why}", when.text())),
            // What is not known speaks neither for nor against; half of a guess is left.
            Truth::Unknown(why) => (share / 2.0, format!("`{}` cannot be answered: {why}; {texts}", when.text())),
        },
    };
    Ranked { cause: cause.id.clone(), score, found, why }
}

/// Whether a line holds a pattern; `*` stands for anything.
fn holds(line: &str, pattern: &str) -> bool {
    let mut rest = line;
    pattern.split('*').all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (line, pattern, expect) in [
            ("error: econnrefused 10.0.0.1:6379", "econnrefused *:6379", true),
            ("econnrefused 10.0.0.1:6380", "econnrefused *:6379", false),
            ("429 too many requests", "429 too many", true),
            ("many 429", "429*many", false),
            ("anything", "*", true),
        ] {
            assert_eq!(holds(line, pattern), expect, "{line} {pattern}");
        }
    }
}
