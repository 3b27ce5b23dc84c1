//! Alerting and recording rules: Prometheus rule files, their evaluation, and the rule pack.
//!
//! **Takes** rule files and a source of query answers. **Gives** recorded samples, alert changes, and the state of every
//! rule. **Never** fires an alert that Prometheus 3 would not, never tells the journal of an alert that is only pending, and
//! never reads a clock except to know when the next evaluation is due and how long one took.
//!
//! A file is read and checked as a whole ([`check`]): what has an error is not loaded, and what was loaded before stays.
//! Groups are evaluated at fixed moments, each rule after the one before it, so that a rule sees what earlier rules of its
//! group recorded for the same moment. What an evaluation does to an alert is decided in [`active`], without any I/O.
//!
//! Start reading at [`file`](mod@file), then `rules` (loading and time), `evaluate` (one evaluation), [`active`] and `restore`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;

pub mod file;
pub mod problem;

mod names;
mod paths;
mod reader;
mod template;
mod yaml;

mod live;
mod rules;

pub mod active;
pub mod change;
mod evaluate;
mod ledger;
mod ports;
pub mod restore;
pub mod source;
mod wait;

pub mod missing;
pub mod view;
pub mod why;

pub mod testing;

pub mod pack;
pub mod thresholds;

pub mod metrics;

pub use config::Settings;
pub use file::{Checked, Group, Rule, RuleFile, RuleKind, check, parse};
pub use metrics::Metrics;
pub use missing::{MissingInRule, missing_series};
pub use paths::expand as expand_paths;
pub use ports::AlertSink;
pub use problem::{Level, Problem};
pub use rules::{Loaded, Rules};
pub use source::{BoxFuture, LastSample, LocalSource, QueryFailure, QuerySource, Question, SeriesStore};
pub use testing::{TestReport, test_file, test_text};
pub use view::{AlertView, GroupView, MissingSeries, RuleHealth, RuleState, RuleView};
pub use why::{Part, PartSeries, Why};
