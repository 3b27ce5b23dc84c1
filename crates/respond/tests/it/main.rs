//! The incident stage from outside: alerts and commands in, incidents out.

#![allow(clippy::unwrap_used, reason = "tests")]

mod alerts;
mod commands;
mod desk;
mod lifecycle;
mod random;
mod records;
mod runs;
mod script;
mod timers;
mod transition;
