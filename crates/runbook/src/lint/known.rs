//! What is there outside of a document: actions, metrics, alerts, files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Finding;
use super::surroundings::{nearest, squeezed};
use crate::document::{Document, Executor, Runbook, Step};
use crate::shelf::is_same_alert;

/// Longest file that is read to look for a heading, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What exists. An empty list is one that nobody told, and nothing is judged by it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    pub actions: Vec<KnownAction>,
    /// Names of samples, as queries name them.
    pub metrics: BTreeSet<String>,
    /// Names of alerts: those of rules, and those of detectors.
    pub alerts: BTreeSet<String>,
    /// The folder that relative links begin at.
    pub base: Option<PathBuf>,
}

/// An action with the arguments it takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KnownAction {
    pub name: String,
    pub required: Vec<String>,
    pub optional: Vec<String>,
}

impl KnownAction {
    /// From names.
    #[must_use]
    pub fn new(name: &str, required: &[&str], optional: &[&str]) -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self { name: name.to_owned(), required: owned(required), optional: owned(optional) }
    }
}

pub(super) fn about_step(step: &Step, known: &Known) -> Vec<Finding> {
    match step.executor {
        Executor::Action if !known.actions.is_empty() => action(step, known),
        Executor::Promql if !known.metrics.is_empty() => metrics(step, known),
        _ => Vec::new(),
    }
}

fn action(step: &Step, known: &Known) -> Vec<Finding> {
    let line = step.line + 1;
    let unknown = |text: &str, why: String, instead: String| vec![Finding::new("unknown-action", line, text, why, instead)];
    let body: serde_json::Value = match serde_saphyr::from_str(&step.text) {
        Ok(body) => body,
        Err(error) => return unknown("", format!("the action cannot be read: {error}"), "name: { argument: value }".to_owned()),
    };
    let Some((name, given)) = body.as_object().filter(|body| body.len() == 1).and_then(|body| body.iter().next()) else {
        return unknown("", "a step is one action with its arguments".to_owned(), "name: { argument: value }".to_owned());
    };
    let Some(action) = known.actions.iter().find(|action| action.name == *name) else {
        let names: Vec<&str> = known.actions.iter().map(|action| action.name.as_str()).collect();
        let instead = nearest(name, &names).map(str::to_owned).unwrap_or_else(|| "`paramedic action list` says which there are".to_owned());
        return unknown(name, format!("there is no action {name}"), instead);
    };
    let takes = || format!("{} takes {}", name, action.required.iter().chain(&action.optional).cloned().collect::<Vec<_>>().join(", "));
    let empty = serde_json::Map::new();
    let given = given.as_object().unwrap_or(&empty);
    let missing = action.required.iter().filter(|argument| !given.contains_key(*argument));
    let mut findings: Vec<Finding> =
        missing.map(|argument| Finding::new("action-arguments", line, name, format!("{argument} is missing"), takes())).collect();
    let strange = given.keys().filter(|key| !action.required.contains(key) && !action.optional.contains(key));
    findings.extend(strange.map(|key| Finding::new("action-arguments", line, name, format!("it has no argument {key}"), takes())));
    findings
}

fn metrics(step: &Step, known: &Known) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in names_of_samples(&step.text) {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        if known.metrics.contains(&name) || known.metrics.contains(base) || name.starts_with("ALERTS") {
            continue;
        }
        let names: Vec<&str> = known.metrics.iter().map(String::as_str).collect();
        let instead = nearest(&name, &names).unwrap_or_default();
        findings.push(Finding::new("unknown-metric", step.line + 1, &name, "nobody collects samples of that name", instead));
    }
    findings
}

/// Words that stand in a query without naming samples.
const QUERY_WORDS: &[&str] = &[
    "and",
    "or",
    "unless",
    "bool",
    "offset",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "inf",
    "nan",
    "start",
    "end",
];
/// Words behind which labels are listed.
const BEFORE_LABELS: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Names that a query asks samples of: words that are neither functions, keywords nor labels.
fn names_of_samples(query: &str) -> BTreeSet<String> {
    let letters: Vec<char> = query.chars().collect();
    let mut names = BTreeSet::new();
    let mut at = 0;
    while at < letters.len() {
        match letters[at] {
            quote @ ('"' | '\'' | '`') => at = behind(&letters, at + 1, quote),
            '{' => at = behind(&letters, at + 1, '}'),
            '[' => at = behind(&letters, at + 1, ']'),
            '#' => at = behind(&letters, at + 1, '\n'),
            '$' => at += 1 + word(&letters, at + 1).len(),
            first if first.is_ascii_alphabetic() || first == '_' || first == ':' => {
                let name = word(&letters, at);
                at += name.len();
                let next = letters[at..].iter().find(|letter| !letter.is_whitespace());
                let lower = name.to_ascii_lowercase();
                if BEFORE_LABELS.contains(&lower.as_str()) && next == Some(&'(') {
                    at = behind(&letters, at, ')');
                } else if next != Some(&'(')
                    && !QUERY_WORDS.contains(&lower.as_str())
                    && !BEFORE_LABELS.contains(&lower.as_str())
                    && !is_aggregate(&lower)
                {
                    names.insert(name);
                }
            }
            first if first.is_ascii_digit() => at += word(&letters, at).len().max(1),
            _ => at += 1,
        }
    }
    names
}

