//! Processes and agents: stopped, killed and restarted, named by number and start time.
//!
//! **Takes** a number *and* when that process started, or an agent's name. **Gives** its end, seen, or a new process that
//! lives. **Never** hits a process that only has the same number: each is held by a descriptor before it is touched.
//! **Never** ends the kernel's own, Paramedic itself or what it runs under.

mod again;
mod aim;
mod end;
mod find;
mod pid_file;
pub(crate) mod program;
mod started;
mod table;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::again::Again;
use self::aim::Aim;
use self::end::{Ended, Way, end};
use self::find::{Search, find};
use self::pid_file::PidFile;
pub use self::started::Started;
use crate::actions::{Adapter, BoxFuture};
use crate::call::{Call, Done, OBJECTS_MAX, Object, Plan, Verified};
use crate::error::ActionError;
use crate::spec::{Argument, Effect, Kind, Spec};

/// Settings of these actions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seconds that a process has to end by itself after it was asked, where the call does not say. Default 10.
    pub grace_s: u64,
    /// Seconds after which a killed process that is still there counts as unkillable. Default 5.
    pub kill_wait_s: u64,
    /// Milliseconds that a restarted process must live to count as started. Default 1000.
    pub settle_ms: u64,
    /// The folder for what restarted processes write, where their output was not a file already. Default none: it is dropped.
    pub output_dir: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { grace_s: 10, kill_wait_s: 5, settle_ms: 1_000, output_dir: None }
    }
}

/// An agent's process on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentProcess {
    pub pid: u32,
    pub started: Started,
    /// What it is, for people: `claude in /home/me/shop`.
    pub what: String,
}

/// Where the processes of agents are known.
pub trait AgentProcesses: Send + Sync {
    /// `None`: there is no such agent, or it has no process on this machine.
    fn find(&self, agent: &str) -> Option<AgentProcess>;
}

/// Actions on processes of this machine.
#[derive(Clone)]
pub struct Processes {
    settings: Settings,
    agents: Option<Arc<dyn AgentProcesses>>,
}

impl fmt::Debug for Processes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Processes").field("settings", &self.settings).finish_non_exhaustive()
    }
}

const PID: Argument = Argument::required("pid", Kind::Count, "the number of the process");
const STARTED: Argument = Argument::required(
    "started",
    Kind::Text,
    "when it started: ticks since boot as in /proc, seconds since 1970, RFC 3339, or as `ps -o lstart` prints it; process.find gives it",
);
const AGENT: Argument = Argument::required("agent", Kind::Text, "the agent's id or session");
const GRACE: Argument = Argument::optional("grace", Kind::Duration, "how long it may take to end by itself (setting grace_s, 10s)");
const GROUP: Argument = Argument::optional("group", Kind::Flag, "its whole process group (false)");
const SETTLE: Argument = Argument::optional("settle", Kind::Duration, "how long the new one must live (setting settle_ms, 1s)");

const NOT_BACK: &str = "nothing: what the process held in memory is gone; process.restart starts a program anew";
const RESTART_BACK: &str = "nothing: it runs again as it was started";

pub(crate) const SPECS: &[Spec] = &[
    Spec {
        name: "process.stop",
        summary: "asks a process to end, and kills it when it does not within the grace",
        effect: Effect::Write,
        arguments: &[PID, STARTED, GRACE, GROUP],
        undo: NOT_BACK,
    },
    Spec {
        name: "process.kill",
        summary: "kills a process at once; it cannot save anything",
        effect: Effect::Destroy,
        arguments: &[PID, STARTED, GROUP],
        undo: NOT_BACK,
    },
    Spec {
        name: "process.restart",
        summary: "ends a process and starts it anew with the same words, folder and environment, without terminal",
        effect: Effect::Write,
        arguments: &[PID, STARTED, GRACE, GROUP, SETTLE],
        undo: RESTART_BACK,
    },
    Spec {
        name: "process.find",
        summary: "finds processes by the exact name of their program, by the port they listen on, or by a pid file",
        effect: Effect::Read,
        arguments: &[
            Argument::optional("name", Kind::Text, "the exact name of the program; with pid_file, the program it must be"),
            Argument::optional("port", Kind::Count, "a TCP port of this machine"),
            Argument::optional("pid_file", Kind::Text, "the path of a pid file"),
        ],
        undo: "nothing is changed",
    },
    Spec {
        name: "process.remove_stale_pid_file",
        summary: "removes a pid file whose process does not live any more",
        effect: Effect::Write,
        arguments: &[
            Argument::required("file", Kind::Text, "the path of the pid file"),
            Argument::optional("name", Kind::Text, "the program it must be; when the number belongs to another one, the file is stale"),
        ],
        undo: "nothing, and none is needed: the program writes the file anew when it starts",
    },
    Spec {
        name: "agent.stop",
        summary: "asks an agent's process to end, and kills it when it does not within the grace",
        effect: Effect::Write,
        arguments: &[AGENT, GRACE, GROUP],
        undo: NOT_BACK,
    },
    Spec {
        name: "agent.kill",
        summary: "kills an agent's process at once",
        effect: Effect::Destroy,
        arguments: &[AGENT, GROUP],
        undo: NOT_BACK,
    },
    Spec {
        name: "agent.restart",
        summary: "ends an agent's process and starts it anew with the same words, folder and environment, without terminal",
        effect: Effect::Write,
        arguments: &[AGENT, GRACE, GROUP, SETTLE],
        undo: RESTART_BACK,
    },
];

