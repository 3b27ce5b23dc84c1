//! What a run does next: look, name causes, change what may be changed, watch whether it helped, take it back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use paramedic_model::Timestamp;

use super::{Ending, Ranked, Record, Run, StepState, rank};
use crate::brake::{Brakes, Moment, Stopped};
use crate::classify::Effect;
use crate::document::{Executor, Runbook, SectionKind, Step};
use crate::execute::{About, Order};
use crate::gate::{APPROVAL_AGE_MAX_MS, Authority, Decision, Mode, Policy, Request, admit, decide};
use crate::plan::{Demands, Gate, PlannedStep, Rate, plan_step};
use crate::predicate::{Look, Predicate, Truth, Verification, Watch};
use crate::render::Values;

/// Time that what is expected has to come true, when a step only says how long it must hold.
const WITHIN_DEFAULT: Duration = Duration::from_secs(300);

/// The score from which on people are asked about the fix of a cause.
const PROPOSED_FROM: f64 = 0.3;
/// Times that a run looks again by itself.
pub const LOOKS_MAX: u32 = 12;

/// What a run needs to know to go on.
#[derive(Debug)]
pub struct Circumstances<'a> {
    pub runbook: &'a Runbook,
    pub brakes: &'a mut Brakes,
    pub policies: &'a [Policy],
    pub journal_ready: bool,
    pub moment: Moment,
}

/// The next thing to do.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, and it is used up at once")]
pub enum Next {
    /// Write this, take it in, and ask again.
    Write(Record),
    /// Write the record, carry the order out, write what came of it, and ask again.
    Carry {
        begun: Box<Record>,
        step: Box<PlannedStep>,
        order: Box<Order>,
    },
    /// Ask again after this time.
    Wait {
        ms: u64,
        why: String,
    },
    /// Nothing can be done until somebody says something.
    Idle,
    Ended,
}

/// What verifies a step, being watched.
#[derive(Debug, Clone)]
pub(super) struct Watching {
    pub(super) step: String,
    condition: Predicate,
    watch: Watch,
    /// Steps that are read again before the next look.
    unread: Vec<String>,
    due_ms: u64,
}

impl Run {
    /// Decides what to do next. The brakes count what is admitted.
    pub fn next(&mut self, now: &mut Circumstances<'_>) -> Next {
        if self.ended.is_some() {
            now.brakes.end_run(&self.id);
            return Next::Ended;
        }
        now.brakes.observe(&now.moment);
        self.clock_ms = now.brakes.clock_ms();
        if let Some(record) = self.in_doubt() {
            return Next::Write(record);
        }
        let values = self.checked(now.runbook);
        if let Some(next) = self.take_back(now, &values).or_else(|| self.watch(now, &values)) {
            return next;
        }
        if let Some(next) = self.first(now, &values, |_, step| is_looking(step)) {
            return next;
        }
        if self.ranked.is_none() {
            let texts: Vec<&str> = self.evidence.iter().chain(self.outputs.values()).map(String::as_str).collect();
            return Next::Write(Record::Ranked { causes: rank(now.runbook, &self.facts, &texts) });
        }
        if let Some(next) = self.first(now, &values, |run, step| run.is_wanted(step)) {
            return next;
        }
        self.conclude(now, &values)
    }

    /// What is given, checked once as long as nothing new is found.
    pub(super) fn checked(&mut self, runbook: &Runbook) -> Arc<Values> {
        match &self.values {
            Some((given, values)) if *given == self.given => Arc::clone(values),
            _ => {
                let values = Arc::new(Values::resolve(runbook, &self.given));
                self.values = Some((self.given.clone(), Arc::clone(&values)));
                values
            }
        }
    }

