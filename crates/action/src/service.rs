//! Services of the system: systemd and pm2.
//!
//! **Takes** a manager and the exact name of a service. **Gives** its state, or the change of it: seen to be up as a new
//! process and to stay so for a while. **Never** hands a name on that the manager would read as anything else (an option,
//! a pattern, `all`, a file), and never stops what Paramedic runs under or turns the machine off.

mod pm2;
mod state;
mod systemd;

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::state::{Flaw, State};
use crate::actions::{Adapter, BoxFuture};
use crate::call::{Call, Done, Object, Plan, Verified};
use crate::error::ActionError;
use crate::process::program::Program;
use crate::spec::{Argument, Effect, Kind, Spec};

/// Between two looks at a service that is to come up.
const LOOK_EVERY: Duration = Duration::from_millis(400);
const NAME_BYTES_MAX: usize = 200;

/// Settings of these actions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The program `systemctl`. Default: the one in PATH.
    pub systemctl: PathBuf,
    /// The program `pm2`. Default: the one in PATH.
    pub pm2: PathBuf,
    /// The folder of pm2's daemon. Default: `PM2_HOME`, else `~/.pm2`.
    pub pm2_home: Option<PathBuf>,
    /// Seconds that a change may take, until the service is up or down. Default 90, which is systemd's own limit.
    pub timeout_s: u64,
    /// Seconds that a service must then stay up without starting again. Default 5.
    pub settle_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { systemctl: "systemctl".into(), pm2: "pm2".into(), pm2_home: None, timeout_s: 90, settle_s: 5 }
    }
}

/// Actions on services of this machine.
#[derive(Debug, Clone, Default)]
pub struct Services {
    settings: Settings,
}

const MANAGER: Argument = Argument::required("manager", Kind::Text, "systemd, systemd-user or pm2");
const NAME: Argument = Argument::required("name", Kind::Text, "the exact name of the service");

pub(crate) const SPECS: &[Spec] = &[
    Spec {
        name: "service.status",
        summary: "tells the state of a service: whether it is up, its process, how often it was restarted",
        effect: Effect::Read,
        arguments: &[MANAGER, NAME],
        undo: "nothing is changed",
    },
    Spec {
        name: "service.restart",
        summary: "restarts a service, and sees that it is up as a new process and stays up",
        effect: Effect::Write,
        arguments: &[MANAGER, NAME],
        undo: "nothing: it runs again, as a new process",
    },
    Spec {
        name: "service.start",
        summary: "starts a service, and sees that it stays up",
        effect: Effect::Write,
        arguments: &[MANAGER, NAME],
        undo: "service.stop",
    },
    Spec {
        name: "service.stop",
        summary: "stops a service, and sees that it is down",
        effect: Effect::Write,
        arguments: &[MANAGER, NAME],
        undo: "service.start",
    },
];

/// Who keeps a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manager {
    Systemd,
    SystemdUser,
    Pm2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Status,
    Restart,
    Start,
    Stop,
}

impl Verb {
    const fn word(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Restart => "restart",
            Self::Start => "start",
            Self::Stop => "stop",
        }
    }

    fn of(call: &Call) -> Result<Self, ActionError> {
        match call.action.as_str() {
            "service.status" => Ok(Self::Status),
            "service.restart" => Ok(Self::Restart),
            "service.start" => Ok(Self::Start),
            "service.stop" => Ok(Self::Stop),
            _ => Err(ActionError::Unknown(call.action.clone())),
        }
    }
}

/// A service as a call names it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    manager: Manager,
    word: String,
    name: String,
}

impl Named {
    fn read(call: &Call) -> Result<Self, ActionError> {
        let word = call.text("manager")?;
        let manager = match word.as_str() {
            "systemd" => Manager::Systemd,
            "systemd-user" => Manager::SystemdUser,
            "pm2" => Manager::Pm2,
            _ => return Err(call.fault("manager", format!("{word:?} is none of systemd, systemd-user and pm2"))),
        };
        let name = call.text("name")?;
        check_name(&name).map_err(|why| call.fault("name", why))?;
        let name = if manager == Manager::Pm2 { name } else { systemd::unit(&name).map_err(|why| call.fault("name", why))? };
        Ok(Self { manager, word, name })
    }

    fn shown(&self) -> String {
        format!("the {} service {}", self.word, self.name)
    }
}

/// A name is a name: not an option, not a pattern, not a path.
fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'@' | b':' | b'.' | b'_' | b'-' | b'\\');
    if name.len() > NAME_BYTES_MAX {
        return Err(format!("it is longer than {NAME_BYTES_MAX} bytes"));
    }
    if name.starts_with(['-', '.']) {
        return Err(format!("{name:?} does not begin like a name"));
    }
    match name.bytes().all(is_plain) {
        true => Ok(()),
        false => Err(format!("{name:?} is not a plain name: only letters, digits and @ : . _ - \\ may be in it")),
    }
}

