//! How much such calls wrote of late, so that not all that they may write need be reserved.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

/// Calls that the largest is taken of: the largest of the last one to two times as many.
const CALLS: u32 = 32;
/// Fewer calls say too little of one caller.
const CALLS_MIN: u32 = 8;
/// And so many of a model, when the caller is new.
const CALLS_OF_MODEL_MIN: u32 = CALLS;
/// A quarter more than the largest, and a little for those that write hardly anything.
const MARGIN_SHARE: u64 = 4;
const MARGIN_TOKENS: u64 = 64;
/// Callers that are remembered; as many again are about to be forgotten.
const CALLERS_MAX: usize = 8192;

#[derive(Debug, Clone, Copy, Default)]
struct Recent {
    seen: u32,
    in_block: u32,
    largest: u64,
    largest_before: u64,
}

impl Recent {
    fn add(&mut self, tokens: u64) {
        if self.in_block == CALLS {
            (self.largest_before, self.largest, self.in_block) = (self.largest, 0, 0);
        }
        self.largest = self.largest.max(tokens);
        self.in_block += 1;
        self.seen = self.seen.saturating_add(1);
    }

    fn likely(&self, calls_min: u32) -> Option<u64> {
        let largest = self.largest.max(self.largest_before);
        (self.seen >= calls_min).then(|| largest.saturating_add(largest / MARGIN_SHARE).saturating_add(MARGIN_TOKENS))
    }
}

#[derive(Debug, Default)]
struct Callers {
    young: HashMap<u64, Recent>,
    old: HashMap<u64, Recent>,
}

impl Callers {
    fn get(&self, caller: u64) -> Option<&Recent> {
        self.young.get(&caller).or_else(|| self.old.get(&caller))
    }

    fn add(&mut self, caller: u64, tokens: u64) {
        if !self.young.contains_key(&caller) {
            if self.young.len() >= CALLERS_MAX {
                self.old = std::mem::take(&mut self.young);
            }
            let before = self.old.remove(&caller).unwrap_or_default();
            self.young.insert(caller, before);
        }
        if let Some(recent) = self.young.get_mut(&caller) {
            recent.add(tokens);
        }
    }
}

/// The largest outputs of late, by model and caller (an agent, else a session).
#[derive(Debug, Default)]
pub struct Outputs {
    callers: Mutex<Callers>,
    hasher: RandomState,
}

impl Outputs {
    /// Output tokens that a call is likely not to pass. Without history that is `max_tokens`, which it cannot pass.
    #[must_use]
    pub fn likely(&self, model: &str, caller: &str, max_tokens: u64) -> u64 {
        let (one, all) = self.names(model, caller);
        let callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let of_caller = callers.get(one).and_then(|recent| recent.likely(CALLS_MIN));
        let likely = of_caller.or_else(|| callers.get(all)?.likely(CALLS_OF_MODEL_MIN));
        likely.map_or(max_tokens, |likely| likely.min(max_tokens))
    }

    /// A call wrote so many tokens, whole: what was cut off says nothing.
    pub fn wrote(&self, model: &str, caller: &str, tokens: u64) {
        let (one, all) = self.names(model, caller);
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        callers.add(one, tokens);
        callers.add(all, tokens);
    }

    fn names(&self, model: &str, caller: &str) -> (u64, u64) {
        (self.hasher.hash_one((model, Some(caller))), self.hasher.hash_one((model, None::<&str>)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_history_all_that_is_allowed_is_likely() {
        let outputs = Outputs::default();
        assert_eq!(outputs.likely("m", "a", 1000), 1000);
        for _ in 0..CALLS_MIN - 1 {
            outputs.wrote("m", "a", 100);
        }
        assert_eq!(outputs.likely("m", "a", 1000), 1000);
        outputs.wrote("m", "a", 200);
        assert_eq!(outputs.likely("m", "a", 1000), 200 + 50 + MARGIN_TOKENS);
        assert_eq!(outputs.likely("m", "a", 80), 80);
        // Another model, and a caller that is new while the model itself is not known well.
        assert_eq!(outputs.likely("n", "a", 1000), 1000);
        assert_eq!(outputs.likely("m", "b", 1000), 1000);
    }

    #[test]
    fn a_new_caller_is_taken_for_one_of_the_model_and_old_outputs_fade() {
        let outputs = Outputs::default();
        outputs.wrote("m", "a", 800);
        for _ in 1..CALLS {
            outputs.wrote("m", "a", 100);
        }
        assert_eq!(outputs.likely("m", "new", 100_000), 1000 + MARGIN_TOKENS);
        for _ in 0..=CALLS {
            outputs.wrote("m", "a", 100);
        }
        assert_eq!(outputs.likely("m", "a", 100_000), 125 + MARGIN_TOKENS);
    }

    #[test]
    fn callers_are_bounded() {
        let outputs = Outputs::default();
        for i in 0..CALLERS_MAX * 3 {
            outputs.wrote("m", &i.to_string(), 1);
        }
        let callers = outputs.callers.lock().unwrap();
        assert!(callers.young.len() <= CALLERS_MAX && callers.old.len() <= CALLERS_MAX);
    }
}
