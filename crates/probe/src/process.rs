//! Processes: memory, descriptors, CPU, threads and state of one process, or of all of a name or control group.
//!
//! A process is its id and its start: an id that is used again is another process, and counts as a restart.

mod control_group;
mod find;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use paramedic_model::Timestamp;

use crate::config::ProcessSettings;
use crate::error::{Failure, ProbeError};
use crate::plan::{Identity, Looking, Opened, Probe, expand_home};
use crate::proc_files::TICKS_PER_SECOND;
use crate::process::find::{Find, Found};
use crate::reading::Reading;

/// Processes of a name whose details are told; all are in the totals.
const DETAILED_MAX: usize = 64;
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

pub(crate) fn open(settings: &ProcessSettings, is_memory_daemon: bool) -> Result<Opened, ProbeError> {
    let mut ways = Vec::new();
    ways.extend(settings.pid.map(Find::Pid));
    ways.extend(settings.pid_file.as_deref().map(expand_home).map(Find::PidFile));
    ways.extend(settings.comm.clone().map(Find::Comm));
    ways.extend(settings.argv.clone().map(Find::Argv));
    ways.extend(settings.cgroup.as_ref().map(|folder| Find::Cgroup(cgroup_path(folder))));
    let target = || format!("process target {}", settings.name.as_deref().unwrap_or("without a name"));
    let (Some(find), 0) = (ways.pop(), ways.len()) else {
        return Err(ProbeError::setting(target(), "pid", "exactly one of `pid`, `pid_file`, `comm`, `argv`, `cgroup` is needed"));
    };
    let (address, default_name) = match &find {
        Find::Pid(pid) => (format!("pid {pid}"), pid.to_string()),
        Find::PidFile(path) => {
            (format!("pid file {}", path.display()), path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
        }
        Find::Comm(comm) => (format!("command {comm}"), comm.clone()),
        Find::Argv(words) => (format!("arguments {}", words.join(" ")), words.join(" ")),
        Find::Cgroup(path) => {
            (format!("control group {}", path.display()), path.file_name().unwrap_or_default().to_string_lossy().into_owned())
        }
    };
    if matches!(&find, Find::Argv(words) if words.is_empty()) || default_name.is_empty() {
        return Err(ProbeError::setting(target(), "argv", "names no process"));
    }
    let name = settings.name.clone().unwrap_or(default_name);
    let identity = Identity { instance: name.clone(), address };
    let proc_path = settings.proc_path.clone().unwrap_or_else(|| PathBuf::from("/proc"));
    let history = History::default();
    Ok((identity, Box::new(Process { find, name, proc_path, is_memory_daemon, history })))
}

fn cgroup_path(folder: &Path) -> PathBuf {
    if folder.starts_with(CGROUP_ROOT) {
        return folder.to_owned();
    }
    Path::new(CGROUP_ROOT).join(folder.strip_prefix("/").unwrap_or(folder))
}

struct Process {
    find: Find,
    name: String,
    proc_path: PathBuf,
    is_memory_daemon: bool,
    history: History,
}

impl Probe for Process {
    fn look<'a>(&'a mut self, now: Timestamp, reading: &'a mut Reading) -> Looking<'a> {
        Box::pin(async move {
            let (find, proc_path) = (self.find.clone(), self.proc_path.clone());
            let gathered = tokio::task::spawn_blocking(move || find.gather(&proc_path)).await;
            let found = match gathered.map_err(|err| Failure::of("read processes", &err))? {
                Ok(found) => self.history.same_only(&self.find, found),
                Err(failure) => Err(failure),
            };
            if let Find::Cgroup(folder) = &self.find {
                control_group::tell(folder, &self.name, now, reading);
            }
            let all = found.as_deref().unwrap_or_default();
            self.history.note(all, now);
            self.tell(all, now, reading);
            let found = found?;
            match found.iter().find(|one| one.is_dead()) {
                Some(dead) if found.iter().all(Found::is_dead) => {
                    Err(Failure::new(format_args!("process {} is a zombie: it ended and its parent has not noticed", dead.pid)))
                }
                _ if found.is_empty() => Err(Failure::new("no such process runs")),
                _ => Ok(()),
            }
        })
    }

    fn verdicts(&self) -> &'static [&'static str] {
        if self.is_memory_daemon { &["memory_daemon_health_status"] } else { &[] }
    }
}

