//! The server's parts that can be looked at without starting one.

#![allow(clippy::unwrap_used, reason = "tests")]

mod actions;
mod analysis;
mod intake;
mod settings;
