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
        // Several names, as proxies make of a header that was sent twice, are nobody's.
        let seen = |letter: &char| letter.is_alphanumeric() || "@._+-:,;".contains(*letter);
        let said: String = self.name.chars().map(plain_letter).filter(seen).collect();
        let several = said.contains([',', ';']);
        !self.machine
            && !several
            && !is_machine(&self.name)
            && !is_machine(&said)
            && !is_machine(&identity)
            && !is_machine(local)
            && local.contains(char::is_alphanumeric)
    }

    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.is_human() && self.roles.iter().any(|has| has.eq_ignore_ascii_case(role))
    }

    /// A name as it is compared: case, blanks, invisible letters, letters that look like others, `alice+home@example.org`.
    fn identity(&self) -> String {
        let letters = self.name.chars().map(plain_letter).flat_map(char::to_lowercase);
        let plain: String = letters.filter(|letter| letter.is_alphanumeric() || "@._+-".contains(*letter)).collect();
        let plain = plain.trim_start_matches('@');
        let (name, host) = plain.split_once('@').map_or((plain, ""), |(name, host)| (name, host));
        let name = name.split('+').next().unwrap_or(name);
        if host.is_empty() { name.to_owned() } else { format!("{name}@{host}") }
    }

    /// Who it may be, at the least: `alice`, `alice@example.org` and `a.lice@laptop` may be one person; in doubt they are.
    fn in_doubt(&self) -> String {
        let identity = self.identity();
        identity.split('@').next().unwrap_or_default().chars().filter(|letter| letter.is_alphanumeric()).collect()
    }
}

/// Letters of other alphabets that look like ours, as ours.
const fn plain_letter(letter: char) -> char {
    match letter {
        // Wide forms.
        '\u{ff01}'..='\u{ff5e}' => match char::from_u32(letter as u32 - 0xfee0) {
            Some(narrow) => narrow,
            None => letter,
        },
        '\u{430}' | '\u{410}' | '\u{3b1}' | '\u{391}' => 'a',
        '\u{412}' | '\u{392}' => 'b',
        '\u{441}' | '\u{421}' | '\u{3f2}' => 'c',
        '\u{501}' => 'd',
        '\u{435}' | '\u{415}' | '\u{395}' => 'e',
        '\u{261}' => 'g',
        '\u{4bb}' | '\u{41d}' | '\u{397}' => 'h',
        '\u{456}' | '\u{406}' | '\u{3b9}' | '\u{399}' | '\u{131}' => 'i',
        '\u{458}' | '\u{408}' => 'j',
        '\u{43a}' | '\u{41a}' | '\u{3ba}' | '\u{39a}' => 'k',
        '\u{4cf}' | '\u{4c0}' => 'l',
        '\u{43c}' | '\u{41c}' | '\u{39c}' => 'm',
        '\u{39d}' => 'n',
        '\u{43e}' | '\u{41e}' | '\u{3bf}' | '\u{39f}' => 'o',
        '\u{440}' | '\u{420}' | '\u{3c1}' | '\u{3a1}' => 'p',
        '\u{455}' | '\u{405}' => 's',
        '\u{442}' | '\u{422}' | '\u{3c4}' | '\u{3a4}' => 't',
        '\u{3bd}' => 'v',
        '\u{445}' | '\u{425}' | '\u{3c7}' | '\u{3a7}' => 'x',
        '\u{443}' | '\u{423}' | '\u{3a5}' => 'y',
        '\u{396}' => 'z',
        other => other,
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
    let valid = all.iter().filter(|agreed| is_valid(agreed, run, step, now_ms, age_max_ms));
    names_of(valid.map(|agreed| &agreed.by))
}

/// The names of different people, as each said it first.
pub(crate) fn names_of<'a>(people: impl IntoIterator<Item = &'a Person>) -> Vec<String> {
    let mut seen = Vec::new();
    let mut names = Vec::new();
    for person in people {
        let who = person.in_doubt();
        if !seen.contains(&who) {
            seen.push(who);
            names.push(person.name.clone());
        }
    }
    names
}