    /// The first step of a kind that something can be done about.
    fn first(&self, now: &mut Circumstances<'_>, values: &Values, wanted: impl Fn(&Self, &Step) -> bool) -> Option<Next> {
        let runbook = now.runbook;
        let mut stopped: Option<String> = None;
        let mut wait: Option<(u64, String)> = None;
        for step in runbook.steps.iter().filter(|step| wanted(self, step)) {
            let open = matches!(self.state(&step.name), StepState::Pending | StepState::Held { .. } | StepState::Interrupted);
            if !open {
                stopped = stopped.or_else(|| self.stops(step));
                continue;
            }
            if let Some(by) = &stopped {
                let why = format!("the gate of {by} stopped what follows");
                return Some(Next::Write(Record::Skipped { step: step.name.clone(), why }));
            }
            match self.try_step(now, step, values, None) {
                // Others need not wait for one that has to.
                Some(Next::Wait { ms, why }) => wait = Some(sooner(wait, (ms, why))),
                Some(next) => return Some(next),
                None => {}
            }
        }
        wait.map(|(ms, why)| Next::Wait { ms, why })
    }

    /// The likeliest cause, when anything speaks for it.
    fn likely(&self) -> Option<&Ranked> {
        self.ranked.as_ref().and_then(|ranked| ranked.first()).filter(|first| first.score > 0.0)
    }

    /// Says what the likeliest cause's steps wait for, and counts what they would touch, so that people see what they may
    /// agree to. Nothing is changed here, whatever a policy or a person allowed.
    fn propose(&self, now: &mut Circumstances<'_>, values: &Values) -> Option<Next> {
        if !matches!(self.mode, Mode::Step | Mode::Auto) {
            return None;
        }
        // A guess that hardly anything speaks for is shown, and nobody is asked to act on it.
        let runbook = now.runbook;
        let cause = match runbook.causes.is_empty() {
            false => Some(self.likely().filter(|first| first.score >= PROPOSED_FROM)?.cause.clone()),
            true => None,
        };
        let of_cause = |step: &&Step| step.cause == cause && step.section == SectionKind::Resolution;
        let mut wait: Option<(u64, String)> = None;
        for step in runbook.steps.iter().filter(of_cause) {
            let waits = matches!(self.state(&step.name), StepState::Held { decision: Decision::Wait { .. } });
            if !waits && *self.state(&step.name) != StepState::Pending {
                continue;
            }
            let planned = plan_step(runbook, step, values);
            let looks = planned.effect == Effect::Read && planned.by_hand.is_empty();
            // One that needs another that has not run yet is spoken of when it is its turn.
            let early = planned.demands.needs.iter().any(|need| !matches!(self.state(need), StepState::Ok | StepState::Verified));
            if looks || planned.demands.only_rollback || early || self.excluded(&planned).is_some() {
                continue;
            }
            let decision = decide(now.brakes, &Request { mode: Mode::Step, ..self.request(now, &planned, None) });
            // An action can always say what it would do, and people should see that before they agree to it.
            let unseen = planned.executor == Executor::Action && planned.blocked.is_empty() && !self.tried.contains_key(&planned.name);
            if unseen && matches!(decision, Decision::Ask { .. } | Decision::Run { .. }) {
                match dry(&planned, values) {
                    Ok(order) => return Some(self.begin_dry(planned, order, values)),
                    Err(why) => return self.held(step, Decision::Refuse { reason: format!("what it would do is not known: {why}") }),
                }
            }
            match decision {
                Decision::Run { .. } => {}
                Decision::DryRun { .. } => match dry(&planned, values) {
                    Ok(order) => return Some(self.begin_dry(planned, order, values)),
                    Err(why) => return self.held(step, Decision::Refuse { reason: format!("what it would touch is not known: {why}") }),
                },
                Decision::Wait { ms, reason } if waits => wait = Some(sooner(wait, (ms, reason))),
                other => return self.held(step, other),
            }
        }
        wait.map(|(ms, why)| Next::Wait { ms, why })
    }

    /// Whether a step that ran stops those after it.
    fn stops(&self, step: &Step) -> Option<String> {
        let bad = matches!(self.state(&step.name), StepState::Unexpected { .. } | StepState::Failed { .. } | StepState::TakenBack { .. });
        (bad && Demands::of(step).0.gate == Gate::Stop).then(|| step.name.clone())
    }

