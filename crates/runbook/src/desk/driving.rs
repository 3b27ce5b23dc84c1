//! Starting runs, driving them in tasks of their own, and what time brings: stops by a file, ways back that are due.

use std::sync::Arc;
use std::time::Duration;

use paramedic_model::{secret, text};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use super::view::RunView;
use super::writing::{Batch, Said, Writer, unbroken};
use super::{Active, DeskError, OPEN_MAX, RunDesk, StartRun, locked, refused};
use crate::brake::{Moment, Stopped};
use crate::document::Runbook;
use crate::execute::{Left, Live};
use crate::gate::Mode;
use crate::run::{self, Entry, Record, Run, Stage, Start, StepOf, drive};

/// Time after which a run in which nothing was done looks again; it doubles each time, up to the other.
const LOOK_AGAIN_MS: u64 = 30_000;
const LOOK_AGAIN_MAX_MS: u64 = 300_000;
/// Time after which a run whose record could not be written tries again.
const RETRY: Duration = Duration::from_secs(5);
/// Lines of what was seen that a run is told at once, and the bytes of each.
const OBSERVED_MAX: usize = 100;
const OBSERVED_BYTES_MAX: usize = 1_024;
/// Processes that a record names which lived on.
pub(super) const LEFT_MAX: usize = 20;
/// Bytes of the name of what is acted on.
const TARGET_BYTES_MAX: usize = 200;

/// A runbook that a run begins with, and where it comes from.
pub(super) struct Origin {
    pub(super) runbook: Arc<Runbook>,
    pub(super) document: String,
    /// The document itself, where it is no file.
    pub(super) text: Option<String>,
    pub(super) takes_back: Option<StepOf>,
}

