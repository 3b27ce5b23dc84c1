//! All gates and all that waits, behind one lock.
//!
//! Calls of one caller that go through the same gates are a flow, and wait in the order in which they came. The first call
//! of each flow waits at one gate, which does not let it through; when that gate would, and another of its gates does not,
//! the flow goes there to wait. A call takes from all of its gates at once or from none, so nothing is held while waiting.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::adaptive::Adaptive;
use super::bucket::Bucket;
use super::gate::{Gate, Rule, Waiter};
use super::pace::Pace;
use super::{Limit, Load, Settings, What};

/// Looks at flows in one go. What is left is done a moment later, so that the lock is never held for long.
const LOOKS_MAX: u32 = 512;
/// Gates are looked through for fresh ones when there are so many, and whenever they have doubled.
const SWEEP_AT: usize = 1_024;
/// Callers that wait at a gate, as far as they are looked at in order to say how long a wait will be.
const AHEAD_MAX: usize = 1_000;

/// Which gate. What a limit counts is part of it: a user's bucket of requests is not his bucket of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Limit(What, u64),
    Adaptive(u64),
    Pace(u64),
}

#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) load: Load,
    /// Said when it is the call's turn: everything is taken already.
    pub(super) turn: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Flow {
    caller: u64,
    gates: Box<[u32]>,
    calls: BTreeMap<u64, Waiting>,
    /// All of its calls together.
    load: Load,
    /// The gate where it waits, and as whom.
    at: Option<(u32, Waiter)>,
    /// In which round it let others go before it.
    deferred: u64,
}

/// A call that waits: which flow, and which of its calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    flow: u32,
    call: u64,
}

#[derive(Debug)]
pub(super) struct State {
    gates: Vec<Gate>,
    free_gates: Vec<u32>,
    index: HashMap<Key, u32>,
    sweep_at: usize,
    flows: Vec<Flow>,
    free_flows: Vec<u32>,
    flow_index: HashMap<(u64, Box<[u32]>), u32>,
    timers: BTreeSet<(Instant, u32)>,
    pub(super) waiting: usize,
    calls: u64,
    /// Counts up with each round of letting calls through that came to its end.
    round: u64,
    is_unfinished: bool,
    /// The task that watches the timers runs.
    pub(super) is_watched: bool,
}

