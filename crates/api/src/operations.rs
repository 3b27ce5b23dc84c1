//! What can be asked, one file per noun. Each function is also what the pages call.

pub mod status;

pub mod agents;

pub mod incidents;

pub mod alerts;

pub mod rules;

pub mod events;

pub mod cost;

pub mod journal;

pub mod runbooks;

pub mod runs;

pub mod actions;

pub mod brake;

pub mod switches;

pub mod flags;

pub mod gateway;

pub mod people;

pub mod run_timeline;

/// The page size where none is asked for.
pub const LIMIT_DEFAULT: usize = 100;
/// The largest page.
pub const LIMIT_MAX: usize = 1_000;

/// A page size within bounds.
pub(crate) fn limit_of(asked: Option<usize>) -> Result<usize, crate::ApiError> {
    match asked {
        None => Ok(LIMIT_DEFAULT),
        Some(limit @ 1..=LIMIT_MAX) => Ok(limit),
        Some(limit) => Err(crate::ApiError::bad_key("limit", &format!("{limit} is not between 1 and {LIMIT_MAX}"))),
    }
}
