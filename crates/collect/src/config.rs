//! Settings of the collectors that watch files. The receivers' settings are beside the receivers.

use serde::Deserialize;

/// How transcripts and liveness files are followed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TailSettings {
    /// Keep prompts, answers and tool inputs as masked, capped text. Without it only facts and the texts of errors are kept. Default true.
    pub capture_text: bool,
    /// Seconds between two looks at all folders, for what the file system did not announce. Default 30.
    pub rescan_s: u64,
    /// Milliseconds between two looks at all folders where the file system announces nothing. Default 1,000.
    pub poll_ms: u64,
    /// Events handed over at once. Default 1,024.
    pub batch_events_max: usize,
    /// Longest line that is read, in bytes; a longer one is skipped whole and counted. Default 32 MiB.
    pub line_bytes_max: usize,
    /// Seconds between two looks at the clients' liveness files. Default 3.
    pub liveness_s: u64,
    /// Seconds between two reports of the same process's memory. Default 30.
    pub memory_report_s: u64,
}

impl Default for TailSettings {
    fn default() -> Self {
        Self {
            capture_text: true,
            rescan_s: 30,
            poll_ms: 1_000,
            batch_events_max: 1_024,
            line_bytes_max: paramedic_model::limit::LINE_BYTES_MAX,
            liveness_s: 3,
            memory_report_s: 30,
        }
    }
}
