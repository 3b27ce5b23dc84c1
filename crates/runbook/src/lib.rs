//! Runbooks: a team's Markdown, read as what it says, what it would run, and how dangerous that is.
//!
//! **Takes** Markdown as people write it for people. **Gives** sections, causes, checklists and steps, each step with what
//! it would do (read, write, destroy, wait for a person, never end) and what is wrong or dangerous in it. **Never** runs
//! anything, and never takes a command for harmless because it does not know it.
//!
//! Start reading at [`document`], then [`parse`](mod@parse) and [`classify`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod attributes;
mod front;
mod outline;

pub mod brake;
pub mod classify;
pub mod document;
pub mod execute;
pub mod gate;
pub mod library;
pub mod lint;
pub mod outcome;
pub mod parse;
pub mod plan;
pub mod predicate;
pub mod render;
pub mod shell;

pub use attributes::Attributes;
pub use document::{Cause, Check, CommandLine, Document, Executor, Runbook, SectionKind, Step};
pub use front::{FrontMatter, Input, Limits};
pub use lint::{Finding, lint};
pub use parse::parse;
