//! pm2, through its own program.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::state::{Flaw, State};
use crate::process::program::Program;

const LOOK: Duration = Duration::from_secs(20);

/// One entry of `pm2 jlist`, of which everything else (the environment with its secrets too) is passed over.
#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
    #[serde(default)]
    pid: Option<i64>,
    pm_id: u64,
    pm2_env: Facts,
}

#[derive(Debug, Deserialize)]
struct Facts {
    #[serde(default)]
    status: String,
    #[serde(default)]
    restart_time: u64,
    #[serde(default)]
    pm_uptime: Option<u64>,
    #[serde(default)]
    autorestart: Option<bool>,
}

fn home(settings: &Settings) -> Option<PathBuf> {
    let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    settings.pm2_home.clone().or_else(|| of("PM2_HOME")).or_else(|| Some(of("HOME")?.join(".pm2")))
}

fn program(settings: &Settings) -> Program {
    let program = Program::new(&settings.pm2, Duration::from_secs(settings.timeout_s.max(1)));
    let program = program.env("PM2_DISCRETE_MODE", "true").env("NO_COLOR", "1").env("PM2_DISABLE_VERSION_CHECK", "true");
    match &settings.pm2_home {
        Some(home) => program.env("PM2_HOME", home),
        None => program,
    }
}

/// By number: a name might be read as `all`, as a pattern or as a file.
pub(super) fn command(settings: &Settings, verb: &str, ids: &[u64]) -> Program {
    program(settings).args([verb]).args(ids.iter().map(u64::to_string))
}

pub(super) async fn look(settings: &Settings, name: &str, cancel: &CancellationToken) -> Result<State, Flaw> {
    let home = home(settings).ok_or_else(|| Flaw::NotSetUp("neither PM2_HOME nor HOME is set".to_owned()))?;
    // pm2 starts its daemon when it finds none. A look changes nothing.
    let claim = std::fs::read_to_string(home.join("pm2.pid")).ok().and_then(|text| text.trim().parse::<i32>().ok());
    if !claim.is_some_and(crate::process::lives) {
        return Err(Flaw::NotSetUp(format!("no pm2 daemon runs for {} (setting action.service.pm2_home)", home.display())));
    }
    let mut program = program(settings).args(["jlist"]);
    program.timeout = program.timeout.min(LOOK);
    let answer = program.run(cancel).await.map_err(|why| match why.ends_with("is not installed") {
        true => Flaw::NotSetUp(format!("{why} (setting action.service.pm2)")),
        false => Flaw::Unheard(why),
    })?;
    if !answer.is_ok() {
        return Err(Flaw::Unheard(format!("pm2 jlist failed with {}", answer.complaint())));
    }
    parse(&answer.text(), name)
}

fn parse(text: &str, name: &str) -> Result<State, Flaw> {
    // Notices may stand before the list, each on a line of its own.
    let list = text.lines().rev().find(|line| line.starts_with('[') && line.ends_with(']') && !line.starts_with("[PM2]"));
    let list = list.ok_or_else(|| Flaw::Unheard("pm2 jlist gave no list".to_owned()))?;
    let entries: Vec<Entry> =
        serde_json::from_str(list).map_err(|error| Flaw::Unheard(format!("the list of pm2 cannot be read: line {}", error.line())))?;
    let found: Vec<&Entry> = entries.iter().filter(|entry| entry.name == name).collect();
    if found.is_empty() {
        return Err(Flaw::Missing("pm2 keeps no process of that name".to_owned()));
    }
    let ids: Vec<u64> = found.iter().map(|entry| entry.pm_id).collect();
    // pm2 takes a number for a name first.
    if let Some(other) = entries.iter().find(|entry| entry.name != name && entry.name.parse().is_ok_and(|number| ids.contains(&number))) {
        return Err(Flaw::Unheard(format!("the name of {} is the number of {name}: pm2 cannot tell them apart", other.name)));
    }
    let up = found.iter().filter(|entry| entry.pm2_env.status == "online").count();
    let is_any = |words: &[&str]| found.iter().any(|entry| words.contains(&entry.pm2_env.status.as_str()));
    let mut states: Vec<&str> = found.iter().map(|entry| entry.pm2_env.status.as_str()).collect();
    states.dedup();
    let mark: Vec<String> =
        found.iter().map(|entry| format!("{}:{}:{}", entry.pm_id, entry.pid.unwrap_or(0), entry.pm2_env.pm_uptime.unwrap_or(0))).collect();
    let mut warnings = Vec::new();
    if found.iter().any(|entry| entry.pm2_env.autorestart == Some(false)) {
        warnings.push("pm2 does not start it again when it ends".to_owned());
    }
    Ok(State {
        identity: format!("pm2 {name} {ids:?}"),
        words: states.join(", "),
        is_up: up > 0,
        is_partly_up: up > 0 && up < found.len(),
        is_moving: is_any(&["launching", "stopping", "waiting restart"]),
        has_failed: is_any(&["errored"]),
        is_barred: false,
        is_oneshot: false,
        pids: found.iter().filter_map(|entry| i32::try_from(entry.pid?).ok()).filter(|pid| *pid > 0).collect(),
        restarts: Some(found.iter().map(|entry| entry.pm2_env.restart_time).sum()),
        mark: mark.join(" "),
        instances: found.len() as u64,
        ids,
        since: found
            .iter()
            .filter_map(|entry| entry.pm2_env.pm_uptime)
            .max()
            .map(|millis| paramedic_model::Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX)).to_string()),
        warnings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, id: u64, status: &str) -> String {
        format!(
            "{{\"pid\":{},\"name\":\"{name}\",\"pm_id\":{id},\"monit\":{{}},\"pm2_env\":{{\"status\":\"{status}\",\"restart_time\":2,\
             \"pm_uptime\":1795335189248,\"env\":{{\"TOKEN\":\"x\"}}}}}}",
            100 + id
        )
    }

    #[test]
    fn states_are_read_and_added_up() {
        let list =
            format!("[PM2] a notice\n[{},{},{}]\n", entry("web", 0, "online"), entry("web", 1, "stopped"), entry("api", 2, "online"));
        let state = parse(&list, "web").unwrap();
        assert!(state.is_up && state.is_partly_up);
        assert_eq!((state.instances, state.ids, state.restarts), (2, vec![0, 1], Some(4)));
        assert!(matches!(parse(&list, "all"), Err(Flaw::Missing(_))));
        assert!(matches!(parse("[]", "web"), Err(Flaw::Missing(_))));
        assert!(matches!(parse("", "web"), Err(Flaw::Unheard(_))));
        assert!(matches!(parse("[{\"name\":1}]", "web"), Err(Flaw::Unheard(_))));
    }

    #[test]
    fn a_number_that_is_also_a_name_is_not_used() {
        let list = format!("[{},{}]", entry("web", 7, "online"), entry("7", 8, "online"));
        assert!(matches!(parse(&list, "web"), Err(Flaw::Unheard(_))));
    }
}
