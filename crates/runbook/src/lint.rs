//! What is dangerous, wrong or unfinished in a runbook, with the safer form.
//!
//! A rule looks at one command line, at a step, or at a document, and says nothing, or why somebody would be sorry. What exists
//! outside (actions, metrics, alerts, files) comes in as [`Known`]; what nobody told is not judged.

mod catalogue;
mod commands;
mod known;
mod surroundings;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::document::{CommandLine, Document, Executor, SectionKind, Step};

pub use catalogue::{RULES, Rule};
pub use known::{Known, KnownAction, lint_alerts};
pub(crate) use surroundings::input_name;

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
    /// The command line or text it is about; empty for the document itself. Secrets are masked.
    pub text: String,
    pub why: String,
    /// The safer form; empty where there is none to give.
    pub instead: String,
}

/// What a rule says.
pub(crate) struct Saying {
    why: String,
    instead: String,
}

impl Finding {
    /// A finding with the weight of its rule.
    pub(crate) fn new(rule: &str, line: usize, text: &str, why: impl Into<String>, instead: impl Into<String>) -> Self {
        Self {
            rule: rule.to_owned(),
            weight: catalogue::weight(rule),
            line,
            text: paramedic_model::secret::mask(text).into_owned(),
            why: why.into(),
            instead: instead.into(),
        }
    }
}

/// All findings, in the order of lines.
#[must_use]
pub fn lint(document: &Document) -> Vec<Finding> {
    lint_with(document, &Known::default())
}

/// All findings, in the order of lines, with what is known of the world outside.
#[must_use]
pub fn lint_with(document: &Document, known: &Known) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        document.problems.iter().map(|problem| Finding::new("unreadable", problem.line, "", problem.what.clone(), "")).collect();
    for runbook in &document.runbooks {
        for step in &runbook.steps {
            for command in &step.commands {
                findings.extend(about_command(step, command));
            }
            findings.extend(surroundings::blanks(runbook, step, document));
            findings.extend(surroundings::about_step(step));
            findings.extend(known::about_step(step, known));
        }
        findings.extend(surroundings::without_verification(runbook));
        findings.extend(surroundings::unreadable_parts(runbook));
        findings.extend(known::unknown_alerts(runbook, known));
    }
    findings.extend(about_the_text(document));
    findings.extend(surroundings::dead_links(document));
    findings.extend(known::dead_files(document, known));
    findings.sort_by(|a, b| (a.line, &a.rule, &a.text).cmp(&(b.line, &b.rule, &b.text)));
    findings.dedup();
    findings
}

fn about_command(step: &Step, command: &CommandLine) -> Vec<Finding> {
    let look = commands::Look::new(step, command);
    let said = commands::ALL.iter().filter_map(|(rule, judge)| Some((*rule, judge(&look)?)));
    said.map(|(rule, saying)| Finding::new(rule, command.line, &command.text, saying.why, saying.instead)).collect()
}

/// Commands and secrets outside of steps. People read them and type them, so their dangers count too.
fn about_the_text(document: &Document) -> Vec<Finding> {
    let mut findings = Vec::new();
    for command in &document.loose {
        let step = Step { executor: Executor::Sh, section: SectionKind::Other, ..Step::default() };
        let said = about_command(&step, command);
        findings.extend(said.into_iter().filter(|finding| finding.weight > Weight::Note && finding.rule != "waits-for-a-person"));
        let why = "a command in the text is no step: nobody can run it from here, and nothing watches what it does";
        findings.push(Finding::new("command-in-the-text", command.line, &command.text, why, "a block of its own: ```bash"));
    }
    let told: Vec<usize> =
        document.runbooks.iter().flat_map(|one| &one.steps).flat_map(|step| &step.commands).map(|one| one.line).collect();
    for line in document.secrets.iter().filter(|line| !told.contains(line) && !document.loose.iter().any(|one| one.line == **line)) {
        let why = "something on this line looks like a secret: whoever reads the runbook has it";
        findings.push(Finding::new(
            "secret-in-the-open",
            *line,
            "",
            why,
            "an input of type secret, and the secret changed, since it was here",
        ));
    }
    findings
}
