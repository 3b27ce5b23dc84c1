//! Where receivers hand events to.
//!
//! **Takes** batches of events from a receiver. **Gives** back-pressure: the receiver waits until the batch is
//! taken, and tells its sender to come back later when it is not. **Never** drops a batch silently.

use std::future::Future;
use std::pin::Pin;

use paramedic_model::Event;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The next stage, seen from a receiver.
pub trait Sink: Send + Sync {
    /// Resolves when the events are durable, or says why they could not be taken. A batch is taken whole or not at
    /// all, so that a sender may send it again.
    fn accept(&self, events: Vec<Event>) -> BoxFuture<'_, Result<(), SinkError>>;
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The queue is full: the sender shall try again in a moment.
    #[error("take the events: the queue is full")]
    Busy,
    /// The store cannot write (disk full, read-only, shutting down).
    #[error("take the events: {0}")]
    Unavailable(String),
}
