//! What is paid besides a model's price for tokens: a faster speed, one country only, searches of the web.

use crate::answer::Seen;

/// A search of the web costs ten dollars for a thousand, whatever the model.
const SEARCH_PICO: u64 = 10_000_000_000;

/// What an answer said, or a request asks for, that has a price of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Extras {
    /// Twice the price.
    pub(crate) fast: bool,
    /// Served in the United States only: a tenth more.
    pub(crate) us_only: bool,
    pub(crate) web_searches: u64,
}

impl Extras {
    pub(crate) fn of(seen: &Seen) -> Self {
        Self { fast: seen.fast, us_only: seen.geo.as_deref() == Some("us"), web_searches: seen.web_searches }
    }

    /// The whole price in picodollars of a call whose tokens cost `base`.
    pub(crate) const fn on(self, base: u64) -> u64 {
        let tokens = if self.fast { base.saturating_mul(2) } else { base };
        let tokens = if self.us_only { tokens.saturating_add(tokens / 10) } else { tokens };
        tokens.saturating_add(self.web_searches.saturating_mul(SEARCH_PICO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_price_of_its_own_is_added() {
        let plain = Extras::default();
        let (fast, us_only) = (Extras { fast: true, ..plain }, Extras { us_only: true, ..plain });
        let both = Extras { fast: true, us_only: true, web_searches: 3 };
        for (extras, base, whole) in [
            (plain, 1_000, 1_000),
            (fast, 1_000, 2_000),
            (us_only, 1_000, 1_100),
            (both, 1_000, 2_200 + 30_000_000_000),
            (both, u64::MAX, u64::MAX),
            (Extras { web_searches: u64::MAX, ..plain }, 0, u64::MAX),
        ] {
            assert_eq!(extras.on(base), whole, "{extras:?}");
        }
        let seen = Seen { fast: true, geo: Some("us".into()), web_searches: 3, ..Seen::default() };
        assert_eq!(Extras::of(&seen), both);
        assert_eq!(Extras::of(&Seen { geo: Some("global".into()), ..Seen::default() }), plain);
    }
}
