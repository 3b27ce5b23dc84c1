//! Model calls that were counted, so that a later telling adds only what is new. Bounded: the oldest are forgotten.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

use paramedic_model::Usage;
use serde::{Deserialize, Serialize};

/// What was counted of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Call {
    #[serde(rename = "u")]
    usage: Usage,
    #[serde(rename = "c")]
    cost: f64,
    #[serde(rename = "h")]
    cache_told: bool,
    #[serde(rename = "r")]
    refused: bool,
    /// The gateway told it: what it costs is settled.
    #[serde(rename = "g", default, skip_serializing_if = "std::ops::Not::not")]
    passed: bool,
    /// Somebody else told it.
    #[serde(rename = "o", default = "told")]
    told: bool,
}

/// Calls of a state from before the gateway.
const fn told() -> bool {
    true
}

/// What a telling adds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Growth {
    /// The call was not told before.
    pub(crate) first: bool,
    pub(crate) usage: Usage,
    pub(crate) cost: f64,
    /// Whether the prompt cache was hit, when this telling is the first to say so.
    pub(crate) cache_hit: Option<bool>,
    pub(crate) refused: bool,
    /// Nobody but the gateway told it before, and now somebody else does.
    pub(crate) first_told: bool,
}

/// What a telling says of its call.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Told {
    pub(crate) usage: Usage,
    pub(crate) cost: Option<f64>,
    pub(crate) refused: bool,
    /// The gateway tells it.
    pub(crate) passed: bool,
}

/// The latest calls by their ids.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Calls {
    /// Ids to numbers; a call may have two (message and request).
    ids: HashMap<u64, u64>,
    open: VecDeque<([u64; 2], Call)>,
    /// The number of the first of `open`.
    base: u64,
    #[serde(skip)]
    max: usize,
    /// Keys must survive a restart, so the seeds are kept.
    seeds: Seeds,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Seeds(u64);

impl Default for Seeds {
    /// Random, so that nobody outside can choose ids that collide.
    fn default() -> Self {
        Self(RandomState::new().hash_one(0u64))
    }
}

/// Something that a call is known by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity<'a> {
    pub(crate) session: &'a str,
    pub(crate) message: Option<&'a str>,
    pub(crate) request: Option<&'a str>,
}

impl Calls {
    pub(crate) const fn set_bound(&mut self, calls_max: usize) {
        self.max = calls_max;
    }

    /// Ids that name no call are dropped: a file may have been tampered with.
    pub(crate) fn repair(&mut self) {
        let numbers = self.base..self.base.saturating_add(self.open.len() as u64);
        self.ids.retain(|_, number| numbers.contains(number));
    }

    /// Notes a telling of a call and says what it adds. Ids of the API are unique in the world; others only in a session.
    pub(crate) fn tell(&mut self, identity: &Identity<'_>, told: Told) -> Growth {
        let keys = [self.key(1, "msg_", identity.session, identity.message), self.key(2, "req_", identity.session, identity.request)];
        let known = keys.iter().filter(|key| **key != 0).find_map(|key| self.ids.get(key).copied());
        let number = known.unwrap_or_else(|| self.push(keys));
        let place = (number - self.base) as usize;
        let Some((held, call)) = self.open.get_mut(place) else { return Growth::default() };
        for (slot, key) in held.iter_mut().zip(keys) {
            if *slot == 0 && key != 0 && !self.ids.contains_key(&key) {
                *slot = key;
                self.ids.insert(key, number);
            }
        }
        call.grow(known.is_none(), told)
    }

    /// Whether a call with one of these ids is remembered.
    pub(crate) fn knows(&self, identity: &Identity<'_>) -> bool {
        let keys = [self.key(1, "msg_", identity.session, identity.message), self.key(2, "req_", identity.session, identity.request)];
        keys.iter().any(|key| *key != 0 && self.ids.contains_key(key))
    }

    fn push(&mut self, keys: [u64; 2]) -> u64 {
        while self.open.len() >= self.max.max(1) {
            if let Some((keys, _)) = self.open.pop_front() {
                for key in keys {
                    self.ids.remove(&key);
                }
            }
            self.base += 1;
        }
        let number = self.base + self.open.len() as u64;
        self.open.push_back((keys, Call::default()));
        for key in keys.into_iter().filter(|key| *key != 0) {
            self.ids.insert(key, number);
        }
        number
    }

