//! The inverted index: from a label and its value to the series that have it.

mod pattern;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use paramedic_promql::Labels;
use paramedic_promql::labels::{Label, MatchOp, Matcher};

use pattern::Pattern;

/// Places of series, ascending.
#[derive(Debug)]
enum Postings {
    /// Most values of an identifier belong to one series: no allocation for it.
    One(u32),
    Many(Vec<u32>),
}

impl Postings {
    fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    fn insert(&mut self, place: u32) {
        match self {
            Self::One(one) if *one == place => {}
            Self::One(one) => *self = Self::Many(vec![place.min(*one), place.max(*one)]),
            Self::Many(many) => match many.last() {
                Some(last) if *last < place => many.push(place),
                _ => {
                    if let Err(at) = many.binary_search(&place) {
                        many.insert(at, place);
                    }
                }
            },
        }
    }
}

type Values = BTreeMap<Arc<str>, Postings>;

#[derive(Debug, Default)]
pub(crate) struct Index {
    names: HashMap<Arc<str>, Values>,
    all: Vec<u32>,
}

impl Index {
    /// Adds a series; its labels come back with names and values that all series share.
    pub(crate) fn insert<'a>(&mut self, place: u32, labels: impl Iterator<Item = (&'a str, &'a str)>) -> Labels {
        match self.all.last() {
            Some(last) if *last >= place => {
                if let Err(at) = self.all.binary_search(&place) {
                    self.all.insert(at, place);
                }
            }
            _ => self.all.push(place),
        }
        let mut shared = Vec::with_capacity(labels.size_hint().0);
        for (name, value) in labels {
            let name = match self.names.get_key_value(name) {
                Some((known, _)) => Arc::clone(known),
                None => Arc::from(name),
            };
            let values = self.names.entry(Arc::clone(&name)).or_default();
            let known = values.range_mut::<str, _>((Bound::Included(value), Bound::Included(value))).next();
            let value = match known {
                Some((known, postings)) => {
                    postings.insert(place);
                    Arc::clone(known)
                }
                None => {
                    let value: Arc<str> = Arc::from(value);
                    values.insert(Arc::clone(&value), Postings::One(place));
                    value
                }
            };
            shared.push(Label { name, value });
        }
        Labels::new(shared)
    }

    /// Removes many series at once; `gone` is ascending.
    pub(crate) fn remove(&mut self, gone: &[u32]) {
        let stays = |place: &u32| gone.binary_search(place).is_err();
        self.all.retain(stays);
        for values in self.names.values_mut() {
            values.retain(|_, postings| {
                if let Postings::Many(many) = postings {
                    many.retain(stays);
                    many.shrink_to_fit();
                }
                postings.as_slice().iter().any(stays)
            });
        }
        self.names.retain(|_, values| !values.is_empty());
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Names and values that are there.
    pub(crate) fn words(&self) -> usize {
        self.names.len() + self.names.values().map(BTreeMap::len).sum::<usize>()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.keys()
    }

    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = &Arc<str>> {
        self.names.get(name).into_iter().flat_map(BTreeMap::keys)
    }

    /// The places of the series that pass every matcher, ascending. `labels_of` gives the labels at a place.
    pub(crate) fn select(&self, matchers: &[Matcher], labels_of: &dyn Fn(u32) -> Option<Labels>) -> Vec<u32> {
        let mut exact = Vec::new();
        let mut rest = Vec::new();
        for matcher in matchers {
            let one_word = match (&matcher.op, &*matcher.value) {
                (MatchOp::Equal, "") => None,
                (MatchOp::Equal, value) => Some(value.to_owned()),
                (MatchOp::Regex(_), pattern) => match Pattern::of(pattern) {
                    Pattern::Words(words) if words.len() == 1 && !words[0].is_empty() => words.into_iter().next(),
                    _ => None,
                },
                _ => None,
            };
            match one_word {
                Some(word) => match self.names.get(&*matcher.name).and_then(|values| values.get(word.as_str())) {
                    Some(postings) => exact.push(postings.as_slice()),
                    None => return Vec::new(),
                },
                None => rest.push(matcher),
            }
        }
        exact.sort_by_key(|postings| postings.len());
        let mut found = exact.first().map(|smallest| intersect(smallest, &exact[1..]));
        // Conditions that a missing label does not pass narrow most; they go first.
        rest.sort_by_key(|matcher| matcher.matches(""));
        for matcher in rest {
            let narrowed = self.narrow(matcher, found.as_deref(), labels_of);
            if narrowed.is_empty() {
                return narrowed;
            }
            found = Some(narrowed);
        }
        found.unwrap_or_else(|| self.all.clone())
    }

    fn narrow(&self, matcher: &Matcher, found: Option<&[u32]>, labels_of: &dyn Fn(u32) -> Option<Labels>) -> Vec<u32> {
        let Some(values) = self.names.get(&*matcher.name) else {
            // Nobody has the label: everybody has the empty value.
            return if matcher.matches("") { found.unwrap_or(&self.all).to_vec() } else { Vec::new() };
        };
        if let Some(found) = found
            && found.len() < values.len() / 2
        {
            let passes = |place: &u32| labels_of(*place).is_some_and(|labels| matcher.matches(labels.get(&matcher.name)));
            return found.iter().copied().filter(passes).collect();
        }
        // Where a missing label passes, look for those that fail, else for those that pass.
        let wanted = !matcher.matches("");
        let mut bits = Bits::up_to(self.all.last().copied().unwrap_or(0));
        each_value(values, matcher, wanted, |postings| bits.set(postings.as_slice()));
        found.unwrap_or(&self.all).iter().copied().filter(|place| bits.get(*place) == wanted).collect()
    }
}

