//! Starting runs, driving them in tasks of their own, and what time brings: stops by a file, ways back that are due.

use std::sync::Arc;
use std::time::Duration;

use paramedic_journal::{Draft, Expected};
use paramedic_model::{secret, text};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use super::fold::{self, BRAKES_KIND, BRAKES_SUBJECT, REVERTS_MAX, Revert};
use super::view::RunView;
use super::{Active, DeskError, OPEN_MAX, Recorded, RunDesk, StartRun, locked, refused};
use crate::brake::{Brakes, Moment, Stopped};
use crate::classify::Effect;
use crate::document::Runbook;
use crate::execute::{About, BoxFuture, Live, Order};
use crate::gate::Mode;
use crate::outcome::Outcome;
use crate::render::Work;
use crate::run::{self, Done, Entry, Record, Run, Stage, Start, Verdict, drive};

/// Time after which a run whose record could not be written tries again.
const RETRY: Duration = Duration::from_secs(5);
/// Lines of what was seen that a run keeps, and the bytes of each.
const OBSERVED_MAX: usize = 100;
const OBSERVED_BYTES_MAX: usize = 1_024;
/// Time for an action that takes something back.
const REVERT_TIMEOUT: Duration = Duration::from_secs(120);

/// Writes a run's records into the journal.
struct Writer(std::sync::Weak<RunDesk>);

impl run::Journal for Writer {
    fn write<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let desk = self.0.upgrade().ok_or("the instance is stopping")?;
            desk.write(entry.clone()).await.map_err(|error| error.to_string())
        })
    }

    fn write_brakes<'a>(&'a self, brakes: &'a Brakes) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let desk = self.0.upgrade().ok_or("the instance is stopping")?;
            desk.write_brakes(brakes, "paramedic").await.map_err(|error| error.to_string())
        })
    }
}

impl RunDesk {
    /// Writes one record down, then adds it up and tells whoever follows.
    pub(super) async fn write(&self, entry: Entry) -> Result<(), DeskError> {
        self.journal.append(vec![fold::draft(&entry)], Expected::Any).await?;
        let line = {
            let mut runs = locked(&self.runs);
            runs.take(&entry);
            self.metrics.open.set(i64::try_from(runs.open_count()).unwrap_or(i64::MAX));
            self.metrics.reverts_due.set(i64::try_from(runs.reverts().count()).unwrap_or(i64::MAX));
            fold::number_of(&entry.run).and_then(|number| runs.line(number).cloned())
        };
        self.metrics.count(&entry.record, None);
        if let (Some(observer), Some(line)) = (&self.observer, line) {
            let actor = fold::actor(&entry.record);
            observer.recorded(&Recorded { line, actor, entry }).await;
        }
        Ok(())
    }

    /// Writes the brakes down as they are now.
    pub(super) async fn write_brakes(&self, brakes: &Brakes, actor: &str) -> Result<(), DeskError> {
        let draft = Draft {
            at: self.clock.now(),
            kind: BRAKES_KIND.to_owned(),
            subject: BRAKES_SUBJECT.to_owned(),
            actor: text::head(actor, 512).to_owned(),
            payload: serde_json::to_value(brakes).unwrap_or_default(),
        };
        self.journal.append(vec![draft], Expected::Any).await?;
        locked(&self.runs).set_brakes(brakes.clone());
        Ok(())
    }

    /// Starts a run. Its reading steps are carried out at once; it is answered before they are.
    pub async fn start(self: &Arc<Self>, start: StartRun) -> Result<RunView, DeskError> {
        let shelved = self.shelved(&start.runbook)?;
        self.begin(Arc::clone(&shelved.runbook), &shelved.document, None, start).await
    }

