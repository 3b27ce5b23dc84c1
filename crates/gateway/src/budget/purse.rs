//! Whose money: what all, a user, a team … spent in the windows that are open, and in the ones before.

use std::collections::HashMap;
use std::sync::Arc;

use paramedic_model::limit::ID_BYTES_MAX;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::slots::{Few, Slab};
use super::window::{Period, Windows};
use crate::call::Caller;

/// Purses that one call is charged to: one of each kind, and a few that its caps name besides.
pub(super) const PURSES_PER_CALL_MAX: usize = 12;
/// Settings cannot allow more purses.
pub(super) const PURSES_LIMIT: usize = 100_000;
/// Caps of one purse; further ones do not hold.
pub(super) const CAPS_PER_PURSE_MAX: usize = 16;
/// Sessions and agents without a cap are forgotten after so many days without a call, when there is no room.
const PASSING_DAYS: i32 = 1;
/// Everybody else, and whoever has a cap: the window before this month's is over by then.
const STAYING_DAYS: i32 = 62;
const OTHER: &str = "other";

pub(super) type Places = Few<PURSES_PER_CALL_MAX>;

/// What each window of a purse holds, and on which day it began.
pub(super) type Sums = Vec<(Period, i32, u64)>;

/// What a purse is of. The names are those of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Whose {
    All,
    User,
    Team,
    Agent,
    Session,
    Key,
    Model,
    Plugin,
}

impl Whose {
    pub const EACH: [Self; 8] = [Self::All, Self::User, Self::Team, Self::Agent, Self::Session, Self::Key, Self::Model, Self::Plugin];

    /// As scopes are written: `user`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::User => "user",
            Self::Team => "team",
            Self::Agent => "agent",
            Self::Session => "session",
            Self::Key => "key",
            Self::Model => "model",
            Self::Plugin => "plugin",
        }
    }

    /// `user:ana` is a user's, and whose; `all` is of all.
    pub(super) fn split(purse: &str) -> Option<(Self, &str)> {
        if purse == Self::All.word() {
            return Some((Self::All, ""));
        }
        let (word, name) = purse.split_once(':')?;
        let kind = Self::EACH.into_iter().skip(1).find(|kind| kind.word() == word)?;
        (!name.is_empty()).then_some((kind, name))
    }
}

/// Everybody whose spending a call is; that it is everybody's goes without saying.
#[derive(Debug, Clone, Copy, Default)]
pub struct Purses<'a> {
    pub user: Option<&'a str>,
    pub team: Option<&'a str>,
    pub agent: Option<&'a str>,
    pub session: Option<&'a str>,
    pub key: Option<&'a str>,
    pub model: Option<&'a str>,
    pub plugin: Option<&'a str>,
}

impl<'a> Purses<'a> {
    /// The purses of a caller that asks for this model.
    #[must_use]
    pub fn of(caller: &'a Caller, model: Option<&'a str>) -> Self {
        Self {
            user: caller.user.as_deref(),
            team: caller.team.as_deref(),
            agent: caller.agent.as_deref(),
            session: caller.session.as_deref(),
            key: caller.key.as_deref(),
            model,
            plugin: caller.plugin.as_deref(),
        }
    }

    fn each(&self) -> [Option<&'a str>; 8] {
        [Some(""), self.user, self.team, self.agent, self.session, self.key, self.model, self.plugin]
    }
}

/// What belongs to one window, named by the day that it begins on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Span<T> {
    pub(super) start: i32,
    pub(super) held: T,
}

/// An open window and another one, most often that before it. A clock that steps back finds the other one as it was; one
/// that steps back further is held at the older of the two, so that no window that is gone begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Two<T>([Span<T>; 2]);

impl<T: Copy + Default> Default for Two<T> {
    fn default() -> Self {
        Self([Span { start: i32::MIN, held: T::default() }; 2])
    }
}

impl<T: Copy + Default> Two<T> {
    pub(super) fn get(&self, start: i32) -> T {
        let [one, other] = &self.0;
        let older = if one.start <= other.start { one } else { other };
        match self.0.iter().find(|span| span.start == start) {
            Some(span) => span.held,
            None if start < older.start => older.held,
            None => T::default(),
        }
    }

    pub(super) fn at(&mut self, start: i32) -> &mut T {
        let [one, other] = &mut self.0;
        let (older, newer) = if one.start <= other.start { (one, other) } else { (other, one) };
        if newer.start == start {
            return &mut newer.held;
        }
        if start > older.start {
            *older = Span { start, held: T::default() };
        }
        &mut older.held
    }

