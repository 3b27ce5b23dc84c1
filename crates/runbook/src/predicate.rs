//! Conditions: `value < 0.05`, `exit == 0 && stdout ~ 'PONG'`, `ratio < 0.01 within 10m hold 2m`.
//!
//! The language is total: every condition has an answer in time bounded by its length, and what is not known makes the
//! answer [`Truth::Unknown`] with the reason, never a guess. `!` of the unknown is unknown too, so a missing number cannot
//! open a gate. Texts compare with numbers when they read as one; a number that is none (`0/0`) is unknown.

mod evaluate;
mod read;
mod watch;

use std::time::Duration;

use regex::Regex;

pub use evaluate::{Facts, Truth, Value};
pub use watch::{Look, Watch};

/// Bytes of a condition.
const TEXT_BYTES_MAX: usize = 4 * 1024;
/// Parentheses and negations inside one another.
const DEPTH_MAX: usize = 32;
/// Compiled size of one pattern.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// A condition that was read.
#[derive(Debug, Clone)]
pub struct Predicate {
    text: String,
    tree: Tree,
}

/// A condition with the time it has to come true, and the time it has to stay so.
#[derive(Debug, Clone)]
pub struct Verification {
    pub condition: Predicate,
    /// Zero: the first look decides.
    pub within: Duration,
    pub hold: Duration,
}

/// What is wrong with a condition, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read the condition `{text}` at character {position}: {what}")]
pub struct PredicateError {
    pub text: String,
    /// Counted from 1.
    pub position: usize,
    pub what: String,
}

#[derive(Debug, Clone)]
pub(crate) enum Tree {
    Number(f64),
    Text(String),
    Flag(bool),
    Name(String),
    /// `json('/a/b')`, or of another step: `errs.json('/a/b')`.
    Json {
        of: Option<String>,
        pointer: String,
    },
    Minus(Box<Tree>),
    Arithmetic(char, Box<Tree>, Box<Tree>),
    Compare(Comparison, Box<Tree>, Box<Tree>),
    Matches {
        subject: Box<Tree>,
        pattern: Regex,
        negated: bool,
    },
    Not(Box<Tree>),
    All(Vec<Tree>),
    Any(Vec<Tree>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Predicate {
    /// Reads a condition that has no times.
    pub fn parse(text: &str) -> Result<Self, PredicateError> {
        let (tree, times) = read::read(text)?;
        match times.first() {
            None => Ok(Self { text: text.trim().to_owned(), tree }),
            Some((position, _, _)) => Err(error(text, *position, "times stand only in what verifies a step")),
        }
    }

    /// What it says about these facts.
    #[must_use]
    pub fn judge(&self, facts: &Facts) -> Truth {
        evaluate::judge(&self.tree, facts)
    }

    /// The same condition about another step's facts: `value` becomes `step.value`.
    #[must_use]
    pub(crate) fn of_step(mut self, step: &str) -> Self {
        rename(&mut self.tree, step);
        self
    }

    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Names that it speaks of, in order.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        names_in(&self.tree, &mut names);
        names
    }
}

impl Verification {
    /// Reads `condition [within DURATION] [hold DURATION]`.
    pub fn parse(text: &str) -> Result<Self, PredicateError> {
        let (tree, times) = read::read(text)?;
        let mut all = Self { condition: Predicate { text: text.trim().to_owned(), tree }, within: Duration::ZERO, hold: Duration::ZERO };
        for (at, (position, word, time)) in times.iter().enumerate() {
            if times[..at].iter().any(|(_, before, _)| before == word) {
                return Err(error(text, *position, &format!("`{word}` is given twice")));
            }
            if word == "within" {
                all.within = *time;
            } else {
                all.hold = *time;
            }
        }
        Ok(all)
    }
}

fn names_in<'a>(tree: &'a Tree, names: &mut Vec<&'a str>) {
    match tree {
        Tree::Name(name) | Tree::Json { of: Some(name), .. } => {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        Tree::Minus(inner) | Tree::Not(inner) | Tree::Matches { subject: inner, .. } => names_in(inner, names),
        Tree::Arithmetic(_, left, right) | Tree::Compare(_, left, right) => {
            names_in(left, names);
            names_in(right, names);
        }
        Tree::All(parts) | Tree::Any(parts) => parts.iter().for_each(|part| names_in(part, names)),
        Tree::Number(_) | Tree::Text(_) | Tree::Flag(_) | Tree::Json { of: None, .. } => {}
    }
}

fn rename(tree: &mut Tree, step: &str) {
    match tree {
        Tree::Name(name) => *name = format!("{step}.{name}"),
        Tree::Json { of, .. } => *of = Some(step.to_owned()),
        Tree::Minus(inner) | Tree::Not(inner) | Tree::Matches { subject: inner, .. } => rename(inner, step),
        Tree::Arithmetic(_, left, right) | Tree::Compare(_, left, right) => {
            rename(left, step);
            rename(right, step);
        }
        Tree::All(parts) | Tree::Any(parts) => parts.iter_mut().for_each(|part| rename(part, step)),
        Tree::Number(_) | Tree::Text(_) | Tree::Flag(_) => {}
    }
}

fn error(text: &str, position: usize, what: &str) -> PredicateError {
    PredicateError { text: paramedic_model::text::capped(text, 200).into_owned(), position, what: what.to_owned() }
}

/// A pattern of bounded size.
pub(crate) fn pattern(text: &str) -> Result<Regex, String> {
    let read = regex::RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX).build();
    read.map_err(|fault| format!("the pattern cannot be read: {}", fault.to_string().lines().last().unwrap_or_default()))
}

/// A duration as people write it: `500ms`, `90s`, `10m`, `1h30m`, `2d`. None when it is none, or beyond a year.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = 0_u64;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
        let (number, behind) = rest.split_at(digits);
        let letters = behind.len() - behind.trim_start_matches(|letter: char| letter.is_ascii_alphabetic()).len();
        let (unit, behind) = behind.split_at(letters);
        let ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        sum = sum.checked_add(number.parse::<u64>().ok()?.checked_mul(ms)?)?;
        rest = behind;
    }
    (!text.is_empty() && sum <= 366 * 86_400_000).then(|| Duration::from_millis(sum))
}

#[cfg(test)]
mod tests;
