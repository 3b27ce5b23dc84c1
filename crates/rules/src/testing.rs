//! Unit tests of rules, in the files that promtool takes.
//!
//! The verdict is promtool's wherever the second and the third generation of Prometheus agree; where they do not (ranges are
//! open on the left since the third), it is that of the third.

mod read;
mod run;
mod series;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use crate::file::{Group, check};
use crate::thresholds;

/// What the tests of one file came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TestReport {
    pub file: String,
    /// Groups of tests that passed.
    pub passed: usize,
    pub failed: usize,
    /// Why the tests could not be run at all.
    pub errors: Vec<String>,
    pub failures: Vec<Failure>,
}

/// One expectation that was not met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Failure {
    /// The name of the group of tests, or empty.
    pub test: String,
    /// Which alert or expression, and when.
    pub what: String,
    pub expected: Vec<String>,
    pub got: Vec<String>,
    /// What went wrong, where nothing could be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Failure {
    fn plain(test: &str, message: String) -> Self {
        Self { test: test.to_owned(), what: String::new(), expected: Vec::new(), got: Vec::new(), message: Some(message) }
    }
}

impl TestReport {
    pub fn is_success(&self) -> bool {
        self.errors.is_empty() && self.failures.is_empty()
    }
}

impl fmt::Display for TestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Unit Testing:  {}", self.file)?;
        if self.is_success() {
            return writeln!(f, "  SUCCESS");
        }
        writeln!(f, "  FAILED:")?;
        for error in &self.errors {
            writeln!(f, "    {error}")?;
        }
        for failure in &self.failures {
            write!(f, "{failure}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.test.is_empty() {
            writeln!(f, "    name: {},", self.test)?;
        }
        if let Some(message) = &self.message {
            let comma = if self.what.is_empty() { "" } else { ", err: " };
            return writeln!(f, "    {}{comma}{message}", self.what);
        }
        writeln!(f, "    {},", self.what)?;
        let missing = |lines: &[String], others: &[String]| lines.iter().filter(|line| !others.contains(line)).count();
        for (word, lines, others, mark) in [("exp", &self.expected, &self.got, '-'), ("got", &self.got, &self.expected, '+')] {
            if lines.is_empty() {
                writeln!(f, "        {word}: []")?;
                continue;
            }
            writeln!(f, "        {word}: ({} of {} differ)", missing(lines, others), lines.len())?;
            for line in lines {
                writeln!(f, "          {} {line}", if others.contains(line) { ' ' } else { mark })?;
            }
        }
        Ok(())
    }
}

/// Runs the tests of one file.
pub fn test_file(path: &Path) -> TestReport {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => test_text(&text, &name, path.parent().unwrap_or(Path::new(""))),
        Err(err) => TestReport { file: name, errors: vec![err.to_string()], ..TestReport::default() },
    }
}

/// Runs the tests of a text whose rule files are named relative to a folder.
pub fn test_text(text: &str, name: &str, folder: &Path) -> TestReport {
    let mut report = TestReport { file: name.to_owned(), ..TestReport::default() };
    let file = match read::read(text, name) {
        Ok(file) => file,
        Err(problems) => {
            report.errors = problems.iter().map(ToString::to_string).collect();
            return report;
        }
    };
    let groups = match rule_groups(&file.rule_files, folder) {
        Ok(groups) => groups,
        Err(errors) => {
            report.errors = errors;
            return report;
        }
    };
    for test in &file.tests {
        let failures = run::run(&file, test, &groups);
        if failures.is_empty() {
            report.passed += 1
        } else {
            report.failed += 1
        }
        report.failures.extend(failures);
    }
    report
}

/// The groups of the rule files that a test names.
fn rule_groups(patterns: &[PathBuf], folder: &Path) -> Result<Vec<(String, Group)>, Vec<String>> {
    let (mut groups, mut errors) = (Vec::new(), Vec::new());
    for pattern in patterns {
        let path = folder.join(pattern);
        // A file that is named but is not there is passed over with a warning by promtool; here it is an error.
        let found = match crate::paths::expand(&path.display().to_string()) {
            Ok(found) => found,
            Err(message) => {
                errors.push(format!("{}: {message}", path.display()));
                continue;
            }
        };
        for path in found {
            let name = path.display().to_string();
            match std::fs::read_to_string(&path) {
                Ok(text) => {
                    // Places for thresholds are only in embedded files, and have their defaults here.
                    let checked = check(&thresholds::fill(&text, &BTreeMap::new()), &name);
                    errors.extend(checked.errors().map(ToString::to_string));
                    groups.extend(checked.file.into_iter().flat_map(|file| file.groups).map(|group| (name.clone(), group)));
                }
                Err(err) => errors.push(format!("{name}: {err}")),
            }
        }
    }
    if errors.is_empty() { Ok(groups) } else { Err(errors) }
}
