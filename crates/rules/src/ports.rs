//! What the evaluation of rules reaches: questions, samples, the journal, and the time.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use paramedic_model::{AlertChange, Clock};
use paramedic_samples::SampleSink;

use crate::config::Settings;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::source::{BoxFuture, QuerySource};

/// Takes changes of alerts.
pub trait AlertSink: Send + Sync {
    /// Returns when the changes are durable.
    fn alerts(&self, changes: Vec<AlertChange>) -> BoxFuture<'_, ()>;
}

/// Everything outside of the rules that their evaluation needs.
pub(crate) struct Ports {
    settings: RwLock<Arc<Settings>>,
    pub(crate) source: Arc<dyn QuerySource>,
    pub(crate) sink: Arc<dyn SampleSink>,
    pub(crate) alerts: Arc<dyn AlertSink>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) ledger: Mutex<Ledger>,
    /// Until when alerts that fired before the start are not resolved.
    hold_until_ms: AtomicI64,
}

impl Ports {
    pub(crate) fn new(
        settings: Settings,
        source: Arc<dyn QuerySource>,
        sink: Arc<dyn SampleSink>,
        alerts: Arc<dyn AlertSink>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            settings: RwLock::new(Arc::new(settings)),
            source,
            sink,
            alerts,
            clock,
            metrics: Metrics::default(),
            ledger: Mutex::default(),
            hold_until_ms: AtomicI64::new(i64::MIN),
        }
    }

    /// The settings in use.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_settings(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    pub(crate) fn hold_until_ms(&self) -> i64 {
        self.hold_until_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn hold_until(&self, at_ms: i64) {
        self.hold_until_ms.store(at_ms, Ordering::Relaxed);
    }
}
