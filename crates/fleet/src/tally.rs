//! Sums of tokens and money.

use std::collections::{BTreeMap, HashMap};

use paramedic_model::Usage;
use serde::{Deserialize, Serialize};

use crate::prices::{Price, Prices};

/// Distinct model names kept. Names beyond it are counted together, as "other models" of unknown price.
const MODELS_MAX: usize = 1_000;
/// Cells of the table by day and model. Days beyond it are counted together on the day `DAY_OTHER`.
const CELLS_MAX: usize = 20_000;
/// The day of everything whose own day found no place.
pub(crate) const DAY_OTHER: i32 = i32::MIN;

/// Calls, tokens and cost of a call or of many. Money is in picodollars: whole numbers, so sums are exact and can be
/// taken back exactly. They end at 18 million dollars and stay there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    #[serde(rename = "u")]
    pub(crate) usage: Usage,
    #[serde(rename = "n")]
    pub(crate) calls: u64,
    /// What is known of the cost.
    #[serde(rename = "c")]
    pub(crate) cost: u64,
    /// The part of `cost` that a source reported, because we have no price.
    #[serde(rename = "r", default, skip_serializing_if = "zero")]
    pub(crate) reported: u64,
    #[serde(rename = "xn", default, skip_serializing_if = "zero")]
    pub(crate) unpriced_calls: u64,
    #[serde(rename = "xt", default, skip_serializing_if = "zero")]
    pub(crate) unpriced_tokens: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if hands a reference")]
fn zero(count: &u64) -> bool {
    *count == 0
}

impl Tally {
    pub(crate) fn plus(self, other: Self) -> Self {
        self.zip(other, self.usage.plus(other.usage), u64::saturating_add)
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        self.zip(other, self.usage.minus(other.usage), u64::saturating_sub)
    }

    fn zip(self, other: Self, usage: Usage, combine: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            usage,
            calls: combine(self.calls, other.calls),
            cost: combine(self.cost, other.cost),
            reported: combine(self.reported, other.reported),
            unpriced_calls: combine(self.unpriced_calls, other.unpriced_calls),
            unpriced_tokens: combine(self.unpriced_tokens, other.unpriced_tokens),
        }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// One call (or, with `calls` 0, tokens without a call) at its price, else at what the source reported, else unknown.
    pub(crate) fn of(usage: Usage, calls: u64, price: Option<&Price>, reported: Option<u64>) -> Self {
        let plain = Self { usage, calls, ..Self::default() };
        match (price, reported) {
            (Some(price), _) => Self { cost: price.call(&usage), ..plain },
            (None, Some(cost)) => Self { cost, reported: cost, ..plain },
            (None, None) => Self { unpriced_calls: calls, unpriced_tokens: usage.total(), ..plain },
        }
    }
}

/// Model names as small numbers, with their prices.
#[derive(Debug, Clone)]
pub(crate) struct Models {
    list: Vec<(Box<str>, Option<Price>)>,
    by_name: HashMap<Box<str>, u16>,
    last: u16,
}

/// The model of a call that names none.
pub(crate) const MODEL_NONE: u16 = 0;
const MODEL_OTHER: u16 = 1;

impl Models {
    pub(crate) fn new(names: &[Box<str>], prices: &Prices) -> Self {
        let mut models = Self { list: Vec::new(), by_name: HashMap::new(), last: 0 };
        models.push("unknown", None);
        models.push("other models", None);
        for name in names.iter().skip(2) {
            models.push(name, prices.price(name));
        }
        models
    }

    #[expect(clippy::cast_possible_truncation, reason = "at most MODELS_MAX names")]
    fn push(&mut self, name: &str, price: Option<Price>) -> u16 {
        let number = self.list.len() as u16;
        self.list.push((name.into(), price));
        self.by_name.insert(name.into(), number);
        number
    }

    pub(crate) fn number(&mut self, name: Option<&str>, prices: &Prices) -> u16 {
        let Some(name) = name.filter(|name| !name.is_empty()) else { return MODEL_NONE };
        if *self.list[usize::from(self.last)].0 == *name {
            return self.last;
        }
        let name = paramedic_model::text::head(name, paramedic_model::limit::ID_BYTES_MAX);
        // Counters and accounts add the size of the context to the name; calls do not.
        let name = name.strip_suffix("[1m]").unwrap_or(name);
        self.last = match self.by_name.get(name) {
            Some(number) => *number,
            None if self.list.len() >= MODELS_MAX => MODEL_OTHER,
            None => self.push(name, prices.price(name)),
        };
        self.last
    }

    pub(crate) fn name(&self, number: u16) -> &str {
        self.list.get(usize::from(number)).map_or("unknown", |(name, _)| name)
    }

    pub(crate) fn price(&self, number: u16) -> Option<&Price> {
        self.list.get(usize::from(number)).and_then(|(_, price)| price.as_ref())
    }

    pub(crate) fn names(&self) -> Vec<Box<str>> {
        self.list.iter().map(|(name, _)| name.clone()).collect()
    }
}

/// Everything that was counted, by UTC day and model, whether its agent is still kept or not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Books {
    pub(crate) total: Tally,
    pub(crate) cells: BTreeMap<(i32, u16), Tally>,
    /// The part whose agents were dropped.
    pub(crate) dropped: Tally,
}

impl Books {
    pub(crate) fn add(&mut self, day: i32, model: u16, tally: Tally) {
        self.total = self.total.plus(tally);
        if let Some(cell) = self.cells.get_mut(&(day, model)) {
            *cell = cell.plus(tally);
            return;
        }
        let place = if self.cells.len() < CELLS_MAX { day } else { DAY_OTHER };
        let cell = self.cells.entry((place, model)).or_default();
        *cell = cell.plus(tally);
    }

    pub(crate) fn take(&mut self, day: i32, model: u16, tally: Tally) {
        self.total = self.total.minus(tally);
        let place = if self.cells.contains_key(&(day, model)) { day } else { DAY_OTHER };
        if let Some(cell) = self.cells.get_mut(&(place, model)) {
            *cell = cell.minus(tally);
            if cell.is_nothing() {
                self.cells.remove(&(place, model));
            }
        }
    }
}