impl Services {
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self { settings }
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.settings.timeout_s.max(1))
    }

    async fn look(&self, call: &Call, named: &Named) -> Result<State, ActionError> {
        // A look is never called off half way: what was done is looked at in any case.
        let never = CancellationToken::new();
        let found = match named.manager {
            Manager::Pm2 => pm2::look(&self.settings, &named.name, &never).await,
            manager => systemd::look(&self.settings, manager, &named.name, &never).await,
        };
        found.map_err(|flaw| match flaw {
            Flaw::Missing(why) => ActionError::NotFound { what: named.shown(), why },
            Flaw::NotSetUp(why) => ActionError::NotSetUp { action: call.action.clone(), why },
            Flaw::Unheard(why) => ActionError::Failed { action: call.action.clone(), why },
        })
    }

    fn command(&self, named: &Named, verb: Verb, state: &State) -> Program {
        match named.manager {
            Manager::Pm2 => pm2::command(&self.settings, verb.word(), &state.ids),
            manager => systemd::command(&self.settings, manager, &[verb.word(), "--", &named.name]),
        }
    }

    async fn plan_change(&self, call: &Call) -> Result<Plan, ActionError> {
        let (verb, named) = (Verb::of(call)?, Named::read(call)?);
        let state = self.look(call, &named).await?;
        let effect = if verb == Verb::Status { Effect::Read } else { Effect::Write };
        let name = named.shown();
        let mut plan = Plan::new(call, effect, format!("{} {name}, which is {}", verb.word(), state.words));
        if verb == Verb::Status {
            plan.what = format!("look at {name}");
            return Ok(plan);
        }
        if let Some(why) = refusal(verb, &state, &crate::process::own_line()) {
            return Err(ActionError::Refused { action: call.action.clone(), why });
        }
        plan.objects = vec![Object { kind: "service".to_owned(), name: named.name.clone(), detail: state.detail() }];
        plan.warnings = warnings(verb, &named.name, &state);
        plan.stands_on = state.identity.clone();
        plan.inverse = inverse(verb, call);
        if is_so_already(verb, &state) {
            plan.what = format!("{} {name}: nothing to do, it is {}", verb.word(), state.words);
            plan.inverse = None;
            return Ok(plan);
        }
        plan.affected = state.instances.max(1);
        plan.exact = vec![self.command(&named, verb, &state).shown()];
        Ok(plan)
    }

    async fn change(&self, call: &Call, plan: &Plan, cancel: &CancellationToken) -> Result<Done, ActionError> {
        let (verb, named) = (Verb::of(call)?, Named::read(call)?);
        let before = self.look(call, &named).await?;
        let name = named.shown();
        if verb == Verb::Status {
            return Ok(Done::looked(format!("{name} is {}", before.words), before.answer()));
        }
        if before.identity != plan.stands_on {
            let why = format!("it was {}, and is {}", plan.stands_on, before.identity);
            return Err(ActionError::Changed { action: call.action.clone(), why });
        }
        if is_so_already(verb, &before) {
            let mut done = Done::new(format!("{name} is {} already", before.words), Verified::seen(before.detail()));
            done.before = before.answer();
            done.after = before.answer();
            return Ok(done);
        }
        let begun = Instant::now();
        let ran = self.command(&named, verb, &before).run(cancel).await;
        let said = match &ran {
            Ok(answer) if answer.is_ok() => String::new(),
            Ok(answer) => format!("; the command failed with {}", answer.complaint()),
            Err(why) => format!("; {why}"),
        };
        let left = self.timeout().saturating_sub(begun.elapsed());
        // When the command failed, one look tells what it left behind.
        let wait = if said.is_empty() { left } else { Duration::ZERO };
        let (after, verified) = self.watch(call, &named, verb, &before, wait, cancel).await?;
        let has_changed = after.mark != before.mark || after.is_up != before.is_up;
        if !said.is_empty() && !has_changed {
            return Err(ActionError::Failed { action: call.action.clone(), why: format!("{name} is still {}{said}", after.words) });
        }
        let mut done = Done::new(format!("{} of {name}: it was {}, and is {}{said}", verb.word(), before.words, after.words), verified);
        if !said.is_empty() {
            done.verified.holds = false;
            done.verified.how.push_str(&said);
        }
        done.affected = before.instances.max(1);
        done.before = before.answer();
        done.after = after.answer();
        done.inverse = inverse(verb, call);
        Ok(done)
    }

    /// Looks until the service is as wanted, and then whether it stays so.
    async fn watch(
        &self,
        call: &Call,
        named: &Named,
        verb: Verb,
        before: &State,
        wait: Duration,
        cancel: &CancellationToken,
    ) -> Result<(State, Verified), ActionError> {
        let over = Instant::now() + wait;
        let reached = loop {
            let state = self.look(call, named).await?;
            match state::reached(before, &state, verb == Verb::Stop) {
                Ok(()) => break state,
                // A service that failed does not come up by waiting; one that is being tried again may.
                Err(why) if Instant::now() >= over || state.has_failed || cancel.is_cancelled() => {
                    return Ok((state, Verified::missed(why)));
                }
                Err(_) => sleep(LOOK_EVERY).await,
            }
        };
        if verb == Verb::Stop || reached.is_oneshot {
            let detail = reached.detail();
            return Ok((reached, Verified::seen(detail)));
        }
        sleep(Duration::from_secs(self.settings.settle_s)).await;
        let after = self.look(call, named).await?;
        let verified = match state::stayed(&reached, &after) {
            Ok(()) => Verified::seen(format!("{}, for {} s without another start", after.detail(), self.settings.settle_s)),
            Err(why) => Verified::missed(why),
        };
        Ok((after, verified))
    }
}

