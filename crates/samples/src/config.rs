//! What an operator may set.

use serde::Deserialize;

use crate::series::BLOCK_MS;

/// Bounds of the store of samples.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Base URL of an external Prometheus-compatible store. Samples are then also forwarded to it by remote_write, and
    /// rules and queries ask it instead of this store (which does neither itself: the server reads this key). Empty: none.
    pub url: String,
    /// Hours that samples are kept; whole partitions leave. Default 360 (15 days).
    pub retention_h: u64,
    /// Bytes that all partitions may take together; the oldest leaves first. Default 10 GiB.
    pub bytes_max: u64,
    /// Hours of samples in one partition file, rounded up to whole blocks of two hours. Default 24.
    pub partition_h: u64,
    /// Seconds that samples stay in memory at least; they leave in blocks of two hours. Default 3,600.
    pub head_s: u64,
    /// Seconds that a sample may be older than the latest one of its series; at most `head_s` counts. Default 300.
    pub out_of_order_window_s: u64,
    /// Seconds that a sample may be in the future; 0 means no bound. Default 600.
    pub future_max_s: u64,
    /// Milliseconds between forced writes of the log to the disk; 0 forces each append. Default 1,000.
    pub fsync_interval_ms: u64,
    /// Bytes after which a segment of the log is closed and a new one begins. Default 32 MiB.
    pub segment_bytes_max: u64,
    /// Bytes of log after which the memory is saved as a whole and the log begins anew. Default 128 MiB.
    pub checkpoint_bytes: u64,
    /// Seconds between rounds of upkeep (moving old blocks to partitions, saving, retention); 0 leaves upkeep to the
    /// caller. Default 30.
    pub upkeep_interval_s: u64,
    /// Series in memory. Default 2,000,000.
    pub series_max: usize,
    /// Labels that one series may have, its name included. Default 64.
    pub labels_per_series_max: usize,
    /// Bytes of a label's name. Default 512.
    pub label_name_bytes_max: usize,
    /// Bytes of a label's value. Default 4,096.
    pub label_value_bytes_max: usize,
    /// Samples in one append. Default 200,000.
    pub samples_per_append_max: usize,
    /// Buckets of one native histogram, both sides and custom bounds together. Default 1,000.
    pub histogram_buckets_max: usize,
    /// Metrics whose type, help and unit are remembered. Default 50,000.
    pub metadata_max: usize,
    /// Partitions whose index may be in memory at a time. Default 3.
    pub partition_indexes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: String::new(),
            retention_h: 360,
            bytes_max: 10 * 1024 * 1024 * 1024,
            partition_h: 24,
            head_s: 3_600,
            out_of_order_window_s: 300,
            future_max_s: 600,
            fsync_interval_ms: 1_000,
            segment_bytes_max: 32 * 1024 * 1024,
            checkpoint_bytes: 128 * 1024 * 1024,
            upkeep_interval_s: 30,
            series_max: 2_000_000,
            labels_per_series_max: 64,
            label_name_bytes_max: 512,
            label_value_bytes_max: 4_096,
            samples_per_append_max: 200_000,
            histogram_buckets_max: 1_000,
            metadata_max: 50_000,
            partition_indexes_max: 3,
        }
    }
}

fn millis(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX)
}

impl Settings {
    pub(crate) fn head_ms(&self) -> i64 {
        millis(self.head_s)
    }

    pub(crate) fn window_ms(&self) -> i64 {
        millis(self.out_of_order_window_s.min(self.head_s))
    }

    pub(crate) fn future_ms(&self) -> Option<i64> {
        (self.future_max_s > 0).then(|| millis(self.future_max_s))
    }

    pub(crate) fn retention_ms(&self) -> i64 {
        millis(self.retention_h.saturating_mul(3_600))
    }

    /// Length of a partition: a whole number of blocks.
    pub(crate) fn partition_ms(&self) -> i64 {
        let blocks = (self.partition_h.clamp(2, 24 * 366) * 3_600_000).div_ceil(BLOCK_MS as u64);
        blocks as i64 * BLOCK_MS
    }
}
