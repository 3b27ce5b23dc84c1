//! Tokens by kind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Token counts of one model call or a sum of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Usage {
    /// Prompt tokens that were neither read from nor written to the cache.
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cache_read_tokens: u64,
    /// Written to the cache, whatever its lifetime.
    pub cache_creation_tokens: u64,
    /// The part of `cache_creation_tokens` with a lifetime of one hour, which has its own price.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache_creation_1h_tokens: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if hands a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Usage {
    /// What one call put into the model's context: everything it read. The size of the conversation so far.
    #[must_use]
    pub const fn context_tokens(&self) -> u64 {
        self.input_tokens + self.cache_read_tokens + self.cache_creation_tokens
    }

    #[must_use]
    pub const fn total(&self) -> u64 {
        self.context_tokens() + self.output_tokens
    }

    #[must_use]
    pub const fn is_zero(&self) -> bool {
        self.total() == 0
    }

    /// One call is written several times, early with placeholder counts: the largest of each kind is the true one.
    #[must_use]
    pub fn largest(self, other: Self) -> Self {
        self.zip(other, u64::max)
    }

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.zip(other, u64::saturating_sub)
    }

    fn zip(self, other: Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            input_tokens: combine(self.input_tokens, other.input_tokens),
            output_tokens: combine(self.output_tokens, other.output_tokens),
            cache_read_tokens: combine(self.cache_read_tokens, other.cache_read_tokens),
            cache_creation_tokens: combine(self.cache_creation_tokens, other.cache_creation_tokens),
            cache_creation_1h_tokens: combine(self.cache_creation_1h_tokens, other.cache_creation_1h_tokens),
        }
    }
}
