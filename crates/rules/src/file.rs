//! Rule files: what Prometheus reads, read as strictly.
//!
//! A file is either a plain rule file (`groups:`), of which only the first document counts, or one or more Kubernetes
//! objects of the kind `PrometheusRule`, also in a `List`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use paramedic_promql::Engine;
use paramedic_promql::parse::{Expr, ValueType};

use crate::names;
use crate::problem::{Level, Problem};
use crate::reader::{Entry, Reader};
use crate::template;
use crate::yaml::{self, Content, Node};

/// The most rules of one file.
pub const RULES_MAX: usize = 100_000;
/// The most problems that are listed for one file.
const PROBLEMS_MAX: usize = 200;

/// A rule file that was read.
#[derive(Debug, Clone)]
pub struct RuleFile {
    /// The path or name it was read from.
    pub name: String,
    pub groups: Vec<Group>,
}

/// Rules that are evaluated one after the other, all for the same moment.
#[derive(Debug, Clone)]
pub struct Group {
    pub name: String,
    pub line: usize,
    /// `None` is the interval of the settings.
    pub interval_ms: Option<i64>,
    /// How far in the past the rules are evaluated; `None` is what the settings say.
    pub query_offset_ms: Option<i64>,
    /// The most alerts or series of each rule; 0 is no limit.
    pub limit: i64,
    pub labels: BTreeMap<String, String>,
    pub rules: Vec<Rule>,
}

/// What a rule makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleKind {
    Recording,
    Alerting,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    pub kind: RuleKind,
    /// The name of the alert or of the recorded metric.
    pub name: String,
    pub line: usize,
    /// The expression as it was written, without blanks around it.
    pub expression: String,
    pub expr: Arc<Expr>,
    pub for_ms: i64,
    pub keep_firing_for_ms: i64,
    /// Those of the group are included.
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// A file as it was found.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// The rules, unless there is an error.
    pub file: Option<RuleFile>,
    /// Errors and notes in order of their lines.
    pub problems: Vec<Problem>,
}

impl Checked {
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.is_error())
    }
}

/// Reads and checks a rule file. `name` is what problems call it.
pub fn check(text: &str, name: &str) -> Checked {
    let stream = yaml::read(text);
    let mut reader = Reader::new(name);
    let mut groups = Vec::new();
    let kubernetes = stream.documents.iter().flatten().next().is_some_and(|document| is_object(document));
    // A plain rule file ends for Prometheus with its first document, whatever follows.
    let unread = !kubernetes && !stream.documents.is_empty();
    if let Some(malformed) = stream.malformed.as_ref().filter(|_| !unread) {
        reader.problem_at(Level::Error, malformed.line, malformed.column, malformed.message.clone());
    } else if kubernetes {
        for document in stream.documents.iter().flatten() {
            read_object(&mut reader, document, &mut groups);
        }
    } else if let Some(Some(document)) = stream.documents.first() {
        read_rules(&mut reader, document, &mut groups, false);
    }
    if unread && (stream.documents.len() > 1 || stream.malformed.is_some()) {
        reader.problem_at(Level::Note, 1, 1, "only the first document of the file is read, as in Prometheus".to_owned());
    }
    finish(reader, name, groups)
}

/// Reads a rule file or says what is wrong with it.
pub fn parse(text: &str, name: &str) -> Result<RuleFile, Vec<Problem>> {
    let Checked { file, problems } = check(text, name);
    file.ok_or(problems)
}

fn finish(reader: Reader, name: &str, groups: Vec<Group>) -> Checked {
    let mut problems = reader.problems;
    note_duplicates(name, &groups, &mut problems);
    problems.sort_by_key(|problem| (problem.line, problem.column));
    let file = (!problems.iter().any(Problem::is_error)).then(|| RuleFile { name: name.to_owned(), groups });
    // Errors must not fall behind a crowd of notes.
    if problems.len() > PROBLEMS_MAX {
        problems.sort_by_key(|problem| (std::cmp::Reverse(problem.level), problem.line, problem.column));
        problems.truncate(PROBLEMS_MAX);
    }
    Checked { file, problems }
}

/// `promtool check rules` mentions rules with the same name and labels, but takes them.
fn note_duplicates(file: &str, groups: &[Group], problems: &mut Vec<Problem>) {
    let mut seen = BTreeSet::new();
    for group in groups {
        for (i, rule) in group.rules.iter().enumerate() {
            if !seen.insert((&rule.name, &rule.labels)) {
                problems.push(Problem {
                    level: Level::Note,
                    file: file.to_owned(),
                    line: rule.line,
                    column: 1,
                    group: Some(group.name.clone()),
                    rule_number: Some(i + 1),
                    rule: Some(rule.name.clone()),
                    key: None,
                    message: "another rule has the same name and labels; it might lead to inconsistent results".to_owned(),
                });
            }
        }
    }
}

