//! What a command line would do: read, write or destroy; whether it ends, and whether it waits for a person.
//!
//! The rule is that a command is what it is known to be, and everything unknown writes. Wrappers (`sudo`, `timeout`,
//! `xargs`, `kubectl exec`, `watch`, `ssh` …) are what they run. A line is as dangerous as its most dangerous command.

mod actions;
mod cluster;
mod evasions;
mod programs;
mod services;

pub use actions::action_effect;
pub(crate) use services::{http_effect, sql_effect};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shell::{Command, Statement, Word};

/// Wrappers inside wrappers that are followed.
const DEPTH_MAX: usize = 8;

/// From harmless to irreversible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Only looks.
    #[default]
    Read,
    /// Changes something, or may.
    Write,
    /// Loses something that cannot be had back.
    Destroy,
}

/// What a command line would do, and why we say so.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    pub effect: Effect,
    /// The command that decided it, and why; empty for a line that only reads.
    pub why: String,
    /// Why it would never end by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub never_ends: Option<String>,
    /// Why it would wait for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interactive: Option<String>,
    /// What has to be filled in before it can run: `<name>`, or variables that the line does not set itself.
    pub placeholders: Vec<String>,
    /// Texts that stand for others, as written: `your-org`, `{{pod}}`. Nothing fills them in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blanks: Vec<String>,
    /// The programs it would start, in the order written.
    pub programs: Vec<String>,
}

/// What one command would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Judgement {
    effect: Effect,
    why: String,
    never_ends: Option<String>,
    interactive: Option<String>,
}

impl Judgement {
    fn reads() -> Self {
        Self::default()
    }

    fn writes(why: impl Into<String>) -> Self {
        Self { effect: Effect::Write, why: why.into(), ..Self::default() }
    }

    fn destroys(why: impl Into<String>) -> Self {
        Self { effect: Effect::Destroy, why: why.into(), ..Self::default() }
    }

    fn unknown(program: &str) -> Self {
        Self::writes(format!("`{program}` is not known, so it may change anything"))
    }

    fn endless(mut self, why: impl Into<String>) -> Self {
        self.never_ends = Some(why.into());
        self
    }

    fn waits(mut self, why: impl Into<String>) -> Self {
        self.interactive = Some(why.into());
        self
    }

    fn or_endless(self, endless: bool, why: &str) -> Self {
        if endless { self.endless(why) } else { self }
    }
}

/// The words of a command without quotes, as a program would get them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arguments<'a> {
    words: &'a [Word],
    /// Its input is another command's output or a file.
    fed: bool,
    depth: usize,
}

impl<'a> Arguments<'a> {
    fn program(&self) -> &'a str {
        let first = self.words.first().map_or("", |word| word.text.as_str());
        first.rsplit('/').next().unwrap_or(first)
    }

    /// All words after the program.
    fn rest(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        self.words.iter().skip(1).map(|word| word.text.as_str())
    }

    fn has(&self, names: &[&str]) -> bool {
        self.rest().any(|word| names.iter().any(|name| word == *name || (name.starts_with("--") && word.starts_with(&format!("{name}=")))))
    }

    /// A single-letter option, also inside a cluster like `-it`.
    fn has_letter(&self, letter: char) -> bool {
        self.rest().any(|word| word.starts_with('-') && !word.starts_with("--") && word[1..].contains(letter))
    }

    /// The value of `--name value`, `--name=value` or `-nvalue`.
    fn value_of(&self, names: &[&str]) -> Option<&'a str> {
        let mut words = self.rest();
        while let Some(word) = words.next() {
            for name in names {
                if word == *name {
                    return words.next();
                }
                if let Some(value) = word.strip_prefix(name)
                    && !value.is_empty()
                {
                    if let Some(value) = value.strip_prefix('=') {
                        return Some(value);
                    }
                    if !name.starts_with("--") {
                        return Some(value);
                    }
                }
            }
        }
        None
    }

    /// Words that are neither options nor values of the options named.
    fn plain(&self, valued: &[&str]) -> Vec<&'a str> {
        let mut out = Vec::new();
        let mut words = self.rest();
        while let Some(word) = words.next() {
            if word == "--" {
                break;
            }
            if word.starts_with('-') && word.len() > 1 {
                if valued.contains(&word) {
                    words.next();
                }
            } else {
                out.push(word);
            }
        }
        out
    }

    /// What stands after `--`.
    fn behind_dashes(&self) -> Option<Self> {
        let at = self.words.iter().position(|word| word.text == "--")?;
        Some(Self { words: &self.words[at + 1..], fed: self.fed, depth: self.depth + 1 })
    }

    fn skip(&self, words: usize) -> Self {
        Self { words: &self.words[words.min(self.words.len())..], fed: self.fed, depth: self.depth + 1 }
    }

    /// Judges the command that this one runs.
    fn judge_inner(self) -> Judgement {
        if self.depth > DEPTH_MAX || self.words.is_empty() {
            return Judgement::unknown("a command inside commands");
        }
        judge(self)
    }

    /// Judges a script given as one word to a shell.
    fn judge_script(&self, script: &str) -> Judgement {
        if self.depth >= DEPTH_MAX {
            return Judgement::unknown("a script inside scripts");
        }
        let all = crate::shell::parse(script);
        let commands = all.iter().flat_map(|statement| &statement.commands);
        worst(commands.map(|command| judge_command(command, self.depth + 1)))
    }
}

