//! State that is kept in the journal: decided on what is there, appended, and only then believed.

use std::sync::{Arc, PoisonError, RwLock};

use paramedic_journal::{Draft, Expected, Fold, Journal, JournalError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// How often a change is decided anew when somebody else wrote about the same thing first.
const ATTEMPTS_MAX: usize = 4;

/// What a change decides to write, and what it was decided on.
pub(crate) struct Decision {
    pub(crate) draft: Draft,
    pub(crate) expected: Expected,
}

pub(crate) struct Kept<F> {
    journal: Arc<dyn Journal>,
    state: RwLock<F>,
    /// Changes are decided one after the other.
    turn: tokio::sync::Mutex<()>,
    /// Goes up with each change.
    version: watch::Sender<u64>,
}

impl<F: Fold + Default + Serialize + DeserializeOwned + Send + Sync> Kept<F> {
    pub(crate) async fn open(journal: Arc<dyn Journal>) -> Result<Self, JournalError> {
        let (state, _) = paramedic_journal::rebuild::<F>(journal.as_ref()).await?;
        Ok(Self { journal, state: RwLock::new(state), turn: tokio::sync::Mutex::new(()), version: watch::Sender::new(0) })
    }

    /// A number that goes up with each change, once the change can be read.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The lock on the state is given back by now, so whoever is woken can read at once.
    fn tell(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    pub(crate) fn look<T>(&self, read: impl FnOnce(&F) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Decides, writes, and gives what `then` reads once the fact is durable. `None`: there is nothing to write.
    pub(crate) async fn change<T, E: From<JournalError>>(
        &self,
        decide: impl Fn(&F) -> Result<Option<Decision>, E>,
        then: impl FnOnce(&F) -> T,
    ) -> Result<T, E> {
        let _turn = self.turn.lock().await;
        for attempt in 1.. {
            let Some(Decision { draft, expected }) = self.look(&decide)? else { break };
            // Still another last entry after everything was read: it is one that this program cannot read.
            let expected = if attempt < ATTEMPTS_MAX { expected } else { Expected::Any };
            match self.journal.append(vec![draft], expected).await {
                Ok(entries) => {
                    let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
                    entries.iter().for_each(|entry| state.apply(entry));
                    drop(state);
                    self.tell();
                    break;
                }
                Err(JournalError::Conflict { .. }) if attempt < ATTEMPTS_MAX => {
                    let (fresh, _) = paramedic_journal::rebuild::<F>(self.journal.as_ref()).await?;
                    *self.state.write().unwrap_or_else(PoisonError::into_inner) = fresh;
                    self.tell();
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.look(then))
    }

    /// Saves a snapshot so that the next start reads only what came after it.
    pub(crate) async fn save_snapshot(&self) -> Result<(), JournalError> {
        let _turn = self.turn.lock().await;
        let head = self.journal.head().await?;
        let bytes = self.look(serde_json::to_vec);
        let bytes =
            bytes.map_err(|source| JournalError::Invalid { what: format!("the state of {:?} cannot be saved: {source}", F::NAME) })?;
        self.journal.save_snapshot(F::NAME, F::VERSION, head, bytes).await
    }
}
