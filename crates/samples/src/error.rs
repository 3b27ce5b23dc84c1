//! What can go wrong, with the file's name in it.

use std::fmt;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Completes "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum SamplesError {
    #[error("{0}")]
    Limit(#[from] LimitHit),
    #[error("use {file}: {source}")]
    Io { file: PathBuf, source: std::io::Error },
    #[error("write {file}: the disk is full")]
    DiskFull { file: PathBuf },
    #[error("write {file}: it is read-only for this user")]
    ReadOnly { file: PathBuf },
    #[error("read {file}: it is damaged ({what})")]
    Damaged { file: PathBuf, what: String },
    #[error("use {file}: {source}")]
    Sqlite { file: PathBuf, source: rusqlite::Error },
    #[error("read {file}: it has format version {found}, this program knows versions up to {known}; use a newer program")]
    NewerFormat { file: PathBuf, found: i64, known: i64 },
    #[error("open the samples in {dir}: another process is writing there")]
    Busy { dir: PathBuf },
}

impl SamplesError {
    /// Sorts SQLite's answers into those a person can act on.
    pub(crate) fn sqlite(file: &Path, source: rusqlite::Error) -> Self {
        let file = file.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull { file },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => Self::ReadOnly { file },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged { file, what: source.to_string() },
            _ => Self::Sqlite { file, source },
        }
    }

    pub(crate) fn io(file: &Path, source: std::io::Error) -> Self {
        let file = file.to_owned();
        match source.kind() {
            std::io::ErrorKind::StorageFull => Self::DiskFull { file },
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { file },
            _ => Self::Io { file, source },
        }
    }
}

/// The bounds of the store; each is a setting of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Limit {
    SeriesMax,
    LabelsPerSeriesMax,
    LabelNameBytesMax,
    LabelValueBytesMax,
    SamplesPerAppendMax,
    HistogramBucketsMax,
}

impl Limit {
    /// The name of the setting.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SeriesMax => "series_max",
            Self::LabelsPerSeriesMax => "labels_per_series_max",
            Self::LabelNameBytesMax => "label_name_bytes_max",
            Self::LabelValueBytesMax => "label_value_bytes_max",
            Self::SamplesPerAppendMax => "samples_per_append_max",
            Self::HistogramBucketsMax => "histogram_buckets_max",
        }
    }
}

/// A bound bit: which, for which metric, and by how much.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct LimitHit {
    pub limit: Limit,
    /// The metric's name, cut to a sensible length; empty where a whole batch was refused.
    pub metric: String,
    pub found: usize,
    pub allowed: usize,
}

impl fmt::Display for LimitHit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "accept samples of {:?}: {} is {}, found {}", self.metric, self.limit.name(), self.allowed, self.found)
    }
}
