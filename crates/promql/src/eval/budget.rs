//! What a query may still cost.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::QueryError;

/// Samples looked at between two looks at the clock: some milliseconds at most.
const WORK_PER_CHECK: usize = 1 << 16;

/// Counts samples and watches the deadline and the cancellation.
pub(crate) struct Budget {
    used: usize,
    /// Work since the last look at the clock.
    work: Cell<usize>,
    samples_max: usize,
    deadline: Option<Instant>,
    cancel: Option<Arc<AtomicBool>>,
}

impl Budget {
    /// The one place that reads a clock: a deadline is about the time that passes, not about the time of the data.
    pub(crate) fn new(samples_max: usize, timeout: Duration, cancel: Option<Arc<AtomicBool>>) -> Self {
        Self { used: 0, work: Cell::new(0), samples_max, deadline: Instant::now().checked_add(timeout), cancel }
    }

    /// Ends the query when its time is over or its client has left.
    pub(crate) fn check(&self) -> Result<(), QueryError> {
        if self.cancel.as_ref().is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
            return Err(QueryError::Cancelled);
        }
        if self.deadline.is_some_and(|deadline| Instant::now() > deadline) {
            return Err(QueryError::Timeout);
        }
        Ok(())
    }

    /// Notes work inside of a loop, in samples looked at, and checks now and then.
    #[inline]
    pub(crate) fn spend(&self, work: usize) -> Result<(), QueryError> {
        let spent = self.work.get().saturating_add(work);
        if spent < WORK_PER_CHECK {
            self.work.set(spent);
            return Ok(());
        }
        self.work.set(0);
        self.check()
    }

    /// Counts samples that are now held in memory.
    pub(crate) fn charge(&mut self, samples: usize) -> Result<(), QueryError> {
        self.used = self.used.saturating_add(samples);
        if self.used > self.samples_max { Err(QueryError::TooManySamples) } else { Ok(()) }
    }

    pub(crate) fn peak(&self) -> usize {
        self.used
    }
}
