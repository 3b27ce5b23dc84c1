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

pub mod classify;
pub mod document;
pub mod library;
pub mod lint;
pub mod parse;
pub mod shell;

pub use attributes::Attributes;
pub use document::{Cause, Check, CommandLine, Document, Executor, Runbook, SectionKind, Step};
pub use front::FrontMatter;
pub use lint::{Finding, lint};
pub use parse::parse;
