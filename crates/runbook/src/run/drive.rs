//! Drives a run: asks what is next, writes it down, does it, writes down what came of it.

use std::io::Read as _;
use std::sync::{Arc, PoisonError, RwLock};

use paramedic_model::Clock;
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{Circumstances, Done, Ending, Entry, Next, Record, Run};
use crate::brake::{Brakes, Moment, Stopped};
use crate::classify::Effect;
use crate::document::Runbook;
use crate::execute::{BoxFuture, Hands, Live};
use crate::gate::{self, Mode, Policy};
use crate::outcome::Outcome;
use crate::plan::masked;

/// Where the record goes. Both answer when what they were given would survive the machine.
pub trait Journal: Send + Sync {
    fn write<'a>(&'a self, entry: &'a Entry) -> BoxFuture<'a, Result<(), String>>;
    /// Called when the brakes counted something, before that is done.
    fn write_brakes<'a>(&'a self, brakes: &'a Brakes) -> BoxFuture<'a, Result<(), String>>;
    /// Both at once: the attempt with the brakes that counted it.
    fn write_counted<'a>(&'a self, brakes: &'a Brakes, entry: &'a Entry) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            self.write_brakes(brakes).await?;
            self.write(entry).await
        })
    }
    /// It would accept an entry now.
    fn is_ready(&self) -> bool {
        true
    }
}

/// The policies of now, also for runs that began under others.
pub type Policies = Arc<RwLock<Arc<[Policy]>>>;

