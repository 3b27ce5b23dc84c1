//! The contract that every journal store keeps.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use paramedic_model::Timestamp;
use tokio::sync::broadcast;

use crate::entry::{Draft, Entry};
use crate::error::JournalError;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A fold's state and the entry that it stands on.
pub type Snapshot = (u64, Vec<u8>);

/// What the caller believes about the journal; the append is refused when it is not so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Append whatever is there.
    Any,
    /// The last entry of the journal is this one (0: the journal is empty).
    Head(u64),
    /// The last entry about the drafts' subject is this one (0: there is none yet). All drafts have one subject.
    Subject(u64),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any position"),
            Self::Head(seq) => write!(f, "entry {seq} to be the last of the journal"),
            Self::Subject(seq) => write!(f, "entry {seq} to be the last about its subject"),
        }
    }
}

/// An append-only sequence of entries in one order for everybody. Object safe: it is shared as `Arc<dyn Journal>`.
pub trait Journal: Send + Sync {
    /// Appends all drafts, next to one another, or none. Resolves only when they are durable.
    ///
    /// No drafts: nothing is checked and nothing is written. A caller that stops waiting does not know whether its
    /// entries were written; one that needs to know states its expectation and tries again.
    fn append(&self, drafts: Vec<Draft>, expected: Expected) -> BoxFuture<'_, Result<Vec<Entry>, JournalError>>;

    /// Entries after `after`, in order. Fewer than `limit` does not mean the end, because a page is bounded in
    /// bytes too; an empty page does.
    fn read(&self, after: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Entry>, JournalError>>;

    /// As [`read`](Self::read), only entries about `subject`.
    fn read_subject(&self, subject: &str, after: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Entry>, JournalError>>;

    /// The number of the last entry, 0 when there is none.
    fn head(&self) -> BoxFuture<'_, Result<u64, JournalError>>;

    /// Entries from now on, each after it is durable, in order. A receiver that lags loses some: use
    /// [`Tail`](crate::Tail), which reads them again.
    fn subscribe(&self) -> broadcast::Receiver<Arc<Vec<Entry>>>;

    /// Keeps the state of a fold at entry `seq`. It is a cache: losing it costs time, never truth.
    fn save_snapshot(&self, name: &str, version: u32, seq: u64, bytes: Vec<u8>) -> BoxFuture<'_, Result<(), JournalError>>;

    /// The snapshot of exactly this version, if there is one and it is whole.
    fn load_snapshot(&self, name: &str, version: u32) -> BoxFuture<'_, Result<Option<Snapshot>, JournalError>>;

    /// Takes or renews the lease `name` for `ttl`; `false` when another holder has it.
    ///
    /// A wall clock that steps back does not lengthen a lease: seen before the moment it was granted, a lease
    /// ends at the latest its own ttl from now. One that jumps ahead can end a lease early, so what a holder
    /// writes must state its expectation.
    fn acquire_lease(&self, name: &str, holder: &str, now: Timestamp, ttl: Duration) -> BoxFuture<'_, Result<bool, JournalError>>;

    /// Gives the lease back; `false` when `holder` did not have it.
    fn release_lease(&self, name: &str, holder: &str) -> BoxFuture<'_, Result<bool, JournalError>>;
}
