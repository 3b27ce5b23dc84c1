//! Probes against real servers, real processes and servers that misbehave.

#![allow(clippy::unwrap_used)]

mod stage;

mod host;
mod http;
mod names;
mod postgres;
mod prober;
mod process;
mod redis;
