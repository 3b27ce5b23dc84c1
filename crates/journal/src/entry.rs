//! What is written: a draft becomes an entry by getting a number and its place in the chain.

use std::fmt;
use std::str::FromStr;

use paramedic_model::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::error::JournalError;
use crate::limit;

/// A fact on its way into the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Draft {
    pub at: Timestamp,
    /// What happened: `incident-opened`, `note` …
    pub kind: String,
    /// What it is about: an incident id, an alert's fingerprint …
    pub subject: String,
    /// Who made it happen: a person, a detector, the clockwork.
    pub actor: String,
    pub payload: serde_json::Value,
}

/// A fact in the journal. It never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// 1, 2, 3 … without a gap.
    pub seq: u64,
    pub at: Timestamp,
    pub kind: String,
    pub subject: String,
    pub actor: String,
    pub payload: serde_json::Value,
    /// The hash of the entry before; [`Hash::ZERO`] for the first.
    pub prev_hash: Hash,
    pub hash: Hash,
}

/// The last entry: its number and hash. Noted elsewhere, it vouches for all entries up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Head {
    /// 0 in an empty journal.
    pub seq: u64,
    pub hash: Hash,
}

impl Head {
    pub const EMPTY: Self = Self { seq: 0, hash: Hash::ZERO };
}

/// SHA-256, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(transparent, with = "String")]
pub struct Hash(pub [u8; 32]);

impl Hash {
    pub const ZERO: Self = Self([0; 32]);

    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 64 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("read a hash: not 64 hexadecimal digits")]
pub struct HashError;

impl FromStr for Hash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(HashError);
        }
        let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok()).ok_or(HashError);
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What the hash of an entry covers, exactly as it is stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Content<'a> {
    pub(crate) seq: i64,
    pub(crate) at_micros: i64,
    pub(crate) kind: &'a [u8],
    pub(crate) subject: &'a [u8],
    pub(crate) actor: &'a [u8],
    pub(crate) payload: &'a [u8],
    pub(crate) prev_hash: &'a [u8],
}

impl Content<'_> {
    /// SHA-256 over the canonical encoding, format version 1:
    ///
    /// 1. the 20 bytes `paramedic-journal-1\n`;
    /// 2. `seq`, 8 bytes, big-endian, signed;
    /// 3. `at` in microseconds since 1970, 8 bytes, big-endian, signed;
    /// 4. `kind`, `subject`, `actor`, `payload` (the stored JSON text) and `prev_hash` in this order, each as its
    ///    length in bytes (8 bytes, big-endian) and then the bytes.
    ///
    /// The lengths make it impossible to move bytes from one field to its neighbour without changing the hash.
    pub(crate) fn hash(&self) -> Hash {
        let mut sha = Sha256::new();
        sha.update(b"paramedic-journal-1\n");
        sha.update(self.seq.to_be_bytes());
        sha.update(self.at_micros.to_be_bytes());
        for field in [self.kind, self.subject, self.actor, self.payload, self.prev_hash] {
            sha.update((field.len() as u64).to_be_bytes());
            sha.update(field);
        }
        Hash(sha.finalize().into())
    }
}

/// A draft that is within the limits, with its payload as the text that is stored.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) draft: Draft,
    pub(crate) payload_text: String,
}

/// Checks drafts and encodes their payloads, in the caller's task so that the writer only writes.
pub(crate) fn prepare(drafts: Vec<Draft>) -> Result<Vec<Prepared>, JournalError> {
    within("an append", "entries", drafts.len(), limit::APPEND_ENTRIES_MAX)?;
    let prepared = drafts.into_iter().map(prepare_one).collect::<Result<Vec<_>, _>>()?;
    let bytes = prepared.iter().map(|one| one.payload_text.len()).sum();
    within("an append", "payload bytes", bytes, limit::APPEND_BYTES_MAX)?;
    Ok(prepared)
}

fn prepare_one(mut draft: Draft) -> Result<Prepared, JournalError> {
    if draft.kind.is_empty() {
        return Err(JournalError::Invalid { what: "an entry's kind is empty".into() });
    }
    within("an entry's kind", "bytes", draft.kind.len(), limit::KIND_BYTES_MAX)?;
    within("an entry's subject", "bytes", draft.subject.len(), limit::SUBJECT_BYTES_MAX)?;
    within("an entry's actor", "bytes", draft.actor.len(), limit::ACTOR_BYTES_MAX)?;
    let payload_text = serde_json::to_string(&draft.payload)
        .map_err(|source| JournalError::Invalid { what: format!("the payload of a {:?} entry is not JSON: {source}", draft.kind) })?;
    within("an entry's payload", "bytes", payload_text.len(), limit::PAYLOAD_BYTES_MAX)?;
    // What is acknowledged is what will be read: a payload nested too deeply to be read back is refused here, and
    // a number takes the value that it has in the stored text.
    draft.payload = serde_json::from_str(&payload_text).map_err(|source| JournalError::Invalid {
        what: format!("the payload of a {:?} entry cannot be read back: {source}", draft.kind),
    })?;
    Ok(Prepared { draft, payload_text })
}

/// Refuses a size over its limit.
pub(crate) fn within(what: &'static str, unit: &'static str, found: usize, max: usize) -> Result<(), JournalError> {
    if found > max { Err(JournalError::TooLarge { what, unit, found, max }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(kind: &'static str, subject: &'static str) -> Content<'static> {
        Content {
            seq: 1,
            at_micros: 2,
            kind: kind.as_bytes(),
            subject: subject.as_bytes(),
            actor: b"",
            payload: b"null",
            prev_hash: &[0; 32],
        }
    }

    #[test]
    fn bytes_cannot_move_between_fields() {
        assert_ne!(content("ab", "c").hash(), content("a", "bc").hash());
    }

    #[test]
    fn the_encoding_is_the_documented_one() {
        let mut bytes = b"paramedic-journal-1\n".to_vec();
        bytes.extend(1i64.to_be_bytes());
        bytes.extend(2i64.to_be_bytes());
        for field in [&b"ab"[..], b"c", b"", b"null", &[0; 32]] {
            bytes.extend((field.len() as u64).to_be_bytes());
            bytes.extend(field);
        }
        assert_eq!(content("ab", "c").hash(), Hash::of(&bytes));
    }

    #[test]
    fn a_hash_is_written_and_read_as_hex() {
        let hash = Hash::of(b"abc");
        assert_eq!(hash.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(hash.to_string().parse::<Hash>().unwrap(), hash);
        assert_eq!(serde_json::from_str::<Hash>(&serde_json::to_string(&hash).unwrap()).unwrap(), hash);
        for text in ["", "zz", &"g".repeat(64), &"é".repeat(32)] {
            assert!(text.parse::<Hash>().is_err(), "{text:?}");
        }
    }
}
