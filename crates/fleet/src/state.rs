//! In which state an agent is, and why: a pure decision on what is known of it and the time.

use std::fmt;
use std::time::Duration;

use paramedic_model::{Timestamp, WaitReason};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Settings;

/// What an agent is doing, as far as a person must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// A detector says that it makes no progress.
    Stuck,
    /// Its last turn ended with an error and nothing came since, other than the end of its session.
    Failed,
    /// In the middle of a turn, and nothing was heard of it for too long.
    Silent,
    /// It cannot go on without a person.
    Waiting,
    Working,
    /// Its session or its work has ended.
    Done,
}

impl State {
    /// In the order of trouble: who needs a person first comes first.
    pub const ALL: [Self; 6] = [Self::Stuck, Self::Failed, Self::Silent, Self::Waiting, Self::Working, Self::Done];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stuck => "stuck",
            Self::Failed => "failed",
            Self::Silent => "silent",
            Self::Waiting => "waiting",
            Self::Working => "working",
            Self::Done => "done",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where an agent is in its turn, as its events say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing was heard that says so.
    #[default]
    Unknown,
    /// Between turns.
    Idle,
    MidTurn,
    /// The turn ended with an error.
    Failed,
    /// The session, or the sub-agent's work, ended.
    Ended,
    /// The turn ended with an error, and then the session ended: the error is the last word.
    FailedAndEnded,
}

/// All that the decision needs.
#[derive(Debug, Clone, Copy)]
pub struct Condition<'a> {
    pub subagent: bool,
    pub phase: Phase,
    pub phase_at: Timestamp,
    /// How the phase came about: the error, the reason of the end, the retry.
    pub note: &'a str,
    pub waiting: Option<(WaitReason, Timestamp)>,
    /// The tool that runs now, and since when.
    pub tool: Option<(&'a str, Timestamp)>,
    /// The last event of the agent or, for a session, of its sub-agents.
    pub last_sign_at: Timestamp,
    pub process: Option<ProcessSign<'a>>,
    pub stuck: Option<&'a str>,
}

/// The last word of the process table or of a liveness file.
#[derive(Debug, Clone, Copy)]
pub struct ProcessSign<'a> {
    pub pid: u32,
    pub alive: bool,
    pub status: Option<&'a str>,
    pub at: Timestamp,
}

