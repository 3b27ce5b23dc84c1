//! Limits on rates that several gateways keep together, in a store that all of them ask.
//!
//! A call asks the store when it is its turn here, so that the order among callers is kept. The store's word is for good:
//! it says how long the call waits, and counts it already. While that wait lasts the same limits let nobody else ask, so
//! what is ahead in the store is never long. A store that fails or is late is not waited for, and after some failures not
//! asked: then this gateway's own bucket alone holds, which has the same count.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::gate::Rule;
use super::metrics::Metrics;
use super::{Held, LIMITS_PER_CALL_MAX, Limiter, Load, Permit, Settings, WAIT_MAX, Want, What, Why};

/// One bucket of the store, and what is taken from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    pub bucket: u64,
    pub what: What,
    pub count_per_minute: u64,
    /// Less than zero gives back.
    pub cost: i64,
}

/// What the store says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is taken, and the call may go on after this long.
    After(Duration),
    /// Nothing is taken: it would be longer than the call may wait. Which of the buckets, and how long.
    No { which: usize, wait: Duration },
}

/// Why the store gave no answer. Completes "failed to …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ask the shared store for a limit: {0}")]
pub struct SharedFault(pub String);

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A store that several gateways ask. One question is one round trip, for all buckets of a call or none.
pub trait Shared: Send + Sync {
    fn take<'a>(&'a self, asks: &'a [Ask], wait_max: Duration) -> BoxFuture<'a, Result<Taken, SharedFault>>;
}

/// A store, and how it has done of late.
pub(super) struct Guarded {
    store: Arc<dyn Shared>,
    timeout: Duration,
    failures_max: u32,
    probe_every: Duration,
    failures: AtomicU32,
    born: Instant,
    /// Milliseconds since `born`: the next question to a store that is left alone.
    next_probe: AtomicU64,
    metrics: Metrics,
}

impl Guarded {
    pub(super) fn new(store: Arc<dyn Shared>, settings: &Settings, metrics: Metrics) -> Self {
        Self {
            store,
            timeout: Duration::from_millis(settings.shared_timeout_ms),
            failures_max: settings.shared_failures.max(1),
            probe_every: Duration::from_millis(settings.shared_probe_ms.max(1)),
            failures: AtomicU32::new(0),
            born: Instant::now(),
            next_probe: AtomicU64::new(0),
            metrics,
        }
    }

    /// The store is asked, or it is this question's turn to find out whether it is back.
    fn may_ask(&self) -> bool {
        if self.failures.load(Ordering::Relaxed) < self.failures_max {
            return true;
        }
        let now = self.now_ms();
        let next = self.next_probe.load(Ordering::Relaxed);
        let after = now + self.probe_every.as_millis() as u64;
        now >= next && self.next_probe.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn now_ms(&self) -> u64 {
        self.born.elapsed().as_millis() as u64
    }

    /// None when the store gave no answer.
    async fn ask(&self, asks: &[Ask], wait_max: Duration) -> Option<Taken> {
        if !self.may_ask() {
            self.metrics.shared_bypassed.inc();
            return None;
        }
        self.metrics.shared_asked.inc();
        if let Ok(Ok(taken)) = tokio::time::timeout(self.timeout, self.store.take(asks, wait_max)).await {
            self.failures.store(0, Ordering::Relaxed);
            self.metrics.shared_up.set(1);
            return Some(taken);
        }
        self.metrics.shared_failed.inc();
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= self.failures_max {
            self.metrics.shared_up.set(0);
            self.next_probe.store(self.now_ms() + self.probe_every.as_millis() as u64, Ordering::Relaxed);
            // It cannot grow for ever.
            self.failures.store(self.failures_max, Ordering::Relaxed);
        }
        None
    }

    /// Takes what a call needs from the store too, and waits as long as the store says.
    pub(super) async fn take(&self, limiter: &Arc<Limiter>, want: &Want, permit: &mut Permit, came: Instant) -> Result<(), Held> {
        let limits = want.limits.iter().take(LIMITS_PER_CALL_MAX);
        let limits: Vec<_> = limits.filter(|limit| !matches!(limit.what, What::Concurrent | What::ConcurrentAgents)).collect();
        if limits.is_empty() {
            return Ok(());
        }
        let ask = |what, bucket, count| Ask { bucket, what, count_per_minute: count, cost: permit.load().cost(what) as i64 };
        let asks: Vec<Ask> = limits.iter().map(|limit| ask(limit.what, limit.bucket, limit.count.max(1))).collect();
        let left = want.wait_at_most.min(WAIT_MAX).saturating_sub(came.elapsed());
        match self.ask(&asks, left).await {
            None | Some(Taken::After(Duration::ZERO)) => permit.shared = asks,
            Some(Taken::After(wait)) => {
                // Whoever is dropped while he waits here was never sent.
                permit.shared = asks;
                permit.never_sent();
                let until = Instant::now() + wait;
                close(limiter, permit, until);
                tokio::time::sleep_until(until).await;
                permit.sent();
            }
            Some(Taken::No { which, wait }) => {
                permit.never_sent();
                limiter.metrics.held.inc();
                let limit = limits.get(which).map_or_else(|| "a shared limit".into(), |limit| limit.id.clone());
                return Err(Held { limit, why: Why::TooLong, retry_after: wait, waited: came.elapsed() });
            }
        }
        Ok(())
    }

    /// Tells the store what was used in place of what was taken; nobody waits for it.
    pub(super) fn correct(&self, taken: &mut [Ask], actual: &Load) {
        let mut asks = Vec::new();
        for ask in taken {
            let cost = actual.cost(ask.what) as i64;
            let more = cost - std::mem::replace(&mut ask.cost, cost);
            if more != 0 {
                asks.push(Ask { cost: more, ..ask.clone() });
            }
        }
        if asks.is_empty() || self.failures.load(Ordering::Relaxed) >= self.failures_max {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (store, timeout) = (Arc::clone(&self.store), self.timeout);
            runtime.spawn(async move { tokio::time::timeout(timeout, store.take(&asks, WAIT_MAX)).await });
        }
    }
}

/// Nobody else goes through a call's rates, and asks the store, before this call goes on.
fn close(limiter: &Limiter, permit: &Permit, until: Instant) {
    limiter.alter(|state, _| {
        for place in permit.gates() {
            if let Rule::Rate(_, bucket) = &mut state.gate(*place).rule {
                bucket.close_until(until);
            }
        }
    });
}
