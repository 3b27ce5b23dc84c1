//! Runs as people see them: each step with what it would do, what it waits for, and what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use paramedic_model::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fold::{Revert, Runs, number_of, subject};
use super::{Active, DeskError, RunDesk, RunLine, locked};
use crate::brake::Moment;
use crate::classify::Effect;
use crate::document::Cause;
use crate::document::{Executor, Runbook, SectionKind};
use crate::gate::{APPROVAL_AGE_MAX_MS, Decision, Mode, Person};
use crate::plan::{Approval, Plan, PlannedStep, Risk, plan};
use crate::render::Given;
use crate::run::{Done, Entry, Ranked, Record, Run, StepState};

/// Entries of one run that are read.
const ENTRIES_MAX: usize = 10_000;

/// What a person may do with a step now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Can {
    /// Agree to exactly this.
    Approve,
    /// Run it, or say that it is done; nobody has to agree.
    Run,
    LeaveOut,
    /// Run it once more.
    Again,
    Undo,
}

/// One step of a run.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct StepView {
    pub name: String,
    pub title: String,
    pub section: SectionKind,
    pub executor: Executor,
    pub cause: Option<String>,
    pub effect: Effect,
    /// What makes it more than a look.
    pub effect_why: String,
    pub risk: Risk,
    pub approval: Approval,
    /// Why only a person may start it; empty where anybody may.
    pub by_hand: String,
    /// Exactly what would run or ran; secrets are `***`.
    pub argv: Vec<String>,
    /// What an approval has to name.
    pub hash: String,
    pub blocked: Vec<String>,
    pub verify: Option<String>,
    pub rollback: Option<String>,
    pub only_rollback: bool,
    /// What a dry run counted.
    pub affected: Option<u64>,
    /// What the dry run said it would do.
    pub foretold: Option<String>,
    #[serde(flatten)]
    pub state: StepState,
    /// The state in words.
    pub word: String,
    /// Processes of an attempt in doubt that live on; until they have ended it cannot be run again.
    pub still_running: Vec<String>,
    /// Who agreed to it as it stands, not used yet.
    pub agreed: Vec<String>,
    pub attempts: u32,
    pub last: Option<Done>,
    /// The call of an action that takes back what it did, or may have done.
    pub way_back: Option<serde_json::Value>,
    /// What it says while it runs.
    pub live: Option<String>,
    /// When what it changed is taken back by itself.
    pub reverts_at: Option<Timestamp>,
    pub can: Vec<Can>,
}

/// A run with all its steps.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RunView {
    #[serde(flatten)]
    pub line: RunLine,
    /// Secrets are `***`.
    pub inputs: BTreeMap<String, String>,
    /// Inputs that nobody gave.
    pub missing: Vec<String>,
    /// Inputs that cannot be used, and conditions that cannot be read.
    pub problems: Vec<String>,
    pub causes: Vec<Ranked>,
    pub steps: Vec<StepView>,
    /// The step that a person should look at next.
    pub next: Option<String>,
    /// Why it does not go on although it could.
    pub halted: Option<String>,
    /// SHA-256 of the document that it began with.
    pub document: String,
    /// The text of the runbook is not there any more: only what was recorded is shown.
    pub text_gone: bool,
}

impl RunDesk {
    /// Runs, the latest first.
    #[must_use]
    pub fn lines(&self, matching: impl Fn(&RunLine) -> bool) -> Vec<RunLine> {
        locked(&self.runs).lines().filter(|line| matching(line)).cloned().collect()
    }

    /// How many steps wait for somebody to agree to them, in all runs.
    #[must_use]
    pub fn asking(&self) -> usize {
        locked(&self.runs).open_lines().map(|line| line.asking.len()).sum()
    }

    /// What is to be taken back when its time is over.
    #[must_use]
    pub fn reverts(&self) -> Vec<Revert> {
        locked(&self.runs).reverts().cloned().collect()
    }

