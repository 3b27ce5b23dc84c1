//! What can be set about the fleet.

use serde::{Deserialize, Serialize};

/// Limits and thresholds of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// An agent in the middle of a turn is called silent when nothing was heard of it for this many seconds. Default 300.
    pub silent_after_s: u64,
    /// An agent that has waited for its next prompt, or was silent, for this many seconds is called done. Default 86400 (a day).
    pub done_after_s: u64,
    /// Agents kept. Beyond it the oldest finished ones are dropped; their cost stays in the totals. Default 10000.
    pub agents_max: usize,
    /// Record and call ids remembered to recognise a repetition, over all agents. Default 1000000 (at most 8 MiB).
    pub ids_max: usize,
    /// Model calls whose numbers may still grow, and tool calls whose result may still come, over all agents. Default 8192 each.
    pub open_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { silent_after_s: 300, done_after_s: 86_400, agents_max: 10_000, ids_max: 1_000_000, open_max: 8_192 }
    }
}
