//! Whether a step may run now. One pure decision, every answer with its reason.
//!
//! What only looks runs by itself. What changes something needs a person who agreed to exactly this rendered step, or a
//! policy that names the cause, the score and the limits. Nothing runs that cannot be written down first.

mod approval;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::brake::{Brakes, Stopped};
use crate::classify::Effect;
use crate::plan::{Approval, Blast, PlannedStep, Rate};

pub(crate) use approval::names_of;
pub use approval::{Agreed, Person};

/// Brakes' time after which an approval or a count is too old.
pub const APPROVAL_AGE_MAX_MS: u64 = 30 * 60_000;
const COUNT_AGE_MAX_MS: u64 = 10 * 60_000;
/// Without a word about it, a step may touch one object, or this share.
const BLAST_PERCENT: f64 = 25.0;

/// How a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing runs; it is shown what would.
    #[default]
    Plan,
    /// What looks runs; what changes is tried dry.
    Dry,
    /// What changes waits for a person, each time.
    Step,
    /// What a policy allows runs; the rest waits.
    Auto,
    /// Nothing real runs: outcomes come from a fixture.
    Test,
}

/// What may change something unattended. All of it must fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Names it in records.
    pub name: String,
    pub runbook: String,
    /// The cause, by its id; a policy without one is none.
    pub cause: String,
    /// Steps it is for; none is every step that says `auto`.
    #[serde(default)]
    pub steps: Vec<String>,
    /// The cause's score that is needed at least, from 0 to 1.
    pub score_min: f64,
    /// Attempts in an hour and target, beside the step's own limit.
    pub attempts_per_hour: u32,
    /// Objects that one attempt may touch.
    pub affected_max: u64,
}

/// What a dry run or a census counted, for exactly one rendered step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Count {
    pub hash: String,
    pub affected: u64,
    /// Of how many; unknown for most.
    pub of: Option<u64>,
    /// On the brakes' clock.
    pub at_ms: u64,
}

/// Everything a decision looks at, besides the brakes.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    pub run: &'a str,
    pub runbook: &'a str,
    /// `limits.runs` of the runbook.
    pub runs: Option<Rate>,
    pub step: &'a PlannedStep,
    pub mode: Mode,
    /// What is acted on: limits count for each by itself.
    pub target: &'a str,
    /// The person who pressed the button just now.
    pub started_by: Option<&'a Person>,
    pub agreed: &'a [Agreed],
    /// The likely cause and its score.
    pub cause: Option<(&'a str, f64)>,
    pub policies: &'a [Policy],
    pub count: Option<&'a Count>,
    /// The record can be written.
    pub journal_ready: bool,
    /// It takes another step back, which was allowed to run.
    pub rollback_of: Option<&'a str>,
}

/// Who or what allowed a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum Authority {
    /// It only looks.
    Reading,
    People {
        names: Vec<String>,
    },
    Policy {
        name: String,
    },
    /// It takes back a step that was allowed, which named it.
    Rollback {
        of: String,
    },
    /// It only pretends.
    Test,
}

/// What is to be done with a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "decision", rename_all = "kebab-case")]
pub enum Decision {
    Run {
        authority: Authority,
        reason: String,
    },
    /// Try it dry, to see or to count what it would touch.
    DryRun {
        reason: String,
    },
    /// Somebody must agree first.
    Ask {
        needs: Approval,
        missing: usize,
        reason: String,
    },
    /// Not now; perhaps after this time.
    Wait {
        ms: u64,
        reason: String,
    },
    Refuse {
        reason: String,
    },
}

impl Decision {
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Run { reason, .. }
            | Self::DryRun { reason }
            | Self::Ask { reason, .. }
            | Self::Wait { reason, .. }
            | Self::Refuse { reason } => reason,
        }
    }
}

fn refuse(reason: impl Into<String>) -> Decision {
    Decision::Refuse { reason: reason.into() }
}

