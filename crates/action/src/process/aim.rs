//! Who is meant, and whether it may be touched at all.

use paramedic_model::Timestamp;

use super::started::Started;
use super::table::{self, Process};
use super::{not_found, refused};
use crate::call::{Call, Object};
use crate::error::ActionError;

/// A group of more processes is not ended in one go.
const MEMBERS_MAX: usize = 1_000;

/// Ourselves: what must not be touched, and what the system lets us touch.
#[derive(Debug, Clone)]
pub(super) struct Own {
    /// Our process and everything it came from.
    pub(super) line: Vec<i32>,
    pub(super) group: i32,
    pub(super) user: u32,
}

impl Own {
    pub(super) fn look() -> Self {
        Self {
            line: table::own_line(),
            group: rustix::process::getpgrp().as_raw_nonzero().get(),
            user: rustix::process::geteuid().as_raw(),
        }
    }
}

/// Says why a process may not be ended, where it may not.
fn may_touch(process: &Process, own: &Own) -> Result<(), String> {
    let Process { pid, comm, .. } = process;
    if *pid <= 1 {
        return Err(format!("{pid} is the first process of the system"));
    }
    if own.line.first() == Some(pid) || process.leader == own.line[0] {
        return Err(format!("{pid} is Paramedic itself"));
    }
    if own.line.contains(pid) {
        return Err(format!("Paramedic runs under {pid} ({comm}) and would end with it"));
    }
    if process.is_kernel {
        return Err(format!("{pid} ({comm}) is a part of the kernel"));
    }
    if process.leader != *pid {
        return Err(format!("{pid} is a thread of the process {}", process.leader));
    }
    if own.user != 0 && process.users != [own.user; 2] {
        return Err(format!("{pid} ({comm}) runs as user {}, and Paramedic as user {}", process.users[1], own.user));
    }
    Ok(())
}

/// The processes that a call is about.
#[derive(Debug, Clone)]
pub(super) struct Aim {
    pub(super) first: Process,
    /// Its whole group where that was asked for, the first one included; else only the first.
    pub(super) members: Vec<Process>,
    pub(super) is_group: bool,
    pub(super) booted: Timestamp,
}

impl Aim {
    /// Finds the process and checks that nothing is hit that must not be.
    pub(super) fn take(call: &Call, pid: u64, started: &Started, is_group: bool) -> Result<Self, ActionError> {
        let own = Own::look();
        let what = || format!("the process {pid}");
        let missing = || not_found(what(), "there is none of that number");
        if pid <= 1 {
            return Err(refused(call, format!("{pid} is the first process of the system")));
        }
        let pid = i32::try_from(pid).map_err(|_| missing())?;
        let booted = table::booted_at().ok_or_else(|| not_found(what(), "/proc cannot be read here"))?;
        let first = Process::read(pid).ok_or_else(missing)?;
        // A thread, a part of the kernel and ourselves are told as such even with a wrong start.
        may_touch(&first, &own).map_err(|why| refused(call, why))?;
        let at = first.started_at(booted);
        if !started.is(first.start_ticks, at) {
            let why = format!(
                "the number belongs to another process now: {} started at {at} ({} ticks), and {started} was given",
                first.comm, first.start_ticks
            );
            return Err(not_found(what(), why));
        }
        if first.has_ended() {
            return Err(not_found(what(), format!("it has ended; only its parent {} has not collected it", first.parent)));
        }
        let members = if is_group { group(call, &first, &own)? } else { vec![first.clone()] };
        Ok(Self { first, members, is_group, booted })
    }

    /// What tells that the process is still the one that was planned for.
    pub(super) fn stands_on(&self) -> String {
        let group = if self.is_group { format!(" group {}", self.first.group) } else { String::new() };
        format!("process {} started {}{group}", self.first.pid, self.first.start_ticks)
    }

    pub(super) fn objects(&self) -> impl Iterator<Item = Object> {
        self.members.iter().map(|process| Object {
            kind: "process".to_owned(),
            name: process.pid.to_string(),
            detail: format!(
                "{}, user {}, started {}, {} MiB",
                process.shown(),
                process.users[1],
                process.started_at(self.booted),
                process.rss_kb / 1_024
            ),
        })
    }

    /// `the process 4711 (claude)`, `the group 4711 (claude and 3 more)`.
    pub(super) fn name(&self) -> String {
        let Process { pid, comm, group, .. } = &self.first;
        match self.members.len() {
            _ if !self.is_group => format!("the process {pid} ({comm})"),
            0 | 1 => format!("the group {group} ({comm} alone)"),
            count => format!("the group {group} ({comm} and {} more)", count - 1),
        }
    }
}

fn group(call: &Call, first: &Process, own: &Own) -> Result<Vec<Process>, ActionError> {
    let number = first.group;
    if number <= 1 || number == own.group {
        return Err(refused(call, format!("{} is in the group {number}, which Paramedic itself is in", first.pid)));
    }
    let members = living(number);
    if members.len() > MEMBERS_MAX {
        return Err(refused(call, format!("the group {number} has {} processes, more than {MEMBERS_MAX}", members.len())));
    }
    match members.iter().find_map(|member| may_touch(member, own).err()) {
        Some(why) => Err(refused(call, format!("of the group {number}, {why}"))),
        None => Ok(members),
    }
}

/// The processes of a group that have not ended.
pub(super) fn living(group: i32) -> Vec<Process> {
    table::all().filter(|process| process.group == group && !process.has_ended()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_not_be_touched_is_refused_with_the_reason() {
        let own = Own { line: vec![50, 40, 1], group: 50, user: 1000 };
        let plain = Process {
            pid: 77,
            comm: "worker".to_owned(),
            state: 'S',
            parent: 1,
            group: 77,
            session: 77,
            terminal: 0,
            is_kernel: false,
            start_ticks: 1,
            leader: 77,
            users: [1000, 1000],
            user_group: 1000,
            user_groups: Vec::new(),
            rss_kb: 0,
        };
        assert_eq!(may_touch(&plain, &own), Ok(()));
        let check = |changed: Process, expect: &str| {
            let why = may_touch(&changed, &own).unwrap_err();
            assert!(why.contains(expect), "{why}");
        };
        check(Process { pid: 1, leader: 1, ..plain.clone() }, "first process");
        check(Process { pid: 50, leader: 50, ..plain.clone() }, "Paramedic itself");
        check(Process { pid: 51, leader: 50, ..plain.clone() }, "Paramedic itself");
        check(Process { pid: 40, leader: 40, ..plain.clone() }, "would end with it");
        check(Process { is_kernel: true, ..plain.clone() }, "part of the kernel");
        check(Process { leader: 70, ..plain.clone() }, "thread of the process 70");
        check(Process { users: [0, 0], ..plain.clone() }, "runs as user 0");
        check(Process { users: [1000, 0], ..plain.clone() }, "runs as user 0");
        check(Process { users: [u32::MAX; 2], ..plain.clone() }, "runs as user");
        assert_eq!(may_touch(&Process { users: [5, 5], ..plain }, &Own { user: 0, ..own }), Ok(()));
    }
}
