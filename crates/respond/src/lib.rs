//! Incidents: one problem that people respond to, opened and closed by alerts or by hand.
//!
//! **Takes** alert changes from the detectors, commands from people, what runs of runbooks tell, and the time. **Gives** journal entries (the
//! decision) and the [`Incidents`] fold over them (the state). **Never** decides with I/O in hand: [`decide`] is pure,
//! [`Desk`] is the only place that appends.
//!
//! Start reading at [`record`] (what is written), then [`incidents`] (what it adds up to), then [`decide`] (why).

pub mod config;

pub mod record;

pub mod transition;

pub mod incident;

pub mod incidents;

pub mod decide;

pub mod clocks;

pub mod command;

pub mod roles;

pub mod attachments;

pub mod runs;

pub mod checklist;

pub mod statistics;

pub mod timeline;

pub mod desk;

pub mod metrics;

pub use attachments::Attachment;
pub use checklist::{ChecklistItem, ItemState, checklist};
pub use clocks::{TimeBox, Timer, decide_timers, time_boxes};
pub use command::{Command, CommandError};
pub use config::Settings;
pub use decide::{decide_alert, decide_due};
pub use desk::{Desk, DeskError};
pub use incident::{Episode, Incident, IncidentCounts};
pub use incidents::Incidents;
pub use record::Record;
pub use runs::{RunNote, RunStage};
pub use statistics::Statistics;
pub use transition::{Refusal, next};
