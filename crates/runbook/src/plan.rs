//! What a runbook would do with what is known: its steps rendered, with their effect, what they need, and their hash.

mod demands;

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::classify::Effect;
use crate::document::{Executor, Runbook, SectionKind, Step};
use crate::render::{self, Blocked, Given, InputFault, Values, Work};

pub(crate) use demands::names as captures;
pub use demands::{Approval, Blast, Capture, Demands, Gate, Rate, Risk, Source};

/// All steps of a runbook as they would be carried out.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Plan {
    pub runbook: String,
    pub title: String,
    pub steps: Vec<PlannedStep>,
    /// Inputs that nobody gave and that have no default.
    pub missing: Vec<String>,
    /// Inputs that were given and cannot be used.
    pub faults: Vec<InputFault>,
    /// Ids of runbooks to look at: conditions and attributes that cannot be read, steps that speak of steps that are not there.
    pub problems: Vec<String>,
}

/// One step as it would be carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlannedStep {
    pub name: String,
    pub title: String,
    pub line: usize,
    pub executor: Executor,
    pub section: SectionKind,
    pub cause: Option<String>,
    pub effect: Effect,
    /// What makes it more than a look.
    pub why: String,
    pub demands: Demands,
    /// What it takes before it changes something.
    pub approval: Approval,
    /// Why only a person may start it; empty where anybody may.
    pub by_hand: String,
    /// What is held while it runs.
    pub lock: Option<String>,
    /// What is carried out; none while it is blocked.
    pub work: Option<Work>,
    pub blocked: Vec<Blocked>,
    /// SHA-256 of all of the above that an approval speaks of; empty while it is blocked.
    pub hash: String,
}

impl PlannedStep {
    /// The argument list with secrets taken out.
    #[must_use]
    pub fn argv(&self, secrets: &[String]) -> Vec<String> {
        let argv = self.work.as_ref().map(|work| work.argv(self.effect)).unwrap_or_default();
        argv.into_iter().map(|word| masked(&word, secrets)).collect()
    }
}

/// A text without the secrets that inputs are and those that look like some.
#[must_use]
pub fn masked(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret.as_str(), "***");
    }
    paramedic_model::secret::mask(&text).into_owned()
}

/// Plans every step.
#[must_use]
pub fn plan(runbook: &Runbook, given: &Given) -> Plan {
    let values = Values::resolve(runbook, given);
    let steps: Vec<PlannedStep> = runbook.steps.iter().map(|step| plan_step(runbook, step, &values)).collect();
    let mut missing: BTreeSet<String> = BTreeSet::new();
    for blocked in steps.iter().flat_map(|step| &step.blocked) {
        if let Blocked::MissingInput { name } = blocked {
            missing.insert(name.clone());
        }
    }
    missing.extend(
        runbook.inputs.iter().filter(|(name, input)| input.required && !given.inputs.contains_key(*name)).map(|(name, _)| name.clone()),
    );
    Plan {
        runbook: runbook.id.clone(),
        title: runbook.title.clone(),
        missing: missing.into_iter().collect(),
        faults: values.faults(),
        problems: problems(runbook),
        steps,
    }
}

/// Plans one step.
#[must_use]
pub fn plan_step(runbook: &Runbook, step: &Step, values: &Values) -> PlannedStep {
    let (demands, faults) = Demands::of(step);
    let mut blocked: Vec<Blocked> = faults.into_iter().map(|why| Blocked::Unreadable { why }).collect();
    let worst = step.commands.iter().max_by_key(|command| command.verdict.effect).map(|command| &command.verdict);
    let (mut effect, mut why) = worst.map(|verdict| (verdict.effect, verdict.why.clone())).unwrap_or_default();
    let mut raise = |to: Effect, because: &str| {
        if to > effect {
            effect = to;
            because.clone_into(&mut why);
        }
    };
    raise(
        demands.mode.unwrap_or_else(|| by_section(step)),
        if demands.mode.is_some() { "it says so itself" } else { "it stands in a section that changes things" },
    );
    if demands.risk == Risk::Destructive {
        raise(Effect::Destroy, "it says that it is destructive");
    }
    if let Some(why) = step.commands.iter().find_map(|command| command.verdict.interactive.clone()) {
        blocked.push(Blocked::Interactive { why });
    }
    blocked.extend(step.commands.iter().flat_map(|command| &command.verdict.blanks).map(|text| Blocked::Blank { text: text.clone() }));
    let work = match render::render(step, values) {
        Ok((work, rendered, because)) => {
            raise(rendered, &because);
            Some(work)
        }
        Err(more) => {
            blocked.extend(more);
            None
        }
    };
    blocked.dedup();
    let never_ends = step.commands.iter().find_map(|command| command.verdict.never_ends.clone());
    let by_hand = match (step.executor, never_ends) {
        (Executor::Manual, _) => "a person does it".to_owned(),
        (Executor::Message, _) => "a person sends it".to_owned(),
        (_, Some(why)) => format!("it never ends by itself: {why}"),
        _ => String::new(),
    };
    let work = work.filter(|_| blocked.is_empty());
    let mut planned = PlannedStep {
        name: step.name.clone(),
        title: step.title.clone(),
        line: step.line,
        executor: step.executor,
        section: step.section,
        cause: step.cause.clone(),
        approval: approval(step.executor, effect, &demands),
        lock: lock(runbook, &demands, effect, values),
        effect,
        why,
        demands,
        by_hand,
        work,
        blocked,
        hash: String::new(),
    };
    planned.hash = hash(runbook, &planned);
    planned
}

