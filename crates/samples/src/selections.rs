//! Which series a list of matchers selects, remembered from one evaluation of a rule to the next.
//!
//! A selection is as good as the catalogue it was made from: one series more or less, and it is made anew.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use paramedic_promql::Matcher;
use paramedic_promql::labels::MatchOp;

/// Places that are remembered in all, four bytes each.
const PLACES_MAX: usize = 1_000_000;
/// What an entry counts for besides its places.
const ENTRY_PLACES: usize = 64;

/// The kind of comparison, the label and the value of every matcher.
type Key = Box<[(u8, Arc<str>, Arc<str>)]>;

#[derive(Debug, Default)]
pub(crate) struct Selections(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// What the catalogue's count of changes was.
    version: u64,
    places: usize,
    all: HashMap<Key, Arc<[u32]>>,
}

fn key(matchers: &[Matcher]) -> Key {
    let kind = |op: &MatchOp| match op {
        MatchOp::Equal => 0,
        MatchOp::NotEqual => 1,
        MatchOp::Regex(_) => 2,
        MatchOp::NotRegex(_) => 3,
    };
    matchers.iter().map(|matcher| (kind(&matcher.op), Arc::clone(&matcher.name), Arc::clone(&matcher.value))).collect()
}

impl Selections {
    /// The selection of some matchers; `select` makes it where it is not known. `version` counts changes of the catalogue.
    pub(crate) fn get(&self, matchers: &[Matcher], version: u64, select: impl FnOnce() -> Vec<u32>) -> Arc<[u32]> {
        let key = key(matchers);
        let known = |known: &Known| (known.version == version).then(|| known.all.get(&key).cloned()).flatten();
        if let Some(places) = known(&self.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            return places;
        }
        let places: Arc<[u32]> = select().into();
        let size = places.len() + ENTRY_PLACES;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.version > version || size > PLACES_MAX {
            return places;
        }
        if known.version < version || known.places + size > PLACES_MAX {
            *known = Known { version, ..Known::default() };
        }
        if known.all.insert(key, Arc::clone(&places)).is_none() {
            known.places += size;
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_made_once_until_the_catalogue_changes() {
        let selections = Selections::default();
        let equal = [Matcher::equal("a", "1")];
        let other = [Matcher::not_equal("a", "1")];
        let never = || -> Vec<u32> { unreachable!("this selection is known") };
        assert_eq!(*selections.get(&equal, 1, || vec![1, 2]), [1, 2]);
        assert_eq!(*selections.get(&other, 1, || vec![3]), [3]);
        assert_eq!(*selections.get(&equal, 1, never), [1, 2]);
        assert_eq!(*selections.get(&equal, 2, || vec![4]), [4]);
        assert_eq!(*selections.get(&equal, 2, never), [4]);
        // Somebody who saw an older catalogue changes nothing.
        assert_eq!(*selections.get(&other, 1, || vec![9]), [9]);
        assert_eq!(*selections.get(&other, 2, Vec::new), [0u32; 0]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let selections = Selections::default();
        for i in 0..50_000 {
            selections.get(&[Matcher::equal("a", &i.to_string())], 1, || vec![0; i % 500]);
            let known = selections.0.lock().unwrap();
            assert!(known.places <= PLACES_MAX && known.all.len() * ENTRY_PLACES <= PLACES_MAX);
        }
        selections.get(&[Matcher::equal("b", "")], 1, || vec![0; PLACES_MAX]);
        assert!(selections.0.lock().unwrap().places <= PLACES_MAX);
    }
}