    /// Steps that change something are wanted when somebody chose or agreed to them, or when a policy may.
    fn is_wanted(&self, step: &Step) -> bool {
        if step.section != SectionKind::Resolution && is_looking(step) || step.section == SectionKind::Verification {
            return false;
        }
        let asked = self.chosen.contains_key(&step.name) || self.agreed.iter().any(|agreed| agreed.step == step.name && !agreed.used);
        let likely = self.likely();
        let may = self.mode == Mode::Auto
            && step.attributes.contains_key("auto")
            && likely.is_some_and(|first| step.cause.as_deref() == Some(&first.cause));
        let dry = self.mode == Mode::Dry && step.section == SectionKind::Resolution && !self.counts.contains_key(&step.name);
        if self.mode == Mode::Dry && !is_looking(step) {
            // Whoever wants it to run wants it tried once here, like everything else.
            return dry && !step.attributes.contains_key("only");
        }
        let may = may && !self.has_failed();
        let interrupted = matches!(self.state(&step.name), StepState::Interrupted);
        (asked || ((may || dry) && !interrupted)) && !step.attributes.contains_key("only")
    }

    /// Somebody wants a step that is held: the run is not over because it may not go on just now.
    fn waits_for_the_switch(&self) -> bool {
        let open = |step: &String| matches!(self.state(step), StepState::Pending | StepState::Held { .. });
        let agreed = self.agreed.iter().filter(|agreed| !agreed.used && self.clock_ms.saturating_sub(agreed.at_ms) <= APPROVAL_AGE_MAX_MS);
        agreed.map(|agreed| &agreed.step).chain(self.chosen.keys()).any(open)
    }

    /// Something that was to be changed did not come out as it should: nothing more is changed unattended.
    fn has_failed(&self) -> bool {
        let bad = |step: &String| {
            let state = self.state(step);
            matches!(state, StepState::Unexpected { .. } | StepState::Failed { .. } | StepState::TakenBack { .. } | StepState::Interrupted)
        };
        self.changed.iter().any(bad)
    }

    /// Tries one step. None when nothing can be done about it now, which is then written down.
    fn try_step(&self, now: &mut Circumstances<'_>, step: &Step, values: &Values, rollback_of: Option<&str>) -> Option<Next> {
        let planned = plan_step(now.runbook, step, values);
        if rollback_of.is_none()
            && let Some(why) = self.excluded(&planned)
        {
            return Some(Next::Write(Record::Skipped { step: step.name.clone(), why }));
        }
        if rollback_of.is_none()
            && let Some(need) = planned.demands.needs.iter().find(|need| !matches!(self.state(need), StepState::Ok | StepState::Verified))
        {
            return self.held(step, Decision::Refuse { reason: format!("it needs {need}, which has not run") });
        }
        let request = self.request(now, &planned, rollback_of);
        let decision = admit(now.brakes, &request);
        match decision {
            Decision::Run { authority, .. } => self.carry(planned, authority, values, rollback_of),
            Decision::DryRun { reason } => match dry(&planned, values) {
                Ok(order) => Some(self.begin_dry(planned, order, values)),
                Err(why) => self.held(step, Decision::Refuse { reason: format!("{reason}, and {why}") }),
            },
            Decision::Wait { ms, reason } => {
                let wait = Next::Wait { ms, why: reason.clone() };
                // Waiting is written once for what it waits for, not at each question; the seconds differ each time.
                match self.state(&step.name) {
                    StepState::Held { decision: Decision::Wait { reason: before, .. } } if same_but_numbers(before, &reason) => Some(wait),
                    StepState::Interrupted => Some(wait),
                    _ => self.held(step, Decision::Wait { ms, reason }),
                }
            }
            other => self.held(step, other),
        }
    }