    /// Starts the runbook of a new incident, unless too many incidents came at once.
    pub async fn start_for_incident(self: &Arc<Self>, start: StartRun) -> Result<RunView, DeskError> {
        let minute = u64::try_from(Duration::from_secs(60).as_millis()).unwrap_or(u64::MAX);
        let now = Moment::now(self.clock.as_ref()).uptime_ms;
        {
            let mut starts = locked(&self.starts);
            while starts.front().is_some_and(|at| now.saturating_sub(*at) >= minute) {
                starts.pop_front();
            }
            if starts.len() >= self.settings.starts_per_minute as usize {
                self.metrics.not_started.inc();
                return Err(refused("start the runbook", format!("{} were started in the last minute; start it by hand", starts.len())));
            }
            starts.push_back(now);
        }
        self.start(start).await
    }

    pub(super) async fn begin(
        self: &Arc<Self>,
        runbook: Arc<Runbook>,
        document: &str,
        text: Option<String>,
        start: StartRun,
    ) -> Result<RunView, DeskError> {
        const WHAT: &str = "start the run";
        if matches!(start.mode, Mode::Plan | Mode::Test) {
            return Err(refused(WHAT, "a plan and a rehearsal are no runs; ask for them as such"));
        }
        if start.mode == Mode::Auto && !start.by.is_human() && start.incident.is_none() {
            return Err(refused(WHAT, "unattended runs belong to an incident, or are started by a person"));
        }
        let number = {
            let mut runs = locked(&self.runs);
            if runs.open_count() >= OPEN_MAX {
                return Err(refused(WHAT, format!("{OPEN_MAX} runs have not ended; call some off")));
            }
            if let (Some(incident), None) = (&start.incident, &text)
                && let Some(open) = runs
                    .lines()
                    .find(|line| line.ended_at.is_none() && line.runbook == runbook.id && line.incident.as_ref() == Some(incident))
            {
                return Err(refused(WHAT, format!("{} of the same runbook is under way for {incident}", open.id)));
            }
            runs.take_number()
        };
        let id = format!("RUN-{number}");
        let known = start.inputs.keys().find(|name| !runbook.inputs.contains_key(*name) && !runbook.inputs.is_empty());
        if let Some(unknown) = known {
            let names: Vec<&str> = runbook.inputs.keys().map(String::as_str).collect();
            return Err(refused(WHAT, format!("it has no input {unknown}; it asks for {}", names.join(", "))));
        }
        let target = match (&start.target, &start.incident, runbook.services.first()) {
            (target, ..) if !target.is_empty() => target.clone(),
            (_, Some(incident), _) => incident.clone(),
            (_, None, Some(service)) => service.clone(),
            (_, None, None) => "this".to_owned(),
        };
        let mut record = Record::start(
            &runbook,
            document,
            &Start { mode: start.mode, target, incident: start.incident, by: start.by, inputs: start.inputs.clone() },
        );
        if let Record::Started { text: kept, .. } = &mut record {
            *kept = text;
        }
        let first = Entry::new(&id, self.clock.now(), record);
        self.write(first.clone()).await?;
        let mut run = Run::fold(&[first]).map_err(|error| refused(WHAT, error.to_string()))?;
        run.give_secrets(&start.inputs);
        let active = self.activate(number, run, runbook);
        if !start.observed.is_empty() {
            self.observe(&active, &start.observed).await?;
        }
        self.spawn(Arc::clone(&active));
        Ok(self.view_of(&active).await)
    }

    /// Tells a run what was seen elsewhere.
    pub(super) async fn observe(&self, active: &Active, lines: &[String]) -> Result<(), DeskError> {
        let shown = |line: &String| secret::mask(&text::capped(&text::one_line(line), OBSERVED_BYTES_MAX)).into_owned();
        let lines = lines.iter().filter(|line| !line.trim().is_empty()).take(OBSERVED_MAX).map(shown).collect();
        self.record(active, Record::Observed { lines }).await
    }

