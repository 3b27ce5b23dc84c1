//! The front matter: what a runbook is called, what it answers to, and what it asks for.

use std::collections::BTreeMap;

use super::Change;
use crate::document::{Document, Executor, Runbook};
use crate::front::FrontMatter;
use crate::lint::input_name;

/// The text with what its front matter lacks. One that cannot be read is left alone: lint says what is wrong with it.
pub(super) fn complete(text: &str, file: &str, changes: &mut Vec<Change>) -> String {
    let document = crate::parse(text, file);
    if document.runbooks.is_empty() {
        return text.to_owned();
    }
    let (begin, existing) = existing(text);
    if existing.is_some_and(|front| FrontMatter::parse(front).is_err()) {
        return text.to_owned();
    }
    let keys: Vec<&str> = existing
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_once(':').map(|(key, _)| key))
        .filter(|key| !key.starts_with([' ', '\t', '#', '-']))
        .map(|key| key.trim().trim_matches(['"', '\'']))
        .collect();
    let mut added = String::new();
    for (key, value) in wanted(&document, file) {
        if !keys.contains(&key) {
            added.push_str(&format!("{key}:{value}\n"));
            changes.push(Change::new(1, format!("{key}:{value}"), why(key)));
        }
    }
    if added.is_empty() {
        return text.to_owned();
    }
    let made = match existing {
        Some(front) => {
            let newline = if front.is_empty() || front.ends_with('\n') { "" } else { "\n" };
            let end = begin + front.len();
            format!("{}{newline}{added}{}", &text[..end], &text[end..])
        }
        None => format!("---\n{added}---\n{}", text.trim_start_matches('\u{feff}')),
    };
    // A text that would be read in another way than before stays as it is.
    let after = crate::parse(&made, file);
    if after.problems.len() > document.problems.len() || after.runbooks.len() != document.runbooks.len() {
        changes.retain(|change| change.line != 1);
        return text.to_owned();
    }
    made
}

/// Where the front matter's text begins, and the text.
fn existing(text: &str) -> (usize, Option<&str>) {
    let begin = ["---\n", "---\r\n"].iter().find(|mark| text.starts_with(**mark)).map_or(0, |mark| mark.len());
    if begin == 0 {
        return (0, None);
    }
    let mut at = begin;
    for line in text[begin..].split_inclusive('\n') {
        if ["---", "..."].contains(&line.trim_end()) {
            return (begin, Some(&text[begin..at]));
        }
        at += line.len();
    }
    (0, None)
}

fn why(key: &str) -> &'static str {
    match key {
        "id" => "records, approvals and links name a runbook by it",
        "match" => "these alerts bring people here",
        "inputs" => "a placeholder that nobody is asked for cannot be filled in, and a value is checked before it is used",
        "severity" => "the text says so",
        "services" => "limits and locks count by service",
        _ => "lists show it",
    }
}

/// Keys with their values as YAML, in the order in which people read them.
fn wanted(document: &Document, file: &str) -> Vec<(&'static str, String)> {
    let stem = file.rsplit(['/', '\\']).next().unwrap_or(file);
    let stem = stem.rsplit_once('.').map_or(stem, |(stem, _)| stem);
    let mut keys = Vec::new();
    let only = match document.runbooks.as_slice() {
        [only] => Some(only),
        _ => None,
    };
    let name = only.map_or_else(|| crate::parse::slug(stem), |runbook| runbook.id.clone());
    let name = if name.is_empty() { "runbook".to_owned() } else { name };
    keys.push(("id", format!(" {}", quoted(&name))));
    let title = only.map_or(document.title.as_str(), |runbook| runbook.title.as_str());
    if !title.trim().is_empty() {
        keys.push(("title", format!(" {}", quoted(title))));
    }
    if let Some(runbook) = only {
        if let Some(severity) = runbook.severity.as_deref().and_then(severity) {
            keys.push(("severity", format!(" {severity}")));
        }
        let services = services(runbook);
        if !services.is_empty() {
            let listed: Vec<String> = services.iter().map(|service| quoted(service)).collect();
            keys.push(("services", format!(" [{}]", listed.join(", "))));
        }
        if !runbook.alerts.is_empty() {
            let listed: Vec<String> = runbook.alerts.iter().map(|alert| quoted(alert)).collect();
            keys.push(("match", format!(" {{ alerts: [{}] }}", listed.join(", "))));
        }
    }
    let inputs = inputs(document);
    if !inputs.is_empty() {
        let lines = inputs.iter().map(|(name, pattern)| {
            let secret = ["key", "token", "password", "secret"].iter().any(|word| name.to_ascii_lowercase().contains(word));
            let kind = if secret { "type: secret, " } else { "" };
            format!("\n  {name}: {{ {kind}pattern: {}, required: true }}", quoted(pattern))
        });
        keys.push(("inputs", lines.collect()));
    }
    keys
}