/// `sum by (x) (…)`: the only functions that may have something between their name and what they take.
fn is_aggregate(name: &str) -> bool {
    ["sum", "min", "max", "avg", "count", "group", "stddev", "stdvar", "topk", "bottomk", "count_values", "quantile", "limitk"]
        .contains(&name)
}

fn word(letters: &[char], from: usize) -> String {
    letters[from.min(letters.len())..].iter().take_while(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | ':')).collect()
}

/// Where `mark` ends.
fn behind(letters: &[char], from: usize, mark: char) -> usize {
    letters[from.min(letters.len())..].iter().position(|letter| *letter == mark).map_or(letters.len(), |at| from + at + 1)
}

pub(super) fn unknown_alerts(runbook: &Runbook, known: &Known) -> Vec<Finding> {
    if known.alerts.is_empty() {
        return Vec::new();
    }
    // Incidents are of a kind too, whatever rule or detector opened them.
    let kinds = paramedic_model::IncidentType::ALL.iter().map(|kind| kind.as_str());
    let names: Vec<&str> = known.alerts.iter().map(String::as_str).chain(kinds).collect();
    let unknown = runbook.alerts.iter().filter(|alert| !names.iter().any(|name| is_same_alert(name, alert)));
    unknown
        .map(|alert| {
            let instead = nearest(alert, &names).unwrap_or_default();
            Finding::new(
                "unknown-alert",
                runbook.line,
                alert,
                format!("no rule, no detector and no kind of incident is called {alert}, so it never brings anybody here"),
                instead,
            )
        })
        .collect()
}

/// Alerts that no runbook answers to. An alert has one when its own annotation names it (by id, or by an address), or when a
/// runbook names the alert.
#[must_use]
pub fn lint_alerts(alerts: &[(String, Option<String>)], runbooks: &[&Runbook]) -> Vec<Finding> {
    let ids: Vec<&str> = runbooks.iter().map(|runbook| runbook.id.as_str()).collect();
    let mut findings = Vec::new();
    for (alert, named) in alerts {
        let answers = runbooks.iter().any(|runbook| runbook.alerts.contains(alert));
        let elsewhere = named.as_deref().is_some_and(|named| named.contains("://"));
        match named.as_deref() {
            Some(named) if !elsewhere && !ids.contains(&named) => {
                let instead = nearest(named, &ids).unwrap_or_default();
                findings.push(Finding::new(
                    "alert-without-runbook",
                    0,
                    alert,
                    format!("it names the runbook {named}, which is not there"),
                    instead,
                ));
            }
            None if !answers => {
                let why = "nobody who is paged for it is told what to do";
                let instead = format!("match: {{ alerts: [{alert}] }} in a runbook, or `runbook:` in the rule's annotations");
                findings.push(Finding::new("alert-without-runbook", 0, alert, why, instead));
            }
            _ => {}
        }
    }
    findings
}

/// Relative links to files, or to headings in them, that are not there.
pub(super) fn dead_files(document: &Document, known: &Known) -> Vec<Finding> {
    let Some(base) = &known.base else { return Vec::new() };
    let relative = |target: &&str| !target.is_empty() && !target.starts_with(['#', '/']) && !target.contains(':') && !target.contains("{{");
    let mut findings = Vec::new();
    for link in &document.links {
        let Some(target) = Some(link.target.as_str()).filter(relative) else { continue };
        let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
        let path = path.split('?').next().unwrap_or_default().replace("%20", " ");
        let file = base.join(&path);
        if !file.exists() {
            findings.push(Finding::new("dead-link", link.line, target, "there is no such file", ""));
        } else if !anchor.is_empty() && !has_heading(&file, anchor) {
            findings.push(Finding::new("dead-link", link.line, target, "that file has no heading of that name", path));
        }
    }
    findings
}

/// A file that cannot be read, or is too large to, is believed.
fn has_heading(file: &Path, anchor: &str) -> bool {
    let small = std::fs::metadata(file).is_ok_and(|data| data.is_file() && data.len() <= FILE_BYTES_MAX);
    let Some(text) = small.then(|| std::fs::read_to_string(file).ok()).flatten() else { return true };
    crate::parse(&text, "").anchors.iter().any(|known| squeezed(known) == squeezed(anchor))
}
