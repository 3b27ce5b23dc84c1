//! Steps that may fall over without the call falling with them.
//!
//! A panic in one of our own steps is a bug, and no reason to stop somebody's work: the step is left out, counted, and told
//! once a minute. A block that is known does not come through here and still blocks.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Mutex;
use std::task::Poll;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

/// One line in the log in so much time, however many calls it concerns.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// How often a step fell over.
#[derive(Debug, Default)]
pub(crate) struct Guards {
    failures: Counter,
    logged_at: Mutex<Option<Instant>>,
}

impl Guards {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Steps of a call that were left out since the gateway failed in them";
        registry.register("paramedic_gateway_guard_failures", help, self.failures.clone());
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures.get()
    }

    /// Does this step; none when it fell over.
    pub(crate) fn step<T>(&self, what: &'static str, step: impl FnOnce() -> T) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(step)) {
            Ok(done) => Some(done),
            Err(_) => self.failed(what),
        }
    }

    /// The same with a step that waits.
    pub(crate) async fn wait<F: Future>(&self, what: &'static str, step: F) -> Option<F::Output> {
        let mut step = pin!(step);
        poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| step.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(done)) => Poll::Ready(Some(done)),
            Err(_) => Poll::Ready(self.failed(what)),
        })
        .await
    }

    fn failed<T>(&self, what: &'static str) -> Option<T> {
        self.failures.inc();
        let now = Instant::now();
        // A log that falls over too is no reason to stop either.
        if let Ok(mut logged_at) = self.logged_at.try_lock()
            && logged_at.is_none_or(|at| now.duration_since(at) >= LOG_EVERY)
        {
            *logged_at = Some(now);
            tracing::error!(step = what, failures = self.failures.get(), "calls pass without a step in which the gateway failed");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_falls_over_is_left_out_and_counted() {
        let guards = Guards::default();
        assert_eq!(guards.step("one", || 1), Some(1));
        assert_eq!(guards.wait("two", async { 2 }).await, Some(2));
        assert_eq!(guards.failures(), 0);
        assert_eq!(guards.step("one", || -> u8 { panic!("as it was asked") }), None);
        let late = async {
            tokio::task::yield_now().await;
            panic!("as it was asked")
        };
        assert_eq!(guards.wait::<_>("two", late).await.map(|()| 0), None);
        assert_eq!(guards.failures(), 2);
    }
}
