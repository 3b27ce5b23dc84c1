//! Which processes are meant, and what their files say.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Failure;
use crate::proc_files::{self, ProcessStat, TICKS_PER_SECOND};

/// Processes that are looked through.
const PROCESSES_MAX: usize = 200_000;
/// Open files that are counted one by one.
const OPEN_FILES_MAX: usize = 1_000_000;
/// Folders of a control group that are looked through.
const FOLDERS_MAX: usize = 256;
/// A daemon writes its process id file after it began; the clock may have been set meanwhile.
const START_SLACK_S: f64 = 10.0;

/// How a process is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Find {
    Pid(u32),
    PidFile(PathBuf),
    Comm(String),
    Argv(Vec<String>),
    Cgroup(PathBuf),
}

/// A process and what its files say; what may not be read is absent.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    pub(super) pid: u32,
    pub(super) stat: ProcessStat,
    /// Seconds since 1970.
    pub(super) started_at: Option<f64>,
    pub(super) resident_bytes: Option<f64>,
    pub(super) virtual_bytes: Option<f64>,
    pub(super) shared_bytes: Option<f64>,
    pub(super) open_files: Option<f64>,
    pub(super) open_files_max: Option<f64>,
}

impl Found {
    /// A dead process that nobody has collected, or one on its way out.
    pub(super) const fn is_dead(&self) -> bool {
        matches!(self.stat.state, 'Z' | 'X' | 'x')
    }
}

impl Find {
    /// The processes that are meant. None at all is no failure here.
    pub(super) fn gather(&self, proc_path: &Path) -> Result<Vec<Found>, Failure> {
        let stat = proc_files::read(&proc_path.join("stat"))
            .map_err(|err| Failure::of(&format!("read {}", proc_path.join("stat").display()), &err))?;
        let boot_time = proc_files::boot_time(&stat);
        let read = |pids: Vec<u32>| pids.into_iter().filter_map(|pid| read_process(proc_path, pid, boot_time)).collect::<Vec<_>>();
        match self {
            Self::Pid(pid) => Ok(read(vec![*pid])),
            Self::PidFile(path) => {
                let found = read(vec![read_pid_file(path)?]);
                match found.first() {
                    Some(one) if is_later_than_file(one, path) => Err(Failure::new(format_args!(
                        "the process id file {} is stale: process {} began after it was written",
                        path.display(),
                        one.pid
                    ))),
                    _ => Ok(found),
                }
            }
            Self::Comm(comm) => Ok(read(matching(proc_path, |stat, argv| is_command(comm, stat, argv))?)),
            Self::Argv(words) => Ok(read(matching(proc_path, |_, argv| has_words(words, argv))?)),
            Self::Cgroup(folder) => Ok(read(members(folder)?)),
        }
    }
}

fn read_pid_file(path: &Path) -> Result<u32, Failure> {
    let doing = |err: &io::Error| Failure::of(&format!("read the process id file {}", path.display()), err);
    let text = proc_files::read(path).map_err(|err| doing(&err))?;
    let pid = text.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).filter(|pid| *pid > 0);
    pid.ok_or_else(|| Failure::new(format_args!("the process id file {} holds no process id", path.display())))
}

fn is_later_than_file(one: &Found, path: &Path) -> bool {
    let written = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let written = written.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).map(|since| since.as_secs_f64());
    matches!((written, one.started_at), (Some(written), Some(started)) if started > written + START_SLACK_S)
}

/// The program's name as the kernel keeps it, or the last part of its path.
fn is_command(comm: &str, stat: &ProcessStat, argv: &[String]) -> bool {
    stat.comm == comm || argv.first().is_some_and(|program| last_part(program) == comm)
}

fn has_words(words: &[String], argv: &[String]) -> bool {
    words.iter().all(|word| argv.iter().any(|argument| argument == word || last_part(argument) == word))
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn matching(proc_path: &Path, is_meant: impl Fn(&ProcessStat, &[String]) -> bool) -> Result<Vec<u32>, Failure> {
    let entries = fs::read_dir(proc_path).map_err(|err| Failure::of(&format!("list {}", proc_path.display()), &err))?;
    let own = std::process::id();
    let mut pids = Vec::new();
    for entry in entries.flatten().take(PROCESSES_MAX) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()).filter(|pid| *pid != own) else { continue };
        let Some(stat) = proc_files::read(&entry.path().join("stat")).ok().and_then(|text| ProcessStat::parse(&text)) else { continue };
        let command_line = proc_files::read(&entry.path().join("cmdline")).unwrap_or_default();
        let argv: Vec<String> = command_line.split_terminator('\0').map(str::to_owned).collect();
        if is_meant(&stat, &argv) {
            pids.push(pid);
        }
    }
    pids.sort_unstable();
    Ok(pids)
}

/// All processes of a control group and of those below it.
fn members(folder: &Path) -> Result<Vec<u32>, Failure> {
    let mut pids = Vec::new();
    let mut folders = vec![folder.to_owned()];
    let mut looked = 0;
    while let Some(next) = folders.pop().filter(|_| looked < FOLDERS_MAX) {
        match proc_files::read(&next.join("cgroup.procs")) {
            Ok(text) => pids.extend(text.lines().filter_map(|line| line.trim().parse::<u32>().ok())),
            Err(err) if looked == 0 => return Err(Failure::of(&format!("read the control group {}", folder.display()), &err)),
            Err(_) => {}
        }
        looked += 1;
        let below = fs::read_dir(&next).into_iter().flatten().flatten();
        folders.extend(below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).take(FOLDERS_MAX));
    }
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

fn read_process(proc_path: &Path, pid: u32, boot_time: Option<f64>) -> Option<Found> {
    let folder = proc_path.join(pid.to_string());
    let file = |name: &str| proc_files::read(&folder.join(name)).ok();
    let stat = ProcessStat::parse(&file("stat")?)?;
    let status = file("status").unwrap_or_default();
    let bytes = |name: &str| proc_files::keyed_values(&status).find(|(key, _)| *key == name).map(|(_, value)| value);
    let shared = [bytes("RssFile"), bytes("RssShmem")].into_iter().flatten().reduce(|sum, value| sum + value);
    Some(Found {
        pid,
        started_at: boot_time.map(|boot_time| boot_time + stat.start_ticks as f64 / TICKS_PER_SECOND),
        resident_bytes: bytes("VmRSS"),
        virtual_bytes: bytes("VmSize"),
        shared_bytes: shared,
        open_files: fs::read_dir(folder.join("fd")).ok().map(|files| files.take(OPEN_FILES_MAX).count() as f64),
        open_files_max: file("limits").and_then(|limits| proc_files::open_files_limit(&limits)),
        stat,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_match_whole_arguments_or_the_last_part_of_a_path() {
        let argv: Vec<String> = ["/usr/bin/python3", "/opt/x/memory_daemon.py", "start"].map(str::to_owned).into();
        for (words, expected) in
            [(&["memory_daemon.py"][..], true), (&["python3", "start"], true), (&["memory"], false), (&["python3", "stop"], false)]
        {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(has_words(&words, &argv), expected, "{words:?}");
        }
    }

    #[test]
    fn a_process_id_file_must_hold_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pid");
        for (text, expected) in [("42\n", Some(42)), (" 7 extra", Some(7)), ("", None), ("0", None), ("-3", None), ("abc", None)] {
            fs::write(&path, text).unwrap();
            assert_eq!(read_pid_file(&path).ok(), expected, "{text:?}");
        }
    }
}
