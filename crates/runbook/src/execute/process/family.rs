//! A program and everything that it started: found by session and by a mark in the environment, ended for certain.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

/// The variable that tells whose child a process is, also when it has left the session.
pub(super) const MARK: &str = "PARAMEDIC_STEP";
/// How long processes are killed again before they count as unkillable.
const KILL_FOR: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A mark that no other attempt on this machine has. It begins with what it is an attempt of.
pub(super) fn mark(of: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let own = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Number and start of our own process, and a count.
    let start = own.rsplit(' ').nth(30).unwrap_or_default().to_owned();
    format!("{of}{}-{start}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Everything under one program.
pub(super) struct Family {
    leader: Pid,
    mark: String,
    over: std::sync::atomic::AtomicBool,
}

/// What became of it.
#[derive(Debug, Default)]
pub(super) struct Gone {
    /// Processes that the program left behind when it ended by itself.
    pub(super) left_behind: usize,
    pub(super) survivors: Vec<i32>,
}

impl Family {
    pub(super) const fn new(leader: Pid, mark: String) -> Self {
        Self { leader, mark, over: std::sync::atomic::AtomicBool::new(false) }
    }

    /// Ends all that lives: asks, waits, kills, and looks that they are gone. A daemon that left the session on purpose
    /// stays when the program ended by itself, and goes when it was cut short (`all`).
    pub(super) async fn end(&self, grace: Duration, all: bool) -> Gone {
        let first = self.living(all);
        let mut gone = Gone { left_behind: if all { 0 } else { first.len() }, survivors: Vec::new() };
        signal(&first, Signal::TERM);
        // Who is stopped cannot end.
        signal(&first, Signal::CONT);
        let begun = Instant::now();
        while !self.living(all).is_empty() && begun.elapsed() < grace {
            sleep(LOOK_EVERY).await;
        }
        let begun = Instant::now();
        loop {
            gone.survivors = self.living(all).iter().map(|pid| pid.as_raw_nonzero().get()).collect();
            if gone.survivors.is_empty() || begun.elapsed() > KILL_FOR {
                return gone;
            }
            signal(&self.living(all), Signal::KILL);
            sleep(LOOK_EVERY).await;
        }
    }

    /// It was seen to the end; nothing is left to do when this is dropped.
    pub(super) fn done(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Processes of the session or with the mark that have not ended.
    fn living(&self, marked_too: bool) -> Vec<Pid> {
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        numbers.filter_map(|number| Pid::from_raw(number).filter(|_| self.is_member(number, marked_too))).collect()
    }

    fn is_member(&self, number: i32, marked_too: bool) -> bool {
        let leader = self.leader.as_raw_nonzero().get();
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{number}/stat")) else { return false };
        // The name in parentheses may itself hold anything.
        let Some((_, behind)) = stat.rsplit_once(')') else { return false };
        let mut fields = behind.split_whitespace();
        let state = fields.next().unwrap_or_default();
        if state == "Z" || state == "X" {
            return false;
        }
        let mut number_of = |skip: usize| fields.nth(skip).and_then(|field| field.parse::<i32>().ok());
        let (group, session) = (number_of(1), number_of(0));
        if number == leader || group == Some(leader) || session == Some(leader) {
            return true;
        }
        marked_too && self.is_marked(number)
    }

    fn is_marked(&self, number: i32) -> bool {
        let wanted = format!("{MARK}={}", self.mark);
        std::fs::read(format!("/proc/{number}/environ"))
            .is_ok_and(|bytes| bytes.split(|byte| *byte == 0).any(|one| one == wanted.as_bytes()))
    }
}

impl Drop for Family {
    /// Whoever waited for the step is gone: nothing of it may go on.
    fn drop(&mut self) {
        if !self.over.load(Ordering::Relaxed) {
            signal(&self.living(true), Signal::KILL);
        }
    }
}

fn signal(pids: &[Pid], what: Signal) {
    for pid in pids {
        // One that has just ended needs no signal.
        let _ = kill_process(*pid, what);
    }
}
