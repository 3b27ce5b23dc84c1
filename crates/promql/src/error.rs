//! What can go wrong with a query.

use thiserror::Error;

/// The expression is not legal; `position` is the byte at which that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{line}:{column}: parse error: {message}")]
pub struct ParseError {
    pub position: usize,
    pub line: usize,
    pub column: usize,
    pub message: String,
    /// The part that is not supported, if the reason is that it is experimental.
    pub unsupported: Option<String>,
}

impl ParseError {
    pub(crate) fn new(position: usize, message: impl Into<String>) -> Self {
        Self { position, line: 1, column: position + 1, message: message.into(), unsupported: None }
    }

    pub(crate) fn unsupported(position: usize, what: impl Into<String>) -> Self {
        let what = what.into();
        Self { unsupported: Some(what.clone()), ..Self::new(position, format!("not supported: experimental {what}")) }
    }

    /// Fills in line and column from the text that was parsed.
    pub(crate) fn located(mut self, text: &str) -> Self {
        (self.line, self.column) = line_and_column(text, self.position);
        self
    }
}

/// Line and column (both from 1) of a byte position.
pub(crate) fn line_and_column(text: &str, position: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..position.min(text.len())];
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|b| **b != b'\n').count() + 1;
    (line, column)
}

/// The store of samples could not answer.
#[derive(Clone, Debug, Error)]
#[error("{0}")]
pub struct StorageError(pub String);

/// Why a query gave no answer.
#[derive(Clone, Debug, Error)]
pub enum QueryError {
    #[error("invalid parameter \"query\": {0}")]
    Parse(#[from] ParseError),
    /// The expression is legal but cannot be evaluated over these series.
    #[error("{0}")]
    Execution(String),
    #[error("not supported: experimental {0}")]
    Unsupported(String),
    #[error("query timed out in expression evaluation")]
    Timeout,
    #[error("query was canceled in expression evaluation")]
    Cancelled,
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    #[error("expanding series: {0}")]
    Storage(#[from] StorageError),
}

impl QueryError {
    pub(crate) fn execution(message: impl Into<String>) -> Self {
        Self::Execution(message.into())
    }

    /// The experimental part this query needs, if that is the reason it failed.
    pub fn unsupported(&self) -> Option<&str> {
        match self {
            Self::Unsupported(what) => Some(what),
            Self::Parse(err) => err.unsupported.as_deref(),
            _ => None,
        }
    }
}
