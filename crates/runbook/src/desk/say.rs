//! What people say about runs and brakes. Each is written down before it takes effect.

use std::collections::BTreeMap;
use std::sync::Arc;

use paramedic_model::{secret, text};

use super::fold::number_of;
use super::view::RunView;
use super::{Active, DeskError, RunDesk, locked, refused};
use crate::brake::{BrakesView, Moment, Note, Stopped};
use crate::classify::Effect;
use crate::gate::{Agreed, Person};
use crate::plan::{Approval, PlannedStep, plan_step};
use crate::render::Values;
use crate::run::{Record, Run, StepState, shown_inputs};

/// Longest reason, in bytes.
const WHY_BYTES_MAX: usize = 2_000;

impl RunDesk {
    pub(super) fn active(&self, id: &str) -> Result<Arc<Active>, DeskError> {
        let found = number_of(id).and_then(|number| locked(&self.active).get(&number).cloned());
        match found {
            Some(active) => Ok(active),
            None if number_of(id).is_some_and(|number| locked(&self.runs).line(number).is_some()) => {
                Err(refused("change the run", format!("{id} has ended")))
            }
            None => Err(DeskError::NotFound { what: "the run", id: id.to_owned() }),
        }
    }

    /// Agrees to exactly the rendered step that has this hash.
    pub async fn approve(self: &Arc<Self>, run: &str, step: &str, hash: &str, by: Person) -> Result<RunView, DeskError> {
        const WHAT: &str = "agree to the step";
        let active = self.active(run)?;
        person(WHAT, &by).inspect_err(|_| {
            self.metrics.refused.inc();
        })?;
        let at_ms = {
            let mut brakes = self.brakes.lock().await;
            brakes.observe(&Moment::now(self.clock.as_ref()));
            brakes.clock_ms()
        };
        let agreed = {
            let run = active.run.lock().await;
            let planned = planned(&active, &run, step)?;
            if planned.hash.is_empty() {
                let why = planned.blocked.first().map_or_else(|| "there is nothing to run".to_owned(), ToString::to_string);
                return Err(refused(WHAT, why));
            }
            if planned.hash != hash {
                self.metrics.refused.inc();
                return Err(DeskError::Stale { step: step.to_owned(), hash: planned.hash });
            }
            if !is_open(run.state(step)) {
                return Err(refused(WHAT, format!("it is {}; ask for it once more first", word(run.state(step)))));
            }
            if planned.effect == Effect::Read && planned.by_hand.is_empty() {
                return Err(refused(WHAT, "it only looks, and runs by itself"));
            }
            if planned.demands.only_rollback {
                return Err(refused(WHAT, "it only takes another step back"));
            }
            Agreed { by: by.clone(), run: run.id.clone(), step: step.to_owned(), hash: hash.to_owned(), at_ms, used: false }
        };
        self.record(&active, Record::Agreed { agreed }).await?;
        // Whoever agrees to it wants it to run.
        self.record(&active, Record::Chosen { step: step.to_owned(), by }).await?;
        Ok(self.view_of(&active).await)
    }

    /// Wants a step to run that nobody has to agree to, or says that a person has done it.
    pub async fn choose(self: &Arc<Self>, run: &str, step: &str, by: Person) -> Result<RunView, DeskError> {
        const WHAT: &str = "run the step";
        let active = self.active(run)?;
        person(WHAT, &by)?;
        {
            let run = active.run.lock().await;
            let planned = planned(&active, &run, step)?;
            if planned.approval != Approval::None {
                return Err(refused(WHAT, "somebody has to agree to exactly what would run"));
            }
            if planned.demands.only_rollback {
                return Err(refused(WHAT, "it only takes another step back"));
            }
            if let Some(blocked) = planned.blocked.first() {
                return Err(refused(WHAT, blocked.to_string()));
            }
            if !is_open(run.state(step)) {
                return Err(refused(WHAT, format!("it is {}; ask for it once more first", word(run.state(step)))));
            }
        }
        self.record(&active, Record::Chosen { step: step.to_owned(), by }).await?;
        Ok(self.view_of(&active).await)
    }