    /// What a runbook would do with these inputs. Nothing runs.
    pub fn plan(&self, runbook: &str, inputs: BTreeMap<String, String>) -> Result<Plan, DeskError> {
        let shelved = self.shelved(runbook)?;
        Ok(plan(&shelved.runbook, &Given { inputs, captured: BTreeMap::new() }))
    }

    /// A run, whether it ended or not.
    pub async fn view(&self, id: &str) -> Result<RunView, DeskError> {
        let not_found = || DeskError::NotFound { what: "the run", id: id.to_owned() };
        let number = number_of(id).ok_or_else(not_found)?;
        let active = locked(&self.active).get(&number).cloned();
        if let Some(active) = active {
            return Ok(self.view_of(&active).await);
        }
        let entries = self.entries(id).await?;
        let mut run = Run::fold(&entries).map_err(|error| DeskError::Journal(error.to_string()))?;
        // The process ended before the step of a run that was over did.
        if let Some(record) = run.in_doubt() {
            run.apply(&record);
        }
        let line = locked(&self.runs).line(number).cloned().or_else(|| Runs::line_of(&entries)).ok_or_else(not_found)?;
        let (runbook, gone) = match self.runbook_of(&entries) {
            Ok(runbook) => (runbook, false),
            Err(_) => (Arc::new(Runbook { id: run.runbook.clone(), title: line.title.clone(), ..Runbook::default() }), true),
        };
        let mut view = self.view_from(line, &run, &runbook);
        view.text_gone = gone;
        if gone {
            view.steps = recorded_steps(&run, &entries);
        }
        Ok(view)
    }

    /// A run's records, in order.
    pub async fn entries(&self, id: &str) -> Result<Vec<Entry>, DeskError> {
        let number = number_of(id).ok_or_else(|| DeskError::NotFound { what: "the run", id: id.to_owned() })?;
        let mut entries = Vec::new();
        let mut after = 0;
        while entries.len() < ENTRIES_MAX {
            let page = self.journal.read_subject(&subject(&format!("RUN-{number}")), after, ENTRIES_MAX).await?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            entries.extend(page.into_iter().filter_map(|entry| serde_json::from_value::<Entry>(entry.payload).ok()));
        }
        if entries.is_empty() {
            return Err(DeskError::NotFound { what: "the run", id: id.to_owned() });
        }
        Ok(entries)
    }

    pub(super) async fn view_of(&self, active: &Active) -> RunView {
        let run = active.run.lock().await;
        // Whoever writes holds the brakes for that time; then the moment of before is near enough.
        if let Ok(mut brakes) = self.brakes.try_lock() {
            brakes.observe(&Moment::now(self.clock.as_ref()));
            self.clock_ms.store(brakes.clock_ms(), std::sync::atomic::Ordering::Relaxed);
        }
        let line = locked(&self.runs).line(active.number).cloned();
        let line = line.unwrap_or_else(|| RunLine::unknown(&run));
        let mut view = self.view_from(line, &run, &active.stage.runbook);
        drop(run);
        view.halted.clone_from(&locked(&active.halted));
        if let Some((step, said)) = active.stage.live.now()
            && let Some(step) = view.steps.iter_mut().find(|one| one.name == step)
        {
            step.live = Some(said);
        }
        view
    }

    fn view_from(&self, line: RunLine, run: &Run, runbook: &Runbook) -> RunView {
        let plan = plan(runbook, &run.given);
        let reverts: BTreeMap<String, Timestamp> =
            locked(&self.runs).reverts().filter(|one| one.run == line.id).map(|one| (one.step.clone(), one.due_at)).collect();
        let ended = line.ended_at.is_some();
        let secrets = crate::render::Values::resolve(runbook, &run.given).secrets().to_vec();
        let now_ms = self.clock_ms.load(std::sync::atomic::Ordering::Relaxed);
        let mut steps: Vec<StepView> = plan.steps.iter().map(|planned| step_view(planned, run, &secrets, now_ms)).collect();
        let rollback = run.rollback_now(runbook);
        for (step, planned) in steps.iter_mut().zip(&plan.steps) {
            step.reverts_at = reverts.get(&step.name).copied();
            step.can = if ended {
                undo(planned, run, &step.state).into_iter().collect()
            } else {
                possible(planned, run, &step.state, rollback.as_deref() == Some(step.name.as_str()))
            };
        }
        self.show_what_lives_on(&mut steps, run);
        let mut problems = plan.problems;
        problems.extend(plan.faults.iter().map(|fault| format!("the value of {} {}", fault.name, fault.why)));
        let next = next_step(&steps, run, runbook);
        RunView {
            inputs: crate::run::shown_inputs(runbook, &run.given.inputs),
            missing: plan.missing,
            problems,
            causes: run.ranked.clone().unwrap_or_default(),
            steps,
            next,
            halted: None,
            document: run.document.clone(),
            text_gone: false,
            line,
        }
    }
}