/// Decides, and counts the attempt when the answer is to run: between a question and its count no other run fits.
pub fn admit(brakes: &mut Brakes, request: &Request<'_>) -> Decision {
    let decision = decide(brakes, request);
    let Decision::Run { authority, .. } = &decision else { return decision };
    if request.step.effect == Effect::Read || *authority == Authority::Test {
        return decision;
    }
    let unattended = matches!(authority, Authority::Policy { .. });
    let attempt = (request.run, request.runbook, request.step.name.as_str(), request.target);
    match brakes.begin(attempt, request.step.lock.as_deref(), unattended) {
        Ok(()) => decision,
        Err(why) => ask(request, why, brakes),
    }
}

/// Whether a step may run now.
#[must_use]
pub fn decide(brakes: &Brakes, request: &Request<'_>) -> Decision {
    let step = request.step;
    if let Some(stop) = before_all(brakes, request) {
        return stop;
    }
    if request.mode == Mode::Test {
        return Decision::Run { authority: Authority::Test, reason: "nothing real runs in a test".to_owned() };
    }
    if !step.by_hand.is_empty() && request.started_by.is_none_or(|person| !person.is_human()) {
        return ask(request, step.by_hand.clone(), brakes);
    }
    if step.effect == Effect::Read {
        return Decision::Run { authority: Authority::Reading, reason: "it only looks".to_owned() };
    }
    if request.mode == Mode::Dry {
        return Decision::DryRun { reason: format!("it would change something: {}", step.why) };
    }
    if let Some(of) = request.rollback_of {
        // It was named by the step that people or a policy allowed, and the hash they allowed covers its text.
        if let Some(stop) = lock_held(brakes, request) {
            return stop;
        }
        if step.effect == Effect::Destroy {
            return with_people(brakes, request);
        }
        return Decision::Run { authority: Authority::Rollback { of: of.to_owned() }, reason: format!("it takes back {of}") };
    }
    if let Some(stop) = limits(brakes, request) {
        return stop;
    }
    let by_people = with_people(brakes, request);
    if matches!(by_people, Decision::Run { .. }) || request.mode != Mode::Auto {
        return by_people;
    }
    with_policy(brakes, request).unwrap_or_else(|why| match by_people {
        Decision::Ask { needs, missing, reason } => {
            Decision::Ask { needs, missing, reason: format!("{reason}; unattended it may not: {why}") }
        }
        other => other,
    })
}

/// What no approval gets round.
fn before_all(brakes: &Brakes, request: &Request<'_>) -> Option<Decision> {
    let step = request.step;
    if request.mode == Mode::Plan {
        return Some(refuse("a plan runs nothing"));
    }
    if let Some(why) = step.blocked.first() {
        return Some(refuse(why.to_string()));
    }
    if step.work.is_none() || step.hash.is_empty() {
        return Some(refuse("there is nothing to run"));
    }
    if !request.journal_ready {
        return Some(refuse("it could not be written down"));
    }
    if step.demands.only_rollback && request.rollback_of.is_none() && request.mode != Mode::Test {
        return Some(refuse("it only takes another step back"));
    }
    match brakes.stopped() {
        _ if request.mode == Mode::Test => None,
        Stopped::Everything => Some(refuse("everything is stopped by the kill switch")),
        Stopped::Writes if step.effect > Effect::Read => Some(refuse("changes are stopped by the kill switch")),
        _ => None,
    }
}

fn lock_held(brakes: &Brakes, request: &Request<'_>) -> Option<Decision> {
    let lock = request.step.lock.as_deref()?;
    let holder = brakes.held_by(lock, request.run)?;
    Some(Decision::Wait { ms: 5_000, reason: format!("{lock} is held by the run {holder}") })
}