impl Process {
    fn tell(&self, found: &[Found], now: Timestamp, reading: &mut Reading) {
        let name = ("name", self.name.as_str());
        let is_zombie = !found.is_empty() && found.iter().all(Found::is_dead);
        let state = if found.is_empty() {
            "absent"
        } else if is_zombie {
            "zombie"
        } else {
            "running"
        };
        for known in ["running", "zombie", "absent"] {
            reading.add("process_state", &[name, ("state", known)], f64::from(u8::from(known == state)));
        }
        reading.add("process_restarts_total", &[name], self.history.restarts as f64);
        if self.is_memory_daemon {
            reading.add("memory_daemon_restarts_total", &[("reason", "unknown")], self.history.restarts as f64);
        }
        self.tell_group(found, reading);
        // One process keeps its series over restarts; several need their ids to be told apart.
        let is_single = matches!(self.find, Find::Pid(_) | Find::PidFile(_));
        for one in found.iter().filter(|one| !one.is_dead()).take(DETAILED_MAX) {
            let pid = if is_single { String::new() } else { one.pid.to_string() };
            self.tell_one(one, &[name, ("pid", &pid)], now, reading);
        }
    }

    fn tell_one(&self, one: &Found, labels: &[(&str, &str)], now: Timestamp, reading: &mut Reading) {
        for (kind, metric, bytes) in [
            ("rss", Some("process_resident_memory_bytes"), one.resident_bytes),
            ("vms", Some("process_virtual_memory_bytes"), one.virtual_bytes),
            ("shared", None, one.shared_bytes),
        ] {
            let Some(bytes) = bytes else { continue };
            if let Some(metric) = metric {
                reading.add(metric, labels, bytes);
            }
            reading.add("process_memory_bytes", &[labels, &[("type", kind)]].concat(), bytes);
        }
        for (metrics, value) in [
            (["process_open_fds", ""], one.open_files),
            (["process_max_fds", "process_fd_limit"], one.open_files_max),
            (["process_threads", "process_thread_count"], Some(one.stat.threads as f64)),
            (["process_cpu_seconds_total", ""], Some((one.stat.user_ticks + one.stat.system_ticks) as f64 / TICKS_PER_SECOND)),
            (["process_cpu_percent", ""], self.history.cpu_percent(one.pid)),
            (["process_start_time_seconds", ""], one.started_at),
            (["process_uptime_seconds", ""], one.started_at.map(|at| (now.as_millis() as f64 / 1e3 - at).max(0.0))),
        ] {
            for metric in metrics.into_iter().filter(|metric| !metric.is_empty()) {
                if let Some(value) = value {
                    reading.add(metric, labels, value);
                }
            }
        }
    }

    fn tell_group(&self, found: &[Found], reading: &mut Reading) {
        let group = ("groupname", self.name.as_str());
        let alive = || found.iter().filter(|one| !one.is_dead());
        reading.add("namedprocess_namegroup_num_procs", &[group], alive().count() as f64);
        let sum = |value: fn(&Found) -> Option<f64>| alive().filter_map(value).sum::<f64>();
        reading.add("namedprocess_namegroup_memory_bytes", &[group, ("memtype", "resident")], sum(|one| one.resident_bytes));
        reading.add("namedprocess_namegroup_memory_bytes", &[group, ("memtype", "virtual")], sum(|one| one.virtual_bytes));
        reading.add("namedprocess_namegroup_num_threads", &[group], sum(|one| Some(one.stat.threads as f64)));
        reading.add("namedprocess_namegroup_open_filedesc", &[group], sum(|one| one.open_files));
        for (mode, ticks) in [("user", self.history.user_ticks), ("system", self.history.system_ticks)] {
            reading.add("namedprocess_namegroup_cpu_seconds_total", &[group, ("mode", mode)], ticks as f64 / TICKS_PER_SECOND);
        }
        for (state, letters) in [("Running", "R"), ("Sleeping", "SI"), ("Waiting", "D"), ("Zombie", "Z")] {
            let count = found.iter().filter(|one| letters.contains(one.stat.state)).count();
            reading.add("namedprocess_namegroup_states", &[group, ("state", state)], count as f64);
        }
        let oldest = alive().filter_map(|one| one.started_at).min_by(f64::total_cmp);
        if let Some(oldest) = oldest {
            reading.add("namedprocess_namegroup_oldest_start_time_seconds", &[group], oldest);
        }
    }
}

/// What was seen of one process in the last look.
#[derive(Debug, Clone, Copy)]
struct Seen {
    start_ticks: u64,
    user_ticks: u64,
    system_ticks: u64,
    at: Timestamp,
    cpu_percent: Option<f64>,
}

/// What is remembered between looks.
#[derive(Debug, Default)]
struct History {
    seen: BTreeMap<u32, Seen>,
    /// The start of the process that an id in the settings meant when it was first seen.
    meant: Option<u64>,
    /// CPU time of all processes ever seen: what a process that ended used stays counted.
    user_ticks: u64,
    system_ticks: u64,
    /// Processes that ended and that no later one has replaced yet.
    unreplaced: u64,
    restarts: u64,
}