    pub(super) fn spans(&self) -> impl Iterator<Item = Span<T>> {
        self.0.into_iter().filter(|span| span.start != i32::MIN)
    }
}

#[derive(Debug)]
pub(super) struct Purse {
    /// `user:ana`
    pub(super) name: Arc<str>,
    pub(super) whose: Whose,
    pub(super) day: Two<u64>,
    pub(super) week: Two<u64>,
    pub(super) month: Two<u64>,
    pub(super) life: u64,
    /// Calls that run or wait on it.
    pub(super) held_by: u32,
    /// The last day on which a call asked.
    pub(super) touched: i32,
    /// Places of its caps.
    pub(super) caps: Vec<u32>,
}

impl Purse {
    pub(super) fn new(name: Arc<str>, whose: Whose, today: i32) -> Self {
        let (day, week, month) = <(Two<u64>, Two<u64>, Two<u64>)>::default();
        Self { name, whose, day, week, month, life: 0, held_by: 0, touched: today, caps: Vec::new() }
    }

    pub(super) fn spent(&self, period: Period, start: i32) -> u64 {
        match period {
            Period::Day => self.day.get(start),
            Period::Week => self.week.get(start),
            Period::Month => self.month.get(start),
            Period::Life => self.life,
        }
    }

    pub(super) fn spend(&mut self, windows: &Windows, pico: u64) {
        for sum in [self.day.at(windows.day), self.week.at(windows.week), self.month.at(windows.month), &mut self.life] {
            *sum = sum.saturating_add(pico);
        }
    }

    pub(super) fn sum_at(&mut self, period: Period, start: i32) -> &mut u64 {
        match period {
            Period::Day => self.day.at(start),
            Period::Week => self.week.at(start),
            Period::Month => self.month.at(start),
            Period::Life => &mut self.life,
        }
    }

    pub(super) fn sums(&self) -> Sums {
        let spans = [(Period::Day, &self.day), (Period::Week, &self.week), (Period::Month, &self.month)];
        let spans = spans.into_iter().flat_map(|(period, two)| two.spans().map(move |span| (period, span.start, span.held)));
        spans.chain([(Period::Life, 0, self.life)]).collect()
    }

    fn may_go(&self, today: i32) -> bool {
        let passing = matches!(self.whose, Whose::Session | Whose::Agent) && self.caps.is_empty();
        self.held_by == 0 && today.saturating_sub(self.touched) > if passing { PASSING_DAYS } else { STAYING_DAYS }
    }
}

/// All purses, by what they are of and their names. The first places are `all` and what there is no room for.
#[derive(Debug)]
pub(super) struct Table {
    by_name: [HashMap<Box<str>, u32>; 8],
    pub(super) purses: Slab<Purse>,
    /// Caps of purses that were forgotten.
    pub(super) orphans: Vec<u32>,
    max: usize,
    swept: i32,
}

/// A purse that was found, or made.
pub(super) enum Found {
    There(u32),
    Made(u32),
    /// No room: the one where all such are counted.
    Other(u32),
}

impl Table {
    pub(super) fn new(max: usize) -> Self {
        let mut table =
            Self { by_name: Default::default(), purses: Slab::default(), orphans: Vec::new(), max: max.min(PURSES_LIMIT), swept: i32::MIN };
        for whose in Whose::EACH {
            let name = if whose == Whose::All { whose.word().to_owned() } else { format!("{}:{OTHER}", whose.word()) };
            let place = table.purses.insert(Purse::new(name.into(), whose, 0));
            table.by_name[whose as usize].insert(if whose == Whose::All { "" } else { OTHER }.into(), place);
        }
        table
    }

    /// Counts what there is no room for. A cap on it would be a cap on strangers together, so it has none.
    pub(super) const fn is_other(place: u32) -> bool {
        place > 0 && (place as usize) < Whose::EACH.len()
    }

    pub(super) fn find(&mut self, whose: Whose, name: &str, today: i32) -> Found {
        let name = &name[..name.floor_char_boundary(ID_BYTES_MAX)];
        if let Some(place) = self.by_name[whose as usize].get(name) {
            return Found::There(*place);
        }
        if self.purses.len() >= self.max.saturating_add(Whose::EACH.len()) && !self.sweep(today) {
            return Found::Other(whose as u32);
        }
        let purse = Purse::new(format!("{}:{name}", whose.word()).into(), whose, today);
        let place = self.purses.insert(purse);
        self.by_name[whose as usize].insert(name.into(), place);
        Found::Made(place)
    }

    pub(super) fn peek(&self, purse: &str) -> Option<&Purse> {
        let (whose, name) = Whose::split(purse)?;
        self.purses.get(*self.by_name[whose as usize].get(name)?)
    }