    /// Writes a record about a run that is free, and lets the run know.
    pub(super) async fn record(&self, active: &Active, record: Record) -> Result<(), DeskError> {
        let mut run = active.run.lock().await;
        let entry = Entry::new(&run.id, self.clock.now(), record);
        self.write(entry.clone()).await?;
        run.apply(&entry.record);
        drop(run);
        active.stage.wake.notify_one();
        Ok(())
    }

    fn activate(self: &Arc<Self>, number: u64, run: Run, runbook: Arc<Runbook>) -> Arc<Active> {
        let stage = Stage {
            runbook,
            hands: self.hands.clone(),
            journal: Arc::new(Writer(Arc::downgrade(self))),
            brakes: Arc::clone(&self.brakes),
            policies: self.policies.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone(),
            clock: Arc::clone(&self.clock),
            stop_file: Some(self.stop_file.clone()),
            wake: Arc::new(Notify::new()),
            turns: Arc::clone(&self.turns),
            live: Live::default(),
        };
        let active = Arc::new(Active {
            number,
            run: Mutex::new(run),
            stage,
            cancel: CancellationToken::new(),
            halted: std::sync::Mutex::default(),
            told: std::sync::atomic::AtomicU64::new(0),
        });
        locked(&self.active).insert(number, Arc::clone(&active));
        active
    }

