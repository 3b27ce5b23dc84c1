//! The way of an alert into the journal, whoever concluded it.

use std::sync::Arc;
use std::time::Duration;

use paramedic_model::{AlertChange, Clock, Timestamp};
use paramedic_respond::Desk;
use paramedic_rules::{AlertSink, BoxFuture};

use crate::intake::{Announce, Metrics};

/// Tries before a batch is given up: about ten minutes of a full disk.
pub(crate) const TRIES_MAX: u32 = 120;

/// Writes changes and tells watchers. Tries again while the journal refuses, for about ten minutes; then they are counted as lost.
pub(crate) async fn write(desk: &Desk, announce: &dyn Announce, metrics: &Metrics, changes: &[AlertChange], now: Timestamp) {
    let mut wait = Duration::from_millis(100);
    for tries in 1..=TRIES_MAX {
        match desk.apply(changes, now).await {
            Ok(records) => {
                announce.records(&records);
                return;
            }
            Err(error) => {
                metrics.journal_failures.inc();
                tracing::error!(%error, tries, changes = changes.len(), "alerts could not be written to the journal");
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(5));
    }
}

/// Takes what rules conclude.
pub(crate) struct RuleAlerts {
    pub(crate) desk: Arc<Desk>,
    pub(crate) announce: Arc<dyn Announce>,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Arc<dyn Clock>,
}

impl AlertSink for RuleAlerts {
    fn alerts(&self, changes: Vec<AlertChange>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            write(&self.desk, self.announce.as_ref(), &self.metrics, &changes, self.clock.now()).await;
        })
    }
}
