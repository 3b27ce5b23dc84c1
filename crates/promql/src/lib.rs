//! The query language of Prometheus 3: from an expression and a store of samples to an answer.
//!
//! **Takes** an expression as text, a range of time, and a [`Storage`] that selects series by their labels. **Gives** a
//! scalar, a string, an instant vector or a matrix, together with the annotations (warnings and infos) that Prometheus
//! would give. **Never** reads a clock except to keep a query's deadline, never writes a sample, never keeps anything
//! between queries.
//!
//! A range query is evaluated for all its steps at once: each selected series is walked once, windows slide over its
//! samples, and labels are matched once per series rather than once per step. An instant query is a range of one step.
//!
//! The language is the stable one; what is experimental is refused by name, unless [`Options::experimental`] is set.
//! The names of metrics are dropped at the end of a query (as with Prometheus's delayed name removal).
//!
//! Start reading at [`Engine`], then [`parse`](mod@parse) and the evaluation in `eval`. The [`script`] module runs files in
//! the test language of the Prometheus project.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod parse;

mod engine;
mod eval;

pub mod annotations;
pub mod error;
pub mod histogram;
pub mod labels;
pub mod number;
pub mod storage;

mod time;

pub mod script;

pub use annotations::{Annotation, Annotations, Level};
pub use engine::{Answer, Engine, InstantSample, MatrixSeries, Options, Point, Range, Value};
pub use error::{ParseError, QueryError, StorageError};
pub use histogram::Histogram;
pub use labels::{Label, Labels, Matcher};
pub use script::{Failure, FileReport, run_test_file};
pub use storage::{MemoryStorage, Need, SampleValue, Samples, Storage, StoredSeries, Visitor};
