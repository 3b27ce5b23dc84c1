//! Facts about runs on their way into the journal: written first, then added up, then told.
//!
//! What has begun to be written is seen through even when whoever asked for it is gone: otherwise the journal would know
//! more than the runs that are under way.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use paramedic_journal::{Draft, Expected};
use paramedic_model::text;

use super::fold::{self, BRAKES_KIND, BRAKES_SUBJECT};
use super::{Active, DeskError, Recorded, RunDesk, locked, refused};
use crate::brake::Brakes;
use crate::classify::Effect;
use crate::execute::BoxFuture;
use crate::run::{self, Entry, Record, Run};

/// How long a run waits for those who follow it. Who is slower misses that record.
const TELL_WITHIN: Duration = Duration::from_secs(2);

/// Writes a run's records into the journal.
pub(super) struct Writer(pub(super) std::sync::Weak<RunDesk>);

impl Writer {
    async fn write(&self, brakes: Option<&Brakes>, entries: Vec<Entry>) -> Result<(), String> {
        let desk = self.0.upgrade().ok_or("the instance is stopping")?;
        let batch = Batch { brakes: brakes.cloned(), entries, actor: None };
        desk.write_all(batch).await.map_err(|error| error.to_string())
    }
}

impl run::Journal for Writer {
    fn write<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(self.write(None, vec![entry.clone()]))
    }

    fn write_brakes<'a>(&'a self, brakes: &'a Brakes) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(self.write(Some(brakes), Vec::new()))
    }

    fn write_counted<'a>(&'a self, brakes: &'a Brakes, entry: &'a Entry) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(self.write(Some(brakes), vec![entry.clone()]))
    }
}

/// Facts that are written together, or not at all.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) brakes: Option<Brakes>,
    pub(super) entries: Vec<Entry>,
    /// Who did it, where the records do not say so.
    pub(super) actor: Option<String>,
}

/// Goes on to its end also when nobody waits for it any more.
pub(super) async fn unbroken<T: Send + 'static>(work: impl Future<Output = Result<T, DeskError>> + Send + 'static) -> Result<T, DeskError> {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) => Err(DeskError::Journal(error.to_string())),
    }
}

impl RunDesk {
    pub(super) async fn write(self: &Arc<Self>, entry: Entry) -> Result<(), DeskError> {
        self.write_all(Batch { entries: vec![entry], ..Batch::default() }).await
    }

    /// Writes facts down, then adds them up and tells whoever follows.
    pub(super) async fn write_all(self: &Arc<Self>, batch: Batch) -> Result<(), DeskError> {
        let desk = Arc::clone(self);
        unbroken(async move { desk.append(batch).await }).await
    }

    async fn append(&self, batch: Batch) -> Result<(), DeskError> {
        let Batch { brakes, entries, actor } = batch;
        let mut drafts: Vec<Draft> = brakes.iter().map(|brakes| self.brakes_draft(brakes, actor.as_deref())).collect();
        drafts.extend(entries.iter().map(|entry| {
            let mut draft = fold::draft(entry);
            if let Some(actor) = &actor {
                text::head(actor, 512).clone_into(&mut draft.actor);
            }
            draft
        }));
        let mut told = Vec::new();
        {
            // Between the journal and what it adds up to nobody takes a snapshot.
            let _adding = self.adding.read().await;
            self.journal.append(drafts, Expected::Any).await?;
            let mut runs = locked(&self.runs);
            if let Some(brakes) = brakes {
                runs.set_brakes(brakes);
            }
            for entry in entries {
                self.metrics.count(&entry.record, runs.effect_under_way(&entry));
                runs.take(&entry);
                let actor = actor.clone().unwrap_or_else(|| fold::actor(&entry.record));
                let line = fold::number_of(&entry.run).and_then(|number| runs.line(number).cloned());
                told.extend(line.map(|line| Recorded { line, actor, entry }));
            }
            self.metrics.open.set(i64::try_from(runs.open_count()).unwrap_or(i64::MAX));
            self.metrics.reverts_due.set(i64::try_from(runs.reverts().count()).unwrap_or(i64::MAX));
        }
        for recorded in told {
            self.tell(&recorded).await;
        }
        Ok(())
    }