/// Why a call does not go on now.
pub(super) struct Blocked {
    pub(super) gate: u32,
    pub(super) wait: Option<Duration>,
    /// It will take longer than the call may wait.
    pub(super) is_hopeless: bool,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            gates: Vec::new(),
            free_gates: Vec::new(),
            index: HashMap::new(),
            sweep_at: SWEEP_AT,
            flows: Vec::new(),
            free_flows: Vec::new(),
            flow_index: HashMap::new(),
            timers: BTreeSet::new(),
            waiting: 0,
            calls: 0,
            round: 0,
            is_unfinished: false,
            is_watched: false,
        }
    }

    pub(super) fn gate(&mut self, place: u32) -> &mut Gate {
        &mut self.gates[place as usize]
    }

    pub(super) fn find(&self, key: Key) -> Option<u32> {
        self.index.get(&key).copied()
    }

    /// The gate of a limit, with the count that the limit has now.
    pub(super) fn limit(&mut self, limit: &Limit, settings: &Settings, now: Instant) -> Option<u32> {
        let key = Key::Limit(limit.what, limit.bucket);
        if let Some(place) = self.find(key) {
            if self.gate(place).set_count(Some(limit.count), now) {
                self.go_on(place, now);
            }
            return Some(place);
        }
        let count = Some(limit.count.max(1));
        let rule = match limit.what {
            What::Concurrent => Rule::Places { count, open: 0 },
            What::ConcurrentAgents => Rule::Callers { count, open: HashMap::new() },
            what => Rule::Rate(what, Bucket::new(limit.count, Duration::from_millis(settings.burst_ms), now)),
        };
        self.add(Gate::new(limit.id.clone(), key, rule), settings, now)
    }

    pub(super) fn adaptive(&mut self, name: &str, settings: &Settings, now: Instant) -> Option<u32> {
        let key = Key::Adaptive(super::hash(name));
        self.find(key).or_else(|| {
            let rule = Rule::Adaptive(Adaptive::new(settings.adaptive_calls_max));
            self.add(Gate::new(format!("adaptive_concurrency@{name}").into(), key, rule), settings, now)
        })
    }

    pub(super) fn pace(&mut self, name: &str, settings: &Settings, now: Instant) -> Option<u32> {
        let key = Key::Pace(super::hash(name));
        self.find(key).or_else(|| {
            let rule = Rule::Pace(Box::new(Pace::new(settings.pace_below_share, Duration::from_secs(settings.provider_hold_s_max))));
            self.add(Gate::new(format!("provider_pacing@{name}").into(), key, rule), settings, now)
        })
    }

    /// None when there are too many: then the limit does not hold.
    fn add(&mut self, gate: Gate, settings: &Settings, now: Instant) -> Option<u32> {
        if self.index.len() >= self.sweep_at.min(settings.gates_max) {
            self.sweep(now);
            self.sweep_at = (self.index.len() * 2).max(SWEEP_AT);
            if self.index.len() >= settings.gates_max {
                return None;
            }
        }
        let key = gate.key;
        let place = put(&mut self.gates, &mut self.free_gates, gate);
        self.index.insert(key, place);
        Some(place)
    }

    fn sweep(&mut self, now: Instant) {
        let (gates, free) = (&mut self.gates, &mut self.free_gates);
        self.index.retain(|_, place| {
            let is_fresh = gates[*place as usize].is_fresh(now);
            if is_fresh {
                free.push(*place);
            }
            !is_fresh
        });
    }

    /// Goes through all gates at once, when each of them lets the call through and nobody waits there.
    pub(super) fn pass(&mut self, caller: u64, load: &Load, gates: &[u32], now: Instant) -> bool {
        for place in gates {
            let gate = self.gate(*place);
            if gate.has_waiting() || gate.check(caller, load, now).is_err() {
                return false;
            }
        }
        self.take(caller, load, gates, now);
        true
    }

    fn take(&mut self, caller: u64, load: &Load, gates: &[u32], now: Instant) {
        for place in gates {
            let gate = self.gate(*place);
            gate.take(caller, load, now);
            gate.users += 1;
        }
    }

    /// Which of its gates a call that did not pass would wait at the longest.
    pub(super) fn blocked(&mut self, caller: u64, load: &Load, gates: &[u32], wait_max: Duration, now: Instant) -> Option<Blocked> {
        let flow = self.flow_index.get(&(caller, gates.into())).copied();
        let own = flow.map_or_else(Load::default, |flow| self.flows[flow as usize].load);
        let mut worst: Option<Blocked> = None;
        for place in gates {
            let gate = &mut self.gates[*place as usize];
            if own.calls == 0 && !gate.has_waiting() && gate.check(caller, load, now).is_ok() {
                continue;
            }
            let ahead = ahead(gate, &self.flows, flow, &own, load, wait_max, now);
            let wait = gate.wait(ahead, load, now);
            let is_hopeless = gate.is_certain() && wait.is_some_and(|wait| wait > wait_max);
            let one = Blocked { gate: *place, wait, is_hopeless };
            if worst.as_ref().is_none_or(|worst| (one.is_hopeless, one.wait) > (worst.is_hopeless, worst.wait)) {
                worst = Some(one);
            }
        }
        worst
    }

    /// Puts a call behind the others of its flow.
    pub(super) fn queue(&mut self, caller: u64, gates: &[u32], waiting: Waiting, now: Instant) -> Place {
        self.calls += 1;
        self.waiting += 1;
        let call = self.calls;
        let load = waiting.load;
        let key = (caller, Box::<[u32]>::from(gates));
        let flow = if let Some(flow) = self.flow_index.get(&key) {
            *flow
        } else {
            for place in gates {
                self.gate(*place).users += 1;
            }
            let flow = Flow { caller, gates: key.1.clone(), calls: BTreeMap::new(), load: Load::default(), at: None, deferred: 0 };
            let flow = put(&mut self.flows, &mut self.free_flows, flow);
            self.flow_index.insert(key, flow);
            flow
        };
        let one = &mut self.flows[flow as usize];
        one.calls.insert(call, waiting);
        one.load.add(&load);
        if let Some((at, _)) = one.at {
            self.gate(at).backlog.add(&load);
        } else {
            let at = self.blocking(flow, None, true, now).unwrap_or(gates[0]);
            self.wait_at(flow, at);
            self.go_on(at, now);
        }
        Place { flow, call }
    }

    /// A call does not wait any more. False when it had its turn already.
    pub(super) fn forget(&mut self, place: Place, now: Instant) -> bool {
        let Some(flow) = self.flows.get_mut(place.flow as usize) else { return false };
        let is_first = flow.calls.first_key_value().is_some_and(|(call, _)| *call == place.call);
        let Some(waiting) = flow.calls.remove(&place.call) else { return false };
        flow.load.subtract(&waiting.load);
        let at = flow.at.map(|(at, _)| at);
        let is_empty = flow.calls.is_empty();
        self.waiting -= 1;
        if let Some(at) = at {
            self.gate(at).backlog.subtract(&waiting.load);
            if is_empty {
                self.end_flow(place.flow);
            }
            // The next one may be smaller, and others were behind the one that left.
            if is_first {
                self.go_on(at, now);
            }
        }
        true
    }

    /// A call is over, or was never sent.
    pub(super) fn release(&mut self, caller: u64, gates: &[u32], held_for: Duration, now: Instant) {
        for place in gates {
            let gate = self.gate(*place);
            gate.users = gate.users.saturating_sub(1);
            gate.release(caller, held_for);
        }
        for place in gates {
            if self.gate(*place).has_waiting() {
                self.go_on(*place, now);
            }
        }
    }

    /// Everything whose time has come. Returns when to look again.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Instant> {
        // Those that are set meanwhile are for the next time, so that this comes to an end.
        let mut places = Vec::new();
        while let Some((due, place)) = self.timers.first().copied()
            && due <= now
        {
            self.timers.pop_first();
            self.gate(place).due = None;
            places.push(place);
        }
        for place in places {
            self.go_on(place, now);
        }
        self.timers.first().map(|(due, _)| *due)
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Lets through what may go through this gate, and through those where it meets others. When there is very much of it the
    /// rest is left for a moment later.
    pub(super) fn go_on(&mut self, place: u32, now: Instant) {
        let mut looks = LOOKS_MAX;
        if !std::mem::take(&mut self.is_unfinished) {
            self.round += 1;
        }
        let mut places = vec![place];
        while let Some(place) = places.pop() {
            while let Some(waiter) = self.gate(place).first() {
                if looks == 0 {
                    self.is_unfinished = true;
                    self.set_timer(place, now);
                    places.iter().for_each(|place| self.set_timer(*place, now));
                    return;
                }
                looks -= 1;
                let flow = &self.flows[waiter.flow as usize];
                let (caller, load) = (flow.caller, flow.first_load());
                let time = self.gate(place).time_of(caller);
                if time > waiter.time {
                    // Another flow of this caller went through in the meantime.
                    self.leave(waiter.flow);
                    self.wait_at(waiter.flow, place);
                    continue;
                }
                if let Err(until) = self.gate(place).check(caller, &load, now) {
                    if let Some(until) = until {
                        self.set_timer(place, until);
                    }
                    break;
                }
                // Each lets others go first only once, or they could all wait for each other in a circle.
                let is_polite = self.flows[waiter.flow as usize].deferred != self.round;
                if let Some(other) = self.blocking(waiter.flow, Some(place), is_polite, now) {
                    self.flows[waiter.flow as usize].deferred = self.round;
                    self.leave(waiter.flow);
                    self.wait_at(waiter.flow, other);
                    places.push(other);
                } else {
                    self.grant(waiter.flow, place, now);
                }
            }
        }
    }

    /// A gate, other than `but`, that does not let the first call of a flow through, or where, to be polite, another's turn
    /// is before.
    fn blocking(&mut self, flow: u32, but: Option<u32>, is_polite: bool, now: Instant) -> Option<u32> {
        let flow = &self.flows[flow as usize];
        let load = flow.first_load();
        for place in flow.gates.iter().filter(|place| Some(**place) != but) {
            let gate = &mut self.gates[*place as usize];
            let is_behind = is_polite && gate.first().is_some_and(|first| first.time <= gate.time_of(flow.caller));
            if is_behind || gate.check(flow.caller, &load, now).is_err() {
                return Some(*place);
            }
        }
        None
    }

    /// The first call of a flow goes through all of its gates.
    fn grant(&mut self, place: u32, turn_at: u32, now: Instant) {
        let flow = &mut self.flows[place as usize];
        let Some((_, waiting)) = flow.calls.pop_first() else { return };
        flow.load.subtract(&waiting.load);
        let (caller, gates) = (flow.caller, std::mem::take(&mut flow.gates));
        self.waiting -= 1;
        self.gate(turn_at).backlog.subtract(&waiting.load);
        for at in &gates {
            let gate = self.gate(*at);
            if gate.has_waiting() {
                gate.serve(caller, &waiting.load, *at == turn_at);
            }
        }
        self.take(caller, &waiting.load, &gates, now);
        let flow = &mut self.flows[place as usize];
        flow.gates = gates;
        if flow.calls.is_empty() {
            self.end_flow(place);
        } else {
            // Its time has moved on: it waits as somebody else now.
            self.move_on(place, turn_at);
        }
        // Whoever does not listen any more finds that he had his turn, and gives everything back himself.
        let _ = waiting.turn.send(());
    }

    /// Joins before it leaves, so that the gate does not take it for the end of all waiting.
    fn move_on(&mut self, place: u32, at: u32) {
        let flow = &mut self.flows[place as usize];
        let Some((_, before)) = flow.at else { return };
        let gate = &mut self.gates[at as usize];
        let waiter = Waiter { time: gate.time_of(flow.caller), ..before };
        flow.at = Some((at, waiter));
        gate.join(waiter);
        if waiter != before {
            gate.leave(&before);
        }
    }

    fn wait_at(&mut self, place: u32, at: u32) {
        let flow = &mut self.flows[place as usize];
        let gate = &mut self.gates[at as usize];
        let since = flow.calls.first_key_value().map_or(0, |(call, _)| *call);
        let waiter = Waiter { time: gate.time_of(flow.caller), since, flow: place };
        flow.at = Some((at, waiter));
        gate.join(waiter);
        gate.backlog.add(&flow.load);
    }

    fn leave(&mut self, place: u32) {
        let flow = &mut self.flows[place as usize];
        if let Some((at, waiter)) = flow.at.take() {
            let gate = &mut self.gates[at as usize];
            gate.backlog.subtract(&flow.load);
            gate.leave(&waiter);
            if !gate.has_waiting()
                && let Some(due) = gate.due.take()
            {
                self.timers.remove(&(due, at));
            }
        }
    }

    fn end_flow(&mut self, place: u32) {
        self.leave(place);
        let flow = &mut self.flows[place as usize];
        let key = (flow.caller, std::mem::take(&mut flow.gates));
        for at in &key.1 {
            let gate = &mut self.gates[*at as usize];
            gate.users = gate.users.saturating_sub(1);
        }
        self.flow_index.remove(&key);
        self.free_flows.push(place);
    }

    fn set_timer(&mut self, place: u32, due: Instant) {
        let gate = &mut self.gates[place as usize];
        if let Some(before) = gate.due.replace(due) {
            self.timers.remove(&(before, place));
        }
        self.timers.insert((due, place));
    }

    /// All gates that there are.
    pub(super) fn places(&self) -> Vec<u32> {
        self.index.values().copied().collect()
    }

    /// Nothing of any call is left: for tests.
    pub(super) fn is_quiet(&self) -> bool {
        let is_quiet = |gate: &Gate| !gate.has_waiting() && gate.users == 0 && gate.due.is_none() && gate.backlog.calls == 0;
        self.waiting == 0
            && self.timers.is_empty()
            && self.flow_index.is_empty()
            && self.free_flows.len() == self.flows.len()
            && self.index.values().all(|place| is_quiet(&self.gates[*place as usize]))
    }
}

impl Flow {
    fn first_load(&self) -> Load {
        self.calls.first_key_value().map_or_else(Load::default, |(_, waiting)| waiting.load)
    }
}

/// What goes through a gate before a further call of a flow: the flow's own calls, and of each other as much.
fn ahead(gate: &mut Gate, flows: &[Flow], flow: Option<u32>, own: &Load, load: &Load, wait_max: Duration, now: Instant) -> f64 {
    let (all, own_cost) = (gate.cost(&gate.backlog), gate.cost(own));
    // Where the call waits long enough for everybody there is nothing to find out.
    if gate.wait(all.max(own_cost), load, now).is_none_or(|wait| wait <= wait_max) {
        return all.max(own_cost);
    }
    let share = own_cost + gate.cost(load);
    let others = gate.waiters().filter(|waiter| Some(waiter.flow) != flow).take(AHEAD_MAX);
    own_cost + others.map(|waiter| gate.cost(&flows[waiter.flow as usize].load).min(share)).sum::<f64>()
}

fn put<T>(all: &mut Vec<T>, free: &mut Vec<u32>, one: T) -> u32 {
    if let Some(place) = free.pop() {
        all[place as usize] = one;
        return place;
    }
    all.push(one);
    (all.len() - 1) as u32
}
