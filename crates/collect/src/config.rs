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

/// How log files are followed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// Log files to follow. `*` may stand for any part of a file's name, not of its folder: `/var/log/agents/*.log`. Default none.
    pub files: Vec<String>,
    /// Read what the files hold when they are met for the first time; without, only what is written from then on. Default true.
    pub history: bool,
    /// Records that name no agent belong to an agent that is named like their file, without its ending. Default false.
    pub agent_from_file: bool,
    /// The zone of times that name none, as Python's logging and log4j write them: `local` (this machine's), `UTC`, or a name like `Europe/Berlin`. Default `local`.
    pub time_zone: crate::log::TimeZone,
    /// Keep texts and attributes, masked and capped. Without it only what detectors need is kept. Default true.
    pub capture_text: bool,
    /// Milliseconds of silence after which a record of several lines is complete. Default 1,000.
    pub flush_ms: u64,
    /// Milliseconds between two looks at all files, for what the file system did not announce. Default 2,000.
    pub rescan_ms: u64,
    /// Milliseconds between two looks where the file system announces nothing. Default 500.
    pub poll_ms: u64,
    /// Seconds that a file is still read after it was renamed: its writer may not have noticed yet. Default 10.
    pub linger_s: u64,
    /// Events handed over at once. Default 1,024.
    pub batch_events_max: usize,
    /// Longest line that is read, in bytes; a longer one is skipped whole and counted. Default 1 MiB.
    pub line_bytes_max: usize,
    /// Files followed at once; further ones are left out with a warning. Default 256.
    pub files_max: usize,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            history: true,
            agent_from_file: false,
            time_zone: crate::log::TimeZone::local(),
            capture_text: true,
            flush_ms: 1_000,
            rescan_ms: 2_000,
            poll_ms: 500,
            linger_s: 10,
            batch_events_max: 1_024,
            line_bytes_max: 1024 * 1024,
            files_max: 256,
        }
    }
}