/// What a statement would do.
#[must_use]
pub fn classify(statement: &Statement) -> Verdict {
    let judged = worst(statement.commands.iter().map(|command| judge_command(command, 0)));
    let mut verdict = Verdict {
        effect: judged.effect,
        why: judged.why,
        never_ends: judged.never_ends,
        interactive: judged.interactive,
        placeholders: Vec::new(),
        blanks: Vec::new(),
        programs: Vec::new(),
    };
    let mut set: Vec<&str> = Vec::new();
    for command in &statement.commands {
        if let Some(word) = command.words.first().filter(|word| !word.text.is_empty()) {
            verdict.programs.push(word.text.clone());
        }
        let values = command.assignments.iter().map(|(_, word)| word);
        let targets = command.redirections.iter().map(|one| &one.target);
        for word in values.chain(&command.words).chain(targets) {
            for blank in &word.blanks {
                if !verdict.blanks.contains(blank) {
                    verdict.blanks.push(blank.clone());
                }
            }
            let unset = word.variables.iter().filter(|name| !set.contains(&name.as_str()) && !SHELL_VARIABLES.contains(&name.as_str()));
            for name in word.placeholders.iter().chain(unset) {
                if !name.is_empty() && !verdict.placeholders.contains(name) {
                    verdict.placeholders.push(name.clone());
                }
            }
        }
        set.extend(command.assignments.iter().map(|(name, _)| name.as_str()));
    }
    verdict
}

/// Variables that every shell has.
const SHELL_VARIABLES: &[&str] = &["HOME", "USER", "PATH", "PWD", "SHELL", "HOSTNAME", "TMPDIR", "RANDOM", "LANG", "UID"];

/// Several commands together: the worst effect, and anything that does not end or waits.
fn worst(all: impl Iterator<Item = Judgement>) -> Judgement {
    all.fold(Judgement::default(), |mut sum, one| {
        if one.effect > sum.effect {
            sum.effect = one.effect;
            sum.why = one.why;
        }
        sum.never_ends = sum.never_ends.or(one.never_ends);
        sum.interactive = sum.interactive.or(one.interactive);
        sum
    })
}

fn judge_command(command: &Command, depth: usize) -> Judgement {
    let fed = command.piped || command.redirections.iter().any(|one| one.operator.starts_with('<'));
    let by_words = match command.words.first() {
        None => Judgement::reads(),
        Some(first) if first.computed || !first.variables.is_empty() || first.text.is_empty() => {
            Judgement::writes("the program itself is computed, so it may be any")
        }
        Some(_) => judge(Arguments { words: &command.words, fed, depth }),
    };
    let opaque = if command.opaque { Judgement::writes("part of the line cannot be read with certainty") } else { Judgement::reads() };
    let evades = evasions::judge(command, &Arguments { words: &command.words, fed, depth });
    worst([by_words, redirected(command), opaque, evades].into_iter())
}

/// Output that goes to a file changes it.
fn redirected(command: &Command) -> Judgement {
    let harmless = ["/dev/null", "/dev/stdout", "/dev/stderr", "1", "2", "-"];
    let target = command
        .redirections
        .iter()
        .filter(|one| one.operator.contains('>'))
        .find(|one| !harmless.contains(&one.target.text.as_str()) || one.target.computed);
    match target {
        Some(one) if one.target.text.starts_with("/proc/sys") || one.target.text.starts_with("/sys/") => {
            Judgement::writes(format!("changes the kernel's setting {}", one.target.text))
        }
        Some(one) => Judgement::writes(format!("writes to {}", one.target.text)),
        None => Judgement::reads(),
    }
}

fn judge(arguments: Arguments<'_>) -> Judgement {
    let program = arguments.program();
    let known = programs::judge(program, &arguments)
        .or_else(|| services::judge(program, &arguments))
        .or_else(|| cluster::judge(program, &arguments));
    known.unwrap_or_else(|| Judgement::unknown(program))
}