fn is_so_already(verb: Verb, state: &State) -> bool {
    match verb {
        Verb::Start => state.is_up && !state.is_partly_up,
        Verb::Stop => !state.is_up && !state.is_moving,
        Verb::Restart | Verb::Status => false,
    }
}

fn inverse(verb: Verb, call: &Call) -> Option<Call> {
    let action = match verb {
        Verb::Start => "service.stop",
        Verb::Stop => "service.start",
        Verb::Restart | Verb::Status => return None,
    };
    Some(Call { action: action.to_owned(), ..call.clone() })
}

fn refusal(verb: Verb, state: &State, own_line: &[i32]) -> Option<String> {
    // The first process of the system is above everything, and is no service.
    let own = own_line.iter().filter(|pid| **pid > 1);
    if verb != Verb::Start && own.into_iter().any(|pid| state.pids.contains(pid)) {
        return Some("Paramedic itself runs under it, and would end with it".to_owned());
    }
    if verb != Verb::Stop && state.is_barred {
        return Some("it is masked: somebody has decided that it must not start".to_owned());
    }
    None
}

fn warnings(verb: Verb, name: &str, state: &State) -> Vec<String> {
    const LIFELINES: &[&str] = &["ssh", "sshd", "NetworkManager", "systemd-networkd", "systemd-logind", "dbus", "systemd-journald"];
    let mut warnings = state.warnings.clone();
    let bare = name.trim_end_matches(".service");
    if verb != Verb::Start && LIFELINES.contains(&bare) {
        warnings.push(format!("people and programs reach this machine through {bare}"));
    }
    if verb == Verb::Restart {
        warnings.push("nothing takes a restart back".to_owned());
        if !state.is_up {
            warnings.push("it is not up now, so this starts it".to_owned());
        }
    }
    if state.instances > 1 {
        warnings.push(format!("{} processes have this name", state.instances));
    }
    warnings
}

impl Adapter for Services {
    fn specs(&self) -> &'static [Spec] {
        SPECS
    }

    fn plan<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Plan, ActionError>> {
        Box::pin(self.plan_change(call))
    }

    fn execute<'a>(&'a self, call: &'a Call, plan: &'a Plan, cancel: &'a CancellationToken) -> BoxFuture<'a, Result<Done, ActionError>> {
        Box::pin(self.change(call, plan, cancel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_names() {
        let named = |manager: &str, name: &str| Named::read(&Call::new("service.restart").with("manager", manager).with("name", name));
        for (manager, name, expect) in [
            ("systemd", "nginx", "nginx.service"),
            ("systemd-user", "worker@3.service", "worker@3.service"),
            ("systemd", "my.app", "my.app.service"),
            ("pm2", "web-1", "web-1"),
        ] {
            assert_eq!(named(manager, name).map(|named| named.name).as_deref(), Ok(expect));
        }
        let wrong = ["-f", "--force", "a*", "a b", "a;b", "../x", "a/b", "[ab]", "a?", ".x", "", "é", "a\nb", "poweroff.target", "a.mount"];
        for name in wrong {
            assert!(named("systemd", name).is_err(), "{name}");
        }
        for name in ["systemd-poweroff", "systemd-reboot.service", "rescue", "emergency.service"] {
            assert!(named("systemd", name).unwrap_err().to_string().contains("machine"), "{name}");
        }
        assert!(named("launchd", "a").is_err());
    }

    #[test]
    fn what_paramedic_runs_under_is_not_stopped() {
        let state = State { pids: vec![40], is_up: true, ..State::default() };
        assert!(refusal(Verb::Stop, &state, &[50, 40, 1]).is_some());
        assert!(refusal(Verb::Restart, &state, &[50, 40, 1]).is_some());
        assert_eq!(refusal(Verb::Stop, &state, &[50, 41, 1]), None);
        let masked = State { is_barred: true, ..State::default() };
        assert!(refusal(Verb::Start, &masked, &[]).is_some());
        assert_eq!(refusal(Verb::Stop, &masked, &[]), None);
    }
}
