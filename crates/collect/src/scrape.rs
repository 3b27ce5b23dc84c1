//! Scraping: what exporters show becomes samples, at a fixed interval per target.
//!
//! **Takes** [`Settings`] with jobs: targets that are written down and targets in files of Prometheus's file discovery.
//! **Gives** samples and metadata to a [`SampleSink`], `up` and the `scrape_*` series with each look at a target, and the
//! state of all [`targets`](Scraper::targets). **Never** takes part of a body, never lets a slow or hostile target hold up
//! another one, never takes more bytes, samples or labels than a job allows, and never shows a secret of its settings.
//!
//! Every target has its own task and its own phase in the interval, so that thousands of targets do not answer at once
//! and a restart does not move the times of samples. A series that a target no longer shows, all series of a target that
//! fails, and all of a target that leaves, end with a staleness marker.
//!
//! Start reading at `supervise` (which targets there are), then `look` (one target's task), `fetch` (bytes) and `intake`
//! (samples). [`from_prometheus_yaml`] reads the `scrape_configs` of a Prometheus configuration.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use paramedic_model::{Clock, Target, Timestamp};
use paramedic_samples::SampleSink;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

mod config;
mod metrics;

mod supervise;

mod discover;

mod target;

mod relabel;

mod look;

mod fetch;

mod intake;

mod prometheus;

pub use config::{BasicAuth, Job, Secret, Settings, StaticTargets};
pub use intake::{Intake, Limit, Limits, TakeError, Taken};
pub use metrics::Metrics;
pub use prometheus::{ImportError, Imported, from_prometheus_yaml};
pub use relabel::{Action, Relabel};

/// Why settings cannot be used; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("use job {job:?}: {what}")]
pub struct SettingsError {
    pub job: String,
    pub what: String,
}

/// Looks at targets. Cheap to clone; all clones are the same scraper.
#[derive(Clone)]
pub struct Scraper {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) sink: Arc<dyn SampleSink>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: watch::Sender<Settings>,
    pub(crate) metrics: Metrics,
    /// What pages see, by target.
    pub(crate) board: Board,
}

/// The targets as they were last seen.
#[derive(Default)]
pub(crate) struct Board(Mutex<BTreeMap<target::Id, Target>>);

impl Board {
    pub(crate) fn set(&self, id: &target::Id, target: Target) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), target);
    }

    pub(crate) fn update(&self, id: &target::Id, change: impl FnOnce(&mut Target)) {
        if let Some(target) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(id) {
            change(target);
        }
    }

    pub(crate) fn remove(&self, id: &target::Id) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

impl Scraper {
    /// Checks the settings; nothing is looked at before [`run`](Self::run).
    pub fn new(settings: Settings, sink: Arc<dyn SampleSink>, clock: Arc<dyn Clock>) -> Result<Self, SettingsError> {
        settings.check()?;
        // TLS needs a provider for the whole process; it does not matter who installs it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (settings, _) = watch::channel(settings);
        Ok(Self { inner: Arc::new(Inner { sink, clock, settings, metrics: Metrics::default(), board: Board::default() }) })
    }

    /// Takes new settings. Targets that they do not change are not disturbed.
    pub fn reload(&self, settings: Settings) -> Result<(), SettingsError> {
        settings.check()?;
        self.inner.settings.send_replace(settings);
        Ok(())
    }

    /// Looks at all targets until it is cancelled. Series are not marked as ended then: the next start goes on with them.
    pub async fn run(&self, cancel: CancellationToken) {
        supervise::run(Arc::clone(&self.inner), cancel).await;
    }

    /// All targets, by job and address.
    #[must_use]
    pub fn targets(&self) -> Vec<Target> {
        let mut all: Vec<Target> = self.inner.board.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        all.sort_by(|a, b| (&a.pool, &a.address).cmp(&(&b.pool, &b.address)));
        all
    }

    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }
}

/// Takes a text that this process wrote itself, as if it had been scraped: labels `job` and `instance`, `up` and the
/// `scrape_*` series. It remembers nothing, so series that end are not marked; an [`Intake`] does that.
pub fn take(text: &str, job: &str, instance: &str, sink: &dyn SampleSink, now: Timestamp) -> Result<Taken, TakeError> {
    let labels = BTreeMap::from([("job".to_owned(), job.to_owned()), ("instance".to_owned(), instance.to_owned())]);
    let mut intake = Intake::new(labels);
    intake.take(text.as_bytes(), crate::exposition::Format::of_text(text), sink, now.as_millis())
}
