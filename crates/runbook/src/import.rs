//! Our file from a plain one: what a person would do by hand before a runbook can run unattended.
//!
//! **Takes** a team's Markdown. **Gives** the same text with a front matter, with a block for each step that says how it runs,
//! with placeholders that somebody is asked for, and with what never ends bounded; and each change with its reason. **Never**
//! changes a word of prose or what a command does, and never touches a block that already has attributes: what was imported once
//! comes out as it went in.

mod blocks;
mod difference;
mod front;
mod safer;

use schemars::JsonSchema;
use serde::Serialize;

use crate::lint::{Finding, lint};

pub use difference::difference;
pub(crate) use safer::bounded;

/// Longest text that is worked on, in bytes.
const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A pass may show what the next one can improve; more than this is a text that does not settle.
const PASSES_MAX: usize = 4;

/// A file as it could be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Imported {
    pub text: String,
    pub changes: Vec<Change>,
    /// What lint still says of the new text; lines are those of the new text.
    pub findings_left: Vec<Finding>,
}

/// One thing that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Change {
    /// The line of the text that was given.
    pub line: usize,
    pub what: String,
    pub why: String,
}

/// Makes our file of a plain one.
#[must_use]
pub fn import(text: &str, file: &str) -> Imported {
    let mut imported = Imported { text: text.to_owned(), ..Imported::default() };
    if text.len() <= TEXT_BYTES_MAX {
        for pass in 0..PASSES_MAX {
            let (next, changes) = once(&imported.text, file);
            // Later passes speak of lines that the reader has never seen; what they do follows from the first.
            if pass == 0 {
                imported.changes = changes;
            }
            if next == imported.text {
                break;
            }
            if pass + 1 == PASSES_MAX {
                imported = Imported { text: text.to_owned(), ..Imported::default() };
                break;
            }
            imported.text = next;
        }
    }
    imported.findings_left = lint(&crate::parse(&imported.text, file));
    imported
}

fn once(text: &str, file: &str) -> (String, Vec<Change>) {
    let mut changes = Vec::new();
    let body = blocks::rewrite(text, &mut changes);
    let whole = front::complete(&body, file, &mut changes);
    changes.sort_by_key(|change| change.line);
    (whole, changes)
}

impl Change {
    fn new(line: usize, what: impl Into<String>, why: impl Into<String>) -> Self {
        let what = paramedic_model::secret::mask(&what.into()).into_owned();
        Self { line, what, why: why.into() }
    }
}
