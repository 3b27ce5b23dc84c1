//! Runbooks: a team's Markdown, read as what it says, what it would run, and how dangerous that is.
//!
//! **Takes** Markdown as people write it for people, inputs, and what people and policies allow. **Gives** sections, causes,
//! checklists and steps, each step with what it would do and what is dangerous in it; a plan of what would run; and runs,
//! step by step, as records that a journal keeps. **Never** takes a command for harmless because it does not know it, never
//! makes a value part of a program's text, and never runs what was not decided on and could not be written down first.
//!
//! Start reading at [`document`], then [`parse`](mod@parse) and [`classify`]. What runs: [`plan`](mod@plan) says what,
//! [`gate`] and [`brake`] whether, [`run`] in which order, [`execute`] how. All runs of an instance lie on one [`desk`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod attributes;
mod front;
mod outline;

pub mod brake;
pub mod classify;
pub mod config;
pub mod desk;
pub mod document;
pub mod execute;
pub mod gate;
pub mod import;
pub mod library;
pub mod lint;
pub mod metrics;
pub mod outcome;
pub mod parse;
pub mod plan;
pub mod predicate;
pub mod render;
pub mod run;
pub mod shelf;
pub mod shell;

pub use attributes::Attributes;
pub use config::Settings;
pub use desk::{DeskError, RunDesk};
pub use document::{Cause, Check, CommandLine, Document, Executor, Runbook, SectionKind, Step};
pub use front::{FrontMatter, Input, Limits};
pub use lint::{Finding, lint};
pub use parse::parse;
pub use shelf::Shelf;
