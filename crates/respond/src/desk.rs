//! The one place where incidents are changed: decide, append, and only then answer.

use std::sync::Arc;

use paramedic_journal::{Draft, Expected, Journal, JournalError};
use paramedic_model::{AlertChange, Timestamp};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::command::{Command, CommandError, decide_command};
use crate::config::Settings;
use crate::decide::{decide_alert, decide_due};
use crate::incident::Incident;
use crate::incidents::Incidents;
use crate::metrics::Metrics;
use crate::record::{Record, SYSTEM_ACTOR};

/// Entries appended at once while history is read.
const APPEND_BATCH_MAX: usize = 500;

#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    #[error(transparent)]
    Refused(#[from] CommandError),
    #[error("failed to write the journal: {0}")]
    Journal(#[from] JournalError),
}

/// Serialises all changes of incidents.
pub struct Desk {
    journal: Arc<dyn Journal>,
    settings: Settings,
    incidents: RwLock<Incidents>,
    metrics: Metrics,
}

impl Desk {
    /// Rebuilds the incidents from the journal's snapshot and tail.
    pub async fn open(journal: Arc<dyn Journal>, settings: Settings, metrics: Metrics) -> Result<Self, JournalError> {
        let (incidents, _) = paramedic_journal::rebuild::<Incidents>(journal.as_ref()).await?;
        let desk = Self { journal, settings, incidents: RwLock::new(incidents), metrics };
        desk.count_open().await;
        Ok(desk)
    }

    pub async fn incidents(&self) -> RwLockReadGuard<'_, Incidents> {
        self.incidents.read().await
    }

    /// Takes alert changes in order. Each is decided on the state that the ones before it left, and quiet windows
    /// that ended between two of them are closed first, so that history reads the same as it was lived.
    pub async fn apply(&self, changes: &[AlertChange], now: Timestamp) -> Result<Vec<Record>, DeskError> {
        self.metrics.alert_changes.inc_by(changes.len() as u64);
        let mut state = self.incidents.write().await;
        let mut pending = Pending::new(now);
        for change in changes {
            let due = decide_due(&state, change.at, &|_| true, &self.settings);
            pending.take(&mut state, SYSTEM_ACTOR, due);
            let records = decide_alert(&state, change, now, &self.settings);
            if records.is_empty() {
                self.metrics.repeated.inc();
            }
            pending.take(&mut state, SYSTEM_ACTOR, records);
        }
        let records = self.write(&mut state, pending).await?;
        drop(state);
        self.count_open().await;
        Ok(records)
    }

    /// Lets time pass: resolves incidents that have been quiet for long enough.
    pub async fn tick(&self, now: Timestamp) -> Result<Vec<Record>, DeskError> {
        let settle = std::time::Duration::from_secs(self.settings.settle_s);
        let due = {
            let state = self.incidents.read().await;
            decide_due(&state, now, &|incident| now.since(incident.last_recorded_at) >= settle, &self.settings)
        };
        if due.is_empty() {
            return Ok(due);
        }
        let mut state = self.incidents.write().await;
        let due = decide_due(&state, now, &|incident| now.since(incident.last_recorded_at) >= settle, &self.settings);
        let mut pending = Pending::new(now);
        pending.take(&mut state, SYSTEM_ACTOR, due);
        let records = self.write(&mut state, pending).await?;
        drop(state);
        self.count_open().await;
        Ok(records)
    }

    /// Does what a person asks for; the incident afterwards.
    pub async fn command(&self, actor: &str, command: &Command, now: Timestamp) -> Result<Incident, DeskError> {
        self.metrics.commands.inc();
        let mut state = self.incidents.write().await;
        let (id, records) = decide_command(&state, command, now).inspect_err(|_| {
            self.metrics.commands_refused.inc();
        })?;
        let mut pending = Pending::new(now);
        pending.take(&mut state, actor, records);
        self.write(&mut state, pending).await?;
        let incident = state.get(&id).cloned().ok_or(CommandError::NotFound(id));
        drop(state);
        self.count_open().await;
        Ok(incident?)
    }

    /// Saves a snapshot so that the next start reads only what came after it.
    pub async fn save_snapshot(&self) -> Result<(), JournalError> {
        let state = self.incidents.read().await;
        let head = self.journal.head().await?;
        paramedic_journal::save_fold(self.journal.as_ref(), &*state, head).await
    }

    /// Appends what was decided. The state has taken it already; if the journal refuses, the state is read again
    /// from the journal, so that nobody is ever told what is not written.
    async fn write(&self, state: &mut RwLockWriteGuard<'_, Incidents>, pending: Pending) -> Result<Vec<Record>, DeskError> {
        if pending.drafts.is_empty() {
            return Ok(pending.records);
        }
        self.metrics.records.inc_by(pending.drafts.len() as u64);
        let mut drafts = pending.drafts.into_iter().peekable();
        while drafts.peek().is_some() {
            let batch: Vec<Draft> = drafts.by_ref().take(APPEND_BATCH_MAX).collect();
            let appended = self.journal.append(batch, Expected::Any).await;
            if let Ok(entries) = &appended {
                entries.iter().for_each(|entry| state.place(entry));
            }
            if let Err(error) = appended {
                self.metrics.rebuilds.inc();
                match paramedic_journal::rebuild::<Incidents>(self.journal.as_ref()).await {
                    Ok((incidents, _)) => **state = incidents,
                    Err(again) => tracing::error!(error = %again, "incidents could not be read again from the journal"),
                }
                return Err(error.into());
            }
        }
        Ok(pending.records)
    }

    async fn count_open(&self) {
        let open = self.incidents.read().await.open().len();
        self.metrics.incidents_open.set(i64::try_from(open).unwrap_or(i64::MAX));
    }
}

/// Records decided and folded, not yet written.
struct Pending {
    now: Timestamp,
    drafts: Vec<Draft>,
    records: Vec<Record>,
}

impl Pending {
    const fn new(now: Timestamp) -> Self {
        Self { now, drafts: Vec::new(), records: Vec::new() }
    }

    fn take(&mut self, state: &mut Incidents, actor: &str, records: Vec<Record>) {
        for record in records {
            state.apply_record(0, self.now, actor, &record);
            self.drafts.push(record.clone().into_draft(actor, self.now));
            self.records.push(record);
        }
    }
}
