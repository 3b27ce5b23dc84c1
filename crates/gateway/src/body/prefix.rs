//! How much of a request its conversation already began with the time before: what a provider's cache could keep.

use std::collections::HashMap;
use std::hash::Hasher;
use std::sync::{Mutex, PoisonError};

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use super::Facts;

/// A prompt is compared in steps of so many bytes.
const BLOCK_BYTES: usize = 1024;
/// Of a longer prompt only so many blocks are compared: 16 MiB.
const BLOCKS_MAX: usize = 16 * 1024;
/// What all conversations together may take.
const MEMORY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What a conversation takes beside its blocks.
const ENTRY_BYTES: usize = 96;
/// Of a conversation's first text so much tells it from others.
const FIRST_TEXT_BYTES: usize = 512;

/// Hashes of a prompt's blocks in the order in which the API reads them: tools, system, messages. A block is the same when
/// all blocks before it are, so they are compared from the first on, and 32 bits of each are enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Print {
    blocks: Box<[u32]>,
    /// Bytes of each part.
    parts: [u64; 3],
}

impl Print {
    /// Of a body that is not valid it is empty.
    #[must_use]
    pub fn of(body: &[u8], facts: &Facts) -> Self {
        let sections = [facts.tools, facts.system, facts.messages];
        let parts = sections.map(|section| section.map_or(0, |section| section.place.bytes()));
        let mut blocks = Vec::with_capacity((parts.iter().sum::<u64>() as usize / BLOCK_BYTES + 2).min(BLOCKS_MAX));
        for (index, section) in sections.into_iter().enumerate() {
            let raw = section.map_or(&[][..], |section| section.place.raw(body));
            // The last block of the messages ends where the next request goes on: it is never the same again.
            let raw = if index == 2 { &raw[..raw.len() / BLOCK_BYTES * BLOCK_BYTES] } else { raw };
            let room = BLOCKS_MAX - blocks.len();
            blocks.extend(raw.chunks(BLOCK_BYTES).take(room).map(|block| xxh3_64(block) as u32));
        }
        Self { blocks: blocks.into(), parts }
    }

    /// Bytes of tools, system prompt and messages.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().sum()
    }

    /// How many bytes at its beginning are those of `before`.
    fn shared_bytes(&self, before: &Self) -> u64 {
        let mut same = self.blocks.iter().zip(&before.blocks).take_while(|(one, other)| one == other).count() as u64;
        let mut bytes = 0;
        for part in self.parts {
            let blocks = part.div_ceil(BLOCK_BYTES as u64);
            bytes += (same * BLOCK_BYTES as u64).min(part);
            if same < blocks {
                break;
            }
            same -= blocks;
        }
        bytes
    }

    fn memory_bytes(&self) -> usize {
        self.blocks.len() * size_of::<u32>() + ENTRY_BYTES
    }
}

/// How a request relates to the one before it in its conversation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Repeated {
    /// The part of this request, 0 to 1, that the one before began with too. Exact to a KiB at its end.
    pub share: f32,
    /// How many bytes of prompt it has more, or less.
    pub growth_bytes: i64,
}

/// What conversations are known by: the session and the agent where they are told, the model, and the first text. A session's
/// small calls on the side, such as for a title, have another first text and do not count as its next turn.
#[must_use]
pub fn conversation(body: &[u8], facts: &Facts, session: Option<&str>, agent: Option<&str>) -> u64 {
    let mut hasher = Xxh3Default::new();
    for part in [session, agent] {
        hasher.write(part.unwrap_or_default().as_bytes());
        hasher.write_u8(0xff);
    }
    hasher.write(facts.model.map(|place| place.raw(body)).unwrap_or_default());
    hasher.write_u8(0xff);
    let first = facts.first_text.map(|place| place.raw(body)).unwrap_or_default();
    hasher.write(&first[..first.len().min(FIRST_TEXT_BYTES)]);
    hasher.finish()
}

/// The last prompt of each conversation, in bounded memory: those that were silent longest are forgotten first.
#[derive(Debug)]
pub struct Prefixes {
    kept: Mutex<Kept>,
    /// Each of the two generations may take half.
    generation_bytes_max: usize,
}

/// Two generations: when the young one is full it becomes the old one, and the old one is forgotten. What is asked for in
/// the old one moves to the young one.
#[derive(Debug, Default)]
struct Kept {
    young: HashMap<u64, Print>,
    old: HashMap<u64, Print>,
    young_bytes: usize,
    old_bytes: usize,
}

impl Default for Prefixes {
    fn default() -> Self {
        Self::with_memory(MEMORY_BYTES_MAX)
    }
}

impl Prefixes {
    #[must_use]
    pub fn with_memory(bytes_max: usize) -> Self {
        Self { kept: Mutex::default(), generation_bytes_max: bytes_max / 2 }
    }

