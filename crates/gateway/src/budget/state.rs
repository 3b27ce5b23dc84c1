//! All that calls need to know of money, under one lock that is held for less than a microsecond or two.

use std::collections::HashMap;
use std::sync::Arc;

use paramedic_model::{Timestamp, Usage};

use super::cap::{Limit, Standing, TOLD_AT, Verdict, decide, reached};
use super::entry::Entry;
use super::purse::{CAPS_PER_PURSE_MAX, Found, Places, Table, Whose};
use super::queue::{Outcome, Waiting};
use super::slots::{Few, Slab};
use super::window::{Windows, day_of, ends_at};
use super::{Ask, CAPS_PER_CALL_MAX, Cap, Metrics, Over, Settings, Warning, Why};

/// What the keeper has not taken yet; beyond it the log is written anew from what is known here.
pub(super) const PENDING_MAX: usize = 1 << 16;

pub(super) type Limits = Few<CAPS_PER_CALL_MAX>;

/// A call that runs.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) id: u64,
    pub(super) at: Timestamp,
    pub(super) windows: Windows,
    pub(super) reserved: u64,
    pub(super) at_most: u64,
    pub(super) places: Places,
}

/// What a call wants, its names looked up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) places: Places,
    pub(super) limits: Limits,
    pub(super) estimate: u64,
    pub(super) at_most: u64,
    pub(super) pause: bool,
}

pub(super) enum Judged {
    Pass,
    Wait(u32),
    Refuse(u32),
}

/// How a call ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// It cost so much.
    Spent(u64, Usage),
    /// The upstream was never asked.
    Unasked,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) table: Table,
    pub(super) limits: Slab<Limit>,
    pub(super) open: Slab<Open>,
    pub(super) waiting: HashMap<u64, Waiting>,
    pub(super) next_ticket: u64,
    pub(super) next_id: u64,
    windows: Windows,
    pub(super) reserved: u64,
    /// For the keeper.
    pub(super) pending: Vec<Entry>,
    /// Entries that there was no room for.
    pub(super) lost: u64,
    /// The keeper sleeps until it is woken.
    pub(super) asleep: bool,
    strict: bool,
    pub(super) waiting_max: usize,
    pub(super) metrics: Metrics,
}

impl State {
    pub(super) fn new(settings: &Settings, metrics: Metrics, now: Timestamp) -> Self {
        Self {
            table: Table::new(settings.purses_max),
            limits: Slab::default(),
            open: Slab::default(),
            waiting: HashMap::new(),
            next_ticket: 1,
            next_id: 1,
            windows: Windows::at(now),
            reserved: 0,
            pending: Vec::new(),
            lost: 0,
            asleep: false,
            strict: settings.strict,
            waiting_max: settings.waiting_max,
            metrics,
        }
    }

    pub(super) const fn windows(&self) -> &Windows {
        &self.windows
    }

    pub(super) fn note(&mut self, entry: Entry) {
        note(&mut self.pending, &mut self.lost, entry);
    }

    /// Takes over what time it is.
    pub(super) fn tick(&mut self, now: Timestamp) {
        if day_of(now) != self.windows.day {
            self.windows = Windows::at(now);
        }
    }

    /// Looks up the purses and the caps of a call; caps that changed let those go on who waited for them.
    pub(super) fn wanted(&mut self, ask: &Ask<'_>, now: Timestamp, out: &mut Outcome) -> Wanted {
        let Self { table, pending, lost, .. } = self;
        let made = |place, name: &Arc<str>| note(pending, lost, Entry::Purse { place, name: Arc::clone(name) });
        let (mut places, others) = table.places(&ask.purses, self.windows.day, made);
        let (mut limits, mut unheld) = (Limits::new(), 0);
        for cap in ask.caps {
            let place = self.place_of(cap, &mut places);
            match place.and_then(|place| self.limit_of(cap, place, now, out)) {
                Some(limit) if limits.push(limit) => {}
                _ => unheld += 1,
            }
        }
        for orphan in std::mem::take(&mut self.table.orphans) {
            self.limits.remove(orphan);
        }
        if others + unheld > 0 {
            self.metrics.overflowed.inc_by(others);
            self.metrics.unheld.inc_by(unheld);
        }
        let estimate = if self.strict { ask.at_most } else { ask.likely.min(ask.at_most) };
        Wanted { places, limits, estimate, at_most: ask.at_most, pause: ask.pause }
    }

