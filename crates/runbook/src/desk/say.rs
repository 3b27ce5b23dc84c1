//! What people say about runs and brakes. Each is written down before it takes effect.

use std::collections::BTreeMap;
use std::sync::Arc;

use paramedic_model::{secret, text};

use super::fold::number_of;
use super::view::{RunView, may_be_undone};
use super::writing::{Batch, Said, unbroken};
use super::{Active, DeskError, RunDesk, locked, refused};
use crate::brake::{Brakes, BrakesView, Moment, Note, Stopped};
use crate::classify::Effect;
use crate::document::Runbook;
use crate::gate::{Agreed, Mode, Person};
use crate::plan::{Approval, PlannedStep, plan_step};
use crate::render::Values;
use crate::run::{Record, Run, StepOf, StepState, shown_inputs};

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
        self.nothing_lives_on(WHAT, &active, step).await?;
        let at_ms = {
            let mut brakes = self.brakes.lock().await;
            brakes.observe(&Moment::now(self.clock.as_ref()));
            brakes.clock_ms()
        };
        let (runbook, step, hash) = (Arc::clone(&active.stage.runbook), step.to_owned(), hash.to_owned());
        let said = self.say(&active, move |run| {
            let planned = planned(&runbook, run, &step)?;
            if planned.hash.is_empty() {
                let why = planned.blocked.first().map_or_else(|| "there is nothing to run".to_owned(), ToString::to_string);
                return Err(refused(WHAT, why));
            }
            not_dry(WHAT, run)?;
            if planned.hash != hash {
                return Err(DeskError::Stale { step, hash: planned.hash });
            }
            is_open(WHAT, run.state(&step))?;
            if planned.effect == Effect::Read && planned.by_hand.is_empty() {
                return Err(refused(WHAT, "it only looks, and runs by itself"));
            }
            if planned.demands.only_rollback && run.rollback_now(&runbook).as_deref() != Some(step.as_str()) {
                return Err(refused(WHAT, "it only takes another step back"));
            }
            let agreed = Agreed { by: by.clone(), run: run.id.clone(), step: step.clone(), hash, at_ms, used: false };
            // Whoever agrees to it wants it to run.
            Ok(Said { records: vec![Record::Agreed { agreed }, Record::Chosen { step, by }], with_brakes: true, ..Said::default() })
        });
        said.await.inspect_err(|error| {
            if matches!(error, DeskError::Stale { .. }) {
                self.metrics.refused.inc();
            }
        })?;
        Ok(self.view_of(&active).await)
    }

    /// Wants a step to run that nobody has to agree to, or says that a person has done it.
    pub async fn choose(self: &Arc<Self>, run: &str, step: &str, by: Person) -> Result<RunView, DeskError> {
        const WHAT: &str = "run the step";
        let active = self.active(run)?;
        person(WHAT, &by)?;
        self.nothing_lives_on(WHAT, &active, step).await?;
        let (runbook, step) = (Arc::clone(&active.stage.runbook), step.to_owned());
        self.say(&active, move |run| {
            let planned = planned(&runbook, run, &step)?;
            not_dry(WHAT, run)?;
            if planned.approval != Approval::None {
                return Err(refused(WHAT, "somebody has to agree to exactly what would run"));
            }
            if planned.demands.only_rollback && run.rollback_now(&runbook).as_deref() != Some(step.as_str()) {
                return Err(refused(WHAT, "it only takes another step back"));
            }
            if let Some(blocked) = planned.blocked.first() {
                return Err(refused(WHAT, blocked.to_string()));
            }
            is_open(WHAT, run.state(&step))?;
            Ok(Said::one(Record::Chosen { step, by }))
        })
        .await?;
        Ok(self.view_of(&active).await)
    }

    /// Wants a step that ended, or is in doubt, to be possible once more. What only looks runs at once.
    pub async fn again(self: &Arc<Self>, run: &str, step: &str, by: Person) -> Result<RunView, DeskError> {
        const WHAT: &str = "run the step once more";
        let active = self.active(run)?;
        person(WHAT, &by)?;
        self.nothing_lives_on(WHAT, &active, step).await?;
        let (runbook, step) = (Arc::clone(&active.stage.runbook), step.to_owned());
        self.say(&active, move |run| {
            planned(&runbook, run, &step)?;
            let state = run.state(&step);
            if matches!(state, StepState::Running | StepState::Verifying | StepState::Pending | StepState::Held { .. }) {
                return Err(refused(WHAT, format!("it is {}", word(state))));
            }
            Ok(Said::one(Record::Again { step, by }))
        })
        .await?;
        Ok(self.view_of(&active).await)
    }

    /// Leaves a step out.
    pub async fn leave_out(self: &Arc<Self>, run: &str, step: &str, by: Person, why: &str) -> Result<RunView, DeskError> {
        const WHAT: &str = "leave the step out";
        let active = self.active(run)?;
        person(WHAT, &by)?;
        let (runbook, step, why) = (Arc::clone(&active.stage.runbook), step.to_owned(), reason(why));
        self.say(&active, move |run| {
            planned(&runbook, run, &step)?;
            is_open(WHAT, run.state(&step))?;
            Ok(Said::one(Record::LeftOut { step, by, why }))
        })
        .await?;
        Ok(self.view_of(&active).await)
    }

    /// Takes back what a step changed: its rollback step runs; where there is none, the action that undoes it becomes a run.
    /// After the end of the run the rollback step becomes a run too, and waits for a word.
    pub async fn undo(self: &Arc<Self>, run: &str, step: &str, by: Person, why: &str) -> Result<RunView, DeskError> {
        const WHAT: &str = "take the step back";
        person(WHAT, &by)?;
        if let Ok(active) = self.active(run) {
            self.nothing_lives_on(WHAT, &active, step).await?;
            let held = active.run.lock().await;
            let planned = planned(&active.stage.runbook, &held, step)?;
            if !may_be_undone(&planned, &held, held.state(step)) {
                return Err(refused(WHAT, "it changed nothing, or nothing is known that takes it back"));
            }
            let by_step = planned.demands.rollback.is_some() && held.ended.is_none();
            drop(held);
            if by_step {
                let (step, why) = (step.to_owned(), reason(why));
                self.say(&active, move |_| Ok(Said::one(Record::TakeBack { step, by, why }))).await?;
                return Ok(self.view_of(&active).await);
            }
        }
        let view = self.view(run).await?;
        let found =
            view.steps.iter().find(|one| one.name == step).ok_or_else(|| DeskError::NotFound { what: "the step", id: step.to_owned() })?;
        let in_doubt = found.state == StepState::Interrupted;
        self.nothing_left(WHAT, &view.line.id, step, in_doubt).await?;
        let Some(inverse) = found.way_back.clone() else {
            if found.rollback.is_some() && found.can.contains(&super::Can::Undo) {
                return self.start_way_back(&view.line.id, step, by, &reason(why)).await;
            }
            return Err(refused(
                WHAT,
                if view.text_gone { "the text that says how is not there any more" } else { "nothing is known that takes it back" },
            ));
        };
        let mut call = super::ActionCall::of_json(&inverse).ok_or_else(|| refused(WHAT, "its way back cannot be read"))?;
        // What a step touched, its way back may touch too.
        call.affected_max = found.last.as_ref().and_then(|done| done.affected).or(found.affected);
        let why = format!("takes back {step} of {}: {}", view.line.id, reason(why));
        let of = StepOf { run: view.line.id.clone(), step: step.to_owned() };
        self.start_action_for(call, view.line.incident.clone(), by, &why, Some(of)).await
    }

    /// Refuses as long as a program of a step in doubt lives on: it may yet do what it began.
    async fn nothing_lives_on(&self, what: &'static str, active: &Active, step: &str) -> Result<(), DeskError> {
        let (id, in_doubt) = {
            let run = active.run.lock().await;
            (run.id.clone(), *run.state(step) == StepState::Interrupted)
        };
        self.nothing_left(what, &id, step, in_doubt).await
    }

    async fn nothing_left(&self, what: &'static str, run: &str, step: &str, in_doubt: bool) -> Result<(), DeskError> {
        let left = if in_doubt { self.left(run, step).await } else { Vec::new() };
        if left.is_empty() {
            return Ok(());
        }
        let shown = || left.iter().take(super::driving::LEFT_MAX);
        let who: Vec<String> = shown().map(ToString::to_string).collect();
        let how: Vec<String> =
            shown().map(|one| format!("`paramedic action run process.stop --set pid={} --set started={}`", one.pid, one.started)).collect();
        let (who, how) = (who.join(", "), how.join(", "));
        let why = format!(
            "of the attempt that nobody saw the end of, this still runs: {who}; wait for it, end it with {how}, or leave the step out"
        );
        Err(refused(what, why))
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
        let (runbook, inputs) = (Arc::clone(&active.stage.runbook), inputs.clone());
        self.say(&active, move |run| {
            let mut given = run.given.clone();
            given.inputs.extend(inputs.clone());
            let faults = Values::resolve(&runbook, &given).faults();
            if let Some(fault) = faults.iter().find(|fault| inputs.contains_key(&fault.name)) {
                return Err(refused(WHAT, format!("the value of {} {}", fault.name, fault.why)));
            }
            let shown = shown_inputs(&runbook, &inputs);
            Ok(Said { secrets: inputs, ..Said::one(Record::Given { by, inputs: shown }) })
        })
        .await?;
        Ok(self.view_of(&active).await)
    }

    /// Tells every run of an incident what was seen since.
    pub async fn tell_incident(self: &Arc<Self>, incident: &str, lines: &[String]) -> Result<(), DeskError> {
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
        let name = text::capped(&by.name, 200).into_owned();
        let why = format!("{name} called it off: {}", reason(why));
        let written = self.end_by(&active, &name, why.clone()).await;
        if written.is_err() {
            // It stops all the same; its end is written when it can be.
            active.run.lock().await.call_off(why);
        }
        active.cancel.cancel();
        active.stage.wake.notify_one();
        written?;
        Ok(self.view_of(&active).await)
    }

    async fn end_by(self: &Arc<Self>, active: &Arc<Active>, name: &str, why: String) -> Result<(), DeskError> {
        let actor = Some(name.to_owned());
        self.say(active, move |run| {
            let record = Record::Ended { outcome: crate::run::Ending::CalledOff, why };
            let records = if run.ended.is_some() { Vec::new() } else { vec![record] };
            Ok(Said { records, actor, also_ended: true, ..Said::default() })
        })
        .await
    }

    /// Sets or lifts the kill switch. What is stopped is stopped at once, even when that cannot be written down; what is
    /// lifted is written down first.
    pub async fn stop(self: &Arc<Self>, what: Stopped, by: &Person, why: &str) -> Result<BrakesView, DeskError> {
        let note = Note { by: text::capped(&by.name, 200).into_owned(), why: reason(why), at: self.clock.now() };
        let (desk, by) = (Arc::clone(self), by.clone());
        unbroken(async move {
            let mut brakes = desk.brakes.lock().await;
            // Anybody may stop things; only a person may let them go on.
            if what < brakes.stopped_by_people() {
                person("lift the kill switch", &by)?;
            }
            let mut next = brakes.clone();
            next.stop(what, note);
            if what >= brakes.stopped_by_people() {
                *brakes = next.clone();
            }
            desk.store(&mut brakes, next, &by).await
        })
        .await
    }

    /// Lets unattended changes happen again after the fleet's brake tripped.
    pub async fn release(self: &Arc<Self>, by: &Person, why: &str) -> Result<BrakesView, DeskError> {
        const WHAT: &str = "release the brake";
        person(WHAT, by)?;
        let note = Note { by: text::capped(&by.name, 200).into_owned(), why: reason(why), at: self.clock.now() };
        let (desk, by) = (Arc::clone(self), by.clone());
        unbroken(async move {
            let mut brakes = desk.brakes.lock().await;
            let mut next = brakes.clone();
            next.release(note).map_err(|why| refused(WHAT, why))?;
            desk.store(&mut brakes, next, &by).await
        })
        .await
    }

    /// Writes other brakes down, and puts them in the place of those of before.
    async fn store(self: &Arc<Self>, brakes: &mut Brakes, mut next: Brakes, by: &Person) -> Result<BrakesView, DeskError> {
        let batch = Batch { brakes: Some(next.clone()), actor: Some(by.name.clone()), ..Batch::default() };
        self.write_all(batch).await?;
        next.written();
        next.stop_from_outside(crate::run::stopped_by(&self.stop_file));
        *brakes = next;
        *locked(&self.stopped_told) = brakes.stopped();
        self.wake_all();
        Ok(brakes.view())
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

fn planned(runbook: &Runbook, run: &Run, step: &str) -> Result<PlannedStep, DeskError> {
    let found = runbook.steps.iter().find(|one| one.name == step);
    let found = found.ok_or_else(|| DeskError::NotFound { what: "the step", id: step.to_owned() })?;
    Ok(plan_step(runbook, found, &Values::resolve(runbook, &run.given)))
}

fn not_dry(what: &'static str, run: &Run) -> Result<(), DeskError> {
    if run.mode == Mode::Dry { Err(refused(what, "a dry run changes nothing; start one that goes step by step")) } else { Ok(()) }
}

fn is_open(what: &'static str, state: &StepState) -> Result<(), DeskError> {
    match state {
        StepState::Pending | StepState::Held { .. } | StepState::Interrupted => Ok(()),
        other => Err(refused(what, format!("it is {}; ask for it once more first", word(other)))),
    }
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
    if why.is_empty() { "no reason given".to_owned() } else { text::capped(&secret::mask(why), WHY_BYTES_MAX).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_masked_before_it_is_cut() {
        let said = reason(&format!("{} sk-ant-api03-abcdefgh12345678", "x".repeat(WHY_BYTES_MAX - 13)));
        assert!(said.starts_with("xxx") && !said.contains("api0"), "{said}");
    }
}
