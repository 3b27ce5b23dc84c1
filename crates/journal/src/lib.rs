//! The journal: the append-only, hash-chained, fsynced truth.
//!
//! **Takes** [`Draft`]s: facts that must survive. **Gives** numbered, chained [`Entry`]s, after they are durable,
//! in one order for everybody; and [`verify`], which finds any entry that was altered, lost, moved or added.
//! **Never** interprets a payload, never changes or removes an entry, never reads a clock.
//!
//! Start reading at [`Journal`]: the small contract that every store keeps. [`SqliteJournal`] keeps it in one file.
//! State is a [`Fold`] over entries, [`rebuild`]t at start from a snapshot and the tail.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod journal;

mod entry;

pub mod limit;

mod error;

mod fold;

mod tail;

mod sqlite;

mod verify;

pub mod metrics;

#[cfg(feature = "contract")]
pub mod contract;

pub use entry::{Draft, Entry, Hash, Head};
pub use error::JournalError;
pub use fold::{Fold, rebuild, save_fold};
pub use journal::{BoxFuture, Expected, Journal, Snapshot};
pub use metrics::Metrics;
pub use sqlite::{FORMAT_VERSION, SqliteJournal};
pub use tail::Tail;
pub use verify::{Problem, Verification, verify, verify_against};