/// Our own process and everything it came from.
pub(crate) fn own_line() -> Vec<i32> {
    table::own_line()
}

/// Whether a process of this number has not ended.
pub(crate) fn lives(pid: i32) -> bool {
    table::Process::read(pid).is_some_and(|process| !process.has_ended())
}

fn refused(call: &Call, why: impl Into<String>) -> ActionError {
    ActionError::Refused { action: call.action.clone(), why: why.into() }
}

fn not_found(what: impl Into<String>, why: impl Into<String>) -> ActionError {
    ActionError::NotFound { what: what.into(), why: why.into() }
}

fn failed(call: &Call, why: impl Into<String>) -> ActionError {
    ActionError::Failed { action: call.action.clone(), why: why.into() }
}

/// What is done to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Stop,
    Kill,
    Restart,
}

impl Deed {
    fn of(call: &Call) -> Option<Self> {
        match call.action.as_str() {
            "process.stop" | "agent.stop" => Some(Self::Stop),
            "process.kill" | "agent.kill" => Some(Self::Kill),
            "process.restart" | "agent.restart" => Some(Self::Restart),
            _ => None,
        }
    }
}

impl Processes {
    #[must_use]
    pub const fn new(settings: Settings, agents: Option<Arc<dyn AgentProcesses>>) -> Self {
        Self { settings, agents }
    }

    /// The process that a call names, or the one of the agent that it names; with what to call it.
    fn aim(&self, call: &Call) -> Result<(Aim, String), ActionError> {
        let is_group = call.flag_or("group", false)?;
        if !call.action.starts_with("agent.") {
            let text = call.text("started")?;
            let started = Started::parse(&text).ok_or_else(|| call.fault("started", format!("{text:?} is not a time")))?;
            let aim = Aim::take(call, call.count("pid")?, &started, is_group)?;
            let name = aim.name();
            return Ok((aim, name));
        }
        let agent = call.text("agent")?;
        let Some(agents) = &self.agents else {
            return Err(ActionError::NotSetUp { action: call.action.clone(), why: "no agents are watched in this instance".to_owned() });
        };
        let what = format!("the process of the agent {agent}");
        let found = agents.find(&agent).ok_or_else(|| not_found(&what, "no agent of that name has a process on this machine"))?;
        let aim = Aim::take(call, u64::from(found.pid), &found.started, is_group)?;
        let name = format!("{} of the agent {agent} ({})", aim.name(), found.what);
        Ok((aim, name))
    }

    fn way(&self, call: &Call, deed: Deed) -> Result<Way, ActionError> {
        let grace = call.duration_or_none("grace")?.unwrap_or(Duration::from_secs(self.settings.grace_s));
        Ok(Way { grace: (deed != Deed::Kill).then_some(grace), kill_wait: Duration::from_secs(self.settings.kill_wait_s) })
    }

    fn settle(&self, call: &Call) -> Result<Duration, ActionError> {
        Ok(call.duration_or_none("settle")?.unwrap_or(Duration::from_millis(self.settings.settle_ms)))
    }

    fn again(&self, call: &Call, aim: &Aim) -> Result<Again, ActionError> {
        Again::read(&aim.first, self.settings.output_dir.as_deref()).map_err(|why| refused(call, why))
    }