fn scalar_of<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    let Content::Mapping(pairs) = &node.content else { return None };
    pairs.iter().find_map(|(name, value)| match (&name.content, &value.content) {
        (Content::Scalar(name), Content::Scalar(value)) if name.text == key => Some(value.text.as_str()),
        _ => None,
    })
}

fn child<'a>(node: &'a Node, key: &str) -> Option<&'a Arc<Node>> {
    let Content::Mapping(pairs) = &node.content else { return None };
    pairs.iter().find(|(name, _)| matches!(&name.content, Content::Scalar(name) if name.text == key)).map(|(_, value)| value)
}

fn is_object(node: &Node) -> bool {
    scalar_of(node, "apiVersion").is_some() && scalar_of(node, "kind").is_some()
}

/// Reads the rules of a Kubernetes object; objects of other kinds are passed over.
fn read_object(reader: &mut Reader, object: &Arc<Node>, groups: &mut Vec<Group>) {
    match scalar_of(object, "kind") {
        Some("PrometheusRule") => match child(object, "spec") {
            // Each object is a file of its own for the operator, so group names may repeat between them.
            Some(spec) => read_rules(reader, spec, groups, true),
            None => reader.error(object, "the object has no spec"),
        },
        Some("List" | "PrometheusRuleList") => match child(object, "items").map(|items| &items.content) {
            Some(Content::Sequence(items)) => {
                for item in items {
                    read_object(reader, item, groups);
                }
            }
            Some(Content::Null) | None => {}
            Some(_) => reader.error(object, "items must be a list"),
        },
        Some(other) => reader.note(object, format!("an object of the kind {other:?} has no rules and is passed over")),
        None => reader.error(object, "an object needs apiVersion and kind"),
    }
}

/// Reads `groups:`.
fn read_rules(reader: &mut Reader, root: &Arc<Node>, groups: &mut Vec<Group>, kubernetes: bool) {
    let mut names = BTreeSet::new();
    for entry in reader.entries(root, &["groups"]) {
        for node in reader.items(&entry.value, "groups") {
            let Some(group) = read_group(reader, &node, kubernetes) else { continue };
            if group.name.is_empty() {
                reader.error(&node, "the group's name must not be empty");
            } else if !names.insert(group.name.clone()) {
                reader.error(&node, format!("groupname: {:?} is repeated in the same file", group.name));
            }
            let known: usize = groups.iter().map(|group: &Group| group.rules.len()).sum();
            if known + group.rules.len() > RULES_MAX {
                reader.error(&node, format!("the file has more than {RULES_MAX} rules"));
                return;
            }
            groups.push(group);
        }
    }
}

fn read_group(reader: &mut Reader, node: &Arc<Node>, kubernetes: bool) -> Option<Group> {
    const KEYS: &[&str] = &["name", "interval", "query_offset", "limit", "rules", "labels"];
    const KUBERNETES_KEYS: &[&str] = &["name", "interval", "query_offset", "limit", "rules", "labels", "partial_response_strategy"];
    if matches!(node.content, Content::Null) {
        reader.error(node, "the group's name must not be empty");
        return None;
    }
    let entries = reader.entries(node, if kubernetes { KUBERNETES_KEYS } else { KEYS });
    let mut group = Group {
        name: String::new(),
        line: node.line,
        interval_ms: None,
        query_offset_ms: None,
        limit: 0,
        labels: BTreeMap::new(),
        rules: Vec::new(),
    };
    // The name first: what is wrong with the rest is told with it.
    if let Some(entry) = entries.iter().find(|entry| entry.key == "name") {
        group.name = reader.text(entry).unwrap_or_default();
    }
    reader.enter_group(&group.name);
    for entry in &entries {
        match entry.key.as_str() {
            "interval" => group.interval_ms = reader.duration(entry).filter(|ms| *ms > 0),
            "query_offset" => group.query_offset_ms = reader.duration(entry),
            "limit" => group.limit = reader.integer(entry).unwrap_or(0),
            "labels" => group.labels = read_labels(reader, entry),
            _ => {}
        }
    }
    for entry in entries.iter().filter(|entry| entry.key == "rules") {
        for (i, node) in reader.items(&entry.value, "rules").iter().enumerate() {
            reader.enter_rule(i + 1);
            group.rules.extend(read_rule(reader, node, &group.labels));
            reader.leave_rule();
            if group.rules.len() > RULES_MAX {
                reader.error(node, format!("the group has more than {RULES_MAX} rules"));
                break;
            }
        }
    }
    reader.leave_group();
    Some(group)
}

/// Reads names and values of labels.
fn read_labels(reader: &mut Reader, entry: &Entry) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for entry in reader.pairs(entry) {
        let value = reader.text(&entry).unwrap_or_default();
        if !names::is_label_name(&entry.key) || entry.key == "__name__" {
            reader.error_in(&entry, format!("invalid label name: {}", entry.key));
        }
        labels.insert(entry.key, value);
    }
    labels
}

