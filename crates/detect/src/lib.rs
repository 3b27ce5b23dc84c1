//! Detectors: from events to alerts.
//!
//! **Takes** events of agents, each told once, in time order per agent. **Gives** [`AlertChange`]s: a condition began,
//! changed or ended, with its onset, its reason and its evidence. **Never** reads a clock, does I/O, or looks at one
//! agent to decide about another: the same events give the same alerts, live or from a record, however agents interleave.
//!
//! Start reading at [`catalogue`]: the list of all detectors. Each is one file in `detector/` with the same shape: a
//! state, a description and `observe`. What they share about an agent (its turn, its last calls) is in `course`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod config;

pub mod catalogue;

mod detector;

mod course;

mod alert;

mod detectors;

mod error;

mod metrics;

mod say;

pub use catalogue::{CATALOGUE, DetectorInfo};
pub use config::Settings;
pub use detectors::Detectors;
pub use error::DetectError;
pub use metrics::Metrics;
pub use paramedic_model::AlertChange;
