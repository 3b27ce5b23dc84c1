//! Finding processes by what they are, never by a part of their command line.

use std::collections::HashSet;
use std::path::Path;

use paramedic_model::Timestamp;
use serde_json::{Value, json};

use super::pid_file::{self, PidFile};
use super::table::{self, Process, place, read_text};

/// Processes that an answer names one by one.
const NAMED_MAX: usize = 100;
/// The state of a socket that listens, in `/proc/net/tcp`.
const LISTENS: &str = "0A";

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Search {
    /// The exact name of a program.
    Name(String),
    /// Whoever listens on this TCP port.
    Port(u16),
    /// The process of a pid file, which must be this program where one is named.
    PidFile { file: String, name: Option<String> },
}

/// A process as an answer shows it; `started` is what other actions take.
pub(super) fn shown(process: &Process, booted: Timestamp) -> Value {
    json!({
        "pid": process.pid,
        "started": process.start_ticks.to_string(),
        "started_at": process.started_at(booted).to_string(),
        "name": process.comm,
        "command": process.shown(),
        "user": process.users[1],
        "parent": process.parent,
        "group": process.group,
        "memory_kb": process.rss_kb,
    })
}

pub(super) fn find(search: &Search) -> Result<Value, String> {
    let booted = table::booted_at().ok_or("/proc cannot be read here")?;
    let living = || table::all().filter(|process| !process.has_ended() && !process.is_kernel);
    let mut answer = json!({});
    let found: Vec<Process> = match search {
        Search::Name(name) => living().filter(|process| process.names().contains(name)).collect(),
        Search::Port(port) => {
            let sockets = listening(*port);
            let mut unreadable = 0_u64;
            let found = living().filter(|process| {
                holds(process.pid, &sockets).unwrap_or_else(|| {
                    unreadable += 1;
                    false
                })
            });
            let found = if sockets.is_empty() { Vec::new() } else { found.collect() };
            answer["listens"] = json!(!sockets.is_empty());
            // Files of other users' processes are closed to us: then "nobody" is not the answer.
            answer["unreadable_processes"] = json!(unreadable);
            found
        }
        Search::PidFile { file, name } => {
            let (claim, living) = match PidFile::read(Path::new(file))? {
                None => (json!(null), None),
                Some(claim) => (json!(claim.pid), claim.living(name.as_deref())),
            };
            answer["exists"] = json!(!claim.is_null());
            answer["claims"] = claim;
            match living {
                Some(Ok(process)) => {
                    answer["stale"] = json!(false);
                    answer["started_after_file"] = json!(pid_file::is_older(Path::new(file), process.started_at(booted)));
                    vec![process]
                }
                Some(Err(why)) => {
                    answer["stale"] = json!(true);
                    answer["why"] = json!(why);
                    Vec::new()
                }
                None => {
                    answer["stale"] = json!(false);
                    Vec::new()
                }
            }
        }
    };
    answer["count"] = json!(found.len());
    answer["processes"] = found.iter().take(NAMED_MAX).map(|process| shown(process, booted)).collect();
    Ok(answer)
}

/// The sockets that listen on a port, by their inodes.
fn listening(port: u16) -> HashSet<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|file| read_text(Path::new(file)).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines().skip(1).filter_map(|line| listens_on(line, port))).collect()
}

fn listens_on(line: &str, port: u16) -> Option<String> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (_, local) = fields.get(1)?.rsplit_once(':')?;
    let is_it = *fields.get(3)? == LISTENS && u16::from_str_radix(local, 16).ok()? == port;
    is_it.then(|| format!("socket:[{}]", fields.get(9).copied().unwrap_or_default()))
}

/// Whether a process holds one of the sockets; `None` when its files cannot be read.
fn holds(pid: i32, sockets: &HashSet<String>) -> Option<bool> {
    let files = std::fs::read_dir(place(pid, "fd")).ok()?;
    let mut links = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
    Some(links.any(|link| link.to_str().is_some_and(|link| sockets.contains(link))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_is_read_from_its_line() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0";
        assert_eq!(listens_on(line, 8080).as_deref(), Some("socket:[4242]"));
        assert_eq!(listens_on(line, 8081), None);
        assert_eq!(listens_on(&line.replace(" 0A ", " 01 "), 8080), None);
        assert_eq!(listens_on("", 8080), None);
    }
}