/// All that a run is driven with.
#[derive(Clone)]
pub struct Stage {
    pub runbook: Arc<Runbook>,
    pub hands: Hands,
    pub journal: Arc<dyn Journal>,
    pub brakes: Arc<Mutex<Brakes>>,
    pub policies: Policies,
    pub clock: Arc<dyn Clock>,
    /// A file that stops everything while it is there, or what its first word says: `writes`, `everything`.
    pub stop_file: Option<std::path::PathBuf>,
    /// Told when something about the run changed from outside.
    pub wake: Arc<Notify>,
    /// Steps of all runs that are carried out at once.
    pub turns: Arc<Semaphore>,
    /// The instance ends: no further step begins.
    pub stopping: CancellationToken,
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
            policies: Arc::new(RwLock::new(Arc::from([]))),
            clock,
            stop_file: None,
            wake: Arc::default(),
            turns: Arc::new(Semaphore::new(1)),
            stopping: CancellationToken::new(),
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
    match std::fs::symlink_metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Stopped::Nothing,
        Err(_) => return Stopped::Everything,
        Ok(_) => {}
    }
    // Reading what is no file could take for ever; and only its first word counts.
    let is_file = std::fs::metadata(file).is_ok_and(|found| found.is_file());
    let mut beginning = Vec::new();
    let read = is_file.then(|| std::fs::File::open(file).and_then(|opened| opened.take(64).read_to_end(&mut beginning)));
    match read {
        Some(Ok(_)) if beginning.trim_ascii_start().starts_with(b"writes") => Stopped::Writes,
        _ => Stopped::Everything,
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
        // A run that was called off needs none, since it only writes its end.
        let turn = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            turn = stage.turns.acquire() => turn.ok(),
        };
        let mut held = run.lock().await;
        settle(&mut held, stage).await?;
        if cancel.is_cancelled() && held.ended.is_none() {
            let why = held.calling_off.clone().unwrap_or_else(|| "it was called off".to_owned());
            write(&mut held, stage, Record::Ended { outcome: Ending::CalledOff, why }).await?;
        }
        if stage.stopping.is_cancelled() && held.ended.is_none() {
            return Ok(());
        }
        match decide(&mut held, stage).await? {
            Next::Write(record) => write(&mut held, stage, record).await?,
            Next::Carry { begun, step, order } => {
                let dry = matches!(*begun, Record::Begun { dry: true, .. });
                let allowed = allowed(stage, &step, &begun);
                let values = held.checked(&stage.runbook);
                drop(held);
                let outcome = match foresee(run, stage, &step, &order, &allowed, cancel).await {
                    Ok(None) => carry(stage, &step, *order, cancel).await,
                    Ok(Some(refused)) => refused,
                    // It is not in doubt: without its way back in the record it was not done.
                    Err(why) => Outcome::fault(format!("it was not carried out, because its way back could not be written down: {why}")),
                };
                let done = done_of(&step, outcome, dry, values.secrets());
                let mut held = run.lock().await;
                held.unwritten = Some(Record::Done { step: step.name.clone(), dry, done });
                settle(&mut held, stage).await?;
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

/// Asks what is next. A step that begins is written down before it is answered, and with it the brakes that counted it.
async fn decide(run: &mut Run, stage: &Stage) -> Result<Next, String> {
    let policies = stage.policies.read().unwrap_or_else(PoisonError::into_inner).clone();
    let mut brakes = stage.brakes.lock().await;
    brakes.stop_from_outside(stage.stopped_outside());
    let before = brakes.mark();
    let next = run.next(&mut Circumstances {
        runbook: &stage.runbook,
        brakes: &mut brakes,
        policies: &policies,
        journal_ready: stage.journal.is_ready(),
        moment: Moment::now(stage.clock.as_ref()),
    });
    match &next {
        Next::Carry { begun, .. } => {
            let entry = Entry::new(&run.id, stage.clock.now(), (**begun).clone());
            if brakes.is_unwritten() {
                if let Err(why) = stage.journal.write_counted(&brakes, &entry).await {
                    brakes.forget_since(before);
                    return Err(why);
                }
                brakes.written();
            } else {
                drop(brakes);
                stage.journal.write(&entry).await?;
            }
            run.apply(&entry.record);
        }
        _ if brakes.is_unwritten() => {
            stage.journal.write_brakes(&brakes).await?;
            brakes.written();
        }
        _ => {}
    }
    Ok(next)
}

/// How many objects an attempt may touch that was just admitted. What takes something back is as large as what it takes back.
fn allowed(stage: &Stage, step: &crate::plan::PlannedStep, begun: &Record) -> gate::Allowed {
    let Record::Begun { authority, takes_back: None, .. } = begun else { return gate::Allowed::default() };
    let policies = stage.policies.read().unwrap_or_else(PoisonError::into_inner);
    gate::Allowed::of(step, authority, &policies)
}

/// Plans an action once more and writes its way back down, before it is carried out. An outcome: the plan was refused, and
/// nothing is to be carried out.
async fn foresee(
    run: &Mutex<Run>,
    stage: &Stage,
    step: &crate::plan::PlannedStep,
    order: &crate::execute::Order,
    allowed: &gate::Allowed,
    cancel: &CancellationToken,
) -> Result<Option<Outcome>, String> {
    if order.dry || step.effect == Effect::Read || !matches!(order.work, crate::render::Work::Action { .. }) {
        return Ok(None);
    }
    let planned = stage.hands.carry(&crate::execute::Order { dry: true, ..order.clone() }, cancel).await;
    if !planned.is_ok() {
        return Ok(Some(planned));
    }
    // What was counted when it was agreed to may be minutes old, and there may be more by now.
    if let Some(why) = allowed.exceeded_by(planned.affected, planned.of) {
        return Ok(Some(Outcome::fault(format!("nothing was done: {why}"))));
    }
    if let Some(inverse) = planned.inverse {
        let what = paramedic_model::text::head(&masked(&planned.stdout.text, &order.secrets), 500).to_owned();
        let record = Record::Foreseen { step: step.name.clone(), what, inverse, reverts_after_s: planned.reverts_after_s };
        let mut held = run.lock().await;
        write(&mut held, stage, record).await?;
    }
    Ok(None)
}

/// One attempt, and further ones where the step only looks and says so.
async fn carry(stage: &Stage, step: &crate::plan::PlannedStep, order: crate::execute::Order, cancel: &CancellationToken) -> Outcome {
    let order = crate::execute::Order { live: Some(stage.live.clone()), ..order };
    stage.live.begin(&step.name);
    let retries = if step.effect == Effect::Read { step.demands.retries } else { 0 };
    let hands = stage.hands.of_step(&order.about.run, &step.name);
    let mut outcome = hands.carry(&order, cancel).await;
    for _ in 0..retries {
        if outcome.is_ok() || cancel.is_cancelled() {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(std::time::Duration::from_millis(step.demands.backoff_ms)) => {}
            () = cancel.cancelled() => break,
        }
        outcome = hands.carry(&order, cancel).await;
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

/// Writes down what happened and could not be written before: it is known how a step ended, even if the disk was full then.
async fn settle(run: &mut Run, stage: &Stage) -> Result<(), String> {
    if let Some(record) = run.unwritten.clone() {
        write(run, stage, record).await?;
        run.unwritten = None;
    }
    Ok(())
}

async fn write(run: &mut Run, stage: &Stage, record: Record) -> Result<(), String> {
    let entry = Entry::new(&run.id, stage.clock.now(), record);
    stage.journal.write(&entry).await?;
    run.apply(&entry.record);
    Ok(())
}