    fn request<'r>(&'r self, now: &Circumstances<'r>, planned: &'r PlannedStep, rollback_of: Option<&'r str>) -> Request<'r> {
        let first = self.ranked.as_ref().and_then(|ranked| ranked.first());
        Request {
            run: &self.id,
            runbook: &now.runbook.id,
            runs: now.runbook.limits.runs.as_deref().and_then(Rate::parse),
            step: planned,
            mode: self.mode,
            target: &self.target,
            started_by: self.chosen.get(&planned.name),
            agreed: &self.agreed,
            cause: first.map(|first| (first.cause.as_str(), first.score)),
            policies: now.policies,
            count: self.counts.get(&planned.name),
            journal_ready: now.journal_ready,
            rollback_of,
        }
    }

    /// Writes down why a step does not run, once for each reason.
    fn held(&self, step: &Step, decision: Decision) -> Option<Next> {
        let known = matches!(self.state(&step.name), StepState::Held { decision: before } if *before == decision);
        let interrupted = matches!(self.state(&step.name), StepState::Interrupted);
        (!known && !interrupted).then(|| Next::Write(Record::Held { step: step.name.clone(), decision }))
    }

    /// Why a step is left out: its condition, or a step that it needs.
    fn excluded(&self, planned: &PlannedStep) -> Option<String> {
        for need in &planned.demands.needs {
            let state = self.state(need);
            if matches!(
                state,
                StepState::Skipped { .. } | StepState::Failed { .. } | StepState::TakenBack { .. } | StepState::Unexpected { .. }
            ) {
                return Some(format!("it needs {need}, which did not succeed"));
            }
        }
        let condition = planned.demands.condition.as_deref()?;
        match Predicate::parse(condition).map(|condition| condition.judge(&self.facts)) {
            Ok(Truth::Holds) => None,
            Ok(truth) => Some(format!("`{condition}` does not hold: {}", truth.why())),
            Err(error) => Some(error.to_string()),
        }
    }

    fn carry(&self, planned: PlannedStep, authority: Authority, values: &Values, takes_back: Option<&str>) -> Option<Next> {
        let by = match &authority {
            Authority::People { names } => names.join(" and "),
            Authority::Policy { name } => format!("policy:{name}"),
            Authority::Reading | Authority::Rollback { .. } | Authority::Test => "paramedic".to_owned(),
        };
        let order = Order { about: self.about(by, values), ..Order::of(&planned, values.secrets())? };
        let begun = Record::Begun {
            step: planned.name.clone(),
            attempt: self.attempts.get(&planned.name).copied().unwrap_or(0) + 1,
            hash: planned.hash.clone(),
            effect: planned.effect,
            argv: planned.argv(values.secrets()),
            authority,
            dry: false,
            takes_back: takes_back.map(str::to_owned),
        };
        Some(Next::Carry { begun: Box::new(begun), step: Box::new(planned), order: Box::new(order) })
    }

    fn about(&self, by: String, values: &Values) -> About {
        let plain = |(_, value): &(&String, &String)| !values.secrets().contains(value);
        let known = values.inputs().iter().chain(&self.given.captured).filter(plain);
        let known = known.map(|(name, value)| (name.clone(), value.clone())).collect();
        About { run: self.id.clone(), incident: self.incident.clone(), by, known }
    }

    fn begin_dry(&self, planned: PlannedStep, mut order: Order, values: &Values) -> Next {
        order.about = self.about("paramedic".to_owned(), values);
        let argv = order.work.argv(Effect::Read).iter().map(|word| crate::plan::masked(word, values.secrets())).collect();
        let begun = Record::Begun {
            step: planned.name.clone(),
            attempt: 0,
            hash: planned.hash.clone(),
            effect: planned.effect,
            argv,
            authority: Authority::Reading,
            dry: true,
            takes_back: None,
        };
        Next::Carry { begun: Box::new(begun), step: Box::new(planned), order: Box::new(order) }
    }