impl History {
    /// A process id in the settings means the process that had it first, not one that was given it later.
    fn same_only(&mut self, find: &Find, found: Vec<Found>) -> Result<Vec<Found>, Failure> {
        if let (Find::Pid(pid), Some(one)) = (find, found.first())
            && *self.meant.get_or_insert(one.stat.start_ticks) != one.stat.start_ticks
        {
            return Err(Failure::new(format_args!("process {pid} ended; a later process has its id")));
        }
        Ok(found)
    }

    fn note(&mut self, found: &[Found], now: Timestamp) {
        let alive: Vec<&Found> = found.iter().filter(|one| !one.is_dead()).collect();
        let is_same = |before: &Seen, one: &Found| before.start_ticks == one.stat.start_ticks;
        let ended = self.seen.iter().filter(|(pid, before)| !alive.iter().any(|one| one.pid == **pid && is_same(before, one))).count();
        self.unreplaced += ended as u64;
        let mut seen = BTreeMap::new();
        for one in alive {
            let before = self.seen.get(&one.pid).filter(|before| is_same(before, one)).copied();
            let (user, system) = (one.stat.user_ticks, one.stat.system_ticks);
            let (user_before, system_before) = before.map_or((0, 0), |before| (before.user_ticks, before.system_ticks));
            let used = (user.saturating_sub(user_before), system.saturating_sub(system_before));
            self.user_ticks += used.0;
            self.system_ticks += used.1;
            if before.is_none() && self.unreplaced > 0 {
                self.unreplaced -= 1;
                self.restarts += 1;
            }
            let cpu_percent = before.and_then(|before| {
                let elapsed = now.since(before.at).as_secs_f64();
                (elapsed > 0.0).then(|| (used.0 + used.1) as f64 / TICKS_PER_SECOND / elapsed * 100.0)
            });
            let one_seen = Seen { start_ticks: one.stat.start_ticks, user_ticks: user, system_ticks: system, at: now, cpu_percent };
            seen.insert(one.pid, one_seen);
        }
        self.seen = seen;
    }

    fn cpu_percent(&self, pid: u32) -> Option<f64> {
        self.seen.get(&pid)?.cpu_percent
    }
}

#[cfg(test)]
mod tests {
    use crate::proc_files::ProcessStat;

    use super::*;

    fn one(pid: u32, start_ticks: u64, user_ticks: u64, state: char) -> Found {
        let text = format!("{pid} (x) {state} 1 1 1 0 -1 0 0 0 0 0 {user_ticks} 0 0 0 20 0 1 0 {start_ticks} 0 0");
        Found { pid, stat: ProcessStat::parse(&text).unwrap(), ..Found::default() }
    }

    #[test]
    fn a_restart_is_a_new_process_in_place_of_an_ended_one() {
        let mut history = History::default();
        let at = |secs: i64| Timestamp::from_secs(1_700_000_000 + secs);
        history.note(&[one(5, 100, 10, 'S')], at(0));
        assert_eq!((history.restarts, history.user_ticks), (0, 10));
        history.note(&[one(5, 100, 60, 'S')], at(10));
        assert_eq!((history.restarts, history.user_ticks, history.cpu_percent(5)), (0, 60, Some(5.0)));
        history.note(&[one(5, 900, 7, 'S')], at(20));
        assert_eq!((history.restarts, history.user_ticks), (1, 67), "the id was used again");
        history.note(&[], at(30));
        history.note(&[one(6, 1_000, 1, 'S')], at(40));
        assert_eq!((history.restarts, history.user_ticks), (2, 68), "back after an absence");
        history.note(&[one(6, 1_000, 1, 'S'), one(7, 1_100, 2, 'S')], at(50));
        assert_eq!((history.restarts, history.user_ticks), (2, 70), "one more is no restart");
        history.note(&[one(6, 1_000, 1, 'Z'), one(8, 1_200, 0, 'S')], at(60));
        assert_eq!(history.restarts, 3);
    }

    #[test]
    fn an_id_means_its_first_process() {
        let mut history = History::default();
        let found = |start| vec![one(5, start, 0, 'S')];
        assert!(history.same_only(&Find::Pid(5), found(100)).is_ok());
        assert!(history.same_only(&Find::Pid(5), found(100)).is_ok());
        assert!(history.same_only(&Find::Pid(5), found(101)).is_err());
        assert!(history.same_only(&Find::Pid(5), found(100)).is_ok());
    }
}