/// Rate, cool-down, lock and blast radius.
fn limits(brakes: &Brakes, request: &Request<'_>) -> Option<Decision> {
    let step = request.step;
    if let Some(stop) = lock_held(brakes, request) {
        return Some(stop);
    }
    if let Some((reason, ms)) = brakes.too_often(request.runbook, &step.name, request.target, step.demands.rate, step.demands.cooldown_ms) {
        return Some(Decision::Wait { ms, reason });
    }
    if let Some(reason) = request.runs.and_then(|rate| brakes.runbook_too_often(request.runbook, request.run, rate)) {
        return Some(Decision::Wait { ms: 60_000, reason });
    }
    match counted(brakes, request) {
        Some(count) => too_many(step.demands.blast, count).map(refuse),
        None if step.demands.blast.is_some() || step.effect == Effect::Destroy => {
            Some(Decision::DryRun { reason: "what it would touch must be counted first".to_owned() })
        }
        None => None,
    }
}

/// A count of exactly this step, not too old.
fn counted<'a>(brakes: &Brakes, request: &Request<'a>) -> Option<&'a Count> {
    let fresh = |count: &&Count| count.hash == request.step.hash && brakes.clock_ms().saturating_sub(count.at_ms) <= COUNT_AGE_MAX_MS;
    request.count.filter(fresh)
}

fn too_many(blast: Option<Blast>, count: &Count) -> Option<String> {
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than a few digits")]
    let percent = count.of.filter(|of| *of > 0).map(|of| count.affected as f64 * 100.0 / of as f64);
    let fits = match blast {
        Some(Blast::Objects(max)) => count.affected <= max,
        Some(Blast::Percent(max)) => percent.is_some_and(|percent| percent <= max) || count.affected == 0,
        None => count.affected <= 1 || percent.is_some_and(|percent| percent <= BLAST_PERCENT),
    };
    let allowed = match blast {
        Some(Blast::Objects(max)) => max.to_string(),
        Some(Blast::Percent(max)) => format!("{max} %"),
        None => format!("1 or {BLAST_PERCENT} %"),
    };
    let of = count.of.map_or_else(String::new, |of| format!(" of {of}"));
    (!fits).then(|| format!("it would touch {}{of}; {allowed} is allowed", count.affected))
}

/// How many objects an attempt may touch; asked once more right before it is carried out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Allowed {
    blast: Option<Blast>,
    /// Without a word about it, what cannot be had back may touch one object.
    bounded: bool,
    /// What a policy allows, where one allowed the attempt; 0 where that policy is gone.
    policy_max: Option<u64>,
}

impl Allowed {
    pub(crate) fn of(step: &PlannedStep, authority: &Authority, policies: &[Policy]) -> Self {
        let bounded = step.demands.blast.is_some() || step.effect == Effect::Destroy;
        let policy_max = match authority {
            Authority::Policy { name } => Some(policies.iter().find(|one| one.name == *name).map_or(0, |one| one.affected_max)),
            _ => None,
        };
        Self { blast: step.demands.blast, bounded, policy_max }
    }

    /// Why so many are too many.
    pub(crate) fn exceeded_by(&self, affected: Option<u64>, of: Option<u64>) -> Option<String> {
        let Some(affected) = affected else {
            return (self.bounded || self.policy_max.is_some()).then(|| "nobody could say how many it would touch".to_owned());
        };
        if let Some(max) = self.policy_max.filter(|max| affected > *max) {
            return Some(format!("it would touch {affected} now; the policy allows {max}"));
        }
        let count = Count { hash: String::new(), affected, of, at_ms: 0 };
        // A share of what nobody counted cannot be checked again.
        let known = self.bounded && (of.is_some() || !matches!(self.blast, Some(Blast::Percent(_))));
        known.then(|| too_many(self.blast, &count)).flatten()
    }
}