    /// A step did not help: what takes it back runs.
    fn take_back(&mut self, now: &mut Circumstances<'_>, values: &Values) -> Option<Next> {
        let (of, why) = self.taking_back.clone()?;
        let runbook = now.runbook;
        let name = runbook.steps.iter().find(|step| step.name == of).and_then(|step| step.attributes.get("rollback"));
        let Some(step) = name.and_then(|name| runbook.steps.iter().find(|step| step.name == *name)) else {
            self.taking_back = None;
            // There is something left that people can agree to: the run stays, and looks again whether it is over.
            if self.may_still_be_fixed(runbook, &of) {
                return Some(Next::Write(Record::LookAgain { steps: vec![of], why }));
            }
            return Some(Next::Write(Record::Ended {
                outcome: Ending::Stopped,
                why: format!("{of} did not help ({why}), and nothing takes it back"),
            }));
        };
        // While it waits for a lock or a person, nothing else goes on.
        Some(self.try_step(now, step, values, Some(&of)).unwrap_or(Next::Idle))
    }

    /// Whether a step that only verifies failed while another fix of the likely cause waits for people.
    fn may_still_be_fixed(&self, runbook: &Runbook, verification: &str) -> bool {
        let of = |name: &str| runbook.steps.iter().find(|step| step.name == name);
        let verifies = of(verification).is_some_and(|step| step.section == SectionKind::Verification);
        let asked = |state: &StepState| matches!(state, StepState::Held { decision: Decision::Ask { .. } });
        let waits = |step: &&Step| {
            step.section == SectionKind::Resolution && !step.attributes.contains_key("only") && asked(self.state(&step.name))
        };
        verifies && self.looks < LOOKS_MAX && runbook.steps.iter().any(|step| waits(&step))
    }

    /// Looks whether a step helped.
    fn watch(&mut self, now: &mut Circumstances<'_>, values: &Values) -> Option<Next> {
        self.watch_later(now, values);
        if self.watching.is_none() {
            self.watching = Some(self.begin_watching(now.runbook, values)?);
        }
        if now.brakes.stopped() == Stopped::Everything {
            // What cannot be read anew is not judged by what was read before.
            return Some(Next::Wait { ms: 1_000, why: "everything is stopped by the kill switch".to_owned() });
        }
        let mut watching = self.watching.take()?;
        let now_ms = now.moment.uptime_ms;
        if now_ms < watching.due_ms {
            let next = Next::Wait { ms: watching.due_ms - now_ms, why: format!("{} is watched", watching.step) };
            self.watching = Some(watching);
            return Some(next);
        }
        if let Some(name) = watching.unread.pop() {
            self.watching = Some(watching);
            let step = now.runbook.steps.iter().find(|step| step.name == name)?;
            return Some(
                self.try_step(now, step, values, None).unwrap_or(Next::Wait { ms: 1_000, why: format!("{name} cannot be read now") }),
            );
        }
        let truth = watching.condition.judge(&self.facts);
        let uptime = Timestamp::from_millis(i64::try_from(now_ms).unwrap_or(i64::MAX));
        match watching.watch.look(uptime, &truth) {
            Look::Again { ms, why } => {
                watching.due_ms = now_ms.saturating_add(ms);
                watching.unread = read_again(now.runbook, &watching.step, &watching.condition);
                self.watching = Some(watching);
                Some(Next::Wait { ms, why })
            }
            Look::Met => Some(Next::Write(Record::Verified { step: watching.step, met: true, why: watching.condition.text().to_owned() })),
            Look::Failed { why } => Some(Next::Write(Record::Verified {
                step: watching.step,
                met: false,
                why: format!("`{}`: {why}", watching.condition.text()),
            })),
        }
    }

