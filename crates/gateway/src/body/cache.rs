//! Marks for the provider's cache, put where a prompt has none of its own.

use super::edit::Edits;
use super::messages::{Role, blocks, messages};
use super::place::Place;
use super::{Facts, Ratio, Size};

/// The API takes no more marks.
const MARKS_MAX: u64 = 4;
/// Shorter beginnings are not kept by the provider; those of its small models must be longer.
const CACHED_TOKENS_MIN: u64 = 1024;
const CACHED_TOKENS_MIN_SMALL: u64 = 4096;
const SMALL_MODELS: &str = "haiku";
const MARK: &str = r#""cache_control":{"type":"ephemeral"}"#;

/// Marks that can be put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    pub edits: Edits,
    /// Bytes of the prompt from its beginning to the last mark: what the provider may take from its cache the next time.
    pub bytes_marked: u64,
    pub marks: u64,
}

/// Marks the end of the tools, of the system prompt, and of the user's message before the last.
///
/// A part that has marks, or that stands before one that has some, is left to its client: ours hold for five minutes, and the
/// API takes none of those before marks that hold for an hour. None when nothing is to be marked.
#[must_use]
pub fn mark_for_cache(body: &[u8], facts: &Facts, ratio: Ratio) -> Option<Marked> {
    if !facts.valid || facts.marks_itself {
        return None;
    }
    let small = facts.model.is_some_and(|model| model.text(body).contains(SMALL_MODELS));
    let tokens_min = if small { CACHED_TOKENS_MIN_SMALL } else { CACHED_TOKENS_MIN };
    let count = |section: Option<super::Section>| section.map_or(0, |section| section.marks);
    let bytes = |section: Option<super::Section>| section.map_or(0, |section| section.place.bytes());
    let after = [count(facts.system) + count(facts.messages), count(facts.messages), 0];
    let mut marked = Marked { edits: Edits::default(), bytes_marked: 0, marks: 0 };
    let mut put = |own: u64, after: u64, bytes: u64, edit: &dyn Fn(&mut Edits) -> Option<()>| {
        let room = facts.marks() + marked.marks < MARKS_MAX;
        if own == 0 && after == 0 && room && ratio.likely(Size::text(bytes)) >= tokens_min && edit(&mut marked.edits).is_some() {
            (marked.marks, marked.bytes_marked) = (marked.marks + 1, bytes);
        }
    };
    put(count(facts.tools), after[0], bytes(facts.tools), &|edits| mark_tools(edits, body, facts));
    put(count(facts.system), after[1], bytes(facts.tools) + bytes(facts.system), &|edits| {
        facts.system.and_then(|system| mark_content(edits, body, system.place))
    });
    // Clients that mark their messages themselves, as Claude Code does, are not searched for the place.
    if count(facts.messages) == 0
        && let Some((content, bytes_before)) = second_last(body, facts)
    {
        let bytes = bytes(facts.tools) + bytes(facts.system) + bytes_before;
        put(count(facts.messages), after[2], bytes, &|edits| mark_content(edits, body, content));
    }
    marked.edits = marked.edits.fitting(body)?;
    Some(marked)
}

/// The content of the user's message before the last, and how many bytes of the messages end with it.
fn second_last(body: &[u8], facts: &Facts) -> Option<(Place, u64)> {
    let section = facts.messages?;
    let messages = messages(facts, body)?;
    let message = messages.list.iter().rev().filter(|message| message.role == Role::User).nth(1)?;
    Some((message.content?, (message.place.end() - section.place.start()) as u64))
}

/// The last tool; one that is only loaded when it is looked for takes no mark.
fn mark_tools(edits: &mut Edits, body: &[u8], facts: &Facts) -> Option<()> {
    let tools = blocks(body, facts.tools?.place).ok()?;
    let last = tools.iter().rev().find(|tool| !tool.deferred)?;
    mark_object(edits, last.place, last.marked, last.bare)
}

/// The last block of an array, or a string, which becomes one.
fn mark_content(edits: &mut Edits, body: &[u8], content: Place) -> Option<()> {
    if body.get(content.start()) == Some(&b'"') {
        let some = content.bytes() > 2;
        let done =
            some && edits.insert(content.start(), r#"[{"type":"text","text":"#) && edits.insert(content.end(), format!(",{MARK}}}]"));
        return done.then_some(());
    }
    let blocks = blocks(body, content).ok()?;
    let last = blocks.last().filter(|block| block.markable)?;
    mark_object(edits, last.place, last.marked, last.bare)
}

fn mark_object(edits: &mut Edits, object: Place, marked: bool, bare: bool) -> Option<()> {
    let comma = if bare { "" } else { "," };
    (!marked && edits.insert(object.end() - 1, format!("{comma}{MARK}"))).then_some(())
}