impl RunDesk {
    /// Says of steps in doubt what of them lives on, now and not when it was found.
    fn show_what_lives_on(&self, steps: &mut [StepView], run: &Run) {
        let found = |step: &str| run.still_running.get(step).is_some_and(|found| !found.is_empty());
        for step in steps.iter_mut().filter(|step| step.state == StepState::Interrupted && found(&step.name)) {
            let left = self.hands.left(&run.id, &step.name);
            step.still_running = left.iter().take(super::driving::LEFT_MAX).map(ToString::to_string).collect();
            if !left.is_empty() {
                step.word = format!("{}; of it still runs: {}", step.word, step.still_running.join(", "));
                step.can.retain(|can| *can == Can::LeaveOut);
            }
        }
    }
}

impl RunLine {
    fn unknown(run: &Run) -> Self {
        Self {
            id: run.id.clone(),
            number: number_of(&run.id).unwrap_or(0),
            runbook: run.runbook.clone(),
            title: run.runbook.clone(),
            mode: run.mode,
            target: run.target.clone(),
            incident: run.incident.clone(),
            by: String::new(),
            started_at: Timestamp::EPOCH,
            ended_at: None,
            ending: None,
            why: String::new(),
            cause: None,
            asking: std::collections::BTreeSet::new(),
            changes: 0,
        }
    }
}

fn step_view(planned: &PlannedStep, run: &Run, secrets: &[String], now_ms: u64) -> StepView {
    let state = run.state(&planned.name).clone();
    let agreed: Vec<&Person> = run
        .agreed
        .iter()
        .filter(|one| one.step == planned.name && one.hash == planned.hash && !one.used)
        .filter(|one| now_ms.saturating_sub(one.at_ms) <= APPROVAL_AGE_MAX_MS)
        .map(|one| &one.by)
        .collect();
    StepView {
        can: Vec::new(),
        name: planned.name.clone(),
        title: planned.title.clone(),
        section: planned.section,
        executor: planned.executor,
        cause: planned.cause.clone(),
        effect: planned.effect,
        effect_why: planned.why.clone(),
        risk: planned.demands.risk,
        approval: planned.approval.clone(),
        by_hand: planned.by_hand.clone(),
        argv: planned.argv(secrets),
        hash: planned.hash.clone(),
        blocked: planned.blocked.iter().map(ToString::to_string).collect(),
        verify: planned.demands.verify.clone(),
        rollback: planned.demands.rollback.clone(),
        only_rollback: planned.demands.only_rollback,
        affected: run.counts.get(&planned.name).filter(|count| count.hash == planned.hash).map(|count| count.affected),
        foretold: run.tried.get(&planned.name).filter(|(hash, _)| *hash == planned.hash).map(|(_, said)| said.clone()),
        word: super::say::word(&state).to_owned(),
        state,
        still_running: Vec::new(),
        agreed: crate::gate::names_of(agreed),
        attempts: run.attempts.get(&planned.name).copied().unwrap_or(0),
        last: run.last.get(&planned.name).cloned(),
        way_back: run.way_back(&planned.name).cloned(),
        live: None,
        reverts_at: None,
    }
}

