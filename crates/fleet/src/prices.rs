//! What the model API charges: a data file with a date, exact arithmetic, and honest "unknown".

use std::collections::HashMap;

use paramedic_model::Usage;
use serde::Deserialize;

/// The built-in prices, in the form that users may write too.
const EMBEDDED: &str = include_str!("../prices.toml");
/// A context larger than this can only be one of the long-context variants.
const STANDARD_CONTEXT: u64 = 200_000;
/// What the long-context variants hold.
const LONG_CONTEXT: u64 = 1_000_000;
/// Dollars per million tokens above which a price is taken for a slip of the pen.
const PRICE_MAX: f64 = 100_000.0;

/// Prices by model.
#[derive(Debug, Clone)]
pub struct Prices {
    as_of: String,
    by_model: HashMap<Box<str>, Price>,
    fingerprint: u64,
}

/// Picodollars (10⁻¹² USD) per token by kind, and the size of the context. One dollar per million tokens is a million
/// picodollars per token, so every published price is a whole number and sums are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    rates: Rates,
    above: Option<(u64, Rates)>,
    pub context_limit: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rates {
    input: u64,
    output: u64,
    cache_read: u64,
    cache_write_5m: u64,
    cache_write_1h: u64,
}

/// Prices that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PricesError {
    #[error("read the prices: {0}")]
    Syntax(#[from] Box<toml::de::Error>),
    #[error("read the prices: {model:?} has {key} = {value}, expected dollars per million tokens from 0 to 100000")]
    Value { model: String, key: &'static str, value: f64 },
    #[error("read the prices: {0:?} is listed twice")]
    Twice(String),
    #[error("read the prices: `as_of` is missing, the day the prices were taken, such as \"2026-11-22\"")]
    NoDate,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    as_of: Option<String>,
    #[serde(default)]
    model: Vec<FileModel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileModel {
    name: String,
    input: f64,
    output: f64,
    cache_read: f64,
    cache_write_5m: f64,
    cache_write_1h: f64,
    context_limit: u64,
    above: Option<FileAbove>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileAbove {
    context_tokens: u64,
    input: f64,
    output: f64,
    cache_read: f64,
    cache_write_5m: f64,
    cache_write_1h: f64,
}

impl Prices {
    /// The prices this binary was built with.
    ///
    /// # Panics
    /// Never: a test reads the same file.
    #[must_use]
    pub fn embedded() -> Self {
        Self::from_toml(EMBEDDED).expect("the embedded prices are read by a test")
    }

    /// Reads a whole price list. Unknown keys are refused with their line.
    ///
    /// # Errors
    /// When the text is not such a list, names a model twice, or has no date.
    pub fn from_toml(text: &str) -> Result<Self, PricesError> {
        let file: File = toml::from_str(text).map_err(Box::new)?;
        let as_of = file.as_of.clone().ok_or(PricesError::NoDate)?;
        let mut prices = Self { as_of, by_model: HashMap::new(), fingerprint: 0 };
        prices.add(file)?;
        prices.mark(text);
        Ok(prices)
    }

    /// These prices, with the models of a user's list added or replaced. `as_of` may be left out there.
    ///
    /// # Errors
    /// When the text is not such a list or names a model twice.
    pub fn with_overrides(mut self, text: &str) -> Result<Self, PricesError> {
        let file: File = toml::from_str(text).map_err(Box::new)?;
        if let Some(as_of) = &file.as_of {
            self.as_of.clone_from(as_of);
        }
        self.add(file)?;
        self.mark(text);
        Ok(self)
    }

    fn add(&mut self, file: File) -> Result<(), PricesError> {
        let mut names = std::collections::HashSet::new();
        for model in file.model {
            if !names.insert(model.name.clone()) {
                return Err(PricesError::Twice(model.name));
            }
            let price = model.price()?;
            self.by_model.insert(model.name.into(), price);
        }
        Ok(())
    }

    fn mark(&mut self, text: &str) {
        self.fingerprint = xxhash_rust::xxh3::xxh3_64_with_seed(text.as_bytes(), self.fingerprint);
    }

    /// The day the prices were taken.
    #[must_use]
    pub fn as_of(&self) -> &str {
        &self.as_of
    }

    /// Names one set of prices: costs counted with another set are not comparable.
    #[must_use]
    pub const fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// What `usage`, as one call, costs in US dollars; `None` when the model has no price.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a float is for showing; sums are kept in whole picodollars")]
    pub fn cost(&self, model: &str, usage: &Usage) -> Option<f64> {
        self.price(model).map(|price| price.call(usage) as f64 / 1e12)
    }

    /// How many tokens the model's context holds; `None` when the model is not known.
    #[must_use]
    pub fn context_limit(&self, model: &str) -> Option<u64> {
        let limit = self.price(model)?.context_limit;
        Some(if model.contains("[1m]") { limit.max(LONG_CONTEXT) } else { limit })
    }

    /// The model's price, by its exact name or by what remains without a platform's additions.
    #[must_use]
    pub fn price(&self, model: &str) -> Option<Price> {
        if let Some(price) = self.by_model.get(model) {
            return Some(*price);
        }
        let plain = plain_name(model);
        self.by_model.get(plain).or_else(|| self.by_model.get(without_date(plain))).copied()
    }
}

impl Price {
    /// What one call costs, in picodollars. Saturates instead of overflowing.
    #[must_use]
    pub fn call(&self, usage: &Usage) -> u64 {
        match &self.above {
            Some((tokens, rates)) if usage.context_tokens() > *tokens => rates.cost(usage),
            _ => self.rates.cost(usage),
        }
    }
}

impl Rates {
    fn cost(&self, usage: &Usage) -> u64 {
        let hour = usage.cache_creation_1h_tokens.min(usage.cache_creation_tokens);
        let short = usage.cache_creation_tokens - hour;
        [
            (usage.input_tokens, self.input),
            (usage.output_tokens, self.output),
            (usage.cache_read_tokens, self.cache_read),
            (short, self.cache_write_5m),
            (hour, self.cache_write_1h),
        ]
        .into_iter()
        .fold(0u64, |sum, (tokens, rate)| sum.saturating_add(tokens.saturating_mul(rate)))
    }
}

impl FileModel {
    fn price(&self) -> Result<Price, PricesError> {
        let rate = |key, value| pico_per_token(&self.name, key, value);
        let rates = Rates {
            input: rate("input", self.input)?,
            output: rate("output", self.output)?,
            cache_read: rate("cache_read", self.cache_read)?,
            cache_write_5m: rate("cache_write_5m", self.cache_write_5m)?,
            cache_write_1h: rate("cache_write_1h", self.cache_write_1h)?,
        };
        let above = match &self.above {
            None => None,
            Some(above) => Some((
                above.context_tokens,
                Rates {
                    input: rate("above.input", above.input)?,
                    output: rate("above.output", above.output)?,
                    cache_read: rate("above.cache_read", above.cache_read)?,
                    cache_write_5m: rate("above.cache_write_5m", above.cache_write_5m)?,
                    cache_write_1h: rate("above.cache_write_1h", above.cache_write_1h)?,
                },
            )),
        };
        Ok(Price { rates, above, context_limit: self.context_limit })
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked just before")]
fn pico_per_token(model: &str, key: &'static str, value: f64) -> Result<u64, PricesError> {
    if !(0.0..=PRICE_MAX).contains(&value) {
        return Err(PricesError::Value { model: model.to_owned(), key, value });
    }
    Ok((value * 1e6).round() as u64)
}

/// The limit that can be true: a model that was seen with a longer context than its limit runs with the long one.
#[must_use]
pub fn effective_limit(limit: Option<u64>, observed: u64) -> Option<u64> {
    match limit {
        Some(limit) if observed > limit => Some(limit.max(LONG_CONTEXT)),
        None if observed > STANDARD_CONTEXT => Some(LONG_CONTEXT),
        limit => limit,
    }
}

/// Takes off what platforms add: `bedrock/us.anthropic.` before; `[1m]`, `-v1:0`, `@20250929`, `-latest` after.
fn plain_name(model: &str) -> &str {
    let name = model.trim();
    let name = name.strip_suffix("[1m]").unwrap_or(name);
    let name = name.rsplit('/').next().unwrap_or(name);
    let name = name.rsplit_once("anthropic.").map_or(name, |(_, rest)| rest);
    let name = name.split('@').next().unwrap_or(name);
    let name = without_version(name);
    name.strip_suffix("-latest").unwrap_or(name)
}

/// Bedrock's `-v1` or `-v1:0`.
fn without_version(name: &str) -> &str {
    match name.rsplit_once("-v") {
        Some((rest, version)) if !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b':') => rest,
        _ => name,
    }
}

/// Anthropic's `-20250929`.
fn without_date(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((rest, date)) if date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit()) => rest,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "as_of = \"2026-01-01\"\n[[model]]\nname = \"m\"\ninput = 1\noutput = 2\ncache_read = 0.1\ncache_write_5m = 1.25\ncache_write_1h = 2\ncontext_limit = 1000\n";

    #[test]
    fn names_are_found_whatever_a_platform_adds() {
        let prices = Prices::embedded();
        let price = prices.price("claude-sonnet-4-5");
        assert!(price.is_some());
        for name in [
            "claude-sonnet-4-5-20250929",
            "claude-sonnet-4-5@20250929",
            "claude-sonnet-4-5[1m]",
            "claude-sonnet-4-5-20250929[1m]",
            "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "global.anthropic.claude-sonnet-4-5-20250929-v1:0[1m]",
            "anthropic.claude-sonnet-4-5-20250929-v1:0",
            "bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "anthropic/claude-sonnet-4-5",
            "claude-sonnet-4-5-latest",
        ] {
            assert_eq!(prices.price(name), price, "{name}");
        }
        for name in ["", "claude", "sonnet", "claude-sonnet-4-5-mini", "gpt-5", "<synthetic>", "claude-sonnet-4-55", "-v1:0", "@", "[1m]"] {
            assert_eq!(prices.price(name), None, "{name}");
            assert_eq!(prices.cost(name, &Usage::default()), None, "{name}");
        }
    }

    #[test]
    fn the_context_limit_is_the_models_or_what_was_seen() {
        let prices = Prices::embedded();
        assert_eq!(prices.context_limit("claude-sonnet-4-5"), Some(200_000));
        assert_eq!(prices.context_limit("claude-sonnet-4-5[1m]"), Some(1_000_000));
        assert_eq!(prices.context_limit("gpt-5"), None);
        assert_eq!(effective_limit(Some(200_000), 200_000), Some(200_000));
        assert_eq!(effective_limit(Some(200_000), 200_001), Some(1_000_000));
        assert_eq!(effective_limit(None, 100), None);
        assert_eq!(effective_limit(None, 300_000), Some(1_000_000));
    }

    #[test]
    fn a_long_prompt_has_the_price_above_its_threshold() {
        let prices = Prices::embedded();
        let cost = |input_tokens| prices.cost("claude-haiku-5-5", &Usage { input_tokens, ..Usage::default() }).unwrap();
        assert!((cost(100_000) - 0.01).abs() < 1e-12);
        assert!((cost(100_001) - 0.050_000_5).abs() < 1e-12);
    }

    #[test]
    fn mistakes_in_a_price_list_are_named() {
        let error = |text: &str| Prices::from_toml(text).unwrap_err().to_string();
        let unknown = error(&ONE.replace("output = 2", "output = 2\noutptu = 3"));
        assert!(unknown.contains("line 6") && unknown.contains("outptu"), "{unknown}");
        assert!(error(&ONE.replace("input = 1", "input = -1")).contains("input = -1"));
        assert!(error(&ONE.replace("input = 1", "input = nan")).contains("NaN"));
        assert!(error(&ONE.replace("as_of = \"2026-01-01\"", "")).contains("as_of"));
        assert!(error(&format!("{ONE}{}", &ONE[ONE.find("[[").unwrap()..])).contains("twice"));
    }

    #[test]
    fn a_users_list_adds_and_replaces() {
        let ours = Prices::embedded();
        let text = ONE.replace("\"m\"", "\"claude-opus-4-5\"").replace("as_of = \"2026-01-01\"\n", "");
        let theirs = ours.clone().with_overrides(&text).unwrap();
        let usage = Usage { input_tokens: 1_000_000, ..Usage::default() };
        assert_eq!(ours.cost("claude-opus-4-5", &usage), Some(5.0));
        assert_eq!(theirs.cost("claude-opus-4-5", &usage), Some(1.0));
        assert_eq!(theirs.cost("claude-sonnet-4-5", &usage), Some(3.0));
        assert_eq!(theirs.as_of(), ours.as_of());
        assert_ne!(theirs.fingerprint(), ours.fingerprint());
    }

    #[test]
    fn absurd_counts_saturate() {
        let usage = Usage { input_tokens: 1 << 62, output_tokens: u64::MAX / 4, cache_creation_1h_tokens: 9, ..Usage::default() };
        assert_eq!(Prices::embedded().price("claude-opus-4-5").unwrap().call(&usage), u64::MAX);
    }
}
