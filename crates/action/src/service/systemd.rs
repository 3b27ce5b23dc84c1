//! systemd, through `systemctl`.

use std::collections::HashMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::state::{Flaw, State};
use super::{Manager, Settings};
use crate::process::program::Program;

/// A look is quick, or the manager is stuck.
const LOOK: Duration = Duration::from_secs(15);

const PROPERTIES: &str = "Id,LoadState,ActiveState,SubState,Type,MainPID,NRestarts,InvocationID,ActiveEnterTimestamp,Result,NeedDaemonReload,\
                          RefuseManualStart,RefuseManualStop,TriggeredBy";

/// Units that turn the machine off, or nearly.
const POWER: &[&str] =
    &["poweroff", "reboot", "halt", "kexec", "soft-reboot", "suspend", "hibernate", "hybrid-sleep", "suspend-then-hibernate"];

/// The unit of a service's name. Other units are not services, and some turn the machine off.
pub(super) fn unit(name: &str) -> Result<String, String> {
    const OTHER: &[&str] =
        &[".target", ".mount", ".automount", ".slice", ".scope", ".swap", ".device", ".path", ".timer", ".socket", ".snapshot"];
    if let Some(kind) = OTHER.iter().find(|kind| name.ends_with(**kind)) {
        return Err(format!("{name} is a {}, not a service", &kind[1..]));
    }
    let bare = name.strip_suffix(".service").unwrap_or(name);
    let is_power = bare.strip_prefix("systemd-").is_some_and(|bare| POWER.contains(&bare));
    if is_power || matches!(bare, "rescue" | "emergency") {
        return Err(format!("{name} takes the whole machine away"));
    }
    Ok(format!("{bare}.service"))
}

pub(super) fn command(settings: &Settings, manager: Manager, words: &[&str]) -> Program {
    let program = Program::new(&settings.systemctl, Duration::from_secs(settings.timeout_s.max(1)));
    let mut program = program.env("LC_ALL", "C").env("SYSTEMD_COLORS", "0").env("SYSTEMD_PAGER", "");
    if manager == Manager::SystemdUser {
        program = program.args(["--user"]);
        // Whoever is not logged in has no such variable, and the manager's socket is in a fixed place.
        if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
            program = program.env("XDG_RUNTIME_DIR", format!("/run/user/{}", rustix::process::geteuid().as_raw()));
        }
    }
    program.args(["--no-pager", "--no-ask-password"]).args(words.iter().copied())
}

pub(super) async fn look(settings: &Settings, manager: Manager, unit: &str, cancel: &CancellationToken) -> Result<State, Flaw> {
    let mut program = command(settings, manager, &["show", &format!("--property={PROPERTIES}"), "--", unit]);
    program.timeout = program.timeout.min(LOOK);
    let answer = program.run(cancel).await.map_err(|why| match why.ends_with("is not installed") {
        true => Flaw::NotSetUp(format!("{why} (setting action.service.systemctl)")),
        false => Flaw::Unheard(why),
    })?;
    if !answer.is_ok() {
        let said = answer.complaint();
        let has_none = ["not been booted with systemd", "Failed to connect to bus", "Failed to connect to user scope bus"];
        return Err(if has_none.iter().any(|words| said.contains(words)) {
            Flaw::NotSetUp(format!("no systemd answers here: {said}"))
        } else {
            Flaw::Unheard(said)
        });
    }
    parse(&answer.text(), unit)
}

fn parse(text: &str, unit: &str) -> Result<State, Flaw> {
    let values: HashMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let of = |key: &str| values.get(key).copied().unwrap_or_default().trim();
    let load = of("LoadState");
    match load {
        "" => return Err(Flaw::Unheard("systemctl told no state".to_owned())),
        "not-found" => return Err(Flaw::Missing("systemd knows no unit of that name".to_owned())),
        _ => {}
    }
    let (active, sub) = (of("ActiveState"), of("SubState"));
    let pid = of("MainPID").parse::<i32>().ok().filter(|pid| *pid > 0);
    let id = if of("Id").is_empty() { unit } else { of("Id") };
    let mut warnings = Vec::new();
    if of("NeedDaemonReload") == "yes" {
        warnings.push("its file was changed since systemd read it: the old one applies until a daemon-reload".to_owned());
    }
    if !of("TriggeredBy").is_empty() {
        warnings.push(format!("{} may start it again", of("TriggeredBy")));
    }
    if id != unit {
        warnings.push(format!("{unit} is another name of {id}"));
    }
    Ok(State {
        identity: format!("{id} {load}"),
        words: format!("{active} ({sub})"),
        // `reloading` is up; `activating (auto-restart)` is between two tries.
        is_up: matches!(active, "active" | "reloading"),
        is_partly_up: false,
        is_moving: matches!(active, "activating" | "deactivating"),
        has_failed: active == "failed",
        is_barred: load == "masked",
        is_oneshot: of("Type") == "oneshot",
        pids: pid.into_iter().collect(),
        restarts: of("NRestarts").parse().ok(),
        mark: format!("{} {}", of("InvocationID"), of("MainPID")),
        ids: Vec::new(),
        instances: 1,
        since: Some(of("ActiveEnterTimestamp").to_owned()).filter(|since| !since.is_empty()),
        warnings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read() {
        let text = "Id=web.service\nLoadState=loaded\nActiveState=active\nSubState=running\nType=simple\nMainPID=71\nNRestarts=3\n\
                    InvocationID=ab\nNeedDaemonReload=yes\nTriggeredBy=web.socket\n";
        let state = parse(text, "web.service").unwrap();
        assert_eq!((state.is_up, state.pids.as_slice(), state.restarts), (true, &[71][..], Some(3)));
        assert_eq!(state.warnings.len(), 2);
        let failed = parse("LoadState=loaded\nActiveState=failed\nSubState=failed\nMainPID=0\n", "web.service").unwrap();
        assert!(failed.has_failed && failed.pids.is_empty() && !failed.is_up);
        assert!(matches!(parse("LoadState=not-found\n", "x"), Err(Flaw::Missing(_))));
        assert!(matches!(parse("garbage", "x"), Err(Flaw::Unheard(_))));
        assert!(parse("LoadState=masked\n", "x").unwrap().is_barred);
    }
}
