//! What can go wrong with the journal, as fragments that complete "failed to …".

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::ErrorCode;

use crate::journal::Expected;

/// Cheap to clone: everybody whose request was in the failed group gets the same one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// Somebody else wrote first, or the caller's picture is old. Read again and decide anew.
    #[error("append: expected {expected}, but it is {found}")]
    Conflict { expected: Expected, found: u64 },
    #[error("append: {what} has {found} {unit}, at most {max} are allowed")]
    TooLarge { what: &'static str, unit: &'static str, found: usize, max: usize },
    #[error("append: {what}")]
    Invalid { what: String },
    #[error("save the snapshot {name:?}: it stands at entry {seq}, but the journal ends at {head}")]
    SnapshotAhead { name: String, seq: u64, head: u64 },

    #[error("open the journal {}: {why}", file.display())]
    Open { file: PathBuf, why: String },
    #[error("open the journal {}: it is not a Paramedic journal ({why})", file.display())]
    NotAJournal { file: PathBuf, why: String },
    #[error("open the journal {}: it has format {found}, this program knows up to {known}; use the newer program", file.display())]
    Format { file: PathBuf, found: i64, known: u32 },

    #[error("write to the journal {}: the disk is full; free some space, nothing written before is lost", file.display())]
    DiskFull { file: PathBuf },
    #[error("write to the journal {}: it is read-only (the file, its directory or the file system)", file.display())]
    ReadOnly { file: PathBuf },
    #[error("use the journal {}: another process holds it locked", file.display())]
    Locked { file: PathBuf },
    #[error("read the journal {}: {what}; run `paramedic journal verify`", file.display())]
    Corrupt { file: PathBuf, what: String },
    #[error("{doing} the journal {}", file.display())]
    Storage { doing: &'static str, file: PathBuf, source: Arc<rusqlite::Error> },
    #[error("use the journal {}: it was closed", file.display())]
    Closed { file: PathBuf },
}

impl JournalError {
    /// Whether the same call can succeed later without anybody changing the request.
    #[must_use]
    pub const fn transient(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::Locked { .. } | Self::Storage { .. })
    }

    pub(crate) fn from_sqlite(doing: &'static str, file: &std::path::Path, source: rusqlite::Error) -> Self {
        let file = file.to_path_buf();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull { file },
            Some(ErrorCode::ReadOnly) => Self::ReadOnly { file },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { file },
            Some(ErrorCode::NotADatabase) => Self::NotAJournal { file, why: "not an SQLite database".into() },
            Some(ErrorCode::DatabaseCorrupt) => Self::Corrupt { file, what: format!("the file is damaged ({source})") },
            Some(ErrorCode::CannotOpen) => Self::Open { why: why_not_opened(&file, &source), file },
            _ => Self::Storage { doing, file, source: Arc::new(source) },
        }
    }
}

/// The database engine says only "unable to open"; a person wants to know which part of the path is wrong.
fn why_not_opened(file: &std::path::Path, source: &rusqlite::Error) -> String {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    if file.is_dir() {
        "it is a directory".into()
    } else if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        format!("the directory {} does not exist", folder.display())
    } else if folder.and_then(|folder| folder.metadata().ok()).is_some_and(|data| data.permissions().readonly()) {
        "its directory cannot be written".into()
    } else if !file.exists() {
        "it does not exist".into()
    } else {
        source.to_string()
    }
}
