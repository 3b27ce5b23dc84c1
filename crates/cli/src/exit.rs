//! Exit codes, a documented contract for scripts.

use std::fmt;
use std::process::ExitCode;

/// How a verb ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: done, and nothing is wrong.
    Done,
    /// 1: it did not work; the message says why. (2 is clap's: the command line itself is wrong.)
    Failed,
    /// 3: no running instance could be reached, and the verb needs one.
    Unreachable,
    /// 4: what was asked for does not exist.
    NotFound,
    /// 5: the check ran, and found something wrong (`doctor`, `journal verify`).
    FoundProblems,
    /// 6: the request was understood and refused (an illegal move of an incident, say).
    Refused,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Unreachable => 3,
            Exit::NotFound => 4,
            Exit::FoundProblems => 5,
            Exit::Refused => 6,
        })
    }
}

/// An error that knows its exit code and what to do next.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) what: String,
    pub(crate) hint: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit, what: what.into(), hint: hint.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

/// What, detail, hint: one renderer for every error.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if error.is::<crate::show::OutputClosed>() {
        return Exit::Done.into();
    }
    let failure = error.downcast_ref::<Failure>();
    message(&format!("error: {}", paramedic_model::text::one_line(&error.to_string())));
    for cause in error.chain().skip(1) {
        message(&format!("  because: {}", paramedic_model::text::one_line(&cause.to_string())));
    }
    if let Some(hint) = failure.map(|failure| &failure.hint).filter(|hint| !hint.is_empty()) {
        message(&format!("  hint: {hint}"));
    }
    failure.map_or(Exit::Failed, |failure| failure.exit).into()
}

/// A line for the person, on standard error.
#[expect(clippy::print_stderr, reason = "the one place that talks to the person")]
pub(crate) fn message(line: &str) {
    eprintln!("{line}");
}
