//! Strict reading of YAML nodes as the values a rule file has, with every complaint at its place.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use paramedic_promql::number::parse_duration_ms;

use crate::problem::{Level, Problem};
use crate::yaml::{Content, Node};

/// How many entries are read of one file in all: merges may repeat them.
const ENTRIES_MAX: usize = 2_000_000;
/// How deep `<<` may refer to mappings with a `<<`.
const MERGES_MAX: usize = 16;

/// One key of a mapping with its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) value: Arc<Node>,
}

/// Reads nodes and collects problems.
pub(crate) struct Reader {
    file: String,
    group: Option<String>,
    rule_number: Option<usize>,
    rule: Option<String>,
    entries_read: usize,
    pub(crate) problems: Vec<Problem>,
}

impl Reader {
    pub(crate) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), group: None, rule_number: None, rule: None, entries_read: 0, problems: Vec::new() }
    }

    pub(crate) fn enter_group(&mut self, name: &str) {
        self.group = Some(name.to_owned());
    }

    pub(crate) fn leave_group(&mut self) {
        self.group = None;
    }

    pub(crate) fn enter_rule(&mut self, number: usize) {
        self.rule_number = Some(number);
    }

    pub(crate) fn name_rule(&mut self, name: &str) {
        self.rule = Some(name.to_owned());
    }

    pub(crate) fn leave_rule(&mut self) {
        self.rule_number = None;
        self.rule = None;
    }

    fn add(&mut self, level: Level, line: usize, column: usize, key: Option<&str>, message: String) {
        self.problems.push(Problem {
            level,
            file: self.file.clone(),
            line,
            column,
            group: self.group.clone(),
            rule_number: self.rule_number,
            rule: self.rule.clone(),
            key: key.map(str::to_owned),
            message: paramedic_model::text::capped(&message, 2_048).into_owned(),
        });
    }

    pub(crate) fn problem_at(&mut self, level: Level, line: usize, column: usize, message: String) {
        self.add(level, line, column, None, message);
    }

    pub(crate) fn error(&mut self, node: &Node, message: impl Into<String>) {
        self.add(Level::Error, node.line, node.column, None, message.into());
    }

    pub(crate) fn note(&mut self, node: &Node, message: impl Into<String>) {
        self.add(Level::Note, node.line, node.column, None, message.into());
    }

    pub(crate) fn error_in(&mut self, entry: &Entry, message: impl Into<String>) {
        self.add(Level::Error, entry.line, entry.column, Some(&entry.key), message.into());
    }

    pub(crate) fn note_in(&mut self, entry: &Entry, message: impl Into<String>) {
        self.add(Level::Note, entry.line, entry.column, Some(&entry.key), message.into());
    }

    /// Complains about one pair of a mapping that is the value of an entry.
    pub(crate) fn error_at_pair(&mut self, entry: &Entry, name: &str, message: String) {
        let mut place = (entry.line, entry.column);
        if let Content::Mapping(pairs) = &entry.value.content
            && let Some((key, _)) = pairs.iter().find(|(key, _)| matches!(&key.content, Content::Scalar(key) if key.text == name))
        {
            place = (key.line, key.column);
        }
        self.add(Level::Error, place.0, place.1, Some(&entry.key), message);
    }

    /// The entries of a mapping whose keys are all known; null is an empty mapping.
    pub(crate) fn entries(&mut self, node: &Arc<Node>, known: &[&str]) -> Vec<Entry> {
        let mut entries = self.mapping(node);
        entries.retain(|entry| {
            if known.contains(&entry.key.as_str()) {
                return true;
            }
            let likely = known.iter().find(|name| is_near(name, &entry.key));
            let hint = likely.map(|name| format!(", perhaps {name:?}")).unwrap_or_default();
            self.add(Level::Error, entry.line, entry.column, None, format!("unknown key {:?}{hint}", entry.key));
            false
        });
        entries
    }

    /// The entries of a mapping from any name to a text.
    pub(crate) fn pairs(&mut self, entry: &Entry) -> Vec<Entry> {
        self.mapping(&entry.value)
    }

    fn mapping(&mut self, node: &Arc<Node>) -> Vec<Entry> {
        let mut entries = Vec::new();
        self.collect(node, &mut entries, &mut HashSet::new(), 0);
        entries
    }

    /// Adds a mapping's entries that are not there yet: those of merged mappings come after its own.
    fn collect(&mut self, node: &Arc<Node>, entries: &mut Vec<Entry>, taken: &mut HashSet<String>, merges: usize) {
        let pairs = match &node.content {
            Content::Null => return,
            Content::Mapping(pairs) => pairs,
            _ => return self.error(node, format!("expected a mapping, got {}", node.kind())),
        };
        self.entries_read += pairs.len();
        if self.entries_read > ENTRIES_MAX || merges > MERGES_MAX {
            return self.error(node, "the file repeats itself too often");
        }
        let mut own: HashMap<&str, usize> = HashMap::new();
        let mut merged: Vec<&Arc<Node>> = Vec::new();
        for (key, value) in pairs {
            let name = match &key.content {
                Content::Scalar(name) if name.plain && name.text == "<<" => {
                    merged.push(value);
                    continue;
                }
                Content::Scalar(name) => name.text.as_str(),
                Content::Null => "null",
                _ => {
                    self.error(key, format!("expected a name, got {}", key.kind()));
                    continue;
                }
            };
            match own.entry(name) {
                MapEntry::Occupied(first) => {
                    let message = format!("mapping key {name:?} already defined at line {}", first.get());
                    self.error(key, message);
                }
                MapEntry::Vacant(free) => {
                    free.insert(key.line);
                    if taken.insert(name.to_owned()) {
                        entries.push(Entry { key: name.to_owned(), line: key.line, column: key.column, value: Arc::clone(value) });
                    }
                }
            }
        }
        for value in merged {
            match &value.content {
                Content::Sequence(items) => {
                    for item in items {
                        self.collect(item, entries, taken, merges + 1);
                    }
                }
                Content::Mapping(_) => self.collect(value, entries, taken, merges + 1),
                _ => self.error(value, "map merge requires map or sequence of maps as the value"),
            }
        }
    }

    /// The items of a list; null is an empty list.
    pub(crate) fn items(&mut self, node: &Arc<Node>, key: &str) -> Vec<Arc<Node>> {
        match &node.content {
            Content::Null => Vec::new(),
            Content::Sequence(items) => {
                self.entries_read += items.len();
                if self.entries_read > ENTRIES_MAX {
                    self.error(node, "the file repeats itself too often");
                    return Vec::new();
                }
                items.clone()
            }
            _ => {
                self.error(node, format!("{key} must be a list, got {}", node.kind()));
                Vec::new()
            }
        }
    }

    /// The value as text; null is empty, numbers and booleans are what was written.
    pub(crate) fn text(&mut self, entry: &Entry) -> Option<String> {
        match &entry.value.content {
            Content::Null => Some(String::new()),
            Content::Scalar(scalar) => Some(scalar.text.clone()),
            _ => {
                self.error_in(entry, format!("expected a text, got {}", entry.value.kind()));
                None
            }
        }
    }

    /// The value as a duration in milliseconds; null is none.
    pub(crate) fn duration(&mut self, entry: &Entry) -> Option<i64> {
        if matches!(entry.value.content, Content::Null) {
            return None;
        }
        let text = self.text(entry)?;
        // What Prometheus keeps in nanoseconds ends after 292 years.
        let parsed = parse_duration_ms(&text).filter(|ms| ms.checked_mul(1_000_000).is_some());
        if parsed.is_none() {
            self.error_in(
                entry,
                if text.is_empty() { "empty duration string".to_owned() } else { format!("not a valid duration string: {text:?}") },
            );
        }
        parsed
    }

    /// The value as a float; null is zero.
    pub(crate) fn float(&mut self, entry: &Entry) -> Option<f64> {
        match &entry.value.content {
            Content::Null => Some(0.0),
            Content::Scalar(scalar) if scalar.plain => {
                let text = scalar.text.trim_start_matches('+').to_ascii_lowercase();
                let number = match text.as_str() {
                    ".inf" => Some(f64::INFINITY),
                    "-.inf" => Some(f64::NEG_INFINITY),
                    ".nan" => Some(f64::NAN),
                    "inf" | "-inf" | "nan" | "infinity" | "-infinity" => None,
                    text => parse_integer(text).map(|value| value as f64).or_else(|| text.replace('_', "").parse().ok()),
                };
                if number.is_none() {
                    self.error_in(entry, format!("expected a number, got {:?}", scalar.text));
                }
                number
            }
            _ => {
                self.error_in(entry, "expected a number");
                None
            }
        }
    }

    /// The value as an integer.
    pub(crate) fn integer(&mut self, entry: &Entry) -> Option<i64> {
        let number = match &entry.value.content {
            Content::Null => return Some(0),
            Content::Scalar(scalar) if scalar.plain => parse_integer(&scalar.text).or_else(|| {
                // A fraction is cut off, as the YAML library of Prometheus does.
                scalar.text.parse::<f64>().ok().filter(|value| value.abs() < 9e18).map(|value| value as i64)
            }),
            _ => None,
        };
        if number.is_none() {
            self.error_in(entry, "expected a whole number");
        }
        number
    }

    /// The value as yes or no.
    pub(crate) fn boolean(&mut self, entry: &Entry) -> Option<bool> {
        let word = match &entry.value.content {
            Content::Null => return Some(false),
            Content::Scalar(scalar) => scalar.text.to_ascii_lowercase(),
            _ => String::new(),
        };
        match word.as_str() {
            "true" | "yes" | "on" | "y" => Some(true),
            "false" | "no" | "off" | "n" => Some(false),
            _ => {
                self.error_in(entry, "expected true or false");
                None
            }
        }
    }
}

