//! Changes of single bytes: a list of splices, put into a body in one copy.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::place::Place;
use super::{Facts, Number};

/// The API takes no larger bodies. An edit that would lead over it is not made.
pub const BODY_BYTES_MAX: u64 = 32_000_000;
/// The API takes no smaller budgets for thinking.
const THINKING_TOKENS_MIN: u64 = 1024;

/// What stands in places of a body is replaced. A place without bytes is one where something is put in.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Edits {
    /// By place, none over another.
    list: Vec<(Place, Vec<u8>)>,
}

/// What is put in may be out of a prompt: only its length is shown.
impl fmt::Debug for Edits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.list.iter().map(|(place, by)| (place.range(), by.len()))).finish()
    }
}

impl Edits {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Two changes at the same place without bytes are put in one after the other. False, and nothing is changed, when the
    /// place is over one that is replaced already.
    pub(super) fn replace(&mut self, place: Place, by: impl Into<Vec<u8>>) -> bool {
        let at = self.list.partition_point(|(other, _)| (other.start(), other.end()) <= (place.start(), place.end()));
        let before_ends = at.checked_sub(1).and_then(|at| self.list.get(at)).map_or(0, |(other, _)| other.end());
        let next_starts = self.list.get(at).map_or(usize::MAX, |(other, _)| other.start());
        if place.start() > place.end() || before_ends > place.start() || next_starts < place.end() {
            return false;
        }
        self.list.insert(at, (place, by.into()));
        true
    }

    pub(super) fn insert(&mut self, at: usize, what: impl Into<Vec<u8>>) -> bool {
        self.replace(Place::new(at, at), what)
    }

    /// Takes in all changes of `others`. False, and nothing is changed, when one would be over another: then one of the two
    /// is applied first, and the other made anew for what comes out.
    #[must_use]
    pub fn join(&mut self, others: &Self) -> bool {
        let mut joined = self.clone();
        let all = others.list.iter().all(|(place, by)| joined.replace(*place, by.clone()));
        if all {
            *self = joined;
        }
        all
    }

    /// How long a body of `bytes` becomes.
    #[must_use]
    pub fn length(&self, bytes: u64) -> u64 {
        let added: u64 = self.list.iter().map(|(_, by)| by.len() as u64).sum();
        let removed: u64 = self.list.iter().map(|(place, _)| place.bytes()).sum();
        (bytes + added).saturating_sub(removed)
    }

    /// The body does not grow, or not too much.
    #[must_use]
    pub fn fit(&self, bytes: u64) -> bool {
        self.length(bytes) <= BODY_BYTES_MAX.max(bytes)
    }

    pub(super) fn fitting(self, body: &[u8]) -> Option<Self> {
        (!self.is_empty() && self.fit(body.len() as u64)).then_some(self)
    }
}

/// The body with all changes made, in one copy. None when they are not for this body, or make it too large: then the body
/// goes on as it is.
#[must_use]
pub fn apply(body: &Bytes, edits: &Edits) -> Option<Bytes> {
    let bytes = body.len() as u64;
    if edits.is_empty() {
        return Some(body.clone());
    }
    if !edits.fit(bytes) {
        return None;
    }
    let mut edited = BytesMut::with_capacity(usize::try_from(edits.length(bytes)).ok()?);
    let mut at = 0;
    for (place, by) in &edits.list {
        edited.extend_from_slice(body.get(at..place.start())?);
        edited.extend_from_slice(by);
        at = place.end();
    }
    edited.extend_from_slice(body.get(at..)?);
    Some(edited.freeze())
}

/// The content of a JSON string that says `text`.
pub(super) fn escaped(text: &str) -> String {
    let mut quoted = serde_json::Value::from(text).to_string();
    quoted.pop();
    if !quoted.is_empty() {
        quoted.remove(0);
    }
    quoted
}

/// Another model is asked. None when the body names none, or this one already.
#[must_use]
pub fn set_model(body: &[u8], facts: &Facts, model: &str) -> Option<Edits> {
    let place = facts.model?;
    if place.text(body) == model {
        return None;
    }
    let mut edits = Edits::default();
    edits.replace(place, escaped(model));
    edits.fitting(body)
}

/// A lower limit on an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capped {
    pub edits: Edits,
    /// What the limit is now. It is more than was asked for where the API would refuse less, because of thinking.
    pub max_tokens: u64,
}

/// Lowers `max_tokens`, and with it the budget for thinking, which must stay below. None when it is low enough, or not there:
/// then the API refuses the call itself.
#[must_use]
pub fn cap_max_tokens(body: &[u8], facts: &Facts, max: u64) -> Option<Capped> {
    let asked = facts.max_tokens?;
    let budget = facts.thinking_budget.filter(|_| facts.thinking_enabled);
    let max_tokens = if budget.is_some() { max.max(2 * THINKING_TOKENS_MIN) } else { max.max(1) };
    if asked.value <= max_tokens {
        return None;
    }
    let mut edits = Edits::default();
    edits.replace(asked.place, max_tokens.to_string());
    // Half is left for the answer itself.
    let budget_max = (max_tokens / 2).max(THINKING_TOKENS_MIN);
    if let Some(Number { place, .. }) = budget.filter(|budget| budget.value > budget_max) {
        edits.replace(place, budget_max.to_string());
    }
    Some(Capped { edits: edits.fitting(body)?, max_tokens })
}
