//! One gate: a limit that calls go through, and the callers that wait in front of it.
//!
//! Callers are served in the order of their virtual times (start-time fair queueing): each call that goes through moves
//! its caller's time on by what it costs, and the caller whose time is the earliest is next. So each of them gets the same
//! share of what the gate lets through, however many calls it has waiting, and a caller that comes now waits for one call
//! of each other, not for all of them.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::adaptive::Adaptive;
use super::bucket::Bucket;
use super::pace::Pace;
use super::{Load, What};

/// Times of callers that are behind are kept until there are so many more than callers that wait.
const TIMES_KEPT: usize = 64;
/// Of the mean time that calls hold a place, this much is the newest one's.
const NEWEST_WEIGHT: f64 = 0.1;

#[derive(Debug)]
pub(super) enum Rule {
    Rate(What, Bucket),
    /// Calls at the same time; without a count there is no limit.
    Places {
        count: Option<u64>,
        open: u64,
    },
    /// Callers with calls at the same time, and how many each has.
    Callers {
        count: Option<u64>,
        open: HashMap<u64, u32>,
    },
    Adaptive(Adaptive),
    Pace(Box<Pace>),
}

#[derive(Debug)]
pub(super) struct Gate {
    pub(super) id: Box<str>,
    pub(super) key: super::state::Key,
    pub(super) rule: Rule,
    /// Permits and flows that know this gate by its place; it is not forgotten while there are any.
    pub(super) users: u32,
    pub(super) admitted: u64,
    pub(super) held: u64,
    /// When its next waiting call may go on, and a timer runs for it.
    pub(super) due: Option<Instant>,
    /// What waits here.
    pub(super) backlog: Load,
    /// How long a call holds a place, in the mean.
    pub(super) mean_hold_s: f64,
    queue: BTreeSet<Waiter>,
    /// The virtual time, and that of each caller that is ahead of it.
    time: u64,
    times: HashMap<u64, u64>,
}

/// A flow that waits at a gate: its caller's virtual time, who came first among equals, and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Waiter {
    pub(super) time: u64,
    pub(super) since: u64,
    pub(super) flow: u32,
}

impl Gate {
    pub(super) fn new(id: Box<str>, key: super::state::Key, rule: Rule) -> Self {
        Self {
            id,
            key,
            rule,
            users: 0,
            admitted: 0,
            held: 0,
            due: None,
            backlog: Load::default(),
            mean_hold_s: 1.0,
            queue: BTreeSet::new(),
            time: 0,
            times: HashMap::new(),
        }
    }

    /// Fails when a call may not go on now, with the time at which it may, where that is known.
    pub(super) fn check(&mut self, caller: u64, load: &Load, now: Instant) -> Result<(), Option<Instant>> {
        let has_room = match &mut self.rule {
            Rule::Rate(what, bucket) => return bucket.check(load.cost(*what), now).map_err(Some),
            Rule::Pace(pace) => return pace.check(load, now).map_err(Some),
            Rule::Places { count, open } => count.is_none_or(|count| *open < count),
            Rule::Callers { count, open } => open.contains_key(&caller) || count.is_none_or(|count| (open.len() as u64) < count),
            Rule::Adaptive(adaptive) => adaptive.has_room(),
        };
        if has_room { Ok(()) } else { Err(None) }
    }

    pub(super) fn take(&mut self, caller: u64, load: &Load, now: Instant) {
        self.admitted += 1;
        match &mut self.rule {
            Rule::Rate(what, bucket) => bucket.take(load.cost(*what), now),
            Rule::Pace(pace) => pace.take(load, now),
            Rule::Places { open, .. } => *open += 1,
            Rule::Callers { open, .. } => *open.entry(caller).or_insert(0) += 1,
            Rule::Adaptive(adaptive) => adaptive.open += 1,
        }
    }

    /// A call is over.
    pub(super) fn release(&mut self, caller: u64, held_for: Duration) {
        match &mut self.rule {
            Rule::Rate(..) | Rule::Pace(_) => return,
            Rule::Places { open, .. } => *open = open.saturating_sub(1),
            Rule::Adaptive(adaptive) => adaptive.open = adaptive.open.saturating_sub(1),
            Rule::Callers { open, .. } => {
                if let Some(calls) = open.get_mut(&caller) {
                    *calls = calls.saturating_sub(1);
                    if *calls == 0 {
                        open.remove(&caller);
                    }
                }
            }
        }
        self.mean_hold_s += (held_for.as_secs_f64() - self.mean_hold_s) * NEWEST_WEIGHT;
    }