    fn brakes_draft(&self, brakes: &Brakes, actor: Option<&str>) -> Draft {
        Draft {
            at: self.clock.now(),
            kind: BRAKES_KIND.to_owned(),
            subject: BRAKES_SUBJECT.to_owned(),
            actor: text::head(actor.unwrap_or("paramedic"), 512).to_owned(),
            payload: serde_json::to_value(brakes).unwrap_or_default(),
        }
    }

    async fn tell(&self, recorded: &Recorded) {
        // It goes on: what stopped it is over.
        if let Some(active) = locked(&self.active).get(&recorded.line.number) {
            *locked(&active.halted) = None;
        }
        let Some(observer) = &self.observer else { return };
        if tokio::time::timeout(TELL_WITHIN, observer.recorded(recorded)).await.is_err() {
            tracing::warn!(run = recorded.line.id, "whoever follows the run is too slow and missed a record");
        }
    }

    /// Looks at a run, and writes down what follows from it, so that nothing comes in between.
    pub(super) async fn say<F>(self: &Arc<Self>, active: &Arc<Active>, decide: F) -> Result<(), DeskError>
    where
        F: FnOnce(&Run) -> Result<Said, DeskError> + Send + 'static,
    {
        let (desk, active) = (Arc::clone(self), Arc::clone(active));
        unbroken(async move { desk.say_now(&active, decide).await }).await
    }

    async fn say_now<F>(self: &Arc<Self>, active: &Active, decide: F) -> Result<(), DeskError>
    where
        F: FnOnce(&Run) -> Result<Said, DeskError> + Send,
    {
        let mut run = active.run.lock().await;
        let said = decide(&run)?;
        if run.ended.is_some() && !said.also_ended {
            return Err(refused("change the run", format!("{} has ended", run.id)));
        }
        if said.records.is_empty() && said.secrets.is_empty() {
            // Whoever looked found nothing to say: nothing is written, and nobody is woken.
            return Ok(());
        }
        // An agreement's age is counted on the brakes' clock; a clock that a restart sets back would make it young again.
        let mut brakes = if said.with_brakes { Some(self.brakes.lock().await) } else { None };
        let entries: Vec<Entry> = said.records.into_iter().map(|record| Entry::new(&run.id, self.clock.now(), record)).collect();
        let records: Vec<Record> = entries.iter().map(|entry| entry.record.clone()).collect();
        let batch = Batch { brakes: brakes.as_deref().cloned(), entries, actor: said.actor };
        self.append(batch).await?;
        if let Some(brakes) = &mut brakes {
            brakes.written();
        }
        drop(brakes);
        records.iter().for_each(|record| run.apply(record));
        run.give_secrets(&said.secrets);
        drop(run);
        active.stage.wake.notify_one();
        Ok(())
    }
}

/// What somebody says about a run.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) records: Vec<Record>,
    /// Inputs as they are; the records show them without secrets.
    pub(super) secrets: std::collections::BTreeMap<String, String>,
    pub(super) actor: Option<String>,
    pub(super) with_brakes: bool,
    /// It may be said of a run that is over.
    pub(super) also_ended: bool,
}

impl Said {
    pub(super) fn one(record: Record) -> Self {
        Self { records: vec![record], ..Self::default() }
    }
}

impl fold::Runs {
    /// What a step that ends now did, as its beginning said.
    fn effect_under_way(&self, entry: &Entry) -> Option<Effect> {
        let Record::Done { step: ended, .. } = &entry.record else { return None };
        let number = fold::number_of(&entry.run)?;
        let begun = |entry: &Entry| match &entry.record {
            Record::Begun { step, effect, .. } if step == ended => Some(*effect),
            _ => None,
        };
        self.open_entries(number).iter().rev().find_map(begun)
    }
}