    /// Takes a purse from the log to the place that the log says.
    pub(super) fn put(&mut self, place: u32, purse: Purse) {
        let Some((whose, name)) = Whose::split(&purse.name) else { return };
        if (place as usize) < Whose::EACH.len() {
            // These are where they always are.
            if let Some(there) = self.purses.get_mut(place) {
                *there = purse;
            }
            return;
        }
        let name: Box<str> = name.into();
        if let Some(before) = self.purses.remove(place) {
            self.forget_name(&before);
        }
        self.by_name[whose as usize].insert(name, place);
        self.purses.insert_at(place, purse);
    }

    fn forget_name(&mut self, purse: &Purse) {
        if let Some((whose, name)) = Whose::split(&purse.name) {
            self.by_name[whose as usize].remove(name);
        }
    }

    /// Once a day at most: makes room by forgetting who is long gone. Says whether there is room now.
    fn sweep(&mut self, today: i32) -> bool {
        if self.swept == today {
            return false;
        }
        self.swept = today;
        let named = Whose::EACH.len();
        let gone: Vec<u32> =
            self.purses.iter().filter(|(place, purse)| *place as usize >= named && purse.may_go(today)).map(|at| at.0).collect();
        for place in &gone {
            if let Some(purse) = self.purses.remove(*place) {
                self.forget_name(&purse);
                self.orphans.extend(purse.caps);
            }
        }
        !gone.is_empty()
    }

    /// The places of everybody whose money a call spends, and how many of them there was no room for. Tells of each
    /// purse that is made.
    pub(super) fn places(&mut self, purses: &Purses<'_>, today: i32, mut made: impl FnMut(u32, &Arc<str>)) -> (Places, u64) {
        let (mut places, mut others) = (Places::new(), 0);
        for (whose, name) in Whose::EACH.into_iter().zip(purses.each()) {
            let Some(name) = name.filter(|name| whose == Whose::All || !name.is_empty()) else { continue };
            let place = match self.find(whose, name, today) {
                Found::There(place) => place,
                Found::Made(place) => {
                    if let Some(purse) = self.purses.get(place) {
                        made(place, &purse.name);
                    }
                    place
                }
                Found::Other(place) => {
                    others += 1;
                    place
                }
            };
            places.push(place);
        }
        (places, others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_steps_back_finds_the_window_as_it_was() {
        let mut two = Two::<u64>::default();
        *two.at(10) += 5;
        *two.at(11) += 7;
        assert_eq!((two.get(10), two.get(11), two.get(12)), (5, 7, 0));
        // Two days back: the older window stands for it, nothing is reopened.
        assert_eq!(two.get(9), 5);
        *two.at(9) += 1;
        assert_eq!((two.get(9), two.get(10), two.get(11)), (6, 6, 7));
        // Far ahead and back again.
        *two.at(50_000) += 2;
        assert_eq!((two.get(11), two.get(50_000), two.get(10)), (7, 2, 7));
        *two.at(12) += 3;
        assert_eq!((two.get(12), two.get(50_000)), (3, 2));
    }

    #[test]
    fn purses_are_bounded_and_who_is_gone_makes_room() {
        let mut table = Table::new(3);
        let mut names = Vec::new();
        for user in ["a", "b", "c", "d", "e"] {
            let purses = Purses { user: Some(user), ..Purses::default() };
            let (places, others) = table.places(&purses, 100, |_, name| names.push(name.to_string()));
            assert_eq!(places.as_slice()[0], 0);
            assert_eq!(others, u64::from(user > "c"), "{user}");
            assert_eq!(Table::is_other(places.as_slice()[1]), user > "c", "{user}");
        }
        assert_eq!(names, ["user:a", "user:b", "user:c"]);
        assert!(matches!(table.find(Whose::User, "d", 101), Found::Other(_)));
        assert!(matches!(table.find(Whose::User, "d", 100 + STAYING_DAYS + 1), Found::Made(_)));
        assert!(table.peek("user:a").is_none() && table.peek("user:d").is_some());
    }

    #[test]
    fn long_names_are_cut_between_letters() {
        let mut table = Table::new(10);
        let name = "ä".repeat(ID_BYTES_MAX);
        let Found::Made(place) = table.find(Whose::User, &name, 0) else { panic!("not made") };
        assert_eq!(table.purses.get(place).unwrap().name.len(), ID_BYTES_MAX + "user:".len());
        assert!(matches!(table.find(Whose::User, &name, 0), Found::There(same) if same == place));
    }
}
