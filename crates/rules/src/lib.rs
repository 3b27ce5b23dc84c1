//! Alerting and recording rules: Prometheus rule files, their evaluation, and the rule pack.
//!
//! **Takes** rule files and a source of query answers. **Gives** recorded samples, alert changes, and the state of every rule. **Never** fires an alert that Prometheus 3 would not.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod file;
pub mod problem;

mod names;
mod reader;
mod template;
mod yaml;

pub use file::{Checked, Group, Rule, RuleFile, RuleKind, check, parse};
pub use problem::{Level, Problem};
