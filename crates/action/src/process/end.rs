//! Ending processes for certain: each is held by a descriptor, so that a number that is used again is never hit.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::aim::{Aim, living};
use super::table::Process;

/// Members that a group gains while it is ended are looked for so often.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How a process is to be ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    /// From the request to end until it is killed; none: it is killed at once.
    pub(super) grace: Option<Duration>,
    /// From the kill until it counts as unkillable.
    pub(super) kill_wait: Duration,
}

/// What became of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) by_themselves: usize,
    pub(super) killed: usize,
    pub(super) survivors: Vec<i32>,
    /// It was called off while they had time to end.
    pub(super) is_called_off: bool,
    /// What the system said when it would not deliver a signal.
    pub(super) said: Option<String>,
}

impl Ended {
    pub(super) const fn all(&self) -> usize {
        self.by_themselves + self.killed
    }
}

/// A process that cannot become another one.
struct Held {
    pid: i32,
    watched: AsyncFd<OwnedFd>,
    last: Option<Signal>,
    has_ended: bool,
}

impl Held {
    /// `None`: it has ended.
    #[expect(deprecated, reason = "an owned descriptor stays what it is; the other form would need `unsafe`")]
    fn take(process: &Process) -> Result<Option<Self>, String> {
        let cannot = |why: &dyn std::fmt::Display| format!("the process {} cannot be held: {why}", process.pid);
        let pid = Pid::from_raw(process.pid).ok_or_else(|| cannot(&"it has no number"))?;
        let held = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(held) => held,
            Err(Errno::SRCH) => return Ok(None),
            Err(error) => return Err(cannot(&error)),
        };
        // It was seen before the descriptor was made. When it is still there now, the descriptor is its own.
        let is_same = Process::read(process.pid).is_some_and(|now| now.start_ticks == process.start_ticks && !now.has_ended());
        if !is_same {
            return Ok(None);
        }
        let watched = AsyncFd::with_interest(held, Interest::READABLE).map_err(|error| cannot(&error))?;
        Ok(Some(Self { pid: process.pid, watched, last: None, has_ended: false }))
    }

    fn signal(&self, signal: Signal) -> Result<(), String> {
        match pidfd_send_signal(self.watched.get_ref(), signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(format!("a signal to {}: {error}", self.pid)),
        }
    }

    /// A descriptor becomes readable when its process has ended, also before its parent knows.
    async fn wait(&mut self, until: Instant) {
        if !self.has_ended {
            self.has_ended = matches!(timeout_at(until, self.watched.readable()).await, Ok(Ok(_)));
        }
    }
}

/// Everything that is to end, and what is found of it on the way.
struct Herd {
    held: Vec<Held>,
    /// The group and session that new members are looked for in, with the start of its leader.
    family: Option<Family>,
    seen: HashSet<(i32, u64)>,
    said: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Family {
    group: i32,
    session: i32,
    leader_start: Option<u64>,
}

impl Herd {
    fn gather(aim: &Aim) -> Self {
        let leader_start = aim.members.iter().find(|member| member.pid == member.group).map(|leader| leader.start_ticks);
        let family = aim.is_group.then_some(Family { group: aim.first.group, session: aim.first.session, leader_start });
        let mut herd = Self { held: Vec::new(), family, seen: HashSet::new(), said: None };
        for member in &aim.members {
            herd.hold(member);
        }
        herd
    }

    fn hold(&mut self, process: &Process) -> bool {
        if !self.seen.insert((process.pid, process.start_ticks)) {
            return false;
        }
        match Held::take(process) {
            Ok(Some(held)) => self.held.push(held),
            Ok(None) => return false,
            Err(why) => self.said = Some(why),
        }
        true
    }

    /// Members that were started after the plan. A group whose number now belongs to a later leader is another one.
    fn grow(&mut self) -> usize {
        let Some(family) = self.family else { return 0 };
        let is_ours = |process: &Process| {
            process.session == family.session && (process.pid != family.group || family.leader_start == Some(process.start_ticks))
        };
        let members = living(family.group);
        if members.iter().any(|member| member.pid == family.group && !is_ours(member)) {
            return 0;
        }
        members.iter().filter(|member| is_ours(member)).filter(|member| self.hold(member)).count()
    }

    fn signal(&mut self, signal: Signal) {
        // A program that is asked twice may take it for impatience.
        for held in self.held.iter_mut().filter(|held| !held.has_ended && held.last != Some(signal)) {
            held.last = Some(signal);
            // Who is stopped cannot end.
            if let Err(why) = held.signal(signal).and_then(|()| held.signal(Signal::CONT)) {
                self.said = Some(why);
            }
        }
    }

    async fn wait(&mut self, until: Instant) -> bool {
        for held in &mut self.held {
            held.wait(until).await;
        }
        self.held.iter().all(|held| held.has_ended)
    }

    /// Waits until all have ended, those too that join meanwhile.
    async fn see_end(&mut self, signal: Signal, wait: Duration) -> bool {
        // A wait too long to be added to a time has no end.
        let over = Instant::now().checked_add(wait);
        loop {
            let is_over = over.is_some_and(|over| Instant::now() >= over);
            let look = Instant::now() + LOOK_EVERY;
            let have_ended = self.wait(over.map_or(look, |over| look.min(over))).await;
            let grown = self.grow();
            if have_ended && grown == 0 {
                return true;
            }
            if is_over {
                return false;
            }
            if grown > 0 {
                self.signal(signal);
            }
        }
    }

    fn outcome(self, is_called_off: bool) -> Ended {
        let killed = self.held.iter().filter(|held| held.has_ended && held.last == Some(Signal::KILL)).count();
        let by_themselves = self.held.iter().filter(|held| held.has_ended && held.last != Some(Signal::KILL)).count();
        let survivors = self.held.iter().filter(|held| !held.has_ended).map(|held| held.pid).collect();
        Ended { by_themselves, killed, survivors, is_called_off, said: self.said }
    }
}

/// Asks them to end, gives them time, kills those that are left, and sees that they are gone.
pub(super) async fn end(aim: &Aim, way: Way, cancel: &CancellationToken) -> Ended {
    let mut herd = Herd::gather(aim);
    if let Some(grace) = way.grace {
        herd.signal(Signal::TERM);
        let has_ended = tokio::select! {
            has_ended = herd.see_end(Signal::TERM, grace) => has_ended,
            () = cancel.cancelled() => {
                herd.wait(Instant::now()).await;
                return herd.outcome(true);
            }
        };
        if has_ended {
            return herd.outcome(false);
        }
    }
    herd.grow();
    herd.signal(Signal::KILL);
    herd.see_end(Signal::KILL, way.kill_wait).await;
    herd.outcome(false)
}
