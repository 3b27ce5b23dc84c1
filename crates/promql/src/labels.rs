//! Label sets, how they are matched, and how they are written.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use regex::Regex;

use crate::error::ParseError;
use crate::parse::stray_byte;

/// The label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";
/// The label that holds the upper bound of a classic histogram's bucket.
pub const BUCKET: &str = "le";

/// One name and its value. Both are shared, because thousands of series repeat them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    pub name: Arc<str>,
    pub value: Arc<str>,
}

/// A label set: sorted by name, without empty values; cheap to clone.
#[derive(Clone)]
pub struct Labels(Arc<[Label]>);

impl Labels {
    /// The empty label set.
    pub fn empty() -> Self {
        Self(Arc::from([]))
    }

    /// Sorts, drops empty values, and keeps the last of a repeated name.
    pub fn new(labels: Vec<Label>) -> Self {
        let mut builder = Builder { labels };
        builder.labels.sort_by(|a, b| a.name.cmp(&b.name));
        let mut kept: Vec<Label> = Vec::with_capacity(builder.labels.len());
        for label in builder.labels {
            match kept.last_mut() {
                Some(last) if last.name == label.name => *last = label,
                _ => kept.push(label),
            }
        }
        kept.retain(|label| !label.value.is_empty());
        Self(kept.into())
    }

    /// A label set from plain pairs, mostly for tests.
    pub fn from_pairs(pairs: &[(&str, &str)]) -> Self {
        Self::new(pairs.iter().map(|(name, value)| Label { name: (*name).into(), value: (*value).into() }).collect())
    }

    /// The value of a label, or the empty text.
    pub fn get(&self, name: &str) -> &str {
        // Label sets are short: a linear search beats a binary one.
        self.0.iter().find(|label| &*label.name == name).map_or("", |label| &label.value)
    }

    /// The metric's name, or the empty text.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME)
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Label> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether both are the very same allocation.
    pub fn same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The set without its name and without the metadata labels that go with the name.
    pub(crate) fn without_name(&self) -> Self {
        self.filtered(|name| !matches!(name, METRIC_NAME | "__type__" | "__unit__"))
    }

    /// The labels whose name passes.
    pub(crate) fn filtered(&self, keep: impl Fn(&str) -> bool) -> Self {
        if self.0.iter().all(|label| keep(&label.name)) {
            return self.clone();
        }
        Self(self.0.iter().filter(|label| keep(&label.name)).cloned().collect())
    }

    pub(crate) fn builder(&self) -> Builder {
        Builder { labels: self.0.to_vec() }
    }

    /// Appends the bytes that identify the labels whose name passes.
    pub(crate) fn signature(&self, buffer: &mut Vec<u8>, keep: impl Fn(&str) -> bool) {
        for label in self.0.iter().filter(|label| keep(&label.name)) {
            buffer.extend_from_slice(label.name.as_bytes());
            buffer.push(0xff);
            buffer.extend_from_slice(label.value.as_bytes());
            buffer.push(0xfe);
        }
    }
}

impl FromIterator<Label> for Labels {
    fn from_iter<T: IntoIterator<Item = Label>>(iter: T) -> Self {
        Self::new(iter.into_iter().collect())
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        self.same(other) || self.0 == other.0
    }
}

impl Eq for Labels {}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Most names and values of neighbours are the same allocation, which tells more quickly than their text.
        let words = |a: &Arc<str>, b: &Arc<str>| if Arc::ptr_eq(a, b) { std::cmp::Ordering::Equal } else { a.cmp(b) };
        let pairs = self.iter().zip(other.iter()).map(|(a, b)| words(&a.name, &b.name).then_with(|| words(&a.value, &b.value)));
        pairs.into_iter().find(|order| order.is_ne()).unwrap_or_else(|| self.len().cmp(&other.len()))
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, label) in self.0.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            if is_plain_name(&label.name) {
                write!(f, "{comma}{}={}", label.name, quote(&label.value))?;
            } else {
                write!(f, "{comma}{}={}", quote(&label.name), quote(&label.value))?;
            }
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Changes a copy of a label set.
pub(crate) struct Builder {
    labels: Vec<Label>,
}