/// The severity that a text means; many write how high a priority is.
fn severity(text: &str) -> Option<paramedic_model::Severity> {
    let text = text.trim_matches(|letter: char| !letter.is_ascii_alphanumeric());
    let priorities = [("high", "SEV2"), ("medium", "SEV3"), ("moderate", "SEV3"), ("low", "SEV4")];
    let known = priorities.iter().find(|(word, _)| text.eq_ignore_ascii_case(word)).map_or(text, |(_, severity)| severity);
    known.parse().ok()
}

/// A string that YAML and JSON read alike.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Names of what the commands restart, scale or roll out: the services that the runbook is for.
fn services(runbook: &Runbook) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for text in runbook.steps.iter().flat_map(|step| &step.commands).map(|command| command.text.as_str()) {
        let words: Vec<&str> = text.split_whitespace().collect();
        for (at, word) in words.iter().enumerate() {
            let next = words.get(at + 1).copied().unwrap_or_default();
            let name = match word.split_once('/') {
                Some(("deployment" | "deploy" | "statefulset" | "sts", name)) => name,
                _ if at > 0 && words[at - 1] == "systemctl" && ["restart", "start", "status", "stop"].contains(word) => next,
                _ => continue,
            };
            let plain =
                !name.is_empty() && name.len() <= 63 && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter));
            if plain && !name.starts_with('-') && !found.iter().any(|known| known == name) {
                found.push(name.to_owned());
            }
        }
    }
    found.truncate(8);
    found
}

/// What has to be filled in, by the name that the steps use for it, with the pattern of such values.
fn inputs(document: &Document) -> BTreeMap<String, &'static str> {
    let captured: Vec<String> = document.runbooks.iter().flat_map(|runbook| &runbook.steps).flat_map(crate::plan::captures).collect();
    let mut found = BTreeMap::new();
    for step in document.runbooks.iter().flat_map(|runbook| &runbook.steps).filter(|step| step.executor != Executor::Manual) {
        for name in step.commands.iter().flat_map(|command| &command.verdict.placeholders) {
            let name = input_name(name);
            if !captured.contains(&name) && may_be_named(&name) {
                let pattern = pattern_for(&name);
                found.insert(name, pattern);
            }
        }
    }
    found
}

/// Not every name may stand in a program's environment.
fn may_be_named(name: &str) -> bool {
    let given = crate::render::Given { inputs: BTreeMap::from([(name.to_owned(), "x".to_owned())]), ..Default::default() };
    crate::render::Values::resolve(&Runbook::default(), &given).faults().is_empty()
}

fn pattern_for(name: &str) -> &'static str {
    let lower = name.to_ascii_lowercase();
    let ends = |words: &[&str]| words.iter().any(|word| lower.ends_with(word));
    match () {
        () if ends(&["pid", "count", "replicas", "port", "number", "seconds", "minutes"]) => "^[0-9]{1,10}$",
        () if ends(&["pod", "pod_name", "node", "node_name", "namespace", "deployment", "ns"]) => "^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$",
        () if ends(&["url", "address"]) => "^https?://[A-Za-z0-9._:/-]+$",
        () => "^[A-Za-z0-9_][A-Za-z0-9._:/@-]{0,199}$",
    }
}
