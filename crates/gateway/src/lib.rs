//! The way of every model call: passed on unchanged, observed, and held back where a switch says so.
//!
//! **Takes** calls of the Messages API, the switches that hold, prices and settings. **Gives** the upstream's answer byte
//! for byte, one [`Record`] of each call, budgets, breakers and limits as they stand, metrics. **Never** parses a body in
//! order to write it anew (a mitigation changes its own bytes only), never keeps or logs a key or a prompt, and never
//! stops a call because something of its own failed: only a switch that is known stops one.
//!
//! Start reading at [`call`] (what is known of a call), then [`policy`] (which switches are for it).

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod call;

pub mod identity;

pub mod policy;

pub mod body;

pub mod answer;

pub mod limit;

pub mod retry;

pub mod breaker;

pub mod budget;

pub mod refuse;

pub mod proxy;

pub mod fault;

pub mod traffic;

pub mod observe;

pub mod degraded;

pub mod diagnosis;

pub mod latency;

pub mod config;

pub mod gateway;

pub mod from_redis;

mod flow;

mod price;

pub use call::{Acted, Caller, Kind, Outcome, Pricing, Record};
pub use config::Settings;
pub use gateway::{Gateway, GatewayError, Parts};
