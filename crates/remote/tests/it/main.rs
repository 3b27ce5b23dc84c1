//! The wire as other programs meet it: bodies from outside, real stores, outages.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bodies;
mod forward;
mod fuzzed;
mod programs;
mod queries;
mod receive;
mod wire;