    fn plan_deed(&self, call: &Call, deed: Deed) -> Result<Plan, ActionError> {
        let (aim, name) = self.aim(call)?;
        let way = self.way(call, deed)?;
        let (word, effect) = match deed {
            Deed::Stop => ("stop", Effect::Write),
            Deed::Kill => ("kill", Effect::Destroy),
            Deed::Restart => ("restart", Effect::Write),
        };
        let mut plan = Plan::new(call, effect, format!("{word} {name}"));
        plan.affected = aim.members.len() as u64;
        plan.objects = aim.objects().take(OBJECTS_MAX).collect();
        plan.stands_on = aim.stands_on();
        let pids: Vec<String> = aim.members.iter().take(OBJECTS_MAX).map(|member| member.pid.to_string()).collect();
        let pids = pids.join(" ");
        if let Some(grace) = way.grace {
            plan.exact.push(format!("SIGTERM to {pids}"));
            plan.exact.push(format!("after {} ms, SIGKILL to those that live", grace.as_millis()));
        } else {
            plan.exact.push(format!("SIGKILL to {pids}"));
        }
        if aim.is_group && aim.first.pid != aim.first.group {
            plan.warnings.push(format!("{} does not lead its group; the group's other processes may belong to other work", aim.first.pid));
        }
        if deed == Deed::Restart {
            let again = self.again(call, &aim)?;
            plan.exact.push(format!("in {}: setsid {}", again.folder().display(), again.argv_shown()));
            plan.warnings.extend(again::warnings(&aim.first));
            plan.warnings.push(format!("what it writes goes to: {}", again.output_shown()));
        } else if let Some(service) = aim.first.service() {
            plan.warnings.push(format!("it belongs to the service {service}, which may start it again"));
        }
        Ok(plan)
    }

    async fn do_deed(&self, call: &Call, deed: Deed, plan: &Plan, cancel: &CancellationToken) -> Result<Done, ActionError> {
        let (aim, name) = self.aim(call)?;
        if aim.stands_on() != plan.stands_on {
            let why = format!("it was {}, and is {}", plan.stands_on, aim.stands_on());
            return Err(ActionError::Changed { action: call.action.clone(), why });
        }
        let way = self.way(call, deed)?;
        // Read while it lives: nothing is ended that could not be started again.
        let again = if deed == Deed::Restart { Some(self.again(call, &aim)?) } else { None };
        let settle = self.settle(call)?;
        let before = Value::Array(aim.members.iter().take(OBJECTS_MAX).map(|member| find::shown(member, aim.booted)).collect());
        let ended = end(&aim, way, cancel).await;
        let tally = tally(&ended);
        if ended.is_called_off {
            return Err(ActionError::CalledOff { action: call.action.clone(), done: format!("they were asked to end: {tally}") });
        }
        if ended.all() == 0 {
            return Err(failed(call, format!("nothing ended: {tally}")));
        }
        let mut done = Done::new(format!("ended {name}: {tally}"), Verified::seen(format!("the end of each was seen: {tally}")));
        done.affected = ended.all() as u64;
        done.before = before;
        done.after = json!({ "by_themselves": ended.by_themselves, "killed": ended.killed, "survivors": ended.survivors });
        if !ended.survivors.is_empty() {
            done.verified = Verified::missed(tally);
            return Ok(done);
        }
        let Some(again) = again else { return Ok(done) };
        match again.start(settle).await {
            Ok(process) => {
                done.what = format!("restarted {name}: it is {} now", process.pid);
                done.answer = find::shown(&process, aim.booted);
                done.verified = Verified::seen(format!("{} lives after {} ms", process.pid, settle.as_millis()));
            }
            Err(why) => {
                done.what = format!("ended {name}, and could not start it again: {why}");
                done.verified = Verified::missed(format!("{tally}; then {why}"));
            }
        }
        Ok(done)
    }
}

fn tally(ended: &Ended) -> String {
    let Ended { by_themselves, killed, survivors, said, .. } = ended;
    let mut words = format!("{by_themselves} ended when asked, {killed} were killed");
    if !survivors.is_empty() {
        words.push_str(&format!(", and still live: {survivors:?}"));
    }
    if let Some(said) = said {
        words.push_str(&format!(" ({said})"));
    }
    words
}

fn search(call: &Call) -> Result<Search, ActionError> {
    let (name, port, file) = (call.text_or_none("name")?, call.count_or_none("port")?, call.text_or_none("pid_file")?);
    match (name, port, file) {
        (Some(name), None, None) => Ok(Search::Name(name)),
        (None, Some(port), None) => match u16::try_from(port) {
            Ok(port) if port > 0 => Ok(Search::Port(port)),
            _ => Err(call.fault("port", format!("{port} is not a port"))),
        },
        (name, None, Some(file)) => Ok(Search::PidFile { file, name }),
        _ => Err(call.fault("name", "exactly one of name, port and pid_file must be given")),
    }
}

