//! What can go wrong, with the file's name in it.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// Completes "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
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
    #[error("open the events in {dir}: another process is writing there")]
    Busy { dir: PathBuf },
    #[error("find events in {dir}: no events recorded yet")]
    NothingRecorded { dir: PathBuf },
    #[error("append events: the store was opened for reading only")]
    OpenedReadOnly,
    #[error("append events: the store is closed")]
    Closed,
}

impl StoreError {
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

    pub(crate) const fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}

/// Names the file in an error of SQLite.
pub(crate) trait InFile<T> {
    fn in_file(self, file: &Path) -> Result<T, StoreError>;
}

impl<T> InFile<T> for rusqlite::Result<T> {
    fn in_file(self, file: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::sqlite(file, source))
    }
}

impl<T> InFile<T> for std::io::Result<T> {
    fn in_file(self, file: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::io(file, source))
    }
}
