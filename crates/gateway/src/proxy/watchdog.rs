//! Two limits on one timer: the time between two frames, and the time in all.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::Which;

/// Says when one of two limits is over. A frame only notes the time; the timer is looked at, and set again, when it rings.
#[derive(Debug)]
pub(super) struct Watchdog {
    between: Option<Duration>,
    until: Option<Instant>,
    seen: Instant,
    bell: Option<Pin<Box<Sleep>>>,
}

impl Watchdog {
    pub(super) fn new(between: Option<Duration>, total: Option<Duration>) -> Self {
        let now = Instant::now();
        Self { between, until: total.and_then(|total| now.checked_add(total)), seen: now, bell: None }
    }

    /// Something came.
    pub(super) fn saw(&mut self) {
        if self.between.is_some() {
            self.seen = Instant::now();
        }
    }

    fn due(&self) -> Option<(Instant, Which)> {
        let silence = self.between.and_then(|between| self.seen.checked_add(between)).map(|at| (at, Which::BetweenFrames));
        let total = self.until.map(|at| (at, Which::Total));
        silence.into_iter().chain(total).min_by_key(|(at, _)| *at)
    }

    /// Whether the time in all is over by now, though frames come and nobody waits.
    pub(super) fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Which> {
        loop {
            let Some((at, which)) = self.due() else { return Poll::Pending };
            let bell = self.bell.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            // It may ring too early, since frames came after it was set; never too late, since limits only move on.
            ready!(bell.as_mut().poll(cx));
            if at <= Instant::now() {
                return Poll::Ready(which);
            }
            bell.as_mut().reset(at);
        }
    }
}
