//! What was spent, by whom, when and on what: folded from what happened, by the keeper and at opening alike.

use std::collections::HashMap;
use std::sync::Arc;

use paramedic_model::{Timestamp, Usage};

use super::cap::TOLD_AT;
use super::entry::{Entry, HEAD};
use super::ledger::Shared;
use super::purse::{PURSES_LIMIT, Places, Purse, Sums, Table, Two, Whose};
use super::state::State;
use super::view::{Hour, Spender, share};
use super::window::{Period, Windows, day_of};
use super::{Cap, dollars};

/// Hours that are kept.
const HOURS: i64 = 48;
const HOUR_S: i64 = 3600;
/// Purses that are kept by the hour; when there are more, every hour the half that spends most stays.
const BY_HOUR_MAX: usize = 512;
/// Spenders that are shown.
const TOP_MAX: usize = 1000;
/// What a log that hangs may leave to be written; beyond it the log is written anew.
const OUTBOX_BYTES_MAX: usize = 8 << 20;

/// What some calls came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sum {
    pub(super) pico: u64,
    pub(super) calls: u64,
    pub(super) usage: Usage,
}

impl Sum {
    fn add(&mut self, other: &Self) {
        self.pico = self.pico.saturating_add(other.pico);
        self.calls = self.calls.saturating_add(other.calls);
        self.usage = self.usage.plus(other.usage);
    }

    const fn is_empty(&self) -> bool {
        self.pico == 0 && self.calls == 0
    }
}

#[derive(Debug, Clone)]
struct Hours {
    latest: i64,
    sums: [Sum; HOURS as usize],
}

impl Hours {
    fn new(hour: i64) -> Box<Self> {
        Box::new(Self { latest: hour, sums: [Sum::default(); HOURS as usize] })
    }

    fn at(&mut self, hour: i64) -> &mut Sum {
        if hour <= self.latest.saturating_sub(HOURS) || hour >= self.latest.saturating_add(HOURS) {
            self.sums = [Sum::default(); HOURS as usize];
            self.latest = hour;
        }
        for between in self.latest + 1..=hour {
            self.sums[place_of(between)] = Sum::default();
        }
        self.latest = self.latest.max(hour);
        &mut self.sums[place_of(hour)]
    }

    fn get(&self, hour: i64) -> Sum {
        let kept = hour <= self.latest && hour > self.latest.saturating_sub(HOURS);
        if kept { self.sums[place_of(hour)] } else { Sum::default() }
    }

    fn total(&self) -> u64 {
        self.sums.iter().fold(0, |total, sum| total.saturating_add(sum.pico))
    }
}

fn place_of(hour: i64) -> usize {
    usize::try_from(hour.rem_euclid(HOURS)).unwrap_or_default()
}

fn hour_of(at: Timestamp) -> i64 {
    at.as_secs().div_euclid(HOUR_S)
}

#[derive(Debug)]
struct Account {
    name: Arc<str>,
    whose: Whose,
    day: Two<Sum>,
    week: Two<Sum>,
    month: Two<Sum>,
    life: Sum,
    hours: Option<Box<Hours>>,
}

impl Account {
    fn new(name: Arc<str>) -> Option<Self> {
        let (whose, _) = Whose::split(&name)?;
        let (day, week, month) = <(Two<Sum>, Two<Sum>, Two<Sum>)>::default();
        Some(Self { name, whose, day, week, month, life: Sum::default(), hours: None })
    }

    fn at(&mut self, period: Period, start: i32) -> &mut Sum {
        match period {
            Period::Day => self.day.at(start),
            Period::Week => self.week.at(start),
            Period::Month => self.month.at(start),
            Period::Life => &mut self.life,
        }
    }

    fn get(&self, period: Period, start: i32) -> Sum {
        match period {
            Period::Day => self.day.get(start),
            Period::Week => self.week.get(start),
            Period::Month => self.month.get(start),
            Period::Life => self.life,
        }
    }

    /// The windows with something in them.
    fn sums(&self) -> impl Iterator<Item = (Period, i32, Sum)> {
        let spans = [(Period::Day, &self.day), (Period::Week, &self.week), (Period::Month, &self.month)];
        let spans = spans.into_iter().flat_map(|(period, two)| two.spans().map(move |span| (period, span.start, span.held)));
        spans.chain([(Period::Life, 0, self.life)]).filter(|(_, _, sum)| !sum.is_empty())
    }

