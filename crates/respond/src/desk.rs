//! The one place where incidents are changed: decide, append, and only then answer.

use std::sync::Arc;

use paramedic_journal::{Draft, Expected, Journal, JournalError};
use paramedic_model::{AlertChange, IncidentId, Timestamp};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::attachments::{Attachment, content_of};
use crate::clocks::decide_timers;
use crate::command::{Command, CommandError, decide_command};
use crate::config::Settings;
use crate::decide::{decide_alert, decide_due};
use crate::incident::Incident;
use crate::incidents::Incidents;
use crate::metrics::Metrics;
use crate::record::{Record, SYSTEM_ACTOR, incident_subject};
use crate::runs::{RunNote, decide_run};

/// Entries appended at once while history is read.
const APPEND_BATCH_MAX: usize = 500;
/// Entries read at once while an attachment is looked for.
const ATTACHMENT_PAGE: usize = 1_000;
/// The kind of entries that hold an attachment.
const ATTACHED: &str = "attached";

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

    /// Lets time pass: resolves incidents that have been quiet for long enough, calls more people where a timer ran
    /// out, and notes phases that take too long.
    pub async fn tick(&self, now: Timestamp) -> Result<Vec<Record>, DeskError> {
        if !self.is_due(&*self.incidents.read().await, now) {
            return Ok(Vec::new());
        }
        let mut state = self.incidents.write().await;
        let mut pending = Pending::new(now);
        let quiet = self.quiet(&state, now);
        pending.take(&mut state, SYSTEM_ACTOR, quiet);
        // On what is left: an incident that is resolved by now is not late any more.
        let timers = decide_timers(&state, now, &self.settings);
        let called = timers.iter().filter(|record| matches!(record, Record::Escalated { .. })).count();
        pending.take(&mut state, SYSTEM_ACTOR, timers);
        let records = self.write(&mut state, pending).await?;
        self.metrics.escalations.inc_by(called as u64);
        drop(state);
        self.count_open().await;
        Ok(records)
    }

    fn is_due(&self, state: &Incidents, now: Timestamp) -> bool {
        !self.quiet(state, now).is_empty() || !decide_timers(state, now, &self.settings).is_empty()
    }

    fn quiet(&self, state: &Incidents, now: Timestamp) -> Vec<Record> {
        let settle = std::time::Duration::from_secs(self.settings.settle_s);
        decide_due(state, now, &|incident| now.since(incident.last_recorded_at) >= settle, &self.settings)
    }

    /// Takes what a run of a runbook tells, and moves the incident accordingly; what was written.
    pub async fn note_run(&self, note: &RunNote, now: Timestamp) -> Result<(Incident, Vec<Record>), DeskError> {
        let mut state = self.incidents.write().await;
        let (id, records) = decide_run(&state, note, now)?;
        let mut pending = Pending::new(now);
        pending.take(&mut state, &note.by, records);
        let records = self.write(&mut state, pending).await?;
        let incident = state.get(&id).cloned().ok_or(CommandError::NotFound(id))?;
        drop(state);
        self.count_open().await;
        Ok((incident, records))
    }

    /// An attachment with its content; `None` when the incident has none of this id.
    pub async fn attachment(&self, incident: &IncidentId, id: u64) -> Result<Option<(Attachment, Vec<u8>)>, DeskError> {
        let subject = incident_subject(incident);
        let mut after = 0;
        // A page may be short; only an empty one is the end.
        loop {
            let entries = self.journal.read_subject(&subject, after, ATTACHMENT_PAGE).await?;
            let Some(last) = entries.last() else { return Ok(None) };
            after = last.seq;
            for entry in entries.iter().filter(|entry| entry.kind == ATTACHED) {
                if let Ok(Some(Record::Attached { attachment, content, .. })) = Record::from_entry(entry)
                    && attachment.id == id
                {
                    return Ok(content_of(&attachment, &content).map(|bytes| (attachment, bytes)));
                }
            }
        }
    }

    /// What the incidents are decided by.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Does what a person asks for; the incident afterwards.
    pub async fn command(&self, actor: &str, command: &Command, now: Timestamp) -> Result<Incident, DeskError> {
        self.metrics.commands.inc();
        let mut state = self.incidents.write().await;
        let (id, records) = decide_command(&state, command, actor, now, &self.settings).inspect_err(|_| {
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
