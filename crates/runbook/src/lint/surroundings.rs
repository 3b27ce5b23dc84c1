//! What stands around a step: its attributes, its inputs, its runbook, the links.

use super::Finding;
use crate::classify::Effect;
use crate::document::{Document, Executor, Runbook, SectionKind, Step};
use crate::plan::{Demands, Risk};

/// Attributes that somebody reads.
pub(crate) const ATTRIBUTES: &[&str] = &[
    "name", "expect", "gate", "timeout", "retries", "backoff", "mode", "risk", "approve", "auto", "dry", "if", "needs", "limit",
    "cooldown", "lock", "blast", "verify", "rollback", "capture", "redact", "window", "only", "hold", "on", "audience", "next",
];
/// Attributes that runme reads; files are made for both.
const OF_RUNME: &[&str] = &[
    "id",
    "background",
    "category",
    "closeTerminalOnSuccess",
    "cwd",
    "excludeFromRunAll",
    "interactive",
    "interpreter",
    "mimeType",
    "openTerminalOnError",
    "promptEnv",
    "tag",
    "terminalRows",
];

/// Placeholders that nobody is asked for.
pub(super) fn blanks(runbook: &Runbook, step: &Step, document: &Document) -> Vec<Finding> {
    if step.executor == Executor::Manual {
        return Vec::new();
    }
    let captured: Vec<String> = runbook.steps.iter().flat_map(crate::plan::captures).collect();
    let asked = |name: &str| {
        document.inputs.contains(name) || document.inputs.contains(&input_name(name)) || captured.iter().any(|one| one == name)
    };
    let mut findings = Vec::new();
    for command in &step.commands {
        let verdict = &command.verdict;
        let missing: Vec<&str> = verdict
            .placeholders
            .iter()
            .chain(&verdict.blanks)
            .map(String::as_str)
            .filter(|name| !asked(name) || verdict.blanks.iter().any(|blank| blank == name))
            .collect();
        let Some(first) = missing.first().map(|first| input_name(first)) else { continue };
        let why = format!("{} has to be filled in, and no input asks for it", missing.join(", "));
        let instead = format!(
            "name it in the front matter: inputs: {{ {first}: {{ pattern: \"^[A-Za-z0-9._:-]+$\", required: true }} }}, and write ${first}"
        );
        findings.push(Finding::new("blank-without-input", command.line, &command.text, why, instead));
    }
    findings
}

/// The name that an input has for a placeholder: `<pod-name>`, `{{pod}}`, `YOUR_KEY`, `sg-xxxxx`.
pub(crate) fn input_name(placeholder: &str) -> String {
    let plain = placeholder.trim_matches(['{', '}', '<', '>', ' ', '$']);
    let crossed_out = |part: &&str| part.len() < 4 || !part.bytes().all(|byte| byte == b'x' || byte == b'X');
    let kept: Vec<&str> = plain.split(['-', '_', ' ', '.']).filter(crossed_out).collect();
    let name: String = kept.join("_").chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '_').collect();
    match name.chars().next() {
        None => "value".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("value_{name}"),
        Some(_) => name,
    }
}

/// A runbook that changes things and never looks whether it helped.
pub(super) fn without_verification(runbook: &Runbook) -> Option<Finding> {
    let writes = runbook.steps.iter().find(|step| effect(step) > Effect::Read)?;
    let looks = runbook.sections.iter().any(|section| section.kind == SectionKind::Verification)
        || runbook.steps.iter().any(|step| step.attributes.contains_key("verify"))
        || runbook.steps.iter().any(|step| ["verify", "confirm"].iter().any(|word| step.title.to_ascii_lowercase().contains(word)));
    (!looks).then(|| {
        let why = format!("it changes something (line {}) and no step looks whether that helped", writes.line);
        Finding::new("no-verification", runbook.line, &runbook.title, why, "a section `## Verification`, or verify=\"...\" on the step")
    })
}

fn effect(step: &Step) -> Effect {
    step.commands.iter().map(|command| command.verdict.effect).max().unwrap_or_default()
}

/// What its attributes say, or leave out. A step without any is a plain one, and only its commands are judged.
pub(super) fn about_step(step: &Step) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in step.attributes.keys().filter(|name| !ATTRIBUTES.contains(&name.as_str()) && !OF_RUNME.contains(&name.as_str())) {
        let instead = nearest(name, ATTRIBUTES).map_or_else(|| format!("one of {}", ATTRIBUTES.join(", ")), |near| format!("{near}=…"));
        findings.push(Finding::new("unknown-attribute", step.line, name, format!("nobody reads {name}"), instead));
    }
    let value = |name: &str| step.attributes.get(name).map(String::as_str);
    let writes = effect(step) > Effect::Read || value("mode") == Some("write");
    let plain = step.attributes.keys().all(|name| name == "name" || OF_RUNME.contains(&name.as_str()));
    if !writes || plain || value("only").is_some() || step.executor == Executor::Message {
        return findings;
    }
    if value("verify").is_none() {
        let why = "it changes something, and nothing says how one sees that it helped";
        findings.push(Finding::new("write-without-verify", step.line, &step.name, why, "verify=\"step < number within 10m hold 2m\""));
    }
    let risk = Demands::of(step).0.risk;
    if risk >= Risk::Medium && value("risk").is_some() && value("rollback").is_none() {
        let why = "its risk is more than low, and nothing says how it is taken back when it does not help";
        let instead = format!("rollback={}_back, and a step with {{ name={}_back only=rollback }}", step.name, step.name);
        findings.push(Finding::new("risk-without-rollback", step.line, &step.name, why, instead));
    }
    findings
}

/// Conditions, attributes and references that a plan stumbles over.
pub(super) fn unreadable_parts(runbook: &Runbook) -> Vec<Finding> {
    let problems = crate::plan::plan(runbook, &crate::render::Given::default()).problems;
    let finding = |what: String| {
        let line = what.strip_prefix("line ").and_then(|rest| rest.split_once(": ")).and_then(|(line, _)| line.parse().ok());
        let why = what.split_once(": ").filter(|_| line.is_some()).map_or(what.as_str(), |(_, why)| why);
        Finding::new("unreadable", line.unwrap_or(runbook.line), "", why, "")
    };
    problems.into_iter().map(finding).collect()
}

/// Links to headings of the document itself that are not there.
pub(super) fn dead_links(document: &Document) -> Vec<Finding> {
    let own = document.links.iter().filter_map(|link| Some((link.line, link.target.strip_prefix('#')?)));
    let known: Vec<String> = document.anchors.iter().map(|anchor| squeezed(anchor)).collect();
    own.filter(|(_, anchor)| !anchor.is_empty() && !known.contains(&squeezed(anchor)))
        .map(|(line, anchor)| {
            let instead = nearest(anchor, &document.anchors.iter().map(String::as_str).collect::<Vec<_>>()).map(|near| format!("#{near}"));
            Finding::new("dead-link", line, &format!("#{anchor}"), "no heading of this document has that name", instead.unwrap_or_default())
        })
        .collect()
}

/// What sites make of the marks in a heading differs; its letters and digits do not.
pub(super) fn squeezed(anchor: &str) -> String {
    anchor.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The known name that is at most two letters, or a third of it, away.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let distances = known.iter().map(|one| (distance(name, one), *one));
    distances.min().filter(|(distance, one)| *distance <= (one.chars().count() / 3).clamp(1, 4)).map(|(_, one)| one)
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(80).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().take(80).enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let next = (before + usize::from(left != *right)).min(row[j] + 1).min(row[j + 1] + 1);
            before = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}