    /// This month or the one before saw it.
    fn is_kept(&self, now: Timestamp) -> bool {
        let month = Windows::at(now).month;
        let before = Windows::at(now.before(std::time::Duration::from_secs(86_400 * u64::from(day_of(now).abs_diff(month) + 1)))).month;
        self.month.spans().any(|span| span.start >= before)
    }
}

#[derive(Debug, Clone, Copy)]
struct Running {
    at: Timestamp,
    pico: u64,
    places: Places,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    start: i32,
    pico: u64,
    told: u8,
}

/// All accounts, and what of them is to be written.
#[derive(Debug)]
pub(super) struct Book {
    accounts: Vec<Option<Account>>,
    running: HashMap<u64, Running>,
    told: HashMap<(u32, Period, Arc<str>), Told>,
    next_id: u64,
    by_hour: usize,
    hour: i64,
    /// Lines are kept for a log.
    pub(super) logs: bool,
    pub(super) outbox: String,
    pub(super) lines: u64,
    /// Lines are missing: the log must be written anew.
    pub(super) rewrite: bool,
    spare: Vec<Entry>,
}

impl Default for Book {
    fn default() -> Self {
        let names = Table::new(0);
        let accounts = names.purses.iter().map(|(_, purse)| Account::new(Arc::clone(&purse.name))).collect();
        Self {
            accounts,
            running: HashMap::new(),
            told: HashMap::new(),
            next_id: 1,
            by_hour: 0,
            hour: i64::MIN,
            logs: false,
            outbox: String::new(),
            lines: 0,
            rewrite: false,
            spare: Vec::new(),
        }
    }
}

impl Book {
    fn account(&mut self, place: u32) -> Option<&mut Account> {
        self.accounts.get_mut(place as usize)?.as_mut()
    }

    /// Takes over one thing that happened. False when it makes no sense after what happened before.
    pub(super) fn apply(&mut self, entry: &Entry) -> bool {
        match entry {
            Entry::Purse { place, name } => return self.name(*place, name),
            Entry::Reserved { id, at, pico, places } => {
                self.next_id = self.next_id.max(id.saturating_add(1));
                self.running.insert(*id, Running { at: *at, pico: *pico, places: *places });
            }
            Entry::Grew { id, pico } => {
                let Some(running) = self.running.get_mut(id) else { return false };
                running.pico = running.pico.max(*pico);
            }
            Entry::Settled { id, at, pico, usage } => {
                let Some(running) = self.running.remove(id) else { return false };
                self.spend(&running, *at, &Sum { pico: *pico, calls: 1, usage: *usage });
            }
            Entry::Released { id } => return self.running.remove(id).is_some(),
            Entry::Told { place, period, start, pico, told, cap } => {
                let Some(_) = self.account(*place) else { return false };
                self.told.insert((*place, *period, Arc::clone(cap)), Told { start: *start, pico: *pico, told: *told });
            }
            Entry::Sum { place, period, start, sum } => {
                let Some(account) = self.account(*place) else { return false };
                *account.at(*period, *start) = *sum;
            }
            Entry::Hour { place, hour, sum } => {
                let Some(hours) = self.hours_of(*place, *hour) else { return false };
                *hours.at(*hour) = *sum;
            }
        }
        true
    }

    fn name(&mut self, place: u32, name: &Arc<str>) -> bool {
        let at = place as usize;
        if at < Whose::EACH.len() {
            return self.account(place).is_some_and(|account| account.name == *name);
        }
        let Some(account) = Account::new(Arc::clone(name)).filter(|_| at < PURSES_LIMIT * 2) else { return false };
        if self.accounts.len() <= at {
            self.accounts.resize_with(at + 1, || None);
        }
        // The place was another's: what is known of that one goes.
        if let Some(before) = self.accounts[at].replace(account) {
            self.by_hour -= usize::from(before.hours.is_some());
            self.told.retain(|(told, ..), _| *told != place);
        }
        true
    }

    fn hours_of(&mut self, place: u32, hour: i64) -> Option<&mut Hours> {
        let room = self.by_hour < BY_HOUR_MAX || place == 0;
        let account = self.accounts.get_mut(place as usize)?.as_mut()?;
        if account.hours.is_none() && room {
            account.hours = Some(Hours::new(hour));
            self.by_hour += 1;
        }
        account.hours.as_deref_mut()
    }

