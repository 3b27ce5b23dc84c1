//! Our own flags: a fold over the journal's entries about `flag/<name>`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use paramedic_journal::{Draft, Entry, Expected, Fold, Journal, JournalError};
use paramedic_model::{Timestamp, secret, text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::kept::{Decision, Kept};

/// Bytes of a flag's name.
pub const NAME_BYTES_MAX: usize = 128;
/// Flags that one store keeps.
const FLAGS_MAX: usize = 10_000;
/// Changes of a flag that are remembered; older ones are in the journal.
const HISTORY_MAX: usize = 50;
const WHO_BYTES_MAX: usize = 256;
const WHY_BYTES_MAX: usize = 2_048;

const SUBJECT: &str = "flag/";
const SET: &str = "flag-set";
const EXPIRED: &str = "flag-expired";
const FORMAT: u32 = 1;
/// Who sets a flag back when its time is over.
const CLOCKWORK: &str = "clockwork";

/// A flag as it is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Flag {
    pub name: String,
    pub enabled: bool,
    pub by: String,
    pub why: String,
    pub set_at: Timestamp,
    /// When it is set back; none: it stays.
    pub expires_at: Option<Timestamp>,
    /// What it is afterwards.
    pub then: bool,
    /// The journal's entry that says so.
    pub seq: u64,
}

impl Flag {
    /// How it is now, also before the clockwork has written down that its time is over.
    #[must_use]
    pub fn enabled_at(&self, now: Timestamp) -> bool {
        if self.is_over(now) { self.then } else { self.enabled }
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// What it is without what was set for a time.
    const fn lasting(&self) -> bool {
        if self.expires_at.is_some() { self.then } else { self.enabled }
    }
}

/// One change of a flag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    pub at: Timestamp,
    pub enabled: bool,
    pub by: String,
    pub why: String,
    pub expires_at: Option<Timestamp>,
    /// Its time was over; nobody set it.
    pub expired: bool,
}

/// Each completes "failed to …".
#[derive(Debug, Clone, thiserror::Error)]
pub enum FlagError {
    #[error("read the name of a flag {0:?}: it must be letters, digits and `. _ : -`, begin with a letter or digit, and have at most 128")]
    Name(String),
    #[error("set the flag {name}: the time until which it holds is over already")]
    Past { name: String },
    #[error("set the flag {name}: there are {FLAGS_MAX} flags already")]
    TooMany { name: String },
    #[error("set a flag: {0}")]
    Journal(#[from] JournalError),
}

/// `^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`
pub fn checked_name(name: &str) -> Result<(), FlagError> {
    let begins = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte));
    if begins && plain && name.len() <= NAME_BYTES_MAX { Ok(()) } else { Err(FlagError::Name(text::head(name, NAME_BYTES_MAX).to_owned())) }
}

/// What is written, format version 1.
#[derive(Debug, Serialize, Deserialize)]
struct Payload {
    version: u32,
    enabled: bool,
    #[serde(default)]
    why: String,
    #[serde(default)]
    expires_at: Option<Timestamp>,
    #[serde(default)]
    then: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    flag: Flag,
    history: VecDeque<Change>,
}

/// All flags, added up from the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flags {
    flags: BTreeMap<String, Known>,
    unreadable: u64,
}

impl Flags {
    pub fn list(&self) -> impl Iterator<Item = &Flag> {
        self.flags.values().map(|known| &known.flag)
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Flag> {
        self.flags.get(name).map(|known| &known.flag)
    }

    /// Entries about flags that could not be read.
    #[must_use]
    pub const fn unreadable(&self) -> u64 {
        self.unreadable
    }
}

impl Fold for Flags {
    const NAME: &'static str = "flags";
    const VERSION: u32 = 1;

    fn apply(&mut self, entry: &Entry) {
        let Some(name) = entry.subject.strip_prefix(SUBJECT) else { return };
        let expired = entry.kind == EXPIRED;
        if !expired && entry.kind != SET {
            return;
        }
        let payload = Payload::deserialize(&entry.payload).ok().filter(|payload| payload.version == FORMAT && checked_name(name).is_ok());
        let Some(Payload { enabled, why, expires_at, then, .. }) = payload else {
            self.unreadable += 1;
            return;
        };
        let change = Change { at: entry.at, enabled, by: entry.actor.clone(), why: why.clone(), expires_at, expired };
        let flag =
            Flag { name: name.to_owned(), enabled, by: entry.actor.clone(), why, set_at: entry.at, expires_at, then, seq: entry.seq };
        match self.flags.get_mut(name) {
            Some(known) => known.flag = flag,
            None => {
                self.flags.insert(name.to_owned(), Known { flag, history: VecDeque::new() });
            }
        }
        if let Some(known) = self.flags.get_mut(name) {
            known.history.push_back(change);
            let over = known.history.len().saturating_sub(HISTORY_MAX);
            known.history.drain(..over);
        }
    }
}

/// The one place where flags are changed.
pub struct FlagStore {
    kept: Kept<Flags>,
}

impl FlagStore {
    /// Rebuilds the flags from the journal.
    pub async fn open(journal: Arc<dyn Journal>) -> Result<Self, JournalError> {
        Ok(Self { kept: Kept::open(journal).await? })
    }

