//! Integration tests of the collectors, one binary for all.
#![allow(clippy::unwrap_used, reason = "tests")]

mod reference;
mod transcript;
