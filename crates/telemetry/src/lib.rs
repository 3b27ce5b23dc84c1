//! The store of events and spans: everything the collectors told, in the order in which it arrived.
//!
//! **Takes** batches of [`paramedic_model::Event`] together with the read [`Offset`]s of the files they came from, and
//! makes both durable in one transaction. **Gives** each event a `seq` that grows for ever, [`Search`] by time, agent,
//! session, kind, level, text and correlation, and a replay of everything after a `seq`. **Never** changes an event,
//! never masks (collectors do), never decides anything about an agent, and never keeps more than its settings allow.
//!
//! The store is a folder of SQLite files that a person can open (`select * from readable`): a new file for each UTC day of
//! arrival or when the current one is full. Old data leaves by deleting whole files. Beside each file lies its index,
//! which a background thread writes, which may follow behind, and which can be deleted at any time.
//!
//! What survives: an acknowledged append survives the death of the process at any moment (`SIGKILL` included). A power
//! loss may take the last transactions (WAL with `synchronous=NORMAL`); because read offsets are committed in the same
//! transaction as the events, the lines lost that way are read again from their files.
//!
//! Start reading at [`store`], then [`writer`] (the hot path), [`index`] and [`search`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
pub mod error;
pub mod metrics;
pub mod store;

mod json;
mod partition;
mod row;
mod schema;
mod words;
mod writer;

mod index;
mod query;
mod reader;
mod tokens;

pub mod search;

pub use config::Settings;
pub use error::StoreError;
pub use metrics::Metrics;
pub use search::{Search, SearchPage};
pub use store::{Dropped, Offset, Stats, Store, StoredEvent};
