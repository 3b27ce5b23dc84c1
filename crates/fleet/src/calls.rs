//! Model calls whose numbers may still grow, found by message id and by request id.
//!
//! One call is told by up to five sources: the gateway and the transcript know both ids, stream-json the message id, OTLP
//! the request id. An event with both ids joins what was told under each. Calls are kept open in the order they were first
//! told; the oldest is closed when there is no room, and from then on its ids are only remembered.

use std::collections::VecDeque;

use paramedic_model::Usage;
use serde::{Deserialize, Serialize};

use crate::key::{KeyMap, domain, mix};
use crate::seen::Seen;

/// How much a source knows about calls; the better one is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub(crate) enum Grade {
    /// Counters without calls.
    #[default]
    Metric,
    Span,
    /// OTLP log records: one for each call, but also told by better sources.
    Otlp,
    /// The conversation itself, or a service's own log.
    Record,
}

/// What the gateway told of a call. It saw the bytes: which model it names is the one that answered, and what it costs is
/// what the ledger says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Passed {
    /// Nothing: the call did not pass through one, or has not been told yet.
    #[default]
    No,
    Yes,
    /// To another model than was asked for. Whoever asked takes it for the other one's price.
    Rerouted,
}

/// One open call: the union of what was told about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Call {
    /// 0 where unknown, like `request`.
    pub(crate) message: u64,
    pub(crate) request: u64,
    pub(crate) agent: u64,
    pub(crate) session: u64,
    /// The largest of each kind that was told: input, output, cache read, cache creation, of which one hour.
    pub(crate) tokens: [u32; 5],
    pub(crate) day: i32,
    pub(crate) model: u16,
    pub(crate) grade: Grade,
    /// The agent is a sub-agent: more exact than the session that other sources name.
    pub(crate) exact: bool,
    /// Picodollars as a source reported them.
    pub(crate) reported: Option<u64>,
    pub(crate) passed: Passed,
}

impl Call {
    pub(crate) fn usage(&self) -> Usage {
        let [input_tokens, output_tokens, cache_read_tokens, cache_creation_tokens, cache_creation_1h_tokens] = self.tokens.map(u64::from);
        Usage { input_tokens, output_tokens, cache_read_tokens, cache_creation_tokens, cache_creation_1h_tokens }
    }

    /// The same call as told by two. `priced` says whether a model has a price: that name is the more useful one.
    pub(crate) fn join(&self, other: &Self, priced: impl Fn(u16) -> bool) -> Self {
        let named = |call: &Self| call.model != crate::tally::MODEL_NONE;
        let rank = |call: &Self| {
            let seen = call.passed != Passed::No && named(call);
            (seen, priced(call.model), named(call), call.grade, std::cmp::Reverse(call.model))
        };
        let model = if rank(other) > rank(self) { other.model } else { self.model };
        // A sub-agent beats its session, else who told first stays: a resumed session's copy moves nothing.
        let place = if other.exact && !self.exact && other.session == self.session { other } else { self };
        let mut tokens = self.tokens;
        for (mine, theirs) in tokens.iter_mut().zip(other.tokens) {
            *mine = (*mine).max(theirs);
        }
        Self {
            message: if self.message == 0 { other.message } else { self.message },
            request: if self.request == 0 { other.request } else { self.request },
            agent: place.agent,
            session: place.session,
            tokens,
            day: self.day.min(other.day),
            model,
            grade: self.grade.max(other.grade),
            exact: place.exact,
            reported: self.reported_with(other),
            passed: self.passed.max(other.passed),
        }
    }

    /// What the gateway reports overrules all others. Where it knows no price, others may, unless they asked for another model.
    fn reported_with(&self, other: &Self) -> Option<u64> {
        let [worse, better] = if self.passed > other.passed { [other, self] } else { [self, other] };
        if worse.passed == better.passed {
            return worse.reported.max(better.reported);
        }
        better.reported.or(if better.passed == Passed::Rerouted { None } else { worse.reported })
    }

    /// Told neither by the gateway nor by a record of the conversation itself: it may have to be taken back.
    pub(crate) fn is_provisional(&self) -> bool {
        self.passed == Passed::No && self.grade < Grade::Record
    }
}

/// Where a told call belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    New,
    /// Told long ago: nothing more is known of it but that it was counted.
    Closed,
    Open(u64),
    /// Two calls that turn out to be one.
    Two(u64, u64),
}

/// The open calls, numbered in the order they were first told.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpenCalls {
    list: VecDeque<Call>,
    /// The number of the first one in `list`.
    first: u64,
    by_id: KeyMap<u64>,
}

