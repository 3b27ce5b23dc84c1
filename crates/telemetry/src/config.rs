//! What an operator may set.

use serde::Deserialize;

/// Bounds of the event store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Days that events are kept, counted from their arrival. Default 30.
    pub retention_days: u64,
    /// Bytes that all files of the store may take together; the oldest partition goes first. Default 10 GiB.
    pub bytes_max: u64,
    /// Bytes after which a partition is closed and a new one begins; at most a quarter of `bytes_max` counts. Default 512 MiB.
    pub partition_bytes_max: u64,
    /// Batches that may wait for the writer before senders have to wait. Default 16.
    pub queue_batches_max: usize,
    /// Events after which the writer commits although more are waiting. Default 20,000.
    pub group_events_max: usize,
    /// Rows that the index may lie behind before appends have to wait for it. Default 2,000,000.
    pub index_lag_rows_max: u64,
    /// Milliseconds a search may take before it returns what it has. Default 2,000.
    pub search_time_max_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            retention_days: 30,
            bytes_max: 10 * 1024 * 1024 * 1024,
            partition_bytes_max: 512 * 1024 * 1024,
            queue_batches_max: 16,
            group_events_max: 20_000,
            index_lag_rows_max: 2_000_000,
            search_time_max_ms: 2_000,
        }
    }
}

impl Settings {
    /// One partition may not be most of the allowed size: dropping it would empty the store.
    pub(crate) fn partition_bytes(&self) -> u64 {
        self.partition_bytes_max.min(self.bytes_max / 4)
    }
}
