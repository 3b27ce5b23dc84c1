//! Following the journal without a gap.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::broadcast::{self, error::RecvError};

use crate::entry::Entry;
use crate::error::JournalError;
use crate::journal::Journal;
use crate::limit;

/// Every entry after a position exactly once and in order: first those that are there, then the new ones as they
/// become durable. One that lags behind the broadcast, or finds a gap in it, reads again.
pub struct Tail {
    journal: Arc<dyn Journal>,
    news: broadcast::Receiver<Arc<Vec<Entry>>>,
    position: u64,
    ready: VecDeque<Entry>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There may be entries that the broadcast will not tell us: read until a page is empty.
    Reading,
    Waiting,
    /// Nothing more will be broadcast; what is there is still read.
    Closing,
}

impl Tail {
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, after: u64) -> Self {
        // Subscribed before the first read, so nothing falls between the two.
        let news = journal.subscribe();
        Self { journal, news, position: after, ready: VecDeque::new(), state: State::Reading }
    }

    /// The last entry that was given.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// The next entry, waiting for it; `None` when the journal was closed. A call that is dropped loses nothing.
    pub async fn next(&mut self) -> Result<Option<Entry>, JournalError> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                self.position = entry.seq;
                return Ok(Some(entry));
            }
            if self.state != State::Waiting {
                match self.journal.read(self.position, limit::READ_ENTRIES_MAX).await {
                    Ok(page) if !page.is_empty() => self.ready.extend(page),
                    Ok(_) if self.state == State::Closing => return Ok(None),
                    Ok(_) => self.state = State::Waiting,
                    Err(JournalError::Closed { .. }) => return Ok(None),
                    Err(error) => return Err(error),
                }
                continue;
            }
            match self.news.recv().await {
                Ok(entries) => self.take(&entries),
                Err(RecvError::Lagged(_)) => self.state = State::Reading,
                Err(RecvError::Closed) => self.state = State::Closing,
            }
        }
    }

    fn take(&mut self, entries: &[Entry]) {
        let unseen = entries.iter().skip_while(|entry| entry.seq <= self.position);
        match unseen.clone().next() {
            // Another process wrote in between.
            Some(first) if first.seq != self.position + 1 => self.state = State::Reading,
            _ => self.ready.extend(unseen.cloned()),
        }
    }
}