/// Why an agent is in its state; shown as it is written here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason<'a> {
    Stuck(&'a str),
    TurnFailed { note: &'a str, age: Duration },
    DiedMidTurn { pid: u32, age: Duration },
    NoSign { age: Duration, tool: Option<&'a str> },
    Permission { tool: Option<&'a str>, age: Duration },
    Answer { tool: Option<&'a str>, age: Duration },
    NextPrompt { age: Duration },
    Running { tool: &'a str, age: Duration },
    Retrying { note: &'a str, age: Duration },
    Thinking,
    Observed,
    Ended { note: &'a str, age: Duration },
    ProcessGone { pid: u32, age: Duration },
    Answered { age: Duration },
    LongAgo { age: Duration },
}

/// Tools that end in a question to a person.
fn asks(tool: &str) -> bool {
    matches!(tool, "AskUserQuestion" | "ExitPlanMode")
}

/// Decides. The order of the questions is the order of what matters more.
#[must_use]
pub fn decide_state<'a>(agent: &Condition<'a>, now: Timestamp, settings: &Settings) -> (State, Reason<'a>) {
    let since = |at: Timestamp| now.since(at);
    if agent.phase == Phase::Ended {
        return (State::Done, Reason::Ended { note: agent.note, age: since(agent.phase_at) });
    }
    let done_after = Duration::from_secs(settings.done_after_s);
    if agent.phase == Phase::FailedAndEnded {
        return failed(agent, now, done_after);
    }
    let gone = agent.process.filter(|process| !process.alive && process.at >= agent.last_sign_at);
    if let Some(process) = gone {
        let age = since(process.at);
        return match agent.phase {
            Phase::MidTurn => (State::Failed, Reason::DiedMidTurn { pid: process.pid, age }),
            Phase::Failed => failed(agent, now, done_after),
            _ => (State::Done, Reason::ProcessGone { pid: process.pid, age }),
        };
    }
    let age = since(agent.last_sign_at);
    // Without a process that is known to live, a day without a word is history.
    if agent.process.is_none_or(|process| !process.alive) && age >= done_after {
        return (State::Done, Reason::LongAgo { age });
    }
    if let Some(reason) = agent.stuck {
        return (State::Stuck, Reason::Stuck(reason));
    }
    match agent.phase {
        Phase::Failed => (State::Failed, Reason::TurnFailed { note: agent.note, age: since(agent.phase_at) }),
        Phase::MidTurn => decide_mid_turn(agent, now, settings),
        Phase::Idle if agent.subagent => (State::Done, Reason::Answered { age: since(agent.phase_at) }),
        Phase::Idle | Phase::Ended | Phase::FailedAndEnded => {
            decide_waiting(agent, now).unwrap_or_else(|| idle(since(agent.phase_at), settings))
        }
        Phase::Unknown => decide_waiting(agent, now).unwrap_or((State::Working, Reason::Observed)),
    }
}

/// Nothing will come any more: the failure stands until it is history.
fn failed<'a>(agent: &Condition<'a>, now: Timestamp, done_after: Duration) -> (State, Reason<'a>) {
    let age = now.since(agent.phase_at);
    if age >= done_after { (State::Done, Reason::LongAgo { age }) } else { (State::Failed, Reason::TurnFailed { note: agent.note, age }) }
}

fn decide_mid_turn<'a>(agent: &Condition<'a>, now: Timestamp, settings: &Settings) -> (State, Reason<'a>) {
    if let Some(waiting) = decide_waiting(agent, now) {
        return waiting;
    }
    if let Some(process) = agent.process
        && process.alive
        && process.status == Some("idle")
        && process.at > agent.last_sign_at
    {
        return idle(now.since(process.at), settings);
    }
    let age = now.since(agent.last_sign_at);
    if age >= Duration::from_secs(settings.silent_after_s) {
        return (State::Silent, Reason::NoSign { age, tool: agent.tool.map(|(tool, _)| tool) });
    }
    let reason = match agent.tool {
        Some((tool, at)) => Reason::Running { tool, age: now.since(at) },
        None if !agent.note.is_empty() => Reason::Retrying { note: agent.note, age: now.since(agent.phase_at) },
        None => Reason::Thinking,
    };
    (State::Working, reason)
}

fn decide_waiting<'a>(agent: &Condition<'a>, now: Timestamp) -> Option<(State, Reason<'a>)> {
    let question = agent.tool.filter(|(tool, _)| asks(tool));
    let reason = match (agent.waiting, question) {
        (Some((WaitReason::Permission, at)), None) => Reason::Permission { tool: agent.tool.map(|(tool, _)| tool), age: now.since(at) },
        (_, Some((tool, at))) => Reason::Answer { tool: Some(tool), age: now.since(at) },
        (Some((WaitReason::Input, at)), None) => Reason::Answer { tool: None, age: now.since(at) },
        (Some((WaitReason::Idle, at)), None) => Reason::NextPrompt { age: now.since(at) },
        (None, None) => return None,
    };
    Some((State::Waiting, reason))
}

fn idle<'a>(age: Duration, settings: &Settings) -> (State, Reason<'a>) {
    if age >= Duration::from_secs(settings.done_after_s) {
        (State::Done, Reason::LongAgo { age })
    } else {
        (State::Waiting, Reason::NextPrompt { age })
    }
}

impl Reason<'_> {
    /// What a waiting agent waits for.
    #[must_use]
    pub const fn waiting_for(&self) -> Option<&'static str> {
        match self {
            Self::Permission { .. } => Some("permission"),
            Self::Answer { .. } => Some("answer"),
            Self::NextPrompt { .. } => Some("next prompt"),
            _ => None,
        }
    }
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Stuck(reason) => f.write_str(reason),
            Self::TurnFailed { note, age } => write!(f, "its turn ended {} ago: {note}", Ago(age)),
            Self::DiedMidTurn { pid, age } => write!(f, "process {pid} ended mid-turn {} ago", Ago(age)),
            Self::NoSign { age, tool: Some(tool) } => write!(f, "no sign of life for {} while running {tool}", Ago(age)),
            Self::NoSign { age, tool: None } => write!(f, "no sign of life for {} in the middle of a turn", Ago(age)),
            Self::Permission { tool: Some(tool), age } => write!(f, "waiting for permission to run {tool} for {}", Ago(age)),
            Self::Permission { tool: None, age } => write!(f, "waiting for permission for {}", Ago(age)),
            Self::Answer { tool: Some("ExitPlanMode"), age } => write!(f, "waiting for approval of its plan for {}", Ago(age)),
            Self::Answer { age, .. } => write!(f, "waiting for an answer for {}", Ago(age)),
            Self::NextPrompt { age } => write!(f, "waiting for the next prompt for {}", Ago(age)),
            Self::Running { tool, age } => write!(f, "running {tool} for {}", Ago(age)),
            Self::Retrying { note, age } => write!(f, "{note}, {} ago", Ago(age)),
            Self::Thinking => f.write_str("the model is at work"),
            Self::Observed => f.write_str("it sends signals; nothing says where it is in its work"),
            Self::Ended { note, age } => write!(f, "{note} {} ago", Ago(age)),
            Self::ProcessGone { pid, age } => write!(f, "process {pid} is gone since {}, between turns", Ago(age)),
            Self::Answered { age } => write!(f, "answered {} ago", Ago(age)),
            Self::LongAgo { age } => write!(f, "nothing was heard of it for {}", Ago(age)),
        }
    }
}