fn possible(planned: &PlannedStep, run: &Run, state: &StepState, is_rollback_now: bool) -> Vec<Can> {
    let changes = planned.effect > Effect::Read || !planned.by_hand.is_empty();
    let mut can = Vec::new();
    match state {
        StepState::Pending | StepState::Held { .. } | StepState::Interrupted if planned.demands.only_rollback && !is_rollback_now => {}
        StepState::Pending | StepState::Held { .. } | StepState::Interrupted => {
            if changes && planned.blocked.is_empty() && run.mode != Mode::Dry {
                can.push(if planned.approval == Approval::None { Can::Run } else { Can::Approve });
            }
            if changes {
                can.push(Can::LeaveOut);
            }
            if *state == StepState::Interrupted {
                can.push(Can::Again);
            }
        }
        StepState::Running | StepState::Verifying => {}
        _ => can.push(Can::Again),
    }
    can.extend(undo(planned, run, state));
    can
}

fn undo(planned: &PlannedStep, run: &Run, state: &StepState) -> Option<Can> {
    may_be_undone(planned, run, state).then_some(Can::Undo)
}

/// Whether a step changed something, or may have, and a way back is known.
pub(super) fn may_be_undone(planned: &PlannedStep, run: &Run, state: &StepState) -> bool {
    let last = run.last.get(&planned.name);
    let changed = match state {
        StepState::Ok | StepState::Verifying | StepState::Verified | StepState::Unexpected { .. } | StepState::Failed { .. } => {
            last.is_some()
        }
        // Nobody knows how it ended; its way back is for that too.
        StepState::Interrupted => true,
        _ => false,
    };
    let way_back = planned.demands.rollback.is_some() || run.way_back(&planned.name).is_some();
    planned.effect > Effect::Read && changed && way_back
}

/// The first step that waits for a person: of the likeliest cause, else any that was asked about, else none.
fn next_step(steps: &[StepView], run: &Run, runbook: &Runbook) -> Option<String> {
    if run.ended.is_some() {
        return None;
    }
    let waits = |step: &&StepView| step.can.iter().any(|can| matches!(can, Can::Approve | Can::Run));
    let doubt = steps.iter().find(|step| step.state == StepState::Interrupted);
    let asked = || {
        let held = |step: &&StepView| matches!(&step.state, StepState::Held { decision: Decision::Ask { .. } });
        steps.iter().filter(waits).find(held)
    };
    let likely = || {
        let first = run.ranked.as_ref()?.first().filter(|first| first.score > 0.0)?;
        let of: Option<&Cause> = runbook.causes.iter().find(|cause| cause.id == first.cause);
        of.and_then(|cause| steps.iter().filter(waits).find(|step| step.cause.as_deref() == Some(&cause.id)))
    };
    doubt.or_else(asked).or_else(likely).map(|step| step.name.clone())
}

/// Steps of a run whose text is gone, from its records alone.
fn recorded_steps(run: &Run, entries: &[Entry]) -> Vec<StepView> {
    let mut steps: Vec<StepView> = Vec::new();
    for entry in entries {
        let Record::Begun { step, hash, effect, argv, .. } = &entry.record else { continue };
        let state = run.state(step).clone();
        let view = StepView {
            name: step.clone(),
            title: step.clone(),
            section: SectionKind::Other,
            executor: Executor::Manual,
            cause: None,
            effect: *effect,
            effect_why: String::new(),
            risk: Risk::Low,
            approval: Approval::None,
            by_hand: String::new(),
            argv: argv.clone(),
            hash: hash.clone(),
            blocked: Vec::new(),
            verify: None,
            rollback: None,
            only_rollback: false,
            affected: None,
            foretold: None,
            word: super::say::word(&state).to_owned(),
            state,
            still_running: Vec::new(),
            agreed: Vec::new(),
            attempts: run.attempts.get(step).copied().unwrap_or(0),
            last: run.last.get(step).cloned(),
            way_back: run.way_back(step).cloned(),
            live: None,
            reverts_at: None,
            can: Vec::new(),
        };
        match steps.iter_mut().find(|one| one.name == *step) {
            Some(known) => *known = view,
            None => steps.push(view),
        }
    }
    steps
}