    /// The purse of a cap is one of the call's, or becomes one.
    fn place_of(&mut self, cap: &Cap, places: &mut Places) -> Option<u32> {
        let of_call = places.as_slice().iter().find(|place| self.table.purses.get(**place).is_some_and(|purse| purse.name == cap.purse));
        if let Some(place) = of_call {
            return Some(*place);
        }
        let (whose, name) = Whose::split(&cap.purse)?;
        let place = match self.table.find(whose, name, self.windows.day) {
            Found::There(place) => place,
            Found::Made(place) => {
                let name = Arc::clone(&self.table.purses.get(place)?.name);
                self.note(Entry::Purse { place, name });
                place
            }
            Found::Other(_) => return None,
        };
        (!Table::is_other(place) && places.push(place)).then_some(place)
    }

    fn limit_of(&mut self, cap: &Cap, place: u32, now: Timestamp, out: &mut Outcome) -> Option<u32> {
        if let Some(limit) = self.find_limit(&cap.id, cap, place) {
            self.roll(limit);
            let known = self.limits.get_mut(limit)?;
            if known.pico != cap.pico || known.enforce != cap.enforce || !known.set {
                (known.pico, known.enforce, known.set) = (cap.pico, cap.enforce, true);
                self.tell(limit, now, out);
                self.wake(limit, now, out);
            }
            return Some(limit);
        }
        let limit = self.add_limit(cap, place)?;
        self.roll(limit);
        self.tell(limit, now, out);
        Some(limit)
    }

    fn find_limit(&self, id: &str, cap: &Cap, place: u32) -> Option<u32> {
        let is = |at: &&u32| self.limits.get(**at).is_some_and(|limit| limit.period == cap.period && *limit.id == *id);
        self.table.purses.get(place)?.caps.iter().find(is).copied()
    }

    /// A new cap of a purse; of those that are full, in the place of one that nobody asks for any more.
    pub(super) fn add_limit(&mut self, cap: &Cap, place: u32) -> Option<u32> {
        let purse = self.table.purses.get_mut(place)?;
        if purse.caps.len() >= CAPS_PER_PURSE_MAX {
            let idle = |at: &u32| self.limits.get(*at).is_none_or(|limit| !limit.set && limit.queue.is_empty());
            let old = purse.caps.iter().position(idle)?;
            let old = purse.caps.swap_remove(old);
            self.limits.remove(old);
        }
        let limit = self.limits.insert(Limit::new(cap, place));
        purse.caps.push(limit);
        Some(limit)
    }

    /// Brings a cap to the window that is open now. Calls that began in another one do not count in this.
    pub(super) fn roll(&mut self, at: u32) {
        let Some(limit) = self.limits.get_mut(at) else { return };
        let start = self.windows.start(limit.period);
        if limit.start == start {
            return;
        }
        (limit.start, limit.reserved, limit.at_most, limit.running) = (start, 0, 0, 0);
        for (_, open) in self.open.iter() {
            if open.windows.start(limit.period) == start && open.places.as_slice().contains(&limit.purse) {
                limit.add(open.reserved, open.at_most);
            }
        }
    }

    pub(super) fn standing(&self, limit: &Limit) -> Standing {
        let spent = self.table.purses.get(limit.purse).map_or(0, |purse| purse.spent(limit.period, limit.start));
        Standing { spent, reserved: limit.reserved, running: limit.running }
    }

    /// What all caps of a call say together. A ticket of its own says whom it waits behind.
    pub(super) fn judge(&mut self, limits: &Limits, estimate: u64, ticket: u64) -> Judged {
        let mut judged = Judged::Pass;
        for at in limits.as_slice() {
            self.roll(*at);
            let Some(limit) = self.limits.get(*at).filter(|limit| limit.enforce && limit.set) else { continue };
            let behind = limit.queue.front().is_some_and(|first| *first < ticket);
            match decide(self.standing(limit), limit.pico, estimate, behind) {
                Verdict::Pass => {}
                Verdict::Wait => {
                    if matches!(judged, Judged::Pass) {
                        judged = Judged::Wait(*at);
                    }
                }
                Verdict::Refuse => return Judged::Refuse(*at),
            }
        }
        judged
    }

    /// Reserves for a call that may begin, and gives its place.
    pub(super) fn grant(&mut self, wanted: &Wanted, now: Timestamp) -> u32 {
        let (windows, day) = (self.windows, self.windows.day);
        for place in wanted.places.as_slice() {
            for i in 0.. {
                let Some(limit) = self.table.purses.get(*place).and_then(|purse| purse.caps.get(i)).copied() else { break };
                self.roll(limit);
                if let Some(limit) = self.limits.get_mut(limit) {
                    limit.add(wanted.estimate, wanted.at_most);
                }
            }
            if let Some(purse) = self.table.purses.get_mut(*place) {
                purse.held_by += 1;
                purse.touched = purse.touched.max(day);
            }
        }
        let id = self.next_id;
        self.next_id += 1;
        self.reserved = self.reserved.saturating_add(wanted.estimate);
        self.note(Entry::Reserved { id, at: now, pico: wanted.estimate, places: wanted.places });
        let (reserved, at_most, places) = (wanted.estimate, wanted.at_most, wanted.places);
        self.open.insert(Open { id, at: now, windows, reserved, at_most, places })
    }