    /// FNV-1a with a secret beginning; 0 means no id.
    fn key(&self, domain: u8, global: &str, session: &str, id: Option<&str>) -> u64 {
        let Some(id) = id else { return 0 };
        let scope = if id.starts_with(global) { "" } else { session };
        let bytes = scope.bytes().chain([0xff, domain]).chain(id.bytes());
        bytes.fold(self.seeds.0, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(5)).max(1)
    }
}

impl Call {
    fn grow(&mut self, first: bool, told: Told) -> Growth {
        let Told { usage, refused, passed, .. } = told;
        // Whoever asked for another model than the one that answered takes it for that one's price.
        let cost = told.cost.filter(|_| passed || !self.passed);
        let all = self.usage.largest(usage);
        let cost = cost.map_or(0.0, |cost| (cost - self.cost).max(0.0));
        let says_cache = !self.cache_told && all.context_tokens() > 0;
        let growth = Growth {
            first,
            usage: all.minus(self.usage),
            cost,
            cache_hit: says_cache.then_some(all.cache_read_tokens > 0),
            refused: refused && !self.refused,
            first_told: !passed && !self.told,
        };
        self.passed |= passed;
        self.told |= !passed;
        self.usage = all;
        self.cost += cost;
        self.cache_told |= says_cache;
        self.refused |= refused;
        growth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(max: usize) -> Calls {
        let mut calls = Calls::default();
        calls.set_bound(max);
        calls
    }

    fn tell(calls: &mut Calls, message: Option<&str>, request: Option<&str>, output_tokens: u64, cost: f64) -> Growth {
        let usage = Usage { output_tokens, ..Usage::default() };
        calls.tell(&Identity { session: "s", message, request }, Told { usage, cost: Some(cost), ..Told::default() })
    }

    #[test]
    fn only_the_growth_is_counted_whatever_id_is_told() {
        let mut calls = calls(10);
        assert!(tell(&mut calls, Some("msg_1"), Some("req_1"), 5, 0.5).first);
        let more = tell(&mut calls, None, Some("req_1"), 8, 0.75);
        assert_eq!((more.first, more.usage.output_tokens, more.cost), (false, 3, 0.25));
        let less = tell(&mut calls, Some("msg_1"), None, 2, 0.1);
        assert_eq!((less.usage.output_tokens, less.cost), (0, 0.0));
        assert!(tell(&mut calls, Some("msg_2"), Some("req_2"), 5, 0.5).first);
    }

    #[test]
    fn an_id_learnt_later_belongs_to_the_call() {
        let mut calls = calls(10);
        assert!(tell(&mut calls, None, Some("req_1"), 5, 0.5).first);
        assert!(!tell(&mut calls, Some("msg_1"), Some("req_1"), 5, 0.5).first);
        assert!(!tell(&mut calls, Some("msg_1"), None, 5, 0.5).first);
    }

    #[test]
    fn what_the_gateway_said_of_the_cost_stands() {
        let mut calls = calls(10);
        let identity = Identity { session: "s", message: Some("msg_1"), request: None };
        let told = |cost, passed| Told { cost: Some(cost), passed, ..Told::default() };
        let first = calls.tell(&identity, told(0.2, true));
        assert_eq!((first.first, first.first_told, first.cost), (true, false, 0.2));
        let other = calls.tell(&identity, told(1.0, false));
        assert_eq!((other.first, other.first_told, other.cost), (false, true, 0.0));
        assert!(!calls.tell(&identity, told(1.0, false)).first_told);
    }

    #[test]
    fn memory_is_bounded_and_calls_without_ids_are_each_new() {
        let mut calls = calls(4);
        for number in 0..100 {
            assert!(tell(&mut calls, Some(&format!("msg_{number}")), Some("same").filter(|_| number == 0), 5, 0.5).first);
            assert!(tell(&mut calls, None, None, 5, 0.5).first);
        }
        assert!(calls.open.len() <= 4 && calls.ids.len() <= 8);
        assert!(!tell(&mut calls, Some("msg_99"), None, 5, 0.5).first);
    }
}
