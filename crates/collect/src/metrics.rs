//! What the collectors that watch files count about themselves.

use std::sync::atomic::AtomicI64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters of transcript following. Cheap to clone; all clones count together.
#[derive(Debug, Clone, Default)]
pub struct TailMetrics {
    pub lines: Counter,
    pub bytes: Counter,
    pub events: Counter,
    pub bad_lines: Counter,
    pub oversized_lines: Counter,
    /// Lines of types that this version does not know; they are kept as records.
    pub unknown_lines: Counter,
    pub file_resets: Counter,
    pub unreadable_files: Counter,
    pub files: Gauge<i64, AtomicI64>,
    /// Files still to be back-filled.
    pub backlog: Gauge<i64, AtomicI64>,
    /// 1 while the file system's announcements are not available and folders are polled.
    pub polling: Gauge<i64, AtomicI64>,
}

impl TailMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("paramedic_collect_transcript_lines", "Transcript lines read", self.lines.clone());
        registry.register("paramedic_collect_transcript_bytes", "Transcript bytes read", self.bytes.clone());
        registry.register("paramedic_collect_transcript_events", "Events made of transcript lines", self.events.clone());
        registry.register("paramedic_collect_transcript_bad_lines", "Transcript lines that are not JSON objects", self.bad_lines.clone());
        registry.register(
            "paramedic_collect_transcript_oversized_lines",
            "Transcript lines skipped because of their length",
            self.oversized_lines.clone(),
        );
        registry.register(
            "paramedic_collect_transcript_unknown_lines",
            "Transcript lines of unknown type, kept as records",
            self.unknown_lines.clone(),
        );
        registry.register(
            "paramedic_collect_transcript_file_resets",
            "Transcripts truncated or replaced and read anew",
            self.file_resets.clone(),
        );
        registry.register(
            "paramedic_collect_transcript_unreadable_files",
            "Failed attempts to read a transcript",
            self.unreadable_files.clone(),
        );
        registry.register("paramedic_collect_transcript_files", "Transcripts followed", self.files.clone());
        registry.register("paramedic_collect_transcript_backlog_files", "Transcripts not yet back-filled", self.backlog.clone());
        registry.register(
            "paramedic_collect_transcript_polling",
            "Whether folders are polled for want of announcements",
            self.polling.clone(),
        );
    }
}

/// Counters of log following. Cheap to clone; all clones count together.
#[derive(Debug, Clone, Default)]
pub struct LogMetrics {
    pub lines: Counter,
    pub bytes: Counter,
    pub events: Counter,
    pub oversized_lines: Counter,
    /// Files that were truncated while they were followed.
    pub truncations: Counter,
    /// Files that were renamed or replaced by a new one.
    pub rotations: Counter,
    pub unreadable_files: Counter,
    pub files: Gauge<i64, AtomicI64>,
}

impl LogMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("paramedic_collect_log_lines", "Log lines read", self.lines.clone());
        registry.register("paramedic_collect_log_bytes", "Log bytes read", self.bytes.clone());
        registry.register("paramedic_collect_log_events", "Events made of log records", self.events.clone());
        registry.register(
            "paramedic_collect_log_oversized_lines",
            "Log lines skipped because of their length",
            self.oversized_lines.clone(),
        );
        registry.register("paramedic_collect_log_truncations", "Log files truncated and read anew", self.truncations.clone());
        registry.register("paramedic_collect_log_rotations", "Log files renamed or replaced", self.rotations.clone());
        registry.register("paramedic_collect_log_unreadable_files", "Failed attempts to read a log file", self.unreadable_files.clone());
        registry.register("paramedic_collect_log_files", "Log files followed", self.files.clone());
    }
}