    /// Raises what a running call has reserved.
    pub(super) fn grow(&mut self, at: u32, pico: u64) {
        let Some(open) = self.open.get_mut(at).filter(|open| open.reserved < pico) else { return };
        let more = pico - open.reserved;
        let more_at_most = pico.saturating_sub(open.at_most);
        (open.reserved, open.at_most) = (pico, open.at_most.max(pico));
        let (id, windows, places) = (open.id, open.windows, open.places);
        self.reserved = self.reserved.saturating_add(more);
        for place in places.as_slice() {
            for limit in self.table.purses.get(*place).map_or(&[][..], |purse| &purse.caps) {
                if let Some(limit) = self.limits.get_mut(*limit).filter(|limit| limit.start == windows.start(limit.period)) {
                    limit.reserved = limit.reserved.saturating_add(more);
                    limit.at_most = limit.at_most.saturating_add(more_at_most);
                }
            }
        }
        self.note(Entry::Grew { id, pico });
    }

    /// Ends a call: what it reserved is free, what it cost is spent, and who waited is looked at again. The window is
    /// the one that it began in, for there its money was let through.
    pub(super) fn end(&mut self, at: u32, end: End, now: Timestamp, out: &mut Outcome) {
        let Some(open) = self.open.remove(at) else { return };
        self.reserved = self.reserved.saturating_sub(open.reserved);
        let mut told = Vec::new();
        let mut waited_for = Vec::new();
        for place in open.places.as_slice() {
            let Some(purse) = self.table.purses.get_mut(*place) else { continue };
            purse.held_by = purse.held_by.saturating_sub(1);
            if let End::Spent(pico, _) = end {
                purse.spend(&open.windows, pico);
            }
            for limit_at in &purse.caps {
                let Some(limit) = self.limits.get_mut(*limit_at) else { continue };
                if limit.start == open.windows.start(limit.period) {
                    limit.take(open.reserved, open.at_most);
                    if reached(purse.spent(limit.period, limit.start), limit.pico) & !limit.told.get(limit.start) != 0 {
                        told.push(*limit_at);
                    }
                }
                if !limit.queue.is_empty() {
                    waited_for.push(*limit_at);
                }
            }
        }
        self.note(match end {
            End::Spent(pico, usage) => Entry::Settled { id: open.id, at: now, pico, usage },
            End::Unasked => Entry::Released { id: open.id },
        });
        told.into_iter().for_each(|limit| self.tell(limit, now, out));
        waited_for.into_iter().for_each(|limit| self.wake(limit, now, out));
    }

    /// Tells of what is newly reached. A cap that was raised above what is spent tells again when it is reached.
    fn tell(&mut self, at: u32, now: Timestamp, out: &mut Outcome) {
        let Some(spent) = self.limits.get(at).map(|limit| self.standing(limit).spent) else { return };
        let Some(limit) = self.limits.get_mut(at).filter(|limit| limit.set) else { return };
        let reached = reached(spent, limit.pico);
        let told = limit.told.at(limit.start);
        let (new, before) = (reached & !*told, *told);
        *told = reached;
        if before == reached {
            return;
        }
        let Some(purse) = self.table.purses.get(limit.purse) else { return };
        for (_, percent) in TOLD_AT.into_iter().enumerate().filter(|(bit, _)| new & (1 << bit) != 0) {
            out.warnings.push(Warning {
                cap: Arc::clone(&limit.id),
                purse: Arc::clone(&purse.name),
                period: limit.period,
                percent,
                spent,
                cap_pico: limit.pico,
                enforce: limit.enforce,
                at: now,
            });
        }
        let (place, period, start, pico) = (limit.purse, limit.period, limit.start, limit.pico);
        let entry = Entry::Told { place, period, start, pico, told: reached, cap: Arc::clone(&limit.id) };
        self.note(entry);
    }

    pub(super) fn over(&self, at: u32, why: Why) -> Option<Over> {
        let limit = self.limits.get(at)?;
        let Standing { spent, reserved, .. } = self.standing(limit);
        Some(Over {
            cap: Arc::clone(&limit.id),
            purse: Arc::clone(&self.table.purses.get(limit.purse)?.name),
            period: limit.period,
            cap_pico: limit.pico,
            spent,
            reserved,
            resets_at: ends_at(limit.period, limit.start),
            why,
        })
    }
}

fn note(pending: &mut Vec<Entry>, lost: &mut u64, entry: Entry) {
    if pending.len() < PENDING_MAX {
        pending.push(entry);
    } else {
        *lost += 1;
    }
}