    fn spawn(self: &Arc<Self>, active: Arc<Active>) {
        let desk = Arc::downgrade(self);
        let stopping = self.stopping.clone();
        let mut tasks = locked(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            loop {
                let driven = drive(&active.run, &active.stage, &active.cancel).await;
                let Some(desk) = desk.upgrade() else { return };
                let waited = match driven {
                    Ok(()) if active.run.lock().await.ended.is_some() => {
                        locked(&desk.active).remove(&active.number);
                        return;
                    }
                    Ok(()) => {
                        *locked(&active.halted) = None;
                        None
                    }
                    Err(why) => {
                        desk.metrics.unwritten.inc();
                        tracing::error!(run = active.number, %why, "a run stopped: its record could not be written");
                        *locked(&active.halted) = Some(why);
                        Some(RETRY)
                    }
                };
                drop(desk);
                tokio::select! {
                    () = stopping.cancelled() => return,
                    () = active.stage.wake.notified() => {}
                    () = active.cancel.cancelled(), if !active.cancel.is_cancelled() => {}
                    () = tokio::time::sleep(waited.unwrap_or_default()), if waited.is_some() => {}
                }
            }
        });
    }

    /// Goes on with all runs that had not ended when the process did.
    pub async fn resume(self: &Arc<Self>) {
        let open: Vec<(u64, Vec<Entry>)> = locked(&self.runs).open().map(|(number, entries)| (number, entries.to_vec())).collect();
        for (number, entries) in open {
            if let Err(why) = self.resume_one(number, &entries).await {
                tracing::warn!(run = number, why, "a run cannot go on");
                let id = format!("RUN-{number}");
                let record = Record::Ended { outcome: run::Ending::Stopped, why: text::capped(&why, 500).into_owned() };
                if let Err(error) = self.write(Entry::new(&id, self.clock.now(), record)).await {
                    tracing::error!(%error, "the end of a run could not be written");
                }
            }
        }
    }

    async fn resume_one(self: &Arc<Self>, number: u64, entries: &[Entry]) -> Result<(), String> {
        let run = Run::fold(entries).map_err(|error| error.to_string())?;
        let runbook = self.runbook_of(entries)?;
        let in_doubt = run.in_doubt();
        let active = self.activate(number, run, runbook);
        // Said at once, not when the run gets its turn: a person may be waiting for just this.
        if let Some(record) = in_doubt {
            self.record(&active, record).await.map_err(|error| error.to_string())?;
        }
        self.spawn(active);
        Ok(())
    }

    /// The runbook of a run's records, as it was when the run began.
    pub(super) fn runbook_of(&self, entries: &[Entry]) -> Result<Arc<Runbook>, String> {
        let Some(Record::Started { runbook, document, text, .. }) = entries.first().map(|entry| &entry.record) else {
            return Err("its first record is not its start".to_owned());
        };
        if let Some(text) = text {
            return crate::parse(text, "journal").runbooks.pop().map(Arc::new).ok_or_else(|| "its own text holds no runbook".to_owned());
        }
        match self.shelf().get(runbook) {
            Some(shelved) if shelved.document == *document => Ok(Arc::clone(&shelved.runbook)),
            Some(_) => Err(format!("the runbook {runbook} has changed since it began")),
            None => Err(format!("the runbook {runbook} is not there any more")),
        }
    }

    /// Lets time pass: runs notice that a stop file came or went, watchers what a step says, and what is due is taken back.
    pub async fn tick(self: &Arc<Self>) {
        let stopped = run::stopped_by(&self.stop_file);
        let changed = {
            let mut brakes = self.brakes.lock().await;
            let before = brakes.stopped();
            brakes.stop_from_outside(stopped);
            brakes.observe(&Moment::now(self.clock.as_ref()));
            before != brakes.stopped()
        };
        if changed {
            self.wake_all();
        }
        let now = self.clock.now();
        let due: Vec<Revert> =
            locked(&self.runs).reverts().filter(|revert| revert.due_at <= now && revert.attempts < REVERTS_MAX).cloned().collect();
        for revert in due {
            if let Err(error) = self.revert(&revert).await {
                tracing::error!(run = revert.run, step = revert.step, %error, "a way back could not be begun");
            }
        }
    }

    pub(super) fn wake_all(&self) {
        locked(&self.active).values().for_each(|active| active.stage.wake.notify_one());
    }

    /// Takes back what a step changed for a time. A stop by people holds it back as well: then nothing changes at all.
    async fn revert(&self, revert: &Revert) -> Result<(), DeskError> {
        if self.brakes.lock().await.stopped() > Stopped::Nothing {
            return Ok(());
        }
        let Some(_turn) = self.turns.try_acquire().ok() else { return Ok(()) };
        let attempt = revert.attempts + 1;
        let begun = Record::Reverting { step: revert.step.clone(), attempt, call: revert.call.clone() };
        self.write(Entry::new(&revert.run, self.clock.now(), begun)).await?;
        let outcome = match work_of(&revert.call) {
            Some(work) => self.hands.carry(&order(work, &revert.run), &CancellationToken::new()).await,
            None => Outcome::fault("its call cannot be read"),
        };
        let why = outcome.fault.clone().unwrap_or_else(|| if outcome.is_ok() { String::new() } else { outcome.stderr.text.clone() });
        let done = Done {
            verdict: if outcome.is_ok() { Verdict::Ok } else { Verdict::Failed },
            why: secret::mask(&why).into_owned(),
            exit: outcome.exit,
            signal: outcome.signal,
            ms: outcome.ms,
            output_hash: outcome.output_hash(),
            output_bytes: outcome.stdout.bytes + outcome.stderr.bytes,
            shown: secret::mask(text::head(&outcome.stdout.text, 4_096)).into_owned(),
            found: std::collections::BTreeMap::default(),
            captured: std::collections::BTreeMap::default(),
            affected: outcome.affected,
            inverse: None,
            reverts_after_s: None,
        };
        self.write(Entry::new(&revert.run, self.clock.now(), Record::Reverted { step: revert.step.clone(), done })).await
    }
}

/// A stored call as work.
fn work_of(call: &serde_json::Value) -> Option<Work> {
    let name = call.get("action")?.as_str()?.to_owned();
    Some(Work::Action { name, arguments: call.get("arguments").cloned().unwrap_or_default() })
}

fn order(work: Work, run: &str) -> Order {
    Order {
        work,
        effect: Effect::Write,
        timeout: REVERT_TIMEOUT,
        secrets: Vec::new(),
        redact: Vec::new(),
        window: None,
        dry: false,
        live: None,
        about: About { run: run.to_owned(), by: "paramedic".to_owned(), ..About::default() },
    }
}
