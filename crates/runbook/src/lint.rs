//! What is dangerous, wrong or unfinished in a runbook, with the safer form.
//!
//! Each rule looks at one command line and says nothing, or why somebody would be sorry. Facts about other software name the
//! version since which they hold.

mod rules;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::classify::Effect;
use crate::document::{CommandLine, Document, Executor, Runbook, SectionKind, Step};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// Worth knowing.
    Note,
    /// Will bite some day.
    Warning,
    /// Does harm, or cannot work as written.
    Error,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The rule's name: `redis-keys`, `never-ends` …
    pub rule: String,
    pub weight: Weight,
    pub line: usize,
    /// The command line or text it is about; empty for the document itself.
    pub text: String,
    pub why: String,
    /// The safer form; empty where there is none to give.
    pub instead: String,
}

/// What a rule says about one command line.
pub(crate) struct Saying {
    weight: Weight,
    why: String,
    instead: String,
}

/// What a rule looks at.
pub(crate) struct Look<'a> {
    step: &'a Step,
    command: &'a CommandLine,
    /// The command line in one line, in lower case, blanks made one.
    text: String,
}

/// All findings, in the order of lines.
#[must_use]
pub fn lint(document: &Document) -> Vec<Finding> {
    let mut findings: Vec<Finding> = document
        .problems
        .iter()
        .map(|problem| Finding {
            rule: "unreadable".to_owned(),
            weight: Weight::Error,
            line: problem.line,
            text: String::new(),
            why: problem.what.clone(),
            instead: String::new(),
        })
        .collect();
    for runbook in &document.runbooks {
        for step in &runbook.steps {
            for command in &step.commands {
                let text = command.text.replace("\\\n", " ").split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase();
                let look = Look { step, command, text };
                for (rule, judge) in rules::ALL {
                    if let Some(saying) = judge(&look) {
                        findings.push(finding(rule, command, saying));
                    }
                }
                findings.extend(blanks(command, &document.inputs));
            }
        }
        findings.extend(without_verification(runbook));
    }
    findings.extend(dead_links(document));
    findings.sort_by(|a, b| (a.line, &a.rule).cmp(&(b.line, &b.rule)));
    findings
}

fn finding(rule: &str, command: &CommandLine, saying: Saying) -> Finding {
    Finding {
        rule: rule.to_owned(),
        weight: saying.weight,
        line: command.line,
        text: command.text.clone(),
        why: saying.why,
        instead: saying.instead,
    }
}

/// Placeholders that nobody is asked for.
fn blanks(command: &CommandLine, inputs: &BTreeSet<String>) -> Option<Finding> {
    let missing: Vec<&str> = command.verdict.placeholders.iter().map(String::as_str).filter(|name| !inputs.contains(*name)).collect();
    let first = missing.first()?;
    let saying = Saying {
        weight: Weight::Warning,
        why: format!("{} has to be filled in, and no input asks for it", missing.join(", ")),
        instead: format!(
            "name it in the front matter: inputs: {{ {first}: {{ pattern: \"^[a-z0-9-]+$\", required: true }} }}, and write ${first}"
        ),
    };
    Some(finding("blank-without-input", command, saying))
}

/// A runbook that changes things and never looks whether it helped.
fn without_verification(runbook: &Runbook) -> Option<Finding> {
    let writes = runbook.steps.iter().find(|step| step.commands.iter().any(|command| command.verdict.effect > Effect::Read))?;
    let looks = runbook.sections.iter().any(|section| section.kind == SectionKind::Verification)
        || runbook.steps.iter().any(|step| step.attributes.contains_key("verify"))
        || runbook.steps.iter().any(|step| ["verify", "confirm"].iter().any(|word| step.title.to_ascii_lowercase().contains(word)));
    (!looks).then(|| Finding {
        rule: "no-verification".to_owned(),
        weight: Weight::Note,
        line: runbook.line,
        text: runbook.title.clone(),
        why: format!("it changes something (line {}) and no step looks whether that helped", writes.line),
        instead: "a section `## Verification`, or verify=\"...\" on the step".to_owned(),
    })
}

/// Links to headings of the document itself that are not there.
fn dead_links(document: &Document) -> Vec<Finding> {
    let own = document.links.iter().filter_map(|link| Some((link.line, link.target.strip_prefix('#')?)));
    own.filter(|(_, anchor)| !document.anchors.contains(*anchor))
        .map(|(line, anchor)| Finding {
            rule: "dead-link".to_owned(),
            weight: Weight::Warning,
            line,
            text: format!("#{anchor}"),
            why: "no heading of this document has that name".to_owned(),
            instead: String::new(),
        })
        .collect()
}

impl Look<'_> {
    fn says(&self, text: &str) -> bool {
        self.text.contains(text)
    }

    fn is_shell(&self) -> bool {
        self.step.executor == Executor::Sh
    }
}
