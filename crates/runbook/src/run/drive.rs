//! Drives a run: asks what is next, writes it down, does it, writes down what came of it.

use std::sync::Arc;

use paramedic_model::Clock;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::{Circumstances, Done, Ending, Entry, Next, Record, Run};
use crate::brake::{Brakes, Moment};
use crate::classify::Effect;
use crate::document::Runbook;
use crate::execute::{BoxFuture, Hands};
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
}

/// Goes on until the run ended, or until somebody has to say something. An error is the record that could not be written;
/// then nothing more was done.
pub async fn drive(run: &mut Run, stage: &Stage, cancel: &CancellationToken) -> Result<(), String> {
    if run.mode == Mode::Test {
        return Err("a rehearsal carries nothing out; its outcomes come from a fixture".to_owned());
    }
    loop {
        if cancel.is_cancelled() {
            let why = "it was called off".to_owned();
            write(run, stage, Record::Ended { outcome: Ending::CalledOff, why }).await?;
        }
        let next = {
            let mut brakes = stage.brakes.lock().await;
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
            next
        };
        match next {
            Next::Write(record) => write(run, stage, record).await?,
            Next::Carry { begun, step, order } => {
                let dry = matches!(*begun, Record::Begun { dry: true, .. });
                write(run, stage, *begun).await?;
                let secrets = Values::resolve(&stage.runbook, &run.given).secrets().to_vec();
                let retries = if step.effect == Effect::Read { step.demands.retries } else { 0 };
                let mut outcome = stage.hands.carry(&order, cancel).await;
                for _ in 0..retries {
                    if outcome.is_ok() || cancel.is_cancelled() {
                        break;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(step.demands.backoff_ms)).await;
                    outcome = stage.hands.carry(&order, cancel).await;
                }
                let done = done_of(&step, outcome, dry, &secrets);
                write(run, stage, Record::Done { step: step.name.clone(), dry, done }).await?;
            }
            Next::Wait { ms, .. } => tokio::select! {
                () = tokio::time::sleep(std::time::Duration::from_millis(ms)) => {}
                () = cancel.cancelled() => {}
            },
            Next::Idle | Next::Ended => return Ok(()),
        }
    }
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
