//! Drives a run: asks what is next, writes it down, does it, writes down what came of it.

use std::sync::Arc;

use paramedic_model::Clock;
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{Circumstances, Done, Ending, Entry, Next, Record, Run};
use crate::brake::{Brakes, Moment, Stopped};
use crate::classify::Effect;
use crate::document::Runbook;
use crate::execute::{BoxFuture, Hands, Live};
use crate::gate::{Mode, Policy};
use crate::outcome::Outcome;
use crate::render::Values;

/// Where the record goes. Both answer when what they were given would survive the machine.
pub trait Journal: Send + Sync {
    fn write<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<(), String>>;
    /// Called when the brakes counted something, before that is done.
    fn write_brakes<'a>(&'a self, brakes: &'a Brakes) -> BoxFuture<'a, Result<(), String>>;
    /// It would accept an entry now.
    fn is_ready(&self) -> bool {
        true
    }
}

/// All that a run is driven with.
#[derive(Clone)]
pub struct Stage {
    pub runbook: Arc<Runbook>,
    pub hands: Hands,
    pub journal: Arc<dyn Journal>,
    pub brakes: Arc<Mutex<Brakes>>,
    pub policies: Arc<[Policy]>,
    pub clock: Arc<dyn Clock>,
    /// A file that stops everything while it is there, or what its first word says: `writes`, `everything`.
    pub stop_file: Option<std::path::PathBuf>,
    /// Told when something about the run changed from outside.
    pub wake: Arc<Notify>,
    /// Steps of all runs that are carried out at once.
    pub turns: Arc<Semaphore>,
    /// What the step that is being carried out has said so far.
    pub live: Live,
}

impl Stage {
    /// A stage for one run alone.
    #[must_use]
    pub fn new(runbook: Arc<Runbook>, hands: Hands, journal: Arc<dyn Journal>, brakes: Arc<Mutex<Brakes>>, clock: Arc<dyn Clock>) -> Self {
        Self {
            runbook,
            hands,
            journal,
            brakes,
            policies: Arc::from([]),
            clock,
            stop_file: None,
            wake: Arc::default(),
            turns: Arc::new(Semaphore::new(1)),
            live: Live::default(),
        }
    }

    fn stopped_outside(&self) -> Stopped {
        self.stop_file.as_deref().map_or(Stopped::Nothing, stopped_by)
    }
}

/// What a file says that stops things by being there. One that cannot be looked at stops everything.
#[must_use]
pub fn stopped_by(file: &std::path::Path) -> Stopped {
    match std::fs::read(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Stopped::Nothing,
        Ok(bytes) if bytes.trim_ascii_start().starts_with(b"writes") => Stopped::Writes,
        Ok(_) | Err(_) => Stopped::Everything,
    }
}

/// Goes on until the run ended, or until somebody has to say something. An error is the record that could not be written;
/// then nothing more was done. The run is free between two steps and while one is carried out, so that people can agree to
/// steps, give inputs and call it off meanwhile; `stage.wake` says that they did.
pub async fn drive(run: &Mutex<Run>, stage: &Stage, cancel: &CancellationToken) -> Result<(), String> {
    if run.lock().await.mode == Mode::Test {
        return Err("a rehearsal carries nothing out; its outcomes come from a fixture".to_owned());
    }
    loop {
        // Between a step's beginning and its end a turn is held: who has all turns knows that no step is under way.
        let turn = stage.turns.acquire().await;
        let mut held = run.lock().await;
        if cancel.is_cancelled() && held.ended.is_none() {
            let why = "it was called off".to_owned();
            write(&mut held, stage, Record::Ended { outcome: Ending::CalledOff, why }).await?;
        }
        match decide(&mut held, stage).await? {
            Next::Write(record) => write(&mut held, stage, record).await?,
            Next::Carry { begun, step, order } => {
                let dry = matches!(*begun, Record::Begun { dry: true, .. });
                write(&mut held, stage, *begun).await?;
                let secrets = Values::resolve(&stage.runbook, &held.given).secrets().to_vec();
                drop(held);
                let outcome = carry(stage, &step, *order, cancel).await;
                let done = done_of(&step, outcome, dry, &secrets);
                write(&mut *run.lock().await, stage, Record::Done { step: step.name.clone(), dry, done }).await?;
            }
            Next::Wait { ms, .. } => {
                drop(held);
                drop(turn);
                tokio::select! {
                    () = tokio::time::sleep(std::time::Duration::from_millis(ms)) => {}
                    () = stage.wake.notified() => {}
                    () = cancel.cancelled() => {}
                }
            }
            Next::Idle | Next::Ended => return Ok(()),
        }
    }
}

/// Asks what is next. What changes something is counted, and the count is durable, before it is answered.
async fn decide(run: &mut Run, stage: &Stage) -> Result<Next, String> {
    let mut brakes = stage.brakes.lock().await;
    brakes.stop_from_outside(stage.stopped_outside());
    let next = run.next(&mut Circumstances {
        runbook: &stage.runbook,
        brakes: &mut brakes,
        policies: &stage.policies,
        journal_ready: stage.journal.is_ready(),
        moment: Moment::now(stage.clock.as_ref()),
    });
    if matches!(&next, Next::Carry { step, .. } if step.effect > Effect::Read) || matches!(next, Next::Ended) {
        stage.journal.write_brakes(&brakes).await?;
    }
    Ok(next)
}

/// One attempt, and further ones where the step only looks and says so.
async fn carry(stage: &Stage, step: &crate::plan::PlannedStep, order: crate::execute::Order, cancel: &CancellationToken) -> Outcome {
    let order = crate::execute::Order { live: Some(stage.live.clone()), ..order };
    stage.live.begin(&step.name);
    let retries = if step.effect == Effect::Read { step.demands.retries } else { 0 };
    let mut outcome = stage.hands.carry(&order, cancel).await;
    for _ in 0..retries {
        if outcome.is_ok() || cancel.is_cancelled() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(step.demands.backoff_ms)).await;
        outcome = stage.hands.carry(&order, cancel).await;
    }
    stage.live.end();
    outcome
}

/// A dry run is judged by whether it ended well and said how much.
pub(super) fn done_of(step: &crate::plan::PlannedStep, mut outcome: Outcome, dry: bool, secrets: &[String]) -> Done {
    if !dry {
        return Done::of(step, &outcome, secrets);
    }
    if outcome.affected.is_none() && outcome.is_ok() {
        let lines = outcome.stdout.text.lines().filter(|line| !line.trim().is_empty()).count() as u64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count that was checked to be one")]
        let number = outcome.value.filter(|value| *value >= 0.0 && value.fract() == 0.0 && *value < 1e15).map(|value| value as u64);
        outcome.affected = number.or(outcome.rows).or((lines > 0).then_some(lines));
    }
    let mut plain = step.clone();
    "ok".clone_into(&mut plain.demands.expect);
    plain.demands.captures.clear();
    Done::of(&plain, &outcome, secrets)
}

async fn write(run: &mut Run, stage: &Stage, record: Record) -> Result<(), String> {
    let entry = Entry::new(&run.id, stage.clock.now(), record);
    stage.journal.write(&entry).await?;
    run.apply(&entry.record);
    Ok(())
}
