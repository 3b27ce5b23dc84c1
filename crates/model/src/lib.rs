//! The words of Paramedic: agents, signals, alerts, incidents, severities and time.
//!
//! **Takes** nothing from outside. **Gives** the types that every other crate speaks in: [`Event`] (what came
//! in), [`AlertChange`] (what a detector concluded), [`Severity`], [`IncidentType`], identifiers, [`Timestamp`]
//! and the [`Clock`] seam. **Never** does I/O, never awaits, never reads the wall clock outside [`time`].
//!
//! Start reading at [`event`]: one event is one thing that happened to one agent, whoever told us about it.

pub mod time;

pub mod id;

pub mod event;

pub mod usage;

pub mod alert;

pub mod severity;

pub mod incident;

pub mod secret;

pub mod target;

pub mod text;

pub mod limit;

pub mod switch;

pub use alert::{AlertChange, AlertState, Evidence, Fingerprint, RuleAlert};
pub use event::{ApiErrorClass, Event, Fact, Level, Source, Temporality, ToolOutcome, WaitReason};
pub use id::{AgentId, SessionId};
pub use incident::{IncidentId, IncidentKind, IncidentState, IncidentType, MitigatedBy, Moment, Phase, Role};
pub use severity::Severity;
pub use switch::{Scope, Switch};
pub use target::{Target, TargetHealth, TargetKind};
pub use time::{Clock, ManualClock, SystemClock, Timestamp};
pub use usage::Usage;
