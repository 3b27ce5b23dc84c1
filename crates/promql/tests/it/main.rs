//! The language as a whole: test files, and properties that hold for any expression over any series.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod limits;
mod properties;
mod scripts;