/// A duration as a person says it.
struct Ago(Duration);

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            secs @ 0..=119 => write!(f, "{secs} s"),
            secs @ 120..=7_199 => write!(f, "{} min", secs / 60),
            secs @ 7_200..=172_799 => write!(f, "{} h", secs / 3_600),
            secs => write!(f, "{} days", secs / 86_400),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 10_000_000;

    fn at(ago_s: i64) -> Timestamp {
        Timestamp::from_secs(NOW - ago_s)
    }

    fn agent(phase: Phase, ago_s: i64) -> Condition<'static> {
        Condition {
            subagent: false,
            phase,
            phase_at: at(ago_s),
            note: "",
            waiting: None,
            tool: None,
            last_sign_at: at(ago_s),
            process: None,
            stuck: None,
        }
    }

    const fn process(alive: bool, status: Option<&'static str>, at: Timestamp) -> Option<ProcessSign<'static>> {
        Some(ProcessSign { pid: 7, alive, status, at })
    }

    fn check(agent: Condition<'_>, state: State, reason: &str) {
        let (decided, why) = decide_state(&agent, at(0), &Settings::default());
        assert_eq!((decided, why.to_string().as_str()), (state, reason), "{agent:?}");
    }

    #[test]
    fn a_turn_in_progress() {
        let mid = agent(Phase::MidTurn, 10);
        check(mid, State::Working, "the model is at work");
        check(Condition { tool: Some(("Bash", at(125))), ..mid }, State::Working, "running Bash for 2 min");
        check(Condition { note: "retrying, attempt 3 of 10", ..mid }, State::Working, "retrying, attempt 3 of 10, 10 s ago");
        check(agent(Phase::MidTurn, 299), State::Working, "the model is at work");
        check(agent(Phase::MidTurn, 300), State::Silent, "no sign of life for 5 min in the middle of a turn");
        let running = Condition { tool: Some(("Bash", at(400))), ..agent(Phase::MidTurn, 400) };
        check(running, State::Silent, "no sign of life for 6 min while running Bash");
        check(agent(Phase::MidTurn, 86_400), State::Done, "nothing was heard of it for 24 h");
        let alive = Condition { process: process(true, Some("busy"), at(1)), ..agent(Phase::MidTurn, 200_000) };
        check(alive, State::Silent, "no sign of life for 2 days in the middle of a turn");
    }

    #[test]
    fn a_person_is_needed() {
        let mid = Condition { tool: Some(("Bash", at(130))), ..agent(Phase::MidTurn, 130) };
        let permission = Condition { waiting: Some((WaitReason::Permission, at(120))), ..mid };
        check(permission, State::Waiting, "waiting for permission to run Bash for 2 min");
        let hours = Condition { waiting: Some((WaitReason::Permission, at(7_200))), last_sign_at: at(7_200), ..mid };
        check(hours, State::Waiting, "waiting for permission to run Bash for 2 h");
        check(Condition { tool: Some(("AskUserQuestion", at(9))), ..mid }, State::Waiting, "waiting for an answer for 9 s");
        check(Condition { tool: Some(("ExitPlanMode", at(9))), ..mid }, State::Waiting, "waiting for approval of its plan for 9 s");
        check(Condition { waiting: Some((WaitReason::Input, at(9))), tool: None, ..mid }, State::Waiting, "waiting for an answer for 9 s");
        check(agent(Phase::Idle, 60), State::Waiting, "waiting for the next prompt for 60 s");
        check(agent(Phase::Idle, 90_000), State::Done, "nothing was heard of it for 25 h");
        let idle = Condition { process: process(true, Some("idle"), at(5)), ..agent(Phase::MidTurn, 400) };
        check(idle, State::Waiting, "waiting for the next prompt for 5 s");
    }

    #[test]
    fn ends_good_and_bad() {
        let failed = Condition { note: "overloaded (529)", ..agent(Phase::Failed, 61) };
        check(failed, State::Failed, "its turn ended 61 s ago: overloaded (529)");
        let ended = |ago_s| Condition { note: "overloaded (529)", ..agent(Phase::FailedAndEnded, ago_s) };
        check(ended(61), State::Failed, "its turn ended 61 s ago: overloaded (529)");
        check(ended(86_399), State::Failed, "its turn ended 23 h ago: overloaded (529)");
        check(ended(86_400), State::Done, "nothing was heard of it for 24 h");
        check(Condition { stuck: Some("old"), ..ended(61) }, State::Failed, "its turn ended 61 s ago: overloaded (529)");
        check(Condition { process: process(false, None, at(60)), ..ended(61) }, State::Failed, "its turn ended 61 s ago: overloaded (529)");
        let gone =
            |ago_s| Condition { process: process(false, None, at(ago_s - 1)), note: "overloaded (529)", ..agent(Phase::Failed, ago_s) };
        check(gone(61), State::Failed, "its turn ended 61 s ago: overloaded (529)");
        check(gone(86_400), State::Done, "nothing was heard of it for 24 h");
        let died = Condition { process: process(false, None, at(9)), ..agent(Phase::MidTurn, 10) };
        check(died, State::Failed, "process 7 ended mid-turn 9 s ago");
        let restarted = Condition { process: process(false, None, at(11)), ..agent(Phase::MidTurn, 10) };
        check(restarted, State::Working, "the model is at work");
        let gone = Condition { process: process(false, None, at(9)), ..agent(Phase::Idle, 10) };
        check(gone, State::Done, "process 7 is gone since 9 s, between turns");
        check(Condition { note: "session ended (logout)", ..agent(Phase::Ended, 30) }, State::Done, "session ended (logout) 30 s ago");
        check(Condition { subagent: true, ..agent(Phase::Idle, 30) }, State::Done, "answered 30 s ago");
        check(Condition { stuck: Some("same call 12 times"), ..agent(Phase::MidTurn, 1) }, State::Stuck, "same call 12 times");
        check(Condition { stuck: Some("old"), note: "session ended", ..agent(Phase::Ended, 1) }, State::Done, "session ended 1 s ago");
        check(agent(Phase::Unknown, 10), State::Working, "it sends signals; nothing says where it is in its work");
    }
}
