//! Samples derived from what agents did.
//!
//! **Takes** events that are news (each with its price), changes of alerts, and every few seconds a small view of each agent.
//! **Gives** the metrics that the documented dashboards and alerts use, as samples for the store and as a
//! [`prometheus_client`] collector for a scraping Prometheus. **Never** counts a fact twice, reads a clock, lets a label value
//! through that is not masked and capped, or makes more series than its settings allow.
//!
//! Start reading at [`catalogue`]: every metric with its labels and the events it comes from; names that others use and that
//! no event can give are in [`not_derived`]. [`Meter`] decides what an event means for them, `ledger` keeps the numbers and
//! writes them. A counter's first sample is a zero one interval before its first value, so that `increase()` sees the first
//! event; what happened long before it was told (history) is not counted.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod catalogue;
pub mod config;
pub mod error;
pub mod metrics;
pub mod not_derived;
pub mod reference;

mod meter;

mod agents;
mod alerts;
mod course;
mod model_calls;

mod passing;
mod requests;
mod tools;

mod calls;
mod days;
mod names;

mod exposition;
mod ledger;
mod save;

pub use agents::{AgentGauge, ProcessGauge, QueueGauge};
pub use config::{RequestDuration, Settings};
pub use error::MeterError;
pub use exposition::Exposition;
pub use ledger::Written;
pub use meter::{Meter, Novelty};
pub use metrics::Metrics;