    fn spend(&mut self, running: &Running, at: Timestamp, sum: &Sum) {
        let (windows, hour) = (Windows::at(running.at), hour_of(at));
        for place in running.places.as_slice() {
            let Some(account) = self.account(*place) else { continue };
            for period in [Period::Day, Period::Week, Period::Month, Period::Life] {
                account.at(period, windows.start(period)).add(sum);
            }
            if let Some(hours) = self.hours_of(*place, hour) {
                hours.at(hour).add(sum);
            }
        }
    }

    /// Calls of a life before: nobody will say any more what they cost, so it is what they had reserved.
    pub(super) fn close_open(&mut self) {
        for (_, running) in std::mem::take(&mut self.running) {
            self.spend(&running, running.at, &Sum { pico: running.pico, calls: 1, usage: Usage::default() });
        }
    }

    /// Forgets who spent nothing in this month and the one before. Only at opening, when nobody holds a place.
    pub(super) fn forget_old(&mut self, now: Timestamp) {
        for place in Whose::EACH.len()..self.accounts.len() {
            let gone = self.accounts[place].take_if(|account| !account.is_kept(now));
            self.by_hour -= usize::from(gone.is_some_and(|account| account.hours.is_some()));
        }
        let accounts = &self.accounts;
        self.told.retain(|(place, ..), _| accounts.get(*place as usize).is_some_and(Option::is_some));
    }

    /// Hands what is known to the calls.
    pub(super) fn fill(&self, state: &mut State) {
        state.next_id = self.next_id;
        for (place, account) in (0u32..).zip(&self.accounts) {
            let Some(account) = account else { continue };
            let last_day = account.day.spans().map(|span| span.start).max().unwrap_or(0);
            let mut purse = Purse::new(Arc::clone(&account.name), account.whose, last_day);
            for (period, start, sum) in account.sums() {
                *purse.sum_at(period, start) = sum.pico;
            }
            state.table.put(place, purse);
        }
        for ((place, period, id), told) in &self.told {
            let Some(purse) = state.table.purses.get(*place).map(|purse| Arc::clone(&purse.name)) else { continue };
            let cap = Cap { id: Arc::clone(id), purse, period: *period, pico: told.pico, enforce: true };
            let Some(limit) = state.add_limit(&cap, *place).and_then(|at| state.limits.get_mut(at)) else { continue };
            limit.set = false;
            *limit.told.at(told.start) = told.told & ((1 << TOLD_AT.len()) - 1);
        }
    }

    /// Takes in what calls did since the last time, and what of it is to be written.
    pub(super) fn take_in(&mut self, shared: &Shared) {
        let mut entries = std::mem::take(&mut self.spare);
        let missing = {
            let mut state = shared.state();
            std::mem::swap(&mut entries, &mut state.pending);
            shared.metrics.reserved.set(dollars(state.reserved));
            shared.metrics.purses.set(i64::try_from(state.table.purses.len()).unwrap_or(i64::MAX));
            shared.metrics.waiting.set(i64::try_from(state.waiting.len()).unwrap_or(i64::MAX));
            let lost = std::mem::take(&mut state.lost);
            (lost > 0).then(|| (lost, Money::of(&state)))
        };
        for entry in &entries {
            if let Entry::Settled { pico, .. } = entry {
                shared.metrics.spent.inc_by(dollars(*pico));
            }
            self.apply(entry);
            if self.logs {
                entry.write(&mut self.outbox);
                self.lines += 1;
            }
        }
        entries.clear();
        self.spare = entries;
        let full = self.outbox.len() > OUTBOX_BYTES_MAX;
        if let Some((lost, money)) = missing {
            shared.metrics.lost.inc_by(lost);
            self.correct(money);
        }
        if full {
            shared.metrics.lost.inc_by(std::mem::take(&mut self.lines));
            self.outbox = String::new();
            self.rewrite = true;
        }
        self.trim_hours(hour_of(shared.clock.now()));
    }

    /// The calls know what money they spent even when the keeper could not follow.
    fn correct(&mut self, money: Money) {
        self.rewrite = true;
        for (place, name, sums) in money.purses {
            if self.account(place).is_none_or(|account| account.name != name) {
                self.name(place, &name);
            }
            let Some(account) = self.account(place) else { continue };
            for (period, start, pico) in sums {
                account.at(period, start).pico = pico;
            }
        }
        self.running = money.running.into_iter().collect();
    }