    /// Somebody asked for one more change while the whole is watched: that comes first, and then the whole is watched anew.
    fn watch_later(&mut self, now: &Circumstances<'_>, values: &Values) {
        let runbook = now.runbook;
        let Some(watched) = self.watching.as_ref().map(|watching| watching.step.clone()) else { return };
        let is_whole = |step: &Step| step.name == watched && step.section == SectionKind::Verification;
        if !runbook.steps.iter().any(is_whole) {
            return;
        }
        let mut asked = runbook.steps.iter().filter(|step| step.section == SectionKind::Resolution && self.chosen.contains_key(&step.name));
        let why = asked.find(|step| self.can_begin(now, step, values)).map(|step| format!("{} comes first", step.name));
        if let Some(why) = why {
            self.set(&watched, StepState::Unexpected { why });
            self.watching = None;
        }
    }

    /// Whether an open step would begin now; what only waits or is refused interrupts nothing.
    fn can_begin(&self, now: &Circumstances<'_>, step: &Step, values: &Values) -> bool {
        let planned = plan_step(now.runbook, step, values);
        let has = |need: &String| matches!(self.state(need), StepState::Ok | StepState::Verified);
        let is_open = matches!(self.state(&step.name), StepState::Pending | StepState::Held { .. });
        let is_free = is_open && planned.demands.needs.iter().all(has) && self.excluded(&planned).is_none();
        is_free
            && match decide(now.brakes, &self.request(now, &planned, None)) {
                Decision::Run { .. } => true,
                Decision::DryRun { .. } => dry(&planned, values).is_ok(),
                _ => false,
            }
    }

    fn begin_watching(&self, runbook: &Runbook, values: &Values) -> Option<Watching> {
        let step = runbook.steps.iter().find(|step| matches!(self.state(&step.name), StepState::Verifying))?;
        let demands = plan_step(runbook, step, values).demands;
        let verification = match &demands.verify {
            Some(text) => Verification::parse(text).ok()?,
            // Nothing verifies it: that it ended as expected is all there is.
            None if demands.hold_ms == 0 => Verification::parse("true").ok()?,
            None => own_expectation(&step.name, demands.expectation(step.executor), demands.hold_ms)?,
        };
        Some(Watching {
            step: step.name.clone(),
            watch: Watch::new(verification.within, verification.hold),
            unread: read_again(runbook, &step.name, &verification.condition),
            condition: verification.condition,
            due_ms: 0,
        })
    }

    /// Nothing is left to look at or to change.
    fn conclude(&mut self, now: &mut Circumstances<'_>, values: &Values) -> Next {
        let taken_back = self.steps.iter().find_map(|(step, state)| match state {
            // What was meant for a time did what it was for.
            StepState::TakenBack { why } if !self.reverted.contains(step) => Some((step, why)),
            _ => None,
        });
        if let Some((step, why)) = taken_back {
            let why = format!("{step} was taken back: {why}");
            return Next::Write(Record::Ended { outcome: Ending::TakenBack, why });
        }
        let helped = self.steps.iter().any(|(name, state)| {
            let changes = now.runbook.steps.iter().any(|step| step.name == *name && step.section == SectionKind::Resolution);
            changes && matches!(state, StepState::Verified)
        });
        if !helped || self.mode == Mode::Dry {
            return self.propose(now, values).unwrap_or(Next::Idle);
        }
        if now.brakes.stopped() > Stopped::Nothing && self.waits_for_the_switch() {
            return Next::Idle;
        }
        if let Some(next) = self.first(now, values, |_, step| step.section == SectionKind::Verification) {
            return next;
        }
        if let Some(name) = held_for_a_time(now.runbook, &self.steps) {
            self.set(&name, StepState::Verifying);
            if let Some(next) = self.watch(now, values) {
                return next;
            }
        }
        let bad = now
            .runbook
            .steps
            .iter()
            .filter(|step| step.section == SectionKind::Verification)
            .find(|step| matches!(self.state(&step.name), StepState::Unexpected { .. } | StepState::Failed { .. }));
        match bad {
            // Another fix helped since: whether it is over is another question now.
            Some(step) if self.judged.get(&step.name).is_some_and(|then| *then < self.verified) && self.looks < LOOKS_MAX => {
                Next::Write(Record::LookAgain { steps: vec![step.name.clone()], why: "another step has helped since".to_owned() })
            }
            Some(step) if self.may_still_be_fixed(now.runbook, &step.name) => Next::Idle,
            Some(step) => Next::Write(Record::Ended { outcome: Ending::Stopped, why: format!("{} does not verify it", step.name) }),
            None => Next::Write(Record::Ended { outcome: Ending::Done, why: "what was done is verified".to_owned() }),
        }
    }
}