fn parse_integer(text: &str) -> Option<i64> {
    let plain = text.replace('_', "");
    let (sign, digits) = plain.strip_prefix('-').map_or((1, plain.strip_prefix('+').unwrap_or(&plain)), |rest| (-1, rest));
    let radix = |prefix: &str, radix: u32| digits.strip_prefix(prefix).and_then(|rest| i64::from_str_radix(rest, radix).ok());
    let number = radix("0x", 16).or_else(|| radix("0o", 8)).or_else(|| radix("0b", 2));
    number.or_else(|| digits.parse::<i64>().ok()).map(|number| sign * number)
}

/// Whether two words differ by one letter, two swapped letters, or hyphens for underscores.
fn is_near(known: &str, written: &str) -> bool {
    let (a, b) = (known.as_bytes(), written.as_bytes());
    if known.replace('_', "") == written.replace(['-', '_'], "").to_ascii_lowercase() {
        return true;
    }
    if a.len().abs_diff(b.len()) > 1 {
        return false;
    }
    let front = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let back = a[front..].iter().rev().zip(b[front..].iter().rev()).take_while(|(x, y)| x == y).count();
    let (left, right) = (a.len() - front - back, b.len() - front - back);
    let swapped = left == 2 && right == 2 && a[front] == b[front + 1] && a[front + 1] == b[front];
    left <= 1 && right <= 1 || swapped
}