impl Builder {
    /// Sets a label; the empty value removes it.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.labels.retain(|label| &*label.name != name);
        if !value.is_empty() {
            self.labels.push(Label { name: name.into(), value: value.into() });
        }
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.labels.retain(|label| keep(&label.name));
    }

    pub(crate) fn build(self) -> Labels {
        Labels::new(self.labels)
    }
}

/// Whether a label name needs no quotes.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_') && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether a text may be the name of a label: any UTF-8 but the empty one.
pub(crate) fn is_label_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| stray_byte(c).is_some())
}

/// Text in double quotes with the usual escapes.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if stray_byte(c).is_some() => quoted.push_str(&format!("\\x{:02x}", stray_byte(c).unwrap_or_default())),
            c if (c as u32) < 0x20 => quoted.push_str(&format!("\\x{:02x}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// How a matcher compares.
#[derive(Clone, Debug)]
pub enum MatchOp {
    Equal,
    NotEqual,
    Regex(Arc<Regex>),
    NotRegex(Arc<Regex>),
}

/// One condition on one label.
#[derive(Clone, Debug)]
pub struct Matcher {
    pub name: Arc<str>,
    pub value: Arc<str>,
    pub op: MatchOp,
}

impl Matcher {
    pub fn equal(name: &str, value: &str) -> Self {
        Self { name: name.into(), value: value.into(), op: MatchOp::Equal }
    }

    pub fn not_equal(name: &str, value: &str) -> Self {
        Self { name: name.into(), value: value.into(), op: MatchOp::NotEqual }
    }

    /// A matcher with a regular expression that must cover the whole value; `.` also matches a line break.
    pub fn regex(name: &str, pattern: &str, negated: bool) -> Result<Self, ParseError> {
        let regex = Arc::new(anchored(pattern).map_err(|err| ParseError::new(0, format!("error parsing regexp: {err}")))?);
        let op = if negated { MatchOp::NotRegex(regex) } else { MatchOp::Regex(regex) };
        Ok(Self { name: name.into(), value: pattern.into(), op })
    }

    /// Whether a label value passes; a label that is not there has the empty value.
    pub fn matches(&self, value: &str) -> bool {
        match &self.op {
            MatchOp::Equal => value == &*self.value,
            MatchOp::NotEqual => value != &*self.value,
            MatchOp::Regex(regex) => regex.is_match(value),
            MatchOp::NotRegex(regex) => !regex.is_match(value),
        }
    }

    /// The operator as it is written.
    pub fn op_text(&self) -> &'static str {
        match self.op {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex(_) => "=~",
            MatchOp::NotRegex(_) => "!~",
        }
    }
}

/// A regular expression that must match the whole text, with `.` matching line breaks and a bounded size.
pub(crate) fn anchored(pattern: &str) -> Result<Regex, regex::Error> {
    regex::RegexBuilder::new(&format!("^(?s:{pattern})$")).size_limit(1 << 20).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_sorted_and_lose_empty_values() {
        let labels = Labels::from_pairs(&[("b", "2"), ("a", "1"), ("c", "")]);
        assert_eq!(labels.to_string(), r#"{a="1", b="2"}"#);
        assert_eq!(labels.get("c"), "");
        assert_eq!(labels.builder().build(), labels);
    }

    #[test]
    fn regexes_cover_the_whole_value_and_line_breaks() {
        let matcher = Matcher::regex("a", "x.*y", false).unwrap();
        assert!(matcher.matches("x\ny"));
        assert!(!matcher.matches("zxy"));
        assert!(Matcher::regex("a", "(", false).is_err());
    }
}