    fn trim_hours(&mut self, hour: i64) {
        if hour == std::mem::replace(&mut self.hour, hour) || self.by_hour < BY_HOUR_MAX {
            return;
        }
        let by_hour = |account: &Option<Account>| account.as_ref().and_then(|account| account.hours.as_ref()).map(|hours| hours.total());
        let mut totals: Vec<u64> = self.accounts.iter().skip(1).filter_map(by_hour).collect();
        totals.sort_unstable_by(|a, b| b.cmp(a));
        let least = totals.get(BY_HOUR_MAX / 2).copied().unwrap_or(0);
        for account in self.accounts.iter_mut().skip(1).flatten() {
            if account.hours.take_if(|hours| hours.total() <= least).is_some() {
                self.by_hour -= 1;
            }
        }
    }

    pub(super) fn top(&self, by: Whose, period: Period, n: usize, now: Timestamp) -> Vec<Spender> {
        let start = Windows::at(now).start(period);
        let all = self.accounts.first().and_then(Option::as_ref).map_or(0, |all| all.get(period, start).pico);
        let of_kind = self.accounts.iter().flatten().filter(|account| account.whose == by);
        let mut sums: Vec<(&Account, Sum)> = of_kind.map(|account| (account, account.get(period, start))).collect();
        sums.retain(|(_, sum)| !sum.is_empty());
        sums.sort_unstable_by(|(a, one), (b, other)| (other.pico, other.calls, &a.name).cmp(&(one.pico, one.calls, &b.name)));
        let shown = sums.into_iter().take(n.min(TOP_MAX)).map(|(account, sum)| Spender {
            name: (*account.name).into(),
            dollars: dollars(sum.pico),
            calls: sum.calls,
            input_tokens: sum.usage.input_tokens,
            output_tokens: sum.usage.output_tokens,
            cache_read_tokens: sum.usage.cache_read_tokens,
            cache_creation_tokens: sum.usage.cache_creation_tokens,
            tokens_per_call: share(sum.usage.total(), sum.calls),
            share: share(sum.pico, all),
        });
        shown.collect()
    }

    pub(super) fn hours(&self, purse: &str, now: Timestamp) -> Option<Vec<Hour>> {
        let account = self.accounts.iter().flatten().find(|account| *account.name == *purse)?;
        let hours = account.hours.as_ref()?;
        let last = hour_of(now);
        let shown = (last - HOURS + 1..=last).map(|hour| {
            let sum = hours.get(hour);
            Hour {
                at: Timestamp::from_secs(hour * HOUR_S),
                dollars: dollars(sum.pico),
                calls: sum.calls,
                input_tokens: sum.usage.input_tokens,
                output_tokens: sum.usage.output_tokens,
                cache_read_tokens: sum.usage.cache_read_tokens,
                cache_creation_tokens: sum.usage.cache_creation_tokens,
            }
        });
        Some(shown.collect())
    }

    /// The log as it would be, had it been kept short: what it is written anew with. Gives the number of lines too.
    pub(super) fn whole(&self) -> (String, u64) {
        let mut out = format!("{HEAD}\n");
        let mut lines = 1;
        let mut write = |entry: Entry| {
            entry.write(&mut out);
            lines += 1;
        };
        for (place, account) in (0u32..).zip(&self.accounts) {
            let Some(account) = account else { continue };
            write(Entry::Purse { place, name: Arc::clone(&account.name) });
            for (period, start, sum) in account.sums() {
                write(Entry::Sum { place, period, start, sum });
            }
            for hours in account.hours.iter() {
                for hour in hours.latest - HOURS + 1..=hours.latest {
                    let sum = hours.get(hour);
                    if !sum.is_empty() {
                        write(Entry::Hour { place, hour, sum });
                    }
                }
            }
        }
        for ((place, period, cap), told) in &self.told {
            let Told { start, pico, told } = *told;
            write(Entry::Told { place: *place, period: *period, start, pico, told, cap: Arc::clone(cap) });
        }
        for (id, running) in &self.running {
            write(Entry::Reserved { id: *id, at: running.at, pico: running.pico, places: running.places });
        }
        (out, lines)
    }
}

/// The money that the calls know of.
struct Money {
    purses: Vec<(u32, Arc<str>, Sums)>,
    running: Vec<(u64, Running)>,
}

impl Money {
    fn of(state: &State) -> Self {
        let purses = state.table.purses.iter().map(|(place, purse)| (place, Arc::clone(&purse.name), purse.sums())).collect();
        let running = state.open.iter().map(|(_, open)| (open.id, Running { at: open.at, pico: open.reserved, places: open.places }));
        Self { purses, running: running.collect() }
    }
}
