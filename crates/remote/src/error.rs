//! What can go wrong on the wire and with another store.

use std::path::{Path, PathBuf};

use paramedic_samples::SamplesError;

/// Why a body is not what it says it is. Completes "failed to read the body: …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("it is not a snappy block")]
    Snappy,
    #[error("it grows to {found} bytes, allowed are {allowed}")]
    TooLarge { found: usize, allowed: usize },
    #[error("it holds more than {allowed} {what}")]
    TooMany { what: &'static str, allowed: usize },
    #[error("it ends in the middle of a field")]
    Truncated,
    #[error("a number has more than 64 bits")]
    Varint,
    #[error("a field has no valid number")]
    Tag,
    #[error("a field has another type than the message defines")]
    WireType,
    #[error("a text is not UTF-8")]
    Utf8,
    #[error("a native histogram {0}")]
    Histogram(&'static str),
    #[error("a matcher is not valid: {0}")]
    Matcher(String),
}

/// Completes "failed to …".
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("read the body: {0}")]
    Malformed(#[from] Malformed),
    #[error("{0}")]
    Samples(#[from] SamplesError),
    #[error("answer remote read: {what} is {allowed}, the queries select more")]
    TooMuch { what: &'static str, allowed: usize },
    #[error("use the spool file {file}: {source}")]
    Spool { file: PathBuf, source: std::io::Error },
    #[error("read the spool file {file}: it has format version {found}, this program knows {known}; use a newer program")]
    NewerSpool { file: PathBuf, found: u32, known: u32 },
    #[error("use the setting {key}: {reason}")]
    Setting { key: &'static str, reason: String },
    #[error("prepare an HTTP client: {0}")]
    Client(String),
}

impl RemoteError {
    pub(crate) fn spool(file: &Path, source: std::io::Error) -> Self {
        Self::Spool { file: file.to_owned(), source }
    }
}

/// Why another engine gave no answer. Completes "failed to query the external store: …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The expression or a parameter is not legal there: asking again will not help.
    #[error("it refuses the query: {0}")]
    BadQuery(String),
    /// The expression is legal, its evaluation failed.
    #[error("it cannot evaluate the query: {0}")]
    Execution(String),
    #[error("no answer within {0} s")]
    Timeout(u64),
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// It answers, but not to us or not now.
    #[error("it answers with status {status}: {text}")]
    Status { status: u16, text: String },
    #[error("its answer has more than {0} bytes")]
    TooLarge(usize),
    #[error("its answer makes no sense: {0}")]
    Answer(String),
}

impl EngineError {
    /// Whether the same query may succeed a little later.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::Timeout(_) | Self::Unreachable(_) => true,
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            Self::BadQuery(_) | Self::Execution(_) | Self::TooLarge(_) | Self::Answer(_) => false,
        }
    }
}