/// People agreed to exactly this step.
fn with_people(brakes: &Brakes, request: &Request<'_>) -> Decision {
    let step = request.step;
    let started = request.started_by.filter(|person| person.is_human());
    let names = approval::people(request.agreed, request.run, step, brakes.clock_ms(), APPROVAL_AGE_MAX_MS);
    let roles = |role: &str| {
        let valid = |agreed: &&Agreed| approval::is_valid(agreed, request.run, step, brakes.clock_ms(), APPROVAL_AGE_MAX_MS);
        request.agreed.iter().filter(valid).find(|agreed| agreed.by.has_role(role)).map(|agreed| agreed.by.name.clone())
    };
    let run = |names: Vec<String>| {
        let reason = format!("{} agreed to it", names.join(" and "));
        Decision::Run { authority: Authority::People { names }, reason }
    };
    match &step.approval {
        Approval::None => match (started, names.first()) {
            (Some(person), _) => run(vec![person.name.clone()]),
            (None, Some(name)) => run(vec![name.clone()]),
            (None, None) => ask(request, "a person has to start it".to_owned(), brakes),
        },
        Approval::Any if !names.is_empty() => run(names),
        Approval::Role(role) => match roles(role) {
            Some(name) => run(vec![name]),
            None => ask(request, format!("the {role} has to agree"), brakes),
        },
        Approval::Two if names.len() >= 2 => run(names),
        Approval::Two => ask(request, "two different people have to agree".to_owned(), brakes),
        Approval::Any => ask(request, "somebody has to agree".to_owned(), brakes),
    }
}

fn ask(request: &Request<'_>, why: String, brakes: &Brakes) -> Decision {
    let step = request.step;
    let have = approval::people(request.agreed, request.run, step, brakes.clock_ms(), APPROVAL_AGE_MAX_MS).len();
    let edited = request.agreed.iter().any(|agreed| agreed.run == request.run && agreed.step == step.name && agreed.hash != step.hash);
    let reason = if edited { format!("{why}; what was agreed to has changed since") } else { why };
    let needed = if step.approval == Approval::Two { 2_usize } else { 1 };
    Decision::Ask { needs: step.approval.clone(), missing: needed.saturating_sub(have).max(1), reason }
}

/// A policy allows it unattended; the error says why none does.
fn with_policy(brakes: &Brakes, request: &Request<'_>) -> Result<Decision, String> {
    let step = request.step;
    if step.effect == Effect::Destroy {
        return Err("what it loses cannot be had back".to_owned());
    }
    let least = step.demands.auto.ok_or("the runbook does not say `auto`")?;
    if step.demands.verify.is_none() {
        return Err("nothing verifies it".to_owned());
    }
    let (cause, score) = request.cause.ok_or("no cause is known")?;
    if step.cause.as_deref() != Some(cause) {
        return Err(format!("it belongs to another cause than {cause}"));
    }
    let fits = |policy: &&Policy| {
        policy.runbook == request.runbook && policy.cause == cause && (policy.steps.is_empty() || policy.steps.contains(&step.name))
    };
    let policy = request.policies.iter().find(fits).ok_or_else(|| format!("no policy names the cause {cause}"))?;
    // A score that is not a number is no score.
    let needed = least.max(policy.score_min);
    if policy.score_min.is_nan() {
        return Err(format!("the policy {} names no score", policy.name));
    }
    if score.partial_cmp(&needed).is_none_or(std::cmp::Ordering::is_lt) {
        return Err(format!("the score {score:.2} of {cause} is below {needed:.2}"));
    }
    let count = counted(brakes, request);
    let Some(count) = count else {
        return Ok(Decision::DryRun { reason: "what it would touch must be counted first".to_owned() });
    };
    if count.affected > policy.affected_max {
        return Err(format!("it would touch {}; the policy allows {}", count.affected, policy.affected_max));
    }
    let hourly = Rate { attempts: policy.attempts_per_hour, window_ms: 3_600_000 };
    if policy.attempts_per_hour == 0 {
        return Err("the policy allows no attempt".to_owned());
    }
    if let Some((why, _)) = brakes.too_often(request.runbook, &step.name, request.target, hourly, 0) {
        return Err(why);
    }
    if let Some(why) = brakes.tripped() {
        return Err(why);
    }
    let reason = format!("the policy {} allows it: {cause} scores {score:.2}, {} touched", policy.name, count.affected);
    Ok(Decision::Run { authority: Authority::Policy { name: policy.name.clone() }, reason })
}
