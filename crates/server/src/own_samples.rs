//! Paramedic's own metrics as samples: what a scrape of `/metrics` would give, without the network.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use paramedic_collect::exposition::Format;
use paramedic_collect::scrape::Intake;
use paramedic_model::{Clock, Target, TargetHealth, TargetKind, Timestamp};
use paramedic_samples::SampleSink;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

/// The job under which Paramedic's own metrics are.
pub(crate) const OWN_JOB: &str = "paramedic";

/// Looks at our own metrics. Cloning is cheap and gives the same.
#[derive(Clone)]
pub(crate) struct OwnSamples {
    sink: Arc<dyn SampleSink>,
    clock: Arc<dyn Clock>,
    interval: Duration,
    target: Arc<Mutex<Option<Target>>>,
}

impl OwnSamples {
    pub(crate) fn new(sink: Arc<dyn SampleSink>, clock: Arc<dyn Clock>, interval: Duration) -> Self {
        Self { sink, clock, interval, target: Arc::default() }
    }

    /// This instance as a target, once it runs.
    pub(crate) fn targets(&self) -> Vec<Target> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub(crate) async fn run(self, registry: Registry, instance: String, stop: CancellationToken) {
        let labels: std::collections::BTreeMap<String, String> =
            [("job", OWN_JOB), ("instance", instance.as_str())].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = Some(Target {
            pool: OWN_JOB.to_owned(),
            kind: TargetKind::Scrape,
            address: "this process".to_owned(),
            labels: labels.clone(),
            discovered_labels: labels.clone(),
            health: TargetHealth::Unknown,
            last_error: String::new(),
            last_at: None,
            last_duration_s: 0.0,
            last_samples: 0,
            interval_s: self.interval.as_secs_f64(),
            timeout_s: self.interval.as_secs_f64(),
            failures: 0,
        });
        // It remembers what was there, so that series that end are marked.
        let mut intake = Intake::new(labels);
        let mut interval = tokio::time::interval(self.interval);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = interval.tick() => {}
            }
            let (began, now) = (tokio::time::Instant::now(), self.clock.now());
            let looked = self.look(&registry, &mut intake, now);
            if let Err(error) = &looked {
                tracing::warn!(error, "own metrics could not be stored as samples");
            }
            self.tell(looked, now, began.elapsed());
        }
    }

    fn look(&self, registry: &Registry, intake: &mut Intake, now: Timestamp) -> Result<u64, String> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).map_err(|error| error.to_string())?;
        let taken = intake.take(text.as_bytes(), Format::OpenMetrics, self.sink.as_ref(), now.as_millis());
        taken.map(|taken| taken.samples).map_err(|error| error.to_string())
    }

    fn tell(&self, looked: Result<u64, String>, now: Timestamp, took: Duration) {
        let mut target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(target) = target.as_mut() else { return };
        target.last_at = Some(now);
        target.last_duration_s = took.as_secs_f64();
        match looked {
            Ok(samples) => {
                (target.health, target.last_samples, target.failures) = (TargetHealth::Up, samples, 0);
                target.last_error.clear();
            }
            Err(error) => {
                target.health = TargetHealth::Down;
                target.failures += 1;
                target.last_error = error;
            }
        }
    }
}