    /// Wants a step that ended, or is in doubt, to be possible once more. What only looks runs at once.
    pub async fn again(self: &Arc<Self>, run: &str, step: &str, by: Person) -> Result<RunView, DeskError> {
        const WHAT: &str = "run the step once more";
        let active = self.active(run)?;
        person(WHAT, &by)?;
        {
            let run = active.run.lock().await;
            planned(&active, &run, step)?;
            if matches!(run.state(step), StepState::Running | StepState::Verifying | StepState::Pending | StepState::Held { .. }) {
                return Err(refused(WHAT, format!("it is {}", word(run.state(step)))));
            }
        }
        self.record(&active, Record::Again { step: step.to_owned(), by }).await?;
        Ok(self.view_of(&active).await)
    }

    /// Leaves a step out.
    pub async fn leave_out(self: &Arc<Self>, run: &str, step: &str, by: Person, why: &str) -> Result<RunView, DeskError> {
        const WHAT: &str = "leave the step out";
        let active = self.active(run)?;
        person(WHAT, &by)?;
        {
            let run = active.run.lock().await;
            planned(&active, &run, step)?;
            if !is_open(run.state(step)) {
                return Err(refused(WHAT, format!("it is {}", word(run.state(step)))));
            }
        }
        self.record(&active, Record::LeftOut { step: step.to_owned(), by, why: reason(why) }).await?;
        Ok(self.view_of(&active).await)
    }

    /// Takes back what a step changed: its rollback step runs; where there is none, the action that undoes it becomes a run.
    pub async fn undo(self: &Arc<Self>, run: &str, step: &str, by: Person, why: &str) -> Result<RunView, DeskError> {
        const WHAT: &str = "take the step back";
        person(WHAT, &by)?;
        if let Ok(active) = self.active(run) {
            let held = active.run.lock().await;
            let planned = planned(&active, &held, step)?;
            let ran = matches!(
                held.state(step),
                StepState::Ok | StepState::Verifying | StepState::Verified | StepState::Unexpected { .. } | StepState::Failed { .. }
            );
            if planned.effect == Effect::Read || !ran || !held.last.contains_key(step) {
                return Err(refused(WHAT, "it changed nothing"));
            }
            let has_rollback = planned.demands.rollback.is_some();
            drop(held);
            if has_rollback {
                self.record(&active, Record::TakeBack { step: step.to_owned(), by, why: reason(why) }).await?;
                return Ok(self.view_of(&active).await);
            }
        }
        let view = self.view(run).await?;
        let found =
            view.steps.iter().find(|one| one.name == step).ok_or_else(|| DeskError::NotFound { what: "the step", id: step.to_owned() })?;
        let inverse = found.last.as_ref().and_then(|done| done.inverse.clone());
        let Some(inverse) = inverse else { return Err(refused(WHAT, "nothing is known that takes it back")) };
        let call = super::ActionCall::of_json(&inverse).ok_or_else(|| refused(WHAT, "its way back cannot be read"))?;
        let why = format!("takes back {step} of {}: {}", view.line.id, reason(why));
        self.start_action(call, view.line.incident.clone(), by, &why).await
    }

    /// Gives inputs that were missing, or other ones.
    pub async fn give(self: &Arc<Self>, run: &str, inputs: &BTreeMap<String, String>, by: Person) -> Result<RunView, DeskError> {
        const WHAT: &str = "give the inputs";
        let active = self.active(run)?;
        person(WHAT, &by)?;
        let known = &active.stage.runbook.inputs;
        if let Some(unknown) = inputs.keys().find(|name| !known.is_empty() && !known.contains_key(*name)) {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            return Err(refused(WHAT, format!("it has no input {unknown}; it asks for {}", names.join(", "))));
        }
        {
            let run = active.run.lock().await;
            let mut given = run.given.clone();
            given.inputs.extend(inputs.clone());
            let faults = Values::resolve(&active.stage.runbook, &given).faults();
            if let Some(fault) = faults.iter().find(|fault| inputs.contains_key(&fault.name)) {
                return Err(refused(WHAT, format!("the value of {} {}", fault.name, fault.why)));
            }
        }
        active.run.lock().await.give_secrets(inputs);
        let inputs = shown_inputs(&active.stage.runbook, inputs);
        self.record(&active, Record::Given { by, inputs }).await?;
        Ok(self.view_of(&active).await)
    }

