//! The store of samples: time series of floats and native histograms, found by their labels.
//!
//! **Takes** samples: a label set (or a [`SeriesRef`] that stands for one), a time in milliseconds, and a float or a native
//! histogram. **Gives** the series that pass a list of matchers with their samples between two times ([`Samples::select`],
//! and [`paramedic_promql::Storage`] for the query engine), the names and values of labels, and metadata of metrics.
//! **Never** changes a value (staleness markers, other NaNs and `-0.0` keep their bits), never keeps exemplars, never
//! touches a counter's resets, and never takes more series, labels or bytes than its settings allow.
//!
//! Recent samples are in memory in compressed chunks, found through an inverted index. Every append is in the write-ahead
//! log before it is in memory. Upkeep moves blocks of two hours that have passed to partitions (SQLite files that a person
//! can open), saves the memory as a whole and begins the log anew, and drops partitions by age and by size.
//!
//! What survives: an acknowledged append survives the death of the process at any moment (`SIGKILL` included); a power loss
//! may take what came in the last `fsync_interval_ms`.
//!
//! Start reading at [`store`], then `series` (what becomes of a sample), `head`, `index` and `checkpoint`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
pub mod error;
pub mod metrics;
pub mod sink;
pub mod store;

mod append;
mod limits;
mod select;
mod upkeep;

mod chunk;
mod head;
mod index;
mod selections;
mod series;
mod swap;

mod checkpoint;
mod partition;
mod partitions;
mod record;
mod wal;

mod bits;
mod crc;

pub use append::{AppendReport, Key, Sample};
pub use checkpoint::{Damage, Recovery};
pub use config::Settings;
pub use error::{Limit, LimitHit, SamplesError};
pub use head::SeriesRef;
pub use limits::Offender;
pub use metrics::{Metrics, Refusal};
pub use sink::SampleSink;
pub use store::{Metadata, Samples, Stats};
