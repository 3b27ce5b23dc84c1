//! Ids as 64-bit numbers: tables of them are small and comparing them is free.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What an id names; the same text in two domains is two different numbers.
pub(crate) mod domain {
    pub(crate) const AGENT: u64 = 1;
    pub(crate) const SESSION: u64 = 2;
    pub(crate) const MESSAGE: u64 = 3;
    pub(crate) const REQUEST: u64 = 4;
    pub(crate) const TOOL: u64 = 5;
    pub(crate) const PROMPT: u64 = 6;
    pub(crate) const RECORD: u64 = 7;
    pub(crate) const SERIES: u64 = 8;
    pub(crate) const CLOSED_PAIR: u64 = 9;
    pub(crate) const CLOSED_ALONE: u64 = 10;
}

/// An id that its maker made unique in the world is at least this long: `msg_`, `req_` or `toolu_` and some twenty characters.
const WORLDWIDE_BYTES_MIN: usize = 16;

/// The number of a text in a domain; never 0, which stands for "none".
pub(crate) fn key(domain: u64, text: &str) -> u64 {
    xxh3_64_with_seed(text.as_bytes(), domain).max(1)
}

/// The number of an id that the model API made. Ids in the API's own form are unique in the world, so that a resumed
/// session's copy is recognised; any other is taken to be unique in its session only.
pub(crate) fn api_key(domain: u64, session: u64, text: Option<&str>, prefix: &str) -> u64 {
    match text {
        None | Some("") => 0,
        Some(text) if text.len() >= WORLDWIDE_BYTES_MIN && text.starts_with(prefix) => key(domain, text),
        Some(text) => key(domain ^ session, text),
    }
}

/// Combines numbers into one.
pub(crate) fn mix(domain: u64, parts: &[u64]) -> u64 {
    parts.iter().fold(domain, |sum, part| (sum.rotate_left(23) ^ part).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (sum >> 29)).max(1)
}

/// Keys are hashes already.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 << 8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

pub(crate) type KeyMap<V> = HashMap<u64, V, BuildHasherDefault<AsIs>>;
