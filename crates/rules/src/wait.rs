//! Waiting for a future on a thread that may block.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::Thread;
use std::time::Duration;

use crate::source::{BoxFuture, QueryFailure};

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future to its end on this thread. What it waits for (timers, sockets) must be driven by other threads.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// The same for a question, with an end to patience where there is a timer.
pub(crate) fn wait_at_most<T>(future: BoxFuture<'_, Result<T, QueryFailure>>, limit: Duration) -> Result<T, QueryFailure> {
    if tokio::runtime::Handle::try_current().is_err() {
        return wait(future);
    }
    wait(async { tokio::time::timeout(limit, future).await.unwrap_or(Err(QueryFailure::TimedOut)) })
}
