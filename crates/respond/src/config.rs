//! Settings of the incident stage.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When incidents join, resolve and grow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seconds without an active alert before an incident is resolved. Default 900.
    pub quiet_window_s: u64,
    /// Seconds after it was resolved in which the same cause re-opens an incident instead of opening another.
    /// Default 1800.
    pub reopen_window_s: u64,
    /// Seconds that nothing more may have arrived about an incident of the past before it is resolved; only matters
    /// while history is being read. Default 10.
    pub settle_s: u64,
    /// Seconds after which a continuing alert with new counts is written to the journal again. Default 5.
    pub update_every_s: u64,
    /// Affected agents from which an incident is at least SEV2. Default 3.
    pub sev2_agents: usize,
    /// Agents whose turn failed for good from which an incident is SEV1. Default 5.
    pub sev1_failed_agents: usize,
    /// An incident whose onset is older than this many seconds when it is first seen was read from history and is
    /// kept as such. Default 3600.
    pub backfill_after_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            quiet_window_s: 900,
            reopen_window_s: 1800,
            settle_s: 10,
            update_every_s: 5,
            sev2_agents: 3,
            sev1_failed_agents: 5,
            backfill_after_s: 3600,
        }
    }
}

impl Settings {
    #[must_use]
    pub const fn quiet_window(&self) -> Duration {
        Duration::from_secs(self.quiet_window_s)
    }

    #[must_use]
    pub const fn reopen_window(&self) -> Duration {
        Duration::from_secs(self.reopen_window_s)
    }
}