    /// A call has used `actual` where `thought` was taken out. True when another may go on because of it.
    pub(super) fn correct(&mut self, thought: &Load, actual: &Load, now: Instant) -> bool {
        let Rule::Rate(what, bucket) = &mut self.rule else { return false };
        let more = actual.cost(*what) - thought.cost(*what);
        bucket.take(more, now);
        more < 0.0 && !self.queue.is_empty()
    }

    /// What a load costs here, in the unit in which callers get equal shares.
    pub(super) fn cost(&self, load: &Load) -> f64 {
        match &self.rule {
            Rule::Rate(what, _) => load.cost(*what),
            _ => load.calls as f64,
        }
    }

    pub(super) fn count(&self) -> Option<u64> {
        match &self.rule {
            Rule::Rate(_, bucket) => bucket.count(),
            Rule::Places { count, .. } | Rule::Callers { count, .. } => *count,
            Rule::Adaptive(adaptive) => Some(adaptive.limit()),
            Rule::Pace(_) => None,
        }
    }

    /// Another count, or none. True when another call may go on because of it.
    pub(super) fn set_count(&mut self, count: Option<u64>, now: Instant) -> bool {
        let count = count.map(|count| count.max(1));
        match &mut self.rule {
            Rule::Rate(_, bucket) if bucket.count() != count => bucket.set_count(count, now),
            Rule::Places { count: known, .. } | Rule::Callers { count: known, .. } if *known != count => *known = count,
            _ => return false,
        }
        !self.queue.is_empty()
    }

    /// How long it takes until what is `ahead` and then `load` were let in: exact for rates, a guess for the others, and none
    /// where it is not known.
    pub(super) fn wait(&mut self, ahead: f64, load: &Load, now: Instant) -> Option<Duration> {
        let hold = self.mean_hold_s;
        let places = match &mut self.rule {
            Rule::Rate(what, bucket) => return Some(bucket.wait(ahead, load.cost(*what), now)),
            Rule::Pace(pace) => return pace.check(load, now).err().map(|until| until.saturating_duration_since(now)),
            Rule::Places { count, .. } | Rule::Callers { count, .. } => (*count)?,
            Rule::Adaptive(adaptive) => adaptive.limit(),
        };
        Duration::try_from_secs_f64(hold * (ahead + 1.0) / places as f64).ok()
    }

    /// The wait that was computed is what it will take at least.
    pub(super) fn is_certain(&self) -> bool {
        matches!(self.rule, Rule::Rate(..) | Rule::Pace(_))
    }

    /// It may be forgotten: a new one would be the same.
    pub(super) fn is_fresh(&mut self, now: Instant) -> bool {
        if self.users > 0 || !self.queue.is_empty() {
            return false;
        }
        match &mut self.rule {
            Rule::Rate(_, bucket) => bucket.is_full(now),
            Rule::Places { open, .. } => *open == 0,
            Rule::Callers { open, .. } => open.is_empty(),
            Rule::Adaptive(adaptive) => adaptive.is_fresh(),
            Rule::Pace(pace) => pace.is_fresh(now),
        }
    }

    /// The virtual time of a caller's next call.
    pub(super) fn time_of(&self, caller: u64) -> u64 {
        self.times.get(&caller).map_or(self.time, |time| self.time.max(*time))
    }

    pub(super) fn first(&self) -> Option<Waiter> {
        self.queue.first().copied()
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn waiters(&self) -> impl Iterator<Item = &Waiter> {
        self.queue.iter()
    }

    pub(super) fn join(&mut self, waiter: Waiter) {
        self.queue.insert(waiter);
    }

    pub(super) fn leave(&mut self, waiter: &Waiter) {
        self.queue.remove(waiter);
        if self.queue.is_empty() {
            // Nobody competes any more: all are equal when somebody does again.
            self.times.clear();
            self.time = 0;
        }
    }

    /// A caller's call went through while others wait. `is_turn`: it was the first of those that wait here.
    pub(super) fn serve(&mut self, caller: u64, load: &Load, is_turn: bool) {
        let start = self.time_of(caller);
        if is_turn {
            self.time = start;
        }
        let cost = self.cost(load).max(1.0) as u64;
        self.times.insert(caller, start.saturating_add(cost));
        if self.times.len() > self.queue.len() * 2 + TIMES_KEPT {
            let now = self.time;
            self.times.retain(|_, time| *time > now);
        }
    }
}