fn plan_find(call: &Call) -> Result<Plan, ActionError> {
    let what = match search(call)? {
        Search::Name(name) => format!("find the processes of the program {name}"),
        Search::Port(port) => format!("find who listens on the port {port}"),
        Search::PidFile { file, .. } => format!("find the process of the pid file {file}"),
    };
    Ok(Plan { exact: vec!["read /proc".to_owned()], ..Plan::new(call, Effect::Read, what) })
}

async fn do_find(call: &Call, plan: &Plan) -> Result<Done, ActionError> {
    let search = search(call)?;
    // A large process table takes a while to read.
    let found = tokio::task::spawn_blocking(move || find(&search)).await;
    let answer = found.map_err(|error| failed(call, error.to_string()))?.map_err(|why| failed(call, why))?;
    Ok(Done::looked(format!("{}: {}", plan.what, answer["count"]), answer))
}

/// The stale pid file that a call names, and why it is stale.
fn stale(call: &Call) -> Result<(PidFile, String), ActionError> {
    let path = PathBuf::from(call.text("file")?);
    if !pid_file::is_called_so(&path) {
        return Err(refused(call, format!("{} is not called like a pid file", path.display())));
    }
    let what = format!("the pid file {}", path.display());
    let file = PidFile::read(&path).map_err(|why| refused(call, why))?.ok_or_else(|| not_found(what, "it does not exist"))?;
    let name = call.text_or_none("name")?;
    match file.living(name.as_deref()) {
        Some(Err(why)) => Ok((file, why)),
        Some(Ok(process)) => Err(refused(call, format!("its process {} ({}) lives", process.pid, process.comm))),
        None => Err(refused(call, "its process cannot be told")),
    }
}

fn plan_removal(call: &Call) -> Result<Plan, ActionError> {
    let (file, why) = stale(call)?;
    let mut plan = Plan::new(call, Effect::Write, format!("remove the stale pid file {}: {why}", file.path.display()));
    plan.objects = vec![Object { kind: "pid file".to_owned(), name: file.path.display().to_string(), detail: why }];
    plan.affected = 1;
    plan.exact = vec![format!("unlink {}", file.path.display())];
    plan.stands_on = file.stands_on();
    Ok(plan)
}

fn do_removal(call: &Call, plan: &Plan) -> Result<Done, ActionError> {
    let (file, why) = stale(call)?;
    if file.stands_on() != plan.stands_on {
        let why = format!("it was {}, and is {}", plan.stands_on, file.stands_on());
        return Err(ActionError::Changed { action: call.action.clone(), why });
    }
    std::fs::remove_file(&file.path).map_err(|error| failed(call, format!("{} cannot be removed: {error}", file.path.display())))?;
    let is_gone = !file.path.exists();
    let seen = if is_gone { Verified::seen("the file is gone") } else { Verified::missed("the file is there again") };
    let mut done = Done::new(format!("removed {}: {why}", file.path.display()), seen);
    done.affected = 1;
    done.before = json!({ "pid": file.pid, "why": why });
    Ok(done)
}

impl Adapter for Processes {
    fn specs(&self) -> &'static [Spec] {
        SPECS
    }

    fn plan<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Plan, ActionError>> {
        Box::pin(async move {
            match (Deed::of(call), call.action.as_str()) {
                (Some(deed), _) => self.plan_deed(call, deed),
                (None, "process.find") => plan_find(call),
                (None, "process.remove_stale_pid_file") => plan_removal(call),
                (None, _) => Err(ActionError::Unknown(call.action.clone())),
            }
        })
    }

    fn execute<'a>(&'a self, call: &'a Call, plan: &'a Plan, cancel: &'a CancellationToken) -> BoxFuture<'a, Result<Done, ActionError>> {
        Box::pin(async move {
            match (Deed::of(call), call.action.as_str()) {
                (Some(deed), _) => self.do_deed(call, deed, plan, cancel).await,
                (None, "process.find") => do_find(call, plan).await,
                (None, "process.remove_stale_pid_file") => do_removal(call, plan),
                (None, _) => Err(ActionError::Unknown(call.action.clone())),
            }
        })
    }
}