impl RunDesk {
    /// Starts a run. Its reading steps are carried out at once; it is answered before they are.
    pub async fn start(self: &Arc<Self>, start: StartRun) -> Result<RunView, DeskError> {
        let shelved = self.shelved(&start.runbook)?;
        let origin = Origin { runbook: Arc::clone(&shelved.runbook), document: shelved.document, text: None, takes_back: None };
        self.begin(origin, start).await
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

    pub(super) async fn begin(self: &Arc<Self>, origin: Origin, start: StartRun) -> Result<RunView, DeskError> {
        const WHAT: &str = "start the run";
        let runbook = &origin.runbook;
        if matches!(start.mode, Mode::Plan | Mode::Test) {
            return Err(refused(WHAT, "a plan and a rehearsal are no runs; ask for them as such"));
        }
        if start.mode == Mode::Auto && !start.by.is_human() && start.incident.is_none() {
            return Err(refused(WHAT, "unattended runs belong to an incident, or are started by a person"));
        }
        let known = start.inputs.keys().find(|name| !runbook.inputs.contains_key(*name) && !runbook.inputs.is_empty());
        if let Some(unknown) = known {
            let names: Vec<&str> = runbook.inputs.keys().map(String::as_str).collect();
            return Err(refused(WHAT, format!("it has no input {unknown}; it asks for {}", names.join(", "))));
        }
        let desk = Arc::clone(self);
        let active = unbroken(async move { desk.begin_now(origin, start).await }).await?;
        Ok(self.view_of(&active).await)
    }

    async fn begin_now(self: &Arc<Self>, origin: Origin, start: StartRun) -> Result<Arc<Active>, DeskError> {
        const WHAT: &str = "start the run";
        // One after another: between the question whether there is one already and its record no other begins.
        let _alone = self.beginning.lock().await;
        let Origin { runbook, document, text, takes_back } = origin;
        let number = self.number_for(&runbook, &start, text.is_some())?;
        let id = format!("RUN-{number}");
        let target = match (&start.target, &start.incident, runbook.services.first()) {
            (target, ..) if !target.trim().is_empty() => text::head(&secret::mask(&text::one_line(target)), TARGET_BYTES_MAX).to_owned(),
            (_, Some(incident), _) => incident.clone(),
            (_, None, Some(service)) => service.clone(),
            (_, None, None) => "this".to_owned(),
        };
        let begins = Start { mode: start.mode, target, incident: start.incident, by: start.by, inputs: start.inputs.clone() };
        let mut record = Record::start(&runbook, &document, &begins);
        if let Record::Started { text: kept, takes_back: of, .. } = &mut record {
            *kept = text;
            *of = takes_back;
        }
        let mut entries = vec![Entry::new(&id, self.clock.now(), record)];
        let lines = shown_lines(&start.observed, &[]);
        if !lines.is_empty() {
            entries.push(Entry::new(&id, self.clock.now(), Record::Observed { lines }));
        }
        self.write_all(Batch { entries: entries.clone(), ..Batch::default() }).await?;
        let mut run = Run::fold(&entries).map_err(|error| refused(WHAT, error.to_string()))?;
        run.give_secrets(&start.inputs);
        let active = self.activate(number, run, runbook);
        self.spawn(Arc::clone(&active));
        Ok(active)
    }

    /// The number of the next run, if one may begin.
    fn number_for(&self, runbook: &Runbook, start: &StartRun, is_action: bool) -> Result<u64, DeskError> {
        const WHAT: &str = "start the run";
        if self.stopping.is_cancelled() {
            return Err(refused(WHAT, "the instance is stopping"));
        }
        let runs = locked(&self.runs);
        if runs.open_count() >= OPEN_MAX {
            return Err(refused(WHAT, format!("{OPEN_MAX} runs have not ended; call some off")));
        }
        if let (Some(incident), false) = (&start.incident, is_action)
            && let Some(open) = runs.open_lines().find(|line| line.runbook == runbook.id && line.incident.as_ref() == Some(incident))
        {
            return Err(refused(WHAT, format!("{} of the same runbook is under way for {incident}", open.id)));
        }
        Ok(runs.next_number())
    }

    /// Tells a run what was seen elsewhere, and makes it look at everything again where nothing was done yet. What it knows
    /// already is not said again. Both are decided on the same state: what is told makes the run busy with it.
    pub(super) async fn observe(self: &Arc<Self>, active: &Arc<Active>, lines: &[String]) -> Result<(), DeskError> {
        let (runbook, lines) = (Arc::clone(&active.stage.runbook), lines.to_vec());
        active.looked_at_ms.store(Moment::now(self.clock.as_ref()).uptime_ms, std::sync::atomic::Ordering::Relaxed);
        self.say(active, move |run| {
            let lines = shown_lines(&lines, &run.evidence);
            let observed = (!lines.is_empty()).then_some(Record::Observed { lines });
            let records: Vec<Record> = observed.into_iter().chain(looking_again(run, &runbook, "something new was seen")).collect();
            Ok(Said { also_ended: records.is_empty(), records, ..Said::default() })
        })
        .await
    }

    fn activate(self: &Arc<Self>, number: u64, run: Run, runbook: Arc<Runbook>) -> Arc<Active> {
        let stage = Stage {
            runbook,
            hands: self.hands.clone(),
            journal: Arc::new(Writer(Arc::downgrade(self))),
            brakes: Arc::clone(&self.brakes),
            policies: Arc::clone(&self.policies),
            clock: Arc::clone(&self.clock),
            stop_file: Some(self.stop_file.clone()),
            wake: Arc::new(Notify::new()),
            turns: Arc::clone(&self.turns),
            stopping: self.stopping.clone(),
            live: Live::default(),
        };
        let active = Arc::new(Active {
            number,
            run: Mutex::new(run),
            stage,
            cancel: CancellationToken::new(),
            halted: std::sync::Mutex::default(),
            looked_at_ms: std::sync::atomic::AtomicU64::new(Moment::now(self.clock.as_ref()).uptime_ms),
            told: std::sync::atomic::AtomicU64::new(0),
        });
        locked(&self.active).insert(number, Arc::clone(&active));
        active
    }

    /// Begins a task that ends with the desk; those that are over are let go of.
    pub(super) fn spawn_task(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = locked(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work);
    }

    fn spawn(self: &Arc<Self>, active: Arc<Active>) {
        let desk = Arc::downgrade(self);
        let stopping = self.stopping.clone();
        self.spawn_task(async move {
            loop {
                let driven = drive(&active.run, &active.stage, &active.cancel).await;
                let Some(desk) = desk.upgrade() else { return };
                let waited = match driven {
                    Ok(()) => {
                        *locked(&active.halted) = None;
                        let run = active.run.lock().await;
                        if run.ended.is_some() {
                            locked(&desk.active).remove(&active.number);
                            return;
                        }
                        // What was agreed to and could not run yet is asked for again when it is too old.
                        run.expires_in().map(Duration::from_millis)
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
            if locked(&self.active).contains_key(&number) {
                continue;
            }
            if let Err(why) = self.resume_one(number, &entries).await {
                tracing::warn!(run = number, why, "a run cannot go on");
                self.end_what_cannot_go_on(number, &entries, &why).await;
            }
        }
    }

    async fn resume_one(self: &Arc<Self>, number: u64, entries: &[Entry]) -> Result<(), String> {
        let run = Run::fold(entries).map_err(|error| error.to_string())?;
        let runbook = self.runbook_of(entries)?;
        let in_doubt = self.in_doubt(&run).await;
        let active = self.activate(number, run, runbook);
        // Said at once, not when the run gets its turn: a person may be waiting for just this.
        if let Some(record) = in_doubt
            && let Err(error) = self.say(&active, move |_| Ok(Said::one(record))).await
        {
            tracing::error!(run = number, %error, "what is in doubt could not be written; the run says so later");
        }
        self.spawn(active);
        Ok(())
    }

    /// What was under way when the process ended, and what of it lives on.
    async fn in_doubt(&self, run: &Run) -> Option<Record> {
        let mut record = run.in_doubt()?;
        if let Record::Interrupted { step, still_running } = &mut record {
            let left = self.left(&run.id, step).await;
            *still_running = left.iter().take(LEFT_MAX).map(ToString::to_string).collect();
        }
        Some(record)
    }

    /// Programs of a step that outlived the process that started them.
    pub(super) async fn left(&self, run: &str, step: &str) -> Vec<Left> {
        let (hands, run, step) = (self.hands.clone(), run.to_owned(), step.to_owned());
        tokio::task::spawn_blocking(move || hands.left(&run, &step)).await.unwrap_or_default()
    }

    async fn end_what_cannot_go_on(self: &Arc<Self>, number: u64, entries: &[Entry], why: &str) {
        let id = format!("RUN-{number}");
        let record = Record::Ended { outcome: run::Ending::Stopped, why: text::capped(&secret::mask(why), 500).into_owned() };
        let in_doubt = match Run::fold(entries) {
            Ok(run) => self.in_doubt(&run).await,
            Err(_) => None,
        };
        let records = in_doubt.into_iter().chain([record]);
        let entries = records.map(|record| Entry::new(&id, self.clock.now(), record)).collect();
        let mut brakes = self.brakes.lock().await;
        brakes.end_run(&id);
        match self.write_all(Batch { brakes: Some(brakes.clone()), entries, ..Batch::default() }).await {
            Ok(()) => brakes.written(),
            Err(error) => tracing::error!(%error, "the end of a run could not be written"),
        }
    }

    /// The runbook of a run's records, as it was when the run began.
    pub(super) fn runbook_of(&self, entries: &[Entry]) -> Result<Arc<Runbook>, String> {
        let Some(Record::Started { runbook, document, text, .. }) = entries.first().map(|entry| &entry.record) else {
            return Err("its first record is not its start".to_owned());
        };
        if let Some(text) = text {
            let mut parsed = crate::parse(text, "journal").runbooks.pop().ok_or("its own text holds no runbook")?;
            parsed.id.clone_from(runbook);
            return Ok(Arc::new(parsed));
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
        let (now, changed) = {
            let mut brakes = self.brakes.lock().await;
            brakes.stop_from_outside(stopped);
            brakes.observe(&Moment::now(self.clock.as_ref()));
            self.clock_ms.store(brakes.clock_ms(), std::sync::atomic::Ordering::Relaxed);
            // Against what runs were told, not against before: a decision may have looked at the file already.
            let now = brakes.stopped();
            (now, std::mem::replace(&mut *locked(&self.stopped_told), now) != now)
        };
        if changed {
            self.wake_all();
        }
        // What people stopped takes nothing back either.
        if now == Stopped::Nothing {
            self.begin_reverts();
        }
        self.look_again_when_due().await;
    }

    /// Runs in which nothing was done yet look again, ever more rarely: what a detector saw at once, samples show later.
    async fn look_again_when_due(self: &Arc<Self>) {
        let now = Moment::now(self.clock.as_ref()).uptime_ms;
        let all: Vec<Arc<Active>> = locked(&self.active).values().cloned().collect();
        for active in all {
            let last = active.looked_at_ms.load(std::sync::atomic::Ordering::Relaxed);
            // One that is in the middle of something is asked at the next tick.
            let Ok(looks) = active.run.try_lock().map(|run| run.looks) else { continue };
            let wait = (LOOK_AGAIN_MS << looks.min(8)).min(LOOK_AGAIN_MAX_MS);
            if looks < run::LOOKS_MAX
                && now.saturating_sub(last) >= wait
                && let Err(error) = self.look_again(&active, "time passed").await
            {
                tracing::warn!(run = active.number, %error, "a run could not be made to look again");
            }
        }
    }

    /// Looks at everything again, where nothing was done yet.
    pub(super) async fn look_again(self: &Arc<Self>, active: &Arc<Active>, why: &str) -> Result<(), DeskError> {
        let (runbook, why) = (Arc::clone(&active.stage.runbook), why.to_owned());
        active.looked_at_ms.store(Moment::now(self.clock.as_ref()).uptime_ms, std::sync::atomic::Ordering::Relaxed);
        self.say(active, move |run| {
            let records: Vec<Record> = looking_again(run, &runbook, &why).into_iter().collect();
            Ok(Said { also_ended: records.is_empty(), records, ..Said::default() })
        })
        .await
    }

    pub(super) fn wake_all(&self) {
        locked(&self.active).values().for_each(|active| active.stage.wake.notify_one());
    }
}

/// What is looked at again, where nothing was done yet.
fn looking_again(run: &Run, runbook: &Runbook, why: &str) -> Option<Record> {
    let may = run.incident.is_some() && run.looks < run::LOOKS_MAX;
    let steps = if may { run.to_look_at_again(runbook) } else { Vec::new() };
    (!steps.is_empty()).then(|| Record::LookAgain { steps, why: why.to_owned() })
}

/// Lines as a run keeps them, without those that it knows.
fn shown_lines(lines: &[String], known: &[String]) -> Vec<String> {
    let mut shown: Vec<String> = Vec::new();
    for line in lines.iter().filter(|line| !line.trim().is_empty()) {
        let line = text::capped(&secret::mask(&text::one_line(line)), OBSERVED_BYTES_MAX).into_owned();
        if shown.len() < OBSERVED_MAX && !known.contains(&line) && !shown.contains(&line) {
            shown.push(line);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_masked_before_it_is_cut() {
        let line = format!("{} sk-ant-api03-abcdefgh12345678", "x".repeat(OBSERVED_BYTES_MAX - 13));
        let shown = shown_lines(&[line], &[]);
        assert!(shown[0].starts_with("xxx") && !shown[0].contains("api0"), "{shown:?}");
    }
}