impl OpenCalls {
    /// Finds the call with these ids. The same message under two request ids is two calls.
    pub(crate) fn find(&self, message: u64, request: u64, seen: &Seen) -> Found {
        let agrees = |mine: u64, told: u64| mine == 0 || told == 0 || mine == told;
        let by_message = self.lookup(message).filter(|number| agrees(self.get(*number).request, request));
        let by_request = self.lookup(request).filter(|number| agrees(self.get(*number).message, message));
        match (by_message, by_request) {
            (Some(one), Some(other)) if one != other => Found::Two(one.min(other), one.max(other)),
            (Some(number), _) | (_, Some(number)) => Found::Open(number),
            (None, None) if closed(message, request, seen) => Found::Closed,
            (None, None) => Found::New,
        }
    }

    fn lookup(&self, id: u64) -> Option<u64> {
        if id == 0 { None } else { self.by_id.get(&id).copied() }
    }

    pub(crate) fn get(&self, number: u64) -> &Call {
        static NOTHING: Call = Call {
            message: 0,
            request: 0,
            agent: 0,
            session: 0,
            tokens: [0; 5],
            day: 0,
            model: 0,
            grade: Grade::Metric,
            exact: false,
            reported: None,
            passed: Passed::No,
        };
        self.list.get(self.place(number)).unwrap_or(&NOTHING)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the list is short")]
    fn place(&self, number: u64) -> usize {
        number.wrapping_sub(self.first) as usize
    }

    /// Opens a call; closes the oldest when there would be more than `open_max`.
    pub(crate) fn push(&mut self, call: Call, open_max: usize, seen: &mut Seen) {
        while self.list.len() >= open_max.max(1) {
            self.close_oldest(seen);
        }
        let number = self.first + self.list.len() as u64;
        self.list.push_back(call);
        self.index(number);
    }

    /// Closes the calls of agents that are no longer kept: their numbers stay as they are.
    pub(crate) fn close_agents(&mut self, sorted: &[u64], seen: &mut Seen) {
        for number in self.first..self.first + self.list.len() as u64 {
            if sorted.binary_search(&self.get(number).agent).is_ok() {
                let call = *self.get(number);
                self.forget(number, &call, seen);
                self.erase(number);
            }
        }
    }

    pub(crate) fn set(&mut self, number: u64, call: Call) {
        let place = self.place(number);
        if let Some(open) = self.list.get_mut(place) {
            *open = call;
            self.index(number);
        }
    }

    /// The second of two calls that are one: nothing is left of it.
    pub(crate) fn erase(&mut self, number: u64) {
        let call = *self.get(number);
        for id in [call.message, call.request] {
            if self.by_id.get(&id) == Some(&number) {
                self.by_id.remove(&id);
            }
        }
        self.set(number, Call::default());
    }

    /// Where two calls share an id, the newer one is found by it.
    fn index(&mut self, number: u64) {
        let call = self.get(number);
        for id in [call.message, call.request] {
            if id != 0 {
                let known = self.by_id.entry(id).or_insert(number);
                *known = number.max(*known);
            }
        }
    }

    fn close_oldest(&mut self, seen: &mut Seen) {
        let number = self.first;
        if let Some(call) = self.list.pop_front() {
            self.first += 1;
            self.forget(number, &call, seen);
        }
    }

    /// From now on the call's ids are only remembered.
    fn forget(&mut self, number: u64, call: &Call, seen: &mut Seen) {
        for id in [call.message, call.request] {
            if id != 0 {
                seen.insert(id);
                if self.by_id.get(&id) == Some(&number) {
                    self.by_id.remove(&id);
                }
            }
        }
        match (call.message, call.request) {
            (0, 0) => {}
            (0, id) | (id, 0) => _ = seen.insert(alone(id)),
            (message, request) => _ = seen.insert(pair(message, request)),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Call> {
        self.list.iter()
    }

    pub(crate) fn restore(calls: Vec<Call>) -> Self {
        let mut open = Self { list: calls.into(), ..Self::default() };
        for number in 0..open.list.len() as u64 {
            open.index(number);
        }
        open
    }
}

fn closed(message: u64, request: u64, seen: &Seen) -> bool {
    match (message, request) {
        (0, id) | (id, 0) => seen.contains(id),
        (message, request) => seen.contains(pair(message, request)) || seen.contains(alone(message)) || seen.contains(alone(request)),
    }
}

fn pair(message: u64, request: u64) -> u64 {
    mix(domain::CLOSED_PAIR, &[message, request])
}

fn alone(id: u64) -> u64 {
    mix(domain::CLOSED_ALONE, &[id])
}
