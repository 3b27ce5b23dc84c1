//! One followed file: how far it was read, and whether it is still the same file.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt};

use paramedic_model::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

use crate::transcript::Parser;

/// Bytes at the start of a file that belong to its identity, as far as they were read.
const HEAD_BYTES: u64 = 256;

#[derive(Debug)]
pub(super) struct Followed {
    /// Everything before this was handed over.
    pub(super) position: u64,
    pub(super) lines: u64,
    pub(super) identity: u64,
    /// Length and time at the last look: a file that has both unchanged need not be opened.
    pub(super) looked_at: Option<(u64, Timestamp)>,
    /// The line that is being written is too long already.
    pub(super) is_skipping: bool,
    /// The last line was whole though its newline had not come: the newline, when it comes, is no line of its own.
    pub(super) owes_newline: bool,
    /// The last attempt failed, and that has been said.
    pub(super) is_unreadable: bool,
    /// The pass over all folders that saw the file last.
    pub(super) seen_in_pass: u64,
    pub(super) parser: Option<Box<Parser>>,
}

impl Followed {
    pub(super) const fn at_start() -> Self {
        Self {
            position: 0,
            lines: 0,
            identity: 0,
            looked_at: None,
            is_skipping: false,
            owes_newline: false,
            is_unreadable: false,
            seen_in_pass: 0,
            parser: None,
        }
    }

    /// Whether what was read before is still what the file begins with.
    pub(super) fn is_same(&self, file: &File, metadata: &Metadata) -> bool {
        metadata.len() >= self.position && (self.position == 0 || identity_of(file, metadata, self.position) == self.identity)
    }

    /// Renews the identity after the position moved.
    pub(super) fn advance_to(&mut self, position: u64, file: &File, metadata: &Metadata) {
        if self.position < HEAD_BYTES {
            self.identity = identity_of(file, metadata, position);
        }
        self.position = position;
    }
}

/// Device, inode and the first bytes, as far as they had been read when `position` was reached: what is appended
/// later does not change it, what replaces the file does.
pub(crate) fn identity_of(file: &File, metadata: &Metadata, position: u64) -> u64 {
    let mut bytes = [0u8; HEAD_BYTES as usize + 16];
    bytes[..8].copy_from_slice(&metadata.dev().to_le_bytes());
    bytes[8..16].copy_from_slice(&metadata.ino().to_le_bytes());
    let head = usize::try_from(position.min(HEAD_BYTES)).unwrap_or(0);
    let read = file.read_at(&mut bytes[16..16 + head], 0).unwrap_or(0);
    xxh3_64(&bytes[..16 + read])
}
