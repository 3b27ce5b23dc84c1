//! The test language of the Prometheus project: load series, evaluate, compare.
//!
//! A file is a list of commands. `load STEP` is followed by series with their points, `clear` forgets them, and `eval` gives
//! an expression, a moment or a range, and what is expected. Every instant evaluation is repeated with all its selectors
//! pinned to that moment, and as the middle step of a range.

mod command;
mod compare;
mod points;
mod run;

pub use points::{SequenceValue, parse_points};
pub use run::{Failure, FileReport, run_test_file};

pub(crate) use points::parse_series;
