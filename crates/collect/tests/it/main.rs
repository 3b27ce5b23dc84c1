//! Integration tests of the collectors, one binary for all.
#![allow(clippy::unwrap_used, reason = "tests")]

mod exposition;
mod hook;
mod hostile;
mod liveness;
mod log;
mod log_tail;
mod otlp;
mod prometheus;
mod recorder;
mod reference;
mod scrape;
mod stream_json;
mod tail;
mod transcript;
