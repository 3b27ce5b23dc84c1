//! What was changed for a time is taken back when it is over, whether or not its run has ended.

use std::sync::Arc;
use std::time::Duration;

use paramedic_model::{secret, text};
use tokio_util::sync::CancellationToken;

use super::fold::{REVERTS_MAX, Revert, number_of};
use super::writing::Said;
use super::{DeskError, RunDesk, locked};
use crate::brake::Stopped;
use crate::classify::Effect;
use crate::execute::{About, Order};
use crate::outcome::Outcome;
use crate::render::Work;
use crate::run::{Done, Entry, Record, Verdict};

/// Time for an action that takes something back.
const TIMEOUT: Duration = Duration::from_secs(120);

impl RunDesk {
    /// Begins all ways back that are due, each in a task of its own.
    pub(super) fn begin_reverts(self: &Arc<Self>) {
        if self.stopping.is_cancelled() {
            return;
        }
        let now = self.clock.now();
        let due: Vec<Revert> =
            locked(&self.runs).reverts().filter(|revert| revert.due_at <= now && revert.attempts < REVERTS_MAX).cloned().collect();
        for revert in due {
            let key = format!("{}/{}", revert.run, revert.step);
            if !locked(&self.reverting).insert(key.clone()) {
                continue;
            }
            let desk = Arc::clone(self);
            self.spawn_task(async move {
                if let Err(error) = desk.revert(&revert).await {
                    tracing::error!(run = revert.run, step = revert.step, %error, "a way back could not be written down");
                }
                locked(&desk.reverting).remove(&key);
            });
        }
    }

    /// Takes back what a step changed for a time. A stop by people holds it back as well: then nothing changes at all.
    async fn revert(self: &Arc<Self>, revert: &Revert) -> Result<(), DeskError> {
        {
            let mut brakes = self.brakes.lock().await;
            brakes.stop_from_outside(crate::run::stopped_by(&self.stop_file));
            if brakes.stopped() > Stopped::Nothing {
                return Ok(());
            }
        }
        let Ok(_turn) = self.turns.try_acquire() else { return Ok(()) };
        let attempt = revert.attempts + 1;
        self.note(&revert.run, Record::Reverting { step: revert.step.clone(), attempt, call: revert.call.clone() }).await?;
        let outcome = match work_of(&revert.call) {
            Some(work) => self.hands.carry(&order(work, &revert.run), &CancellationToken::new()).await,
            None => Outcome::fault("its call cannot be read"),
        };
        self.note(&revert.run, Record::Reverted { step: revert.step.clone(), done: done_of(&outcome) }).await
    }

    /// Writes a record about a run that may be over.
    async fn note(self: &Arc<Self>, run: &str, record: Record) -> Result<(), DeskError> {
        let active = number_of(run).and_then(|number| locked(&self.active).get(&number).cloned());
        match active {
            Some(active) => self.say(&active, move |_| Ok(Said { also_ended: true, ..Said::one(record) })).await,
            None => self.write(Entry::new(run, self.clock.now(), record)).await,
        }
    }
}

fn done_of(outcome: &Outcome) -> Done {
    let said = if outcome.is_ok() { String::new() } else { outcome.stderr.text.clone() };
    let why = outcome.fault.clone().unwrap_or(said);
    Done {
        verdict: if outcome.is_ok() { Verdict::Ok } else { Verdict::Failed },
        why: text::head(&secret::mask(&why), 4_096).to_owned(),
        exit: outcome.exit,
        signal: outcome.signal,
        ms: outcome.ms,
        output_hash: outcome.output_hash(),
        output_bytes: outcome.stdout.bytes + outcome.stderr.bytes,
        shown: text::head(&secret::mask(&outcome.stdout.text), 4_096).to_owned(),
        found: std::collections::BTreeMap::default(),
        captured: std::collections::BTreeMap::default(),
        affected: outcome.affected,
        of: outcome.of,
        inverse: None,
        reverts_after_s: None,
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
        timeout: TIMEOUT,
        secrets: Vec::new(),
        redact: Vec::new(),
        window: None,
        dry: false,
        live: None,
        about: About { run: run.to_owned(), by: "paramedic".to_owned(), ..About::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_way_back_said_is_masked_before_it_is_cut() {
        let text = format!("{} sk-ant-api03-abcdefgh12345678", "x".repeat(4_096 - 13));
        let mut outcome = Outcome::fault(text.clone());
        outcome.stdout.text = text;
        let done = done_of(&outcome);
        assert!(!done.why.contains("api0") && !done.shown.contains("api0"), "{done:?}");
    }
}