fn sooner(one: Option<(u64, String)>, other: (u64, String)) -> (u64, String) {
    one.filter(|one| one.0 <= other.0).unwrap_or(other)
}

/// Whether two reasons say the same, whatever numbers stand in them.
fn same_but_numbers(one: &str, other: &str) -> bool {
    let plain = |text: &str| {
        let words = text.split(' ').filter(|word| !word.bytes().all(|byte| byte.is_ascii_digit()));
        words.map(str::to_owned).collect::<Vec<String>>()
    };
    plain(one) == plain(other)
}

/// Steps that a run carries out by itself before anything else.
pub(super) fn is_looking(step: &Step) -> bool {
    let by_place = matches!(step.section, SectionKind::Investigation | SectionKind::Symptoms | SectionKind::Impact | SectionKind::Other);
    by_place && !matches!(step.executor, Executor::Manual | Executor::Message) && !step.attributes.contains_key("only")
}

/// A step of the verification that has to hold for a time, and was read once.
fn held_for_a_time(runbook: &Runbook, states: &BTreeMap<String, StepState>) -> Option<String> {
    let read = |step: &&Step| matches!(states.get(&step.name), Some(StepState::Ok | StepState::Unexpected { .. }));
    let verifying = runbook.steps.iter().filter(|step| step.section == SectionKind::Verification);
    verifying.filter(read).find(|step| Demands::of(step).0.hold_ms > 0).map(|step| step.name.clone())
}

/// The steps that a condition speaks of, to be read before a look. Only what looks is read again.
fn read_again(runbook: &Runbook, verified: &str, condition: &Predicate) -> Vec<String> {
    let mut names = Vec::new();
    for name in condition.names() {
        let first = name.split('.').next().unwrap_or(name);
        let step = runbook.steps.iter().find(|step| step.name == first || step.name.replace('-', "_") == first);
        // Whatever stands under Verification only looks, or is not run without a person.
        let reads = |step: &&Step| is_looking(step) || step.section == SectionKind::Verification || step.name == verified;
        if let Some(step) = step.filter(reads).filter(|step| !names.contains(&step.name)) {
            names.push(step.name.clone());
        }
    }
    names
}

/// `value < 1` of a step as others would say it: `name.value < 1`.
fn own_expectation(step: &str, expectation: &str, hold_ms: u64) -> Option<Verification> {
    let condition = Predicate::parse(expectation).ok()?.of_step(&step.replace('-', "_"));
    Some(Verification { condition, within: WITHIN_DEFAULT, hold: Duration::from_millis(hold_ms) })
}

/// What is carried out to see or count what a step would touch; the error completes "…, and".
fn dry(planned: &PlannedStep, values: &Values) -> Result<Order, String> {
    use crate::render::Work;
    let mut order = Order::of(planned, values.secrets()).ok_or("there is nothing to run")?;
    match (&mut order.work, planned.demands.dry.as_deref()) {
        (Work::Action { .. }, _) => order.dry = true,
        (Work::Kubectl { argv }, Some("server")) => argv.extend(["--dry-run=server".to_owned(), "--output=name".to_owned()]),
        (_, None | Some("none" | "server")) => return Err("it has no dry run".to_owned()),
        (_, Some(command)) => {
            let (work, effect) = crate::render::script_of(command, values)
                .map_err(|blocked| blocked.first().map_or_else(String::new, ToString::to_string))?;
            if effect > Effect::Read {
                return Err("its dry run would itself change something".to_owned());
            }
            order.work = work;
        }
    }
    if !order.dry {
        order.effect = Effect::Read;
    }
    Ok(order)
}