    /// Sets a flag; it is durable when this answers. With `expires_at` it is set back then: to what it lastingly was before, or,
    /// where nobody had set it, to the opposite.
    pub async fn set(
        &self,
        name: &str,
        enabled: bool,
        by: &str,
        why: &str,
        expires_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Flag, FlagError> {
        self.set_until(name, enabled, by, why, expires_at.map(|at| (at, None)), now).await
    }

    /// As [`set`](Self::set); what it is afterwards may be said.
    pub async fn set_until(
        &self,
        name: &str,
        enabled: bool,
        by: &str,
        why: &str,
        until: Option<(Timestamp, Option<bool>)>,
        now: Timestamp,
    ) -> Result<Flag, FlagError> {
        checked_name(name)?;
        let expires_at = until.map(|(at, _)| at);
        if expires_at.is_some_and(|at| at <= now) {
            return Err(FlagError::Past { name: name.to_owned() });
        }
        let why = text::capped(&secret::mask(why), WHY_BYTES_MAX).into_owned();
        let decide = |flags: &Flags| {
            let known = flags.get(name);
            if known.is_none() && flags.flags.len() >= FLAGS_MAX {
                return Err(FlagError::TooMany { name: name.to_owned() });
            }
            let then = match until {
                Some((_, then)) => then.unwrap_or_else(|| known.map_or(!enabled, Flag::lasting)),
                None => enabled,
            };
            let payload = Payload { version: FORMAT, enabled, why: why.clone(), expires_at, then };
            Ok(Some(decision(SET, name, by, &payload, known, now)?))
        };
        let flag = self.kept.change(decide, |flags| flags.get(name).cloned()).await?;
        // It was written a moment ago; only an entry that cannot be read back would be missing.
        flag.ok_or_else(|| FlagError::Name(name.to_owned()))
    }

    /// A number that goes up with each change of a flag, its end included.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.kept.watch()
    }

    /// All flags, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Flag> {
        self.kept.look(|flags| flags.list().cloned().collect())
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<Flag> {
        self.kept.look(|flags| flags.get(name).cloned())
    }

    /// The latest changes of a flag, oldest first.
    #[must_use]
    pub fn history(&self, name: &str) -> Vec<Change> {
        self.kept.look(|flags| flags.flags.get(name).map(|known| known.history.iter().cloned().collect()).unwrap_or_default())
    }

    /// Entries about flags that could not be read.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.kept.look(Flags::unreadable)
    }

    /// Lets time pass: flags whose time is over are set back, and given.
    pub async fn tick(&self, now: Timestamp) -> Result<Vec<Flag>, FlagError> {
        let over = self.kept.look(|flags| flags.list().filter(|flag| flag.is_over(now)).map(|flag| flag.name.clone()).collect::<Vec<_>>());
        let mut ended = Vec::with_capacity(over.len());
        for name in over {
            let decide = |flags: &Flags| {
                // Somebody may have set it anew meanwhile.
                let Some(flag) = flags.get(&name).filter(|flag| flag.is_over(now)) else { return Ok(None) };
                let why = format!("the time of what {} set is over", flag.by);
                let payload = Payload { version: FORMAT, enabled: flag.then, why, expires_at: None, then: flag.then };
                decision(EXPIRED, &name, CLOCKWORK, &payload, Some(flag), now).map(Some)
            };
            ended.extend(self.kept.change(decide, |flags| flags.get(&name).cloned()).await?);
        }
        Ok(ended)
    }

    /// Saves a snapshot so that the next start reads only what came after it.
    pub async fn save_snapshot(&self) -> Result<(), JournalError> {
        self.kept.save_snapshot().await
    }
}

fn decision(kind: &str, name: &str, by: &str, payload: &Payload, known: Option<&Flag>, now: Timestamp) -> Result<Decision, FlagError> {
    let payload = serde_json::to_value(payload).map_err(|error| JournalError::Invalid { what: error.to_string() })?;
    let actor = text::one_line(text::head(by, WHO_BYTES_MAX)).into_owned();
    let draft = Draft { at: now, kind: kind.to_owned(), subject: format!("{SUBJECT}{name}"), actor, payload };
    Ok(Decision { draft, expected: Expected::Subject(known.map_or(0, |flag| flag.seq)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for name in ["a", "new-search", "team:search.v2", "A_1", &"x".repeat(128)] {
            assert!(checked_name(name).is_ok(), "{name}");
        }
        for name in ["", "-a", ".", "..", "a/b", "a b", "a\n", "é", "'; drop", "a?x=1", "%2e", &"x".repeat(129)] {
            assert!(checked_name(name).is_err(), "{name}");
        }
    }
}
