//! What can go wrong: only reading back a saved state.

/// Why a saved state was not taken.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    #[error("failed to read the saved state of the detectors")]
    Unreadable(#[source] serde_json::Error),
    #[error("failed to load the saved state of the detectors: it has version {found}, this program reads version {known}")]
    Version { found: u32, known: u32 },
}