fn read_annotations(reader: &mut Reader, entry: &Entry) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    for entry in reader.pairs(entry) {
        let value = reader.text(&entry).unwrap_or_default();
        if !names::is_label_name(&entry.key) {
            reader.error_in(&entry, format!("invalid annotation name: {}", entry.key));
        }
        annotations.insert(entry.key, value);
    }
    annotations
}

/// A rule as far as it was read.
#[derive(Default)]
struct Draft {
    record: Option<(String, Entry)>,
    alert: Option<(String, Entry)>,
    expr: Option<(String, Entry)>,
    for_ms: i64,
    keep_firing_for_ms: i64,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

fn read_rule(reader: &mut Reader, node: &Arc<Node>, group_labels: &BTreeMap<String, String>) -> Option<Rule> {
    const KEYS: &[&str] = &["record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"];
    let entries = reader.entries(node, KEYS);
    let mut draft = Draft::default();
    for entry in &entries {
        let written = |reader: &mut Reader| reader.text(entry).filter(|text| !text.is_empty()).map(|text| (text, entry.clone()));
        match entry.key.as_str() {
            "record" => draft.record = written(reader),
            "alert" => draft.alert = written(reader),
            _ => {}
        }
    }
    if let Some((name, _)) = draft.alert.as_ref().or(draft.record.as_ref()) {
        reader.name_rule(name);
    }
    for entry in &entries {
        match entry.key.as_str() {
            "expr" => draft.expr = reader.text(entry).filter(|text| !text.is_empty()).map(|text| (text, entry.clone())),
            "for" => draft.for_ms = reader.duration(entry).unwrap_or(0),
            "keep_firing_for" => draft.keep_firing_for_ms = reader.duration(entry).unwrap_or(0),
            "labels" => draft.labels = read_labels(reader, entry),
            "annotations" => draft.annotations = read_annotations(reader, entry),
            _ => {}
        }
    }
    check_rule(reader, node, &draft);
    let expr = check_expr(reader, node, &draft);
    check_templates(reader, &entries, &draft);
    let mut labels = group_labels.clone();
    labels.extend(draft.labels);
    let (kind, (name, _)) = match (draft.alert, draft.record) {
        (Some(alert), None) => (RuleKind::Alerting, alert),
        (None, Some(record)) => (RuleKind::Recording, record),
        _ => return None,
    };
    Some(Rule {
        kind,
        name,
        line: node.line,
        expression: draft.expr?.0.trim().to_owned(),
        expr: Arc::new(expr?),
        for_ms: draft.for_ms,
        keep_firing_for_ms: draft.keep_firing_for_ms,
        labels,
        annotations: draft.annotations,
    })
}

fn check_rule(reader: &mut Reader, node: &Arc<Node>, draft: &Draft) {
    match (&draft.record, &draft.alert) {
        (Some((_, entry)), Some(_)) => reader.error_in(entry, "only one of 'record' and 'alert' must be set"),
        (None, None) => reader.error(node, "one of 'record' or 'alert' must be set"),
        _ => {}
    }
    let Some((name, entry)) = &draft.record else { return };
    if !draft.annotations.is_empty() {
        reader.error_in(entry, "invalid field 'annotations' in recording rule");
    }
    if draft.for_ms != 0 {
        reader.error_in(entry, "invalid field 'for' in recording rule");
    }
    if draft.keep_firing_for_ms != 0 {
        reader.error_in(entry, "invalid field 'keep_firing_for' in recording rule");
    }
    if name.contains(['{', '}']) {
        reader.error_in(entry, format!("braces present in the recording rule name; should it be in expr?: {name}"));
    } else if !names::is_metric_name(name) {
        reader.error_in(entry, format!("invalid recording rule name: {name}"));
    }
}

fn check_expr(reader: &mut Reader, node: &Arc<Node>, draft: &Draft) -> Option<Expr> {
    let Some((text, entry)) = &draft.expr else {
        reader.error(node, "field 'expr' must be set in rule");
        return None;
    };
    match Engine::default().parse(text) {
        Ok(expr) => {
            if !matches!(expr.value_type(), ValueType::Vector | ValueType::Scalar) {
                let kind = expr.value_type().text();
                reader.note_in(entry, format!("the expression gives a {kind}, so that every evaluation will fail"));
            }
            Some(expr)
        }
        Err(err) => {
            reader.error_in(entry, format!("could not parse expression: {err}"));
            None
        }
    }
}

/// Templates are those of alerts: a recording rule's labels are taken as they are.
fn check_templates(reader: &mut Reader, entries: &[Entry], draft: &Draft) {
    let Some((name, _)) = &draft.alert else { return };
    for (key, values) in [("labels", &draft.labels), ("annotations", &draft.annotations)] {
        for (label, text) in values {
            if let Err(message) = template::check(name, text) {
                let place = entries.iter().find(|entry| entry.key == key);
                let kind = key.trim_end_matches('s');
                match place {
                    Some(entry) => reader.error_at_pair(entry, label, format!("{kind} {label:?}: {message}")),
                    None => reader.problem_at(Level::Error, 1, 1, message),
                }
            }
        }
    }
}
