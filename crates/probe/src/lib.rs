//! Probes of the things agents depend on: host, processes, PostgreSQL, Redis, HTTP, TCP, DNS, model APIs.
//!
//! **Takes** the configured things to look at. **Gives** samples named as the usual exporters name them, and the state of
//! every target. **Never** changes what it looks at, never spends a token, never shows a password, and never lets a server
//! that does not answer hold up anything but its own target.
//!
//! A target is looked at at a fixed phase of its interval. A look has a time limit that really cuts. What it measured
//! carries the target's `job` and `instance`; with it come `up`, `probe_success` and `probe_duration_seconds`. A series that
//! a look no longer gives ends with a staleness marker, as does everything of a target that leaves the settings.
//!
//! Start reading at [`Prober`], then `plan` (settings to targets) and one of the probes, `tcp` being the shortest.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
pub mod error;
pub mod metrics;
pub mod reading;

mod plan;
mod prober;

mod host;
mod proc_files;
mod process;

mod certificate;
mod tls;
mod wire;

mod dns;
mod http;
mod model_api;
mod postgres;
mod redis;
mod tcp;

pub use config::Settings;
pub use error::ProbeError;
pub use metrics::Metrics;
pub use prober::{Look, Prober};
pub use reading::Reading;