/// Steps under Resolution change something unless they say otherwise; so do those that nobody classified.
fn by_section(step: &Step) -> Effect {
    match step.section {
        SectionKind::Resolution => Effect::Write,
        _ if matches!(step.executor, Executor::Message) => Effect::Write,
        _ => Effect::Read,
    }
}

/// What is asked for, and never less than the effect asks for.
fn approval(executor: Executor, effect: Effect, demands: &Demands) -> Approval {
    let least = match effect {
        Effect::Read | Effect::Write => Approval::None,
        Effect::Destroy => Approval::Two,
    };
    let asked = demands.approve.clone().unwrap_or(match (effect, demands.risk) {
        (Effect::Read, _) => Approval::None,
        // Who does it with their own hands has agreed to it.
        _ if executor == Executor::Manual => Approval::None,
        (_, Risk::Destructive) => Approval::Two,
        _ => Approval::Any,
    });
    if least == Approval::Two || asked == Approval::Two { Approval::Two } else { asked }
}

/// `service` is the value of the input of that name, else the first service that the runbook is for.
fn lock(runbook: &Runbook, demands: &Demands, effect: Effect, values: &Values) -> Option<String> {
    if effect == Effect::Read {
        return None;
    }
    let named = demands.lock.as_ref().or(runbook.limits.lock.as_ref()).or(runbook.limits.concurrency.as_ref())?;
    let value = values.inputs().get(named).or(runbook.services.first().filter(|_| named == "service"));
    Some(value.map_or_else(|| named.clone(), |value| format!("{named}:{value}")))
}

/// The hash covers what runs, with which values, how it is judged, and what takes it back.
fn hash(runbook: &Runbook, step: &PlannedStep) -> String {
    let Some(work) = &step.work else { return String::new() };
    let rollback = step.demands.rollback.as_ref().and_then(|name| runbook.steps.iter().find(|one| one.name == *name));
    let parts = serde_json::json!({
        "version": 1,
        "runbook": runbook.id,
        "step": step.name,
        "effect": step.effect,
        "approval": step.approval,
        "lock": step.lock,
        "demands": step.demands,
        "work": work,
        "rollback": rollback.map(|one| (&one.text, &one.attributes)),
    });
    sha256(parts.to_string().as_bytes())
}

/// In hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the runbook says about itself that cannot be right.
fn problems(runbook: &Runbook) -> Vec<String> {
    let mut all = Vec::new();
    let exists = |name: &str| runbook.steps.iter().any(|step| step.name == name);
    for cause in &runbook.causes {
        if let Some(Err(error)) = cause.when.as_deref().map(crate::predicate::Predicate::parse) {
            all.push(format!("line {}: {error}", cause.line));
        }
    }
    for step in &runbook.steps {
        let (demands, faults) = Demands::of(step);
        all.extend(faults.into_iter().map(|fault| format!("line {}: {fault}", step.line)));
        for name in demands.needs.iter().chain(&demands.rollback) {
            if !exists(name) {
                all.push(format!("line {}: there is no step {name}", step.line));
            }
        }
        if demands.rollback.as_ref() == Some(&step.name) {
            all.push(format!("line {}: a step cannot take itself back", step.line));
        }
    }
    all
}