    /// Tells every run of an incident what was seen since.
    pub async fn tell_incident(&self, incident: &str, lines: &[String]) -> Result<(), DeskError> {
        let of: Vec<u64> = locked(&self.runs)
            .lines()
            .filter(|line| line.ended_at.is_none() && line.incident.as_deref() == Some(incident))
            .map(|line| line.number)
            .collect();
        for number in of {
            let active = locked(&self.active).get(&number).cloned();
            if let Some(active) = active {
                self.observe(&active, lines).await?;
            }
        }
        Ok(())
    }

    /// Calls a run off: the step under way is ended, and nothing more is done.
    pub async fn call_off(self: &Arc<Self>, run: &str, by: Person, why: &str) -> Result<RunView, DeskError> {
        let active = self.active(run)?;
        // A machine may call its own run off (its incident ended); that harms nobody.
        let why = format!("{} called it off: {}", by.name, reason(why));
        active.cancel.cancel();
        let ended = {
            let run = active.run.lock().await;
            run.ended.is_some()
        };
        if !ended {
            self.record(&active, Record::Ended { outcome: crate::run::Ending::CalledOff, why }).await?;
        }
        active.stage.wake.notify_one();
        Ok(self.view_of(&active).await)
    }

    /// Sets or lifts the kill switch.
    pub async fn stop(&self, what: Stopped, by: &Person, why: &str) -> Result<BrakesView, DeskError> {
        let mut brakes = self.brakes.lock().await;
        let mut next = brakes.clone();
        // Anybody may stop things; only a person may let them go on.
        if what < next.stopped_by_people() {
            person("lift the kill switch", by)?;
        }
        next.stop(what, Note { by: by.name.clone(), why: reason(why), at: self.clock.now() });
        self.write_brakes(&next, &by.name).await?;
        next.stop_from_outside(crate::run::stopped_by(&self.stop_file));
        *brakes = next;
        let view = brakes.view();
        drop(brakes);
        self.wake_all();
        Ok(view)
    }

    /// Lets unattended changes happen again after the fleet's brake tripped.
    pub async fn release(&self, by: &Person, why: &str) -> Result<BrakesView, DeskError> {
        let mut brakes = self.brakes.lock().await;
        let mut next = brakes.clone();
        person("release the brake", by)?;
        next.release(Note { by: by.name.clone(), why: reason(why), at: self.clock.now() })
            .map_err(|why| refused("release the brake", why))?;
        self.write_brakes(&next, &by.name).await?;
        *brakes = next;
        let view = brakes.view();
        drop(brakes);
        self.wake_all();
        Ok(view)
    }

    pub async fn brakes(&self) -> BrakesView {
        let mut brakes = self.brakes.lock().await;
        brakes.stop_from_outside(crate::run::stopped_by(&self.stop_file));
        brakes.observe(&Moment::now(self.clock.as_ref()));
        brakes.view()
    }
}

fn person(what: &'static str, by: &Person) -> Result<(), DeskError> {
    if by.is_human() { Ok(()) } else { Err(refused(what, format!("{:?} is no person; say who you are", by.name))) }
}

fn planned(active: &Active, run: &Run, step: &str) -> Result<PlannedStep, DeskError> {
    let runbook = &active.stage.runbook;
    let found = runbook.steps.iter().find(|one| one.name == step);
    let found = found.ok_or_else(|| DeskError::NotFound { what: "the step", id: step.to_owned() })?;
    Ok(plan_step(runbook, found, &Values::resolve(runbook, &run.given)))
}

const fn is_open(state: &StepState) -> bool {
    matches!(state, StepState::Pending | StepState::Held { .. } | StepState::Interrupted)
}

pub(super) const fn word(state: &StepState) -> &'static str {
    match state {
        StepState::Pending => "not run yet",
        StepState::Held { .. } => "held back",
        StepState::Running => "under way",
        StepState::Ok => "done",
        StepState::Unexpected { .. } => "done, and not as expected",
        StepState::Failed { .. } => "failed",
        StepState::Skipped { .. } => "left out",
        StepState::Interrupted => "in doubt: it began, and nobody knows how it ended",
        StepState::Verifying => "being verified",
        StepState::Verified => "verified",
        StepState::TakenBack { .. } => "taken back",
    }
}

fn reason(why: &str) -> String {
    let why = why.trim();
    if why.is_empty() { "no reason given".to_owned() } else { secret::mask(&text::capped(why, WHY_BYTES_MAX)).into_owned() }
}