    /// Compares with the request before, if there was one. Nothing is remembered: a request that is refused for its growth
    /// must not be what the next one is measured by.
    #[must_use]
    pub fn compare(&self, conversation: u64, print: &Print) -> Option<Repeated> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let before = kept.young.get(&conversation).or_else(|| kept.old.get(&conversation))?;
        let bytes = print.bytes();
        let share = if bytes == 0 { 0.0 } else { (print.shared_bytes(before) as f64 / bytes as f64) as f32 };
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        Some(Repeated { share, growth_bytes: signed(bytes) - signed(before.bytes()) })
    }

    /// Remembers a request that went on its way.
    pub fn keep(&self, conversation: u64, print: Print) {
        let bytes = print.memory_bytes();
        if bytes > self.generation_bytes_max {
            return;
        }
        let mut forgotten = HashMap::new();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = kept.old.remove(&conversation) {
            kept.old_bytes -= old.memory_bytes();
        }
        if let Some(before) = kept.young.remove(&conversation) {
            kept.young_bytes -= before.memory_bytes();
        }
        if kept.young_bytes + bytes > self.generation_bytes_max {
            let young = std::mem::take(&mut kept.young);
            forgotten = std::mem::replace(&mut kept.old, young);
            kept.old_bytes = std::mem::take(&mut kept.young_bytes);
        }
        kept.young_bytes += bytes;
        kept.young.insert(conversation, print);
        drop(kept);
        // Given back after the lock.
        drop(forgotten);
    }

    /// Both in one: what the request before had, and this one is remembered.
    #[must_use]
    pub fn share(&self, conversation: u64, body: &[u8], facts: &Facts) -> Option<Repeated> {
        let print = Print::of(body, facts);
        let repeated = self.compare(conversation, &print);
        self.keep(conversation, print);
        repeated
    }

    /// How many conversations are remembered, and in how many bytes.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.young.len() + kept.old.len(), kept.young_bytes + kept.old_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    fn body(tools: usize, system: usize, messages: &[usize]) -> Vec<u8> {
        let text = |letter: char, bytes: usize| (0..bytes / 8).map(|index| format!("{letter}{index:07}")).collect::<String>();
        let messages: Vec<_> = messages.iter().map(|bytes| serde_json::json!({"role": "user", "content": text('m', *bytes)})).collect();
        let tools = vec![serde_json::json!({"name": text('t', tools)})];
        serde_json::to_vec(&serde_json::json!({"model": "m", "messages": messages, "system": text('s', system), "tools": tools})).unwrap()
    }

    fn share(prefixes: &Prefixes, body: &[u8]) -> Option<Repeated> {
        prefixes.share(1, body, &read(body))
    }

    #[test]
    fn a_growing_conversation_repeats_all_but_its_end() {
        let prefixes = Prefixes::default();
        assert_eq!(share(&prefixes, &body(20_000, 9_000, &[8_000])), None);
        let longer = share(&prefixes, &body(20_000, 9_000, &[8_000, 2_000])).unwrap();
        let expect = 1.0 - 2_000.0 / 39_100.0;
        assert!(longer.share > expect - 0.03 && longer.share <= expect + 0.001, "{longer:?}");
        assert!((2_000..2_100).contains(&longer.growth_bytes), "{longer:?}");
        let same = share(&prefixes, &body(20_000, 9_000, &[8_000, 2_000])).unwrap();
        assert!(same.share > 0.97 && same.growth_bytes == 0, "{same:?}");
        let shorter = share(&prefixes, &body(20_000, 9_000, &[8_000])).unwrap();
        assert!(shorter.growth_bytes < -1_900, "{shorter:?}");
    }

    #[test]
    fn what_changes_early_spoils_all_behind_it() {
        let prefixes = Prefixes::default();
        share(&prefixes, &body(20_000, 9_000, &[8_000]));
        // Another system prompt of the same length: only the tools are the same.
        let mut other = body(20_000, 9_000, &[8_000]);
        let at = memchr::memmem::find(&other, b"s0000000").unwrap();
        other[at] = b'x';
        let repeated = share(&prefixes, &other).unwrap();
        assert!((repeated.share - 20_000.0 / 37_100.0).abs() < 0.01, "{repeated:?}");
        // A tool more, and nothing is.
        let repeated = share(&prefixes, &body(20_008, 9_000, &[8_000])).unwrap();
        assert!(repeated.share < 0.55, "{repeated:?}");
    }

    #[test]
    fn memory_is_bounded_and_who_comes_again_stays() {
        let prefixes = Prefixes::with_memory(64 * 1024);
        let often = body(1_000, 0, &[4_000]);
        let facts = read(&often);
        for key in 10..5_000 {
            let _ = prefixes.share(key, &often, &facts);
            if key % 50 == 0 {
                let known = prefixes.share(1, &often, &facts);
                assert_eq!(known.is_some(), key > 50, "{key}");
            }
            assert!(prefixes.held().1 <= 64 * 1024);
        }
        assert!(prefixes.held().0 > 300, "{:?}", prefixes.held());
        assert!(prefixes.compare(10, &Print::of(&often, &facts)).is_none());
    }

    #[test]
    fn bodies_without_a_prompt_are_no_trouble() {
        let prefixes = Prefixes::default();
        for body in [&b"{}"[..], b"nonsense", b"", b"{\"messages\":[]}", b"{\"tools\":7}"] {
            let _ = share(&prefixes, body);
            let again = share(&prefixes, body).unwrap();
            assert!((0.0..=1.0).contains(&again.share), "{again:?}");
        }
    }

    #[test]
    fn conversations_are_told_apart() {
        let one = br#"{"model":"m","messages":[{"role":"user","content":"hello"}]}"#;
        let key = |body: &[u8], session, agent| conversation(body, &read(body), session, agent);
        let first = key(one, Some("s"), None);
        assert_eq!(first, key(one, Some("s"), None));
        // The mark moves from turn to turn, and a string becomes a block.
        let marked = br#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"hello","cache_control":{"type":"ephemeral"}}]},{}]}"#;
        assert_eq!(first, key(marked, Some("s"), None));
        for other in [
            key(one, Some("s2"), None),
            key(one, Some("s"), Some("a")),
            key(br#"{"model":"n","messages":[{"role":"user","content":"hello"}]}"#, Some("s"), None),
            key(br#"{"model":"m","messages":[{"role":"user","content":"a title, please"}]}"#, Some("s"), None),
        ] {
            assert_ne!(first, other);
        }
    }
}
