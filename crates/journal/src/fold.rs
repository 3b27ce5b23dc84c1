//! State is a fold over entries.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::entry::Entry;
use crate::error::JournalError;
use crate::journal::Journal;
use crate::limit;

/// A state that is built by applying entries in order, and by nothing else.
pub trait Fold {
    /// Names its snapshot.
    const NAME: &'static str;
    /// Raised with every change of the state's shape or of what `apply` does; older snapshots are then not used.
    const VERSION: u32;

    /// Must not fail: an entry that it does not know changes nothing.
    fn apply(&mut self, entry: &Entry);
}

/// The state after the last entry, and that entry's number: from the snapshot and the tail, or from the beginning
/// when there is no usable snapshot.
pub async fn rebuild<F: Fold + Default + Serialize + DeserializeOwned>(journal: &dyn Journal) -> Result<(F, u64), JournalError> {
    let (mut state, mut position) = load::<F>(journal).await?.unwrap_or_default();
    loop {
        let page = journal.read(position, limit::READ_ENTRIES_MAX).await?;
        let Some(last) = page.last() else {
            return Ok((state, position));
        };
        position = last.seq;
        page.iter().for_each(|entry| state.apply(entry));
    }
}

/// Keeps the state as it is after entry `position`, so that the next [`rebuild`] starts there.
pub async fn save_fold<F: Fold + Serialize>(journal: &dyn Journal, state: &F, position: u64) -> Result<(), JournalError> {
    let bytes = serde_json::to_vec(state)
        .map_err(|source| JournalError::Invalid { what: format!("the state of {:?} cannot be saved: {source}", F::NAME) })?;
    journal.save_snapshot(F::NAME, F::VERSION, position, bytes).await
}

async fn load<F: Fold + DeserializeOwned>(journal: &dyn Journal) -> Result<Option<(F, u64)>, JournalError> {
    let Some((position, bytes)) = journal.load_snapshot(F::NAME, F::VERSION).await? else {
        return Ok(None);
    };
    match serde_json::from_slice(&bytes) {
        Ok(state) => Ok(Some((state, position))),
        Err(error) => {
            tracing::warn!(snapshot = F::NAME, position, %error, "snapshot cannot be read, folding from the beginning");
            Ok(None)
        }
    }
}