/// Calls with the postings of every value for which the matcher says `wanted`.
fn each_value(values: &Values, matcher: &Matcher, wanted: bool, mut each: impl FnMut(&Postings)) {
    let positive = match matcher.op {
        MatchOp::Equal | MatchOp::Regex(_) => true,
        MatchOp::NotEqual | MatchOp::NotRegex(_) => false,
    };
    // The pattern itself must pass, or its negation fail, for the shortcuts to list the wanted values.
    if positive != wanted {
        values.iter().filter(|(value, _)| matcher.matches(value) == wanted).for_each(|(_, postings)| each(postings));
        return;
    }
    let pattern = match matcher.op {
        MatchOp::Equal | MatchOp::NotEqual => Pattern::Words(vec![matcher.value.to_string()]),
        MatchOp::Regex(_) | MatchOp::NotRegex(_) => Pattern::of(&matcher.value),
    };
    let from = |prefix: &str| values.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
    match pattern {
        Pattern::Words(words) => words.iter().filter_map(|word| values.get(word.as_str())).for_each(each),
        Pattern::Prefix { prefix, more } => {
            let begins = from(&prefix).take_while(|(value, _)| value.starts_with(&prefix));
            begins.filter(|(value, _)| !more || value.len() > prefix.len()).for_each(|(_, postings)| each(postings));
        }
        Pattern::Contains(word) => {
            values.iter().filter(|(value, _)| value.contains(&word)).for_each(|(_, postings)| each(postings));
        }
        Pattern::Regex { prefix } => {
            let begins = from(&prefix).take_while(|(value, _)| value.starts_with(&prefix));
            begins.filter(|(value, _)| matcher.matches(value) == wanted).for_each(|(_, postings)| each(postings));
        }
    }
}

fn intersect(smallest: &[u32], others: &[&[u32]]) -> Vec<u32> {
    let mut rests: Vec<&[u32]> = others.to_vec();
    smallest.iter().copied().filter(|place| rests.iter_mut().all(|rest| advance(rest, *place))).collect()
}

/// Moves `rest` to the first place not below `place` by doubling steps; whether that is it.
fn advance(rest: &mut &[u32], place: u32) -> bool {
    let mut step = 1;
    while step < rest.len() && rest[step] < place {
        step *= 2;
    }
    let window = &rest[..rest.len().min(step + 1)];
    let at = window.partition_point(|other| *other < place);
    *rest = &rest[at..];
    rest.first() == Some(&place)
}

struct Bits(Vec<u64>);

impl Bits {
    fn up_to(last: u32) -> Self {
        Self(vec![0; last as usize / 64 + 1])
    }

    fn set(&mut self, places: &[u32]) {
        for place in places {
            if let Some(word) = self.0.get_mut(*place as usize / 64) {
                *word |= 1 << (place % 64);
            }
        }
    }

    fn get(&self, place: u32) -> bool {
        self.0.get(place as usize / 64).is_some_and(|word| word >> (place % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests;
