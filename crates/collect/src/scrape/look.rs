//! The task of one target: wait for its time, look, tell.

use std::sync::Arc;
use std::time::Duration;

use paramedic_model::{TargetHealth, Timestamp};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::config::Job;
use super::fetch::{self, Failure};
use super::intake::{Intake, Limit, TakeError, Taken};
use super::metrics::{FailureLabels, LimitLabels};
use super::target::Planned;

/// A look that begins this soon after its time carries its time: regular times compress better and align series.
const TOLERANCE_MS: i64 = 10;

/// One target being looked at.
pub(super) struct Look {
    pub(super) inner: Arc<Inner>,
    pub(super) planned: Planned,
    pub(super) job: Arc<Job>,
    pub(super) client: Result<reqwest::Client, Failure>,
    pub(super) places: Arc<Semaphore>,
    pub(super) intake: Intake,
}

/// When the next look is due, after both the last one and now.
pub(super) fn next_due(now: i64, last: Option<i64>, phase: i64, interval: i64) -> i64 {
    let after = last.map_or(now, |last| last.max(now));
    after + interval - (after - phase).rem_euclid(interval)
}

impl Look {
    /// Looks until it is stopped; gives back what it knows about its series.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Intake {
        let (phase, interval) = (self.planned.phase_ms(), self.planned.interval_ms);
        let mut last = None;
        loop {
            let now = self.inner.clock.now().as_millis();
            let due = next_due(now, last, phase, interval);
            if let Some(last) = last {
                self.inner.metrics.missed_looks.inc_by(u64::try_from((due - last) / interval - 1).unwrap_or(0));
            }
            last = Some(due);
            let wait = Duration::from_millis(u64::try_from(due - now).unwrap_or(0));
            tokio::select! {
                () = stop.cancelled() => return self.intake,
                () = tokio::time::sleep(wait) => {}
            }
            let places = Arc::clone(&self.places);
            let place = tokio::select! {
                () = stop.cancelled() => return self.intake,
                place = places.acquire_owned() => place,
            };
            self = match self.look(due, &stop).await {
                Ok(look) => *look,
                Err(intake) => return *intake,
            };
            drop(place);
        }
    }

    /// One look; the error is that there shall be no further one.
    async fn look(mut self, due: i64, stop: &CancellationToken) -> Result<Box<Self>, Box<Intake>> {
        let began = self.inner.clock.now();
        let late = began.as_millis() - due;
        let at = if (0..=TOLERANCE_MS).contains(&late) { due } else { began.as_millis() };
        let started = tokio::time::Instant::now();
        if self.client.is_err() {
            // A file with certificates may be there now.
            self.client = fetch::client(&self.job);
        }
        let body = match &self.client {
            Err(failure) => Err(failure.clone()),
            Ok(client) => tokio::select! {
                () = stop.cancelled() => return Err(Box::new(self.intake)),
                body = fetch::fetch(client, &self.job, &self.planned) => body,
            },
        };
        // Reading a large body takes long enough to hold up other tasks of the thread.
        let work = tokio::task::spawn_blocking(move || {
            let mut look = self;
            look.finish(body, at, began, started);
            look
        });
        match work.await {
            Ok(look) => Ok(Box::new(look)),
            // The process ends, or reading failed in a way that must not take others along.
            Err(_) => Err(Box::new(Intake::new(std::collections::BTreeMap::new()))),
        }
    }

    /// Stores what came, and says how it went.
    fn finish(
        &mut self,
        body: Result<(Vec<u8>, crate::exposition::Format), Failure>,
        at: i64,
        began: Timestamp,
        started: tokio::time::Instant,
    ) {
        let metrics = &self.inner.metrics;
        let sink = &*self.inner.sink;
        if body.is_err() {
            self.intake.found_nothing();
        }
        let outcome = body.and_then(|(body, format)| {
            metrics.body_bytes.inc_by(body.len() as u64);
            self.intake.samples(&body, format, sink, at).map_err(|error| {
                if let TakeError::Limit { limit, .. } = &error {
                    metrics.limits.get_or_create(&LimitLabels { limit: limit.name() }).inc();
                }
                Failure::new(reason(&error), &error.to_string())
            })
        });
        let seconds = started.elapsed().as_secs_f64();
        let stored = match &outcome {
            Ok(_) => Ok(0),
            Err(_) => self.intake.end(sink, at),
        };
        let stored = stored.and_then(|ended| self.intake.report(sink, at, outcome.is_ok(), seconds).map(|()| ended));
        let outcome = match (outcome, stored) {
            (Ok(taken), Ok(_)) => Ok(taken),
            (Ok(_), Err(error)) => Err(Failure::new("store", &error.to_string())),
            (Err(failure), ended) => {
                metrics.ended_series.inc_by(ended.unwrap_or(0));
                Err(failure)
            }
        };
        self.count(&outcome, seconds);
        self.show(outcome, began, seconds);
    }

    fn count(&self, outcome: &Result<Taken, Failure>, seconds: f64) {
        let metrics = &self.inner.metrics;
        metrics.looks.inc();
        metrics.seconds.observe(seconds);
        match outcome {
            Ok(taken) => {
                metrics.samples.inc_by(taken.kept);
                metrics.refused_samples.inc_by(taken.refused);
                metrics.exemplars.inc_by(taken.exemplars);
                metrics.ended_series.inc_by(taken.ended_series);
            }
            Err(failure) => {
                metrics.failures.get_or_create(&FailureLabels { reason: failure.reason }).inc();
                if failure.what.contains(Limit::BodyBytesMax.name()) && failure.reason == "limit" {
                    metrics.limits.get_or_create(&LimitLabels { limit: Limit::BodyBytesMax.name() }).inc();
                }
            }
        }
    }

    fn show(&self, outcome: Result<Taken, Failure>, began: Timestamp, seconds: f64) {
        self.inner.board.update(&self.planned.id, |target| {
            target.last_at = Some(began);
            target.last_duration_s = seconds;
            match outcome {
                Ok(taken) => {
                    target.health = TargetHealth::Up;
                    target.last_error.clear();
                    target.last_samples = taken.samples;
                    target.failures = 0;
                }
                Err(failure) => {
                    target.health = TargetHealth::Down;
                    target.last_error = failure.what;
                    target.last_samples = 0;
                    target.failures += 1;
                }
            }
        });
    }
}

const fn reason(error: &TakeError) -> &'static str {
    match error {
        TakeError::Parse(_) => "parse",
        TakeError::Limit { .. } => "limit",
        TakeError::RepeatedLabel { .. } | TakeError::Nameless { .. } => "labels",
        TakeError::Store(_) => "store",
    }
}

#[cfg(test)]
mod tests {
    use super::next_due;

    #[test]
    fn looks_keep_their_phase() {
        for (now, last, phase, interval, due) in [
            (0, None, 3, 10, 3),
            (3, None, 3, 10, 13),
            (4, None, 3, 10, 13),
            (14, Some(13), 3, 10, 23),
            // The clock stood still, or went back.
            (13, Some(13), 3, 10, 23),
            (5, Some(13), 3, 10, 23),
            // The look before took long.
            (45, Some(13), 3, 10, 53),
        ] {
            assert_eq!(next_due(now, last, phase, interval), due, "{now} {last:?}");
        }
    }
}
